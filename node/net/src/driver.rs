//! The task that owns the swarm: commands in, events out, redialling.

mod incoming;
mod twins;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures::StreamExt;
use libp2p::gossipsub::{MessageAcceptance, MessageId, PublishError};
use libp2p::request_response::{self, InboundRequestId, OutboundRequestId};
use libp2p::swarm::SwarmEvent;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId, Stream, Swarm};
use tokio::sync::mpsc;

use crate::flow::{self, Flow, Lost};
use crate::peers::{self, Peer, PeerList, TopicList};
use crate::rate::Rate;
use crate::transport::{self, Behaviour, BehaviourEvent};
use crate::{Command, NetConfig, NetError, NetEvent, NetLimits, RequestFailure, Verdict};

pub(crate) struct Driver {
    swarm: Swarm<Behaviour>,
    limits: NetLimits,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<NetEvent>,
    /// Events that did not fit into the channel. While there are any, nothing is read from peers.
    pending: VecDeque<NetEvent>,
    peers: BTreeMap<PeerId, PeerState>,
    /// The ids of the listed peers: to compute one takes a square root.
    ids: HashMap<Peer, PeerId>,
    /// Whether a peer has dropped messages that were not yet told.
    untold: bool,
    /// Answers that are being waited for from the engine, by token.
    tokens: HashMap<u64, Token>,
    next_token: u64,
    /// Our requests that wait for their answer.
    requests: HashMap<OutboundRequestId, (PeerId, u64)>,
    resolved_sender: mpsc::Sender<(PeerId, Vec<Multiaddr>)>,
    resolved: mpsc::Receiver<(PeerId, Vec<Multiaddr>)>,
    control: libp2p_stream::Control,
    /// Streams of direct messages that peers open.
    incoming: libp2p_stream::IncomingStreams,
    lost_sender: mpsc::Sender<Lost>,
    lost: mpsc::Receiver<Lost>,
    twins: twins::Twins,
}

struct PeerState {
    peer: Peer,
    addresses: Vec<Multiaddr>,
    /// The stream of direct messages to it, while it is connected.
    flow: Option<Flow>,
    /// What reads the last stream that it opened.
    reader: Option<flow::Task>,
    /// Messages that were dropped and not yet told.
    undelivered: usize,
    rate: Arc<Mutex<Rate>>,
    connected_at: Option<Instant>,
    failures: u32,
    dial: Dial,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dial {
    /// Connected, or nowhere to dial.
    Idle,
    At(Instant),
    Running,
}

/// What ended the driver's wait.
enum Wake {
    /// An event that waited was told.
    Told,
    Command(Command),
    Swarm(Box<SwarmEvent<BehaviourEvent>>),
    Resolved(PeerId, Vec<Multiaddr>),
    Incoming(PeerId, Stream),
    Lost(PeerId, usize),
    Dial,
    End,
}

struct Token {
    peer: PeerId,
    request: InboundRequestId,
    channel: request_response::ResponseChannel<Vec<u8>>,
}

impl Driver {
    pub(crate) fn new(
        config: NetConfig,
        list: PeerList,
        topics: TopicList,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<NetEvent>,
    ) -> Result<Self, NetError> {
        let identity = peers::identity(&config.identity)?;
        let mut swarm = transport::build(identity, &config.limits)?;
        for text in &config.listen {
            let failed = |reason: String| NetError::Listen {
                address: text.clone(),
                reason,
            };
            let address = peers::parse_listen(text)?;
            peers::check_free(&address).map_err(|error| failed(error.to_string()))?;
            swarm
                .listen_on(address)
                .map_err(|error| failed(error.to_string()))?;
        }
        let mut control = swarm.behaviour().round.new_control();
        let incoming = control
            .accept(transport::ROUND)
            .expect("nothing else accepts this protocol");
        let (lost_sender, lost) = mpsc::channel(config.limits.peers_max.max(1));
        let (resolved_sender, resolved) = mpsc::channel(config.limits.peers_max.max(1));
        let mut driver = Self {
            swarm,
            limits: config.limits,
            commands,
            events,
            pending: VecDeque::new(),
            peers: BTreeMap::new(),
            ids: HashMap::new(),
            untold: false,
            tokens: HashMap::new(),
            next_token: 0,
            requests: HashMap::new(),
            resolved_sender,
            resolved,
            control,
            incoming,
            lost_sender,
            lost,
            twins: twins::Twins::default(),
        };
        driver.set_peers(list);
        driver.set_topics(topics);
        Ok(driver)
    }

    /// Runs until the engine has dropped its handles or its receiver. The sockets are closed before the channel of the events.
    pub(crate) async fn run(mut self) {
        while self.step().await {}
        drop(self.swarm);
        drop(self.peers);
        drop(self.events);
    }

    async fn step(&mut self) -> bool {
        let next_dial = self.next_dial();
        let dial_at = next_dial.unwrap_or_else(Instant::now).into();
        let calm = self.pending.is_empty();
        let room = self.pending.len() < self.limits.channel_max;
        let wake = tokio::select! {
            permit = self.events.reserve(), if !calm => match permit {
                Ok(permit) => {
                    if let Some(event) = self.pending.pop_front() {
                        permit.send(event);
                    }
                    Wake::Told
                }
                Err(_) => Wake::End,
            },
            () = self.events.closed(), if calm => Wake::End,
            command = self.commands.recv(), if room => command.map_or(Wake::End, Wake::Command),
            event = self.swarm.select_next_some(), if calm => Wake::Swarm(Box::new(event)),
            Some((peer, addresses)) = self.resolved.recv() => Wake::Resolved(peer, addresses),
            Some((peer, stream)) = self.incoming.next() => Wake::Incoming(peer, stream),
            Some((peer, messages)) = self.lost.recv() => Wake::Lost(peer, messages),
            () = tokio::time::sleep_until(dial_at), if next_dial.is_some() => Wake::Dial,
        };
        match wake {
            Wake::Told => {}
            Wake::Command(command) => self.command(command),
            Wake::Swarm(event) => self.on_swarm(*event),
            Wake::Resolved(peer, addresses) => self.dial(peer, addresses),
            Wake::Incoming(peer, stream) => self.read(&peer, stream),
            Wake::Lost(peer, messages) => self.lose(&peer, messages),
            Wake::Dial => self.start_dials(),
            Wake::End => return false,
        }
        if self.untold && self.pending.is_empty() {
            self.tell_undelivered();
        }
        true
    }

    fn emit(&mut self, event: NetEvent) {
        if !self.pending.is_empty() {
            return self.pending.push_back(event);
        }
        if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
            self.pending.push_back(event);
        }
    }

    /// Counts messages of a listed peer that were dropped.
    fn lose(&mut self, id: &PeerId, messages: usize) {
        if let Some(state) = self.peers.get_mut(id)
            && messages > 0
        {
            state.undelivered += messages;
            self.untold = true;
        }
    }

    /// Tells of dropped messages, many at once when the engine is slow, so that they need no room of their own.
    fn tell_undelivered(&mut self) {
        self.untold = false;
        let told: Vec<_> = self
            .peers
            .values_mut()
            .filter(|state| state.undelivered > 0)
            .map(|state| (state.peer, std::mem::take(&mut state.undelivered)))
            .collect();
        for (peer, messages) in told {
            self.emit(NetEvent::Undelivered { peer, messages });
        }
    }
}

/// Commands of the engine.
impl Driver {
    fn command(&mut self, command: Command) {
        match command {
            Command::Publish { topic, bytes } => self.publish(topic, bytes),
            Command::Validate {
                message_id,
                from,
                verdict,
            } => self.validate(&message_id, &from, verdict),
            Command::Send { peer, bytes } => self.send(&peer, bytes),
            Command::Request { peer, id, bytes } => self.request(peer, id, bytes),
            Command::Respond { token, bytes } => {
                if let Some(token) = self.tokens.remove(&token) {
                    // It fails when the peer is gone, and then nobody waits.
                    let repair = &mut self.swarm.behaviour_mut().repair;
                    let _ = repair.send_response(token.channel, bytes);
                }
            }
            Command::SetPeers(list) => self.set_peers(list),
            Command::SetTopics(topics) => self.set_topics(topics),
        }
    }

    fn publish(&mut self, topic: String, bytes: Vec<u8>) {
        match self.swarm.behaviour_mut().gossip.publish(topic, bytes) {
            Ok(()) | Err(PublishError::Duplicate | PublishError::NoPeersSubscribedToTopic) => {}
            Err(error) => tracing::debug!(%error, "gossip batch not sent"),
        }
    }

    fn set_topics(&mut self, topics: TopicList) {
        match self.swarm.behaviour_mut().gossip.set(topics.0) {
            Ok(lost) => {
                for peer in lost {
                    // It fails when the peer is gone already.
                    let _ = self.swarm.disconnect_peer_id(peer);
                }
            }
            Err(error) => tracing::warn!(%error, "cannot join a topic"),
        }
    }

    fn validate(&mut self, message_id: &[u8; 32], from: &Peer, verdict: Verdict) {
        let Some(from) = self.ids.get(from) else {
            return;
        };
        let acceptance = match verdict {
            Verdict::Accept => MessageAcceptance::Accept,
            Verdict::Reject => MessageAcceptance::Reject,
            Verdict::Ignore => MessageAcceptance::Ignore,
        };
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        gossip.judged(&MessageId::new(message_id), from, acceptance);
    }

    fn send(&mut self, peer: &Peer, bytes: Vec<u8>) {
        let id = self.ids.get(peer).copied();
        let Some((id, state)) = id.and_then(|id| Some((id, self.peers.get_mut(&id)?))) else {
            // Not on the list; there is no state to gather it in.
            return self.emit(NetEvent::Undelivered {
                peer: *peer,
                messages: 1,
            });
        };
        if !state.flow.as_ref().is_some_and(|flow| flow.push(bytes)) {
            self.lose(&id, 1);
        }
    }

    /// Reads the direct messages of a peer from this stream, and no longer from the one before.
    fn read(&mut self, id: &PeerId, stream: Stream) {
        if let Some(state) = self.peers.get_mut(id) {
            state.reader = Some(flow::read(
                stream,
                *id,
                state.peer,
                Arc::clone(&state.rate),
                self.limits.clone(),
                self.events.clone(),
            ));
        }
    }

    fn request(&mut self, peer: Peer, id: u64, bytes: Vec<u8>) {
        let peer_id = self
            .ids
            .get(&peer)
            .copied()
            .filter(|id| self.is_connected(id));
        let refusal = match &peer_id {
            None => Some(RequestFailure::NotConnected),
            Some(peer_id) if self.open_requests(peer_id) >= self.limits.requests_open_max => {
                Some(RequestFailure::TooManyOpen)
            }
            Some(_) => None,
        };
        match (refusal, peer_id) {
            (None, Some(peer_id)) => {
                let repair = &mut self.swarm.behaviour_mut().repair;
                let request = repair.send_request(&peer_id, bytes);
                self.requests.insert(request, (peer_id, id));
            }
            (refusal, _) => self.emit(NetEvent::Response {
                peer,
                id,
                result: Err(refusal.unwrap_or(RequestFailure::NotConnected)),
            }),
        }
    }

    fn is_connected(&self, id: &PeerId) -> bool {
        self.peers
            .get(id)
            .is_some_and(|state| state.connected_at.is_some())
    }

    fn open_requests(&self, peer: &PeerId) -> usize {
        self.requests.values().filter(|(id, _)| id == peer).count()
    }

    fn set_peers(&mut self, mut list: PeerList) {
        list.0.remove(self.swarm.local_peer_id());
        let gone: Vec<PeerId> = self
            .peers
            .keys()
            .filter(|id| !list.0.contains_key(id))
            .copied()
            .collect();
        for id in gone {
            // Closes its connections.
            self.swarm.behaviour_mut().allowed.disallow_peer(id);
            if let Some(state) = self.peers.remove(&id)
                && state.connected_at.is_some()
            {
                self.emit(NetEvent::Disconnected { peer: state.peer });
            }
        }
        self.ids = list.0.iter().map(|(id, (peer, _))| (*peer, *id)).collect();
        let now = Instant::now();
        for (id, (peer, addresses)) in list.0 {
            self.swarm.behaviour_mut().allowed.allow_peer(id);
            let state = self.peers.entry(id).or_insert_with(|| PeerState {
                peer,
                addresses: Vec::new(),
                flow: None,
                reader: None,
                undelivered: 0,
                rate: Arc::new(Mutex::new(Rate::new(&self.limits, now))),
                connected_at: None,
                failures: 0,
                dial: Dial::Idle,
            });
            if state.addresses != addresses {
                state.addresses = addresses;
                state.failures = 0;
                if state.connected_at.is_none() && state.dial != Dial::Running {
                    state.dial = Dial::At(now);
                }
            }
        }
    }
}

/// Dialling.
impl Driver {
    fn next_dial(&self) -> Option<Instant> {
        self.peers
            .values()
            .filter_map(|state| match state.dial {
                Dial::At(at) => Some(at),
                Dial::Idle | Dial::Running => None,
            })
            .min()
    }

    /// Starts every dial that is due. Names are looked up by tasks of their own, one for each peer at a time.
    fn start_dials(&mut self) {
        let now = Instant::now();
        for (id, state) in &mut self.peers {
            let Dial::At(at) = state.dial else { continue };
            if at > now {
                continue;
            }
            if state.addresses.is_empty() {
                state.dial = Dial::Idle;
                continue;
            }
            state.dial = Dial::Running;
            let (id, addresses) = (*id, state.addresses.clone());
            let sender = self.resolved_sender.clone();
            tokio::spawn(async move {
                // It fails when the driver has ended.
                let _ = sender.send((id, peers::resolve(addresses).await)).await;
            });
        }
    }

    fn dial(&mut self, id: PeerId, addresses: Vec<Multiaddr>) {
        let Some(state) = self.peers.get_mut(&id) else {
            return;
        };
        if state.connected_at.is_some() {
            state.dial = Dial::Idle;
            return;
        }
        let options = DialOpts::peer_id(id)
            .addresses(addresses)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            // Not from the port that we listen on: a restarted node could not reach the same peer again for a minute.
            .allocate_new_port()
            .build();
        if let Err(error) = self.swarm.dial(options) {
            tracing::debug!(peer = %id, %error, "cannot dial");
            self.schedule(&id, true);
        }
    }

    /// Plans the next dial of a peer that is not connected.
    fn schedule(&mut self, id: &PeerId, failed: bool) {
        let Some(state) = self.peers.get_mut(id) else {
            return;
        };
        if state.connected_at.is_some() {
            state.dial = Dial::Idle;
            return;
        }
        if failed {
            state.failures = state.failures.saturating_add(1);
        }
        let pause = self
            .limits
            .redial_min
            .saturating_mul(1 << state.failures.min(20))
            .min(self.limits.redial_max);
        state.dial = Dial::At(Instant::now() + pause);
    }
}
