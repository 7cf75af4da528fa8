//! The peer key of a node's transport (ed25519). It signs one thing here: whose connections it carries.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

/// The public key of a secret one.
pub fn peer_public(secret: &[u8; 32]) -> [u8; 32] {
    SigningKey::from_bytes(secret).verifying_key().to_bytes()
}

/// Signs a digest.
pub fn peer_sign(secret: &[u8; 32], digest: &[u8; 32]) -> [u8; 64] {
    SigningKey::from_bytes(secret).sign(digest).to_bytes()
}

/// Whether the peer key signed the digest. Strict (RFC 8032, and no key of small order, under which one signature would
/// serve for every digest), so that all readers agree.
pub fn peer_verify(public: &[u8; 32], digest: &[u8; 32], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(public).is_ok_and(|key| {
        key.verify_strict(digest, &Signature::from_bytes(signature))
            .is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_key_signs_for_itself_alone() {
        let (one, other) = ([1; 32], [2; 32]);
        let signature = peer_sign(&one, &[7; 32]);
        assert!(peer_verify(&peer_public(&one), &[7; 32], &signature));
        assert!(!peer_verify(&peer_public(&one), &[8; 32], &signature));
        assert!(!peer_verify(&peer_public(&other), &[7; 32], &signature));
        let mut flipped = signature;
        flipped[0] ^= 1;
        assert!(!peer_verify(&peer_public(&one), &[7; 32], &flipped));
    }

    /// RFC 8032, §7.1, test 1: the key is that of everybody.
    #[test]
    fn the_public_key_is_that_of_the_standard() {
        let secret = *b"\x9d\x61\xb1\x9d\xef\xfd\x5a\x60\xba\x84\x4a\xf4\x92\xec\x2c\xc4\x44\x49\xc5\x69\x7b\x32\x69\x19\x70\x3b\xac\x03\x1c\xae\x7f\x60";
        let public = *b"\xd7\x5a\x98\x01\x82\xb1\x0a\xb7\xd5\x4b\xfe\xd3\xc9\x64\x07\x3a\x0e\xe1\x72\xf3\xda\xa6\x23\x25\xaf\x02\x1a\x68\xf7\x07\x51\x1a";
        assert_eq!(peer_public(&secret), public);
    }

    /// A key of small order would prove whatever it is asked to.
    #[test]
    fn a_key_of_small_order_proves_nothing() {
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(!peer_verify(&identity, &[7; 32], &signature));
    }
}
