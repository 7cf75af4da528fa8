//! What can go wrong between a program and a node's API, in words that say what to do.

use crate::api::Problem;
use reqwest::{StatusCode, Url};
use std::path::PathBuf;

/// Largest answer that is read, bytes.
pub const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// What can go wrong with a request; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Not an http or https URL.
    #[error(
        "{url} is not an http:// or https:// URL: give the address of a node's API, such as http://127.0.0.1:8080"
    )]
    Url {
        /// What was given.
        url: String,
    },
    /// The token file cannot be read.
    #[error("cannot read the token file {}: {source}", path.display())]
    TokenFile {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The token is no header value.
    #[error(
        "the token is empty or has characters that no token has: give the file that the node wrote"
    )]
    Token,
    /// TLS could not be set up.
    #[error(
        "cannot set up TLS for {url}: {reason} (on Linux, install the package ca-certificates)"
    )]
    Tls {
        /// Which node.
        url: String,
        /// What the library said.
        reason: String,
    },
    /// No connection.
    #[error("cannot reach {url}: {reason}; is the node running?")]
    Unreachable {
        /// Which URL.
        url: String,
        /// What the system said.
        reason: String,
    },
    /// No answer in time.
    #[error("{url} gave no answer in time; it is safe to ask again")]
    Timeout {
        /// Which URL.
        url: String,
    },
    /// The node cannot ask its chain now.
    #[error("{url} cannot ask its chain now: see its /readyz, and ask again")]
    NoChain {
        /// Which node.
        url: String,
    },
    /// The connection broke before the answer was whole.
    #[error(
        "the connection to {url} broke before the answer was whole ({reason}); it is safe to ask again"
    )]
    Broken {
        /// Which URL.
        url: String,
        /// What the library said.
        reason: String,
    },
    /// The node answered with a problem document.
    #[error("{url}: {problem}")]
    Problem {
        /// Which URL.
        url: String,
        /// What it said.
        problem: Box<Problem>,
    },
    /// An answer that no node gives.
    #[error(
        "{url} answered {status} and not as a DIVERSITY node does ({start:?}): check the address"
    )]
    Unexpected {
        /// Which URL.
        url: String,
        /// HTTP status.
        status: u16,
        /// The answer's first characters.
        start: String,
    },
    /// The answer does not parse.
    #[error(
        "cannot read the answer of {url}: {reason}; the node's version may differ from this program's"
    )]
    Answer {
        /// Which URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The answer is above [`ANSWER_BYTES_MAX`].
    #[error("the answer of {url} is larger than {ANSWER_BYTES_MAX} bytes: ask for less at once")]
    TooLarge {
        /// Which URL.
        url: String,
    },
}

impl ApiError {
    /// The problem document, if the node gave one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem { problem, .. } => Some(problem),
            _ => None,
        }
    }

    /// Whether the same request may succeed later: no connection, no answer, too busy or not ready.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::NoChain { .. }
            | Self::Broken { .. } => true,
            Self::Problem { problem, .. } => matches!(problem.status, 429 | 502..=504),
            _ => false,
        }
    }

    /// Whether the node says that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        self.problem().is_some_and(|p| p.status == 404)
    }
}

/// Result of a request.
pub type Result<T> = std::result::Result<T, ApiError>;

pub(crate) fn transport_error(error: reqwest::Error) -> ApiError {
    let url = error.url().map(Url::to_string).unwrap_or_default();
    let reason = chain(&error);
    if error.is_connect() {
        ApiError::Unreachable { url, reason }
    } else if error.is_timeout() {
        ApiError::Timeout { url }
    } else {
        ApiError::Broken { url, reason }
    }
}

pub(crate) fn unexpected(url: String, status: StatusCode, body: &[u8]) -> ApiError {
    ApiError::Unexpected {
        url,
        status: status.as_u16(),
        start: String::from_utf8_lossy(body).chars().take(80).collect(),
    }
}

/// The innermost cause, which is what the system said.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
