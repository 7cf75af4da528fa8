//! What goes wrong outside the nodes, and when.

use super::{Classes, START, Scenario};
use crate::rng::Rng;

/// Nodes on the two sides of a partition cannot talk from `from` to `to`.
#[derive(Clone, Copy, Debug)]
pub struct Partition {
    /// World time, milliseconds.
    pub from: u64,
    /// World time, milliseconds.
    pub to: u64,
    /// Bit i: node i is on the one side.
    pub side: u32,
}

/// A node dies after this many more effects from `at` on, and stays away for `down_ms`.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    /// World time, milliseconds.
    pub at: u64,
    /// Who.
    pub node: usize,
    /// Effects that are still carried out.
    pub effects: u32,
    /// How long it is down.
    pub down_ms: u64,
}

/// A node's disk is copied at `taken_at`; at `restored_at` the node dies and starts again from the copy.
#[derive(Clone, Copy, Debug)]
pub struct Backup {
    /// World time, milliseconds.
    pub taken_at: u64,
    /// World time, milliseconds.
    pub restored_at: u64,
    /// Whose.
    pub node: usize,
}

/// How messages fare while faults last.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetFaults {
    /// Lost, per mille.
    pub loss: u64,
    /// Delivered twice, per mille.
    pub duplicate: u64,
    /// Delivered up to `slow_ms` late, per mille.
    pub slow: u64,
    /// See `slow`.
    pub slow_ms: u64,
}

impl Scenario {
    pub(super) fn plan_faults(&mut self, rng: &mut Rng, more: &mut Rng, classes: Classes) {
        self.plan_network(rng);
        self.plan_crashes(rng);
        self.plan_chain(rng);
        if rng.chance(400) {
            for s in &mut self.skew_ms {
                *s = rng.below(4_000) as i64 - 2_000;
            }
        }
        let span = self.heal_at - START;
        if more.chance(200) {
            for lag in &mut self.lag_ms {
                *lag = more.pick(&[0, 0, 200, 3_000]);
            }
        }
        self.stranger = more.chance(200);
        let backup = more.chance(100).then(|| {
            let taken_at = START + more.below(span);
            Backup {
                taken_at,
                restored_at: taken_at + more.below(self.heal_at - taken_at),
                node: more.index(self.nodes),
            }
        });
        self.backup = backup.filter(|_| classes.backups);
    }

    fn plan_network(&mut self, rng: &mut Rng) {
        let (n, span) = (self.nodes, self.heal_at - START);
        if rng.chance(500) {
            self.net.loss = rng.pick(&[10, 50, 200, 400]);
        }
        if rng.chance(500) {
            self.net.duplicate = rng.pick(&[20, 200]);
        }
        if rng.chance(500) {
            (self.net.slow, self.net.slow_ms) = (rng.pick(&[20, 200]), rng.pick(&[200, 3_000]));
        }
        if rng.chance(400) {
            for _ in 0..rng.range(1, 3) {
                let from = START + rng.below(span);
                let to = (from + rng.range(100, 8_000)).min(self.heal_at);
                let side = rng.range(1, (1 << n) - 2) as u32;
                self.partitions.push(Partition { from, to, side });
            }
        }
    }

    fn plan_crashes(&mut self, rng: &mut Rng) {
        let (n, span) = (self.nodes, self.heal_at - START);
        if rng.chance(600) {
            for _ in 0..rng.range(1, 8) {
                self.crashes.push(Crash {
                    at: START + rng.below(span),
                    node: rng.index(n),
                    effects: rng.below(6) as u32,
                    down_ms: rng.pick(&[0, 10, 500, 4_000]),
                });
            }
        }
    }

    fn plan_chain(&mut self, rng: &mut Rng) {
        let span = self.heal_at - START;
        if rng.chance(300) {
            let from = START + rng.below(span);
            self.outages
                .push((from, (from + rng.range(500, 10_000)).min(self.heal_at)));
        }
        if rng.chance(400) {
            self.submit_loss = rng.pick(&[100, 500]);
        }
        if rng.chance(400) {
            self.repeat = rng.pick(&[100, 500]);
        }
    }
}
