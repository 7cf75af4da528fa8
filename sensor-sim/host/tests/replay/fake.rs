//! Nodes that keep the HTTP contract of `diversity_client::api` as far as a replay sees it, over one "chain" in memory. They check
//! signatures for real; windows close when every sensor has a message at or past their end.

use axum::body::Bytes as Body;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use diversity_client::api::*;
use diversity_client::devnet::{Devnet, DevnetChain, DevnetContracts, DevnetNode, DevnetUser};
use diversity_client::draft::Draft;
use diversity_client::hexed::{Bytes, WalletSignature};
use diversity_keys::SecretKey;
use diversity_keys::keystore::{self, Cost};
use diversity_proto::entity::{NodeDeclaration, SensorDeclaration, node_registration_digest};
use diversity_proto::frame::Frame;
use diversity_proto::terms::{Terms, acceptance_digest, sensor_owner_digest, sensors_owner_digest};
use diversity_proto::{
    Address, AgreementId, Deployment, Digest, NodeId, PublicKey, SensorId, Signature, UserId,
};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Why a frame is refused, and which one it is if that can be read.
type Refusal = (&'static str, Option<(SensorId, u64)>);

const DEPLOYMENT: Deployment = Deployment {
    chain_id: 31_337,
    contract: Address([0xd1; 20]),
};

/// What stands on chain, and what any node knows.
#[derive(Default)]
struct Chain {
    users: BTreeMap<UserId, UserView>,
    nodes: BTreeMap<NodeId, NodeView>,
    sensors: BTreeMap<SensorId, SensorView>,
    agreement: Option<AgreementView>,
    refused: BTreeSet<String>,
    dispute: Option<SensorId>,
    /// What any node got, as gossip brings it to all.
    gossip: BTreeMap<SensorId, BTreeMap<u64, Frame>>,
}

/// How much stands on chain.
#[derive(Debug, PartialEq, Eq)]
pub struct Counts {
    pub users: usize,
    pub nodes: usize,
    pub sensors: usize,
}

pub struct Node {
    key: SecretKey,
    chain: Arc<Mutex<Chain>>,
    /// Frames by sensor and first q.
    held: Mutex<BTreeMap<SensorId, BTreeMap<u64, Frame>>>,
    received: AtomicU64,
    /// Requests for messages until it answers nothing but 503; below zero for never.
    fails_after: AtomicI64,
    busy_for: AtomicU64,
    pub takes_everything: AtomicBool,
    pub loses_everything: AtomicBool,
    pub forges: AtomicBool,
}

pub struct Network {
    chain: Arc<Mutex<Chain>>,
    nodes: Vec<Arc<Node>>,
    urls: Vec<String>,
    folder: tempfile::TempDir,
}

impl Network {
    pub async fn start(nodes: u8, users: u8) -> Self {
        let chain = Arc::new(Mutex::new(Chain::default()));
        let folder = tempfile::tempdir().unwrap();
        write_private(folder.path().join("token"), "token\n");
        let mut out = Self {
            chain: chain.clone(),
            nodes: Vec::new(),
            urls: Vec::new(),
            folder,
        };
        for i in 0..nodes {
            let node = Arc::new(Node {
                key: SecretKey::from_bytes(&[0x21 + i; 32]).unwrap(),
                chain: chain.clone(),
                held: Mutex::default(),
                received: AtomicU64::new(0),
                fails_after: AtomicI64::new(-1),
                busy_for: AtomicU64::new(0),
                takes_everything: AtomicBool::new(false),
                loses_everything: AtomicBool::new(false),
                forges: AtomicBool::new(false),
            });
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            out.urls
                .push(format!("http://{}", listener.local_addr().unwrap()));
            let router = router(node.clone());
            tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
            out.nodes.push(node);
        }
        out.write_devnet(users);
        out
    }

    fn write_devnet(&self, users: u8) {
        let user = |i: u8| {
            let key = SecretKey::from_bytes(&[0x41 + i; 32]).unwrap();
            let name = format!("user{i}");
            let (keystore, password) = (format!("{name}.json"), format!("{name}.password"));
            let path = self.folder.path().join(&keystore);
            let address = key.address();
            keystore::write(&path, &key.to_bytes(), Some(&address), b"x", Cost::Light).unwrap();
            write_private(self.folder.path().join(&password), "x");
            DevnetUser {
                name,
                address: UserId(address),
                keystore: keystore.into(),
                password_file: password.into(),
            }
        };
        let node = |(i, url): (usize, &String)| DevnetNode {
            name: format!("node{i}"),
            api_url: url.clone(),
            token_file: "token".into(),
            data_dir: "unused".into(),
            pid: None,
        };
        let devnet = Devnet {
            chain: DevnetChain {
                rpc_url: "http://127.0.0.1:1".into(),
                chain_id: DEPLOYMENT.chain_id,
                pid: None,
            },
            contracts: DevnetContracts {
                main: DEPLOYMENT.contract,
                cells: DEPLOYMENT.contract,
            },
            nodes: self.urls.iter().enumerate().map(node).collect(),
            users: (0..users).map(user).collect(),
        };
        devnet.write(&self.devnet_file()).unwrap();
    }

    pub fn folder(&self) -> PathBuf {
        self.folder.path().into()
    }

    pub fn devnet_file(&self) -> PathBuf {
        self.folder.path().join("devnet.json")
    }

    pub fn urls(&self) -> Vec<String> {
        self.urls.clone()
    }

    pub fn node(&self, i: usize) -> &Node {
        &self.nodes[i]
    }

    pub fn chain(&self) -> Counts {
        let chain = self.chain.lock().unwrap();
        Counts {
            users: chain.users.len(),
            nodes: chain.nodes.len(),
            sensors: chain.sensors.len(),
        }
    }

    pub fn frames_received(&self) -> Vec<u64> {
        let received = |n: &Arc<Node>| n.received.load(Ordering::SeqCst);
        self.nodes.iter().map(received).collect()
    }

    pub fn refused(&self) -> BTreeSet<String> {
        self.chain.lock().unwrap().refused.clone()
    }

    /// The node answers so many requests for messages, and then nothing more.
    pub fn fail_after(&self, node: usize, frames: i64) {
        self.nodes[node].fails_after.store(frames, Ordering::SeqCst);
    }

    /// The node is busy for so many requests.
    pub fn busy_for(&self, node: usize, requests: u64) {
        self.nodes[node].busy_for.store(requests, Ordering::SeqCst);
    }

    /// The node loses every frame from this q on, as one that never got them.
    pub fn forget(&self, node: usize, from_q: u64) {
        for frames in self.nodes[node].held.lock().unwrap().values_mut() {
            frames.retain(|q, _| *q < from_q);
        }
    }
}

fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/readyz", get(|| async {}))
        .route("/v1/info", get(info))
        .route("/v1/users", get(users).post(register_user))
        .route("/v1/users/{user}", get(user))
        .route("/v1/nodes", get(nodes).post(register_node))
        .route("/v1/nodes/binding", post(binding))
        .route("/v1/sensors", get(sensors).post(register_sensors))
        .route("/v1/code/{sha256}", put(code))
        .route("/v1/agreements/accept", post(accept))
        .route("/v1/agreements", post(create))
        .route("/v1/agreements/{a}", get(agreement))
        .route("/v1/agreements/{a}/results", get(results))
        .route("/v1/disputes", get(disputes))
        .route("/v1/messages", post(messages))
        .route("/v1/messages/acknowledged", get(acknowledged))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .with_state(node)
}

type Ctx = State<Arc<Node>>;

fn refuse(status: u16, code: &str) -> Response {
    problem(Problem::new(status, code, code, "", ""))
}

fn problem(problem: Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap();
    let body = serde_json::to_string(&problem).unwrap();
    (status, [(header::CONTENT_TYPE, PROBLEM_MEDIA_TYPE)], body).into_response()
}

/// First q that is missing.
fn contiguous(frames: Option<&BTreeMap<u64, Frame>>) -> u64 {
    let mut next = 0;
    for frame in frames.into_iter().flat_map(BTreeMap::values) {
        if frame.first_q > next {
            break;
        }
        next = next.max(frame.next_q());
    }
    next
}

impl Node {
    fn id(&self) -> NodeId {
        NodeId(self.key.address())
    }

    fn declaration(&self) -> NodeDeclaration {
        NodeDeclaration {
            public_key: PublicKey(self.key.public_key()),
            account: Address([9; 20]),
            peer_key: [8; 32],
            peer_proof: [8; 64],
            name: "node".into(),
            addresses: Vec::new(),
            revision: 0,
        }
    }

    fn is_down(&self) -> bool {
        self.fails_after.load(Ordering::SeqCst) == 0
    }

    /// First q of a sensor that is missing here.
    fn next_q(&self, sensor: &SensorId) -> u64 {
        contiguous(self.held.lock().unwrap().get(sensor))
    }

    /// First t whose window is not whole.
    fn next_window(&self, view: &AgreementView) -> u64 {
        let terms = Terms::try_from(&view.terms).unwrap();
        let chain = self.chain.lock().unwrap();
        let whole = |t: u64| {
            let end = terms.window.span(t).1;
            terms.sensors.iter().all(|s| {
                let frames = chain.gossip.get(&s.sensor);
                let next_q = contiguous(frames);
                let frames = frames.into_iter().flat_map(BTreeMap::values);
                let mut frames = frames.filter(|f| f.next_q() <= next_q);
                // Ten years ahead closes nothing.
                frames.any(|f| f.messages().any(|m| (end..2_000_000_000).contains(&m.time)))
            })
        };
        (0..).find(|t| !whole(*t)).unwrap()
    }

    fn acknowledge(
        &self,
        sensors: &BTreeSet<SensorId>,
        refused: Vec<RefusedFrame>,
    ) -> Acknowledgement {
        let held = |s: &SensorId| Held {
            sensor: *s,
            epoch: 0,
            next_q: self.next_q(s),
        };
        let mut out = Acknowledgement {
            node: self.id(),
            acknowledged: sensors.iter().map(held).collect(),
            signature: Signature([0; 64]),
            refused,
            remarks: Vec::new(),
        };
        let digest = out.digest(&DEPLOYMENT);
        let forger = SecretKey::from_bytes(&[1; 32]).unwrap();
        let forges = self.forges.load(Ordering::SeqCst);
        let key = if forges { &forger } else { &self.key };
        out.signature = Signature(key.sign(&digest.0));
        out
    }

    fn take(&self, bytes: &[u8]) -> Result<Frame, Refusal> {
        let frame = Frame::decode(bytes).map_err(|_| (codes::MALFORMED, None))?;
        let id = Some((frame.sensor, frame.first_q));
        let key = {
            let chain = self.chain.lock().unwrap();
            let sensor = chain.sensors.get(&frame.sensor);
            sensor.ok_or((codes::UNKNOWN_SENSOR, id))?.public_key
        };
        let digest = frame.digest(&DEPLOYMENT);
        if self.takes_everything.load(Ordering::SeqCst) {
            return Ok(frame);
        }
        if !diversity_keys::verify(&key.0, &digest.0, &frame.signature.0) {
            return Err((codes::BAD_SIGNATURE, id));
        }
        if self.loses_everything.load(Ordering::SeqCst) {
            return Ok(frame);
        }
        let mut held = self.held.lock().unwrap();
        let frames = held.entry(frame.sensor).or_default();
        let before = frames.range(..frame.next_q()).next_back();
        match before {
            Some((_, stored)) if *stored == frame => {}
            Some((_, stored)) if stored.next_q() > frame.first_q => {
                self.chain.lock().unwrap().dispute = Some(frame.sensor);
                return Err((codes::CONTRADICTION, id));
            }
            _ => {
                frames.insert(frame.first_q, frame.clone());
                let mut chain = self.chain.lock().unwrap();
                let gossip = chain.gossip.entry(frame.sensor).or_default();
                gossip.insert(frame.first_q, frame.clone());
            }
        }
        Ok(frame)
    }
}

async fn info(State(node): Ctx) -> Json<Info> {
    let d = node.declaration();
    Json(Info {
        version: "fake".into(),
        deployment: DEPLOYMENT.into(),
        cells: DEPLOYMENT.contract,
        node: NodeIdentity {
            node: node.id(),
            public_key: d.public_key,
            account: d.account,
            peer_key: Bytes(d.peer_key.to_vec()),
            peer_id: String::new(),
            name: d.name,
            addresses: d.addresses,
            owner: None,
        },
        chain: ChainStatus {
            reachable: true,
            block: 0,
            processed_block: 0,
            balance_wei: "0".into(),
            outbox: 0,
        },
        peers: Vec::new(),
        agreements: Vec::new(),
    })
}

async fn users(State(node): Ctx) -> Json<Page<UserView>> {
    let items = node.chain.lock().unwrap().users.values().cloned().collect();
    Json(Page { items, next: None })
}

async fn user(State(node): Ctx, Path(user): Path<String>) -> Json<UserView> {
    let chain = node.chain.lock().unwrap();
    let id = UserId::from_hex(&user).unwrap();
    let mut view = chain.users[&id].clone();
    let nodes = chain.nodes.values().filter(|n| n.owner == id).count();
    let sensors = chain.sensors.values().filter(|s| s.owner == id).count();
    view.count = Some(1 + (nodes + sensors) as u64);
    Json(view)
}

async fn register_user(State(node): Ctx, Json(r): Json<UserRegistration>) -> Json<UserView> {
    let view = UserView {
        user: r.user,
        name: r.name,
        tx: Digest::ZERO,
        count: Some(1),
    };
    node.chain
        .lock()
        .unwrap()
        .users
        .insert(r.user, view.clone());
    Json(view)
}

async fn nodes(State(node): Ctx) -> Json<Page<NodeView>> {
    let items = node.chain.lock().unwrap().nodes.values().cloned().collect();
    Json(Page { items, next: None })
}

async fn binding(State(node): Ctx, Json(r): Json<BindingRequest>) -> Json<NodeBinding> {
    let declaration = node.declaration();
    let digest = node_registration_digest(&DEPLOYMENT, &r.owner, &node.id(), &declaration.digest());
    Json(NodeBinding {
        node: node.id(),
        owner: r.owner,
        declaration: Bytes(declaration.encode()),
        signature: WalletSignature(node.key.sign_recoverable(&digest.0)),
    })
}

async fn register_node(State(node): Ctx, Json(r): Json<NodeRegistration>) -> Json<NodeView> {
    let d = NodeDeclaration::decode(&r.binding.declaration.0).unwrap();
    let view = NodeView {
        node: r.binding.node,
        owner: r.binding.owner,
        public_key: d.public_key,
        account: d.account,
        peer_key: Bytes(d.peer_key.to_vec()),
        name: d.name,
        addresses: d.addresses,
        revision: 0,
        tx: Digest::ZERO,
    };
    node.chain
        .lock()
        .unwrap()
        .nodes
        .insert(view.node, view.clone());
    Json(view)
}

async fn sensors(State(node): Ctx) -> Json<Page<SensorView>> {
    let items = node
        .chain
        .lock()
        .unwrap()
        .sensors
        .values()
        .cloned()
        .collect();
    Json(Page { items, next: None })
}

async fn register_sensors(
    State(node): Ctx,
    Json(r): Json<SensorRegistrations>,
) -> Json<SensorsRegistered> {
    let mut ids = Vec::new();
    for entry in &r.sensors {
        let d = SensorDeclaration::decode(&entry.declaration.0).unwrap();
        let sensor = SensorId(diversity_keys::address_of(&d.public_key.0).unwrap());
        ids.push((sensor, d.digest()));
        let view = SensorView {
            sensor,
            owner: r.owner,
            public_key: d.public_key,
            sensor_type: d.sensor_type,
            label: d.label,
            variables: Vec::new(),
            period: "month".into(),
            declaration: entry.declaration.clone(),
            next_q: 0,
            epoch: 0,
            last_frame: None,
            void_from: None,
        };
        node.chain.lock().unwrap().sensors.insert(sensor, view);
    }
    let digest = match &ids[..] {
        [(sensor, declaration)] => {
            sensor_owner_digest(&DEPLOYMENT, sensor, &r.owner, declaration, r.count)
        }
        several => sensors_owner_digest(&DEPLOYMENT, &r.owner, several, r.count),
    };
    assert_eq!(r.owner_signature.signer(&digest), Ok(r.owner.address()));
    Json(SensorsRegistered {
        sensors: ids.into_iter().map(|x| x.0).collect(),
        tx: Some(Digest::ZERO),
    })
}

async fn code(Path(sha256): Path<String>, module: Body) -> Json<CodeView> {
    let found = Digest(diversity_proto::domain::sha256_raw(&module));
    assert_eq!(found.hex(), sha256);
    Json(CodeView {
        sha256: found,
        size: module.len() as u64,
    })
}

async fn accept(State(node): Ctx, Json(r): Json<AcceptRequest>) -> Json<NodeAcceptance> {
    let terms = Terms::try_from(&r.terms).unwrap().digest();
    let digest = acceptance_digest(&DEPLOYMENT, &r.agreement, &terms, &node.id());
    Json(NodeAcceptance {
        node: node.id(),
        signature: WalletSignature(node.key.sign_recoverable(&digest.0)),
    })
}

async fn create(State(node): Ctx, Json(r): Json<AgreementCreation>) -> Json<AgreementView> {
    let mut chain = node.chain.lock().unwrap();
    let key = |n: &diversity_client::terms_json::TrustedNodeJson| chain.nodes[&n.node].public_key;
    let keys: Vec<_> = r.terms.nodes.iter().map(key).collect();
    let draft = Draft {
        signatures: r.signatures,
        acceptances: r.acceptances,
        ..Draft::new(DEPLOYMENT, r.terms, keys.clone()).unwrap()
    };
    assert_eq!(draft.complete().unwrap().agreement, r.agreement);
    let view = AgreementView {
        accepted: true,
        agreement: r.agreement,
        terms_digest: draft.check().unwrap().terms_digest,
        terms: draft.terms,
        keys,
        status: Life::Open,
        epoch: 0,
        tx: Digest::ZERO,
        progress: Progress::default(),
        closings: Vec::new(),
    };
    chain.agreement = Some(view.clone());
    Json(view)
}

async fn agreement(State(node): Ctx, Path(a): Path<String>) -> Response {
    if node.is_down() {
        return refuse(503, codes::UNAVAILABLE);
    }
    let view = node.chain.lock().unwrap().agreement.clone();
    let Some(mut view) = view.filter(|v| Some(v.agreement) == AgreementId::from_hex(&a)) else {
        return refuse(404, codes::NOT_FOUND);
    };
    let next = node.next_window(&view);
    view.progress = Progress {
        next_window: next,
        next_execution: next,
        next_certificate: next,
        next_settlement: next,
        ..Progress::default()
    };
    Json(view).into_response()
}

#[derive(Deserialize)]
struct From {
    from: u64,
    limit: u64,
}

async fn results(State(node): Ctx, Path(_): Path<String>, Query(q): Query<From>) -> Response {
    let view = node.chain.lock().unwrap().agreement.clone().unwrap();
    let next = node.next_window(&view);
    let result = |t| SettledResult {
        t,
        from: 0,
        to: 0,
        kind: diversity_proto::round::OutputKind::Value,
        result: serde_json::Map::new(),
        sensors: Vec::new(),
        window_hash: Digest::ZERO,
        tx: Digest::ZERO,
        gas_used: 0,
        outcomes: 1,
        said_by: diversity_client::api::SaidBy::Nodes,
    };
    // One a page, so that paging is used.
    let end = next.min(q.from + q.limit.min(1));
    Json(ResultsPage {
        agreement: view.agreement,
        results: (q.from..end).map(result).collect(),
        next: (end < next).then_some(end),
    })
    .into_response()
}

async fn disputes(State(node): Ctx) -> Json<Page<DisputeView>> {
    let accused = node.chain.lock().unwrap().dispute;
    let dispute = |accused: SensorId| DisputeView {
        dispute: Digest::ZERO,
        kind: DisputeKind::SensorContradiction,
        agreement: None,
        t: None,
        q: Some(0),
        epoch: 0,
        accused: Some(accused.address()),
        accused_name: String::new(),
        explanation: "it said two things".into(),
        resolved: false,
        tx: Digest::ZERO,
        block: 0,
    };
    Json(Page {
        items: accused.map(dispute).into_iter().collect(),
        next: None,
    })
}

async fn messages(State(node): Ctx, body: Body) -> Response {
    if node.is_down() {
        return refuse(503, codes::UNAVAILABLE);
    }
    if node.busy_for.load(Ordering::SeqCst) > 0 {
        node.busy_for.fetch_sub(1, Ordering::SeqCst);
        return refuse(429, codes::BUSY);
    }
    let frames = diversity_proto::wire::split_frames(&body, REQUEST_BYTES_MAX).unwrap();
    let (mut sensors, mut refused, mut taken) = (BTreeSet::new(), Vec::new(), 0);
    for (index, bytes) in (0u32..).zip(frames) {
        // The rest of the batch is lost when the node goes down in the middle of it.
        let left = node.fails_after.load(Ordering::SeqCst);
        if left > 0 {
            node.fails_after.store(left - 1, Ordering::SeqCst);
        }
        if node.is_down() {
            return refuse(503, codes::UNAVAILABLE);
        }
        match node.take(bytes) {
            Ok(frame) => {
                taken += 1;
                sensors.insert(frame.sensor);
                node.received.fetch_add(1, Ordering::SeqCst);
            }
            Err((code, id)) => {
                node.chain.lock().unwrap().refused.insert(code.into());
                sensors.extend(id.map(|x| x.0));
                refused.push(RefusedFrame {
                    index,
                    sensor: id.map(|x| x.0),
                    first_q: id.map(|x| x.1),
                    code: code.into(),
                    detail: String::new(),
                });
            }
        }
    }
    let answer = node.acknowledge(&sensors, refused.clone());
    if taken > 0 {
        return Json(answer).into_response();
    }
    problem(Problem {
        refused,
        acknowledgement: Some(Box::new(answer)),
        ..Problem::new(409, codes::CONTRADICTION, "No frame was taken", "", "")
    })
}

#[derive(Deserialize)]
struct Sensors {
    sensor: String,
}

async fn acknowledged(State(node): Ctx, Query(q): Query<Sensors>) -> Response {
    if node.is_down() {
        return refuse(503, codes::UNAVAILABLE);
    }
    let sensors = q
        .sensor
        .split(',')
        .map(|s| SensorId::from_hex(s).unwrap())
        .collect();
    Json(node.acknowledge(&sensors, Vec::new())).into_response()
}

/// A file that only its owner reads, as secrets have to be.
fn write_private(path: impl AsRef<std::path::Path>, content: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(&path, content).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("ours");
}
