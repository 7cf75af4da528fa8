//! What this node sends to the chain: submissions of the core become calls ([`super::encode`]), calls of the API are relayed, and
//! all of it goes through the durable outbox of `diversity-chain`. While the chain cannot be reached, submissions of the core wait
//! here; the core is told that one is taken once it is durable, and hands it in again until then (R13).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use diversity_chain::contract::MainContract;
use diversity_chain::submitter::{self, Delivered, Journal, JournalError, Report};
use diversity_chain::{Contracts, calls};
use diversity_engine::api::{Submission, SubmissionId};
use diversity_keys::musig::AgreementKey;
use diversity_proto::domain::keccak_raw;
use diversity_proto::terms::Terms;
use diversity_proto::{AgreementId, Deployment, Digest, UserId};
use diversity_store::{Op, Store, Writer};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::node::chain::{Chain, Mined, RelayError, Relayed};
use crate::node::driver::{Command, Outbox};
use crate::node::encode;
use crate::node::registry::outbox_key;
use crate::telemetry::Metrics;

/// Calls of the API that wait for the chain, at most.
const RELAYS_MAX: usize = 1_024;
/// How long a relayed call waits for something else to stand on chain (a user, say), milliseconds.
const RELAY_PATIENCE_MS: u64 = 20_000;
/// How long the chain may be out of reach before whoever waits for a call is told.
const A_MOMENT: Duration = Duration::from_secs(2);

/// An agreement that runs here.
pub struct Known {
    /// The terms.
    pub terms: Arc<Terms>,
    /// Its key.
    pub key: AgreementKey,
}

impl Known {
    /// The key as the contract's calls want it.
    pub fn chain_key(&self) -> calls::AgreementKey {
        calls::AgreementKey {
            agreement: AgreementId(self.key.id),
            aggregate: self.key.aggregate_x,
            y: self.key.y,
        }
    }
}

/// Agreements that run here.
pub type Agreements = Arc<RwLock<BTreeMap<AgreementId, Arc<Known>>>>;

/// The journal of the outbox in the node's store.
pub struct StoreJournal {
    /// Where records are read.
    pub store: Store,
    /// How they are made durable.
    pub writer: Arc<Writer>,
}

impl Journal for StoreJournal {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), JournalError> {
        Ok(self
            .writer
            .write(vec![Op::Put(outbox_key(key), value.to_vec())])?)
    }
    fn delete(&self, key: &[u8]) -> Result<(), JournalError> {
        Ok(self.writer.write(vec![Op::Delete(outbox_key(key))])?)
    }
    fn scan(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, JournalError> {
        let prefix = outbox_key(&[]);
        self.store
            .scan_prefix(&prefix)
            .map(|item| {
                item.map(|(key, value)| (key[prefix.len()..].to_vec(), value))
                    .map_err(Into::into)
            })
            .collect()
    }
}

#[derive(Default)]
struct Queues {
    /// Submissions of the core that are not handed over yet, each once, in the order in which they came.
    order: VecDeque<SubmissionId>,
    submissions: BTreeMap<SubmissionId, Submission>,
    /// Up to which t agreements are final.
    retired: BTreeMap<AgreementId, u64>,
    /// What fits no call, and was said already.
    told: BTreeSet<SubmissionId>,
    /// What of the core the outbox carries, by the outbox's name.
    carried: BTreeMap<Digest, SubmissionId>,
    relays: HashMap<Digest, Vec<oneshot::Sender<Result<Mined, RelayError>>>>,
}

#[allow(clippy::large_enum_variant)]
enum Next {
    Retire(AgreementId, u64),
    Submit(SubmissionId, Submission),
}

impl Queues {
    fn next(&mut self) -> Option<Next> {
        if let Some((a, t)) = self.retired.pop_first() {
            return Some(Next::Retire(a, t));
        }
        let id = self.order.pop_front()?;
        let submission = self.submissions.remove(&id)?;
        Some(Next::Submit(id, submission))
    }
}

/// The side of the outbox that the rest of the node sees.
pub struct ToChain {
    deployment: Deployment,
    contracts: Contracts,
    agreements: Agreements,
    metrics: Arc<Metrics>,
    /// Into the loop, which is told what is taken.
    control: mpsc::Sender<Command>,
    queues: Mutex<Queues>,
    more: Notify,
    /// The outbox itself, once the chain is known.
    outbox: watch::Sender<Option<submitter::Outbox>>,
    /// The contract, once the chain is known.
    main: Mutex<Option<MainContract>>,
}

fn not_reached() -> RelayError {
    RelayError::Unavailable(
        "the chain has not been reached since this node started: check rpc_urls and the chain"
            .into(),
    )
}

impl ToChain {
    /// Before the chain is known.
    pub fn new(
        deployment: Deployment,
        contracts: Contracts,
        agreements: Agreements,
        metrics: Arc<Metrics>,
        control: mpsc::Sender<Command>,
    ) -> Arc<Self> {
        Arc::new(Self {
            deployment,
            contracts,
            agreements,
            metrics,
            control,
            queues: Mutex::default(),
            more: Notify::new(),
            outbox: watch::Sender::new(None),
            main: Mutex::default(),
        })
    }

    /// The chain is known.
    pub fn open(&self, outbox: submitter::Outbox, main: MainContract) {
        *self.main.lock().unwrap_or_else(PoisonError::into_inner) = Some(main);
        self.outbox.send_replace(Some(outbox));
    }

    /// Lets go of the outbox, which ends then; what is in it goes on after the next start.
    pub fn close(&self) {
        self.outbox.send_replace(None);
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands submissions of the core to the outbox as they come.
    pub async fn forward(self: Arc<Self>) {
        let mut opened = self.outbox.subscribe();
        let Ok(outbox) = opened
            .wait_for(Option::is_some)
            .await
            .map(|o| o.clone().expect("waited for"))
        else {
            return;
        };
        loop {
            let next = self.queues().next();
            match next {
                None => self.more.notified().await,
                Some(Next::Retire(a, t)) => {
                    if let Err(error) = outbox.retire(a, t).await {
                        tracing::error!(%error, "chain.not_retired");
                    }
                }
                Some(Next::Submit(id, submission)) => self.hand_over(&outbox, id, submission).await,
            }
        }
    }

    async fn hand_over(
        &self,
        outbox: &submitter::Outbox,
        id: SubmissionId,
        submission: Submission,
    ) {
        let call = match self.encode(&id, &submission) {
            Ok(call) => call,
            // It stays owed: the core hands it in again, and whoever looks is told why nothing comes of it.
            Err(reason) => return self.not_encoded(id, &reason).await,
        };
        let (label, name) = (call.label.clone(), call.id);
        self.queues().carried.insert(name, id);
        match outbox.submit(call).await {
            Ok(()) => {
                self.metrics.submissions("taken");
                // The loop has ended when nobody listens, and then it is owed after the next start.
                let _ = self.control.send(Command::Taken(id)).await;
            }
            Err(error) => {
                self.metrics.submissions("not_taken");
                tracing::error!(label, %error, "chain.not_taken");
                self.queues().carried.remove(&name);
                self.never_left(id).await;
            }
        }
    }

    async fn not_encoded(&self, id: SubmissionId, reason: &str) {
        self.metrics.submissions("not_encoded");
        if self.queues().told.insert(id) {
            tracing::error!(id = ?id, reason, "chain.not_encoded");
        }
        self.never_left(id).await;
    }

    /// It costs nothing, so its estimate does not count.
    async fn never_left(&self, id: SubmissionId) {
        let _ = self.control.send(Command::Paid(id, 0)).await;
    }

    fn encode(
        &self,
        id: &SubmissionId,
        submission: &Submission,
    ) -> Result<submitter::Submission, String> {
        let agreement = match submission {
            Submission::Settle { agreement, .. }
            | Submission::Hole { agreement, .. }
            | Submission::Misbehaviour { agreement, .. } => Some(*agreement),
            Submission::Reading { outcome, .. } => Some(outcome.agreement),
            Submission::Contradiction { .. } => None,
        };
        let known = agreement.and_then(|a| {
            let agreements = self.agreements.read();
            agreements
                .unwrap_or_else(PoisonError::into_inner)
                .get(&a)
                .cloned()
        });
        encode::submission(
            &self.deployment,
            &self.contracts,
            known.as_deref(),
            id,
            submission,
        )
    }

    fn call(&self, call: Relayed) -> submitter::Submission {
        let mut label = call.label;
        let mut end = label.len().min(submitter::LABEL_BYTES_MAX);
        while !label.is_char_boundary(end) {
            end -= 1;
        }
        label.truncate(end);
        let to = if call.to_cells {
            self.contracts.cells
        } else {
            self.contracts.main
        };
        // The same call is the same submission, whoever asks for it and however often.
        let id = Digest(keccak_raw(&[&to.0[..], &call.data].concat()));
        submitter::Submission {
            id,
            label,
            to: Some(to),
            data: call.data,
            patience_ms: Some(RELAY_PATIENCE_MS),
            goal: call.goal,
            row: None,
        }
    }

    /// Deals with a report of the outbox. Returns what the loop is to be told of a submission of the core that has ended: what it cost
    /// counts towards what its agreement may cost in a day, also where an earlier run handed it in.
    pub fn report(&self, delivered: &Delivered) -> Option<Command> {
        let (waiting, carried) = {
            let mut queues = self.queues();
            let waiting = queues.relays.remove(&delivered.id).unwrap_or_default();
            (waiting, queues.carried.remove(&delivered.id))
        };
        let gas = delivered.gas;
        let ended = match (carried, delivered.owed_for) {
            (Some(id), _) => Some(Command::Paid(id, gas)),
            (None, Some(a)) => (gas > 0).then_some(Command::Spent(a, gas)),
            (None, None) => None,
        };
        if ended.is_some() {
            self.metrics.gas_paid.inc_by(gas);
        }
        let answer = match &delivered.report {
            Report::Mined {
                tx,
                block,
                gas_used,
                ..
            } => {
                self.metrics.submissions("mined");
                tracing::info!(tx = %tx, block, gas_used, "chain.mined");
                Ok(Mined {
                    tx: *tx,
                    block: *block,
                })
            }
            Report::Reverted { name, words, .. } => {
                self.metrics.submissions("reverted");
                if waiting.is_empty() {
                    tracing::error!(id = %delivered.id, name, words, "chain.reverted");
                }
                Err(RelayError::Reverted {
                    name: name.clone(),
                    words: words.clone(),
                })
            }
            Report::Pointless { reason } => {
                self.metrics.submissions("pointless");
                tracing::debug!(id = %delivered.id, reason, "chain.pointless");
                Err(RelayError::Pointless(reason.clone()))
            }
            Report::Undone { reason } => {
                self.metrics.submissions("undone");
                tracing::error!(id = %delivered.id, reason, "chain.undone");
                Err(RelayError::Unavailable(reason.clone()))
            }
        };
        for one in waiting {
            // A caller that has gone away asks again.
            let _ = one.send(answer.clone());
        }
        ended
    }
}

impl Outbox for ToChain {
    fn submit(&self, id: SubmissionId, submission: Submission) {
        let mut queues = self.queues();
        // The core hands in again what is not taken; the newest counts, in the place of the first.
        if queues.submissions.insert(id, submission).is_none() {
            queues.order.push_back(id);
        }
        self.more.notify_one();
    }

    fn retire(&self, agreement: AgreementId, t: u64) -> Vec<SubmissionId> {
        let mut queues = self.queues();
        let over = |id: &SubmissionId| match id {
            SubmissionId::Settle(a, _, _, last, _) => *a == agreement && *last <= t,
            SubmissionId::Hole(a, _, at) => *a == agreement && *at <= t,
            _ => false,
        };
        queues.order.retain(|id| !over(id));
        let dropped = queues.submissions.extract_if(.., |id, _| over(id));
        let mut dropped: Vec<_> = dropped.map(|(id, _)| id).collect();
        // One that was handed in again is on its way all the same.
        dropped.retain(|id| !queues.carried.values().any(|carried| carried == id));
        queues.told.retain(|id| !over(id));
        let last = queues.retired.entry(agreement).or_default();
        *last = t.max(*last);
        self.more.notify_one();
        dropped
    }
}

impl Chain for ToChain {
    fn relay(&self, call: Relayed) -> BoxFuture<'static, Result<Mined, RelayError>> {
        let submission = self.call(call);
        let Some(outbox) = self.outbox.borrow().clone() else {
            return futures::future::ready(Err(not_reached())).boxed();
        };
        let (sender, answer) = oneshot::channel();
        {
            let mut queues = self.queues();
            queues.relays.retain(|_, waiting| {
                waiting.retain(|w| !w.is_closed());
                !waiting.is_empty()
            });
            if queues.relays.len() >= RELAYS_MAX {
                let reason = "too many calls wait for the chain already".into();
                return futures::future::ready(Err(RelayError::Unavailable(reason))).boxed();
            }
            queues.relays.entry(submission.id).or_default().push(sender);
        }
        async move {
            let (id, label) = (submission.id, submission.label.clone());
            let status = outbox.watch();
            outbox
                .submit(submission)
                .await
                .map_err(|e| RelayError::Unavailable(e.to_string()))?;
            tokio::select! {
                biased;
                answer = answer => answer.unwrap_or_else(|_| {
                    Err(RelayError::Unavailable("the node is shutting down".into()))
                }),
                // It is kept and goes on, but whoever asked is told at once that it makes no way.
                why = stuck(status.clone(), id) => Err(RelayError::Unavailable(why)),
                why = out_of_reach(status) => Err(RelayError::Unavailable(format!(
                    "\"{label}\" is kept and goes to the chain as soon as that can be reached; now it cannot: {why}"
                ))),
            }
        }
        .boxed()
    }

    fn registered(&self, user: UserId) -> BoxFuture<'static, Result<u64, RelayError>> {
        let main = self.main.lock().unwrap_or_else(PoisonError::into_inner);
        let main = main.clone();
        async move {
            let main = main.ok_or_else(not_reached)?;
            let found = main.user(&user).await;
            let found = found.map_err(|e| RelayError::Unavailable(e.to_string()))?;
            Ok(found.unwrap_or(0))
        }
        .boxed()
    }
}

/// Waits until a submission makes no way unless somebody does something; why, and what.
async fn stuck(mut status: watch::Receiver<submitter::Status>, id: Digest) -> String {
    let is_it = |s: &submitter::Status| s.waiting.iter().any(|w| w.id == id && w.stuck);
    let found = match status.wait_for(is_it).await {
        Ok(found) => found
            .waiting
            .iter()
            .find(|w| w.id == id)
            .map(|w| w.why.clone()),
        Err(_) => None,
    };
    match found {
        Some(why) => why,
        // The outbox has ended; the other side hears of it.
        None => std::future::pending().await,
    }
}

/// Waits until the chain has been out of reach for longer than a moment; what is wrong.
async fn out_of_reach(mut status: watch::Receiver<submitter::Status>) -> String {
    loop {
        let found = match status.wait_for(|s| s.trouble.is_some()).await {
            Ok(found) => found.trouble.clone(),
            Err(_) => None,
        };
        let Some(why) = found else {
            // The outbox has ended; the other side hears of it.
            return std::future::pending().await;
        };
        let over = status.wait_for(|s| s.trouble.is_none());
        if tokio::time::timeout(A_MOMENT, over).await.is_err() {
            return why;
        }
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
