//! From traces to durable commits: windows are cut, `f` runs on one after the other, and what it gave is committed to, each t
//! once (design §3, §5).

use crate::agreement::Cx;
use crate::agreement::cutter::{Closed, Cutter, Void};
use crate::agreement::held::Lists;
use crate::agreement::history::History;
use crate::agreement::setting::Setting;
use crate::agreement::timers::Timer;
use crate::alloc_prelude::*;
use crate::api::{Effect, Execution, ExecutionPlan, Millis, Notice, Stretch};
use crate::ingest::Traces;
use crate::io::{After, Then};
use crate::records::{self, ExecutionRecord};
use diversity_proto::held::Held;
use diversity_proto::round::{Blinding, Commit, Computed, OutputKind};
use diversity_proto::wire::Part;
use diversity_proto::{NodeId, SensorId, Signature};

/// First wait before `f` is tried again on a window that this node could not run it on, milliseconds; it doubles.
const RETRY_MS: Millis = 250;

/// What this node computed for a t that is not decided, and what it computed it from.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub computed: Computed,
    pub blinding: Blinding,
    /// Carry of t-1.
    pub carry: Vec<u8>,
    stretches: Vec<Stretch>,
}

impl Own {
    /// What an earlier run computed, from this carry.
    pub fn restored(r: &ExecutionRecord, carry: Vec<u8>) -> Self {
        Self {
            computed: r.execution.computed.clone(),
            blinding: r.blinding,
            carry,
            stretches: r.stretches.clone(),
        }
    }
    /// Where each sensor's window starts.
    pub fn start(&self) -> Vec<u64> {
        self.stretches.iter().map(|s| s.start).collect()
    }
    /// What the window of sensor `k` takes.
    pub fn range(&self, k: usize) -> (u64, u64) {
        (self.stretches[k].start, self.stretches[k].end)
    }
    /// Where each sensor's next window starts.
    pub fn q_next(&self) -> Vec<u64> {
        self.stretches.iter().map(|s| s.next).collect()
    }
}

/// A window on its way from `f` to a durable commit.
struct Working {
    window: Closed,
    /// Carry of t-1.
    carry: Vec<u8>,
    execution: Option<Execution>,
    /// When `f` could first run on it: by the record of an earlier run, if it abstained then.
    since: Millis,
    /// How often this node could not vouch for an output (P-EXEC-3).
    abstained: u32,
    /// That it could not, and since when it tries, is durable.
    recorded: bool,
}

/// The windows of an agreement.
pub(crate) struct Pipeline {
    cutter: Cutter,
    lists: Lists,
    /// The cutter is new: every trace is to be looked at.
    fresh: bool,
    /// Own lists of an earlier run for windows that are cut anew (P-HELD-1: one for each, ever).
    kept: BTreeMap<u64, Held>,
    /// When this node started: no grace ends before it is over since then.
    started: Millis,
    /// When the agreement became known here.
    heard: Millis,
    /// Since when this node holds something that the open count window is about: a message of it, or a new contradiction.
    about: Option<Millis>,
    /// Closed windows that `f` has not run on yet.
    closed: VecDeque<Closed>,
    /// Since when this node tries to run `f` on windows that it abstained on in an earlier run.
    abstained: BTreeMap<(u64, u32), Millis>,
    /// What `f` is running on, or what waits for its commit.
    working: BTreeMap<u64, Working>,
    /// Signed commits of t whose predecessors are not signed yet, with what opens them.
    signed: BTreeMap<u64, (Blinding, Commit)>,
    /// Signed commits that are not durable yet.
    unsent: BTreeMap<u64, Commit>,
    /// What this node computed for t that are not decided.
    own: BTreeMap<u64, Own>,
    carry: Vec<u8>,
    /// First t that has not been handed to `f`.
    execute_next: u64,
    executing: bool,
}

impl Pipeline {
    pub fn new(s: &Setting, heard: Millis) -> Self {
        let q0 = s.terms.sensors.iter().map(|x| x.q0).collect();
        Self {
            cutter: Cutter::new(&s.terms, 0, q0, Void::default()),
            lists: Lists::default(),
            fresh: true,
            kept: BTreeMap::new(),
            started: 0,
            heard,
            about: None,
            closed: VecDeque::new(),
            abstained: BTreeMap::new(),
            working: BTreeMap::new(),
            signed: BTreeMap::new(),
            unsent: BTreeMap::new(),
            own: BTreeMap::new(),
            carry: Vec::new(),
            execute_next: 0,
            executing: false,
        }
    }

    // ---- state

    /// An execution of an earlier run and its commit, in order of t.
    pub fn restore(&mut self, s: &Setting, t: u64, r: &ExecutionRecord) {
        let next = r.stretches.iter().map(|x| x.next).collect();
        let mut void = core::mem::take(self.cutter.void());
        void.by(t, r.void.iter().map(|k| *k as usize));
        self.cutter = Cutter::new(&s.terms, t + 1, next, void);
        self.lists = Lists::default();
        let carry = core::mem::replace(&mut self.carry, r.execution.carry.clone());
        self.execute_next = t + 1;
        self.own.insert(t, Own::restored(r, carry));
    }
    /// The own list of open sensors of an earlier run, after all executions.
    pub fn restore_held(&mut self, t: u64, held: Held) {
        if t == self.cutter.t() {
            self.lists = Lists::restore(held);
        } else if t > self.cutter.t() {
            self.kept.insert(t, held);
        }
    }
    /// `f` abstained in an earlier run on the window of t, and could first run on it then. After all executions.
    pub fn restore_abstained(&mut self, t: u64, epoch: u32, since: Millis) {
        self.abstained.insert((t, epoch), since);
    }
    /// t is decided: what this node computed for it is not needed any more.
    pub fn decided(&mut self, t: u64, hole: bool) {
        self.cutter.void().decided(t, hole);
        self.own.remove(&t);
    }
    /// Everything below t is decided, also what this node computed only now: it is not needed any more.
    pub fn over(&mut self, t: u64) {
        self.own = self.own.split_off(&t);
    }
    /// Everything from t on starts anew from an agreed state (P-CELL-2, P-BAND-1).
    pub fn start_anew(&mut self, s: &Setting, t: u64, carry: Vec<u8>, q_next: Vec<u64>) {
        *self = Self {
            cutter: Cutter::new(&s.terms, t, q_next, Void::default()),
            started: self.started,
            carry,
            execute_next: t,
            ..Self::new(s, self.heard)
        };
    }
    /// This node runs from now on.
    pub fn started(&mut self, now: Millis) {
        self.started = now;
    }

    // ---- views

    /// The window being cut.
    pub fn open_t(&self) -> u64 {
        self.cutter.t()
    }
    /// Where the open window of sensor `k` starts, which nothing below is asked for again.
    pub fn start(&self, k: usize) -> u64 {
        self.cutter.start(k)
    }
    /// Sensors whose part of the open window has not ended.
    pub fn waits_for<'a>(&'a self, s: &'a Setting) -> impl Iterator<Item = SensorId> + 'a {
        self.cutter.open().iter().map(|k| s.sensors[*k])
    }
    /// Nodes whose list of open sensors is missing.
    pub fn waits_for_lists(&self, s: &Setting) -> Vec<NodeId> {
        self.lists.missing(s)
    }
    /// Whether no window follows.
    pub fn ended(&self, h: &History) -> bool {
        self.cutter.all_void() || !h.within(self.cutter.t())
    }
    /// What this node computed for t, and what opens its commit.
    pub fn own(&self, t: u64) -> Option<&Own> {
        self.own.get(&t)
    }
    /// Whether the commit of t is about to leave.
    pub fn commit_coming(&self, t: u64) -> bool {
        self.working.contains_key(&t) || self.unsent.contains_key(&t)
    }

    // ---- windows

    /// The traces of these sensors (indices) grew, or time passed.
    pub fn look(&mut self, ks: impl IntoIterator<Item = usize>, traces: &Traces, cx: &mut Cx<'_>) {
        if self.lists.begins_cut(cx.setting) {
            self.cutter.reopen();
            return self.look_at(0..cx.setting.sensors.len(), traces, cx);
        }
        self.look_at(ks, traces, cx);
    }

    fn look_at(&mut self, ks: impl IntoIterator<Item = usize>, traces: &Traces, cx: &mut Cx<'_>) {
        for k in ks {
            let id = cx.setting.sensors[k];
            let trace = &traces[&id];
            let looked = if !self.lists.bound() {
                self.cutter.look(k, trace, cx.io.now)
            } else if let Some(word) = self.lists.word(cx.setting, k) {
                self.cutter.look_by_set(k, word, trace)
            } else {
                Ok(())
            };
            if let Err(forgotten) = looked {
                cx.io.load_times(id, forgotten.0);
            }
            if self.about.is_none() && self.cutter.is_about(k, trace) {
                self.about = Some(cx.io.now);
            }
        }
    }

    /// Cuts and executes as far as it goes.
    pub fn progress(&mut self, traces: &Traces, h: &History, cx: &mut Cx<'_>) {
        if core::mem::take(&mut self.fresh) {
            self.look(0..cx.setting.sensors.len(), traces, cx);
        }
        while self.closed.len() < cx.io.config.ahead_max && !self.ended(h) {
            let Some(window) = self.cutter.take() else {
                break;
            };
            cx.io.notice(Notice::WindowClosed {
                agreement: cx.setting.id,
                t: window.t,
                messages: window.messages(),
            });
            self.closed.push_back(window);
            let own = self.kept.remove(&self.cutter.t());
            self.lists = own.map(Lists::restore).unwrap_or_default();
            self.about = None;
            cx.timers.clear(Timer::HeldAgain);
            cx.timers.clear(Timer::Grace);
            self.look(0..cx.setting.sensors.len(), traces, cx);
        }
        self.arm(h, cx);
        self.execute(traces, h, cx);
    }

    fn arm(&mut self, h: &History, cx: &mut Cx<'_>) {
        match self.cutter.due() {
            Some(at) => cx.timers.set(Timer::Candidate, at),
            None => cx.timers.clear(Timer::Candidate),
        }
        if self.ended(h) || self.lists.bound() || self.cutter.open().is_empty() {
            cx.timers.clear(Timer::Grace);
        } else if !cx.timers.runs(Timer::Grace) {
            // P-HELD-1: from the latest of T1, the agreement's creation and the node's start. A count window needs messages: its
            // grace begins when there is one, so that silence costs nothing.
            let since = match cx.setting.span(self.cutter.t()) {
                Some((_, to)) => Some(to.saturating_mul(1_000).max(self.heard)),
                None => self.about,
            };
            if let Some(since) = since {
                let due = since.max(self.started) + cx.setting.grace_ms();
                cx.timers.set(Timer::Grace, due);
            }
        }
        if self.lists.own().is_some() {
            let again = cx.io.now + cx.setting.timeout_max_ms();
            cx.timers.start(Timer::HeldAgain, again);
        }
    }

    // ---- lists of open sensors

    /// The grace is over, or another node asks: the list of what is open here, for signing.
    pub fn begin_list(&mut self, traces: &Traces, cx: &mut Cx<'_>) -> Option<Held> {
        let held = self.lists.begin(cx.setting, &self.cutter, traces)?;
        cx.io.notice(Notice::Held {
            agreement: cx.setting.id,
            t: self.cutter.t(),
            open: held.open.len(),
        });
        Some(held)
    }
    /// The own list for t is durable; returns the part that goes to all others.
    pub fn list_durable(
        &mut self,
        epoch: u32,
        t: u64,
        held: Held,
        traces: &Traces,
        cx: &mut Cx<'_>,
    ) -> Part {
        if t == self.cutter.t() {
            self.lists.signed(held.clone());
            self.look(0..cx.setting.sensors.len(), traces, cx);
        } else if t > self.cutter.t() {
            self.kept.insert(t, held.clone());
        }
        held_part(cx.setting, epoch, t, held)
    }
    /// The durable list that this node goes by for t, from the open window on.
    fn own_list(&self, t: u64) -> Option<&Held> {
        match t == self.cutter.t() {
            true => self.lists.own(),
            false => self.kept.get(&t),
        }
    }
    /// Whether there is one.
    pub fn has_list(&self, t: u64) -> bool {
        self.own_list(t).is_some()
    }
    /// Whether it is this one.
    pub fn goes_by(&self, t: u64, held: &Held) -> bool {
        self.own_list(t).is_some_and(|own| own.open == held.open)
    }
    /// Whether this list of a node for t would be news.
    pub fn wants_list(&self, from: usize, t: u64, held: &Held) -> bool {
        t == self.cutter.t() && self.lists.lacks(from, held)
    }
    /// The list of another node, all signatures in it being good.
    pub fn listed(&mut self, from: usize, t: u64, held: Held, traces: &Traces, cx: &mut Cx<'_>) {
        if t == self.cutter.t() && self.lists.listed(from, held) {
            self.look(0..cx.setting.sensors.len(), traces, cx);
        }
    }
    /// The own list, to be shown again to whoever has not given one. If all have and t is still open, to all: one of them may have
    /// shown others something else (P-HELD-4).
    pub fn list_again(&mut self, epoch: u32, cx: &mut Cx<'_>) {
        let Some(held) = self.lists.own().cloned() else {
            return;
        };
        let part = held_part(cx.setting, epoch, self.cutter.t(), held);
        let mut to = self.lists.missing(cx.setting);
        if to.is_empty() {
            to = cx.setting.others().collect();
        }
        for node in to {
            cx.io.send(node, part.clone());
        }
    }

    // ---- executions and commits

    fn execute(&mut self, traces: &Traces, h: &History, cx: &mut Cx<'_>) {
        let ahead = self.execute_next.saturating_sub(h.next()) as usize;
        if self.executing || ahead >= cx.io.config.ahead_max {
            return;
        }
        // What lies behind unequal states starts from a cell. The t itself is computed also by a node that has lost what it computed:
        // it may be read once more.
        let free = |w: &mut Closed| h.blocked().is_none_or(|blocked| w.t <= blocked);
        let Some(window) = self.closed.pop_front_if(free) else {
            return;
        };
        let recorded = self.abstained.remove(&(window.t, h.epoch()));
        self.executing = true;
        self.execute_next = window.t + 1;
        self.run(&window, traces, h.epoch(), cx);
        let working = Working {
            window,
            carry: self.carry.clone(),
            execution: None,
            // A clock that was set back begins anew.
            since: recorded.map_or(cx.io.now, |since| since.min(cx.io.now)),
            abstained: 0,
            recorded: recorded.is_some(),
        };
        self.working.insert(working.window.t, working);
    }

    fn run(&self, window: &Closed, traces: &Traces, epoch: u32, cx: &mut Cx<'_>) {
        cx.io.effect(Effect::Execute(Box::new(ExecutionPlan {
            agreement: cx.setting.id,
            module: cx.setting.terms.off_chain_code,
            epoch,
            t: window.t,
            from: window.from,
            to: window.to,
            carry: self.carry.clone(),
            leaves: window.leaves(&cx.setting.sensors, traces),
            q_next: window.q_next(),
        })));
    }

    /// `f` is done. It may go on with t+1: a commit covers what was computed, not what the round decides later.
    pub fn executed(
        &mut self,
        epoch: u32,
        t: u64,
        execution: Execution,
        h: &History,
        cx: &mut Cx<'_>,
    ) {
        if epoch != h.epoch() {
            return;
        }
        let now = cx.io.now;
        let Some(w) = self.working.get_mut(&t).filter(|w| w.execution.is_none()) else {
            return;
        };
        if execution.computed.kind == OutputKind::Abstain {
            // P-EXEC-3: an engine limit of this node is tried again before it vouches for nothing.
            let deadline = w.since + u64::from(cx.setting.terms.abstain_ms);
            if now < deadline {
                if !w.recorded {
                    w.recorded = true;
                    let op = records::put_abstained(&cx.setting.id, t, epoch, w.since);
                    cx.io.persist_soon(vec![op], After::Nothing);
                }
                let wait = RETRY_MS << w.abstained.min(10);
                w.abstained += 1;
                cx.timers.set(Timer::Execution, (now + wait).min(deadline));
                return;
            }
        }
        cx.io.notice(Notice::Executed {
            agreement: cx.setting.id,
            t,
        });
        cx.io.effect(Effect::Commit {
            agreement: cx.setting.id,
            epoch,
            subject: cx.setting.subject(epoch, t),
            computed: execution.computed.clone(),
        });
        self.carry.clone_from(&execution.carry);
        w.execution = Some(execution);
        self.executing = false;
    }

    /// `f` is tried again on the window that it abstained on.
    pub fn execute_again(&mut self, traces: &Traces, h: &History, cx: &mut Cx<'_>) {
        let pending = self.working.values().find(|w| w.execution.is_none());
        if let Some(w) = pending {
            self.run(&w.window, traces, h.epoch(), cx);
        }
    }

    /// The commit is signed: R2, it is durable before it leaves.
    pub fn committed(
        &mut self,
        epoch: u32,
        t: u64,
        blinding: Blinding,
        commit: Commit,
        h: &History,
        cx: &mut Cx<'_>,
    ) {
        if epoch != h.epoch() || !self.working.contains_key(&t) {
            return;
        }
        self.signed.insert(t, (blinding, commit));
        // Signatures may come in any order; the records go to the store in the order of t, so that a crash leaves no gap in
        // them, and nothing after a gap can have left.
        while let Some(t) = self.working.keys().next().copied() {
            let Some((blinding, commit)) = self.signed.remove(&t) else {
                return;
            };
            self.keep(epoch, t, blinding, commit, h, cx);
        }
    }

    fn keep(
        &mut self,
        epoch: u32,
        t: u64,
        blinding: Blinding,
        commit: Commit,
        h: &History,
        cx: &mut Cx<'_>,
    ) {
        let Some(Working {
            window,
            carry,
            execution: Some(execution),
            recorded,
            ..
        }) = self.working.remove(&t)
        else {
            return;
        };
        let own = Own {
            computed: execution.computed.clone(),
            blinding,
            carry,
            stretches: window.stretches.clone(),
        };
        self.own.insert(t, own);
        let record = ExecutionRecord {
            epoch,
            from: window.from,
            to: window.to,
            stretches: window.stretches,
            void: window.void.iter().map(|k| *k as u32).collect(),
            execution,
            blinding,
            commit,
        };
        let mut ops = vec![record.put(&cx.setting.id, t)];
        ops.extend(recorded.then(|| records::delete_abstained(&cx.setting.id, t, epoch)));
        self.unsent.insert(t, commit);
        let after = After::Agreement(cx.setting.id, Then::CommitDurable(epoch, t));
        // The round that is being decided waits for its commit, and the next one is about to; those ahead have time.
        if t <= h.next() + 1 {
            cx.io.persist(ops, after);
        } else {
            cx.io.persist_soon(ops, after);
        }
    }

    /// The commit of t is durable, and may leave.
    pub fn commit_durable(&mut self, t: u64) -> Option<Commit> {
        self.unsent.remove(&t)
    }

    /// Sensors whose message from the future may count by now.
    pub fn overdue(&self, now: Millis) -> Vec<usize> {
        self.cutter.overdue(now)
    }
}

/// The part that carries a list.
pub(crate) fn held_part(s: &Setting, epoch: u32, t: u64, held: Held) -> Part {
    Part::Held {
        agreement: s.id,
        epoch,
        t,
        held,
    }
}

/// A list that says nothing is open, for signing: this node has cut t by messages.
pub(crate) fn nothing_open() -> Held {
    Held {
        open: Vec::new(),
        signature: Signature([0; 64]),
    }
}
