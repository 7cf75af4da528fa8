//! One agreement: its windows, executions and rounds, one t after another, each visited once (design §3, §5).

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

/// How far ahead of the first undecided t messages of others are kept.
pub(crate) const LOOKAHEAD: u64 = 64;

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
        io.persist(vec![op], After::Agreement(self.id, Then::CommitDurable(t)));
    }

    // ---- rounds

    fn round(&mut self, t: u64, io: &Io) -> Result<&mut Round, ()> {
        if t < self.decided_next || t >= self.decided_next + LOOKAHEAD {
            return Err(());
        }
        let (subject, leader) = (self.subject(t, io), self.leader(t));
        let (nodes, me) = (&self.nodes, self.me);
        Ok(self
            .rounds
            .entry(t)
            .or_insert_with(|| Round::new(subject, nodes.clone(), me, leader)))
    }

    pub fn then(&mut self, then: Then, signature: Option<Signature>, traces: &Traces, io: &mut Io) {
        match then {
            Then::CommitDurable(t) => {
                if let Some(commit) = self.unsent.remove(&t) {
                    self.feed(t, RoundInput::OwnCommit(commit), io);
                    self.pacemaker.arm(io.now);
                }
            }
            Then::RevealSigned(t, seal, mut reveal) => {
                let Some(signature) = signature else { return };
                reveal.signature = signature;
                let op = RevealRecord {
                    seal,
                    reveal: reveal.clone(),
                }
                .put(&self.id, t);
                io.persist(
                    vec![op],
                    After::Agreement(self.id, Then::RevealDurable(t, reveal)),
                );
            }
            Then::RevealDurable(t, reveal) => self.feed(t, RoundInput::OwnReveal(reveal), io),
            Then::PartialSigned(session, nonce_set, partial) => {
                if let Some(signature) = signature {
                    self.settle
                        .partial_signed(session, nonce_set, partial, signature, io);
                }
            }
            Then::AggregateDurable(from) => self.settle.aggregate_durable(from, io),
        }
        self.progress(traces, io);
    }

    /// Gives the round of t an input and carries out what it wants.
    fn feed(&mut self, t: u64, input: RoundInput, io: &mut Io) {
        if self.halted.is_some() {
            return;
        }
        let Ok(round) = self.round(t, io) else { return };
        for output in round.step(input) {
            self.output(t, output, io);
        }
    }

    fn output(&mut self, t: u64, output: Output, io: &mut Io) {
        let (agreement, epoch) = (self.id, self.epoch);
        let Some(round) = self.rounds.get(&t) else {
            return;
        };
        match output {
            Output::SendCommit { to } => {
                if let Some(commit) = round.own_commit().copied() {
                    io.send(
                        self.nodes[to],
                        Part::Commit {
                            agreement,
                            epoch,
                            t,
                            commit,
                        },
                    );
                }
            }
            Output::SendSeal { to } => {
                if let Some(commits) = round.all_commits() {
                    self.send(
                        to,
                        Part::Seal {
                            agreement,
                            epoch,
                            t,
                            commits,
                        },
                        io,
                    );
                }
            }
            Output::MakeReveal { .. } => self.reveal_if_due(io),
            Output::SendReveal { to } => {
                if let (Some(reveal), Some(seal)) = (round.own_reveal().cloned(), round.sealed()) {
                    let part = Part::Reveal {
                        agreement,
                        epoch,
                        t,
                        seal,
                        reveal,
                    };
                    // The reveal of t-1 travels with the commit of t when that is about to leave anyway (paper, Fig. 2B).
                    let next =
                        self.executing || !self.working.is_empty() || !self.unsent.is_empty();
                    let wait = if next {
                        u64::from(self.record.terms.flush_ms)
                    } else {
                        0
                    };
                    io.send_by(io.now + wait, self.nodes[to], part);
                }
            }
            Output::SendCertificate => {
                if let (Some(commits), Some(reveals)) = (round.all_commits(), round.all_reveals()) {
                    self.send(
                        None,
                        Part::Certificate {
                            agreement,
                            epoch,
                            t,
                            commits,
                            reveals,
                        },
                        io,
                    );
                }
            }
            Output::Decided(decision) => self.decided(t, decision, io),
            Output::Fault(fault) => self.fault(t, fault, io),
        }
    }

    fn send(&self, to: Option<usize>, part: Part, io: &mut Io) {
        for (i, node) in self.nodes.iter().enumerate() {
            if i != self.me && to.is_none_or(|to| to == i) {
                io.send(*node, part.clone());
            }
        }
    }

    /// P-REVEAL-1: the reveal of t is made once t is sealed and the status of t-1 is known.
    fn reveal_if_due(&mut self, io: &mut Io) {
        let t = self.decided_next;
        if self.blocked.is_some() || self.halted.is_some() || self.revealing == Some(t) {
            return;
        }
        let Some(seal) = self
            .rounds
            .get(&t)
            .filter(|r| !r.revealed())
            .and_then(Round::sealed)
        else {
            return;
        };
        let Some((computed, secret, salt)) = self.own.get(&t).cloned() else {
            return;
        };
        let reveal = Reveal {
            computed,
            secret,
            salt,
            from: self.from,
            holes: self.holes.clone(),
            signature: Signature([0; 64]),
        };
        let digest = self.reveal_digest(&reveal, t, &seal, io);
        self.revealing = Some(t);
        io.sign(
            digest,
            After::Agreement(self.id, Then::RevealSigned(t, seal, reveal)),
        );
        self.settle.prepare(self.from, t, io);
    }

    fn reveal_digest(&self, r: &Reveal, t: u64, seal: &Digest, io: &Io) -> Digest {
        let d = &io.config.deployment;
        r.digest(d, &r.outcome(self.id, self.epoch, t, seal))
    }

    fn decided(&mut self, t: u64, decision: Decision, io: &mut Io) {
        debug_assert_eq!(
            t, self.decided_next,
            "a t is decided after the one before it"
        );
        let round = self.rounds.remove(&t).expect("it just decided");
        let (commits, reveals) = (
            round.all_commits().expect("all"),
            round.all_reveals().expect("all"),
        );
        let seal = round.sealed().expect("sealed");
        let part = Part::Certificate {
            agreement: self.id,
            epoch: self.epoch,
            t,
            commits: commits.clone(),
            reveals: reveals.clone(),
        };
        let op = records::put_part(records::t_key(records::CERTIFICATE, &self.id, t), &part);
        io.persist(vec![op], After::Nothing);
        self.apply(t, &decision, &commits, &reveals, seal, io);
        self.pacemaker.progress(io.now, self.has_undecided());
        self.reveal_if_due(io);
    }

    /// The status of t is known: what follows from it (also after a restart).
    fn apply(
        &mut self,
        t: u64,
        decision: &Decision,
        commits: &[Commit],
        reveals: &[Reveal],
        seal: Digest,
        io: &mut Io,
    ) {
        self.own.remove(&t);
        self.decided_next = t + 1;
        self.revealing = None;
        let status = match decision {
            Decision::Outcome => {
                let outcome = reveals[0].outcome(self.id, self.epoch, t, &seal);
                io.notice(Notice::Certified {
                    agreement: self.id,
                    t,
                    kind: outcome.kind,
                });
                let null = outcome.kind == diversity_proto::round::OutputKind::Null as u8;
                if !null {
                    self.from = t + 1;
                    self.holes.clear();
                }
                let signatures = reveals.iter().map(|r| r.signature).collect();
                Status::Outcome {
                    outcome,
                    signatures,
                    holes: reveals[0].holes.clone(),
                }
            }
            Decision::Hole {
                state_agreed,
                all_abstained,
            } => {
                if self.holes.len() < HOLES_MAX {
                    self.holes.push(t);
                }
                if !state_agreed {
                    self.blocked = Some(t);
                }
                let reason = if *all_abstained {
                    "every node abstained: the code went past an engine limit or gave an unusable output".into()
                } else {
                    differing(&self.nodes, reveals)
                };
                io.notice(Notice::Hole {
                    agreement: self.id,
                    t,
                    reason,
                });
                let evidence = Evidence::UnequalReveals {
                    commits: commits.to_vec(),
                    reveals: reveals.to_vec(),
                    seal,
                };
                Status::Hole {
                    evidence,
                    leader: self.leader(t),
                }
            }
        };
        self.settle.decided(t, self.epoch, status, io);
    }

    fn fault(&mut self, t: u64, fault: Fault, io: &mut Io) {
        let (node, what, evidence) = match fault {
            Fault::Equivocation {
                node,
                first,
                second,
            } => {
                let id = self.nodes[node];
                (
                    id,
                    "signed two commits for one execution",
                    Some(Evidence::Equivocation {
                        node: id,
                        first,
                        second,
                    }),
                )
            }
            Fault::FalseOpening {
                node,
                commit,
                reveal,
                seal,
            } => {
                let id = self.nodes[node];
                let e = Evidence::FalseOpening {
                    node: id,
                    commit,
                    reveal,
                    seal,
                };
                (
                    id,
                    "revealed something that does not open its commit",
                    Some(e),
                )
            }
            Fault::WrongSecret { node } => (
                self.nodes[node],
                "revealed a secret that is not the committed one",
                None,
            ),
            Fault::StaleStore => {
                let why = format!(
                    "the other nodes hold something that this node signed for t={t} and its store does not know: the store is older \
                     than what was signed. Restore the newest store; until then this node signs nothing for this agreement"
                );
                io.notice(Notice::Halted {
                    agreement: self.id,
                    why: why.clone(),
                });
                self.halted = Some(why);
                return;
            }
        };
        io.notice(Notice::Fault {
            node,
            agreement: self.id,
            what: what.into(),
        });
        if let Some(evidence) = evidence
            && self.accused.insert((t, node))
        {
            let submission = Submission::Dispute {
                epoch: self.epoch,
                t,
                evidence,
            };
            io.effect(Effect::Submit {
                agreement: self.id,
                submission,
            });
        }
    }

    // ---- messages

    /// Which signatures a part needs checked before it counts; `None` if it is of no use (any more).
    pub fn checks(&self, from: usize, part: &Part, io: &mut Io) -> Option<Vec<SignatureCheck>> {
        let n = self.nodes.len();
        let at = |epoch: u32, t: u64| epoch == self.epoch && t < self.decided_next + LOOKAHEAD;
        let commit_check = |t: u64, i: usize, c: &Commit| SignatureCheck {
            key: self.record.keys[i],
            digest: c.digest(&self.subject(t, io), &self.nodes[i]),
            signature: c.signature,
        };
        let known = |t: u64, i: usize, c: &Commit| {
            self.rounds.get(&t).and_then(|r| r.commit_of(i)) == Some(c)
        };
        let new_commits = |t: u64, commits: &[Commit]| -> Vec<SignatureCheck> {
            (0..)
                .zip(commits)
                .filter(|(i, c)| !known(t, *i, c))
                .map(|(i, c)| commit_check(t, i, c))
                .collect()
        };
        match part {
            Part::Commit { epoch, t, .. }
            | Part::Seal { epoch, t, .. }
            | Part::Reveal { epoch, t, .. }
                if *t < self.decided_next && *epoch == self.epoch =>
            {
                // P-CERT-2: whoever still works on a decided t gets its certificate.
                let key = records::t_key(records::CERTIFICATE, &self.id, *t);
                io.effect(Effect::SendStored {
                    to: self.nodes[from],
                    key,
                });
                None
            }
            Part::Commit {
                epoch, t, commit, ..
            } if at(*epoch, *t) => Some(if known(*t, from, commit) {
                vec![]
            } else {
                vec![commit_check(*t, from, commit)]
            }),
            Part::Seal {
                epoch, t, commits, ..
            } if at(*epoch, *t) && commits.len() == n => Some(new_commits(*t, commits)),
            Part::Reveal {
                epoch,
                t,
                seal,
                reveal,
                ..
            } if at(*epoch, *t) => {
                let round = self.rounds.get(t)?;
                if round.reveal_of(from).is_some() {
                    return None;
                }
                let digest = self.reveal_digest(reveal, *t, seal, io);
                Some(vec![SignatureCheck {
                    key: self.record.keys[from],
                    digest,
                    signature: reveal.signature,
                }])
            }
            Part::Certificate {
                epoch,
                t,
                commits,
                reveals,
                ..
            } if *t == self.decided_next
                && *epoch == self.epoch
                && commits.len() == n
                && reveals.len() == n =>
            {
                let mut checks = new_commits(*t, commits);
                let seal = Round::new(self.subject(*t, io), self.nodes.clone(), self.me, 0)
                    .seal_of(commits);
                for (i, r) in reveals.iter().enumerate() {
                    if self.rounds.get(t).and_then(|x| x.reveal_of(i)) != Some(r) {
                        let digest = self.reveal_digest(r, *t, &seal, io);
                        checks.push(SignatureCheck {
                            key: self.record.keys[i],
                            digest,
                            signature: r.signature,
                        });
                    }
                }
                Some(checks)
            }
            Part::Partial {
                session,
                nonce_set,
                partial,
                signature,
            } => {
                let digest = self.settle.partial_digest(
                    session,
                    nonce_set,
                    partial,
                    from,
                    self.config,
                    io,
                )?;
                Some(vec![SignatureCheck {
                    key: self.record.keys[from],
                    digest,
                    signature: *signature,
                }])
            }
            Part::Nonce { .. } | Part::Nonces { .. } | Part::Aggregate { .. } => Some(vec![]),
            Part::Status { next_q, .. } if next_q.len() == self.sensors.len() => Some(vec![]),
            Part::Want { .. } => Some(vec![]),
            _ => None,
        }
    }

    /// A part whose signatures are good.
    pub fn part(&mut self, from: usize, part: Part, traces: &Traces, io: &mut Io) {
        match part {
            Part::Commit { t, commit, .. } => self.feed(t, RoundInput::Commit { from, commit }, io),
            Part::Seal { t, commits, .. } => {
                self.follow(t, from);
                self.feed(t, RoundInput::Seal { commits }, io);
            }
            Part::Reveal {
                t, seal, reveal, ..
            } => self.feed(t, RoundInput::Reveal { from, seal, reveal }, io),
            Part::Certificate {
                t,
                commits,
                reveals,
                ..
            } if t == self.decided_next => {
                self.follow(t, from);
                self.feed(t, RoundInput::Certificate { commits, reveals }, io);
            }
            Part::Nonce { session, nonce } => self.settle.nonce(from, session, nonce, io),
            Part::Nonces { session, nonces } => self.settle.nonces(from, session, nonces, io),
            Part::Partial {
                session,
                nonce_set,
                partial,
                ..
            } => {
                self.settle.partial(from, session, nonce_set, partial, io);
            }
            Part::Aggregate { session, signature } => self.settle.aggregate(session, signature, io),
            Part::Want { from_t, .. } => {
                for t in from_t..self.decided_next.min(from_t.saturating_add(8)) {
                    let key = records::t_key(records::CERTIFICATE, &self.id, t);
                    io.effect(Effect::SendStored {
                        to: self.nodes[from],
                        key,
                    });
                }
            }
            Part::Status { next_t, .. } if next_t > self.decided_next => {
                let want = Part::Want {
                    agreement: self.id,
                    from_t: self.decided_next,
                };
                io.send(self.nodes[from], want);
            }
            _ => {}
        }
        self.progress(traces, io);
    }

    // Who sealed or certified leads: nodes whose views drifted apart meet again.
    fn follow(&mut self, t: u64, from: usize) {
        let n = self.nodes.len();
        let ahead = (from + n - self.leader(t)) % n;
        self.pacemaker.view = (self.pacemaker.view + ahead as u32) % n as u32;
    }

    /// What this node holds, for the others.
    pub fn status(&self, traces: &Traces) -> Part {
        let next_q = self.sensors.iter().map(|s| traces[s].next_q).collect();
        Part::Status {
            agreement: self.id,
            next_t: self.decided_next,
            next_q,
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
                let new = self.settle.settled(from, t, io);
                let ops: Vec<_> = new.iter().map(|t| record.put(&self.id, *t)).collect();
                if !ops.is_empty() {
                    io.persist(ops, After::Nothing);
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

    // ---- recovery

    /// A record of an execution, in order of t.
    pub fn recover_execution(&mut self, t: u64, r: ExecutionRecord) {
        self.carry = r.execution.carry;
        self.execute_next = t + 1;
        self.cutter = Cutter::new(&self.record.terms, t + 1, r.q_next);
        self.own.insert(t, (r.execution.computed, r.secret, r.salt));
        self.recovered.insert(t, (r.commit, None));
    }
    /// A record of an own reveal.
    pub fn recover_reveal(&mut self, t: u64, r: RevealRecord) {
        if let Some(x) = self.recovered.get_mut(&t) {
            x.1 = Some(r);
        }
    }
    /// A record of a certificate, in order of t.
    pub fn recover_certificate(&mut self, t: u64, part: Part, io: &mut Io) {
        let Part::Certificate {
            commits, reveals, ..
        } = part
        else {
            return;
        };
        if t != self.decided_next || reveals.is_empty() {
            return;
        }
        let decision = diversity_round::decide(reveals.iter());
        let seal =
            Round::new(self.subject(t, io), self.nodes.clone(), self.me, 0).seal_of(&commits);
        self.recovered.remove(&t);
        self.apply(t, &decision, &commits, &reveals, seal, io);
    }
    /// All records are in: take up what was left.
    pub fn resume(&mut self, traces: &Traces, io: &mut Io) {
        for (t, (commit, reveal)) in std::mem::take(&mut self.recovered) {
            self.feed(t, RoundInput::OwnCommit(commit), io);
            if let Some(r) = reveal
                && let Ok(round) = self.round(t, io)
            {
                round.restore_reveal(r.seal, r.reveal);
            }
        }
        self.settle.resume(io);
        self.pacemaker.progress(io.now, self.has_undecided());
        let n = self.sensors.len();
        self.look(0..n, traces, io);
    }
}

fn differing(nodes: &[NodeId], reveals: &[Reveal]) -> String {
    let mut groups: Vec<(&Reveal, Vec<String>)> = Vec::new();
    for (node, r) in nodes.iter().zip(reveals) {
        let same = |g: &&mut (&Reveal, Vec<String>)| {
            g.0.computed == r.computed && g.0.from == r.from && g.0.holes == r.holes
        };
        match groups.iter_mut().find(same) {
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
