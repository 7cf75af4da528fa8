//! Whether this node accepts an agreement, and its signature if it does: it has checked the terms and `a`, and it can run the
//! module, after a crash too.

use diversity_client::api::{AcceptRequest, NodeAcceptance};
use diversity_client::hexed::WalletSignature;
use diversity_proto::terms::{Qos, Terms, acceptance_digest};
use diversity_proto::{Digest, NodeId};
use diversity_store::Op;

use super::agreements::{Agreement, Book};
use super::error::{RoomError, RoomResult, blocking};
use crate::node::registry::terms_key;
use crate::node::shared::{Code, Durable, Identity, Shared};

/// The room.
#[derive(Clone)]
pub struct Acceptance {
    identity: Identity,
    code: Code,
    durable: Durable,
    book: Book,
}

impl Acceptance {
    /// Signs with the protocol key, loads modules, and keeps terms.
    pub fn new(shared: &Shared, book: Book) -> Self {
        Self {
            identity: shared.identity.clone(),
            code: shared.code.clone(),
            durable: shared.durable.clone(),
            book,
        }
    }

    /// Accepts a draft. A repeat is fine.
    ///
    /// # Errors
    /// Those of [`Book::draft_of_known`]; [`RoomError::NotAMember`], [`RoomError::Terms`] for what this node cannot keep,
    /// [`RoomError::ModuleMissing`] or [`RoomError::Module`] if it cannot run it, [`RoomError::Busy`].
    pub async fn accept(&self, r: &AcceptRequest) -> RoomResult<NodeAcceptance> {
        let agreement = self.book.draft_of_known(&r.agreement, &r.terms).await?;
        willing(&self.identity.node, &agreement.terms)?;
        self.load(agreement.terms.off_chain_code).await?;
        // Durable before the signature leaves: whoever accepts must be able to run it after a crash.
        let kept = Op::Put(terms_key(&agreement.id), agreement.terms.encode());
        self.durable.write(vec![kept]).await?;
        tracing::info!(agreement = %agreement.id, title = agreement.terms.title, "agreement.accepted");
        Ok(self.sign(&agreement))
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

    fn sign(&self, agreement: &Agreement) -> NodeAcceptance {
        let Identity {
            deployment,
            node,
            keys,
            ..
        } = &self.identity;
        let digest = acceptance_digest(deployment, &agreement.id, &agreement.terms.digest(), node);
        NodeAcceptance {
            node: *node,
            signature: WalletSignature(keys.protocol.sign_recoverable(&digest.0)),
        }
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
