//! Every error of the API is an RFC 9457 problem document that says what to do.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use diversity_client::api::{Problem, codes};

use crate::rooms::RoomError;

/// Media type of a problem document.
pub const PROBLEM: &str = "application/problem+json";

/// An error of a request.
#[derive(Debug)]
pub struct ApiError {
    /// The document.
    pub problem: Box<Problem>,
    /// Seconds after which it is worth another try.
    pub retry_after_s: Option<u32>,
}

/// Result of a handler.
pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    fn new(
        status: u16,
        code: &str,
        title: &str,
        detail: impl Into<String>,
        what_to_do: impl Into<String>,
    ) -> Self {
        Self {
            problem: Box::new(Problem::new(status, code, title, detail, what_to_do)),
            retry_after_s: None,
        }
    }

    /// 400: the body or a parameter does not parse.
    pub fn malformed(detail: impl Into<String>) -> Self {
        let what = "Compare the request with /openapi.json and send it again.";
        Self::new(
            400,
            codes::MALFORMED,
            "The request cannot be read",
            detail,
            what,
        )
    }

    /// 413.
    pub fn too_large(max: usize) -> Self {
        let detail = format!("the body is longer than {max} bytes");
        Self::new(
            413,
            codes::TOO_LARGE,
            "The body is too large",
            detail,
            "Send it in smaller parts.",
        )
    }

    /// 415.
    pub fn media_type(wanted: &str) -> Self {
        let what = format!("Set Content-Type to {wanted}.");
        Self::new(
            415,
            codes::MEDIA_TYPE,
            "The media type is not served",
            format!("{wanted} is taken here"),
            what,
        )
    }

    /// 401.
    pub fn unauthorized(detail: &str) -> Self {
        let what = "Send Authorization: Bearer TOKEN, with a token from the api-token files in the node's data directory.";
        Self::new(401, codes::UNAUTHORIZED, "Not authorised", detail, what)
    }

    /// 403.
    pub fn forbidden(has: &str, needs: &str) -> Self {
        let detail = format!("the token has scope {has}, and this needs {needs}");
        let what = format!("Use the token in api-token-{needs} of the node's data directory.");
        Self::new(
            403,
            codes::FORBIDDEN,
            "The token does not reach",
            detail,
            what,
        )
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>, what_to_do: &str) -> Self {
        Self::new(404, codes::NOT_FOUND, "Not found", detail, what_to_do)
    }

    /// 405.
    pub fn method(detail: impl Into<String>) -> Self {
        let what = "See /openapi.json for what this path takes.";
        Self::new(
            405,
            codes::METHOD,
            "The method is not served here",
            detail,
            what,
        )
    }

    /// 409.
    pub fn conflict(detail: impl Into<String>, what_to_do: &str) -> Self {
        Self::new(
            409,
            codes::CONFLICT,
            "It stands registered with other content",
            detail,
            what_to_do,
        )
    }

    /// 429.
    pub fn busy(detail: &str) -> Self {
        let what = "Wait as long as Retry-After says and send it again.";
        Self {
            retry_after_s: Some(1),
            ..Self::new(429, codes::BUSY, "Too much at once", detail, what)
        }
    }

    /// 503.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        let what = "Look at /readyz and at the node's log, and try again later.";
        Self {
            retry_after_s: Some(2),
            ..Self::new(503, codes::UNAVAILABLE, "Not available now", detail, what)
        }
    }

    /// 504.
    pub fn timeout(detail: impl Into<String>) -> Self {
        let what = "The request was kept: repeat it to learn what became of it.";
        Self {
            retry_after_s: Some(5),
            ..Self::new(
                504,
                codes::TIMEOUT,
                "The chain has not answered in time",
                detail,
                what,
            )
        }
    }

    /// 500.
    pub fn internal(detail: impl std::fmt::Display) -> Self {
        tracing::error!(error = %detail, "api.internal");
        let what = "Look into the node's log; if it does not help, report it.";
        Self::new(
            500,
            codes::INTERNAL,
            "The node has a defect",
            detail.to_string(),
            what,
        )
    }

    /// 400: a signature of somebody else.
    pub fn signature(detail: impl Into<String>) -> Self {
        let what = "Sign the digest of docs/wire-format.md section 6 with that key, for this chain and contract.";
        Self::new(
            400,
            codes::BAD_SIGNATURE,
            "A signature is not the one of who should have signed",
            detail,
            what,
        )
    }

    /// 400: what the contract said.
    pub fn reverted(detail: impl Into<String>) -> Self {
        let what = "Mend what the contract names and send it again.";
        Self::new(
            400,
            codes::REVERTED,
            "The contract refuses it",
            detail,
            what,
        )
    }

    /// 400: terms.
    pub fn terms(detail: impl Into<String>) -> Self {
        Self::new(
            400,
            codes::BAD_TERMS,
            "The terms break a rule",
            detail,
            "Change the term that is named and sign anew.",
        )
    }

    /// 400: `a`.
    pub fn agreement_id(detail: impl Into<String>) -> Self {
        let what = "Compute a from the terms and the nodes' registered keys (docs/wire-format.md section 6).";
        Self::new(
            400,
            codes::BAD_AGREEMENT_ID,
            "The agreement id does not belong to these terms and nodes",
            detail,
            what,
        )
    }

    /// 400: somebody is not registered.
    pub fn not_registered(detail: impl Into<String>) -> Self {
        Self::new(
            400,
            codes::NOT_REGISTERED,
            "Not registered",
            detail,
            "Register it first, and repeat the request then.",
        )
    }

    /// 400: the owner of a sensor does not agree.
    pub fn not_granted(detail: impl Into<String>) -> Self {
        Self::new(
            400,
            codes::NOT_GRANTED,
            "The owner of a sensor has not granted it",
            detail,
            "Have its owner sign (`diversity agreement grant DRAFT --user OWNER`), or leave the sensor out.",
        )
    }

    /// 400: a node has not accepted.
    pub fn not_accepted(detail: impl Into<String>) -> Self {
        Self::new(
            400,
            codes::NOT_ACCEPTED,
            "A node has not accepted the agreement",
            detail,
            "Every node that the terms name must accept before the agreement is created: `diversity agreement accept DRAFT`, at each of them.",
        )
    }

    /// 400: not this node's agreement.
    pub fn not_a_member(detail: impl Into<String>) -> Self {
        let what = "Send it to a node that the terms name.";
        Self::new(
            400,
            codes::NOT_A_MEMBER,
            "This node is no node of the agreement",
            detail,
            what,
        )
    }

    /// 400: module.
    pub fn module(detail: impl Into<String>) -> Self {
        let what = "Build it with the guest SDK (contracts/offchain) and check it with `diversity code check`.";
        Self::new(
            400,
            codes::BAD_MODULE,
            "The module cannot be run",
            detail,
            what,
        )
    }

    /// 400: no module.
    pub fn module_missing(digest: &diversity_proto::Digest) -> Self {
        let detail = RoomError::ModuleMissing(*digest).to_string();
        let what = format!("Upload it with PUT /v1/code/{digest}, and repeat the request then.");
        Self::new(
            400,
            codes::MODULE_MISSING,
            "The module is missing",
            detail,
            what,
        )
    }
}

impl From<RoomError> for ApiError {
    fn from(error: RoomError) -> Self {
        match error {
            RoomError::Malformed(detail) => Self::malformed(detail),
            RoomError::NotFound { detail, what_to_do } => Self::not_found(detail, what_to_do),
            RoomError::Conflict { detail, what_to_do } => Self::conflict(detail, what_to_do),
            RoomError::Busy(detail) => Self::busy(detail),
            RoomError::Unavailable(detail) => Self::unavailable(detail),
            RoomError::Late(detail) => Self::timeout(detail),
            RoomError::Internal(detail) => Self::internal(detail),
            RoomError::Signature(detail) => Self::signature(detail),
            RoomError::Reverted(detail) => Self::reverted(detail),
            RoomError::Terms(detail) => Self::terms(detail),
            RoomError::AgreementId(detail) => Self::agreement_id(detail),
            RoomError::NotRegistered(detail) => Self::not_registered(detail),
            RoomError::NotGranted(detail) => Self::not_granted(detail),
            RoomError::NotAccepted(detail) => Self::not_accepted(detail),
            RoomError::NotAMember(detail) => Self::not_a_member(detail),
            RoomError::Module(detail) => Self::module(detail),
            RoomError::ModuleMissing(sha256) => Self::module_missing(&sha256),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.problem).expect("a problem is plain data");
        let mut response = (status, [(CONTENT_TYPE, PROBLEM)], body).into_response();
        if let Some(seconds) = self.retry_after_s {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(
                axum::http::header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer"),
            );
        }
        response
    }
}
