//! A node's shared state in a temporary directory, with parties registered and no loop, no network and no chain behind it.

use std::sync::Arc;

use diversity_chain::events::{ChainEvent, Located, Position};
use diversity_engine::AgreementStatus;
use diversity_engine::api::{FrameRef, IngestAnswer};
use diversity_keys::SecretKey;
use diversity_proto::entity::{NodeDeclaration, Period, SensorDeclaration};
use diversity_proto::frame::{Variable, VariableType};
use diversity_proto::terms::{
    Field, Leader, Protocol, Qos, SensorStart, Terms, TrustedNode, WindowSpec,
};
use diversity_proto::{
    Address, AgreementId, Deployment, Digest, NodeId, PublicKey, SensorId, UserId,
};
use diversity_store::{Store, Writer, WriterLimits};
use tokio::sync::{broadcast, mpsc};
use zeroize::Zeroizing;

use super::agreements::{Agreement, Book};
use super::archive::records::Records;
use super::core::Core;
use crate::config::NodeConfig;
use crate::keyring::Keyring;
use crate::node::activation::aggregate;
use crate::node::clocks::Clocks;
use crate::node::consent::{Accepted, Consent, ConsentError};
use crate::node::driver::{Command, HeldSensor};
use crate::node::frames::Frames;
use crate::node::modules::Modules;
use crate::node::outbox::Known;
use crate::node::registry::{
    AgreementRecord, Applied, NodeRecord, Registry, SensorRecord, UserRecord, terms_key,
};
use crate::node::shared::{Code, Durable, Identity, Peers, Registered, Shared};
use crate::runner::{RunFailure, RunOutput, Runner};

pub const DEPLOYMENT: Deployment = Deployment {
    chain_id: 5,
    contract: Address([7; 20]),
};
/// A module that the runner of the tests takes.
pub const MODULE: &[u8] = b"a module";
/// One that it refuses.
pub const BAD_MODULE: &[u8] = b"a bad module";

pub struct Kit {
    pub shared: Shared,
    /// Seeds 1 and 2 are the users', 11 and 12 the nodes'; this node is that of the first user.
    pub terms: Terms,
    _dir: tempfile::TempDir,
}

struct Picky;

impl Runner for Picky {
    fn check(&self, module: &[u8]) -> Result<(), String> {
        match module {
            BAD_MODULE => Err("it is bad".into()),
            _ => Ok(()),
        }
    }
    fn add(&self, _: &[u8]) -> Result<(), String> {
        Ok(())
    }
    fn run(&self, _: &Digest, _: &[u8]) -> Result<RunOutput, RunFailure> {
        Err(RunFailure::NotLoaded)
    }
}

pub fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32]).expect("a key")
}

pub fn sensor(seed: u8) -> SensorId {
    SensorId(key(seed).address())
}

pub fn declaration(seed: u8) -> SensorDeclaration {
    SensorDeclaration {
        public_key: PublicKey(key(seed).public_key()),
        sensor_type: "lock".into(),
        label: format!("lock {seed}"),
        variables: vec![Variable {
            name: "open".into(),
            ty: VariableType::U8,
        }],
        period: Period::None,
    }
}

impl Kit {
    /// Two users with a node each and one sensor (seed 21), all registered, and terms between them.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let store = Store::open(&dir.path().join("store"), b"test").expect("store");
        let keys = Keyring {
            protocol: key(11),
            account: key(31),
            peer: Zeroizing::new([41; 32]),
            seed: Zeroizing::new([51; 32]),
            new: true,
        };
        let identity = Identity {
            deployment: DEPLOYMENT,
            cells: Address([8; 20]),
            node: keys.node(),
            peer: [41; 32],
            keys: Arc::new(keys),
        };
        let accepted = dir.path().join("accepted");
        let consent = Consent::open(accepted, &DEPLOYMENT, &identity.node, || {
            Ok::<_, ConsentError>(Vec::new())
        });
        let consent = consent.expect("a directory");
        let registry = registry(&store, identity.node, consent.clone());
        let modules = Modules::open(dir.path().join("modules")).expect("modules");
        let shared = Shared {
            config: Arc::new(NodeConfig::default()),
            identity,
            durable: Durable {
                writer: Arc::new(
                    Writer::spawn(store.clone(), WriterLimits::default()).expect("writer"),
                ),
                frames: Arc::new(Frames::new(store.clone(), 1024)),
                store,
            },
            code: Code {
                modules: Arc::new(modules),
                runner: Arc::new(Picky),
            },
            consent,
            registered: Registered::new(registry),
            peers: Peers::default(),
            clocks: Clocks::new(Arc::default()),
            agreements: Arc::default(),
            waiting: Arc::default(),
            sought: Arc::default(),
            events: broadcast::channel(8).0,
            metrics: Arc::default(),
        };
        Self {
            shared,
            terms: terms(),
            _dir: dir,
        }
    }

    pub fn book(&self) -> Book {
        Book {
            deployment: DEPLOYMENT,
            registered: self.shared.registered.clone(),
            records: Records::new(self.shared.durable.store.clone()),
            sought: Arc::clone(&self.shared.sought),
        }
    }

    /// The id that the terms and the nodes make.
    pub fn id(&self, terms: &Terms) -> AgreementId {
        let keys = [11, 12].map(|seed| PublicKey(key(seed).public_key()));
        AgreementId(aggregate(&DEPLOYMENT, terms, &keys).expect("a key").id)
    }

    /// The agreement as it stands on chain and is known here.
    pub fn agreed(&self) -> Agreement {
        let a = self.id(&self.terms);
        let record = AgreementRecord {
            tx: Digest([1; 32]),
            block: 9,
            nodes: self.terms.nodes.iter().map(|n| n.node).collect(),
            terms_digest: self.terms.digest(),
            code: self.terms.off_chain_code,
            epoch: 0,
            next_t: 0,
            end: None,
            kept: true,
        };
        self.shared.registered.write().agreements.insert(a, record);
        self.put(terms_key(&a), self.terms.encode());
        let key = &self.shared.identity.keys.protocol;
        let accepted = Accepted::sign(key, &DEPLOYMENT, a, self.terms.clone(), Vec::new());
        self.shared.consent.keep(accepted).expect("kept");
        self.book().load(&a).expect("it stands").1
    }

    /// Takes in an event of the chain.
    pub fn said(&self, block: u64, event: ChainEvent) {
        let at = Position {
            block,
            block_hash: Digest([block as u8; 32]),
            log_index: 0,
            tx: Digest([block as u8 + 100; 32]),
        };
        let mut out = Applied::default();
        let located = Located { at, event };
        self.shared.registered.write().apply(&located, &mut out);
        self.shared.durable.store.write(out.ops).expect("written");
    }

    pub fn put(&self, key: Vec<u8>, value: Vec<u8>) {
        let op = diversity_store::Op::Put(key, value);
        self.shared.durable.store.write(vec![op]).expect("written");
    }

    /// A write of the core.
    pub fn keep(&self, op: diversity_engine::api::Op) {
        match op {
            diversity_engine::api::Op::Put { key, value } => self.put(key, value),
            diversity_engine::api::Op::Delete { .. } => unreachable!("the tests delete nothing"),
        }
    }
}

fn registry(store: &Store, node: NodeId, consent: Consent) -> Registry {
    let mut registry = Registry::load(store, node, consent).expect("empty");
    let tx = Digest([1; 32]);
    for (user, node) in [(1, 11), (2, 12)] {
        let (user, key) = (UserId(key(user).address()), key(node));
        let name = format!("user {user}");
        registry
            .users
            .insert(user, UserRecord { name, tx, block: 1 });
        let declaration = NodeDeclaration {
            public_key: PublicKey(key.public_key()),
            account: Address([node; 20]),
            peer_key: [node; 32],
            peer_proof: [node; 64],
            name: format!("node {node}"),
            addresses: Vec::new(),
            revision: 0,
        };
        let record = NodeRecord {
            owner: user,
            declaration,
            tx,
            block: 1,
            taken_back: false,
        };
        registry.nodes.insert(NodeId(key.address()), record);
    }
    let record = SensorRecord {
        owner: UserId(key(1).address()),
        declaration: declaration(21),
        tx,
        block: 2,
        void: None,
    };
    registry.sensors.insert(sensor(21), record);
    registry
}

fn terms() -> Terms {
    let field = |name: &str, ty: &str| Field {
        name: name.into(),
        ty: ty.into(),
    };
    let mut users = [1, 2].map(|seed| UserId(key(seed).address()));
    users.sort_unstable();
    let trust = |seed| users.iter().position(|u| *u == UserId(key(seed).address()));
    let mut nodes = [(11, 1), (12, 2)].map(|(node, user)| TrustedNode {
        node: NodeId(key(node).address()),
        trust: trust(user).expect("listed") as u8,
    });
    nodes.sort_unstable_by_key(|n| n.node);
    Terms {
        title: "test".into(),
        users: users.to_vec(),
        nodes: nodes.to_vec(),
        sensors: vec![SensorStart {
            sensor: sensor(21),
            q0: 0,
        }],
        off_chain_code: Digest(diversity_proto::domain::sha256_raw(MODULE)),
        window: WindowSpec::Seconds {
            start: 0,
            seconds: 100,
        },
        future_tolerance_s: 1,
        grace_s: 50,
        protocol: Protocol::Fast,
        leader: Leader::Rotating,
        flush_ms: 1,
        round_timeout_ms: 100,
        round_timeout_max_ms: 1_000,
        batch: 1,
        qos: Qos::OffChain,
        result: vec![field("total", "uint16")],
        detail: vec![field("seconds", "uint8")],
        abstain_ms: 1_000,
    }
}

/// The agreement as the outbox knows it.
pub fn known() -> Known {
    let keys = [11, 12].map(|seed| PublicKey(key(seed).public_key()));
    let terms = terms();
    Known {
        key: aggregate(&DEPLOYMENT, &terms, &keys).expect("a key"),
        terms: Arc::new(terms),
    }
}

/// A loop that knows only these answers.
#[derive(Clone, Default)]
pub struct Loop {
    pub held: Vec<HeldSensor>,
    pub found: Vec<FrameRef>,
    pub status: Vec<Option<AgreementStatus>>,
    pub ingested: Option<IngestAnswer>,
}

impl Loop {
    /// Answers until nobody asks any more.
    pub fn run(self) -> Core {
        let (commands, mut asked) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Some(command) = asked.recv().await {
                // Whoever asked may be gone.
                match command {
                    Command::Held { reply, .. } => drop(reply.send(self.held.clone())),
                    Command::Find { reply, .. } => drop(reply.send(self.found.clone())),
                    Command::Status { reply, .. } => drop(reply.send(self.status.clone())),
                    Command::Ingest { reply, .. } => {
                        let answer = self.ingested.clone().expect("expected");
                        drop(reply.send(answer));
                    }
                    Command::Reread { .. } => {}
                    _ => unreachable!("no room asks for more"),
                }
            }
        });
        Core::new(commands)
    }
}
