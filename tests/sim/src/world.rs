//! The discrete-event world: a queue of events in time, and everything that an event can reach.

use crate::actors::{Context, actor};
use crate::chain::{Contract, Mined, Revert};
use crate::crypto::{Aggregate, Party};
use crate::host::{Host, Key};
use crate::net::Net;
use crate::oracle::{Acknowledged, Blame, Finality, Liveness, Oracles, Signing, View};
use crate::rng::Rng;
use crate::sabotage::Sabotage;
use crate::scenario::{ActorKind, START, Scenario};
use crate::sensors::Sensor;
use crate::text::Names;
use crate::trace::Trace;
use crate::truth::{self, TrueWindow};
use diversity_engine::api::{ChainEvent, Config, Evidence, Input, Refusal, Source, Submission};
use diversity_engine::{Node, records};
use diversity_proto::round::{Commit, OutputKind};
use diversity_proto::terms::{Field, Qos, SensorStart, Terms, TrustedNode, WindowSpec};
use diversity_proto::{Address, Deployment, Digest, SensorId, Signature};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most events of a run: beyond it something goes round in circles.
const EVENTS_MAX: u64 = 1_500_000;
/// Silence of a sensor before it sends a frame again, milliseconds.
const RESEND_MS: u64 = 150;
/// Time between looks of a node at the chain, milliseconds.
const POLL_MS: u64 = 150;
/// Time between submissions of one entry of the outbox, milliseconds.
const RETRY_MS: u64 = 250;

/// Something that will happen.
#[derive(Clone, Debug)]
pub enum Event {
    /// A core's timer.
    Wake { node: usize, incarnation: u32 },
    /// An answer to an effect, or news for one process.
    Tell {
        node: usize,
        incarnation: u32,
        input: Box<Input>,
    },
    /// The oldest waiting batch of a disk becomes durable.
    Flush { node: usize, incarnation: u32 },
    /// An envelope arrives.
    Deliver {
        from: usize,
        to: usize,
        bytes: Arc<[u8]>,
    },
    /// Gossiped or repaired frames arrive.
    Frames {
        from: usize,
        to: usize,
        bytes: Arc<[u8]>,
    },
    /// A repair request arrives.
    Repair {
        from: usize,
        to: usize,
        bytes: Arc<[u8]>,
    },
    /// A sensor's request arrives.
    Api {
        sensor: usize,
        node: usize,
        frames: Vec<Arc<[u8]>>,
    },
    /// Its answer arrives.
    ApiAnswer {
        sensor: usize,
        node: usize,
        held: Vec<(SensorId, u32, u64)>,
    },
    /// A sensor looks what it has to send.
    Sensor { sensor: usize },
    /// A node is marked for death.
    Doom { crash: usize },
    /// A node starts.
    Start { node: usize },
    /// A node looks whether it reaches a peer.
    Link { node: usize, peer: usize },
    /// A node looks at the chain.
    Poll { node: usize, incarnation: u32 },
    /// A node's outbox submits.
    Outbox { node: usize, incarnation: u32 },
    /// A transaction reaches the chain.
    Transaction {
        node: usize,
        submission: Box<Submission>,
    },
    /// A block is made.
    Block,
    /// The oracles look at the whole.
    Look,
}

/// The world of one run.
pub struct World {
    /// The plan.
    pub s: Scenario,
    /// Now, Unix milliseconds.
    pub now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
    /// Chance of jobs, disks and clocks.
    pub rng: Rng,
    actor_rng: Rng,
    /// Between nodes.
    pub net: Net,
    /// Chain and contract.
    pub deployment: Deployment,
    /// The agreement's key.
    pub aggregate: Aggregate,
    /// Its terms.
    pub terms: Terms,
    /// The contract.
    pub contract: Contract,
    pool: Vec<(usize, Submission)>,
    /// The nodes.
    pub hosts: Vec<Host>,
    /// The sensors.
    pub sensors: Vec<Sensor>,
    /// What every window must be.
    pub truth: Vec<TrueWindow>,
    ready_at: Vec<u64>,
    /// The oracles.
    pub oracles: Oracles,
    /// What happened.
    pub trace: Trace,
    /// What is broken on purpose.
    pub sabotage: Sabotage,
    crashes: u64,
    /// Since when an honest node does not know of something that the chain holds, once faults have stopped.
    told_since: Option<u64>,
    /// Names for the trace.
    pub(crate) names: Names,
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Windows that the messages closed.
    pub windows: u64,
    /// Settled as value, null or trap.
    pub settled: u64,
    /// Holes.
    pub holes: u64,
    /// Crashes that happened.
    pub crashes: u64,
    /// Events of the run.
    pub events: u64,
    /// Simulated milliseconds.
    pub simulated_ms: u64,
    /// Slowest window after faults stopped, milliseconds.
    pub slowest_ms: u64,
    /// Whether all windows were final at the end.
    pub complete: bool,
    /// Fingerprint of all that happened.
    pub fingerprint: u64,
}

impl World {
    /// The world of a plan at its start. With `print` it tells what happens.
    pub fn new(s: Scenario, sabotage: Sabotage, print: bool) -> Self {
        let n = s.nodes();
        let deployment = Deployment {
            chain_id: 31_337,
            contract: Address([0xd1; 20]),
        };
        let mut rng = Rng::new(s.seed, 2);
        let mut parties: Vec<_> = (0..n).map(|_| Party::new(s.mode, rng.bytes32())).collect();
        parties.sort_unstable_by_key(|p| p.id);
        let mut sensor_rng = Rng::new(s.seed, 3);
        let sensors: Vec<_> = s
            .sensors
            .iter()
            .map(|(plan, _, max)| {
                Sensor::new(
                    s.mode,
                    &deployment,
                    s.period,
                    plan,
                    *max,
                    n,
                    &mut sensor_rng,
                )
            })
            .collect();
        let terms = terms(&s, &parties, &sensors);
        terms.validate().expect("the scenario makes valid terms");
        let keys: Vec<_> = parties.iter().map(|p| p.public).collect();
        let aggregate = Aggregate::new(s.mode, &deployment, keys, &terms.digest());
        let ids: Vec<_> = parties.iter().map(|p| p.id).collect();
        let said: Vec<_> = sensors.iter().map(|s| s.said.clone()).collect();
        let truth = truth::windows(
            &terms,
            &said,
            |t| s.behaviour(t),
            s.keeps_carry,
            |t| s.all_abstain(t),
        );
        let ready_at = truth.iter().map(|w| ready_at(&s, &sensors, w)).collect();
        let honest: Vec<_> = (0..n).map(|i| s.honest(i)).collect();
        let honest_ids = (0..n).filter(|i| honest[*i]).map(|i| ids[i]).collect();
        let (lies, abstains) = (s.actor.is_some(), s.abstains.clone());
        let oracles = Oracles {
            acknowledged: Acknowledged::new(said, n),
            finality: Finality::new(truth.clone(), move |t| {
                lies || abstains.iter().any(|(_, at)| *at == t)
            }),
            signing: Signing::new(deployment, ids.clone(), honest),
            blame: Blame::new(honest_ids),
            liveness: Liveness::new(bound_ms(&s)),
            violation: None,
        };
        let hosts = parties
            .into_iter()
            .enumerate()
            .map(|(i, p)| Host::new(p, n, s.actor.filter(|a| a.node == i).map(|a| actor(&a))))
            .collect();
        let mut world = Self {
            now: START,
            queue: BTreeMap::new(),
            scheduled: 0,
            actor_rng: Rng::new(s.seed, 4),
            net: Net::new(&s),
            contract: Contract::new(s.mode, deployment, ids.clone()),
            pool: Vec::new(),
            trace: Trace::new(START, print),
            crashes: 0,
            told_since: None,
            names: Names(ids.clone()),
            s,
            rng,
            deployment,
            aggregate,
            terms,
            hosts,
            sensors,
            truth,
            ready_at,
            oracles,
            sabotage,
        };
        world.contract.gullible = matches!(
            sabotage,
            Sabotage::SettlesTwice | Sabotage::SettlesWrongResult | Sabotage::FabricatedEvidence
        );
        world.plant();
        world
    }

    fn plant(&mut self) {
        for node in 0..self.hosts.len() {
            let at = START + self.rng.below(50);
            self.schedule(at, Event::Start { node });
        }
        for sensor in 0..self.sensors.len() {
            self.schedule(START + 10, Event::Sensor { sensor });
        }
        for crash in 0..self.s.crashes.len() {
            self.schedule(self.s.crashes[crash].at, Event::Doom { crash });
        }
        self.schedule(START + self.s.block_ms, Event::Block);
        self.schedule(START + 100, Event::Look);
        if self.sabotage == Sabotage::FabricatedEvidence {
            let submission = Box::new(self.fabricated());
            self.schedule(
                START + 500,
                Event::Transaction {
                    node: 1,
                    submission,
                },
            );
        }
        // Ends of partitions are noticed in a while; their beginnings sometimes.
        for p in self.s.partitions.clone() {
            for edge in [p.from, p.to, self.s.heal_at] {
                for (node, peer) in pairs(self.hosts.len()) {
                    let at = edge + self.rng.below(800);
                    self.schedule(at, Event::Link { node, peer });
                }
            }
        }
    }

    /// Two commits that node 0 never signed.
    fn fabricated(&self) -> Submission {
        let forged = |x: u8| Commit {
            commitment: Digest([x; 32]),
            opening: Digest([x; 32]),
            signature: Signature([x; 64]),
        };
        let node = self.hosts[0].party.id;
        Submission::Dispute {
            epoch: 0,
            t: 0,
            evidence: Evidence::Equivocation {
                node,
                first: forged(1),
                second: forged(2),
            },
        }
    }

    /// Puts an event into the queue.
    pub fn schedule(&mut self, at: u64, event: Event) {
        self.scheduled += 1;
        self.queue.insert((at.max(self.now), self.scheduled), event);
    }
    /// An answer to an effect: it comes after up to `slowest` milliseconds, unless the process dies first.
    pub fn tell(&mut self, node: usize, slowest: u64, input: Input) {
        let at = self.now + self.rng.below(slowest + 1);
        let incarnation = self.hosts[node].incarnation;
        self.schedule(
            at,
            Event::Tell {
                node,
                incarnation,
                input: Box::new(input),
            },
        );
    }
    /// Whether the chain answers nobody.
    pub fn outage(&self) -> bool {
        self.s
            .outages
            .iter()
            .any(|(from, to)| (*from..*to).contains(&self.now))
    }
    /// Whether faults may still happen.
    pub fn faulty(&self) -> bool {
        self.now < self.s.heal_at
    }

    /// Runs to the end, or to the first violation.
    pub fn run(&mut self) -> Summary {
        while self.oracles.violation.is_none() && !self.finished() {
            let Some(((at, _), event)) = self.queue.pop_first() else {
                break;
            };
            self.now = at;
            self.happen(event);
            if self.trace.events > EVENTS_MAX {
                self.oracles.judge(
                    self.now,
                    "core",
                    Err(format!(
                        "{EVENTS_MAX} events and no end: something goes round in circles"
                    )),
                );
            }
        }
        for node in 0..self.hosts.len() {
            let verdict = self
                .oracles
                .acknowledged
                .recovered(node, &self.hosts[node].disk);
            if self.s.honest(node) {
                self.oracles.judge(self.now, "N1", verdict);
            }
        }
        self.tell_end();
        let (settled, holes) = self.oracles.finality.counts();
        Summary {
            windows: self.truth.len() as u64,
            settled,
            holes,
            crashes: self.crashes,
            events: self.trace.events,
            simulated_ms: self.now - START,
            slowest_ms: self.oracles.liveness.slowest_ms,
            complete: self.complete(),
            fingerprint: self.trace.fingerprint(),
        }
    }

    /// How each core sees the agreement at the end, for people.
    fn tell_end(&mut self) {
        for node in 0..self.hosts.len() {
            let core = self.hosts[node].core.as_ref();
            let status = core.and_then(|c| c.status(&self.aggregate.id));
            let outbox: Vec<_> = self.hosts[node].outbox.keys().cloned().collect();
            self.trace.note(self.now, node, "end", || format!("at the end: {status:?}, outbox {outbox:?}"));
        }
    }

    fn complete(&self) -> bool {
        self.oracles.liveness.first_open() as usize >= self.truth.len()
    }
    fn finished(&self) -> bool {
        // A while after the faults, so that late repeats, retirements and retries show what they do.
        let quiet = self.now >= self.s.heal_at + 3_000;
        let first = self.oracles.liveness.first_open();
        let stuck = !self.complete() && !self.repairable(first);
        quiet
            && self.told_since.is_none()
            && (self.complete() && self.sensors.iter().all(Sensor::done)
                || stuck && self.now > self.s.heal_at + bound_ms(&self.s))
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake { node, incarnation } => {
                let host = &mut self.hosts[node];
                if host.incarnation == incarnation && host.wake == Some(self.now) {
                    host.wake = None;
                    self.step(node, Input::Tick);
                }
            }
            Event::Tell {
                node,
                incarnation,
                input,
            } => {
                if self.hosts[node].incarnation == incarnation {
                    self.step(node, *input);
                }
            }
            Event::Flush { node, incarnation } => self.flush(node, incarnation),
            Event::Deliver { from, to, bytes } => self.deliver(from, to, &bytes),
            Event::Frames { from, to, bytes } => {
                let frames = diversity_proto::wire::split_frames(&bytes, usize::MAX)
                    .expect("encoded by a node");
                let frames = frames.into_iter().map(<[u8]>::to_vec).collect();
                let source = Source::Peer(self.hosts[from].party.id);
                self.step(to, Input::Frames { source, frames });
            }
            Event::Repair { from, to, bytes } => self.repair(from, to, &bytes),
            Event::Api {
                sensor,
                node,
                frames,
            } => self.request(sensor, node, &frames),
            Event::ApiAnswer { sensor, node, held } => {
                let id = self.sensors[sensor].id;
                for (_, _, next_q) in held.iter().filter(|h| h.0 == id) {
                    self.sensors[sensor].acknowledge(node, *next_q, &self.s.trust);
                }
            }
            Event::Sensor { sensor } => self.sensor(sensor),
            Event::Doom { crash } => {
                let c = self.s.crashes[crash];
                if self.hosts[c.node].core.is_some() {
                    self.hosts[c.node].doomed = Some((c.effects, c.down_ms));
                }
            }
            Event::Start { node } => self.start(node),
            Event::Link { node, peer } => self.link(node, peer),
            Event::Poll { node, incarnation } => self.poll(node, incarnation),
            Event::Outbox { node, incarnation } => self.submit(node, incarnation),
            Event::Transaction { node, submission } => self.pool.push((node, *submission)),
            Event::Block => self.block(),
            Event::Look => self.look(),
        }
    }

    /// One step of a core, and all its effects before anything else happens.
    pub fn step(&mut self, node: usize, mut input: Input) {
        if self.hosts[node].core.is_none() {
            return;
        }
        self.with_actor(node, |actor, c| actor.input(c, &mut input));
        let kind = kind_of(&input);
        self.trace
            .note(self.now, node, kind, || format!("<- {}", self.names.input(&input)));
        let local = self.local(node);
        let host = &mut self.hosts[node];
        let core = host.core.as_mut().expect("looked above");
        let effects = core.step(local, input);
        for effect in effects {
            let mut instead = Some(vec![effect.clone()]);
            self.with_actor(node, |actor, c| instead = Some(actor.effect(c, effect)));
            for effect in instead.into_iter().flatten() {
                if let Some((left, down_ms)) = &mut self.hosts[node].doomed {
                    if *left == 0 {
                        let down_ms = *down_ms;
                        self.crash(node, down_ms);
                        return;
                    }
                    *left -= 1;
                }
                self.carry_out(node, effect);
            }
        }
        self.rearm(node);
    }

    fn with_actor(
        &mut self,
        node: usize,
        f: impl FnOnce(&mut dyn crate::actors::Actor, &mut Context<'_>),
    ) {
        let lies = self
            .s
            .actor
            .is_some_and(|a| a.node == node && (self.faulty() || !a.reforms));
        if !lies {
            return;
        }
        let Some(mut actor) = self.hosts[node].actor.take() else {
            return;
        };
        let ids: Vec<_> = self.hosts.iter().map(|h| h.party.id).collect();
        let mut c = Context {
            me: node,
            nodes: &ids,
            party: &self.hosts[node].party,
            deployment: self.deployment,
            rng: &mut self.actor_rng,
        };
        f(actor.as_mut(), &mut c);
        self.hosts[node].actor = Some(actor);
    }

    /// What the node's clock shows.
    fn local(&self, node: usize) -> u64 {
        self.now.saturating_add_signed(self.s.skew_ms[node])
    }

    fn rearm(&mut self, node: usize) {
        let skew = self.s.skew_ms[node];
        let host = &mut self.hosts[node];
        let Some(deadline) = host.core.as_ref().and_then(Node::deadline) else {
            return;
        };
        let at = deadline.saturating_add_signed(-skew).max(self.now + 1);
        if self.sabotage != Sabotage::ClockStands && host.wake.is_none_or(|w| w > at) {
            host.wake = Some(at);
            let incarnation = host.incarnation;
            self.schedule(at, Event::Wake { node, incarnation });
        }
    }

    fn start(&mut self, node: usize) {
        let config = Config {
            deployment: self.deployment,
            node: self.hosts[node].party.id,
            gossip_flush_ms: self.s.gossip_flush_ms,
            gossip_bytes: 16 * 1024,
            status_interval_ms: self.s.status_interval_ms,
            settle_stage_ms: self.s.settle_stage_ms,
            ahead_max: self.s.ahead_max,
            q_ahead_max: self.s.q_ahead_max,
            inflight_max: 256,
        };
        let faulty = self.faulty();
        let host = &mut self.hosts[node];
        if host.core.is_some() {
            return;
        }
        let core = Node::recover(config, host.disk.records()).expect("a core reads what it wrote");
        host.core = Some(core);
        // The driver keeps the place up to which the core's records of what it was told are durable; some keep none.
        host.cursor = if faulty && self.rng.chance(300) { 0 } else { host.safe_cursor };
        host.told = host.cursor;
        let incarnation = host.incarnation;
        self.trace.note(self.now, node, "start", || "starts".into());
        // What the daemon reads from the chain at its start, in the order of the chain: sensors stand before an agreement.
        let at = self.now + self.rng.pick(&[0, 5, 100]);
        let mut news: Vec<Input> = self
            .sensors
            .iter()
            .map(|s| Input::Sensor {
                id: s.id,
                declaration: s.declaration.clone(),
            })
            .collect();
        news.push(Input::Agreement {
            id: self.aggregate.id,
            terms: self.terms.clone(),
            keys: self.aggregate.members.clone(),
        });
        for input in news {
            let input = Box::new(input);
            self.schedule(at, Event::Tell { node, incarnation, input });
        }
        for peer in (0..self.hosts.len()).filter(|p| *p != node) {
            let (out, back) = (self.rng.below(600), self.rng.below(600));
            self.schedule(self.now + out, Event::Link { node, peer });
            self.schedule(
                self.now + back,
                Event::Link {
                    node: peer,
                    peer: node,
                },
            );
        }
        let (poll, outbox) = (self.rng.below(POLL_MS), self.rng.below(RETRY_MS));
        self.schedule(self.now + poll, Event::Poll { node, incarnation });
        self.schedule(self.now + outbox, Event::Outbox { node, incarnation });
        self.rearm(node);
    }

    fn crash(&mut self, node: usize, down_ms: u64) {
        self.crashes += 1;
        let survive = self.rng.index(self.hosts[node].disk.waiting() + 1);
        self.trace.note(self.now, node, "crash", || {
            format!("dies; {survive} of the waiting batches are on its disk")
        });
        self.hosts[node].die(self.now);
        for ops in self.hosts[node].disk.crash(survive) {
            let verdict = self
                .oracles
                .acknowledged
                .flushed(node, &ops, &self.hosts[node].disk);
            self.oracles.judge(self.now, "N1", verdict);
        }
        self.break_disk(node);
        let verdict = self
            .oracles
            .acknowledged
            .recovered(node, &self.hosts[node].disk);
        self.oracles.judge(self.now, "N1", verdict);
        let at = (self.now + down_ms).min(self.s.heal_at.max(self.now));
        self.schedule(at, Event::Start { node });
        for peer in (0..self.hosts.len()).filter(|p| *p != node) {
            let notice = self.now + self.rng.below(1_000);
            self.schedule(
                notice,
                Event::Link {
                    node: peer,
                    peer: node,
                },
            );
        }
    }

    fn break_disk(&mut self, node: usize) {
        let disk = &mut self.hosts[node].disk;
        match self.sabotage {
            Sabotage::DiskLosesFlushedFrames => disk.lose(|k| k.first() == Some(&records::SEGMENT)),
            Sabotage::OtherSecretAfterRestart | Sabotage::OtherOutputAfterRestart => {
                disk.lose(|k| k.first() == Some(&records::EXECUTION));
            }
            _ => {}
        }
    }

    fn link(&mut self, node: usize, peer: usize) {
        let up = self.hosts[peer].core.is_some() && !self.net.cut(&self.s, self.now, node, peer);
        let host = &mut self.hosts[node];
        if host.core.is_none() {
            return;
        }
        let was = std::mem::replace(&mut host.linked[peer], up);
        let id = self.hosts[peer].party.id;
        // A short absence shows as a new connection, or not at all.
        let again = was && up && self.rng.chance(300);
        if was && !up || again {
            self.step(node, Input::PeerDown(id));
        }
        if up && !was || again {
            self.step(node, Input::PeerUp(id));
        }
    }

    fn flush(&mut self, node: usize, incarnation: u32) {
        let host = &mut self.hosts[node];
        if host.incarnation != incarnation {
            return;
        }
        let Some((job, ops)) = host.disk.flush() else {
            return;
        };
        let verdict = self.oracles.acknowledged.flushed(node, &ops, &host.disk);
        self.oracles.judge(self.now, "N1", verdict);
        self.trace.note(self.now, node, ("flush", job), || {
            format!("disk: job {job} is durable")
        });
        if self.sabotage != Sabotage::ReportsBeforeFlush {
            self.step(node, Input::Persisted { job });
        }
    }

    fn deliver(&mut self, from: usize, to: usize, bytes: &[u8]) {
        let parts = diversity_proto::wire::decode_envelope(bytes).expect("encoded by a node");
        let from = self.hosts[from].party.id;
        self.step(to, Input::Message { from, parts });
    }

    fn repair(&mut self, from: usize, to: usize, bytes: &[u8]) {
        if self.hosts[to].core.is_none() || self.sabotage == Sabotage::NoRepair {
            return;
        }
        let ranges = diversity_proto::wire::decode_ranges(bytes).expect("encoded by a node");
        let token = self.hosts[to].fresh();
        self.hosts[to].tokens.insert(token, from);
        let from = self.hosts[from].party.id;
        self.step(
            to,
            Input::RepairRequest {
                token,
                from,
                ranges,
            },
        );
    }

    fn request(&mut self, sensor: usize, node: usize, frames: &[Arc<[u8]>]) {
        if self.hosts[node].core.is_none() {
            return;
        }
        let ticket = self.hosts[node].fresh();
        self.hosts[node].tickets.insert(ticket, sensor);
        let frames = frames.iter().map(|f| f.to_vec()).collect();
        self.step(
            node,
            Input::Frames {
                source: Source::Api(ticket),
                frames,
            },
        );
    }

    /// An honest sensor may be told to wait, never that its frames are bad.
    pub fn refused(&mut self, node: usize, refusal: &Refusal) {
        let waits = matches!(
            refusal,
            Refusal::UnknownSensor
                | Refusal::TooFarAhead { .. }
                | Refusal::Busy
                | Refusal::WrongEpoch { .. }
                | Refusal::BadOpening
        );
        if !waits {
            let text = format!("node {node} refused a frame of an honest sensor: {refusal:?}");
            self.oracles.judge(self.now, "ingest", Err(text));
        }
    }

    fn sensor(&mut self, sensor: usize) {
        let waiting: Vec<_> = self.sensors[sensor]
            .waiting(self.now)
            .take(6)
            .map(|f| (f.bytes.clone(), f.next_q))
            .collect();
        if !waiting.is_empty() {
            let lacking: Vec<_> = (0..self.hosts.len())
                .filter(|i| self.sensors[sensor].acknowledged[*i] < waiting[0].1)
                .collect();
            for _ in 0..self.rng.range(1, 2) {
                let node = if lacking.is_empty() {
                    self.rng.index(self.hosts.len())
                } else {
                    self.rng.pick(&lacking)
                };
                let mut frames: Vec<_> = waiting.iter().map(|f| f.0.clone()).collect();
                if self.rng.chance(100) {
                    self.rng.shuffle(&mut frames);
                }
                for at in self.net.arrivals(&self.s, self.now, usize::MAX, node) {
                    self.schedule(
                        at,
                        Event::Api {
                            sensor,
                            node,
                            frames: frames.clone(),
                        },
                    );
                }
            }
        }
        if !self.sensors[sensor].done() {
            self.schedule(self.now + RESEND_MS, Event::Sensor { sensor });
        }
    }

    fn poll(&mut self, node: usize, incarnation: u32) {
        if self.hosts[node].incarnation != incarnation {
            return;
        }
        self.schedule(self.now + POLL_MS, Event::Poll { node, incarnation });
        if self.outage() {
            return;
        }
        let faulty = self.faulty();
        let host = &mut self.hosts[node];
        if faulty && self.rng.chance(self.s.repeat / 10) {
            host.cursor -= self.rng.index(host.cursor + 1);
        }
        let news: Vec<ChainEvent> = self.contract.events[host.cursor..]
            .iter()
            .take_while(|(mined, _)| mined + self.s.rpc_ms <= self.now)
            .map(|(_, e)| e.clone())
            .collect();
        // What was told a poll ago has long arrived; if no batch waits, it is durable.
        if host.disk.waiting() == 0 {
            host.safe_cursor = host.told;
        }
        host.cursor += news.len();
        host.told = host.cursor;
        let next_t = self.contract.next_t;
        // What another settlement has overtaken can never be mined again.
        if self.sabotage != Sabotage::SettlesTwice {
            host.outbox
                .retain(|k, _| !matches!(k, Key::Settle { from, .. } if *from < next_t));
        }
        // In the order of the chain; a second telling may come behind later news.
        let arrives = self.now + self.rng.below(self.s.rpc_ms + 1);
        for e in news {
            let twice = self.faulty() && self.rng.chance(self.s.repeat);
            for _ in 0..=u32::from(twice) {
                let input = Box::new(Input::Chain(e.clone()));
                self.schedule(arrives, Event::Tell { node, incarnation, input });
            }
        }
    }

    fn submit(&mut self, node: usize, incarnation: u32) {
        if self.hosts[node].incarnation != incarnation {
            return;
        }
        self.schedule(self.now + RETRY_MS, Event::Outbox { node, incarnation });
        let due: Vec<_> = self.hosts[node]
            .outbox
            .values()
            .filter(|q| q.durable_at <= self.now)
            .map(|q| q.submission.clone())
            .collect();
        for submission in due {
            let lost = self.outage()
                || self.faulty() && self.rng.chance(self.s.submit_loss)
                || self.sabotage == Sabotage::ChainDeaf;
            if !lost {
                let at = self.now + self.rng.below(self.s.rpc_ms + 1);
                self.schedule(
                    at,
                    Event::Transaction {
                        node,
                        submission: Box::new(submission),
                    },
                );
            }
        }
    }

    fn block(&mut self) {
        self.schedule(self.now + self.s.block_ms, Event::Block);
        if self.outage() {
            return;
        }
        let mut pool = std::mem::take(&mut self.pool);
        self.rng.shuffle(&mut pool);
        for (node, submission) in pool {
            let result = self.contract.apply(self.now, &self.aggregate, &submission);
            self.trace.note(self.now, usize::MAX, ("tx", node), || {
                format!(
                    "chain: {:?} of node {node}: {result:?}",
                    Key::of(&submission)
                )
            });
            match result {
                Ok(mined) => self.mined(node, &submission, &mined),
                Err(Revert::FromIsNotNext) => {}
                Err(Revert::AlreadyRecorded | Revert::BeyondEnd) => {
                    self.hosts[node].outbox.remove(&Key::of(&submission));
                }
                Err(Revert::Refused(why)) if self.s.honest(node) => {
                    let text = format!(
                        "the contract refuses {:?} of honest node {node}: {why}",
                        Key::of(&submission)
                    );
                    self.oracles.judge(self.now, "chain", Err(text));
                }
                Err(Revert::Refused(_)) => {
                    self.hosts[node].outbox.remove(&Key::of(&submission));
                }
            }
        }
    }

    fn mined(&mut self, node: usize, submission: &Submission, mined: &Mined) {
        let verdict = self
            .oracles
            .finality
            .mined(mined, self.s.honest(node));
        self.oracles.judge(self.now, "N2", verdict);
        if let Mined::Dispute { blamed, .. } = mined {
            let verdict = self.oracles.blame.recorded(blamed.as_ref());
            self.oracles.judge(self.now, "N4", verdict);
        }
        if let Mined::Settled { from, says } = mined
            && self.s.qos == Qos::None
        {
            let last = from + says.len() as u64 - 1;
            for sensor in 0..self.sensors.len() {
                if let Some(w) = self.truth.get(last as usize) {
                    self.oracles
                        .acknowledged
                        .may_drop_below(sensor, w.next_q[sensor].min(w.end_q[sensor]));
                }
            }
        }
        if self.sabotage != Sabotage::SettlesTwice {
            self.hosts[node].outbox.remove(&Key::of(submission));
        }
    }

    /// Whether t is final: on the chain, or, where nothing is written on chain, certified at every honest node.
    pub fn is_final(&self, t: u64) -> bool {
        if self.contract.next_t > t || self.contract.disputed(t) {
            return true;
        }
        let Some(w) = self.truth.get(t as usize) else {
            return false;
        };
        let silent = w.output.kind == OutputKind::Null || self.s.all_abstain(t);
        let key = records::t_key(records::CERTIFICATE, &self.aggregate.id, t);
        silent
            && (0..self.hosts.len())
                .all(|i| !self.s.honest(i) || self.hosts[i].disk.read(&key).is_some())
    }

    /// Whether t must become final once faults have stopped.
    pub fn repairable(&self, t: u64) -> bool {
        // A node that abstained alone leaves the states apart where there is a carry: all later t wait for a resolution.
        let apart = |at: u64| !self.s.all_abstain(at) && self.s.keeps_carry;
        if self.s.abstains.iter().any(|(_, at)| *at < t && apart(*at)) {
            return false;
        }
        match self.s.actor {
            None => true,
            Some(a) => match a.kind {
                // Settlement only gets dearer.
                ActorKind::Saboteur => true,
                // Silence waits for the node (R5).
                ActorKind::Withholder => a.reforms,
                // State apart: waits for a resolution.
                ActorKind::WrongOutput => a.variant & 7 != 7,
                ActorKind::Equivocator | ActorKind::Echo => false,
            },
        }
    }

    fn look(&mut self) {
        self.schedule(self.now + 100, Event::Look);
        let mut liveness = std::mem::replace(&mut self.oracles.liveness, Liveness::new(0));
        let verdict = liveness.look(&View {
            now: self.now,
            heal_at: self.s.heal_at,
            ready_at: &self.ready_at,
            repairable: &|t| self.repairable(t),
            is_final: &|t| self.is_final(t),
        });
        self.oracles.liveness = liveness;
        self.oracles.judge(self.now, "N5", verdict);
        self.look_who_knows();
    }

    /// What is final on the chain becomes final in every honest node's records too.
    fn look_who_knows(&mut self) {
        let ignorant = (0..self.hosts.len())
            .filter(|i| self.s.honest(*i))
            .find(|i| {
                (0..self.contract.next_t).any(|t| {
                    let key = records::t_key(records::FINAL, &self.aggregate.id, t);
                    self.hosts[*i].disk.read(&key).is_none()
                })
            });
        let Some(node) = ignorant.filter(|_| !self.faulty()) else {
            self.told_since = None;
            return;
        };
        let since = *self.told_since.get_or_insert(self.now);
        let bound = bound_ms(&self.s);
        if self.now > since + bound {
            let text = format!(
                "node {node} has not recorded {bound} ms later that the chain settled all below t {}",
                self.contract.next_t
            );
            self.oracles.judge(self.now, "N5", Err(text));
        }
    }
}

fn pairs(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).flat_map(move |a| (0..n).filter(move |b| *b != a).map(move |b| (a, b)))
}

/// When the last message that closes the window can be had and counts on every clock.
fn ready_at(s: &Scenario, sensors: &[Sensor], w: &TrueWindow) -> u64 {
    let slowest = s.skew_ms.iter().min().copied().unwrap_or(0).min(0);
    let count = matches!(s.window, WindowSpec::Count { .. });
    let of = |(sensor, q): (&Sensor, &u64)| {
        let time = sensor.said.messages[*q as usize].0;
        let counts = (time.saturating_sub(s.future_tolerance_s.into()) * 1000)
            .saturating_add_signed(-slowest);
        // Whatever a window needs was made by then: frames are made in the order of q.
        sensor.made_at(*q).max(if count { 0 } else { counts })
    };
    sensors.iter().zip(&w.closing_q).map(of).max().unwrap_or(0)
}

/// How long a window may take once nothing stands in its way (N5): n + 2 capped round timeouts, then each node's turn to
/// settle, then the chain; and before all that the sensors' resending and the nodes' repair.
fn bound_ms(s: &Scenario) -> u64 {
    let n = s.nodes() as u64;
    let rounds = (n + 2) * u64::from(s.round_timeout_max_ms);
    let settle = n * s.settle_stage_ms + u64::from(s.flush_ms);
    let chain = 2 * s.block_ms + 4 * s.rpc_ms + 2 * POLL_MS + 2 * RETRY_MS;
    let repair = 3 * s.status_interval_ms + 4 * RESEND_MS + s.gossip_flush_ms;
    let work = 20 * (s.delay_ms + s.disk_ms + s.job_ms + s.execute_ms);
    rounds + settle + chain + repair + work + 1_000
}

fn terms(s: &Scenario, parties: &[Party], sensors: &[Sensor]) -> Terms {
    let users = s.trust.iter().max().map_or(0, |u| u + 1);
    let field = |name: &str, ty: &str| Field {
        name: name.into(),
        ty: ty.into(),
    };
    Terms {
        title: "simulated".into(),
        users: (1..=users).map(|u| Address([u; 20])).collect(),
        nodes: parties
            .iter()
            .zip(&s.trust)
            .map(|(p, t)| TrustedNode {
                node: p.id,
                trust: *t,
            })
            .collect(),
        sensors: sensors
            .iter()
            .zip(&s.sensors)
            .map(|(x, (_, q0, _))| SensorStart {
                sensor: x.id,
                q0: *q0,
            })
            .collect(),
        off_chain_code: Digest([7; 32]),
        window: s.window,
        future_tolerance_s: s.future_tolerance_s,
        leader: s.leader,
        flush_ms: s.flush_ms,
        round_timeout_ms: s.round_timeout_ms,
        round_timeout_max_ms: s.round_timeout_max_ms,
        batch: s.batch,
        qos: s.qos,
        result: vec![
            field("sum", "uint64"),
            field("count", "uint32"),
            field("fold", "bytes4"),
        ],
        detail: vec![field("sum", "uint64"), field("count", "uint32")],
    }
}

/// A small number for each kind of input, for the fingerprint.
fn kind_of(input: &Input) -> u64 {
    use std::hash::{Hash, Hasher};
    let mut h = std::collections::hash_map::DefaultHasher::new();
    std::mem::discriminant(input).hash(&mut h);
    match input {
        Input::FramesVerified { job, .. }
        | Input::SignaturesVerified { job, .. }
        | Input::Persisted { job }
        | Input::Signed { job, .. } => job.hash(&mut h),
        Input::Executed { t, execution, .. } => {
            (t, execution.computed.result.as_slice()).hash(&mut h)
        }
        Input::Committed { t, commit, .. } => (t, commit.commitment).hash(&mut h),
        Input::Message { from, parts } => {
            (from, diversity_proto::wire::encode_envelope(parts)).hash(&mut h)
        }
        Input::Frames { frames, .. } => frames.hash(&mut h),
        Input::MusigNonce { nonce, .. } => nonce.hash(&mut h),
        _ => {}
    }
    h.finish()
}
