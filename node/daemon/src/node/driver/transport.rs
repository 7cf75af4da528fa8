//! What the transport says.

use std::sync::Arc;

use diversity_engine::api::{Input, Source};
use diversity_net::{NetError, NetEvent, Peer, TopicEntry, Verdict};
use diversity_proto::AgreementId;
use diversity_proto::terms::Terms;
use diversity_proto::wire::{
    FRAME_BATCH_BYTES_MAX, Part, decode_envelope, decode_ranges, frames_topic, split_frames,
};

use super::{Driver, unix_ms};

impl Driver {
    pub(super) fn net(&mut self, event: NetEvent) {
        match event {
            NetEvent::Connected { peer } => {
                let change = self.peers().up(peer);
                tracing::info!(peer = %peer_text(&peer), "peer.connected");
                self.connections();
                if let Some(change) = change {
                    self.peer_changed(change);
                }
            }
            NetEvent::Disconnected { peer } => {
                let change = self.peers().down(peer);
                tracing::info!(peer = %peer_text(&peer), "peer.disconnected");
                self.connections();
                if let Some(change) = change {
                    self.peer_changed(change);
                }
            }
            NetEvent::Gossip {
                from,
                message_id,
                bytes,
                ..
            } => self.gossip(from, message_id, &bytes),
            NetEvent::Direct { from, bytes } => self.direct(from, &bytes),
            NetEvent::Request { from, token, bytes } => {
                let node = self.peers().node(&from);
                match (node, decode_ranges(&bytes)) {
                    (Some(from), Ok(ranges)) => self.input(Input::RepairRequest {
                        token,
                        from,
                        ranges,
                    }),
                    (_, Err(error)) => {
                        tracing::warn!(peer = %peer_text(&from), %error, "peer.malformed_request")
                    }
                    (None, _) => {}
                }
            }
            NetEvent::Response { peer, result, .. } => {
                let (Some(node), Ok(bytes)) = (self.peers().node(&peer), result) else {
                    return;
                };
                if bytes.is_empty() {
                    return tracing::debug!(node = %node, "peer.refuses_frames");
                }
                match split_frames(&bytes, FRAME_BATCH_BYTES_MAX) {
                    Ok(frames) if !frames.is_empty() => {
                        self.count_frames("repair", frames.len());
                        let frames: Vec<_> = frames.into_iter().map(<[u8]>::to_vec).collect();
                        self.input(Input::Frames {
                            source: Source::Peer(node),
                            frames,
                        });
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(peer = %peer_text(&peer), %error, "peer.malformed_response")
                    }
                }
            }
            NetEvent::Undelivered { messages, .. } => {
                self.parts.metrics.undelivered.inc_by(messages as u64);
            }
            NetEvent::Subscribed { peer, topic } => {
                tracing::debug!(peer = %peer_text(&peer), topic, "peer.subscribed")
            }
            NetEvent::TurnedAway { peer } => {
                self.parts.metrics.foreign("topic");
                tracing::debug!(peer = %peer_text(&peer), "peer.turned_away");
            }
            NetEvent::Listening { address } => tracing::info!(address, "net.listening"),
            NetEvent::Refused { peer } => tracing::warn!(peer = %peer_text(&peer), "peer.refused"),
            NetEvent::Twins { peer } => self.twins(peer),
            NetEvent::Incompatible { peer, version } => {
                tracing::warn!(peer = %peer_text(&peer), version, "peer.incompatible");
            }
        }
    }

    /// One topic for each agreement that runs here, with its nodes (P-COMMON-1).
    pub(super) fn set_topics(&mut self) {
        let topics = {
            let peers = self.peers();
            let entry = |(a, terms): (&AgreementId, &Arc<Terms>)| TopicEntry {
                topic: frames_topic(&self.parts.deployment, a),
                members: terms
                    .nodes
                    .iter()
                    .filter_map(|n| peers.peer(&n.node))
                    .collect(),
            };
            self.terms.iter().map(entry).collect()
        };
        // Where the transport is busy it is told again.
        self.topics_due = self.parts.net.set_topics(topics) == Err(NetError::Busy);
    }

    fn connections(&self) {
        self.parts
            .metrics
            .peers
            .set(self.peers().connections() as i64);
    }

    fn gossip(&mut self, from: Peer, message: [u8; 32], bytes: &[u8]) {
        let frames = match split_frames(bytes, FRAME_BATCH_BYTES_MAX) {
            Ok(frames) => frames,
            Err(error) => {
                tracing::warn!(peer = %peer_text(&from), %error, "peer.malformed_gossip");
                return self.verdict(message, from, Verdict::Reject);
            }
        };
        let Some(node) = self.peers().node(&from) else {
            return self.verdict(message, from, Verdict::Ignore);
        };
        self.count_frames("gossip", frames.len());
        let frames: Vec<_> = frames.into_iter().map(<[u8]>::to_vec).collect();
        self.judging = Some((message, from));
        self.input(Input::Frames {
            source: Source::Peer(node),
            frames,
        });
        if self.judging.take().is_some() {
            // Nothing in it was new here: whoever lacks it asks for it.
            self.verdict(message, from, Verdict::Ignore);
        }
    }

    pub(super) fn verdict(&self, message: [u8; 32], from: Peer, verdict: Verdict) {
        if let Err(error) = self.parts.net.validate(message, from, verdict) {
            tracing::debug!(%error, "net.verdict_dropped");
        }
    }

    fn direct(&mut self, peer: Peer, bytes: &[u8]) {
        let Some(from) = self.peers().node(&peer) else {
            return;
        };
        let parts = match decode_envelope(bytes) {
            Ok(parts) => parts,
            Err(error) => {
                self.parts.metrics.faults.inc();
                return tracing::warn!(node = %from, %error, "peer.malformed_message");
            }
        };
        // Terms come with the request to accept them. A node of a former version may still ask a peer for some.
        let (_, parts): (Vec<_>, Vec<_>) = parts
            .into_iter()
            .partition(|p| matches!(p, Part::Terms { .. }));
        for part in &parts {
            if let Part::Clock {
                unix_ms: theirs, ..
            } = part
            {
                self.parts.clocks.peer(from, *theirs, unix_ms());
            }
        }
        let parts = self.recalled(from, parts);
        if !parts.is_empty() {
            self.input(Input::Message { from, parts });
        }
        self.commit_waiting();
        self.inputs([]);
    }
}

fn peer_text(peer: &Peer) -> String {
    diversity_net::peer_to_text(peer).unwrap_or_else(|_| "not a key".into())
}
