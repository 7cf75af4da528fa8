//! Stored frames, as the core refers to them: read from segments, with those that were read last kept in memory.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use diversity_engine::api::FrameRef;
use diversity_engine::records::{segment_key, split_segment};
use diversity_proto::frame::Frame;
use diversity_store::Store;

use crate::node::cut::{CutError, damaged};

/// Stored frames, with the segments that were read last kept in memory.
pub struct Frames {
    store: Store,
    bytes_max: usize,
    cached: Mutex<Cached>,
}

impl Frames {
    /// Over a store, keeping at most so many bytes.
    pub fn new(store: Store, bytes_max: usize) -> Self {
        Self {
            store,
            bytes_max,
            cached: Mutex::default(),
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
        if let Some(found) = self.lock().touch(number) {
            return Ok(found);
        }
        let bytes = self
            .store
            .get(&segment_key(number))?
            .ok_or_else(|| damaged(at))?;
        let base = bytes.as_ptr() as usize;
        let frames = split_segment(&bytes)
            .map_err(|_| damaged(at))?
            .iter()
            .map(|f| {
                let start = f.as_ptr() as usize - base;
                start..start + f.len()
            })
            .collect();
        let segment = Arc::new(Segment { bytes, frames });
        self.lock()
            .insert(number, Arc::clone(&segment), self.bytes_max);
        Ok(segment)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cached> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Segment {
    bytes: Vec<u8>,
    frames: Vec<Range<usize>>,
}

impl Segment {
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
