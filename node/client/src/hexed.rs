//! Byte strings in JSON: lower-case hexadecimal with `0x`; upper case and a missing `0x` are understood.
//!
//! `#[serde(with = "hexed")]` for one value of a [`diversity_proto`] newtype, `hexed::list` for a list of them and
//! `hexed::option` for one that may be missing.

use diversity_proto::{
    Address, AgreementId, Digest, NodeId, PublicKey, SensorId, Signature, UserId,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::borrow::Cow;

/// A byte string with one hexadecimal form.
pub trait Hexed: Sized {
    /// What it is, for error messages.
    const WHAT: &'static str;
    /// Lower case with `0x`.
    fn to_hex(&self) -> String;
    /// `None` unless it has exactly the right length.
    fn from_hex(text: &str) -> Option<Self>;
}

macro_rules! newtype {
    ($($ty:ty, $what:expr;)*) => {$(
        impl Hexed for $ty {
            const WHAT: &'static str = $what;
            fn to_hex(&self) -> String {
                self.hex()
            }
            fn from_hex(text: &str) -> Option<Self> {
                <$ty>::from_hex(text)
            }
        }
    )*};
}

newtype! {
    Address, "an address (20 bytes of hexadecimal)";
    UserId, "an address (20 bytes of hexadecimal)";
    SensorId, "an address (20 bytes of hexadecimal)";
    NodeId, "an address (20 bytes of hexadecimal)";
    Digest, "a digest (32 bytes of hexadecimal)";
    AgreementId, "an agreement id (32 bytes of hexadecimal)";
    PublicKey, "a compressed public key (33 bytes of hexadecimal)";
    Signature, "a signature r || s (64 bytes of hexadecimal)";
}

/// Serialises one value.
pub fn serialize<T: Hexed, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&value.to_hex())
}

/// Reads one value.
pub fn deserialize<'de, T: Hexed, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
    let text = Cow::<'de, str>::deserialize(d)?;
    T::from_hex(&text).ok_or_else(|| D::Error::custom(format_args!("expected {}", T::WHAT)))
}

struct One<T>(T);

impl<T: Hexed> Serialize for One<&T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        serialize(self.0, s)
    }
}

impl<'de, T: Hexed> Deserialize<'de> for One<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        deserialize(d).map(Self)
    }
}

/// A list of byte strings.
pub mod list {
    use super::{Deserialize, Deserializer, Hexed, One, Serializer};

    /// Serialises the list.
    pub fn serialize<T: Hexed, S: Serializer>(values: &[T], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(values.iter().map(One))
    }

    /// Reads the list.
    pub fn deserialize<'de, T: Hexed, D: Deserializer<'de>>(d: D) -> Result<Vec<T>, D::Error> {
        Ok(Vec::<One<T>>::deserialize(d)?
            .into_iter()
            .map(|one| one.0)
            .collect())
    }
}

/// A byte string that may be missing (`null`). Add `default` where the field itself may be missing.
pub mod option {
    use super::{Deserialize, Deserializer, Hexed, One, Serialize, Serializer};

    /// Serialises it.
    pub fn serialize<T: Hexed, S: Serializer>(v: &Option<T>, s: S) -> Result<S::Ok, S::Error> {
        v.as_ref().map(One).serialize(s)
    }

    /// Reads it.
    pub fn deserialize<'de, T: Hexed, D: Deserializer<'de>>(d: D) -> Result<Option<T>, D::Error> {
        Ok(Option::<One<T>>::deserialize(d)?.map(|one| one.0))
    }
}

/// Bytes of any length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

/// A signature as wallets write it: `r || s || v`, `v` 27 or 28, low `s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalletSignature(pub [u8; 65]);

impl WalletSignature {
    /// `r || s`, as the protocol keeps it.
    pub fn compact(&self) -> Signature {
        Signature(*self.0.first_chunk().expect("65 bytes have 64"))
    }

    /// Whose signature of `digest` it is.
    ///
    /// # Errors
    /// [`diversity_keys::KeyError`] for a signature that nobody can have made.
    pub fn signer(&self, digest: &Digest) -> Result<Address, diversity_keys::KeyError> {
        diversity_keys::recover(&digest.0, &self.0).map(Address)
    }
}

impl Hexed for Bytes {
    const WHAT: &'static str = "hexadecimal";
    fn to_hex(&self) -> String {
        encode(&self.0)
    }
    fn from_hex(text: &str) -> Option<Self> {
        decode(text).map(Self)
    }
}

impl Hexed for WalletSignature {
    const WHAT: &'static str = "a signature r || s || v (65 bytes of hexadecimal)";
    fn to_hex(&self) -> String {
        encode(&self.0)
    }
    fn from_hex(text: &str) -> Option<Self> {
        decode(text)?.try_into().ok().map(Self)
    }
}

macro_rules! serde_as_hex {
    ($($ty:ty),*) => {$(
        impl Serialize for $ty {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                serialize(self, s)
            }
        }
        impl<'de> Deserialize<'de> for $ty {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                deserialize(d)
            }
        }
    )*};
}

serde_as_hex!(Bytes, WalletSignature);

/// Lower-case hexadecimal with `0x`.
pub fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(2 + 2 * bytes.len());
    out.push_str("0x");
    for b in bytes {
        out.push(char::from(DIGITS[usize::from(b >> 4)]));
        out.push(char::from(DIGITS[usize::from(b & 15)]));
    }
    out
}

/// Bytes of hexadecimal with or without `0x`.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let nibble = |c: u8| char::from(c).to_digit(16);
    digits
        .chunks_exact(2)
        .map(|pair| Some((nibble(pair[0])? << 4 | nibble(pair[1])?) as u8))
        .collect()
}
