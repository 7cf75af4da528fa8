//! What a stranger can have the contracts log, made of any bytes, and what must hold of what is read from it: the one entry point of
//! the fuzzer (`tests/fuzz`) and of the test that replays its corpus.
//!
//! Structure first: a stream of bytes names events, and fills their fields; declarations start from good ones, signed by real keys, so
//! that a changed byte is the only thing that is wrong with them. The rest of the time data is just bytes.

use super::{C, ChainEvent, ICells, Located, Refusal, decode, topic};
use crate::rpc::Log;
use alloy::primitives::{Address as EvmAddress, B256, U256};
use alloy::sol_types::{SolCall, SolEvent};
use diversity_keys::{SecretKey, peer_public, peer_sign};
use diversity_proto::entity::{
    NodeDeclaration, Period, SensorDeclaration, check_address, is_printable, peer_binding_digest,
};
use diversity_proto::frame::{Q_MAX, Variable, VariableType};
use diversity_proto::round::{HOLES_MAX, RESULT_BYTES_MAX, T_MAX};
use diversity_proto::terms::{BATCH_RANGE_MAX, NODES_MAX, USERS_MAX, WindowSpec};
use diversity_proto::{Address, Deployment, Digest, NodeId, PublicKey};

const D: Deployment = Deployment {
    chain_id: 31_337,
    contract: Address([0xcc; 20]),
};
/// Most logs of one transaction.
const LOGS_MAX: usize = 12;

/// The bytes, read as whatever is wanted next; zeros behind their end.
struct Stream<'a>(&'a [u8]);

impl Stream<'_> {
    fn u8(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }
    /// Numbers that matter are small, or lie at a limit.
    fn u64(&mut self) -> u64 {
        match self.u8() {
            0..=159 => u64::from(self.u8()),
            160..=169 => T_MAX - u64::from(self.u8() % 3),
            170..=179 => T_MAX + u64::from(self.u8() % 3),
            180..=189 => (1 << 62) - u64::from(self.u8() % 3),
            190..=199 => u64::MAX - u64::from(self.u8() % 3),
            _ => u64::from_be_bytes(std::array::from_fn(|_| self.u8())),
        }
    }
    fn word(&mut self) -> [u8; 32] {
        match self.u8() {
            // Few different ones, so that they meet.
            n @ 0..=199 => [n % 4; 32],
            _ => std::array::from_fn(|_| self.u8()),
        }
    }
    fn address(&mut self) -> [u8; 20] {
        *self.word().first_chunk().expect("32 bytes have 20")
    }
    fn bytes(&mut self) -> Vec<u8> {
        let len = match self.u8() {
            n @ 0..=239 => usize::from(n),
            240..=247 => RESULT_BYTES_MAX + usize::from(self.u8() % 3),
            _ => 300 + 8 * usize::from(self.u8()),
        };
        (0..len).map(|_| self.u8()).collect()
    }
    fn list(&mut self) -> Vec<u64> {
        let len = match self.u8() {
            n @ 0..=249 => usize::from(n % 8),
            _ => HOLES_MAX + usize::from(self.u8() % 3),
        };
        (0..len).map(|_| self.u64()).collect()
    }
    /// `0^11 | kind | epoch | from | t`
    fn execution(&mut self) -> (U256, u64) {
        let (kind, epoch) = (self.u8() % 8, self.u64() as u32);
        let (from, t) = (self.u64(), self.u64());
        let word = diversity_proto::round::word(kind, epoch, from, t);
        let mut bytes: [u8; 32] = word;
        if self.u8() == 255 {
            bytes[0] = 1;
        }
        let indexed = if self.u8() > 250 { self.u64() } else { t };
        (U256::from_be_bytes(bytes), indexed)
    }
    /// One byte of it is another one, or it ends earlier, or it stays as it is.
    fn spoil(&mut self, mut data: Vec<u8>) -> Vec<u8> {
        let place = usize::from(self.u8()) | usize::from(self.u8()) << 8;
        match self.u8() {
            0..=99 => {}
            100..=199 => {
                let len = data.len().max(1);
                if let Some(byte) = data.get_mut(place % len) {
                    *byte ^= self.u8() | 1;
                }
            }
            200..=239 => data.truncate(place % (data.len() + 1)),
            _ => data.extend(self.bytes()),
        }
        data
    }
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed % 4 + 1; 32]).expect("a small number is a key")
}

fn padded(address: [u8; 20]) -> Digest {
    let mut word = [0; 32];
    word[12..].copy_from_slice(&address);
    Digest(word)
}

fn sensor(s: &mut Stream<'_>) -> (Vec<Digest>, Vec<u8>) {
    let key = key(s.u8());
    let declaration = SensorDeclaration {
        public_key: PublicKey(key.public_key()),
        sensor_type: "bike-lock".into(),
        label: String::from_utf8_lossy(&s.bytes()).into_owned(),
        variables: vec![Variable {
            name: "locked".into(),
            ty: VariableType::Bool,
        }],
        period: Period::Month,
    };
    let topics = [C::SensorRegistered::SIGNATURE_HASH].map(topic);
    let ids = [padded(key.address()), padded(s.address())];
    ([&topics[..], &ids].concat(), s.spoil(declaration.encode()))
}

fn node(s: &mut Stream<'_>) -> (Vec<Digest>, Vec<u8>) {
    let (key, peer) = (key(s.u8()), [s.u8() % 4 + 1; 32]);
    let (public_key, account) = (PublicKey(key.public_key()), Address(s.address()));
    let digest = peer_binding_digest(&D, &NodeId(key.address()), &public_key, &account);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let port = s.u64();
    let declaration = NodeDeclaration {
        public_key,
        account,
        peer_key: peer_public(&peer),
        peer_proof: peer_sign(&peer, &digest.0),
        name: "operator".into(),
        addresses: match s.u8() {
            0..=199 => vec![format!("/ip4/127.0.0.1/tcp/{port}")],
            _ => vec![text(s.bytes())],
        },
        revision: s.u64() as u32,
    };
    let topics = [C::NodeRegistered::SIGNATURE_HASH].map(topic);
    let ids = [padded(key.address()), padded(s.address())];
    ([&topics[..], &ids].concat(), s.spoil(declaration.encode()))
}

fn encoded(event: impl SolEvent, s: &mut Stream<'_>) -> (Vec<Digest>, Vec<u8>) {
    let topics = event.encode_topics();
    let topics = topics.into_iter().map(|t| Digest(t.0.0)).collect();
    (topics, s.spoil(event.encode_data()))
}

fn packed_terms(s: &mut Stream<'_>) -> Vec<u8> {
    let (users, nodes) = (s.u8() % 40, s.u8() % 120);
    let mut out = vec![users];
    for i in 0..users {
        out.extend([i + 1; 20]);
    }
    out.push(nodes);
    for i in 0..nodes {
        out.extend([i + 1; 20]);
        out.push(i % users.max(1));
    }
    out.extend([7; 96]);
    out.extend(s.bytes());
    s.spoil(out)
}

fn evidence(s: &mut Stream<'_>, t: u64) -> Vec<u8> {
    let frames = (s.bytes(), s.bytes());
    let call = match s.u8() % 3 {
        0 => C::reportSensorContradictionCall {
            q: t,
            first: frames.0.into(),
            second: frames.1.into(),
            parities: 0,
        }
        .abi_encode(),
        1 => {
            let signature = || C::Signature {
                r: B256::ZERO,
                vs: B256::ZERO,
            };
            let commit = |n: u8| C::Commit {
                commitment: [n; 32].into(),
                openingHash: B256::ZERO,
                signature: signature(),
            };
            C::reportEquivocationCall {
                agreement: s.word().into(),
                epoch: s.u64() as u32,
                t,
                opening: C::Opening {
                    aggregate: B256::ZERO,
                    y: B256::ZERO,
                    users: B256::ZERO,
                    nodes: B256::ZERO,
                    trust: B256::ZERO,
                    sensorsRoot: B256::ZERO,
                    offChainCode: B256::ZERO,
                    conditions: B256::ZERO,
                },
                nodes: vec![EvmAddress::from(s.address())],
                node: U256::from(s.u8() % 3),
                first: commit(1),
                second: commit(2),
            }
            .abi_encode()
        }
        _ => s.bytes(),
    };
    s.spoil(call)
}

fn event(s: &mut Stream<'_>) -> (Vec<Digest>, Vec<u8>) {
    let agreement = B256::from([1; 32]);
    match s.u8() % 16 {
        0 => (vec![topic(C::UserRegistered::SIGNATURE_HASH)], s.bytes()),
        1 => sensor(s),
        2 => node(s),
        3 => {
            let first = topic(C::AgreementCreated::SIGNATURE_HASH);
            (vec![first, Digest(s.word())], packed_terms(s))
        }
        4 => {
            let (word, t) = s.execution();
            let (context, result) = (s.word().into(), s.bytes().into());
            let event = C::Settled {
                agreement,
                t,
                word,
                context,
                result,
            };
            encoded(event, s)
        }
        5 => {
            let (word, t) = s.execution();
            let (contexts, entries) = (s.word().into(), s.bytes().into());
            let event = C::BatchSettled {
                agreement,
                t,
                word,
                contexts,
                entries,
            };
            encoded(event, s)
        }
        6 => {
            let (t, holes) = (s.u64(), s.list());
            encoded(
                C::HolesAgreed {
                    agreement,
                    t,
                    holes,
                },
                s,
            )
        }
        7 => {
            let (word, t) = s.execution();
            let event = C::HoleSettled {
                agreement,
                t,
                word,
                seal: s.word().into(),
                state: s.word().into(),
                holes: s.list(),
            };
            encoded(event, s)
        }
        8 => {
            let (word, t) = s.execution();
            let event = C::Resolved {
                agreement,
                t,
                word,
                state: s.word().into(),
                result: s.bytes().into(),
                carry: s.bytes().into(),
                qNext: s.list(),
            };
            encoded(event, s)
        }
        9 => {
            let (word, t) = s.execution();
            let event = ICells::CellWritten {
                agreement,
                t,
                writer: s.u8() % 6,
                word,
                context: s.word().into(),
                state: s.word().into(),
                result: s.bytes().into(),
                carry: s.bytes().into(),
                qNext: s.list(),
            };
            encoded(event, s)
        }
        10 => {
            let end = s.u64();
            encoded(C::AgreementClosed { agreement, end }, s)
        }
        11 => {
            let point = s.u64();
            let kind = C::DisputeKind::try_from(s.u8() % 5).expect("five kinds");
            let event = C::DisputeRecorded {
                dispute: s.word().into(),
                agreement: s.word().into(),
                accused: EvmAddress::from(s.address()),
                kind,
                epoch: s.u64() as u32,
                point,
                evidence: evidence(s, point).into(),
            };
            encoded(event, s)
        }
        12 => (Vec::new(), s.bytes()),
        13 => {
            let (word, _) = s.execution();
            let word: [u8; 32] = word.to_be_bytes();
            (
                Vec::new(),
                [&s.address()[..], &word[11..], &s.bytes()].concat(),
            )
        }
        // Any topics, of which the first may be that of an event.
        n => {
            let known = [
                C::Settled::SIGNATURE_HASH,
                C::NodeRegistered::SIGNATURE_HASH,
                C::DisputeRecorded::SIGNATURE_HASH,
                C::AgreementCreated::SIGNATURE_HASH,
            ];
            let mut topics = vec![Digest(s.word())];
            if n == 14 {
                topics[0] = topic(known[usize::from(s.u8()) % known.len()]);
            }
            topics.extend((0..s.u8() % 4).map(|_| Digest(s.word())));
            (topics, s.bytes())
        }
    }
}

/// Reads bytes as the logs of a transaction, has them decoded, and checks that whatever is believed is what the rest of a node relies
/// on. Panics where it is not.
pub fn believe(bytes: &[u8]) {
    let mut s = Stream(bytes);
    let mut logs = Vec::new();
    while !s.0.is_empty() && logs.len() < LOGS_MAX {
        let (topics, data) = event(&mut s);
        logs.push(Log {
            topics,
            data,
            block_number: 7,
            block_hash: Digest([7; 32]),
            tx: Digest([8; 32]),
            log_index: logs.len() as u64,
            removed: false,
        });
    }
    let gas = u64::MAX;
    let out = decode(&logs, gas, &D);
    assert!(out.len() <= logs.len());
    assert_eq!(
        decode(&logs, gas, &D),
        out,
        "the same logs, the same events"
    );
    for located in &out {
        check(located);
    }
    // The harm of a bad entry ends at that entry: alone, each says the same, but for what belongs to the one right behind it.
    for located in &out {
        let Some(log) = logs.get(located.at.log_index as usize) else {
            panic!("an event of no log");
        };
        let alone = decode(std::slice::from_ref(log), gas, &D);
        let depends = matches!(
            located.event,
            ChainEvent::Settled { .. } | ChainEvent::HoleSettled { .. }
        );
        assert!(depends || alone[0].event == located.event);
    }
}

fn place(t: u64, from: u64) {
    assert!(from <= t && t < T_MAX);
    // What every reader computes of a t.
    for window in [
        WindowSpec::Month {
            start: 1_443_657_600,
        },
        WindowSpec::Seconds {
            start: (1 << 48) - 1,
            seconds: 366 * 86_400,
        },
        WindowSpec::Count { z: 1, slide: 1 },
    ] {
        let (start, end) = window.span(t);
        assert!(start <= end);
    }
}

fn check(located: &Located) {
    match &located.event {
        ChainEvent::UserRegistered { name, .. } => assert!(is_printable(name)),
        ChainEvent::SensorRegistered {
            sensor,
            declaration,
            ..
        } => {
            let found = diversity_keys::address_of(&declaration.public_key.0);
            assert_eq!(found, Ok(sensor.0));
            assert!(is_printable(&declaration.label));
        }
        ChainEvent::NodeRegistered {
            node, declaration, ..
        } => {
            let found = diversity_keys::address_of(&declaration.public_key.0);
            assert_eq!(found, Ok(node.0));
            for address in &declaration.addresses {
                assert_eq!(check_address(address), Ok(()));
            }
        }
        ChainEvent::AgreementCreated { users, nodes, .. } => {
            assert!((2..=USERS_MAX).contains(&users.len()));
            assert!((1..=NODES_MAX).contains(&nodes.len()));
            assert!(nodes.iter().all(|n| usize::from(n.1) < users.len()));
        }
        ChainEvent::Settled {
            place: p,
            entries,
            holes,
            ..
        } => {
            place(p.t, p.from);
            assert!(entries.len() <= BATCH_RANGE_MAX + HOLES_MAX);
            assert!(entries.iter().all(|(t, _)| (p.from..=p.t).contains(t)));
            assert!(holes.iter().all(|t| (p.from..=p.t).contains(t)));
        }
        ChainEvent::HoleSettled {
            place: p, holes, ..
        } => {
            place(p.t, p.from);
            assert!(holes.iter().all(|t| (p.from..p.t).contains(t)));
        }
        ChainEvent::Resolved {
            place: p, outputs, ..
        }
        | ChainEvent::CellWritten {
            place: p, outputs, ..
        } => {
            place(p.t, p.from);
            assert!(outputs.q_next.iter().all(|q| *q < Q_MAX));
            assert!(outputs.result.len() <= RESULT_BYTES_MAX);
        }
        ChainEvent::Attested { t, from, .. } => place(*t, *from),
        ChainEvent::AgreementClosed { end, .. } => assert!(*end <= T_MAX),
        ChainEvent::DisputeRecorded { agreement, at, .. } => {
            assert!(*at < if agreement.is_some() { T_MAX } else { Q_MAX })
        }
        ChainEvent::Skipped(skipped) => {
            assert!(is_printable(&skipped.words));
            assert!(Refusal::ALL.contains(&skipped.refusal));
        }
    }
}
