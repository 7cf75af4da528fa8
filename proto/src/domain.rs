//! The one registry of domains (R1, wire-format §2): every hash preimage starts with the tag of its kind.

use crate::ids::Digest;
use sha2::Digest as _;

/// Kind of a hashed or signed structure; the numbers are frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
#[allow(missing_docs)]
pub enum Kind {
    SensorFrame = 1,
    SensorRegistration = 2,
    NodeRegistration = 3,
    NodeAcceptance = 4,
    Acknowledgement = 5,
    Held = 6,
    PeerBinding = 7,
    WindowLeaf = 16,
    Window = 17,
    State = 18,
    DetailLeaf = 19,
    MerkleNode = 20,
    SensorLeaf = 21,
    Conditions = 22,
    Tweak = 23,
    Config = 24,
    Opening = 32,
    Commitment = 33,
    Commit = 34,
    Seal = 35,
    Context = 36,
    OutcomeDomain = 37,
    BatchDomain = 38,
    Reveal = 39,
    NonceSet = 40,
    Partial = 41,
    ContextLeaf = 42,
    Hole = 43,
    Resolution = 44,
    Sensors = 45,
}

impl Kind {
    /// `"DIVERSITY" || version || kind u16`.
    pub const fn tag(self) -> [u8; 12] {
        let k = (self as u16).to_be_bytes();
        [
            b'D',
            b'I',
            b'V',
            b'E',
            b'R',
            b'S',
            b'I',
            b'T',
            b'Y',
            crate::VERSION,
            k[0],
            k[1],
        ]
    }
}

/// Incremental hash of one tagged structure.
pub struct Hasher<H>(H);

/// Keccak-256: what nodes sign and what the contract recomputes.
pub fn keccak(kind: Kind) -> Hasher<sha3::Keccak256> {
    Hasher::new(kind)
}

/// SHA-256: what sensors sign.
pub fn sha256(kind: Kind) -> Hasher<sha2::Sha256> {
    Hasher::new(kind)
}

impl<H: sha2::digest::Digest<OutputSize = sha2::digest::consts::U32>> Hasher<H> {
    fn new(kind: Kind) -> Self {
        Self(H::new().chain_update(kind.tag()))
    }
    /// Adds bytes as they are.
    pub fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.update(bytes);
        self
    }
    /// Adds one byte.
    pub fn u8(self, v: u8) -> Self {
        self.raw([v])
    }
    /// Adds a big-endian `u16`.
    pub fn u16(self, v: u16) -> Self {
        self.raw(v.to_be_bytes())
    }
    /// Adds a big-endian `u32`.
    pub fn u32(self, v: u32) -> Self {
        self.raw(v.to_be_bytes())
    }
    /// Adds a big-endian `u64`.
    pub fn u64(self, v: u64) -> Self {
        self.raw(v.to_be_bytes())
    }
    /// Adds a `u32` length and the bytes.
    pub fn bytes(self, v: &[u8]) -> Self {
        self.u32(u32::try_from(v.len()).expect("bounded")).raw(v)
    }
    /// The digest.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// Keccak-256 of bytes that are not one of our tagged structures (EIP-712, addresses).
pub fn keccak_raw(bytes: &[u8]) -> [u8; 32] {
    sha3::Keccak256::digest(bytes).into()
}

/// SHA-256 of bytes that are not one of our tagged structures (WASM modules).
pub fn sha256_raw(bytes: &[u8]) -> [u8; 32] {
    sha2::Sha256::digest(bytes).into()
}
