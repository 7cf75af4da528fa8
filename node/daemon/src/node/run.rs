//! Puts a node together, runs it, and takes it down in order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use diversity_net::{Net, NetConfig, NetError, NetLimits};
use diversity_proto::terms::Terms;
use diversity_proto::wire::{ENVELOPE_BYTES_MAX, FRAME_BATCH_BYTES_MAX};
use diversity_proto::{AgreementId, DecodeError, Deployment};
use diversity_store::{Store, StoreError, Writer, WriterLimits};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc, watch};

use crate::config::{ConfigError, NodeConfig};
use crate::http::{self, Api};
use crate::keyring::{Keyring, KeyringError, Tokens};
use crate::node::adopt;
use crate::node::alarm::Alarm;
use crate::node::chain::ChainView;
use crate::node::clocks::Clocks;
use crate::node::consent::{Accepted, Consent, ConsentError};
use crate::node::driver::{Activation, Driver, DriverError, Inbox, Parts};
use crate::node::follow::{Follow, FollowError, stored_identity};
use crate::node::frames::Frames;
use crate::node::modules::{ModuleStoreError, Modules};
use crate::node::notices::event;
use crate::node::outbox::{Agreements, Known, ToChain};
use crate::node::pulse::Pulse;
use crate::node::rebuild;
use crate::node::recover::{peer_map, recover};
use crate::node::registry::{Registry, RegistryError, cursor_key};
use crate::node::shared::{Code, Durable, Identity, Peers, Registered, Shared};
use crate::node::signer::Signer;
use crate::node::sole::Sole;
use crate::node::welcome;
use crate::node::workers::{Verifier, Workers};
use crate::rooms::Rooms;
use crate::rooms::core::Core;
use crate::rooms::relay::Line;
use crate::runner::Runner;

/// Requests that wait in front of the core; beyond it the API says that it is busy.
const API_QUEUE: usize = 256;
/// Commands of the node's own that wait in front of the core.
const CONTROL_QUEUE: usize = 64;
/// Events that a slow listener may be behind.
const EVENTS_BEHIND_MAX: usize = 4_096;
/// How long open requests may take at a shutdown.
const SHUTDOWN: Duration = Duration::from_secs(2);
/// After this long a process that was told to stop ends, whatever is still under way: what it acknowledged is durable long since.
const STOPPED_WITHIN: Duration = Duration::from_millis(4_500);

/// Why a node does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Keys and tokens.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Modules.
    #[error(transparent)]
    Modules(#[from] ModuleStoreError),
    /// What was accepted.
    #[error(transparent)]
    Consent(#[from] ConsentError),
    /// A record of the core.
    #[error(
        "the store holds a record that cannot be read ({0}): use the program that wrote it, or restore the data directory"
    )]
    Record(#[from] DecodeError),
    /// The transport.
    #[error(transparent)]
    Net(#[from] NetError),
    /// RPC endpoints.
    #[error("rpc_urls: {0}")]
    Rpc(String),
    /// The loop.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The chain.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// A socket.
    #[error("cannot listen on {address}: {source}; choose another address with --api-listen")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The data directory.
    #[error("cannot use {path}: {source}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process runs as this node.
    #[error(
        "another process on this machine runs as node {node} already, with another data directory than {data_dir}: one is a copy of the other, and two processes with one key sign different things, which is evidence against you. Stop one of them; a further node needs keys of its own (an empty data directory makes them)"
    )]
    Twin {
        /// Which node.
        node: diversity_proto::NodeId,
        /// Ours.
        data_dir: String,
    },
    /// Threads or signals.
    #[error("the system does not give what the node needs: {0}")]
    System(#[from] std::io::Error),
    /// A part of the node ended by itself.
    #[error("{0} ended by itself: this is a fault of the program, please report it")]
    Ended(&'static str),
}

/// Runs a node until SIGTERM or SIGINT, or until it must not go on. Told to stop, the process ends within five seconds, also while
/// it starts, and whatever connections are open.
///
/// # Errors
/// [`NodeError`].
pub async fn run_node(config: NodeConfig, runner: Arc<dyn Runner>) -> Result<(), NodeError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut stop = Box::pin(async move {
        let reason = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            result = tokio::signal::ctrl_c() => result.map_or("no signal handler", |()| "SIGINT"),
        };
        end_soon();
        reason
    });
    let mut start = tokio::spawn(RunningNode::start(config, runner));
    let node = tokio::select! {
        node = &mut start => node.map_err(|_| NodeError::Ended("the start"))??,
        reason = &mut stop => {
            tracing::info!(reason, "node.stopping");
            start.abort();
            return Ok(());
        }
    };
    node.run_until(stop).await
}

/// Ends the process when its time is over.
fn end_soon() {
    // A thread of its own: the runtime may be busy with what holds up the end.
    let watch = std::thread::Builder::new().spawn(|| {
        std::thread::sleep(STOPPED_WITHIN);
        tracing::warn!("shutdown.cut_off");
        std::process::exit(0);
    });
    if let Err(error) = watch {
        tracing::warn!(%error, "shutdown.unwatched");
    }
}

/// A node that has started.
pub struct RunningNode {
    api: Arc<Api>,
    shared: Shared,
    listener: TcpListener,
    driver: tokio::task::JoinHandle<Result<(), DriverError>>,
    follow: tokio::task::JoinHandle<Result<(), FollowError>>,
    stop: watch::Sender<bool>,
    to_chain: Arc<ToChain>,
    sole: Sole,
    /// Where the API listens.
    pub address: std::net::SocketAddr,
}

impl RunningNode {
    /// Opens everything, recovers the core and starts the tasks.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn start(config: NodeConfig, runner: Arc<dyn Runner>) -> Result<Self, NodeError> {
        let deployment = config.deployment()?;
        make_dir(&config.data_dir)?;
        let identity = identify(&config, deployment).await?;
        let tokens = Tokens::open(&config.data_dir)?;
        let node = identity.node;
        tracing::info!(node = %node, name = config.name, chain = deployment.chain_id, contract = %deployment.contract, "node.starting");

        let made = identity.keys.new;
        let shared = open(config, identity, runner)?;
        let sole = Sole::claim(&deployment, &node)?.ok_or_else(|| NodeError::Twin {
            node,
            data_dir: shared.config.data_dir.display().to_string(),
        })?;
        if made {
            for line in welcome::lines(&shared.config, &shared.identity) {
                tracing::info!("{line}");
            }
        }
        let store = &shared.durable.store;
        let lost = was_lost(&shared.config, store)?;
        let (core, known) = recover(&shared.config, deployment, node, store, &shared.consent)?;
        run_known(&shared.agreements, &known);
        let peers = shared.peers.lock().list(&shared.identity.peer);
        let (net, net_events) = Net::spawn(net_config(&shared, peers))?;
        let (view, chain_view) = watch::channel(ChainView::default());
        let (stop, stopped) = watch::channel(false);
        let (commands, api_receiver) = mpsc::channel(API_QUEUE);
        let (control, control_receiver) = mpsc::channel(CONTROL_QUEUE);
        let to_chain = ToChain::new(
            deployment,
            shared.identity.contracts(),
            Arc::clone(&shared.agreements),
            Arc::clone(&shared.metrics),
            control.clone(),
        );

        let listen = shared.config.api_listen;
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|source| NodeError::Listen {
                address: listen,
                source,
            })?;
        let address = listener.local_addr()?;
        let told = shared.events.clone();
        let parts = Parts {
            core,
            node,
            signer: Signer::new(Arc::clone(&shared.identity.keys)),
            workers: Arc::new(Workers::spawn(shared.config.workers())?),
            verifier: Arc::new(Verifier::new(deployment)),
            durable: shared.durable.clone(),
            code: shared.code.clone(),
            net,
            net_events,
            peers: shared.peers.clone(),
            clocks: shared.clocks.clone(),
            outbox: Arc::clone(&to_chain) as _,
            registered: shared.registered.clone(),
            metrics: Arc::clone(&shared.metrics),
            notices: Arc::new(move |notice| {
                // Nobody needs to listen.
                if let Some(event) = event(notice) {
                    let _ = told.send(event);
                }
            }),
            known,
            lost,
            deployment,
            waiting: Arc::clone(&shared.waiting),
        };
        let inbox = Inbox {
            control: control_receiver,
            api: api_receiver,
        };
        let driver = tokio::spawn(Driver::run(parts, inbox, stopped.clone()));
        let follow = Follow {
            rpc: rpc(&shared.config, &deployment, store)?,
            shared: shared.clone(),
            control,
            to_chain: Arc::clone(&to_chain),
            view,
            alarm: Alarm::default(),
            pulse: Pulse::default(),
        };
        let line = Line {
            chain: Arc::clone(&to_chain) as _,
            view: chain_view,
        };
        let rooms = Rooms::open(&shared, Core::new(commands), line);
        tracing::info!(address = %address, "http.listening");
        Ok(Self {
            api: Arc::new(Api::new(&shared, rooms, tokens, stopped)),
            shared,
            listener,
            driver,
            follow: tokio::spawn(follow.run()),
            stop,
            to_chain,
            sole,
            address,
        })
    }

    /// What the handlers work with.
    pub fn api(&self) -> &Arc<Api> {
        &self.api
    }

    /// Runs until `until` gives the reason to stop: requests under way are finished, effects under way are waited for, and the
    /// store is flushed.
    ///
    /// # Errors
    /// [`NodeError`] when a part ended by itself.
    pub async fn run_until(
        self,
        until: impl Future<Output = &'static str>,
    ) -> Result<(), NodeError> {
        let Self {
            api,
            shared,
            listener,
            mut driver,
            mut follow,
            stop,
            to_chain,
            sole: _sole,
            ..
        } = self;
        let writer = Arc::clone(&shared.durable.writer);
        // Whatever else holds a part of it ends with the tasks.
        drop(shared);
        let mut server = tokio::spawn(http::serve(listener, api));
        let ended = tokio::select! {
            reason = until => {
                tracing::info!(reason, "node.stopping");
                None
            }
            result = &mut driver => Some(match result {
                Ok(Err(error)) => error.into(),
                _ => NodeError::Ended("the loop around the core"),
            }),
            result = &mut follow => Some(match result {
                Ok(Err(error)) => error.into(),
                _ => NodeError::Ended("the follower of the chain"),
            }),
            result = &mut server => Some(match result {
                Ok(Err(error)) => error.into(),
                _ => NodeError::Ended("the HTTP server"),
            }),
        };
        // Requests first: they may still need the core.
        stop.send_replace(true);
        if !server.is_finished() && tokio::time::timeout(SHUTDOWN, &mut server).await.is_err() {
            server.abort();
        }
        follow.abort();
        if !follow.is_finished() {
            // It ends with an error that says so.
            let _ = follow.await;
        }
        to_chain.close();
        if !driver.is_finished() {
            match driver.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(ended.unwrap_or(error.into())),
                Err(_) => return Err(ended.unwrap_or(NodeError::Ended("the loop around the core"))),
            }
        }
        // Writes are made durable in their order, so this one comes after all others.
        let flushed = tokio::task::spawn_blocking(move || writer.write(Vec::new())).await;
        if let Ok(Err(error)) = flushed {
            return Err(ended.unwrap_or(error.into()));
        }
        tracing::info!("node.stopped");
        ended.map_or(Ok(()), Err)
    }
}

/// Opens the keys, which takes a while.
async fn identify(config: &NodeConfig, deployment: Deployment) -> Result<Identity, NodeError> {
    let (data_dir, password) = (config.data_dir.clone(), config.password_file.clone());
    let light = config.light_keys;
    let keys = tokio::task::spawn_blocking(move || Keyring::open(&data_dir, &password, light));
    let cells = config.cells()?;
    let keys = keys
        .await
        .map_err(|_| NodeError::Ended("opening the keys"))??;
    Ok(Identity {
        deployment,
        cells,
        node: keys.node(),
        peer: diversity_net::public_key(&keys.peer)?,
        keys: Arc::new(keys),
    })
}

/// Whether this node has run before with a store that it has not any more. One that has taken in the chain is no new one.
fn was_lost(config: &NodeConfig, store: &Store) -> Result<bool, NodeError> {
    let ran = config.path("keys").join("ran");
    let failed = |source| NodeError::Directory {
        path: ran.clone(),
        source,
    };
    let before = ran.try_exists().map_err(failed)?;
    if !before {
        let why = "This node has had a store. Without it, it asks the others what it has signed.\n";
        write_new(&ran, why).map_err(failed)?;
    }
    let lost = before && store.get(&cursor_key())?.is_none();
    if lost {
        tracing::warn!(
            "this node has run before, and its store is new: it commits only to what the other nodes do not contradict"
        );
    }
    Ok(lost)
}

fn write_new(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Whose the store is.
fn store_identity(identity: &Identity) -> Vec<u8> {
    [&identity.deployment.bytes()[..], &identity.node.0].concat()
}

/// Puts a new store in the place of a damaged one, with what the node has signed; says what was taken along and what was not.
///
/// # Errors
/// [`NodeError`]; the old store stays where it is then.
pub async fn rebuild_store(config: &NodeConfig) -> Result<(), NodeError> {
    make_dir(&config.data_dir)?;
    let identity = identify(config, config.deployment()?).await?;
    let rebuilt = rebuild::rebuild(config, &store_identity(&identity))?;
    for damage in &rebuilt.salvaged.damage {
        tracing::warn!(damage, "store.damage");
    }
    tracing::info!(
        records = rebuilt.salvaged.records,
        "made a new store with what the node has signed and all else that could be read; the rest comes from the peers and the chain"
    );
    if !rebuilt.salvaged.complete {
        tracing::warn!(
            "not everything that this node has signed could be read: it commits only to what the other nodes do not contradict, and abstains from the rest"
        );
    }
    if let Some(replaced) = rebuilt.replaced {
        tracing::info!(
            "the old store lies in {}: it may be deleted once this node has caught up. Never delete {}",
            replaced.display(),
            config.path("keys").display()
        );
    }
    Ok(())
}

/// Opens what lies in the data directory.
fn open(
    config: NodeConfig,
    identity: Identity,
    runner: Arc<dyn Runner>,
) -> Result<Shared, NodeError> {
    if let Some(replaced) = rebuild::finish(&config)? {
        tracing::info!(replaced = %replaced.display(), "store.rebuilt");
    }
    let store = Store::open(&config.path("store"), &store_identity(&identity))?;
    let durable = Durable {
        writer: Arc::new(Writer::spawn(store.clone(), WriterLimits::default())?),
        frames: Arc::new(Frames::new(store.clone(), config.frame_cache_bytes)),
        store,
    };
    let code = Code {
        modules: Arc::new(Modules::open(config.path("modules"))?),
        runner,
    };
    let consent = consent(&config, &identity, &durable.store)?;
    let mut registry = Registry::load(&durable.store, identity.node, consent.clone())?;
    registry.keep_of_strangers(config.strangers_bytes_max);
    let peers = peer_map(&config, identity.node, &registry)?;
    let (events, _) = broadcast::channel(EVENTS_BEHIND_MAX);
    let metrics = Arc::default();
    Ok(Shared {
        config: Arc::new(config),
        identity,
        durable,
        code,
        consent,
        registered: Registered::new(registry),
        peers: Peers::new(peers),
        clocks: Clocks::new(Arc::clone(&metrics)),
        agreements: Agreements::default(),
        waiting: Arc::default(),
        sought: Arc::default(),
        events,
        metrics,
    })
}

/// What this node has accepted. What a former version of the program has run, or accepted and not seen on chain yet, goes on.
fn consent(config: &NodeConfig, identity: &Identity, store: &Store) -> Result<Consent, NodeError> {
    let Identity {
        deployment,
        node,
        keys,
        ..
    } = identity;
    let adopted = || {
        let found = if adopt::is_over(store)? {
            tracing::warn!(
                folder = %config.path("accepted").display(),
                "the folder of acceptances is gone: nothing counts as accepted. Bring it back from a backup, or accept the agreements again"
            );
            BTreeMap::new()
        } else {
            adopt::found(store)?
        };
        let sign = |(a, terms): (AgreementId, Terms)| {
            tracing::info!(agreement = %a, title = terms.title, "agreement.adopted: a former version had accepted it");
            Accepted::sign(&keys.protocol, deployment, a, terms, Vec::new())
        };
        Ok::<_, NodeError>(found.into_iter().map(sign).collect())
    };
    let consent = Consent::open(config.path("accepted"), deployment, node, adopted)?;
    adopt::end(store)?;
    Ok(consent)
}

/// Agreements that the core has recovered run from the start.
fn run_known(agreements: &Agreements, known: &[Activation]) {
    let mut running = agreements.write().expect("nobody else has it yet");
    for a in known {
        let one = Known {
            terms: Arc::clone(&a.terms),
            key: a.key.clone(),
        };
        running.insert(a.id, Arc::new(one));
    }
}

fn make_dir(path: &std::path::Path) -> Result<(), NodeError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(|source| NodeError::Directory {
        path: path.into(),
        source,
    })
}

fn net_config(shared: &Shared, peers: Vec<diversity_net::PeerEntry>) -> NetConfig {
    NetConfig {
        identity: shared.identity.keys.peer.clone(),
        listen: shared.config.p2p_listen.to_vec(),
        peers,
        // Those of the agreements that run, once they do.
        topics: Vec::new(),
        limits: NetLimits {
            gossip_bytes_max: FRAME_BATCH_BYTES_MAX,
            direct_bytes_max: ENVELOPE_BYTES_MAX,
            ..NetLimits::default()
        },
    }
}

fn rpc(
    config: &NodeConfig,
    deployment: &Deployment,
    store: &Store,
) -> Result<diversity_chain::rpc::Rpc, NodeError> {
    let mut settings = diversity_chain::rpc::RpcConfig::new(config.rpc_urls.iter().cloned());
    settings.chain_id = Some(deployment.chain_id);
    settings.genesis = stored_identity(store)?.map(|identity| identity.genesis);
    let named = |path: &PathBuf| (!path.as_os_str().is_empty()).then(|| path.clone());
    settings.token_file = named(&config.rpc_token_file);
    settings.ca_pem = match named(&config.rpc_ca_file) {
        Some(path) => Some(
            std::fs::read(&path)
                .map_err(|e| NodeError::Rpc(format!("rpc_ca_file {}: {e}", path.display())))?,
        ),
        None => None,
    };
    diversity_chain::rpc::Rpc::new(&settings).map_err(|e| NodeError::Rpc(e.to_string()))
}
