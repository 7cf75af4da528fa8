//! `proto/vectors/musig.json`: aggregated keys and signatures of 2 to 100 nodes, which the Solidity tests verify.
//!
//! Each committee is the first n of 100 keys. Its terms are real (wire-format §6), so its `a` opens to them, and it signs two
//! digests: one that is the same for all, and the outcome digest of wire-format §7 under its own `a`.
//! `DIVERSITY_REGENERATE=1` writes the file anew (a decision of its own); otherwise the test recomputes and compares it.

use diversity_keys::{SecretKey, keccak256, musig};
use secp256k1::PublicKey;
use serde_json::{Map, Value, json};
use std::path::Path;
use zeroize::Zeroizing;

const COMMITTEES: std::ops::RangeInclusive<usize> = 2..=100;
const CHAIN_ID: u64 = 31_337;
const CONTRACT: [u8; 20] = [0xd1; 20];
const EPOCH: u32 = 0;
const T: u64 = 9;

#[test]
fn musig_vectors_of_2_to_100_nodes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/vectors/musig.json");
    let mut text = serde_json::to_string_pretty(&compute()).expect("a JSON object");
    text.push('\n');
    if std::env::var_os("DIVERSITY_REGENERATE").is_some_and(|v| v == "1") {
        std::fs::write(&path, text).expect("written");
        return;
    }
    let found = std::fs::read_to_string(&path).expect("proto/vectors/musig.json");
    assert!(found == text, "musig.json is not what its inputs give");
}

fn compute() -> Value {
    let mut nodes: Vec<_> = (0..*COMMITTEES.end() as u32).map(node).collect();
    nodes.sort_by_key(SecretKey::address);
    let mut out = Columns::default();
    out.one("chain_id", CHAIN_ID.to_string());
    out.one("contract", hex(&CONTRACT));
    out.one("epoch", EPOCH.to_string());
    out.one("from", T.to_string());
    out.one("t", T.to_string());
    out.one("digest", hex(&keccak256(b"one digest for all")));
    out.one("result", hex(&result()));
    out.one("context", hex(&context()));
    out.one("sensors_root", hex(&[0x51; 32]));
    out.one("off_chain_code", hex(&[0x52; 32]));
    out.one("conditions", hex(&[0x53; 32]));
    out.one("user_secrets", json!([hex(&[0x41; 32]), hex(&[0x42; 32])]));
    out.one("users", json!(users().map(|u| hex(&u)).to_vec()));
    for n in &nodes {
        out.row("node_secrets", hex(n.to_bytes().as_slice()));
        out.row("nodes", hex(&n.address()));
        out.row("node_public_keys", hex(&n.public_key()));
    }
    for n in COMMITTEES {
        committee(&mut out, &nodes[..n]);
    }
    Value::Object(out.0)
}

fn committee(out: &mut Columns, nodes: &[SecretKey]) {
    let mut deployment = [0; 28];
    deployment[..8].copy_from_slice(&CHAIN_ID.to_be_bytes());
    deployment[8..].copy_from_slice(&CONTRACT);
    let terms = terms_digest(nodes);
    let keys: Vec<_> = nodes.iter().map(SecretKey::public_key).collect();
    let key = musig::agreement_key(&keys, &deployment, &terms).expect("a usable key");
    out.row("n", nodes.len().to_string());
    out.row("terms_digest", hex(&terms));
    out.row("kx", hex(&key.aggregate_x));
    out.row("tweak", hex(&key.tweak));
    out.row("a", hex(&key.id));
    out.row("ay", hex(&key.y));
    let fixed = keccak256(b"one digest for all");
    let outcome = outcome_digest(&key.id, &deployment);
    out.row("outcome_digest", hex(&outcome));
    for (prefix, message) in [("", fixed), ("outcome_", outcome)] {
        let signature = sign(nodes, &key, message);
        let (rx, s) = signature.split_at(32);
        out.row(&format!("{prefix}rx"), hex(rx));
        out.row(&format!("{prefix}ry"), hex(&even_y(rx)));
        out.row(&format!("{prefix}s"), hex(s));
    }
}

/// All sign with nonces that follow from key and message alone: fit for vectors, and for nothing else.
fn sign(nodes: &[SecretKey], key: &musig::AgreementKey, message: [u8; 32]) -> [u8; 64] {
    let secrets: Vec<_> = nodes
        .iter()
        .map(|node| {
            let seed = keccak256(&[node.to_bytes().as_slice(), &message].concat());
            musig::SecretNonce::generate(node, key, b"vector", &Zeroizing::new(seed))
                .expect("member")
        })
        .collect();
    let public: Vec<_> = secrets.iter().map(musig::SecretNonce::public).collect();
    let session = musig::Session::new(key, &public, message).expect("a session");
    let partials: Vec<_> = secrets
        .into_iter()
        .zip(nodes)
        .map(|(nonce, node)| session.partial_sign(nonce, node).expect("signs"))
        .collect();
    let signature = session.aggregate(&partials).expect("n of n");
    assert!(musig::verify_bip340(&key.id, &message, &signature));
    signature
}

fn node(i: u32) -> SecretKey {
    let preimage = [&b"DIVERSITY vector node "[..], &i.to_be_bytes()].concat();
    SecretKey::from_bytes(&keccak256(&preimage)).expect("a secret key")
}

/// Ascending addresses of the two users.
fn users() -> [[u8; 20]; 2] {
    let mut users = [0x41, 0x42].map(|b| SecretKey::from_bytes(&[b; 32]).expect("a key").address());
    users.sort_unstable();
    users
}

/// The EIP-712 struct hash of wire-format §6, by hand: trust[j] = j mod 2.
fn terms_digest(nodes: &[SecretKey]) -> [u8; 32] {
    const TYPE: &[u8] = b"Terms(address[] users,address[] nodes,uint8[] trust,bytes32 sensorsRoot,bytes32 offChainCode,bytes32 conditions)";
    let words = |items: Vec<Vec<u8>>| {
        let padded = items.into_iter().flat_map(|item| {
            let mut word = vec![0; 32 - item.len()];
            word.extend(item);
            word
        });
        keccak256(&padded.collect::<Vec<u8>>())
    };
    let users = words(users().iter().map(|u| u.to_vec()).collect());
    let ids = words(nodes.iter().map(|n| n.address().to_vec()).collect());
    let trust = words((0..nodes.len()).map(|j| vec![(j % 2) as u8]).collect());
    let parts = [
        keccak256(TYPE),
        users,
        ids,
        trust,
        [0x51; 32],
        [0x52; 32],
        [0x53; 32],
    ];
    keccak256(&parts.concat())
}

/// `total_seconds` 100,000 and `trips` 42, packed.
fn result() -> Vec<u8> {
    [&100_000u64.to_be_bytes()[..], &42u32.to_be_bytes()].concat()
}

fn context() -> [u8; 32] {
    keccak256(b"context")
}

/// The outcome digest of wire-format §7, by hand: a value.
fn outcome_digest(a: &[u8; 32], deployment: &[u8; 28]) -> [u8; 32] {
    let domain = keccak256(&[&b"DIVERSITY\x01\x00\x25"[..], deployment].concat());
    let mut word = [0; 32];
    word[11] = 1;
    word[12..16].copy_from_slice(&EPOCH.to_be_bytes());
    word[16..24].copy_from_slice(&T.to_be_bytes());
    word[24..].copy_from_slice(&T.to_be_bytes());
    keccak256(&[&domain[..], a, &word, &context(), &result()].concat())
}

/// The even y of an x coordinate (BIP-340 `lift_x`).
fn even_y(x: &[u8]) -> [u8; 32] {
    let compressed = [&[2][..], x].concat();
    let point = PublicKey::from_slice(&compressed).expect("on the curve");
    *point
        .serialize_uncompressed()
        .last_chunk()
        .expect("65 bytes have 32")
}

/// Flat columns: one list a name, one item a committee.
#[derive(Default)]
struct Columns(Map<String, Value>);

impl Columns {
    fn one(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.into(), value.into());
    }
    fn row(&mut self, name: &str, value: impl Into<Value>) {
        let list = self.0.entry(name).or_insert_with(|| json!([]));
        list.as_array_mut().expect("a list").push(value.into());
    }
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|b| format!("{b:02x}"));
    std::iter::once("0x".to_string()).chain(digits).collect()
}
