//! Terms, EIP-712 digests and the derivation of an agreement id (wire-format §6).

use crate::file::{File, Key};
use diversity_proto::ids::{AgreementId, Deployment, Digest, SensorId};
use diversity_proto::round::{OutputKind, marked_epoch, reading_of, resolution_fold, word};
use diversity_proto::terms::{
    Field, Leader, Protocol, Qos, SensorStart, Terms, TrustedNode, WindowSpec, acceptance_digest,
    agreement_digest, close_digest, config, eip712_domain, grant_digest, resolution_digest,
    resolution_struct, tweak,
};
use diversity_proto::window::state;
use k256::elliptic_curve::ops::Reduce;
use k256::elliptic_curve::sec1::{FromEncodedPoint, ToEncodedPoint};
use k256::{AffinePoint, EncodedPoint, ProjectivePoint, Scalar, U256};

struct Parties {
    users: Vec<Key>,
    nodes: Vec<Key>,
}

fn by_address(mut keys: Vec<Key>) -> Vec<Key> {
    keys.sort_by_key(Key::address);
    keys
}

fn parties(f: &mut File) -> Parties {
    Parties {
        users: by_address(
            (0..2)
                .map(|i| f.key(&format!("user_{i}"), 0x41 + i))
                .collect(),
        ),
        nodes: by_address(
            (0..3)
                .map(|i| f.key(&format!("node_{i}"), 0x21 + i))
                .collect(),
        ),
    }
}

fn fields(f: &mut File, key: &str, default: &[(&str, &str)]) -> Vec<Field> {
    let (names, types): (Vec<_>, Vec<_>) = default.iter().copied().unzip();
    let names = f.texts(&format!("{key}_names"), &names);
    let types = f.texts(&format!("{key}_types"), &types);
    names
        .into_iter()
        .zip(types)
        .map(|(name, ty)| Field { name, ty })
        .collect()
}

/// The bike-lock agreement in form: months, fixed leader.
fn month(f: &mut File, p: &Parties) -> Terms {
    let sensors = f.hexes("sensors", &[[0x31; 20], [0x33; 20], [0x32; 20]]);
    let q0 = f.numbers("q0", &[0, 5, 1 << 40]);
    let trust = f.numbers("trust", &[0, 1, 0]);
    Terms {
        title: f.text("title", "Bike locks of a city"),
        users: p.users.iter().map(Key::id).collect(),
        nodes: p
            .nodes
            .iter()
            .zip(trust)
            .map(|(k, trust)| TrustedNode {
                node: k.id(),
                trust: trust.try_into().expect("u8"),
            })
            .collect(),
        sensors: sensors
            .into_iter()
            .zip(q0)
            .map(|(s, q0)| SensorStart {
                sensor: SensorId(s.try_into().expect("an address")),
                q0,
            })
            .collect(),
        off_chain_code: Digest(f.array("off_chain_code", [0xc0; 32])),
        window: WindowSpec::Month {
            start: f.number("window_start", 1_443_657_600),
        },
        future_tolerance_s: f.number("future_tolerance_s", 300) as u32,
        grace_s: f.number("grace_s", 86_400) as u32,
        protocol: Protocol::Fast,
        leader: Leader::Fixed(f.number("leader", 2) as u8),
        flush_ms: f.number("flush_ms", 20) as u32,
        round_timeout_ms: f.number("round_timeout_ms", 2_000) as u32,
        round_timeout_max_ms: f.number("round_timeout_max_ms", 60_000) as u32,
        batch: f.number("batch", 1) as u16,
        qos: Qos::OffChain,
        result: fields(
            f,
            "result",
            &[("total_seconds", "uint64"), ("trips", "uint32")],
        ),
        detail: fields(f, "detail", &[("seconds", "uint64"), ("trips", "uint32")]),
        abstain_ms: f.number("abstain_ms", 60_000) as u32,
    }
}

fn outputs(f: &mut File, prefix: &str, d: &Deployment, p: &Parties, terms: &Terms) -> Digest {
    let k = |field: &str| format!("{prefix}{field}");
    terms.validate().expect("valid terms");
    let encoding = terms.encode();
    assert_eq!(Terms::decode(&encoding).as_ref(), Ok(terms));
    let before =
        1 + 4 + 20 * p.users.len() + 4 + 21 * p.nodes.len() + 4 + 28 * terms.sensors.len() + 32;
    let header = terms.header();
    f.gives(&k("encoding"), &encoding);
    f.gives(&k("conditions"), &encoding[before..]);
    f.gives(&k("conditions_digest"), header.conditions.0);
    f.gives(&k("sensors_tree"), terms.sensors_tree().0);
    f.gives(&k("sensors_root"), header.sensors_root.0);
    f.gives(&k("users_hash"), header.users.0);
    f.gives(&k("nodes_hash"), header.nodes.0);
    f.gives(&k("trust_hash"), header.trust.0);
    f.gives(&k("terms_digest"), header.digest().0);

    // lift_x(K.x) + tweak * G, for a K that stands in for the nodes' aggregate (musig.json has real ones).
    let aggregate = f.array(
        &k("aggregate_x"),
        p.nodes[0].public().0[1..].try_into().expect("x"),
    );
    let tweak = tweak(d, &aggregate, &header.digest());
    f.gives(&k("tweak"), tweak.0);
    let scalar = <Scalar as Reduce<U256>>::reduce_bytes(&tweak.0.into());
    f.gives(&k("tweak_mod_n"), scalar.to_bytes());
    let mut sec1 = vec![2];
    sec1.extend(aggregate);
    let even = EncodedPoint::from_bytes(&sec1).expect("a compressed point");
    let even = AffinePoint::from_encoded_point(&even).expect("on the curve");
    let point = ProjectivePoint::from(even) + ProjectivePoint::GENERATOR * scalar;
    let point = point.to_affine().to_encoded_point(false);
    let a = AgreementId(*point.x().expect("not at infinity").as_ref());
    f.gives(&k("agreement"), a.0);
    f.gives(&k("agreement_y"), point.y().expect("not at infinity"));
    f.gives(
        &k("agreement_point_address"),
        &diversity_proto::domain::keccak_raw(&point.as_bytes()[1..])[12..],
    );

    let digest = agreement_digest(d, &a, &header.digest());
    f.gives(&k("agreement_digest"), digest.0);
    let signatures: Vec<_> = p
        .users
        .iter()
        .map(|u| u.sign_recoverable(&digest.0))
        .collect();
    f.gives_all(&k("user_signatures"), &signatures);
    let acceptances: Vec<_> = p
        .nodes
        .iter()
        .map(|n| acceptance_digest(d, &a, &header.digest(), &n.id()))
        .collect();
    let signatures: Vec<_> = p
        .nodes
        .iter()
        .zip(&acceptances)
        .map(|(n, digest)| n.sign_recoverable(&digest.0))
        .collect();
    f.gives_all(
        &k("acceptance_digests"),
        &acceptances.iter().map(|x| x.0).collect::<Vec<_>>(),
    );
    f.gives_all(&k("acceptance_signatures"), &signatures);
    let end = f.number(&k("close_end"), 22);
    let digest = close_digest(d, &a, end);
    f.gives(&k("close_digest"), digest.0);
    let signatures: Vec<_> = p
        .users
        .iter()
        .map(|u| u.sign_recoverable(&digest.0))
        .collect();
    f.gives_all(&k("close_signatures"), &signatures);
    resolution(f, prefix, d, p, &a);
    f.gives(&k("config_epoch_0"), config(d, &a, 0).0);
    f.gives(&k("config_epoch_1"), config(d, &a, 1).0);
    // A second reading of a t whose first reading was in epoch 1 (wire-format §7).
    let marked = marked_epoch(1, 2);
    assert_eq!(reading_of(marked), 2);
    f.gives_number(&k("marked_epoch"), marked.into());
    f.gives(&k("config_marked"), config(d, &a, marked).0);
    header.digest()
}

/// What all users say together of one execution, and what is folded of it in band.
fn resolution(f: &mut File, prefix: &str, d: &Deployment, p: &Parties, a: &AgreementId) {
    let k = |field: &str| format!("{prefix}resolution_{field}");
    let t = f.number(&k("t"), 7);
    let result = f.hex(&k("result"), &[1, 2, 3]);
    let carry = f.hex(&k("carry"), b"what t + 1 is given");
    let q_next = f.numbers(&k("q_next"), &[17, 5, (1 << 62) - 1]);
    let state = state(&carry, &q_next);
    f.gives(&k("state"), state.0);
    let signed = resolution_struct(a, t, OutputKind::Value, &result, &state);
    f.gives(&k("struct"), signed.0);
    let digest = resolution_digest(d, &signed);
    f.gives(&k("digest"), digest.0);
    let signatures: Vec<_> = p
        .users
        .iter()
        .map(|u| u.sign_recoverable(&digest.0))
        .collect();
    f.gives_all(&k("signatures"), &signatures);
    let epoch = f.number(&k("epoch"), 2) as u32;
    f.gives(&k("word"), word(OutputKind::Value as u8, epoch, t, t));
    let fold = resolution_fold(d, a, OutputKind::Value, epoch, t, &signed);
    f.gives(&k("fold"), fold.0);
}

#[test]
fn terms() {
    let mut f = File::open("terms.json");
    let d = f.deployment();
    f.gives("domain_separator", eip712_domain(&d).0);
    let p = parties(&mut f);
    f.gives_all(
        "users",
        &p.users.iter().map(|k| k.address().0).collect::<Vec<_>>(),
    );
    f.gives_all(
        "nodes",
        &p.nodes.iter().map(|k| k.address().0).collect::<Vec<_>>(),
    );
    let month = month(&mut f, &p);
    let first = outputs(&mut f, "", &d, &p, &month);
    // An owner of sensors who is no user of it.
    let owner = f.key("sensor_owner", 0x47);
    let digest = grant_digest(&d, &owner.id(), &first);
    f.gives("grant_digest", digest.0);
    f.gives("grant_signature", owner.sign_recoverable(&digest.0));

    // The same parties with count windows, a rotating leader, no storage and batches.
    let count = Terms {
        title: f.text("count_title", "Mean temperature"),
        window: WindowSpec::Count {
            z: f.number("count_z", 12) as u32,
            slide: f.number("count_slide", 4) as u32,
        },
        leader: Leader::Rotating,
        batch: f.number("count_batch", 256) as u16,
        qos: Qos::None,
        result: fields(&mut f, "count_result", &[("mean", "int32")]),
        detail: Vec::new(),
        ..month.clone()
    };
    let second = outputs(&mut f, "count_", &d, &p, &count);

    let days = Terms {
        window: WindowSpec::Seconds {
            start: f.number("days_start", 1_443_657_600),
            seconds: f.number("days_seconds", 86_400),
        },
        ..month
    };
    let third = outputs(&mut f, "days_", &d, &p, &days);
    assert!(first != second && second != third && third != first);
    f.finish();
}
