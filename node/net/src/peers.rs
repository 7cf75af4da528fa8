//! Peer ids and addresses at the edge of the crate.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use libp2p::identity::{Keypair, PublicKey, ed25519};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use zeroize::Zeroizing;

use crate::{NetError, NetLimits};

/// A peer: its ed25519 public key.
pub type Peer = [u8; 32];

/// The most addresses of one peer.
const ADDRESSES_MAX: usize = 16;

/// A peer that may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerEntry {
    /// Its public key.
    pub peer: Peer,
    /// Where it can be dialled, such as `/dns4/node.example/tcp/9000`; may be empty, then it has to dial.
    pub addresses: Vec<String>,
}

/// The peer that an ed25519 secret key makes.
///
/// # Errors
/// [`NetError::Identity`] if it is no key.
pub fn public_key(secret: &[u8; 32]) -> Result<Peer, NetError> {
    Ok(keypair(secret)?.public().to_bytes())
}

/// The usual text of a peer id, `12D3KooW...`.
///
/// # Errors
/// [`NetError::PeerKey`] (index 0) if the bytes are no ed25519 key.
pub fn peer_to_text(peer: &Peer) -> Result<String, NetError> {
    to_peer_id(peer)
        .map(PeerId::to_base58)
        .ok_or(NetError::PeerKey { index: 0 })
}

/// The peer of a text as [`peer_to_text`] writes it.
///
/// # Errors
/// [`NetError::PeerId`].
pub fn peer_from_text(text: &str) -> Result<Peer, NetError> {
    text.parse()
        .ok()
        .and_then(|id| from_peer_id(&id))
        .ok_or_else(|| NetError::PeerId {
            text: text
                .chars()
                .take(80)
                .flat_map(char::escape_default)
                .collect(),
        })
}

pub(crate) fn keypair(secret: &[u8; 32]) -> Result<ed25519::Keypair, NetError> {
    // The parser erases what it is given.
    let secret = ed25519::SecretKey::try_from_bytes(Zeroizing::new(*secret).as_mut_slice())
        .map_err(|_| NetError::Identity)?;
    Ok(ed25519::Keypair::from(secret))
}

pub(crate) fn identity(secret: &[u8; 32]) -> Result<Keypair, NetError> {
    Ok(Keypair::from(keypair(secret)?))
}

pub(crate) fn to_peer_id(peer: &Peer) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(peer).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// The ed25519 key inside a peer id; nothing if it is of another kind of key.
pub(crate) fn from_peer_id(id: &PeerId) -> Option<Peer> {
    let multihash = id.as_ref();
    // Code 0 is "identity": the digest is the encoded key itself.
    if multihash.code() != 0 {
        return None;
    }
    let key = PublicKey::try_decode_protobuf(multihash.digest()).ok()?;
    Some(key.try_into_ed25519().ok()?.to_bytes())
}

/// A gossip topic, and who hears and is heard on it beside this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicEntry {
    /// Its name, without a zero byte.
    pub topic: String,
    /// Its members.
    pub members: Vec<Peer>,
}

/// Topics with their members, parsed. What is no key is nobody's, and is left out.
#[derive(Debug, Clone, Default)]
pub(crate) struct TopicList(pub(crate) HashMap<String, HashSet<PeerId>>);

impl TopicList {
    pub(crate) fn parse(topics: Vec<TopicEntry>) -> Self {
        let ids = |e: TopicEntry| (e.topic, e.members.iter().filter_map(to_peer_id).collect());
        Self(topics.into_iter().map(ids).collect())
    }
}

/// A list of peers, parsed and bounded.
#[derive(Debug, Clone, Default)]
pub(crate) struct PeerList(pub(crate) BTreeMap<PeerId, (Peer, Vec<Multiaddr>)>);

impl PeerList {
    pub(crate) fn parse(entries: &[PeerEntry], limits: &NetLimits) -> Result<Self, NetError> {
        if entries.len() > limits.peers_max {
            return Err(NetError::TooManyPeers {
                peers: entries.len(),
                max: limits.peers_max,
            });
        }
        let mut list = BTreeMap::new();
        for (index, entry) in entries.iter().enumerate() {
            let id = to_peer_id(&entry.peer).ok_or(NetError::PeerKey { index })?;
            let addresses = entry
                .addresses
                .iter()
                .take(ADDRESSES_MAX)
                .map(|address| parse_address(address, &id))
                .collect::<Result<Vec<_>, _>>()?;
            list.insert(id, (entry.peer, addresses));
        }
        Ok(Self(list))
    }
}

/// An address of host and TCP port. A trailing `/p2p/ID` must be the peer's own, and is cut off.
pub(crate) fn parse_address(text: &str, peer: &PeerId) -> Result<Multiaddr, NetError> {
    let mut address = parse_listen(text)?;
    if let Some(Protocol::P2p(id)) = address.iter().last() {
        if id != *peer {
            return Err(wrong(text, "it names another peer"));
        }
        address.pop();
    }
    let parts: Vec<_> = address.iter().collect();
    match parts.as_slice() {
        [
            Protocol::Ip4(_)
            | Protocol::Ip6(_)
            | Protocol::Dns(_)
            | Protocol::Dns4(_)
            | Protocol::Dns6(_),
            Protocol::Tcp(port),
        ] if *port != 0 => Ok(address),
        _ => Err(wrong(text, "it must be a host and a TCP port")),
    }
}

pub(crate) fn parse_listen(text: &str) -> Result<Multiaddr, NetError> {
    text.parse()
        .map_err(|error: libp2p::multiaddr::Error| wrong(text, &error.to_string()))
}

/// Whether nobody listens there yet. libp2p shares its ports (`SO_REUSEPORT`), so it would not notice a second node on one
/// port, and each of them would get half of the connections.
pub(crate) fn check_free(address: &Multiaddr) -> std::io::Result<()> {
    let parts: Vec<_> = address.iter().collect();
    let ip = match parts.first() {
        Some(Protocol::Ip4(ip)) => IpAddr::V4(*ip),
        Some(Protocol::Ip6(ip)) => IpAddr::V6(*ip),
        _ => return Ok(()),
    };
    if let Some(Protocol::Tcp(port)) = parts.get(1) {
        std::net::TcpListener::bind((ip, *port))?;
    }
    Ok(())
}

fn wrong(address: &str, reason: &str) -> NetError {
    NetError::Address {
        address: address
            .chars()
            .take(200)
            .flat_map(char::escape_default)
            .collect(),
        reason: reason.into(),
    }
}

/// Replaces names by the IP addresses that the system's resolver gives; those that do not resolve are left out.
pub(crate) async fn resolve(addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
    let mut resolved = Vec::with_capacity(addresses.len());
    for address in addresses {
        let parts: Vec<_> = address.iter().collect();
        let (name, family) = match parts.first() {
            Some(Protocol::Dns(name)) => (name.to_string(), None),
            Some(Protocol::Dns4(name)) => (name.to_string(), Some(true)),
            Some(Protocol::Dns6(name)) => (name.to_string(), Some(false)),
            _ => {
                resolved.push(address);
                continue;
            }
        };
        let Some(Protocol::Tcp(port)) = parts.get(1) else {
            continue;
        };
        match tokio::net::lookup_host((name.as_str(), *port)).await {
            Ok(hosts) => resolved.extend(
                hosts
                    .map(|host| host.ip())
                    .filter(|ip| family.is_none_or(|four| ip.is_ipv4() == four))
                    .take(ADDRESSES_MAX)
                    .map(|ip| match ip {
                        IpAddr::V4(ip) => Multiaddr::from(ip),
                        IpAddr::V6(ip) => Multiaddr::from(ip),
                    })
                    .map(|address| address.with(Protocol::Tcp(*port))),
            ),
            Err(error) => tracing::debug!(%name, %error, "name does not resolve"),
        }
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_convert_to_the_usual_text_and_back() {
        for seed in 0..50u8 {
            let peer = public_key(&[seed; 32]).expect("any bytes are a key");
            let text = peer_to_text(&peer).expect("a key");
            assert!(text.starts_with("12D3KooW"), "{text}");
            assert_eq!(peer_from_text(&text), Ok(peer));
        }
        for wrong in [
            "",
            "12D3KooW",
            "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        ] {
            assert!(matches!(
                peer_from_text(wrong),
                Err(NetError::PeerId { .. })
            ));
        }
    }

    #[test]
    fn addresses_are_a_host_and_a_port() {
        let id = to_peer_id(&public_key(&[1; 32]).expect("key")).expect("key");
        let other = to_peer_id(&public_key(&[2; 32]).expect("key")).expect("key");
        for good in [
            "/ip4/127.0.0.1/tcp/9000".to_string(),
            "/ip6/::1/tcp/1".to_string(),
            "/dns4/node-b/tcp/9000".to_string(),
            format!("/dns/node.example/tcp/9000/p2p/{id}"),
        ] {
            parse_address(&good, &id).expect(&good);
        }
        for bad in [
            String::new(),
            "127.0.0.1:9000".into(),
            "/ip4/127.0.0.1".into(),
            "/ip4/127.0.0.1/tcp/0".into(),
            "/ip4/127.0.0.1/udp/1".into(),
            "/ip4/127.0.0.1/tcp/1/ws".into(),
            format!("/ip4/127.0.0.1/tcp/1/p2p/{other}"),
        ] {
            let error = parse_address(&bad, &id).expect_err(&bad);
            assert!(error.to_string().contains("/ip4/203"), "{error}");
        }
    }

    #[tokio::test]
    async fn names_are_resolved_by_the_system() {
        let list = vec![
            "/dns4/localhost/tcp/7".parse().expect("address"),
            "/ip4/10.0.0.1/tcp/8".parse().expect("address"),
            "/dns4/no.such.name.invalid/tcp/9".parse().expect("address"),
        ];
        let resolved = resolve(list).await;
        let expected: Vec<Multiaddr> = vec![
            "/ip4/127.0.0.1/tcp/7".parse().expect("address"),
            "/ip4/10.0.0.1/tcp/8".parse().expect("address"),
        ];
        assert_eq!(resolved, expected);
    }
}
