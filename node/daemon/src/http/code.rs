//! Modules by their SHA-256.

use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use diversity_client::api::{CODE_BYTES_MAX, CodeView};
use diversity_proto::Digest;

use super::Api;
use super::extract::{Id, body_max, media_type, read_body};
use super::problem::{ApiError, ApiResult};

/// Media type of a module.
const WASM: &str = "application/wasm";

/// `PUT /v1/code/{sha256}`.
pub async fn store(
    State(api): State<Arc<Api>>,
    request: Request,
) -> ApiResult<JsonAnswer<CodeView>> {
    let (mut parts, body) = request.into_parts();
    let Id(sha256) = Id::<Digest>::from_request_parts(&mut parts, &()).await?;
    if media_type(&parts) != WASM {
        return Err(ApiError::media_type(WASM));
    }
    let module = read_body(body, body_max(&parts).min(CODE_BYTES_MAX)).await?;
    Ok(JsonAnswer(api.rooms.shelf.put(sha256, module).await?))
}

/// `GET /v1/code/{sha256}`.
pub async fn load(State(api): State<Arc<Api>>, Id(sha256): Id<Digest>) -> ApiResult<Response> {
    let module = api.rooms.shelf.get(sha256).await?;
    Ok(([(CONTENT_TYPE, HeaderValue::from_static(WASM))], module).into_response())
}
