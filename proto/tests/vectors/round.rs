//! What nodes sign in a round and before it, outcomes, batches and holes (wire-format §7).

use crate::file::{File, Key};
use diversity_proto::frame::{Contradiction, Frame};
use diversity_proto::held::{Held, OpenSensor};
use diversity_proto::ids::{AgreementId, Deployment, Digest, NodeId, Signature};
use diversity_proto::round::{
    Batch, Blinding, Body, Commit, Computed, Entry, Hole, KIND_HOLE, OutputKind, Reveal, Session,
    Subject, partial_digest, seal_of, word,
};
use diversity_proto::terms::config;
use diversity_proto::wire::{Part, decode_envelope, encode_envelope};

fn subject(f: &mut File) -> (Subject, AgreementId, u32) {
    let deployment = f.deployment();
    f.gives("deployment", deployment.bytes());
    let a = AgreementId(f.array("agreement", [0xaa; 32]));
    let epoch = u32::try_from(f.number("epoch", 1)).expect("u32");
    let config = config(&deployment, &a, epoch);
    f.gives("config", config.0);
    let t = f.number("t", 7);
    let subject = Subject {
        deployment,
        config,
        t,
    };
    (subject, a, epoch)
}

#[test]
fn round() {
    let mut f = File::open("round.json");
    let (s, a, epoch) = subject(&mut f);
    let mut nodes: Vec<_> = (0..3)
        .map(|i| f.key(&format!("key_{i}"), 0x21 + i))
        .collect();
    nodes.sort_by_key(Key::address);
    f.gives_all(
        "nodes",
        &nodes.iter().map(|n| n.address().0).collect::<Vec<_>>(),
    );

    let computed = Computed {
        kind: OutputKind::Value,
        result: f.hex("result", &[0, 0, 0, 0, 0, 1, 0x86, 0xa0, 0, 0, 0, 42]),
        detail_root: Digest(f.array("detail_root", [0x51; 32])),
        state: Digest(f.array("state", [0x52; 32])),
        trace: Digest(f.array("trace", [0x53; 32])),
        window_hash: Digest(f.array("window_hash", [0x54; 32])),
    };
    let mut w = diversity_proto::Writer::new();
    computed.write(&mut w);
    f.gives("computed", w.finish());

    let mut commits = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        let k = |field: &str| format!("node_{i}_{field}");
        let secret = f.array(&k("secret"), [0x60 + i as u8; 32]);
        let salt = f.array(&k("salt"), [0x70 + i as u8; 32]);
        let blinding = Blinding { secret, salt };
        let commit = Commit::make(&s, &node.id(), &computed, &blinding, |d| node.sign(&d.0));
        let digest = commit.digest(&s, &node.id());
        f.gives(&k("commitment"), commit.commitment.0);
        f.gives(&k("opening"), commit.opening.0);
        f.gives(&k("commit_digest"), digest.0);
        f.gives(&k("commit_signature"), node.sign_recoverable(&digest.0));
        commits.push((commit, blinding));
    }
    let seal = seal_of(
        &s,
        &ids(&nodes),
        &commits.iter().map(|c| c.0).collect::<Vec<_>>(),
    );
    f.gives("seal", seal.0);
    f.gives("context", computed.context(&seal).0);

    let from = f.number("from", 4);
    let holes = f.numbers("holes", &[5]);
    let mut reveals = Vec::new();
    for (no_holes, prefix) in [(true, ""), (false, "with_holes_")] {
        let k = |field: &str| format!("{prefix}{field}");
        reveals = commits
            .iter()
            .map(|(_, blinding)| Reveal {
                computed: computed.clone(),
                blinding: *blinding,
                from,
                holes: if no_holes { Vec::new() } else { holes.clone() },
                signature: Signature([0; 64]),
            })
            .collect();
        let outcome = reveals[0].outcome(a, epoch, s.t, &seal);
        if no_holes {
            f.gives("word", word(outcome.kind, epoch, from, s.t));
            f.gives("outcome_digest", outcome.digest(&s.deployment).0);
        }
        let digest = reveals[0].digest(&s.deployment, &outcome);
        f.gives(&k("reveal_digest"), digest.0);
        let signatures: Vec<_> = nodes
            .iter()
            .map(|n| n.sign_recoverable(&digest.0))
            .collect();
        f.gives_all(&k("reveal_signatures"), &signatures);
        for (reveal, node) in reveals.iter_mut().zip(&nodes) {
            reveal.signature = node.sign(&digest.0);
        }
    }
    musig(&mut f, &s, &nodes, a, from);

    let round_part = |body| Part::Round {
        agreement: a,
        epoch,
        t: s.t,
        body,
    };
    let parts = vec![
        round_part(Body::Reveal {
            seal,
            reveal: reveals[0].clone(),
        }),
        round_part(Body::Certificate {
            commits: commits.iter().map(|c| c.0).collect(),
            reveals,
        }),
    ];
    let envelope = encode_envelope(&parts);
    assert_eq!(decode_envelope(&envelope), Ok(parts));
    f.gives("envelope", envelope);
    f.finish();
}

fn ids(nodes: &[Key]) -> Vec<NodeId> {
    nodes.iter().map(Key::id).collect()
}

/// Hole certificates (wire-format §7): one of unequal reveals with one state', one of unequal states, and one where all abstain.
#[test]
fn holes() {
    let mut f = File::open("hole.json");
    let (s, a, epoch) = subject(&mut f);
    let mut nodes: Vec<_> = (0..3)
        .map(|i| f.key(&format!("key_{i}"), 0x21 + i))
        .collect();
    nodes.sort_by_key(Key::address);
    f.gives_all(
        "nodes",
        &nodes.iter().map(|n| n.address().0).collect::<Vec<_>>(),
    );
    let from = f.number("from", 5);
    let holes = f.numbers("holes", &[6]);
    let (value, abstain) = (OutputKind::Value as u64, OutputKind::Abstain as u64);
    for (name, kinds, results, states) in [
        ("", [value; 3], [1, 1, 2], [7, 7, 7]),
        ("states_", [value, value, abstain], [1, 2, 1], [7, 8, 8]),
        ("abstained_", [abstain; 3], [1, 4, 7], [7, 8, 9]),
    ] {
        hole(
            &mut f,
            name,
            (&s, a, epoch),
            &nodes,
            (from, &holes),
            (kinds, results, states),
        );
    }
    f.finish();
}

fn hole(
    f: &mut File,
    prefix: &str,
    (s, a, epoch): (&Subject, AgreementId, u32),
    nodes: &[Key],
    (from, holes): (u64, &[u64]),
    (kinds, results, states): ([u64; 3], [u8; 3], [u8; 3]),
) {
    let k = |field: &str| format!("{prefix}{field}");
    let kinds = f.numbers(&k("kinds"), &kinds);
    let results = f.hexes(&k("results"), &results.map(|r| vec![r]));
    let states = f.hexes(&k("states"), &states.map(|s| vec![s; 32]));
    let blinding = Blinding {
        secret: f.array(&k("secret"), [0x61; 32]),
        salt: f.array(&k("salt"), [0x71; 32]),
    };
    let said: Vec<_> = (0..3)
        .map(|i| Computed {
            kind: OutputKind::from_code(kinds[i] as u8).expect("a kind"),
            result: results[i].clone(),
            detail_root: Digest::ZERO,
            state: Digest(states[i].clone().try_into().expect("32 bytes")),
            trace: Digest::ZERO,
            window_hash: Digest([0x54; 32]),
        })
        .collect();
    let commits: Vec<_> = nodes
        .iter()
        .zip(&said)
        .map(|(n, c)| Commit::make(s, &n.id(), c, &blinding, |d| n.sign(&d.0)))
        .collect();
    let recoverable: Vec<_> = nodes
        .iter()
        .zip(&commits)
        .map(|(n, c)| n.sign_recoverable(&c.digest(s, &n.id()).0))
        .collect();
    f.gives_all(
        &k("commitments"),
        &commits.iter().map(|c| c.commitment.0).collect::<Vec<_>>(),
    );
    f.gives(&k("opening"), commits[0].opening.0);
    f.gives_all(&k("commit_signatures"), &recoverable);
    let seal = seal_of(s, &ids(nodes), &commits);
    f.gives(&k("seal"), seal.0);
    let reveals: Vec<_> = said
        .iter()
        .map(|c| Reveal {
            computed: c.clone(),
            blinding,
            from,
            holes: holes.to_vec(),
            signature: Signature([0; 64]),
        })
        .collect();
    let digest = |r: &Reveal| r.digest(&s.deployment, &r.outcome(a, epoch, s.t, &seal));
    let signatures: Vec<_> = nodes
        .iter()
        .zip(&reveals)
        .map(|(n, r)| n.sign_recoverable(&digest(r).0))
        .collect();
    f.gives_all(
        &k("reveal_digests"),
        &reveals.iter().map(|r| digest(r).0).collect::<Vec<_>>(),
    );
    f.gives_all(&k("reveal_signatures"), &signatures);
    let hole = Hole::of(a, epoch, s.t, seal, &reveals);
    let kind = if hole.abstained {
        OutputKind::Abstain as u8
    } else {
        KIND_HOLE
    };
    f.gives(&k("word"), word(kind, epoch, from, s.t));
    f.gives(&k("state"), hole.state.0);
    f.gives(&k("digest"), hole.digest(&s.deployment).0);
}

/// Lists of open sensors (wire-format §7, Held): one of none, and one of several, with a contradiction.
#[test]
fn held() {
    let mut f = File::open("held.json");
    let (s, a, epoch) = subject(&mut f);
    let node = f.key("node", 0x21);
    let sensor = f.key("sensor", 0x11);
    let frame = |count: u16, lost: u32| {
        let mut frame = Frame {
            sensor: sensor.id(),
            epoch: 0,
            first_q: 20,
            count,
            lost,
            width: 0,
            opening: None,
            body: vec![2; count.into()],
            signature: Signature([0; 64]),
        };
        frame.signature = sensor.sign(&frame.digest(&s.deployment).0);
        frame.encode()
    };
    let (first, second) = (frame(2, 0), frame(0, 5));
    f.gives("first_frame", &first);
    f.gives("second_frame", &second);
    let contradiction = Contradiction::of(&first, &second);
    f.gives_number(
        "contradiction_q",
        contradiction.as_ref().expect("they differ").q,
    );
    let indices = f.numbers("indices", &[0, 3, 9_999]);
    let lacks = f.numbers("lacks", &[0, 21, 1 << 62]);
    for (prefix, n) in [("none_", 0), ("", 3)] {
        let k = |field: &str| format!("{prefix}{field}");
        let open = (0..n).map(|i| OpenSensor {
            index: indices[i] as u32,
            lacks: lacks[i],
            contradiction: contradiction.clone().filter(|_| i == 1),
        });
        let mut held = Held {
            open: open.collect(),
            signature: Signature([0; 64]),
        };
        let digest = held.digest(&s, &node.id());
        f.gives(&k("digest"), digest.0);
        held.signature = node.sign(&digest.0);
        f.gives(&k("signature"), held.signature.0);
        let parts = vec![Part::Held {
            agreement: a,
            epoch,
            t: s.t,
            held,
        }];
        let envelope = encode_envelope(&parts);
        assert_eq!(decode_envelope(&envelope), Ok(parts));
        f.gives(&k("envelope"), envelope);
    }
    f.finish();
}

fn musig(f: &mut File, s: &Subject, nodes: &[Key], a: AgreementId, from: u64) {
    let session = Session {
        agreement: a,
        from,
        t: s.t,
        attempt: u32::try_from(f.number("attempt", 2)).expect("u32"),
    };
    let nonces: Vec<[u8; 66]> = f
        .hexes("public_nonces", &[[0x81; 66], [0x82; 66], [0x83; 66]])
        .into_iter()
        .map(|n| n.try_into().expect("66 bytes"))
        .collect();
    let set = session.nonce_set(&nonces);
    f.gives("nonce_set", set.0);
    let message = Digest(f.array("partial_message", [0x91; 32]));
    let partial = f.array("partial", [0x92; 32]);
    let digest = partial_digest(s, &nodes[0].id(), &message, &set, &partial);
    f.gives("partial_digest", digest.0);
    f.gives("partial_signature", nodes[0].sign(&digest.0).0);
}

fn batch(f: &mut File, prefix: &str, d: &Deployment, batch: &Batch) {
    f.gives(&format!("{prefix}entries"), batch.entries_bytes());
    f.gives(&format!("{prefix}contexts_root"), batch.contexts_root().0);
    let word = word(
        diversity_proto::round::KIND_BATCH,
        batch.epoch,
        batch.from,
        batch.last(),
    );
    f.gives(&format!("{prefix}word"), word);
    f.gives(&format!("{prefix}digest"), batch.digest(d).0);
}

#[test]
fn batches() {
    let mut f = File::open("batch.json");
    let d = f.deployment();
    let agreement = AgreementId(f.array("agreement", [0xaa; 32]));
    let epoch = u32::try_from(f.number("epoch", 1)).expect("u32");
    let from = f.number("from", 4);
    let context = Digest(f.array("context", [0x55; 32]));
    let short = f.hex("result", &[1, 2, 3]);
    let longest_short = f.hex("result_of_239_bytes", &[9; 239]);
    let shortest_long = f.hex("result_of_240_bytes", &[8; 240]);
    let entries = vec![
        (Entry::Value(short.clone()), context),
        (Entry::Null, context),
        (Entry::Trap, context),
        (Entry::Hole, Digest::ZERO),
        (Entry::Value(Vec::new()), context),
        (Entry::Value(longest_short), context),
        (Entry::Value(shortest_long), context),
    ];
    let every_kind = Batch {
        agreement,
        epoch,
        from,
        entries,
    };
    batch(&mut f, "", &d, &every_kind);
    // As many outcomes as fit, each of the same three bytes.
    let full = Batch {
        entries: vec![(Entry::Value(short), context); 256],
        ..every_kind
    };
    batch(&mut f, "full_", &d, &full);
    f.finish();
}
