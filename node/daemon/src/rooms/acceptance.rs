//! Whether this node accepts an agreement, and its signature if it does: it has checked the terms and `a`, the owners of the sensors
//! agree, and it can run the module, after a crash too.

use std::collections::BTreeMap;
use std::sync::Arc;

use diversity_client::api::{AcceptRequest, NodeAcceptance, UserSignature};
use diversity_proto::terms::{Qos, Terms, grant_digest};
use diversity_proto::{Digest, NodeId, UserId};
use diversity_store::Op;

use super::agreements::{Agreement, Book};
use super::error::{RoomError, RoomResult, blocking};
use crate::node::activation::Waiting;
use crate::node::consent::{Accepted, Consent, Grant};
use crate::node::registry::terms_key;
use crate::node::shared::{Code, Durable, Identity, Shared};

/// The room.
#[derive(Clone)]
pub struct Acceptance {
    identity: Identity,
    code: Code,
    durable: Durable,
    consent: Consent,
    waiting: Arc<Waiting>,
    book: Book,
}

impl Acceptance {
    /// Signs with the protocol key, loads modules, keeps what it accepts, and wakes what waits for that.
    pub fn new(shared: &Shared, book: Book) -> Self {
        Self {
            identity: shared.identity.clone(),
            code: shared.code.clone(),
            durable: shared.durable.clone(),
            consent: shared.consent.clone(),
            waiting: Arc::clone(&shared.waiting),
            book,
        }
    }

    /// Accepts a draft, or an agreement that stands on chain without this node's acceptance. A repeat is fine.
    ///
    /// # Errors
    /// Those of [`Book::draft_of_known`]; [`RoomError::NotAMember`], [`RoomError::Terms`] for what this node cannot keep,
    /// [`RoomError::NotGranted`] for sensors of others, [`RoomError::ModuleMissing`] or [`RoomError::Module`] if it cannot run it,
    /// [`RoomError::Busy`].
    pub async fn accept(&self, r: &AcceptRequest) -> RoomResult<NodeAcceptance> {
        let agreement = self.book.draft_of_known(&r.agreement, &r.terms).await?;
        willing(&self.identity.node, &agreement.terms)?;
        let grants = self.granted(&agreement.terms, &r.grants)?;
        self.load(agreement.terms.off_chain_code).await?;
        let Identity {
            deployment,
            node,
            keys,
            ..
        } = self.identity.clone();
        // Durable before the signature leaves: whoever accepts must be able to run it after a crash, and without its store.
        let kept = Op::Put(terms_key(&agreement.id), agreement.terms.encode());
        self.durable.write(vec![kept]).await?;
        let (consent, title) = (self.consent.clone(), agreement.terms.title.clone());
        let signature = blocking(move || {
            let Agreement { id, terms, .. } = agreement;
            let accepted = Accepted::sign(&keys.protocol, &deployment, id, terms, grants);
            let signature = accepted.signature;
            consent.keep(accepted).map_err(RoomError::internal)?;
            Ok(signature)
        })
        .await?;
        tracing::info!(agreement = %r.agreement, title, "agreement.accepted");
        // It may stand on chain already.
        self.waiting.nudge();
        Ok(NodeAcceptance { node, signature })
    }

    /// P-CONSENT-3: the owner of each sensor, by its first registration, is a user of the agreement or has granted it. Gives the grants
    /// that it takes, and no others.
    fn granted(&self, terms: &Terms, given: &[UserSignature]) -> RoomResult<Vec<Grant>> {
        let digest = terms.digest();
        let mut grants: BTreeMap<UserId, Grant> = BTreeMap::new();
        let registry = self.book.registered.read();
        for sensor in terms.sensors.iter().map(|s| s.sensor) {
            let record = registry.sensors.get(&sensor);
            let owner = record.map(|r| r.owner).ok_or_else(|| {
                RoomError::NotRegistered(format!("sensor {sensor} of the terms is not registered"))
            })?;
            if terms.users.contains(&owner) || grants.contains_key(&owner) {
                continue;
            }
            let signed = grant_digest(&self.identity.deployment, &owner, &digest);
            let mut of_owner = given.iter().filter(|g| g.user == owner);
            let good = of_owner.find(|g| g.signature.signer(&signed) == Ok(owner.address()));
            let Some(good) = good else {
                return Err(RoomError::NotGranted(format!(
                    "sensor {sensor} belongs to {owner}, who is no user of these terms and has not signed a grant of them"
                )));
            };
            let signature = good.signature;
            grants.insert(owner, Grant { owner, signature });
        }
        Ok(grants.into_values().collect())
    }

    /// Makes the module ready to run.
    async fn load(&self, sha256: Digest) -> RoomResult<()> {
        let Code { modules, runner } = self.code.clone();
        blocking(move || {
            let module = modules
                .get(&sha256)
                .map_err(RoomError::internal)?
                .ok_or(RoomError::ModuleMissing(sha256))?;
            runner
                .check(&module)
                .and_then(|()| runner.add(&module))
                .map_err(RoomError::Module)
        })
        .await
    }
}

/// Whether these terms, which are sound in themselves, are ones that this node can keep.
fn willing(node: &NodeId, terms: &Terms) -> RoomResult<()> {
    if terms.node_index(node).is_none() {
        return Err(RoomError::NotAMember(format!(
            "the terms do not name this node ({node})"
        )));
    }
    if terms.qos != Qos::OffChain {
        return Err(RoomError::Terms(
            "this node keeps every window (qos off-chain) and cannot promise to drop them yet: name off-chain".into(),
        ));
    }
    Ok(())
}

#[cfg(test)]
#[path = "acceptance_tests.rs"]
mod tests;
