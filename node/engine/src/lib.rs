//! The whole node as one sans-IO machine (design §5): ingest bookkeeping, windows, rounds, settlement and recovery.
//!
//! [`Node::step`] takes what happened and returns what to do; [`Node::deadline`] says when to come back at the latest.
//! There is no clock, no randomness and no IO in here (the crate is `no_std`), so the same code runs in the daemon and in the
//! simulator.
#![no_std]
#![warn(clippy::missing_errors_doc)]

extern crate alloc;

mod agreement;
pub mod api;
mod budget;
mod common;
mod ingest;
mod io;
mod owed;
pub mod records;
mod recover;
mod repair;
mod trace;

/// What `std` would bring.
mod alloc_prelude {
    pub(crate) use alloc::boxed::Box;
    pub(crate) use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
    pub(crate) use alloc::string::String;
    pub(crate) use alloc::vec::Vec;
    pub(crate) use alloc::{format, vec};
}

pub use api::{AgreementStatus, Config, Effect, Input, Millis};
pub use recover::Each;

use agreement::Agreement;
use alloc_prelude::*;
use api::{ChainEvent, Notice, Op, Submission};
use common::{Agreements, Common, Parts};
use diversity_proto::entity::SensorDeclaration;
use diversity_proto::frame::Contradiction;
use diversity_proto::terms::Terms;
use diversity_proto::wire::Part;
use diversity_proto::{AgreementId, NodeId, PublicKey, SensorId, Signature};
use diversity_round::sabotage::{Defect, on};
use ingest::{Ingest, Traces};
use io::{After, Io};
use records::{AgreementRecord, SensorRecord};
use repair::Repair;
use trace::Trace;

/// The node core. Made by [`Node::recover`], also for the first run (from no records).
pub struct Node {
    io: Io,
    traces: Traces,
    agreements: Agreements,
    parts: Parts,
    ingest: Ingest,
    repair: Repair,
    resumed: bool,
}

impl Node {
    fn new(config: Config) -> Self {
        Self {
            io: Io::new(config),
            traces: Traces::new(),
            agreements: Agreements::new(),
            parts: Parts::new(),
            ingest: Ingest::default(),
            repair: Repair::default(),
            resumed: false,
        }
    }

    /// Takes one input at Unix time `now` (milliseconds; a clock that went back stands still) and returns the effects, in the
    /// order in which they are to be carried out, all of them before the next step. The first step, whatever its input, also takes
    /// up what an earlier run left. It has no errors: what cannot be is an effect (a notice, an answer that refuses), or is ignored.
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

    /// When [`Input::Tick`] is due at the latest, Unix milliseconds; asked for after each step. `None`: nothing waits for time.
    pub fn deadline(&self) -> Option<Millis> {
        let agreements = self.agreements.values().filter_map(Agreement::deadline);
        let more = [
            self.ingest.gossip_due(),
            self.io.held_until(),
            self.io.owed_due(),
            self.repair.due(),
        ];
        agreements.chain(more.into_iter().flatten()).min()
    }

    /// What the core knows of an agreement; `None` if it is not one of this node. At any time: nothing changes by it.
    pub fn status(&self, id: &AgreementId) -> Option<AgreementStatus> {
        let a = self.agreements.get(id)?;
        Some(a.status(&self.traces, &self.io))
    }

    /// For a sensor that is known: its boot epoch and the first q that is not durable, as acknowledged, and from which q it is void
    /// by the chain's record. At any time; `None` for a sensor that was not registered.
    pub fn sensor(&self, id: &SensorId) -> Option<(u32, u64, Option<u64>)> {
        let trace = self.traces.get(id)?;
        let (epoch, next_q) = self.ingest.held(id, trace);
        Some((epoch, next_q, trace.void_from()))
    }

    fn input(&mut self, input: Input) {
        let io = &mut self.io;
        match input {
            Input::Tick => {}
            Input::Sensor { id, declaration } => self.sensor_registered(id, declaration),
            Input::Agreement { id, terms, keys } => self.agreement_registered(id, terms, keys),
            Input::Frames { source, frames } => {
                let common = Common::new(&self.parts, &self.agreements);
                self.ingest.frames(source, frames, &self.traces, common, io);
            }
            Input::FramesVerified { job, digests } => match io.answered(job) {
                Some(After::Frames(pending)) => {
                    let common = Common::new(&self.parts, &self.agreements);
                    let traces = &mut self.traces;
                    let grown = self.ingest.verified(pending, digests, traces, common, io);
                    self.look(&grown);
                }
                Some(After::Shown(id, from, epoch, t, held)) => {
                    let good = digests.iter().all(Option::is_some);
                    self.shown(id, from, epoch, t, held, good);
                }
                _ => {}
            },
            Input::SignaturesVerified { job, good } => {
                if let Some(After::Part(id, from, pending)) = io.answered(job)
                    && let Some(a) = self.agreements.get_mut(&id)
                {
                    a.checked(from, pending, &good, &self.traces, io);
                    self.forget_times(id);
                }
            }
            Input::Persisted { job } => match io.answered(job) {
                Some(After::Segment(frames)) => self.ingest.durable(&frames, &self.traces, io),
                Some(After::Agreement(id, then)) => self.then(id, then, None),
                Some(After::Owed(id)) => io.owed_durable(&id),
                _ => {}
            },
            Input::TimesLoaded { sensor, times } => {
                io.times_loaded(&sensor);
                if let Some(trace) = self.traces.get_mut(&sensor) {
                    trace.remember_times(times);
                    self.look(&BTreeSet::from([sensor]));
                }
            }
            Input::Compared {
                sensor,
                contradiction,
            } => {
                if let Some(c) = contradiction {
                    self.contradicted(sensor, c);
                }
            }
            Input::Executed {
                agreement,
                epoch,
                t,
                execution,
            } => {
                if let Some(a) = self.agreements.get_mut(&agreement) {
                    a.executed(epoch, t, execution, &self.traces, io);
                    self.forget_times(agreement);
                }
            }
            Input::Committed {
                agreement,
                epoch,
                t,
                blinding,
                commit,
            } => {
                if let Some(a) = self.agreements.get_mut(&agreement) {
                    a.committed(epoch, t, blinding, commit, io);
                }
            }
            Input::Signed { job, signature } => {
                if let Some(After::Agreement(id, then)) = io.answered(job) {
                    self.then(id, then, Some(signature));
                }
            }
            Input::MusigNonce { session, nonce } => {
                if let Some(a) = self.agreements.get_mut(&session.agreement) {
                    a.own_nonce(session, nonce, io);
                }
            }
            Input::MusigSigned { session, partial } => {
                if let Some(a) = self.agreements.get_mut(&session.agreement) {
                    a.partial_made(session, partial, io);
                }
            }
            Input::MusigAggregated { session, result } => {
                if let Some(a) = self.agreements.get_mut(&session.agreement) {
                    a.aggregated(session, result, io);
                }
            }
            Input::AggregateVerified {
                session,
                signature,
                good,
            } => {
                if let Some(a) = self.agreements.get_mut(&session.agreement).filter(|_| good) {
                    a.aggregate_good(session, signature, io);
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
                from,
                ranges,
            } => {
                let common = Common::new(&self.parts, &self.agreements);
                repair::serve(token, &from, &ranges, &self.traces, common, io);
            }
            Input::Reread { agreement, t } => {
                if let Some(a) = self.agreements.get_mut(&agreement) {
                    a.reread(t, &self.traces, io);
                }
            }
            Input::Chain(event) => self.chain(event),
            Input::Taken(id) => io.taken(&id),
            Input::Paid { id, gas } => io.paid(&id, gas),
            Input::Spent { agreement, gas } => io.spent(agreement, gas),
        }
    }

    fn tick(&mut self) {
        let io = &mut self.io;
        let common = Common::new(&self.parts, &self.agreements);
        self.ingest.gossip_if_due(common, io);
        for a in self.agreements.values_mut() {
            if a.deadline().is_some_and(|d| d <= io.now) {
                a.tick(&self.traces, io);
            }
        }
        io.owed_again();
        let ingest = &mut self.ingest;
        for (peer, sensor, q) in ingest.take_shown() {
            self.repair.shown(peer, sensor, q);
        }
        self.repair
            .tick(&self.agreements, &self.traces, || ingest.take_forks(), io);
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
            if let Some(a) = self.agreements.get_mut(&id) {
                a.look(ks, &self.traces, &mut self.io);
            }
        }
    }

    // Times below every window that is still to be cut are not held in memory; an agreement that comes later reads them again.
    fn forget_times(&mut self, id: AgreementId) {
        let Some(a) = self.agreements.get(&id) else {
            return;
        };
        for s in a.sensors() {
            let start = |(a, k): &(AgreementId, usize)| self.agreements[a].start(*k);
            let low = self.parts[s].iter().map(start).min().unwrap_or(0);
            if let Some(trace) = self.traces.get_mut(s) {
                trace.forget_times(low);
            }
        }
    }

    // ---- what the chain registers

    fn sensor_registered(&mut self, id: SensorId, declaration: SensorDeclaration) {
        if self.traces.contains_key(&id) {
            return;
        }
        self.traces.insert(id, Trace::new(declaration));
        self.keep_sensor(&id);
    }

    fn keep_sensor(&mut self, id: &SensorId) {
        let ops: Vec<Op> = self
            .traces
            .get(id)
            .map(|t| record_of(id, t))
            .into_iter()
            .collect();
        self.io.persist(ops, After::Nothing);
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
            heard_ms: self.io.now,
            last_t: None,
        };
        let op = record.put(&id);
        if self.add_agreement(id, record) {
            self.io.persist(vec![op], After::Nothing);
            if let Some(a) = self.agreements.get_mut(&id) {
                a.resume(&self.traces, &mut self.io);
            }
        }
    }

    fn add_agreement(&mut self, id: AgreementId, record: AgreementRecord) -> bool {
        let Some(me) = record.terms.node_index(&self.io.config.node) else {
            return false;
        };
        let a = Agreement::new(id, record, me, &self.io);
        for (k, s) in a.sensors().iter().enumerate() {
            let parts = self.parts.entry(*s).or_default();
            if parts.is_empty()
                && let Some(trace) = self.traces.get(s)
            {
                self.ingest.agreed(trace.stored_size());
            }
            parts.push((id, k));
        }
        self.agreements.insert(id, a);
        true
    }

    // ---- messages

    fn message(&mut self, from: NodeId, part: Part) {
        let Some(a) = self.agreements.get_mut(&part.agreement()) else {
            return;
        };
        // Of itself a node hears only which list of open sensors others hold of it (P-RECALL-2).
        let heard = |i: &usize| *i != a.me() || matches!(part, Part::Held { .. });
        let Some(i) = a.index_of(&from).filter(heard) else {
            return;
        };
        if let Part::Status {
            agreement, next_q, ..
        } = &part
        {
            if next_q.len() != a.sensors().len() {
                return;
            }
            self.repair.status(from, *agreement, next_q.clone());
        }
        a.part(i, part, &self.traces, &mut self.io);
    }

    fn shown(
        &mut self,
        id: AgreementId,
        from: usize,
        epoch: u32,
        t: u64,
        held: diversity_proto::held::Held,
        good: bool,
    ) {
        let Some(a) = self.agreements.get_mut(&id) else {
            return;
        };
        if !good {
            return a.list_bad(from, &mut self.io);
        }
        let sensors = a.sensors().to_vec();
        let shown: Vec<(SensorId, Contradiction)> = held
            .open
            .iter()
            .filter_map(|o| {
                let sensor = sensors.get(o.index as usize)?;
                Some((*sensor, o.contradiction.clone()?))
            })
            .collect();
        a.list_good(from, epoch, t, held, &self.traces, &mut self.io);
        // What another node shows is evidence for this one too.
        for (sensor, c) in shown {
            self.contradicted(sensor, c);
        }
    }

    // ---- sensors that contradict themselves (R7)

    /// Two bodies at one q, both signed: kept, and owed to the chain until it has them or something lower.
    fn contradicted(&mut self, sensor: SensorId, c: Contradiction) {
        let Some(trace) = self.traces.get_mut(&sensor) else {
            return;
        };
        let q = c.q;
        if on(Defect::ForksAreNotCompared) && boot_epochs_differ(&c) {
            return;
        }
        if !trace.contradicted(c.clone()) {
            return;
        }
        let news = trace.void_from().is_none_or(|v| q < v);
        let record = record_of(&sensor, trace);
        self.io.notice(Notice::Contradiction { sensor, q });
        if news {
            let submission = Submission::Contradiction {
                sensor,
                contradiction: c,
            };
            self.io.owe(submission, vec![record]);
        } else {
            self.io.persist(vec![record], After::Nothing);
        }
    }

    // ---- the chain

    fn chain(&mut self, event: ChainEvent) {
        let agreement = match &event {
            ChainEvent::Settled { agreement, .. }
            | ChainEvent::Hole { agreement, .. }
            | ChainEvent::Resolved { agreement, .. }
            | ChainEvent::Cell { agreement, .. }
            | ChainEvent::Closed { agreement, .. } => *agreement,
            ChainEvent::SensorVoid {
                sensor,
                contradiction,
            } => {
                let (sensor, c) = (*sensor, contradiction.clone());
                if let Some(trace) = self.traces.get_mut(&sensor) {
                    let void = trace.void(c.q);
                    let known = trace.contradicted(c);
                    if void || known {
                        self.keep_sensor(&sensor);
                    }
                }
                return;
            }
        };
        if let Some(a) = self.agreements.get_mut(&agreement) {
            a.chain(event, &self.traces, &mut self.io);
        }
    }
}

/// The write that keeps what is known of a sensor.
fn record_of(id: &SensorId, trace: &Trace) -> Op {
    let record = SensorRecord {
        declaration: trace.declaration().clone(),
        void_from: trace.void_from(),
        contradiction: trace.contradiction().cloned(),
    };
    record.put(id)
}

fn boot_epochs_differ(c: &Contradiction) -> bool {
    let epoch = |bytes: &[u8]| diversity_proto::frame::Frame::decode(bytes).map(|f| f.epoch);
    epoch(&c.first) != epoch(&c.second)
}
