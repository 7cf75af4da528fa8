//! Every deadline of an agreement, in one table: what is not in it cannot be due, and what is in it cannot be left out.

use crate::alloc_prelude::*;
use crate::api::Millis;

/// What may be due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The leader of the first undecided t was silent (P-LEAD-1).
    Leader,
    /// A message that was from the future no longer is (P-WINDOW-2).
    Candidate,
    /// The grace of the open window is over (P-HELD-1).
    Grace,
    /// The own list of open sensors is shown again (P-HELD-4).
    HeldAgain,
    /// `f` is tried again on the window that this node could not run it on (P-EXEC-3).
    Execution,
    /// An incomplete batch is settled anyway (P-UNIT-1).
    Idle,
    /// This node may submit the unit that is next (P-SUBMIT-1).
    Submit,
    /// The certificate of this t has waited long enough for the aggregated signature (P-MUSIG-3).
    Fallback(u64),
    /// The signing session over `from..=t` made no progress (P-MUSIG-1).
    Attempt(u64, u64),
    /// This node may submit the door of t (P-DOOR-1).
    Door(u64),
    /// The next node is asked for the state behind a cell (P-CELL-3).
    State,
    /// The second reading of t begins or goes on (P-READ-1).
    Reading(u64),
}

/// When what is due.
#[derive(Default)]
pub(crate) struct Timers(BTreeMap<Timer, Millis>);

impl Timers {
    pub fn set(&mut self, timer: Timer, at: Millis) {
        self.0.insert(timer, at);
    }
    /// Sets it unless it runs.
    pub fn start(&mut self, timer: Timer, at: Millis) {
        self.0.entry(timer).or_insert(at);
    }
    pub fn clear(&mut self, timer: Timer) {
        self.0.remove(&timer);
    }
    pub fn retain(&mut self, keep: impl Fn(&Timer) -> bool) {
        self.0.retain(|t, _| keep(t));
    }
    pub fn runs(&self, timer: Timer) -> bool {
        self.0.contains_key(&timer)
    }
    pub fn next(&self) -> Option<Millis> {
        self.0.values().min().copied()
    }
    /// Takes out one that is due.
    pub fn pop(&mut self, now: Millis) -> Option<Timer> {
        let timer = *self.0.iter().find(|(_, at)| **at <= now)?.0;
        self.0.remove(&timer);
        Some(timer)
    }
}
