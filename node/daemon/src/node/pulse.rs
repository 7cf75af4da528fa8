//! How regularly a chain makes blocks, as far as that can be seen.
//!
//! A chain that makes blocks without transactions makes them by the clock, and the longest pause before such a block is the
//! longest that it keeps by itself (Besu makes empty blocks more seldom than others, if told so). A chain that never makes one
//! may just have nothing to do.

use std::collections::VecDeque;

/// Pauses that are remembered.
const PAUSES: usize = 16;
/// Blocks between two looks over which a mean is still worth something.
const BLOCKS_BETWEEN_MAX: u64 = 4;
/// So many of the longest pauses are no pause any more.
const PAUSES_OF_A_STALL: u64 = 10;
/// No shorter stall is worth a word: a validator that is down costs the others some seconds.
const STALL_S_MIN: u64 = 30;

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Pulse {
    /// Number and time (Unix seconds) of the newest block.
    last: Option<(u64, u64)>,
    /// Seconds before empty blocks.
    pauses: VecDeque<u64>,
}

impl Pulse {
    /// A new head: its number, its time in Unix seconds, and whether it holds no transaction.
    pub fn block(&mut self, number: u64, time: u64, empty: bool) {
        let Some((n, t)) = self.last.replace((number, time)) else {
            return;
        };
        let blocks = number.saturating_sub(n);
        if !empty || !(1..=BLOCKS_BETWEEN_MAX).contains(&blocks) {
            return;
        }
        if self.pauses.len() == PAUSES {
            self.pauses.pop_front();
        }
        self.pauses
            .push_back(time.saturating_sub(t).div_ceil(blocks));
    }

    /// Whether nothing is known yet.
    pub fn is_new(&self) -> bool {
        self.last.is_none()
    }

    /// How long the head may stand still before that is odd, milliseconds.
    pub fn stall_after_ms(&self) -> Option<u64> {
        let longest = self.pauses.iter().max()?;
        let stall_s = longest.saturating_mul(PAUSES_OF_A_STALL).max(STALL_S_MIN);
        Some(stall_s.saturating_mul(1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(blocks: &[(u64, u64, bool)]) -> Option<u64> {
        let mut pulse = Pulse::default();
        for (number, time, empty) in blocks {
            pulse.block(*number, *time, *empty);
        }
        pulse.stall_after_ms()
    }

    #[test]
    fn a_stall_is_measured_by_the_pauses_that_the_chain_makes_itself() {
        assert_eq!(after(&[]), None);
        assert_eq!(after(&[(1, 100, true)]), None, "one block is no period");
        let second: Vec<_> = (0..20).map(|n| (n, 100 + n, true)).collect();
        assert_eq!(after(&second), Some(30_000));
        let slow: Vec<_> = (0..20).map(|n| (n, 100 + 15 * n, true)).collect();
        assert_eq!(after(&slow), Some(150_000));
        // Besu with emptyblockperiodseconds = 60: a block a second while there is work.
        assert_eq!(
            after(&[
                (1, 100, false),
                (2, 101, false),
                (3, 161, true),
                (4, 162, false)
            ]),
            Some(600_000)
        );
        // Mined on demand: silence means nothing.
        let demand: Vec<_> = (0..20).map(|n| (n, 100 + n * n, false)).collect();
        assert_eq!(after(&demand), None);
        // The node was down, or looks seldom: a long distance is no period.
        assert_eq!(after(&[(1, 100, true), (900, 1_000, true)]), None);
        assert_eq!(after(&[(1, 100, true), (3, 108, true)]), Some(40_000));
    }
}
