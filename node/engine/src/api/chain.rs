//! What the chain says, and what is said to it.

use crate::alloc_prelude::*;
use diversity_proto::frame::Contradiction;
use diversity_proto::round::{Batch, Commit, Outcome, OutputKind, Reveal};
use diversity_proto::{AgreementId, Digest, NodeId, SensorId, Signature};

/// Who wrote a cell (design §3b, Cell).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Writer {
    /// All nodes, by a second reading.
    Reading = 1,
    /// All users.
    Users = 2,
    /// The referee that the agreement names.
    Referee = 3,
    /// The arbiter that the agreement names.
    Arbiter = 4,
}

/// What counts at a t that the nodes did not agree on, and what t+1 starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// Null, value or trap.
    pub kind: OutputKind,
    /// Packed ABI result.
    pub result: Vec<u8>,
    /// `state'` that t+1 starts from.
    pub state: Digest,
    /// Opens `state`.
    pub carry: Vec<u8>,
    /// Opens `state`; one for each sensor of the agreement, in its order.
    pub q_next: Vec<u64>,
}

/// An event of `MainContract` or `Cells` as the core needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainEvent {
    /// A settlement covers everything up to t.
    Settled {
        /// `a`.
        agreement: AgreementId,
        /// First t that it speaks of.
        from: u64,
        /// Last t.
        t: u64,
        /// The epoch that it put in force.
        epoch: u32,
        /// Transaction.
        tx: Digest,
        /// Of the whole transaction.
        gas_used: u64,
        /// How many share it.
        outcomes: u32,
    },
    /// A hole certificate is the door of t: everything up to t is final.
    Hole {
        /// `a`.
        agreement: AgreementId,
        /// Which execution.
        t: u64,
        /// The epoch that it put in force.
        epoch: u32,
        /// Id of the dispute on chain.
        dispute: Digest,
        /// Transaction.
        tx: Digest,
    },
    /// The users resolved t in band: it is final, and the epoch in force is another one.
    Resolved {
        /// `a`.
        agreement: AgreementId,
        /// Which execution.
        t: u64,
        /// The epoch that it put in force.
        epoch: u32,
        /// What counts.
        resolution: Resolution,
        /// Transaction.
        tx: Digest,
    },
    /// The cell of t was written.
    Cell {
        /// `a`.
        agreement: AgreementId,
        /// Which execution.
        t: u64,
        /// By whom.
        writer: Writer,
        /// What counts; of a second reading state, carry and `q_next` are those that the nodes hold.
        resolution: Resolution,
        /// Of a second reading the context of its outcome, which covers its state; else zero.
        context: Digest,
        /// Transaction.
        tx: Digest,
    },
    /// The sensor contradicted itself: nothing from there on counts.
    SensorVoid {
        /// Whose.
        sensor: SensorId,
        /// Where, and both bodies.
        contradiction: Contradiction,
    },
    /// The agreement ends after this t.
    Closed {
        /// `a`.
        agreement: AgreementId,
        /// The last t that settles.
        last_t: u64,
    },
}

/// What settles, in the form in which it is submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)]
pub enum Settlement {
    /// One outcome under the aggregated signature (BIP-340).
    Single {
        /// Without holes.
        outcome: Outcome,
        /// Over its digest.
        signature: Signature,
    },
    /// A batch under the aggregated signature.
    Batch {
        /// Consecutive outcomes.
        batch: Batch,
        /// Over its digest.
        signature: Signature,
    },
    /// One outcome under n ECDSA signatures: the fallback certificate.
    Reveals {
        /// What all revealed.
        outcome: Outcome,
        /// Disputed t in `from..t`.
        holes: Vec<u64>,
        /// Of the reveals, node-index order.
        signatures: Vec<Signature>,
    },
}

impl Settlement {
    /// `from` and last t.
    pub fn range(&self) -> (u64, u64) {
        match self {
            Self::Single { outcome, .. } | Self::Reveals { outcome, .. } => {
                (outcome.from, outcome.t)
            }
            Self::Batch { batch, .. } => (batch.from, batch.last()),
        }
    }
    /// The epoch that it was decided under.
    pub fn epoch(&self) -> u32 {
        match self {
            Self::Single { outcome, .. } | Self::Reveals { outcome, .. } => outcome.epoch,
            Self::Batch { batch, .. } => batch.epoch,
        }
    }
}

/// Evidence that the contract checks alone (R5).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)]
pub enum Evidence {
    /// Two commits of one node for one (a, t, config).
    Equivocation {
        /// Who.
        node: NodeId,
        /// The one.
        first: Commit,
        /// The other.
        second: Commit,
    },
    /// A reveal that does not open its commit.
    FalseOpening {
        /// Who.
        node: NodeId,
        /// What it committed to.
        commit: Commit,
        /// What it revealed.
        reveal: Reveal,
        /// Under this seal.
        seal: Digest,
    },
}

/// What is submitted to the chain; the driver's durable outbox submits it until it is mined, or the contract's state says that it
/// cannot be any more.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)]
pub enum Submission {
    /// Outcomes become final.
    Settle {
        /// `a`.
        agreement: AgreementId,
        /// In this form.
        settlement: Settlement,
    },
    /// A hole certificate: the door of t (design §3b).
    Hole {
        /// `a`.
        agreement: AgreementId,
        /// Of the round.
        epoch: u32,
        /// Which execution.
        t: u64,
        /// All n, node-index order.
        commits: Vec<Commit>,
        /// All n, which open them.
        reveals: Vec<Reveal>,
    },
    /// The aggregated signature over a second reading fills the cell of t.
    Reading {
        /// Its epoch is marked and its `from` is t.
        outcome: Outcome,
        /// Over its digest.
        signature: Signature,
    },
    /// A node's proven misbehaviour.
    Misbehaviour {
        /// `a`.
        agreement: AgreementId,
        /// Of the round.
        epoch: u32,
        /// Which execution.
        t: u64,
        /// The proof.
        evidence: Evidence,
    },
    /// A sensor's contradiction.
    Contradiction {
        /// Whose.
        sensor: SensorId,
        /// Both bodies.
        contradiction: Contradiction,
    },
}

/// Names a submission: equal ids are one, whoever makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SubmissionId {
    /// Under this epoch, of this range, by reveals or not.
    Settle(AgreementId, u32, u64, u64, bool),
    /// The door of t under this epoch.
    Hole(AgreementId, u32, u64),
    /// The second reading with this marked epoch.
    Reading(AgreementId, u64, u32),
    /// What this node did at t: 1 equivocation, 2 a false opening.
    Misbehaviour(AgreementId, u32, u64, NodeId, u8),
    /// What this sensor did at this q.
    Contradiction(SensorId, u64),
}

impl SubmissionId {
    /// The agreement that pays for it; a contradiction of a sensor belongs to none.
    pub fn agreement(&self) -> Option<AgreementId> {
        match self {
            Self::Settle(a, ..)
            | Self::Hole(a, ..)
            | Self::Reading(a, ..)
            | Self::Misbehaviour(a, ..) => Some(*a),
            Self::Contradiction(..) => None,
        }
    }
    /// Whether it is a settlement or a door that says nothing new once everything of the agreement up to t is final.
    pub(crate) fn is_final_by(&self, agreement: &AgreementId, t: u64) -> bool {
        match self {
            Self::Settle(a, _, _, last, _) => a == agreement && *last <= t,
            Self::Hole(a, _, at) => a == agreement && *at <= t,
            _ => false,
        }
    }
}

impl Submission {
    /// Its name.
    pub fn id(&self) -> SubmissionId {
        match self {
            Self::Settle {
                agreement,
                settlement,
            } => {
                let (from, t) = settlement.range();
                let reveals = matches!(settlement, Settlement::Reveals { .. });
                SubmissionId::Settle(*agreement, settlement.epoch(), from, t, reveals)
            }
            Self::Hole {
                agreement,
                epoch,
                t,
                ..
            } => SubmissionId::Hole(*agreement, *epoch, *t),
            Self::Reading { outcome, .. } => {
                SubmissionId::Reading(outcome.agreement, outcome.t, outcome.epoch)
            }
            Self::Misbehaviour {
                agreement,
                epoch,
                t,
                evidence,
            } => match evidence {
                Evidence::Equivocation { node, .. } => {
                    SubmissionId::Misbehaviour(*agreement, *epoch, *t, *node, 1)
                }
                Evidence::FalseOpening { node, .. } => {
                    SubmissionId::Misbehaviour(*agreement, *epoch, *t, *node, 2)
                }
            },
            Self::Contradiction {
                sensor,
                contradiction,
            } => SubmissionId::Contradiction(*sensor, contradiction.q),
        }
    }
}
