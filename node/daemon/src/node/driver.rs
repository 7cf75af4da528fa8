//! The loop around the core (design §5): one task owns it, feeds it what happened, and carries out what it wants.
//! It decides nothing. All effects of a step are under way before the next input is taken.
//!
//! Answers to effects come first, then round messages and the chain, then the API; nothing from outside is taken while more
//! than [`OUTSTANDING_MAX`] effects are unanswered. So every queue is bounded by what one step can ask for, and a flood of
//! messages waits at the API instead of delaying a round.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use diversity_engine::api::{
    Effect, FrameRef, IngestAnswer, Input, Job, Notice, Source, Submission, Ticket,
};
use diversity_engine::{AgreementStatus, Node};
use diversity_keys::musig::{AgreementKey, verify_bip340};
use diversity_net::{NetEvent, NetHandle, Peer, Verdict};
use diversity_proto::terms::Terms;
use diversity_proto::wire::{
    FRAME_BATCH_BYTES_MAX, Part, Range, decode_envelope, decode_ranges, encode_envelope,
    encode_frames, encode_ranges, split_frames,
};
use diversity_proto::{AgreementId, Digest, NodeId, PublicKey, SensorId};
use diversity_store::{Op, StoreError, Writer};
use tokio::sync::{mpsc, oneshot, watch};

use crate::node::evidence::contradiction;
use crate::node::execute::{self, CutError, Frames};
use crate::node::modules::Modules;
use crate::node::peers::{Change, PeerMap};
use crate::node::signer::{SignError, Signer, aggregate};
use crate::node::workers::{Priority, Verifier, Workers};
use crate::runner::Runner;
use crate::telemetry::Metrics;

/// Unanswered effects above which nothing new is taken from outside.
pub const OUTSTANDING_MAX: usize = 4_096;
/// Answers that wait for the core. Above [`OUTSTANDING_MAX`] by what steps may add to it.
const ANSWERS_MAX: usize = 65_536;
/// Gossip batches whose verdict waits for signature checks.
const GOSSIP_JUDGED_MAX: usize = 1_024;
/// How long a shutdown waits for effects under way.
const DRAIN: Duration = Duration::from_secs(10);

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
        reply: oneshot::Sender<Vec<Option<(u32, u64, Option<u64>)>>>,
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
    /// The map of peers has changed: tell the core and the transport.
    Peers(Vec<Change>),
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
    /// Keeps the submission durably and submits it until it is mined or pointless.
    fn submit(&self, agreement: AgreementId, submission: Submission);
    /// Forgets submissions of this range.
    fn retire(&self, agreement: AgreementId, from: u64, t: u64);
    /// Keeps and submits evidence that a sensor contradicted itself; a repeat is fine.
    fn contradiction(&self, sensor: SensorId, q: u64, first: Vec<u8>, second: Vec<u8>);
}

/// Terms that travel between nodes; they are the daemon's business, not the core's.
#[derive(Debug)]
pub struct TermsPart {
    /// Who sent them.
    pub from: NodeId,
    /// Which agreement.
    pub agreement: AgreementId,
    /// Encoded terms; empty to ask for them.
    pub terms: Vec<u8>,
}

enum Answer {
    Input(Input),
    Frames {
        job: Job,
        digests: Vec<Option<Digest>>,
    },
    Persisted {
        job: Option<Job>,
        result: Result<(), StoreError>,
        since: Instant,
    },
    Done,
    Failed(DriverError),
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
    /// Stored frames.
    pub frames: Arc<Frames>,
    /// Modules.
    pub modules: Arc<Modules>,
    /// Who runs `f`.
    pub runner: Arc<dyn Runner>,
    /// Makes things durable.
    pub writer: Arc<Writer>,
    /// Reads single records.
    pub store: diversity_store::Store,
    /// The transport.
    pub net: NetHandle,
    /// What the transport says.
    pub net_events: mpsc::Receiver<NetEvent>,
    /// Who is who.
    pub peers: Arc<Mutex<PeerMap>>,
    /// The chain's side.
    pub outbox: Arc<dyn Outbox>,
    /// Terms from and for peers.
    pub terms_parts: mpsc::Sender<TermsPart>,
    /// Numbers.
    pub metrics: Arc<Metrics>,
    /// Told every notice.
    pub notices: Arc<dyn Fn(&Notice) + Send + Sync>,
    /// Agreements that the core has recovered.
    pub known: Vec<Activation>,
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
    backlog: VecDeque<(Vec<Op>, Option<Job>, Option<oneshot::Sender<()>>)>,
    next_request: u64,
    /// Set while the frames of a gossip batch are taken, so that their verdict is that of the checks they cause.
    judging: Option<([u8; 32], Peer)>,
    /// Set while the daemon itself asks where frames are.
    finding: Option<oneshot::Sender<Vec<FrameRef>>>,
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
            next_request: 1,
            judging: None,
            finding: None,
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
            let open = driver.outstanding < OUTSTANDING_MAX && driver.backlog.is_empty();
            let wait = driver
                .parts
                .core
                .deadline()
                .map(|at| Duration::from_millis(at.saturating_sub(unix_ms())));
            tokio::select! {
                biased;
                answer = answered.recv() => {
                    driver.answer(answer.ok_or(DriverError::Broken("the loop lost its answers"))?);
                }
                () = stopped(&mut stop) => return driver.drain(&mut answered).await,
                // A zero wait would starve what follows if the core kept asking for now; one tick each turn is enough.
                () = tokio::time::sleep(wait.unwrap_or(Duration::from_secs(3600)).max(Duration::from_millis(1))),
                    if wait.is_some() => driver.input(Input::Tick),
                Some(command) = inbox.control.recv(), if open => driver.command(command),
                event = driver.parts.net_events.recv(), if open => match event {
                    Some(event) => driver.net(event),
                    None => return Err(DriverError::Broken("the transport ended by itself")),
                },
                Some(command) = inbox.api.recv(), if open => driver.command(command),
            }
        }
    }

    /// Takes answers until nothing is under way, so that whoever was promised something gets it.
    async fn drain(mut self, answered: &mut mpsc::Receiver<Answer>) -> Result<(), DriverError> {
        let end = tokio::time::Instant::now() + DRAIN;
        while self.outstanding > 0 && self.failed.is_none() {
            match tokio::time::timeout_at(end, answered.recv()).await {
                Ok(Some(answer)) => self.answer(answer),
                _ => {
                    tracing::warn!(outstanding = self.outstanding, "shutdown.gave_up_waiting");
                    break;
                }
            }
        }
        self.failed.map_or(Ok(()), Err)
    }

    // ---- inputs

    fn input(&mut self, input: Input) {
        let started = Instant::now();
        self.ready.push_back(input);
        while let Some(input) = self.ready.pop_front() {
            for effect in self.parts.core.step(unix_ms(), input) {
                self.effect(effect);
            }
        }
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
                if let Some((message, from)) = self.judged.remove(&job) {
                    let good = digests.iter().all(Option::is_some);
                    self.verdict(
                        message,
                        from,
                        if good {
                            Verdict::Accept
                        } else {
                            Verdict::Reject
                        },
                    );
                }
                self.input(Input::FramesVerified { job, digests });
            }
            Answer::Persisted { job, result, since } => {
                self.parts
                    .metrics
                    .persist_seconds
                    .observe(since.elapsed().as_secs_f64());
                match (result, job) {
                    (Ok(()), Some(job)) => self.input(Input::Persisted { job }),
                    (Ok(()), None) => {}
                    (Err(error), _) => self.failed = Some(error.into()),
                }
                self.retry_backlog();
            }
            Answer::Done => {}
            Answer::Failed(error) => self.failed = Some(error),
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Ingest { frames, reply } => {
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                self.tickets.insert(ticket, reply);
                self.count_frames("api", frames.len());
                self.input(Input::Frames {
                    source: Source::Api(ticket),
                    frames,
                });
            }
            // Whoever asked may be gone by now; nobody misses the answer then.
            Command::Held { sensors, reply } => {
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
            Command::Chain { inputs, ops, done } => {
                for input in inputs {
                    self.input(input);
                }
                self.persist(ops, None, Some(done));
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
                for change in changes {
                    self.peer_changed(change);
                }
            }
        }
    }

    fn peers(&self) -> std::sync::MutexGuard<'_, PeerMap> {
        self.parts
            .peers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn peer_changed(&mut self, change: Change) {
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

    // ---- transport

    fn net(&mut self, event: NetEvent) {
        match event {
            NetEvent::Connected { peer } => {
                let change = self.peers().up(peer);
                tracing::info!(peer = %peer_text(&peer), "peer.connected");
                self.connections();
                if let Some(change) = change {
                    self.peer_changed(change);
                }
            }
            NetEvent::Disconnected { peer } => {
                let change = self.peers().down(peer);
                tracing::info!(peer = %peer_text(&peer), "peer.disconnected");
                self.connections();
                if let Some(change) = change {
                    self.peer_changed(change);
                }
            }
            NetEvent::Gossip {
                from,
                message_id,
                bytes,
            } => self.gossip(from, message_id, &bytes),
            NetEvent::Direct { from, bytes } => self.direct(from, &bytes),
            NetEvent::Request { from, token, bytes } => {
                let node = self.peers().node(&from);
                match (node, decode_ranges(&bytes)) {
                    (Some(from), Ok(ranges)) => self.input(Input::RepairRequest {
                        token,
                        from,
                        ranges,
                    }),
                    (_, Err(error)) => {
                        tracing::warn!(peer = %peer_text(&from), %error, "peer.malformed_request")
                    }
                    (None, _) => {}
                }
            }
            NetEvent::Response { peer, result, .. } => {
                let (Some(node), Ok(bytes)) = (self.peers().node(&peer), result) else {
                    return;
                };
                match split_frames(&bytes, FRAME_BATCH_BYTES_MAX) {
                    Ok(frames) if !frames.is_empty() => {
                        self.count_frames("repair", frames.len());
                        let frames = frames.into_iter().map(<[u8]>::to_vec).collect();
                        self.input(Input::Frames {
                            source: Source::Peer(node),
                            frames,
                        });
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(peer = %peer_text(&peer), %error, "peer.malformed_response")
                    }
                }
            }
            NetEvent::Undelivered { messages, .. } => {
                self.parts.metrics.undelivered.inc_by(messages as u64);
            }
            NetEvent::Subscribed { peer } => {
                tracing::debug!(peer = %peer_text(&peer), "peer.subscribed")
            }
            NetEvent::Listening { address } => tracing::info!(address, "net.listening"),
            NetEvent::Refused { peer } => tracing::warn!(peer = %peer_text(&peer), "peer.refused"),
            NetEvent::Incompatible { peer, version } => {
                tracing::warn!(peer = %peer_text(&peer), version, "peer.incompatible");
            }
        }
    }

    fn connections(&self) {
        self.parts
            .metrics
            .peers
            .set(self.peers().connections() as i64);
    }

    fn gossip(&mut self, from: Peer, message: [u8; 32], bytes: &[u8]) {
        let frames = match split_frames(bytes, FRAME_BATCH_BYTES_MAX) {
            Ok(frames) => frames,
            Err(error) => {
                tracing::warn!(peer = %peer_text(&from), %error, "peer.malformed_gossip");
                return self.verdict(message, from, Verdict::Reject);
            }
        };
        let Some(node) = self.peers().node(&from) else {
            return self.verdict(message, from, Verdict::Ignore);
        };
        self.count_frames("gossip", frames.len());
        let frames = frames.into_iter().map(<[u8]>::to_vec).collect();
        self.judging = Some((message, from));
        self.input(Input::Frames {
            source: Source::Peer(node),
            frames,
        });
        if self.judging.take().is_some() {
            // Nothing in it was new here: whoever lacks it asks for it.
            self.verdict(message, from, Verdict::Ignore);
        }
    }

    fn verdict(&self, message: [u8; 32], from: Peer, verdict: Verdict) {
        if let Err(error) = self.parts.net.validate(message, from, verdict) {
            tracing::debug!(%error, "net.verdict_dropped");
        }
    }

    fn direct(&mut self, peer: Peer, bytes: &[u8]) {
        let Some(from) = self.peers().node(&peer) else {
            return;
        };
        let parts = match decode_envelope(bytes) {
            Ok(parts) => parts,
            Err(error) => {
                self.parts.metrics.faults.inc();
                return tracing::warn!(node = %from, %error, "peer.malformed_message");
            }
        };
        let (terms, parts): (Vec<_>, Vec<_>) = parts
            .into_iter()
            .partition(|p| matches!(p, Part::Terms { .. }));
        for part in terms {
            if let Part::Terms { agreement, terms } = part {
                // Whoever lacks terms asks again.
                let _ = self.parts.terms_parts.try_send(TermsPart {
                    from,
                    agreement,
                    terms,
                });
            }
        }
        if !parts.is_empty() {
            self.input(Input::Message { from, parts });
        }
    }

    // ---- effects

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::VerifyFrames { job, frames } => {
                if let Some(gossip) = self
                    .judging
                    .take()
                    .filter(|_| self.judged.len() < GOSSIP_JUDGED_MAX)
                {
                    self.judged.insert(job, gossip);
                }
                let answers = self.promise();
                self.parts
                    .verifier
                    .frames(&self.parts.workers, frames, move |digests| {
                        answer(&answers, Answer::Frames { job, digests });
                    });
            }
            Effect::VerifySignatures { job, checks } => {
                let answers = self.promise();
                self.parts
                    .verifier
                    .signatures(&self.parts.workers, checks, move |good| {
                        answer(
                            &answers,
                            Answer::Input(Input::SignaturesVerified { job, good }),
                        );
                    });
            }
            Effect::Persist { job, ops } => {
                self.persist(ops.into_iter().map(op).collect(), Some(job), None)
            }
            Effect::Execute(plan) => self.execute(*plan),
            Effect::Commit {
                agreement,
                subject,
                computed,
            } => {
                let c = self.parts.signer.commit(&subject, &computed);
                let (secret, salt, commit) = (c.secret, c.salt, c.commit);
                self.ready.push_back(Input::Committed {
                    agreement,
                    t: subject.t,
                    secret,
                    salt,
                    commit,
                });
            }
            Effect::Sign { job, digest } => {
                let signature = self.parts.signer.sign(&digest);
                self.ready.push_back(Input::Signed { job, signature });
            }
            Effect::MusigNonce { session } => match self.parts.signer.nonce(session) {
                Ok(nonce) => self.ready.push_back(Input::MusigNonce { session, nonce }),
                Err(error) => self.failed = Some(error.into()),
            },
            Effect::MusigSign {
                session,
                nonces,
                digest,
            } => {
                let partial = self.parts.signer.partial(session, &nonces, &digest);
                self.ready
                    .push_back(Input::MusigSigned { session, partial });
            }
            Effect::MusigAggregate {
                session,
                nonces,
                partials,
                digest,
            } => {
                let Some(key) = self.parts.signer.key(&session.agreement).cloned() else {
                    self.failed = Some(SignError::Agreement(session.agreement).into());
                    return;
                };
                let answers = self.promise();
                self.parts.workers.submit(Priority::Urgent, move || {
                    let result = aggregate(&key, &nonces, &partials, &digest);
                    answer(
                        &answers,
                        Answer::Input(Input::MusigAggregated { session, result }),
                    );
                });
            }
            Effect::VerifyAggregate {
                session,
                digest,
                signature,
            } => {
                let answers = self.promise();
                self.parts.workers.submit(Priority::Urgent, move || {
                    let good = verify_bip340(&session.agreement.0, &digest.0, &signature.0);
                    answer(
                        &answers,
                        Answer::Input(Input::AggregateVerified {
                            session,
                            signature,
                            good,
                        }),
                    );
                });
            }
            Effect::Send { to, parts } => self.send(to, &parts),
            Effect::SendStored { to, key } => self.send_stored(to, key),
            Effect::Gossip { frames } => {
                let bytes = encode_frames(frames.iter().map(|f| &f[..]));
                if let Err(error) = self.parts.net.publish(bytes) {
                    tracing::debug!(%error, "net.gossip_dropped");
                }
            }
            Effect::RequestFrames { to, ranges } => {
                let id = self.next_request;
                self.next_request += 1;
                if let Some(peer) = self.peers().peer(&to)
                    && let Err(error) = self.parts.net.request(peer, id, encode_ranges(&ranges))
                {
                    tracing::debug!(%error, "net.request_dropped");
                }
            }
            Effect::ServeFrames { token, frames } => match self.finding.take() {
                // The asker may be gone; it needs no answer then.
                Some(reply) => drop(reply.send(frames)),
                None => self.serve(token, frames),
            },
            Effect::CompareFrames {
                sensor,
                stored,
                offered,
            } => {
                let (frames, outbox) = (
                    Arc::clone(&self.parts.frames),
                    Arc::clone(&self.parts.outbox),
                );
                self.job(move || {
                    let stored = frames.encoded(stored)?;
                    if let Some(q) = contradiction(&stored, &offered) {
                        outbox.contradiction(sensor, q, stored, offered.to_vec());
                    }
                    Ok(())
                });
            }
            Effect::Answer { ticket, answer } => {
                if let Some(reply) = self.tickets.remove(&ticket) {
                    // A caller that has gone away is told nothing; its frames are durable all the same.
                    let _ = reply.send(answer);
                }
            }
            Effect::Submit {
                agreement,
                submission,
            } => self.parts.outbox.submit(agreement, submission),
            Effect::Retire { agreement, from, t } => self.parts.outbox.retire(agreement, from, t),
            Effect::Notice(notice) => {
                self.parts.metrics.notice(&notice);
                (self.parts.notices)(&notice);
            }
        }
    }

    /// One more answer is due.
    fn promise(&mut self) -> mpsc::Sender<Answer> {
        self.outstanding += 1;
        self.answers.clone()
    }

    /// Bulk work on the pool; what it fails with ends the node.
    fn job(&mut self, work: impl FnOnce() -> Result<(), DriverError> + Send + 'static) {
        let answers = self.promise();
        self.parts.workers.submit(Priority::Bulk, move || {
            answer(
                &answers,
                work().map_or_else(Answer::Failed, |()| Answer::Done),
            );
        });
    }

    fn persist(&mut self, ops: Vec<Op>, job: Option<Job>, done: Option<oneshot::Sender<()>>) {
        self.backlog.push_back((ops, job, done));
        self.retry_backlog();
    }

    /// Hands writes to the store in their order, for as long as it takes them.
    fn retry_backlog(&mut self) {
        while let Some((ops, job, done)) = self.backlog.pop_front() {
            let answers = self.promise();
            let since = Instant::now();
            // The callback is lost with the attempt when the queue is full, so the sender of `done` is shared.
            let done = Arc::new(Mutex::new(done));
            let told = Arc::clone(&done);
            let written = self.parts.writer.try_submit(
                ops,
                Box::new(move |result| {
                    let done = told.lock().unwrap_or_else(PoisonError::into_inner).take();
                    if let (Ok(()), Some(done)) = (&result, done) {
                        let _ = done.send(());
                    }
                    answer(&answers, Answer::Persisted { job, result, since });
                }),
            );
            if let Err(full) = written {
                self.outstanding -= 1;
                let done = done.lock().unwrap_or_else(PoisonError::into_inner).take();
                self.backlog.push_front((full.ops, job, done));
                return;
            }
        }
    }

    fn execute(&mut self, plan: diversity_engine::api::ExecutionPlan) {
        let Some(terms) = self.terms.get(&plan.agreement).cloned() else {
            self.failed = Some(DriverError::Broken(
                "the core runs an agreement whose terms the loop has not got",
            ));
            return;
        };
        let (frames, runner) = (
            Arc::clone(&self.parts.frames),
            Arc::clone(&self.parts.runner),
        );
        let (modules, metrics) = (
            Arc::clone(&self.parts.modules),
            Arc::clone(&self.parts.metrics),
        );
        let answers = self.promise();
        self.parts.workers.submit(Priority::Urgent, move || {
            let started = Instant::now();
            let done = execute::cut(&frames, &plan).map(|window| {
                execute::execute(&*runner, &modules, &terms, &plan, &window, |s| {
                    metrics.run_seconds.observe(s)
                })
            });
            metrics
                .execute_seconds
                .observe(started.elapsed().as_secs_f64());
            answer(
                &answers,
                match done {
                    Ok(execution) => Answer::Input(Input::Executed {
                        agreement: plan.agreement,
                        t: plan.t,
                        execution,
                    }),
                    Err(error) => Answer::Failed(error.into()),
                },
            );
        });
    }

    fn send(&self, to: NodeId, parts: &[Part]) {
        let Some(peer) = self.peers().peer(&to) else {
            return;
        };
        for bytes in envelopes(parts) {
            if let Err(error) = self.parts.net.send(peer, bytes) {
                tracing::debug!(node = %to, %error, "net.message_dropped");
            }
        }
    }

    fn send_stored(&mut self, to: NodeId, key: Vec<u8>) {
        let Some(peer) = self.peers().peer(&to) else {
            return;
        };
        let (store, net) = (self.parts.store.clone(), self.parts.net.clone());
        self.job(move || {
            // The record is an envelope already (records::put_part).
            if let Some(bytes) = store.get(&key)?
                && let Err(error) = net.send(peer, bytes)
            {
                tracing::debug!(node = %to, %error, "net.message_dropped");
            }
            Ok(())
        });
    }

    fn serve(&mut self, token: u64, wanted: Vec<FrameRef>) {
        let (frames, net) = (Arc::clone(&self.parts.frames), self.parts.net.clone());
        self.job(move || {
            let mut found: Vec<Vec<u8>> = Vec::new();
            let mut bytes = 5;
            for at in wanted.into_iter().take(diversity_proto::wire::FRAMES_MAX) {
                let frame = frames.encoded(at)?;
                bytes += 4 + frame.len();
                if bytes > FRAME_BATCH_BYTES_MAX {
                    break;
                }
                found.push(frame);
            }
            if let Err(error) = net.respond(token, encode_frames(found.iter().map(|f| &f[..]))) {
                tracing::debug!(%error, "net.answer_dropped");
            }
            Ok(())
        });
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone says the same.
    drop(stop.wait_for(|stop| *stop).await);
}

/// Blocks the worker while the core is behind; the core never waits for workers, so this ends.
fn answer(answers: &mpsc::Sender<Answer>, answer: Answer) {
    // The store's writer refuses a batch on the loop's own thread, which must not block; there is always room then.
    if let Err(mpsc::error::TrySendError::Full(answer)) = answers.try_send(answer) {
        // The loop has ended when nobody listens, and then nothing depends on the answer.
        let _ = answers.blocking_send(answer);
    }
}

fn op(op: diversity_engine::api::Op) -> Op {
    match op {
        diversity_engine::api::Op::Put { key, value } => Op::Put(key, value),
        diversity_engine::api::Op::Delete { key } => Op::Delete(key),
    }
}

/// Envelopes of these parts, in order, each within the bound of a direct message.
fn envelopes(parts: &[Part]) -> Vec<Vec<u8>> {
    let bytes = encode_envelope(parts);
    if parts.len() > 1
        && (bytes.len() > diversity_proto::wire::ENVELOPE_BYTES_MAX
            || parts.len() > diversity_proto::wire::PARTS_MAX)
    {
        let (first, second) = parts.split_at(parts.len() / 2);
        let mut out = envelopes(first);
        out.extend(envelopes(second));
        return out;
    }
    vec![bytes]
}

fn peer_text(peer: &Peer) -> String {
    diversity_net::peer_to_text(peer).unwrap_or_else(|_| "not a key".into())
}
