//! The agreements of a plan: who is in them, what they cut, when they come and when they end.

use super::{Classes, START, Scenario};
use crate::function::Behaviour;
use crate::rng::Rng;
use diversity_proto::entity::Period;
use diversity_proto::terms::{Leader, Qos, WindowSpec};
use std::collections::{BTreeMap, BTreeSet};

/// How far t is planned ahead where something happens at a t.
const PLANNED: u64 = 40;

/// One agreement.
#[derive(Clone, Debug)]
pub struct AgreementPlan {
    /// Its nodes, ascending, two or more.
    pub nodes: Vec<usize>,
    /// For each of them the user that trusts it.
    pub trust: Vec<u8>,
    /// Its sensors with their `q_0`.
    pub sensors: Vec<(usize, u64)>,
    /// How windows are cut.
    pub window: WindowSpec,
    /// Seconds.
    pub future_tolerance_s: u32,
    /// See the terms.
    pub grace_s: u32,
    /// See the terms.
    pub abstain_ms: u32,
    /// Who leads.
    pub leader: Leader,
    /// See the terms.
    pub flush_ms: u32,
    /// See the terms.
    pub round_timeout_ms: u32,
    /// See the terms.
    pub round_timeout_max_ms: u32,
    /// See the terms.
    pub batch: u16,
    /// See the terms.
    pub qos: Qos,
    /// What `f` does where it is not a value.
    pub behaviours: BTreeMap<u64, Behaviour>,
    /// Whether `f` keeps a carry.
    pub keeps_carry: bool,
    /// `(node, t)` whose execution meets an engine limit, always.
    pub abstains: BTreeSet<(usize, u64)>,
    /// When it stands on chain, world time.
    pub created_at: u64,
    /// When all users close it, world time, and how many t after the first unsettled one still count.
    pub closes: Option<(u64, u64)>,
}

impl AgreementPlan {
    /// An agreement of these nodes over these sensors, otherwise of chance.
    fn draw(rng: &mut Rng, nodes: Vec<usize>, window: WindowSpec) -> Self {
        let n = nodes.len() as u64;
        let users = rng.range(2, 3.min(n));
        // Every user trusts at least one node.
        let mut trust: Vec<u8> = (0..n)
            .map(|i| if i < users { i } else { rng.below(users) } as u8)
            .collect();
        rng.shuffle(&mut trust);
        let round_timeout_ms = rng.range(100, 800) as u32;
        let mut plan = Self {
            trust,
            sensors: Vec::new(),
            window,
            future_tolerance_s: rng.range(0, 5) as u32,
            grace_s: rng.range(1, 6) as u32,
            abstain_ms: rng.pick(&[0, 300, 2_000]),
            leader: if rng.chance(500) {
                Leader::Rotating
            } else {
                Leader::Fixed(rng.below(n) as u8)
            },
            flush_ms: rng.pick(&[0, 5, 50, 200]),
            round_timeout_ms,
            round_timeout_max_ms: round_timeout_ms * rng.pick(&[1, 2, 4]),
            batch: rng.pick(&[1, 1, 1, 2, 4, 16]),
            qos: rng.pick(&[Qos::None, Qos::OffChain]),
            behaviours: BTreeMap::new(),
            keeps_carry: rng.chance(700),
            abstains: BTreeSet::new(),
            created_at: START,
            closes: None,
            nodes,
        };
        plan.plan_behaviour(rng);
        plan
    }

    fn plan_behaviour(&mut self, rng: &mut Rng) {
        let nulls = if rng.chance(400) {
            rng.range(100, 700)
        } else {
            0
        };
        let traps = if rng.chance(200) { 150 } else { 0 };
        for t in 0..PLANNED {
            if rng.chance(nulls) {
                self.behaviours.insert(t, Behaviour::Null);
            } else if rng.chance(traps) {
                self.behaviours.insert(t, Behaviour::Trap);
            }
        }
        if rng.chance(100) {
            let t = rng.below(8);
            let all = rng.chance(500);
            let one = rng.pick(&self.nodes);
            let who = self.nodes.iter().filter(|i| all || **i == one);
            self.abstains = who.map(|i| (*i, t)).collect();
        }
    }

    /// What `f` does at t.
    pub fn behaviour(&self, t: u64) -> Behaviour {
        self.behaviours.get(&t).copied().unwrap_or(Behaviour::Value)
    }
    /// Whether every node abstains at t.
    pub fn all_abstain(&self, t: u64) -> bool {
        self.nodes.iter().all(|i| self.abstains.contains(&(*i, t)))
    }
    /// For each user the nodes that it trusts.
    pub fn by_user(&self) -> Vec<Vec<usize>> {
        let of = |u: u8| {
            let its = self.nodes.iter().zip(&self.trust).filter(|(_, t)| **t == u);
            its.map(|(i, _)| *i).collect()
        };
        (0..self.users()).map(of).collect()
    }
    /// Number of users.
    pub fn users(&self) -> u8 {
        self.trust.iter().max().map_or(0, |u| u + 1)
    }
}

impl Scenario {
    /// The agreement that the messages are made for; it has all sensors, and mostly all nodes.
    pub(super) fn plan_first(&mut self, rng: &mut Rng) {
        let nodes = some_nodes(rng, self.nodes, 800);
        let mut first = AgreementPlan::draw(rng, nodes, WindowSpec::Count { z: 1, slide: 1 });
        self.plan_messages(rng, &mut first);
        self.agreements.push(first);
    }

    /// More agreements over the same sensors.
    pub(super) fn plan_more(&mut self, rng: &mut Rng, classes: Classes) {
        let more = rng.pick(&[0, 0, 1, 1, 2, 3]);
        let by_time = !matches!(self.agreements[0].window, WindowSpec::Count { .. });
        for _ in 0..more {
            let nodes = some_nodes(rng, self.nodes, 400);
            let late = rng.chance(600);
            let (window, old) = self.another_window(rng);
            let mut a = AgreementPlan::draw(rng, nodes, window);
            if old && self.period != Period::None {
                a.grace_s = rng.pick(&[5, 40, 31 * 86_400]);
            }
            a.created_at = if late {
                START + rng.below((self.heal_at - START) * 3 / 2)
            } else {
                START
            };
            for (sensor, plan) in self.sensors.iter().enumerate() {
                if rng.chance(700) || sensor + 1 == self.sensors.len() && a.sensors.is_empty() {
                    let q0 = rng.below(plan.messages.len() as u64 / 2 + 1);
                    a.sensors.push((sensor, q0));
                }
            }
            rng.shuffle(&mut a.sensors);
            // Even agreements of the same moment are not told as one: a crash may come between.
            if classes.older_q0 || !old && !by_time {
                self.agreements.push(a);
            }
        }
        for a in &mut self.agreements {
            let closes = rng.chance(150);
            let at = self.heal_at - rng.below((self.heal_at - START) / 2);
            let after = rng.below(4);
            if closes && (a.batch == 1 || classes.closed_batches) {
                a.closes = Some((at.max(a.created_at + 1), after));
            }
        }
    }

    /// Another way to cut the messages that there are; and whether it goes by their times.
    fn another_window(&self, rng: &mut Rng) -> (WindowSpec, bool) {
        if rng.chance(400) {
            let z = rng.range(1, 6) as u32;
            let slide = rng.range(1, u64::from(z) + 1) as u32;
            return (WindowSpec::Count { z, slide }, false);
        }
        let spec = match self.agreements[0].window {
            WindowSpec::Month { start } if rng.chance(500) => WindowSpec::Month { start },
            WindowSpec::Month { start } => WindowSpec::Seconds {
                start,
                seconds: 86_400 * rng.range(12, 40),
            },
            WindowSpec::Seconds { start, seconds } => WindowSpec::Seconds {
                start: start + rng.below(2),
                seconds: rng.range(1, 2 * seconds),
            },
            WindowSpec::Count { .. } => WindowSpec::Seconds {
                start: START / 1000,
                seconds: rng.range(1, 4),
            },
        };
        (spec, true)
    }
}

/// All nodes in `all` of 1000 cases, else two or more of them.
fn some_nodes(rng: &mut Rng, n: usize, all: u64) -> Vec<usize> {
    let mut nodes: Vec<_> = (0..n).collect();
    if !rng.chance(all) {
        rng.shuffle(&mut nodes);
        nodes.truncate(rng.range(2, n as u64) as usize);
        nodes.sort_unstable();
    }
    nodes
}
