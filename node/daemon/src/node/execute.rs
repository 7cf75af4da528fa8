//! One execution: cut the window from stored frames, run `f`, and compute what the commitment covers (wire-format §4, §5).

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use diversity_engine::api::{Execution, ExecutionPlan, FrameRef, LeafPlan};
use diversity_engine::records::{CARRY_BYTES_MAX, DETAIL_BYTES_MAX, segment_key, split_segment};
use diversity_exec::Abstain;
use diversity_proto::Digest;
use diversity_proto::frame::Frame;
use diversity_proto::round::{Computed, OutputKind, RESULT_BYTES_MAX};
use diversity_proto::terms::{Field, Terms, abi_width};
use diversity_proto::window::{Leaf, Window, detail_root, state};
use diversity_store::{Store, StoreError};

use crate::node::modules::Modules;
use crate::runner::{RunFailure, RunOutput, Runner};

/// Why a window could not be cut. What was acknowledged is not there any more, so the node must not go on (N1).
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record is missing or damaged.
    #[error(
        "stored frame {index} of segment {segment} is missing or damaged: restore the data directory from a backup, or give the node a new one and let it repair from its peers"
    )]
    Damaged {
        /// Which segment.
        segment: u64,
        /// Which frame in it.
        index: u32,
    },
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

fn damaged(at: FrameRef) -> CutError {
    CutError::Damaged {
        segment: at.segment,
        index: at.index,
    }
}

/// Puts `w[t]` together from stored frames.
///
/// # Errors
/// [`CutError`].
pub fn cut(frames: &Frames, plan: &ExecutionPlan) -> Result<Window, CutError> {
    let leaves = plan
        .leaves
        .iter()
        .map(|leaf| cut_leaf(frames, leaf))
        .collect::<Result<_, _>>()?;
    Ok(Window {
        t: plan.t,
        from: plan.from,
        to: plan.to,
        leaves,
    })
}

fn cut_leaf(frames: &Frames, plan: &LeafPlan) -> Result<Leaf, CutError> {
    let mut next = plan.first_q;
    let mut parts = Vec::with_capacity(plan.pieces.len());
    for piece in &plan.pieces {
        let frame = frames.decoded(piece.frame)?;
        // The core plans from what it recovered; if the store says otherwise it is damaged.
        let fits = frame.sensor == plan.sensor
            && frame.width == plan.width
            && frame.first_q + u64::from(piece.skip) == next
            && u64::from(piece.skip) + u64::from(piece.take) <= u64::from(frame.count);
        if !fits {
            return Err(damaged(piece.frame));
        }
        next += u64::from(piece.take);
        parts.push((frame, piece));
    }
    let messages = parts.iter().flat_map(|(frame, piece)| {
        frame
            .messages()
            .skip(piece.skip as usize)
            .take(piece.take as usize)
    });
    Ok(Leaf::new(
        plan.sensor,
        plan.first_q,
        plan.end,
        plan.width,
        messages,
    ))
}

/// Runs `f` on a window and computes what the commitment covers. A module that others have displaced is loaded again.
/// `seconds` is told the time in `f`.
pub fn execute(
    runner: &dyn Runner,
    modules: &Modules,
    terms: &Terms,
    plan: &ExecutionPlan,
    window: &Window,
    seconds: impl FnOnce(f64),
) -> Execution {
    let input = window.input(&plan.carry);
    let started = std::time::Instant::now();
    let mut output = runner.run(&plan.module, &input);
    if output == Err(RunFailure::NotLoaded) {
        let loaded = modules
            .get(&plan.module)
            .map_err(|e| e.to_string())
            .and_then(|module| {
                runner.add(&module.ok_or("its file is gone: upload it again (PUT /v1/code)")?)
            });
        output = match loaded {
            Ok(()) => runner.run(&plan.module, &input),
            Err(reason) => Err(RunFailure::Host(reason)),
        };
    }
    seconds(started.elapsed().as_secs_f64());
    let output = output.unwrap_or_else(|error| {
        tracing::error!(agreement = %plan.agreement, t = plan.t, module = %plan.module, %error, "execute.no_execution");
        abstain(Abstain::Engine)
    });
    complete(terms, plan, window.hash(), output)
}

fn abstain(reason: Abstain) -> RunOutput {
    RunOutput {
        kind: OutputKind::Abstain,
        result: vec![reason.code()],
        detail: Vec::new(),
        carry: Vec::new(),
        trace: Digest::ZERO,
    }
}

fn complete(
    terms: &Terms,
    plan: &ExecutionPlan,
    window_hash: Digest,
    output: RunOutput,
) -> Execution {
    // An output that does not fit the terms is one that cannot be used.
    let output = if usable(terms, &output) {
        output
    } else {
        abstain(Abstain::Output)
    };
    let carry = match output.kind {
        OutputKind::Null | OutputKind::Value => output.carry,
        OutputKind::Trap | OutputKind::Abstain => plan.carry.clone(),
    };
    let sensors: Vec<_> = terms.sensors.iter().map(|s| s.sensor).collect();
    let computed = Computed {
        kind: output.kind,
        result: output.result,
        detail_root: detail_root(&sensors, &output.detail),
        state: state(&carry, &plan.q_next),
        trace: output.trace,
        window_hash,
    };
    Execution {
        computed,
        detail: output.detail,
        carry,
    }
}

/// Bytes of the packed values of these fields.
pub fn packed_width(fields: &[Field]) -> usize {
    fields
        .iter()
        .map(|f| abi_width(&f.ty).expect("checked with the terms"))
        .sum()
}

/// Whether an output has the lengths that the protocol and the terms allow.
fn usable(terms: &Terms, output: &RunOutput) -> bool {
    if output.result.len() > RESULT_BYTES_MAX
        || output.carry.len() > CARRY_BYTES_MAX
        || output.detail.iter().any(|d| d.len() > DETAIL_BYTES_MAX)
    {
        return false;
    }
    let result = match output.kind {
        OutputKind::Value => packed_width(&terms.result),
        OutputKind::Null | OutputKind::Trap => 0,
        OutputKind::Abstain => 1,
    };
    let answered = matches!(output.kind, OutputKind::Value | OutputKind::Null);
    let width = packed_width(&terms.detail);
    let detail = output.detail.is_empty()
        || (answered
            && output.detail.len() == terms.sensors.len()
            && output.detail.iter().all(|d| d.len() == width));
    output.result.len() == result && detail
}

#[cfg(test)]
#[path = "execute_tests.rs"]
mod tests;
