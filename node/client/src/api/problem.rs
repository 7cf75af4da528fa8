//! Errors as RFC 9457 problem documents.

use super::{Acknowledgement, RefusedFrame};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Media type of a problem document.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// An RFC 9457 problem document, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:diversity:problem:CODE`; the code is stable, the texts are not.
    #[serde(rename = "type")]
    pub kind: String,
    /// What kind of problem it is, in a few words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What is wrong here.
    #[serde(default)]
    pub detail: String,
    /// Stable code, one of [`codes`].
    #[serde(default)]
    pub code: String,
    /// What to do about it, in one sentence.
    #[serde(default)]
    pub what_to_do: String,
    /// `POST /v1/messages` where every frame was refused: why, frame by frame.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedFrame>,
    /// `POST /v1/messages` where every frame was refused: what this node holds of the sensors that it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledgement: Option<Box<Acknowledgement>>,
}

impl Problem {
    /// A problem without frames.
    pub fn new(
        status: u16,
        code: &str,
        title: impl Into<String>,
        detail: impl Into<String>,
        what_to_do: impl Into<String>,
    ) -> Self {
        Self {
            kind: format!("urn:diversity:problem:{code}"),
            title: title.into(),
            status,
            detail: detail.into(),
            code: code.into(),
            what_to_do: what_to_do.into(),
            refused: Vec::new(),
            acknowledgement: None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.title, self.status, self.code)?;
        for text in [&self.detail, &self.what_to_do] {
            if !text.is_empty() {
                write!(f, ": {text}")?;
            }
        }
        Ok(())
    }
}

/// Codes of problems and of refused frames. They are stable; 400 unless said.
pub mod codes {
    /// The body or a parameter does not parse.
    pub const MALFORMED: &str = "malformed";
    /// 413: the body is above its limit.
    pub const TOO_LARGE: &str = "too-large";
    /// 415: neither JSON nor the octet stream of this route.
    pub const MEDIA_TYPE: &str = "media-type";
    /// 401: no token, or an unknown one.
    pub const UNAUTHORIZED: &str = "unauthorized";
    /// 403: the token's scope does not reach.
    pub const FORBIDDEN: &str = "forbidden";
    /// 404: no such user, sensor, node, module, agreement, window, dispute or route.
    pub const NOT_FOUND: &str = "not-found";
    /// 405: the path is served for other methods.
    pub const METHOD: &str = "method";
    /// 409: it stands registered with other content.
    pub const CONFLICT: &str = "conflict";
    /// 429 with `Retry-After`: too many requests, or too many frames in flight.
    pub const BUSY: &str = "busy";
    /// 503 with `Retry-After`: not ready, or the chain cannot be reached.
    pub const UNAVAILABLE: &str = "unavailable";
    /// 504: the chain has not taken the transaction in time; repeating the request is safe.
    pub const TIMEOUT: &str = "timeout";
    /// 500: a defect of the node; its log says more.
    pub const INTERNAL: &str = "internal";
    /// A signature is not the one of who should have signed.
    pub const BAD_SIGNATURE: &str = "bad-signature";
    /// The contract would revert, or reverted; the detail names its error.
    pub const REVERTED: &str = "reverted";
    /// The terms break a rule; the detail names it.
    pub const BAD_TERMS: &str = "bad-terms";
    /// `a` is not the tweaked aggregate of the nodes' keys, or the terms are not those that were signed.
    pub const BAD_AGREEMENT_ID: &str = "bad-agreement-id";
    /// A user, sensor or node of the terms is not registered.
    pub const NOT_REGISTERED: &str = "not-registered";
    /// The owner of a sensor of the terms is no user of them and has not granted that the sensor is in them.
    pub const NOT_GRANTED: &str = "not-granted";
    /// A node of the terms has not accepted them.
    pub const NOT_ACCEPTED: &str = "not-accepted";
    /// This node is no node of the agreement.
    pub const NOT_A_MEMBER: &str = "not-a-member";
    /// The module imports something, lacks an export, or breaks a limit.
    pub const BAD_MODULE: &str = "bad-module";
    /// This node has not got the module: upload it first.
    pub const MODULE_MISSING: &str = "module-missing";

    /// Frame: no such sensor is registered (404 when alone).
    pub const UNKNOWN_SENSOR: &str = "unknown-sensor";
    /// Frame: the width is not that of the declared variables.
    pub const WRONG_WIDTH: &str = "wrong-width";
    /// Frame: a value does not match its declared type.
    pub const WRONG_VALUES: &str = "wrong-values";
    /// Frame: its messages lie in more than one period.
    pub const CROSSES_PERIOD: &str = "crosses-period";
    /// Frame: a message at one q differs from the one that is stored (409 when alone).
    pub const CONTRADICTION: &str = "contradiction";
    /// Frame: another frame over the same q is stored (409 when alone).
    pub const OTHER_FRAME: &str = "other-frame";
    /// Frame: too far ahead of the first missing q (429 when alone).
    pub const TOO_FAR_AHEAD: &str = "too-far-ahead";
    /// Frame: its sensor is in no agreement of this node, which keeps no more of such sensors (429 when alone).
    pub const QUOTA: &str = "quota";
    /// Remark on a frame that is held all the same: a time in it cannot be (1970, milliseconds for seconds, 2036).
    pub const IMPLAUSIBLE_TIME: &str = "implausible_time";
    /// Frame: not the boot epoch that is due.
    pub const WRONG_EPOCH: &str = "wrong-epoch";
    /// Frame: its opening does not name the last message and frame before it.
    pub const BAD_OPENING: &str = "bad-opening";
    /// Frame: the sensor is void from this q on (409 when alone).
    pub const VOID: &str = "void";
}
