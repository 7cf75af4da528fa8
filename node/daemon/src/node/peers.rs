//! Which peer of the transport is which node: from the nodes' registrations on chain.

use std::collections::{BTreeMap, BTreeSet};

use diversity_net::{NetError, Peer, PeerEntry, peer_from_text};
use diversity_proto::NodeId;

use crate::config::ConfigError;

/// A peer from the settings: multiaddr that ends in `/p2p/PEER-ID`.
///
/// # Errors
/// [`ConfigError::Value`].
pub fn bootstrap_peer(text: &str) -> Result<PeerEntry, ConfigError> {
    let wrong = || ConfigError::Value {
        setting: "p2p_peers",
        value: text.into(),
        wanted: "write each like /ip4/203.0.113.7/tcp/7440/p2p/12D3KooW...",
    };
    let (address, id) = text.rsplit_once("/p2p/").ok_or_else(wrong)?;
    let peer = peer_from_text(id).map_err(|_: NetError| wrong())?;
    Ok(PeerEntry {
        peer,
        addresses: vec![address.into()],
    })
}

/// A registered node as the transport needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownNode {
    /// Its id.
    pub node: NodeId,
    /// Its peer key.
    pub peer: Peer,
    /// Where it listens.
    pub addresses: Vec<String>,
}

/// Who is who, and who is connected.
#[derive(Debug, Default)]
pub struct PeerMap {
    bootstrap: Vec<PeerEntry>,
    nodes: BTreeMap<NodeId, KnownNode>,
    by_peer: BTreeMap<Peer, NodeId>,
    allowed: BTreeSet<NodeId>,
    connected: BTreeSet<Peer>,
}

/// What a change means for the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node can be reached.
    Up(NodeId),
    /// A node cannot be reached any more.
    Down(NodeId),
}

impl PeerMap {
    /// With the peers of the settings.
    pub fn new(bootstrap: Vec<PeerEntry>) -> Self {
        Self {
            bootstrap,
            ..Self::default()
        }
    }

    /// The node of a peer.
    pub fn node(&self, peer: &Peer) -> Option<NodeId> {
        self.by_peer.get(peer).copied()
    }

    /// The peer of a node.
    pub fn peer(&self, node: &NodeId) -> Option<Peer> {
        self.nodes.get(node).map(|n| n.peer)
    }

    /// Whether a connection to the node stands.
    pub fn connected(&self, node: &NodeId) -> bool {
        self.peer(node)
            .is_some_and(|peer| self.connected.contains(&peer))
    }

    /// How many connections stand.
    pub fn connections(&self) -> usize {
        self.connected.len()
    }

    /// A node stands registered, perhaps with a new peer key.
    pub fn registered(&mut self, node: KnownNode) -> Vec<Change> {
        let mut changes = Vec::new();
        if let Some(old) = self.nodes.get(&node.node) {
            if old.peer == node.peer {
                self.nodes.insert(node.node, node);
                return changes;
            }
            let old = old.peer;
            self.by_peer.remove(&old);
            if self.connected.contains(&old) {
                changes.push(Change::Down(node.node));
            }
        }
        // A key that two nodes claim is the later one's: the transport proves only the key.
        if let Some(other) = self.by_peer.insert(node.peer, node.node) {
            self.nodes.remove(&other);
            if self.connected.contains(&node.peer) {
                changes.push(Change::Down(other));
            }
        }
        if self.connected.contains(&node.peer) {
            changes.push(Change::Up(node.node));
        }
        self.nodes.insert(node.node, node);
        changes
    }

    /// Nodes of an agreement of this node may connect.
    pub fn allow(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        self.allowed.extend(nodes);
    }

    /// A connection stands.
    pub fn up(&mut self, peer: Peer) -> Option<Change> {
        self.connected.insert(peer);
        self.node(&peer).map(Change::Up)
    }

    /// A connection is gone.
    pub fn down(&mut self, peer: Peer) -> Option<Change> {
        self.connected.remove(&peer);
        self.node(&peer).map(Change::Down)
    }

    /// The list for the transport, without this node itself.
    pub fn list(&self, local: &Peer) -> Vec<PeerEntry> {
        let mut list: BTreeMap<Peer, Vec<String>> = BTreeMap::new();
        for entry in &self.bootstrap {
            list.entry(entry.peer)
                .or_default()
                .extend(entry.addresses.iter().cloned());
        }
        for node in self.allowed.iter().filter_map(|id| self.nodes.get(id)) {
            let addresses = list.entry(node.peer).or_default();
            for address in &node.addresses {
                if !addresses.contains(address) {
                    addresses.push(address.clone());
                }
            }
        }
        list.remove(local);
        list.into_iter()
            .map(|(peer, addresses)| PeerEntry { peer, addresses })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u8, peer: u8) -> KnownNode {
        KnownNode {
            node: NodeId([id; 20]),
            peer: [peer; 32],
            addresses: vec![format!("/ip4/10.0.0.{id}/tcp/1")],
        }
    }

    #[test]
    fn a_connection_that_stood_before_the_registration_counts_from_then_on() {
        let mut map = PeerMap::default();
        assert_eq!(map.up([1; 32]), None);
        assert_eq!(map.registered(node(7, 1)), [Change::Up(NodeId([7; 20]))]);
        assert_eq!(map.registered(node(7, 1)), []);
        assert!(map.connected(&NodeId([7; 20])));
        assert_eq!(map.registered(node(7, 2)), [Change::Down(NodeId([7; 20]))]);
        assert_eq!(map.up([2; 32]), Some(Change::Up(NodeId([7; 20]))));
        assert_eq!(map.down([1; 32]), None);
        assert_eq!(map.down([2; 32]), Some(Change::Down(NodeId([7; 20]))));
    }

    #[test]
    fn only_nodes_of_agreements_and_of_the_settings_are_listed() {
        let boot = PeerEntry {
            peer: [9; 32],
            addresses: vec!["/ip4/10.0.0.9/tcp/1".into()],
        };
        let mut map = PeerMap::new(vec![boot]);
        map.registered(node(1, 1));
        map.registered(node(2, 2));
        map.allow([NodeId([1; 20])]);
        let listed = |map: &PeerMap, local| {
            map.list(&[local; 32])
                .iter()
                .map(|e| e.peer[0])
                .collect::<Vec<_>>()
        };
        assert_eq!(listed(&map, 8), [1, 9]);
        assert_eq!(listed(&map, 1), [9]);
    }

    #[test]
    fn a_peer_of_the_settings_names_its_key() {
        let text = diversity_net::peer_to_text(&diversity_net::public_key(&[1; 32]).expect("key"))
            .expect("text");
        let entry = bootstrap_peer(&format!("/ip4/127.0.0.1/tcp/7440/p2p/{text}")).expect("good");
        assert_eq!(entry.addresses, ["/ip4/127.0.0.1/tcp/7440"]);
        assert!(bootstrap_peer("/ip4/127.0.0.1/tcp/7440").is_err());
    }
}
