//! The whole chain side against a real local chain, which is killed and started again.

mod common;

use common::Memory;
use diversity_chain::anvil::{Anvil, locate};
use diversity_chain::calls::{
    self, Acceptance, AggregateSignature, AgreementKey, Case, SensorEntry,
};
use diversity_chain::contract::MainContract;
use diversity_chain::events::{ChainEvent, DisputeKind, Located, PublishedTerms};
use diversity_chain::evidence::{self, Evidence};
use diversity_chain::follow::{FollowConfig, FollowError, Follower};
use diversity_chain::rpc::{Rpc, RpcConfig};
use diversity_chain::submitter::{Delivered, Outbox, OutboxSettings, Report, Submission};
use diversity_chain::{ANVIL_CHAIN_ID, Account, EvmSignature};
use diversity_keys::{SecretKey, musig, os_random};
use diversity_proto::entity::{
    NodeDeclaration, Period, SensorDeclaration, node_registration_digest,
    sensor_registration_digest,
};
use diversity_proto::frame::{Variable, VariableType};
use diversity_proto::round::{
    Batch, Commit, Computed, Entry, Outcome, OutputKind, Reveal, Subject,
};
use diversity_proto::terms::{
    self, Field, Leader, Qos, SensorStart, Terms, TrustedNode, WindowSpec,
};
use diversity_proto::{Address, AgreementId, Deployment, Digest, PublicKey, Signature};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// An anvil of one's own; SIGKILL at the end.
struct Chain {
    anvil: Anvil,
    child: Option<Child>,
}

impl Chain {
    fn new(dir: &Path) -> Self {
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
    fn start(&mut self) -> bool {
        let repaired = self.anvil.prepare_state().unwrap();
        let child = self.anvil.command().stdout(Stdio::null()).spawn().unwrap();
        self.child = Some(child);
        repaired
    }
    /// SIGKILL.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
    fn rpc(&self) -> Rpc {
        Rpc::new(&RpcConfig::new([self.anvil.rpc_url()])).unwrap()
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .unwrap_or_else(|_| panic!("not within a minute: {what}"))
}

/// Waits for a chain that is starting.
async fn up(rpc: &Rpc) {
    within("the chain answers", async {
        while rpc.head().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Two users, three nodes and two sensors of one agreement.
struct World {
    d: Deployment,
    users: Vec<SecretKey>,
    nodes: Vec<SecretKey>,
    sensors: Vec<SecretKey>,
    terms: Terms,
    key: musig::AgreementKey,
}

fn address(k: &SecretKey) -> Address {
    Address(k.address())
}

fn sign(k: &SecretKey, digest: &Digest) -> Signature {
    Signature(k.sign(&digest.0))
}

fn wallet(k: &SecretKey, digest: &Digest) -> EvmSignature {
    EvmSignature::from_rsv(&k.sign_recoverable(&digest.0)).unwrap()
}

impl World {
    fn new(contract: Address) -> Self {
        let d = Deployment {
            chain_id: ANVIL_CHAIN_ID,
            contract,
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
            users: users.iter().map(address).collect(),
            nodes: nodes
                .iter()
                .zip([0, 1, 1])
                .map(|(n, trust)| TrustedNode {
                    node: address(n),
                    trust,
                })
                .collect(),
            sensors: sensors
                .iter()
                .map(|s| SensorStart {
                    sensor: address(s),
                    q0: 0,
                })
                .collect(),
            off_chain_code: Digest([3; 32]),
            window: WindowSpec::Count { z: 10, slide: 10 },
            future_tolerance_s: 60,
            leader: Leader::Rotating,
            flush_ms: 10,
            round_timeout_ms: 1_000,
            round_timeout_max_ms: 60_000,
            batch: 16,
            qos: Qos::OffChain,
            result: vec![field("total", "uint24")],
            detail: vec![],
        };
        terms.validate().unwrap();
        let public: Vec<_> = nodes.iter().map(SecretKey::public_key).collect();
        let key = musig::agreement_key(&public, &d.bytes(), &terms.digest().0).unwrap();
        Self {
            d,
            users,
            nodes,
            sensors,
            terms,
            key,
        }
    }
    fn a(&self) -> AgreementId {
        AgreementId(self.key.id)
    }
    fn key(&self) -> AgreementKey {
        AgreementKey {
            agreement: self.a(),
            aggregate: self.key.aggregate_x,
            y: self.key.y,
        }
    }
    fn register_user(&self, i: usize) -> Vec<u8> {
        let user = address(&self.users[i]);
        let signature = wallet(
            &self.users[i],
            &terms::user_digest(&self.d, &user, &format!("user {i}")),
        );
        calls::register_user(&user, &format!("user {i}"), &signature)
    }
    fn register_node(&self, i: usize) -> Vec<u8> {
        let owner_key = &self.users[usize::from(self.terms.nodes[i].trust)];
        let (node, owner) = (address(&self.nodes[i]), address(owner_key));
        let declaration = NodeDeclaration {
            public_key: PublicKey(self.nodes[i].public_key()),
            account: Address([i as u8; 20]),
            peer_key: [i as u8; 32],
            name: format!("node {i}"),
            addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
            revision: 0,
        };
        let digest = declaration.digest();
        let owner_signature = wallet(
            owner_key,
            &terms::node_owner_digest(&self.d, &node, &owner, &digest),
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
    fn sensor_entry(&self, i: usize) -> SensorEntry {
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
        let sensor = address(&self.sensors[i]);
        let digest = sensor_registration_digest(
            &self.d,
            &address(&self.users[0]),
            &sensor,
            &declaration.digest(),
        );
        SensorEntry {
            sensor,
            consent: sign(&self.sensors[i], &digest),
            declaration,
        }
    }
    fn register_sensor(&self, i: usize) -> Vec<u8> {
        let owner = address(&self.users[0]);
        let entry = self.sensor_entry(i);
        let digest =
            terms::sensor_owner_digest(&self.d, &entry.sensor, &owner, &entry.declaration.digest());
        calls::register_sensor(&self.d, &owner, &wallet(&self.users[0], &digest), &entry).unwrap()
    }
    fn register_sensors(&self) -> Vec<u8> {
        let owner = address(&self.users[0]);
        let entries: Vec<_> = (0..self.sensors.len())
            .map(|i| self.sensor_entry(i))
            .collect();
        let listed: Vec<_> = entries
            .iter()
            .map(|e| (e.sensor, e.declaration.digest()))
            .collect();
        let digest = terms::sensors_owner_digest(&self.d, &owner, &listed);
        calls::register_sensors(&self.d, &owner, &wallet(&self.users[0], &digest), &entries)
            .unwrap()
    }
    fn create(&self) -> Vec<u8> {
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
                let accepted = terms::acceptance_digest(
                    &self.d,
                    &self.a(),
                    &digest,
                    &address(&self.nodes[node]),
                );
                Acceptance {
                    node,
                    signature: sign(&self.nodes[node], &accepted),
                }
            })
            .collect();
        calls::create_agreement(&self.d, &self.key(), &self.terms, &signatures, &acceptances)
            .unwrap()
    }
    fn aggregate(&self, digest: Digest) -> AggregateSignature {
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
    fn outcome(&self, t: u64) -> Outcome {
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
    fn settle(&self, t: u64) -> Vec<u8> {
        let outcome = self.outcome(t);
        calls::settle(&outcome, &self.aggregate(outcome.digest(&self.d)))
    }
    fn batch(&self, from: u64) -> Batch {
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
    fn subject(&self, t: u64) -> Subject {
        Subject {
            deployment: self.d,
            config: terms::config(&self.d, &self.a(), 0),
            t,
        }
    }
    fn commit(&self, node: usize, t: u64, what: u8) -> Commit {
        let mut commit = Commit {
            commitment: Digest([what; 32]),
            opening: Digest([5; 32]),
            signature: Signature([0; 64]),
        };
        let digest = commit.digest(&self.subject(t), &address(&self.nodes[node]));
        commit.signature = sign(&self.nodes[node], &digest);
        commit
    }
    /// Signed reveals of all nodes; `result` of each.
    fn reveals(&self, t: u64, seal: &Digest, results: [u8; 3]) -> Vec<Reveal> {
        self.nodes
            .iter()
            .zip(results)
            .map(|(node, result)| {
                let mut reveal = Reveal {
                    computed: Computed {
                        kind: OutputKind::Value,
                        result: vec![0, 0, result],
                        detail_root: Digest::ZERO,
                        state: Digest([6; 32]),
                        trace: Digest([7; 32]),
                        window_hash: Digest([8; 32]),
                    },
                    secret: [1; 32],
                    salt: [2; 32],
                    from: t,
                    holes: vec![],
                    signature: Signature([0; 64]),
                };
                let outcome = reveal.outcome(self.a(), 0, t, seal);
                reveal.signature = sign(node, &reveal.digest(&self.d, &outcome));
                reveal
            })
            .collect()
    }
}

/// An outbox of one account, and a way to wait for its reports.
struct Sender {
    outbox: Outbox,
    reports: mpsc::Receiver<Delivered>,
    next: u8,
}

impl Sender {
    async fn start(rpc: &Rpc, secret: u8, journal: Arc<Memory>) -> Self {
        let account = Account::from_secret(&[secret; 32]).unwrap();
        let chain = rpc.identity().await.unwrap();
        let mut settings = OutboxSettings::for_chain(ANVIL_CHAIN_ID);
        settings.poll = Duration::from_millis(20);
        settings.submitter.rebroadcast_ms = 200;
        settings.submitter.recheck_ms = 200;
        let (outbox, reports) = Outbox::start(rpc.clone(), chain, account, journal, settings)
            .await
            .unwrap();
        Self {
            outbox,
            reports,
            next: 0,
        }
    }
    async fn hand_in(&mut self, what: &str, to: Option<Address>, data: Vec<u8>) -> Digest {
        self.next += 1;
        let id = Digest([self.next; 32]);
        let submission = Submission {
            id,
            label: what.into(),
            to,
            data,
            patience_ms: Some(60_000),
        };
        self.outbox.submit(submission).await.unwrap();
        id
    }
    async fn report(&mut self) -> Delivered {
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
    async fn reports_of(&mut self, ids: &[Digest]) {
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
    async fn done(
        &mut self,
        what: &str,
        to: Option<Address>,
        data: Vec<u8>,
    ) -> (u64, Option<Address>) {
        let id = self.hand_in(what, to, data).await;
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

/// Reads until nothing is left; events that were taken back are forgotten.
async fn catch_up(follower: &mut Follower, events: &mut Vec<Located>) {
    within("caught up", async {
        loop {
            match follower.look().await {
                Ok(progress) => {
                    if let Some(block) = progress.rewound {
                        events.retain(|e| e.at.block <= block);
                    }
                    events.extend(progress.events);
                    if progress.caught_up {
                        return;
                    }
                }
                Err(FollowError::LostBlocks { .. }) => panic!("refused"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    })
    .await;
}

fn settled_ts(events: &[Located]) -> Vec<u64> {
    events
        .iter()
        .filter_map(|e| match &e.event {
            ChainEvent::Settled { entries, .. } => Some(entries.iter().map(|(t, _)| *t)),
            _ => None,
        })
        .flatten()
        .collect()
}

#[tokio::test]
async fn everything_that_a_node_does_on_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(dir.path());
    let rpc = chain.rpc();
    up(&rpc).await;
    let mut sender = Sender::start(&rpc, 0x51, Arc::default()).await;
    let (deploy_gas, contract) = sender.done("deploy", None, calls::deploy()).await;
    let contract = contract.expect("an address");
    let main = MainContract::new(rpc.clone(), contract);
    let w = World::new(contract);
    assert_eq!(main.deployment().await.unwrap(), w.d);
    assert!(
        MainContract::new(rpc.clone(), Address([1; 20]))
            .deployment()
            .await
            .is_err()
    );
    let to = Some(contract);

    // Handed in all at once and in a bad order: what is too early waits for what it needs.
    for i in 0..3 {
        sender.hand_in("node", to, w.register_node(i)).await;
    }
    for i in 0..2 {
        sender.hand_in("user", to, w.register_user(i)).await;
    }
    for _ in 0..5 {
        let delivered = sender.report().await;
        assert!(
            matches!(delivered.report, Report::Mined { .. }),
            "{delivered:?}"
        );
    }
    sender.done("sensor", to, w.register_sensor(0)).await;
    sender.done("sensors", to, w.register_sensors()).await;
    let (create_gas, _) = sender.done("agreement", to, w.create()).await;
    assert_eq!(main.agreement(&w.a()).await.unwrap().unwrap().next_t, 0);

    // Already registered: dropped before it costs a nonce.
    sender.hand_in("user again", to, w.register_user(0)).await;
    assert!(
        matches!(sender.report().await.report, Report::Pointless { reason } if reason.contains("registered already"))
    );

    // Settlement: single, batch, by reveals, and one that comes too early.
    sender.hand_in("t = 1", to, w.settle(1)).await;
    let (settle_gas, _) = {
        sender.hand_in("t = 0", to, w.settle(0)).await;
        let (first, second) = (sender.report().await, sender.report().await);
        assert_eq!(
            (first.id.0[0], second.id.0[0]),
            (sender.next, sender.next - 1),
            "in the order of t"
        );
        match (first.report, second.report) {
            (Report::Mined { .. }, Report::Mined { gas_used, .. }) => (gas_used, ()),
            other => panic!("{other:?}"),
        }
    };
    let batch = w.batch(2);
    let signature = w.aggregate(batch.digest(&w.d));
    let (batch_gas, _) = sender
        .done("batch", to, calls::settle_batch(&batch, &signature))
        .await;
    let seal = Digest([4; 32]);
    let reveals = w.reveals(5, &seal, [9, 9, 9]);
    let outcome = reveals[0].outcome(w.a(), 0, 5, &seal);
    let by_reveals =
        calls::settle_by_reveals(&w.d, &w.key(), &w.terms, &outcome, &reveals).unwrap();
    let (reveals_gas, _) = sender.done("by reveals", to, by_reveals).await;
    let attested = w.outcome(77);
    let signature = w.aggregate(attested.digest(&w.d));
    let (attest_gas, _) = sender
        .done("attest", to, calls::attest(&attested, &signature))
        .await;
    sender.hand_in("t = 1 again", to, w.settle(1)).await;
    assert!(
        matches!(sender.report().await.report, Report::Pointless { reason } if reason.contains("settled already"))
    );
    // A signature over something else is refused in words, without a transaction.
    let wrong = calls::settle(&w.outcome(6), &w.aggregate(w.outcome(7).digest(&w.d)));
    sender.hand_in("forged", to, wrong).await;
    assert!(
        matches!(sender.report().await.report, Report::Reverted { name, mined: None, .. } if name == "NotUnanimous")
    );
    assert_eq!(main.agreement(&w.a()).await.unwrap().unwrap().next_t, 6);

    // Disputes.
    let (d, key) = (w.d, w.key());
    let case = Case {
        deployment: &d,
        key: &key,
        terms: &w.terms,
        epoch: 0,
        t: 6,
    };
    let (one, two) = (w.commit(1, 6, 1), w.commit(1, 6, 2));
    sender
        .done(
            "equivocation",
            to,
            calls::report_equivocation(&case, 1, &one, &two).unwrap(),
        )
        .await;
    assert!(
        calls::report_equivocation(&case, 0, &one, &two).is_err(),
        "evidence against another node"
    );
    let reveals = w.reveals(6, &seal, [1, 1, 2]);
    let numbered: Vec<_> = reveals.iter().cloned().enumerate().collect();
    sender
        .done(
            "unequal",
            to,
            calls::report_unequal_reveals(&case, &seal, &numbered).unwrap(),
        )
        .await;
    assert!(main.is_hole(&w.a(), 0, 6).await.unwrap());
    let id = main
        .dispute_id(
            DisputeKind::Equivocation,
            Some(&w.a()),
            0,
            6,
            Some(&address(&w.nodes[1])),
        )
        .await
        .unwrap();
    assert_eq!(
        main.dispute(&id).await.unwrap().unwrap().kind,
        DisputeKind::Equivocation
    );
    assert_eq!(main.dispute(&Digest([1; 32])).await.unwrap(), None);
    let mut lied = Commit {
        opening: diversity_proto::round::opening_hash(&[1; 32], &[2; 32]),
        ..w.commit(2, 6, 9)
    };
    lied.signature = sign(
        &w.nodes[2],
        &lied.digest(&w.subject(6), &address(&w.nodes[2])),
    );
    sender
        .done(
            "false reveal",
            to,
            calls::report_false_reveal(&case, 2, &lied, &seal, &reveals[2]).unwrap(),
        )
        .await;
    let closing = terms::close_digest(&w.d, &w.a(), 8);
    let closed: Vec<_> = w.users.iter().map(|u| wallet(u, &closing)).collect();
    sender
        .done(
            "close",
            to,
            calls::close_agreement(&key, &w.terms, 8, &closed),
        )
        .await;
    assert_eq!(main.agreement(&w.a()).await.unwrap().unwrap().end, 8);

    // The events say all of it.
    let mut follower = Follower::new(
        rpc.clone(),
        contract,
        FollowConfig::for_chain(ANVIL_CHAIN_ID),
        None,
    );
    let mut events = Vec::new();
    catch_up(&mut follower, &mut events).await;
    assert!(
        !events
            .iter()
            .any(|e| matches!(e.event, ChainEvent::Unreadable { .. })),
        "{events:#?}"
    );
    let count = |f: fn(&ChainEvent) -> bool| events.iter().filter(|e| f(&e.event)).count();
    assert_eq!(
        count(
            |e| matches!(e, ChainEvent::UserRegistered { name, .. } if name.starts_with("user "))
        ),
        2
    );
    assert_eq!(count(|e| matches!(e, ChainEvent::NodeRegistered { .. })), 3);
    assert_eq!(
        count(|e| matches!(e, ChainEvent::SensorRegistered { .. })),
        3
    );
    assert_eq!(
        count(|e| matches!(e, ChainEvent::DisputeRecorded { .. })),
        3
    );
    assert_eq!(
        count(|e| matches!(e, ChainEvent::Attested { t: 77, .. })),
        1
    );
    assert_eq!(
        count(|e| matches!(e, ChainEvent::AgreementClosed { end: 8, .. })),
        1
    );
    assert_eq!(settled_ts(&events), [0, 1, 2, 3, 4, 5]);
    for located in &events {
        match &located.event {
            ChainEvent::AgreementCreated {
                agreement,
                terms: published,
                users,
                nodes,
                ..
            } => {
                assert_eq!(*agreement, w.a());
                assert_eq!(*published, PublishedTerms::Whole(Box::new(w.terms.clone())));
                assert_eq!((users.len(), nodes.len()), (2, 3));
            }
            ChainEvent::Settled {
                agreement,
                t,
                context,
                gas_used,
                outcomes,
                batch: is_batch,
                ..
            } => {
                assert_eq!(*agreement, w.a());
                let want = match t {
                    4 => batch.contexts_root(),
                    5 => outcome.context,
                    t => w.outcome(*t).context,
                };
                assert_eq!(
                    (*context, *outcomes, *is_batch),
                    (Some(want), if *t == 4 { 3 } else { 1 }, *t == 4)
                );
                assert!(*gas_used > 21_000);
            }
            ChainEvent::DisputeRecorded {
                evidence: raw,
                kind,
                accused,
                at,
                ..
            } => {
                assert_eq!(*at, 6);
                match evidence::decode(raw).unwrap() {
                    Evidence::Equivocation {
                        node,
                        first,
                        second,
                        ..
                    } => {
                        assert_eq!((Some(node), first, second), (*accused, one, two));
                    }
                    Evidence::UnequalReveals { reveals: found, .. } => {
                        assert_eq!(
                            (*kind, *accused, found.len()),
                            (DisputeKind::UnequalReveals, None, 3)
                        );
                        assert_eq!(found[2].1.signature, reveals[2].signature);
                    }
                    Evidence::FalseReveal { node, reveal, .. } => {
                        assert_eq!((Some(node), reveal), (*accused, reveals[2].clone()));
                    }
                    other => panic!("{other:?}"),
                }
            }
            _ => {}
        }
    }
    println!(
        "gas: deploy {deploy_gas}, agreement {create_gas}, settle {settle_gas}, batch of 3 {batch_gas}, by 3 reveals {reveals_gas}, attest {attest_gas}"
    );
}

#[tokio::test]
async fn a_chain_that_is_killed_in_mid_run_settles_everything_exactly_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::new(dir.path());
    let rpc = chain.rpc();
    up(&rpc).await;
    let (journal, other_journal) = (Arc::<Memory>::default(), Arc::<Memory>::default());
    let mut sender = Sender::start(&rpc, 0x51, journal.clone()).await;
    let (_, contract) = sender.done("deploy", None, calls::deploy()).await;
    let contract = contract.unwrap();
    let to = Some(contract);
    let w = World::new(contract);
    for i in 0..2 {
        sender.done("user", to, w.register_user(i)).await;
    }
    for i in 0..3 {
        sender.done("node", to, w.register_node(i)).await;
    }
    sender.done("agreement", to, w.create()).await;
    chain.anvil.saved(Duration::from_secs(30)).await.unwrap();

    let mut other = Sender::start(&rpc, 0x52, other_journal).await;
    let mut follower = Follower::new(
        rpc.clone(),
        contract,
        FollowConfig::for_chain(ANVIL_CHAIN_ID),
        None,
    );
    let mut events = Vec::new();
    let main = MainContract::new(rpc.clone(), contract);
    let rounds = 4;
    let mut rewound = 0;
    for round in 0..rounds {
        // Two nodes send the same settlements; one of each pair wins.
        let from = round * 4;
        let (mut mine, mut theirs) = (Vec::new(), Vec::new());
        for t in from..from + 3 {
            let data = w.settle(t);
            let label = format!("t = {t}");
            mine.push(sender.hand_in(&label, to, data.clone()).await);
            theirs.push(other.hand_in(&label, to, data).await);
        }
        sender.reports_of(&mine).await;
        other.reports_of(&theirs).await;
        catch_up(&mut follower, &mut events).await;
        let before = rpc.head().await.unwrap().number;
        // SIGKILL at once: up to a second of blocks is gone. One more is handed in while the chain is dead.
        chain.kill();
        let label = format!("t = {}", from + 3);
        let late = sender.hand_in(&label, to, w.settle(from + 3)).await;
        if round == 2 {
            // The node dies too, and starts again on its journal.
            drop(sender);
            sender = Sender::start(&rpc, 0x51, journal.clone()).await;
            sender.next = 100;
        }
        let mut status = sender.outbox.watch();
        within(
            "the dead chain is told",
            status.wait_for(|s| s.trouble.is_some()),
        )
        .await
        .unwrap();
        chain.start();
        up(&rpc).await;
        rewound += u64::from(rpc.head().await.unwrap().number < before);
        within("all has settled", async {
            while main
                .agreement(&w.a())
                .await
                .ok()
                .flatten()
                .is_none_or(|a| a.next_t < from + 4)
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        sender.reports_of(&[late]).await;
    }
    catch_up(&mut follower, &mut events).await;
    assert_eq!(
        settled_ts(&events),
        (0..rounds * 4).collect::<Vec<_>>(),
        "each t once, in order"
    );
    // The chain itself says the same from its first block.
    let mut fresh = Follower::new(
        rpc.clone(),
        contract,
        FollowConfig::for_chain(ANVIL_CHAIN_ID),
        None,
    );
    let mut all = Vec::new();
    catch_up(&mut fresh, &mut all).await;
    assert_eq!(settled_ts(&all), settled_ts(&events));
    println!("{rewound} of {rounds} SIGKILLs lost blocks");
}

#[tokio::test]
async fn another_chain_on_the_same_port_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::new(dir.path());
    let rpc = chain.rpc();
    up(&rpc).await;
    let before = rpc.identity().await.unwrap();
    chain.kill();
    // Without its state it is another chain: the second of the first start is in its genesis.
    loop {
        let _ = std::fs::remove_file(&chain.anvil.state);
        chain.start();
        let fresh = chain.rpc();
        up(&fresh).await;
        if fresh.identity().await.unwrap() != before {
            break;
        }
        chain.kill();
    }
    let error = within("it answers", async {
        loop {
            match rpc.head().await {
                Err(e) if e.to_string().contains("another chain") => return e,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    })
    .await;
    assert!(error.to_string().contains(&before.genesis.hex()), "{error}");
}
