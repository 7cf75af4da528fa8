//! The loop around the core (design §5): one task owns it, feeds it what happened, and carries out what it wants.
//! It decides nothing. All effects of a step are under way before the next input is taken.
//!
//! Answers to effects come first, then round messages and the chain, then the API; nothing from outside is taken while more
//! than [`OUTSTANDING_MAX`] effects are unanswered. So every queue is bounded by what one step can ask for, and a flood of
//! messages waits at the API instead of delaying a round.

mod doubt;
mod effects;
mod recall;
mod transport;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use diversity_engine::api::{
    Effect, FrameRef, IngestAnswer, Input, Job, Notice, Source, Submission, SubmissionId, Ticket,
};
use diversity_engine::{AgreementStatus, Node};
use diversity_keys::musig::AgreementKey;
use diversity_net::{NetEvent, NetHandle, Peer, Verdict};
use diversity_proto::terms::Terms;
use diversity_proto::wire::Range;
use diversity_proto::{AgreementId, Deployment, Digest, NodeId, PublicKey, SensorId};
use diversity_store::{Op, StoreError};
use tokio::sync::{mpsc, oneshot, watch};

use crate::node::activation::Waiting;
use crate::node::clocks::Clocks;
use crate::node::cut::CutError;
use crate::node::frames::sensor_of;
use crate::node::peers::{Change, PeerMap};
use crate::node::shared::{Code, Durable, Peers, Registered};
use crate::node::signer::{SignError, Signer};
use crate::node::workers::{Verifier, Workers};
use crate::telemetry::Metrics;
use recall::{Doubt, Recall};

/// Unanswered effects above which nothing new is taken from outside.
pub const OUTSTANDING_MAX: usize = 4_096;
/// Answers that wait for the core. Above [`OUTSTANDING_MAX`] by what steps may add to it.
const ANSWERS_MAX: usize = 65_536;
/// Gossip batches whose verdict waits for signature checks.
const GOSSIP_JUDGED_MAX: usize = 1_024;
/// How long a computation for the settlement lets rounds go first.
const LATER_MAX: Duration = Duration::from_millis(5);
/// How long a shutdown waits for effects under way.
const DRAIN: Duration = Duration::from_secs(2);

/// Why the loop ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// Nothing can be made durable any more.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was stored is not there any more.
    #[error(transparent)]
    Cut(#[from] CutError),
    /// Nothing can be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// A defect.
    #[error("{0}: this is a fault of the program, please report it")]
    Broken(&'static str),
}

/// What is held of a sensor that is known: boot epoch, first missing q, void from.
pub type HeldSensor = Option<(u32, u64, Option<u64>)>;

/// What the rest of the node asks of the core.
pub enum Command {
    /// Frames of an API request.
    Ingest {
        /// As encoded.
        frames: Vec<Vec<u8>>,
        /// Told what became of them, with what is held now.
        reply: oneshot::Sender<IngestAnswer>,
    },
    /// What is held of sensors: boot epoch, first missing q, void from.
    Held {
        /// Which sensors.
        sensors: Vec<SensorId>,
        /// In the same order; nothing for those that are not known.
        reply: oneshot::Sender<Vec<HeldSensor>>,
    },
    /// Where the frames of these ranges are, ranges in order; at most what one answer to a repair request holds.
    Find {
        /// Which messages.
        ranges: Vec<Range>,
        /// Told where.
        reply: oneshot::Sender<Vec<FrameRef>>,
    },
    /// Where agreements stand.
    Status {
        /// Which.
        agreements: Vec<AgreementId>,
        /// In the same order.
        reply: oneshot::Sender<Vec<Option<AgreementStatus>>>,
    },
    /// What the chain said. The writes (registry and cursor) are made durable after those that the inputs cause.
    Chain {
        /// For the core, in order.
        inputs: Vec<Input>,
        /// The registry's writes.
        ops: Vec<Op>,
        /// Told when all is durable.
        done: oneshot::Sender<()>,
    },
    /// An agreement of this node can run.
    Agreement {
        /// What it is.
        agreement: Box<Activation>,
        /// What the chain said of it so far.
        inputs: Vec<Input>,
    },
    /// The operator lets this node read a hole once more.
    Reread {
        /// Which agreement.
        agreement: AgreementId,
        /// The hole.
        t: u64,
    },
    /// The map of peers has changed: tell the core and the transport.
    Peers(Vec<Change>),
    /// The outbox has made the submission durable (R13).
    Taken(SubmissionId),
    /// A submission has ended, and cost this much gas.
    Paid(SubmissionId, u64),
    /// One of an earlier run has.
    Spent(AgreementId, u64),
}

/// Everything that the loop needs of an agreement.
pub struct Activation {
    /// `a`.
    pub id: AgreementId,
    /// The terms.
    pub terms: Arc<Terms>,
    /// Protocol keys in node-index order.
    pub keys: Vec<PublicKey>,
    /// The aggregate key.
    pub key: AgreementKey,
}

/// Where what the core submits goes.
pub trait Outbox: Send + Sync + 'static {
    /// Keeps the submission durably, says so ([`Command::Taken`]), and submits it until it is mined or pointless. One with the
    /// same id is the same; what is not taken comes again.
    fn submit(&self, id: SubmissionId, submission: Submission);
    /// Settlements of the agreement that reach no further than t are not wanted any more. Returns those that are dropped and were never
    /// taken; of all others it is told how they ended ([`Command::Paid`]).
    fn retire(&self, agreement: AgreementId, t: u64) -> Vec<SubmissionId>;
}

enum Answer {
    Input(Input),
    Frames {
        job: Job,
        digests: Vec<Option<Digest>>,
    },
    Persisted {
        jobs: Vec<Job>,
        segments: Vec<u64>,
        result: Result<(), StoreError>,
        since: Instant,
    },
    Done,
    Failed(DriverError),
}

/// A write that waits for the store, which jobs it answers, and who else is told.
#[derive(Default)]
struct Write {
    ops: Vec<Op>,
    jobs: Vec<Job>,
    /// Segments among the writes.
    segments: Vec<u64>,
    done: Vec<oneshot::Sender<()>>,
}

/// What the loop is made of.
pub struct Parts {
    /// The core, recovered.
    pub core: Node,
    /// This node.
    pub node: NodeId,
    /// The protocol key.
    pub signer: Signer,
    /// Threads.
    pub workers: Arc<Workers>,
    /// Checks signatures.
    pub verifier: Arc<Verifier>,
    /// What outlives the process.
    pub durable: Durable,
    /// Modules, and who runs them.
    pub code: Code,
    /// The transport.
    pub net: NetHandle,
    /// What the transport says.
    pub net_events: mpsc::Receiver<NetEvent>,
    /// Who is who.
    pub peers: Peers,
    /// What clocks of others show.
    pub clocks: Clocks,
    /// The chain's side.
    pub outbox: Arc<dyn Outbox>,
    /// Who is registered.
    pub registered: Registered,
    /// Numbers.
    pub metrics: Arc<Metrics>,
    /// Told every notice.
    pub notices: Arc<dyn Fn(&Notice) + Send + Sync>,
    /// Agreements that the core has recovered.
    pub known: Vec<Activation>,
    /// The store was lost or made anew since this node first ran: it may have signed more than it knows.
    pub lost: bool,
    /// Chain and contract.
    pub deployment: Deployment,
    /// Told why this node abstains.
    pub waiting: Arc<Waiting>,
}

/// Channels into the loop, in order of precedence.
pub struct Inbox {
    /// The chain and the daemon's own business.
    pub control: mpsc::Receiver<Command>,
    /// The API.
    pub api: mpsc::Receiver<Command>,
}

/// The loop.
pub struct Driver {
    parts: Parts,
    answers: mpsc::Sender<Answer>,
    ready: VecDeque<Input>,
    outstanding: usize,
    tickets: HashMap<Ticket, oneshot::Sender<IngestAnswer>>,
    next_ticket: Ticket,
    terms: BTreeMap<AgreementId, Arc<Terms>>,
    /// Gossip that waits for the checks of this job.
    judged: HashMap<Job, ([u8; 32], Peer)>,
    /// Writes that found the store's queue full.
    backlog: VecDeque<Write>,
    /// Writes that wait for another one, to share its flush, and for how long at most.
    held: VecDeque<Write>,
    held_until: Option<Instant>,
    /// What is computed here when nothing else waits, and since when.
    later: VecDeque<(Instant, Effect)>,
    /// Nothing waited when the loop looked last, so that a small computation delays nobody.
    calm: bool,
    next_request: u64,
    /// Set while the frames of a gossip batch are taken, so that their verdict is that of the checks they cause.
    judging: Option<([u8; 32], Peer)>,
    /// Set while the daemon itself asks where frames are.
    finding: Option<oneshot::Sender<Vec<FrameRef>>>,
    recall: Recall,
    /// The transport has not taken the newest topics.
    topics_due: bool,
    failed: Option<DriverError>,
}

/// Unix milliseconds.
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

impl Driver {
    /// Runs until `stop` says so, then finishes what is under way.
    ///
    /// # Errors
    /// [`DriverError`] when the node must not go on.
    pub async fn run(
        parts: Parts,
        mut inbox: Inbox,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), DriverError> {
        let (answers, mut answered) = mpsc::channel(ANSWERS_MAX);
        let doubt = Doubt {
            known: parts.known.iter().map(|a| a.id).collect(),
            lost: parts.lost,
        };
        let key = parts.signer.public_key();
        let recall = Recall::new(parts.deployment, parts.node, key, doubt);
        let mut driver = Self {
            parts,
            answers,
            ready: VecDeque::new(),
            outstanding: 0,
            tickets: HashMap::new(),
            next_ticket: 1,
            terms: BTreeMap::new(),
            judged: HashMap::new(),
            backlog: VecDeque::new(),
            held: VecDeque::new(),
            held_until: None,
            later: VecDeque::new(),
            calm: true,
            next_request: 1,
            judging: None,
            finding: None,
            recall,
            topics_due: true,
            failed: None,
        };
        // Before the first step, which takes up what the last run left.
        for a in std::mem::take(&mut driver.parts.known) {
            driver.parts.signer.agreement(a.key);
            driver.terms.insert(a.id, a.terms);
        }
        driver.input(Input::Tick);
        loop {
            driver
                .parts
                .metrics
                .outstanding
                .set(driver.outstanding as i64);
            if let Some(error) = driver.failed.take() {
                return Err(error);
            }
            if driver.topics_due {
                driver.set_topics();
            }
            let open = driver.outstanding < OUTSTANDING_MAX && driver.backlog.is_empty();
            let wait = driver
                .parts
                .core
                .deadline()
                .map(|at| Duration::from_millis(at.saturating_sub(unix_ms())));
            let held_until = driver.held_until.unwrap_or_else(Instant::now);
            driver.calm = answered.is_empty() && inbox.api.is_empty();
            if driver
                .later
                .front()
                .is_some_and(|(since, _)| since.elapsed() > LATER_MAX)
            {
                driver.later();
            }
            tokio::select! {
                biased;
                answer = answered.recv() => {
                    driver.answer(answer.ok_or(DriverError::Broken("the loop lost its answers"))?);
                }
                () = stopped(&mut stop) => return driver.drain(&mut answered).await,
                // A zero wait would starve what follows if the core kept asking for now; one tick each turn is enough.
                () = tokio::time::sleep(wait.unwrap_or(Duration::from_secs(3600)).max(Duration::from_millis(1))),
                    if wait.is_some() => driver.input(Input::Tick),
                () = tokio::time::sleep_until(held_until.into()), if driver.held_until.is_some() => {
                    driver.release_held();
                    driver.write_backlog();
                }
                Some(command) = inbox.control.recv(), if open => driver.command(command),
                event = driver.parts.net_events.recv(), if open => match event {
                    Some(event) => driver.net(event),
                    None => return Err(DriverError::Broken("the transport ended by itself")),
                },
                // The transport's tasks go first: what this node has just sent leaves before it computes on.
                () = tokio::task::yield_now(), if !driver.later.is_empty() => driver.later(),
                Some(command) = inbox.api.recv(), if open => driver.command(command),
            }
        }
    }

    /// Takes answers until nothing is under way, so that whoever was promised something gets it.
    async fn drain(mut self, answered: &mut mpsc::Receiver<Answer>) -> Result<(), DriverError> {
        let end = tokio::time::Instant::now() + DRAIN;
        self.release_held();
        self.write_backlog();
        while self.outstanding > 0 && self.failed.is_none() {
            match tokio::time::timeout_at(end, answered.recv()).await {
                Ok(Some(answer)) => {
                    self.answer(answer);
                    self.release_held();
                    self.write_backlog();
                }
                _ => {
                    tracing::warn!(outstanding = self.outstanding, "shutdown.gave_up_waiting");
                    break;
                }
            }
        }
        self.failed.map_or(Ok(()), Err)
    }

    fn input(&mut self, input: Input) {
        self.inputs([input]);
    }

    fn inputs(&mut self, inputs: impl IntoIterator<Item = Input>) {
        let started = Instant::now();
        self.ready.extend(inputs);
        while let Some(input) = self.ready.pop_front() {
            // What leaves first lets others go on while this node computes.
            let (here, leaving): (Vec<_>, Vec<_>) = self
                .parts
                .core
                .step(unix_ms(), input)
                .into_iter()
                .partition(effects::is_computed_here);
            for effect in leaving.into_iter().chain(here) {
                self.effect(effect);
            }
        }
        self.write_backlog();
        self.parts
            .metrics
            .step_seconds
            .observe(started.elapsed().as_secs_f64());
    }

    fn answer(&mut self, answer: Answer) {
        self.outstanding -= 1;
        match answer {
            Answer::Input(input) => self.input(input),
            Answer::Frames { job, digests } => {
                self.frames_verified(job, digests);
                self.inputs([]);
            }
            Answer::Persisted {
                jobs,
                segments,
                result,
                since,
            } => {
                self.parts.durable.frames.stored(&segments);
                self.parts
                    .metrics
                    .persist_seconds
                    .observe(since.elapsed().as_secs_f64());
                match result {
                    Ok(()) => self.inputs(jobs.into_iter().map(|job| Input::Persisted { job })),
                    Err(error) => self.failed = Some(error.into()),
                }
            }
            Answer::Done => {}
            Answer::Failed(error) => self.failed = Some(error),
        }
    }

    /// The signatures of frames are checked.
    fn frames_verified(&mut self, job: Job, digests: Vec<Option<Digest>>) {
        if let Some((message, from)) = self.judged.remove(&job) {
            let good = digests.iter().all(Option::is_some);
            let verdict = if good {
                Verdict::Accept
            } else {
                Verdict::Reject
            };
            self.verdict(message, from, verdict);
        }
        self.ready.push_back(Input::FramesVerified { job, digests });
    }

    /// Does the oldest computation that nothing urgent waits for.
    fn later(&mut self) {
        if let Some((_, effect)) = self.later.pop_front() {
            self.compute(effect);
            self.inputs([]);
        }
    }

    /// Tells the core of registered sensors that it does not know yet: it is not told of all that anybody registers.
    fn introduce(&mut self, sensors: impl Iterator<Item = SensorId>) {
        let mut new: Vec<_> = sensors
            .filter(|s| self.parts.core.sensor(s).is_none())
            .collect();
        new.sort_unstable();
        new.dedup();
        let inputs: Vec<_> = {
            let registry = self.parts.registered.read();
            new.iter().flat_map(|s| registry.introduce(s)).collect()
        };
        if !inputs.is_empty() {
            self.inputs(inputs);
        }
    }

    fn introduce_all(&mut self, frames: &[Vec<u8>]) {
        self.introduce(frames.iter().filter_map(|f| sensor_of(f)));
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Ingest { frames, reply } => {
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                self.tickets.insert(ticket, reply);
                self.count_frames("api", frames.len());
                self.introduce_all(&frames);
                self.input(Input::Frames {
                    source: Source::Api(ticket),
                    frames,
                });
            }
            // Whoever asked may be gone by now; nobody misses the answer then.
            Command::Held { sensors, reply } => {
                self.introduce(sensors.iter().copied());
                let _ = reply.send(sensors.iter().map(|s| self.parts.core.sensor(s)).collect());
            }
            Command::Find { ranges, reply } => {
                // What a peer would be served is what is found.
                let node = self.parts.node;
                self.finding = Some(reply);
                self.input(Input::RepairRequest {
                    token: 0,
                    from: node,
                    ranges,
                });
                self.finding = None;
            }
            Command::Status { agreements, reply } => {
                let _ = reply.send(
                    agreements
                        .iter()
                        .map(|a| self.parts.core.status(a))
                        .collect(),
                );
            }
            Command::Reread { agreement, t } => self.input(Input::Reread { agreement, t }),
            Command::Chain { inputs, ops, done } => {
                for input in inputs {
                    self.input(input);
                }
                self.persist(ops, None, Some(done));
                self.write_backlog();
            }
            Command::Agreement { agreement, inputs } => {
                let Activation {
                    id,
                    terms,
                    keys,
                    key,
                } = *agreement;
                self.parts.signer.agreement(key);
                self.terms.insert(id, Arc::clone(&terms));
                self.topics_due = true;
                self.input(Input::Agreement {
                    id,
                    terms: (*terms).clone(),
                    keys,
                });
                for input in inputs {
                    self.input(input);
                }
            }
            Command::Peers(changes) => {
                let list = self.peers().list(&self.parts.net.local_peer());
                if let Err(error) = self.parts.net.set_peers(&list) {
                    tracing::warn!(%error, "net.peers_not_set");
                }
                self.topics_due = true;
                for change in changes {
                    self.peer_changed(change);
                }
            }
            Command::Taken(id) => self.input(Input::Taken(id)),
            Command::Paid(id, gas) => self.input(Input::Paid { id, gas }),
            Command::Spent(agreement, gas) => self.input(Input::Spent { agreement, gas }),
        }
    }

    fn peers(&self) -> std::sync::MutexGuard<'_, PeerMap> {
        self.parts.peers.lock()
    }

    fn peer_changed(&mut self, change: Change) {
        if let Change::Down(node) = &change {
            self.recall.gone(node);
        }
        self.input(match change {
            Change::Up(node) => Input::PeerUp(node),
            Change::Down(node) => Input::PeerDown(node),
        });
    }

    fn count_frames(&self, source: &str, n: usize) {
        self.parts
            .metrics
            .frames
            .get_or_create(&[("source", source.into())])
            .inc_by(n as u64);
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone says the same.
    drop(stop.wait_for(|stop| *stop).await);
}
