//! What goes into the node core and what comes out of it (design §5).
//!
//! The core is sans-IO: verified, persisted, executed, signed, received and confirmed are [`Input`]s; verify, persist,
//! execute, sign, send and submit are [`Effect`]s. Whoever drives it (the daemon, the simulator, the liar of the tests)
//! carries out every effect of a step and feeds the answers back; it decides nothing. Times are Unix milliseconds.

use diversity_proto::entity::SensorDeclaration;
use diversity_proto::round::{
    Batch, Commit, Computed, Outcome, PublicNonce, Reveal, Session, Subject,
};
use diversity_proto::terms::Terms;
use diversity_proto::window::WindowEnd;
use diversity_proto::wire::{Part, Range};
use diversity_proto::{AgreementId, Deployment, Digest, NodeId, PublicKey, SensorId, Signature};
use std::sync::Arc;

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

/// Settings of the core; none of them changes what is signed.
#[derive(Clone, Debug)]
pub struct Config {
    /// Chain and contract.
    pub deployment: Deployment,
    /// This node.
    pub node: NodeId,
    /// Frames from the API are gossiped at once, or this long after the batch before, with all that came meanwhile, milliseconds.
    pub gossip_flush_ms: u64,
    /// Bytes of frames after which a gossip batch leaves at once.
    pub gossip_bytes: usize,
    /// How often nodes tell one another what they hold, milliseconds.
    pub status_interval_ms: u64,
    /// A certificate is submitted by the next node when it has not settled for this long, milliseconds (staged by index).
    pub settle_stage_ms: u64,
    /// Executed but undecided t of one agreement, at most; no more than [`AHEAD_MAX`].
    pub ahead_max: usize,
    /// How far ahead of the first missing q frames of a sensor are stored, messages.
    pub q_ahead_max: u64,
    /// Frames being verified or persisted, at most; beyond it the API is told to come back.
    pub inflight_max: usize,
}

/// Where frames came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The HTTP API; the ticket is answered when every frame is durable or refused.
    Api(Ticket),
    /// Gossip or repair.
    Peer(NodeId),
}

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

/// An event of `MainContract` as the core needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ChainEvent {
    /// Outcomes `from..=t` are settled.
    Settled {
        agreement: AgreementId,
        from: u64,
        t: u64,
        tx: Digest,
        gas_used: u64,
        outcomes: u32,
    },
    /// The chain holds a dispute for t: the round is a hole.
    Hole {
        agreement: AgreementId,
        t: u64,
        dispute: Digest,
        tx: Digest,
    },
    /// The sensor contradicted itself at q: nothing from there on counts.
    SensorVoid { sensor: SensorId, from_q: u64 },
    /// The agreement ends after this t.
    Closed { agreement: AgreementId, last_t: u64 },
}

/// What the core is told.
#[derive(Clone, Debug)]
#[allow(missing_docs, clippy::large_enum_variant)]
pub enum Input {
    /// Nothing but time passed.
    Tick,
    /// A sensor stands registered on chain; `id` is the address of its key. Repeats are fine.
    Sensor {
        id: SensorId,
        declaration: SensorDeclaration,
    },
    /// An agreement of this node stands on chain, and its module passed the checks and is loaded. `keys` are the nodes'
    /// protocol keys in node-index order. Repeats are fine.
    Agreement {
        id: AgreementId,
        terms: Terms,
        keys: Vec<PublicKey>,
    },
    /// Encoded frames, at most `wire::FRAMES_MAX`.
    Frames {
        source: Source,
        frames: Vec<Vec<u8>>,
    },
    /// Answer to `VerifyFrames`: the digest of each frame whose signature is good.
    FramesVerified {
        job: Job,
        digests: Vec<Option<Digest>>,
    },
    /// Answer to `VerifySignatures`.
    SignaturesVerified { job: Job, good: Vec<bool> },
    /// Answer to `Persist`: all of it is durable.
    Persisted { job: Job },
    /// Answer to `Execute`.
    Executed {
        agreement: AgreementId,
        t: u64,
        execution: Execution,
    },
    /// Answer to `Commit`.
    Committed {
        agreement: AgreementId,
        t: u64,
        secret: [u8; 32],
        salt: [u8; 32],
        commit: Commit,
    },
    /// Answer to `Sign`.
    Signed { job: Job, signature: Signature },
    /// Answer to `MusigNonce`.
    MusigNonce {
        session: Session,
        nonce: PublicNonce,
    },
    /// Answer to `MusigSign`; `None` when the secret nonce is gone (a restart): another attempt will come.
    MusigSigned {
        session: Session,
        partial: Option<[u8; 32]>,
    },
    /// Answer to `MusigAggregate`: the signature, or the indices of the nodes whose partials are bad.
    MusigAggregated {
        session: Session,
        result: Result<Signature, Vec<usize>>,
    },
    /// Answer to `VerifyAggregate`.
    AggregateVerified {
        session: Session,
        signature: Signature,
        good: bool,
    },
    /// An envelope of another node, decoded; `from` is proven by the transport.
    Message { from: NodeId, parts: Vec<Part> },
    /// A peer can be reached.
    PeerUp(NodeId),
    /// A peer cannot be reached any more.
    PeerDown(NodeId),
    /// A peer asks for missing frames.
    RepairRequest {
        token: u64,
        from: NodeId,
        ranges: Vec<Range>,
    },
    /// Seen on chain, with enough confirmations. Repeats are fine.
    Chain(ChainEvent),
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

/// A signature to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignatureCheck {
    /// Whose.
    pub key: PublicKey,
    /// Over what.
    pub digest: Digest,
    /// The signature.
    pub signature: Signature,
}

/// A write of one record. A `Persist` is atomic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Op {
    Put { key: Vec<u8>, value: Vec<u8> },
    Delete { key: Vec<u8> },
}

/// Why a frame was refused; `code()` is stable, the text says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Refusal {
    Malformed(diversity_proto::DecodeError),
    UnknownSensor,
    WrongWidth { declared: u8 },
    WrongValues,
    CrossesPeriod,
    BadSignature,
    Contradiction { q: u64 },
    OtherFrame { q: u64 },
    TooFarAhead { next_q: u64 },
    WrongEpoch { epoch: u32 },
    BadOpening,
    Void { from_q: u64 },
    Busy,
}

/// Position in the request, sensor and first q where they could be read, and why.
pub type Refused = (usize, Option<(SensorId, u64)>, Refusal);

/// What becomes of the frames of one ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestAnswer {
    /// For each sensor of the request that is known: epoch and first q that this node does not hold durably.
    pub held: Vec<(SensorId, u32, u64)>,
    /// What was not taken.
    pub refused: Vec<Refused>,
}

/// What settles, in the form in which it is submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, clippy::large_enum_variant)]
pub enum Settlement {
    /// One outcome under the aggregated signature (BIP-340).
    Single {
        outcome: Outcome,
        signature: Signature,
    },
    /// A batch under the aggregated signature.
    Batch { batch: Batch, signature: Signature },
    /// One outcome under n ECDSA signatures, node-index order: the fallback certificate.
    Reveals {
        outcome: Outcome,
        holes: Vec<u64>,
        signatures: Vec<Signature>,
    },
}

/// Evidence that the contract checks alone (R5).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, clippy::large_enum_variant)]
pub enum Evidence {
    /// Unequal reveals: a hole, without blame. Node-index order.
    UnequalReveals {
        commits: Vec<Commit>,
        reveals: Vec<Reveal>,
        seal: Digest,
    },
    /// Two commits of one node for one (a, t, config).
    Equivocation {
        node: NodeId,
        first: Commit,
        second: Commit,
    },
    /// A reveal that does not open its commit.
    FalseOpening {
        node: NodeId,
        commit: Commit,
        reveal: Reveal,
        seal: Digest,
    },
    /// Two sensor-signed frames with different messages at one q, as encoded.
    SensorContradiction {
        sensor: SensorId,
        q: u64,
        first: Vec<u8>,
        second: Vec<u8>,
    },
}

/// What is submitted to the chain; the driver's durable outbox submits it until it is mined or pointless. Equal ids are one submission.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, clippy::large_enum_variant)]
pub enum Submission {
    Settle {
        from: u64,
        t: u64,
        settlement: Settlement,
    },
    Dispute {
        epoch: u32,
        t: u64,
        evidence: Evidence,
    },
}

/// Something that people and metrics want to know; never needed for correctness.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Notice {
    WindowClosed {
        agreement: AgreementId,
        t: u64,
        messages: u64,
    },
    Executed {
        agreement: AgreementId,
        t: u64,
    },
    Certified {
        agreement: AgreementId,
        t: u64,
        kind: u8,
    },
    Hole {
        agreement: AgreementId,
        t: u64,
        reason: String,
    },
    Settled {
        agreement: AgreementId,
        from: u64,
        t: u64,
    },
    TakeOver {
        agreement: AgreementId,
        t: u64,
        view: u32,
        leader: NodeId,
    },
    Fault {
        node: NodeId,
        agreement: AgreementId,
        what: String,
    },
    /// This node will sign nothing more for the agreement, and why.
    Halted {
        agreement: AgreementId,
        why: String,
    },
}

/// What the core wants done.
#[derive(Clone, Debug)]
#[allow(missing_docs, clippy::large_enum_variant)]
pub enum Effect {
    /// Compute the digest of each frame and check its signature under the key.
    VerifyFrames {
        job: Job,
        frames: Vec<(PublicKey, Arc<[u8]>)>,
    },
    VerifySignatures {
        job: Job,
        checks: Vec<SignatureCheck>,
    },
    /// Make all of it durable in one atomic write, then report. Writes become durable in the order of these effects. One that
    /// is not urgent may wait for the flush of the next urgent one, for at most [`SHARE_FLUSH_MS`].
    Persist {
        job: Job,
        ops: Vec<Op>,
        urgent: bool,
    },
    /// Assemble the window from the store, run the module, compute what `Computed` needs.
    Execute(Box<ExecutionPlan>),
    /// Derive secret and salt from the node's seed and this whole domain (R2), and sign the commit: always the same bytes.
    Commit {
        agreement: AgreementId,
        subject: Subject,
        computed: Computed,
    },
    /// ECDSA with the protocol key (RFC 6979: always the same bytes).
    Sign {
        job: Job,
        digest: Digest,
    },
    /// Draw a fresh nonce for the session, keep the secret half in memory only.
    MusigNonce {
        session: Session,
    },
    /// Sign with the session's secret nonce, which is erased first. `nonces` in node-index order.
    MusigSign {
        session: Session,
        nonces: Vec<PublicNonce>,
        digest: Digest,
    },
    /// Check and add up the partials, node-index order.
    MusigAggregate {
        session: Session,
        nonces: Vec<PublicNonce>,
        partials: Vec<[u8; 32]>,
        digest: Digest,
    },
    /// BIP-340 under `a`.
    VerifyAggregate {
        session: Session,
        digest: Digest,
        signature: Signature,
    },
    /// Parts that travel together to one node. May be lost.
    Send {
        to: NodeId,
        parts: Vec<Part>,
    },
    /// Read the record and send the part that it holds (see [`crate::records::stored_part`]). Nothing happens if there is none.
    SendStored {
        to: NodeId,
        key: Vec<u8>,
    },
    /// Gossip these frames (encodings). May be lost.
    Gossip {
        frames: Vec<Arc<[u8]>>,
    },
    /// Ask a peer for missing frames; its answer comes as `Frames { source: Peer }`.
    RequestFrames {
        to: NodeId,
        ranges: Vec<Range>,
    },
    /// Answer a repair request with these stored frames.
    ServeFrames {
        token: u64,
        frames: Vec<FrameRef>,
    },
    /// Two signed frames differ at q: read the stored one, and if a message differs, keep both as evidence and submit it.
    CompareFrames {
        sensor: SensorId,
        stored: FrameRef,
        offered: Arc<[u8]>,
    },
    /// Answer the API request.
    Answer {
        ticket: Ticket,
        answer: IngestAnswer,
    },
    /// Hand to the durable outbox of the chain.
    Submit {
        agreement: AgreementId,
        submission: Submission,
    },
    /// The submission of this range is final or was overtaken: forget it.
    Retire {
        agreement: AgreementId,
        from: u64,
        t: u64,
    },
    Notice(Notice),
}
