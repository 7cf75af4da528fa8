//! Signatures of users, and drafts that cannot be tampered with.

use diversity_client::api::{
    NodeAcceptance, NodeBinding, ResolveRequest, ResolvedKind, UserSignature,
};
use diversity_client::draft::{Draft, DraftError};
use diversity_client::hexed::{Bytes, WalletSignature};
use diversity_client::sign::{SignError, Signer};
use diversity_client::terms_json::{
    FieldJson, LeaderJson, ProtocolJson, QosJson, SensorStartJson, TermsJson, TrustedNodeJson,
    WindowJson,
};
use diversity_keys::SecretKey;
use diversity_keys::keystore::{self, Cost};
use diversity_proto::entity::{
    NodeDeclaration, Period, SensorDeclaration, node_registration_digest,
    sensor_registration_digest,
};
use diversity_proto::round::OutputKind;
use diversity_proto::terms::{
    acceptance_digest, node_owner_digest, resolution_digest, resolution_struct,
    sensor_owner_digest, sensors_owner_digest, user_digest,
};
use diversity_proto::{
    Address, AgreementId, Deployment, Digest, NodeId, PublicKey, SensorId, UserId,
};

fn deployment() -> Deployment {
    Deployment {
        chain_id: 31_337,
        contract: Address([0xd1; 20]),
    }
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32]).unwrap()
}

fn signer(seed: u8) -> Signer {
    Signer::new(key(seed), deployment())
}

fn keys_by_address(seeds: &[u8]) -> Vec<SecretKey> {
    let mut keys: Vec<_> = seeds.iter().map(|s| key(*s)).collect();
    keys.sort_by_key(SecretKey::address);
    keys
}

fn draft() -> (Draft, Vec<SecretKey>, Vec<SecretKey>) {
    let users = keys_by_address(&[0x41, 0x42]);
    let nodes = keys_by_address(&[0x21, 0x22, 0x23]);
    let field = |name: &str, ty: &str| FieldJson {
        name: name.into(),
        ty: ty.into(),
    };
    let terms = TermsJson {
        title: "Bike locks".into(),
        users: users.iter().map(|u| UserId(u.address())).collect(),
        nodes: (0..3)
            .map(|i| TrustedNodeJson {
                node: NodeId(nodes[i].address()),
                trusted_by: UserId(users[i % 2].address()),
            })
            .collect(),
        sensors: vec![SensorStartJson {
            sensor: SensorId([7; 20]),
            q0: 0,
        }],
        off_chain_code: Digest([0xc0; 32]),
        window: WindowJson::Month {
            start: 1_443_657_600,
        },
        future_tolerance_s: 300,
        grace_s: 86_400,
        protocol: ProtocolJson::Fast,
        leader: LeaderJson::Rotating,
        flush_ms: 20,
        round_timeout_ms: 2_000,
        round_timeout_max_ms: 60_000,
        batch: 1,
        qos: QosJson::OffChain,
        result: vec![field("total_seconds", "uint64"), field("trips", "uint32")],
        detail: vec![field("seconds", "uint64"), field("trips", "uint32")],
        abstain_ms: 60_000,
    };
    let keys = nodes.iter().map(|n| PublicKey(n.public_key())).collect();
    let draft = Draft::new(deployment(), terms, keys).unwrap();
    (draft, users, nodes)
}

fn acceptance(draft: &Draft, node: &SecretKey) -> NodeAcceptance {
    let terms = draft.check().unwrap().terms_digest;
    let id = NodeId(node.address());
    let digest = acceptance_digest(&deployment(), &draft.agreement, &terms, &id);
    NodeAcceptance {
        node: id,
        signature: WalletSignature(node.sign_recoverable(&digest.0)),
    }
}

#[test]
fn a_draft_collects_signatures_and_acceptances_until_it_is_complete() {
    let (mut draft, users, nodes) = draft();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("draft.json");
    for user in &users {
        let missing = draft.complete().unwrap_err();
        assert!(matches!(missing, DraftError::Incomplete(_)), "{missing}");
        let secret = SecretKey::from_bytes(&user.to_bytes()).unwrap();
        let signer = Signer::new(secret, deployment());
        draft.sign(&signer).unwrap();
        draft.sign(&signer).unwrap();
        draft.write(&path).unwrap();
        draft = Draft::read(&path).unwrap();
    }
    assert_eq!(draft.signatures.len(), 2);
    let missing = draft.missing().unwrap();
    assert_eq!((missing.signatures.len(), missing.grants.len()), (0, 0));
    assert_eq!(missing.acceptances.len(), nodes.len(), "of every node");
    for node in &nodes {
        let words = draft.complete().unwrap_err().to_string();
        assert!(words.contains("has not accepted"), "{words}");
        draft.accept(acceptance(&draft, node)).unwrap();
    }
    let complete = draft.complete().unwrap();
    assert_eq!(complete.agreement, draft.agreement);
    assert_eq!(complete.acceptances.len(), nodes.len());
}

#[test]
fn owners_of_sensors_who_are_no_users_grant_a_draft() {
    let (mut draft, users, nodes) = draft();
    let of = |key: &SecretKey| {
        Signer::new(
            SecretKey::from_bytes(&key.to_bytes()).unwrap(),
            deployment(),
        )
    };
    for user in &users {
        draft.sign(&of(user)).unwrap();
    }
    for node in &nodes {
        draft.accept(acceptance(&draft, node)).unwrap();
    }
    let owner = Signer::new(SecretKey::from_bytes(&[0x77; 32]).unwrap(), deployment());
    let user = of(&users[0]);
    assert!(matches!(
        draft.grant(&owner),
        Err(DraftError::NotAnOwner(_))
    ));
    draft.name_owners([owner.id(), user.id(), owner.id()]);
    assert_eq!(draft.owners, [owner.id()], "a user grants by signing");
    let words = draft.complete().unwrap_err().to_string();
    assert!(words.contains(&owner.id().hex()), "{words}");
    assert!(matches!(draft.grant(&user), Err(DraftError::NotAnOwner(_))));

    draft.grant(&owner).unwrap();
    draft.grant(&owner).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("draft.json");
    draft.write(&path).unwrap();
    let read = Draft::read(&path).unwrap();
    assert_eq!(read, draft);
    draft.complete().unwrap();
    assert_eq!(draft.accept_request().grants, draft.grants);
    // A grant is over these terms, by the owner that it names.
    let mut forged = read.clone();
    forged.grants[0].user = user.id();
    assert!(matches!(forged.check(), Err(DraftError::BadSignature(_))));
}

#[test]
fn a_draft_with_a_foreign_key_or_changed_terms_is_neither_signed_nor_read() {
    let (good, users, nodes) = draft();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("draft.json");
    let secret = SecretKey::from_bytes(&users[0].to_bytes()).unwrap();
    let user = Signer::new(secret, deployment());
    let refused = |draft: &Draft| {
        let mut signed = draft.clone();
        let error = signed.sign(&user).unwrap_err();
        assert_eq!(&signed, draft, "nothing was signed");
        draft.write(&path).unwrap();
        assert!(Draft::read(&path).is_err());
        error
    };

    let mut forged = good.clone();
    forged.agreement = AgreementId([9; 32]);
    assert!(matches!(refused(&forged), DraftError::WrongId { .. }));

    let mut changed = good.clone();
    changed.terms.batch = 2;
    assert!(matches!(refused(&changed), DraftError::WrongId { .. }));

    let mut key_of_another = good.clone();
    key_of_another.keys[1] = PublicKey(key(0x66).public_key());
    assert!(matches!(
        refused(&key_of_another),
        DraftError::Key { index: 1 }
    ));

    let mut one_key_more = good.clone();
    one_key_more.keys.push(PublicKey(key(0x66).public_key()));
    assert!(matches!(
        refused(&one_key_more),
        DraftError::Key { index: 3 }
    ));

    let mut stranger = good.clone();
    stranger.terms.nodes[0].trusted_by = UserId([1; 20]);
    assert!(matches!(refused(&stranger), DraftError::Terms(_)));

    for name in ["t", "window_hash", "trips"] {
        let mut reserved = good.clone();
        reserved.terms.result[0].name = name.into();
        assert!(
            matches!(refused(&reserved), DraftError::FieldName { .. }),
            "{name}"
        );
    }

    let mut version = good.clone();
    version.version = 1;
    assert!(matches!(
        refused(&version),
        DraftError::Version { found: 1 }
    ));
    // A draft of version 1 lacks terms: it is its version that is told.
    let mut old = serde_json::to_value(&good).unwrap();
    old["version"] = 1.into();
    old["terms"].as_object_mut().unwrap().remove("grace_s");
    std::fs::write(&path, old.to_string()).unwrap();
    let error = Draft::read(&path).unwrap_err();
    assert!(matches!(error, DraftError::Version { found: 1 }), "{error}");

    // Signatures of others, and over other terms.
    let mut other = good.clone();
    other.terms.title = "Something else".into();
    let other = Draft::new(deployment(), other.terms, other.keys).unwrap();
    let elsewhere = user.agreement(&other.agreement, &other.check().unwrap().terms_digest);
    let mut wrong = good.clone();
    wrong.signatures.push(elsewhere);
    assert!(matches!(refused(&wrong), DraftError::BadSignature(_)));
    let mut wrong = good.clone();
    let terms = good.check().unwrap().terms_digest;
    let stranger = signer(0x66).agreement(&good.agreement, &terms);
    wrong.signatures.push(stranger);
    assert!(matches!(refused(&wrong), DraftError::NotAUser(_)));
    wrong.signatures[0] = UserSignature {
        user: user.id(),
        ..stranger
    };
    assert!(matches!(refused(&wrong), DraftError::BadSignature(_)));

    let mut draft = good.clone();
    let not_a_user = draft.sign(&signer(0x66)).unwrap_err();
    assert!(matches!(not_a_user, DraftError::NotAUser(_)));
    let elsewhere = Deployment {
        chain_id: 1,
        ..deployment()
    };
    let other_chain = Signer::new(
        SecretKey::from_bytes(&users[0].to_bytes()).unwrap(),
        elsewhere,
    );
    assert!(matches!(
        draft.sign(&other_chain),
        Err(DraftError::Deployment)
    ));
    let of_other_terms = acceptance(&other, &nodes[0]);
    assert!(matches!(
        draft.accept(of_other_terms),
        Err(DraftError::BadSignature(_))
    ));
    let stranger = acceptance(&good, &key(0x66));
    assert!(matches!(
        draft.accept(stranger),
        Err(DraftError::NotANode(_))
    ));
}

#[test]
fn users_and_sensors_sign_what_the_contract_checks() {
    let d = deployment();
    let owner = signer(0x41);
    let user = owner.user("Operator");
    assert_eq!(
        user.signature
            .signer(&user_digest(&d, &user.user, "Operator")),
        Ok(user.user.address())
    );

    let keys: Vec<_> = (1..=3).map(key).collect();
    let declarations: Vec<_> = keys
        .iter()
        .map(|k| SensorDeclaration {
            public_key: PublicKey(k.public_key()),
            sensor_type: "bike-lock".into(),
            label: "1".into(),
            variables: Vec::new(),
            period: Period::Month,
        })
        .collect();
    let pairs: Vec<_> = declarations.iter().zip(&keys).collect();
    let one = owner.sensors(&pairs[..1], 1).unwrap();
    let id = SensorId(keys[0].address());
    let digest = sensor_owner_digest(&d, &id, &user.user, &declarations[0].digest(), 1);
    assert_eq!(one.owner_signature.signer(&digest), Ok(user.user.address()));
    let all = owner.sensors(&pairs, 2).unwrap();
    let list: Vec<_> = pairs
        .iter()
        .map(|(d, k)| (SensorId(k.address()), d.digest()))
        .collect();
    let digest = sensors_owner_digest(&d, &user.user, &list, 2);
    assert_eq!(all.owner_signature.signer(&digest), Ok(user.user.address()));
    for (entry, (sensor, declaration)) in all.sensors.iter().zip(&list) {
        let digest = sensor_registration_digest(&d, &user.user, sensor, declaration);
        assert_eq!(entry.signature.signer(&digest), Ok(sensor.address()));
    }
    let foreign = owner.sensors(&[(&declarations[0], &keys[1])], 1);
    assert!(matches!(foreign, Err(SignError::ForeignKey(_))));
}

#[test]
fn a_node_is_registered_only_with_its_consent_to_this_owner() {
    let d = deployment();
    let (owner, node) = (signer(0x41), key(0x21));
    let declaration = NodeDeclaration {
        public_key: PublicKey(node.public_key()),
        account: Address([1; 20]),
        peer_key: [2; 32],
        peer_proof: [3; 64],
        name: "node1".into(),
        addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
        revision: 0,
    };
    let id = NodeId(node.address());
    let digest = node_registration_digest(&d, &owner.id(), &id, &declaration.digest());
    let binding = NodeBinding {
        node: id,
        owner: owner.id(),
        declaration: Bytes(declaration.encode()),
        signature: WalletSignature(node.sign_recoverable(&digest.0)),
    };
    let registration = owner.node(binding.clone(), 4).unwrap();
    let digest = node_owner_digest(&d, &id, &owner.id(), &declaration.digest(), 4);
    assert_eq!(
        registration.owner_signature.signer(&digest),
        Ok(owner.id().address())
    );
    // The JSON is flat: the node's answer with one field more.
    let json = serde_json::to_value(&registration).unwrap();
    assert!(json["declaration"].is_string() && json["owner_signature"].is_string());

    let to_another = signer(0x42).node(binding.clone(), 1);
    assert!(matches!(to_another, Err(SignError::Binding)));
    let mut other_id = binding.clone();
    other_id.node = NodeId([3; 20]);
    assert!(matches!(owner.node(other_id, 1), Err(SignError::Binding)));
    let mut changed = binding.clone();
    changed.declaration = Bytes(
        NodeDeclaration {
            revision: 1,
            ..declaration
        }
        .encode(),
    );
    assert!(matches!(owner.node(changed, 1), Err(SignError::Binding)));
    let mut malformed = binding;
    malformed.declaration.0.pop();
    assert!(matches!(
        owner.node(malformed, 1),
        Err(SignError::Declaration(_))
    ));
}

#[test]
fn a_resolution_is_signed_by_kind_result_and_state() {
    let d = deployment();
    let a = AgreementId([7; 32]);
    let mut request = ResolveRequest {
        t: 5,
        kind: ResolvedKind::Value,
        result: Bytes(vec![1, 2]),
        carry: Bytes(b"carry".to_vec()),
        q_next: vec![3, 4],
        signatures: Vec::new(),
    };
    let users = [signer(0x42), signer(0x41)];
    for user in &users {
        user.add_to_resolution(&a, &mut request).unwrap();
        user.add_to_resolution(&a, &mut request).unwrap();
    }
    assert_eq!(request.signatures.len(), 2);
    let state = diversity_proto::window::state(b"carry", &[3, 4]);
    let signed = resolution_struct(&a, 5, OutputKind::Value, &[1, 2], &state);
    let digest = resolution_digest(&d, &signed);
    for s in &request.signatures {
        assert_eq!(s.signature.signer(&digest), Ok(s.user.address()));
    }
    request.kind = "abstain".into();
    let refused = users[0].add_to_resolution(&a, &mut request);
    assert!(matches!(refused, Err(SignError::Kind(_))));
}

#[test]
fn keys_come_from_keystores() {
    let folder = tempfile::tempdir().unwrap();
    let (path, password) = (
        folder.path().join("key.json"),
        folder.path().join("password"),
    );
    let secret = key(0x41);
    let address = secret.address();
    keystore::write(
        &path,
        &secret.to_bytes(),
        Some(&address),
        b"secret",
        Cost::Light,
    )
    .unwrap();
    write_private(&password, "secret\n");
    let signer = Signer::from_keystore(&path, &password, deployment()).unwrap();
    assert_eq!(signer.id().0, address);
    write_private(&password, "wrong");
    let wrong = Signer::from_keystore(&path, &password, deployment()).unwrap_err();
    assert!(wrong.to_string().contains("password is wrong"), "{wrong}");
    let missing = Signer::from_keystore(&path, folder.path(), deployment()).unwrap_err();
    assert!(matches!(missing, SignError::Password(_)));
}

#[test]
fn terms_read_and_write_the_same() {
    let (draft, ..) = draft();
    let terms = diversity_proto::terms::Terms::try_from(&draft.terms).unwrap();
    assert_eq!(TermsJson::from(&terms), draft.terms);
    let text = serde_json::to_string(&draft.terms).unwrap();
    assert_eq!(
        serde_json::from_str::<TermsJson>(&text).unwrap(),
        draft.terms
    );
    let with_more = text.replacen('{', "{\"refund\":1,", 1);
    assert!(
        serde_json::from_str::<TermsJson>(&with_more).is_err(),
        "an unknown term"
    );
    let mut too_long = draft.terms.clone();
    too_long.title = "x".repeat(129);
    assert!(diversity_proto::terms::Terms::try_from(&too_long).is_err());
}

/// A file that only its owner reads, as secrets have to be.
fn write_private(path: impl AsRef<std::path::Path>, content: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(&path, content).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("ours");
}
