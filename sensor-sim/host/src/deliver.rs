//! Delivery: every frame goes to a node of every user, and is dropped only when all of them have acknowledged it (rule R7).
//!
//! One task signs frames in the order of time, some ahead of the senders. One task for each user sends them, in batches, as fast as
//! acknowledgements allow, to one of the user's nodes; when that one cannot be reached, to the next.

use crate::faults::{Faults, Tampered};
use crate::holdings::Holdings;
use crate::locks::{Keyring, sign_cut};
use crate::network::Network;
use crate::schedule::{Cut, Schedule};
use crate::tally::Tally;
use diversity_client::api::{Acknowledgement, RefusedFrame, codes};
use diversity_client::{Api, ApiError};
use diversity_keys::VerifyingKey;
use diversity_proto::wire::encode_frames;
use diversity_proto::{NodeId, SensorId};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Most frames of a batch.
const BATCH_FRAMES: usize = 1_024;
/// Most bytes of a batch.
const BATCH_BYTES: usize = 192 * 1024;
/// Most signed frames that wait for the slowest user.
const AHEAD_MAX: usize = 16 * 1024;
/// Frames that are signed in one go.
const SIGN_AT_ONCE: usize = 256;
/// First and longest wait after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How long a node may not know a sensor that stands on chain.
const UNKNOWN_SENSOR_FOR: Duration = Duration::from_secs(60);

/// Why a delivery cannot go on. What may pass by itself (a node that is down or busy) is waited for instead.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// A node refuses a frame for good.
    #[error("node {node} refuses a frame of bike {label} at q {q}: {detail} ({code})")]
    Refused {
        /// Which node.
        node: String,
        /// Which bike.
        label: String,
        /// First q of the frame.
        q: u64,
        /// Stable code.
        code: String,
        /// What the node says.
        detail: String,
    },
    /// A node refuses the request.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// An acknowledgement that its node did not sign.
    #[error(
        "the acknowledgement of {node} is not signed by the node of the agreement: do not trust it, and tell its owner"
    )]
    Forged {
        /// Which node.
        node: String,
    },
    /// A node took what it should have refused.
    #[error("node {node} should have refused a bad frame with the code {expected}, and {found}")]
    FaultTaken {
        /// Which node.
        node: String,
        /// Codes that are right.
        expected: String,
        /// What it did.
        found: String,
    },
}

/// Shared by signer and senders.
pub struct Delivery {
    /// What is sent.
    pub schedule: Arc<Schedule>,
    /// Who signs.
    pub keys: Arc<Keyring>,
    /// Where to.
    pub network: Network,
    /// How it fares.
    pub tally: Arc<Tally>,
    /// Times real time; as fast as acknowledgements allow if there is none.
    pub speed: Option<f64>,
    /// What is spoilt on the way.
    pub faults: Faults,
    locks: HashMap<SensorId, usize>,
    holdings: Mutex<Holdings>,
    stream: Mutex<Stream>,
    produced: watch::Sender<usize>,
    consumed: watch::Sender<usize>,
}

/// Signed frames from `base` on; `None` for one that all users hold already.
#[derive(Default)]
struct Stream {
    base: usize,
    frames: VecDeque<Option<Arc<[u8]>>>,
    positions: Vec<usize>,
}

impl Delivery {
    /// Nothing is sent yet.
    pub fn new(
        schedule: Arc<Schedule>,
        keys: Arc<Keyring>,
        network: Network,
        tally: Arc<Tally>,
        speed: Option<f64>,
        faults: Faults,
    ) -> Self {
        let users = network.parties.len();
        let locks = keys.0.iter().map(|k| k.sensor).zip(0..).collect();
        let holdings = Holdings::new(users, keys.0.len());
        Self {
            schedule,
            keys,
            network,
            tally,
            speed,
            faults,
            locks,
            holdings: Mutex::new(holdings),
            stream: Mutex::new(Stream {
                positions: vec![0; users],
                ..Stream::default()
            }),
            produced: watch::Sender::new(0),
            consumed: watch::Sender::new(0),
        }
    }

    /// What is held, copied.
    pub fn holdings(&self) -> Holdings {
        lock(&self.holdings).clone()
    }

    /// What each user still lacks, in words; for a replay that stands still.
    pub fn waiting(&self) -> Vec<String> {
        let holdings = lock(&self.holdings);
        let users = self.network.parties.iter().enumerate();
        users
            .filter_map(|(i, party)| {
                let mut lacked = self.schedule.cuts.iter().filter(|c| !holdings.holds(i, c));
                let first = lacked.next()?;
                let label = &self.schedule.locks[first.lock as usize].label;
                Some(format!(
                    "{} frames for the nodes of user {}, the first of bike {label} at q {}",
                    lacked.count() + 1,
                    party.user,
                    first.first_q
                ))
            })
            .collect()
    }

    /// Sends until nodes of every user hold everything.
    ///
    /// # Errors
    /// [`DeliverError`].
    pub async fn run(self: &Arc<Self>) -> Result<(), DeliverError> {
        self.ask_what_is_held().await?;
        let mut tasks = tokio::task::JoinSet::new();
        let signer = self.clone();
        tasks.spawn(async move {
            signer.sign().await;
            Ok(())
        });
        for user in 0..self.network.parties.len() {
            let sender = self.clone();
            tasks.spawn(async move { sender.send(user).await });
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("no task panics")?;
        }
        Ok(())
    }

    /// What an earlier run delivered is not sent again.
    async fn ask_what_is_held(&self) -> Result<(), DeliverError> {
        let sensors: Vec<_> = self.keys.0.iter().map(|k| k.sensor).collect();
        for (user, party) in self.network.parties.iter().enumerate() {
            for (id, key) in &party.nodes {
                let Some((name, api)) = self.api_of(id) else {
                    continue;
                };
                for chunk in sensors.chunks(diversity_client::api::ACKNOWLEDGED_SENSORS_MAX) {
                    match api.acknowledged(chunk).await {
                        Ok(answer) => self.take_in(user, &name, id, key, &answer)?,
                        // A node that is down says nothing; sending finds out.
                        Err(e) if e.is_transient() || e.is_not_found() => break,
                        Err(e) => return Err(e.into()),
                    };
                }
            }
        }
        Ok(())
    }

    fn api_of(&self, id: &NodeId) -> Option<(String, Api)> {
        let nodes = &self.network.nodes;
        let found = nodes.iter().find(|n| n.id == Some(*id))?;
        Some((found.name.clone(), found.api.clone()))
    }

    /// Checks and counts an acknowledgement.
    fn take_in(
        &self,
        user: usize,
        name: &str,
        id: &NodeId,
        key: &VerifyingKey,
        answer: &Acknowledgement,
    ) -> Result<(), DeliverError> {
        let digest = answer.digest(&self.network.deployment);
        if answer.node != *id || !key.verify(&digest.0, &answer.signature.0) {
            return Err(DeliverError::Forged { node: name.into() });
        }
        let mut holdings = lock(&self.holdings);
        let mut grown = 0;
        for held in &answer.acknowledged {
            if let Some(lock) = self.locks.get(&held.sensor) {
                // A node may hold more than the replay sends, such as the message of a fault.
                let most = self.schedule.locks[*lock].events.len() as u64;
                grown += holdings.acknowledged(user, *lock, held.next_q.min(most));
            }
        }
        if grown > 0 {
            self.tally.acknowledged(holdings.total());
        }
        Ok(())
    }

    /// Signs frames in order, not too far ahead of the slowest user.
    async fn sign(self: Arc<Self>) {
        let started = Instant::now();
        let mut consumed = self.consumed.subscribe();
        let mut at = 0;
        let mut first_due = None;
        while at < self.schedule.cuts.len() {
            while lock(&self.stream).frames.len() >= AHEAD_MAX {
                // The sender lives as long as this.
                let _ = consumed.changed().await;
            }
            let mut end = (at + SIGN_AT_ONCE).min(self.schedule.cuts.len());
            if let Some(speed) = self.speed {
                end = self
                    .wait_until_due(at, end, speed, started, &mut first_due)
                    .await;
            }
            let this = self.clone();
            let signed = tokio::task::spawn_blocking(move || {
                let cuts = &this.schedule.cuts[at..end];
                let lacked: Vec<_> = {
                    let holdings = lock(&this.holdings);
                    cuts.iter().map(|cut| holdings.lacked(cut)).collect()
                };
                cuts.iter()
                    .zip(lacked)
                    .map(|(cut, lacked)| lacked.then(|| this.frame(cut)))
                    .collect::<Vec<_>>()
            });
            let signed = signed.await.expect("signing never panics");
            lock(&self.stream).frames.extend(signed);
            at = end;
            self.produced.send_replace(at);
        }
    }

    fn frame(&self, cut: &Cut) -> Arc<[u8]> {
        sign_cut(&self.keys, &self.network.deployment, &self.schedule, cut).into()
    }

    /// Waits until frame `at` is due, and gives the end of those that are due with it. The first frame that is really sent is due at
    /// once: what an earlier run delivered takes no time.
    async fn wait_until_due(
        &self,
        at: usize,
        end: usize,
        speed: f64,
        started: Instant,
        first_due: &mut Option<u64>,
    ) -> usize {
        let cuts = &self.schedule.cuts;
        if !lock(&self.holdings).lacked(&cuts[at]) {
            return at + 1;
        }
        let origin = *first_due.get_or_insert(cuts[at].time);
        let due = |cut: &Cut| Duration::from_secs_f64((cut.time - origin) as f64 / speed);
        tokio::time::sleep_until((started + due(&cuts[at])).into()).await;
        // Waiting for a device's next message is no standstill.
        self.tally.moved();
        let now = started.elapsed();
        at + 1
            + cuts[at + 1..end]
                .iter()
                .take_while(|c| due(c) <= now)
                .count()
    }

    /// Sends everything to nodes of one user.
    async fn send(self: Arc<Self>, user: usize) -> Result<(), DeliverError> {
        let mut produced = self.produced.subscribe();
        let mut faults = self.faults.clone();
        let started = Instant::now();
        let mut node = 0;
        let mut backoff = BACKOFF.0;
        // Up to here every frame was sent at least once.
        let mut reached = 0;
        loop {
            let available = *produced.borrow_and_update();
            let batch = self.next_batch(user, available);
            if batch.is_empty() {
                if self.position(user) == self.schedule.cuts.len() {
                    return Ok(());
                }
                let _ = produced.changed().await;
                continue;
            }
            let again = batch.iter().filter(|(i, _)| *i < reached).count();
            self.tally.retried(again as u64);
            reached = batch.last().map_or(reached, |(i, _)| reached.max(i + 1));
            let before = self.lacking(user, &batch);
            let nodes = &self.network.parties[user].nodes;
            let sent = self.post(user, node % nodes.len(), &batch, &mut faults, started);
            if !sent.await? {
                node += 1;
            }
            if self.lacking(user, &batch) < before {
                backoff = BACKOFF.0;
            } else {
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF.1);
            }
        }
    }

    fn lacking(&self, user: usize, batch: &[(usize, Arc<[u8]>)]) -> usize {
        let holdings = lock(&self.holdings);
        let cuts = &self.schedule.cuts;
        batch
            .iter()
            .filter(|(i, _)| !holdings.holds(user, &cuts[*i]))
            .count()
    }

    /// Sends one batch to one node. `false` if another node, or the same one later, should be tried.
    async fn post(
        &self,
        user: usize,
        node: usize,
        batch: &[(usize, Arc<[u8]>)],
        faults: &mut Faults,
        started: Instant,
    ) -> Result<bool, DeliverError> {
        let (id, key) = &self.network.parties[user].nodes[node];
        let Some((name, api)) = self.find(id).await else {
            return Ok(false);
        };
        let mut frames: Vec<Vec<u8>> = batch.iter().map(|(_, f)| f.to_vec()).collect();
        let tampered = faults.tamper(&mut frames);
        let encoded = encode_frames(frames.iter().map(Vec::as_slice));
        let answer = match api.send_frames(encoded).await {
            Ok(answer) => answer,
            Err(error) => match error.problem() {
                // Every frame was refused.
                Some(problem) if problem.acknowledgement.is_some() => {
                    let mut answer =
                        (**problem.acknowledgement.as_ref().expect("just seen")).clone();
                    answer.refused = problem.refused.clone();
                    answer
                }
                _ if error.is_transient() => return Ok(false),
                _ => return Err(error.into()),
            },
        };
        self.take_in(user, &name, id, key, &answer)?;
        let refused = bad_frames_were_refused(&name, &tampered, &answer.refused)?;
        for refusal in refused {
            self.judge(&name, refusal, started)?;
        }
        Ok(true)
    }

    /// The API of a node of the agreement; one that was down at the start is asked who it is.
    async fn find(&self, id: &NodeId) -> Option<(String, Api)> {
        if let Some(found) = self.api_of(id) {
            return Some(found);
        }
        for node in self.network.nodes.iter().filter(|n| n.id.is_none()) {
            match node.api.info().await {
                Ok(info) if info.node.node == *id => {
                    return Some((node.name.clone(), node.api.clone()));
                }
                _ => {}
            }
        }
        None
    }

    /// What a refusal means: wait, or give up.
    fn judge(
        &self,
        node: &str,
        refusal: &RefusedFrame,
        started: Instant,
    ) -> Result<(), DeliverError> {
        let passes = match refusal.code.as_str() {
            codes::BUSY | codes::TOO_FAR_AHEAD | codes::UNAVAILABLE | codes::QUOTA => true,
            codes::UNKNOWN_SENSOR => started.elapsed() < UNKNOWN_SENSOR_FOR,
            _ => false,
        };
        if passes {
            return Ok(());
        }
        let index = refusal.sensor.and_then(|s| self.locks.get(&s));
        Err(DeliverError::Refused {
            node: node.into(),
            label: index.map_or("?".into(), |i| self.schedule.locks[*i].label.clone()),
            q: refusal.first_q.unwrap_or(0),
            code: refusal.code.clone(),
            detail: refusal.detail.clone(),
        })
    }

    /// The next frames that this user lacks, and where they stand; drops what all users hold.
    fn next_batch(&self, user: usize, available: usize) -> Vec<(usize, Arc<[u8]>)> {
        let holdings = lock(&self.holdings);
        let mut stream = lock(&self.stream);
        let cuts = &self.schedule.cuts;
        let mut at = stream.positions[user];
        while at < available && holdings.holds(user, &cuts[at]) {
            at += 1;
        }
        stream.positions[user] = at;
        let slowest = stream.positions.iter().copied().min().unwrap_or(0);
        let dropped = slowest - stream.base;
        if dropped > 0 {
            stream.frames.drain(..dropped);
            stream.base = slowest;
            self.consumed.send_replace(slowest);
        }
        let mut batch = Vec::new();
        let mut bytes = 0;
        for (i, cut) in cuts.iter().enumerate().take(available).skip(at) {
            if holdings.holds(user, cut) {
                continue;
            }
            let frame = stream.frames[i - stream.base].as_ref();
            let frame = frame.expect("signed unless all users hold it");
            if batch.len() == BATCH_FRAMES || bytes + frame.len() > BATCH_BYTES {
                break;
            }
            bytes += frame.len();
            batch.push((i, frame.clone()));
        }
        batch
    }

    fn position(&self, user: usize) -> usize {
        lock(&self.stream).positions[user]
    }
}

/// The refusals of good frames, after checking that each bad one was refused as it should be.
fn bad_frames_were_refused<'a>(
    node: &str,
    tampered: &Tampered,
    refused: &'a [RefusedFrame],
) -> Result<Vec<&'a RefusedFrame>, DeliverError> {
    for (index, expected) in &tampered.bad {
        let found = refused.iter().find(|r| r.index == *index);
        let right = found.is_some_and(|r| expected.contains(&r.code.as_str()));
        if !right {
            return Err(DeliverError::FaultTaken {
                node: node.into(),
                expected: expected.join(" or "),
                found: match found {
                    Some(r) => format!("it answered {}", r.code),
                    None => "it took it".into(),
                },
            });
        }
    }
    let bad = |r: &RefusedFrame| tampered.bad.iter().any(|(i, _)| *i == r.index);
    Ok(refused.iter().filter(|r| !bad(r)).collect())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic while locked")
}
