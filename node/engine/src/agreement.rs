//! One agreement: its windows, executions and rounds, one t after another, each visited once (design §3, §5).

mod messages;
mod restart;
mod rounds;

use crate::api::LOOKAHEAD;
use crate::api::{
    ChainEvent, Effect, Evidence, Execution, ExecutionPlan, Notice, SignatureCheck, Submission,
};
use crate::cutter::{Closed, Cutter};
use crate::ingest::Traces;
use crate::io::{After, Io, Then};
use crate::pacemaker::Pacemaker;
use crate::records::{self, AgreementRecord, ExecutionRecord, FinalRecord, RevealRecord};
use crate::settle::{Settle, Status};
use diversity_proto::round::{Commit, Computed, HOLES_MAX, Reveal, Subject};
use diversity_proto::terms::{Leader, config};
use diversity_proto::wire::Part;
use diversity_proto::{AgreementId, Digest, NodeId, SensorId, Signature};
use diversity_round::{Decision, Fault, Input as RoundInput, Output, Round};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(crate) struct Agreement {
    pub id: AgreementId,
    pub record: AgreementRecord,
    pub sensors: Vec<SensorId>,
    pub nodes: Vec<NodeId>,
    pub me: usize,
    pub epoch: u32,
    config: Digest,
    pub cutter: Cutter,
    /// Closed windows that `f` has not run on yet.
    closed: VecDeque<Closed>,
    /// What `f` is running on, or what waits for its commit.
    working: BTreeMap<u64, (Closed, Option<Execution>)>,
    /// Signed commits of t whose predecessors are not signed yet, with what opens them.
    signed: BTreeMap<u64, ([u8; 32], [u8; 32], Commit)>,
    carry: Vec<u8>,
    /// First t that has not been handed to `f`.
    execute_next: u64,
    executing: bool,
    rounds: BTreeMap<u64, Round>,
    /// What this node computed for undecided t.
    own: BTreeMap<u64, (Computed, [u8; 32], [u8; 32])>,
    /// First t whose status is not known.
    pub decided_next: u64,
    /// First t of which the next outcome speaks, and the holes since.
    from: u64,
    holes: Vec<u64>,
    /// Unequal states at this t: nothing goes on before a resolution.
    pub blocked: Option<u64>,
    /// Why this node signs nothing more.
    pub halted: Option<String>,
    /// Signed commits that are not durable yet.
    unsent: BTreeMap<u64, Commit>,
    /// The t whose reveal is being signed or made durable.
    revealing: Option<u64>,
    /// Who was accused of what, so that each accusation is submitted once.
    accused: BTreeSet<(u64, NodeId)>,
    recovered: BTreeMap<u64, (Commit, Option<RevealRecord>)>,
    pacemaker: Pacemaker,
    pub settle: Settle,
}

impl Agreement {
    pub fn new(id: AgreementId, record: AgreementRecord, me: usize, io: &Io) -> Self {
        let nodes: Vec<_> = record.terms.nodes.iter().map(|n| n.node).collect();
        let q0 = record.terms.sensors.iter().map(|s| s.q0).collect();
        Self {
            sensors: record.terms.sensors.iter().map(|s| s.sensor).collect(),
            me,
            epoch: 0,
            config: config(&io.config.deployment, &id, 0),
            cutter: Cutter::new(&record.terms, 0, q0),
            closed: VecDeque::new(),
            working: BTreeMap::new(),
            signed: BTreeMap::new(),
            carry: Vec::new(),
            execute_next: 0,
            executing: false,
            rounds: BTreeMap::new(),
            own: BTreeMap::new(),
            decided_next: 0,
            from: 0,
            holes: Vec::new(),
            blocked: None,
            halted: None,
            unsent: BTreeMap::new(),
            revealing: None,
            accused: BTreeSet::new(),
            recovered: BTreeMap::new(),
            pacemaker: Pacemaker::new(
                record.terms.round_timeout_ms,
                record.terms.round_timeout_max_ms,
            ),
            settle: Settle::new(id, &record.terms, nodes.clone(), me),
            id,
            record,
            nodes,
        }
    }

    pub fn subject(&self, t: u64, io: &Io) -> Subject {
        Subject {
            deployment: io.config.deployment,
            config: self.config,
            t,
        }
    }
    pub fn index_of(&self, node: &NodeId) -> Option<usize> {
        self.record.terms.node_index(node)
    }
    /// Who leads t in the present view.
    pub fn leader(&self, t: u64) -> usize {
        let n = self.nodes.len();
        let base = match self.record.terms.leader {
            Leader::Fixed(i) => usize::from(i),
            Leader::Rotating => (t % n as u64) as usize,
        };
        (base + self.pacemaker.view as usize) % n
    }
    pub fn deadline(&self) -> Option<u64> {
        [
            self.pacemaker.deadline,
            self.settle.deadline(),
            self.cutter.due(),
        ]
        .into_iter()
        .flatten()
        .min()
    }
    fn has_undecided(&self) -> bool {
        self.halted.is_none()
            && self
                .rounds
                .range(self.decided_next..)
                .any(|(_, r)| r.committed())
    }

    // ---- windows and executions

    /// The traces of these sensors (indices) grew, or time passed.
    pub fn look(&mut self, ks: impl IntoIterator<Item = usize>, traces: &Traces, io: &mut Io) {
        for k in ks {
            self.cutter.look(k, &traces[&self.sensors[k]], io.now);
        }
        self.progress(traces, io);
    }

    /// Cuts and executes as far as it goes.
    pub fn progress(&mut self, traces: &Traces, io: &mut Io) {
        let open_end = |t: u64| self.record.last_t.is_none_or(|last| t <= last);
        while self.closed.len() < io.config.ahead_max && open_end(self.cutter.t) {
            let Some(window) = self.cutter.take() else {
                break;
            };
            io.notice(Notice::WindowClosed {
                agreement: self.id,
                t: window.t,
                messages: window.messages(),
            });
            self.closed.push_back(window);
            for k in 0..self.sensors.len() {
                self.cutter.look(k, &traces[&self.sensors[k]], io.now);
            }
        }
        self.execute(traces, io);
    }

    fn execute(&mut self, traces: &Traces, io: &mut Io) {
        let ahead = (self.execute_next - self.decided_next.min(self.execute_next)) as usize;
        if self.executing
            || self.blocked.is_some()
            || self.halted.is_some()
            || ahead >= io.config.ahead_max
        {
            return;
        }
        let Some(window) = self.closed.pop_front() else {
            return;
        };
        io.effect(Effect::Execute(Box::new(ExecutionPlan {
            agreement: self.id,
            module: self.record.terms.off_chain_code,
            t: window.t,
            from: window.from,
            to: window.to,
            carry: self.carry.clone(),
            leaves: window.leaves(&self.sensors, traces),
            q_next: window.q_next.clone(),
        })));
        self.executing = true;
        self.execute_next = window.t + 1;
        self.working.insert(window.t, (window, None));
    }

    /// `f` is done. It may go on with t+1: a commit covers what was computed, not what the round decides later.
    pub fn executed(&mut self, t: u64, execution: Execution, traces: &Traces, io: &mut Io) {
        let subject = self.subject(t, io);
        let Some((_, slot)) = self.working.get_mut(&t).filter(|w| w.1.is_none()) else {
            return;
        };
        io.notice(Notice::Executed {
            agreement: self.id,
            t,
        });
        io.effect(Effect::Commit {
            agreement: self.id,
            subject,
            computed: execution.computed.clone(),
        });
        self.carry = execution.carry.clone();
        *slot = Some(execution);
        self.executing = false;
        self.progress(traces, io);
    }

    /// The commit is signed: R2, it is durable before it leaves.
    pub fn committed(
        &mut self,
        t: u64,
        secret: [u8; 32],
        salt: [u8; 32],
        commit: Commit,
        io: &mut Io,
    ) {
        self.signed.insert(t, (secret, salt, commit));
        // Signatures may come in any order; the records go to the store in the order of t, so that a crash leaves no gap in
        // them, and nothing after a gap can have left.
        while let Some(t) = self.working.keys().next().copied() {
            let Some((secret, salt, commit)) = self.signed.remove(&t) else {
                return;
            };
            self.keep_execution(t, secret, salt, commit, io);
        }
        self.signed.clear();
    }

    fn keep_execution(
        &mut self,
        t: u64,
        secret: [u8; 32],
        salt: [u8; 32],
        commit: Commit,
        io: &mut Io,
    ) {
        let Some((window, Some(execution))) = self.working.remove(&t) else {
            return;
        };
        self.own
            .insert(t, (execution.computed.clone(), secret, salt));
        let (from, to) = (window.from, window.to);
        let Closed {
            q_start,
            q_end,
            q_next,
            ..
        } = window;
        let epoch = self.epoch;
        let record = ExecutionRecord {
            from,
            to,
            q_start,
            q_end,
            q_next,
            execution,
            secret,
            salt,
            commit,
            epoch,
        };
        let op = record.put(&self.id, t);
        self.unsent.insert(t, commit);
        let after = After::Agreement(self.id, Then::CommitDurable(t));
        // The round that is being decided waits for its commit, and the next one is about to; those ahead have time.
        if t <= self.decided_next + 1 {
            io.persist(vec![op], after);
        } else {
            io.persist_soon(vec![op], after);
        }
    }

    // ---- time

    pub fn tick(&mut self, traces: &Traces, io: &mut Io) {
        if self.pacemaker.due(io.now) {
            self.take_over(io);
        }
        self.settle.tick(io);
        let overdue = self.cutter.overdue(io.now);
        if !overdue.is_empty() {
            self.look(overdue, traces, io);
        }
    }

    // P-LEAD-1: a silent leader is followed by the next; commits, seals and reveals stay valid.
    fn take_over(&mut self, io: &mut Io) {
        if !self.has_undecided() {
            self.pacemaker.disarm();
            return;
        }
        self.pacemaker.timeout(io.now, self.nodes.len());
        let t = self.decided_next;
        let leader = self.nodes[self.leader(t)];
        io.notice(Notice::TakeOver {
            agreement: self.id,
            t,
            view: self.pacemaker.view,
            leader,
        });
        let ts: Vec<u64> = self.rounds.keys().copied().collect();
        for t in ts {
            let leader = self.leader(t);
            self.feed(t, RoundInput::Lead(leader), io);
        }
        if self.pacemaker.stuck() {
            self.show_all(io);
        }
    }

    // P-LEAD-2: views may have drifted apart for good. Whoever waits through a second timeout shows all that it has of the
    // first undecided t to everybody: any node that holds all n commits seals, any that holds all n reveals certifies.
    fn show_all(&mut self, io: &mut Io) {
        let (agreement, epoch, t) = (self.id, self.epoch, self.decided_next);
        let Some(round) = self.rounds.get(&t).filter(|r| r.committed()) else {
            return;
        };
        let mut parts = Vec::new();
        if round.sealed().is_some()
            && let Some(commits) = round.all_commits()
        {
            parts.push(Part::Seal {
                agreement,
                epoch,
                t,
                commits,
            });
        } else if let Some(commit) = round.own_commit().copied() {
            parts.push(Part::Commit {
                agreement,
                epoch,
                t,
                commit,
            });
        }
        if let (Some(seal), Some(reveal)) = (round.sealed(), round.own_reveal().cloned()) {
            parts.push(Part::Reveal {
                agreement,
                epoch,
                t,
                seal,
                reveal,
            });
        }
        for part in parts {
            self.send(None, part, io);
        }
    }

    // ---- chain

    pub fn chain(&mut self, event: ChainEvent, traces: &Traces, io: &mut Io) {
        match event {
            ChainEvent::Settled {
                from,
                t,
                tx,
                gas_used,
                outcomes,
                ..
            } => {
                let record = FinalRecord::Settled {
                    from,
                    last: t,
                    tx,
                    gas_used,
                    outcomes,
                };
                let (told, new) = self.settle.settled(from, t, io);
                let ops: Vec<_> = told.iter().map(|t| record.put(&self.id, *t)).collect();
                io.persist(ops, After::Nothing);
                if new {
                    io.notice(Notice::Settled {
                        agreement: self.id,
                        from,
                        t,
                    });
                }
                io.effect(Effect::Retire {
                    agreement: self.id,
                    from,
                    t,
                });
            }
            ChainEvent::Hole { t, dispute, tx, .. } => {
                if self.settle.hole_final(t, io) {
                    io.persist(
                        vec![FinalRecord::Hole { dispute, tx }.put(&self.id, t)],
                        After::Nothing,
                    );
                }
                self.hole_on_chain(t, io);
            }
            ChainEvent::Closed { last_t, .. } => {
                self.record.last_t = Some(last_t);
                io.persist(vec![self.record.put(&self.id)], After::Nothing);
            }
            ChainEvent::SensorVoid { .. } => {}
        }
        self.progress(traces, io);
    }

    /// Proven misbehaviour ends t without reveals: what state t+1 starts from is for the parties to resolve.
    fn hole_on_chain(&mut self, t: u64, io: &mut Io) {
        if t != self.decided_next || !self.accused.iter().any(|(at, _)| *at == t) {
            return;
        }
        self.rounds.remove(&t);
        self.own.remove(&t);
        self.decided_next = t + 1;
        self.revealing = None;
        self.holes.push(t);
        self.blocked = Some(t);
        self.settle.skip(t);
        self.pacemaker.disarm();
        let reason = "a node's proven misbehaviour ended the round; the parties must resolve which state counts".into();
        io.notice(Notice::Hole {
            agreement: self.id,
            t,
            reason,
        });
    }
}
