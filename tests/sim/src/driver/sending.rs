//! What leaves a node for its peers.

use super::*;
use diversity_engine::records::split_t_key;
use diversity_proto::round::reading_of;
use diversity_proto::wire::{Part, encode_envelope, encode_frames};
use diversity_proto::{AgreementId, NodeId};

impl World {
    pub(super) fn send(&mut self, node: usize, to: NodeId, parts: Vec<Part>) {
        for part in &parts {
            let verdict = self.oracles.signing.leaves(node, part);
            self.oracles.judge(self.now, "N3", verdict);
            self.list_leaves(node, part);
        }
        if self.sabotage == Sabotage::MuteAfterHeal && !self.faulty() && node == 0 {
            return;
        }
        let bytes: Arc<[u8]> = encode_envelope(&parts).into();
        self.trace.data(&bytes);
        self.transmit(node, to, |from, to| Event::Deliver {
            from,
            to,
            bytes: bytes.clone(),
        });
    }

    /// A node sends what it keeps.
    pub(super) fn serves(&mut self, node: usize, to: &NodeId, key: &[u8]) {
        let peer = self.hosts.iter().position(|h| h.party.node() == *to);
        let Some((peer, (id, _))) = peer.zip(split_t_key(key)) else {
            return;
        };
        if self.honest(node) {
            let timeout = self.agreements[self.index_of(&id)].plan.round_timeout_ms;
            let every = u64::from(timeout.min(1_000)) / 2;
            let bounds = &mut self.oracles.bounds;
            let verdict = bounds.served(self.now, node, peer, key, every);
            self.oracles.judge(self.now, "bounds", verdict);
        }
    }

    pub(super) fn transmit(
        &mut self,
        node: usize,
        to: NodeId,
        event: impl Fn(usize, usize) -> Event,
    ) {
        let Some(to) = self.hosts.iter().position(|h| h.party.node() == to) else {
            return;
        };
        for at in self.net.arrivals(&self.s, self.now, node, to) {
            self.schedule(at, event(node, to));
        }
    }

    pub(super) fn gossip(&mut self, node: usize, agreement: &AgreementId, frames: &[Arc<[u8]>]) {
        if self.sabotage == Sabotage::NoRepair {
            return;
        }
        let bytes: Arc<[u8]> = encode_frames(frames.iter().map(|f| &f[..])).into();
        let members = self.agreements[self.index_of(agreement)].plan.nodes.clone();
        for to in (0..self.hosts.len()).filter(|to| *to != node && members.contains(to)) {
            for at in self.net.arrivals(&self.s, self.now, node, to) {
                self.schedule(
                    at,
                    Event::Frames {
                        from: node,
                        to,
                        bytes: bytes.clone(),
                    },
                );
            }
        }
    }

    /// A list of open sensors leaves an honest node: not before the grace is over, and it holds what it says.
    fn list_leaves(&mut self, node: usize, part: &Part) {
        let Part::Held {
            agreement,
            epoch,
            t,
            held,
        } = part
        else {
            return;
        };
        if !self.honest(node) {
            return;
        }
        let at = self.index_of(agreement);
        self.agreements[at].cuts.listed(node, *t, *epoch);
        let a = &self.agreements[at];
        // A second reading lists at once.
        let mut verdict = match reading_of(*epoch) {
            0 => a.may_list(self.local(node) / 1_000, *t, held),
            _ => Ok(()),
        };
        for o in &held.open {
            let sensor = a.plan.sensors[o.index as usize].0;
            let lacks = self.oracles.acknowledged.lacks(node, sensor);
            if o.lacks > lacks {
                verdict = Err(format!(
                    "node {node} lists sensor {sensor} up to q {} and its disk ends at q {lacks}",
                    o.lacks
                ));
            }
        }
        self.oracles.judge(self.now, "held", verdict);
    }
}
