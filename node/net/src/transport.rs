//! The libp2p swarm: which protocols run over a connection, and their bounds.

use std::time::Duration;

use libp2p::core::upgrade;
use libp2p::gossipsub::{self, MessageId, ValidationMode};
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::NetworkBehaviour;
use libp2p::{
    StreamProtocol, Swarm, SwarmBuilder, allow_block_list, connection_limits, identify, identity,
    noise, ping, tcp, yamux,
};
use sha2::{Digest, Sha256};

use crate::codec::Bytes;
use crate::topics::Topics;
use crate::{NetError, NetLimits};

/// What a peer must say that it speaks. Checked on every connection.
pub(crate) const VERSION: &str = "/diversity/1";
pub(crate) const ROUND: StreamProtocol = StreamProtocol::new("/diversity/1/round");
const REPAIR: StreamProtocol = StreamProtocol::new("/diversity/1/repair");

/// What gossipsub wraps around a batch: topic, lengths, and control messages that travel along.
const GOSSIP_OVERHEAD: usize = 32 * 1024;
/// Batches that wait for one slow peer.
const GOSSIP_QUEUE_MAX: usize = 128;
/// Streams of one protocol on one connection.
const STREAMS_MAX: usize = 64;
/// Strangers in the middle of their handshake.
const PENDING_INCOMING_MAX: u32 = 64;
/// Both sides may dial at once, and a restarted peer comes back before its old connection is noticed dead.
const CONNECTIONS_PER_PEER_MAX: u32 = 4;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The order matters: who may not connect is turned away before anything else sees it.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) allowed: allow_block_list::Behaviour<allow_block_list::AllowedPeers>,
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) gossip: Topics,
    pub(crate) round: libp2p_stream::Behaviour,
    pub(crate) repair: request_response::Behaviour<Bytes>,
    pub(crate) identify: identify::Behaviour,
    pub(crate) ping: ping::Behaviour,
}

/// The id of a gossip batch is the hash of its topic and its bytes, so that two nodes that gossip the same batch are one message,
/// and one batch of a sensor in two agreements is two.
pub(crate) fn message_id(topic: &str, bytes: &[u8]) -> [u8; 32] {
    // No topic holds a zero byte.
    let hash = Sha256::new_with_prefix(topic).chain_update([0]);
    hash.chain_update(bytes).finalize().into()
}

/// What this process calls itself: its version, and a random name, so that peers tell two processes with one key apart.
fn agent() -> String {
    let random = identity::Keypair::generate_ed25519().public().to_peer_id();
    let name: String = random
        .to_bytes()
        .iter()
        .rev()
        .take(8)
        .map(|b| format!("{b:02x}"))
        .collect();
    format!("diversity/{}/{name}", env!("CARGO_PKG_VERSION"))
}

pub(crate) fn build(
    identity: identity::Keypair,
    limits: &NetLimits,
) -> Result<Swarm<Behaviour>, NetError> {
    let gossip = gossip(limits)?;
    let identify = identify::Behaviour::new(
        identify::Config::new(VERSION.into(), identity.public())
            .with_agent_version(agent())
            .with_push_listen_addr_updates(false)
            .with_hide_listen_addrs(true)
            .with_cache_size(0),
    );
    let behaviour = Behaviour {
        allowed: allow_block_list::Behaviour::default(),
        limits: connection_limits::Behaviour::new(
            connection_limits::ConnectionLimits::default()
                .with_max_pending_incoming(Some(PENDING_INCOMING_MAX))
                .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER_MAX)),
        ),
        gossip,
        round: libp2p_stream::Behaviour::new(),
        repair: exchange(
            REPAIR,
            Bytes {
                request_bytes_max: limits.request_bytes_max,
                response_bytes_max: limits.response_bytes_max,
            },
            limits,
        ),
        identify,
        ping: ping::Behaviour::new(
            ping::Config::new()
                .with_interval(Duration::from_secs(5))
                .with_timeout(Duration::from_secs(10)),
        ),
    };
    let unusable = |reason: String| NetError::Limits { reason };
    let swarm = SwarmBuilder::with_existing_identity(identity)
        .with_tokio()
        .with_tcp(
            tcp::Config::new().nodelay(true),
            noise::Config::new,
            yamux::Config::default,
        )
        .map_err(|error| unusable(error.to_string()))?
        .with_behaviour(|_| behaviour)
        .map_err(|error| unusable(error.to_string()))?
        .with_swarm_config(|config| {
            // A listed peer's connection is kept: rounds can be a month apart. Dead ones are found by ping.
            config
                .with_idle_connection_timeout(Duration::from_secs(365 * 24 * 3600))
                // Each stream carries one protocol: its first message need not wait for the peer to agree to it.
                .with_substream_upgrade_protocol_override(upgrade::Version::V1Lazy)
        })
        .with_connection_timeout(HANDSHAKE_TIMEOUT)
        .build();
    Ok(swarm)
}

fn exchange(
    protocol: StreamProtocol,
    codec: Bytes,
    limits: &NetLimits,
) -> request_response::Behaviour<Bytes> {
    request_response::Behaviour::with_codec(
        codec,
        [(protocol, ProtocolSupport::Full)],
        request_response::Config::default()
            .with_request_timeout(limits.request_timeout)
            .with_max_concurrent_streams(STREAMS_MAX),
    )
}

fn gossip(limits: &NetLimits) -> Result<Topics, NetError> {
    let unusable = |reason: String| NetError::Limits { reason };
    let config = gossipsub::ConfigBuilder::default()
        .max_transmit_size(limits.gossip_bytes_max + GOSSIP_OVERHEAD)
        .connection_handler_queue_len(GOSSIP_QUEUE_MAX)
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|m| MessageId::new(&message_id(m.topic.as_str(), &m.data)))
        .heartbeat_initial_delay(Duration::from_millis(100))
        .heartbeat_interval(Duration::from_millis(500))
        .build()
        .map_err(|error| unusable(error.to_string()))?;
    Topics::new(config).map_err(|error| unusable(error.into()))
}
