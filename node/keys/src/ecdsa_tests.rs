use sha2::{Digest, Sha256};

use super::*;

fn key(n: u64) -> SecretKey {
    SecretKey::from_bytes(&keccak256(&n.to_be_bytes())).expect("a hash is in range")
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex"))
        .collect()
}

/// `n - s`: the other signature that plain ECDSA would accept.
fn malleate(signature: &[u8; 64]) -> [u8; 64] {
    let s = secp256k1::SecretKey::from_byte_array(*signature.last_chunk().expect("32")).expect("s");
    let mut out = *signature;
    out[32..].copy_from_slice(&s.negate().secret_bytes());
    out
}

fn one() -> SecretKey {
    let mut bytes = [0u8; 32];
    bytes[31] = 1;
    SecretKey::from_bytes(&bytes).expect("one")
}

#[test]
fn known_answers() {
    assert_eq!(
        one().address()[..],
        hex("7e5f4552091a69125d5dfcb7b8c2659029395bdf")
    );
    // The usual RFC 6979 vector for this curve: key 1, SHA-256 of the name of Bitcoin's author.
    let digest: [u8; 32] = Sha256::digest(b"Satoshi Nakamoto").into();
    assert_eq!(
        one().sign(&digest)[..],
        hex(
            "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8\
             2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5"
        )
    );
    assert_eq!(
        keccak256(b"")[..],
        hex("c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470")
    );
}

#[test]
fn signs_verifies_and_recovers() {
    for n in 0..200 {
        let key = key(n);
        let digest = keccak256(&key.address());
        let signature = key.sign(&digest);
        assert_eq!(
            signature,
            key.sign(&digest),
            "the same bytes, as often as it is asked"
        );
        assert!(signature[32..] <= HALF_ORDER[..]);
        assert!(verify(&key.public_key(), &digest, &signature));
        assert!(!verify(&key.public_key(), &keccak256(&digest), &signature));
        assert!(!key.verifying_key().verify(&digest, &[0; 64]));

        let long = key.sign_recoverable(&digest);
        assert_eq!(long[..64], signature);
        assert_eq!(recover(&digest, &long), Ok(key.address()));
        let odd = recovery_parity(&digest, &signature, &key.address()).expect("its own");
        assert_eq!(odd, long[64] == 28);
        let packed = eip2098(&signature, odd);
        assert_eq!(packed[32] >> 7, long[64] - 27);
        assert_eq!(
            recovery_parity(&digest, &signature, &[9; 20]),
            Err(KeyError::Unrecoverable)
        );
    }
}

#[test]
fn a_malleated_signature_is_refused_everywhere() {
    let key = key(1);
    let digest = keccak256(b"body");
    let high = malleate(&key.sign(&digest));
    assert!(!key.verifying_key().verify(&digest, &high));
    assert_eq!(
        recovery_parity(&digest, &high, &key.address()),
        Err(KeyError::SignatureRange)
    );
    let mut long = [27u8; 65];
    long[..64].copy_from_slice(&high);
    assert_eq!(recover(&digest, &long), Err(KeyError::SignatureRange));
}

#[test]
fn one_flipped_bit_never_verifies() {
    let key = key(2);
    let verifying = key.verifying_key();
    let digest = keccak256(b"body");
    let signature = key.sign(&digest);
    for bit in 0..512 {
        let mut bad = signature;
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(!verifying.verify(&digest, &bad));
    }
}

#[test]
fn out_of_range_input_is_refused_in_words() {
    assert_eq!(
        SecretKey::from_bytes(&[0; 32]).unwrap_err(),
        KeyError::SecretKey
    );
    assert_eq!(
        SecretKey::from_bytes(&[0xff; 32]).unwrap_err(),
        KeyError::SecretKey
    );
    assert_eq!(address_of(&[2; 33]).map(|_| ()), {
        // x = 0x0202..02 may or may not be on the curve; ask the library directly.
        PublicKey::from_slice(&[2; 33])
            .map(|_| ())
            .map_err(|_| KeyError::PublicKey)
    });
    assert_eq!(address_of(&[4; 33]), Err(KeyError::PublicKey));
    let digest = [1; 32];
    let mut signature = key(3).sign_recoverable(&digest);
    signature[64] = 29;
    assert_eq!(
        recover(&digest, &signature),
        Err(KeyError::RecoveryByte { v: 29 })
    );
    signature[64] = 27;
    signature[..32].fill(0xff);
    assert_eq!(recover(&digest, &signature), Err(KeyError::SignatureRange));
    signature[..64].fill(0);
    assert_eq!(recover(&digest, &signature), Err(KeyError::SignatureRange));
}

#[test]
fn a_debug_print_shows_no_secret() {
    let key = key(4);
    let secret: String = key.to_bytes().iter().map(|b| format!("{b:02x}")).collect();
    assert!(!format!("{key:?}").contains(&secret[..16]));
}

#[test]
fn generated_keys_differ() {
    let a = SecretKey::generate().expect("randomness");
    let b = SecretKey::generate().expect("randomness");
    assert_ne!(a.address(), b.address());
}
