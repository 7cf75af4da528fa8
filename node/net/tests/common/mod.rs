//! Nodes on the loopback interface, for the tests.
#![allow(dead_code)]

use std::collections::HashSet;
use std::time::Duration;

use diversity_net::{
    Net, NetConfig, NetEvent, NetHandle, NetLimits, Peer, PeerEntry, RequestFailure, TopicEntry,
    public_key,
};
use tokio::sync::mpsc;

pub const PATIENCE: Duration = Duration::from_secs(30);
pub const MOMENT: Duration = Duration::from_millis(100);
pub const TOPIC: &str = "diversity/1/frames/test";

pub struct Node {
    pub handle: NetHandle,
    pub events: mpsc::Receiver<NetEvent>,
    pub address: String,
}

pub fn peer(seed: u8) -> Peer {
    public_key(&[seed; 32]).expect("key")
}

pub fn topic(name: &str, members: impl IntoIterator<Item = u8>) -> TopicEntry {
    TopicEntry {
        topic: name.into(),
        members: members.into_iter().map(peer).collect(),
    }
}

pub fn config(seed: u8, listen: &str, peers: Vec<PeerEntry>) -> NetConfig {
    NetConfig {
        identity: [seed; 32].into(),
        listen: vec![listen.into()],
        peers,
        topics: vec![topic(TOPIC, 1..=9)],
        limits: NetLimits::default(),
    }
}

pub async fn start(config: NetConfig) -> Node {
    let (handle, events) = Net::spawn(config).expect("starts");
    let mut node = Node {
        handle,
        events,
        address: String::new(),
    };
    node.address = node
        .wait(|event| match event {
            NetEvent::Listening { address } => Some(address),
            _ => None,
        })
        .await;
    node
}

impl Node {
    pub async fn next(&mut self) -> NetEvent {
        tokio::time::timeout(PATIENCE, self.events.recv())
            .await
            .expect("an event in time")
            .expect("the transport runs")
    }

    /// Drops events until one is of interest.
    pub async fn wait<T>(&mut self, mut wanted: impl FnMut(NetEvent) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.next().await) {
                return found;
            }
        }
    }

    pub async fn wait_for(&mut self, event: NetEvent) {
        self.wait(|found| (found == event).then_some(())).await;
    }

    pub async fn direct(&mut self) -> (Peer, Vec<u8>) {
        self.wait(|event| match event {
            NetEvent::Direct { from, bytes } => Some((from, bytes)),
            _ => None,
        })
        .await
    }

    pub async fn gossip(&mut self) -> (Peer, [u8; 32], Vec<u8>) {
        self.wait(|event| match event {
            NetEvent::Gossip {
                from,
                message_id,
                bytes,
                ..
            } => Some((from, message_id, bytes)),
            _ => None,
        })
        .await
    }

    pub async fn response(&mut self) -> (u64, Result<Vec<u8>, RequestFailure>) {
        self.wait(|event| match event {
            NetEvent::Response { id, result, .. } => Some((id, result)),
            _ => None,
        })
        .await
    }

    /// Waits until these peers are known to listen to these topics.
    pub async fn subscribed_to(&mut self, wanted: &[(u8, &str)]) {
        let wanted = wanted.iter().map(|(seed, name)| (peer(*seed), *name));
        let mut missing: HashSet<(Peer, String)> =
            wanted.map(|(p, name)| (p, name.to_owned())).collect();
        while !missing.is_empty() {
            if let NetEvent::Subscribed { peer, topic } = self.next().await {
                missing.remove(&(peer, topic));
            }
        }
    }

    /// Waits until gossip reaches all of them.
    pub async fn subscribed(&mut self, peers: &[Peer]) {
        let mut missing: HashSet<Peer> = peers.iter().copied().collect();
        while !missing.is_empty() {
            if let NetEvent::Subscribed { peer, .. } = self.next().await {
                missing.remove(&peer);
            }
        }
    }

    /// Ends the transport and waits until its sockets are closed.
    pub async fn stop(mut self) -> String {
        drop(self.handle);
        while tokio::time::timeout(PATIENCE, self.events.recv())
            .await
            .expect("ends in time")
            .is_some()
        {}
        self.address
    }
}

pub fn entry(seed: u8, address: &str) -> PeerEntry {
    PeerEntry {
        peer: peer(seed),
        addresses: if address.is_empty() {
            Vec::new()
        } else {
            vec![address.into()]
        },
    }
}

pub const ANY: &str = "/ip4/127.0.0.1/tcp/0";
