//! Takes in the chain: events become the registry and inputs of the core, and agreements of this node start to run.
//!
//! One task does all of it, one thing after another, so that no event of an agreement falls between its gathering and its start.

mod look_back;

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use diversity_chain::contract::{Cells, ContractError, MainContract};
use diversity_chain::follow::{Cursor, FollowConfig, Follower, Progress};
use diversity_chain::rpc::{Block, ChainIdentity, Rpc};
use diversity_chain::submitter::{self, Delivered, OutboxError, OutboxSettings};
use diversity_chain::{Account, AccountError};
use diversity_client::api::Event;
use diversity_engine::api::Input;
use diversity_proto::terms::Terms;
use diversity_proto::{AgreementId, DecodeError, Digest, NodeId, VERSION};
use diversity_store::{Op, Store, StoreError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::node::activation::{NotYet, gather};
use crate::node::alarm::{self, Alarm};
use crate::node::chain::ChainView;
use crate::node::driver::{Command, unix_ms};
use crate::node::explain;
use crate::node::outbox::{Known, StoreJournal, ToChain};
use crate::node::peers::{Change, PeerMap};
use crate::node::pulse::Pulse;
use crate::node::registry::{
    self, AgreementRecord, Applied, ChainLog, Registry, RegistryError, cursor_key, identity_key,
};
use crate::node::shared::Shared;
use crate::node::sought::seek;

/// How often what agreements wait for is looked for again.
const RETRY: Duration = Duration::from_secs(10);
/// Blocks before the head that are looked at to learn how often they come.
const BLOCKS_FELT: u64 = 8;
/// Pause after the chain could not be reached.
const TROUBLE: Duration = Duration::from_secs(1);

/// Why the node cannot go on with this chain.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The cursor or the identity of the chain.
    #[error(
        "what is stored of the chain cannot be read ({0}): use the program that wrote it, or give this node a new data directory"
    )]
    Record(#[from] DecodeError),
    /// The outbox.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The account key.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The loop has ended.
    #[error("the node is shutting down")]
    Stopped,
}

/// What the task needs.
pub struct Follow {
    /// What all parts share.
    pub shared: Shared,
    /// The chain.
    pub rpc: Rpc,
    /// Into the loop.
    pub control: mpsc::Sender<Command>,
    /// Submissions.
    pub to_chain: Arc<ToChain>,
    /// Told how the chain is.
    pub view: watch::Sender<ChainView>,
    /// What was told to people.
    pub alarm: Alarm,
    /// How regularly the chain makes blocks.
    pub pulse: Pulse,
}

/// The identity of the chain as an earlier run found it.
///
/// # Errors
/// [`FollowError`].
pub fn stored_identity(store: &Store) -> Result<Option<ChainIdentity>, FollowError> {
    let Some(value) = store.get(&identity_key())? else {
        return Ok(None);
    };
    let identity = diversity_proto::codec::decode_all(&value, |r| {
        r.version("identity of the chain")?;
        Ok(ChainIdentity {
            chain_id: r.u64("chain id")?,
            genesis: Digest::read(r)?,
        })
    })?;
    Ok(Some(identity))
}

/// A task that ends with its owner.
struct Ends<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Ends<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Follow {
    /// Runs until it is dropped.
    ///
    /// # Errors
    /// [`FollowError`] when the node must not go on.
    pub async fn run(mut self) -> Result<(), FollowError> {
        self.activate_all().await?;
        let identity = self.identify().await?;
        let (outbox, mut reports) = self.open_outbox(identity).await?;
        let _forward = Ends(tokio::spawn(Arc::clone(&self.to_chain).forward()));
        let (found, mut sought) = mpsc::channel(1);
        let (rpc, view) = (self.rpc.clone(), self.view.subscribe());
        let _seek = Ends(tokio::spawn(seek(self.shared.clone(), rpc, view, found)));
        self.contract().await;
        let mut status = outbox.watch();
        let cursor = self
            .shared
            .durable
            .store
            .get(&cursor_key())?
            .map(|bytes| Cursor::decode(&bytes))
            .transpose()?;
        let config = FollowConfig {
            start: self.shared.config.from_block,
            confirmations: self.shared.config.confirmations,
            poll: Duration::from_millis(self.shared.config.chain_poll_ms),
            ..FollowConfig::for_chain(self.shared.identity.deployment.chain_id)
        };
        let mut follower = Follower::new(
            self.rpc.clone(),
            self.shared.identity.contracts(),
            config,
            cursor,
        );
        let mut look_at = Instant::now();
        let mut retry_at = Instant::now() + RETRY;
        loop {
            tokio::select! {
                // A report is dealt with before it is acknowledged, so that it comes again after a crash.
                report = reports.recv() => match report {
                    Some(report) => self.reported(&outbox, report).await?,
                    None => return Err(OutboxError::Stopped.into()),
                },
                changed = status.changed() => {
                    changed.map_err(|_| OutboxError::Stopped)?;
                    let s = status.borrow_and_update().clone();
                    self.alarm.outbox(&s, &self.view, &self.shared.metrics);
                }
                () = self.shared.waiting.nudged() => self.activate_all().await?,
                Some(found) = sought.recv() => self.found(found).await?,
                () = tokio::time::sleep_until(retry_at) => {
                    retry_at = Instant::now() + RETRY;
                    self.activate_all().await?;
                    self.balance().await;
                }
                () = tokio::time::sleep_until(look_at) => look_at = self.look(&mut follower).await?,
            }
        }
    }

    async fn reported(
        &self,
        outbox: &submitter::Outbox,
        report: Delivered,
    ) -> Result<(), FollowError> {
        if let Some(ended) = self.to_chain.report(&report) {
            self.command(ended).await?;
        }
        outbox.acknowledge(report.id).await?;
        Ok(())
    }

    /// Chain id and genesis, from the store or from the first endpoint that answers; agreements may run meanwhile.
    async fn identify(&mut self) -> Result<ChainIdentity, FollowError> {
        if let Some(identity) = stored_identity(&self.shared.durable.store)? {
            return Ok(identity);
        }
        loop {
            match self.rpc.identity().await {
                Ok(identity) => {
                    let mut w = diversity_proto::Writer::new();
                    w.u8(VERSION)
                        .u64(identity.chain_id)
                        .raw(&identity.genesis.0);
                    self.write(vec![Op::Put(identity_key(), w.finish())])
                        .await?;
                    return Ok(identity);
                }
                Err(error) => {
                    self.trouble(error.to_string());
                    tokio::time::sleep(TROUBLE).await;
                }
            }
        }
    }

    async fn open_outbox(
        &self,
        identity: ChainIdentity,
    ) -> Result<(submitter::Outbox, mpsc::Receiver<Delivered>), FollowError> {
        let account = Account::from_secret(&self.shared.identity.keys.account.to_bytes())?;
        let journal = Arc::new(StoreJournal {
            store: self.shared.durable.store.clone(),
            writer: Arc::clone(&self.shared.durable.writer),
        });
        let mut settings = OutboxSettings::for_chain(self.shared.identity.deployment.chain_id);
        settings.submitter.confirmations = self.shared.config.confirmations;
        settings.submitter.fees = self.shared.config.fees();
        let (outbox, reports) = submitter::Outbox::start(
            self.rpc.clone(),
            identity,
            self.shared.identity.contracts(),
            account,
            journal,
            settings,
        )
        .await?;
        let main = MainContract::new(self.rpc.clone(), self.shared.identity.contracts().main);
        self.to_chain.open(outbox.clone(), main);
        Ok((outbox, reports))
    }

    /// Asks the contracts whether they are those that everything is signed for. A chain that is dead is asked later, by reading.
    async fn contract(&mut self) {
        while let Err(trouble) = self.are_ours().await {
            self.trouble(trouble);
            tokio::time::sleep(TROUBLE).await;
        }
        self.balance().await;
    }

    async fn are_ours(&self) -> Result<(), String> {
        let words = |error: ContractError| error.to_string();
        let wanted = self.shared.identity.deployment;
        let contracts = self.shared.identity.contracts();
        let main = MainContract::new(self.rpc.clone(), contracts.main);
        let found = main.deployment().await.map_err(words)?;
        if found != wanted {
            return Err(format!(
                "the contract says that it is {} on chain {}, and the settings say {} on chain {}: correct chain_id or contract",
                found.contract, found.chain_id, wanted.contract, wanted.chain_id
            ));
        }
        let cells = Cells::new(self.rpc.clone(), contracts.cells);
        let belongs = cells.belongs_to(&contracts.main).await;
        belongs.map_err(|e| format!("{e}; correct the setting cells"))
    }

    async fn balance(&mut self) {
        let account = diversity_proto::Address(self.shared.identity.keys.account.address());
        if let Ok(balance) = self.rpc.balance(&account).await {
            self.alarm.balance(balance, &self.view);
        }
    }

    fn trouble(&self, trouble: String) {
        alarm::trouble(&self.view, trouble);
    }

    /// One look at the chain; when to look again.
    async fn look(&mut self, follower: &mut Follower) -> Result<Instant, FollowError> {
        follower.want(self.shared.registered.read().kept());
        let looked = follower.look().await;
        let endpoints = self.rpc.status();
        self.alarm
            .endpoints(&endpoints, &self.view, &self.shared.metrics);
        match looked {
            Ok(progress) => {
                self.feel(&progress.head).await;
                let pause = progress.pause;
                self.take_in(progress).await?;
                Ok(if pause {
                    Instant::now() + follower.pause()
                } else {
                    Instant::now()
                })
            }
            Err(error) => {
                self.trouble(error.to_string());
                Ok(Instant::now() + TROUBLE.max(follower.pause()))
            }
        }
    }

    /// Learns how regularly the chain makes blocks; from its last ones at first, so that a chain that stands still already
    /// when the node starts is noticed too.
    async fn feel(&mut self, head: &Block) {
        if self.shared.identity.deployment.chain_id == diversity_chain::ANVIL_CHAIN_ID {
            return;
        }
        if self.pulse.is_new() {
            for number in head.number.saturating_sub(BLOCKS_FELT)..head.number {
                if let Ok(Some(block)) = self.rpc.block(number).await {
                    self.pulse.block(block.number, block.timestamp, block.empty);
                }
            }
        }
        self.pulse.block(head.number, head.timestamp, head.empty);
    }

    async fn take_in(&mut self, progress: Progress) -> Result<(), FollowError> {
        let mut applied = Applied::default();
        {
            let mut registry = self.shared.registered.write();
            if let Some(above) = progress.rewound {
                tracing::warn!(above, "chain.rewound");
                registry.rewind(above, &mut applied);
            }
            for event in &progress.events {
                registry.apply(event, &mut applied);
            }
        }
        self.shared.sought.dropped(&applied.dropped);
        let processed = progress.cursor.block();
        let moved = self.view.borrow().processed != processed;
        if moved || progress.rewound.is_some() || !progress.events.is_empty() {
            applied
                .ops
                .push(Op::Put(cursor_key(), progress.cursor.encode()));
            self.make_durable(&mut applied).await?;
        }
        self.shared.metrics.gas_used.inc_by(applied.gas_used);
        self.shared.metrics.skipped(&applied.skipped);
        self.changed_nodes(&applied).await?;
        if !applied.created.is_empty() || !applied.nodes.is_empty() {
            self.activate_all().await?;
        }
        self.announce(&applied);
        let stall_after_ms = self.pulse.stall_after_ms();
        self.view.send_modify(|v| {
            alarm::well(v);
            // A step back is news only where the chain has taken blocks back.
            if v.head.is_none_or(|head| head < progress.head.number) || progress.rewound.is_some() {
                // A block that was mined since the last look; the first one may be old, and so may those that are caught up with.
                let since = v.looked_at_ms.filter(|_| v.head.is_some());
                if let Some(since) = since.filter(|_| progress.caught_up) {
                    let times = (progress.head.timestamp, since, unix_ms());
                    self.shared.clocks.block(times.0, times.1, times.2);
                }
                v.head = Some(progress.head.number);
                v.head_at_ms = unix_ms();
            }
            v.processed = processed;
            v.looked_at_ms = Some(unix_ms());
            v.stall_after_ms = stall_after_ms;
        });
        Ok(())
    }

    async fn changed_nodes(&self, applied: &Applied) -> Result<(), FollowError> {
        let mut changes = Vec::new();
        {
            let registry = self.shared.registered.read();
            let mut peers = self.shared.peers.lock();
            for a in applied
                .created
                .iter()
                .filter_map(|a| registry.agreements.get(a))
                .filter(|a| a.kept)
            {
                changes.extend(self.allow(&registry, &mut peers, &a.nodes));
            }
            for node in applied
                .nodes
                .iter()
                .filter(|n| n.node != self.shared.identity.node)
            {
                changes.extend(peers.registered(node.clone()));
            }
        }
        if applied.nodes.is_empty() && applied.created.is_empty() {
            return Ok(());
        }
        self.command(Command::Peers(changes)).await
    }

    /// Nodes of an agreement that is kept may connect.
    fn allow(&self, registry: &Registry, peers: &mut PeerMap, nodes: &[NodeId]) -> Vec<Change> {
        peers.allow(nodes.iter().copied());
        let others = nodes.iter().filter(|n| **n != self.shared.identity.node);
        let known = others.filter_map(|n| Some(registry.nodes.get(n)?.known(*n)));
        known.flat_map(|node| peers.registered(node)).collect()
    }

    fn announce(&self, applied: &Applied) {
        let registry = self.shared.registered.read();
        for dispute in applied
            .disputes
            .iter()
            .filter_map(|d| registry.disputes.get(d))
        {
            let terms = dispute.agreement.and_then(|a| {
                registry::terms(&self.shared.durable.store, &a)
                    .ok()
                    .flatten()
            });
            // What cannot be read now is shown without its details.
            let calldata = registry.evidence(&dispute.dispute).unwrap_or_default();
            let view = explain::view(&registry, terms.as_ref(), dispute, &calldata, None);
            tracing::warn!(dispute = %view.dispute, kind = view.kind.as_str(), explanation = view.explanation, "chain.dispute");
            self.tell(Event::Dispute { dispute: view });
        }
        for (sensor, from_q) in &applied.void {
            self.tell(Event::SensorVoid {
                sensor: *sensor,
                from_q: *from_q,
            });
        }
    }

    fn tell(&self, event: Event) {
        // Nobody needs to listen.
        let _ = self.shared.events.send(event);
    }

    async fn command(&self, command: Command) -> Result<(), FollowError> {
        self.control
            .send(command)
            .await
            .map_err(|_| FollowError::Stopped)
    }

    async fn write(&self, ops: Vec<Op>) -> Result<(), FollowError> {
        let writer = Arc::clone(&self.shared.durable.writer);
        tokio::task::spawn_blocking(move || writer.write(ops))
            .await
            .map_err(|_| FollowError::Stopped)??;
        Ok(())
    }

    // ---- agreements

    /// Starts every agreement that this node has accepted, that can run and does not yet. One that only names it is nothing to it.
    async fn activate_all(&mut self) -> Result<(), FollowError> {
        let running: BTreeSet<AgreementId> = {
            let agreements = self
                .shared
                .agreements
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            agreements.keys().copied().collect()
        };
        let ours: Vec<_> = {
            let registry = self.shared.registered.read();
            let waiting = &self.shared.waiting;
            waiting.retain(|a| registry.agreements.contains_key(a));
            let mut named = 0;
            let waits = |(a, r): &(&AgreementId, &AgreementRecord)| {
                if !r.nodes.contains(&self.shared.identity.node) {
                    return false;
                }
                let accepted = registry.is_accepted(a);
                named += i64::from(!accepted);
                accepted && !running.contains(*a)
            };
            let ours = registry.agreements.iter().filter(waits);
            let ours = ours.map(|(a, _)| *a).collect();
            self.shared.metrics.not_accepted.set(named);
            ours
        };
        for a in ours {
            self.activate(a).await?;
        }
        Ok(())
    }

    async fn activate(&self, a: AgreementId) -> Result<(), FollowError> {
        let runs = {
            let agreements = self.shared.agreements.read();
            agreements
                .unwrap_or_else(PoisonError::into_inner)
                .contains_key(&a)
        };
        if runs {
            return Ok(());
        }
        if !self.parties_are_here(&a)? {
            return Ok(());
        }
        let shared = self.shared.clone();
        let gathered = tokio::task::spawn_blocking(move || gather(&shared, &a)).await;
        let activation = match gathered.map_err(|_| FollowError::Stopped)? {
            Ok(activation) => activation,
            Err(NotYet::NotOurs) => return Ok(()),
            Err(reason) => {
                self.shared.waiting.set(a, reason.to_string());
                return Ok(());
            }
        };
        let known = Known {
            terms: Arc::clone(&activation.terms),
            key: activation.key.clone(),
        };
        self.shared
            .agreements
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(a, Arc::new(known));
        let (changes, ops, sensors) = self.keep(&a, &activation.terms);
        let (done, durable) = oneshot::channel();
        // Before the agreement: the core takes none over sensors that it does not know.
        self.command(Command::Chain {
            inputs: sensors,
            ops,
            done,
        })
        .await?;
        durable.await.map_err(|_| FollowError::Stopped)?;
        self.command(Command::Peers(changes)).await?;
        let logged = ChainLog::of(&self.shared.durable.store, &a)?;
        let inputs = logged.iter().filter_map(|entry| entry.input(a)).collect();
        tracing::info!(agreement = %a, title = activation.terms.title, "agreement.runs");
        self.command(Command::Agreement {
            agreement: Box::new(activation),
            inputs,
        })
        .await?;
        self.shared.waiting.clear(&a);
        Ok(())
    }

    /// An agreement that runs is kept, with its parties: who may connect now, what to write, and what the core has to hear of its
    /// sensors.
    fn keep(&self, a: &AgreementId, terms: &Terms) -> (Vec<Change>, Vec<Op>, Vec<Input>) {
        let mut ops = Vec::new();
        let mut registry = self.shared.registered.write();
        registry.keep(a, terms, &mut ops);
        let nodes: Vec<_> = terms.nodes.iter().map(|n| n.node).collect();
        let mut peers = self.shared.peers.lock();
        let changes = self.allow(&registry, &mut peers, &nodes);
        let sensors = terms.sensors.iter();
        let inputs = sensors
            .flat_map(|s| registry.introduce(&s.sensor))
            .collect();
        (changes, ops, inputs)
    }
}
