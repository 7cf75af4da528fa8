//! Repair of missing ranges (R7): nodes tell one another what they hold, and ask for what stays missing.

use crate::agreement::Agreement;
use crate::api::{Effect, FrameRef, Millis};
use crate::ingest::Traces;
use crate::io::Io;
use diversity_proto::wire::{FRAMES_MAX, RANGES_MAX, Range};
use diversity_proto::{AgreementId, NodeId, SensorId};
use std::collections::BTreeMap;

/// What a peer said it holds.
#[derive(Default)]
struct Said {
    next_q: Vec<u64>,
    /// What it had said by the interval before: that should have come here by itself.
    before: Vec<u64>,
}

#[derive(Default)]
pub(crate) struct Repair {
    due: Option<Millis>,
    said: BTreeMap<(NodeId, AgreementId), Said>,
}

type Agreements = BTreeMap<AgreementId, Agreement>;

impl Repair {
    pub fn due(&self) -> Option<Millis> {
        self.due
    }

    pub fn status(&mut self, from: NodeId, a: AgreementId, next_q: Vec<u64>) {
        self.said.entry((from, a)).or_default().next_q = next_q;
    }

    pub fn peer_up(&mut self, peer: NodeId, agreements: &Agreements, traces: &Traces, io: &mut Io) {
        for a in agreements.values().filter(|a| a.index_of(&peer).is_some()) {
            io.send(peer, a.status(traces));
        }
    }

    /// Every interval: say what this node holds, and ask for what somebody else held an interval ago and is still missing here
    /// (what is on its way by ingest or gossip is not asked for).
    pub fn tick(&mut self, agreements: &Agreements, traces: &Traces, io: &mut Io) {
        if agreements.is_empty() {
            return;
        }
        if *self.due.get_or_insert(io.now) > io.now {
            return;
        }
        self.due = Some(io.now + io.config.status_interval_ms);
        let mut wanted: BTreeMap<NodeId, Vec<Range>> = BTreeMap::new();
        let mut asked: BTreeMap<SensorId, u64> = BTreeMap::new();
        for ((peer, id), said) in &mut self.said {
            let due = std::mem::replace(&mut said.before, said.next_q.clone());
            let Some(a) = agreements.get(id).filter(|_| io.peers.contains(peer)) else {
                continue;
            };
            for (sensor, theirs) in a.sensors.iter().zip(&due) {
                let trace = &traces[sensor];
                let low = asked
                    .get(sensor)
                    .copied()
                    .unwrap_or(trace.next_q)
                    .max(trace.next_q);
                let high = (*theirs).min(trace.next_q.saturating_add(io.config.q_ahead_max));
                let ranges = wanted.entry(*peer).or_default();
                if high <= low || ranges.len() >= RANGES_MAX {
                    continue;
                }
                let gaps = trace.gaps(high).into_iter().filter(|g| g.1 > low);
                ranges.extend(gaps.map(|(from_q, to_q)| Range {
                    sensor: *sensor,
                    from_q,
                    to_q,
                }));
                ranges.truncate(RANGES_MAX);
                asked.insert(*sensor, high);
            }
        }
        for (to, ranges) in wanted {
            if !ranges.is_empty() {
                io.effect(Effect::RequestFrames { to, ranges });
            }
        }
        for a in agreements.values() {
            let status = a.status(traces);
            for (i, node) in a.nodes.iter().enumerate() {
                if i != a.me && io.peers.contains(node) {
                    io.send(*node, status.clone());
                }
            }
        }
    }
}

/// Answers a repair request, bounded by what an answer may hold.
pub(crate) fn serve(token: u64, ranges: &[Range], traces: &Traces, io: &mut Io) {
    let mut frames: Vec<FrameRef> = Vec::new();
    for r in ranges.iter().take(RANGES_MAX) {
        let Some(trace) = traces.get(&r.sensor) else {
            continue;
        };
        let room = FRAMES_MAX - frames.len();
        frames.extend(trace.stored(r.from_q, r.to_q).map(|(_, s)| s.at).take(room));
    }
    io.effect(Effect::ServeFrames { token, frames });
}
