//! This node's clock beside those of others (P-TIME-3): the times of new blocks, and what peers say that theirs show. Nothing follows
//! from a difference but words: no clock is believed more than this node's own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use diversity_proto::NodeId;

use crate::telemetry::Metrics;

/// Differences up to this are those of networks and of whole seconds, milliseconds.
const PEERS_OFF_MAX_MS: i64 = 10_000;
/// The same for blocks, whose times a busy chain that mines on demand may run ahead with.
const CHAIN_OFF_MAX_MS: i64 = 60_000;
/// A clock that was set back by up to this is soon where it was, milliseconds.
const BACK_MAX_MS: u64 = 10_000;
/// New blocks in a row that must differ.
const BLOCKS: usize = 3;
/// What a peer's clock showed is forgotten after this long, milliseconds.
const STALE_MS: u64 = 120_000;
/// Peers that are compared with, at most.
const PEERS_MAX: usize = 256;

#[derive(Default)]
struct Seen {
    /// By how much this node's clock is ahead, and when that was seen.
    peers: BTreeMap<NodeId, (i64, u64)>,
    /// The same beside the newest blocks, oldest first.
    blocks: Vec<i64>,
    /// The latest that this node's own clock has shown, and by how much it shows less by now.
    latest: u64,
    back: u64,
    told: Vec<&'static str>,
}

/// What clocks of others show. Cheap to clone; what is behind it is one.
#[derive(Clone)]
pub struct Clocks {
    seen: Arc<Mutex<Seen>>,
    metrics: Arc<Metrics>,
}

impl Clocks {
    /// Nothing seen yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            seen: Arc::default(),
            metrics,
        }
    }

    /// A peer says that its clock shows `theirs`, when this node's shows `now`, both Unix milliseconds.
    pub fn peer(&self, node: NodeId, theirs: u64, now: u64) {
        let mut seen = self.seen();
        seen.own(now);
        seen.peers
            .retain(|_, (_, at)| now.saturating_sub(*at) < STALE_MS);
        if seen.peers.len() < PEERS_MAX || seen.peers.contains_key(&node) {
            seen.peers.insert(node, (ahead(now, theirs), now));
        }
        self.look(seen);
    }

    /// A block was mined between `since` and `now` by this node's clock (Unix milliseconds), and says that it was at `timestamp` (Unix
    /// seconds).
    pub fn block(&self, timestamp: u64, since: u64, now: u64) {
        let mined = timestamp.saturating_mul(1_000);
        let off = if mined.saturating_add(1_000) < since {
            ahead(since, mined)
        } else if mined > now {
            ahead(now, mined)
        } else {
            0
        };
        let mut seen = self.seen();
        seen.own(now);
        if seen.blocks.len() == BLOCKS {
            seen.blocks.remove(0);
        }
        seen.blocks.push(off);
        self.look(seen);
    }

    /// Where this node's clock is off, in words.
    pub fn off(&self) -> Vec<String> {
        let seen = self.seen();
        let words = |(with, ms): (&str, i64)| {
            let (seconds, way) = (ms.abs() / 1_000, if ms > 0 { "ahead of" } else { "behind" });
            format!(
                "clock: this node's clock is {seconds} s {way} {with}: check its time service (NTP); windows close by it"
            )
        };
        let mut out = Vec::new();
        if seen.back > BACK_MAX_MS {
            let seconds = seen.back / 1_000;
            out.push(format!(
                "clock: this node's clock was set back by {seconds} s while it ran, and its deadlines stand still for as long: start it again"
            ));
        }
        if let Some(ms) = seen.peers_off() {
            let with = match &seen.peers.keys().collect::<Vec<_>>()[..] {
                [one] => format!("that of its only peer, {one}, or that one is wrong"),
                many => format!("those of most of its {} peers", many.len()),
            };
            out.push(words((&with, ms)));
        }
        if let Some(ms) = seen.chain_off() {
            out.push(words(("the times of new blocks", ms)));
        }
        out
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the metric, and says once when something is off and once when it is well again.
    fn look(&self, mut seen: MutexGuard<'_, Seen>) {
        let measured = [
            ("peers", seen.median(), seen.peers_off()),
            ("chain", seen.blocks.last().copied(), seen.chain_off()),
        ];
        for (with, ahead_ms, off) in measured {
            if let Some(ms) = ahead_ms {
                self.metrics
                    .clock_ahead_ms
                    .get_or_create(&[("with", with.into())])
                    .set(ms);
            }
            let told = seen.told.contains(&with);
            match off {
                Some(ahead_ms) if !told => {
                    seen.told.push(with);
                    tracing::warn!(with, ahead_ms, "clock.off");
                }
                None if told => {
                    seen.told.retain(|t| *t != with);
                    tracing::info!(with, "clock.right_again");
                }
                _ => {}
            }
        }
    }
}

impl Seen {
    /// The core's time never goes back: what a clock that is set back does to it is that nothing is due for a while.
    fn own(&mut self, now: u64) {
        self.latest = self.latest.max(now);
        self.back = self.latest - now;
    }
    /// The middle one of what peers show, which no minority of them can move beyond what an honest one shows.
    fn median(&self) -> Option<i64> {
        let mut all: Vec<_> = self.peers.values().map(|p| p.0).collect();
        all.sort_unstable();
        // Of an even number the one nearer to this node's clock: half of the peers convince nobody.
        let (low, high) = (
            all.get(all.len().checked_sub(1)? / 2)?,
            all.get(all.len() / 2)?,
        );
        Some(if low.abs() < high.abs() { *low } else { *high })
    }
    fn peers_off(&self) -> Option<i64> {
        self.median().filter(|ms| ms.abs() > PEERS_OFF_MAX_MS)
    }
    /// What the newest blocks differ by at least, if all do, the same way.
    fn chain_off(&self) -> Option<i64> {
        if self.blocks.len() < BLOCKS {
            return None;
        }
        let least = self.blocks.iter().copied().min_by_key(|ms| ms.abs())?;
        let alike = |ms: &i64| ms.signum() == least.signum();
        (least.abs() > CHAIN_OFF_MAX_MS && self.blocks.iter().all(alike)).then_some(least)
    }
}

/// By how much `own` is ahead of `other`, milliseconds.
fn ahead(own: u64, other: u64) -> i64 {
    let own = i64::try_from(own).unwrap_or(i64::MAX);
    own.saturating_sub(i64::try_from(other).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_834_000_000;

    fn clocks() -> Clocks {
        Clocks::new(Arc::default())
    }
    fn node(i: u8) -> NodeId {
        NodeId([i; 20])
    }

    #[test]
    fn one_wrong_peer_convinces_nobody_among_several() {
        let c = clocks();
        c.peer(node(1), NOW + 3_600_000, NOW);
        assert!(
            c.off()[0].contains("3600 s behind that of its only peer"),
            "{:?}",
            c.off()
        );
        c.peer(node(2), NOW - 400, NOW);
        assert!(c.off().is_empty(), "one of two");
        c.peer(node(3), NOW + 20, NOW);
        assert!(c.off().is_empty());
        assert!(
            c.metrics
                .text()
                .contains("clock_ahead_ms{with=\"peers\"} -20")
        );
    }

    #[test]
    fn a_clock_that_most_peers_contradict_is_off_until_it_is_set() {
        let c = clocks();
        for i in 1..=3 {
            c.peer(node(i), NOW, NOW + 86_400_000);
        }
        assert!(c.off()[0].contains("86400 s ahead of those of most of its 3 peers"));
        // The clock is set right; what was seen before is forgotten or replaced.
        for i in 1..=3 {
            c.peer(node(i), NOW + 200_000_000, NOW + 200_000_100);
        }
        assert!(c.off().is_empty());
    }

    #[test]
    fn blocks_count_when_they_are_new_and_differ_in_a_row() {
        let c = clocks();
        let now_s = NOW / 1_000;
        // Mined at some time between two looks.
        for i in 0..9 {
            c.block(now_s - i, NOW - 10_000, NOW);
        }
        c.block(now_s + 7_200, NOW - 500, NOW);
        c.block(now_s + 7_201, NOW - 500, NOW);
        assert!(c.off().is_empty(), "two may be the chain's own mistake");
        c.block(now_s + 7_202, NOW - 500, NOW);
        assert!(
            c.off()[0].contains("7200 s behind the times of new blocks"),
            "{:?}",
            c.off()
        );
        c.block(now_s, NOW - 500, NOW);
        assert!(c.off().is_empty());
        for _ in 0..3 {
            c.block(now_s - 7_200, NOW - 500, NOW);
        }
        assert!(c.off()[0].contains("ahead of the times of new blocks"));
    }

    #[test]
    fn a_clock_that_is_set_back_under_a_running_node_is_named() {
        let c = clocks();
        c.peer(node(1), NOW, NOW + 400);
        c.peer(node(1), NOW - 9_000, NOW - 9_000);
        assert!(c.off().is_empty(), "a step of a time service");
        c.peer(node(1), NOW - 86_400_000, NOW - 86_400_000);
        assert!(c.off()[0].contains("set back by 86400 s"), "{:?}", c.off());
        c.peer(node(1), NOW + 400, NOW + 400);
        assert!(c.off().is_empty());
    }

    #[test]
    fn absurd_times_overflow_nothing() {
        let c = clocks();
        c.peer(node(1), u64::MAX, 0);
        c.peer(node(2), 0, u64::MAX);
        for _ in 0..3 {
            c.block(u64::MAX, 0, 1);
        }
        assert!(!c.off().is_empty());
    }
}
