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
use diversity_client::api::{ChainStatus, Event, Info, NodeIdentity, PAGE_MAX, Peer};
use diversity_client::hexed::Bytes;
use diversity_proto::AgreementId;
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;

use super::Api;
use super::extract::Params;
use super::problem::{ApiError, ApiResult};
use crate::node::driver::unix_ms;

/// `GET /v1/info`.
pub async fn info(State(api): State<Arc<Api>>) -> ApiResult<JsonAnswer<Info>> {
    let agreements = super::agreements::summaries(&api, None, Some(PAGE_MAX))
        .await?
        .items;
    let declaration = super::registration::declaration(&api);
    let view = api.chain_view.borrow().clone();
    let peers = {
        let (registry, map) = (api.registry(), api.peers());
        let others = registry
            .nodes
            .iter()
            .filter(|(id, _)| **id != api.node)
            .take(PAGE_MAX);
        others
            .map(|(id, r)| Peer {
                node: *id,
                name: r.declaration.name.clone(),
                connected: map.connected(id),
            })
            .collect()
    };
    let owner = api.registry().nodes.get(&api.node).map(|r| r.owner);
    Ok(JsonAnswer(Info {
        version: env!("CARGO_PKG_VERSION").into(),
        deployment: api.deployment.into(),
        node: NodeIdentity {
            node: api.node,
            public_key: declaration.public_key,
            account: declaration.account,
            peer_key: Bytes(api.peer.to_vec()),
            peer_id: diversity_net::peer_to_text(&api.peer).map_err(ApiError::internal)?,
            name: declaration.name,
            addresses: declaration.addresses,
            owner,
        },
        chain: ChainStatus {
            reachable: view.trouble.is_none() && view.head.is_some(),
            block: view.head.unwrap_or(0),
            processed_block: view.processed.unwrap_or(0),
            balance_wei: view.balance.to_string(),
            outbox: view.outbox,
        },
        peers,
        agreements,
    }))
}

/// `GET /healthz`.
pub async fn health() -> &'static str {
    "ok\n"
}

/// What keeps a node from working; nothing when it is ready.
fn not_ready(api: &Api) -> Vec<String> {
    let mut out = Vec::new();
    if api.store.is_poisoned() {
        out.push("store: a write has failed, nothing more is acknowledged; mend the disk and start the node again".into());
    }
    let view = api.chain_view.borrow();
    if let Some(trouble) = &view.trouble {
        out.push(format!("chain: {trouble}"));
    }
    match (view.head, view.processed) {
        (None, _) => out.push("chain: no block seen yet".into()),
        (Some(_), None) => out.push("chain: no events taken in yet".into()),
        (Some(head), Some(processed))
            if processed.saturating_add(api.config.confirmations + 100) < head =>
        {
            out.push(format!(
                "chain: events are taken in up to block {processed} of {head}"
            ));
        }
        _ => {}
    }
    let stall_ms = api.config.chain_stall_s.saturating_mul(1000);
    if stall_ms > 0 && view.head.is_some() && unix_ms().saturating_sub(view.head_at_ms) > stall_ms {
        let seconds = unix_ms().saturating_sub(view.head_at_ms) / 1000;
        out.push(format!(
            "chain: the head has not moved for {seconds} s; are the validators running?"
        ));
    }
    out
}

/// `GET /readyz`.
pub async fn ready(State(api): State<Arc<Api>>) -> Response {
    let reasons = not_ready(&api);
    let waiting = api
        .waiting
        .all()
        .into_iter()
        .map(|(a, reason)| format!("note: agreement {a}: {reason}\n"));
    if reasons.is_empty() {
        let notes: String = waiting.collect();
        return format!("ready\n{notes}").into_response();
    }
    let mut error = ApiError::unavailable(reasons.join("; "));
    error.problem.title = "The node is not ready".into();
    error.into_response()
}

/// `GET /metrics`.
pub async fn metrics(State(api): State<Arc<Api>>) -> Response {
    let view = api.chain_view.borrow().clone();
    api.metrics.chain_head.set(view.head.unwrap_or(0) as i64);
    api.metrics
        .chain_cursor
        .set(view.processed.unwrap_or(0) as i64);
    api.metrics.outbox.set(view.outbox as i64);
    let kind =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    (StatusCode::OK, [(CONTENT_TYPE, kind)], api.metrics.text()).into_response()
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
    let place = Arc::clone(&api.listeners)
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
