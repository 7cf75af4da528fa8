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

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use diversity_client::api::Event;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, broadcast, watch};

use crate::config::NodeConfig;
use crate::keyring::Tokens;
use crate::node::shared::Shared;
use crate::rooms::Rooms;
use crate::telemetry::Metrics;
use guard::{Bounded, Rates};
use problem::ApiError;

/// What the handlers work with: the rooms, and what is HTTP's own.
pub struct Api {
    /// Everything that can be asked.
    pub rooms: Rooms,
    /// Who may do what.
    pub tokens: Tokens,
    /// What happens.
    pub events: broadcast::Sender<Event>,
    /// Numbers.
    pub metrics: Arc<Metrics>,
    /// How much at once.
    pub limits: Limits,
    /// Ends streams at shutdown.
    pub stop: watch::Receiver<bool>,
}

/// How much HTTP takes at once.
pub struct Limits {
    /// Bytes of a body.
    pub body_bytes_max: usize,
    /// Requests a second.
    pub rates: Rates,
    /// Requests at once.
    pub requests: Arc<Semaphore>,
    /// Listeners at once.
    pub listeners: Arc<Semaphore>,
}

impl Api {
    /// Over the rooms.
    pub fn new(shared: &Shared, rooms: Rooms, tokens: Tokens, stop: watch::Receiver<bool>) -> Self {
        Self {
            rooms,
            tokens,
            events: shared.events.clone(),
            metrics: Arc::clone(&shared.metrics),
            limits: Limits::new(&shared.config),
            stop,
        }
    }
}

impl Limits {
    /// As the settings say.
    pub fn new(config: &NodeConfig) -> Self {
        Self {
            body_bytes_max: config.http_body_bytes_max,
            rates: Rates::new(config.http_rate_per_s),
            requests: Arc::new(Semaphore::new(config.http_requests_max)),
            listeners: Arc::new(Semaphore::new(config.http_listeners_max)),
        }
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
        .route("/v1/agreements/{a}/resolve", post(agreements::resolve))
        .route("/v1/agreements/{a}/reread", post(agreements::reread))
        .route("/v1/agreements/{a}/results", get(results::results))
        .route("/v1/agreements/{a}/windows/{t}", get(results::window))
        .route("/v1/agreements/{a}/disputes", get(disputes::of_agreement))
        .route("/v1/messages", post(messages::ingest))
        .route("/v1/messages/acknowledged", get(messages::acknowledged))
        .route("/v1/disputes", get(disputes::list))
        .route("/v1/disputes/{d}", get(disputes::show))
        .route("/v1/disputes/{d}/reread", post(disputes::reread))
        .route("/v1/disputes/{d}/evidence", get(disputes::evidence))
        .route("/v1/chain/skipped", get(status::skipped))
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
