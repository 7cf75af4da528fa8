//! One node of the simulated world: the real core, and all that lies around it in a process.

use crate::actors::Actor;
use crate::crypto::{Party, SecretNonce};
use crate::disk::Disk;
use diversity_engine::Node;
use diversity_engine::api::{Job, Submission, SubmissionId, Ticket};
use diversity_proto::AgreementId;
use diversity_proto::round::Session;
use std::collections::{BTreeMap, BTreeSet};

/// A submission in the durable outbox of the chain.
#[derive(Clone, Debug)]
pub struct Queued {
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
    pub outbox: BTreeMap<SubmissionId, Queued>,
    /// Secret nonces, lost at a crash.
    pub nonces: BTreeMap<Session, SecretNonce>,
    /// Peers that it believes to be reachable.
    pub linked: Vec<bool>,
    /// Which sensor waits for which ticket.
    pub tickets: BTreeMap<Ticket, usize>,
    /// Which peer waits for which repair token.
    pub tokens: BTreeMap<u64, usize>,
    /// Tokens of those who may have nothing.
    pub strangers: BTreeSet<u64>,
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
    /// For each agreement, below which t all was final when it was looked at last.
    pub final_below: BTreeMap<AgreementId, u64>,
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
            strangers: BTreeSet::new(),
            counter: 0,
            cursor: 0,
            told: 0,
            safe_cursor: 0,
            wake: None,
            flush_at: 0,
            doomed: None,
            final_below: BTreeMap::new(),
            actor,
            reported: Vec::new(),
        }
    }
    /// The process dies: memory is gone, the disk keeps what had reached it.
    pub fn die(&mut self, now: u64) {
        self.core = None;
        self.incarnation += 1;
        self.nonces.clear();
        self.final_below.clear();
        self.linked.fill(false);
        self.tickets.clear();
        self.tokens.clear();
        self.strangers.clear();
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
