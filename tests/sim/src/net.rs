//! What becomes of a message on its way between nodes.

use crate::rng::Rng;
use crate::scenario::Scenario;

/// The network between nodes, and between sensors and nodes.
#[derive(Debug)]
pub struct Net {
    rng: Rng,
    nodes: usize,
}

impl Net {
    /// The network of a scenario.
    pub fn new(s: &Scenario) -> Self {
        Self {
            rng: Rng::new(s.seed, 1),
            nodes: s.nodes,
        }
    }
    /// Whether two nodes are on different sides of a partition.
    pub fn cut(&self, s: &Scenario, now: u64, a: usize, b: usize) -> bool {
        let far = |side: u32| (side >> a ^ side >> b) & 1 == 1;
        a < self.nodes
            && b < self.nodes
            && s.partitions
                .iter()
                .any(|p| (p.from..p.to).contains(&now) && far(p.side))
    }
    /// When a message that leaves now arrives: never, once or twice. `from` beyond the nodes is a sensor, which no partition stops.
    pub fn arrivals(&mut self, s: &Scenario, now: u64, from: usize, to: usize) -> Vec<u64> {
        if self.cut(s, now, from, to) {
            return Vec::new();
        }
        let one = |rng: &mut Rng| {
            let slow = now < s.heal_at && rng.chance(s.net.slow);
            let late = if slow { rng.below(s.net.slow_ms) } else { 0 };
            now + rng.range(1, s.delay_ms) + late
        };
        let faulty = now < s.heal_at;
        if faulty && self.rng.chance(s.net.loss) {
            return Vec::new();
        }
        let mut out = vec![one(&mut self.rng)];
        if faulty && self.rng.chance(s.net.duplicate) {
            out.push(one(&mut self.rng));
        }
        out
    }
}
