//! One endpoint: HTTP, limits, and what is known of it.

use super::classify::{RpcError, classify, classify_http};
use diversity_proto::Digest;
use serde_json::{Value, json};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a check of chain id and genesis holds. A restarted node on the same port may go unnoticed below, since a lost
/// connection is opened again without a word.
const VERIFIED_FOR: Duration = Duration::from_secs(15);

/// Longest pause before a failing endpoint is tried first again.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Why a URL was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not a URL.
    #[error(
        "the RPC endpoint {given:?} is not a URL ({reason}): give one such as http://127.0.0.1:8545"
    )]
    Url {
        /// As given.
        given: String,
        /// What is wrong.
        reason: String,
    },
    /// Neither http nor https.
    #[error(
        "the RPC endpoint {endpoint} has the scheme {scheme}: only http and https work (for ws use the http port)"
    )]
    Scheme {
        /// Which one.
        endpoint: String,
        /// Its scheme.
        scheme: String,
    },
    /// None at all.
    #[error("no RPC endpoint is set: give at least one, such as http://127.0.0.1:8545")]
    None,
    /// A certificate that cannot be read.
    #[error(
        "the certificate authority of the RPC endpoints cannot be used ({reason}): give PEM certificates"
    )]
    Certificate {
        /// What is wrong.
        reason: String,
    },
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be set up: {reason}")]
    Client {
        /// What is wrong.
        reason: String,
    },
}

/// What is known of an endpoint.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// When chain id and genesis were last checked; none since the last failure.
    pub verified: Option<Instant>,
    /// Its head, when last asked.
    pub head: Option<(u64, Digest)>,
    /// Its last failure, until it answers again.
    pub trouble: Option<RpcError>,
    /// When it may come first again.
    pub retry_at: Option<Instant>,
    failures: u32,
    /// Blocks that one `eth_getLogs` may span here.
    pub log_range: Option<u64>,
}

pub(super) struct Endpoint {
    url: reqwest::Url,
    /// For people: no user, password, path or query, since those may be secrets.
    pub name: String,
    client: reqwest::Client,
    response_bytes_max: usize,
    state: Mutex<State>,
}

impl Endpoint {
    pub fn new(
        given: &str,
        timeout: Duration,
        response_bytes_max: usize,
        ca_pem: Option<&[u8]>,
    ) -> Result<Self, EndpointError> {
        let url = reqwest::Url::parse(given).map_err(|e| EndpointError::Url {
            // Only the part before any secret.
            given: given
                .split(['@', '?'])
                .next()
                .unwrap_or_default()
                .chars()
                .take(64)
                .collect(),
            reason: e.to_string(),
        })?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
        let name = format!("{}://{host}{port}", url.scheme());
        if !matches!(url.scheme(), "http" | "https") {
            return Err(EndpointError::Scheme {
                endpoint: name,
                scheme: url.scheme().into(),
            });
        }
        install_tls_provider();
        let mut builder = reqwest::Client::builder()
            .timeout(timeout)
            .connect_timeout(timeout.min(Duration::from_secs(5)))
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_max_idle_per_host(8)
            .redirect(reqwest::redirect::Policy::none());
        if matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]" | "::1") {
            builder = builder.no_proxy();
        }
        if let Some(pem) = ca_pem {
            let certs = reqwest::Certificate::from_pem_bundle(pem).map_err(|e| {
                EndpointError::Certificate {
                    reason: e.to_string(),
                }
            })?;
            if certs.is_empty() {
                return Err(EndpointError::Certificate {
                    reason: "there is none in the file".into(),
                });
            }
            builder = builder.tls_certs_merge(certs);
        }
        let client = builder
            .build()
            .map_err(|e| EndpointError::Client { reason: words(&e) })?;
        Ok(Self {
            url,
            name,
            client,
            response_bytes_max,
            state: Mutex::default(),
        })
    }

    pub fn state(&self) -> State {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
    pub fn is_verified(&self) -> bool {
        let at = self.state().verified;
        at.is_some_and(|at| at.elapsed() < VERIFIED_FOR)
    }
    pub fn works(&self) {
        self.with(|s| {
            if s.trouble.take().is_some() {
                tracing::info!(endpoint = %self.name, "chain.endpoint.recovered");
            }
            s.retry_at = None;
            s.failures = 0;
        });
    }
    pub fn verified(&self) {
        self.with(|s| s.verified = Some(Instant::now()));
    }
    pub fn fails(&self, error: &RpcError) {
        self.with(|s| {
            // A restarted or replaced node may be on another chain: check it again.
            if matches!(
                error,
                RpcError::Transient { .. } | RpcError::Malformed { .. }
            ) {
                s.verified = None;
            }
            let pause = Duration::from_millis(250 << s.failures.min(7)).min(BACKOFF_MAX);
            s.failures = s.failures.saturating_add(1);
            s.retry_at = Some(Instant::now() + pause);
            if s.trouble.is_none() {
                tracing::warn!(endpoint = %self.name, %error, "chain.endpoint.failed");
            }
            s.trouble = Some(error.clone());
        });
    }
    /// Notes the head; says whether it stands where it may not if the chain is the same and only grows.
    pub fn set_head(&self, number: u64, hash: Digest) -> bool {
        self.with(|s| {
            let suspect = s
                .head
                .is_some_and(|(n, h)| number < n || number == n && hash != h);
            if suspect {
                s.verified = None;
            }
            s.head = Some((number, hash));
            suspect
        })
    }
    pub fn set_log_range(&self, blocks: u64) {
        self.with(|s| s.log_range = Some(blocks));
    }

    /// One request, one answer. A JSON-RPC `null` is `Value::Null`.
    pub async fn request(&self, method: &str, params: &Value) -> Result<Value, RpcError> {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let mut response = self
            .client
            .post(self.url.clone())
            .json(&body)
            .send()
            .await
            .map_err(|e| RpcError::Transient { message: words(&e) })?;
        let status = response.status().as_u16();
        let mut bytes = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|e| RpcError::Transient { message: words(&e) })?
        {
            if bytes.len() + chunk.len() > self.response_bytes_max {
                return Err(if method == "eth_getLogs" {
                    RpcError::RangeTooLarge {
                        message: format!("more than {} bytes of logs", self.response_bytes_max),
                    }
                } else {
                    RpcError::Malformed {
                        message: format!("more than {} bytes", self.response_bytes_max),
                    }
                });
            }
            bytes.extend_from_slice(&chunk);
        }
        answer(method, status, &bytes)
    }
}

fn answer(method: &str, status: u16, bytes: &[u8]) -> Result<Value, RpcError> {
    if let Some(error) = classify_http(status, &String::from_utf8_lossy(bytes)) {
        return Err(error);
    }
    let value: Value = serde_json::from_slice(bytes).map_err(|e| RpcError::Malformed {
        message: format!("HTTP {status}, {e}"),
    })?;
    if let Some(error) = value.get("error").filter(|e| !e.is_null()) {
        let code = error.get("code").and_then(Value::as_i64).unwrap_or(0);
        let message = error
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or("no message");
        return Err(classify(
            method,
            code,
            message,
            error.get("data").filter(|d| !d.is_null()),
        ));
    }
    value
        .get("result")
        .cloned()
        .ok_or_else(|| RpcError::Malformed {
            message: format!("HTTP {status}, neither result nor error"),
        })
}

/// The cause, without the URL, which may hold a secret.
fn words(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let what = if error.is_timeout() {
        "timed out"
    } else if error.is_connect() {
        "no connection"
    } else {
        "connection lost"
    };
    if std::ptr::eq(cause, error as &dyn std::error::Error) {
        what.into()
    } else {
        format!("{what}: {cause}")
    }
}

/// rustls wants to be told which cryptography it uses; the one process has one answer.
fn install_tls_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that another crate of this process was first, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
