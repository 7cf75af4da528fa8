//! The one state that the parts of a node share, in narrow views: whoever works with a part of it is handed that view and sees
//! nothing else. All of it is cheap to clone; what is behind it is one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use diversity_chain::Contracts;
use diversity_client::api::Event;
use diversity_net::Peer;
use diversity_proto::{Address, Deployment, NodeId};
use diversity_store::{Op, Store, StoreError, Writer};
use tokio::sync::{broadcast, oneshot};

use crate::config::NodeConfig;
use crate::keyring::Keyring;
use crate::node::activation::Waiting;
use crate::node::clocks::Clocks;
use crate::node::consent::Consent;
use crate::node::frames::Frames;
use crate::node::modules::Modules;
use crate::node::outbox::Agreements;
use crate::node::peers::PeerMap;
use crate::node::registry::Registry;
use crate::node::sought::Sought;
use crate::runner::Runner;
use crate::telemetry::Metrics;

/// Everything that is shared.
#[derive(Clone)]
pub struct Shared {
    /// Settings.
    pub config: Arc<NodeConfig>,
    /// Who this node is.
    pub identity: Identity,
    /// What outlives the process.
    pub durable: Durable,
    /// Modules, and who runs them.
    pub code: Code,
    /// What this node has accepted.
    pub consent: Consent,
    /// Who is registered.
    pub registered: Registered,
    /// Who is connected.
    pub peers: Peers,
    /// What clocks of others show.
    pub clocks: Clocks,
    /// Agreements that run.
    pub agreements: Agreements,
    /// Agreements that cannot run yet, and what they wait for.
    pub waiting: Arc<Waiting>,
    /// Who is looked for on the chain again.
    pub sought: Arc<Sought>,
    /// Told what happens.
    pub events: broadcast::Sender<Event>,
    /// Numbers.
    pub metrics: Arc<Metrics>,
}

/// Who this node is, and what it signs with.
#[derive(Clone)]
pub struct Identity {
    /// Chain and contract, which every signature covers.
    pub deployment: Deployment,
    /// Where the cells are.
    pub cells: Address,
    /// This node.
    pub node: NodeId,
    /// Its peer key.
    pub peer: Peer,
    /// Its keys.
    pub keys: Arc<Keyring>,
}

impl Identity {
    /// The contracts.
    pub fn contracts(&self) -> Contracts {
        Contracts {
            main: self.deployment.contract,
            cells: self.cells,
        }
    }
}

/// What outlives the process.
#[derive(Clone)]
pub struct Durable {
    /// Reads records.
    pub store: Store,
    /// Makes records durable.
    pub writer: Arc<Writer>,
    /// Stored frames.
    pub frames: Arc<Frames>,
}

impl Durable {
    /// Makes records durable, without waiting for a place in the store's queue.
    ///
    /// # Errors
    /// [`WriteError`]; only after [`WriteError::Behind`] is it known that nothing was written.
    pub async fn write(&self, ops: Vec<Op>) -> Result<(), WriteError> {
        let (done, result) = oneshot::channel();
        let queued = self.writer.try_submit(
            ops,
            Box::new(move |result| {
                // A caller that has gone away misses nothing: the record is durable all the same.
                let _ = done.send(result);
            }),
        );
        if queued.is_err() {
            return Err(WriteError::Behind);
        }
        match result.await {
            Ok(written) => Ok(written?),
            Err(_) => Err(WriteError::Stopped),
        }
    }
}

/// Why a record is not known to be durable.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The store's queue is full.
    #[error("the store is behind")]
    Behind,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node ends.
    #[error("the node is shutting down")]
    Stopped,
}

/// Modules, and who runs them.
#[derive(Clone)]
pub struct Code {
    /// Modules by their SHA-256.
    pub modules: Arc<Modules>,
    /// Who runs `f`.
    pub runner: Arc<dyn Runner>,
}

/// Who is registered, as the chain says it.
#[derive(Clone, Default)]
pub struct Registered(Arc<RwLock<Registry>>);

/// The registry, while it is looked at.
pub struct Reading<'a> {
    registry: RwLockReadGuard<'a, Registry>,
    #[cfg(test)]
    _alone: alone::Alone,
}

impl std::ops::Deref for Reading<'_> {
    type Target = Registry;
    fn deref(&self) -> &Registry {
        &self.registry
    }
}

/// Every test sees a thread that reads what it reads already: with a writer in between, both would wait for ever.
#[cfg(test)]
mod alone {
    use std::cell::Cell;

    thread_local! {
        static READS: Cell<bool> = const { Cell::new(false) };
    }

    pub struct Alone;

    impl Alone {
        pub fn begin() -> Self {
            assert!(
                !READS.replace(true),
                "the registry is read by a thread that reads it already"
            );
            Self
        }
    }

    impl Drop for Alone {
        fn drop(&mut self) {
            READS.set(false);
        }
    }
}

impl Registered {
    /// As an earlier run kept it.
    pub fn new(registry: Registry) -> Self {
        Self(Arc::new(RwLock::new(registry)))
    }

    /// To look something up. Never held while something is awaited, nor while it is read again: in the fields of a value that is being
    /// made, what is not bound to a name of its own is held until all of it is made.
    pub fn read(&self) -> Reading<'_> {
        Reading {
            #[cfg(test)]
            _alone: alone::Alone::begin(),
            registry: self.0.read().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// To take in what the chain says.
    pub fn write(&self) -> RwLockWriteGuard<'_, Registry> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who is connected.
#[derive(Clone, Default)]
pub struct Peers(Arc<Mutex<PeerMap>>);

impl Peers {
    /// With what is known at the start.
    pub fn new(peers: PeerMap) -> Self {
        Self(Arc::new(Mutex::new(peers)))
    }

    /// The map. Never held while something is awaited.
    pub fn lock(&self) -> MutexGuard<'_, PeerMap> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
