//! From known statuses to what settles (design §3, §4): units of outcomes, the aggregated signature over each (MuSig2,
//! BIP-327), staged submission, and the fallback to n signed reveals when somebody refuses to aggregate.

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
    fn range(&mut self, from: u64, t: u64) -> Option<&mut Range> {
        if !self.ranges.contains_key(&(from, t)) && self.ranges.len() >= EARLY_MAX {
            return None;
        }
        let n = self.nodes.len() as u64;
        let leader = self.fixed.unwrap_or((t % n) as usize);
        Some(self.ranges.entry((from, t)).or_insert_with(|| Range {
            leader,
            ..Range::default()
        }))
    }

    // ---- statuses and units

    /// With batches of one the range is known when the reveal leaves, and the nonce travels with it.
    pub fn prepare(&mut self, from: u64, t: u64, io: &mut Io) {
        if self.batch == 1 && self.range(from, t).is_some() {
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
        if self.range(from, t).is_some() {
            self.ask_nonce(from, t, io);
            self.arm(from, t, io.now);
            self.try_sign(from, t, io);
        }
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

    // ---- MuSig2

    fn arm(&mut self, from: u64, t: u64, now: Millis) {
        let (first, max) = (self.timeout_ms, self.timeout_max_ms);
        if let Some(r) = self.ranges.get_mut(&(from, t)) {
            r.timer = Some(now + (first << r.attempt.min(20)).min(max));
        }
    }

    fn ask_nonce(&mut self, from: u64, t: u64, io: &mut Io) {
        let agreement = self.id;
        let Some(r) = self.ranges.get_mut(&(from, t)) else {
            return;
        };
        let attempt = r.attempt;
        let x = r.attempts.entry(attempt).or_default();
        if !x.asked {
            x.asked = true;
            io.effect(Effect::MusigNonce {
                session: Session {
                    agreement,
                    from,
                    t,
                    attempt,
                },
            });
        }
    }

    /// This node's own public nonce is drawn.
    pub fn own_nonce(&mut self, session: Session, nonce: PublicNonce, io: &mut Io) {
        let Some(r) = self.ranges.get_mut(&(session.from, session.t)) else {
            return;
        };
        let Some(x) = r
            .attempts
            .get_mut(&session.attempt)
            .filter(|x| x.own.is_none())
        else {
            return;
        };
        x.own = Some(nonce);
        let to = self.coordinator(&self.ranges[&(session.from, session.t)], session.attempt);
        if to == self.me {
            self.nonce(self.me, session, nonce, io);
        } else {
            io.send(self.nodes[to], Part::Nonce { session, nonce });
        }
    }

    /// A node's public nonce.
    pub fn nonce(&mut self, from: usize, session: Session, nonce: PublicNonce, io: &mut Io) {
        let (n, me) = (self.n(), self.me);
        let (first, last) = (session.from, session.t);
        if last < self.chain_next
            || self
                .units
                .get(&first)
                .is_some_and(|u| u.t == last && u.signature.is_some())
        {
            self.tell_aggregate(from, last, io);
            return;
        }
        let Some(r) = self.range(first, last) else {
            return;
        };
        if session.attempt < r.attempt || session.attempt > r.attempt + 2 * n as u32 {
            return;
        }
        let later = session.attempt > r.attempt;
        r.attempt = session.attempt;
        r.attempts
            .entry(session.attempt)
            .or_default()
            .nonces
            .entry(from)
            .or_insert(nonce);
        if later {
            self.arm(first, last, io.now);
        }
        // Others may have cut the batch earlier than this node would have.
        if !self.units.contains_key(&first)
            && self.batch > 1
            && last < self.next
            && first == self.unit_start()
        {
            self.unit(first, last, io);
        }
        self.ask_nonce(first, last, io);
        let r = &self.ranges[&(first, last)];
        if self.coordinator(r, session.attempt) != me {
            return;
        }
        let x = &r.attempts[&session.attempt];
        if x.set.is_none() && x.nonces.len() == n {
            let nonces: Vec<_> = x.nonces.values().copied().collect();
            for (i, node) in self.nodes.iter().enumerate() {
                if i != me {
                    io.send(
                        *node,
                        Part::Nonces {
                            session,
                            nonces: nonces.clone(),
                        },
                    );
                }
            }
            self.nonces(me, session, nonces, io);
        }
    }

    fn unit_start(&self) -> u64 {
        self.units
            .values()
            .map(|u| u.t + 1)
            .max()
            .unwrap_or(0)
            .max(self.chain_next)
    }

    fn tell_aggregate(&self, to: usize, last: u64, io: &mut Io) {
        if to != self.me {
            let key = records::t_key(records::AGGREGATE, &self.id, last);
            io.effect(Effect::SendStored {
                to: self.nodes[to],
                key,
            });
        }
    }

    /// The ordered nonces, from the coordinator of the attempt. One set per session, ever: the secret nonce signs once.
    pub fn nonces(&mut self, from: usize, session: Session, nonces: Vec<PublicNonce>, io: &mut Io) {
        let (me, n) = (self.me, self.n());
        let Some(r) = self.ranges.get(&(session.from, session.t)) else {
            return;
        };
        if self.coordinator(r, session.attempt) != from || nonces.len() != n {
            return;
        }
        let r = self
            .ranges
            .get_mut(&(session.from, session.t))
            .expect("just seen");
        let Some(x) = r.attempts.get_mut(&session.attempt) else {
            return;
        };
        if x.set.is_some() || x.own != Some(nonces[me]) {
            return;
        }
        x.set = Some(nonces);
        self.try_sign(session.from, session.t, io);
    }

    /// Signs once both the nonces and the outcome are known.
    fn try_sign(&mut self, from: u64, t: u64, io: &mut Io) {
        let Some(unit) = self
            .units
            .get(&from)
            .filter(|u| u.t == t && u.signature.is_none())
        else {
            return;
        };
        let digest = unit.digest;
        let agreement = self.id;
        let Some(r) = self.ranges.get_mut(&(from, t)) else {
            return;
        };
        let attempt = r.attempt;
        let Some(x) = r.attempts.get_mut(&attempt) else {
            return;
        };
        let Some(nonces) = x.set.clone() else { return };
        // Taken: one partial per nonce, ever.
        if x.own.take().is_some() {
            io.effect(Effect::MusigSign {
                session: Session {
                    agreement,
                    from,
                    t,
                    attempt,
                },
                nonces,
                digest,
            });
        }
    }

    /// This node's partial signature; `None` if the secret nonce is gone.
    pub fn signed(
        &mut self,
        session: Session,
        partial: Option<[u8; 32]>,
        config: Subject,
        io: &mut Io,
    ) -> Option<()> {
        let partial = partial?;
        let unit = self.units.get(&session.from).filter(|u| u.t == session.t)?;
        let x = self
            .ranges
            .get(&(session.from, session.t))?
            .attempts
            .get(&session.attempt)?;
        let nonce_set = session.nonce_set(x.set.as_ref()?);
        let digest = partial_digest(
            &config,
            &self.nodes[self.me],
            &unit.digest,
            &nonce_set,
            &partial,
        );
        io.sign(
            digest,
            After::Agreement(self.id, Then::PartialSigned(session, nonce_set, partial)),
        );
        Some(())
    }

    /// The envelope around the partial is signed.
    pub fn partial_signed(
        &mut self,
        session: Session,
        set: Digest,
        partial: [u8; 32],
        sig: Signature,
        io: &mut Io,
    ) {
        let Some(r) = self.ranges.get(&(session.from, session.t)) else {
            return;
        };
        let to = self.coordinator(r, session.attempt);
        if to == self.me {
            self.partial(self.me, session, set, partial, io);
        } else {
            io.send(
                self.nodes[to],
                Part::Partial {
                    session,
                    nonce_set: set,
                    partial,
                    signature: sig,
                },
            );
        }
    }

    /// What a node signed around its partial, if this node coordinates that session.
    pub fn partial_digest(
        &self,
        session: &Session,
        set: &Digest,
        partial: &[u8; 32],
        from: usize,
        config: Digest,
        io: &Io,
    ) -> Option<Digest> {
        let unit = self
            .units
            .get(&session.from)
            .filter(|u| u.t == session.t && u.signature.is_none())?;
        let x = self
            .ranges
            .get(&(session.from, session.t))?
            .attempts
            .get(&session.attempt)?;
        if session.nonce_set(x.set.as_ref()?) != *set {
            return None;
        }
        let subject = Subject {
            deployment: io.config.deployment,
            config,
            t: session.t,
        };
        Some(partial_digest(
            &subject,
            &self.nodes[from],
            &unit.digest,
            set,
            partial,
        ))
    }

    /// A node's partial signature in a good envelope.
    pub fn partial(
        &mut self,
        from: usize,
        session: Session,
        set: Digest,
        partial: [u8; 32],
        io: &mut Io,
    ) {
        let n = self.n();
        let Some(unit) = self
            .units
            .get(&session.from)
            .filter(|u| u.t == session.t && u.signature.is_none())
        else {
            return;
        };
        let digest = unit.digest;
        let Some(r) = self.ranges.get_mut(&(session.from, session.t)) else {
            return;
        };
        let Some(x) = r.attempts.get_mut(&session.attempt) else {
            return;
        };
        let Some(nonces) = x.set.clone().filter(|s| session.nonce_set(s) == set) else {
            return;
        };
        x.partials.entry(from).or_insert(partial);
        if x.partials.len() == n && !x.aggregating {
            x.aggregating = true;
            let partials = x.partials.values().copied().collect();
            io.effect(Effect::MusigAggregate {
                session,
                nonces,
                partials,
                digest,
            });
        }
    }

    /// The partials are added up, or some of them are bad: then another attempt follows, and the outcome settles all the same.
    pub fn aggregated(
        &mut self,
        session: Session,
        result: Result<Signature, Vec<usize>>,
        io: &mut Io,
    ) {
        match result {
            Ok(signature) => {
                for (i, node) in self.nodes.iter().enumerate() {
                    if i != self.me {
                        io.send(*node, Part::Aggregate { session, signature });
                    }
                }
                self.aggregate_good(session, signature, io);
            }
            Err(bad) => {
                for i in bad {
                    let what = "sent a partial signature that does not verify".into();
                    io.notice(Notice::Fault {
                        node: self.nodes[i],
                        agreement: self.id,
                        what,
                    });
                }
                self.next_attempt(session.from, session.t, io);
            }
        }
    }

    /// Somebody says that this is the aggregated signature.
    pub fn aggregate(&mut self, session: Session, signature: Signature, io: &mut Io) {
        if let Some(u) = self
            .units
            .get(&session.from)
            .filter(|u| u.t == session.t && u.signature.is_none())
        {
            io.effect(Effect::VerifyAggregate {
                session,
                digest: u.digest,
                signature,
            });
        }
    }

    /// It is.
    pub fn aggregate_good(&mut self, session: Session, signature: Signature, io: &mut Io) {
        let Some(u) = self
            .units
            .get_mut(&session.from)
            .filter(|u| u.t == session.t && u.signature.is_none())
        else {
            return;
        };
        u.signature = Some(signature);
        self.ranges.remove(&(session.from, session.t));
        let key = records::t_key(records::AGGREGATE, &self.id, session.t);
        let op = records::put_part(key, &Part::Aggregate { session, signature });
        io.persist(
            vec![op],
            After::Agreement(self.id, Then::AggregateDurable(session.from)),
        );
    }

    pub fn aggregate_durable(&mut self, from: u64, io: &mut Io) {
        if let Some(u) = self.units.get_mut(&from) {
            u.ready.get_or_insert(io.now);
        }
        self.advance(io);
    }

    /// What the chain had settled before a restart.
    pub fn recover_settled(&mut self, last: u64) {
        self.chain_next = self.chain_next.max(last + 1);
    }
    /// A hole that the chain held before a restart.
    pub fn recover_hole(&mut self, t: u64) {
        self.holes_final.insert(t);
        self.hole_submit.remove(&t);
    }
    /// Cuts what is not settled into units again.
    pub fn recover_units(&mut self, io: &mut Io) {
        let keep = self.chain_next;
        self.statuses.retain(|at, _| *at >= keep);
        self.units.clear();
        self.ranges.clear();
        self.form_units(false, io);
    }
    /// The secret nonces of an earlier run are gone: every unsigned unit starts over with fresh ones.
    pub fn resume(&mut self, io: &mut Io) {
        for r in self.ranges.values_mut() {
            *r = Range {
                leader: r.leader,
                ..Range::default()
            };
        }
        let open: Vec<_> = self
            .units
            .values()
            .filter(|u| u.signature.is_none())
            .map(|u| (u.from, u.t))
            .collect();
        for (from, t) in open {
            if self.range(from, t).is_some() {
                self.ask_nonce(from, t, io);
                self.arm(from, t, io.now);
            }
        }
        self.idle = (self.batch > 1).then_some(io.now + self.timeout_ms);
        self.advance(io);
    }

    /// An aggregated signature of an earlier run.
    pub fn recover_aggregate(&mut self, part: &Part, now: Millis) {
        let Part::Aggregate { session, signature } = part else {
            return;
        };
        if let Some(u) = self
            .units
            .get_mut(&session.from)
            .filter(|u| u.t == session.t)
        {
            u.signature = Some(*signature);
            u.ready = Some(now);
            self.ranges.remove(&(session.from, session.t));
        }
    }

    fn next_attempt(&mut self, from: u64, t: u64, io: &mut Io) {
        let give_up = 2 * self.n() as u32;
        let Some(r) = self.ranges.get_mut(&(from, t)) else {
            return;
        };
        r.attempt += 1;
        let attempt = r.attempt;
        r.attempts.retain(|a, _| *a >= attempt);
        if attempt >= give_up
            && let Some(u) = self.units.get_mut(&from).filter(|u| u.t == t)
        {
            // Whoever refuses to aggregate only makes settlement dearer: n signed reveals are a certificate of their own.
            u.fallback = true;
            u.ready.get_or_insert(io.now);
        }
        self.arm(from, t, io.now);
        self.ask_nonce(from, t, io);
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

    /// The chain has settled `from..=t`; returns the t that are final only now.
    pub fn settled(&mut self, from: u64, t: u64, io: &mut Io) -> Vec<u64> {
        let new: Vec<u64> = (self.chain_next.max(from)..=t)
            .filter(|t| !self.holes_final.contains(t))
            .collect();
        if t >= self.chain_next {
            self.chain_next = t + 1;
            let keep = self.chain_next;
            self.statuses.retain(|at, _| *at >= keep);
            self.units.retain(|first, _| *first >= keep);
            self.ranges.retain(|(first, _), _| *first >= keep);
            self.hole_submit.retain(|at, _| *at >= keep);
            self.form_units(false, io);
        }
        self.advance(io);
        new
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
