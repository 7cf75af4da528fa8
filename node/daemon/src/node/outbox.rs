//! What this node sends to the chain: submissions of the core become calldata, calls of the API are relayed, and all of it goes
//! through the durable outbox of `diversity-chain`. While the chain cannot be reached, submissions of the core wait here; the
//! core hands them in again after a restart.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use diversity_chain::calls::{self, AggregateSignature, Case};
use diversity_chain::submitter::{self, Delivered, Journal, JournalError, Report};
use diversity_engine::api::{Evidence, Settlement, Submission};
use diversity_keys::musig::{AgreementKey, nonce_y};
use diversity_proto::domain::keccak_raw;
use diversity_proto::frame::Frame;
use diversity_proto::round::{Computed, OutputKind, Reveal};
use diversity_proto::terms::Terms;
use diversity_proto::{AgreementId, Deployment, Digest, SensorId};
use diversity_store::{Op, Store, Writer};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{Notify, oneshot, watch};

use crate::node::chain::{Chain, Mined, RelayError};
use crate::node::driver::Outbox;
use crate::node::registry::{contradiction_key, outbox_key};

/// Calls of the API that wait for the chain, at most.
const RELAYS_MAX: usize = 1_024;
/// How long a relayed call waits for something else to stand on chain (a user, say), milliseconds.
const RELAY_PATIENCE_MS: u64 = 20_000;

/// An agreement that runs here.
pub struct Known {
    /// The terms.
    pub terms: Arc<Terms>,
    /// Its key.
    pub key: AgreementKey,
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

enum Wanted {
    Submission(AgreementId, Box<Submission>),
    Contradiction {
        sensor: SensorId,
        q: u64,
        first: Vec<u8>,
        second: Vec<u8>,
    },
}

#[derive(Default)]
struct Queues {
    wanted: VecDeque<Wanted>,
    relays: HashMap<Digest, Vec<oneshot::Sender<Result<Mined, RelayError>>>>,
}

/// The side of the outbox that the rest of the node sees.
pub struct ToChain {
    deployment: Deployment,
    store: Store,
    writer: Arc<Writer>,
    agreements: Agreements,
    queues: Mutex<Queues>,
    more: Notify,
    /// The outbox itself, once the chain is known.
    outbox: watch::Sender<Option<submitter::Outbox>>,
}

impl ToChain {
    /// Before the chain is known.
    pub fn new(
        deployment: Deployment,
        store: Store,
        writer: Arc<Writer>,
        agreements: Agreements,
    ) -> Arc<Self> {
        Arc::new(Self {
            deployment,
            store,
            writer,
            agreements,
            queues: Mutex::default(),
            more: Notify::new(),
            outbox: watch::Sender::new(None),
        })
    }

    /// The chain is known.
    pub fn open(&self, outbox: submitter::Outbox) {
        self.outbox.send_replace(Some(outbox));
    }

    /// Lets go of the outbox, which ends then; what is in it goes on after the next start.
    pub fn close(&self) {
        self.outbox.send_replace(None);
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn want(&self, wanted: Wanted) {
        // The core asks for each thing once and is bounded in what it has open, so this queue is.
        self.queues().wanted.push_back(wanted);
        self.more.notify_one();
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
            let next = self.queues().wanted.pop_front();
            let Some(wanted) = next else {
                self.more.notified().await;
                continue;
            };
            match self.submission(&wanted) {
                Ok(submission) => {
                    let label = submission.label.clone();
                    if let Err(error) = outbox.submit(submission).await {
                        tracing::error!(label, %error, "chain.not_taken");
                    }
                }
                Err(error) => tracing::error!(error, "chain.not_encoded"),
            }
        }
    }

    fn submission(&self, wanted: &Wanted) -> Result<submitter::Submission, String> {
        let (label, data) = match wanted {
            Wanted::Submission(a, submission) => {
                let agreements = self
                    .agreements
                    .read()
                    .unwrap_or_else(PoisonError::into_inner);
                let known = agreements
                    .get(a)
                    .ok_or_else(|| format!("agreement {a} is not known"))?;
                encode(&self.deployment, known, submission)?
            }
            Wanted::Contradiction {
                sensor,
                q,
                first,
                second,
            } => {
                let decode = |bytes: &[u8]| Frame::decode(bytes).map_err(|e| e.to_string());
                let data = calls::report_sensor_contradiction(
                    &self.deployment,
                    *q,
                    &decode(first)?,
                    &decode(second)?,
                );
                (
                    format!("report that sensor {sensor} contradicts itself at q {q}"),
                    data.map_err(|e| e.to_string())?,
                )
            }
        };
        Ok(self.call(label, data, None))
    }

    fn call(
        &self,
        mut label: String,
        data: Vec<u8>,
        patience_ms: Option<u64>,
    ) -> submitter::Submission {
        let mut end = label.len().min(submitter::LABEL_BYTES_MAX);
        while !label.is_char_boundary(end) {
            end -= 1;
        }
        label.truncate(end);
        // The same call is the same submission, whoever asks for it and however often.
        let id = Digest(keccak_raw(&data));
        submitter::Submission {
            id,
            label,
            to: Some(self.deployment.contract),
            data,
            patience_ms,
        }
    }

    /// Deals with a report of the outbox.
    pub fn report(&self, delivered: &Delivered) {
        let waiting = self
            .queues()
            .relays
            .remove(&delivered.id)
            .unwrap_or_default();
        let answer = match &delivered.report {
            Report::Mined {
                tx,
                block,
                gas_used,
                ..
            } => {
                tracing::info!(tx = %tx, block, gas_used, "chain.mined");
                Ok(Mined {
                    tx: *tx,
                    block: *block,
                })
            }
            Report::Reverted { name, words, .. } => {
                if waiting.is_empty() {
                    tracing::error!(id = %delivered.id, name, words, "chain.reverted");
                }
                Err(RelayError::Reverted {
                    name: name.clone(),
                    words: words.clone(),
                })
            }
            Report::Pointless { reason } => {
                tracing::debug!(id = %delivered.id, reason, "chain.pointless");
                Err(RelayError::Pointless(reason.clone()))
            }
            Report::Undone { reason } => {
                tracing::error!(id = %delivered.id, reason, "chain.undone");
                Err(RelayError::Unavailable(reason.clone()))
            }
        };
        for one in waiting {
            // A caller that has gone away asks again.
            let _ = one.send(answer.clone());
        }
    }
}

impl Outbox for ToChain {
    fn submit(&self, agreement: AgreementId, submission: Submission) {
        self.want(Wanted::Submission(agreement, Box::new(submission)));
    }

    /// The outbox asks the chain before it sends, and drops what is settled already; so there is nothing to forget here.
    fn retire(&self, agreement: AgreementId, from: u64, t: u64) {
        tracing::trace!(agreement = %agreement, from, t, "chain.retire");
    }

    fn contradiction(&self, sensor: SensorId, q: u64, first: Vec<u8>, second: Vec<u8>) {
        let key = contradiction_key(&sensor);
        match self.store.get(&key) {
            // One is enough: the sensor is void from there on.
            Ok(Some(_)) => return,
            Ok(None) => {}
            Err(error) => return tracing::error!(%error, "evidence.not_read"),
        }
        let frames = diversity_proto::wire::encode_frames([&first[..], &second[..]].into_iter());
        if let Err(error) = self.writer.write(vec![Op::Put(key, frames)]) {
            return tracing::error!(%error, "evidence.not_kept");
        }
        tracing::warn!(sensor = %sensor, q, "sensor.contradicts_itself");
        self.want(Wanted::Contradiction {
            sensor,
            q,
            first,
            second,
        });
    }
}

impl Chain for ToChain {
    fn relay(&self, label: String, data: Vec<u8>) -> BoxFuture<'static, Result<Mined, RelayError>> {
        let submission = self.call(label, data, Some(RELAY_PATIENCE_MS));
        let Some(outbox) = self.outbox.borrow().clone() else {
            let reason = "the chain has not been reached since this node started: check rpc_urls and the chain".into();
            return futures::future::ready(Err(RelayError::Unavailable(reason))).boxed();
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
            outbox
                .submit(submission)
                .await
                .map_err(|e| RelayError::Unavailable(e.to_string()))?;
            answer.await.unwrap_or_else(|_| {
                Err(RelayError::Unavailable("the node is shutting down".into()))
            })
        }
        .boxed()
    }
}

/// Label and calldata of a submission of the core.
fn encode(
    d: &Deployment,
    known: &Known,
    submission: &Submission,
) -> Result<(String, Vec<u8>), String> {
    let words = |e: diversity_chain::SignatureError| e.to_string();
    let a = AgreementId(known.key.id);
    let key = calls::AgreementKey {
        agreement: a,
        aggregate: known.key.aggregate_x,
        y: known.key.y,
    };
    match submission {
        Submission::Settle {
            from,
            t,
            settlement,
        } => {
            let data = match settlement {
                Settlement::Single { outcome, signature } => {
                    calls::settle(outcome, &aggregate(signature)?)
                }
                Settlement::Batch { batch, signature } => {
                    calls::settle_batch(batch, &aggregate(signature)?)
                }
                Settlement::Reveals {
                    outcome,
                    holes,
                    signatures,
                } => {
                    let reveals: Vec<_> = signatures
                        .iter()
                        .map(|s| bare_reveal(outcome.from, holes, *s))
                        .collect();
                    calls::settle_by_reveals(d, &key, &known.terms, outcome, &reveals)
                        .map_err(words)?
                }
            };
            Ok((format!("settle t {from} to {t} of {a}"), data))
        }
        Submission::Dispute { epoch, t, evidence } => {
            let case = Case {
                deployment: d,
                key: &key,
                terms: &known.terms,
                epoch: *epoch,
                t: *t,
            };
            let index = |node| {
                known
                    .terms
                    .node_index(node)
                    .ok_or_else(|| format!("{node} is no node of {a}"))
            };
            let data = match evidence {
                Evidence::UnequalReveals { reveals, seal, .. } => {
                    let reveals: Vec<_> = reveals.iter().cloned().enumerate().collect();
                    calls::report_unequal_reveals(&case, seal, &reveals).map_err(words)?
                }
                Evidence::Equivocation {
                    node,
                    first,
                    second,
                } => {
                    calls::report_equivocation(&case, index(node)?, first, second).map_err(words)?
                }
                Evidence::FalseOpening {
                    node,
                    commit,
                    reveal,
                    seal,
                } => calls::report_false_reveal(&case, index(node)?, commit, seal, reveal)
                    .map_err(words)?,
                Evidence::SensorContradiction {
                    sensor,
                    q,
                    first,
                    second,
                } => {
                    let decode = |bytes: &[u8]| {
                        Frame::decode(bytes).map_err(|e| format!("frame of {sensor}: {e}"))
                    };
                    calls::report_sensor_contradiction(d, *q, &decode(first)?, &decode(second)?)
                        .map_err(words)?
                }
            };
            Ok((format!("dispute at t {t} of {a}"), data))
        }
    }
}

fn aggregate(signature: &diversity_proto::Signature) -> Result<AggregateSignature, String> {
    let ry =
        nonce_y(&signature.0).ok_or("an aggregated signature whose R is no point of the curve")?;
    Ok(AggregateSignature {
        rx_s: signature.0,
        ry,
    })
}

/// The contract's call takes from a reveal only the holes and the signature.
fn bare_reveal(from: u64, holes: &[u64], signature: diversity_proto::Signature) -> Reveal {
    Reveal {
        computed: Computed {
            kind: OutputKind::Null,
            result: Vec::new(),
            detail_root: Digest::ZERO,
            state: Digest::ZERO,
            trace: Digest::ZERO,
            window_hash: Digest::ZERO,
        },
        secret: [0; 32],
        salt: [0; 32],
        from,
        holes: holes.to_vec(),
        signature,
    }
}
