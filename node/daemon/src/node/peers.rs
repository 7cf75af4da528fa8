//! Which peer of the transport is which node: from the nodes' registrations on chain.

use std::collections::{BTreeMap, BTreeSet};

use diversity_net::{NetError, NetLimits, Peer, PeerEntry, peer_from_text};
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
    /// In the order in which they were allowed.
    allowed: Vec<NodeId>,
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

    /// A node stands registered, perhaps with a new peer key. Only those that may connect are remembered: anybody registers nodes.
    pub fn registered(&mut self, node: KnownNode) -> Vec<Change> {
        let mut changes = Vec::new();
        let wanted =
            self.allowed.contains(&node.node) || self.bootstrap.iter().any(|b| b.peer == node.peer);
        // A peer key is its first claimant's; the registry sees to it, and what slips through takes over nothing.
        let taken = self.node(&node.peer).is_some_and(|n| n != node.node);
        if !wanted || taken {
            return changes;
        }
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
        self.by_peer.insert(node.peer, node.node);
        if self.connected.contains(&node.peer) {
            changes.push(Change::Up(node.node));
        }
        self.nodes.insert(node.node, node);
        changes
    }

    /// Nodes of an agreement of this node may connect.
    pub fn allow(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        for node in nodes {
            if !self.allowed.contains(&node) {
                self.allowed.push(node);
            }
        }
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

    /// The list for the transport, without this node itself: no longer than it takes. Those of the settings come first, then the
    /// nodes of agreements in the order in which these were kept.
    pub fn list(&self, local: &Peer) -> Vec<PeerEntry> {
        let peers_max = NetLimits::default().peers_max;
        let mut list: BTreeMap<Peer, Vec<String>> = BTreeMap::new();
        for entry in &self.bootstrap {
            list.entry(entry.peer)
                .or_default()
                .extend(entry.addresses.iter().cloned());
        }
        list.remove(local);
        for node in self.allowed.iter().filter_map(|id| self.nodes.get(id)) {
            if node.peer == *local || (list.len() >= peers_max && !list.contains_key(&node.peer)) {
                continue;
            }
            let addresses = list.entry(node.peer).or_default();
            for address in &node.addresses {
                if !addresses.contains(address) {
                    addresses.push(address.clone());
                }
            }
        }
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
        map.allow([NodeId([7; 20])]);
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
        map.allow([NodeId([1; 20])]);
        map.registered(node(1, 1));
        map.registered(node(2, 2));
        let listed = |map: &PeerMap, local| {
            map.list(&[local; 32])
                .iter()
                .map(|e| e.peer[0])
                .collect::<Vec<_>>()
        };
        assert_eq!(listed(&map, 8), [1, 9]);
        assert_eq!(listed(&map, 1), [9]);
    }

    /// A later registration with the peer key of another node takes over nothing.
    #[test]
    fn the_first_claim_of_a_peer_key_stays() {
        let mut map = PeerMap::default();
        map.allow([NodeId([1; 20]), NodeId([2; 20])]);
        map.up([7; 32]);
        assert_eq!(map.registered(node(1, 7)), [Change::Up(NodeId([1; 20]))]);
        assert_eq!(map.registered(node(2, 7)), []);
        assert_eq!(map.node(&[7; 32]), Some(NodeId([1; 20])));
        assert!(!map.connected(&NodeId([2; 20])));
    }

    /// The transport refuses a list that is too long, and a node with such a list would not start.
    #[test]
    fn the_list_is_as_long_as_the_transport_takes() {
        let mut map = PeerMap::default();
        let peers_max = NetLimits::default().peers_max;
        for n in 0..=u16::try_from(peers_max).expect("few") {
            let mut id = [0; 20];
            id[..2].copy_from_slice(&n.to_be_bytes());
            let mut peer = [1; 32];
            peer[..2].copy_from_slice(&n.to_be_bytes());
            map.allow([NodeId(id)]);
            map.registered(KnownNode {
                node: NodeId(id),
                peer,
                addresses: Vec::new(),
            });
        }
        let list = map.list(&[9; 32]);
        assert_eq!(list.len(), peers_max);
        assert_eq!(list[0].peer[..2], [0, 0], "the first come first");
        assert_eq!(map.list(&list[0].peer).len(), peers_max);
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
