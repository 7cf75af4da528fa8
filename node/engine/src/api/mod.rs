//! What goes into the node core and what comes out of it (design §5).
//!
//! The core is sans-IO: verified, persisted, executed, signed, received and confirmed are [`Input`]s; verify, persist,
//! execute, sign, send and submit are [`Effect`]s. Whoever drives it (the daemon, the simulator, the liar of the tests)
//! carries out every effect of a step and feeds the answers back; it decides nothing. Times are Unix milliseconds, but for
//! sensors' own times and windows, which are Unix seconds.

mod chain;
mod effect;
mod input;
mod notice;
mod window;

pub use chain::{
    ChainEvent, Evidence, Resolution, Settlement, Submission, SubmissionId, Writer as CellWriter,
};
pub use diversity_round::SignatureCheck;
pub use effect::{Effect, IngestAnswer, Op, Refusal, Refused, WrongTime};
pub use input::{Input, Source};
pub use notice::{AgreementStatus, GasWait, Notice, Waiting};
pub use window::{Execution, ExecutionPlan, FrameRef, LeafPlan, Piece, Stretch};

use diversity_proto::{Deployment, NodeId};

/// Unix time in milliseconds.
pub type Millis = u64;
/// Ties an answer to the effect that asked for it.
pub type Job = u64;
/// A request at the HTTP API that waits for its answer.
pub type Ticket = u64;

/// How long a write that is not urgent may wait for another one's flush, in milliseconds: a flush costs as much for two writes as
/// for one.
pub const SHARE_FLUSH_MS: u64 = 10;
/// The largest [`Config::ahead_max`] that peers can be relied on to follow.
pub const AHEAD_MAX: usize = 64;
/// How far ahead of the first undecided t messages of others are kept: twice what a node may execute ahead, because whoever
/// has decided one t more sends for one t more, and what is dropped comes again only after a timeout.
pub(crate) const LOOKAHEAD: u64 = 2 * AHEAD_MAX as u64;
/// A submission that the outbox has not taken is handed to it again after this long, milliseconds (R13).
pub const OWED_AGAIN_MS: u64 = 30_000;

/// Sensors with a time that cannot be that a status names, at most.
pub const WRONG_TIMES_MAX: usize = 10;

/// Settings of the core; none of them changes what is signed.
#[derive(Clone, Debug)]
pub struct Config {
    /// Chain and contract.
    pub deployment: Deployment,
    /// This node.
    pub node: NodeId,
    /// Frames from the API are gossiped at once, or this long after the batch before the last one, with all that came meanwhile,
    /// milliseconds.
    pub gossip_flush_ms: u64,
    /// Bytes of frames after which a gossip batch leaves at once.
    pub gossip_bytes: usize,
    /// How often nodes tell one another what they hold, milliseconds.
    pub status_interval_ms: u64,
    /// A unit is submitted by the next node when it could have settled for this long and has not, milliseconds (staged by index).
    pub settle_stage_ms: u64,
    /// Executed but undecided t of one agreement, at most; no more than [`AHEAD_MAX`].
    pub ahead_max: usize,
    /// How far ahead of the first missing q frames of a sensor are stored, messages.
    pub q_ahead_max: u64,
    /// Gas that one agreement may cost this node in a day (UTC, by its clock); beyond it settlements wait, owed (P-BUDGET-1).
    pub gas_per_day: u64,
    /// Frames being verified or persisted, at most; beyond it the API is told to come back.
    pub inflight_max: usize,
    /// Frames of sensors that are in no agreement, at most, of all of them together (P-QUOTA-1).
    pub unagreed_frames_max: u64,
    /// Their bytes, at most.
    pub unagreed_bytes_max: u64,
}
