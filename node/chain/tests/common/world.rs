//! Two users, three nodes, an agreement, a chain and who sends to it.

use super::Memory;
use diversity_chain::anvil::{Anvil, locate};
use diversity_chain::calls::{
    self, Acceptance, AggregateSignature, AgreementKey, Case, SensorEntry,
};
use diversity_chain::goal::Goal;
use diversity_chain::rpc::{Rpc, RpcConfig};
use diversity_chain::submitter::{Delivered, Outbox, OutboxSettings, Report, Submission};
use diversity_chain::{ANVIL_CHAIN_ID, Account, Contracts, Deploying, EvmSignature};
use diversity_keys::{SecretKey, musig, os_random};
use diversity_proto::entity::{
    NodeDeclaration, Period, SensorDeclaration, node_registration_digest, peer_binding_digest,
    sensor_registration_digest,
};
use diversity_proto::frame::{Variable, VariableType};
use diversity_proto::round::{
    Batch, Blinding, Commit, Computed, Entry, Outcome, OutputKind, Reveal, Subject, seal_of,
};
use diversity_proto::terms::{
    self, Field, Leader, Protocol, Qos, SensorStart, Terms, TrustedNode, WindowSpec,
};
use diversity_proto::{
    Address, AgreementId, Deployment, Digest, NodeId, PublicKey, Signature, UserId,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// An anvil of one's own; SIGKILL at the end.
pub struct Chain {
    pub anvil: Anvil,
    pub child: Option<Child>,
}

impl Chain {
    pub fn new(dir: &Path) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let program = locate(None).unwrap_or_else(|e| panic!("{e}"));
        let mut chain = Self {
            anvil: Anvil::new(program, port, dir.join("chain.json")),
            child: None,
        };
        chain.start();
        chain
    }
    pub fn start(&mut self) -> bool {
        let repaired = self.anvil.prepare_state().unwrap();
        let child = self.anvil.command().stdout(Stdio::null()).spawn().unwrap();
        self.child = Some(child);
        repaired
    }
    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
    pub fn rpc(&self) -> Rpc {
        Rpc::new(&RpcConfig::new([self.anvil.rpc_url()])).unwrap()
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.kill();
    }
}

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .unwrap_or_else(|_| panic!("not within a minute: {what}"))
}

/// Deploys everything from an account of its own.
pub async fn deploy(rpc: &Rpc) -> Contracts {
    let nobody = Contracts {
        main: Address([0; 20]),
        cells: Address([0; 20]),
    };
    let mut sender = Sender::start(rpc, nobody, 0x50, Arc::default()).await;
    let mut deploying = Deploying::default();
    while let Some((name, code)) = deploying.next() {
        let (gas, at) = sender.done(name, None, code).await;
        println!("gas: deploy {name} {gas}");
        deploying.placed(at.expect("an address"));
    }
    deploying.contracts().expect("all stands")
}

/// Waits for a chain that is starting.
pub async fn up(rpc: &Rpc) {
    within("the chain answers", async {
        while rpc.head().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Two users, three nodes and two sensors of one agreement.
pub struct World {
    pub d: Deployment,
    pub users: Vec<SecretKey>,
    pub nodes: Vec<SecretKey>,
    pub sensors: Vec<SecretKey>,
    pub terms: Terms,
    pub key: musig::AgreementKey,
    counts: Mutex<BTreeMap<UserId, u64>>,
}

/// The address of a key as the id of a user, a sensor or a node.
pub fn id<I: From<Address>>(k: &SecretKey) -> I {
    Address(k.address()).into()
}

pub fn sign(k: &SecretKey, digest: &Digest) -> Signature {
    Signature(k.sign(&digest.0))
}

pub fn wallet(k: &SecretKey, digest: &Digest) -> EvmSignature {
    EvmSignature::from_rsv(&k.sign_recoverable(&digest.0)).unwrap()
}

impl World {
    pub fn new(contracts: Contracts) -> Self {
        let d = Deployment {
            chain_id: ANVIL_CHAIN_ID,
            contract: contracts.main,
        };
        let keys = |from: u8, n: u8| {
            let mut keys: Vec<_> = (from..from + n)
                .map(|i| SecretKey::from_bytes(&[i; 32]).unwrap())
                .collect();
            keys.sort_by_key(SecretKey::address);
            keys
        };
        let (users, nodes, sensors) = (keys(1, 2), keys(11, 3), keys(21, 2));
        let field = |name: &str, ty: &str| Field {
            name: name.into(),
            ty: ty.into(),
        };
        let terms = Terms {
            title: "Hours of use".into(),
            users: users.iter().map(id).collect(),
            nodes: nodes
                .iter()
                .zip([0, 1, 1])
                .map(|(n, trust)| TrustedNode { node: id(n), trust })
                .collect(),
            sensors: sensors
                .iter()
                .map(|s| SensorStart {
                    sensor: id(s),
                    q0: 0,
                })
                .collect(),
            off_chain_code: Digest([3; 32]),
            window: WindowSpec::Count { z: 10, slide: 10 },
            future_tolerance_s: 60,
            grace_s: 86_400,
            protocol: Protocol::Fast,
            leader: Leader::Rotating,
            flush_ms: 10,
            round_timeout_ms: 1_000,
            round_timeout_max_ms: 60_000,
            batch: 16,
            qos: Qos::OffChain,
            result: vec![field("total", "uint24")],
            detail: vec![],
            abstain_ms: 60_000,
        };
        terms.validate().unwrap();
        let public: Vec<_> = nodes.iter().map(SecretKey::public_key).collect();
        let key = musig::agreement_key(&public, &d.bytes(), &terms.digest().0).unwrap();
        Self {
            counts: Mutex::default(),
            d,
            users,
            nodes,
            sensors,
            terms,
            key,
        }
    }
    pub fn a(&self) -> AgreementId {
        AgreementId(self.key.id)
    }
    pub fn key(&self) -> AgreementKey {
        AgreementKey {
            agreement: self.a(),
            aggregate: self.key.aggregate_x,
            y: self.key.y,
        }
    }
    /// How many entities an owner has, itself included, before so many more are signed for: calls are sent in the order in
    /// which they are made.
    fn counted(&self, owner: &UserId, more: u64) -> u64 {
        let mut counts = self.counts.lock().unwrap();
        let count = counts.entry(*owner).or_insert(1);
        *count += more;
        *count - more
    }
    pub fn register_user(&self, i: usize) -> Vec<u8> {
        let user = id(&self.users[i]);
        let signature = wallet(
            &self.users[i],
            &terms::user_digest(&self.d, &user, &format!("user {i}")),
        );
        calls::register_user(&user, &format!("user {i}"), &signature)
    }
    pub fn register_node(&self, i: usize) -> Vec<u8> {
        let owner_key = &self.users[usize::from(self.terms.nodes[i].trust)];
        let (node, owner) = (id(&self.nodes[i]), id(owner_key));
        let (public_key, account) = (
            PublicKey(self.nodes[i].public_key()),
            Address([i as u8; 20]),
        );
        let peer = [i as u8 + 1; 32];
        let declaration = NodeDeclaration {
            public_key,
            account,
            peer_key: diversity_keys::peer_public(&peer),
            peer_proof: diversity_keys::peer_sign(
                &peer,
                &peer_binding_digest(&self.d, &node, &public_key, &account).0,
            ),
            name: format!("node {i}"),
            addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
            revision: 0,
        };
        let digest = declaration.digest();
        let owner_signature = wallet(
            owner_key,
            &terms::node_owner_digest(&self.d, &node, &owner, &digest, self.counted(&owner, 1)),
        );
        let binding = sign(
            &self.nodes[i],
            &node_registration_digest(&self.d, &owner, &node, &digest),
        );
        calls::register_node(
            &self.d,
            &node,
            &owner,
            &owner_signature,
            &declaration,
            &binding,
        )
        .unwrap()
    }
    pub fn sensor_entry(&self, i: usize) -> SensorEntry {
        let declaration = SensorDeclaration {
            public_key: PublicKey(self.sensors[i].public_key()),
            sensor_type: "bike-lock".into(),
            label: format!("lock {i}"),
            variables: vec![Variable {
                name: "locked".into(),
                ty: VariableType::Bool,
            }],
            period: Period::Month,
        };
        let sensor = id(&self.sensors[i]);
        let digest = sensor_registration_digest(
            &self.d,
            &id(&self.users[0]),
            &sensor,
            &declaration.digest(),
        );
        SensorEntry {
            sensor,
            consent: sign(&self.sensors[i], &digest),
            declaration,
        }
    }
    pub fn register_sensor(&self, i: usize) -> Vec<u8> {
        let owner = id(&self.users[0]);
        let entry = self.sensor_entry(i);
        let count = self.counted(&owner, 1);
        let declared = entry.declaration.digest();
        let digest = terms::sensor_owner_digest(&self.d, &entry.sensor, &owner, &declared, count);
        calls::register_sensor(&self.d, &owner, &wallet(&self.users[0], &digest), &entry).unwrap()
    }
    pub fn register_sensors(&self) -> Vec<u8> {
        let owner = id(&self.users[0]);
        let entries: Vec<_> = (0..self.sensors.len())
            .map(|i| self.sensor_entry(i))
            .collect();
        let listed: Vec<_> = entries
            .iter()
            .map(|e| (e.sensor, e.declaration.digest()))
            .collect();
        let count = self.counted(&owner, listed.len() as u64);
        let digest = terms::sensors_owner_digest(&self.d, &owner, &listed, count);
        calls::register_sensors(&self.d, &owner, &wallet(&self.users[0], &digest), &entries)
            .unwrap()
    }
    pub fn create(&self) -> Vec<u8> {
        let digest = self.terms.digest();
        let user_digest = terms::agreement_digest(&self.d, &self.a(), &digest);
        let signatures: Vec<_> = self.users.iter().map(|u| wallet(u, &user_digest)).collect();
        let acceptances: Vec<_> = (0..self.users.len())
            .map(|u| {
                let node = self
                    .terms
                    .nodes
                    .iter()
                    .position(|n| usize::from(n.trust) == u)
                    .unwrap();
                let accepted =
                    terms::acceptance_digest(&self.d, &self.a(), &digest, &id(&self.nodes[node]));
                Acceptance {
                    node,
                    signature: sign(&self.nodes[node], &accepted),
                }
            })
            .collect();
        calls::create_agreement(&self.d, &self.key(), &self.terms, &signatures, &acceptances)
            .unwrap()
    }
    pub fn aggregate(&self, digest: Digest) -> AggregateSignature {
        let nonces: Vec<_> = self
            .nodes
            .iter()
            .map(|n| {
                let randomness = zeroize::Zeroizing::new(os_random().unwrap());
                musig::SecretNonce::generate(n, &self.key, b"test", &randomness).unwrap()
            })
            .collect();
        let public: Vec<_> = nonces.iter().map(musig::SecretNonce::public).collect();
        let session = musig::Session::new(&self.key, &public, digest.0).unwrap();
        let partials: Vec<_> = nonces
            .into_iter()
            .zip(&self.nodes)
            .map(|(nonce, key)| session.partial_sign(nonce, key).unwrap())
            .collect();
        let rx_s = session.aggregate(&partials).unwrap();
        AggregateSignature {
            ry: musig::nonce_y(&rx_s).unwrap(),
            rx_s,
        }
    }
    pub fn outcome(&self, t: u64) -> Outcome {
        Outcome {
            agreement: self.a(),
            epoch: 0,
            from: t,
            t,
            kind: OutputKind::Value as u8,
            result: vec![0, 1, t as u8],
            context: Digest([t as u8; 32]),
        }
    }
    pub fn settle(&self, t: u64) -> Vec<u8> {
        let outcome = self.outcome(t);
        calls::settle(&outcome, &self.aggregate(outcome.digest(&self.d)))
    }
    pub fn batch(&self, from: u64) -> Batch {
        Batch {
            agreement: self.a(),
            epoch: 0,
            from,
            entries: vec![
                (Entry::Value(vec![0, 1, 9]), Digest([1; 32])),
                (Entry::Null, Digest([2; 32])),
                (Entry::Trap, Digest([3; 32])),
            ],
        }
    }
    pub fn subject(&self, epoch: u32, t: u64) -> Subject {
        Subject {
            deployment: self.d,
            config: terms::config(&self.d, &self.a(), epoch),
            t,
        }
    }
    pub fn case<'a>(&'a self, key: &'a AgreementKey, epoch: u32, t: u64) -> Case<'a> {
        Case {
            deployment: &self.d,
            key,
            terms: &self.terms,
            epoch,
            t,
        }
    }
    pub fn computed(result: u8, state: Digest) -> Computed {
        Computed {
            kind: OutputKind::Value,
            result: vec![0, 0, result],
            detail_root: Digest::ZERO,
            state,
            trace: Digest([7; 32]),
            window_hash: Digest([8; 32]),
        }
    }
    pub fn commit(&self, node: usize, t: u64, computed: &Computed, salt: u8) -> (Commit, Blinding) {
        let key = &self.nodes[node];
        let blinding = Blinding {
            secret: [1; 32],
            salt: [salt; 32],
        };
        let subject = self.subject(0, t);
        let commit = Commit::make(&subject, &id(key), computed, &blinding, |d| sign(key, d));
        (commit, blinding)
    }
    /// The commits of all nodes, their seal, and reveals that open them; what each computed.
    pub fn round(
        &self,
        t: u64,
        from: u64,
        said: &[Computed; 3],
    ) -> (Vec<Commit>, Digest, Vec<Reveal>) {
        let made: Vec<_> = (0..)
            .zip(said)
            .map(|(i, c)| self.commit(i, t, c, 2))
            .collect();
        let commits: Vec<_> = made.iter().map(|m| m.0).collect();
        let nodes: Vec<NodeId> = self.nodes.iter().map(id).collect();
        let seal = seal_of(&self.subject(0, t), &nodes, &commits);
        let reveals = made.iter().zip(said).zip(&self.nodes);
        let reveals = reveals.map(|(((_, blinding), computed), key)| {
            let mut reveal = Reveal {
                computed: computed.clone(),
                blinding: *blinding,
                from,
                holes: vec![],
                signature: Signature([0; 64]),
            };
            let outcome = reveal.outcome(self.a(), 0, t, &seal);
            reveal.signature = sign(key, &reveal.digest(&self.d, &outcome));
            reveal
        });
        (commits, seal, reveals.collect())
    }
    /// What all users say of t, signed, as a call.
    pub fn resolve(&self, t: u64, result: &[u8], carry: &[u8]) -> Vec<u8> {
        let q_next = vec![t; self.sensors.len()];
        let state = diversity_proto::window::state(carry, &q_next);
        let signed = terms::resolution_struct(&self.a(), t, OutputKind::Value, result, &state);
        let digest = terms::resolution_digest(&self.d, &signed);
        let signatures: Vec<_> = self.users.iter().map(|u| wallet(u, &digest)).collect();
        let resolution = calls::Resolution {
            t,
            kind: OutputKind::Value,
            result,
            state,
            carry,
            q_next: &q_next,
        };
        calls::resolve(&self.key(), &self.terms, &resolution, &signatures)
    }
    pub fn goal(&self, t: u64) -> Goal {
        Goal::Settled {
            agreement: self.a(),
            epoch: Some(0),
            t,
        }
    }
}

/// An outbox of one account, and a way to wait for its reports.
pub struct Sender {
    pub outbox: Outbox,
    pub reports: mpsc::Receiver<Delivered>,
    pub next: u8,
}

impl Sender {
    pub async fn start(rpc: &Rpc, contracts: Contracts, secret: u8, journal: Arc<Memory>) -> Self {
        let account = Account::from_secret(&[secret; 32]).unwrap();
        let chain = rpc.identity().await.unwrap();
        let mut settings = OutboxSettings::for_chain(ANVIL_CHAIN_ID);
        settings.poll = Duration::from_millis(20);
        settings.submitter.rebroadcast_ms = 200;
        settings.submitter.recheck_ms = 200;
        let (outbox, reports) =
            Outbox::start(rpc.clone(), chain, contracts, account, journal, settings)
                .await
                .unwrap();
        Self {
            outbox,
            reports,
            next: 0,
        }
    }
    pub async fn hand_in(
        &mut self,
        what: &str,
        to: Option<Address>,
        data: Vec<u8>,
        goal: Option<Goal>,
    ) -> Digest {
        self.submit(Submission {
            id: Digest::ZERO,
            label: what.into(),
            to,
            data,
            patience_ms: Some(60_000),
            goal,
            row: None,
        })
        .await
    }
    pub async fn submit(&mut self, mut submission: Submission) -> Digest {
        self.next += 1;
        let id = Digest([self.next; 32]);
        submission.id = id;
        self.outbox.submit(submission).await.unwrap();
        id
    }
    pub async fn report(&mut self) -> Delivered {
        let status = self.outbox.watch();
        match tokio::time::timeout(Duration::from_secs(60), self.reports.recv()).await {
            Ok(report) => {
                let report = report.expect("the outbox runs");
                self.outbox.acknowledge(report.id).await.unwrap();
                report
            }
            Err(_) => panic!("no report within a minute: {:?}", status.borrow()),
        }
    }
    /// Waits for a report of each of these; others are those of earlier ones that the chain lost.
    pub async fn reports_of(&mut self, ids: &[Digest]) {
        let mut open: Vec<_> = ids.to_vec();
        while !open.is_empty() {
            let delivered = self.report().await;
            let fine = matches!(
                delivered.report,
                Report::Mined { .. } | Report::Pointless { .. }
            );
            assert!(fine || !open.contains(&delivered.id), "{delivered:?}");
            open.retain(|id| *id != delivered.id);
        }
    }
    /// Sends and waits until it is mined; returns gas used and what was deployed.
    pub async fn done(
        &mut self,
        what: &str,
        to: Option<Address>,
        data: Vec<u8>,
    ) -> (u64, Option<Address>) {
        let id = self.hand_in(what, to, data, None).await;
        let delivered = self.report().await;
        assert_eq!(delivered.id, id, "{what}: {delivered:?}");
        match delivered.report {
            Report::Mined {
                gas_used, contract, ..
            } => (gas_used, contract),
            other => panic!("{what}: {other:?}"),
        }
    }
}
