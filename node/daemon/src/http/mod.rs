//! The HTTP API: exactly the routes of [`diversity_client::api::ROUTES`].

pub mod extract;
pub mod guard;
pub mod problem;

mod agreements;
mod code;
mod disputes;
mod messages;
mod openapi;
mod registration;
mod results;
mod status;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use diversity_client::api::{Event, Page};
use diversity_net::Peer;
use diversity_proto::{Deployment, Digest, NodeId};
use diversity_store::{Op, Store, Writer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};

use crate::config::NodeConfig;
use crate::keyring::{Keyring, Tokens};
use crate::node::activation::Waiting;
use crate::node::chain::{Chain, ChainView, RelayError};
use crate::node::driver::Command;
use crate::node::frames::Frames;
use crate::node::modules::Modules;
use crate::node::peers::PeerMap;
use crate::node::registry::Registry;
use crate::runner::Runner;
use crate::telemetry::Metrics;
use guard::{Bounded, Rates};
use problem::{ApiError, ApiResult};

/// How long a request waits for its transaction to be mined and taken in.
const CHAIN_WAIT: Duration = Duration::from_secs(60);
/// How long a request waits for the core.
const CORE_WAIT: Duration = Duration::from_secs(30);
/// Items on a page when the caller does not say.
const PAGE: usize = 100;

/// Everything that the handlers need.
pub struct Api {
    /// Settings.
    pub config: Arc<NodeConfig>,
    /// Chain and contract.
    pub deployment: Deployment,
    /// Keys.
    pub keys: Arc<Keyring>,
    /// This node.
    pub node: NodeId,
    /// Its peer key.
    pub peer: Peer,
    /// Who may do what.
    pub tokens: Tokens,
    /// Stored records.
    pub store: Store,
    /// Makes records durable.
    pub writer: Arc<Writer>,
    /// Stored frames.
    pub frames: Arc<Frames>,
    /// Modules.
    pub modules: Arc<Modules>,
    /// Who runs `f`.
    pub runner: Arc<dyn Runner>,
    /// Who is registered.
    pub registry: Arc<RwLock<Registry>>,
    /// Who is connected.
    pub peers: Arc<Mutex<PeerMap>>,
    /// Into the loop.
    pub core: mpsc::Sender<Command>,
    /// To the chain.
    pub chain: Arc<dyn Chain>,
    /// How the chain is.
    pub chain_view: watch::Receiver<ChainView>,
    /// Agreements that cannot run yet, and what they wait for.
    pub waiting: Arc<Waiting>,
    /// What happens.
    pub events: broadcast::Sender<Event>,
    /// Numbers.
    pub metrics: Arc<Metrics>,
    /// Requests a second.
    pub rates: Rates,
    /// Requests at once.
    pub requests: Arc<Semaphore>,
    /// Listeners at once.
    pub listeners: Arc<Semaphore>,
    /// Ends streams at shutdown.
    pub stop: watch::Receiver<bool>,
}

impl Api {
    fn registry(&self) -> RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn peers(&self) -> MutexGuard<'_, PeerMap> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the core, waiting for a place in its queue.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> ApiResult<T> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.core.send(command(reply)).await.ok()?;
            answer.await.ok()
        };
        match tokio::time::timeout(CORE_WAIT, asked).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(ApiError::unavailable("the node is shutting down")),
            Err(_) => Err(ApiError::unavailable("the node is too busy to answer")),
        }
    }

    /// Makes a record durable.
    async fn write(&self, ops: Vec<Op>) -> ApiResult<()> {
        let (done, result) = oneshot::channel();
        let queued = self.writer.try_submit(
            ops,
            Box::new(move |result| {
                // A caller that has gone away misses nothing: the record is durable all the same.
                let _ = done.send(result);
            }),
        );
        if queued.is_err() {
            return Err(ApiError::busy("the store is behind"));
        }
        match result.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(ApiError::internal(error)),
            Err(_) => Err(ApiError::unavailable("the node is shutting down")),
        }
    }

    /// Has a call mined and waits until its events are taken in here.
    async fn relay(&self, label: String, data: Vec<u8>) -> ApiResult<Digest> {
        let end = tokio::time::Instant::now() + CHAIN_WAIT;
        let late = || {
            ApiError::timeout(format!(
                "{label} has not been mined within {} s",
                CHAIN_WAIT.as_secs()
            ))
        };
        let mined = tokio::time::timeout_at(end, self.chain.relay(label.clone(), data))
            .await
            .map_err(|_| late())?;
        let mined = mined.map_err(|error| match error {
            RelayError::Reverted { name, words } => ApiError::reverted(format!("{name}: {words}")),
            RelayError::Pointless(reason) => ApiError::reverted(reason),
            RelayError::Unavailable(reason) => ApiError::unavailable(reason),
        })?;
        let mut view = self.chain_view.clone();
        let taken = view.wait_for(|v| v.processed.is_some_and(|block| block >= mined.block));
        match tokio::time::timeout_at(end, taken).await {
            Ok(Ok(_)) => Ok(mined.tx),
            Ok(Err(_)) => Err(ApiError::unavailable("the node is shutting down")),
            Err(_) => Err(late()),
        }
    }
}

/// Cuts a page out of sorted items; `cursor` is the key of the last one before it.
fn page<T>(items: impl Iterator<Item = (String, T)>, limit: Option<usize>) -> Page<T> {
    let limit = limit
        .unwrap_or(PAGE)
        .clamp(1, diversity_client::api::PAGE_MAX);
    let mut out = Vec::new();
    let mut last = None;
    for (key, item) in items {
        if out.len() == limit {
            return Page {
                items: out,
                next: last,
            };
        }
        last = Some(key);
        out.push(item);
    }
    Page {
        items: out,
        next: None,
    }
}

/// The routes.
pub fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/v1/info", get(status::info))
        .route(
            "/v1/users",
            get(registration::users).post(registration::register_user),
        )
        .route("/v1/users/{user}", get(registration::user))
        .route(
            "/v1/sensors",
            get(registration::sensors).post(registration::register_sensors),
        )
        .route("/v1/sensors/{sensor}", get(registration::sensor))
        .route("/v1/nodes/binding", post(registration::binding))
        .route(
            "/v1/nodes",
            get(registration::nodes).post(registration::register_node),
        )
        .route("/v1/nodes/{node}", get(registration::node))
        .route("/v1/code/{sha256}", put(code::store).get(code::load))
        .route("/v1/agreements/accept", post(agreements::accept))
        .route(
            "/v1/agreements",
            get(agreements::list).post(agreements::create),
        )
        .route("/v1/agreements/{a}", get(agreements::show))
        .route("/v1/agreements/{a}/close", post(agreements::close))
        .route("/v1/agreements/{a}/results", get(results::results))
        .route("/v1/agreements/{a}/windows/{t}", get(results::window))
        .route("/v1/agreements/{a}/disputes", get(disputes::of_agreement))
        .route("/v1/messages", post(messages::ingest))
        .route("/v1/messages/acknowledged", get(messages::acknowledged))
        .route("/v1/disputes", get(disputes::list))
        .route("/v1/disputes/{d}", get(disputes::show))
        .route("/v1/disputes/{d}/evidence", get(disputes::evidence))
        .route("/v1/disputes/{d}/resolve", post(disputes::resolve))
        .route("/v1/events", get(status::events))
        .route("/healthz", get(status::health))
        .route("/readyz", get(status::ready))
        .route("/metrics", get(status::metrics))
        .route("/openapi.json", get(openapi::serve))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(&api),
            guard::guard,
        ))
        .with_state(api)
}

async fn not_found(request: Request) -> Response {
    let path: String = request.uri().path().chars().take(200).collect();
    ApiError::not_found(
        format!("{path} is not served here"),
        "See /openapi.json for what is served.",
    )
    .into_response()
}

async fn method_not_allowed(request: Request) -> Response {
    ApiError::method(format!("{} is not taken by this path", request.method())).into_response()
}

/// Serves until `stop` says so, then finishes the requests under way.
///
/// # Errors
/// If the listener fails.
pub async fn serve(listener: TcpListener, api: Arc<Api>) -> std::io::Result<()> {
    let mut stop = api.stop.clone();
    let service = router(api).into_make_service_with_connect_info::<guard::Caller>();
    axum::serve(Bounded::new(listener), service)
        .with_graceful_shutdown(async move {
            // The sender being gone is the end as well.
            let _ = stop.wait_for(|stop| *stop).await;
        })
        .await
}
