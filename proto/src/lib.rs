//! Every byte of DIVERSITY that is signed, hashed, stored or sent, as specified in `docs/wire-format.md`.
//!
//! The crate is `no_std` (with `alloc`), pure, and knows nothing of signature libraries: its API shows byte newtypes.
//! Decoders are strict and bounded: no trailing bytes, no second encoding of a value, a maximum checked before allocation.
#![no_std]

extern crate alloc;

pub mod cell;
pub mod codec;
mod conditions;
pub mod domain;
pub mod entity;
pub mod frame;
pub mod held;
pub mod ids;
pub mod merkle;
pub mod round;
pub mod terms;
pub mod time;
pub mod window;
pub mod wire;

pub use codec::{DecodeError, Reader, Writer};
pub use ids::{
    Address, AgreementId, Deployment, Digest, NodeId, PublicKey, SensorId, Signature, UserId,
};

/// Version of every format in this crate that has none of its own (wire-format, Versions). Also in every domain tag.
pub const VERSION: u8 = 1;
