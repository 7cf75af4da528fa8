//! One second reading under way: its window is cut by the lists of all nodes, computed, committed and revealed.

use super::{Faults, Reading, Readings, delay};
use crate::agreement::Cx;
use crate::agreement::cutter::{Closed, Cutter, Void};
use crate::agreement::held::Lists;
use crate::agreement::pipeline::held_part;
use crate::agreement::rounds::part;
use crate::agreement::setting::Setting;
use crate::agreement::signing::Aim;
use crate::agreement::timers::Timer;
use crate::alloc_prelude::*;
use crate::api::{Effect, Execution, ExecutionPlan, Millis, Submission};
use crate::ingest::Traces;
use crate::io::{After, Then};
use crate::records::{self, ExecutionRecord, RevealRecord};
use diversity_proto::cell::CellState;
use diversity_proto::held::Held;
use diversity_proto::round::{
    Blinding, Body, Commit, Outcome, OutputKind, Reveal, marked_epoch, reading_of,
};
use diversity_proto::{Digest, NodeId, Signature};
use diversity_round::{Decision, Input, Output, Round, Unverified, Verified};

/// How long an execution that abstained waits before it is tried again, milliseconds.
const RETRY_MS: Millis = 1_000;

/// One reading under way.
pub(super) struct Run {
    cutter: Cutter,
    /// Differing frames had their time to come: lists are signed from now on.
    ready: bool,
    lists: Lists,
    window: Option<Closed>,
    executing: bool,
    /// When `f` could first run on its window.
    since: Millis,
    /// `f` has abstained on it: that, and since when it is tried, is durable.
    abstained: bool,
    execution: Option<Execution>,
    /// Where each sensor's window t+1 starts by it.
    q_next: Vec<u64>,
    own: Option<(Commit, Blinding)>,
    /// The own commit is durable.
    durable: bool,
    round: Round,
    revealing: bool,
    outcome: Option<Outcome>,
    signature: Option<Signature>,
    submitted: bool,
}

impl Run {
    /// The reading that `r` numbers, at its beginning; `None` while it is not known where its window starts.
    pub fn new(t: u64, r: &Reading, cx: &mut Cx<'_>) -> Option<Self> {
        let basis = r.basis.as_ref()?;
        let place = cx.setting.place(r.marked(), t);
        let me = cx.setting.me();
        Some(Self {
            cutter: Cutter::new(&cx.setting.terms, t, basis.start(), Void::default()),
            ready: false,
            lists: Lists::default(),
            window: None,
            executing: false,
            since: cx.io.now,
            abstained: false,
            execution: None,
            q_next: Vec::new(),
            own: None,
            durable: false,
            // Everything goes to everybody: each node leads.
            round: Round::new(place, me),
            revealing: false,
            outcome: None,
            signature: None,
            submitted: false,
        })
    }
    /// Differing frames had their time to come.
    pub fn lists_from_now_on(&mut self) {
        self.ready = true;
    }
    /// Whether its window is still to be cut.
    pub fn is_open(&self) -> bool {
        self.ready && !self.executing && self.window.is_none()
    }
    /// What all nodes have revealed, while it has no signature.
    pub fn unsigned(&self) -> Option<&Outcome> {
        self.outcome.as_ref().filter(|_| self.signature.is_none())
    }
    /// The aggregated signature over the outcome.
    pub fn signed(&mut self, signature: Signature) {
        self.signature = Some(signature);
    }
}

impl Readings {
    // ---- state

    /// An earlier run took part in this reading of t.
    fn restore_run(&mut self, t: u64, epoch: u32, cx: &mut Cx<'_>) -> Option<&mut Run> {
        let r = self.holes.get_mut(&t)?;
        if reading_of(epoch) > r.number && marked_epoch(r.epoch, reading_of(epoch)) == epoch {
            r.number = reading_of(epoch);
            r.run = Run::new(t, r, cx);
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
            run.durable = true;
        }
    }
    /// `f` abstained in a reading, and could first run on its window then.
    pub fn restore_abstained(&mut self, t: u64, epoch: u32, since: Millis, cx: &mut Cx<'_>) {
        if let Some(run) = self.restore_run(t, epoch, cx) {
            (run.since, run.abstained) = (since, true);
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
    /// What this node computed in the reading that is under way, and what its `state'` is made of; `None` before all reveals.
    pub fn state(&self, t: u64) -> Option<CellState> {
        let run = self.holes.get(&t)?.run.as_ref()?;
        let execution = run.execution.as_ref()?;
        Some(CellState {
            computed: execution.computed.clone(),
            seal: run.round.sealed()?,
            carry: execution.carry.clone(),
            q_next: run.q_next.clone(),
        })
    }
    /// Nodes whose list, commit or reveal the reading of t waits for.
    pub fn missing(&self, t: u64, s: &Setting) -> Vec<NodeId> {
        match self.holes.get(&t).and_then(|r| r.run.as_ref()) {
            Some(run) if run.own.is_some() => run.round.missing(),
            Some(run) => run.lists.missing(s),
            None => Vec::new(),
        }
    }

    // ---- the window

    /// As far as the reading of t goes with what is here.
    pub(super) fn go_on(&mut self, t: u64, traces: &Traces, cx: &mut Cx<'_>) -> Faults {
        let Some(r) = self.holes.get_mut(&t) else {
            return Vec::new();
        };
        let epoch = r.marked();
        let Some(run) = r.run.as_mut() else {
            return Vec::new();
        };
        if let Some((commit, _)) = run.own {
            // After a restart it is durable, and not told to the round yet (P-COMMIT-1).
            if !run.durable {
                return Vec::new();
            }
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
            if !run.abstained {
                run.since = cx.io.now;
            }
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
            // P-EXEC-3: the time that it is tried again for goes on through restarts.
            run.since = run.since.min(cx.io.now);
            if cx.io.now < run.since + u64::from(cx.setting.terms.abstain_ms) {
                if !run.abstained {
                    run.abstained = true;
                    let op = records::put_abstained(&cx.setting.id, t, epoch, run.since);
                    cx.io.persist_soon(vec![op], After::Nothing);
                }
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
        let abstained = run.abstained;
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
        let mut ops = vec![record.put_reading(&cx.setting.id, t)];
        ops.extend(abstained.then(|| records::delete_abstained(&cx.setting.id, t, epoch)));
        let then = Then::CommitDurable(epoch, t);
        cx.io.persist(ops, After::Agreement(cx.setting.id, then));
    }

    pub fn commit_durable(&mut self, epoch: u32, t: u64, cx: &mut Cx<'_>) -> Faults {
        let Some(run) = self.run(epoch, t) else {
            return Vec::new();
        };
        let Some((commit, _)) = run.own else {
            return Vec::new();
        };
        run.durable = true;
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
        let (epoch, attempts) = (r.marked(), r.attempts());
        let Some(run) = r.run.as_mut() else { return };
        let Some((seal, commits, reveals)) = run.round.certificate() else {
            return;
        };
        match decision {
            Decision::Outcome => {
                run.outcome = Some(reveals[0].outcome(cx.setting.id, epoch, t, &seal));
                let aim = run.outcome.as_ref().map(|outcome| Aim {
                    epoch,
                    digest: outcome.digest(&cx.setting.deployment),
                });
                self.signing.begin((t, t), attempts, aim, cx);
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
    pub(super) fn show(&mut self, t: u64, cx: &mut Cx<'_>) -> Faults {
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

fn send(epoch: u32, t: u64, to: Option<usize>, body: Body, cx: &mut Cx<'_>) {
    let part = part(cx.setting, epoch, t, body);
    let nodes = cx.setting.committee.nodes.clone();
    for (i, node) in nodes.into_iter().enumerate() {
        if i != cx.setting.me() && to.is_none_or(|to| to == i) {
            cx.io.send(node, part.clone());
        }
    }
}
