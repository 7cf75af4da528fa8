use super::*;
use diversity_keys::SecretKey;
use diversity_keys::musig::{agreement_key, verify_bip340};
use diversity_proto::round::OutputKind;
use diversity_proto::{Address, Deployment, NodeId};

const DEPLOYMENT: Deployment = Deployment {
    chain_id: 31337,
    contract: Address([9; 20]),
};

fn signer(seed: u8) -> Signer {
    Signer::new(Arc::new(Keyring {
        protocol: SecretKey::from_bytes(&[seed; 32]).expect("key"),
        account: SecretKey::from_bytes(&[seed + 100; 32]).expect("key"),
        peer: Zeroizing::new([seed; 32]),
        seed: Zeroizing::new([seed; 32]),
        new: false,
    }))
}

fn committee(n: u8) -> (Vec<Signer>, AgreementId) {
    let mut signers: Vec<_> = (1..=n).map(signer).collect();
    let keys: Vec<_> = signers
        .iter()
        .map(|s| s.keys.protocol.public_key())
        .collect();
    let key = agreement_key(&keys, &DEPLOYMENT.bytes(), &[3; 32]).expect("key");
    for s in &mut signers {
        s.agreement(key.clone());
    }
    (signers, AgreementId(key.id))
}

#[test]
fn a_committee_signs_and_every_nonce_is_used_once() {
    let (mut signers, agreement) = committee(3);
    let session = Session {
        agreement,
        from: 0,
        t: 4,
        attempt: 0,
    };
    let digest = Digest([8; 32]);
    let nonces: Vec<_> = signers
        .iter_mut()
        .map(|s| s.nonce(session).expect("nonce"))
        .collect();
    let mut partials: Vec<_> = signers
        .iter_mut()
        .map(|s| s.partial(session, &nonces, &digest).expect("signed"))
        .collect();
    let key = signers[0].key(&agreement).expect("known").clone();
    let signature = aggregate(&key, &nonces, &partials, &digest).expect("good");
    assert!(verify_bip340(&agreement.0, &digest.0, &signature.0));
    assert_eq!(
        signers[1].partial(session, &nonces, &Digest([9; 32])),
        None,
        "the nonce is gone"
    );
    partials[0][31] ^= 1;
    partials[2][30] ^= 1;
    assert_eq!(
        aggregate(&key, &nonces, &partials, &digest),
        Err(vec![0, 2])
    );
}

#[test]
fn another_attempt_ends_the_one_before_whatever_its_number() {
    let (mut signers, agreement) = committee(2);
    let attempt = |attempt| Session {
        agreement,
        from: 0,
        t: 0,
        attempt,
    };
    let mut draw = |session| -> Vec<_> {
        let all = signers.iter_mut();
        all.map(|s| s.nonce(session).expect("nonce")).collect()
    };
    // Behind the last attempt the first one follows.
    let drawn: Vec<_> = [0, 1, u32::MAX, 0]
        .map(|n| (attempt(n), draw(attempt(n))))
        .to_vec();
    for (session, nonces) in &drawn[..3] {
        let signed = signers[0].partial(*session, nonces, &Digest::ZERO);
        assert_eq!(signed, None, "attempt {}", session.attempt);
    }
    let (session, nonces) = &drawn[3];
    assert!(
        signers[1]
            .partial(*session, nonces, &Digest::ZERO)
            .is_some()
    );
}

#[test]
fn a_commit_is_the_same_after_a_restart_and_differs_in_every_domain() {
    let computed = Computed {
        kind: OutputKind::Value,
        result: vec![1],
        detail_root: Digest::ZERO,
        state: Digest::ZERO,
        trace: Digest::ZERO,
        window_hash: Digest::ZERO,
    };
    let subject = Subject {
        deployment: DEPLOYMENT,
        config: Digest([1; 32]),
        t: 3,
    };
    let (blinding, commit) = signer(1).commit(&subject, &computed);
    assert_eq!(signer(1).commit(&subject, &computed), (blinding, commit));
    let key = signer(1).keys.protocol.verifying_key();
    assert!(key.verify(
        &commit.digest(&subject, &NodeId(key.address())).0,
        &commit.signature.0
    ));
    for other in [
        Subject { t: 4, ..subject },
        Subject {
            config: Digest([2; 32]),
            ..subject
        },
        Subject {
            deployment: Deployment {
                chain_id: 1,
                ..DEPLOYMENT
            },
            ..subject
        },
    ] {
        assert_ne!(signer(1).commit(&other, &computed).0, blinding);
    }
    assert_ne!(signer(2).commit(&subject, &computed).0, blinding);
}
