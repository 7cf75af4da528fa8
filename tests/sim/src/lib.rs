//! A seeded, deterministic discrete-event simulator of a whole DIVERSITY network: the real cores of `diversity-engine`, and
//! around them a modelled disk, network, chain, clock, executor, signer and fleet of sensors, with faults and Byzantine nodes.
//!
//! A run is a function of its seed: [`run`] the same seed twice and both give the same [`Summary::fingerprint`]. The oracles
//! N1 to N5 of the design (R9) look on and stop it at the first violation.

pub mod actors;
pub mod campaign;
pub mod chain;
pub mod crypto;
pub mod cuts;
pub mod disk;
mod driver;
pub mod function;
pub mod host;
pub mod net;
pub mod oracle;
pub mod rng;
pub mod sabotage;
pub mod scenario;
pub mod sensors;
mod text;
pub mod trace;
pub mod truth;
pub mod world;

pub use oracle::Violation;
pub use sabotage::Sabotage;
pub use scenario::Scenario;
pub use world::Summary;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs one plan. A panic of a core is a violation like any other.
///
/// # Errors
/// The first violation.
pub fn run(plan: Scenario, sabotage: Sabotage, print: bool) -> Result<Summary, Violation> {
    let mut world = None;
    let result = catch_unwind(AssertUnwindSafe(|| {
        let w = world.insert(world::World::new(plan, sabotage, print));
        w.run()
    }));
    let at = world.as_ref().map_or(0, |w| w.now);
    match (result, world.and_then(|w| w.oracles.violation)) {
        (_, Some(v)) => Err(v),
        (Ok(summary), None) => Ok(summary),
        (Err(panic), None) => {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                .unwrap_or_else(|| "a panic without words".into());
            Err(Violation {
                oracle: "core",
                at,
                text: format!("panic: {text}"),
            })
        }
    }
}
