//! What this node declares of itself, and its consent to be registered by an owner.

use diversity_client::api::NodeBinding;
use diversity_client::hexed::{Bytes, WalletSignature};
use diversity_keys::peer_sign;
use diversity_proto::entity::{
    ADDRESSES_MAX, NodeDeclaration, check_address, node_registration_digest, peer_binding_digest,
};
use diversity_proto::{Address, PublicKey, UserId};
use std::sync::Arc;

use super::error::{RoomError, RoomResult};
use crate::config::NodeConfig;
use crate::node::shared::{Identity, Registered, Shared};

/// The room.
#[derive(Clone)]
pub struct Own {
    config: Arc<NodeConfig>,
    identity: Identity,
    registered: Registered,
}

impl Own {
    /// From settings, keys, and what stands registered.
    pub fn new(shared: &Shared) -> Self {
        Self {
            config: Arc::clone(&shared.config),
            identity: shared.identity.clone(),
            registered: shared.registered.clone(),
        }
    }

    /// This node's declaration: the registered one if nothing in it has changed, else the next revision.
    pub fn declaration(&self) -> NodeDeclaration {
        let keys = &self.identity.keys;
        let (public_key, account) = (keys.public_key(), Address(keys.account.address()));
        let mut declaration = NodeDeclaration {
            public_key,
            account,
            peer_key: self.identity.peer,
            peer_proof: self.peer_proof(&public_key, &account),
            name: self.config.name.clone(),
            addresses: self.addresses(),
            revision: 0,
        };
        if let Some(registered) = self.registered.read().nodes.get(&self.identity.node) {
            let revision = registered.declaration.revision;
            declaration.revision = revision;
            if declaration != registered.declaration {
                declaration.revision = revision.saturating_add(1);
            }
        }
        declaration
    }

    /// The peer key's own word that it is this node's: without it no reader believes the declaration.
    fn peer_proof(&self, public_key: &PublicKey, account: &Address) -> [u8; 64] {
        let Identity {
            deployment,
            node,
            keys,
            ..
        } = &self.identity;
        let digest = peer_binding_digest(deployment, node, public_key, account);
        peer_sign(&keys.peer, &digest.0)
    }

    /// Where peers dial this node. The declaration names the peer beside them, so its own id at their end is left out.
    fn addresses(&self) -> Vec<String> {
        let own = diversity_net::peer_to_text(&self.identity.peer);
        let own = own.map_or_else(|_| String::new(), |id| format!("/p2p/{id}"));
        let cut = |a: &String| a.strip_suffix(&own).unwrap_or(a).to_owned();
        self.config.advertised().iter().map(cut).collect()
    }

    /// The declaration, with this node's consent to be registered by this owner.
    ///
    /// # Errors
    /// [`RoomError::Conflict`] if another user has registered it, [`RoomError::Malformed`] if the settings name too many
    /// addresses.
    pub fn binding(&self, owner: UserId) -> RoomResult<NodeBinding> {
        let Identity {
            deployment,
            node,
            keys,
            ..
        } = &self.identity;
        if let Some(registered) = self.registered.read().nodes.get(node)
            && registered.owner != owner
        {
            return Err(RoomError::conflict(
                format!("this node is registered by {}", registered.owner),
                "Let that user register it, or give the node new keys.",
            ));
        }
        let declaration = self.declaration();
        if declaration.addresses.len() > ADDRESSES_MAX {
            return Err(RoomError::Malformed(
                "p2p_advertise names more than 8 addresses: shorten it".into(),
            ));
        }
        for address in &declaration.addresses {
            check_address(address).map_err(|e| {
                let words = format!("nobody can dial {address:?} ({e}): correct p2p_advertise");
                RoomError::Malformed(words)
            })?;
        }
        let digest = node_registration_digest(deployment, &owner, node, &declaration.digest());
        Ok(NodeBinding {
            node: *node,
            owner,
            declaration: Bytes(declaration.encode()),
            signature: WalletSignature(keys.protocol.sign_recoverable(&digest.0)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::registry::NodeRecord;
    use crate::rooms::testkit::{DEPLOYMENT, Kit, key};
    use diversity_proto::Digest;

    #[test]
    fn a_revision_is_new_only_if_something_has_changed() {
        let kit = Kit::new();
        let own = Own::new(&kit.shared);
        let node = kit.shared.identity.node;
        let changed = own.declaration();
        assert_eq!(changed.revision, 1, "name and keys are others");
        let record = NodeRecord {
            owner: UserId(key(1).address()),
            declaration: changed.clone(),
            tx: Digest::ZERO,
            block: 1,
            taken_back: false,
        };
        kit.shared.registered.write().nodes.insert(node, record);
        assert_eq!(own.declaration(), changed);
        kit.shared.registered.write().nodes.remove(&node);
        assert_eq!(own.declaration().revision, 0, "never registered");
    }

    #[test]
    fn a_node_consents_to_one_owner() {
        let kit = Kit::new();
        let own = Own::new(&kit.shared);
        let [first, second] = [1, 2].map(|seed| UserId(key(seed).address()));
        let binding = own.binding(first).expect("its owner");
        let declared = NodeDeclaration::decode(&binding.declaration.0).expect("a declaration");
        let digest =
            node_registration_digest(&DEPLOYMENT, &first, &binding.node, &declared.digest());
        assert_eq!(
            binding.signature.signer(&digest),
            Ok(binding.node.address())
        );
        let other = own.binding(second);
        assert!(matches!(other, Err(RoomError::Conflict { .. })));
    }
}
