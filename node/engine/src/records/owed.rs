//! What is owed to the outbox, and what was spent on it.

use super::{OWED, SPENT, get, put};
use crate::alloc_prelude::*;
use crate::api::{Evidence, Op, Submission, SubmissionId};
use diversity_proto::codec::{DecodeError, Result, Writer};
use diversity_proto::frame::Contradiction;
use diversity_proto::round::{Commit, Reveal};
use diversity_proto::{AgreementId, Digest, NodeId, SensorId};

/// Key of something owed.
fn owed_key(id: &SubmissionId) -> Vec<u8> {
    let mut w = Writer::with(&[OWED]);
    match id {
        SubmissionId::Misbehaviour(a, epoch, t, node, kind) => {
            w.u8(0).raw(&a.0).u32(*epoch).u64(*t).raw(&node.0).u8(*kind);
        }
        SubmissionId::Contradiction(sensor, q) => {
            w.u8(1).raw(&sensor.0).u64(*q);
        }
        // Known again from certificates: no record of its own.
        SubmissionId::Settle(..) | SubmissionId::Hole(..) | SubmissionId::Reading(..) => {}
    }
    w.finish()
}

/// Keeps evidence until the outbox has it.
pub(crate) fn put_owed(s: &Submission) -> Op {
    put(owed_key(&s.id()), |w| match s {
        Submission::Misbehaviour {
            agreement,
            epoch,
            t,
            evidence,
        } => {
            w.u8(0).raw(&agreement.0).u32(*epoch).u64(*t);
            match evidence {
                Evidence::Equivocation {
                    node,
                    first,
                    second,
                } => {
                    w.u8(0).raw(&node.0);
                    first.write(w);
                    second.write(w);
                }
                Evidence::FalseOpening {
                    node,
                    commit,
                    reveal,
                    seal,
                } => {
                    w.u8(1).raw(&node.0);
                    commit.write(w);
                    reveal.write(w);
                    w.raw(&seal.0);
                }
            }
        }
        Submission::Contradiction {
            sensor,
            contradiction,
        } => {
            w.u8(1).raw(&sensor.0);
            contradiction.write(w);
        }
        _ => {}
    })
}

/// Forgets it.
pub(crate) fn delete_owed(id: &SubmissionId) -> Op {
    Op::Delete { key: owed_key(id) }
}

/// Evidence that the outbox may not have.
pub(crate) fn decode_owed(value: &[u8]) -> Result<Submission> {
    get(value, |r| match r.u8("what is owed")? {
        0 => {
            let agreement = AgreementId::read(r)?;
            let (epoch, t) = (r.u32("epoch")?, r.u64("t")?);
            let evidence = match r.u8("evidence")? {
                0 => Evidence::Equivocation {
                    node: NodeId::read(r)?,
                    first: Commit::read(r)?,
                    second: Commit::read(r)?,
                },
                1 => Evidence::FalseOpening {
                    node: NodeId::read(r)?,
                    commit: Commit::read(r)?,
                    reveal: Reveal::read(r)?,
                    seal: Digest::read(r)?,
                },
                _ => return Err(DecodeError::Invalid("evidence")),
            };
            Ok(Submission::Misbehaviour {
                agreement,
                epoch,
                t,
                evidence,
            })
        }
        1 => Ok(Submission::Contradiction {
            sensor: SensorId::read(r)?,
            contradiction: Contradiction::read(r)?,
        }),
        _ => Err(DecodeError::Invalid("what is owed")),
    })
}

/// What an agreement has cost this node on one day, by receipts (P-BUDGET-1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpentRecord {
    /// Days since 1970 by the node's clock, UTC.
    pub day: u64,
    /// Gas.
    pub gas: u64,
}

impl SpentRecord {
    /// The write that keeps it.
    pub fn put(&self, a: &AgreementId) -> Op {
        put([&[SPENT][..], &a.0].concat(), |w| {
            w.u64(self.day).u64(self.gas);
        })
    }
    /// Reads it.
    ///
    /// # Errors
    /// A version that this one does not read, or damaged bytes.
    pub fn decode(value: &[u8]) -> Result<Self> {
        get(value, |r| {
            Ok(Self {
                day: r.u64("day")?,
                gas: r.u64("gas")?,
            })
        })
    }
}
