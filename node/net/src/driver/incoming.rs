//! What comes from the swarm: connections, gossip, direct messages, requests.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use libp2p::gossipsub::{self, MessageAcceptance, MessageId};
use libp2p::request_response::{self, InboundRequestId, OutboundFailure, OutboundRequestId};
use libp2p::swarm::{ListenError, SwarmEvent};
use libp2p::{PeerId, identify, ping};

use super::{Dial, Driver, Token};
use crate::flow::Flow;
use crate::peers;
use crate::topics::TopicEvent;
use crate::transport::{BehaviourEvent, VERSION};
use crate::{NetEvent, RequestFailure};

/// A connection that lasted so long was a good one: the next pause starts small again.
const GOOD_CONNECTION: Duration = Duration::from_secs(10);

type Exchange = request_response::Event<Vec<u8>, Vec<u8>>;

/// Events of the swarm.
impl Driver {
    pub(super) fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::NewListenAddr { address, .. } => {
                tracing::info!(%address, "listening for peers");
                self.emit(NetEvent::Listening {
                    address: address.to_string(),
                });
            }
            SwarmEvent::ConnectionEstablished { peer_id, .. } => self.on_connected(peer_id),
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                num_established,
                cause,
                ..
            } => {
                self.twins.closed(&peer_id, connection_id);
                if num_established == 0 {
                    tracing::info!(peer = %peer_id, ?cause, "disconnected");
                    self.on_disconnected(peer_id);
                }
            }
            SwarmEvent::OutgoingConnectionError {
                peer_id: Some(peer_id),
                error,
                ..
            } => {
                tracing::debug!(peer = %peer_id, %error, "cannot connect");
                self.schedule(&peer_id, true);
            }
            SwarmEvent::IncomingConnectionError {
                peer_id,
                error,
                send_back_addr,
                ..
            } => {
                tracing::debug!(from = %send_back_addr, %error, "incoming connection refused");
                if let (Some(peer_id), ListenError::Denied { .. }) = (peer_id, error)
                    && !self.peers.contains_key(&peer_id)
                    && let Some(peer) = peers::from_peer_id(&peer_id)
                {
                    // A stranger may knock as often as it likes: it never takes the room of anything else.
                    let _ = self.events.try_send(NetEvent::Refused { peer });
                }
            }
            SwarmEvent::ListenerClosed {
                addresses, reason, ..
            } => tracing::error!(?addresses, ?reason, "no longer listening for peers"),
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "cannot accept a connection");
            }
            _ => {}
        }
    }

    fn on_connected(&mut self, id: PeerId) {
        let Some(state) = self.peers.get_mut(&id) else {
            return;
        };
        state.dial = Dial::Idle;
        if state.connected_at.is_none() {
            state.connected_at = Some(Instant::now());
            state.flow = Some(Flow::start(
                self.control.clone(),
                id,
                self.limits.clone(),
                self.lost_sender.clone(),
            ));
            let peer = state.peer;
            tracing::info!(peer = %id, "connected");
            self.emit(NetEvent::Connected { peer });
        }
    }

    fn on_disconnected(&mut self, id: PeerId) {
        self.tokens.retain(|_, token| token.peer != id);
        let Some(state) = self.peers.get_mut(&id) else {
            return;
        };
        let lasted = state.connected_at.take().map(|at| at.elapsed());
        // A peer that lets us in and throws us out at once (we are not on its list) must not be dialled without a pause.
        let failed = lasted.is_none_or(|lasted| lasted < GOOD_CONNECTION);
        if !failed {
            state.failures = 0;
        }
        state.reader = None;
        let lost = state.flow.take().map_or(0, |flow| flow.unsent());
        let peer = state.peer;
        self.lose(&id, lost);
        if lasted.is_some() {
            self.emit(NetEvent::Disconnected { peer });
        }
        self.schedule(&id, failed);
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossip(TopicEvent::Gossip(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            })) => self.on_gossip(propagation_source, &message_id, message),
            BehaviourEvent::Gossip(TopicEvent::Gossip(gossipsub::Event::Subscribed {
                peer_id,
                topic,
                ..
            })) => {
                if let Some(state) = self.peers.get(&peer_id) {
                    let (peer, topic) = (state.peer, topic.into_string());
                    self.emit(NetEvent::Subscribed { peer, topic });
                }
            }
            BehaviourEvent::Gossip(TopicEvent::TurnedAway(peer_id)) => {
                if let Some(state) = self.peers.get(&peer_id) {
                    let peer = state.peer;
                    self.emit(NetEvent::TurnedAway { peer });
                }
            }
            BehaviourEvent::Repair(event) => self.on_repair(event),
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. })
                if info.protocol_version != VERSION =>
            {
                self.on_incompatible(peer_id, &info.protocol_version);
            }
            BehaviourEvent::Identify(identify::Event::Received {
                peer_id,
                connection_id,
                info,
            }) => self
                .twins
                .named(peer_id, connection_id, &info.agent_version),
            BehaviourEvent::Ping(ping::Event {
                peer,
                connection,
                result: Ok(_),
            }) => {
                if self.twins.answered(&peer, connection)
                    && let Some(state) = self.peers.get(&peer)
                {
                    let peer = state.peer;
                    self.emit(NetEvent::Twins { peer });
                }
            }
            BehaviourEvent::Ping(ping::Event {
                peer,
                connection,
                result: Err(error @ (ping::Failure::Timeout | ping::Failure::Other { .. })),
            }) => {
                tracing::debug!(%peer, %error, "peer does not answer a ping");
                self.swarm.close_connection(connection);
            }
            _ => {}
        }
    }

    fn on_incompatible(&mut self, id: PeerId, version: &str) {
        let version: String = version.chars().take(64).collect();
        tracing::warn!(
            peer = %id,
            version = %version.escape_default(),
            "the peer speaks another version of the protocol than {VERSION}: upgrade the older of the two"
        );
        if let Some(state) = self.peers.get(&id) {
            let peer = state.peer;
            self.emit(NetEvent::Incompatible { peer, version });
        }
        // It fails when the peer is gone already.
        let _ = self.swarm.disconnect_peer_id(id);
    }

    fn on_gossip(&mut self, from: PeerId, id: &MessageId, message: gossipsub::Message) {
        let gossipsub::Message {
            data: bytes, topic, ..
        } = message;
        let admitted =
            bytes.len() <= self.limits.gossip_bytes_max && self.admit(&from, 1, bytes.len());
        let message_id = <[u8; 32]>::try_from(id.0.as_slice()).ok();
        let peer = self.peers.get(&from).map(|state| state.peer);
        match (peer, message_id) {
            (Some(from), Some(message_id)) if admitted => self.emit(NetEvent::Gossip {
                from,
                topic: topic.into_string(),
                message_id,
                bytes,
            }),
            _ => {
                let gossip = &mut self.swarm.behaviour_mut().gossip;
                gossip.judged(id, &from, MessageAcceptance::Ignore);
            }
        }
    }

    /// Charges a peer for what it sent; whether it may.
    fn admit(&mut self, id: &PeerId, messages: usize, bytes: usize) -> bool {
        let Some(state) = self.peers.get_mut(id) else {
            return false;
        };
        let admitted = state
            .rate
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .admit(messages, bytes, Instant::now());
        if !admitted {
            tracing::debug!(peer = %id, messages, bytes, "peer sends more than it may: dropped");
        }
        admitted
    }

    fn on_repair(&mut self, event: Exchange) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                request_response::Message::Request {
                    request_id,
                    request,
                    channel,
                } => self.on_request(peer, request_id, request, channel),
                request_response::Message::Response {
                    request_id,
                    response,
                } => self.on_response(&request_id, Ok(response)),
            },
            request_response::Event::OutboundFailure {
                request_id, error, ..
            } => {
                let failure = match error {
                    OutboundFailure::DialFailure => RequestFailure::NotConnected,
                    OutboundFailure::Timeout => RequestFailure::NoAnswer,
                    // The peer closed the stream without an answer.
                    OutboundFailure::Io(error)
                        if error.kind() == std::io::ErrorKind::UnexpectedEof =>
                    {
                        RequestFailure::NoAnswer
                    }
                    _ => RequestFailure::Failed,
                };
                self.on_response(&request_id, Err(failure));
            }
            request_response::Event::InboundFailure { request_id, .. } => {
                self.tokens.retain(|_, token| token.request != request_id);
            }
            request_response::Event::ResponseSent { .. } => {}
        }
    }

    fn on_request(
        &mut self,
        from: PeerId,
        request: InboundRequestId,
        bytes: Vec<u8>,
        channel: request_response::ResponseChannel<Vec<u8>>,
    ) {
        let open = self
            .tokens
            .values()
            .filter(|token| token.peer == from)
            .count();
        let Some(peer) = self.peers.get(&from).map(|state| state.peer) else {
            return;
        };
        if open >= self.limits.requests_open_max || !self.admit(&from, 1, bytes.len()) {
            return;
        }
        let token = self.next_token;
        self.next_token += 1;
        self.tokens.insert(
            token,
            Token {
                peer: from,
                request,
                channel,
            },
        );
        self.emit(NetEvent::Request {
            from: peer,
            token,
            bytes,
        });
    }

    fn on_response(
        &mut self,
        request: &OutboundRequestId,
        result: Result<Vec<u8>, RequestFailure>,
    ) {
        // A peer that has left the list meanwhile still gets its event: the engine waits for it.
        if let Some((peer_id, id)) = self.requests.remove(request)
            && let Some(peer) = peers::from_peer_id(&peer_id)
        {
            self.emit(NetEvent::Response { peer, id, result });
        }
    }
}
