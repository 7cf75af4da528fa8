//! The HTTP client of a node's API.

mod request;

use crate::api::{
    AcceptRequest, Acknowledgement, AgreementCreation, AgreementSummary, AgreementView,
    BindingRequest, CloseRequest, CodeView, DisputeView, EvidenceBundle, Info, JsonFrames,
    NodeAcceptance, NodeBinding, NodeRegistration, NodeView, Page, RereadRequest, ResolutionView,
    ResolveRequest, ResultsPage, SensorRegistrations, SensorView, SensorsRegistered, SkippedView,
    UserRegistration, UserView, WindowView,
};
use crate::error::{ApiError, Result};
use crate::events::Events;
use diversity_proto::{AgreementId, Digest, NodeId, SensorId, UserId};
use request::{bearer, transport};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// Longest token file that is read, bytes.
const TOKEN_BYTES_MAX: u64 = 8 * 1024;

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
        let mut token = String::new();
        diversity_keys::private::open(path)
            .and_then(|file| file.take(TOKEN_BYTES_MAX).read_to_string(&mut token))
            .map_err(|source| ApiError::TokenFile {
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

    /// All disputes of one agreement, or of all: first those that concern the node, then those of strangers, each the newest first.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn disputes(&self, a: Option<&AgreementId>) -> Result<Vec<DisputeView>> {
        match a {
            Some(a) => self.all(&format!("v1/agreements/{a}/disputes")).await,
            None => self.all("v1/disputes").await,
        }
    }

    /// The newest dispute that concerns the node; where there is none, the newest of strangers.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn newest_dispute(&self) -> Result<Option<DisputeView>> {
        let page: Page<DisputeView> = self.get("v1/disputes?limit=1").await?;
        Ok(page.items.into_iter().next())
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
}
