//! What each node has its window of t from (P-READ-3): shown before a reading, so that what differs is fetched and compared.

use super::{Reading, Readings};
use crate::agreement::Cx;
use crate::agreement::pipeline::Own;
use crate::agreement::setting::Setting;
use crate::alloc_prelude::*;
use crate::api::Effect;
use crate::ingest::Traces;
use diversity_proto::domain::keccak_raw;
use diversity_proto::wire::{Part, RANGES_MAX, Range};
use diversity_proto::{Digest, SensorId};

impl Readings {
    /// P-READ-3: what another node has its window of t from; frames of sensors that differ are fetched and compared.
    pub fn leaves(&self, from: usize, t: u64, theirs: &[Digest], traces: &Traces, cx: &mut Cx<'_>) {
        let Some(basis) = self.holes.get(&t).and_then(|r| r.basis.as_ref()) else {
            return;
        };
        let own = leaves(basis, traces, cx.setting);
        if own.len() != theirs.len() {
            return;
        }
        let differs = own.iter().zip(theirs).enumerate();
        let ranges: Vec<Range> = differs
            .filter(|(_, (own, their))| own != their)
            .take(RANGES_MAX)
            .map(|(k, _)| {
                let (from_q, to_q) = basis.range(k);
                Range {
                    sensor: cx.setting.sensors[k],
                    from_q,
                    to_q: to_q.max(traces[&cx.setting.sensors[k]].next_q()),
                }
            })
            .filter(|r| r.from_q < r.to_q)
            .collect();
        if !ranges.is_empty() {
            let to = cx.setting.node(from);
            cx.io.effect(Effect::RequestFrames { to, ranges });
        }
    }
}

/// For each sensor a digest of the frames that its window is cut from.
fn leaves(basis: &Own, traces: &Traces, s: &Setting) -> Vec<Digest> {
    let leaf = |(k, sensor): (usize, &SensorId)| {
        let (from, to) = basis.range(k);
        let mut bytes = from.to_be_bytes().to_vec();
        bytes.extend(to.to_be_bytes());
        for (_, stored) in traces[sensor].stored(from, to) {
            bytes.extend(stored.digest().0);
        }
        Digest(keccak_raw(&bytes))
    };
    s.sensors.iter().enumerate().map(leaf).collect()
}

/// To all others.
pub(super) fn show(t: u64, r: &Reading, traces: &Traces, cx: &mut Cx<'_>) {
    let Some(basis) = &r.basis else { return };
    let part = Part::Leaves {
        agreement: cx.setting.id,
        epoch: r.marked(),
        t,
        hashes: leaves(basis, traces, cx.setting),
    };
    let others: Vec<_> = cx.setting.others().collect();
    for node in others {
        cx.io.send(node, part.clone());
    }
}
