//! One agreement: rooms with one reason each, and the roads between them (design §5a).
//!
//! [`pipeline`] cuts windows and commits to what `f` gave ([`cutter`], [`held`]); [`rounds`] decide one t after another;
//! [`history`] keeps what is decided; [`cases`] keep holes, doors and words on them; [`reading`] reads holes once more; [`settle`]
//! brings outcomes to the chain. No room
//! knows another one: what one wants of another goes through here. Every deadline is in [`timers`].

mod cases;
mod chain;
mod cutter;
mod held;
mod history;
mod messages;
mod pacemaker;
mod pipeline;
mod reading;
mod restore;
mod rounds;
mod served;
mod setting;
mod settle;
mod timers;

use crate::alloc_prelude::*;
use crate::api::{
    AgreementStatus, ChainEvent, Effect, Evidence, Execution, Millis, Notice, Resolution,
    WRONG_TIMES_MAX, Waiting,
};
use crate::ingest::Traces;
use crate::io::{After, Io, Then};
use crate::records::{self, AgreementRecord, CellRecord, FinalRecord, RevealRecord};
use cases::{Cases, Word};
use diversity_proto::held::Held;
use diversity_proto::round::{
    Blinding, Body, Commit, OutputKind, PublicNonce, Reveal, Session, reading_of,
};
use diversity_proto::time::Implausible;
use diversity_proto::{AgreementId, Digest, NodeId, SensorId, Signature};
use diversity_round::sabotage::{Defect, on};
use diversity_round::{Decision, Fault};
use history::History;
pub(crate) use messages::Pending;
use pipeline::Pipeline;
use reading::{Faults, Readings};
use rounds::{Certified, Rounds, Wish};
use served::Served;
use setting::Setting;
use settle::{Settle, Status};
use timers::{Timer, Timers};

/// What a room may use beside its own state.
pub(crate) struct Cx<'a> {
    pub io: &'a mut Io,
    pub setting: &'a Setting,
    pub timers: &'a mut Timers,
    served: &'a mut Served,
}

impl Cx<'_> {
    /// Whether something of this family and t may be sent to a node that asks: not if it was sent lately, and not too much.
    pub fn may_serve(&mut self, to: usize, family: u8, t: u64) -> bool {
        let every = self.setting.timeout_ms().min(1_000);
        self.served.may(to, family, t, every, self.io.now)
    }
    /// Sends a stored record to a node, unless it was sent lately.
    pub fn serve(&mut self, to: usize, t: u64, key: Vec<u8>) {
        if self.may_serve(to, key[0], t) {
            let to = self.setting.node(to);
            self.io.effect(Effect::SendStored { to, key });
        }
    }
    /// A node misbehaved, by what it signed or sent itself.
    pub fn fault(&mut self, node: usize, what: &str) {
        self.io.notice(Notice::Fault {
            node: self.setting.node(node),
            agreement: self.setting.id,
            what: what.into(),
        });
    }
}

/// One agreement of this node.
pub(crate) struct Agreement {
    setting: Setting,
    record: AgreementRecord,
    pipeline: Pipeline,
    rounds: Rounds,
    history: History,
    cases: Cases,
    readings: Readings,
    settle: Settle,
    timers: Timers,
    served: Served,
    /// t and epoch for which this node has signed its list of open sensors: one for each, ever.
    listed: BTreeSet<(u64, u32)>,
    /// t whose last word on chain was no settlement.
    doors: BTreeSet<u64>,
    /// Holes of an earlier run whose windows are not restored yet.
    restored_holes: BTreeSet<u64>,
    /// Commits of an earlier run whose rounds are not over.
    restored: BTreeMap<u64, Commit>,
    /// What the executions that were restored last lead to: t and its carry'.
    carried: Option<(u64, Vec<u8>)>,
    /// Holes of an earlier run behind which t+1 waited for a word.
    unequal: BTreeSet<u64>,
    /// Why this node signs nothing more.
    halted: Option<String>,
}

/// The context of a room, from parts of an agreement that are no rooms.
macro_rules! cx {
    ($a:ident, $io:ident) => {
        &mut Cx {
            io: &mut *$io,
            setting: &$a.setting,
            timers: &mut $a.timers,
            served: &mut $a.served,
        }
    };
}
use cx;

impl Agreement {
    /// An agreement at its beginning. `me` is this node's index in it.
    pub fn new(id: AgreementId, record: AgreementRecord, me: usize, io: &Io) -> Self {
        let setting = Setting::new(
            id,
            record.terms.clone(),
            record.keys.clone(),
            me,
            io.config.deployment,
        );
        let mut history = History::default();
        let mut settle = Settle::new(setting.terms.batch);
        if let Some(last) = record.last_t {
            history.close(last);
            settle.restore_closed(last);
        }
        Self {
            pipeline: Pipeline::new(&setting, record.heard_ms),
            settle,
            rounds: Rounds::default(),
            cases: Cases::default(),
            readings: Readings::default(),
            timers: Timers::default(),
            served: Served::default(),
            listed: BTreeSet::new(),
            doors: BTreeSet::new(),
            restored_holes: BTreeSet::new(),
            restored: BTreeMap::new(),
            carried: None,
            unequal: BTreeSet::new(),
            halted: None,
            history,
            setting,
            record,
        }
    }

    // ---- views

    /// Agreement order.
    pub fn sensors(&self) -> &[SensorId] {
        &self.setting.sensors
    }
    /// The other nodes of the agreement.
    pub fn others(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.setting.others()
    }
    pub fn index_of(&self, node: &NodeId) -> Option<usize> {
        self.setting.index_of(node)
    }
    pub fn me(&self) -> usize {
        self.setting.me()
    }
    /// Where the open window of sensor `k` starts: nothing below is asked for again.
    pub fn start(&self, k: usize) -> u64 {
        self.pipeline.start(k)
    }
    pub fn deadline(&self) -> Option<Millis> {
        self.timers.next()
    }
    pub fn status(&self, traces: &Traces, io: &Io) -> AgreementStatus {
        let (s, h) = (&self.setting, &self.history);
        let reading = |t| self.readings.missing(t, s);
        let wrong_time = |sensor: SensorId| {
            let (q, time) = traces[&sensor].newest()?;
            Implausible::look(time, io.now / 1_000).map(|_| (sensor, q, time))
        };
        let by_time = s.span(0).is_some();
        AgreementStatus {
            open_t: self.pipeline.open_t(),
            undecided_t: h.next(),
            unsettled_t: self.settle.chain_next(),
            epoch: h.epoch(),
            waiting: Waiting {
                sensors: self.pipeline.waits_for(s).collect(),
                wrong_times: self
                    .pipeline
                    .waits_for(s)
                    .filter(|_| by_time)
                    .filter_map(wrong_time)
                    .take(WRONG_TIMES_MAX)
                    .collect(),
                held: self.pipeline.waits_for_lists(s),
                reading: h.blocked().map(reading).unwrap_or_default(),
                nodes: self.rounds.missing(h),
            },
            gas: io.gas_wait(&s.id),
            blocked: h.blocked(),
            halted: self.halted.clone(),
            ended: self.pipeline.ended(h),
        }
    }

    // ---- windows, executions, commits

    /// The traces of these sensors (indices) grew, or time passed.
    pub fn look(&mut self, ks: impl IntoIterator<Item = usize>, traces: &Traces, io: &mut Io) {
        self.pipeline.look(ks, traces, cx!(self, io));
        let faults = self.readings.look(traces, cx!(self, io));
        self.faults(faults, io);
        self.progress(traces, io);
    }

    /// The operator asks for another reading of a hole.
    pub fn reread(&mut self, t: u64, traces: &Traces, io: &mut Io) {
        let chain_next = self.settle.chain_next();
        self.readings.ask(t, chain_next, cx!(self, io));
        self.tick(traces, io);
    }

    /// Whether a signing session is that of a second reading: the chain has settled its t.
    fn reads(&self, session: &Session) -> bool {
        session.t < self.settle.chain_next() && self.readings.has(session.t)
    }

    fn look_all(&mut self, traces: &Traces, io: &mut Io) {
        self.look(0..self.setting.sensors.len(), traces, io);
    }

    fn progress(&mut self, traces: &Traces, io: &mut Io) {
        if self.halted.is_none() {
            self.pipeline.progress(traces, &self.history, cx!(self, io));
        }
    }

    /// `f` is done.
    pub fn executed(
        &mut self,
        epoch: u32,
        t: u64,
        execution: Execution,
        traces: &Traces,
        io: &mut Io,
    ) {
        if reading_of(epoch) > 0 {
            return self.readings.executed(epoch, t, execution, cx!(self, io));
        }
        self.pipeline
            .executed(epoch, t, execution, &self.history, cx!(self, io));
        self.progress(traces, io);
    }

    /// The commit is signed.
    pub fn committed(&mut self, epoch: u32, t: u64, b: Blinding, commit: Commit, io: &mut Io) {
        if reading_of(epoch) > 0 {
            return self.readings.committed(epoch, t, b, commit, cx!(self, io));
        }
        self.pipeline
            .committed(epoch, t, b, commit, &self.history, cx!(self, io));
    }

    /// P-HELD-1: what is open here is signed, once.
    fn begin_list(&mut self, traces: &Traces, io: &mut Io) {
        let t = self.pipeline.open_t();
        if let Some(held) = self.pipeline.begin_list(traces, cx!(self, io)) {
            self.sign_list(self.history.epoch(), t, held, io);
        }
    }

    fn sign_list(&mut self, epoch: u32, t: u64, held: Held, io: &mut Io) {
        let s = &self.setting;
        let digest = held.digest(&s.subject(epoch, t), &s.node(s.me()));
        io.sign(
            digest,
            After::Agreement(s.id, Then::HeldSigned(epoch, t, held)),
        );
    }

    // ---- answers

    pub fn then(&mut self, then: Then, signature: Option<Signature>, traces: &Traces, io: &mut Io) {
        let id = self.setting.id;
        match then {
            Then::CommitDurable(epoch, t) if reading_of(epoch) > 0 => {
                let faults = self.readings.commit_durable(epoch, t, cx!(self, io));
                self.faults(faults, io);
            }
            Then::RevealDurable(epoch, t, reveal) if reading_of(epoch) > 0 => {
                let cx = cx!(self, io);
                let faults = self.readings.reveal_durable(epoch, t, reveal, cx);
                self.faults(faults, io);
            }
            Then::HeldDurable(epoch, t, held) if reading_of(epoch) > 0 => {
                let cx = cx!(self, io);
                let faults = self.readings.list_durable(epoch, t, held, traces, cx);
                self.faults(faults, io);
            }
            Then::CommitDurable(epoch, t) => {
                if epoch == self.history.epoch()
                    && let Some(commit) = self.pipeline.commit_durable(t)
                {
                    self.own_commit(t, commit, io);
                }
            }
            Then::RevealSigned(epoch, t, seal, mut reveal) => {
                let Some(signature) = signature else { return };
                reveal.signature = signature;
                let op = RevealRecord {
                    epoch,
                    seal,
                    reveal: reveal.clone(),
                }
                .put(&id, t);
                let then = Then::RevealDurable(epoch, t, reveal);
                io.persist(vec![op], After::Agreement(id, then));
            }
            Then::RevealDurable(epoch, t, reveal) => {
                if epoch == self.history.epoch() && self.halted.is_none() {
                    let wishes = self
                        .rounds
                        .own_reveal(t, reveal, &self.history, cx!(self, io));
                    self.carry_out(wishes, io);
                }
            }
            Then::HeldSigned(epoch, t, mut held) => {
                let Some(signature) = signature else { return };
                if epoch == self.history.epoch() && self.pipeline.has_list(t) {
                    // One that others hold has come meanwhile (P-RECALL-2).
                    return;
                }
                held.signature = signature;
                let part = pipeline::held_part(&self.setting, epoch, t, held.clone());
                let op = records::put_part(records::held_key(&id, t, epoch), &part);
                let then = Then::HeldDurable(epoch, t, held);
                io.persist(vec![op], After::Agreement(id, then));
            }
            Then::HeldDurable(epoch, t, held) => self.list_durable(epoch, t, held, traces, io),
            Then::PartialSigned(session, set, partial) => {
                let Some(signature) = signature else { return };
                let reads = self.reads(&session);
                let cx = cx!(self, io);
                if reads {
                    self.readings
                        .partial_signed(session, set, partial, signature, cx);
                } else {
                    self.settle
                        .partial_signed(session, set, partial, signature, cx);
                }
            }
            Then::AggregateDurable(session, signature) => {
                self.settle
                    .aggregate_durable(session, signature, cx!(self, io));
            }
        }
        self.progress(traces, io);
    }

    fn list_durable(&mut self, epoch: u32, t: u64, held: Held, traces: &Traces, io: &mut Io) {
        self.listed.insert((t, epoch));
        // Who asks for a t that is decided finds it in the store when it asks again.
        if epoch != self.history.epoch() || t < self.history.next() {
            return;
        }
        let part = self
            .pipeline
            .list_durable(epoch, t, held, traces, cx!(self, io));
        for node in self.setting.others() {
            io.send(node, part.clone());
        }
    }

    fn own_commit(&mut self, t: u64, commit: Commit, io: &mut Io) {
        if self.halted.is_some() {
            return;
        }
        let wishes = self
            .rounds
            .own_commit(t, commit, &self.history, cx!(self, io));
        self.carry_out(wishes, io);
    }

    pub fn own_nonce(&mut self, session: Session, nonce: PublicNonce, io: &mut Io) {
        if self.reads(&session) {
            return self.readings.own_nonce(session, nonce, cx!(self, io));
        }
        self.settle.own_nonce(session, nonce, cx!(self, io));
    }
    pub fn partial_made(&mut self, session: Session, partial: Option<[u8; 32]>, io: &mut Io) {
        if self.reads(&session) {
            return self.readings.signed(session, partial, cx!(self, io));
        }
        self.settle.signed(session, partial, cx!(self, io));
    }
    pub fn aggregated(
        &mut self,
        session: Session,
        result: Result<Signature, Vec<usize>>,
        io: &mut Io,
    ) {
        if self.reads(&session) {
            return self.readings.aggregated(session, result, cx!(self, io));
        }
        self.settle.aggregated(session, result, cx!(self, io));
    }
    pub fn aggregate_good(&mut self, session: Session, signature: Signature, io: &mut Io) {
        if self.reads(&session) {
            let cx = cx!(self, io);
            return self.readings.aggregate_good(session, signature, cx);
        }
        self.settle
            .aggregate_good(session, signature, cx!(self, io));
    }

    // ---- rounds

    fn carry_out(&mut self, wishes: Vec<Wish>, io: &mut Io) {
        for wish in wishes {
            if self.halted.is_some() {
                return;
            }
            match wish {
                Wish::Send(t, to, body) => self.send_body(t, to, body, io),
                Wish::Fault(t, fault) => self.fault(self.history.epoch(), t, fault, io),
                Wish::Decided(certified) => self.decided(certified, io),
            }
        }
        self.reveal_if_due(io);
    }

    fn send_body(&mut self, t: u64, to: Option<usize>, body: Body, io: &mut Io) {
        // The reveal of t travels with the commit of t+1 when that is about to leave for the same node (paper, Fig. 2B). Behind
        // commits that left before, it would only hold up the rounds.
        let leader = self.setting.leader(t + 1, self.rounds.view());
        let with_next = matches!(body, Body::Reveal { .. })
            && to == Some(leader)
            && self.pipeline.commit_coming(t + 1);
        let wait = if with_next {
            u64::from(self.setting.terms.flush_ms)
        } else {
            0
        };
        let part = rounds::part(&self.setting, self.history.epoch(), t, body);
        for (i, node) in self.setting.committee.nodes.iter().enumerate() {
            if i != self.setting.me() && to.is_none_or(|to| to == i) {
                io.send_by(io.now + wait, *node, part.clone());
            }
        }
    }

    /// P-REVEAL-1: the reveal of t is made once t is sealed and the status of t-1 is known.
    fn reveal_if_due(&mut self, io: &mut Io) {
        let h = &self.history;
        let t = h.next();
        if h.blocked().is_some() || self.halted.is_some() || !h.within(t) {
            return;
        }
        let (Some(seal), Some(own)) = (self.rounds.reveal_due(h), self.pipeline.own(t)) else {
            return;
        };
        let kind = own.computed.kind;
        let (from, holes) = h.range();
        let reveal = Reveal {
            computed: own.computed.clone(),
            blinding: own.blinding,
            from,
            holes: holes.to_vec(),
            signature: Signature([0; 64]),
        };
        let epoch = h.epoch();
        let digest = self.setting.place(epoch, t).reveal_digest(&reveal, &seal);
        self.rounds.revealing(t);
        let then = Then::RevealSigned(epoch, t, seal, reveal);
        io.sign(digest, After::Agreement(self.setting.id, then));
        if kind != OutputKind::Null {
            self.settle.prepare(from, t, cx!(self, io));
        }
    }

    fn decided(&mut self, c: Certified, io: &mut Io) {
        let part = rounds::part(
            &self.setting,
            self.history.epoch(),
            c.t,
            Body::Certificate {
                commits: c.commits.clone(),
                reveals: c.reveals.clone(),
            },
        );
        let key = records::t_key(records::CERTIFICATE, &self.setting.id, c.t);
        // Whoever lacks the certificate after a crash gets it from a peer.
        io.persist_soon(vec![records::put_part(key, &part)], After::Nothing);
        self.apply(c, io);
    }

    /// The status of t is known: what follows from it.
    fn apply(&mut self, c: Certified, io: &mut Io) {
        let (t, epoch, id) = (c.t, self.history.epoch(), self.setting.id);
        let status = match &c.decision {
            Decision::Outcome => {
                let outcome = c.reveals[0].outcome(id, epoch, t, &c.seal);
                io.notice(Notice::Certified {
                    agreement: id,
                    t,
                    kind: outcome.kind,
                });
                self.history.outcome(outcome.kind == OutputKind::Null as u8);
                Status::Outcome {
                    outcome,
                    signatures: c.reveals.iter().map(|r| r.signature).collect(),
                    holes: c.reveals[0].holes.clone(),
                }
            }
            Decision::Hole {
                state_agreed,
                all_abstained,
                ..
            } => {
                io.notice(Notice::Hole {
                    agreement: id,
                    t,
                    reason: reason(&self.setting, &c.reveals, *all_abstained),
                });
                self.history.hole(*state_agreed);
                self.cases.opened(&c, epoch);
                // The cell may have come first: then nothing is left to read.
                if self.cases.word(t).is_none() {
                    let own = self.pipeline.own(t).cloned();
                    self.readings.opened(t, epoch, &c.decision, own);
                }
                Status::Hole
            }
        };
        let hole = !matches!(c.decision, Decision::Outcome);
        self.pipeline.decided(t, hole);
        self.rounds.over(t, c.commits, &self.history, cx!(self, io));
        self.settle.decided(t, status, cx!(self, io));
        let chain_next = self.settle.chain_next();
        self.cases.advance(chain_next, cx!(self, io));
        self.readings.advance(chain_next, cx!(self, io));
        self.take_words(t, io);
        self.say_what_is_lost(io);
    }

    // ---- faults

    fn faults(&mut self, faults: Faults, io: &mut Io) {
        for (epoch, t, fault) in faults {
            self.fault(epoch, t, fault, io);
        }
    }

    fn fault(&mut self, epoch: u32, t: u64, fault: Fault, io: &mut Io) {
        let (node, what, evidence) = match fault {
            Fault::Equivocation {
                node,
                first,
                second,
            } => {
                let evidence = Evidence::Equivocation {
                    node: self.setting.node(node),
                    first,
                    second,
                };
                (node, "signed two commits for one execution", Some(evidence))
            }
            Fault::FalseOpening {
                node,
                commit,
                reveal,
                seal,
            } => {
                let evidence = Evidence::FalseOpening {
                    node: self.setting.node(node),
                    commit,
                    reveal,
                    seal,
                };
                let what = "revealed something that does not open its commit";
                (node, what, Some(evidence))
            }
            Fault::Altered { by } => (
                by,
                "sent a reveal whose secret is not the committed one",
                None,
            ),
            Fault::WrongRange { node } => (
                node,
                "revealed from another t, or with other holes, than the rounds before say",
                None,
            ),
            // R2, R12: two different statements, both signed by this node.
            Fault::StaleStore => return self.halt(t, io),
        };
        let cx = cx!(self, io);
        cx.fault(node, what);
        if let Some(evidence) = evidence {
            self.cases.accuse(epoch, t, evidence, cx);
            if on(Defect::ReportedMeansBlocked) && t == self.history.next() {
                self.history.hole(false);
            }
        }
    }

    fn halt(&mut self, t: u64, io: &mut Io) {
        let why = format!(
            "the other nodes hold something that this node signed for t={t} and its store does not know: the store is older \
             than what was signed. Restore the newest store; until then this node signs nothing for this agreement"
        );
        io.notice(Notice::Halted {
            agreement: self.setting.id,
            why: why.clone(),
        });
        self.halted = Some(why);
    }

    // ---- time

    pub fn tick(&mut self, traces: &Traces, io: &mut Io) {
        while let Some(timer) = self.timers.pop(io.now) {
            match timer {
                Timer::Leader => {
                    let wishes = self.rounds.take_over(&self.history, cx!(self, io));
                    self.carry_out(wishes, io);
                }
                Timer::Candidate => {
                    let due = self.pipeline.overdue(io.now);
                    self.look(due, traces, io);
                }
                Timer::Grace => {
                    let t = self.pipeline.open_t();
                    self.look_all(traces, io);
                    let open = self.pipeline.open_t() == t && !self.pipeline.ended(&self.history);
                    if open && self.halted.is_none() {
                        self.begin_list(traces, io);
                    }
                }
                Timer::HeldAgain => {
                    let epoch = self.history.epoch();
                    self.pipeline.list_again(epoch, cx!(self, io));
                }
                Timer::Execution => {
                    self.pipeline
                        .execute_again(traces, &self.history, cx!(self, io));
                }
                Timer::Idle => self.settle.idle(cx!(self, io)),
                Timer::Submit => self.settle.submit(cx!(self, io)),
                Timer::Fallback(t) => self.settle.fallback(t, cx!(self, io)),
                Timer::Attempt(_, t) if t < self.settle.chain_next() => {
                    self.readings.attempt_over(t, cx!(self, io));
                }
                Timer::Attempt(from, t) => self.settle.attempt_over(from, t, cx!(self, io)),
                Timer::Door(t) => self.cases.submit(t, cx!(self, io)),
                Timer::Reading(t) if self.halted.is_none() => {
                    let faults = self.readings.tick(t, traces, cx!(self, io));
                    self.faults(faults, io);
                }
                Timer::Reading(_) => {}
            }
        }
        self.progress(traces, io);
    }
}

/// Why t is a hole, in words.
fn reason(s: &Setting, reveals: &[Reveal], all_abstained: bool) -> String {
    if all_abstained {
        return "every node abstained: none could run the code on this window within its own limits".into();
    }
    let mut groups: Vec<(&Reveal, Vec<String>)> = Vec::new();
    for (node, r) in s.committee.nodes.iter().zip(reveals) {
        match groups.iter_mut().find(|g| g.0.says_the_same(r)) {
            Some(g) => g.1.push(node.hex()),
            None => groups.push((r, vec![node.hex()])),
        }
    }
    let parts: Vec<_> = groups.iter().map(|g| g.1.join(", ")).collect();
    format!(
        "the nodes revealed different outcomes: [{}]",
        parts.join("] against [")
    )
}
