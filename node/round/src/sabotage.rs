//! Defects that the core once had, put back one at a time, so that the tests show that they see them (docs/reliability.md).
//!
//! Without the feature `sabotage`, which only the tests of the simulator ask for, [`on`] is `false` at compile time, and nothing of
//! this is in a build.

/// A defect, by the number of its description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Defect {
    /// An altered secret in a certificate halts its owner.
    ForgedCertificateHalts = 1,
    /// An altered secret in a certificate blames its owner.
    ForgedCertificateNamesAnother,
    /// A peer's nonce moves the deadline of the fallback.
    AttemptsPostponeTheFallback,
    /// Every attempt that a peer speaks of is joined and kept.
    AttemptsAreNeverPruned,
    /// Whoever claims most is asked for everything.
    OnePeerIsBelieved,
    /// Times that were forgotten are taken for no message.
    ForgottenIsNoMessage,
    /// Peers make others cut a unit that ends in a null.
    AnyRangeIsCut,
    /// What is told again later undoes what is final.
    CountersGoBack,
    /// A void record cuts windows wherever it arrives.
    TheChainsVoidCuts,
    /// A trace that forks by a boot epoch is never compared.
    ForksAreNotCompared,
    /// A message from the far future ends a window.
    TheFutureIsACandidate,
    /// Units that reach over the end are kept when users close.
    CloseStrands,
    /// Whoever reports two commits takes t for a hole.
    ReportedMeansBlocked,
    /// Every late message is answered with what is kept.
    EveryMessageIsAnswered,
    /// What made a t final is rewritten by what is told later.
    FinalIsRewritten,
    /// Whoever has lost the state behind a cell waits, and asks nobody.
    LostStateWaits,
    /// Frames are served to, and taken from, nodes that share no agreement over their sensor.
    AnybodyIsServed,
}

impl Defect {
    /// All of them.
    pub const ALL: [Self; 17] = [
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
        Self::FinalIsRewritten,
        Self::LostStateWaits,
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
