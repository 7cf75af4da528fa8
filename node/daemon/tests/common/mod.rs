//! A chain, two users and their nodes in one process: real HTTP, real libp2p, real anvil.
#![allow(dead_code)]

use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use diversity_chain::anvil::{Anvil, locate};
use diversity_chain::fees::FeePolicy;
use diversity_chain::rpc::{Call, Receipt, Rpc, RpcConfig};
use diversity_chain::{Account, Contracts, Deploying, Unsigned};
use diversity_client::Api;
use diversity_client::draft::Draft;
use diversity_client::sign::Signer;
use diversity_client::terms_json::{
    FieldJson, LeaderJson, ProtocolJson, QosJson, SensorStartJson, TermsJson, TrustedNodeJson,
    WindowJson,
};
use diversity_daemon::node::RunningNode;
use diversity_daemon::{NodeConfig, NodeError, Runner};
use diversity_keys::SecretKey;
use diversity_proto::entity::{Period, SensorDeclaration};
use diversity_proto::frame::{Frame, Message, Variable, VariableType, write_body};
use diversity_proto::{
    Address, AgreementId, Deployment, Digest, NodeId, PublicKey, SensorId, Signature, UserId,
    Writer,
};
use diversity_store::StoreError;
use tokio::sync::oneshot;

/// The bike module as it ships.
pub const BIKE: &[u8] = include_bytes!("../../../../contracts/offchain/modules/bike-lock.wasm");
/// First second of 2015-10, UTC.
pub const OCTOBER: u64 = 1_443_657_600;
/// First seconds of the months after it.
pub const MONTHS: [u64; 4] = [OCTOBER, 1_446_336_000, 1_448_928_000, 1_451_606_400];

/// A TCP port that was free a moment ago.
pub fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("bound").port()
}

/// A local chain with the contract.
pub struct Chain {
    child: Child,
    pub url: String,
    pub deployment: Deployment,
    pub cells: Address,
    _dir: tempfile::TempDir,
}

impl Drop for Chain {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Chain {
    /// Starts anvil and deploys; `None` where there is no anvil, which the test then says.
    pub async fn start() -> Option<Self> {
        let program = match locate(None) {
            Ok(program) => program,
            Err(error) => {
                eprintln!("SKIPPED: {error}");
                return None;
            }
        };
        let dir = tempfile::tempdir().expect("dir");
        let anvil = Anvil::new(program, free_port(), dir.path().join("state.json"));
        let child = anvil
            .command()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("anvil starts");
        Some(Self::on(child, anvil.rpc_url(), anvil.chain_id, dir).await)
    }

    /// The same with a base fee and another chain id.
    pub async fn start_with_fees() -> Option<Self> {
        let program = match locate(None) {
            Ok(program) => program,
            Err(error) => {
                eprintln!("SKIPPED: {error}");
                return None;
            }
        };
        let port = free_port();
        let child = std::process::Command::new(program)
            .args(["--chain-id", "1337", "--port", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("anvil starts");
        let dir = tempfile::tempdir().expect("dir");
        Some(Self::on(child, format!("http://127.0.0.1:{port}"), 1337, dir).await)
    }

    async fn on(child: Child, url: String, chain_id: u64, dir: tempfile::TempDir) -> Self {
        let rpc = Rpc::new(&RpcConfig::new([url.clone()])).expect("settings");
        until("anvil answers", async || rpc.head().await.is_ok()).await;
        let deployer = Account::from_secret(&[0x77; 32]).expect("key").address();
        fund(&rpc, &deployer, 10_u128.pow(20)).await;
        let contracts = deploy(&rpc, chain_id).await;
        let deployment = Deployment {
            chain_id,
            contract: contracts.main,
        };
        Self {
            child,
            url,
            deployment,
            cells: contracts.cells,
            _dir: dir,
        }
    }

    /// A client of it.
    pub fn rpc(&self) -> Rpc {
        Rpc::new(&RpcConfig::new([self.url.clone()])).expect("settings")
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("ours");
        self.child.wait().expect("ended");
    }
}

/// Gives an account this many wei.
pub async fn fund(rpc: &Rpc, account: &Address, wei: u128) {
    let set = serde_json::json!([account.hex(), format!("{wei:#x}")]);
    rpc.request("anvil_setBalance", set).await.expect("anvil");
}

async fn deploy(rpc: &Rpc, chain_id: u64) -> Contracts {
    let mut deploying = Deploying::default();
    let mut nonce = 0;
    while let Some((_, data)) = deploying.next() {
        let receipt = mined(rpc, chain_id, nonce, None, &data).await;
        deploying.placed(receipt.contract.expect("deployed"));
        nonce += 1;
    }
    deploying.contracts().expect("all stands")
}

/// Sends a call to MainContract from an account that is nobody's; the contract takes it.
pub async fn send(chain: &Chain, data: &[u8]) {
    let rpc = chain.rpc();
    let account = Account::from_secret(&[0x77; 32]).expect("key").address();
    let at = serde_json::json!([account.hex(), "latest"]);
    let nonce = rpc.request("eth_getTransactionCount", at).await;
    let nonce = nonce.expect("anvil");
    let nonce = nonce.as_str().and_then(|n| n.strip_prefix("0x"));
    let nonce = u64::from_str_radix(nonce.expect("a number"), 16).expect("a number");
    let to = Some(chain.deployment.contract);
    let receipt = mined(&rpc, chain.deployment.chain_id, nonce, to, data).await;
    assert!(receipt.success, "the contract refuses it");
}

async fn mined(rpc: &Rpc, chain_id: u64, nonce: u64, to: Option<Address>, data: &[u8]) -> Receipt {
    let account = Account::from_secret(&[0x77; 32]).expect("key");
    let head = rpc.head().await.expect("head");
    let call = Call {
        from: account.address(),
        to,
        data: data.to_vec(),
    };
    let gas = rpc.estimate_gas(&call).await.expect("gas");
    let policy = FeePolicy::default();
    let (raw, tx) = account.sign(&Unsigned {
        chain_id,
        nonce,
        to,
        value: 0,
        data,
        gas_limit: policy.gas_limit(gas, head.gas_limit).expect("fits"),
        fees: policy.fees(&head, None, 0),
    });
    rpc.send_raw(&raw, true).await.expect("sent");
    until("it is mined", async || {
        rpc.receipt(&tx).await.expect("asked").is_some()
    })
    .await;
    rpc.receipt(&tx).await.expect("asked").expect("mined")
}

/// Waits for a condition, at most a minute.
pub async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    while !is().await {
        assert!(
            tokio::time::Instant::now() < end,
            "not within a minute: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A node in this process.
pub struct TestNode {
    pub dir: Arc<tempfile::TempDir>,
    pub config: NodeConfig,
    pub api: Api,
    pub base: String,
    stop: Option<oneshot::Sender<()>>,
    task: Option<tokio::task::JoinHandle<Result<(), NodeError>>>,
}

impl TestNode {
    /// Settings of a node with fresh ports.
    pub fn config(chain: &Chain, name: &str, dir: &tempfile::TempDir) -> NodeConfig {
        NodeConfig {
            data_dir: dir.path().join("data"),
            name: name.into(),
            rpc_urls: chain.url.parse().expect("list"),
            chain_id: chain.deployment.chain_id,
            contract: chain.deployment.contract.hex(),
            cells: chain.cells.hex(),
            chain_poll_ms: 50,
            api_listen: ([127, 0, 0, 1], free_port()).into(),
            p2p_listen: format!("/ip4/127.0.0.1/tcp/{}", free_port())
                .parse()
                .expect("list"),
            light_keys: true,
            worker_threads: 2,
            status_interval_ms: 200,
            settle_stage_ms: 2_000,
            ..NodeConfig::default()
        }
    }

    /// Starts a node and waits until it is ready.
    pub async fn start(
        config: NodeConfig,
        dir: Arc<tempfile::TempDir>,
        runner: Arc<dyn Runner>,
    ) -> Self {
        let node = Self::start_only(config, dir, runner).await;
        until("the node is ready", async || node.api.ready().await).await;
        node
    }

    /// Starts a node.
    pub async fn start_only(
        config: NodeConfig,
        dir: Arc<tempfile::TempDir>,
        runner: Arc<dyn Runner>,
    ) -> Self {
        let mut started = RunningNode::start(config.clone(), Arc::clone(&runner)).await;
        // The tasks of a node that stopped in this process let go of its store one after another.
        while let Err(NodeError::Store(StoreError::Locked { .. }) | NodeError::Twin { .. }) =
            &started
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
            started = RunningNode::start(config.clone(), Arc::clone(&runner)).await;
        }
        let node = started.expect("the node starts");
        let base = format!("http://{}", node.address);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(node.run_until(async move {
            // Dropping the sender stops the node as well.
            let _ = stopped.await;
            "the test"
        }));
        let api =
            Api::with_token_file(&base, &config.data_dir.join("api-token-admin")).expect("token");
        Self {
            dir,
            config,
            api,
            base,
            stop: Some(stop),
            task: Some(task),
        }
    }

    /// Stops it in order, and gives what it takes to start it again.
    pub async fn stop(mut self) -> (NodeConfig, Arc<tempfile::TempDir>) {
        drop(self.stop.take());
        self.task
            .take()
            .expect("running")
            .await
            .expect("no panic")
            .expect("stops in order");
        (self.config.clone(), Arc::clone(&self.dir))
    }

    /// A token of a scope.
    pub fn token(&self, scope: &str) -> String {
        let path = self.config.data_dir.join(format!("api-token-{scope}"));
        std::fs::read_to_string(path)
            .expect("token")
            .trim()
            .to_owned()
    }
}

/// The executor that ships.
pub fn executor() -> Arc<dyn Runner> {
    Arc::new(diversity_exec::Executor::new(diversity_exec::Limits::default()).expect("engine"))
}

/// A lock.
pub struct Lock {
    pub key: SecretKey,
    pub declaration: SensorDeclaration,
    deployment: Deployment,
}

impl Lock {
    /// A lock with a key from a seed.
    pub fn new(deployment: Deployment, seed: u8) -> Self {
        let key = SecretKey::from_bytes(&[seed; 32]).expect("key");
        let declaration = SensorDeclaration {
            public_key: PublicKey(key.public_key()),
            sensor_type: "bike-lock".into(),
            label: format!("bike {seed}"),
            variables: vec![Variable {
                name: "state".into(),
                ty: VariableType::Bool,
            }],
            period: Period::Month,
        };
        Self {
            key,
            declaration,
            deployment,
        }
    }

    /// Its id.
    pub fn id(&self) -> SensorId {
        SensorId(self.key.address())
    }

    /// A signed frame of messages `(time, open)`.
    pub fn frame(&self, first_q: u64, messages: &[(u64, bool)]) -> Vec<u8> {
        let values: Vec<[u8; 1]> = messages.iter().map(|m| [u8::from(m.1)]).collect();
        let mut body = Writer::new();
        write_body(
            &mut body,
            messages.iter().zip(&values).map(|(m, v)| Message {
                time: m.0,
                values: v,
            }),
        );
        let mut frame = Frame {
            sensor: self.id(),
            epoch: 0,
            first_q,
            count: u16::try_from(messages.len()).expect("few"),
            lost: 0,
            width: 1,
            opening: None,
            body: body.finish(),
            signature: Signature([0; 64]),
        };
        frame.signature = Signature(self.key.sign(&frame.digest(&self.deployment).0));
        frame.encode()
    }
}

/// A user of the tests.
pub fn user(deployment: Deployment, seed: u8) -> Signer {
    Signer::new(SecretKey::from_bytes(&[seed; 32]).expect("key"), deployment)
}

/// Terms of a monthly bike agreement.
pub fn terms(
    users: &[UserId],
    nodes: &[(NodeId, UserId)],
    sensors: &[SensorId],
    code: Digest,
) -> TermsJson {
    let mut users = users.to_vec();
    users.sort_unstable();
    let mut nodes: Vec<_> = nodes
        .iter()
        .map(|n| TrustedNodeJson {
            node: n.0,
            trusted_by: n.1,
        })
        .collect();
    nodes.sort_unstable_by_key(|n| n.node);
    let field = |name: &str, ty: &str| FieldJson {
        name: name.into(),
        ty: ty.into(),
    };
    TermsJson {
        title: "bike hire".into(),
        users,
        nodes,
        sensors: sensors
            .iter()
            .map(|s| SensorStartJson { sensor: *s, q0: 0 })
            .collect(),
        off_chain_code: code,
        window: WindowJson::Month { start: OCTOBER },
        future_tolerance_s: 300,
        grace_s: 86_400,
        protocol: ProtocolJson::Fast,
        leader: LeaderJson::Fixed { index: 0 },
        flush_ms: 20,
        round_timeout_ms: 2_000,
        round_timeout_max_ms: 10_000,
        batch: 1,
        qos: QosJson::OffChain,
        result: vec![field("total_seconds", "uint64"), field("trips", "uint32")],
        detail: vec![
            field("seconds", "uint64"),
            field("trips", "uint32"),
            field("unbilled", "uint32"),
        ],
        abstain_ms: 60_000,
    }
}

/// Two users with a node each, registered, and connected before any agreement.
pub struct World {
    pub chain: Chain,
    pub users: Vec<Signer>,
    pub nodes: Vec<TestNode>,
    pub ids: Vec<NodeId>,
    pub locks: Vec<Lock>,
}

impl World {
    /// Everything up to the agreement. `runners` are those of the nodes.
    pub async fn start(runners: Vec<Arc<dyn Runner>>, locks: u8) -> Option<Self> {
        Self::start_with(runners, locks, |config| config).await
    }

    /// The same with other settings.
    pub async fn start_with(
        runners: Vec<Arc<dyn Runner>>,
        locks: u8,
        settings: impl Fn(NodeConfig) -> NodeConfig,
    ) -> Option<Self> {
        let chain = Chain::start().await?;
        let d = chain.deployment;
        let users: Vec<_> = (0..runners.len()).map(|i| user(d, 10 + i as u8)).collect();
        let mut nodes: Vec<TestNode> = Vec::new();
        for (i, runner) in runners.into_iter().enumerate() {
            let dir = Arc::new(tempfile::tempdir().expect("dir"));
            let mut config = TestNode::config(&chain, &format!("node-{}", i + 1), &dir);
            let mut peers = Vec::new();
            for other in &nodes {
                let info = other.api.info().await.expect("info");
                peers.push(format!(
                    "{}/p2p/{}",
                    other.config.p2p_listen[0], info.node.peer_id
                ));
            }
            config.p2p_peers = peers.join(",").parse().expect("list");
            nodes.push(TestNode::start(settings(config), dir, runner).await);
        }
        let locks: Vec<_> = (0..locks).map(|i| Lock::new(d, 100 + i)).collect();
        let mut ids = Vec::new();
        for (i, (user, node)) in users.iter().zip(&nodes).enumerate() {
            let view = node
                .api
                .register_user(&user.user(&format!("user-{}", i + 1)))
                .await
                .expect("registered");
            assert_eq!(view.user, user.id());
            let binding = node.api.node_binding(&user.id()).await.expect("binding");
            let view = node
                .api
                .register_node(&user.node(binding, 1).expect("good"))
                .await
                .expect("registered");
            ids.push(view.node);
        }
        let pairs: Vec<_> = locks.iter().map(|l| (&l.declaration, &l.key)).collect();
        nodes[0]
            .api
            .register_sensors(&users[0].sensors(&pairs, 2).expect("good"))
            .await
            .expect("registered");
        let world = Self {
            chain,
            users,
            nodes,
            ids,
            locks,
        };
        world.seen_everywhere().await;
        Some(world)
    }

    async fn seen_everywhere(&self) {
        for node in &self.nodes {
            until("every node has read the registrations", async || {
                let nodes = node.api.nodes().await.expect("nodes").len();
                let sensors = node.api.sensors().await.expect("sensors").len();
                (nodes, sensors) == (self.ids.len(), self.locks.len())
            })
            .await;
        }
    }

    /// Uploads the module and creates the agreement; it runs on every node then.
    pub async fn agree(&self) -> AgreementId {
        self.agree_on(|terms| terms).await
    }

    /// The same with other terms.
    pub async fn agree_on(&self, change: impl FnOnce(TermsJson) -> TermsJson) -> AgreementId {
        let code = self.nodes[0]
            .api
            .put_code(BIKE)
            .await
            .expect("stored")
            .sha256;
        let users: Vec<_> = self.users.iter().map(Signer::id).collect();
        let nodes: Vec<_> = self
            .ids
            .iter()
            .copied()
            .zip(users.iter().copied())
            .collect();
        let sensors: Vec<_> = self.locks.iter().map(Lock::id).collect();
        let terms = change(terms(&users, &nodes, &sensors, code));
        let mut keys = Vec::new();
        for n in &terms.nodes {
            keys.push(
                self.nodes[0]
                    .api
                    .node(&n.node)
                    .await
                    .expect("registered")
                    .public_key,
            );
        }
        let mut draft = Draft::new(self.chain.deployment, terms, keys).expect("draft");
        for user in &self.users {
            draft.sign(user).expect("signed");
        }
        for node in &self.nodes {
            node.api.put_code(BIKE).await.expect("stored");
            let acceptance = node
                .api
                .accept(&draft.accept_request())
                .await
                .expect("accepted");
            draft.accept(acceptance).expect("good");
        }
        let view = self.nodes[0]
            .api
            .create(&draft.complete().expect("complete"))
            .await
            .expect("created");
        assert_eq!(
            (view.agreement, view.status.as_str()),
            (draft.agreement, "open")
        );
        draft.agreement
    }
}

/// Frames as a request carries them.
pub fn batch(frames: &[Vec<u8>]) -> Vec<u8> {
    diversity_proto::wire::encode_frames(frames.iter().map(|f| &f[..]))
}
