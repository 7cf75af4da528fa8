//! One node of the simulated world: the real core, and all that lies around it in a process.

use crate::actors::Actor;
use crate::crypto::{Party, SecretNonce};
use crate::disk::Disk;
use diversity_engine::Node;
use diversity_engine::api::{Evidence, Job, Settlement, Submission, Ticket};
use diversity_proto::round::Session;
use diversity_proto::{Address, AgreementId};
use std::collections::BTreeMap;

/// Names a submission: equal ones are one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A settlement of a range in one of its forms.
    Settle {
        /// Which agreement.
        agreement: AgreementId,
        /// First t.
        from: u64,
        /// Last t.
        t: u64,
        /// Single, batch, reveals.
        form: u8,
    },
    /// A dispute.
    Dispute {
        /// Which agreement.
        agreement: AgreementId,
        /// Which execution.
        t: u64,
        /// Which kind of evidence.
        kind: u8,
        /// Who is accused: a node or a sensor.
        accused: Option<Address>,
    },
}

impl Key {
    /// The key of a submission for an agreement.
    pub fn of(agreement: AgreementId, s: &Submission) -> Self {
        match s {
            Submission::Settle {
                from,
                t,
                settlement,
            } => {
                let form = match settlement {
                    Settlement::Single { .. } => 0,
                    Settlement::Batch { .. } => 1,
                    Settlement::Reveals { .. } => 2,
                };
                Self::Settle {
                    agreement,
                    from: *from,
                    t: *t,
                    form,
                }
            }
            Submission::Dispute { t, evidence, .. } => {
                let (kind, accused) = match evidence {
                    Evidence::Equivocation { node, .. } => (0, Some(node.address())),
                    Evidence::FalseOpening { node, .. } => (1, Some(node.address())),
                    Evidence::UnequalReveals { .. } => (2, None),
                    Evidence::SensorContradiction { sensor, .. } => (3, Some(sensor.address())),
                };
                Self::Dispute {
                    agreement,
                    t: *t,
                    kind,
                    accused,
                }
            }
        }
    }
}

impl Key {
    /// A settlement of this agreement that begins below `next_t`.
    pub fn overtaken(&self, a: &AgreementId, next_t: u64) -> bool {
        matches!(self, Self::Settle { agreement, from, .. } if agreement == a && *from < next_t)
    }
}

/// A submission in the durable outbox of the chain.
#[derive(Clone, Debug)]
pub struct Queued {
    /// For which agreement.
    pub agreement: AgreementId,
    /// What.
    pub submission: Submission,
    /// A crash before this loses it.
    pub durable_at: u64,
}

/// A node and its surroundings.
pub struct Host {
    /// Its keys.
    pub party: Party,
    /// The core, while the process runs.
    pub core: Option<Node>,
    /// Grows with each start: answers to an earlier process are lost.
    pub incarnation: u32,
    /// Survives crashes.
    pub disk: Disk,
    /// Survives crashes, but for the newest entries.
    pub outbox: BTreeMap<Key, Queued>,
    /// Secret nonces, lost at a crash.
    pub nonces: BTreeMap<Session, SecretNonce>,
    /// Peers that it believes to be reachable.
    pub linked: Vec<bool>,
    /// Which sensor waits for which ticket.
    pub tickets: BTreeMap<Ticket, usize>,
    /// Which peer waits for which repair token.
    pub tokens: BTreeMap<u64, usize>,
    /// Next ticket or token.
    pub counter: u64,
    /// News of the chain told so far.
    pub cursor: usize,
    /// The cursor after the last poll.
    pub told: usize,
    /// Survives crashes: what came before it is durable in the core's records.
    pub safe_cursor: usize,
    /// When its next tick is scheduled.
    pub wake: Option<u64>,
    /// Its latest waiting flush.
    pub flush_at: u64,
    /// Effects that it still carries out before it dies, and how long it stays away then.
    pub doomed: Option<(u32, u64)>,
    /// Lies on its behalf.
    pub actor: Option<Box<dyn Actor>>,
    /// The jobs whose persist was reported (for the driver's own checks).
    pub reported: Vec<Job>,
}

impl Host {
    /// A node that was never started.
    pub fn new(party: Party, nodes: usize, actor: Option<Box<dyn Actor>>) -> Self {
        Self {
            party,
            core: None,
            incarnation: 0,
            disk: Disk::default(),
            outbox: BTreeMap::new(),
            nonces: BTreeMap::new(),
            linked: vec![false; nodes],
            tickets: BTreeMap::new(),
            tokens: BTreeMap::new(),
            counter: 0,
            cursor: 0,
            told: 0,
            safe_cursor: 0,
            wake: None,
            flush_at: 0,
            doomed: None,
            actor,
            reported: Vec::new(),
        }
    }
    /// The process dies: memory is gone, the disk keeps what had reached it.
    pub fn die(&mut self, now: u64) {
        self.core = None;
        self.incarnation += 1;
        self.nonces.clear();
        self.linked.fill(false);
        self.tickets.clear();
        self.tokens.clear();
        self.outbox.retain(|_, q| q.durable_at <= now);
        self.wake = None;
        self.doomed = None;
        self.reported.clear();
    }
    /// A number that this process has not used.
    pub fn fresh(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }
}
