use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, PublicKey};
use sha2::{Digest, Sha256};

use super::*;

const DEPLOYMENT: [u8; 28] = [3; 28];
const TERMS: [u8; 32] = [5; 32];

fn keys(n: usize) -> Vec<SecretKey> {
    (0..n as u64)
        .map(|i| SecretKey::from_bytes(&keccak256(&i.to_be_bytes())).expect("in range"))
        .collect()
}

fn public(keys: &[SecretKey]) -> Vec<[u8; 33]> {
    keys.iter().map(SecretKey::public_key).collect()
}

fn agreement(keys: &[SecretKey]) -> AgreementKey {
    agreement_key(&public(keys), &DEPLOYMENT, &TERMS).expect("aggregates")
}

fn nonces(keys: &[SecretKey], key: &AgreementKey, attempt: u32) -> Vec<SecretNonce> {
    keys.iter()
        .map(|secret| {
            let randomness = Zeroizing::new(keccak256(
                &[&secret.address()[..], &attempt.to_be_bytes()].concat(),
            ));
            SecretNonce::generate(secret, key, &attempt.to_be_bytes(), &randomness).expect("member")
        })
        .collect()
}

fn session(key: &AgreementKey, nonces: &[SecretNonce], message: [u8; 32]) -> Session {
    let public: Vec<_> = nonces.iter().map(SecretNonce::public).collect();
    Session::new(key, &public, message).expect("session")
}

fn partials(session: &Session, nonces: Vec<SecretNonce>, keys: &[SecretKey]) -> Vec<[u8; 32]> {
    nonces
        .into_iter()
        .zip(keys)
        .map(|(nonce, key)| session.partial_sign(nonce, key).expect("signs"))
        .collect()
}

#[test]
fn every_committee_from_2_to_100_signs() {
    for n in (2..=13).chain([16, 31, 32, 33, 50, 64, 99, 100]) {
        let keys = keys(n);
        let key = agreement(&keys);
        let message = keccak256(&n.to_be_bytes());
        let nonces = nonces(&keys, &key, 0);
        let session = session(&key, &nonces, message);
        let partials = partials(&session, nonces, &keys);
        let signature = session.aggregate(&partials).expect("aggregates");
        assert!(verify_bip340(&key.id, &message, &signature), "n = {n}");
        assert!(!verify_bip340(&key.id, &keccak256(&message), &signature));
        assert!(!verify_bip340(&key.aggregate_x, &message, &signature));

        let y = nonce_y(&signature).expect("R is a point");
        assert_eq!(y[31] & 1, 0, "even");
        let mut point = vec![4];
        point.extend_from_slice(&signature[..32]);
        point.extend_from_slice(&y);
        PublicKey::from_slice(&point).expect("on the curve");
    }
}

#[test]
fn a_bad_partial_names_its_author() {
    let keys = keys(5);
    let key = agreement(&keys);
    let nonces = nonces(&keys, &key, 0);
    let session = session(&key, &nonces, [1; 32]);
    let good = partials(&session, nonces, &keys);
    for index in 0..5 {
        let mut bad = good.clone();
        bad[index][31] ^= 1;
        for (i, partial) in bad.iter().enumerate() {
            let expected = if i == index {
                Err(MusigError::BadPartial { index })
            } else {
                Ok(())
            };
            assert_eq!(session.verify_partial(i, partial), expected);
        }
        assert_eq!(
            session.aggregate(&bad),
            Err(MusigError::BadPartial { index })
        );
        bad[index] = [0xff; 32];
        assert_eq!(
            session.aggregate(&bad),
            Err(MusigError::BadPartial { index })
        );
    }
    // Two wrong ones that cancel out still add up to the valid signature, so nobody is blamed.
    let mut shifted = good.clone();
    let read = |bytes: &[u8; 32]| MaybeScalar::from_slice(bytes).expect("scalar");
    shifted[0] = (read(&good[0]) + Scalar::one()).serialize();
    shifted[1] = (read(&good[1]) - Scalar::one()).serialize();
    assert!(session.verify_partial(0, &shifted[0]).is_err());
    assert_eq!(session.aggregate(&shifted), session.aggregate(&good));
    assert!(matches!(
        session.verify_partial(5, &good[0]),
        Err(MusigError::Count { .. })
    ));
    assert!(matches!(
        session.aggregate(&good[1..]),
        Err(MusigError::Count {
            given: 4,
            members: 5
        })
    ));
}

#[test]
fn the_order_of_the_keys_does_not_change_the_agreement() {
    let mut list = public(&keys(7));
    let first = agreement_key(&list, &DEPLOYMENT, &TERMS).expect("aggregates");
    list.reverse();
    let second = agreement_key(&list, &DEPLOYMENT, &TERMS).expect("aggregates");
    assert_eq!((first.id, first.y), (second.id, second.y));
    assert_eq!(first.index_of(&list[0]), Some(6));
    assert_eq!(second.index_of(&list[0]), Some(0));
    for (deployment, terms) in [([4; 28], TERMS), (DEPLOYMENT, [6; 32])] {
        let other = agreement_key(&list, &deployment, &terms).expect("aggregates");
        assert_ne!(other.id, first.id);
        assert_eq!(other.aggregate_x, first.aggregate_x);
    }
}

/// BIP-327 `KeyAgg` written out once more with nothing but libsecp256k1 and SHA-256.
fn reference_aggregate(keys: &[[u8; 33]]) -> PublicKey {
    let tagged = |tag: &str, parts: &[&[u8]]| -> [u8; 32] {
        let tag = Sha256::digest(tag);
        let mut hash = Sha256::new().chain_update(tag).chain_update(tag);
        for part in parts {
            hash.update(part);
        }
        hash.finalize().into()
    };
    let mut sorted = keys.to_vec();
    sorted.sort_unstable();
    let list = tagged("KeyAgg list", &[&sorted.concat()]);
    let effective: Vec<PublicKey> = sorted
        .iter()
        .map(|bytes| {
            let point = PublicKey::from_slice(bytes).expect("point");
            if *bytes == sorted[1] {
                return point;
            }
            let coefficient = tagged("KeyAgg coefficient", &[&list, bytes]);
            let scalar = secp256k1::Scalar::from_be_bytes(coefficient).expect("below the order");
            point.mul_tweak(SECP256K1, &scalar).expect("not zero")
        })
        .collect();
    PublicKey::combine_keys(&effective.iter().collect::<Vec<_>>()).expect("not infinity")
}

#[test]
fn agrees_with_an_independent_key_aggregation() {
    for n in 2..=9 {
        let list = public(&keys(n));
        let reference = reference_aggregate(&list);
        let key = agreement_key(&list, &DEPLOYMENT, &TERMS).expect("aggregates");
        assert_eq!(key.aggregate_x, reference.x_only_public_key().0.serialize());
        let (tweaked, parity) = reference
            .x_only_public_key()
            .0
            .add_tweak(
                SECP256K1,
                &secp256k1::Scalar::from_be_bytes(key.tweak).expect("reduced"),
            )
            .expect("not infinity");
        assert_eq!(key.id, tweaked.serialize());
        assert_eq!(key.y[31] & 1, parity.to_u8());
    }
}

/// The contract's way to open the id: `ecrecover(-tweak*K.x, 27, K.x, K.x)` is the address of A (wire format §6).
#[test]
fn ecrecover_opens_the_commitment_to_the_terms() {
    for n in 2..=20 {
        let key = agreement(&keys(n));
        let scalar = |bytes| secp256k1::SecretKey::from_byte_array(bytes).expect("scalar");
        let z = scalar(key.tweak)
            .mul_tweak(&secp256k1::Scalar::from_be_bytes(key.aggregate_x).expect("below the order"))
            .expect("not zero")
            .negate();
        let mut compact = [0u8; 64];
        compact[..32].copy_from_slice(&key.aggregate_x);
        compact[32..].copy_from_slice(&key.aggregate_x);
        let signature =
            RecoverableSignature::from_compact(&compact, RecoveryId::Zero).expect("in range");
        let point = SECP256K1
            .recover_ecdsa(Message::from_digest(z.secret_bytes()), &signature)
            .expect("recovers");
        let uncompressed = point.serialize_uncompressed();
        assert_eq!(uncompressed[1..33], key.id);
        assert_eq!(uncompressed[33..], key.y);
    }
}

#[test]
fn nonces_differ_by_every_input_and_repeat_with_none() {
    let keys = keys(3);
    let key = agreement(&keys);
    let other = agreement_key(&public(&keys), &DEPLOYMENT, &[9; 32]).expect("aggregates");
    let make = |secret: &SecretKey, key: &AgreementKey, context: &[u8], seed: u8| {
        SecretNonce::generate(secret, key, context, &Zeroizing::new([seed; 32]))
            .expect("member")
            .public()
    };
    let all = [
        make(&keys[0], &key, b"1", 1),
        make(&keys[1], &key, b"1", 1),
        make(&keys[0], &other, b"1", 1),
        make(&keys[0], &key, b"2", 1),
        make(&keys[0], &key, b"1", 2),
    ];
    for (i, a) in all.iter().enumerate() {
        assert!(all[..i].iter().all(|b| a != b));
    }
    assert_eq!(all[0], make(&keys[0], &key, b"1", 1));
}

#[test]
fn a_nonce_of_another_attempt_agreement_or_node_is_refused() {
    let keys = keys(3);
    let key = agreement(&keys);
    let session = session(&key, &nonces(&keys, &key, 0), [1; 32]);
    let mut later = nonces(&keys, &key, 1).into_iter();
    let later = later.next().expect("three");
    assert_eq!(
        session.partial_sign(later, &keys[0]),
        Err(MusigError::ForeignNonce)
    );
    let mine = nonces(&keys, &key, 0).into_iter().next().expect("three");
    assert_eq!(
        session.partial_sign(mine, &keys[1]),
        Err(MusigError::ForeignNonce)
    );
    let stranger = SecretKey::from_bytes(&[9; 32]).expect("in range");
    let mine = nonces(&keys, &key, 0).into_iter().next().expect("three");
    assert_eq!(
        session.partial_sign(mine, &stranger),
        Err(MusigError::NotAMember)
    );
    assert_eq!(
        SecretNonce::generate(&stranger, &key, b"", &Zeroizing::new([0; 32])).unwrap_err(),
        MusigError::NotAMember
    );
}

#[test]
fn malformed_input_names_its_author() {
    let list = public(&keys(3));
    assert_eq!(
        aggregate_key(&[]).unwrap_err(),
        MusigError::Members { members: 0 }
    );
    assert_eq!(
        aggregate_key(&vec![list[0]; 257]).unwrap_err(),
        MusigError::Members { members: 257 }
    );
    assert_eq!(
        aggregate_key(&[list[0], list[1], list[0]]).unwrap_err(),
        MusigError::Duplicate { index: 2 }
    );
    assert_eq!(
        aggregate_key(&[list[0], [0; 33]]).unwrap_err(),
        MusigError::MemberKey { index: 1 }
    );
    let keys = keys(3);
    let key = agreement(&keys);
    let mut public: Vec<_> = nonces(&keys, &key, 0)
        .iter()
        .map(SecretNonce::public)
        .collect();
    public[2][0] = 9;
    assert_eq!(
        Session::new(&key, &public, [0; 32]).unwrap_err(),
        MusigError::Nonce { index: 2 }
    );
    public.pop();
    assert_eq!(
        Session::new(&key, &public, [0; 32]).unwrap_err(),
        MusigError::Count {
            given: 2,
            members: 3
        }
    );
    assert!(!verify_bip340(&[0xff; 32], &[0; 32], &[0; 64]));
    assert_eq!(nonce_y(&[0xff; 64]), None);
}
