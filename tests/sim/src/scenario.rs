//! What a seed means: the agreement, the faults, the actor. Every class of fault is on or off by itself, so that seeds also
//! show what one class does alone.

use crate::crypto::Mode;
use crate::function::Behaviour;
use crate::rng::Rng;
use crate::sensors::Planned;
use diversity_proto::entity::Period;
use diversity_proto::terms::{Leader, Qos, WindowSpec};
use std::collections::{BTreeMap, BTreeSet};

/// When the simulated world starts, Unix milliseconds.
pub const START: u64 = 1_760_000_000_000;

/// A Byzantine node's way of lying.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum ActorKind {
    WrongOutput,
    Equivocator,
    Withholder,
    Echo,
    Saboteur,
}

impl ActorKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::WrongOutput,
        Self::Equivocator,
        Self::Withholder,
        Self::Echo,
        Self::Saboteur,
    ];
}

/// Who lies, how, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct ActorPlan {
    /// Node index.
    pub node: usize,
    /// How.
    pub kind: ActorKind,
    /// It behaves from `heal_at` on.
    pub reforms: bool,
    /// Chooses among the variants of the actor.
    pub variant: u64,
}

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

/// The whole plan of a run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Where it comes from.
    pub seed: u64,
    /// Signatures.
    pub mode: Mode,
    /// For each node the user that trusts it.
    pub trust: Vec<u8>,
    /// How windows are cut.
    pub window: WindowSpec,
    /// Windows that the messages are meant to fill.
    pub windows: u64,
    /// For each sensor: its messages, its `q_0`, and the most messages of a frame.
    pub sensors: Vec<(Vec<Planned>, u64, u64)>,
    /// Sensors' period.
    pub period: Period,
    /// Seconds.
    pub future_tolerance_s: u32,
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
    /// Engine setting, milliseconds.
    pub status_interval_ms: u64,
    /// Engine setting, milliseconds.
    pub settle_stage_ms: u64,
    /// Engine setting, milliseconds.
    pub gossip_flush_ms: u64,
    /// Engine setting.
    pub ahead_max: usize,
    /// Engine setting.
    pub q_ahead_max: u64,
    /// Faults end here, world time.
    pub heal_at: u64,
    /// Between nodes.
    pub net: NetFaults,
    /// Longest ordinary delay between nodes, milliseconds.
    pub delay_ms: u64,
    /// Partitions.
    pub partitions: Vec<Partition>,
    /// Crashes.
    pub crashes: Vec<Crash>,
    /// Slowest flush, milliseconds.
    pub disk_ms: u64,
    /// Slowest verification, signature and so on, milliseconds.
    pub job_ms: u64,
    /// Slowest execution, milliseconds.
    pub execute_ms: u64,
    /// Offset of each node's clock, milliseconds.
    pub skew_ms: Vec<i64>,
    /// Milliseconds between blocks.
    pub block_ms: u64,
    /// Slowest answer of the chain's endpoint, milliseconds.
    pub rpc_ms: u64,
    /// Times when no block is made and nothing is answered.
    pub outages: Vec<(u64, u64)>,
    /// Submissions that get lost while faults last, per mille.
    pub submit_loss: u64,
    /// Events that are told again while faults last, per mille.
    pub repeat: u64,
    /// Who lies.
    pub actor: Option<ActorPlan>,
}

impl Scenario {
    /// The plan of a seed.
    pub fn new(seed: u64, mode: Mode) -> Self {
        let mut rng = Rng::new(seed, 0);
        let n = rng.pick(&[2, 3, 3, 3, 4, 4, 5, 6, 7]);
        let users = rng.range(2, 3.min(n)) as u8;
        // Every user trusts at least one node.
        let mut trust: Vec<u8> = (0..n)
            .map(|i| {
                if i < u64::from(users) {
                    i as u8
                } else {
                    rng.below(users.into()) as u8
                }
            })
            .collect();
        rng.shuffle(&mut trust);
        let round_timeout_ms = rng.range(100, 800) as u32;
        let heal_at = START + rng.range(2_000, 15_000);
        let mut s = Self {
            seed,
            mode,
            trust,
            window: WindowSpec::Count { z: 1, slide: 1 },
            windows: rng.range(2, 10),
            sensors: Vec::new(),
            period: Period::None,
            future_tolerance_s: rng.range(0, 5) as u32,
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
            status_interval_ms: rng.range(100, 600),
            settle_stage_ms: rng.range(200, 1_500),
            gossip_flush_ms: rng.pick(&[0, 10, 100]),
            ahead_max: rng.pick(&[1, 2, 4, 8]),
            q_ahead_max: rng.pick(&[16, 64, 1024]),
            heal_at,
            net: NetFaults::default(),
            delay_ms: rng.pick(&[1, 5, 20, 60]),
            partitions: Vec::new(),
            crashes: Vec::new(),
            disk_ms: rng.pick(&[0, 2, 20, 80]),
            job_ms: rng.pick(&[0, 1, 5]),
            execute_ms: rng.pick(&[0, 2, 30]),
            skew_ms: vec![0; n as usize],
            block_ms: rng.range(100, 1_000),
            rpc_ms: rng.pick(&[1, 20, 100]),
            outages: Vec::new(),
            submit_loss: 0,
            repeat: 0,
            actor: None,
        };
        s.plan_windows(&mut rng);
        s.plan_behaviour(&mut rng, n);
        s.plan_faults(&mut rng, n);
        if rng.chance(450) {
            s.actor = Some(ActorPlan {
                node: rng.index(n as usize),
                kind: rng.pick(&ActorKind::ALL),
                reforms: rng.chance(500),
                variant: rng.below(1 << 16),
            });
        }
        s
    }

    /// The same plan without any fault or actor, for tests that break one thing on purpose.
    pub fn calm(seed: u64, mode: Mode) -> Self {
        let mut s = Self::new(seed, mode);
        s.net = NetFaults::default();
        s.partitions.clear();
        s.crashes.clear();
        s.outages.clear();
        s.skew_ms.fill(0);
        (s.submit_loss, s.repeat, s.actor) = (0, 0, None);
        s.abstains.clear();
        s
    }

    /// Number of nodes.
    pub fn nodes(&self) -> usize {
        self.trust.len()
    }
    /// What `f` does at t.
    pub fn behaviour(&self, t: u64) -> Behaviour {
        self.behaviours.get(&t).copied().unwrap_or(Behaviour::Value)
    }
    /// Whether every node abstains at t.
    pub fn all_abstain(&self, t: u64) -> bool {
        (0..self.nodes()).all(|i| self.abstains.contains(&(i, t)))
    }
    /// Whether the node never lies.
    pub fn honest(&self, node: usize) -> bool {
        self.actor.is_none_or(|a| a.node != node)
    }

    fn plan_windows(&mut self, rng: &mut Rng) {
        let sensors = rng.range(1, 3);
        let frame_max = rng.pick(&[1, 3, 8]);
        let emit_ms = (self.heal_at - START) * rng.pick(&[2, 5, 8]) / 5;
        let start_s = START / 1000;
        let kind = rng.below(3);
        self.window = match kind {
            0 => {
                let z = rng.range(1, 6) as u32;
                // A slide below z overlaps, above z leaves messages out.
                WindowSpec::Count {
                    z,
                    slide: rng.range(1, u64::from(z) + 1) as u32,
                }
            }
            1 => WindowSpec::Seconds {
                start: start_s,
                seconds: (emit_ms / 1000 / self.windows).max(1),
            },
            // Old data, as fast as it goes: sensor time has nothing to do with the world's.
            _ => {
                self.period = Period::Month;
                WindowSpec::Month {
                    start: diversity_proto::time::month_start(2015 + rng.below(3), 10),
                }
            }
        };
        for _ in 0..sensors {
            let q0 = rng.below(4);
            let plan = match self.window {
                WindowSpec::Count { z, slide } => {
                    let full = q0 + u64::from(slide) * (self.windows - 1) + u64::from(z);
                    let count = full + rng.below(2);
                    self.live_messages(rng, count, emit_ms)
                }
                WindowSpec::Seconds { seconds, .. } => {
                    let count = q0 + self.windows * rng.range(1, 5);
                    let mut plan = self.live_messages(rng, count, emit_ms);
                    // Heartbeats, so that the last window closes.
                    let end = start_s + self.windows * seconds;
                    plan.push(Planned {
                        at: START + (end * 1000 - START).max(emit_ms),
                        time: end + rng.below(2),
                        reboot: false,
                    });
                    plan
                }
                WindowSpec::Month { start } => self.old_messages(rng, start, q0, emit_ms),
            };
            self.sensors.push((plan, q0, frame_max));
        }
    }

    /// Messages in the time of the world; clocks are off and jump.
    fn live_messages(&self, rng: &mut Rng, count: u64, emit_ms: u64) -> Vec<Planned> {
        let mut at: Vec<_> = (0..count).map(|_| START + rng.below(emit_ms)).collect();
        at.sort_unstable();
        let wild = rng.chance(300);
        let off = rng.below(3) as i64 - 1;
        let reboots = rng.chance(300);
        at.into_iter()
            .map(|at| {
                let jump = if wild && rng.chance(150) {
                    rng.below(12) as i64 - 6
                } else {
                    0
                };
                Planned {
                    at,
                    time: (at / 1000).saturating_add_signed(off + jump),
                    reboot: reboots && rng.chance(100),
                }
            })
            .collect()
    }

    /// Messages of past months, at most a few a month, and a heartbeat at each month's end.
    fn old_messages(&self, rng: &mut Rng, start: u64, q0: u64, emit_ms: u64) -> Vec<Planned> {
        let mut times: Vec<u64> = (0..q0).map(|_| start).collect();
        for t in 0..self.windows {
            let (from, to) = self.window.span(t);
            let mut month: Vec<_> = (0..rng.below(5))
                .map(|_| from + rng.below(to - from))
                .collect();
            month.sort_unstable();
            times.extend(month);
            times.push(to);
        }
        let step = emit_ms / 2 / times.len() as u64;
        (0..)
            .zip(times)
            .map(|(i, time)| Planned {
                at: START + i * step,
                time,
                reboot: false,
            })
            .collect()
    }

    fn plan_behaviour(&mut self, rng: &mut Rng, n: u64) {
        let nulls = if rng.chance(400) {
            rng.range(100, 700)
        } else {
            0
        };
        let traps = if rng.chance(200) { 150 } else { 0 };
        for t in 0..self.windows {
            if rng.chance(nulls) {
                self.behaviours.insert(t, Behaviour::Null);
            } else if rng.chance(traps) {
                self.behaviours.insert(t, Behaviour::Trap);
            }
        }
        if rng.chance(100) {
            let t = rng.below(self.windows);
            let all = rng.chance(500);
            let one = rng.below(n) as usize;
            self.abstains = (0..n as usize)
                .filter(|i| all || *i == one)
                .map(|i| (i, t))
                .collect();
        }
    }

    fn plan_faults(&mut self, rng: &mut Rng, n: u64) {
        let span = self.heal_at - START;
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
        if rng.chance(600) {
            for _ in 0..rng.range(1, 8) {
                self.crashes.push(Crash {
                    at: START + rng.below(span),
                    node: rng.index(n as usize),
                    effects: rng.below(6) as u32,
                    down_ms: rng.pick(&[0, 10, 500, 4_000]),
                });
            }
        }
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
        if rng.chance(400) {
            for s in &mut self.skew_ms {
                *s = rng.below(4_000) as i64 - 2_000;
            }
        }
    }
}
