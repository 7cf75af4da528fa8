//! The HTTP client of a node's API.

use crate::api::{
    AcceptRequest, Acknowledgement, AgreementCreation, AgreementSummary, AgreementView,
    BindingRequest, CloseRequest, CodeView, DisputeView, EvidenceBundle, Info, JsonFrames,
    NodeAcceptance, NodeBinding, NodeRegistration, NodeView, PROBLEM_MEDIA_TYPE, Page,
    RereadRequest, ResolutionView, ResolveRequest, ResultsPage, SensorRegistrations, SensorView,
    SensorsRegistered, SkippedView, UserRegistration, UserView, WindowView,
};
use crate::error::{ANSWER_BYTES_MAX, ApiError, Result, chain, transport_error, unexpected};
use crate::events::Events;
use diversity_proto::{AgreementId, Digest, NodeId, SensorId, UserId};
use futures::StreamExt;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::sync::Once;
use std::time::Duration;

/// Tries of a request that may be repeated.
const ATTEMPTS: u32 = 4;
/// How long to wait before the first repetition; doubles.
const BACKOFF: Duration = Duration::from_millis(150);
/// Longest wait that a node's `Retry-After` may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take; registrations wait for the chain.
const TIMEOUT: Duration = Duration::from_secs(90);

/// The API of one node. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Api {
    base: Url,
    authorization: Option<HeaderValue>,
    http: reqwest::Client,
}

impl Api {
    /// `base` such as `http://127.0.0.1:8080`. Without a token only the public routes answer.
    ///
    /// # Errors
    /// [`ApiError::Url`], [`ApiError::Token`], [`ApiError::Tls`].
    pub fn new(base: &str, token: Option<&str>) -> Result<Self> {
        let bad = || ApiError::Url { url: base.into() };
        let mut url = Url::parse(base).map_err(|_| bad())?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(bad());
        }
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        let authorization = token.map(bearer).transpose()?;
        Ok(Self {
            http: transport(&url)?,
            base: url,
            authorization,
        })
    }

    /// As [`Api::new`], with the token in a file.
    ///
    /// # Errors
    /// Those of [`Api::new`], and [`ApiError::TokenFile`].
    pub fn with_token_file(base: &str, path: &Path) -> Result<Self> {
        let token = std::fs::read_to_string(path).map_err(|source| ApiError::TokenFile {
            path: path.into(),
            source,
        })?;
        Self::new(base, Some(token.trim()))
    }

    /// The URL that it was made with.
    pub fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Who the node is.
    ///
    /// # Errors
    /// [`ApiError`], as for every method below.
    pub async fn info(&self) -> Result<Info> {
        self.get("v1/info").await
    }

    /// Whether the node says that it is ready.
    pub async fn ready(&self) -> bool {
        let request = self.request(Method::GET, "readyz");
        request.send().await.is_ok_and(|r| r.status().is_success())
    }

    /// What a node that is not ready says of itself; nothing if it is.
    ///
    /// # Errors
    /// [`ApiError`] if it does not answer.
    pub async fn not_ready(&self) -> Result<Option<String>> {
        let response = self.once(self.request(Method::GET, "readyz")).await?;
        match self.check(response).await {
            Ok(_) => Ok(None),
            Err(ApiError::Problem { problem, .. }) => Ok(Some(problem.detail)),
            Err(error) => Err(error),
        }
    }

    /// Whether the node answers at all.
    pub async fn alive(&self) -> bool {
        let request = self.request(Method::GET, "healthz");
        request.send().await.is_ok_and(|r| r.status().is_success())
    }

    /// Registers a user.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn register_user(&self, user: &UserRegistration) -> Result<UserView> {
        self.post("v1/users", user).await
    }

    /// One user.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn user(&self, user: &UserId) -> Result<UserView> {
        self.get(&format!("v1/users/{user}")).await
    }

    /// How many entities stand registered of a user, itself included: what its next signature of a sensor or node covers.
    ///
    /// # Errors
    /// [`ApiError`]; [`ApiError::NoChain`] while the node cannot ask its chain.
    pub async fn registered(&self, user: &UserId) -> Result<u64> {
        let count = self.user(user).await?.count;
        count.ok_or_else(|| ApiError::NoChain {
            url: self.base.to_string(),
        })
    }

    /// Registers 1 to 64 sensors.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn register_sensors(&self, all: &SensorRegistrations) -> Result<SensorsRegistered> {
        self.post("v1/sensors", all).await
    }

    /// One sensor.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn sensor(&self, sensor: &SensorId) -> Result<SensorView> {
        self.get(&format!("v1/sensors/{sensor}")).await
    }

    /// This node's consent to be registered by `owner`.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn node_binding(&self, owner: &UserId) -> Result<NodeBinding> {
        let request = BindingRequest { owner: *owner };
        self.post("v1/nodes/binding", &request).await
    }

    /// Registers a node.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn register_node(&self, node: &NodeRegistration) -> Result<NodeView> {
        self.post("v1/nodes", node).await
    }

    /// One node.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn node(&self, node: &NodeId) -> Result<NodeView> {
        self.get(&format!("v1/nodes/{node}")).await
    }

    /// All users, sensors (`"v1/sensors"`), nodes (`"v1/nodes"`) or agreements of a paged list.
    ///
    /// # Errors
    /// [`ApiError`].
    async fn all<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>> {
        let mut page: Page<T> = self.get(path).await?;
        let mut out = page.items;
        while let Some(cursor) = page.next {
            page = self.get(&format!("{path}?cursor={cursor}")).await?;
            out.append(&mut page.items);
        }
        Ok(out)
    }

    /// All registered users.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn users(&self) -> Result<Vec<UserView>> {
        self.all("v1/users").await
    }

    /// The newest entries of the chain that the node does not believe.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn skipped(&self) -> Result<Vec<SkippedView>> {
        self.get("v1/chain/skipped").await
    }

    /// All registered sensors.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn sensors(&self) -> Result<Vec<SensorView>> {
        self.all("v1/sensors").await
    }

    /// All registered nodes.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn nodes(&self) -> Result<Vec<NodeView>> {
        self.all("v1/nodes").await
    }

    /// All agreements of this node.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn agreements(&self) -> Result<Vec<AgreementSummary>> {
        self.all("v1/agreements").await
    }

    /// Stores a WASM module.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn put_code(&self, module: &[u8]) -> Result<CodeView> {
        let sha256 = Digest(diversity_proto::domain::sha256_raw(module));
        let path = format!("v1/code/{sha256}");
        let send = || {
            self.request(Method::PUT, &path)
                .header(CONTENT_TYPE, "application/wasm")
                .body(module.to_vec())
        };
        self.json(self.repeat(send, true).await?).await
    }

    /// A stored module; its hash is checked.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn code(&self, sha256: &Digest) -> Result<Vec<u8>> {
        let path = format!("v1/code/{sha256}");
        let module = self.bytes(&path, "application/wasm").await?;
        if diversity_proto::domain::sha256_raw(&module) != sha256.0 {
            return Err(ApiError::Answer {
                url: self.url(&path).into(),
                reason: "the module has another hash than asked for".into(),
            });
        }
        Ok(module)
    }

    /// Asks the node to accept an agreement.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn accept(&self, request: &AcceptRequest) -> Result<NodeAcceptance> {
        self.post("v1/agreements/accept", request).await
    }

    /// Creates an agreement.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn create(&self, complete: &AgreementCreation) -> Result<AgreementView> {
        self.post("v1/agreements", complete).await
    }

    /// One agreement.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn agreement(&self, a: &AgreementId) -> Result<AgreementView> {
        self.get(&format!("v1/agreements/{a}")).await
    }

    /// Closes an agreement.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn close(&self, a: &AgreementId, request: &CloseRequest) -> Result<AgreementView> {
        self.post(&format!("v1/agreements/{a}/close"), request)
            .await
    }

    /// A page of settled results from execution `from` on.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn results(&self, a: &AgreementId, from: u64, limit: usize) -> Result<ResultsPage> {
        let path = format!("v1/agreements/{a}/results?from={from}&limit={limit}");
        self.get(&path).await
    }

    /// One window.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn window(&self, a: &AgreementId, t: u64) -> Result<WindowView> {
        self.get(&format!("v1/agreements/{a}/windows/{t}")).await
    }

    /// The bytes of a window (wire-format §4).
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn window_bytes(&self, a: &AgreementId, t: u64) -> Result<Vec<u8>> {
        let path = format!("v1/agreements/{a}/windows/{t}");
        self.bytes(&path, "application/octet-stream").await
    }

    /// The input of `f` for a window: carry and window bytes (wire-format §5).
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn window_input(&self, a: &AgreementId, t: u64) -> Result<Vec<u8>> {
        let path = format!("v1/agreements/{a}/windows/{t}?part=input");
        self.bytes(&path, "application/octet-stream").await
    }

    /// Sends a batch of frames, encoded by [`diversity_proto::wire::encode_frames`]. Not repeated by itself: the caller keeps
    /// its frames until they are acknowledged. Where every frame is refused, the error's problem says why.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn send_frames(&self, batch: Vec<u8>) -> Result<Acknowledgement> {
        let send = self
            .request(Method::POST, "v1/messages")
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(batch);
        let response = self.once(send).await?;
        self.json(self.check(response).await?).await
    }

    /// Sends frames as JSON.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn send_json_frames(&self, frames: &JsonFrames) -> Result<Acknowledgement> {
        let send = self.request(Method::POST, "v1/messages").json(frames);
        let response = self.once(send).await?;
        self.json(self.check(response).await?).await
    }

    /// Up to where the node holds these sensors' messages; at most [`crate::api::ACKNOWLEDGED_SENSORS_MAX`].
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn acknowledged(&self, sensors: &[SensorId]) -> Result<Acknowledgement> {
        let list: Vec<_> = sensors.iter().map(SensorId::hex).collect();
        let path = format!("v1/messages/acknowledged?sensor={}", list.join(","));
        self.get(&path).await
    }

    /// Disputes of one agreement, or of all.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn disputes(&self, a: Option<&AgreementId>) -> Result<Vec<DisputeView>> {
        match a {
            Some(a) => self.get(&format!("v1/agreements/{a}/disputes")).await,
            None => self.get("v1/disputes").await,
        }
    }

    /// One dispute.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn dispute(&self, dispute: &Digest) -> Result<DisputeView> {
        self.get(&format!("v1/disputes/{dispute}")).await
    }

    /// The evidence of a dispute.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn evidence(&self, dispute: &Digest) -> Result<EvidenceBundle> {
        self.get(&format!("v1/disputes/{dispute}/evidence")).await
    }

    /// Relays what all users say of an execution.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn resolve(
        &self,
        a: &AgreementId,
        request: &ResolveRequest,
    ) -> Result<ResolutionView> {
        self.post(&format!("v1/agreements/{a}/resolve"), request)
            .await
    }

    /// Lets the node read a hole once more.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn reread(&self, a: &AgreementId, t: u64) -> Result<AgreementView> {
        self.post(&format!("v1/agreements/{a}/reread"), &RereadRequest { t })
            .await
    }

    /// Events from now on, of one agreement or of all.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn events(&self, a: Option<&AgreementId>) -> Result<Events> {
        let path = match a {
            Some(a) => format!("v1/events?agreement={a}"),
            None => "v1/events".into(),
        };
        // A stream has no total time; `read_timeout` of the transport does not apply to it either, since quiet is normal.
        let request = self
            .request(Method::GET, &path)
            .header(ACCEPT, "text/event-stream")
            .timeout(Duration::MAX);
        let response = self.check(self.once(request).await?).await?;
        Ok(Events::new(self.url(&path).into(), response))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let send = || {
            self.request(Method::GET, path)
                .header(ACCEPT, "application/json")
        };
        self.json(self.repeat(send, true).await?).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        // Every POST of the API may be repeated, but one whose answer was lost may still be at work on the chain: only what
        // never arrived is sent again here, and the rest is for the caller to decide.
        let send = || self.request(Method::POST, path).json(body);
        self.json(self.repeat(send, false).await?).await
    }

    async fn bytes(&self, path: &str, media_type: &'static str) -> Result<Vec<u8>> {
        let send = || self.request(Method::GET, path).header(ACCEPT, media_type);
        read_body(self.repeat(send, true).await?).await
    }

    fn url(&self, path: &str) -> Url {
        self.base.join(path).expect("paths are relative and plain")
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, self.url(path));
        match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value.clone()),
            None => request,
        }
    }

    async fn repeat(&self, send: impl Fn() -> RequestBuilder, lost: bool) -> Result<Response> {
        let mut wait = BACKOFF;
        for attempt in 1.. {
            let result = match self.once(send()).await {
                Ok(response) => {
                    let after = retry_after(&response);
                    if let Some(after) = after
                        && attempt < ATTEMPTS
                    {
                        tokio::time::sleep(after.min(RETRY_AFTER_MAX)).await;
                        continue;
                    }
                    return self.check(response).await;
                }
                Err(error) => Err(error),
            };
            let again = match &result {
                Err(ApiError::Unreachable { .. }) => true,
                Err(ApiError::Timeout { .. } | ApiError::Broken { .. }) => lost,
                _ => false,
            };
            if !again || attempt >= ATTEMPTS {
                return result;
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        unreachable!("the loop returns")
    }

    async fn once(&self, request: RequestBuilder) -> Result<Response> {
        request.send().await.map_err(transport_error)
    }

    async fn check(&self, response: Response) -> Result<Response> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let url = response.url().to_string();
        let is_problem = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|v| v.starts_with(PROBLEM_MEDIA_TYPE));
        let body = read_body(response).await?;
        if is_problem && let Ok(problem) = serde_json::from_slice(&body) {
            return Err(ApiError::Problem {
                url,
                problem: Box::new(problem),
            });
        }
        Err(unexpected(url, status, &body))
    }

    async fn json<T: DeserializeOwned>(&self, response: Response) -> Result<T> {
        let (url, status) = (response.url().to_string(), response.status());
        let body = read_body(response).await?;
        serde_json::from_slice(&body).map_err(|error| {
            if error.is_data() {
                ApiError::Answer {
                    url,
                    reason: error.to_string(),
                }
            } else {
                unexpected(url, status, &body)
            }
        })
    }
}

fn bearer(token: &str) -> Result<HeaderValue> {
    let mut value =
        HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| ApiError::Token)?;
    if token.is_empty() {
        return Err(ApiError::Token);
    }
    value.set_sensitive(true);
    Ok(value)
}

fn transport(url: &Url) -> Result<reqwest::Client> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // It fails only if the program chose a provider before, which is then used.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let mut builder = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIMEOUT)
        .user_agent(concat!("diversity/", env!("CARGO_PKG_VERSION")))
        // A token must not follow a redirect to somebody else.
        .redirect(reqwest::redirect::Policy::none());
    if url.scheme() == "http" {
        // No certificates are needed, so their absence must not matter.
        builder = builder.tls_certs_only([]);
    }
    if is_loopback(url) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| ApiError::Tls {
        url: url.to_string(),
        reason: chain(&error),
    })
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse();
    host == "localhost" || ip.is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// How long a node that is busy or not ready asks to wait.
fn retry_after(response: &Response) -> Option<Duration> {
    let busy = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::SERVICE_UNAVAILABLE,
    ];
    if !busy.contains(&response.status()) {
        return None;
    }
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    seconds.parse().ok().map(Duration::from_secs)
}

async fn read_body(response: Response) -> Result<Vec<u8>> {
    let url = response.url().to_string();
    let mut body = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| ApiError::Broken {
            url: url.clone(),
            reason: chain(&error),
        })?;
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(ApiError::TooLarge { url });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
