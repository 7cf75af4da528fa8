//! Ingest: decode, verify, deduplicate, make durable, and only then acknowledge (design §5).
//!
//! A frame that is verified and new is in its trace at once: it travels on, and windows are cut and executed with it, while it is
//! on its way to the disk. Writes become durable in their order, so whatever a node signs over it, and therefore writes behind
//! it, is durable only when the frame is (R2). What is acknowledged is what is durable (N1).

use crate::alloc_prelude::*;
use crate::api::{
    Effect, FrameRef, IngestAnswer, Millis, Notice, Refusal, Source, Ticket, WrongTime,
};
use crate::common::Common;
use crate::io::{After, Io};
use crate::records;
use crate::trace::{Size, Trace};
use alloc::sync::Arc;
use diversity_proto::frame::Frame;
use diversity_proto::time::Implausible;
use diversity_proto::wire::FRAMES_MAX;
use diversity_proto::{AgreementId, Digest, NodeId, PublicKey, SensorId};

/// A frame on its way to the store.
#[derive(Debug)]
pub(crate) struct Pending {
    pub frame: Frame,
    pub bytes: Arc<[u8]>,
}

/// A frame whose signature is good.
#[derive(Debug)]
pub(crate) struct Checked {
    pub frame: Frame,
    pub bytes: Arc<[u8]>,
    pub digest: Digest,
}

/// A frame of a segment that is on its way to the disk.
#[derive(Debug)]
pub(crate) struct Leaving {
    /// Sensor and first q.
    id: (SensorId, u64),
    /// First q that no frame before held.
    new: u64,
}

struct Flight {
    bytes: Arc<[u8]>,
    waiting: Vec<(Ticket, usize)>,
    from_api: bool,
}

#[derive(Default)]
struct Request {
    pending: usize,
    sensors: BTreeSet<SensorId>,
    answer: Vec<crate::api::Refused>,
    wrong_times: Vec<WrongTime>,
}

/// Bookkeeping of frames that are being verified or persisted, and of the requests that wait for them.
#[derive(Default)]
pub(crate) struct Ingest {
    flights: BTreeMap<(SensorId, u64), Flight>,
    requests: BTreeMap<Ticket, Request>,
    /// Frames that are to be passed on, and whose they are.
    gossip: Vec<(SensorId, Arc<[u8]>)>,
    gossip_bytes: usize,
    gossip_due: Option<u64>,
    /// When the last two batches left.
    gossiped: [u64; 2],
    /// Frames that are in their traces and on their way into the store: sensor and first q that no frame before held.
    persisting: BTreeSet<(SensorId, u64)>,
    next_segment: u64,
    /// Frames of peers that begin another boot epoch than this node knows: who sent them, and whose they are.
    forks: Vec<(NodeId, SensorId)>,
    /// What peers have shown of the messages right below an opening that names an unknown frame: who, of whom, and its q.
    shown: Vec<(NodeId, SensorId, u64)>,
    /// What is stored of sensors that are in no agreement.
    unagreed: Size,
}

/// Frames that travel together, and their bytes.
#[derive(Default)]
struct Batch(Vec<Arc<[u8]>>, usize);

/// Stored frames that a differing one is compared with, at most.
const COMPARED_MAX: usize = 64;
/// Frames of other boot epochs that are followed up at a time, at most.
const FORKS_MAX: usize = 64;
/// What peers show of what lies below openings that is noted at a time, at most: the rest is asked for again.
const SHOWN_MAX: usize = 1_024;

pub(crate) type Traces = BTreeMap<SensorId, Trace>;

/// Where a frame came from.
#[derive(Clone, Copy)]
struct Came {
    ticket: Option<Ticket>,
    peer: Option<NodeId>,
}

/// What frames that arrive together are judged by, and what comes of them.
struct Arrival<'a> {
    came: Came,
    traces: &'a Traces,
    common: Common<'a>,
    checks: &'a mut Vec<(PublicKey, Arc<[u8]>)>,
    pending: &'a mut Vec<Pending>,
    /// The first sensor that is in no agreement in common with the peer that sent it.
    foreign: &'a mut Option<SensorId>,
}

impl Ingest {
    /// A segment of an earlier run.
    pub fn restore_segment(&mut self, segment: u64) {
        self.next_segment = self.next_segment.max(segment + 1);
    }
    /// A frame of a sensor that is in no agreement, of an earlier run.
    pub fn restore_unagreed(&mut self, size: Size) {
        self.unagreed = self.unagreed.plus(size);
    }
    /// A sensor of which so much is stored is in an agreement from now on: that makes room for others.
    pub fn agreed(&mut self, size: Size) {
        self.unagreed = self.unagreed.minus(size);
    }
    /// Why so much more of a sensor that is in no agreement is not kept.
    fn quota(&self, more: Size, io: &Io) -> Option<Refusal> {
        let (frames_max, bytes_max) = (io.config.unagreed_frames_max, io.config.unagreed_bytes_max);
        let sum = self.unagreed.plus(more);
        (sum.frames > frames_max || sum.bytes > bytes_max).then_some(Refusal::Quota {
            frames_max,
            bytes_max,
        })
    }
    /// Whose frames of other boot epochs came from whom since this was asked.
    pub fn take_forks(&mut self) -> Vec<(NodeId, SensorId)> {
        core::mem::take(&mut self.forks)
    }

    /// Who has shown what lies right below which opening since this was asked.
    pub fn take_shown(&mut self) -> Vec<(NodeId, SensorId, u64)> {
        core::mem::take(&mut self.shown)
    }

    /// Takes a batch of encoded frames.
    pub fn frames(
        &mut self,
        source: Source,
        frames: Vec<Vec<u8>>,
        traces: &Traces,
        common: Common<'_>,
        io: &mut Io,
    ) {
        let peer = match source {
            Source::Api(_) => None,
            Source::Peer(node) => Some(node),
        };
        let ticket = match source {
            Source::Api(t) => {
                self.requests.insert(
                    t,
                    Request {
                        pending: 1,
                        ..Request::default()
                    },
                );
                Some(t)
            }
            Source::Peer(_) => None,
        };
        let mut checks = Vec::new();
        let mut pending = Vec::new();
        let mut foreign = None;
        for (i, bytes) in frames.into_iter().take(FRAMES_MAX).enumerate() {
            let mut at = Arrival {
                came: Came { ticket, peer },
                traces,
                common,
                checks: &mut checks,
                pending: &mut pending,
                foreign: &mut foreign,
            };
            self.frame(i, bytes, &mut at, io);
        }
        if let (Some(node), Some(sensor)) = (peer, foreign) {
            io.notice(Notice::Foreign {
                node,
                sensor,
                asked: false,
            });
        }
        if !pending.is_empty() {
            io.verify_frames(checks, After::Frames(pending));
        }
        if let Some(t) = ticket {
            self.settle_one(t, traces, io);
        }
    }

    fn frame(&mut self, i: usize, bytes: Vec<u8>, at: &mut Arrival<'_>, io: &Io) {
        let Arrival {
            came,
            traces,
            common,
            ..
        } = *at;
        let ticket = came.ticket;
        let frame = match Frame::decode(&bytes) {
            Ok(f) => f,
            Err(e) => return self.refuse(ticket, i, None, Refusal::Malformed(e)),
        };
        let id = (frame.sensor, frame.first_q);
        // P-COMMON-2: what a peer sends is taken only where this node shares the sensor with it.
        if let Some(peer) = came.peer
            && !common.with(&peer, &frame.sensor)
        {
            at.foreign.get_or_insert(frame.sensor);
            return;
        }
        let Some(trace) = traces.get(&frame.sensor) else {
            return self.refuse(ticket, i, Some(id), Refusal::UnknownSensor);
        };
        if let Some(r) = ticket.and_then(|t| self.requests.get_mut(&t)) {
            r.sensors.insert(frame.sensor);
            // P-TIME-1: kept all the same; whoever sent it is told.
            if let Some((time, why)) = wrong_time(&frame, io.now) {
                r.wrong_times.push(WrongTime {
                    index: i,
                    sensor: frame.sensor,
                    first_q: frame.first_q,
                    time,
                    why,
                });
            }
        }
        if let Some(peer) = came.peer {
            let below = trace.unproven().range(id.1 + 1..=frame.next_q());
            let room = SHOWN_MAX.saturating_sub(self.shown.len());
            let below = below.take(room).map(|q| (peer, frame.sensor, *q));
            self.shown.extend(below);
        }
        if let Some(flight) = self.flights.get_mut(&id)
            && *flight.bytes == *bytes
        {
            // The same again, on its way.
            if let Some(t) = ticket {
                flight.waiting.push((t, i));
                flight.from_api = true;
                self.requests.get_mut(&t).expect("request is open").pending += 1;
            }
            return;
        }
        if trace.overlap(frame.first_q, frame.next_q()).is_some()
            && trace.holds(&frame, frame.digest(&io.config.deployment))
        {
            return; // A repeat of what is durable.
        }
        if let Err(r) = trace.admit(&frame, io.config.q_ahead_max, ticket.is_some()) {
            if let Some(peer) = came.peer
                && matches!(r, Refusal::WrongEpoch { .. } | Refusal::BadOpening)
                && self.forks.len() < FORKS_MAX
            {
                self.forks.push((peer, frame.sensor));
            }
            return self.refuse(ticket, i, Some(id), r);
        }
        // Before anything is spent on it; judged again once it is known to be genuine.
        if !common.is_agreed(&frame.sensor)
            && let Some(full) = self.quota(Size::of(&bytes), io)
        {
            return self.refuse(ticket, i, Some(id), full);
        }
        if self.flights.contains_key(&id) || self.flights.len() >= io.config.inflight_max {
            return self.refuse(ticket, i, Some(id), Refusal::Busy);
        }
        let bytes: Arc<[u8]> = bytes.into();
        let waiting: Vec<_> = ticket.map(|t| (t, i)).into_iter().collect();
        if let Some(t) = ticket {
            self.requests.get_mut(&t).expect("request is open").pending += 1;
        }
        self.flights.insert(
            id,
            Flight {
                bytes: bytes.clone(),
                waiting,
                from_api: ticket.is_some(),
            },
        );
        at.checks
            .push((trace.declaration().public_key, bytes.clone()));
        at.pending.push(Pending { frame, bytes });
    }

    fn refuse(
        &mut self,
        ticket: Option<Ticket>,
        i: usize,
        id: Option<(SensorId, u64)>,
        why: Refusal,
    ) {
        if let Some(r) = ticket.and_then(|t| self.requests.get_mut(&t)) {
            r.answer.push((i, id, why));
        }
    }

    /// The signatures are checked: what is genuine and new enters its trace, is passed on, and becomes one segment. Returns the
    /// sensors whose trace grew.
    pub fn verified(
        &mut self,
        pending: Vec<Pending>,
        digests: Vec<Option<Digest>>,
        traces: &mut Traces,
        common: Common<'_>,
        io: &mut Io,
    ) -> BTreeSet<SensorId> {
        let mut good: Vec<Checked> = Vec::new();
        for (p, digest) in pending
            .into_iter()
            .zip(digests.into_iter().chain(core::iter::repeat(None)))
        {
            let Some(digest) = digest else {
                self.done(
                    (p.frame.sensor, p.frame.first_q),
                    Some(Refusal::BadSignature),
                    traces,
                    io,
                );
                continue;
            };
            let trace = traces
                .get_mut(&p.frame.sensor)
                .expect("sensors are never forgotten");
            let (from, to) = (p.frame.first_q, p.frame.next_q());
            if let Some((q, _)) = trace.overlap(from, to) {
                if trace.holds(&p.frame, digest) {
                    self.done((p.frame.sensor, p.frame.first_q), None, traces, io);
                    continue;
                }
                for (_, stored) in trace.stored(from, to).take(COMPARED_MAX) {
                    io.effect(Effect::CompareFrames {
                        sensor: p.frame.sensor,
                        stored: stored.at(),
                        offered: p.bytes.clone(),
                    });
                }
                trace.twin(&p.frame, digest);
                if trace.missing(from, to).is_empty() {
                    let why = if trace.is_one(from, to) {
                        Refusal::Contradiction { q }
                    } else {
                        Refusal::OtherFrame { q }
                    };
                    self.done((p.frame.sensor, p.frame.first_q), Some(why), traces, io);
                    continue;
                }
            }
            if collides(&good, &p.frame) {
                // Two overlapping frames in one batch: one of them first, the other when it comes again.
                self.done(
                    (p.frame.sensor, p.frame.first_q),
                    Some(Refusal::Busy),
                    traces,
                    io,
                );
            } else {
                let id = (p.frame.sensor, p.frame.first_q);
                if !common.is_agreed(&id.0) {
                    let size = Size::of(&p.bytes);
                    if let Some(full) = self.quota(size, io) {
                        self.done(id, Some(full), traces, io);
                        continue;
                    }
                    self.unagreed = self.unagreed.plus(size);
                }
                good.push(Checked {
                    frame: p.frame,
                    bytes: p.bytes,
                    digest,
                });
            }
        }
        if good.is_empty() {
            return BTreeSet::new();
        }
        self.take(good, traces, common, io)
    }

    fn take(
        &mut self,
        good: Vec<Checked>,
        traces: &mut Traces,
        common: Common<'_>,
        io: &mut Io,
    ) -> BTreeSet<SensorId> {
        let segment = self.next_segment;
        self.next_segment += 1;
        let op = records::put_segment(segment, good.iter().map(|c| &c.bytes[..]));
        let (mut grown, mut awaited) = (BTreeSet::new(), false);
        let mut frames = Vec::with_capacity(good.len());
        for (index, c) in (0u32..).zip(good) {
            let id = (c.frame.sensor, c.frame.first_q);
            let trace = traces.get_mut(&id.0).expect("sensors are never forgotten");
            // What another frame holds already may be durable.
            let missing = trace.missing(id.1, c.frame.next_q());
            let new = missing.first().map_or(c.frame.next_q(), |m| m.0);
            self.persisting.insert((id.0, new));
            if trace.take(&c.frame, FrameRef { segment, index }, c.digest) {
                grown.insert(id.0);
            }
            trace.grows(Size::of(&c.bytes));
            let wrong = wrong_time(&c.frame, io.now);
            if trace.wrong_time(wrong.is_some())
                && let Some((time, _)) = wrong
            {
                io.notice(Notice::WrongTime {
                    sensor: id.0,
                    q: id.1,
                    time,
                });
            }
            if self.flights.get(&id).is_some_and(|f| f.from_api) {
                awaited = true;
                // Nobody is told of what is in no agreement.
                if common.is_agreed(&id.0) {
                    self.gossip_bytes += c.bytes.len();
                    self.gossip.push((id.0, c.bytes));
                }
            }
            frames.push(Leaving { id, new });
        }
        let after = After::Segment(frames);
        if awaited {
            if !self.gossip.is_empty() {
                // A frame, and the one behind it, never wait; a stream of them shares batches.
                self.gossip_due
                    .get_or_insert(io.now.max(self.gossiped[0] + io.config.gossip_flush_ms));
            }
            io.persist(vec![op], after);
        } else {
            // Nobody waits for what peers have as well.
            io.persist_soon(vec![op], after);
        }
        self.gossip_if_due(common, io);
        grown
    }

    fn done(
        &mut self,
        id: (SensorId, u64),
        refusal: Option<Refusal>,
        traces: &Traces,
        io: &mut Io,
    ) {
        let Some(flight) = self.flights.remove(&id) else {
            return;
        };
        for (ticket, i) in flight.waiting {
            if let Some(why) = &refusal {
                self.refuse(Some(ticket), i, Some(id), why.clone());
            }
            self.settle_one(ticket, traces, io);
        }
    }

    /// A segment is durable: its frames are acknowledged.
    pub fn durable(&mut self, frames: &[Leaving], traces: &Traces, io: &mut Io) {
        for f in frames {
            self.persisting.remove(&(f.id.0, f.new));
        }
        for f in frames {
            self.done(f.id, None, traces, io);
        }
    }

    /// What is durable of a sensor: boot epoch, and the first q that is not.
    pub fn held(&self, sensor: &SensorId, trace: &Trace) -> (u32, u64) {
        let first = self
            .persisting
            .range((*sensor, 0)..=(*sensor, u64::MAX))
            .next();
        match first {
            Some((_, q)) if *q < trace.next_q() => (trace.epoch_before(*q), *q),
            _ => (trace.epoch(), trace.next_q()),
        }
    }

    /// P-COMMON-1: each frame goes to the nodes of every agreement that its sensor is in.
    pub fn gossip_if_due(&mut self, common: Common<'_>, io: &mut Io) {
        let due = self.gossip_due.is_some_and(|d| d <= io.now)
            || self.gossip_bytes >= io.config.gossip_bytes;
        if !due {
            return;
        }
        self.gossip_due = None;
        self.gossiped = [self.gossiped[1], io.now];
        self.gossip_bytes = 0;
        let mut open: BTreeMap<AgreementId, Batch> = BTreeMap::new();
        for (sensor, f) in core::mem::take(&mut self.gossip) {
            for agreement in common.agreements(&sensor) {
                let Batch(batch, bytes) = open.entry(agreement).or_default();
                if !batch.is_empty()
                    && (*bytes + f.len() > io.config.gossip_bytes || batch.len() >= FRAMES_MAX)
                {
                    let frames = core::mem::take(batch);
                    io.effect(Effect::Gossip { agreement, frames });
                    *bytes = 0;
                }
                *bytes += f.len() + 4;
                batch.push(f.clone());
            }
        }
        for (agreement, Batch(frames, _)) in open {
            io.effect(Effect::Gossip { agreement, frames });
        }
    }

    pub fn gossip_due(&self) -> Option<u64> {
        self.gossip_due
    }

    fn settle_one(&mut self, ticket: Ticket, traces: &Traces, io: &mut Io) {
        let Some(r) = self.requests.get_mut(&ticket) else {
            return;
        };
        r.pending -= 1;
        if r.pending > 0 {
            return;
        }
        let mut r = self.requests.remove(&ticket).expect("just seen");
        let refused: BTreeSet<usize> = r.answer.iter().map(|r| r.0).collect();
        r.wrong_times.retain(|w| !refused.contains(&w.index));
        let held = r
            .sensors
            .iter()
            .map(|s| {
                let (epoch, next_q) = self.held(s, &traces[s]);
                (*s, epoch, next_q)
            })
            .collect();
        io.effect(Effect::Answer {
            ticket,
            answer: IngestAnswer {
                held,
                refused: r.answer,
                wrong_times: r.wrong_times,
            },
        });
    }
}

/// The first time in a frame that cannot be, and why.
fn wrong_time(frame: &Frame, now: Millis) -> Option<(u64, Implausible)> {
    let look = |time| Implausible::look(time, now / 1_000).map(|why| (time, why));
    frame.messages().find_map(|m| look(m.time))
}

/// Whether a frame shares a q with one that was taken just before.
fn collides(good: &[Checked], f: &Frame) -> bool {
    good.iter().any(|c| {
        c.frame.sensor == f.sensor && c.frame.first_q < f.next_q() && f.first_q < c.frame.next_q()
    })
}
