//! Properties of every codec: round trip, strictness, one encoding for one value, and no panic on any bytes.

use diversity_proto::cell::CellState;
use diversity_proto::codec::{DecodeError, Reader, Writer, decode_all, unzigzag, zigzag};
use diversity_proto::entity::{NodeDeclaration, Period, SensorDeclaration};
use diversity_proto::frame::{
    Contradiction, Frame, Message, Opening, TIME_MAX, Variable, VariableType, read_body,
    values_comply, write_body,
};
use diversity_proto::held::{Held, OpenSensor};
use diversity_proto::ids::{
    Address, AgreementId, Deployment, Digest, NodeId, PublicKey, SensorId, Signature, UserId,
};
use diversity_proto::round::{
    Batch, Blinding, Body, Commit, Computed, Entry, OutputKind, Reveal, Session, T_MAX,
};
use diversity_proto::terms::{
    Field, Leader, Protocol, Qos, SensorStart, TERMS_BYTES_MAX, Terms, TrustedNode, WindowSpec,
};
use diversity_proto::window::{Leaf, Window, WindowEnd, state};
use diversity_proto::wire::{
    FRAME_BATCH_BYTES_MAX, Part, Range, decode_envelope, decode_frames, decode_ranges,
    encode_envelope, encode_frames, encode_ranges,
};
use proptest::collection::vec;
use proptest::prelude::*;

type Decode<T> = fn(&[u8]) -> Result<T, DecodeError>;

/// Truncations, trailing bytes and mutations of an encoding are refused, or are the one encoding of what they say.
fn strict<T: PartialEq + std::fmt::Debug>(
    value: &T,
    encode: impl Fn(&T) -> Vec<u8>,
    decode: Decode<T>,
    mutations: &[(usize, u8)],
) -> Result<(), TestCaseError> {
    let bytes = encode(value);
    prop_assert_eq!(&decode(&bytes).unwrap(), value);
    // Every truncation of what is short; of what is long, those at both ends.
    for n in 0..bytes.len() {
        if n < 300 || bytes.len() - n < 100 {
            prop_assert!(decode(&bytes[..n]).is_err(), "a truncation to {} passed", n);
        }
    }
    for extra in [0, 1, 255] {
        let mut longer = bytes.clone();
        longer.push(extra);
        prop_assert!(decode(&longer).is_err(), "a trailing byte passed");
    }
    for (at, xor) in mutations {
        let mut other = bytes.clone();
        let at = at % other.len();
        other[at] ^= xor;
        if let Ok(decoded) = decode(&other) {
            prop_assert_eq!(encode(&decoded), other, "a second encoding");
            prop_assert_ne!(&decoded, value, "two encodings of one value");
        }
    }
    Ok(())
}

fn mutations() -> impl Strategy<Value = Vec<(usize, u8)>> {
    vec((any::<usize>(), 1..=255u8), 40)
}

fn digest() -> impl Strategy<Value = Digest> + Clone {
    any::<[u8; 32]>().prop_map(Digest)
}

fn signature() -> impl Strategy<Value = Signature> + Clone {
    any::<[u8; 32]>().prop_map(|half| Signature([half, half].concat().try_into().unwrap()))
}

fn messages() -> impl Strategy<Value = (u8, Vec<(u64, Vec<u8>)>)> + Clone {
    (0..40u8).prop_flat_map(|width| {
        let one = (0..TIME_MAX, vec(any::<u8>(), usize::from(width)));
        (Just(width), vec(one, 1..30))
    })
}

fn borrow(messages: &[(u64, Vec<u8>)]) -> impl Iterator<Item = Message<'_>> {
    messages.iter().map(|(time, values)| Message {
        time: *time,
        values,
    })
}

fn body(messages: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut w = Writer::new();
    write_body(&mut w, borrow(messages));
    w.finish()
}

fn frame() -> impl Strategy<Value = Frame> + Clone {
    let opening = proptest::option::of((any::<u64>(), digest()));
    let head = (any::<[u8; 20]>(), any::<u32>(), 0..(1u64 << 62));
    (head, opening, messages(), signature()).prop_map(|(head, opening, messages, signature)| {
        let (width, messages) = messages;
        Frame {
            sensor: SensorId(head.0),
            epoch: head.1,
            first_q: head.2,
            count: messages.len() as u16,
            lost: 0,
            width,
            opening: opening.map(|(last_q, last_frame)| Opening { last_q, last_frame }),
            body: body(&messages),
            signature,
        }
    })
}

/// A frame, or a gap record.
fn any_frame() -> impl Strategy<Value = Frame> + Clone {
    (frame(), proptest::option::of(1..=u32::MAX)).prop_map(|(frame, lost)| match lost {
        None => frame,
        Some(lost) => Frame {
            count: 0,
            lost,
            width: 0,
            body: Vec::new(),
            ..frame
        },
    })
}

/// Of sensors with contradictions: two messages at one q, or a message and its loss.
fn held() -> impl Strategy<Value = Held> + Clone {
    let open = (
        any::<u32>(),
        0..=(1u64 << 62),
        proptest::option::of((frame(), any::<bool>())),
    );
    (vec(open, 0..4), signature()).prop_map(|(mut open, signature)| {
        open.sort_by_key(|o| o.0);
        open.dedup_by_key(|o| o.0);
        let contradiction = |(frame, gap): (Frame, bool)| {
            let mut other = frame.clone();
            if gap {
                (other.count, other.lost, other.width) = (0, 1, 0);
                other.body.clear();
            } else {
                (other.count, other.body) = (1, vec![3; 1 + usize::from(other.width)]);
            }
            Contradiction::of(&frame.encode(), &other.encode())
        };
        Held {
            open: open
                .into_iter()
                .map(|(index, lacks, shown)| OpenSensor {
                    index,
                    lacks,
                    contradiction: shown.and_then(contradiction),
                })
                .collect(),
            signature,
        }
    })
}

fn window() -> impl Strategy<Value = Window> + Clone {
    let leaf = (any::<[u8; 20]>(), any::<u64>(), any::<bool>(), messages());
    let leaf = leaf.prop_map(|(sensor, first_q, end, (width, messages))| {
        let end = if end {
            WindowEnd::Message
        } else {
            WindowEnd::ClosingRecord
        };
        Leaf::new(SensorId(sensor), first_q, end, width, borrow(&messages))
    });
    (any::<[u64; 3]>(), vec(leaf, 0..5)).prop_map(|([t, from, to], leaves)| Window {
        t,
        from,
        to,
        leaves,
    })
}

fn variables() -> impl Strategy<Value = Vec<Variable>> + Clone {
    let variable = ("[a-z_]{1,32}", 1..=10u8).prop_map(|(name, code)| Variable {
        name,
        ty: VariableType::from_code(code).unwrap(),
    });
    vec(variable, 0..7)
}

fn sensor_declaration() -> impl Strategy<Value = SensorDeclaration> + Clone {
    let texts = ("[a-z-]{1,32}", "\\PC{0,16}");
    (signature(), texts, variables(), 0..3u8).prop_map(|(key, texts, variables, period)| {
        SensorDeclaration {
            public_key: PublicKey(key.0[..33].try_into().unwrap()),
            sensor_type: texts.0,
            label: texts.1,
            variables,
            period: [Period::None, Period::Day, Period::Month][usize::from(period)],
        }
    })
}

fn node_declaration() -> impl Strategy<Value = NodeDeclaration> + Clone {
    let ids = (
        signature(),
        any::<[u8; 20]>(),
        any::<[u8; 32]>(),
        signature(),
    );
    let addresses = vec("[a-z0-9/]{0,60}", 0..8);
    (ids, "[a-z]{1,64}", addresses, any::<u32>()).prop_map(|(ids, name, addresses, revision)| {
        NodeDeclaration {
            public_key: PublicKey(ids.0.0[..33].try_into().unwrap()),
            account: Address(ids.1),
            peer_key: ids.2,
            peer_proof: ids.3.0,
            name,
            addresses,
            revision,
        }
    })
}

fn fields() -> impl Strategy<Value = Vec<Field>> + Clone {
    let ty = prop_oneof![
        "bool",
        "address",
        "uint(8|64|256)",
        "int(32|128)",
        "bytes(1|32)"
    ];
    vec(("[a-z]{1,12}", ty), 0..5).prop_map(|all| {
        all.into_iter()
            .map(|(name, ty)| Field { name, ty })
            .collect()
    })
}

fn terms() -> impl Strategy<Value = Terms> + Clone {
    let window = prop_oneof![
        (0..2_000u64).prop_map(|n| WindowSpec::Month {
            start: diversity_proto::time::month_start_after(0, n)
        }),
        (0..TIME_MAX, 1..=31_622_400u64)
            .prop_map(|(start, seconds)| WindowSpec::Seconds { start, seconds }),
        (1..1_000_000u32, 1..1_000_000u32).prop_map(|(z, slide)| WindowSpec::Count { z, slide }),
    ];
    let leader = proptest::option::of(0..2u8);
    let parties = (2..6u8, 0..5u8, vec(any::<u64>(), 1..20));
    let numbers = (any::<u32>(), 0..=60_000u32, 10..=3_600_000u32, 1..=256u16);
    let rest = (digest(), any::<bool>(), fields(), fields());
    (parties, window, leader, "\\PC{0,30}", numbers, rest).prop_map(
        |((users, more, q0), window, leader, title, numbers, rest)| Terms {
            title,
            users: (0..users).map(|u| UserId([u; 20])).collect(),
            nodes: (0..users + more)
                .map(|n| TrustedNode {
                    node: NodeId([n; 20]),
                    trust: n % users,
                })
                .collect(),
            sensors: (100..)
                .zip(q0)
                .map(|(s, q0)| SensorStart {
                    sensor: SensorId([s; 20]),
                    q0: q0 >> 2,
                })
                .collect(),
            off_chain_code: rest.0,
            window,
            future_tolerance_s: numbers.0 % 86_401,
            grace_s: 1 + numbers.0 % 31_622_400,
            protocol: Protocol::Fast,
            leader: leader.map_or(Leader::Rotating, Leader::Fixed),
            flush_ms: numbers.1,
            round_timeout_ms: numbers.2,
            round_timeout_max_ms: 86_400_000,
            batch: numbers.3,
            qos: if rest.1 { Qos::OffChain } else { Qos::None },
            result: rest.2,
            detail: rest.3,
            abstain_ms: numbers.0 % 86_400_001,
        },
    )
}

fn cell_state() -> impl Strategy<Value = CellState> + Clone {
    let parts = (
        computed(),
        digest(),
        vec(any::<u8>(), 0..40),
        vec(any::<u64>(), 0..5),
    );
    parts.prop_map(|(computed, seal, carry, q_next)| CellState {
        computed,
        seal,
        carry,
        q_next,
    })
}

fn computed() -> impl Strategy<Value = Computed> + Clone {
    (any::<bool>(), vec(any::<u8>(), 0..40), digest(), digest()).prop_map(
        |(value, result, one, other)| Computed {
            kind: if value {
                OutputKind::Value
            } else {
                OutputKind::Null
            },
            result: if value { result } else { Vec::new() },
            detail_root: one,
            state: other,
            trace: one,
            window_hash: other,
        },
    )
}

fn part() -> impl Strategy<Value = Part> + Clone {
    let commit =
        (digest(), digest(), signature()).prop_map(|(commitment, opening, signature)| Commit {
            commitment,
            opening,
            signature,
        });
    let reveal = (
        computed(),
        digest(),
        digest(),
        any::<u64>(),
        vec(any::<u64>(), 0..4),
        signature(),
    );
    let reveal = reveal.prop_map(|(computed, secret, salt, from, holes, signature)| Reveal {
        computed,
        blinding: Blinding {
            secret: secret.0,
            salt: salt.0,
        },
        from,
        holes,
        signature,
    });
    let session =
        (digest(), any::<u64>(), any::<u64>(), any::<u32>()).prop_map(|(a, from, t, attempt)| {
            Session {
                agreement: AgreementId(a.0),
                from,
                t,
                attempt,
            }
        });
    let nonce = signature().prop_map(|s| [&s.0[..], &[1, 2]].concat().try_into().unwrap());
    let head = (
        digest().prop_map(|d| AgreementId(d.0)),
        any::<u32>(),
        0..T_MAX,
    );
    let body = prop_oneof![
        commit.clone().prop_map(|commit| Body::Commit { commit }),
        vec(commit.clone(), 0..4).prop_map(|commits| Body::Seal { commits }),
        (digest(), reveal.clone()).prop_map(|(seal, reveal)| Body::Reveal { seal, reveal }),
        (vec(commit, 0..4), vec(reveal, 0..4))
            .prop_map(|(commits, reveals)| Body::Certificate { commits, reveals }),
    ];
    prop_oneof![
        (head.clone(), body).prop_map(|((agreement, epoch, t), body)| Part::Round {
            agreement,
            epoch,
            t,
            body
        }),
        (head.clone(), held()).prop_map(|((agreement, epoch, t), held)| Part::Held {
            agreement,
            epoch,
            t,
            held
        }),
        (head.clone(), vec(digest(), 0..9)).prop_map(|((agreement, epoch, t), hashes)| {
            Part::Leaves {
                agreement,
                epoch,
                t,
                hashes,
            }
        }),
        (session.clone(), nonce.clone())
            .prop_map(|(session, nonce)| Part::Nonce { session, nonce }),
        (session.clone(), vec(nonce, 0..4))
            .prop_map(|(session, nonces)| Part::Nonces { session, nonces }),
        (session.clone(), digest(), digest(), signature()).prop_map(
            |(session, nonce_set, partial, signature)| Part::Partial {
                session,
                nonce_set,
                partial: partial.0,
                signature
            }
        ),
        (session, signature())
            .prop_map(|(session, signature)| Part::Aggregate { session, signature }),
        (head.clone(), vec(any::<u64>(), 0..9)).prop_map(|((agreement, _, next_t), next_q)| {
            Part::Status {
                agreement,
                next_t,
                next_q,
            }
        }),
        head.clone()
            .prop_map(|(agreement, _, from_t)| Part::Want { agreement, from_t }),
        head.clone()
            .prop_map(|(agreement, _, unix_ms)| Part::Clock { agreement, unix_ms }),
        head.clone()
            .prop_map(|(agreement, _, t)| Part::WantState { agreement, t }),
        (head.clone(), cell_state()).prop_map(|((agreement, _, t), state)| Part::State {
            agreement,
            t,
            state
        }),
        (head, vec(any::<u8>(), 0..99))
            .prop_map(|((agreement, ..), terms)| Part::Terms { agreement, terms }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_but_what_was_signed_opens_a_cell(mut c in cell_state(), at in 0..4usize, bit in 0..8u8) {
        c.computed.state = state(&c.carry, &c.q_next);
        let context = c.computed.context(&c.seal);
        prop_assert!(c.opens(&context));
        match at {
            0 => c.seal.0[7] ^= 1 << bit,
            1 => c.carry.push(bit),
            2 => c.q_next.push(bit.into()),
            _ => c.computed.window_hash.0[3] ^= 1 << bit,
        }
        prop_assert!(!c.opens(&context));
        c.computed.state = state(&c.carry, &c.q_next);
        prop_assert!(!c.opens(&context));
    }

    #[test]
    fn frames_are_strict(frame in any_frame(), m in mutations()) {
        strict(&frame, Frame::encode, Frame::decode, &m)?;
    }

    #[test]
    fn windows_are_strict(window in window(), m in mutations()) {
        strict(&window, Window::encode, |b| Window::decode(b, 1 << 20), &m)?;
    }

    #[test]
    fn sensor_declarations_are_strict(d in sensor_declaration(), m in mutations()) {
        strict(&d, SensorDeclaration::encode, SensorDeclaration::decode, &m)?;
    }

    #[test]
    fn node_declarations_are_strict(d in node_declaration(), m in mutations()) {
        strict(&d, NodeDeclaration::encode, NodeDeclaration::decode, &m)?;
    }

    #[test]
    fn terms_are_strict_and_every_change_changes_their_digest(terms in terms(), m in mutations()) {
        strict(&terms, Terms::encode, Terms::decode, &m)?;
        for (at, xor) in m {
            let mut other = terms.encode();
            let at = at % other.len();
            other[at] ^= xor;
            if let Ok(changed) = Terms::decode(&other) {
                prop_assert_ne!(changed.digest(), terms.digest());
            }
        }
    }

    #[test]
    fn envelopes_are_strict(parts in vec(part(), 0..5), m in mutations()) {
        // The version is the one byte that has two readings: that of the version before says the same.
        let len = encode_envelope(&parts).len();
        let m: Vec<_> = m.into_iter().filter(|(at, _)| at % len != 0).collect();
        strict(&parts, |p| encode_envelope(p), decode_envelope, &m)?;
    }

    #[test]
    fn batches_of_frames_are_strict(frames in vec(frame(), 0..5), m in mutations()) {
        let encode = |frames: &Vec<Frame>| {
            let all: Vec<_> = frames.iter().map(Frame::encode).collect();
            encode_frames(all.iter().map(Vec::as_slice))
        };
        strict(&frames, encode, |b| decode_frames(b, FRAME_BATCH_BYTES_MAX), &m)?;
    }

    #[test]
    fn repair_requests_are_strict(r in vec((any::<[u8; 20]>(), any::<u32>(), 1..u32::MAX), 0..9), m in mutations()) {
        let ranges: Vec<_> = r
            .into_iter()
            .map(|(sensor, from, n)| Range {
                sensor: SensorId(sensor),
                from_q: from.into(),
                to_q: u64::from(from) + u64::from(n),
            })
            .collect();
        strict(&ranges, |r| encode_ranges(r), decode_ranges, &m)?;
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in vec(any::<u8>(), 0..400), version in any::<bool>()) {
        let mut bytes = bytes;
        if version && !bytes.is_empty() {
            bytes[0] = diversity_proto::VERSION;
        }
        let _ = Frame::decode(&bytes);
        let _ = Window::decode(&bytes, TERMS_BYTES_MAX);
        let _ = SensorDeclaration::decode(&bytes);
        let _ = NodeDeclaration::decode(&bytes);
        let _ = Terms::decode(&bytes);
        let _ = decode_envelope(&bytes);
        let _ = decode_frames(&bytes, FRAME_BATCH_BYTES_MAX);
        let _ = decode_ranges(&bytes);
    }

    #[test]
    fn bodies_say_what_was_written_however_they_are_framed((width, messages) in messages(), cut in any::<usize>()) {
        let bytes = body(&messages);
        let read: Vec<_> = read_body(&bytes, width).collect::<Result<Vec<_>, _>>().unwrap();
        prop_assert_eq!(&read, &borrow(&messages).collect::<Vec<_>>());
        // The same messages in two frames, joined again, give the same window bytes.
        let (left, right) = messages.split_at(cut % (messages.len() + 1));
        let (left, right) = (body(left), body(right));
        let joined = read_body(&left, width).chain(read_body(&right, width)).map(Result::unwrap);
        let mut w = Writer::new();
        write_body(&mut w, joined);
        prop_assert_eq!(w.finish(), bytes);
    }

    #[test]
    fn varints_have_one_form(v in any::<u64>(), shift in 0..64u32, tail in 1..9usize) {
        let v = v >> shift;
        let mut w = Writer::new();
        w.varint(v);
        let bytes = w.finish();
        let read = |b: &[u8]| decode_all(b, |r| r.varint("varint"));
        prop_assert_eq!(read(&bytes), Ok(v));
        prop_assert_eq!(bytes.len(), (64 - v.leading_zeros()).max(1).div_ceil(7) as usize);
        // The same number with empty groups behind it.
        let mut longer = bytes.clone();
        *longer.last_mut().unwrap() |= 0x80;
        longer.extend(std::iter::repeat_n(0x80, tail - 1));
        longer.push(0);
        prop_assert!(read(&longer).is_err());
        prop_assert_eq!(unzigzag(zigzag(v as i64)), v as i64);
    }

    #[test]
    fn lists_are_bounded_before_they_are_read(len in 1_001..u32::MAX) {
        let mut w = Writer::new();
        w.u32(len);
        let bytes = w.finish();
        let found = Reader::new(&bytes).list(1_000, "items", |r| r.u8("item"));
        prop_assert_eq!(found, Err(DecodeError::TooLong { what: "items", len: len as usize, max: 1_000 }));
        prop_assert!(Reader::new(&bytes).bytes(1_000, "bytes").is_err());
    }

    #[test]
    fn frame_digests_cover_every_byte_but_the_signature(frame in frame(), at in any::<usize>(), xor in 1..=255u8) {
        let d = Deployment { chain_id: 1, contract: Address([9; 20]) };
        let mut bytes = frame.encode();
        let unsigned = frame.unsigned_bytes().len();
        let at = at % bytes.len();
        bytes[at] ^= xor;
        if let Ok(other) = Frame::decode(&bytes) {
            prop_assert_eq!(other.digest(&d) == frame.digest(&d), at >= unsigned);
        }
        let elsewhere = Deployment { chain_id: 2, ..d };
        prop_assert_ne!(frame.digest(&d), frame.digest(&elsewhere));
    }

    #[test]
    fn state_is_injective(a in vec(any::<u8>(), 0..20), b in vec(any::<u8>(), 0..20), p in vec(any::<u64>(), 0..4), q in vec(any::<u64>(), 0..4)) {
        prop_assert_eq!(state(&a, &p) == state(&b, &q), a == b && p == q);
    }

    #[test]
    fn batches_of_outcomes_are_injective(one in entries(), other in entries()) {
        let batch = |entries: &[Entry]| Batch {
            agreement: AgreementId([1; 32]),
            epoch: 0,
            from: 5,
            entries: entries.iter().map(|e| (e.clone(), Digest::ZERO)).collect(),
        };
        let (a, b) = (batch(&one).entries_bytes(), batch(&other).entries_bytes());
        prop_assert_eq!(a == b, one == other);
    }

    #[test]
    fn only_values_of_the_declared_types_comply(variables in variables(), fill in any::<u8>(), extra in 1..4usize) {
        let Ok(width) = diversity_proto::frame::width(&variables) else { return Ok(()) };
        let values = vec![fill; width.into()];
        let no_bool = variables.iter().all(|v| v.ty != VariableType::Bool);
        prop_assert_eq!(values_comply(&variables, &values), fill <= 1 || no_bool);
        prop_assert!(!values_comply(&variables, &vec![0; usize::from(width) + extra]));
    }
}

fn entries() -> impl Strategy<Value = Vec<Entry>> + Clone {
    let entry = prop_oneof![
        vec(any::<u8>(), 0..3).prop_map(Entry::Value),
        (238..243usize).prop_map(|n| Entry::Value(vec![253; n])),
        Just(Entry::Null),
        Just(Entry::Trap),
        Just(Entry::Hole),
    ];
    vec(entry, 1..4)
}
