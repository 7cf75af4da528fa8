//! Puts a node together, runs it, and takes it down in order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};

use diversity_client::api::Event;
use diversity_engine::api::Notice;
use diversity_engine::records::{self, AgreementRecord};
use diversity_engine::{Config, Node};
use diversity_net::{Net, NetConfig, NetError, NetLimits};
use diversity_proto::wire::{ENVELOPE_BYTES_MAX, FRAME_BATCH_BYTES_MAX};
use diversity_proto::{AgreementId, DecodeError, Deployment, NodeId};
use diversity_store::{Store, StoreError, Writer, WriterLimits};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, broadcast, mpsc, watch};

use crate::config::{ConfigError, NodeConfig};
use crate::http::{self, Api, guard::Rates};
use crate::keyring::{Keyring, KeyringError, Tokens};
use crate::node::activation::{Waiting, aggregate};
use crate::node::chain::ChainView;
use crate::node::driver::{Activation, Driver, DriverError, Inbox, Parts};
use crate::node::follow::{Follow, FollowError, stored_identity};
use crate::node::frames::Frames;
use crate::node::modules::{ModuleStoreError, Modules};
use crate::node::outbox::{Agreements, Known, ToChain};
use crate::node::peers::{PeerMap, bootstrap_peer};
use crate::node::registry::{Registry, RegistryError};
use crate::node::signer::Signer;
use crate::node::workers::{Verifier, Workers};
use crate::runner::Runner;
use crate::telemetry::Metrics;

/// Requests that wait in front of the core; beyond it the API says that it is busy.
const API_QUEUE: usize = 256;
/// Commands of the node's own that wait in front of the core.
const CONTROL_QUEUE: usize = 64;
/// Terms from peers that wait.
const TERMS_QUEUE: usize = 64;
/// Events that a slow listener may be behind.
const EVENTS_BEHIND_MAX: usize = 4_096;
/// Bytes of frames after which a gossip batch leaves at once.
const GOSSIP_BYTES: usize = 32 * 1024;
/// How long open requests may take at a shutdown.
const SHUTDOWN: std::time::Duration = std::time::Duration::from_secs(10);

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
    /// Threads or signals.
    #[error("the system does not give what the node needs: {0}")]
    System(#[from] std::io::Error),
    /// A part of the node ended by itself.
    #[error("{0} ended by itself: this is a fault of the program, please report it")]
    Ended(&'static str),
}

/// Runs a node until SIGTERM or SIGINT, or until it must not go on.
///
/// # Errors
/// [`NodeError`].
pub async fn run_node(config: NodeConfig, runner: Arc<dyn Runner>) -> Result<(), NodeError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            result = tokio::signal::ctrl_c() => result.map_or("no signal handler", |()| "SIGINT"),
        }
    };
    let node = RunningNode::start(config, runner).await?;
    node.run_until(stop).await
}

/// A node that has started.
pub struct RunningNode {
    api: Arc<Api>,
    listener: TcpListener,
    driver: tokio::task::JoinHandle<Result<(), DriverError>>,
    follow: tokio::task::JoinHandle<Result<(), FollowError>>,
    stop: watch::Sender<bool>,
    to_chain: Arc<ToChain>,
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
        let (data_dir, password) = (config.data_dir.clone(), config.password_file.clone());
        let light = config.light_keys;
        let keys = tokio::task::spawn_blocking(move || Keyring::open(&data_dir, &password, light));
        let keys = Arc::new(
            keys.await
                .map_err(|_| NodeError::Ended("opening the keys"))??,
        );
        let tokens = Tokens::open(&config.data_dir)?;
        let node = keys.node();
        tracing::info!(node = %node, name = config.name, chain = deployment.chain_id, contract = %deployment.contract, "node.starting");

        let identity = [&deployment.bytes()[..], &node.0].concat();
        let store = Store::open(&config.path("store"), &identity)?;
        let writer = Arc::new(Writer::spawn(store.clone(), WriterLimits::default())?);
        let modules = Arc::new(Modules::open(config.path("modules"))?);
        let registry = Registry::load(&store)?;
        let peers = peer_map(&config, node, &registry)?;
        let (core, known) = recover(&config, deployment, node, &store)?;

        let metrics = Arc::new(Metrics::default());
        let config = Arc::new(config);
        let peer = diversity_net::public_key(&keys.peer)?;
        let (net, net_events) =
            Net::spawn(net_config(&config, &keys, &deployment, peers.list(&peer)))?;
        let registry = Arc::new(RwLock::new(registry));
        let peers = Arc::new(Mutex::new(peers));
        let agreements: Agreements = Arc::default();
        for a in &known {
            let one = Known {
                terms: Arc::clone(&a.terms),
                key: a.key.clone(),
            };
            agreements
                .write()
                .expect("nobody else has it yet")
                .insert(a.id, Arc::new(one));
        }
        let to_chain = ToChain::new(
            deployment,
            store.clone(),
            Arc::clone(&writer),
            Arc::clone(&agreements),
        );
        let frames = Arc::new(Frames::new(store.clone(), config.frame_cache_bytes));
        let waiting = Arc::new(Waiting::default());
        let (events, _) = broadcast::channel(EVENTS_BEHIND_MAX);
        let (view, chain_view) = watch::channel(ChainView::default());
        let (stop, stopped) = watch::channel(false);
        let (api_sender, api_receiver) = mpsc::channel(API_QUEUE);
        let (control, control_receiver) = mpsc::channel(CONTROL_QUEUE);
        let (terms_sender, terms_parts) = mpsc::channel(TERMS_QUEUE);

        let listener = TcpListener::bind(config.api_listen)
            .await
            .map_err(|source| NodeError::Listen {
                address: config.api_listen,
                source,
            })?;
        let address = listener.local_addr()?;
        let told = events.clone();
        let parts = Parts {
            core,
            node,
            signer: Signer::new(Arc::clone(&keys)),
            workers: Arc::new(Workers::spawn(config.workers())?),
            verifier: Arc::new(Verifier::new(deployment)),
            frames: Arc::clone(&frames),
            modules: Arc::clone(&modules),
            runner: Arc::clone(&runner),
            writer: Arc::clone(&writer),
            store: store.clone(),
            net: net.clone(),
            net_events,
            peers: Arc::clone(&peers),
            outbox: Arc::clone(&to_chain) as _,
            terms_parts: terms_sender,
            metrics: Arc::clone(&metrics),
            notices: Arc::new(move |notice| {
                // Nobody needs to listen.
                if let Some(event) = event(notice) {
                    let _ = told.send(event);
                }
            }),
            known,
        };
        let inbox = Inbox {
            control: control_receiver,
            api: api_receiver,
        };
        let driver = tokio::spawn(Driver::run(parts, inbox, stopped.clone()));
        let follow = Follow {
            config: Arc::clone(&config),
            deployment,
            node,
            keys: Arc::clone(&keys),
            rpc: rpc(&config, &deployment, &store)?,
            store: store.clone(),
            writer: Arc::clone(&writer),
            registry: Arc::clone(&registry),
            peers: Arc::clone(&peers),
            modules: Arc::clone(&modules),
            runner: Arc::clone(&runner),
            agreements,
            waiting: Arc::clone(&waiting),
            control,
            terms_parts,
            net,
            to_chain: Arc::clone(&to_chain),
            view,
            events: events.clone(),
            metrics: Arc::clone(&metrics),
        };
        let api = Arc::new(Api {
            rates: Rates::new(config.http_rate_per_s),
            requests: Arc::new(Semaphore::new(config.http_requests_max)),
            listeners: Arc::new(Semaphore::new(config.http_listeners_max)),
            config,
            deployment,
            keys,
            node,
            peer,
            tokens,
            store,
            writer,
            frames,
            modules,
            runner,
            registry,
            peers,
            core: api_sender,
            chain: Arc::clone(&to_chain) as _,
            chain_view,
            waiting,
            events,
            metrics,
            stop: stopped,
        });
        tracing::info!(address = %address, "http.listening");
        Ok(Self {
            api,
            listener,
            driver,
            follow: tokio::spawn(follow.run()),
            stop,
            to_chain,
            address,
        })
    }

    /// What the handlers share.
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
            listener,
            mut driver,
            mut follow,
            stop,
            to_chain,
            ..
        } = self;
        let writer = Arc::clone(&api.writer);
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

fn peer_map(config: &NodeConfig, node: NodeId, registry: &Registry) -> Result<PeerMap, NodeError> {
    let bootstrap = config
        .p2p_peers
        .iter()
        .map(|p| bootstrap_peer(p))
        .collect::<Result<_, _>>()?;
    let mut peers = PeerMap::new(bootstrap);
    for (id, record) in registry.nodes.iter().filter(|(id, _)| **id != node) {
        peers.registered(record.known(*id));
    }
    for a in registry
        .agreements
        .values()
        .filter(|a| a.nodes.contains(&node))
    {
        peers.allow(a.nodes.iter().copied());
    }
    Ok(peers)
}

/// The core as an earlier run left it, and its agreements with their keys.
fn recover(
    config: &NodeConfig,
    deployment: Deployment,
    node: NodeId,
    store: &Store,
) -> Result<(Node, Vec<Activation>), NodeError> {
    let families = [
        records::AGREEMENT,
        records::CERTIFICATE,
        records::SEGMENT,
        records::AGGREGATE,
        records::FINAL,
        records::SENSOR,
        records::REVEAL,
        records::EXECUTION,
    ];
    let mut kept = BTreeMap::new();
    for family in families {
        for item in store.scan_prefix(&[family]) {
            let (key, value) = item?;
            kept.insert(key, value);
        }
    }
    let mut known = Vec::new();
    for (key, value) in kept.range(vec![records::AGREEMENT]..vec![records::AGREEMENT + 1]) {
        let id = key
            .get(1..)
            .and_then(|k| k.try_into().ok())
            .map(AgreementId);
        let id = id.ok_or(DecodeError::Invalid("key of an agreement"))?;
        let record = AgreementRecord::decode(value)?;
        let key = aggregate(&deployment, &record.terms, &record.keys)
            .map_err(|_| DecodeError::Invalid("keys of an agreement"))?;
        known.push(Activation {
            id,
            terms: Arc::new(record.terms),
            keys: record.keys,
            key,
        });
    }
    let settings = Config {
        deployment,
        node,
        gossip_flush_ms: config.gossip_flush_ms,
        gossip_bytes: GOSSIP_BYTES.min(FRAME_BATCH_BYTES_MAX),
        status_interval_ms: config.status_interval_ms,
        settle_stage_ms: config.settle_stage_ms,
        ahead_max: config.ahead_max,
        q_ahead_max: config.q_ahead_max,
        inflight_max: config.inflight_max,
    };
    let core = Node::recover(settings, kept.iter().map(|(k, v)| (&k[..], &v[..])))?;
    tracing::info!(
        records = kept.len(),
        agreements = known.len(),
        "core.recovered"
    );
    Ok((core, known))
}

fn net_config(
    config: &NodeConfig,
    keys: &Keyring,
    deployment: &Deployment,
    peers: Vec<diversity_net::PeerEntry>,
) -> NetConfig {
    NetConfig {
        identity: keys.peer.clone(),
        listen: config.p2p_listen.to_vec(),
        peers,
        topic: format!("diversity/1/frames/{}", deployment.contract.hex()),
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
    diversity_chain::rpc::Rpc::new(&settings).map_err(|e| NodeError::Rpc(e.to_string()))
}

/// What people are told of a notice.
fn event(notice: &Notice) -> Option<Event> {
    use diversity_proto::round::OutputKind as Kind;
    Some(match notice.clone() {
        Notice::WindowClosed {
            agreement,
            t,
            messages,
        } => Event::WindowClosed {
            agreement,
            t,
            messages,
        },
        Notice::Executed { agreement, t } => Event::Executed { agreement, t },
        Notice::Certified { agreement, t, kind } => {
            Event::Certified {
                agreement,
                t,
                // The core tells only of kinds that there are.
                kind: [Kind::Null, Kind::Value, Kind::Trap, Kind::Abstain]
                    .into_iter()
                    .find(|k| *k as u8 == kind)?,
            }
        }
        Notice::Hole {
            agreement,
            t,
            reason,
        } => Event::Hole {
            agreement,
            t,
            reason,
        },
        Notice::Settled { agreement, from, t } => Event::Settled { agreement, from, t },
        Notice::TakeOver {
            agreement,
            t,
            leader,
            ..
        } => Event::TakeOver {
            agreement,
            t,
            leader,
        },
        Notice::Halted { agreement, why } => Event::Halted {
            agreement,
            reason: why,
        },
        Notice::Fault { .. } => return None,
    })
}
