//! From known statuses to what settles (design §3, §4): units of outcomes, the aggregated signature over each (MuSig2,
//! BIP-327), staged submission, and the fallback to n signed reveals when somebody refuses to aggregate.

mod musig;

use crate::api::LOOKAHEAD;
use crate::api::{Effect, Evidence, Millis, Notice, Settlement, Submission};
use crate::io::{After, Io, Then};
use crate::records;
use diversity_proto::round::{
    Batch, Entry, Outcome, OutputKind, PublicNonce, Session, Subject, partial_digest,
};
use diversity_proto::terms::{Leader, Terms};
use diversity_proto::wire::Part;
use diversity_proto::{AgreementId, Digest, NodeId, Signature};
use std::collections::{BTreeMap, BTreeSet};

/// Nonces of one range may come before its status is known; so many ranges at most.
const EARLY_MAX: usize = 128;

/// What is known of one t.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)]
pub(crate) enum Status {
    Outcome {
        outcome: Outcome,
        signatures: Vec<Signature>,
        holes: Vec<u64>,
    },
    Hole {
        evidence: Evidence,
        leader: usize,
    },
}

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)]
enum Form {
    Single(Outcome),
    Batch(Batch),
}

/// One MuSig2 session of a unit.
#[derive(Clone, Debug, Default)]
struct Attempt {
    asked: bool,
    own: Option<PublicNonce>,
    nonces: BTreeMap<usize, PublicNonce>,
    set: Option<Vec<PublicNonce>>,
    partials: BTreeMap<usize, [u8; 32]>,
    aggregating: bool,
}

#[derive(Clone, Debug)]
struct Unit {
    from: u64,
    t: u64,
    form: Form,
    digest: Digest,
    holes: Vec<u64>,
    signature: Option<Signature>,
    fallback: bool,
    /// When it became ready to submit.
    ready: Option<Millis>,
    submitted: bool,
}

/// Sessions of a range, which may begin before its outcome is known.
#[derive(Clone, Debug, Default)]
struct Range {
    leader: usize,
    attempt: u32,
    attempts: BTreeMap<u32, Attempt>,
    timer: Option<Millis>,
}

pub(crate) struct Settle {
    id: AgreementId,
    nodes: Vec<NodeId>,
    me: usize,
    batch: u64,
    fixed: Option<usize>,
    timeout_ms: u64,
    timeout_max_ms: u64,
    epoch: u32,
    statuses: BTreeMap<u64, Status>,
    units: BTreeMap<u64, Unit>,
    ranges: BTreeMap<(u64, u64), Range>,
    /// First t that the chain has no settlement of.
    pub chain_next: u64,
    holes_final: BTreeSet<u64>,
    hole_submit: BTreeMap<u64, Millis>,
    /// First t without a status.
    next: u64,
    /// When an incomplete batch is settled anyway.
    idle: Option<Millis>,
    /// When the next unit may be submitted by this node.
    stage_due: Option<Millis>,
}

impl Settle {
    pub fn new(id: AgreementId, terms: &Terms, nodes: Vec<NodeId>, me: usize) -> Self {
        Self {
            id,
            nodes,
            me,
            batch: terms.batch.into(),
            fixed: match terms.leader {
                Leader::Fixed(i) => Some(i.into()),
                Leader::Rotating => None,
            },
            timeout_ms: terms.round_timeout_ms.into(),
            timeout_max_ms: terms.round_timeout_max_ms.into(),
            epoch: 0,
            statuses: BTreeMap::new(),
            units: BTreeMap::new(),
            ranges: BTreeMap::new(),
            chain_next: 0,
            holes_final: BTreeSet::new(),
            hole_submit: BTreeMap::new(),
            next: 0,
            idle: None,
            stage_due: None,
        }
    }

    fn n(&self) -> usize {
        self.nodes.len()
    }
    /// Who collects nonces and partials of an attempt.
    fn coordinator(&self, range: &Range, attempt: u32) -> usize {
        (range.leader + attempt as usize) % self.n()
    }
    /// The sessions of a range that this node itself works on.
    fn own_range(&mut self, from: u64, t: u64) -> &mut Range {
        let n = self.nodes.len() as u64;
        let leader = self.fixed.unwrap_or((t % n) as usize);
        self.ranges.entry((from, t)).or_insert_with(|| Range {
            leader,
            ..Range::default()
        })
    }
    /// The sessions of a range that another node speaks of: bounded, and only near what is being decided.
    fn range_of_peer(&mut self, from: u64, t: u64) -> Option<&mut Range> {
        let near = from >= self.chain_next && from <= t && t < self.next + LOOKAHEAD;
        let known = self.ranges.contains_key(&(from, t));
        (known || near && self.ranges.len() < EARLY_MAX).then(|| self.own_range(from, t))
    }

    // ---- statuses and units

    /// With batches of one the range is known when the reveal leaves, and the nonce travels with it.
    pub fn prepare(&mut self, from: u64, t: u64, io: &mut Io) {
        if self.batch == 1 {
            self.own_range(from, t);
            self.ask_nonce(from, t, io);
        }
    }

    pub fn decided(&mut self, t: u64, epoch: u32, status: Status, io: &mut Io) {
        self.epoch = epoch;
        self.next = t + 1;
        if let Status::Hole { leader, .. } = &status {
            let wait = self.distance(*leader) * io.config.settle_stage_ms;
            self.hole_submit.insert(t, io.now + wait);
        }
        if t >= self.chain_next {
            self.statuses.insert(t, status);
        }
        if !self.is_value(t) {
            // Nothing of t settles by itself: the nonce that was drawn early is not needed.
            self.ranges.retain(|(_, last), _| *last != t);
        }
        self.idle = Some(io.now + self.timeout_ms);
        self.form_units(false, io);
        self.advance(io);
    }

    /// A t without reveals that ended in a dispute.
    pub fn skip(&mut self, t: u64) {
        self.next = t + 1;
    }

    fn distance(&self, coordinator: usize) -> u64 {
        ((self.me + self.n() - coordinator) % self.n()) as u64
    }

    fn is_value(&self, t: u64) -> bool {
        matches!(self.statuses.get(&t), Some(Status::Outcome { outcome, .. }) if outcome.kind != OutputKind::Null as u8)
    }

    /// Closes units: after K executions, before a hole, or when forced.
    fn form_units(&mut self, force: bool, io: &mut Io) {
        let mut start = self.unit_start();
        let mut last_value = None;
        let mut t = start;
        while t < self.next {
            if self.is_value(t) {
                last_value = Some(t);
            }
            let full = t + 1 - start >= self.batch;
            let before_hole = matches!(self.statuses.get(&(t + 1)), Some(Status::Hole { .. }));
            let end = force && t + 1 == self.next;
            if let Some(last) = last_value.filter(|_| full || before_hole || end) {
                self.unit(start, last, io);
                start = last + 1;
                last_value = None;
            }
            t += 1;
        }
    }

    fn unit(&mut self, from: u64, t: u64, io: &mut Io) {
        let unit = self.build(from, t, io);
        self.units.insert(from, unit);
        self.own_range(from, t);
        self.ask_nonce(from, t, io);
        self.arm(from, t, io.now);
        self.try_sign(from, t, io);
    }

    fn build(&self, from: u64, t: u64, io: &Io) -> Unit {
        let mut entries = Vec::new();
        let mut holes = Vec::new();
        let mut values = 0;
        let mut single = None;
        for at in from..=t {
            match self.statuses.get(&at) {
                Some(Status::Outcome { outcome, .. }) => {
                    let entry = match outcome.kind {
                        k if k == OutputKind::Null as u8 => Entry::Null,
                        k if k == OutputKind::Trap as u8 => Entry::Trap,
                        _ => Entry::Value(outcome.result.clone()),
                    };
                    if entry != Entry::Null {
                        values += 1;
                        single = Some(outcome.clone());
                    }
                    entries.push((entry, outcome.context));
                }
                _ => {
                    holes.push(at);
                    entries.push((Entry::Hole, Digest::ZERO));
                }
            }
        }
        let d = &io.config.deployment;
        let single =
            single.filter(|o| values == 1 && holes.is_empty() && o.t == t && o.from == from);
        let form = match single {
            Some(outcome) => Form::Single(outcome),
            None => Form::Batch(Batch {
                agreement: self.id,
                epoch: self.epoch,
                from,
                entries,
            }),
        };
        let digest = match &form {
            Form::Single(o) => o.digest(d),
            Form::Batch(b) => b.digest(d),
        };
        Unit {
            from,
            t,
            form,
            digest,
            holes,
            signature: None,
            fallback: false,
            ready: None,
            submitted: false,
        }
    }

    // ---- submission

    /// Submits what is due: in order of t, first by the coordinator, then staged by index (anyone may).
    fn advance(&mut self, io: &mut Io) {
        let agreement = self.id;
        for (t, due) in self.hole_submit.clone() {
            if due <= io.now {
                self.hole_submit.remove(&t);
                if let Some(Status::Hole { evidence, .. }) = self.statuses.get(&t) {
                    let submission = Submission::Dispute {
                        epoch: self.epoch,
                        t,
                        evidence: evidence.clone(),
                    };
                    io.effect(Effect::Submit {
                        agreement,
                        submission,
                    });
                }
            }
        }
        self.stage_due = None;
        let Some(u) = self.units.get(&self.chain_next).filter(|u| !u.submitted) else {
            return;
        };
        let due = self.due(u, io);
        if due.is_none_or(|d| d > io.now) {
            self.stage_due = due;
            return;
        }
        for settlement in self.settlements(u) {
            let (from, t) = match &settlement {
                Settlement::Single { outcome, .. } | Settlement::Reveals { outcome, .. } => {
                    (outcome.from, outcome.t)
                }
                Settlement::Batch { batch, .. } => (batch.from, batch.last()),
            };
            io.effect(Effect::Submit {
                agreement,
                submission: Submission::Settle {
                    from,
                    t,
                    settlement,
                },
            });
        }
        self.units
            .get_mut(&self.chain_next)
            .expect("just seen")
            .submitted = true;
    }

    fn due(&self, u: &Unit, io: &Io) -> Option<Millis> {
        let holes_known = u.holes.iter().all(|t| self.holes_final.contains(t));
        let leader = self.fixed.unwrap_or((u.t % self.n() as u64) as usize);
        u.ready
            .filter(|_| holes_known)
            .map(|r| r + self.distance(leader) * io.config.settle_stage_ms)
    }

    fn settlements(&self, u: &Unit) -> Vec<Settlement> {
        match (u.signature, &u.form) {
            (Some(signature), Form::Single(outcome)) => {
                vec![Settlement::Single {
                    outcome: outcome.clone(),
                    signature,
                }]
            }
            (Some(signature), Form::Batch(batch)) => vec![Settlement::Batch {
                batch: batch.clone(),
                signature,
            }],
            (None, _) => (u.from..=u.t)
                .filter(|t| self.is_value(*t))
                .filter_map(|t| match self.statuses.get(&t) {
                    Some(Status::Outcome {
                        outcome,
                        signatures,
                        holes,
                    }) => Some(Settlement::Reveals {
                        outcome: outcome.clone(),
                        holes: holes.clone(),
                        signatures: signatures.clone(),
                    }),
                    _ => None,
                })
                .collect(),
        }
    }

    /// The chain has settled `from..=t`; returns which t that says something of, and whether any of it is final only now. A chain that
    /// lost blocks tells the same again from another transaction.
    pub fn settled(&mut self, from: u64, t: u64, io: &mut Io) -> (Vec<u64>, bool) {
        // P-FINAL-1: a dispute makes no hole of what n nodes signed as a value, and a unit always ends with a value.
        let value =
            |at: u64| at == t || matches!(self.statuses.get(&at), Some(Status::Outcome { .. }));
        let told: Vec<u64> = (from..=t)
            .filter(|at| value(*at) || !self.holes_final.contains(at))
            .collect();
        let new = t >= self.chain_next;
        if new {
            self.chain_next = t + 1;
            let keep = self.chain_next;
            self.statuses.retain(|at, _| *at >= keep);
            self.units.retain(|first, _| *first >= keep);
            self.ranges.retain(|(first, _), _| *first >= keep);
            self.hole_submit.retain(|at, _| *at >= keep);
            // P-SETTLE-3: another unit than ours has settled, and ours that reached further are gone. What stays must follow
            // without a gap, or nothing settles any more: then all of it is cut anew. (Units may overlap what was signed
            // before: they say the same of each t.)
            if self.units.keys().next().is_some_and(|first| *first > keep) {
                self.units.clear();
                self.ranges.clear();
            }
            self.idle = Some(io.now + self.timeout_ms);
            self.form_units(false, io);
        }
        self.advance(io);
        (told, new)
    }

    /// The chain holds a dispute for t; returns whether that is new.
    pub fn hole_final(&mut self, t: u64, io: &mut Io) -> bool {
        self.hole_submit.remove(&t);
        let new = self.holes_final.insert(t);
        self.advance(io);
        new
    }

    // ---- time

    pub fn deadline(&self) -> Option<Millis> {
        let timers = self.ranges.values().filter_map(|r| r.timer);
        let holes = self.hole_submit.values().copied();
        let submit = self.stage_due;
        timers
            .chain(holes)
            .chain(submit)
            .chain(self.idle.filter(|_| self.batch > 1))
            .min()
    }

    pub fn tick(&mut self, io: &mut Io) {
        if self.idle.is_some_and(|d| d <= io.now) {
            self.idle = None;
            self.form_units(true, io);
        }
        let due: Vec<_> = self
            .ranges
            .iter()
            .filter(|(_, r)| r.timer.is_some_and(|d| d <= io.now))
            .map(|(k, _)| *k)
            .collect();
        for (from, t) in due {
            if self.units.get(&from).is_some_and(|u| u.t == t) {
                self.next_attempt(from, t, io);
            } else {
                self.ranges.get_mut(&(from, t)).expect("just seen").timer = None;
            }
        }
        self.advance(io);
    }
}
