//! Defects that the core once had, put back one at a time, so that the tests show that they see them (docs/reliability.md).
//!
//! Without the feature `sabotage`, which only the tests of the simulator ask for, [`on`] is `false` at compile time, and nothing of
//! this is in a build.

/// A defect, by the number of its description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
#[repr(u8)]
pub enum Defect {
    ForgedCertificateHalts = 1,
    ForgedCertificateNamesAnother,
    AttemptsPostponeTheFallback,
    AttemptsAreNeverPruned,
    OnePeerIsBelieved,
    ForgottenIsNoMessage,
    AnyRangeIsCut,
    CountersGoBack,
    TheChainsVoidCuts,
    ForksAreNotCompared,
    TheFutureIsACandidate,
    CloseStrands,
    ReportedMeansBlocked,
    EveryMessageIsAnswered,
    AnybodyIsServed,
}

impl Defect {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::ForgedCertificateHalts,
        Self::ForgedCertificateNamesAnother,
        Self::AttemptsPostponeTheFallback,
        Self::AttemptsAreNeverPruned,
        Self::OnePeerIsBelieved,
        Self::ForgottenIsNoMessage,
        Self::AnyRangeIsCut,
        Self::CountersGoBack,
        Self::TheChainsVoidCuts,
        Self::ForksAreNotCompared,
        Self::TheFutureIsACandidate,
        Self::CloseStrands,
        Self::ReportedMeansBlocked,
        Self::EveryMessageIsAnswered,
        Self::AnybodyIsServed,
    ];
}

#[cfg(feature = "sabotage")]
mod switch {
    use super::Defect;
    use core::sync::atomic::{AtomicU8, Ordering};

    static DEFECT: AtomicU8 = AtomicU8::new(0);

    /// Puts a defect back into every core of this process, or takes it out again.
    pub fn set(defect: Option<Defect>) {
        DEFECT.store(defect.map_or(0, |d| d as u8), Ordering::SeqCst);
    }
    /// Whether the defect is back.
    pub fn on(defect: Defect) -> bool {
        DEFECT.load(Ordering::Relaxed) == defect as u8
    }
}

#[cfg(feature = "sabotage")]
pub use switch::{on, set};

/// Whether the defect is back: never, in this build.
#[cfg(not(feature = "sabotage"))]
pub const fn on(_: Defect) -> bool {
    false
}
