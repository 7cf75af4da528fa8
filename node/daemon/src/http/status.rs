//! How the node is, and what happens.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json as JsonAnswer;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use diversity_client::api::{Event, Info, SkippedView};
use diversity_proto::AgreementId;
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;

use super::Api;
use super::extract::Params;
use super::problem::{ApiError, ApiResult};

/// `GET /v1/info`.
pub async fn info(State(api): State<Arc<Api>>) -> ApiResult<JsonAnswer<Info>> {
    Ok(JsonAnswer(api.rooms.health.info().await?))
}

/// `GET /v1/chain/skipped`.
pub async fn skipped(State(api): State<Arc<Api>>) -> JsonAnswer<Vec<SkippedView>> {
    JsonAnswer(api.rooms.health.skipped())
}

/// `GET /healthz`.
pub async fn health() -> &'static str {
    "ok\n"
}

/// `GET /readyz`.
pub async fn ready(State(api): State<Arc<Api>>) -> Response {
    let reasons = api.rooms.health.not_ready();
    if reasons.is_empty() {
        let health = &api.rooms.health;
        let warnings = health.warnings().into_iter();
        let waiting = health.waiting().into_iter();
        let odd = health.odd().into_iter();
        let notes: String = warnings
            .map(|warning| format!("warning: {warning}\n"))
            .chain(waiting.map(|(a, reason)| format!("note: agreement {a}: {reason}\n")))
            .chain(odd.map(|note| format!("note: {note}\n")))
            .collect();
        return format!("ready\n{notes}").into_response();
    }
    let mut error = ApiError::unavailable(reasons.join("; "));
    error.problem.title = "The node is not ready".into();
    error.into_response()
}

/// `GET /metrics`.
pub async fn metrics(State(api): State<Arc<Api>>) -> Response {
    let kind =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = api.rooms.health.metrics();
    (StatusCode::OK, [(CONTENT_TYPE, kind)], text).into_response()
}

#[derive(Deserialize)]
pub struct Filter {
    agreement: Option<String>,
}

/// Which agreement an event is about.
fn about(event: &Event) -> Option<AgreementId> {
    match event {
        Event::WindowClosed { agreement, .. }
        | Event::Executed { agreement, .. }
        | Event::Certified { agreement, .. }
        | Event::Settled { agreement, .. }
        | Event::Hole { agreement, .. }
        | Event::Resolved { agreement, .. }
        | Event::Held { agreement, .. }
        | Event::TakeOver { agreement, .. }
        | Event::Halted { agreement, .. } => Some(*agreement),
        Event::Dispute { dispute } => dispute.agreement,
        Event::SensorVoid { .. } | Event::Missed { .. } => None,
    }
}

/// `GET /v1/events`.
pub async fn events(
    State(api): State<Arc<Api>>,
    Params(filter): Params<Filter>,
) -> ApiResult<Response> {
    let wanted: Option<AgreementId> = filter
        .agreement
        .as_deref()
        .map(super::extract::id)
        .transpose()?;
    let place = Arc::clone(&api.limits.listeners)
        .try_acquire_owned()
        .map_err(|_| ApiError::busy("as many listeners are connected as the settings allow"))?;
    let state = (api.events.subscribe(), api.stop.clone(), 0u64, place);
    let stream = futures::stream::unfold(
        state,
        move |(mut events, mut stop, mut id, place)| async move {
            loop {
                let event = tokio::select! {
                    _ = stop.wait_for(|stop| *stop) => return None,
                    event = events.recv() => event,
                };
                let event = match event {
                    Ok(event) => event,
                    Err(RecvError::Lagged(count)) => Event::Missed { count },
                    Err(RecvError::Closed) => return None,
                };
                if wanted.is_some() && about(&event).is_some_and(|a| Some(a) != wanted) {
                    continue;
                }
                id += 1;
                let mut value = serde_json::to_value(&event).expect("an event is plain data");
                let tag = value
                    .get_mut("event")
                    .and_then(|t| t.as_str().map(String::from))
                    .unwrap_or_default();
                let sse = SseEvent::default()
                    .id(id.to_string())
                    .event(tag)
                    .data(value.to_string());
                return Some((Ok::<_, Infallible>(sse), (events, stop, id, place)));
            }
        },
    );
    Ok(Sse::new(stream)
        .keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
        .into_response())
}
