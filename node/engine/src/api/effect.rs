//! What the core wants done.

use crate::alloc_prelude::*;
use crate::api::{
    ExecutionPlan, FrameRef, Job, Notice, SignatureCheck, Submission, SubmissionId, Ticket,
};
use alloc::sync::Arc;
use diversity_proto::round::{Computed, PublicNonce, Session, Subject};
use diversity_proto::time::Implausible;
use diversity_proto::wire::{Part, Range};
use diversity_proto::{AgreementId, DecodeError, Digest, NodeId, PublicKey, SensorId, Signature};

/// A write of one record. A `Persist` is atomic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Write it.
    Put {
        /// See [`crate::records`].
        key: Vec<u8>,
        /// With its format version.
        value: Vec<u8>,
    },
    /// Forget it.
    Delete {
        /// See [`crate::records`].
        key: Vec<u8>,
    },
}

/// Why a frame was refused; `code()` of the API is stable, the text says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is no frame.
    Malformed(DecodeError),
    /// No such sensor is registered.
    UnknownSensor,
    /// The values of a message do not have the declared width.
    WrongWidth {
        /// Bytes.
        declared: u8,
    },
    /// Values that are none of their declared types.
    WrongValues,
    /// Its messages lie in more than one of the declared periods.
    CrossesPeriod,
    /// The signature is not the sensor's.
    BadSignature,
    /// Another message stands at this q.
    Contradiction {
        /// Where.
        q: u64,
    },
    /// Another frame holds this q.
    OtherFrame {
        /// Where.
        q: u64,
    },
    /// It is too far ahead of what is held.
    TooFarAhead {
        /// First q that is missing.
        next_q: u64,
    },
    /// The sensor is in another boot epoch.
    WrongEpoch {
        /// In this one.
        epoch: u32,
    },
    /// The boot epoch does not begin where the one before ended.
    BadOpening,
    /// The sensor contradicted itself: nothing counts from there on.
    Void {
        /// From this q.
        from_q: u64,
    },
    /// The sensor is in no agreement, and this node keeps no more messages of such sensors (P-QUOTA-1).
    Quota {
        /// [`crate::Config::unagreed_frames_max`].
        frames_max: u64,
        /// [`crate::Config::unagreed_bytes_max`].
        bytes_max: u64,
    },
    /// Come back later.
    Busy,
}

/// Position in the request, sensor and first q where they could be read, and why.
pub type Refused = (usize, Option<(SensorId, u64)>, Refusal);

/// A frame that was taken although a time in it cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongTime {
    /// Position in the request.
    pub index: usize,
    /// Whose.
    pub sensor: SensorId,
    /// First q of the frame.
    pub first_q: u64,
    /// The first such time in it, Unix seconds.
    pub time: u64,
    /// Why it cannot be.
    pub why: Implausible,
}

/// What becomes of the frames of one ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestAnswer {
    /// For each sensor of the request that is known: epoch and first q that this node does not hold durably.
    pub held: Vec<(SensorId, u32, u64)>,
    /// What was not taken.
    pub refused: Vec<Refused>,
    /// What was taken, or is held already, and has a time that cannot be.
    pub wrong_times: Vec<WrongTime>,
}

/// What the core wants done. Writes, sends and submissions of a step are carried out in their order, before the next input; what has an
/// answer may be carried out later.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Effect {
    /// Compute the digest of each frame and check its signature under the key.
    VerifyFrames {
        /// For the answer.
        job: Job,
        /// Key and encoding.
        frames: Vec<(PublicKey, Arc<[u8]>)>,
    },
    /// Check these.
    VerifySignatures {
        /// For the answer.
        job: Job,
        /// Whose, over what.
        checks: Vec<SignatureCheck>,
    },
    /// Make all of it durable in one atomic write, then report. Writes become durable in the order of these effects. One that
    /// is not urgent may wait for the flush of the next urgent one, for at most [`crate::api::SHARE_FLUSH_MS`]. Frames of a segment
    /// may be asked for by later effects as soon as it is given here.
    Persist {
        /// For the answer.
        job: Job,
        /// Atomic.
        ops: Vec<Op>,
        /// Whether something waits for it.
        urgent: bool,
    },
    /// Read the times of these stored frames again (a window needs what was forgotten).
    LoadTimes {
        /// Whose.
        sensor: SensorId,
        /// First q and place of each.
        frames: Vec<(u64, FrameRef)>,
    },
    /// Assemble the window from the store, run the module, compute what `Computed` needs.
    Execute(Box<ExecutionPlan>),
    /// Derive secret and salt from the node's seed and this whole domain (R2), and sign the commit: always the same bytes.
    Commit {
        /// `a`.
        agreement: AgreementId,
        /// Part of the config of the subject.
        epoch: u32,
        /// What the signature is over, beside `computed`.
        subject: Subject,
        /// What the commitment covers.
        computed: Computed,
    },
    /// ECDSA with the protocol key (RFC 6979: always the same bytes).
    Sign {
        /// For the answer.
        job: Job,
        /// Over what.
        digest: Digest,
    },
    /// Draw a fresh nonce for the session, keep the secret half in memory only. Secret halves of other attempts of its range are
    /// erased.
    MusigNonce {
        /// Which.
        session: Session,
    },
    /// Sign with the session's secret nonce, which is erased first.
    MusigSign {
        /// Which.
        session: Session,
        /// In node-index order.
        nonces: Vec<PublicNonce>,
        /// Over what.
        digest: Digest,
    },
    /// Check and add up the partials.
    MusigAggregate {
        /// Which.
        session: Session,
        /// In node-index order.
        nonces: Vec<PublicNonce>,
        /// In node-index order.
        partials: Vec<[u8; 32]>,
        /// Over what.
        digest: Digest,
    },
    /// BIP-340 under `a`.
    VerifyAggregate {
        /// Which.
        session: Session,
        /// Over what.
        digest: Digest,
        /// To check.
        signature: Signature,
    },
    /// Parts that travel together to one node. May be lost.
    Send {
        /// Whom.
        to: NodeId,
        /// What.
        parts: Vec<Part>,
    },
    /// Read the record and send the part that it holds (see [`crate::records::stored_part`]). Nothing happens if there is none.
    SendStored {
        /// Whom.
        to: NodeId,
        /// Of the record.
        key: Vec<u8>,
    },
    /// Gossip these frames (encodings) to the nodes of an agreement that all their sensors are in. May be lost.
    Gossip {
        /// `a`.
        agreement: AgreementId,
        /// As encoded.
        frames: Vec<Arc<[u8]>>,
    },
    /// Ask a peer for missing frames; its answer comes as `Frames { source: Peer }`.
    RequestFrames {
        /// Whom.
        to: NodeId,
        /// What is missing.
        ranges: Vec<Range>,
    },
    /// Answer a repair request with these stored frames.
    ServeFrames {
        /// Of the request.
        token: u64,
        /// Which.
        frames: Vec<FrameRef>,
    },
    /// Answer a repair request with a refusal: it asks for sensors that are in no agreement in common.
    RefuseFrames {
        /// Of the request.
        token: u64,
    },
    /// Two signed frames differ: read the stored one and say where their messages differ, if they do.
    CompareFrames {
        /// Whose.
        sensor: SensorId,
        /// What is held.
        stored: FrameRef,
        /// What came.
        offered: Arc<[u8]>,
    },
    /// Answer the API request.
    Answer {
        /// Of the request.
        ticket: Ticket,
        /// What became of it.
        answer: IngestAnswer,
    },
    /// Hand to the durable outbox of the chain, and say [`crate::Input::Taken`] once it is durable there. Equal ids are one
    /// submission. One that was not taken comes again.
    Submit {
        /// Of the submission.
        id: SubmissionId,
        /// What.
        submission: Submission,
    },
    /// Settlements of this agreement that reach no further than `t` are final or were overtaken: forget them.
    Retire {
        /// `a`.
        agreement: AgreementId,
        /// Last t that is final.
        t: u64,
    },
    /// For people and metrics.
    Notice(Notice),
}
