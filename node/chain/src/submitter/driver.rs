//! The loop around the outbox: asks, sends, keeps time.

use super::core::{LoadError, Submitter};
use super::{Effect, Input, Precheck, Report, Status, Submission, SubmitterConfig};
use crate::abi::Contracts;
use crate::account::Account;
use crate::rpc::{ChainIdentity, Rpc, RpcError};
use diversity_proto::{Address, AgreementId, Digest};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What a journal may answer.
pub type JournalError = Box<dyn std::error::Error + Send + Sync>;

/// Key and value.
pub type JournalRecord = (Vec<u8>, Vec<u8>);

/// Where the outbox keeps what must survive. Called from a thread that may block.
pub trait Journal: Send + Sync + 'static {
    /// Writes durably: when it returns, a power cut loses nothing.
    ///
    /// # Errors
    /// If it is not durable; the outbox stops then, and sends nothing that depends on it.
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), JournalError>;
    /// Removes, durably or not: an old record that comes back does no harm.
    ///
    /// # Errors
    /// If the store is of no use any more.
    fn delete(&self, key: &[u8]) -> Result<(), JournalError>;
    /// Everything that was put and not deleted.
    ///
    /// # Errors
    /// If it cannot be read.
    fn scan(&self) -> Result<Vec<JournalRecord>, JournalError>;
}

/// Settings of the loop.
#[derive(Clone, Copy, Debug)]
pub struct OutboxSettings {
    /// Of the core.
    pub submitter: SubmitterConfig,
    /// How often the head is asked for while something waits.
    pub poll: Duration,
}

impl OutboxSettings {
    /// Defaults for a chain: anvil (31337) makes blocks at once, others in seconds.
    pub fn for_chain(chain_id: u64) -> Self {
        let mut submitter = SubmitterConfig::default();
        if chain_id == crate::ANVIL_CHAIN_ID {
            submitter.rebroadcast_ms = 1_000;
            submitter.recheck_ms = 500;
        }
        Self {
            submitter,
            poll: crate::default_poll(chain_id),
        }
    }
}

/// Why the outbox does not work.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// What the store holds is of no use.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The store.
    #[error(
        "the outbox cannot use the store ({0}): free disk space or repair it, then start the node again"
    )]
    Journal(String),
    /// A submission was not taken.
    #[error("the outbox does not take it: {0}")]
    Refused(String),
    /// The loop has ended.
    #[error("the outbox has stopped: start the node again")]
    Stopped,
}

/// A report for the caller, who answers with [`Outbox::acknowledge`] once it is dealt with. Reports that were not
/// acknowledged come again after a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The caller's id.
    pub id: Digest,
    /// How it ended.
    pub report: Report,
    /// The agreement that it is owed for: none of what the node only relays, and of what belongs to none.
    pub owed_for: Option<AgreementId>,
    /// Gas of all its transactions, those without effect included. None where that was told before.
    pub gas: u64,
}

enum Command {
    Submit(Submission, oneshot::Sender<Result<(), OutboxError>>),
    Acknowledge(Digest),
    Retire(AgreementId, u64),
}

/// Handle of a running outbox. The loop ends when the last handle is dropped.
#[derive(Clone)]
pub struct Outbox {
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
    account: Address,
}

impl Outbox {
    /// Loads the journal and starts the loop. Reports come out of the receiver.
    ///
    /// # Errors
    /// [`OutboxError::Load`], [`OutboxError::Journal`].
    pub async fn start(
        rpc: Rpc,
        chain: ChainIdentity,
        contracts: Contracts,
        account: Account,
        journal: Arc<dyn Journal>,
        settings: OutboxSettings,
    ) -> Result<(Self, mpsc::Receiver<Delivered>), OutboxError> {
        let address = account.address();
        let entries = blocking(&journal, |j| j.scan()).await?;
        let core = Submitter::load(settings.submitter, chain, account, &entries)?;
        let (commands, received) = mpsc::channel(256);
        let (status_out, status) = watch::channel(core.status());
        let (reports, delivered) = mpsc::channel(256);
        let driver = Driver {
            core,
            rpc,
            contracts,
            journal,
            poll: settings.poll,
            tasks: JoinSet::new(),
            with_code: BTreeSet::new(),
            pending: VecDeque::new(),
            status: status_out,
            account: address,
            polling: false,
        };
        tokio::spawn(driver.run(received, reports));
        let handle = Self {
            commands,
            status,
            account: address,
        };
        Ok((handle, delivered))
    }

    /// Hands in a submission. When this returns, it is durable.
    ///
    /// # Errors
    /// [`OutboxError::Refused`], [`OutboxError::Journal`], [`OutboxError::Stopped`].
    pub async fn submit(&self, submission: Submission) -> Result<(), OutboxError> {
        let (answer, taken) = oneshot::channel();
        self.commands
            .send(Command::Submit(submission, answer))
            .await
            .map_err(|_| OutboxError::Stopped)?;
        taken.await.map_err(|_| OutboxError::Stopped)?
    }

    /// Says that the report of this id has been dealt with.
    ///
    /// # Errors
    /// [`OutboxError::Stopped`].
    pub async fn acknowledge(&self, id: Digest) -> Result<(), OutboxError> {
        self.commands
            .send(Command::Acknowledge(id))
            .await
            .map_err(|_| OutboxError::Stopped)
    }

    /// Everything of the agreement up to t is final: settlements that reach no further and are not signed yet are dropped.
    ///
    /// # Errors
    /// [`OutboxError::Stopped`].
    pub async fn retire(&self, agreement: AgreementId, t: u64) -> Result<(), OutboxError> {
        self.commands
            .send(Command::Retire(agreement, t))
            .await
            .map_err(|_| OutboxError::Stopped)
    }

    /// State for people, as of the last step.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Changes of the state.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Who pays.
    pub fn account(&self) -> Address {
        self.account
    }
}

async fn blocking<T: Send + 'static>(
    journal: &Arc<dyn Journal>,
    f: impl FnOnce(&dyn Journal) -> Result<T, JournalError> + Send + 'static,
) -> Result<T, OutboxError> {
    let journal = journal.clone();
    match tokio::task::spawn_blocking(move || f(&*journal)).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(OutboxError::Journal(error.to_string())),
        Err(error) => Err(OutboxError::Journal(error.to_string())),
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What a task brings back.
enum Answer {
    Input(Input),
    /// The head was asked for.
    Polled(Input),
    /// There is code at this address.
    Code(Address, Input),
}

struct Driver {
    core: Submitter,
    rpc: Rpc,
    contracts: Contracts,
    journal: Arc<dyn Journal>,
    poll: Duration,
    tasks: JoinSet<Answer>,
    /// Contracts that were seen on the chain since it was last in trouble.
    with_code: BTreeSet<Address>,
    pending: VecDeque<Delivered>,
    status: watch::Sender<Status>,
    account: Address,
    polling: bool,
}

impl Driver {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        reports: mpsc::Sender<Delivered>,
    ) {
        let mut next_poll = Instant::now();
        loop {
            let sleep = tokio::time::sleep_until(next_poll);
            let outcome = tokio::select! {
                command = commands.recv() => match command {
                    None => return,
                    Some(command) => self.command(command).await,
                },
                Some(answer) = self.tasks.join_next() => match answer {
                    Ok(answer) => self.answer(answer).await,
                    Err(error) => {
                        tracing::error!(%error, "chain.outbox.task");
                        return;
                    }
                },
                permit = reports.reserve(), if !self.pending.is_empty() => {
                    if let (Ok(permit), Some(report)) = (permit, self.pending.pop_front()) {
                        permit.send(report);
                        Ok(())
                    } else {
                        // Nobody listens any more: what was not acknowledged comes again after the next start.
                        self.pending.clear();
                        Ok(())
                    }
                },
                () = sleep => {
                    // With nothing to do the head matters little: only lost blocks would.
                    let pause = if self.core.is_idle() { self.poll * 10 } else { self.poll };
                    next_poll = Instant::now() + pause;
                    self.ask_head();
                    self.step(Input::Tick).await
                }
            };
            if let Err(error) = outcome {
                tracing::error!(%error, "chain.outbox.stopped");
                return;
            }
            self.tell();
            if !self.core.is_idle() {
                next_poll = next_poll.min(Instant::now() + self.poll);
            }
        }
    }

    fn tell(&self) {
        let status = self.core.status();
        self.status.send_if_modified(|s| {
            let changed = *s != status;
            *s = status;
            changed
        });
    }

    async fn command(&mut self, command: Command) -> Result<(), OutboxError> {
        match command {
            Command::Acknowledge(id) => self.step(Input::Acknowledge(id)).await,
            Command::Retire(agreement, t) => self.step(Input::Retire { agreement, t }).await,
            Command::Submit(submission, answer) => {
                let refused = self.run_effects(Input::Submit(submission)).await;
                // Whoever handed it in may be gone; that changes nothing.
                match refused {
                    Ok(None) => {
                        // Whoever waits for what becomes of it must not see what was before.
                        self.tell();
                        let _ = answer.send(Ok(()));
                        self.ask_head();
                        Ok(())
                    }
                    Ok(Some(reason)) => {
                        let _ = answer.send(Err(OutboxError::Refused(reason)));
                        Ok(())
                    }
                    Err(error) => {
                        let _ = answer.send(Err(OutboxError::Journal(error.to_string())));
                        Err(error)
                    }
                }
            }
        }
    }

    async fn answer(&mut self, answer: Answer) -> Result<(), OutboxError> {
        let input = match answer {
            Answer::Input(input) => input,
            Answer::Polled(input) => {
                self.polling = false;
                input
            }
            Answer::Code(address, input) => {
                self.with_code.insert(address);
                input
            }
        };
        if matches!(input, Input::Trouble(_)) {
            self.with_code.clear();
        }
        self.step(input).await
    }

    async fn step(&mut self, input: Input) -> Result<(), OutboxError> {
        self.run_effects(input).await.map(|_| ())
    }

    /// Executes the effects of a step in order; returns why a submission was refused, if one was.
    async fn run_effects(&mut self, input: Input) -> Result<Option<String>, OutboxError> {
        let mut refused = None;
        for effect in self.core.step(unix_ms(), input) {
            match effect {
                Effect::Persist { key, value } => {
                    blocking(&self.journal, move |j| j.put(&key, &value)).await?;
                }
                Effect::Delete { key } => blocking(&self.journal, move |j| j.delete(&key)).await?,
                Effect::Deliver {
                    id,
                    report,
                    owed_for,
                    gas,
                } => self.pending.push_back(Delivered {
                    id,
                    report,
                    owed_for,
                    gas,
                }),
                Effect::Refuse { reason, .. } => refused = Some(reason),
                Effect::Wasted {
                    label,
                    tx,
                    gas_used,
                    why,
                } => tracing::info!(label, tx = %tx, gas_used, why, "chain.mined_without_effect"),
                effect => self.ask(effect),
            }
        }
        Ok(refused)
    }

    fn ask_head(&mut self) {
        if self.polling {
            return;
        }
        self.polling = true;
        let rpc = self.rpc.clone();
        let known = self.core.known_head();
        self.tasks.spawn(async move {
            Answer::Polled(match head(&rpc, known).await {
                Ok(input) => input,
                Err(error) => Input::Trouble(error.to_string()),
            })
        });
    }

    fn ask(&mut self, effect: Effect) {
        let rpc = self.rpc.clone();
        let account = self.account;
        match effect {
            Effect::Precheck { seq, call } => {
                let unseen = call
                    .to
                    .filter(|to| !self.with_code.contains(to) && *to != account);
                self.tasks.spawn(async move {
                    let (found, outcome) = precheck(&rpc, &call, unseen).await;
                    let input = Input::Prechecked { seq, outcome };
                    match found {
                        Some(address) => Answer::Code(address, input),
                        None => Answer::Input(input),
                    }
                });
            }
            Effect::Confirm { seq, goal } => {
                let contracts = self.contracts;
                self.tasks.spawn(async move {
                    let outcome = goal.reached(&rpc, &contracts).await;
                    let outcome = outcome.map_err(|error| error.to_string());
                    Answer::Input(Input::Confirmed { seq, outcome })
                });
            }
            Effect::Send { seq, tx, raw, all } => {
                self.tasks.spawn(async move {
                    let outcome = rpc.send_raw(&raw, all).await.map(|_| ());
                    Answer::Input(Input::Sent { seq, tx, outcome })
                });
            }
            Effect::QueryReceipt { seq, txs } => {
                self.tasks.spawn(async move {
                    let mut outcome = Ok(None);
                    for tx in txs {
                        outcome = rpc.receipt(&tx).await;
                        if !matches!(outcome, Ok(None)) {
                            break;
                        }
                    }
                    Answer::Input(Input::Receipt { seq, outcome })
                });
            }
            Effect::QueryAccount => {
                self.tasks.spawn(async move {
                    let state = async {
                        let nonce = rpc.transaction_count(&account).await?;
                        let balance = rpc.balance(&account).await?;
                        Ok::<_, RpcError>(Input::Account { nonce, balance })
                    };
                    Answer::Input(
                        state
                            .await
                            .unwrap_or_else(|e| Input::Trouble(e.to_string())),
                    )
                });
            }
            Effect::Replay {
                seq,
                call,
                block,
                gas,
            } => {
                self.tasks.spawn(async move {
                    let outcome = rpc.replay(&call, block, gas).await;
                    Answer::Input(Input::Replayed { seq, outcome })
                });
            }
            Effect::Persist { .. }
            | Effect::Delete { .. }
            | Effect::Deliver { .. }
            | Effect::Wasted { .. }
            | Effect::Refuse { .. } => {
                unreachable!("executed in order by run_effects")
            }
        }
    }
}

/// The newest block. Blocks that came between it and the one that was `known` may stand on another branch.
async fn head(rpc: &Rpc, known: Option<(u64, Digest)>) -> Result<Input, RpcError> {
    let block = rpc.head().await?;
    let rewound = match known {
        Some((number, hash)) if number + 1 < block.number => rpc
            .block(number)
            .await?
            .is_some_and(|there| there.hash != hash),
        _ => false,
    };
    // Only chains before London need it; elsewhere it suggests too much.
    let suggested = match block.base_fee {
        None => Some(rpc.gas_price().await?),
        Some(_) => None,
    };
    Ok(Input::Head {
        block,
        suggested,
        rewound,
    })
}

/// A call to an address without code succeeds and does nothing, so the code is looked for first.
async fn precheck(
    rpc: &Rpc,
    call: &crate::rpc::Call,
    unseen: Option<Address>,
) -> (Option<Address>, Precheck) {
    if let Some(address) = unseen {
        match rpc.code(&address).await {
            Ok(code) if code.is_empty() => return (None, Precheck::NoCode),
            Ok(_) => {}
            Err(error) => return (None, Precheck::Error(error)),
        }
    }
    let outcome = match rpc.estimate_gas(call).await {
        Ok(gas) => Precheck::Gas(gas),
        Err(error) => Precheck::Error(error),
    };
    (unseen, outcome)
}
