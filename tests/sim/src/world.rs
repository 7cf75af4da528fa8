//! The discrete-event world: a queue of events in time, and everything that an event can reach.

use crate::actors::{Context, actor};
use crate::chain::{Contract, Mined, News, Revert, Voids};
use crate::crypto::{Aggregate, Party};
use crate::host::Host;
use crate::net::Net;
use crate::oracle::{Acknowledged, Blame, Bounds, Finality, Liveness, Oracles, Signing, View};
use crate::rng::Rng;
use crate::sabotage::Sabotage;
use crate::scenario::{START, Scenario};
use crate::sensors::Sensor;
use crate::text::Names;
use crate::trace::Trace;
use crate::truth::TrueWindow;
use diversity_engine::api::{
    ChainEvent, Config, Evidence, Input, Refusal, Settlement, Source, Submission,
};
use diversity_engine::{Node, records};
use diversity_proto::round::Commit;
use diversity_proto::terms::{Field, Qos, SensorStart, Terms, TrustedNode, WindowSpec};
use diversity_proto::{
    Address, AgreementId, Deployment, Digest, NodeId, SensorId, Signature, UserId,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

mod agreement;
mod begin;
mod judge;
mod ledger;
mod life;
mod outside;
mod stranger;
mod users;

pub use agreement::Agreement;
use begin::deployment;
use judge::{bound_ms, ready_at};

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
#[allow(missing_docs)]
pub enum Event {
    /// A core's timer.
    Wake {
        node: usize,
        incarnation: u32,
    },
    /// An answer to an effect, or news for one process.
    Tell {
        node: usize,
        incarnation: u32,
        input: Box<Input>,
    },
    /// The oldest waiting batch of a disk becomes durable.
    Flush {
        node: usize,
        incarnation: u32,
    },
    WriteHeld {
        node: usize,
        incarnation: u32,
    },
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
    Sensor {
        sensor: usize,
    },
    /// A node is marked for death.
    Doom {
        crash: usize,
    },
    /// A node starts.
    Start {
        node: usize,
    },
    /// A node looks whether it reaches a peer.
    Link {
        node: usize,
        peer: usize,
    },
    /// A node looks at the chain.
    Poll {
        node: usize,
        incarnation: u32,
    },
    /// A node's outbox submits.
    Outbox {
        node: usize,
        incarnation: u32,
    },
    /// A transaction reaches the chain.
    Transaction {
        node: usize,
        submission: Box<Submission>,
    },
    /// An agreement is created.
    Create {
        agreement: usize,
    },
    /// All users close an agreement; `after` more t settle.
    Close {
        agreement: usize,
        after: u64,
    },
    /// A copy of a disk is made.
    Backup {
        node: usize,
    },
    /// A node starts from the copy of its disk.
    Restore {
        node: usize,
    },
    /// Somebody outside the network sends rubbish.
    Stranger,
    /// Users look at their agreements.
    Users,
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
    stranger_rng: Rng,
    /// A node that is being sent frames by somebody who may give it none.
    pub(crate) taking_nothing: Option<usize>,
    /// Between nodes.
    pub net: Net,
    /// Chain and contract.
    pub deployment: Deployment,
    /// The agreements.
    pub agreements: Vec<Agreement>,
    members: BTreeMap<AgreementId, Vec<NodeId>>,
    /// What the chain tells, with the time of each block.
    news: Vec<(u64, News)>,
    pool: Vec<(usize, Submission)>,
    voids: Voids,
    /// Nodes whose disk was replaced by an old copy.
    pub restored: Vec<bool>,
    /// The nodes.
    pub hosts: Vec<Host>,
    /// The sensors.
    pub sensors: Vec<Sensor>,
    /// The oracles.
    pub oracles: Oracles,
    /// What happened.
    pub trace: Trace,
    /// What is broken on purpose.
    pub sabotage: Sabotage,
    /// Second readings that a node could not run at once: node, agreement, t, epoch.
    pub(crate) tried: BTreeSet<(usize, usize, u64, u32)>,
    blamed: u64,
    words: u64,
    by_reveals: u64,
    /// States behind cells that nodes sent to nodes that had lost them.
    pub(crate) states: u64,
    /// Since when a node of an agreement lacks the state behind a cell.
    lost_since: BTreeMap<(usize, usize), u64>,
    crashes: u64,
    /// Names for the trace.
    pub(crate) names: Names,
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Agreements.
    pub agreements: u64,
    /// Agreements that ended because all their sensors are void, or by their users.
    pub ended: u64,
    /// Windows that the messages closed.
    pub windows: u64,
    /// Settled as value, null or trap.
    pub settled: u64,
    /// Holes.
    pub holes: u64,
    /// Words of users on a t.
    pub words: u64,
    /// Records that blame somebody.
    pub blamed: u64,
    /// Settlements by n signed reveals.
    pub by_reveals: u64,
    /// States behind cells that were sent to whoever had lost them.
    pub states: u64,
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
    /// Where an agreement stands in the list.
    pub fn index_of(&self, id: &AgreementId) -> usize {
        let at = self.agreements.iter().position(|a| a.id() == *id);
        at.expect("cores speak of agreements that they were told of")
    }
    /// Whether the node never lies, and nothing that it signed was taken from it.
    pub fn honest(&self, node: usize) -> bool {
        self.s.honest(node) && !self.restored[node]
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
            if self.honest(node) {
                self.oracles.judge(self.now, "N1", verdict);
            }
        }
        self.tell_end();
        let sum = |of: fn(&Agreement) -> u64| self.agreements.iter().map(of).sum();
        Summary {
            agreements: self.agreements.len() as u64,
            ended: sum(|a| u64::from(a.ended_at != u64::MAX)),
            windows: sum(Agreement::windows),
            settled: sum(|a| a.finality.counts().0),
            holes: sum(|a| a.finality.counts().1),
            words: self.words,
            blamed: self.blamed,
            by_reveals: self.by_reveals,
            states: self.states,
            crashes: self.crashes,
            events: self.trace.events,
            simulated_ms: self.now - START,
            slowest_ms: self
                .agreements
                .iter()
                .map(|a| a.liveness.slowest_ms)
                .max()
                .unwrap_or(0),
            complete: self.agreements.iter().all(Agreement::complete),
            fingerprint: self.trace.fingerprint(),
        }
    }

    /// How each core sees the agreements at the end, for people.
    fn tell_end(&mut self) {
        for node in 0..self.hosts.len() {
            let core = self.hosts[node].core.as_ref();
            for (i, a) in self.agreements.iter().enumerate() {
                let status = core.and_then(|c| c.status(&a.id()));
                self.trace.note(self.now, node, "end", || {
                    format!("at the end, agreement {i}: {status:?}")
                });
            }
            let outbox: Vec<_> = self.hosts[node].outbox.keys().cloned().collect();
            self.trace.note(self.now, node, "end", || {
                format!("at the end, outbox {outbox:?}")
            });
        }
    }

    fn finished(&self) -> bool {
        // A while after the faults, so that late repeats, retirements and retries show what they do.
        let quiet = self.now >= self.s.heal_at + 3_000;
        if !quiet || self.agreements.iter().any(|a| a.told_since.is_some()) {
            return false;
        }
        let ends = |i: usize| {
            let a = &self.agreements[i];
            a.stands && (a.complete() || self.stuck(i))
        };
        // Of what is said for an agreement that need not go on nobody need take all.
        let over = |i: &usize, k: usize| self.agreements[*i].plan.sensors.iter().any(|s| s.0 == k);
        let stuck: Vec<_> = (0..self.agreements.len())
            .filter(|i| self.stuck(*i))
            .collect();
        let heard = |(k, s): (usize, &Sensor)| s.done() || stuck.iter().any(|i| over(i, k));
        (0..self.agreements.len()).all(ends)
            && (stuck.len() == self.agreements.len() || self.sensors.iter().enumerate().all(heard))
    }
    /// Whether the agreement need not go on, and had the time to show what it does.
    fn stuck(&self, agreement: usize) -> bool {
        let a = &self.agreements[agreement];
        let t = a.liveness.first_open();
        if !a.complete() && a.ready_at[t as usize].is_none() {
            // Nothing ends it in the time of a run.
            return true;
        }
        let waits = !a.complete() && !self.repairable(agreement, t);
        let since = self.s.heal_at.max(a.plan.created_at);
        let helped = !self.users_may_help(agreement);
        waits && helped && self.now > since + 2 * bound_ms(&self.s, agreement)
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
            Event::WriteHeld { node, incarnation } => {
                if self.hosts[node].incarnation == incarnation {
                    self.write_held(node);
                }
            }
            Event::Deliver { from, to, bytes } => self.deliver(from, to, &bytes),
            Event::Frames { from, to, bytes } => {
                let frames = diversity_proto::wire::split_frames(&bytes, usize::MAX)
                    .expect("encoded by a node");
                let frames = frames.into_iter().map(<[u8]>::to_vec).collect();
                let source = Source::Peer(self.hosts[from].party.node());
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
                    self.sensors[sensor].acknowledge(node, *next_q);
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
            Event::Create { agreement } => self.create(agreement),
            Event::Close { agreement, after } => self.close(agreement, after),
            Event::Backup { node } => self.hosts[node].disk.back_up(),
            Event::Restore { node } => self.restore(node),
            Event::Stranger => self.stranger(),
            Event::Users => self.users(),
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
        let told = matches!(input, Input::Chain(_));
        let kind = kind_of(&input);
        self.trace.note(self.now, node, kind, || {
            format!("<- {}", self.names.input(&input))
        });
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
        if told {
            self.look_back(node);
        }
        let mut more = Vec::new();
        self.with_actor(node, |actor, c| more = actor.after(c));
        more.into_iter().for_each(|e| self.carry_out(node, e));
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
        let mut c = Context {
            now: self.now,
            members: &self.members,
            party: &self.hosts[node].party,
            deployment: self.deployment,
            rng: &mut self.actor_rng,
        };
        f(actor.as_mut(), &mut c);
        self.hosts[node].actor = Some(actor);
    }

    /// What the node's clock shows.
    pub(crate) fn local(&self, node: usize) -> u64 {
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
}

fn pairs(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).flat_map(move |a| (0..n).filter(move |b| *b != a).map(move |b| (a, b)))
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
