//! The chain side of a DIVERSITY node; the one crate with alloy.

pub mod abi;
pub mod calls;
pub mod contract;
pub mod events;
pub mod evidence;
pub mod fees;
pub mod revert;
pub mod rpc;
mod signature;

pub use signature::{EvmSignature, SignatureError};
