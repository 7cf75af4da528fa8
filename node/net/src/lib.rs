//! Peer-to-peer transport of a DIVERSITY node, over libp2p (TCP, Noise, Yamux).
//!
//! It carries bytes and knows nothing of what they mean (`docs/wire-format.md` §8; encodings in `proto::wire`):
//!
//! - **Gossip**: batches of sensor frames on topics, each of which only its members hear ([`NetHandle::set_topics`]); unsigned by the
//!   nodes (sensor frames prove themselves), named by the hash of topic and bytes, and relayed only after the engine has judged
//!   them ([`NetHandle::validate`]).
//! - **Direct messages**: one ordered flow to each peer for the messages of the rounds, a stream that stays open, protocol
//!   `/diversity/1/round`.
//! - **Requests**: questions with an answer, for repair, protocol `/diversity/1/repair`.
//!
//! Only peers on a list may connect ([`NetHandle::set_peers`] changes it), and lost connections are dialled again with a
//! growing, capped pause.
//!
//! # What may be lost, and where
//! Nothing here is durable and everything is bounded, so bytes can be dropped; the protocol allows that, since frames are
//! repaired from peers and round messages are sent again.
//!
//! - A direct message to a peer that is not connected, or beyond its queue, or not yet written when the connection ends:
//!   [`NetEvent::Undelivered`]. One that was written and not yet read when the connection ends: silently. Those that arrive
//!   do so once and in order.
//! - A gossip batch when nobody is subscribed, or a slow peer's queue is full: silently. A node learns of the gap by repair.
//! - What a peer sends beyond its rate ([`NetLimits`]): its direct messages are read no faster, so that they wait on its side;
//!   requests are left without an answer; gossip is ignored.
//! - A command when [`NetHandle`]'s queue is full: [`NetError::Busy`], at once. The handle never waits, so an engine that is
//!   slow to take events cannot lock itself up. While events wait for the engine, nothing more is read from peers.

mod codec;
mod driver;
mod flow;
mod outbound;
mod peers;
mod rate;
mod topics;
mod transport;

use std::time::Duration;

use tokio::sync::mpsc;
use zeroize::Zeroizing;

pub use peers::{Peer, PeerEntry, TopicEntry, peer_from_text, peer_to_text, public_key};

/// What a node's transport is made of.
#[derive(Debug, Clone)]
pub struct NetConfig {
    /// The ed25519 secret key of the peer identity.
    pub identity: Zeroizing<[u8; 32]>,
    /// Addresses to listen on, such as `/ip4/0.0.0.0/tcp/9000`; port 0 picks a free one.
    pub listen: Vec<String>,
    /// Who may connect, and where to find them.
    pub peers: Vec<PeerEntry>,
    /// The gossip topics.
    pub topics: Vec<TopicEntry>,
    /// Bounds.
    pub limits: NetLimits,
}

/// Bounds of everything that peers and the engine can make the transport hold or do.
#[derive(Debug, Clone)]
pub struct NetLimits {
    /// The longest gossip batch, in bytes.
    pub gossip_bytes_max: usize,
    /// The longest direct message, in bytes.
    pub direct_bytes_max: usize,
    /// The longest request, in bytes.
    pub request_bytes_max: usize,
    /// The longest answer, in bytes.
    pub response_bytes_max: usize,
    /// Direct messages that wait for one peer: their number.
    pub queue_messages_max: usize,
    /// Direct messages that wait for one peer: their bytes.
    pub queue_bytes_max: usize,
    /// Requests to, and from, one peer that wait for their answer.
    pub requests_open_max: usize,
    /// Messages of any kind that one peer may send in a second; a burst may be twice as many.
    pub peer_messages_per_second: u32,
    /// Bytes that one peer may send in a second; a burst may be twice as many.
    pub peer_bytes_per_second: u32,
    /// Commands and events that wait between engine and transport.
    pub channel_max: usize,
    /// The most peers on the list.
    pub peers_max: usize,
    /// How long an answer, or opening a stream, may take.
    pub request_timeout: Duration,
    /// The first pause before a lost peer is dialled again; it doubles with each failure.
    pub redial_min: Duration,
    /// The longest pause.
    pub redial_max: Duration,
}

impl Default for NetLimits {
    fn default() -> Self {
        Self {
            gossip_bytes_max: 256 * 1024,
            direct_bytes_max: 1024 * 1024,
            request_bytes_max: 64 * 1024,
            response_bytes_max: 1024 * 1024,
            queue_messages_max: 4096,
            queue_bytes_max: 8 * 1024 * 1024,
            requests_open_max: 16,
            peer_messages_per_second: 5_000,
            peer_bytes_per_second: 16 * 1024 * 1024,
            channel_max: 1024,
            peers_max: 256,
            request_timeout: Duration::from_secs(10),
            redial_min: Duration::from_millis(100),
            redial_max: Duration::from_secs(10),
        }
    }
}

/// What can go wrong when the transport is started or used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// The identity is no key.
    #[error("the peer identity is not an ed25519 secret key: make a new one")]
    Identity,
    /// An address does not parse.
    #[error(
        "{address} is not a peer-to-peer address ({reason}): write it like /ip4/203.0.113.7/tcp/9000 or /dns4/node.example/tcp/9000"
    )]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A peer id does not parse.
    #[error("{text} is not the peer id of an ed25519 key: it starts with 12D3KooW")]
    PeerId {
        /// What was given.
        text: String,
    },
    /// A peer's public key is no key.
    #[error(
        "peer {index} of the list has a public key that is not an ed25519 key: have it registered anew"
    )]
    PeerKey {
        /// Its place in the list, from 0.
        index: usize,
    },
    /// The list is too long.
    #[error(
        "{peers} peers are more than the {max} that are allowed: raise peers_max or shorten the list"
    )]
    TooManyPeers {
        /// How many were given.
        peers: usize,
        /// The bound.
        max: usize,
    },
    /// The system does not let it listen.
    #[error(
        "cannot listen on {address} ({reason}): choose a free port and an address of this machine"
    )]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// Limits that do not fit together.
    #[error("the limits of the transport cannot be used: {reason}")]
    Limits {
        /// What is wrong.
        reason: String,
    },
    /// A message is longer than peers accept.
    #[error("a {what} of {bytes} bytes is longer than the {max} that peers accept")]
    TooLarge {
        /// "gossip batch", "direct message", "request" or "response".
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The command queue is full; the command is dropped.
    #[error("the transport is busy and dropped a message: it will be sent again or repaired")]
    Busy,
    /// The transport has ended.
    #[error("the transport has ended: the node is shutting down")]
    Closed,
}

/// What the transport tells the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetEvent {
    /// It listens on this address now.
    Listening {
        /// With the port that was really taken.
        address: String,
    },
    /// The first connection to a listed peer stands.
    Connected {
        /// Which peer.
        peer: Peer,
    },
    /// The last connection to a peer is gone; it is dialled again if it has an address.
    Disconnected {
        /// Which peer.
        peer: Peer,
    },
    /// A peer that is not on the list tried to connect.
    Refused {
        /// Which peer.
        peer: Peer,
    },
    /// A peer speaks another version of the protocol; the connection was closed.
    Incompatible {
        /// Which peer.
        peer: Peer,
        /// What it said it speaks.
        version: String,
    },
    /// Two processes connect with the key of this peer, and both are alive.
    Twins {
        /// Which peer.
        peer: Peer,
    },
    /// A member of a topic listens to it: from now on gossip reaches it.
    Subscribed {
        /// Which peer.
        peer: Peer,
        /// The topic.
        topic: String,
    },
    /// A peer wanted to hear, or to be heard, on a topic of this node of which it is no member; nothing was sent or taken.
    TurnedAway {
        /// Which peer.
        peer: Peer,
    },
    /// A gossip batch, to be judged by [`NetHandle::validate`].
    Gossip {
        /// Who relayed it, which need not be who made it; a member of the topic.
        from: Peer,
        /// The topic.
        topic: String,
        /// SHA-256 of the topic, a zero byte and the bytes.
        message_id: [u8; 32],
        /// The batch.
        bytes: Vec<u8>,
    },
    /// A direct message.
    Direct {
        /// Who sent it.
        from: Peer,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Direct messages to a peer were dropped, or it is not known whether they left.
    Undelivered {
        /// Which peer.
        peer: Peer,
        /// How many.
        messages: usize,
    },
    /// A request, to be answered by [`NetHandle::respond`].
    Request {
        /// Who asks.
        from: Peer,
        /// Names it in the answer.
        token: u64,
        /// The question.
        bytes: Vec<u8>,
    },
    /// What became of a request.
    Response {
        /// Who was asked.
        peer: Peer,
        /// The id that the engine gave it.
        id: u64,
        /// The answer.
        result: Result<Vec<u8>, RequestFailure>,
    },
}

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestFailure {
    /// The peer is not connected.
    #[error("the peer is not connected")]
    NotConnected,
    /// Too many requests to that peer wait already.
    #[error("too many requests to that peer wait already")]
    TooManyOpen,
    /// No answer in time, or the peer refused to give one.
    #[error("the peer gave no answer")]
    NoAnswer,
    /// The connection ended first, or the answer was malformed or oversized.
    #[error("the connection to the peer failed")]
    Failed,
}

/// What the engine thinks of a gossip batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Good: it is relayed.
    Accept,
    /// Bad: it is not relayed.
    Reject,
    /// Neither: it is not relayed.
    Ignore,
}

#[derive(Debug)]
enum Command {
    Publish {
        topic: String,
        bytes: Vec<u8>,
    },
    Validate {
        message_id: [u8; 32],
        from: Peer,
        verdict: Verdict,
    },
    Send {
        peer: Peer,
        bytes: Vec<u8>,
    },
    Request {
        peer: Peer,
        id: u64,
        bytes: Vec<u8>,
    },
    Respond {
        token: u64,
        bytes: Vec<u8>,
    },
    SetPeers(peers::PeerList),
    SetTopics(peers::TopicList),
}

/// Starts transports.
pub struct Net;

impl Net {
    /// Starts the transport as a task of the current tokio runtime; it ends when the last handle or the receiver of the events
    /// is dropped. The receiver gives nothing any more when every socket is closed.
    ///
    /// # Errors
    /// [`NetError`] for an identity, address, list or limit that cannot be used, and if the system does not let it listen.
    pub fn spawn(config: NetConfig) -> Result<(NetHandle, mpsc::Receiver<NetEvent>), NetError> {
        check_limits(&config.limits)?;
        let local = public_key(&config.identity)?;
        let list = peers::PeerList::parse(&config.peers, &config.limits)?;
        let (command_sender, commands) = mpsc::channel(config.limits.channel_max);
        let (event_sender, events) = mpsc::channel(config.limits.channel_max);
        let limits = config.limits.clone();
        let mut config = config;
        let topics = peers::TopicList::parse(std::mem::take(&mut config.topics));
        let driver = driver::Driver::new(config, list, topics, commands, event_sender)?;
        tokio::spawn(driver.run());
        let handle = NetHandle {
            local,
            limits,
            commands: command_sender,
        };
        Ok((handle, events))
    }
}

fn check_limits(limits: &NetLimits) -> Result<(), NetError> {
    // Lengths are 4 bytes on the wire, and the overheads are added to these without another check.
    const BYTES_MAX: usize = 1 << 30;
    let lengths = [
        limits.gossip_bytes_max,
        limits.direct_bytes_max,
        limits.request_bytes_max,
        limits.response_bytes_max,
        limits.queue_bytes_max,
    ];
    let reason = if lengths
        .iter()
        .any(|bytes| *bytes < 1024 || *bytes > BYTES_MAX)
    {
        format!("lengths must lie between 1024 and {BYTES_MAX} bytes")
    } else if limits.queue_messages_max == 0
        || limits.requests_open_max == 0
        || limits.channel_max == 0
        || limits.peer_messages_per_second == 0
        || limits.peer_bytes_per_second == 0
    {
        "numbers and rates must be above 0".into()
    } else if limits.redial_min.is_zero() || limits.redial_max < limits.redial_min {
        "redial_min must be above 0 and not above redial_max".into()
    } else {
        return Ok(());
    };
    Err(NetError::Limits { reason })
}

/// Commands to a running transport. Every call returns at once; clones share the transport.
#[derive(Debug, Clone)]
pub struct NetHandle {
    local: Peer,
    limits: NetLimits,
    commands: mpsc::Sender<Command>,
}

impl NetHandle {
    /// This node's own peer key.
    pub fn local_peer(&self) -> Peer {
        self.local
    }

    /// Gossips a batch on a topic. Nobody being there to hear it is no error.
    ///
    /// # Errors
    /// [`NetError::TooLarge`], [`NetError::Busy`] or [`NetError::Closed`].
    pub fn publish(&self, topic: String, bytes: Vec<u8>) -> Result<(), NetError> {
        check_size("gossip batch", &bytes, self.limits.gossip_bytes_max)?;
        self.command(Command::Publish { topic, bytes })
    }

    /// Replaces the topics and their members: joins and leaves. What peers have said of their subscriptions before counts from the
    /// moment that a topic is joined; a peer that is no member any more is disconnected, and may come back.
    ///
    /// # Errors
    /// [`NetError::Busy`] or [`NetError::Closed`]; then they stay as they were.
    pub fn set_topics(&self, topics: Vec<TopicEntry>) -> Result<(), NetError> {
        self.command(Command::SetTopics(peers::TopicList::parse(topics)))
    }

    /// Says whether a gossip batch may be relayed. To be called once for each [`NetEvent::Gossip`], and soon: one that is not judged
    /// within some seconds is forgotten, and not relayed.
    ///
    /// # Errors
    /// [`NetError::Busy`] or [`NetError::Closed`].
    pub fn validate(
        &self,
        message_id: [u8; 32],
        from: Peer,
        verdict: Verdict,
    ) -> Result<(), NetError> {
        self.command(Command::Validate {
            message_id,
            from,
            verdict,
        })
    }

    /// Sends a direct message. Those to one peer arrive in the order of these calls; what does not leave is told as
    /// [`NetEvent::Undelivered`].
    ///
    /// # Errors
    /// [`NetError::TooLarge`], [`NetError::Busy`] or [`NetError::Closed`].
    pub fn send(&self, peer: Peer, bytes: Vec<u8>) -> Result<(), NetError> {
        check_size("direct message", &bytes, self.limits.direct_bytes_max)?;
        self.command(Command::Send { peer, bytes })
    }

    /// Asks a peer. Exactly one [`NetEvent::Response`] with this `id` follows.
    ///
    /// # Errors
    /// [`NetError::TooLarge`], [`NetError::Busy`] or [`NetError::Closed`]; then no event follows.
    pub fn request(&self, peer: Peer, id: u64, bytes: Vec<u8>) -> Result<(), NetError> {
        check_size("request", &bytes, self.limits.request_bytes_max)?;
        self.command(Command::Request { peer, id, bytes })
    }

    /// Answers a [`NetEvent::Request`]. A token that is no longer open is ignored.
    ///
    /// # Errors
    /// [`NetError::TooLarge`], [`NetError::Busy`] or [`NetError::Closed`].
    pub fn respond(&self, token: u64, bytes: Vec<u8>) -> Result<(), NetError> {
        check_size("response", &bytes, self.limits.response_bytes_max)?;
        self.command(Command::Respond { token, bytes })
    }

    /// Replaces the list of peers. Connections to those that are gone from it are closed; new ones are dialled; an entry for
    /// this node itself is ignored.
    ///
    /// # Errors
    /// [`NetError::Address`], [`NetError::PeerKey`], [`NetError::TooManyPeers`], [`NetError::Busy`] or [`NetError::Closed`];
    /// then the list stays as it was.
    pub fn set_peers(&self, peers: &[PeerEntry]) -> Result<(), NetError> {
        let list = peers::PeerList::parse(peers, &self.limits)?;
        self.command(Command::SetPeers(list))
    }

    fn command(&self, command: Command) -> Result<(), NetError> {
        self.commands
            .try_send(command)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => NetError::Busy,
                mpsc::error::TrySendError::Closed(_) => NetError::Closed,
            })
    }
}

fn check_size(what: &'static str, bytes: &[u8], max: usize) -> Result<(), NetError> {
    let bytes = bytes.len();
    if bytes > max {
        return Err(NetError::TooLarge { what, bytes, max });
    }
    Ok(())
}
