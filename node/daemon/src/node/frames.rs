//! Stored frames, as the core refers to them: read from segments. Segments that are on their way to the store, and those that were
//! used last, are kept in memory.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use diversity_engine::api::FrameRef;
use diversity_engine::records::{segment_key, segment_of, split_segment};
use diversity_proto::SensorId;
use diversity_proto::frame::Frame;
use diversity_store::{Op, Store};

use crate::node::cut::{CutError, damaged};

/// Whose an encoded frame is, before anything else of it is read: version, flags, sensor (wire-format §3).
pub fn sensor_of(frame: &[u8]) -> Option<SensorId> {
    let sensor = frame.get(2..22)?;
    Some(SensorId(sensor.try_into().ok()?))
}

/// Stored frames.
pub struct Frames {
    store: Store,
    bytes_max: usize,
    cached: Mutex<Cached>,
    /// Segments that the store may not have yet. As many as its queue holds.
    leaving: Mutex<HashMap<u64, Arc<Segment>>>,
}

impl Frames {
    /// Over a store, keeping at most so many bytes.
    pub fn new(store: Store, bytes_max: usize) -> Self {
        Self {
            store,
            bytes_max,
            cached: Mutex::default(),
            leaving: Mutex::default(),
        }
    }

    /// These writes are about to go to the store: the segments among them can be read from now on. Returns their numbers, for
    /// [`Frames::stored`].
    pub fn leaving(&self, ops: &[Op]) -> Vec<u64> {
        let mut numbers = Vec::new();
        for op in ops {
            if let Op::Put(key, value) = op
                && let Some(number) = segment_of(key)
                && let Some(segment) = Segment::parse(value.clone())
            {
                lock(&self.leaving).insert(number, Arc::new(segment));
                numbers.push(number);
            }
        }
        numbers
    }

    /// The store has these segments.
    pub fn stored(&self, numbers: &[u64]) {
        for number in numbers {
            let gone = lock(&self.leaving).remove(number);
            if let Some(segment) = gone {
                lock(&self.cached).insert(*number, segment, self.bytes_max);
            }
        }
    }

    /// The encoding of a stored frame.
    ///
    /// # Errors
    /// [`CutError`] if it is not there.
    pub fn encoded(&self, at: FrameRef) -> Result<Vec<u8>, CutError> {
        let segment = self.segment(at)?;
        segment
            .frame(at.index)
            .map(<[u8]>::to_vec)
            .ok_or_else(|| damaged(at))
    }

    /// A stored frame.
    ///
    /// # Errors
    /// [`CutError`] if it is not there.
    pub fn decoded(&self, at: FrameRef) -> Result<Frame, CutError> {
        let segment = self.segment(at)?;
        let bytes = segment.frame(at.index).ok_or_else(|| damaged(at))?;
        Frame::decode(bytes).map_err(|_| damaged(at))
    }

    fn segment(&self, at: FrameRef) -> Result<Arc<Segment>, CutError> {
        let number = at.segment;
        // Segments go from one to the other, never back.
        if let Some(found) = lock(&self.leaving).get(&number) {
            return Ok(Arc::clone(found));
        }
        if let Some(found) = lock(&self.cached).touch(number) {
            return Ok(found);
        }
        let bytes = self
            .store
            .get(&segment_key(number))?
            .ok_or_else(|| damaged(at))?;
        let segment = Arc::new(Segment::parse(bytes).ok_or_else(|| damaged(at))?);
        lock(&self.cached).insert(number, Arc::clone(&segment), self.bytes_max);
        Ok(segment)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Segment {
    bytes: Vec<u8>,
    frames: Vec<Range<usize>>,
}

impl Segment {
    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let base = bytes.as_ptr() as usize;
        let frames = split_segment(&bytes)
            .ok()?
            .iter()
            .map(|f| {
                let start = f.as_ptr() as usize - base;
                start..start + f.len()
            })
            .collect();
        Some(Self { bytes, frames })
    }

    fn frame(&self, index: u32) -> Option<&[u8]> {
        self.frames
            .get(index as usize)
            .map(|range| &self.bytes[range.clone()])
    }
}

#[derive(Default)]
struct Cached {
    segments: HashMap<u64, (Arc<Segment>, u64)>,
    by_use: BTreeMap<u64, u64>,
    uses: u64,
    bytes: usize,
}

impl Cached {
    fn touch(&mut self, number: u64) -> Option<Arc<Segment>> {
        self.uses += 1;
        let (segment, used) = self.segments.get_mut(&number)?;
        self.by_use.remove(used);
        *used = self.uses;
        self.by_use.insert(self.uses, number);
        Some(Arc::clone(segment))
    }

    fn insert(&mut self, number: u64, segment: Arc<Segment>, bytes_max: usize) {
        if segment.bytes.len() > bytes_max || self.segments.contains_key(&number) {
            return;
        }
        self.uses += 1;
        self.bytes += segment.bytes.len();
        self.segments.insert(number, (segment, self.uses));
        self.by_use.insert(self.uses, number);
        while self.bytes > bytes_max {
            let Some((_, oldest)) = self.by_use.pop_first() else {
                break;
            };
            if let Some((gone, _)) = self.segments.remove(&oldest) {
                self.bytes -= gone.bytes.len();
            }
        }
    }
}

#[cfg(test)]
#[path = "frames_tests.rs"]
pub(crate) mod tests;
