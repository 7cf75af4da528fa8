//! Signatures in the form that the contract takes (EIP-2098), and the account key.

use alloy::primitives::{B256, Signature as AlloySignature, U256};
use diversity_proto::{Address, Digest, Signature};

/// An ECDSA signature with the parity of R.y in the top bit of `s` (EIP-2098): `r || yParity<<255 | s`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EvmSignature(pub [u8; 64]);

/// Why a signature was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A recovery id that is none.
    #[error("the last byte of the signature is {v}: it must be 0, 1, 27 or 28")]
    RecoveryId {
        /// As given.
        v: u8,
    },
    /// `s` in the upper half of the group order (R3).
    #[error("the signature has a high s: take n - s, as every wallet does")]
    HighS,
    /// The packed form of a call has no room for another number of them.
    #[error(
        "there are {given} {what}, but {needed} {of}: exactly one is needed for each, in order"
    )]
    Count {
        /// Signatures, acceptances, commits or reveals.
        what: &'static str,
        /// As given.
        given: usize,
        /// Users or nodes of the terms.
        of: &'static str,
        /// How many there are of them.
        needed: usize,
    },
    /// Terms that no decoder takes either.
    #[error("the terms have {given} {what}: at most 255 fit a call")]
    TooMany {
        /// Users or nodes.
        what: &'static str,
        /// As given.
        given: usize,
    },
    /// Another key.
    #[error("the signature is not by {expected}: sign again with its key")]
    Signer {
        /// Who should have signed.
        expected: Address,
    },
}

/// Half of the group order of secp256k1.
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0x5d, 0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
];

impl EvmSignature {
    /// From `r || s` and the parity of R.y.
    ///
    /// # Errors
    /// [`SignatureError::HighS`].
    pub fn new(rs: &[u8; 64], y_odd: bool) -> Result<Self, SignatureError> {
        if rs[32..] > HALF_ORDER[..] {
            return Err(SignatureError::HighS);
        }
        let mut out = *rs;
        out[32] |= u8::from(y_odd) << 7;
        Ok(Self(out))
    }
    /// From a wallet's 65 bytes `r || s || v`.
    ///
    /// # Errors
    /// [`SignatureError::RecoveryId`], [`SignatureError::HighS`].
    pub fn from_rsv(rsv: &[u8; 65]) -> Result<Self, SignatureError> {
        let y_odd = match rsv[64] {
            0 | 27 => false,
            1 | 28 => true,
            v => return Err(SignatureError::RecoveryId { v }),
        };
        Self::new(rsv.first_chunk().expect("65 bytes have 64"), y_odd)
    }
    /// From `r || s` of a known signer: finds the parity, and so checks the signature too.
    ///
    /// # Errors
    /// [`SignatureError::Signer`] if neither parity gives the signer.
    pub fn by(
        signature: &Signature,
        digest: &Digest,
        signer: &Address,
    ) -> Result<Self, SignatureError> {
        for y_odd in [false, true] {
            if recover(&signature.0, y_odd, digest).as_ref() == Some(signer) {
                return Self::new(&signature.0, y_odd);
            }
        }
        Err(SignatureError::Signer { expected: *signer })
    }
    /// Whose signature of `digest` this is.
    pub fn signer(&self, digest: &Digest) -> Option<Address> {
        let mut rs = self.0;
        let y_odd = rs[32] >> 7 == 1;
        rs[32] &= 0x7f;
        recover(&rs, y_odd, digest)
    }
    /// Parity of R.y.
    pub fn y_odd(&self) -> bool {
        self.0[32] >> 7 == 1
    }
    pub(crate) fn r(&self) -> B256 {
        B256::from_slice(&self.0[..32])
    }
    pub(crate) fn vs(&self) -> B256 {
        B256::from_slice(&self.0[32..])
    }
}

impl std::fmt::Debug for EvmSignature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&alloy::primitives::hex::encode_prefixed(self.0))
    }
}

fn recover(rs: &[u8; 64], y_odd: bool, digest: &Digest) -> Option<Address> {
    let signature = AlloySignature::new(
        U256::from_be_slice(&rs[..32]),
        U256::from_be_slice(&rs[32..]),
        y_odd,
    );
    signature
        .recover_address_from_prehash(&B256::from(digest.0))
        .ok()
        .map(|a| Address(a.into_array()))
}
