//! How often what is stored is sent to whoever asks: a small message must not call for megabytes (P-CERT-2).

use crate::alloc_prelude::*;
use crate::api::Millis;
use diversity_round::sabotage::{Defect, on};

/// Records that one peer is sent within a second, at most.
const A_SECOND_MAX: u32 = 128;

/// What was sent to whom lately.
#[derive(Default)]
pub(crate) struct Served {
    second: Millis,
    counts: BTreeMap<usize, u32>,
    last: BTreeMap<(usize, u8, u64), Millis>,
}

impl Served {
    /// Whether the record of this family and t may be sent to this peer now: each once in `every`, and not too many.
    pub fn may(&mut self, peer: usize, family: u8, t: u64, every: Millis, now: Millis) -> bool {
        if now / 1_000 != self.second {
            self.second = now / 1_000;
            self.counts.clear();
            self.last.retain(|_, at| *at + every > now);
        }
        let count = self.counts.entry(peer).or_default();
        let last = self.last.get(&(peer, family, t));
        if on(Defect::EveryMessageIsAnswered) {
            return true;
        }
        if *count >= A_SECOND_MAX || last.is_some_and(|at| at + every > now) {
            return false;
        }
        *count += 1;
        self.last.insert((peer, family, t), now);
        true
    }
}
