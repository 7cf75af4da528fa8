//! Events of `MainContract` and `Cells` as values, and the one place where they are judged (R10).
//!
//! Whoever has an account writes there. So each event is decoded and checked on its own before anything believes it: what does
//! not decode, is larger than readers take, contradicts itself, or is not proven by the key that it names becomes
//! [`ChainEvent::Skipped`] with a [`Refusal`], and the events beside it are as good as before.

mod decode;
#[doc(hidden)]
pub mod hostile;
mod settled;
mod validate;

pub use decode::decode;
pub use validate::{Refusal, Skipped, WORDS_BYTES_MAX};

use crate::abi::{ICells, IMainContract as C};
use crate::rpc::Log;
use alloy::primitives::B256;
use alloy::sol_types::SolEvent;
use diversity_proto::entity::{NodeDeclaration, SensorDeclaration};
use diversity_proto::round::{Entry, OutputKind};
use diversity_proto::terms::{Terms, TermsHeader};
use diversity_proto::{Address, AgreementId, Digest, NodeId, SensorId, UserId};

/// Where an event stands on the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Block.
    pub block: u64,
    /// Its hash.
    pub block_hash: Digest,
    /// Position in the block.
    pub log_index: u64,
    /// Transaction.
    pub tx: Digest,
}

/// An event with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Where.
    pub at: Position,
    /// What.
    pub event: ChainEvent,
}

/// What a dispute is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DisputeKind {
    /// Two commits of one node: it is to blame.
    Equivocation,
    /// A reveal that does not open its commit: the node is to blame.
    FalseReveal,
    /// Two messages of one sensor at one q, or a message and a gap: the sensor is void from there on.
    SensorContradiction,
    /// A hole certificate has settled t: without blame.
    UnequalReveals,
}

impl DisputeKind {
    pub(crate) fn from_abi(kind: C::DisputeKind) -> Option<Self> {
        Some(match kind {
            C::DisputeKind::Equivocation => Self::Equivocation,
            C::DisputeKind::FalseReveal => Self::FalseReveal,
            C::DisputeKind::SensorContradiction => Self::SensorContradiction,
            C::DisputeKind::UnequalReveals => Self::UnequalReveals,
            _ => return None,
        })
    }
    /// Its number, which is part of the id of a dispute.
    pub fn code(self) -> u8 {
        match self {
            Self::Equivocation => 1,
            Self::FalseReveal => 2,
            Self::SensorContradiction => 3,
            Self::UnequalReveals => 4,
        }
    }
    /// One sentence for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Equivocation => "the node signed two different commits for one execution",
            Self::FalseReveal => "the node signed a reveal that does not open its own commit",
            Self::SensorContradiction => "the sensor signed two different things under one number",
            Self::UnequalReveals => {
                "the nodes revealed different results, or all of them abstained; nobody is to blame by that alone"
            }
        }
    }
}

/// The terms of a created agreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishedTerms {
    /// The event carries them, and they are those that were signed.
    Whole(Box<Terms>),
    /// The event does not carry them, or others, or some that this build does not know: only their header counts.
    HeaderOnly {
        /// Why, in words.
        reason: String,
    },
}

/// One t of a settlement: what it says.
pub type SettledEntry = (u64, Entry);

/// Which executions something speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// `a`.
    pub agreement: AgreementId,
    /// Resolution epoch.
    pub epoch: u32,
    /// First t of which it speaks.
    pub from: u64,
    /// Execution, or the last one.
    pub t: u64,
}

/// What counts at an execution, where others than the first reading of all nodes said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outputs {
    /// Null, value or trap.
    pub kind: OutputKind,
    /// Packed ABI result.
    pub result: Vec<u8>,
    /// `state'`; zero for a second reading, whose context covers it.
    pub state: Digest,
    /// Opens `state`.
    pub carry: Vec<u8>,
    /// Opens `state`.
    pub q_next: Vec<u64>,
}

/// An event of the contracts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)]
pub enum ChainEvent {
    /// A user.
    UserRegistered {
        /// Its account.
        user: UserId,
        /// Its name.
        name: String,
    },
    /// A sensor.
    SensorRegistered {
        /// Address of its key.
        sensor: SensorId,
        /// Whose it is.
        owner: UserId,
        /// What it is.
        declaration: SensorDeclaration,
    },
    /// A node, or a new revision of its declaration: the highest revision counts.
    NodeRegistered {
        /// Address of its protocol key.
        node: NodeId,
        /// Whose it is.
        owner: UserId,
        /// Keys and addresses.
        declaration: NodeDeclaration,
    },
    /// An agreement.
    AgreementCreated {
        /// `a`.
        agreement: AgreementId,
        /// `U_a`.
        users: Vec<UserId>,
        /// `I_a` and, for each, the index of the user that trusts it.
        nodes: Vec<(NodeId, u8)>,
        /// Digests of the terms.
        header: TermsHeader,
        /// The terms themselves.
        terms: PublishedTerms,
    },
    /// Outcomes have settled: one, or a batch.
    Settled {
        /// Of it, what lies at the next t or behind it counts.
        place: Place,
        /// Each t that it names; those of `from..=t` that are missing were null.
        entries: Vec<SettledEntry>,
        /// Disputed t that it names as holes.
        holes: Vec<u64>,
        /// Context of a single outcome, or root of the contexts of a batch.
        context: Digest,
        /// Whether it is a batch.
        batch: bool,
        /// Gas of the whole transaction.
        gas_used: u64,
        /// Outcomes that share the transaction: values, traps and nulls of its batches, without holes.
        outcomes: u32,
    },
    /// A hole certificate has settled t.
    HoleSettled {
        /// t, and the first t of which the reveals speak.
        place: Place,
        /// Whether all nodes abstained.
        abstained: bool,
        /// Over the n commits.
        seal: Digest,
        /// The state' of all reveals; zero if they differ in it, or one abstained.
        state: Digest,
        /// Disputed t in `from..t`.
        holes: Vec<u64>,
        /// Id of the dispute that shows the evidence.
        dispute: Digest,
        /// Gas of the whole transaction.
        gas_used: u64,
    },
    /// The users have settled t themselves.
    Resolved {
        /// Its epoch is the one that this puts in force.
        place: Place,
        /// What counts.
        outputs: Outputs,
        /// Gas of the whole transaction.
        gas_used: u64,
    },
    /// What counts at a t that is behind.
    CellWritten {
        /// For a second reading the epoch is marked; for the users it is 0.
        place: Place,
        /// 1 a second reading, 2 the users, 3 the referee, 4 the arbiter; nothing else.
        writer: u8,
        /// Of a second reading; zero otherwise.
        context: Digest,
        /// What counts.
        outputs: Outputs,
        /// Gas of the whole transaction.
        gas_used: u64,
    },
    /// An outcome was verified, and nothing stored.
    Attested {
        /// Last 20 bytes of the agreement's id, which name it like an address.
        agreement: [u8; 20],
        /// Resolution epoch.
        epoch: u32,
        /// First t of which it speaks.
        from: u64,
        /// Execution.
        t: u64,
        /// What it says.
        entry: Entry,
        /// Gas of the whole transaction.
        gas_used: u64,
    },
    /// Executions from `end` on never settle.
    AgreementClosed {
        /// `a`.
        agreement: AgreementId,
        /// First t that does not settle.
        end: u64,
    },
    /// Evidence was checked and recorded.
    DisputeRecorded {
        /// Its id.
        dispute: Digest,
        /// What it is about.
        kind: DisputeKind,
        /// None for a sensor.
        agreement: Option<AgreementId>,
        /// Whom it blames: a node or a sensor; none for unequal reveals.
        accused: Option<Address>,
        /// Resolution epoch, or boot epoch of a sensor.
        epoch: u32,
        /// Execution t, or a sensor's q.
        at: u64,
        /// Calldata of the call that brought it; [`crate::evidence::decode`] reads it.
        evidence: Vec<u8>,
    },
    /// An entry that nobody may believe. It is counted and shown, and changes nothing.
    Skipped(Skipped),
}

/// Whether a log tells of something that settles, so that the gas of its transaction is wanted.
pub fn wants_gas(log: &Log) -> bool {
    let first = log.topics.first();
    log.topics.is_empty()
        || [
            C::Settled::SIGNATURE_HASH,
            C::BatchSettled::SIGNATURE_HASH,
            C::HoleSettled::SIGNATURE_HASH,
            C::Resolved::SIGNATURE_HASH,
            ICells::CellWritten::SIGNATURE_HASH,
        ]
        .iter()
        .any(|hash| first == Some(&topic(*hash)))
}

/// The last 20 bytes of an agreement's id, which attestations show.
pub fn short_id(a: &AgreementId) -> [u8; 20] {
    *a.0.last_chunk().expect("32 bytes have 20")
}

fn topic(hash: B256) -> Digest {
    Digest(hash.0)
}

#[cfg(test)]
mod tests;
