//! Byte newtypes. Ids are addresses (wire-format §1), so `ecrecover` alone ties a signature to an id. Each kind of id has
//! a type of its own all the same, so that a sensor is never looked up among nodes, nor an account among users.

use crate::codec::{Reader, Result, Writer};
use alloc::string::String;
use core::fmt;

macro_rules! bytes_newtype {
    ($(#[$doc:meta])* $name:ident, $n:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $n]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $n;
            /// Lower-case hexadecimal with `0x`.
            pub fn hex(&self) -> String {
                let mut s = String::with_capacity(2 + 2 * $n);
                s.push_str("0x");
                for b in self.0 {
                    s.push(char::from_digit(u32::from(b >> 4), 16).expect("nibble"));
                    s.push(char::from_digit(u32::from(b & 15), 16).expect("nibble"));
                }
                s
            }
            /// Reads hexadecimal with or without `0x`; `None` unless it has exactly the right length.
            pub fn from_hex(s: &str) -> Option<Self> {
                let s = s.strip_prefix("0x").unwrap_or(s).as_bytes();
                if s.len() != 2 * $n {
                    return None;
                }
                let mut out = [0u8; $n];
                for (o, pair) in out.iter_mut().zip(s.chunks_exact(2)) {
                    let hi = (pair[0] as char).to_digit(16)?;
                    let lo = (pair[1] as char).to_digit(16)?;
                    *o = (hi * 16 + lo) as u8;
                }
                Some(Self(out))
            }
            /// Appends the bytes.
            pub fn write(&self, w: &mut Writer) {
                w.raw(&self.0);
            }
            /// Reads the bytes.
            pub fn read(r: &mut Reader<'_>) -> Result<Self> {
                Ok(Self(r.array(stringify!($name))?))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.hex())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.hex())
            }
        }
    };
}

bytes_newtype!(
    /// The last 20 bytes of Keccak-256 of an uncompressed public key, as in Ethereum.
    Address, 20);
bytes_newtype!(
    /// A 32-byte hash.
    Digest, 32);
bytes_newtype!(
    /// Agreement `a`: the x coordinate of its aggregate key, tweaked by its terms (wire-format §6).
    AgreementId, 32);
bytes_newtype!(
    /// secp256k1 ECDSA `r || s`, low s.
    Signature, 64);
bytes_newtype!(
    /// A compressed secp256k1 point.
    PublicKey, 33);

macro_rules! id_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        bytes_newtype!($(#[$doc])* $name, 20);

        impl $name {
            /// As an address: what `ecrecover` gives, and what contracts and EIP-712 call it.
            pub const fn address(&self) -> Address {
                Address(self.0)
            }
        }
        impl From<Address> for $name {
            fn from(address: Address) -> Self {
                Self(address.0)
            }
        }
    };
}

id_newtype!(
    /// A user's account.
    UserId);
id_newtype!(
    /// The address of a sensor's signing key.
    SensorId);
id_newtype!(
    /// The address of an intermediate node's protocol key.
    NodeId);

impl Digest {
    /// 32 zero bytes: "nothing" where a digest is expected.
    pub const ZERO: Self = Self([0; 32]);
}

/// Which chain and which `MainContract`: part of everything that is signed, so that a key used on a test network and on
/// a real one never contradicts itself (R1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deployment {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Address of `MainContract`.
    pub contract: Address,
}

impl Deployment {
    /// `chain_id u64 || contract 20`.
    pub fn bytes(&self) -> [u8; 28] {
        let mut out = [0; 28];
        out[..8].copy_from_slice(&self.chain_id.to_be_bytes());
        out[8..].copy_from_slice(&self.contract.0);
        out
    }
}
