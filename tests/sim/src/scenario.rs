//! What a seed means: the agreements, the faults, the actor. Every class of fault is on or off by itself, so that seeds also
//! show what one class does alone.

use crate::crypto::Mode;
use crate::rng::Rng;
use crate::sensors::Planned;
use diversity_proto::entity::Period;

mod agreements;
mod classes;
mod faults;
mod lies;
mod messages;
mod oddities;

pub use agreements::AgreementPlan;
pub use classes::Classes;
pub use faults::{Backup, Crash, NetFaults, Partition};
pub use lies::{ActorKind, ActorPlan};
pub use oddities::Oddity;

/// When the simulated world starts, Unix milliseconds.
pub const START: u64 = 1_760_000_000_000;

/// A sensor of the plan.
#[derive(Clone, Debug)]
pub struct SensorPlan {
    /// What it says, from q = 0 on.
    pub messages: Vec<Planned>,
    /// What it would say if nothing were wrong with it.
    pub meant: Vec<Planned>,
    /// Most messages of a frame.
    pub frame_max: u64,
    /// What is wrong with it.
    pub oddity: Option<Oddity>,
}

impl SensorPlan {
    /// Whether it signs a q more than once.
    pub fn signs_again(&self) -> bool {
        self.two_tongues() || matches!(self.oddity, Some(Oddity::Reframes { .. }))
    }
    /// Whether it signs different things for one q.
    pub fn two_tongues(&self) -> bool {
        matches!(
            self.oddity,
            Some(Oddity::Contradicts { .. } | Oddity::Forks { .. })
        )
    }
}

/// The whole plan of a run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Where it comes from.
    pub seed: u64,
    /// Signatures.
    pub mode: Mode,
    /// Number of nodes.
    pub nodes: usize,
    /// One to four, over shared sensors.
    pub agreements: Vec<AgreementPlan>,
    /// The sensors.
    pub sensors: Vec<SensorPlan>,
    /// Sensors' period.
    pub period: Period,
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
    /// A node whose disk is replaced by an older copy of itself.
    pub backup: Option<Backup>,
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
    /// How far the endpoint of each node lags behind the chain while faults last, milliseconds.
    pub lag_ms: Vec<u64>,
    /// Times when no block is made and nothing is answered.
    pub outages: Vec<(u64, u64)>,
    /// Submissions that get lost while faults last, per mille.
    pub submit_loss: u64,
    /// Events that are told again while faults last, per mille.
    pub repeat: u64,
    /// Somebody outside the network sends rubbish to every door.
    pub stranger: bool,
    /// Users look at their agreements and say what counts where nodes cannot.
    pub users: bool,
    /// Who lies.
    pub actor: Option<ActorPlan>,
}

impl Scenario {
    /// The plan of a seed, with every class of faults.
    pub fn new(seed: u64, mode: Mode) -> Self {
        Self::with(seed, mode, Classes::all())
    }

    /// The plan of a seed with these classes of faults. A class that is switched on leaves the rest of the plan as it is.
    pub fn with(seed: u64, mode: Mode, classes: Classes) -> Self {
        let mut rng = Rng::new(seed, 0);
        let n = rng.pick(&[2, 3, 3, 3, 4, 4, 5, 6, 7]);
        let heal_at = START + rng.range(2_000, 15_000);
        let mut s = Self {
            seed,
            mode,
            nodes: n as usize,
            agreements: Vec::new(),
            sensors: Vec::new(),
            period: Period::None,
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
            backup: None,
            disk_ms: rng.pick(&[0, 2, 20, 80]),
            job_ms: rng.pick(&[0, 1, 5]),
            execute_ms: rng.pick(&[0, 2, 30]),
            skew_ms: vec![0; n as usize],
            block_ms: rng.range(100, 1_000),
            rpc_ms: rng.pick(&[1, 20, 100]),
            lag_ms: vec![0; n as usize],
            outages: Vec::new(),
            submit_loss: 0,
            repeat: 0,
            stranger: false,
            users: classes.resolutions,
            actor: None,
        };
        s.plan_first(&mut rng);
        s.plan_more(&mut Rng::new(seed, 10), classes);
        s.plan_faults(&mut rng, &mut Rng::new(seed, 11), classes);
        s.plan_actor(&mut rng, &mut Rng::new(seed, 12), classes);
        s.plan_oddities(&mut Rng::new(seed, 13), classes);
        s.plan_harmless_oddities(&mut Rng::new(seed, 15), classes);
        s.plan_lists(&mut Rng::new(seed, 16), classes);
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
        s.lag_ms.fill(0);
        (s.submit_loss, s.repeat, s.actor) = (0, 0, None);
        (s.stranger, s.backup) = (false, None);
        s.agreements.iter_mut().for_each(|a| a.abstains.clear());
        for x in &mut s.sensors {
            x.oddity = None;
            x.messages.clone_from(&x.meant);
        }
        s
    }

    /// A calm plan in which one node cannot run `f` at some t, so that all read it once more, while another has its disk replaced by
    /// an older copy of itself, at any moment before or behind that. No users help.
    pub fn lost_reading(seed: u64, mode: Mode) -> Self {
        // In odd ones a second reading succeeds at its second try.
        let mut s = Self::calm(2 * seed + 1, mode);
        let mut rng = Rng::new(seed, 17);
        s.users = false;
        s.heal_at = START + 20_000;
        let a = &mut s.agreements[0];
        let mut nodes = a.nodes.clone();
        rng.shuffle(&mut nodes);
        let t = rng.below(3);
        a.behaviours.remove(&t);
        a.abstains = [(nodes[0], t)].into();
        a.abstain_ms = 300;
        a.closes = None;
        let taken_at = START + rng.range(200, 9_000);
        s.backup = Some(Backup {
            taken_at,
            restored_at: taken_at + rng.range(500, 9_000),
            node: nodes[1],
        });
        s
    }

    /// Whether the node never lies.
    pub fn honest(&self, node: usize) -> bool {
        self.actor.is_none_or(|a| a.node != node)
    }
    /// The liar, if this agreement has it.
    pub fn actor_in(&self, agreement: usize) -> Option<ActorPlan> {
        self.actor
            .filter(|a| self.agreements[agreement].nodes.contains(&a.node))
    }
    /// Agreements over this sensor.
    pub fn over(&self, sensor: usize) -> impl Iterator<Item = &AgreementPlan> {
        self.agreements
            .iter()
            .filter(move |a| a.sensors.iter().any(|(s, _)| *s == sensor))
    }
    /// Nodes of agreements over this sensor.
    pub fn takers(&self, sensor: usize) -> Vec<usize> {
        (0..self.nodes)
            .filter(|i| self.over(sensor).any(|a| a.nodes.contains(i)))
            .collect()
    }
}
