//! How the node itself is: who it is, whom it sees, and what keeps it from working.

use diversity_client::api::{ChainStatus, Info, NodeIdentity, PAGE_MAX, Peer, SkippedView};
use diversity_client::hexed::Bytes;
use diversity_proto::AgreementId;
use diversity_store::Store;
use std::sync::Arc;

use super::Standing;
use crate::config::NodeConfig;
use crate::node::chain::ChainView;
use crate::node::clocks::Clocks;
use crate::node::driver::unix_ms;
use crate::node::registry::SkippedRecord;
use crate::node::shared::{Identity, Shared};
use crate::rooms::declaration::Own;
use crate::rooms::error::{RoomError, RoomResult};
use crate::settings::Stall;
use crate::telemetry::Metrics;

/// Blocks beyond the confirmations by which a node may be behind and still call itself ready.
const BLOCKS_BEHIND_MAX: u64 = 100;

/// How the node is.
#[derive(Clone)]
pub struct Health {
    config: Arc<NodeConfig>,
    identity: Identity,
    store: Store,
    metrics: Arc<Metrics>,
    standing: Standing,
    own: Own,
    clocks: Clocks,
}

impl Health {
    /// Sees settings, store and numbers beside what [`Standing`] sees.
    pub fn new(shared: &Shared, standing: Standing, own: Own) -> Self {
        Self {
            config: Arc::clone(&shared.config),
            identity: shared.identity.clone(),
            store: shared.durable.store.clone(),
            metrics: Arc::clone(&shared.metrics),
            standing,
            own,
            clocks: shared.clocks.clone(),
        }
    }

    /// Who this node is, its peers, how it sees the chain, and where each agreement stands.
    ///
    /// # Errors
    /// [`RoomError::Unavailable`].
    pub async fn info(&self) -> RoomResult<Info> {
        let agreements = self
            .standing
            .agreements(None, Some(PAGE_MAX), false)
            .await?
            .items;
        let declaration = self.own.declaration();
        let node = self.identity.node;
        let view = self.standing.chain.borrow().clone();
        let owner = {
            let registry = self.standing.registered.read();
            registry.nodes.get(&node).map(|r| r.owner)
        };
        Ok(Info {
            version: env!("CARGO_PKG_VERSION").into(),
            deployment: self.identity.deployment.into(),
            cells: self.identity.cells,
            node: NodeIdentity {
                node,
                public_key: declaration.public_key,
                account: declaration.account,
                peer_key: Bytes(self.identity.peer.to_vec()),
                peer_id: diversity_net::peer_to_text(&self.identity.peer)
                    .map_err(RoomError::internal)?,
                name: declaration.name,
                addresses: declaration.addresses,
                owner,
            },
            chain: ChainStatus {
                reachable: view.trouble.is_none() && view.head.is_some(),
                block: view.head.unwrap_or(0),
                processed_block: view.processed.unwrap_or(0),
                balance_wei: view.balance.to_string(),
                outbox: view.outbox,
            },
            peers: self.others(),
            agreements,
        })
    }

    /// What keeps the node from working; nothing when it is ready.
    pub fn not_ready(&self) -> Vec<String> {
        let mut out = Vec::new();
        if self.store.is_poisoned() {
            out.push("store: a write has failed, nothing more is acknowledged; mend the disk and start the node again".into());
        }
        let behind_max = self.config.confirmations + BLOCKS_BEHIND_MAX;
        let view = self.standing.chain.borrow();
        let stall_ms = match self.config.chain_stall_s {
            Stall::Auto => view.stall_after_ms.unwrap_or(0),
            Stall::After(seconds) => seconds.saturating_mul(1000),
        };
        out.extend(chain_trouble(&view, behind_max, stall_ms, unix_ms()));
        out
    }

    /// What is odd and keeps nothing from working: this node's clock beside those of others.
    pub fn odd(&self) -> Vec<String> {
        self.clocks.off()
    }

    /// What does not keep the node from working and is worth knowing.
    pub fn warnings(&self) -> Vec<String> {
        let view = self.standing.chain.borrow();
        let refused = view.stuck.iter().filter(|s| s.by_contract);
        let refused = refused.map(|s| format!("submission: {}: {}", s.label, s.why));
        view.warnings.iter().cloned().chain(refused).collect()
    }

    /// Agreements that stand on chain and cannot run here yet, with the reason in words.
    pub fn waiting(&self) -> Vec<(AgreementId, String)> {
        self.standing.waiting.all()
    }

    /// The newest entries of the chain that this node does not believe, oldest first.
    pub fn skipped(&self) -> Vec<SkippedView> {
        let registry = self.standing.registered.read();
        let view = |r: &SkippedRecord| SkippedView {
            block: r.block,
            log_index: r.log_index,
            tx: r.tx,
            reason: r.skipped.refusal.as_str().into(),
            detail: r.skipped.words.clone(),
        };
        registry.skipped.iter().map(view).collect()
    }

    /// The metrics as they are now, as OpenMetrics text.
    pub fn metrics(&self) -> String {
        let view = self.standing.chain.borrow().clone();
        self.metrics.chain_head.set(view.head.unwrap_or(0) as i64);
        self.metrics
            .chain_cursor
            .set(view.processed.unwrap_or(0) as i64);
        self.metrics.outbox.set(view.outbox as i64);
        self.metrics.account_balance_wei.set(view.balance as f64);
        self.metrics.text()
    }

    fn others(&self) -> Vec<Peer> {
        let (registry, map) = (self.standing.registered.read(), self.standing.peers.lock());
        registry
            .nodes
            .iter()
            .filter(|(id, _)| **id != self.identity.node)
            .take(PAGE_MAX)
            .map(|(id, r)| Peer {
                node: *id,
                name: r.declaration.name.clone(),
                connected: map.connected(id),
            })
            .collect()
    }
}

/// What is wrong with the chain as it is seen here, and with what is submitted to it: at most `behind_max` blocks may be unread, and its head moves within `stall_ms`
/// milliseconds (0 for a chain that mines only when there is something to mine).
pub(super) fn chain_trouble(
    view: &ChainView,
    behind_max: u64,
    stall_ms: u64,
    now_ms: u64,
) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(trouble) = &view.trouble {
        out.push(format!("chain: {trouble}"));
    }
    match (view.head, view.processed) {
        (None, _) => out.push("chain: no block seen yet".into()),
        (Some(_), None) => out.push("chain: no events taken in yet".into()),
        (Some(head), Some(processed)) if processed.saturating_add(behind_max) < head => {
            out.push(format!(
                "chain: events are taken in up to block {processed} of {head}"
            ));
        }
        _ => {}
    }
    let still_ms = now_ms.saturating_sub(view.head_at_ms);
    // What cannot be seen does not stand still.
    if stall_ms > 0 && view.head.is_some() && still_ms > stall_ms && view.trouble.is_none() {
        let seconds = still_ms / 1000;
        out.push(format!(
            "chain: the head has not moved for {seconds} s, and that it moves within {} s was to be expected: do the validators run, and are the endpoints in sync?",
            stall_ms / 1000
        ));
    }
    let stuck = view.stuck.iter().filter(|s| !s.by_contract);
    out.extend(stuck.map(|s| format!("submission: {}: {}", s.label, s.why)));
    out
}
