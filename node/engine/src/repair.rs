//! Repair of missing ranges (R7): nodes tell one another what they hold, and ask for what stays missing. Requests rotate among those
//! who say that they hold something, and a claim that no frames follow is believed less and less (P-REPAIR-2).

use crate::alloc_prelude::*;
use crate::api::{Effect, FrameRef, Millis, Notice};
use crate::common::{Agreements, Common};
use crate::ingest::Traces;
use crate::io::Io;
use diversity_proto::wire::{FRAMES_MAX, Part, RANGES_MAX, Range};
use diversity_proto::{AgreementId, NodeId, SensorId};
use diversity_round::sabotage::{Defect, on};

/// Doublings of the wait for a peer that does not deliver, at most.
const BACKOFF_MAX: u32 = 6;
/// Messages below the first missing q that are asked for again where boot epochs differ: they double each time, up to this.
const FORK_BACK_MAX: u64 = 65_536;

/// What a peer said it holds.
#[derive(Default)]
struct Said {
    next_q: Vec<u64>,
    /// What it had said by the interval before: that should have come here by itself.
    before: Vec<u64>,
}

/// How a peer answered for one sensor.
#[derive(Default)]
struct Asked {
    /// When last.
    at: Millis,
    /// How much was missing then; `None` once judged.
    missing: Option<u64>,
    fails: u32,
}

#[derive(Default)]
pub(crate) struct Repair {
    due: Option<Millis>,
    said: BTreeMap<(NodeId, AgreementId), Said>,
    asked: BTreeMap<(SensorId, NodeId), Asked>,
    /// How far back the trace of a sensor was asked for again.
    forks: BTreeMap<SensorId, u64>,
    /// What each peer was asked of the messages right below an opening that names a frame which was never seen here.
    doubts: BTreeMap<(SensorId, u64, NodeId), Doubt>,
}

/// How a peer was asked about what lies below an opening.
#[derive(Default)]
struct Doubt {
    /// Not again before then.
    due: Millis,
    times: u32,
    /// It has shown it.
    shown: bool,
}

type Wanted = BTreeMap<NodeId, Vec<Range>>;

impl Repair {
    pub fn due(&self) -> Option<Millis> {
        self.due
    }

    pub fn status(&mut self, from: NodeId, a: AgreementId, next_q: Vec<u64>) {
        self.said.entry((from, a)).or_default().next_q = next_q;
    }

    pub fn peer_up(&mut self, peer: NodeId, agreements: &Agreements, traces: &Traces, io: &mut Io) {
        for a in agreements.values().filter(|a| a.index_of(&peer).is_some()) {
            io.send(peer, a.status_part(traces));
        }
    }

    /// Every interval: say what this node holds, and ask for what somebody else held an interval ago and is still missing here
    /// (what is on its way by ingest or gossip is not asked for).
    pub fn tick(
        &mut self,
        agreements: &Agreements,
        traces: &Traces,
        forks: impl FnOnce() -> Vec<(NodeId, SensorId)>,
        io: &mut Io,
    ) {
        if agreements.is_empty() || *self.due.get_or_insert(io.now) > io.now {
            return;
        }
        self.due = Some(io.now + io.config.status_interval_ms);
        let mut wanted = Wanted::new();
        let claims = self.claims(agreements, traces, io);
        self.judge(traces, &claims);
        for (sensor, holders) in claims {
            self.ask(sensor, &holders, traces, &mut wanted, io);
        }
        self.ask_below(agreements, traces, &mut wanted, io);
        for (peer, sensor) in forks() {
            self.ask_back(peer, sensor, traces, &mut wanted);
        }
        for (to, ranges) in wanted.into_iter().filter(|w| !w.1.is_empty()) {
            io.effect(Effect::RequestFrames { to, ranges });
        }
        let mut told = BTreeSet::new();
        for (id, a) in agreements {
            let status = a.status_part(traces);
            for node in a.others() {
                if io.peers.contains(&node) {
                    io.send(node, status.clone());
                    // P-TIME-3: once to each peer.
                    if told.insert(node) {
                        let clock = Part::Clock {
                            agreement: *id,
                            unix_ms: io.now,
                        };
                        io.send(node, clock);
                    }
                }
            }
        }
    }

    /// For each sensor that lacks something: who said an interval ago that it holds more, and up to where.
    fn claims(
        &mut self,
        agreements: &Agreements,
        traces: &Traces,
        io: &Io,
    ) -> BTreeMap<SensorId, BTreeMap<NodeId, u64>> {
        let mut claims: BTreeMap<SensorId, BTreeMap<NodeId, u64>> = BTreeMap::new();
        for ((peer, id), said) in &mut self.said {
            let due = core::mem::replace(&mut said.before, said.next_q.clone());
            let Some(a) = agreements.get(id).filter(|_| io.peers.contains(peer)) else {
                continue;
            };
            for (sensor, theirs) in a.sensors().iter().zip(due) {
                if theirs > traces[sensor].next_q() {
                    let of = claims.entry(*sensor).or_default();
                    let high = of.entry(*peer).or_default();
                    *high = theirs.max(*high);
                }
            }
        }
        claims
    }

    /// Who was asked and brought nothing is asked later and later; whoever is done with is forgotten.
    fn judge(&mut self, traces: &Traces, claims: &BTreeMap<SensorId, BTreeMap<NodeId, u64>>) {
        self.asked.retain(|(sensor, peer), asked| {
            let Some(high) = claims.get(sensor).and_then(|c| c.get(peer)) else {
                return false;
            };
            if let Some(before) = asked.missing.take() {
                if missing(&traces[sensor], *high) < before {
                    asked.fails = 0;
                } else {
                    asked.fails += 1;
                }
            }
            true
        });
    }

    fn ask(
        &mut self,
        sensor: SensorId,
        holders: &BTreeMap<NodeId, u64>,
        traces: &Traces,
        wanted: &mut Wanted,
        io: &Io,
    ) {
        let record = |peer: &NodeId| {
            self.asked
                .get(&(sensor, *peer))
                .map_or((0, 0), |a| (a.fails, a.at))
        };
        let every = io.config.status_interval_ms;
        // Who failed least, of those who was not asked for longest.
        let best = holders
            .iter()
            .map(|(peer, high)| (record(peer), *peer, *high))
            .filter(|((fails, at), ..)| {
                *fails == 0 || io.now >= at + (every << fails.min(&BACKOFF_MAX))
            })
            .min();
        let believed = holders.iter().max_by_key(|(_, high)| **high);
        let best = if on(Defect::OnePeerIsBelieved) {
            believed.map(|(peer, high)| ((0, 0), *peer, *high))
        } else {
            best
        };
        let Some((_, peer, high)) = best else { return };
        let trace = &traces[&sensor];
        let high = high.min(trace.next_q().saturating_add(io.config.q_ahead_max));
        let ranges = wanted.entry(peer).or_default();
        let room = RANGES_MAX.saturating_sub(ranges.len());
        let gaps = trace.gaps(high).into_iter().take(room);
        ranges.extend(gaps.map(|(from_q, to_q)| Range {
            sensor,
            from_q,
            to_q,
        }));
        let asked = self.asked.entry((sensor, peer)).or_default();
        asked.at = io.now;
        asked.missing = Some(missing(trace, holders[&peer]));
    }

    /// A peer has shown what it holds right below an opening at `q`: it is compared with what this node holds, as all that differs is.
    pub fn shown(&mut self, peer: NodeId, sensor: SensorId, q: u64) {
        self.doubts.entry((sensor, q, peer)).or_default().shown = true;
    }

    /// P-FRAME-9: a boot epoch names a frame that was never seen here. Whoever holds what lies below shows it once, so that another
    /// message of the same q is found.
    fn ask_below(
        &mut self,
        agreements: &Agreements,
        traces: &Traces,
        wanted: &mut Wanted,
        io: &Io,
    ) {
        if on(Defect::ForksAreNotCompared) {
            return;
        }
        for (id, a) in agreements {
            for (k, sensor) in a.sensors().iter().enumerate() {
                let trace = &traces[sensor];
                if trace.contradiction().is_some() {
                    continue;
                }
                for (q, peer) in trace
                    .unproven()
                    .iter()
                    .flat_map(|q| a.others().map(move |p| (*q, p)))
                {
                    let said = self.said.get(&(peer, *id));
                    let holds = said.and_then(|said| said.before.get(k));
                    if !io.peers.contains(&peer) || holds.is_none_or(|next| *next < q) {
                        continue;
                    }
                    let ranges = wanted.entry(peer).or_default();
                    let doubt = self.doubts.entry((*sensor, q, peer)).or_default();
                    if doubt.shown || doubt.due > io.now || ranges.len() >= RANGES_MAX {
                        continue;
                    }
                    doubt.due =
                        io.now + (io.config.status_interval_ms << doubt.times.min(BACKOFF_MAX));
                    doubt.times += 1;
                    ranges.push(Range {
                        sensor: *sensor,
                        from_q: q - 1,
                        to_q: q,
                    });
                }
            }
        }
    }

    /// P-REPAIR-3: two boot epochs of one sensor do not follow one another: what lies before is compared, further and further back,
    /// until it agrees or is a contradiction.
    fn ask_back(&mut self, peer: NodeId, sensor: SensorId, traces: &Traces, wanted: &mut Wanted) {
        let Some(trace) = traces.get(&sensor).filter(|t| t.contradiction().is_none()) else {
            return;
        };
        if on(Defect::ForksAreNotCompared) {
            return;
        }
        let back = self.forks.entry(sensor).or_insert(1);
        let range = Range {
            sensor,
            from_q: trace.next_q().saturating_sub(*back),
            to_q: trace.next_q(),
        };
        *back = (*back * 16).min(FORK_BACK_MAX);
        let ranges = wanted.entry(peer).or_default();
        if range.from_q < range.to_q && ranges.len() < RANGES_MAX {
            ranges.push(range);
        }
    }
}

fn missing(trace: &crate::trace::Trace, high: u64) -> u64 {
    trace.gaps(high).iter().map(|(from, to)| to - from).sum()
}

/// Answers a repair request, bounded by what an answer may hold. Whoever asks for sensors that are in no agreement in common with it
/// gets nothing at all (P-COMMON-2); this node itself may look at everything.
pub(crate) fn serve(
    token: u64,
    from: &NodeId,
    ranges: &[Range],
    traces: &Traces,
    common: Common<'_>,
    io: &mut Io,
) {
    let foreign = |r: &&Range| *from != io.config.node && !common.with(from, &r.sensor);
    if let Some(range) = ranges.iter().find(foreign) {
        io.notice(Notice::Foreign {
            node: *from,
            sensor: range.sensor,
            asked: true,
        });
        return io.effect(Effect::RefuseFrames { token });
    }
    let mut frames: Vec<FrameRef> = Vec::new();
    for r in ranges.iter().take(RANGES_MAX) {
        let Some(trace) = traces.get(&r.sensor) else {
            continue;
        };
        let room = FRAMES_MAX - frames.len();
        frames.extend(
            trace
                .stored(r.from_q, r.to_q)
                .map(|(_, s)| s.at())
                .take(room),
        );
    }
    io.effect(Effect::ServeFrames { token, frames });
}
