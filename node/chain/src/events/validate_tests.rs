use super::super::tests::{D, log, only, refused};
use super::super::{C, ChainEvent, topic};
use super::*;
use alloy::sol_types::{SolCall, SolEvent};
use diversity_keys::{SecretKey, peer_public, peer_sign};
use diversity_proto::codec::Writer;
use diversity_proto::entity::Period;
use diversity_proto::frame::{Frame, Message, Variable, VariableType, write_body};
use diversity_proto::{Digest, Signature};

fn secret(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32]).unwrap()
}

fn indexed(id: [u8; 20]) -> Digest {
    let mut word = [0; 32];
    word[12..].copy_from_slice(&id);
    Digest(word)
}

/// What is registered under an id, as the contract logs it: it looks into no declaration.
fn registered(event: alloy::primitives::B256, id: [u8; 20], declaration: Vec<u8>) -> ChainEvent {
    let topics = vec![topic(event), indexed(id), indexed([9; 20])];
    only(&[log(topics, declaration, 0)])
}

fn sensor_of(key: &SecretKey) -> SensorDeclaration {
    SensorDeclaration {
        public_key: PublicKey(key.public_key()),
        sensor_type: "bike-lock".into(),
        label: "BIK0042 \u{fc}".into(),
        variables: vec![Variable {
            name: "locked".into(),
            ty: VariableType::Bool,
        }],
        period: Period::Month,
    }
}

fn node_of(key: &SecretKey, peer: [u8; 32], addresses: &[&str]) -> NodeDeclaration {
    let (public_key, account) = (PublicKey(key.public_key()), Address([3; 20]));
    let digest = peer_binding_digest(&D, &NodeId(key.address()), &public_key, &account);
    NodeDeclaration {
        public_key,
        account,
        peer_key: peer_public(&peer),
        peer_proof: peer_sign(&peer, &digest.0),
        name: "operator-1".into(),
        addresses: addresses.iter().map(|a| (*a).into()).collect(),
        revision: 0,
    }
}

fn sensor_event(key: &SecretKey, change: impl FnOnce(&mut SensorDeclaration)) -> ChainEvent {
    let mut declaration = sensor_of(key);
    change(&mut declaration);
    let event = C::SensorRegistered::SIGNATURE_HASH;
    registered(event, key.address(), declaration.encode())
}

fn node_event(change: impl FnOnce(&mut NodeDeclaration)) -> ChainEvent {
    let key = secret(2);
    let mut declaration = node_of(&key, [7; 32], &["/ip4/127.0.0.1/tcp/7440"]);
    change(&mut declaration);
    let event = C::NodeRegistered::SIGNATURE_HASH;
    registered(event, key.address(), declaration.encode())
}

#[test]
fn what_is_good_is_believed() {
    let sensor = sensor_event(&secret(1), |_| {});
    assert!(
        matches!(sensor, ChainEvent::SensorRegistered { .. }),
        "{sensor:?}"
    );
    let node = node_event(|_| {});
    assert!(
        matches!(node, ChainEvent::NodeRegistered { .. }),
        "{node:?}"
    );
}

/// A sensor that signs with one key and is registered with another could contradict itself for ever.
#[test]
fn a_key_that_is_not_of_the_id_is_skipped() {
    let other = PublicKey(secret(5).public_key());
    let sensor = sensor_event(&secret(1), |d| d.public_key = other);
    assert_eq!(refused(&sensor), Some(Refusal::ForeignKey));
    let no_point = sensor_event(&secret(1), |d| d.public_key = PublicKey([2; 33]));
    assert_eq!(refused(&no_point), Some(Refusal::ForeignKey));
    let node = node_event(|d| d.public_key = other);
    assert_eq!(refused(&node), Some(Refusal::ForeignKey));
}

#[test]
fn a_peer_key_proves_itself_for_this_node_key_account_and_chain() {
    let unproven = Some(Refusal::PeerKeyUnproven);
    let victim = node_of(&secret(8), [6; 32], &[]);
    // The key of another node, with and without its proof for that node.
    assert_eq!(
        refused(&node_event(|d| d.peer_key = victim.peer_key)),
        unproven
    );
    let copied = node_event(|d| {
        (d.peer_key, d.peer_proof) = (victim.peer_key, victim.peer_proof);
    });
    assert_eq!(refused(&copied), unproven);
    assert_eq!(
        refused(&node_event(|d| d.account = Address([4; 20]))),
        unproven
    );
    assert_eq!(refused(&node_event(|d| d.peer_key = [0xff; 32])), unproven);
    let elsewhere = node_event(|d| {
        let other = Deployment { chain_id: 1, ..D };
        let node = NodeId(secret(2).address());
        let digest = peer_binding_digest(&other, &node, &d.public_key, &d.account);
        d.peer_proof = peer_sign(&[7; 32], &digest.0);
    });
    assert_eq!(refused(&elsewhere), unproven);
}

#[test]
fn addresses_at_which_nobody_can_be_dialled_are_skipped() {
    for bad in [
        "not an address",
        "",
        "/ip4/127.0.0.9/udp/7440/quic-v1",
        "node-c.example:7440",
        "/ip4/127.0.0.1/tcp/7440/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN",
        "/ip4/127.0.0.1/tcp/0",
        "/ip4/127.0.0.1/tcp/+1",
        "/ip4/127.0.0.1/tcp/65536",
        "/ip4/127.0.0.256/tcp/1",
        "/ip4/127.0.0.1/tcp/1/",
        "/ip6/::g/tcp/1",
        "/dns4//tcp/1",
        "/dns4/a..b/tcp/1",
        "/dns4/a b/tcp/1",
        "/unix/tmp",
        "ip4/127.0.0.1/tcp/1",
    ] {
        let event = node_event(|d| d.addresses.push(bad.into()));
        assert_eq!(refused(&event), Some(Refusal::Undialable), "{bad}");
    }
    let good = [
        "/ip4/0.0.0.0/tcp/7440",
        "/ip6/::1/tcp/1",
        "/ip6/2001:db8::7/tcp/65535",
        "/dns/node/tcp/1",
        "/dns4/node.example.org/tcp/7440",
        "/dns6/a-b_c.example/tcp/7440",
    ];
    let event = node_event(|d| d.addresses = good.map(String::from).to_vec());
    assert!(
        matches!(event, ChainEvent::NodeRegistered { .. }),
        "{event:?}"
    );
}

#[test]
fn names_that_would_write_over_a_terminal_are_skipped() {
    let unprintable = Some(Refusal::Unprintable);
    assert_eq!(
        refused(&node_event(|d| d.name = "a\u{1b}[2J".into())),
        unprintable
    );
    let label = sensor_event(&secret(1), |d| d.label = "a\nb".into());
    assert_eq!(refused(&label), unprintable);
    let turned = sensor_event(&secret(1), |d| d.label = "a\u{202e}b".into());
    assert_eq!(refused(&turned), unprintable);
    let variable = sensor_event(&secret(1), |d| d.variables[0].name = "\u{7f}".into());
    assert_eq!(refused(&variable), unprintable);
    let topics = vec![topic(C::UserRegistered::SIGNATURE_HASH)];
    let user = only(&[log(topics, [&[1; 20][..], b"a\rb"].concat(), 0)]);
    assert_eq!(refused(&user), unprintable);
}

/// Words may quote what a stranger wrote: they are escaped and cut.
#[test]
fn words_are_short_and_have_no_control_characters() {
    let skipped = Refusal::Malformed.because("a\u{1b}\n".repeat(1_000));
    assert!(skipped.words.len() <= WORDS_BYTES_MAX);
    assert!(is_printable(&skipped.words), "{}", skipped.words);
    assert!(skipped.words.starts_with("a\\u{1b}\\na"));
}

#[test]
fn a_declaration_is_measured_before_it_is_decoded() {
    let event = C::SensorRegistered::SIGNATURE_HASH;
    let long = registered(event, [1; 20], vec![1; DECLARATION_BYTES_MAX + 1]);
    assert_eq!(refused(&long), Some(Refusal::OutOfBounds));
    let cut = registered(event, [1; 20], vec![1; 7]);
    assert_eq!(refused(&cut), Some(Refusal::Malformed));
}

fn frame(key: &SecretKey, value: u8) -> Vec<u8> {
    let mut body = Writer::new();
    let values = &[value][..];
    write_body(
        &mut body,
        [Message {
            time: 1_000,
            values,
        }],
    );
    Frame {
        sensor: SensorId(key.address()),
        epoch: 0,
        first_q: 4,
        count: 1,
        lost: 0,
        width: 1,
        opening: None,
        body: body.finish(),
        signature: Signature([1; 64]),
    }
    .encode()
}

#[test]
fn evidence_shows_what_its_record_says() {
    let (sensor, other) = (secret(1), secret(2));
    let call = |first: Vec<u8>, second: Vec<u8>| {
        C::reportSensorContradictionCall {
            q: 4,
            first: first.into(),
            second: second.into(),
            parities: 0,
        }
        .abi_encode()
    };
    let kind = DisputeKind::SensorContradiction;
    let judge = |accused: &SecretKey, at, evidence: &[u8]| {
        let accused = Some(Address(accused.address()));
        dispute(kind, None, accused, 0, at, evidence).map_err(|s| s.refusal)
    };
    let good = call(frame(&sensor, 1), frame(&sensor, 2));
    assert_eq!(judge(&sensor, 4, &good), Ok(()));
    assert_eq!(judge(&other, 4, &good), Err(Refusal::Evidence));
    assert_eq!(judge(&sensor, 5, &good), Err(Refusal::Evidence));
    assert_eq!(judge(&sensor, Q_MAX, &good), Err(Refusal::OutOfBounds));
    let equal = call(frame(&sensor, 1), frame(&sensor, 1));
    assert_eq!(judge(&sensor, 4, &equal), Err(Refusal::Evidence));
    assert_eq!(judge(&sensor, 4, &[1, 2, 3, 4]), Err(Refusal::Evidence));
    let long = vec![0; EVIDENCE_BYTES_MAX + 1];
    assert_eq!(judge(&sensor, 4, &long), Err(Refusal::OutOfBounds));
    let of_another_kind = dispute(DisputeKind::Equivocation, None, None, 0, 4, &good);
    assert_eq!(
        of_another_kind.map_err(|s| s.refusal),
        Err(Refusal::Evidence)
    );
    // The absurd t of an equivocation, which once ended every node.
    let far = dispute(DisputeKind::Equivocation, None, None, 0, 1 << 62, &good);
    assert_eq!(far.map_err(|s| s.refusal), Err(Refusal::OutOfBounds));
}

#[test]
fn every_refusal_is_read_back_by_its_number_and_has_a_name_of_its_own() {
    for refusal in Refusal::ALL {
        assert_eq!(Refusal::from_code(refusal as u8), Some(refusal));
        let same = Refusal::ALL
            .iter()
            .filter(|r| r.as_str() == refusal.as_str());
        assert_eq!(same.count(), 1);
    }
    assert_eq!(Refusal::from_code(0), None);
}
