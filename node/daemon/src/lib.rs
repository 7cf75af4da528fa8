//! The daemon of a DIVERSITY node: the loop around the sans-IO core, settings, keys, HTTP API and telemetry.
//!
//! [`run_node`] is all of it. Who runs `f` is an argument ([`Runner`]): the program `diversity` passes the executor of
//! `diversity-exec`, and the tests' lying node wraps it.

pub mod config;
pub mod http;
pub mod keyring;
pub mod node;
pub mod rooms;
pub mod runner;
pub mod settings;
pub mod telemetry;

pub use config::{NodeConfig, NodeFlags};
pub use node::{NodeError, rebuild_store, run_node};
pub use runner::{RunFailure, RunOutput, Runner};
