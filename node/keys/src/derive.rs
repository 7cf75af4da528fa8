//! The secret and the salt of a commit.

use hkdf::Hkdf;
use sha2::Sha256;

/// Ties the extraction to this use of the seed.
const EXTRACT_SALT: &[u8] = b"DIVERSITY/1/commit";
/// Labels of equal length, so that label and domain can never run into one another.
const SECRET_LABEL: &[u8; 8] = b"secret/1";
const SALT_LABEL: &[u8; 8] = b"salt  /1";

/// The `(secret, salt)` that a node commits to in one domain: HKDF-SHA256 (RFC 5869) of a `seed` of its own, with the
/// whole `domain` (deployment, config, agreement, t, node) as input and a distinct label each. Derived and not drawn, so
/// that a node that restarts in the middle of a round cannot commit twice (design rule R2).
///
/// The seed must be used for nothing else, and lies in a keystore file of its own.
pub fn derive_secret_salt(seed: &[u8; 32], domain: &[u8]) -> ([u8; 32], [u8; 32]) {
    let key = Hkdf::<Sha256>::new(Some(EXTRACT_SALT), seed);
    (
        expand(&key, SECRET_LABEL, domain),
        expand(&key, SALT_LABEL, domain),
    )
}

fn expand(key: &Hkdf<Sha256>, label: &[u8], domain: &[u8]) -> [u8; 32] {
    let mut out = [0u8; 32];
    key.expand_multi_info(&[label, domain], &mut out)
        .expect("32 bytes are one block of HKDF-SHA256, which gives up to 255");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use hmac::{Hmac, Mac};
    use std::collections::HashSet;

    fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    #[test]
    fn follows_rfc_5869() {
        let seed = [7u8; 32];
        let prk = hmac(EXTRACT_SALT, &[&seed]);
        let (secret, salt) = derive_secret_salt(&seed, b"domain");
        assert_eq!(secret, hmac(&prk, &[b"secret/1", b"domain", &[1]]));
        assert_eq!(salt, hmac(&prk, &[b"salt  /1", b"domain", &[1]]));
    }

    #[test]
    fn every_seed_domain_and_label_gives_another_value() {
        let mut seen = HashSet::new();
        for seed in 0..20u8 {
            for t in 0..50u64 {
                let (secret, salt) = derive_secret_salt(&[seed; 32], &t.to_be_bytes());
                assert!(seen.insert(secret) && seen.insert(salt));
                assert_eq!(
                    (secret, salt),
                    derive_secret_salt(&[seed; 32], &t.to_be_bytes())
                );
            }
        }
    }
}
