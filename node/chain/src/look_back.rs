//! What the chain has said of somebody, asked again: for a reader that keeps only so much of strangers, and finds later that one of
//! them is none.

use std::collections::{BTreeMap, BTreeSet};

use alloy::sol_types::SolEvent;
use diversity_proto::{Address, Deployment, Digest, NodeId, SensorId, UserId};
use serde_json::{Value, json};

use crate::abi::IMainContract as C;
use crate::events::{ChainEvent, Located, decode};
use crate::rpc::{Log, Rpc, RpcError};

/// Whoever is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entity {
    /// A user.
    User(UserId),
    /// A sensor.
    Sensor(SensorId),
    /// A node.
    Node(NodeId),
}

/// Most ids in one filter.
const IDS_MAX: usize = 100;

/// What may be kept of one answer is what counts: of a sensor its first registration and its first contradiction, of a node its newest
/// revision, of a user its only name. So nobody makes this grow by saying something again.
#[derive(Default)]
struct Found {
    first: BTreeMap<Entity, Located>,
    nodes: BTreeMap<NodeId, (u32, Located)>,
    void: BTreeMap<SensorId, (u64, Located)>,
}

impl Found {
    fn take(&mut self, wanted: &BTreeSet<Entity>, located: Located) {
        match &located.event {
            ChainEvent::UserRegistered { user, .. } => {
                let entity = Entity::User(*user);
                if wanted.contains(&entity) {
                    self.first.entry(entity).or_insert(located);
                }
            }
            ChainEvent::SensorRegistered { sensor, .. } => {
                let entity = Entity::Sensor(*sensor);
                if wanted.contains(&entity) {
                    self.first.entry(entity).or_insert(located);
                }
            }
            ChainEvent::NodeRegistered {
                node, declaration, ..
            } => {
                let (node, revision) = (*node, declaration.revision);
                let older = |known: &(u32, Located)| known.0 < revision;
                if wanted.contains(&Entity::Node(node)) && self.nodes.get(&node).is_none_or(older) {
                    self.nodes.insert(node, (revision, located));
                }
            }
            ChainEvent::DisputeRecorded {
                agreement: None,
                accused: Some(accused),
                at,
                ..
            } => {
                let (sensor, q) = (SensorId::from(*accused), *at);
                let later = |known: &(u64, Located)| q < known.0;
                if wanted.contains(&Entity::Sensor(sensor))
                    && self.void.get(&sensor).is_none_or(later)
                {
                    self.void.insert(sensor, (q, located));
                }
            }
            _ => {}
        }
    }

    fn all(self) -> Vec<Located> {
        let nodes = self.nodes.into_values().map(|(_, l)| l);
        let void = self.void.into_values().map(|(_, l)| l);
        let mut all: Vec<_> = self.first.into_values().chain(nodes).chain(void).collect();
        all.sort_by_key(|l| (l.at.block, l.at.log_index));
        all
    }
}

/// Looks for the registrations of these in `from..=to`, and for the contradictions of those that are sensors; in the order of the
/// chain.
///
/// # Errors
/// [`RpcError`]; a block of more events than an answer may hold is read transaction by transaction.
pub async fn look_back(
    rpc: &Rpc,
    deployment: &Deployment,
    wanted: &BTreeSet<Entity>,
    from: u64,
    to: u64,
) -> Result<Vec<Located>, RpcError> {
    let mut found = Found::default();
    for topics in filters(wanted) {
        let mut next = from;
        while next <= to {
            let (logs, last) = read(rpc, deployment, &topics, next, to).await?;
            for logs in logs.chunk_by(|a, b| a.tx == b.tx) {
                for located in decode(logs, 0, deployment) {
                    found.take(wanted, located);
                }
            }
            next = last + 1;
        }
    }
    Ok(found.all())
}

async fn read(
    rpc: &Rpc,
    deployment: &Deployment,
    topics: &Value,
    from: u64,
    to: u64,
) -> Result<(Vec<Log>, u64), RpcError> {
    let contract = [deployment.contract];
    match rpc.logs_of(&contract, topics, from, to).await {
        Err(error) if error.may_be_too_much() => {
            let block = rpc.bulky_block(&contract, from, &[]).await;
            // What was wrong at first says more.
            block.map(|b| (b.logs, from)).map_err(|_| error)
        }
        read => read,
    }
}

/// Filters that find all of them: users are not indexed.
fn filters(wanted: &BTreeSet<Entity>) -> Vec<Value> {
    let word = |address: Address| {
        let mut word = [0; 32];
        word[12..].copy_from_slice(&address.0);
        Digest(word).hex()
    };
    let one = |hash: alloy::primitives::B256| json!([Digest(hash.0).hex()]);
    let mut ids = Vec::new();
    let mut sensors = Vec::new();
    let mut users = false;
    for entity in wanted {
        match entity {
            Entity::User(_) => users = true,
            Entity::Sensor(s) => {
                ids.push(word(s.address()));
                sensors.push(word(s.address()));
            }
            Entity::Node(n) => ids.push(word(n.address())),
        }
    }
    let registered = json!([
        Digest(C::SensorRegistered::SIGNATURE_HASH.0).hex(),
        Digest(C::NodeRegistered::SIGNATURE_HASH.0).hex(),
    ]);
    let disputes = one(C::DisputeRecorded::SIGNATURE_HASH);
    let registrations = ids.chunks(IDS_MAX).map(|ids| json!([registered, ids]));
    let contradictions = sensors.chunks(IDS_MAX);
    let contradictions = contradictions.map(|ids| json!([disputes, null, null, ids]));
    let names = users.then(|| json!([one(C::UserRegistered::SIGNATURE_HASH)]));
    registrations.chain(contradictions).chain(names).collect()
}
