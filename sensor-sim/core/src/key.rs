//! ECDSA over secp256k1 with RFC 6979 nonces and low `s` (wire-format §1).

use k256::SecretKey;
use k256::ecdsa::hazmat::SignPrimitive;
use k256::elliptic_curve::sec1::ToEncodedPoint;
use sha2::Sha256;

/// Why bytes are no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// Zero, or not below the group order: provision the device with another key.
    OutOfRange,
}

impl core::fmt::Display for KeyError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("these 32 bytes are not a secp256k1 secret key: provision another")
    }
}

impl core::error::Error for KeyError {}

/// A secret key. Only signing is done here: the public key is derived on demand, since that costs as much as a signature.
/// Erased when dropped.
pub struct Key(SecretKey);

impl Key {
    /// Takes 32 big-endian bytes.
    ///
    /// # Errors
    /// [`KeyError::OutOfRange`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        SecretKey::from_bytes(bytes.into())
            .map(Self)
            .map_err(|_| KeyError::OutOfRange)
    }

    /// `r || s` of a digest, the same bytes every time.
    pub fn sign(&self, digest: &[u8; 32]) -> [u8; 64] {
        let secret = self.0.to_nonzero_scalar();
        // It fails only if r or s is zero, or r is not below the order: one digest in 2^127.
        let (signature, _) = secret
            .try_sign_prehashed_rfc6979::<Sha256>(digest.into(), &[])
            .expect("a nonce of RFC 6979 gives a signature");
        signature
            .normalize_s()
            .unwrap_or(signature)
            .to_bytes()
            .into()
    }

    /// The compressed public key, for provisioning.
    pub fn public_key(&self) -> [u8; 33] {
        let point = self.0.public_key().to_encoded_point(true);
        let mut out = [0; 33];
        out.copy_from_slice(point.as_bytes());
        out
    }
}
