//! The trace of one sensor as the core knows it: ranges, times and digests, never bodies.

use crate::alloc_prelude::*;
use crate::api::{FrameRef, Piece, Refusal};
use diversity_proto::Digest;
use diversity_proto::entity::SensorDeclaration;
use diversity_proto::frame::{Contradiction, Frame, values_comply};
use diversity_round::sabotage::{Defect, on};

/// Frames whose times are read again in one go, at most.
const RELOAD_FRAMES_MAX: usize = 1_024;

/// Times of the messages of a stored frame, Unix seconds.
#[derive(Clone, Debug)]
enum Times {
    Known(Box<[u64]>),
    /// Every window that was known then had passed them. They are still in the store.
    Forgotten,
    /// A gap record has no messages.
    Lost,
}

/// Frames of the same messages whose ends are remembered, and boot epochs that they were signed under, at most.
const TWINS_MAX: usize = 64;
/// Openings that name an unknown frame and are followed up, at most.
const UNPROVEN_MAX: usize = 64;

/// A frame that is durable or on its way to the disk, or the part of it that no frame before it had.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// Messages of the frame before this part.
    skip: u32,
    span: u32,
    epoch: u32,
    at: FrameRef,
    digest: Digest,
    times: Times,
}

impl Stored {
    fn part(frame: &Frame, from: u64, to: u64, at: FrameRef, digest: Digest) -> Self {
        let skip = (from - frame.first_q) as usize;
        let span = (to - from) as usize;
        Self {
            skip: skip as u32,
            span: span as u32,
            epoch: frame.epoch,
            at,
            digest,
            times: if frame.is_gap() {
                Times::Lost
            } else {
                let times = frame.messages().map(|m| m.time);
                Times::Known(times.skip(skip).take(span).collect())
            },
        }
    }
    pub fn at(&self) -> FrameRef {
        self.at
    }
    pub fn digest(&self) -> Digest {
        self.digest
    }
    fn next(&self, first_q: u64) -> u64 {
        first_q + u64::from(self.span)
    }
}

/// Times that were forgotten: they must be read again before anything can be said of these messages.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Forgotten(pub Vec<(u64, FrameRef)>);

/// `Y_s`: what this node holds of one sensor.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    declaration: SensorDeclaration,
    /// By the chain's record nothing from here on counts, and nothing of it is taken.
    void_from: Option<u64>,
    /// The lowest contradiction that this node knows of.
    contradiction: Option<Contradiction>,
    /// Boot epoch of the last contiguous frame.
    epoch: u32,
    /// First q that is missing.
    next_q: u64,
    /// Digest of the frame that ends there.
    last: Digest,
    /// By first q; no two share one.
    frames: BTreeMap<u64, Stored>,
    /// Boot epochs under which the sensor signed again what is held (P-FRAME-8).
    twin_epochs: BTreeSet<u32>,
    /// Other frames of the same messages: first q after each, and its digest.
    twin_ends: BTreeSet<(u64, Digest)>,
    /// Where boot epochs begin that name a frame which was never seen here: first q of each (P-FRAME-9).
    unproven: BTreeSet<u64>,
    /// Its times cannot be, as far as was seen since the start.
    wrong_time: bool,
    stored: Size,
}

/// How much is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Frames, each as often as it was taken.
    pub frames: u64,
    /// Their bytes as encoded.
    pub bytes: u64,
}

impl Size {
    /// Of one frame of so many bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            frames: 1,
            bytes: bytes.len() as u64,
        }
    }
    pub fn plus(self, other: Self) -> Self {
        Self {
            frames: self.frames.saturating_add(other.frames),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
    pub fn minus(self, other: Self) -> Self {
        Self {
            frames: self.frames.saturating_sub(other.frames),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

impl Trace {
    pub fn new(declaration: SensorDeclaration) -> Self {
        Self {
            declaration,
            void_from: None,
            contradiction: None,
            epoch: 0,
            next_q: 0,
            last: Digest::ZERO,
            frames: BTreeMap::new(),
            twin_epochs: BTreeSet::new(),
            twin_ends: BTreeSet::new(),
            unproven: BTreeSet::new(),
            wrong_time: false,
            stored: Size::default(),
        }
    }
    /// A frame of it is stored.
    pub fn grows(&mut self, by: Size) {
        self.stored = self.stored.plus(by);
    }
    /// How much of it is stored.
    pub fn stored_size(&self) -> Size {
        self.stored
    }
    /// A frame came that has a time that cannot be, or has none; returns whether that is new.
    pub fn wrong_time(&mut self, wrong: bool) -> bool {
        let before = core::mem::replace(&mut self.wrong_time, wrong);
        wrong && !before
    }

    pub fn declaration(&self) -> &SensorDeclaration {
        &self.declaration
    }
    pub fn epoch(&self) -> u32 {
        self.epoch
    }
    pub fn next_q(&self) -> u64 {
        self.next_q
    }
    /// Boot epoch of the last frame below `q`.
    pub fn epoch_before(&self, q: u64) -> u32 {
        self.frames
            .range(..q)
            .next_back()
            .map_or(0, |(_, s)| s.epoch)
    }
    pub fn void_from(&self) -> Option<u64> {
        self.void_from
    }
    pub fn contradiction(&self) -> Option<&Contradiction> {
        self.contradiction.as_ref()
    }
    /// First q from which nothing is certain any more.
    pub fn doubtful_from(&self) -> u64 {
        let known = self.contradiction.as_ref().map(|c| c.q);
        known
            .into_iter()
            .chain(self.void_from)
            .min()
            .unwrap_or(u64::MAX)
    }

    /// A contradiction became known; returns whether it says more than what was known.
    pub fn contradicted(&mut self, c: Contradiction) -> bool {
        let new = self.contradiction.as_ref().is_none_or(|k| c.q < k.q);
        if new {
            self.contradiction = Some(c);
        }
        new
    }
    /// The chain records that nothing from `q` on counts; returns whether that is new.
    pub fn void(&mut self, q: u64) -> bool {
        let new = self.void_from.is_none_or(|v| q < v);
        if new {
            self.void_from = Some(q);
        }
        new
    }

    /// Whether the frame may go to the signature check. What needs other frames is checked again when it is known to be genuine.
    /// A void sensor is heard no more; but what another node acknowledged before it knew may be needed to cut a window.
    pub fn admit(&self, f: &Frame, q_ahead_max: u64, from_sensor: bool) -> Result<(), Refusal> {
        let d = &self.declaration;
        if !f.is_gap() {
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
        }
        if let Some(from_q) = self.void_from
            && from_sensor
            && f.next_q() > from_q
        {
            return Err(Refusal::Void { from_q });
        }
        if f.first_q > self.next_q.saturating_add(q_ahead_max) {
            return Err(Refusal::TooFarAhead {
                next_q: self.next_q,
            });
        }
        // Behind a contradiction boot epochs say nothing any more, and a window may end by a message that only others hold.
        let doubtful = !from_sensor && f.first_q >= self.doubtful_from();
        if !doubtful && self.overlap(f.first_q, f.next_q()).is_none() {
            self.check_epoch(f)?;
        }
        Ok(())
    }

    // R7: the first message of a boot epoch names the last q and frame of the one before. The same messages may have been signed in
    // frames that never came here, so a frame that is not known is no reason to refuse; others are asked what they hold (P-FRAME-9).
    fn check_epoch(&self, f: &Frame) -> Result<(), Refusal> {
        match &f.opening {
            None if f.epoch == self.epoch || self.twin_epochs.contains(&f.epoch) => Ok(()),
            Some(o) if f.epoch > self.epoch && f.first_q == self.next_q => {
                if o.last_q.checked_add(1) == Some(f.first_q) {
                    Ok(())
                } else {
                    Err(Refusal::BadOpening)
                }
            }
            _ => Err(Refusal::WrongEpoch { epoch: self.epoch }),
        }
    }

    /// Where boot epochs begin that name a frame which was never seen here.
    pub fn unproven(&self) -> &BTreeSet<u64> {
        &self.unproven
    }

    /// A stored frame that shares a q with `from..to`.
    pub fn overlap(&self, from: u64, to: u64) -> Option<(u64, &Stored)> {
        let (q, s) = self.frames.range(..to).next_back()?;
        (s.next(*q) > from).then_some((*q, s))
    }

    /// Whether this very frame is stored, or the part of it that was missing.
    pub fn holds(&self, f: &Frame, digest: Digest) -> bool {
        self.stored(f.first_q, f.next_q())
            .any(|(_, s)| s.digest == digest)
    }
    /// Whether one stored frame holds just these messages.
    pub fn is_one(&self, from: u64, to: u64) -> bool {
        self.frames.get(&from).is_some_and(|s| s.next(from) == to)
    }

    /// Parts of `from..to` that no stored frame holds.
    pub fn missing(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let (mut out, mut at) = (Vec::new(), from);
        for (q, s) in self.stored(from, to) {
            if q > at {
                out.push((at, q));
            }
            at = s.next(q);
        }
        if at < to {
            out.push((at, to));
        }
        out
    }

    /// The sensor has signed again what is held: in other frames, or under another boot epoch. That is a contradiction if they say
    /// different things, which is looked for; if not, it must not keep this node from what it lacks (P-FRAME-8).
    pub fn twin(&mut self, f: &Frame, digest: Digest) {
        let (from, to) = (f.first_q, f.next_q());
        let others = self.stored(from, to).map(|(_, s)| s.epoch);
        let mut epochs: BTreeSet<u32> = others.collect();
        epochs.insert(f.epoch);
        if epochs.len() > 1 {
            self.twin_epochs.extend(epochs);
        }
        self.twin_ends.insert((to, digest));
        while self.twin_epochs.len() > TWINS_MAX {
            self.twin_epochs.pop_first();
        }
        while self.twin_ends.len() > TWINS_MAX {
            self.twin_ends.pop_first();
        }
    }

    /// Takes what a verified frame holds and no other does; returns whether the contiguous part grew.
    pub fn take(&mut self, f: &Frame, at: FrameRef, digest: Digest) -> bool {
        if let Some(o) = f.opening.filter(|_| f.first_q == self.next_q)
            && o.last_frame != self.last
            && !self.twin_ends.contains(&(self.next_q, o.last_frame))
            && self.unproven.len() < UNPROVEN_MAX
        {
            self.unproven.insert(f.first_q);
        }
        for (from, to) in self.missing(f.first_q, f.next_q()) {
            let part = Stored::part(f, from, to, at, digest);
            self.frames.insert(from, part);
        }
        let before = self.next_q;
        while let Some(s) = self.frames.get(&self.next_q) {
            self.next_q = s.next(self.next_q);
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
            at = s.next(*q);
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
            .filter(move |(q, s)| from < to && s.next(*q) > from)
    }

    /// Gives `(q, time)` of the contiguous messages `from..to` to `each` until it says no.
    ///
    /// # Errors
    /// Times that were forgotten stand in the way. They are never taken for "no message".
    pub fn scan(
        &self,
        from: u64,
        to: u64,
        mut each: impl FnMut(u64, u64) -> bool,
    ) -> Result<(), Forgotten> {
        let to = to.min(self.next_q);
        for (first, s) in self.stored(from, to) {
            match &s.times {
                Times::Lost => {}
                Times::Forgotten if on(Defect::ForgottenIsNoMessage) => {}
                Times::Forgotten => {
                    let forgotten = |(_, s): &(u64, &Stored)| matches!(s.times, Times::Forgotten);
                    return Err(Forgotten(
                        self.stored(first, to)
                            .filter(forgotten)
                            .take(RELOAD_FRAMES_MAX)
                            .map(|(q, s)| (q, s.at))
                            .collect(),
                    ));
                }
                Times::Known(times) => {
                    for (q, time) in (first..).zip(times.iter()) {
                        if (from..to).contains(&q) && !each(q, *time) {
                            return Ok(());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// q and time of the newest message without a gap before it, Unix seconds; `None` where there is none, or its time was forgotten.
    pub fn newest(&self) -> Option<(u64, u64)> {
        let mut frames = self.frames.range(..self.next_q).rev();
        frames.find_map(|(first, s)| match &s.times {
            Times::Lost => None,
            Times::Forgotten => Some(None),
            Times::Known(times) => {
                let last = times.last().map(|t| (s.next(*first) - 1, *t));
                Some(last)
            }
        })?
    }

    /// Where the messages `from..to` are.
    pub fn pieces(&self, from: u64, to: u64) -> Vec<Piece> {
        self.stored(from, to)
            .filter(|(_, s)| !matches!(s.times, Times::Lost))
            .map(|(first, s)| {
                let lo = from.max(first);
                let hi = to.min(s.next(first));
                Piece {
                    frame: s.at,
                    skip: s.skip + (lo - first) as u32,
                    take: (hi - lo) as u32,
                }
            })
            .collect()
    }

    /// Forgets the times of messages below `q`: no window of an agreement that is known will ask for them.
    pub fn forget_times(&mut self, q: u64) {
        for (first, s) in self.frames.range_mut(..q).rev() {
            if s.next(*first) > q {
                continue;
            }
            match s.times {
                Times::Known(_) => s.times = Times::Forgotten,
                Times::Forgotten => break,
                Times::Lost => {}
            }
        }
    }

    /// Times that were read again, each with where its part begins here and the times of its whole frame.
    pub fn remember_times(&mut self, times: Vec<(u64, Vec<u64>)>) {
        for (first, times) in times {
            if let Some(s) = self.frames.get_mut(&first)
                && let Some(times) = times.get(s.skip as usize..(s.skip + s.span) as usize)
                && matches!(s.times, Times::Forgotten)
            {
                s.times = Times::Known(times.into());
            }
        }
    }
}
