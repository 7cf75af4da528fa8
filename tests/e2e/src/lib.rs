//! End to end with real processes: a chain, nodes of several parties and a fleet of locks, as a person would start them.
//!
//! - [`net`]: a devnet of its own, driven by the programs alone (`diversity devnet`, `sensor-sim`), gone when dropped.
//! - [`trips`] and [`compare`]: the months computed a second time by code that shares nothing with the nodes, and compared.
//! - [`onchain`]: what the chain itself says: who settled what how often, and what raw messages would have cost there.
//! - [`locks`], [`agreement`]: sensors whose key a test holds, to send what no honest lock would, and agreements over them.
//! - [`stranger`]: an account that is a party to nothing, and writes to the contracts whatever they take.
//! - [`measure`]: what the bench measures on running nodes.
//! - [`relay`]: a road to somebody else's chain that can be cut.
//! - [`text`]: tables for people.

mod error;

pub mod agreement;
pub mod compare;
pub mod locks;
pub mod measure;
pub mod net;
pub mod onchain;
pub mod programs;
pub mod relay;
pub mod stranger;
pub mod text;
pub mod trips;

pub use error::{E2eError, Result};
