//! Frames: verified, served, compared, read again.

use super::*;
use diversity_engine::api::{FrameRef, Job};
use diversity_engine::records::{segment_key, split_segment};
use diversity_proto::frame::{Contradiction, Frame};
use diversity_proto::wire::encode_frames;
use diversity_proto::{PublicKey, SensorId};

impl World {
    pub(super) fn verify_frames(
        &mut self,
        node: usize,
        job: Job,
        frames: &[(PublicKey, Arc<[u8]>)],
    ) {
        let digests = frames
            .iter()
            .map(|(key, bytes)| {
                let frame = Frame::decode(bytes).expect("the core decodes before it asks");
                let digest = frame.digest(&self.deployment);
                verify(self.s.mode, key, &digest, &frame.signature).then_some(digest)
            })
            .collect();
        self.tell(node, self.s.job_ms, Input::FramesVerified { job, digests });
    }

    fn stored(&self, node: usize, at: FrameRef) -> Option<Vec<u8>> {
        let segment = self.hosts[node].disk.written(&segment_key(at.segment))?;
        split_segment(segment)
            .ok()?
            .get(at.index as usize)
            .map(|f| f.to_vec())
    }

    /// A node refuses to serve frames. One of an agreement in common may be refused while the other does not know of it yet; it asks
    /// again.
    pub(super) fn refuses(&mut self, node: usize, token: u64) {
        let host = &mut self.hosts[node];
        host.strangers.remove(&token);
        host.tokens.remove(&token);
    }

    pub(super) fn serve(&mut self, node: usize, token: u64, frames: &[FrameRef]) {
        if self.hosts[node].strangers.remove(&token) && self.honest(node) {
            let text = format!("node {node} serves a stranger {} frames", frames.len());
            return self.oracles.judge(self.now, "R11", Err(text));
        }
        let Some(to) = self.hosts[node].tokens.remove(&token) else {
            return;
        };
        let mut out = Vec::new();
        for at in frames {
            match self.stored(node, *at) {
                Some(f) => out.push(f),
                None => {
                    let text = format!("node {node} serves a frame that its disk lacks: {at:?}");
                    return self.oracles.judge(self.now, "core", Err(text));
                }
            }
        }
        if out.is_empty() {
            return;
        }
        let bytes: Arc<[u8]> = encode_frames(out.iter().map(Vec::as_slice)).into();
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

    pub(super) fn compare(
        &mut self,
        node: usize,
        sensor: &SensorId,
        stored: FrameRef,
        offered: &[u8],
    ) {
        let Some(stored) = self.stored(node, stored) else {
            return;
        };
        let contradiction = Contradiction::of(&stored, offered);
        if contradiction.is_some() {
            let verdict = self.oracles.blame.sensor(sensor);
            self.oracles.judge(self.now, "N4", verdict);
        }
        let sensor = *sensor;
        self.tell(
            node,
            self.s.job_ms,
            Input::Compared {
                sensor,
                contradiction,
            },
        );
    }

    pub(super) fn load_times(&mut self, node: usize, sensor: SensorId, frames: &[(u64, FrameRef)]) {
        let mut times = Vec::new();
        for (first_q, at) in frames {
            let Some(bytes) = self.stored(node, *at) else {
                let text = format!("node {node} asks for times of a frame that its disk lacks");
                return self.oracles.judge(self.now, "core", Err(text));
            };
            let frame = Frame::decode(&bytes).expect("stored frames decode");
            times.push((*first_q, frame.messages().map(|m| m.time).collect()));
        }
        self.tell(node, self.s.job_ms, Input::TimesLoaded { sensor, times });
    }
}
