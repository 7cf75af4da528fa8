//! The whole node as one sans-IO machine (design §5): ingest bookkeeping, windows, rounds, settlement and recovery.
//!
//! [`Node::step`] takes what happened and returns what to do; [`Node::deadline`] says when to come back at the latest.
//! There is no clock, no randomness and no IO in here, so the same code runs in the daemon and in the simulator.

pub mod api;
pub mod records;

pub use api::{Config, Effect, Input, Millis};
use diversity_proto::codec::DecodeError;

/// The node core.
pub struct Node {
    config: Config,
}

impl Node {
    /// A core that knows what `records` (key, value; in key order) of an earlier run say. Its first effects come from the first step.
    ///
    /// # Errors
    /// A record of an unknown version or with a broken value, naming it.
    pub fn recover<'a>(
        config: Config,
        records: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<Self, DecodeError> {
        let _ = records.count();
        Ok(Self { config })
    }
    /// Takes one input at Unix time `now` (milliseconds) and returns the effects, in order.
    pub fn step(&mut self, now: Millis, input: Input) -> Vec<Effect> {
        let _ = (now, input, &self.config);
        Vec::new()
    }
    /// When [`Input::Tick`] is due at the latest.
    pub fn deadline(&self) -> Option<Millis> {
        None
    }
}
