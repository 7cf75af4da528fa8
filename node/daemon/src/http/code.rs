//! Modules by their SHA-256.

use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use diversity_client::api::{CODE_BYTES_MAX, CodeView};
use diversity_proto::Digest;
use diversity_proto::domain::sha256_raw;

use super::Api;
use super::extract::{Id, body_max, media_type, read_body};
use super::problem::{ApiError, ApiResult};
use crate::node::modules::ModuleStoreError;

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
    let found = Digest(sha256_raw(&module));
    if found != sha256 {
        return Err(ApiError::module(format!(
            "the path names {sha256}, and the module is {found}"
        )));
    }
    let size = module.len() as u64;
    let (runner, modules) = (Arc::clone(&api.runner), Arc::clone(&api.modules));
    // Compiling takes a core for a while.
    let stored = tokio::task::spawn_blocking(move || {
        runner.check(&module).map_err(ApiError::module)?;
        modules.put(&module).map_err(|error| match error {
            ModuleStoreError::Full { .. } => ApiError::unavailable(error.to_string()),
            _ => ApiError::internal(error),
        })
    });
    stored.await.map_err(ApiError::internal)??;
    api.waiting.nudge();
    Ok(JsonAnswer(CodeView { sha256, size }))
}

/// `GET /v1/code/{sha256}`.
pub async fn load(State(api): State<Arc<Api>>, Id(sha256): Id<Digest>) -> ApiResult<Response> {
    let modules = Arc::clone(&api.modules);
    let module = tokio::task::spawn_blocking(move || modules.get(&sha256))
        .await
        .map_err(ApiError::internal)?;
    match module.map_err(ApiError::internal)? {
        Some(bytes) => {
            Ok(([(CONTENT_TYPE, HeaderValue::from_static(WASM))], bytes).into_response())
        }
        None => Err(ApiError::not_found(
            format!("there is no module {sha256}"),
            "Upload it with PUT.",
        )),
    }
}
