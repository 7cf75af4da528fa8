//! What nodes sign in a round, outcomes and batches (wire-format §7).

use crate::file::{File, Key};
use diversity_proto::ids::{AgreementId, Deployment, Digest, Signature};
use diversity_proto::round::{
    Batch, Commit, Computed, Entry, OutputKind, Reveal, Session, Subject, opening_hash,
    partial_digest, seal, word,
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
        let mut commit = Commit {
            commitment: computed.commitment(&s, &node.id(), &secret, &salt),
            opening: opening_hash(&secret, &salt),
            signature: Signature([0; 64]),
        };
        let digest = commit.digest(&s, &node.id());
        commit.signature = node.sign(&digest.0);
        f.gives(&k("commitment"), commit.commitment.0);
        f.gives(&k("opening"), commit.opening.0);
        f.gives(&k("commit_digest"), digest.0);
        f.gives(&k("commit_signature"), node.sign_recoverable(&digest.0));
        commits.push((commit, secret, salt));
    }
    let digests: Vec<_> = nodes
        .iter()
        .zip(&commits)
        .map(|(n, (c, ..))| c.digest(&s, &n.id()))
        .collect();
    let seal = seal(&s, &digests);
    f.gives("seal", seal.0);
    f.gives("context", computed.context(&seal).0);

    let from = f.number("from", 4);
    let holes = f.numbers("holes", &[5]);
    let mut reveals = Vec::new();
    for (no_holes, prefix) in [(true, ""), (false, "with_holes_")] {
        let k = |field: &str| format!("{prefix}{field}");
        reveals = commits
            .iter()
            .map(|(_, secret, salt)| Reveal {
                computed: computed.clone(),
                secret: *secret,
                salt: *salt,
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

    let parts = vec![
        Part::Reveal {
            agreement: a,
            epoch,
            t: s.t,
            seal,
            reveal: reveals[0].clone(),
        },
        Part::Certificate {
            agreement: a,
            epoch,
            t: s.t,
            commits: commits.iter().map(|c| c.0).collect(),
            reveals,
        },
    ];
    let envelope = encode_envelope(&parts);
    assert_eq!(decode_envelope(&envelope), Ok(parts));
    f.gives("envelope", envelope);
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
