//! One endpoint: HTTP, limits, and what is known of it.

use super::RpcConfig;
use super::classify::{RpcError, classify, classify_http};
use super::secrets::{self, Secrets};
use super::token::Token;
use diversity_proto::Digest;
use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a check of chain id and genesis holds. A restarted node on the same port may go unnoticed below, since a lost
/// connection is opened again without a word.
const VERIFIED_FOR: Duration = Duration::from_secs(15);

/// Longest pause before a failing endpoint is probed again.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Longest pause of an endpoint that limits how often it is asked, whatever it asks for.
const RATE_PAUSE_MAX: Duration = Duration::from_secs(120);

/// An endpoint whose probe is unanswered for so long is not waited for.
const HANGS_AFTER: Duration = Duration::from_secs(1);

/// How long an endpoint may be behind the others before that is worth a warning.
const LAG_TOLD_AFTER: Duration = Duration::from_secs(10);

/// Answers over a whole range of logs before a larger one is tried; doubled each time that fails.
const GROW_AFTER: u32 = 8;
/// Most of it.
const GROW_AFTER_MAX: u32 = 1_024;

/// Why a URL was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not a URL. It is named by its place, since what cannot be read may hold a password anywhere.
    #[error(
        "RPC endpoint {place} is not a URL ({reason}): give one such as http://127.0.0.1:8545, with every character of a password that is not a letter or digit as %XX"
    )]
    Url {
        /// The first is 1.
        place: usize,
        /// What is wrong.
        reason: String,
    },
    /// Neither http nor https.
    #[error(
        "RPC endpoint {place} does not begin with http:// or https://: only http and https work (for ws use the http port)"
    )]
    Scheme {
        /// The first is 1.
        place: usize,
    },
    /// A token that cannot be used.
    #[error("rpc_token_file cannot be used ({reason}): put the token alone into it, on one line")]
    Token {
        /// What is wrong.
        reason: String,
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
    /// When a failing one is probed again.
    retry_at: Option<Instant>,
    /// It limits how often it is asked, and is not asked before then.
    paused_until: Option<Instant>,
    failures: u32,
    /// Probes of its head that are unanswered, and since when there is one.
    probes: u32,
    probed_since: Option<Instant>,
    /// Since when it is further behind the others than it may be, and whether that was said.
    lags_since: Option<Instant>,
    lag_told: bool,
    /// Blocks that one `eth_getLogs` may span here.
    log_range: Option<u64>,
    /// Answers over that whole range in a row, and how many make it grow.
    log_answers: u32,
    log_grow_after: u32,
    /// The range has just grown, and nothing was heard of the larger one.
    log_grown: bool,
}

impl State {
    /// Whether a probe is unanswered for longer than anybody waits.
    pub fn hangs(&self) -> bool {
        self.probed_since
            .is_some_and(|at| at.elapsed() >= HANGS_AFTER)
    }
    /// Whether its head may be asked for now: one that fails is left alone for a while.
    pub fn may_be_probed(&self) -> bool {
        let waits = self.trouble.is_some() && self.retry_at.is_some_and(|at| Instant::now() < at);
        !waits && !self.hangs()
    }
    /// Whether it has been far behind the others for a while.
    pub fn lags(&self) -> bool {
        self.lags_since
            .is_some_and(|at| at.elapsed() >= LAG_TOLD_AFTER)
    }
}

pub(super) struct Endpoint {
    url: reqwest::Url,
    /// For people: no user, password, path or query, since those may be secrets.
    pub name: String,
    secrets: Secrets,
    token: Option<Arc<Token>>,
    client: reqwest::Client,
    response_bytes_max: usize,
    state: Mutex<State>,
}

impl Endpoint {
    pub fn new(
        place: usize,
        given: &str,
        config: &RpcConfig,
        token: Option<Arc<Token>>,
    ) -> Result<Self, EndpointError> {
        let url = reqwest::Url::parse(given).map_err(|e| EndpointError::Url {
            place,
            reason: e.to_string(),
        })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(EndpointError::Scheme { place });
        }
        let host = url.host_str().unwrap_or_default().to_owned();
        let name = secrets::name(&url);
        install_tls_provider();
        let mut builder = reqwest::Client::builder()
            .timeout(config.timeout)
            .connect_timeout(config.timeout.min(Duration::from_secs(5)))
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_max_idle_per_host(8)
            .redirect(reqwest::redirect::Policy::none());
        if matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]" | "::1") {
            builder = builder.no_proxy();
        }
        if let Some(pem) = config.ca_pem.as_deref() {
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
        // The URL's own user and password come first.
        let own = !url.username().is_empty() || url.password().is_some();
        Ok(Self {
            secrets: Secrets::of(&url),
            url,
            name,
            token: token.filter(|_| !own),
            client,
            response_bytes_max: config.response_bytes_max,
            state: Mutex::new(State {
                log_grow_after: GROW_AFTER,
                ..State::default()
            }),
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
            s.paused_until = None;
            s.failures = 0;
        });
    }
    pub fn verified(&self) {
        self.with(|s| s.verified = Some(Instant::now()));
    }
    /// Takes note of a failure; the error says then how long the endpoint is left alone.
    pub fn fails(&self, mut error: RpcError) -> RpcError {
        self.with(|s| {
            // A restarted or replaced node may be on another chain: check it again.
            if matches!(
                error,
                RpcError::Transient { .. } | RpcError::Malformed { .. } | RpcError::NoLatest { .. }
            ) {
                s.verified = None;
            }
            let now = Instant::now();
            let pause = Duration::from_millis(250 << s.failures.min(7)).min(BACKOFF_MAX);
            s.retry_at = Some(now + pause);
            if let RpcError::RateLimited { wait_s, .. } = &mut error {
                let own = Duration::from_secs(1 << s.failures.min(6));
                let asked = Duration::from_secs(*wait_s);
                let pause = own.max(asked).min(RATE_PAUSE_MAX);
                *wait_s = pause.as_secs();
                s.paused_until = Some(now + pause);
                s.retry_at = s.paused_until;
            }
            s.failures = s.failures.saturating_add(1);
            if s.trouble.is_none() {
                tracing::warn!(endpoint = %self.name, %error, "chain.endpoint.failed");
            }
            s.trouble = Some(error.clone());
        });
        error
    }
    /// Why it is not to be asked at all now.
    pub fn paused(&self) -> Option<RpcError> {
        let state = self.state();
        let until = state.paused_until.filter(|until| Instant::now() < *until)?;
        let mut error = state.trouble?;
        if let RpcError::RateLimited { wait_s, .. } = &mut error {
            *wait_s = until.duration_since(Instant::now()).as_secs() + 1;
        }
        Some(error)
    }
    /// A question for the head begins.
    pub fn probe_begins(&self) {
        self.with(|s| {
            s.probes += 1;
            s.probed_since.get_or_insert_with(Instant::now);
        });
    }
    /// It has ended, one way or the other.
    pub fn probe_ends(&self) {
        self.with(|s| {
            s.probes = s.probes.saturating_sub(1);
            s.probed_since = (s.probes > 0).then(Instant::now);
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
    /// Compares it with the others. One or two blocks are the road between validators; more than `lag_max` for a while is
    /// said once.
    pub fn compare(&self, best: u64, lag_max: u64) {
        self.with(|s| {
            let Some((head, _)) = s.head else { return };
            if head.saturating_add(lag_max) >= best {
                s.lags_since = None;
                if std::mem::take(&mut s.lag_told) {
                    tracing::info!(endpoint = %self.name, head, "chain.endpoint.caught_up");
                }
                return;
            }
            s.lags_since.get_or_insert_with(Instant::now);
            if s.lags() && !s.lag_told {
                s.lag_told = true;
                tracing::warn!(endpoint = %self.name, head, best, "chain.endpoint.lags");
            }
        });
    }
    /// Blocks to ask for at once, at most `most`.
    pub fn log_range(&self, most: u64) -> u64 {
        self.state().log_range.map_or(most, |range| range.min(most))
    }
    /// It has refused this many blocks at once.
    pub fn log_range_refused(&self, blocks: u64) {
        self.with(|s| {
            // The limit is still there: the next try of a larger range comes later.
            if std::mem::take(&mut s.log_grown) {
                s.log_grow_after = s.log_grow_after.saturating_mul(2).min(GROW_AFTER_MAX);
            }
            s.log_answers = 0;
            s.log_range = Some((blocks / 2).max(1));
        });
    }
    /// It has answered for this many; a range of `most` or more need not be remembered.
    pub fn log_range_answered(&self, blocks: u64, most: u64) {
        self.with(|s| {
            let Some(range) = s.log_range.filter(|range| blocks >= *range) else {
                return;
            };
            if std::mem::take(&mut s.log_grown) {
                s.log_grow_after = GROW_AFTER;
            }
            s.log_answers += 1;
            if s.log_answers >= s.log_grow_after {
                s.log_answers = 0;
                s.log_grown = true;
                s.log_range = Some(range.saturating_mul(2)).filter(|range| *range < most);
            }
        });
    }

    /// One request, one answer. A JSON-RPC `null` is `Value::Null`.
    pub async fn request(&self, method: &str, params: &Value) -> Result<Value, RpcError> {
        let token = self.token.as_ref().map(|t| t.current());
        let scrub = |text: &str| self.secrets.scrub(text, token.as_deref());
        let lost = |e: &reqwest::Error| RpcError::Transient {
            message: scrub(&words(e)),
        };
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let mut request = self.client.post(self.url.clone()).json(&body);
        if let Some(token) = &token {
            request = request.bearer_auth(token.as_str());
        }
        let mut response = request.send().await.map_err(|e| lost(&e))?;
        let status = response.status().as_u16();
        if let Some(error) = self.redirected(status, response.headers()) {
            return Err(error);
        }
        let wait_s = wanted_pause(response.headers());
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| lost(&e))? {
            if bytes.len() + chunk.len() > self.response_bytes_max {
                let message = format!("more than {} bytes", self.response_bytes_max);
                return Err(if method == "eth_getLogs" {
                    RpcError::RangeTooLarge { message }
                } else {
                    RpcError::Malformed { message }
                });
            }
            bytes.extend_from_slice(&chunk);
        }
        answer(method, status, &bytes, scrub).map_err(|error| match error {
            RpcError::RateLimited { message, .. } => RpcError::RateLimited { message, wait_s },
            RpcError::Unauthorized { .. } => {
                if let Some(token) = &self.token {
                    token.is_refused();
                }
                error
            }
            error => error,
        })
    }

    /// A redirection is an error that names its target, without what may be secret in it.
    fn redirected(&self, status: u16, headers: &HeaderMap) -> Option<RpcError> {
        if !(300..400).contains(&status) {
            return None;
        }
        let target = headers.get(LOCATION).and_then(|l| l.to_str().ok());
        let target = match target.and_then(|t| self.url.join(t).ok()) {
            Some(url) if secrets::name(&url) == self.name => "another path of the same host".into(),
            Some(url) => secrets::name(&url),
            None => "nowhere".into(),
        };
        Some(RpcError::Redirected { target, status })
    }
}

/// Seconds that an endpoint asks to be left alone.
fn wanted_pause(headers: &HeaderMap) -> u64 {
    let wanted = headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok());
    wanted.and_then(|v| v.trim().parse().ok()).unwrap_or(0)
}

fn answer(
    method: &str,
    status: u16,
    bytes: &[u8],
    scrub: impl Fn(&str) -> String,
) -> Result<Value, RpcError> {
    if status != 200
        && let Some(error) = classify_http(status, &scrub(&String::from_utf8_lossy(bytes)))
    {
        return Err(error);
    }
    let mut value: Value = serde_json::from_slice(bytes).map_err(|e| RpcError::Malformed {
        message: format!("HTTP {status}, {e}"),
    })?;
    match value.get("error") {
        None | Some(Value::Null) => {}
        Some(Value::String(words)) => return Err(classify(method, 0, &scrub(words), None)),
        Some(error) => {
            let code = error.get("code").and_then(Value::as_i64).unwrap_or(0);
            let message = error.get("message").and_then(Value::as_str);
            let data = error.get("data").filter(|d| !d.is_null());
            let data = data.map(|d| scrubbed(d, &scrub));
            let message = scrub(message.unwrap_or_default());
            return Err(classify(method, code, &message, data.as_ref()));
        }
    }
    value
        .get_mut("result")
        .map(Value::take)
        .ok_or_else(|| RpcError::Malformed {
            message: format!("HTTP {status}, neither result nor error"),
        })
}

/// The data of an error without secrets; hexadecimal stays as it is.
fn scrubbed(data: &Value, scrub: &impl Fn(&str) -> String) -> Value {
    match data {
        Value::String(text) if !text.starts_with("0x") => scrub(text).into(),
        Value::Object(fields) => {
            let fields = fields.iter();
            Value::Object(
                fields
                    .map(|(k, v)| (k.clone(), scrubbed(v, scrub)))
                    .collect(),
            )
        }
        other => other.clone(),
    }
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
