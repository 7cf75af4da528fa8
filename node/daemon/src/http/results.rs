//! Settled results and windows.

use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use diversity_client::api::ResultsPage;
use diversity_proto::AgreementId;
use serde::Deserialize;

use super::Api;
use super::extract::{Execution, Id, Params};
use super::problem::{ApiError, ApiResult};

/// Media type of what is signed and hashed.
const OCTETS: &str = "application/octet-stream";

#[derive(Deserialize)]
pub struct From {
    #[serde(default)]
    from: u64,
    limit: Option<usize>,
}

/// `GET /v1/agreements/{a}/results`.
pub async fn results(
    State(api): State<Arc<Api>>,
    Id(a): Id<AgreementId>,
    Params(p): Params<From>,
) -> ApiResult<JsonAnswer<ResultsPage>> {
    let page = api.rooms.archive.results(a, p.from, p.limit).await?;
    Ok(JsonAnswer(page))
}

#[derive(Deserialize)]
pub struct WhichPart {
    part: Option<String>,
}

/// `GET /v1/agreements/{a}/windows/{t}`.
pub async fn window(
    State(api): State<Arc<Api>>,
    Execution(a, t): Execution,
    Params(p): Params<WhichPart>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let archive = &api.rooms.archive;
    let octets = headers
        .get(ACCEPT)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.contains(OCTETS));
    let body = match p.part.as_deref() {
        Some("input") => archive.input(&a, t).await?,
        Some(_) => return Err(ApiError::malformed("part is input, or left out")),
        None if octets => archive.messages(&a, t).await?.window.encode(),
        None => return Ok(JsonAnswer(archive.window(&a, t)?).into_response()),
    };
    Ok(([(CONTENT_TYPE, HeaderValue::from_static(OCTETS))], body).into_response())
}
