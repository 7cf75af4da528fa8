//! What the core is told.

use crate::alloc_prelude::*;
use crate::api::{ChainEvent, Execution, Job, SubmissionId, Ticket};
use diversity_proto::entity::SensorDeclaration;
use diversity_proto::frame::Contradiction;
use diversity_proto::round::{Blinding, Commit, PublicNonce, Session};
use diversity_proto::terms::Terms;
use diversity_proto::wire::{Part, Range};
use diversity_proto::{AgreementId, Digest, NodeId, PublicKey, SensorId, Signature};

/// Where frames came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The HTTP API; the ticket is answered when every frame is durable or refused.
    Api(Ticket),
    /// Gossip or repair.
    Peer(NodeId),
}

/// What the core is told. Answers come in any order, each at most once; an answer that nobody waits for any more is ignored.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Input {
    /// Nothing but time passed.
    Tick,
    /// A sensor stands registered on chain; `id` is the address of its key. Repeats are fine. Before any agreement over it.
    Sensor {
        /// The address of its key.
        id: SensorId,
        /// What it declared.
        declaration: SensorDeclaration,
    },
    /// An agreement of this node stands on chain, and its module passed the checks and is loaded. Repeats are fine.
    Agreement {
        /// `a`.
        id: AgreementId,
        /// Its terms.
        terms: Terms,
        /// The nodes' protocol keys in node-index order.
        keys: Vec<PublicKey>,
    },
    /// Encoded frames, at most `wire::FRAMES_MAX`.
    Frames {
        /// Where they came from.
        source: Source,
        /// As encoded.
        frames: Vec<Vec<u8>>,
    },
    /// Answer to `VerifyFrames`: the digest of each frame whose signature is good, in order.
    FramesVerified {
        /// Of the effect.
        job: Job,
        /// One for each frame.
        digests: Vec<Option<Digest>>,
    },
    /// Answer to `VerifySignatures`, in order.
    SignaturesVerified {
        /// Of the effect.
        job: Job,
        /// One for each check.
        good: Vec<bool>,
    },
    /// Answer to `Persist`: all of it is durable.
    Persisted {
        /// Of the effect.
        job: Job,
    },
    /// Answer to `LoadTimes`: times of the messages of stored frames, Unix seconds.
    TimesLoaded {
        /// Whose.
        sensor: SensorId,
        /// First q of each frame, and its messages' times.
        times: Vec<(u64, Vec<u64>)>,
    },
    /// Answer to `CompareFrames`.
    Compared {
        /// Whose.
        sensor: SensorId,
        /// Both bodies, if two messages at one q differ; of several the lowest q.
        contradiction: Option<Contradiction>,
    },
    /// Answer to `Execute`.
    Executed {
        /// `a`.
        agreement: AgreementId,
        /// Of the plan.
        epoch: u32,
        /// Of the plan.
        t: u64,
        /// What `f` did.
        execution: Execution,
    },
    /// Answer to `Commit`.
    Committed {
        /// `a`.
        agreement: AgreementId,
        /// Of the effect.
        epoch: u32,
        /// Of the effect.
        t: u64,
        /// Opens the commit.
        blinding: Blinding,
        /// As signed.
        commit: Commit,
    },
    /// Answer to `Sign`.
    Signed {
        /// Of the effect.
        job: Job,
        /// ECDSA.
        signature: Signature,
    },
    /// Answer to `MusigNonce`.
    MusigNonce {
        /// Of the effect.
        session: Session,
        /// The public half.
        nonce: PublicNonce,
    },
    /// Answer to `MusigSign`; `None` when the secret nonce is gone (a restart): another attempt will come.
    MusigSigned {
        /// Of the effect.
        session: Session,
        /// The partial signature.
        partial: Option<[u8; 32]>,
    },
    /// Answer to `MusigAggregate`.
    MusigAggregated {
        /// Of the effect.
        session: Session,
        /// The signature, or the indices of the nodes whose partials are bad.
        result: Result<Signature, Vec<usize>>,
    },
    /// Answer to `VerifyAggregate`.
    AggregateVerified {
        /// Of the effect.
        session: Session,
        /// Of the effect.
        signature: Signature,
        /// Whether it verifies.
        good: bool,
    },
    /// An envelope of another node, decoded.
    Message {
        /// Proven by the transport.
        from: NodeId,
        /// What it holds.
        parts: Vec<Part>,
    },
    /// A peer can be reached.
    PeerUp(NodeId),
    /// A peer cannot be reached any more.
    PeerDown(NodeId),
    /// A peer asks for missing frames.
    RepairRequest {
        /// For the answer.
        token: u64,
        /// Proven by the transport.
        from: NodeId,
        /// What it lacks.
        ranges: Vec<Range>,
    },
    /// The operator asks for another reading of a hole; it runs when all nodes' operators have asked (P-READ-2).
    Reread {
        /// `a`.
        agreement: AgreementId,
        /// The hole.
        t: u64,
    },
    /// Seen on chain, with enough confirmations. Repeats are fine, also of what lies far back; of one agreement in the order of
    /// the chain.
    Chain(ChainEvent),
    /// The outbox has made the submission durable and carries it from here (R13).
    Taken(SubmissionId),
    /// A submission of this node has ended, and its transactions took this much gas: nothing if none was mined. Each that was handed
    /// to the outbox once, also if it was not taken or is final without it: until then its estimate counts (P-BUDGET-1).
    Paid {
        /// Which.
        id: SubmissionId,
        /// By the receipt, whether it had an effect or not.
        gas: u64,
    },
    /// The same of a submission that an earlier run handed in, and this one has not.
    Spent {
        /// Which agreement it was for.
        agreement: AgreementId,
        /// By the receipt.
        gas: u64,
    },
}
