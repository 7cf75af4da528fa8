//! What is executed, and where its messages are.

use crate::alloc_prelude::*;
use diversity_proto::round::Computed;
use diversity_proto::window::WindowEnd;
use diversity_proto::{AgreementId, Digest, SensorId};

/// What `f` did on one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// What the commitment covers; for abstain the reason is the result.
    pub computed: Computed,
    /// Detail per sensor, agreement order, or empty.
    pub detail: Vec<Vec<u8>>,
    /// `carry'`; the carry itself where `f` gave none (trap, abstain).
    pub carry: Vec<u8>,
}

/// Where a stored frame is: the `index`-th of the list in this segment record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRef {
    /// Number of the segment; its key is [`crate::records::segment_key`].
    pub segment: u64,
    /// Position in the segment.
    pub index: u32,
}

/// Messages `skip..skip+take` of one stored frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Which frame.
    pub frame: FrameRef,
    /// Messages left out at its start.
    pub skip: u32,
    /// Messages taken.
    pub take: u32,
}

/// Which messages of one sensor a window takes, and what ended it: all that is needed to cut it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// First q.
    pub start: u64,
    /// First q after it.
    pub end: u64,
    /// Where the next window starts.
    pub next: u64,
    /// What ended it.
    pub by: WindowEnd,
}

/// One sensor's part of a window, as pieces of stored frames in order of q.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafPlan {
    /// Whose.
    pub sensor: SensorId,
    /// First q.
    pub first_q: u64,
    /// What ended it.
    pub end: WindowEnd,
    /// Bytes of values in a message.
    pub width: u8,
    /// Where the messages are.
    pub pieces: Vec<Piece>,
}

/// Everything that an execution needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutionPlan {
    /// `a`.
    pub agreement: AgreementId,
    /// SHA-256 of the module.
    pub module: Digest,
    /// Resolution epoch that it is committed under, marked for a second reading.
    pub epoch: u32,
    /// Execution.
    pub t: u64,
    /// `[T0, T1)` in Unix seconds, 0 for count windows.
    pub from: u64,
    /// See `from`.
    pub to: u64,
    /// Carry of t-1.
    pub carry: Vec<u8>,
    /// Agreement order.
    pub leaves: Vec<LeafPlan>,
    /// `Q_next`, for `state'`.
    pub q_next: Vec<u64>,
}
