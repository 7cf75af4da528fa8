//! From an agreement on chain to one that runs here: its terms, its nodes' keys, its sensors and its module must all be at
//! hand, and `a` must be what they make (wire-format §6).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use diversity_keys::musig::{AgreementKey, MusigError, agreement_key};
use diversity_proto::terms::Terms;
use diversity_proto::{AgreementId, Deployment, Digest, NodeId, PublicKey};
use tokio::sync::Notify;

use crate::node::driver::Activation;
use crate::node::registry::Registry;
use crate::node::shared::{Code, Identity, Shared};

/// Agreements that this node has accepted, that stand on chain and cannot run yet, with the reason in words.
#[derive(Debug, Default)]
pub struct Waiting {
    reasons: Mutex<BTreeMap<AgreementId, String>>,
    nudge: Notify,
}

impl Waiting {
    fn reasons(&self) -> MutexGuard<'_, BTreeMap<AgreementId, String>> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why an agreement does not run; nothing if it does.
    pub fn reason(&self, a: &AgreementId) -> Option<String> {
        self.reasons().get(a).cloned()
    }

    /// All that wait.
    pub fn all(&self) -> Vec<(AgreementId, String)> {
        self.reasons()
            .iter()
            .map(|(a, r)| (*a, r.clone()))
            .collect()
    }

    /// An agreement that this node has accepted waits.
    pub fn set(&self, a: AgreementId, reason: String) {
        let old = self.reasons().insert(a, reason.clone());
        if old.as_ref() != Some(&reason) {
            tracing::warn!(agreement = %a, reason, "agreement.waits");
        }
    }

    /// Agreements that are not there any more wait for nothing.
    pub fn retain(&self, there: impl Fn(&AgreementId) -> bool) {
        self.reasons().retain(|a, _| there(a));
    }

    /// An agreement runs.
    pub fn clear(&self, a: &AgreementId) {
        self.reasons().remove(a);
    }

    /// Something has come that an agreement may wait for.
    pub fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Until [`Waiting::nudge`].
    pub async fn nudged(&self) {
        self.nudge.notified().await;
    }
}

/// The protocol keys of an agreement's nodes, node-index order.
///
/// # Errors
/// The first node that is not registered.
pub fn node_keys(registry: &Registry, terms: &Terms) -> Result<Vec<PublicKey>, NodeId> {
    let key = |n: &diversity_proto::terms::TrustedNode| {
        registry
            .nodes
            .get(&n.node)
            .map(|r| r.declaration.public_key)
            .ok_or(n.node)
    };
    terms.nodes.iter().map(key).collect()
}

/// The aggregate key that terms and nodes make.
///
/// # Errors
/// [`MusigError`].
pub fn aggregate(
    d: &Deployment,
    terms: &Terms,
    keys: &[PublicKey],
) -> Result<AgreementKey, MusigError> {
    let keys: Vec<_> = keys.iter().map(|k| k.0).collect();
    agreement_key(&keys, &d.bytes(), &terms.digest().0)
}

/// Why an agreement does not run.
#[derive(Debug, thiserror::Error)]
pub enum NotYet {
    /// It is not this node's, or this node has not accepted it.
    #[error("this node is no node of it, or has not accepted it")]
    NotOurs,
    /// Something is missing, in words.
    #[error("{0}")]
    Missing(String),
}

/// Gathers what an agreement needs. Blocks (it may compile the module).
///
/// # Errors
/// [`NotYet`].
pub fn gather(shared: &Shared, a: &AgreementId) -> Result<Activation, NotYet> {
    let missing = |text: String| Err(NotYet::Missing(text));
    let Identity {
        deployment, node, ..
    } = &shared.identity;
    let registered = &shared.registered;
    let Some(record) = registered.read().agreements.get(a).cloned() else {
        return Err(NotYet::NotOurs);
    };
    if !record.nodes.contains(node) {
        return Err(NotYet::NotOurs);
    }
    // P-CONSENT-1: whatever else stands on chain and is known here.
    let Some(terms) = shared.consent.terms(a, &record.terms_digest) else {
        return Err(NotYet::NotOurs);
    };
    let keys = {
        let registry = registered.read();
        if let Some(s) = terms
            .sensors
            .iter()
            .find(|s| !registry.sensors.contains_key(&s.sensor))
        {
            return missing(format!("sensor {} is not registered", s.sensor));
        }
        match node_keys(&registry, &terms) {
            Ok(keys) => keys,
            Err(node) => return missing(format!("node {node} is not registered")),
        }
    };
    let key = match aggregate(deployment, &terms, &keys) {
        Ok(key) => key,
        Err(error) => return missing(error.to_string()),
    };
    if key.id != a.0 {
        return missing(
            "its id is not the aggregate key of its nodes: nothing of it can ever settle".into(),
        );
    }
    load(&shared.code, &terms.off_chain_code)?;
    Ok(Activation {
        id: *a,
        terms,
        keys,
        key,
    })
}

/// Makes the module ready to run.
fn load(code: &Code, sha256: &Digest) -> Result<(), NotYet> {
    let missing = |text: String| Err(NotYet::Missing(text));
    match code.modules.get(sha256) {
        Ok(Some(module)) => code
            .runner
            .add(&module)
            .or_else(|reason| missing(format!("its module cannot be run here: {reason}"))),
        Ok(None) => missing(format!(
            "its module is not here: upload it with PUT /v1/code/{sha256}"
        )),
        Err(error) => missing(error.to_string()),
    }
}
