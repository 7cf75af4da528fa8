//! The whole node as one sans-IO machine (design §5): ingest bookkeeping, windows, rounds, settlement and recovery.
//!
//! [`Node::step`] takes what happened and returns what to do; [`Node::deadline`] says when to come back at the latest.
//! There is no clock, no randomness and no IO in here, so the same code runs in the daemon and in the simulator.

mod agreement;
pub mod api;
mod cutter;
mod ingest;
mod io;
mod pacemaker;
pub mod records;
mod recover;
mod repair;
mod settle;
mod trace;

pub use api::{Config, Effect, Input, Millis};

use agreement::Agreement;
use api::{ChainEvent, Notice};
use diversity_proto::entity::SensorDeclaration;
use diversity_proto::terms::Terms;
use diversity_proto::wire::Part;
use diversity_proto::{AgreementId, NodeId, PublicKey, SensorId, Signature};
use ingest::{Ingest, Traces};
use io::{After, Io};
use records::{AgreementRecord, SensorRecord};
use repair::Repair;
use std::collections::{BTreeMap, BTreeSet};
use trace::Trace;

/// The node core.
pub struct Node {
    io: Io,
    traces: Traces,
    agreements: BTreeMap<AgreementId, Agreement>,
    /// Which agreements a sensor is part of, and as which.
    parts: BTreeMap<SensorId, Vec<(AgreementId, usize)>>,
    ingest: Ingest,
    repair: Repair,
    resumed: bool,
}

/// What the core knows of an agreement, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgreementStatus {
    /// First t whose window is not closed.
    pub open_t: u64,
    /// First t whose status is not known.
    pub undecided_t: u64,
    /// First t that the chain has no settlement of.
    pub unsettled_t: u64,
    /// Sensors whose part of the open window has not ended.
    pub waiting_for: Vec<SensorId>,
    /// Unequal states at this t: the parties must resolve it.
    pub blocked: Option<u64>,
    /// Why this node signs nothing more.
    pub halted: Option<String>,
}

impl Node {
    /// Takes one input at Unix time `now` (milliseconds) and returns the effects, in order.
    pub fn step(&mut self, now: Millis, input: Input) -> Vec<Effect> {
        self.io.now = now.max(self.io.now);
        if !self.resumed {
            self.resumed = true;
            for a in self.agreements.values_mut() {
                a.resume(&self.traces, &mut self.io);
            }
        }
        self.input(input);
        self.tick();
        self.io.finish()
    }

    /// When [`Input::Tick`] is due at the latest, Unix milliseconds.
    pub fn deadline(&self) -> Option<Millis> {
        let agreements = self.agreements.values().filter_map(Agreement::deadline);
        let more = [
            self.ingest.gossip_due(),
            self.io.held_until(),
            self.repair.due(),
        ];
        agreements.chain(more.into_iter().flatten()).min()
    }

    /// What the core knows of an agreement.
    pub fn status(&self, id: &AgreementId) -> Option<AgreementStatus> {
        let a = self.agreements.get(id)?;
        Some(AgreementStatus {
            open_t: a.cutter.t,
            undecided_t: a.decided_next,
            unsettled_t: a.settle.chain_next,
            waiting_for: a.cutter.open.iter().map(|k| a.sensors[*k]).collect(),
            blocked: a.blocked,
            halted: a.halted.clone(),
        })
    }

    /// For a sensor that is known: its boot epoch, the first q that is missing, and from which q it is void.
    pub fn sensor(&self, id: &SensorId) -> Option<(u32, u64, Option<u64>)> {
        self.traces
            .get(id)
            .map(|t| (t.epoch, t.next_q, t.void_from))
    }

    fn input(&mut self, input: Input) {
        let io = &mut self.io;
        match input {
            Input::Tick => {}
            Input::Sensor { id, declaration } => self.sensor_registered(id, declaration),
            Input::Agreement { id, terms, keys } => self.agreement_registered(id, terms, keys),
            Input::Frames { source, frames } => {
                self.ingest.frames(source, frames, &self.traces, io)
            }
            Input::FramesVerified { job, digests } => {
                if let Some(After::Frames(pending)) = io.answered(job) {
                    self.ingest.verified(pending, digests, &self.traces, io);
                }
            }
            Input::SignaturesVerified { job, good } => self.part_verified(job, &good),
            Input::Persisted { job } => match io.answered(job) {
                Some(After::Segment(segment, checked)) => {
                    let grown = self.ingest.durable(segment, checked, &mut self.traces, io);
                    self.look(&grown);
                }
                Some(After::Agreement(id, then)) => self.then(id, then, None),
                _ => {}
            },
            Input::Executed {
                agreement,
                t,
                execution,
            } => {
                if let Some(a) = self.agreements.get_mut(&agreement) {
                    a.executed(t, execution, &self.traces, io);
                    self.forget_times(agreement);
                }
            }
            Input::Committed {
                agreement,
                t,
                secret,
                salt,
                commit,
            } => {
                if let Some(a) = self.agreements.get_mut(&agreement) {
                    a.committed(t, secret, salt, commit, io);
                }
            }
            Input::Signed { job, signature } => {
                if let Some(After::Agreement(id, then)) = io.answered(job) {
                    self.then(id, then, Some(signature));
                }
            }
            Input::MusigNonce { session, nonce } => {
                if let Some(a) = self.agreements.get_mut(&session.agreement) {
                    a.settle.own_nonce(session, nonce, io);
                }
            }
            Input::MusigSigned { session, partial } => {
                if let Some(a) = self.agreements.get_mut(&session.agreement) {
                    let subject = a.subject(session.t, io);
                    a.settle.signed(session, partial, subject, io);
                }
            }
            Input::MusigAggregated { session, result } => {
                if let Some(a) = self.agreements.get_mut(&session.agreement) {
                    a.settle.aggregated(session, result, io);
                }
            }
            Input::AggregateVerified {
                session,
                signature,
                good,
            } => {
                if let Some(a) = self.agreements.get_mut(&session.agreement).filter(|_| good) {
                    a.settle.aggregate_good(session, signature, io);
                }
            }
            Input::Message { from, parts } => {
                for part in parts {
                    self.message(from, part);
                }
            }
            Input::PeerUp(peer) => {
                io.peers.insert(peer);
                self.repair
                    .peer_up(peer, &self.agreements, &self.traces, io);
            }
            Input::PeerDown(peer) => {
                io.peers.remove(&peer);
            }
            Input::RepairRequest {
                token,
                from: _,
                ranges,
            } => repair::serve(token, &ranges, &self.traces, io),
            Input::Chain(event) => self.chain(event),
        }
    }

    fn tick(&mut self) {
        let io = &mut self.io;
        self.ingest.gossip_if_due(io);
        for a in self.agreements.values_mut() {
            if a.deadline().is_some_and(|d| d <= io.now) {
                a.tick(&self.traces, io);
            }
        }
        self.repair.tick(&self.agreements, &self.traces, io);
    }

    fn then(&mut self, id: AgreementId, then: io::Then, signature: Option<Signature>) {
        if let Some(a) = self.agreements.get_mut(&id) {
            a.then(then, signature, &self.traces, &mut self.io);
        }
    }

    fn look(&mut self, grown: &BTreeSet<SensorId>) {
        let mut by_agreement: BTreeMap<AgreementId, Vec<usize>> = BTreeMap::new();
        for s in grown {
            for (a, k) in self.parts.get(s).into_iter().flatten() {
                by_agreement.entry(*a).or_default().push(*k);
            }
        }
        for (id, ks) in by_agreement {
            let a = self
                .agreements
                .get_mut(&id)
                .expect("indexed agreements exist");
            a.look(ks, &self.traces, &mut self.io);
        }
    }

    // Times below every window that is still to be cut are never asked for again.
    fn forget_times(&mut self, id: AgreementId) {
        for s in &self.agreements[&id].sensors {
            let start = |(a, k): &(AgreementId, usize)| self.agreements[a].cutter.q_start[*k];
            let low = self.parts[s].iter().map(start).min().unwrap_or(0);
            self.traces
                .get_mut(s)
                .expect("sensors are never forgotten")
                .forget_times(low);
        }
    }

    fn sensor_registered(&mut self, id: SensorId, declaration: SensorDeclaration) {
        if self.traces.contains_key(&id) {
            return;
        }
        let op = SensorRecord {
            declaration: declaration.clone(),
            void_from: None,
        }
        .put(&id);
        self.traces.insert(id, Trace::new(declaration));
        self.io.persist(vec![op], After::Nothing);
    }

    fn agreement_registered(&mut self, id: AgreementId, terms: Terms, keys: Vec<PublicKey>) {
        let known = terms
            .sensors
            .iter()
            .all(|s| self.traces.contains_key(&s.sensor));
        if self.agreements.contains_key(&id) || keys.len() != terms.nodes.len() || !known {
            return;
        }
        let record = AgreementRecord {
            terms,
            keys,
            last_t: None,
        };
        let op = record.put(&id);
        if self.add_agreement(id, record) {
            self.io.persist(vec![op], After::Nothing);
            let a = self.agreements.get_mut(&id).expect("just added");
            a.resume(&self.traces, &mut self.io);
        }
    }

    fn add_agreement(&mut self, id: AgreementId, record: AgreementRecord) -> bool {
        let Some(me) = record.terms.node_index(&self.io.config.node) else {
            return false;
        };
        let a = Agreement::new(id, record, me, &self.io);
        for (k, s) in a.sensors.iter().enumerate() {
            self.parts.entry(*s).or_default().push((id, k));
        }
        self.agreements.insert(id, a);
        true
    }

    fn message(&mut self, from: NodeId, part: Part) {
        let io = &mut self.io;
        let Some(a) = self.agreements.get_mut(&part.agreement()) else {
            return;
        };
        let Some(i) = a.index_of(&from).filter(|i| *i != a.me) else {
            return;
        };
        let Some(checks) = a.checks(i, &part, io) else {
            return;
        };
        if !checks.is_empty() {
            io.verify(checks, After::Part(from, part));
            return;
        }
        if let Part::Status {
            agreement, next_q, ..
        } = &part
        {
            self.repair.status(from, *agreement, next_q.clone());
        }
        a.part(i, part, &self.traces, io);
    }

    fn part_verified(&mut self, job: api::Job, good: &[bool]) {
        let Some(After::Part(from, part)) = self.io.answered(job) else {
            return;
        };
        let Some(a) = self.agreements.get_mut(&part.agreement()) else {
            return;
        };
        let Some(i) = a.index_of(&from) else { return };
        if good.is_empty() || !good.iter().all(|g| *g) {
            let what = "sent a message with a signature that does not verify".into();
            self.io.notice(Notice::Fault {
                node: from,
                agreement: a.id,
                what,
            });
            return;
        }
        a.part(i, part, &self.traces, &mut self.io);
    }

    fn chain(&mut self, event: ChainEvent) {
        match &event {
            ChainEvent::Settled { agreement, .. }
            | ChainEvent::Hole { agreement, .. }
            | ChainEvent::Closed { agreement, .. } => {
                if let Some(a) = self.agreements.get_mut(agreement) {
                    a.chain(event, &self.traces, &mut self.io);
                }
            }
            ChainEvent::SensorVoid { sensor, from_q } => {
                let Some(trace) = self.traces.get_mut(sensor) else {
                    return;
                };
                if trace.void_from.is_some_and(|q| q <= *from_q) {
                    return;
                }
                trace.void_from = Some(*from_q);
                let op = SensorRecord {
                    declaration: trace.declaration.clone(),
                    void_from: trace.void_from,
                }
                .put(sensor);
                self.io.persist(vec![op], After::Nothing);
                self.look(&BTreeSet::from([*sensor]));
            }
        }
    }
}
