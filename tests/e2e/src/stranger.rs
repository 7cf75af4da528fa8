//! A stranger: an account that is a party to nothing, and writes to the contracts whatever they take.

use crate::locks::{self, Lock};
use crate::{E2eError, Result, onchain};
use diversity_chain::calls::{self, Acceptance, AgreementKey, Case, SensorEntry};
use diversity_chain::fees::FeePolicy;
use diversity_chain::rpc::{Call, Rpc};
use diversity_chain::{Account, EvmSignature, Unsigned};
use diversity_client::api::NodeView;
use diversity_client::devnet::Devnet;
use diversity_keys::{SecretKey, musig, peer_public, peer_sign};
use diversity_proto::entity::{
    NodeDeclaration, SensorDeclaration, node_registration_digest, peer_binding_digest,
    sensor_registration_digest,
};
use diversity_proto::round::{Commit, Subject};
use diversity_proto::terms::{
    self, Field, Leader, Protocol, Qos, SensorStart, Terms, TrustedNode, WindowSpec,
};
use diversity_proto::{
    Address, Deployment, Digest, NodeId, PublicKey, SensorId, Signature, UserId,
};

/// First second of 2022-09, UTC.
const START: u64 = 1_661_990_400;

/// Nodes that it can name and that are registered nowhere.
const UNKNOWN: usize = 150;

/// Its account, two users and two nodes of its own.
pub struct Stranger {
    rpc: Rpc,
    account: Account,
    nonce: u64,
    deployment: Deployment,
    users: [SecretKey; 2],
    nodes: [SecretKey; 2],
    /// Of nodes that are registered nowhere.
    unknown: Vec<SecretKey>,
    /// Entities of each of its users so far.
    counts: [u64; 2],
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// The contract took it.
    Taken,
    /// The contract refused it.
    Refused,
}

fn keys() -> Result<[SecretKey; 2]> {
    let mut keys = [SecretKey::generate()?, SecretKey::generate()?];
    keys.sort_by_key(SecretKey::address);
    Ok(keys)
}

fn wallet(key: &SecretKey, digest: &Digest) -> EvmSignature {
    EvmSignature::from_rsv(&key.sign_recoverable(&digest.0)).expect("a signature of its own")
}

fn chain(error: impl std::fmt::Display) -> E2eError {
    E2eError::Chain(error.to_string())
}

impl Stranger {
    /// With an empty account: on a chain without gas prices it needs none.
    ///
    /// # Errors
    /// [`E2eError`].
    pub fn new(devnet: &Devnet) -> Result<Self> {
        let key = SecretKey::generate()?;
        Ok(Self {
            rpc: onchain::client(devnet)?,
            account: Account::from_secret(&key.to_bytes()).map_err(chain)?,
            nonce: 0,
            deployment: locks::deployment(devnet),
            users: keys()?,
            nodes: keys()?,
            unknown: (0..UNKNOWN)
                .map(|_| SecretKey::generate())
                .collect::<std::result::Result<_, _>>()?,
            counts: [0; 2],
        })
    }

    /// Sends a call to `MainContract` and waits until it is mined.
    ///
    /// # Errors
    /// [`E2eError::Chain`].
    pub async fn send(&mut self, data: &[u8]) -> Result<Became> {
        let call = Call {
            from: self.account.address(),
            to: Some(self.deployment.contract),
            data: data.to_vec(),
        };
        let Ok(gas) = self.rpc.estimate_gas(&call).await else {
            return Ok(Became::Refused);
        };
        let head = self.rpc.head().await?;
        let policy = FeePolicy::default();
        let unsigned = Unsigned {
            chain_id: self.deployment.chain_id,
            nonce: self.nonce,
            to: call.to,
            value: 0,
            data,
            gas_limit: policy.gas_limit(gas, head.gas_limit).map_err(chain)?,
            fees: policy.fees(&head, None, 0),
        };
        let (raw, tx) = self.account.sign(&unsigned);
        self.rpc.send_raw(&raw, true).await?;
        self.nonce += 1;
        let receipt = onchain::mined(&self.rpc, &tx).await?;
        Ok(if receipt.success {
            Became::Taken
        } else {
            Became::Refused
        })
    }

    fn user(&self, i: usize) -> UserId {
        UserId(self.users[i].address())
    }

    /// The call that registers one of its users under a name.
    pub fn register_user(&mut self, i: usize, name: &str) -> Vec<u8> {
        let user = self.user(i);
        self.counts[i] = 1;
        let digest = terms::user_digest(&self.deployment, &user, name);
        calls::register_user(&user, name, &wallet(&self.users[i], &digest))
    }

    /// The call that registers a sensor with its own consent, whatever its declaration says.
    pub fn register_sensor(&mut self, key: &SecretKey, declaration: SensorDeclaration) -> Vec<u8> {
        let (d, owner, sensor) = (self.deployment, self.user(0), SensorId(key.address()));
        let digest = declaration.digest();
        let consent = sensor_registration_digest(&d, &owner, &sensor, &digest);
        let count = self.counts[0];
        self.counts[0] += 1;
        let owned = terms::sensor_owner_digest(&d, &sensor, &owner, &digest, count);
        let entry = SensorEntry {
            sensor,
            declaration,
            consent: Signature(key.sign(&consent.0)),
        };
        calls::register_sensor(&d, &owner, &wallet(&self.users[0], &owned), &entry)
            .expect("its own sensor")
    }

    /// A declaration of one of its nodes that every reader believes.
    pub fn declaration(&self, i: usize, revision: u32) -> NodeDeclaration {
        let (public_key, account) = (PublicKey(self.nodes[i].public_key()), Address([7; 20]));
        let node = NodeId(self.nodes[i].address());
        let peer = self.nodes[i].to_bytes();
        let digest = peer_binding_digest(&self.deployment, &node, &public_key, &account);
        NodeDeclaration {
            public_key,
            account,
            peer_key: peer_public(&peer),
            peer_proof: peer_sign(&peer, &digest.0),
            name: "a stranger's".into(),
            addresses: vec!["/ip4/127.0.0.9/tcp/7440".into()],
            revision,
        }
    }

    /// The call that registers one of its nodes, whatever its declaration says.
    pub fn register_node(&mut self, i: usize, declaration: &NodeDeclaration) -> Vec<u8> {
        let (d, owner) = (self.deployment, self.user(0));
        let node = NodeId(self.nodes[i].address());
        let digest = declaration.digest();
        let count = self.counts[0];
        self.counts[0] += 1;
        let owned = terms::node_owner_digest(&d, &node, &owner, &digest, count);
        let binding = node_registration_digest(&d, &owner, &node, &digest);
        let binding = Signature(self.nodes[i].sign(&binding.0));
        let owned = wallet(&self.users[0], &owned);
        calls::register_node(&d, &node, &owner, &owned, declaration, &binding)
            .expect("its own node")
    }

    /// Terms between its users, its nodes, `others` and so many nodes that are registered nowhere.
    pub fn terms(&self, others: &[NodeView], unknown: usize) -> Terms {
        let own = (0..2u8).map(|i| (self.nodes[usize::from(i)].address(), i));
        let others = others.iter().map(|n| (n.node.0, 0));
        let unknown = self.unknown.iter().take(unknown);
        let unknown = unknown.map(|key| (key.address(), 1));
        let nodes = own.chain(others).chain(unknown);
        let mut nodes: Vec<_> = nodes
            .map(|(node, trust)| TrustedNode {
                node: NodeId(node),
                trust,
            })
            .collect();
        nodes.sort_unstable_by_key(|n| n.node);
        Terms {
            title: "a stranger's".into(),
            users: self.users.iter().map(|u| UserId(u.address())).collect(),
            nodes,
            sensors: vec![SensorStart {
                sensor: SensorId([9; 20]),
                q0: 0,
            }],
            off_chain_code: Digest([1; 32]),
            window: WindowSpec::Month { start: START },
            future_tolerance_s: 0,
            grace_s: 1,
            protocol: Protocol::Fast,
            leader: Leader::Rotating,
            flush_ms: 0,
            round_timeout_ms: 1_000,
            round_timeout_max_ms: 1_000,
            batch: 1,
            qos: Qos::OffChain,
            result: Vec::new(),
            detail: Vec::new(),
            abstain_ms: 0,
        }
    }

    /// Terms between its users, its nodes and `others` over sensors of others, with a module that every node has: all that it would
    /// take to run, but the others' consent.
    pub fn terms_over(&self, others: &[NodeView], sensors: &[SensorId], code: Digest) -> Terms {
        let field = |name: &str, ty: &str| Field {
            name: name.into(),
            ty: ty.into(),
        };
        Terms {
            title: "over the locks of others".into(),
            sensors: sensors
                .iter()
                .map(|s| SensorStart { sensor: *s, q0: 0 })
                .collect(),
            off_chain_code: code,
            qos: Qos::OffChain,
            result: vec![field("total_seconds", "uint64"), field("trips", "uint32")],
            detail: vec![
                field("seconds", "uint64"),
                field("trips", "uint32"),
                field("unbilled", "uint32"),
            ],
            ..self.terms(others, 0)
        }
    }

    /// The key of an agreement over these terms.
    ///
    /// # Errors
    /// [`E2eError::Chain`] for keys that make none.
    pub fn key(&self, terms: &Terms, others: &[NodeView]) -> Result<AgreementKey> {
        let own = self.nodes.iter().chain(&self.unknown);
        let own = own.map(|key| (key.address(), key.public_key()));
        let others = others.iter().map(|n| (n.node.0, n.public_key.0));
        let known: std::collections::BTreeMap<_, _> = own.chain(others).collect();
        let keys: Vec<_> = terms.nodes.iter().map(|n| known[&n.node.0]).collect();
        let d = self.deployment.bytes();
        let key = musig::agreement_key(&keys, &d, &terms.digest().0).map_err(chain)?;
        Ok(AgreementKey {
            agreement: diversity_proto::AgreementId(key.id),
            aggregate: key.aggregate_x,
            y: key.y,
        })
    }

    /// The call that creates an agreement of its own making: the other nodes were never asked.
    pub fn create(&self, key: &AgreementKey, terms: &Terms) -> Vec<u8> {
        let (d, digest) = (&self.deployment, terms.digest());
        let agreed = terms::agreement_digest(d, &key.agreement, &digest);
        let signatures: Vec<_> = self.users.iter().map(|u| wallet(u, &agreed)).collect();
        let accept = |node: &SecretKey| {
            let id = NodeId(node.address());
            let signed = terms::acceptance_digest(d, &key.agreement, &digest, &id);
            Acceptance {
                node: terms.node_index(&id).expect("its own"),
                signature: Signature(node.sign(&signed.0)),
            }
        };
        let acceptances: Vec<_> = self.nodes.iter().map(accept).collect();
        calls::create_agreement(d, key, terms, &signatures, &acceptances).expect("its own keys")
    }

    /// The call that reports two commits of its own node at any t.
    pub fn equivocation(&self, key: &AgreementKey, terms: &Terms, t: u64) -> Vec<u8> {
        let id = NodeId(self.nodes[0].address());
        let subject = Subject {
            deployment: self.deployment,
            config: terms::config(&self.deployment, &key.agreement, 0),
            t,
        };
        let commit = |n: u8| {
            let mut commit = Commit {
                commitment: Digest([n; 32]),
                opening: Digest([n; 32]),
                signature: Signature([0; 64]),
            };
            let digest = commit.digest(&subject, &id);
            commit.signature = Signature(self.nodes[0].sign(&digest.0));
            commit
        };
        let case = Case {
            deployment: &self.deployment,
            key,
            terms,
            epoch: 0,
            t,
        };
        let index = terms.node_index(&id).expect("its own");
        calls::report_equivocation(&case, index, &commit(1), &commit(2)).expect("its own commits")
    }

    /// The call that reports that a lock has contradicted itself.
    pub fn contradiction(&self, lock: &Lock) -> Vec<u8> {
        let (one, other) = (
            lock.frame(0, &[(START, true)]),
            lock.frame(0, &[(START + 1, true)]),
        );
        calls::report_sensor_contradiction(&self.deployment, 0, &one, &other).expect("signed")
    }
}
