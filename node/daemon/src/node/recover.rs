//! What an earlier run left: the core with its agreements, and who is known.

use std::collections::BTreeSet;
use std::sync::Arc;

use diversity_engine::records::{self, AgreementRecord};
use diversity_engine::{Config, Node};
use diversity_proto::wire::FRAME_BATCH_BYTES_MAX;
use diversity_proto::{AgreementId, DecodeError, Deployment, NodeId};
use diversity_store::Store;

use super::run::NodeError;
use crate::config::NodeConfig;
use crate::node::activation::aggregate;
use crate::node::consent::Consent;
use crate::node::driver::Activation;
use crate::node::peers::{PeerMap, bootstrap_peer};
use crate::node::registry::Registry;

/// Bytes of frames after which a gossip batch leaves at once.
const GOSSIP_BYTES: usize = 32 * 1024;

/// The core as an earlier run left it, and its agreements with their keys.
///
/// # Errors
/// [`NodeError::Store`] or [`NodeError::Record`].
pub(super) fn recover(
    config: &NodeConfig,
    deployment: Deployment,
    node: NodeId,
    store: &Store,
    consent: &Consent,
) -> Result<(Node, Vec<Activation>), NodeError> {
    let mut known = Vec::new();
    for item in store.scan_prefix(&[records::AGREEMENT]) {
        let (key, value) = item?;
        let id = key
            .get(1..)
            .and_then(|k| k.try_into().ok())
            .map(AgreementId);
        let id = id.ok_or(DecodeError::Invalid("key of an agreement"))?;
        let record = AgreementRecord::decode(&value)?;
        if !consent.is_given(&id, &record.terms.digest()) {
            tracing::warn!(agreement = %id, "this node has no acceptance of an agreement that it has run, and runs it no more: accept it again if it is to go on");
            continue;
        }
        let key = aggregate(&deployment, &record.terms, &record.keys)
            .map_err(|_| DecodeError::Invalid("keys of an agreement"))?;
        known.push(Activation {
            id,
            terms: Arc::new(record.terms),
            keys: record.keys,
            key,
        });
    }
    let settings = Config {
        deployment,
        node,
        gossip_flush_ms: config.gossip_flush_ms,
        gossip_bytes: GOSSIP_BYTES.min(FRAME_BATCH_BYTES_MAX),
        status_interval_ms: config.status_interval_ms,
        settle_stage_ms: config.settle_stage_ms,
        ahead_max: config.ahead_max,
        q_ahead_max: config.q_ahead_max,
        gas_per_day: config.gas_per_day,
        inflight_max: config.inflight_max,
        unagreed_frames_max: config.unagreed_frames_max,
        unagreed_bytes_max: config.unagreed_bytes_max,
    };
    // One family after the other, and nothing of it is kept here.
    let mut read = 0u64;
    let runs: BTreeSet<_> = known.iter().map(|a| a.id.0.to_vec()).collect();
    let core = Node::recover(settings, |family, each| {
        for item in store.scan_prefix(&[family]) {
            let (key, value) = item?;
            if family == records::AGREEMENT && !runs.contains(&key[1..]) {
                continue;
            }
            each(&key, &value)?;
            read += 1;
        }
        Ok::<_, NodeError>(())
    })?;
    tracing::info!(records = read, agreements = known.len(), "core.recovered");
    Ok((core, known))
}

/// Who is who by the settings and by what is registered.
///
/// # Errors
/// [`NodeError::Config`] for a peer of the settings that cannot be read.
pub(super) fn peer_map(
    config: &NodeConfig,
    node: NodeId,
    registry: &Registry,
) -> Result<PeerMap, NodeError> {
    let bootstrap = config
        .p2p_peers
        .iter()
        .map(|p| bootstrap_peer(p))
        .collect::<Result<_, _>>()?;
    let mut peers = PeerMap::new(bootstrap);
    // What is kept is what this node has accepted.
    for a in registry.agreements.values().filter(|a| a.kept) {
        peers.allow(a.nodes.iter().copied());
    }
    for (id, record) in registry.nodes.iter().filter(|(id, _)| **id != node) {
        peers.registered(record.known(*id));
    }
    Ok(peers)
}
