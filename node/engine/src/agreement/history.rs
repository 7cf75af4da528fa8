//! What of an agreement is decided: the status of each t in order, what the next outcome speaks of, and under which epoch
//! (design §3, §3b).

use crate::alloc_prelude::*;
use diversity_proto::round::HOLES_MAX;

/// The decided part of an agreement.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// First t without a status.
    next: u64,
    /// First t of which the next outcome speaks.
    from: u64,
    /// Holes since.
    holes: Vec<u64>,
    /// Epoch that `next` is committed under.
    epoch: u32,
    /// Unequal states at this t: t+1 starts from its cell.
    blocked: Option<u64>,
    /// The last t that settles, once all users have closed the agreement.
    last: Option<u64>,
}

impl History {
    pub fn next(&self) -> u64 {
        self.next
    }
    pub fn epoch(&self) -> u32 {
        self.epoch
    }
    pub fn blocked(&self) -> Option<u64> {
        self.blocked
    }
    /// `from` and holes of the reveal of the next t (P-REVEAL-3): they follow from first readings and resolutions in band alone.
    pub fn range(&self) -> (u64, &[u64]) {
        (self.from, &self.holes)
    }
    /// Whether t may still become final.
    pub fn within(&self, t: u64) -> bool {
        self.last.is_none_or(|last| t <= last)
    }

    /// n equal reveals of the next t.
    pub fn outcome(&mut self, null: bool) {
        self.next += 1;
        if !null {
            self.from = self.next;
            self.holes.clear();
        }
    }
    /// n unequal reveals of the next t (P-STATE-1).
    pub fn hole(&mut self, state_agreed: bool) {
        self.holes.push(self.next);
        if !state_agreed {
            self.blocked = Some(self.next);
        }
        self.next += 1;
        // More than an outcome can list: the next one speaks of what lies behind them, and waits for their doors.
        if self.holes.len() == HOLES_MAX {
            self.from = self.next;
            self.holes.clear();
        }
    }
    /// P-CELL-2: the cell of the t that everything waits for says what t+1 starts from; t+1 is committed under the next epoch.
    pub fn cell(&mut self, t: u64) -> bool {
        let unblocks = self.blocked == Some(t);
        if unblocks {
            self.blocked = None;
            self.epoch += 1;
        }
        unblocks
    }
    /// P-BAND-1: the users settled t themselves; whatever this node thought of t and of what follows is gone.
    pub fn resolved(&mut self, t: u64, epoch: u32) {
        self.next = t + 1;
        self.from = t + 1;
        self.holes.clear();
        self.blocked = None;
        self.epoch = epoch;
    }
    pub fn close(&mut self, last: u64) {
        self.last = Some(last);
    }
}
