//! What a step collects: effects, parts that will travel together, and what is to happen when an answer comes.

use crate::agreement::{Partial, Pending as PendingPart};
use crate::alloc_prelude::*;
use crate::api::{
    Config, Effect, FrameRef, GasWait, Job, Millis, Notice, Op, SignatureCheck, Submission,
    SubmissionId,
};
use crate::ingest::{Leaving, Pending};
use crate::owed::Owed;
use crate::records::SpentRecord;
use alloc::sync::Arc;
use diversity_proto::held::Held;
use diversity_proto::round::{Reveal, Session};
use diversity_proto::wire::Part;
use diversity_proto::{AgreementId, Digest, NodeId, PublicKey, SensorId, Signature};

/// What an answered job goes on with.
#[derive(Debug)]
pub(crate) enum After {
    /// Frames whose signatures were checked.
    Frames(Vec<Pending>),
    /// Frames of a segment.
    Segment(Vec<Leaving>),
    /// A part of this node (index), whose signatures were checked.
    Part(AgreementId, usize, PendingPart),
    /// A list of open sensors, the frames in which were checked.
    Shown(AgreementId, usize, u32, u64, Held),
    /// Goes on in an agreement.
    Agreement(AgreementId, Then),
    /// Evidence that is durable: it may be handed to the outbox.
    Owed(SubmissionId),
    /// Nothing waits.
    Nothing,
}

/// What an agreement goes on with. The numbers are epoch and t.
#[derive(Debug)]
pub(crate) enum Then {
    CommitDurable(u32, u64),
    RevealSigned(u32, u64, Digest, Reveal),
    RevealDurable(u32, u64, Reveal),
    HeldSigned(u32, u64, Held),
    HeldDurable(u32, u64, Held),
    PartialSigned(Partial),
    AggregateDurable(Session, Signature),
}

/// The outgoing side of a step.
pub(crate) struct Io {
    pub config: Config,
    pub now: Millis,
    pub peers: BTreeSet<NodeId>,
    effects: Vec<Effect>,
    sends: BTreeMap<NodeId, Vec<Part>>,
    held: Vec<(Millis, NodeId, Part)>,
    jobs: BTreeMap<Job, After>,
    next_job: Job,
    owed: Owed,
    loading: BTreeSet<SensorId>,
}

impl Io {
    pub fn new(config: Config) -> Self {
        Self {
            now: 0,
            effects: Vec::new(),
            peers: BTreeSet::new(),
            sends: BTreeMap::new(),
            held: Vec::new(),
            jobs: BTreeMap::new(),
            next_job: 1,
            owed: Owed::new(config.gas_per_day),
            loading: BTreeSet::new(),
            config,
        }
    }
    pub fn effect(&mut self, e: Effect) {
        self.effects.push(e);
    }
    pub fn notice(&mut self, n: Notice) {
        self.effects.push(Effect::Notice(n));
    }

    // ---- jobs

    fn job(&mut self, after: After) -> Job {
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
        self.write(ops, after, true);
    }
    /// [`Io::persist`] of what nothing waits for yet: it may share the flush of a later write.
    pub fn persist_soon(&mut self, ops: Vec<Op>, after: After) {
        self.write(ops, after, false);
    }
    fn write(&mut self, ops: Vec<Op>, after: After, urgent: bool) {
        if ops.is_empty() && matches!(after, After::Nothing) {
            return;
        }
        let job = self.job(after);
        self.effect(Effect::Persist { job, ops, urgent });
    }
    pub fn sign(&mut self, digest: Digest, after: After) {
        let job = self.job(after);
        self.effect(Effect::Sign { job, digest });
    }
    pub fn verify(&mut self, checks: Vec<SignatureCheck>, after: After) {
        let job = self.job(after);
        self.effect(Effect::VerifySignatures { job, checks });
    }
    pub fn verify_frames(&mut self, frames: Vec<(PublicKey, Arc<[u8]>)>, after: After) {
        let job = self.job(after);
        self.effect(Effect::VerifyFrames { job, frames });
    }
    /// Times that a window needs are read again; one request for a sensor at a time.
    pub fn load_times(&mut self, sensor: SensorId, frames: Vec<(u64, FrameRef)>) {
        if self.loading.insert(sensor) {
            self.effect(Effect::LoadTimes { sensor, frames });
        }
    }
    pub fn times_loaded(&mut self, sensor: &SensorId) {
        self.loading.remove(sensor);
    }

    // ---- submissions (R13)

    /// Owed from now on, and known again after a restart from what it is made of.
    pub fn submit(&mut self, submission: Submission) {
        let effects = self.owed.submit(submission, self.now);
        self.effects.extend(effects);
    }
    /// Owed from now on by a record of its own: it leaves once that is durable. What it follows from is written with it, so that
    /// neither is known without the other.
    pub fn owe(&mut self, submission: Submission, mut with: Vec<Op>) {
        let id = submission.id();
        match self.owed.owe(submission) {
            Some(op) => {
                with.push(op);
                self.persist(with, After::Owed(id));
            }
            None => self.persist(with, After::Nothing),
        }
    }
    /// Settlements and doors behind t are not owed any more: their epoch is over.
    pub fn forget(&mut self, agreement: AgreementId, t: u64) {
        self.owed.forget(&agreement, t);
    }
    /// Something owed by a record of an earlier run.
    pub fn restore_owed(&mut self, submission: Submission) {
        self.owed.restore(submission);
    }
    /// The record of something owed is durable.
    pub fn owed_durable(&mut self, id: &SubmissionId) {
        let effect = self.owed.durable(id, self.now);
        self.effects.extend(effect);
    }
    /// The outbox carries it from here.
    pub fn taken(&mut self, id: &SubmissionId) {
        if let Some(op) = self.owed.taken(id) {
            self.persist_soon(vec![op], After::Nothing);
        }
    }
    /// It has ended, and cost this much.
    pub fn paid(&mut self, id: &SubmissionId, gas: u64) {
        let (op, effects) = self.owed.paid(id, gas, self.now);
        self.effects.extend(effects);
        if let Some(op) = op {
            self.persist_soon(vec![op], After::Nothing);
        }
    }
    /// Something that an earlier run handed in has ended, and cost this much.
    pub fn spent(&mut self, agreement: AgreementId, gas: u64) {
        let op = self.owed.spent(agreement, gas, self.now);
        self.persist_soon(vec![op], After::Nothing);
    }
    /// What an earlier run spent on an agreement.
    pub fn restore_spent(&mut self, agreement: AgreementId, spent: SpentRecord) {
        self.owed.restore_spent(agreement, spent);
    }
    /// What of an agreement waits for the gas of another day.
    pub fn gas_wait(&self, agreement: &AgreementId) -> Option<GasWait> {
        self.owed.gas_wait(agreement, self.now)
    }
    /// Everything of the agreement up to t is final.
    pub fn retire(&mut self, agreement: AgreementId, t: u64) {
        self.owed.retire(&agreement, t);
        self.effect(Effect::Retire { agreement, t });
    }
    /// What was not taken goes out again.
    pub fn owed_again(&mut self) {
        let effects = self.owed.again(self.now);
        self.effects.extend(effects);
    }
    pub fn owed_due(&self) -> Option<Millis> {
        self.owed.due()
    }

    // ---- messages

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
            let (leave, stay) = core::mem::take(&mut self.held)
                .into_iter()
                .partition(|h| due.contains(&h.1));
            self.held = stay;
            for (_, to, part) in leave {
                // What was held is older than what leaves now.
                self.sends.entry(to).or_default().insert(0, part);
            }
        }
        for (to, parts) in core::mem::take(&mut self.sends) {
            self.effects.push(Effect::Send { to, parts });
        }
        core::mem::take(&mut self.effects)
    }
}
