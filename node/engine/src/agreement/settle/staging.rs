//! Who submits what, and when (P-SUBMIT-1): one node at a time, in order of t, several units in a row; the next node only after a
//! stage in which the chain could have settled it and has not. So nothing reverts while all goes well, and nobody can censor.

use super::units::{Unit, Units};
use crate::agreement::Cx;
use crate::agreement::timers::Timer;
use crate::alloc_prelude::*;
use crate::api::{Millis, Submission};
use diversity_round::sabotage::{Defect, on};

/// How far the chain is, and what this node handed to its outbox.
#[derive(Default)]
pub(crate) struct Staging {
    /// First t that the chain has no settlement of.
    chain_next: u64,
    /// Since when `chain_next` is the next one.
    since: Millis,
    /// Ranges of units that this node has submitted.
    submitted: BTreeSet<(u64, u64)>,
    /// Whose turn this node took over: what else is theirs waits a shorter stage, until somebody else settles some of it.
    acting: Option<usize>,
}

/// By how much a stage is shorter for whoever acts for a silent submitter already.
const ACTING: u64 = 4;

impl Staging {
    pub fn restore_settled(&mut self, last: u64) {
        self.chain_next = self.chain_next.max(last + 1);
    }
    /// A restart: every stage begins anew, and what the outbox may not have taken is submitted again.
    pub fn resumed(&mut self, now: Millis) {
        self.since = now;
        self.submitted.clear();
        self.acting = None;
    }
    pub fn chain_next(&self) -> u64 {
        self.chain_next
    }

    /// The chain has settled everything up to t; returns whether that is new. No counter goes back.
    pub fn settled(&mut self, t: u64, now: Millis) -> bool {
        let new = t >= self.chain_next || on(Defect::CountersGoBack);
        if new {
            self.chain_next = t + 1;
            self.since = now;
            if !self.submitted.iter().any(|(_, last)| *last == t) {
                self.acting = None;
            }
            self.submitted.retain(|(_, last)| *last > t);
        }
        new
    }

    /// Another epoch counts from t on: what was submitted of it is to be submitted anew.
    pub fn forget_from(&mut self, t: u64) {
        self.submitted.retain(|(_, last)| *last < t);
    }

    /// Submits what is due.
    pub fn advance(&mut self, units: &Units, cx: &mut Cx<'_>) {
        cx.timers.clear(Timer::Submit);
        let mut expected = self.chain_next;
        let mut mine = true;
        for u in units.iter() {
            // A door is still missing in front of it.
            if u.from() > expected {
                return;
            }
            let Some(ready) = u.ready() else { return };
            let submitter = cx.setting.submitter(u.t());
            let distance = cx.setting.distance(submitter);
            let stage = match self.acting {
                Some(of) if of == submitter => cx.io.config.settle_stage_ms / ACTING,
                _ => cx.io.config.settle_stage_ms,
            };
            let is_next = u.from() <= self.chain_next;
            if !self.submitted.contains(&(u.from(), u.t())) {
                let due = ready.max(self.since) + distance * stage;
                if is_next && due > cx.io.now {
                    cx.timers.set(Timer::Submit, due);
                    return;
                }
                // Behind what is not settled yet, only this node's own row of transactions keeps the order.
                if !is_next && (distance > 0 || !mine) {
                    return;
                }
                if distance > 0 {
                    self.acting = Some(submitter);
                }
                self.submit(units, u, cx);
            }
            mine = distance == 0;
            expected = u.t() + 1;
        }
    }

    fn submit(&mut self, units: &Units, u: &Unit, cx: &mut Cx<'_>) {
        for settlement in units.settlements(u, self.chain_next) {
            cx.io.submit(Submission::Settle {
                agreement: cx.setting.id,
                settlement,
            });
        }
        self.submitted.insert((u.from(), u.t()));
    }
}
