//! ECDSA over secp256k1: 64-byte `r || s`, RFC 6979 nonces, low `s` only (`docs/wire-format.md` §1, design rule R3).

use secp256k1::ecdsa::{RecoverableSignature, RecoveryId, Signature};
use secp256k1::{Message, PublicKey, SECP256K1};

use crate::{keccak256, os_random};

/// Half of the group order: the greatest `s` of a signature that is accepted.
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0x5d, 0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
];

/// What can be wrong with a key or a signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A secret key is an integer from 1 to the group order less one.
    #[error(
        "these 32 bytes are not a secp256k1 secret key (zero, or not below the group order): make a new key"
    )]
    SecretKey,
    /// No point of the curve has this encoding.
    #[error(
        "these 33 bytes are not a compressed secp256k1 public key: give 02 or 03 and the x coordinate of a point of the curve"
    )]
    PublicKey,
    /// `r` or `s` is zero or not below the group order, or `s` is above half of it.
    #[error(
        "the signature is out of range: r and s must lie between 1 and the group order, s in its lower half"
    )]
    SignatureRange,
    /// The last byte of a 65-byte signature.
    #[error("the recovery byte is {v}: it must be 27 or 28")]
    RecoveryByte {
        /// The byte that was given.
        v: u8,
    },
    /// No public key has this signature of this digest.
    #[error("no public key can have made this signature of this digest")]
    Unrecoverable,
    /// The operating system's generator failed.
    #[error(
        "the operating system gave no randomness ({reason}): nothing can be signed safely, so mend that first"
    )]
    Randomness {
        /// What the system said.
        reason: String,
    },
}

/// A secp256k1 secret key, erased when dropped, with its public key beside it.
///
/// It lies on the heap, so that moving it leaves no copies behind.
pub struct SecretKey {
    secret: Box<secp256k1::SecretKey>,
    public: PublicKey,
}

impl SecretKey {
    /// Takes 32 big-endian bytes.
    ///
    /// # Errors
    /// [`KeyError::SecretKey`] for zero and for values that are not below the group order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let secret = Box::new(
            secp256k1::SecretKey::from_byte_array(*bytes).map_err(|_| KeyError::SecretKey)?,
        );
        let public = secret.public_key(SECP256K1);
        Ok(Self { secret, public })
    }

    /// A new key from the operating system's randomness.
    ///
    /// # Errors
    /// [`KeyError::Randomness`] if there is none.
    pub fn generate() -> Result<Self, KeyError> {
        loop {
            let bytes = zeroize::Zeroizing::new(os_random::<32>()?);
            // One draw in 2^128 is out of range.
            if let Ok(key) = Self::from_bytes(&bytes) {
                return Ok(key);
            }
        }
    }

    /// The compressed public key (SEC 1).
    pub fn public_key(&self) -> [u8; 33] {
        self.public.serialize()
    }

    /// The address of the public key, which is the id of whoever holds the key.
    pub fn address(&self) -> [u8; 20] {
        address_of_point(&self.public)
    }

    /// The public key, ready to verify with.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey { point: self.public }
    }

    /// Signs a 32-byte digest: `r || s` with the nonce of RFC 6979 and low `s`, so the same digest always gives the same bytes
    /// (design rule R2).
    pub fn sign(&self, digest: &[u8; 32]) -> [u8; 64] {
        SECP256K1
            .sign_ecdsa(Message::from_digest(*digest), &self.secret)
            .serialize_compact()
    }

    /// Signs a digest as the EVM and wallets write it: `r || s || v`, `v` 27 or 28. The first 64 bytes are those of
    /// [`SecretKey::sign`].
    pub fn sign_recoverable(&self, digest: &[u8; 32]) -> [u8; 65] {
        let (id, compact) = SECP256K1
            .sign_ecdsa_recoverable(Message::from_digest(*digest), &self.secret)
            .serialize_compact();
        let mut out = [0u8; 65];
        out[..64].copy_from_slice(&compact);
        // Ids 2 and 3 (r reduced by the order) need a nonce that nobody finds: one in 2^127.
        out[64] = match id {
            RecoveryId::Zero | RecoveryId::Two => 27,
            RecoveryId::One | RecoveryId::Three => 28,
        };
        out
    }

    /// The secret bytes, for the keystore; erased when dropped.
    pub fn to_bytes(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.secret.secret_bytes())
    }

    pub(crate) fn inner(&self) -> &secp256k1::SecretKey {
        &self.secret
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        // A volatile write behind a compiler fence; "non secure" of the name are copies, which the box avoids.
        self.secret.non_secure_erase();
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SecretKey").field(&self.public).finish()
    }
}

/// A public key that is decompressed once and verified with many times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VerifyingKey {
    point: PublicKey,
}

impl VerifyingKey {
    /// Parses a compressed public key (costs a square root: keep the result).
    ///
    /// # Errors
    /// [`KeyError::PublicKey`] if it is no point of the curve.
    pub fn from_bytes(bytes: &[u8; 33]) -> Result<Self, KeyError> {
        let point =
            PublicKey::from_byte_array_compressed(*bytes).map_err(|_| KeyError::PublicKey)?;
        Ok(Self { point })
    }

    /// The compressed public key.
    pub fn to_bytes(&self) -> [u8; 33] {
        self.point.serialize()
    }

    /// The address of the key.
    pub fn address(&self) -> [u8; 20] {
        address_of_point(&self.point)
    }

    /// Whether `signature` is this key's for `digest`. High `s`, zero and out-of-range values are refused.
    pub fn verify(&self, digest: &[u8; 32], signature: &[u8; 64]) -> bool {
        // libsecp256k1 itself refuses high s; the tests hold it to that.
        Signature::from_compact(signature).is_ok_and(|signature| {
            SECP256K1
                .verify_ecdsa(Message::from_digest(*digest), &signature, &self.point)
                .is_ok()
        })
    }
}

/// [`VerifyingKey::verify`] for a key that is used once. A key that does not parse verifies nothing.
pub fn verify(public_key: &[u8; 33], digest: &[u8; 32], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(public_key).is_ok_and(|key| key.verify(digest, signature))
}

/// The address of a compressed public key: the last 20 bytes of Keccak-256 of its two coordinates.
///
/// # Errors
/// [`KeyError::PublicKey`] if it is no point of the curve.
pub fn address_of(public_key: &[u8; 33]) -> Result<[u8; 20], KeyError> {
    Ok(VerifyingKey::from_bytes(public_key)?.address())
}

/// The address whose key made `signature` (`r || s || v`, `v` 27 or 28) of `digest`.
///
/// # Errors
/// [`KeyError::RecoveryByte`], [`KeyError::SignatureRange`] (also for high `s`), or [`KeyError::Unrecoverable`].
pub fn recover(digest: &[u8; 32], signature: &[u8; 65]) -> Result<[u8; 20], KeyError> {
    let id = match signature[64] {
        27 => RecoveryId::Zero,
        28 => RecoveryId::One,
        v => return Err(KeyError::RecoveryByte { v }),
    };
    let compact: &[u8; 64] = signature.first_chunk().expect("65 bytes have 64");
    recover_point(digest, compact, id).map(|point| address_of_point(&point))
}

/// For a 64-byte signature of `signer`: whether the nonce point's y is odd, which is `v - 27` and the `yParity` of
/// EIP-2098. A 64-byte signature does not say; of the two candidates at most one is the signer's.
///
/// # Errors
/// [`KeyError::SignatureRange`], or [`KeyError::Unrecoverable`] if neither candidate is `signer`.
pub fn recovery_parity(
    digest: &[u8; 32],
    signature: &[u8; 64],
    signer: &[u8; 20],
) -> Result<bool, KeyError> {
    for (id, odd) in [(RecoveryId::Zero, false), (RecoveryId::One, true)] {
        match recover_point(digest, signature, id) {
            Ok(point) if address_of_point(&point) == *signer => return Ok(odd),
            Ok(_) | Err(KeyError::Unrecoverable) => {}
            Err(error) => return Err(error),
        }
    }
    Err(KeyError::Unrecoverable)
}

/// The 64 bytes of EIP-2098: `r || (y_odd << 255 | s)`. `s` is low, so its top bit is free.
pub fn eip2098(signature: &[u8; 64], y_odd: bool) -> [u8; 64] {
    let mut out = *signature;
    out[32] |= u8::from(y_odd) << 7;
    out
}

fn recover_point(
    digest: &[u8; 32],
    signature: &[u8; 64],
    id: RecoveryId,
) -> Result<PublicKey, KeyError> {
    if signature[32..] > HALF_ORDER[..] || signature[32..] == [0; 32] || signature[..32] == [0; 32]
    {
        return Err(KeyError::SignatureRange);
    }
    let signature =
        RecoverableSignature::from_compact(signature, id).map_err(|_| KeyError::SignatureRange)?;
    SECP256K1
        .recover_ecdsa(Message::from_digest(*digest), &signature)
        .map_err(|_| KeyError::Unrecoverable)
}

fn address_of_point(point: &PublicKey) -> [u8; 20] {
    let hash = keccak256(&point.serialize_uncompressed()[1..]);
    *hash.last_chunk().expect("32 bytes have 20")
}

#[cfg(test)]
#[path = "ecdsa_tests.rs"]
mod tests;
