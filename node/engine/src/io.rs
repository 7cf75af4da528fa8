//! What a step collects: effects, parts that will travel together, and what is to happen when an answer comes.

use crate::api::{Config, Effect, Job, Millis, Notice, Op, SignatureCheck};
use crate::ingest::{Checked, Pending};
use diversity_proto::round::{Reveal, Session};
use diversity_proto::wire::Part;
use diversity_proto::{AgreementId, Digest, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// What an answered job goes on with.
#[derive(Debug)]
pub(crate) enum After {
    /// Frames whose signatures were checked.
    Frames(Vec<Pending>),
    /// Frames that are durable in this segment.
    Segment(u64, Vec<Checked>),
    /// A part whose signatures were checked.
    Part(NodeId, Part),
    /// Goes on in an agreement.
    Agreement(AgreementId, Then),
    /// Nothing waits.
    Nothing,
}

/// What an agreement goes on with.
#[derive(Debug)]
pub(crate) enum Then {
    CommitDurable(u64),
    RevealSigned(u64, Digest, Reveal),
    RevealDurable(u64, Reveal),
    PartialSigned(Session, Digest, [u8; 32]),
    AggregateDurable(u64),
}

/// The outgoing side of a step.
pub(crate) struct Io {
    pub config: Config,
    pub now: Millis,
    pub effects: Vec<Effect>,
    pub peers: BTreeSet<NodeId>,
    sends: BTreeMap<NodeId, Vec<Part>>,
    held: Vec<(Millis, NodeId, Part)>,
    jobs: BTreeMap<Job, After>,
    next_job: Job,
}

impl Io {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            now: 0,
            effects: Vec::new(),
            peers: BTreeSet::new(),
            sends: BTreeMap::new(),
            held: Vec::new(),
            jobs: BTreeMap::new(),
            next_job: 1,
        }
    }
    pub fn effect(&mut self, e: Effect) {
        self.effects.push(e);
    }
    pub fn notice(&mut self, n: Notice) {
        self.effects.push(Effect::Notice(n));
    }
    pub fn job(&mut self, after: After) -> Job {
        let job = self.next_job;
        self.next_job += 1;
        self.jobs.insert(job, after);
        job
    }
    /// Takes what waits for this job; `None` for a job that is not (or no longer) known.
    pub fn answered(&mut self, job: Job) -> Option<After> {
        self.jobs.remove(&job)
    }
    pub fn persist(&mut self, ops: Vec<Op>, after: After) {
        let job = self.job(after);
        self.effect(Effect::Persist {
            job,
            ops,
            urgent: true,
        });
    }
    /// [`Io::persist`] of what nothing waits for yet: it may share the flush of a later write.
    pub fn persist_soon(&mut self, ops: Vec<Op>, after: After) {
        let job = self.job(after);
        self.effect(Effect::Persist {
            job,
            ops,
            urgent: false,
        });
    }
    pub fn sign(&mut self, digest: Digest, after: After) {
        let job = self.job(after);
        self.effect(Effect::Sign { job, digest });
    }
    pub fn verify(&mut self, checks: Vec<SignatureCheck>, after: After) {
        let job = self.job(after);
        self.effect(Effect::VerifySignatures { job, checks });
    }
    /// Leaves at the end of this step, with whatever else goes there.
    pub fn send(&mut self, to: NodeId, part: Part) {
        self.sends.entry(to).or_default().push(part);
    }
    /// Leaves with the next part to the same node, at the latest at `until`.
    pub fn send_by(&mut self, until: Millis, to: NodeId, part: Part) {
        if until <= self.now {
            self.send(to, part)
        } else {
            self.held.push((until, to, part))
        }
    }
    pub fn held_until(&self) -> Option<Millis> {
        self.held.iter().map(|h| h.0).min()
    }
    /// Ends the step.
    pub fn finish(&mut self) -> Vec<Effect> {
        let now = self.now;
        let due: BTreeSet<NodeId> = self
            .held
            .iter()
            .filter(|h| h.0 <= now || self.sends.contains_key(&h.1))
            .map(|h| h.1)
            .collect();
        if !due.is_empty() {
            let (leave, stay) = std::mem::take(&mut self.held)
                .into_iter()
                .partition(|h| due.contains(&h.1));
            self.held = stay;
            for (_, to, part) in leave {
                // What was held is older than what leaves now.
                self.sends.entry(to).or_default().insert(0, part);
            }
        }
        for (to, parts) in std::mem::take(&mut self.sends) {
            self.effects.push(Effect::Send { to, parts });
        }
        std::mem::take(&mut self.effects)
    }
}
