//! The oracles of R9. Each looks on while a run goes, and stops it at the first thing that must never be.

mod acknowledged;
mod blame;
mod bounds;
mod finality;
mod liveness;
mod signing;

pub use acknowledged::Acknowledged;
pub use blame::Blame;
pub use bounds::Bounds;
pub use finality::Finality;
pub use liveness::{Liveness, View};
pub use signing::Signing;

/// Something that must never be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// `N1` to `N5`, or what else failed: `core` (a panic, a plan over missing frames, effects without end), `chain` (an honest
    /// node sent what the contract refuses), `ingest` (an honest sensor was refused for good), `held` (a list of
    /// open sensors too early or untrue), `bounds` (a peer calls for too much), `evidence` (a fork that nobody recorded),
    /// `R11` (messages go to, or are taken from, a node that does not share their sensor).
    pub oracle: &'static str,
    /// World time, milliseconds.
    pub at: u64,
    /// What happened.
    pub text: String,
}

/// The oracles of a run; N2 and N5 stand beside each agreement.
pub struct Oracles {
    /// N1.
    pub acknowledged: Acknowledged,
    /// N3.
    pub signing: Signing,
    /// N4.
    pub blame: Blame,
    /// What peers may call for.
    pub bounds: Bounds,
    /// The first violation.
    pub violation: Option<Violation>,
}

impl Oracles {
    /// Keeps the first violation.
    pub fn judge(&mut self, at: u64, oracle: &'static str, verdict: Result<(), String>) {
        if let (Err(text), None) = (verdict, &self.violation) {
            self.violation = Some(Violation { oracle, at, text });
        }
    }
}
