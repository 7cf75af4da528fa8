//! The node around the core.

pub mod activation;
mod adopt;
mod alarm;
pub mod chain;
pub mod clocks;
pub mod consent;
pub mod cut;
pub mod driver;
mod encode;
pub mod execute;
pub mod explain;
pub mod follow;
pub mod frames;
pub mod modules;
mod notices;
pub mod outbox;
pub mod peers;
mod pulse;
pub mod rebuild;
mod recover;
pub mod registry;
mod run;
pub mod shared;
pub mod signer;
mod sole;
pub mod sought;
mod welcome;
pub mod workers;

pub use run::{NodeError, RunningNode, rebuild_store, run_node};
