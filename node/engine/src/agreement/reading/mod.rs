//! Second readings of holes (design §3b, Cell and Moving): behind its door, t is cut, computed, committed and revealed once more,
//! under a marked epoch; n equal reveals are signed together and fill the cell of t.
//!
//! A reading starts by itself where it may cure the hole (some node abstained, or the window hashes differ), at most three times
//! with doubling delay; otherwise when the operators of all nodes have asked for it. Each node sends what it has to all others
//! and shows it again until it has theirs: readings are rare, and no leader is needed. Who refuses is unavailable.

mod signing;

use crate::agreement::Cx;
use crate::agreement::cutter::{Closed, Cutter, Void};
use crate::agreement::held::Lists;
use crate::agreement::pipeline::{Own, held_part};
use crate::agreement::rounds::part;
use crate::agreement::setting::Setting;
use crate::agreement::settle::Signing;
use crate::agreement::timers::Timer;
use crate::alloc_prelude::*;
use crate::api::{Effect, Execution, ExecutionPlan, Millis, Resolution, Submission};
use crate::ingest::Traces;
use crate::io::{After, Then};
use crate::records::{self, ExecutionRecord, RevealRecord};
use diversity_proto::domain::keccak_raw;
use diversity_proto::held::Held;
use diversity_proto::round::{
    Blinding, Body, Commit, Outcome, OutputKind, Reveal, marked_epoch, reading_of,
};
use diversity_proto::wire::{Part, RANGES_MAX, Range};
use diversity_proto::{Digest, NodeId, SensorId, Signature};
use diversity_round::{Decision, Fault, Input, Output, Round, Unverified, Verified};

/// Readings that start by themselves, at most.
const AUTOMATIC_MAX: u16 = 3;
/// Signing attempts of one reading are numbered from its number times this: more than it can need in days.
const ATTEMPTS: u32 = 1 << 16;
/// How long an execution that abstained waits before it is tried again, milliseconds.
const RETRY_MS: Millis = 1_000;

/// One hole behind its door, and how its second reading stands.
struct Reading {
    /// Epoch of the first reading.
    epoch: u32,
    /// Which reading is under way, from 1; 0 before the first.
    number: u16,
    curable: bool,
    /// The latest one that the operator asked for.
    asked: u16,
    /// What this node computed in the first reading; `None` while recovery has not got there.
    basis: Option<Own>,
    /// The states were equal: whatever is read, `state'` stays (design §3b, Going on).
    frozen: bool,
    run: Option<Run>,
    /// The reading before which what the windows are made of was shown.
    exchanged: u16,
    /// The certificate of the reading before: whoever is still at it is shown this.
    failed: Option<(u32, Body)>,
}

/// One reading under way.
struct Run {
    cutter: Cutter,
    /// Differing frames had their time to come: lists are signed from now on.
    ready: bool,
    lists: Lists,
    window: Option<Closed>,
    executing: bool,
    abstained: Option<Millis>,
    execution: Option<Execution>,
    /// Where each sensor's window t+1 starts by it.
    q_next: Vec<u64>,
    own: Option<(Commit, Blinding)>,
    round: Round,
    revealing: bool,
    outcome: Option<Outcome>,
    signature: Option<Signature>,
    submitted: bool,
}

/// The holes of an agreement that wait for a word, by t.
#[derive(Default)]
pub(crate) struct Readings {
    holes: BTreeMap<u64, Reading>,
    signing: Signing,
}

/// A fault of a reading, for the agreement to tell.
pub(crate) type Faults = Vec<(u32, u64, Fault)>;

impl Reading {
    fn marked(&self) -> u32 {
        marked_epoch(self.epoch, self.number)
    }
    /// Whether another reading begins, once it is time.
    fn due(&self) -> bool {
        self.asked > self.number || self.curable && self.number < AUTOMATIC_MAX
    }
}

impl Readings {
    // ---- state

    /// t is a hole.
    pub fn opened(&mut self, t: u64, epoch: u32, decision: &Decision, basis: Option<Own>) {
        let Decision::Hole {
            state_agreed,
            curable,
            ..
        } = decision
        else {
            return;
        };
        self.holes.insert(
            t,
            Reading {
                epoch,
                number: 0,
                curable: *curable,
                asked: 0,
                basis,
                frozen: *state_agreed,
                run: None,
                exchanged: 0,
                failed: None,
            },
        );
    }
    /// What an earlier run computed in the first reading of t from this carry, if that is a hole.
    pub fn restore_basis(&mut self, t: u64, record: &ExecutionRecord, carry: &[u8]) {
        if let Some(r) = self.holes.get_mut(&t).filter(|r| r.epoch == record.epoch) {
            r.basis = Some(Own::restored(record, carry.to_vec()));
        }
    }
    /// An earlier run took part in this reading of t.
    fn restore_run(&mut self, t: u64, epoch: u32, cx: &mut Cx<'_>) -> Option<&mut Run> {
        let r = self.holes.get_mut(&t)?;
        if reading_of(epoch) > r.number && marked_epoch(r.epoch, reading_of(epoch)) == epoch {
            r.number = reading_of(epoch);
            r.run = new_run(t, r, cx);
        }
        r.run
            .as_mut()
            .filter(|run| run.round.place().epoch == epoch)
    }
    /// An own list of open sensors for a reading.
    pub fn restore_held(&mut self, t: u64, epoch: u32, held: Held, cx: &mut Cx<'_>) {
        if let Some(run) = self.restore_run(t, epoch, cx) {
            run.lists = Lists::restore(held);
        }
    }
    /// An own commit of a reading.
    pub fn restore_execution(&mut self, t: u64, r: ExecutionRecord, cx: &mut Cx<'_>) {
        if let Some(run) = self.restore_run(t, r.epoch, cx) {
            run.executing = true;
            run.execution = Some(r.execution);
            run.q_next = r.stretches.iter().map(|s| s.next).collect();
            run.own = Some((r.commit, r.blinding));
        }
    }
    /// An own reveal of a reading.
    pub fn restore_reveal(&mut self, t: u64, r: RevealRecord, cx: &mut Cx<'_>) {
        if let Some(run) = self.restore_run(t, r.epoch, cx)
            && let Some((commit, _)) = run.own
        {
            run.round.step(Input::OwnCommit(commit));
            run.round.restore_reveal(r.seal, r.reveal);
            run.revealing = true;
        }
    }
    /// The chain has spoken of t.
    pub fn settled(&mut self, t: u64, cx: &mut Cx<'_>) {
        self.holes.remove(&t);
        self.signing.drop(t, t, cx);
        cx.timers.clear(Timer::Reading(t));
    }
    /// Holes from t on are none any more.
    pub fn forget_from(&mut self, t: u64, cx: &mut Cx<'_>) {
        let gone: Vec<u64> = self.holes.range(t..).map(|(t, _)| *t).collect();
        for t in gone {
            self.settled(t, cx);
        }
    }
    /// What this node computed in the reading that filled the cell of t, if it is the cell's result.
    pub fn resolution(&self, t: u64, kind: OutputKind, result: &[u8]) -> Option<Resolution> {
        let r = self.holes.get(&t)?;
        let run = r.run.as_ref()?;
        let execution = run.execution.as_ref()?;
        let same = execution.computed.kind == kind && execution.computed.result == result;
        same.then(|| Resolution {
            kind,
            result: result.to_vec(),
            state: execution.computed.state,
            carry: execution.carry.clone(),
            q_next: run.q_next.clone(),
        })
    }
    /// Whether t is a hole that waits for a word.
    pub fn has(&self, t: u64) -> bool {
        self.holes.contains_key(&t)
    }
    /// Nodes whose list, commit or reveal the reading of t waits for.
    pub fn missing(&self, t: u64, s: &Setting) -> Vec<NodeId> {
        match self.holes.get(&t).and_then(|r| r.run.as_ref()) {
            Some(run) if run.own.is_some() => run.round.missing(),
            Some(run) => run.lists.missing(s),
            None => Vec::new(),
        }
    }

    // ---- beginning

    /// Doors below are final: readings that may cure are due after a delay, which doubles (P-READ-1).
    pub fn advance(&mut self, chain_next: u64, cx: &mut Cx<'_>) {
        for (t, r) in self.holes.range(..chain_next) {
            if let Some(wait) = delay(r, cx) {
                cx.timers.start(Timer::Reading(*t), cx.io.now + wait);
            }
        }
    }
    /// The operator of this node asks for another reading of t; it runs when all have asked (P-READ-2).
    pub fn ask(&mut self, t: u64, chain_next: u64, cx: &mut Cx<'_>) {
        if let Some(r) = self.holes.get_mut(&t).filter(|_| t < chain_next) {
            r.asked = r.number.saturating_add(1);
            let op = records::put_asked(&cx.setting.id, t, r.asked);
            cx.io.persist(vec![op], After::Nothing);
            cx.timers.set(Timer::Reading(t), cx.io.now);
        }
    }
    /// What the operator of an earlier run asked for. After all that readings left.
    pub fn restore_asked(&mut self, t: u64, number: u16) {
        if let Some(r) = self.holes.get_mut(&t) {
            r.asked = number;
        }
    }

    /// A reading begins, or what it has is shown again.
    pub fn tick(&mut self, t: u64, traces: &Traces, cx: &mut Cx<'_>) -> Faults {
        let Some(r) = self.holes.get_mut(&t) else {
            return Vec::new();
        };
        if r.run.is_none() {
            if r.due() && r.basis.is_some() && r.number < u16::MAX {
                r.number += 1;
                r.run = new_run(t, r, cx);
            }
            if r.run.is_none() {
                return Vec::new();
            }
        }
        let again = cx.io.now + cx.setting.timeout_max_ms();
        cx.timers.set(Timer::Reading(t), again);
        if let Some(run) = r.run.as_mut().filter(|run| !run.ready) {
            run.ready = true;
            if r.exchanged != r.number {
                // P-READ-3: first the nodes show one another what each has its window from.
                r.exchanged = r.number;
                run.ready = false;
                show_leaves(t, r, traces, cx);
                return Vec::new();
            }
        }
        let mut faults = self.go_on(t, traces, cx);
        faults.extend(self.show(t, cx));
        faults
    }

    /// The traces grew, or something about t became known: as far as it goes.
    pub fn look(&mut self, traces: &Traces, cx: &mut Cx<'_>) -> Faults {
        let running: Vec<u64> = self
            .holes
            .iter()
            .filter(|(_, r)| {
                // An abstention is tried again when its time comes, not with each message.
                let open = |run: &Run| run.ready && !run.executing && run.window.is_none();
                r.run.as_ref().is_some_and(open)
            })
            .map(|(t, _)| *t)
            .collect();
        let each = running.into_iter();
        each.flat_map(|t| self.go_on(t, traces, cx)).collect()
    }

    fn go_on(&mut self, t: u64, traces: &Traces, cx: &mut Cx<'_>) -> Faults {
        let Some(r) = self.holes.get_mut(&t) else {
            return Vec::new();
        };
        let epoch = r.marked();
        let Some(run) = r.run.as_mut() else {
            return Vec::new();
        };
        if let Some((commit, _)) = run.own {
            // After a restart.
            let outputs = run.round.step(Input::OwnCommit(commit));
            return self.outputs(t, outputs, cx);
        }
        if run.window.is_some() {
            // It is cut, and `f` could not be run on it yet.
            if !run.executing {
                self.execute(t, traces, cx);
            }
            return Vec::new();
        }
        // P-HELD-1, at once: the set alone cuts.
        if run.lists.begins_cut(cx.setting) {
            run.cutter.reopen();
        }
        for k in 0..cx.setting.sensors.len() {
            let trace = &traces[&cx.setting.sensors[k]];
            let looked = match run.lists.word(cx.setting, k) {
                _ if !run.lists.bound() => run.cutter.look(k, trace, cx.io.now),
                Some(word) => run.cutter.look_by_set(k, word, trace),
                None => Ok(()),
            };
            if let Err(forgotten) = looked {
                let sensor = cx.setting.sensors[k];
                cx.io.load_times(sensor, forgotten.0);
                return Vec::new();
            }
        }
        if let Some(held) = run.lists.begin(cx.setting, &run.cutter, traces) {
            let digest = held.digest(
                &cx.setting.subject(epoch, t),
                &cx.setting.node(cx.setting.me()),
            );
            let then = Then::HeldSigned(epoch, t, held);
            cx.io.sign(digest, After::Agreement(cx.setting.id, then));
            return Vec::new();
        }
        let complete = run.lists.word(cx.setting, 0).is_some();
        if complete && let Some(window) = run.cutter.take() {
            run.window = Some(window);
            self.execute(t, traces, cx);
        }
        Vec::new()
    }

    fn execute(&mut self, t: u64, traces: &Traces, cx: &mut Cx<'_>) {
        let Some(r) = self.holes.get_mut(&t) else {
            return;
        };
        let epoch = r.marked();
        let (Some(run), Some(basis)) = (r.run.as_mut(), r.basis.as_ref()) else {
            return;
        };
        let Some(window) = run.window.as_mut() else {
            return;
        };
        if r.frozen {
            // Never past what t+1 starts from already.
            for (s, next) in window.stretches.iter_mut().zip(basis.q_next()) {
                if cx.setting.span(t).is_some() {
                    s.end = s.end.min(next);
                }
                s.next = next;
            }
        }
        run.executing = true;
        run.q_next = window.q_next();
        cx.io.effect(Effect::Execute(Box::new(ExecutionPlan {
            agreement: cx.setting.id,
            module: cx.setting.terms.off_chain_code,
            epoch,
            t,
            from: window.from,
            to: window.to,
            carry: basis.carry.clone(),
            leaves: window.leaves(&cx.setting.sensors, traces),
            q_next: window.q_next(),
        })));
    }

    /// P-READ-3: what another node has its window of t from; frames of sensors that differ are fetched and compared.
    pub fn leaves(&self, from: usize, t: u64, theirs: &[Digest], traces: &Traces, cx: &mut Cx<'_>) {
        let Some(basis) = self.holes.get(&t).and_then(|r| r.basis.as_ref()) else {
            return;
        };
        let own = leaves(basis, traces, cx.setting);
        if own.len() != theirs.len() {
            return;
        }
        let differs = own.iter().zip(theirs).enumerate();
        let ranges: Vec<Range> = differs
            .filter(|(_, (own, their))| own != their)
            .take(RANGES_MAX)
            .map(|(k, _)| {
                let (from_q, to_q) = basis.range(k);
                Range {
                    sensor: cx.setting.sensors[k],
                    from_q,
                    to_q: to_q.max(traces[&cx.setting.sensors[k]].next_q()),
                }
            })
            .filter(|r| r.from_q < r.to_q)
            .collect();
        if !ranges.is_empty() {
            let to = cx.setting.node(from);
            cx.io.effect(Effect::RequestFrames { to, ranges });
        }
    }

    // ---- lists

    /// The own list is durable.
    pub fn list_durable(
        &mut self,
        epoch: u32,
        t: u64,
        held: Held,
        traces: &Traces,
        cx: &mut Cx<'_>,
    ) -> Faults {
        let Some(run) = self.run(epoch, t) else {
            return Vec::new();
        };
        run.lists.signed(held);
        let mut faults = self.go_on(t, traces, cx);
        faults.extend(self.show(t, cx));
        faults
    }
    /// Whether this list of a node would be news, and so has to be checked.
    pub fn wants_list(&mut self, from: usize, epoch: u32, t: u64, held: &Held) -> bool {
        let open = |run: &&mut Run| run.window.is_none() && run.own.is_none();
        let run = self.run(epoch, t).filter(open);
        run.is_some_and(|run| run.lists.lacks(from, held))
    }
    /// The list of another node, all signatures in it being good.
    pub fn listed(
        &mut self,
        from: usize,
        epoch: u32,
        t: u64,
        held: Held,
        traces: &Traces,
        cx: &mut Cx<'_>,
    ) -> Faults {
        let new = self
            .run(epoch, t)
            .is_some_and(|run| run.lists.listed(from, held));
        if new {
            self.go_on(t, traces, cx)
        } else {
            Vec::new()
        }
    }

    fn run(&mut self, epoch: u32, t: u64) -> Option<&mut Run> {
        let r = self.holes.get_mut(&t)?;
        let here = r.marked() == epoch;
        r.run.as_mut().filter(|_| here)
    }

    // ---- commits and reveals

    /// `f` is done.
    pub fn executed(&mut self, epoch: u32, t: u64, mut execution: Execution, cx: &mut Cx<'_>) {
        let Some(r) = self.holes.get_mut(&t).filter(|r| r.marked() == epoch) else {
            return;
        };
        let (Some(run), Some(basis)) = (r.run.as_mut(), r.basis.as_ref()) else {
            return;
        };
        if run.own.is_some() || !run.executing {
            return;
        }
        if execution.computed.kind == OutputKind::Abstain {
            let since = *run.abstained.get_or_insert(cx.io.now);
            if cx.io.now < since + u64::from(cx.setting.terms.abstain_ms) {
                run.executing = false;
                cx.timers.set(Timer::Reading(t), cx.io.now + RETRY_MS);
                return;
            }
        }
        if r.frozen {
            execution.computed.state = basis.computed.state;
        }
        cx.io.effect(Effect::Commit {
            agreement: cx.setting.id,
            epoch,
            subject: cx.setting.subject(epoch, t),
            computed: execution.computed.clone(),
        });
        run.execution = Some(execution);
    }

    /// The commit is signed: durable before it leaves.
    pub fn committed(
        &mut self,
        epoch: u32,
        t: u64,
        blinding: Blinding,
        commit: Commit,
        cx: &mut Cx<'_>,
    ) {
        let Some(run) = self.run(epoch, t).filter(|run| run.own.is_none()) else {
            return;
        };
        let (Some(window), Some(execution)) = (&run.window, &run.execution) else {
            return;
        };
        run.own = Some((commit, blinding));
        let record = ExecutionRecord {
            epoch,
            from: window.from,
            to: window.to,
            stretches: window.stretches.clone(),
            void: window.void.iter().map(|k| *k as u32).collect(),
            execution: execution.clone(),
            blinding,
            commit,
        };
        let op = record.put_reading(&cx.setting.id, t);
        let then = Then::CommitDurable(epoch, t);
        cx.io
            .persist(vec![op], After::Agreement(cx.setting.id, then));
    }

    pub fn commit_durable(&mut self, epoch: u32, t: u64, cx: &mut Cx<'_>) -> Faults {
        let Some(run) = self.run(epoch, t) else {
            return Vec::new();
        };
        let Some((commit, _)) = run.own else {
            return Vec::new();
        };
        let outputs = run.round.step(Input::OwnCommit(commit));
        let mut faults = self.outputs(t, outputs, cx);
        faults.extend(self.show(t, cx));
        faults
    }

    /// Which signatures a body of another node needs; what it sent of an older reading is answered with its certificate.
    pub fn judge(
        &mut self,
        from: usize,
        epoch: u32,
        t: u64,
        body: Body,
        cx: &mut Cx<'_>,
    ) -> Option<Unverified> {
        let r = self.holes.get_mut(&t)?;
        if let Some((of, certificate)) = &r.failed
            && *of == epoch
            && !matches!(body, Body::Certificate { .. })
        {
            if cx.may_serve(from, records::READING, t) {
                let part = part(cx.setting, epoch, t, certificate.clone());
                cx.io.send(cx.setting.node(from), part);
            }
            return None;
        }
        self.run(epoch, t)?.round.unverified(from, body)
    }
    /// A body whose signatures are good.
    pub fn body(&mut self, epoch: u32, t: u64, body: Verified, cx: &mut Cx<'_>) -> Faults {
        let Some(run) = self.run(epoch, t) else {
            return Vec::new();
        };
        let outputs = run.round.step(Input::Body(body));
        self.outputs(t, outputs, cx)
    }

    fn outputs(&mut self, t: u64, outputs: Vec<Output>, cx: &mut Cx<'_>) -> Faults {
        let mut faults = Vec::new();
        for output in outputs {
            let Some(r) = self.holes.get_mut(&t) else {
                break;
            };
            let epoch = r.marked();
            match output {
                Output::Send { to, body } => send(epoch, t, to, body, cx),
                Output::MakeReveal { seal } => self.reveal(t, seal, cx),
                Output::Fault(fault) => faults.push((epoch, t, fault)),
                Output::Decided(decision) => self.decided(t, &decision, cx),
            }
        }
        faults
    }

    fn reveal(&mut self, t: u64, seal: Digest, cx: &mut Cx<'_>) {
        let Some(r) = self.holes.get_mut(&t) else {
            return;
        };
        let epoch = r.marked();
        let Some(run) = r.run.as_mut().filter(|run| !run.revealing) else {
            return;
        };
        let (Some((_, blinding)), Some(execution)) = (run.own, &run.execution) else {
            return;
        };
        run.revealing = true;
        // A reading speaks of t alone.
        let reveal = Reveal {
            computed: execution.computed.clone(),
            blinding,
            from: t,
            holes: Vec::new(),
            signature: Signature([0; 64]),
        };
        let digest = cx.setting.place(epoch, t).reveal_digest(&reveal, &seal);
        let then = Then::RevealSigned(epoch, t, seal, reveal);
        cx.io.sign(digest, After::Agreement(cx.setting.id, then));
    }

    pub fn reveal_durable(
        &mut self,
        epoch: u32,
        t: u64,
        reveal: Reveal,
        cx: &mut Cx<'_>,
    ) -> Faults {
        let Some(run) = self.run(epoch, t) else {
            return Vec::new();
        };
        let outputs = run.round.step(Input::OwnReveal(reveal));
        let mut faults = self.outputs(t, outputs, cx);
        faults.extend(self.show(t, cx));
        faults
    }

    /// All n reveals are here.
    fn decided(&mut self, t: u64, decision: &Decision, cx: &mut Cx<'_>) {
        let Some(r) = self.holes.get_mut(&t) else {
            return;
        };
        let epoch = r.marked();
        let Some(run) = r.run.as_mut() else { return };
        let Some((seal, commits, reveals)) = run.round.certificate() else {
            return;
        };
        match decision {
            Decision::Outcome => {
                run.outcome = Some(reveals[0].outcome(cx.setting.id, epoch, t, &seal));
                let first = u32::from(r.number) * ATTEMPTS;
                self.signing.open_at(t, first, first + (ATTEMPTS - 1));
                self.signing.arm(t, t, cx);
                self.signing.ask_nonce(t, t, cx);
            }
            // Its failure, shown by n reveals, starts the next.
            Decision::Hole { curable, .. } => {
                r.curable = *curable;
                r.failed = Some((epoch, Body::Certificate { commits, reveals }));
                r.run = None;
                cx.timers.clear(Timer::Reading(t));
                if let Some(wait) = delay(r, cx) {
                    cx.timers.set(Timer::Reading(t), cx.io.now + wait);
                }
            }
        }
    }

    /// Everything that this node has of the reading goes to all others.
    fn show(&mut self, t: u64, cx: &mut Cx<'_>) -> Faults {
        let Some(r) = self.holes.get_mut(&t) else {
            return Vec::new();
        };
        let epoch = r.marked();
        let Some(run) = r.run.as_mut() else {
            return Vec::new();
        };
        if let Some(held) = run.lists.own() {
            let part = held_part(cx.setting, epoch, t, held.clone());
            let others: Vec<_> = cx.setting.others().collect();
            for node in others {
                cx.io.send(node, part.clone());
            }
        }
        for body in run.round.show() {
            send(epoch, t, None, body, cx);
        }
        if let (Some(outcome), Some(signature), false) =
            (&run.outcome, run.signature, run.submitted)
        {
            run.submitted = true;
            cx.io.submit(Submission::Reading {
                outcome: outcome.clone(),
                signature,
            });
        }
        Vec::new()
    }
}

/// How long after its door, or after the reading before, the next one starts by itself; `None` if it does not.
fn delay(r: &Reading, cx: &Cx<'_>) -> Option<Millis> {
    if r.run.is_some() || r.asked > r.number {
        return Some(0);
    }
    (r.curable && r.number < AUTOMATIC_MAX).then(|| cx.setting.timeout_max_ms() << r.number)
}

/// For each sensor a digest of the frames that its window is cut from.
fn leaves(basis: &Own, traces: &Traces, s: &Setting) -> Vec<Digest> {
    let leaf = |(k, sensor): (usize, &SensorId)| {
        let (from, to) = basis.range(k);
        let mut bytes = from.to_be_bytes().to_vec();
        bytes.extend(to.to_be_bytes());
        for (_, stored) in traces[sensor].stored(from, to) {
            bytes.extend(stored.digest().0);
        }
        Digest(keccak_raw(&bytes))
    };
    s.sensors.iter().enumerate().map(leaf).collect()
}

fn show_leaves(t: u64, r: &Reading, traces: &Traces, cx: &mut Cx<'_>) {
    let Some(basis) = &r.basis else { return };
    let part = Part::Leaves {
        agreement: cx.setting.id,
        epoch: r.marked(),
        t,
        hashes: leaves(basis, traces, cx.setting),
    };
    let others: Vec<_> = cx.setting.others().collect();
    for node in others {
        cx.io.send(node, part.clone());
    }
}

fn new_run(t: u64, r: &Reading, cx: &mut Cx<'_>) -> Option<Run> {
    let basis = r.basis.as_ref()?;
    let place = cx.setting.place(r.marked(), t);
    let me = cx.setting.me();
    Some(Run {
        cutter: Cutter::new(&cx.setting.terms, t, basis.start(), Void::default()),
        ready: false,
        lists: Lists::default(),
        window: None,
        executing: false,
        abstained: None,
        execution: None,
        q_next: Vec::new(),
        own: None,
        // Everything goes to everybody: each node leads.
        round: Round::new(place, me),
        revealing: false,
        outcome: None,
        signature: None,
        submitted: false,
    })
}

fn send(epoch: u32, t: u64, to: Option<usize>, body: Body, cx: &mut Cx<'_>) {
    let part = part(cx.setting, epoch, t, body);
    let nodes = cx.setting.committee.nodes.clone();
    for (i, node) in nodes.into_iter().enumerate() {
        if i != cx.setting.me() && to.is_none_or(|to| to == i) {
            cx.io.send(node, part.clone());
        }
    }
}
