//! Keys and signatures of a DIVERSITY node.
//!
//! - [`SecretKey`], [`VerifyingKey`], [`recover`]: ECDSA over secp256k1 as `docs/wire-format.md` §1 wants it
//!   (RFC 6979, low `s`, ids are addresses).
//! - [`musig`]: the aggregate key of an agreement and its n-of-n Schnorr signature (BIP-327, BIP-340).
//! - [`peer_sign`], [`peer_verify`]: the transport's ed25519 key, where it proves whose connections it carries.
//! - [`derive_secret_salt`]: the secret and salt of a commit, the same after every restart (design rule R2).
//! - [`keystore`]: secrets in files, as Web3 Secret Storage version 3; [`password`]: their passwords, in files of their own,
//!   which nobody else may read ([`private`]).
//!
//! Every function takes and gives plain byte arrays, so that no type of a cryptographic library leaks into the
//! protocol. Randomness is an argument; [`os_random`] is the one place that asks the operating system.
//!
//! Secrets that this crate holds are erased when dropped. The scalar types of the libraries below are `Copy`, so
//! copies that a computation leaves on the stack are not erased: whoever reads the memory of a running node has
//! its keys anyway.

mod derive;
mod ecdsa;
pub mod keystore;
pub mod musig;
pub mod password;
mod peer;
pub mod private;

pub use derive::derive_secret_salt;
pub use ecdsa::{
    KeyError, SecretKey, VerifyingKey, address_of, eip2098, recover, recovery_parity, verify,
};
pub use peer::{peer_public, peer_sign, peer_verify};

use sha3::{Digest, Keccak256};

/// Keccak-256 of `bytes` (the EVM's hash, not SHA3-256).
pub fn keccak256(bytes: &[u8]) -> [u8; 32] {
    Keccak256::digest(bytes).into()
}

/// `N` bytes from the operating system's generator.
///
/// # Errors
/// [`KeyError::Randomness`] if the system has none to give; nothing may be signed then.
pub fn os_random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes).map_err(|error| KeyError::Randomness {
        reason: error.to_string(),
    })?;
    Ok(bytes)
}
