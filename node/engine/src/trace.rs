//! The trace of one sensor as the core knows it: ranges, times and digests, never bodies.

use crate::api::{FrameRef, Piece, Refusal};
use diversity_proto::Digest;
use diversity_proto::entity::SensorDeclaration;
use diversity_proto::frame::{Frame, values_comply};
use std::collections::BTreeMap;

/// A durable frame.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub count: u16,
    pub epoch: u32,
    pub at: FrameRef,
    pub digest: Digest,
    /// Times of its messages, Unix seconds.
    pub times: Box<[u64]>,
}

/// `Y_s`: what this node holds durably of one sensor.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    pub declaration: SensorDeclaration,
    pub void_from: Option<u64>,
    /// Boot epoch of the last contiguous frame.
    pub epoch: u32,
    /// First q that is missing.
    pub next_q: u64,
    /// Digest of the frame that ends there.
    last: Digest,
    frames: BTreeMap<u64, Stored>,
}

impl Trace {
    pub fn new(declaration: SensorDeclaration) -> Self {
        Self {
            declaration,
            void_from: None,
            epoch: 0,
            next_q: 0,
            last: Digest::ZERO,
            frames: BTreeMap::new(),
        }
    }

    /// Whether the frame may go to the signature check. What needs other frames is checked again when it is known to be genuine.
    pub fn admit(&self, f: &Frame, q_ahead_max: u64) -> Result<(), Refusal> {
        let d = &self.declaration;
        if f.width != d.width() {
            return Err(Refusal::WrongWidth {
                declared: d.width(),
            });
        }
        if !f.messages().all(|m| values_comply(&d.variables, m.values)) {
            return Err(Refusal::WrongValues);
        }
        let mut times = f.messages().map(|m| m.time);
        let first = times.next().unwrap_or(0);
        if !times.all(|t| d.period.same(first, t)) {
            return Err(Refusal::CrossesPeriod);
        }
        if let Some(from_q) = self.void_from
            && f.next_q() > from_q
        {
            return Err(Refusal::Void { from_q });
        }
        if f.first_q > self.next_q.saturating_add(q_ahead_max) {
            return Err(Refusal::TooFarAhead {
                next_q: self.next_q,
            });
        }
        if self.overlap(f.first_q, f.next_q()).is_none() {
            self.check_epoch(f)?;
        }
        Ok(())
    }

    // R7: the first message of a boot epoch names the last q and frame of the one before.
    fn check_epoch(&self, f: &Frame) -> Result<(), Refusal> {
        match &f.opening {
            None if f.epoch == self.epoch => Ok(()),
            Some(o) if f.epoch > self.epoch && f.first_q == self.next_q => {
                if o.last_q.checked_add(1) == Some(f.first_q) && o.last_frame == self.last {
                    Ok(())
                } else {
                    Err(Refusal::BadOpening)
                }
            }
            _ => Err(Refusal::WrongEpoch { epoch: self.epoch }),
        }
    }

    /// A stored frame that shares a q with `from..to`.
    pub fn overlap(&self, from: u64, to: u64) -> Option<(u64, &Stored)> {
        let (q, s) = self.frames.range(..to).next_back()?;
        (q + u64::from(s.count) > from).then_some((*q, s))
    }

    /// Takes a durable frame; returns whether the contiguous part grew.
    pub fn insert(&mut self, first_q: u64, stored: Stored) -> bool {
        self.frames.insert(first_q, stored);
        let before = self.next_q;
        while let Some(s) = self.frames.get(&self.next_q) {
            self.next_q += u64::from(s.count);
            self.epoch = s.epoch;
            self.last = s.digest;
        }
        self.next_q > before
    }

    /// Ranges that are missing below `to`.
    pub fn gaps(&self, to: u64) -> Vec<(u64, u64)> {
        let mut out = Vec::new();
        let mut at = self.next_q;
        for (q, s) in self.frames.range(self.next_q..to.max(self.next_q)) {
            if *q > at {
                out.push((at, *q));
            }
            at = q + u64::from(s.count);
        }
        if at < to {
            out.push((at, to));
        }
        out
    }

    /// Stored frames that hold messages of `from..to`.
    pub fn stored(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, &Stored)> {
        let first = self
            .frames
            .range(..=from)
            .next_back()
            .map_or(from, |(q, _)| *q);
        self.frames
            .range(first..to.max(first))
            .map(|(q, s)| (*q, s))
            .filter(move |(q, s)| from < to && q + u64::from(s.count) > from)
    }

    /// Times of the contiguous messages from `q` on.
    pub fn times_from(&self, q: u64) -> impl Iterator<Item = (u64, u64)> {
        let end = self.void_from.map_or(self.next_q, |v| v.min(self.next_q));
        self.stored(q, end)
            .flat_map(|(first, s)| (first..).zip(s.times.iter().copied()))
            .filter(move |(i, _)| (q..end).contains(i))
    }

    /// Where the messages `from..to` are.
    pub fn pieces(&self, from: u64, to: u64) -> Vec<Piece> {
        self.stored(from, to)
            .map(|(first, s)| {
                let lo = from.max(first);
                let hi = to.min(first + u64::from(s.count));
                Piece {
                    frame: s.at,
                    skip: (lo - first) as u32,
                    take: (hi - lo) as u32,
                }
            })
            .collect()
    }

    /// Forgets the times of messages below `q`: no window will ask for them again.
    pub fn forget_times(&mut self, q: u64) {
        for (first, s) in self.frames.range_mut(..q).rev() {
            if first + u64::from(s.count) > q {
                continue;
            }
            if s.times.is_empty() {
                break;
            }
            s.times = Box::default();
        }
    }
}
