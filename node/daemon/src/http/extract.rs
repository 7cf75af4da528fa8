//! Bodies and parameters: bounded, strict, and with problems that say what is wrong.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use diversity_client::hexed::Hexed;
use serde::de::DeserializeOwned;

use super::problem::{ApiError, ApiResult};

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest body that this server reads; set as an extension of the request.
#[derive(Clone, Copy, Debug)]
pub struct BodyMax(pub usize);

/// Reads a whole body of at most `max` bytes.
///
/// # Errors
/// A problem: 413, or 400 if it breaks off or comes too slowly.
pub async fn read_body(body: Body, max: usize) -> ApiResult<Bytes> {
    let read = tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, max)).await;
    match read {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            let mut cause: Option<&dyn std::error::Error> = Some(&error);
            while let Some(e) = cause {
                if e.to_string().contains("length limit exceeded") {
                    return Err(ApiError::too_large(max));
                }
                cause = e.source();
            }
            Err(ApiError::malformed(format!("the body breaks off: {error}")))
        }
        Err(_) => Err(ApiError::malformed(
            "the body did not arrive within 30 seconds",
        )),
    }
}

/// The media type of a request without its parameters, lower case.
pub fn media_type(parts: &Parts) -> String {
    let value = parts
        .headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// A JSON body.
pub struct Json<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> ApiResult<Self> {
        let (parts, body) = request.into_parts();
        if media_type(&parts) != "application/json" {
            return Err(ApiError::media_type("application/json"));
        }
        let bytes = read_body(body, body_max(&parts)).await?;
        serde_json::from_slice(&bytes)
            .map(Json)
            .map_err(|e| ApiError::malformed(e.to_string()))
    }
}

/// The bound of this request's body.
pub fn body_max(parts: &Parts) -> usize {
    parts
        .extensions
        .get::<BodyMax>()
        .map_or(diversity_client::api::REQUEST_BYTES_MAX, |max| max.0)
}

/// Query parameters.
pub struct Params<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> ApiResult<Self> {
        Query::try_from_uri(&parts.uri)
            .map(|q| Self(q.0))
            .map_err(|e| ApiError::malformed(e.body_text()))
    }
}

/// One hexadecimal path parameter.
pub struct Id<T>(pub T);

impl<S: Send + Sync, T: Hexed + Send> FromRequestParts<S> for Id<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> ApiResult<Self> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|e| ApiError::malformed(e.body_text()))?;
        id(&text).map(Self)
    }
}

/// Reads a hexadecimal id.
///
/// # Errors
/// 400 that says what it should be.
pub fn id<T: Hexed>(text: &str) -> ApiResult<T> {
    T::from_hex(text).ok_or_else(|| {
        let shown: String = text
            .chars()
            .take(80)
            .flat_map(char::escape_default)
            .collect();
        ApiError::malformed(format!("{shown:?} is not {}", T::WHAT))
    })
}

/// An agreement and an execution.
pub struct Execution(pub diversity_proto::AgreementId, pub u64);

impl<S: Send + Sync> FromRequestParts<S> for Execution {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> ApiResult<Self> {
        let Path((a, t)) = Path::<(String, String)>::from_request_parts(parts, state)
            .await
            .map_err(|e| ApiError::malformed(e.body_text()))?;
        let t = t
            .parse()
            .map_err(|_| ApiError::malformed("t is not a number from 0"))?;
        Ok(Self(id(&a)?, t))
    }
}
