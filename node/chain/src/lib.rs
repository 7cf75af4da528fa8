//! The chain side of a DIVERSITY node; the one crate with alloy.
//!
//! - [`rpc`]: JSON-RPC over several endpoints with our own failover; refusals are read, for Besu, geth and anvil.
//! - [`submitter`]: the durable outbox; [`fees`] says what a transaction pays.
//! - [`follow`]: the events of `MainContract` and `Cells`, from a stored cursor; [`events`] are their values; [`look_back`] asks
//!   for those of somebody again.
//! - [`calls`]: calldata of every function; [`contract`]: the getters; [`goal`]: what a call is for; [`revert`] and
//!   [`evidence`]: for people.
//! - [`anvil`]: the local chain of development networks.

mod abi;
mod account;
pub mod anvil;
#[cfg(test)]
mod bounds;
pub mod calls;
pub mod contract;
pub mod events;
pub mod evidence;
pub mod fees;
pub mod follow;
pub mod goal;
pub mod look_back;
mod packed;
pub mod revert;
pub mod rpc;
mod signature;
pub mod submitter;

pub use abi::{Contracts, Deploying};
pub use account::{Account, AccountError, Unsigned};
pub use signature::{EvmSignature, SignatureError};

use std::time::Duration;

/// Chain id of anvil, whose blocks come at once.
pub const ANVIL_CHAIN_ID: u64 = 31_337;

/// How often the head is asked for: 100 ms on anvil, 1 s elsewhere.
pub fn default_poll(chain_id: u64) -> Duration {
    Duration::from_millis(if chain_id == ANVIL_CHAIN_ID {
        100
    } else {
        1_000
    })
}
