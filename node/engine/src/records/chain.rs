//! What the chain says of a t.

use super::{
    CARRY_BYTES_MAX, CELL, FINAL, VERSION, get, get_in, option, put, put_in, read_option, t_key,
};
use crate::api::{CellWriter, Op, Resolution};
use diversity_proto::codec::{DecodeError, Result};
use diversity_proto::round::{OutputKind, RESULT_BYTES_MAX};
use diversity_proto::terms::SENSORS_MAX;
use diversity_proto::{AgreementId, Digest};

/// Version of cells: version 2 had no context.
const CELL_VERSION: u8 = 3;

/// What the chain says of a t that the nodes did not agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellRecord {
    /// The epoch that it put in force, where the users settled t themselves.
    pub in_band: Option<u32>,
    /// By whom.
    pub writer: CellWriter,
    /// What counts.
    pub resolution: Resolution,
    /// Context of the outcome, which opens the state; zero if nodes did not write it.
    pub context: Digest,
    /// Transaction.
    pub tx: Digest,
}

impl CellRecord {
    /// The write that keeps it.
    pub fn put(&self, a: &AgreementId, t: u64) -> Op {
        put_in(t_key(CELL, a, t), CELL_VERSION, |w| {
            option(w, self.in_band.as_ref(), |w, e| {
                w.u32(*e);
            });
            w.u8(self.writer as u8);
            let r = &self.resolution;
            w.u8(r.kind as u8)
                .bytes(&r.result)
                .raw(&r.state.0)
                .bytes(&r.carry)
                .list(&r.q_next, |w, q| {
                    w.u64(*q);
                })
                .raw(&self.tx.0)
                .raw(&self.context.0);
        })
    }
    /// Reads it.
    ///
    /// # Errors
    /// A version that this one does not read, or damaged bytes.
    pub fn decode(value: &[u8]) -> Result<Self> {
        get_in(value, CELL_VERSION, |version, r| {
            Ok(Self {
                in_band: read_option(r, "in band", |r| r.u32("epoch"))?,
                writer: match r.u8("writer of a cell")? {
                    1 => CellWriter::Reading,
                    2 => CellWriter::Users,
                    3 => CellWriter::Referee,
                    4 => CellWriter::Arbiter,
                    _ => return Err(DecodeError::Invalid("writer of a cell")),
                },
                resolution: Resolution {
                    kind: OutputKind::read(r)?,
                    result: r.bytes(RESULT_BYTES_MAX, "result")?.to_vec(),
                    state: Digest::read(r)?,
                    carry: r.bytes(CARRY_BYTES_MAX, "carry")?.to_vec(),
                    q_next: r.list(SENSORS_MAX, "q_next", |r| r.u64("q"))?,
                },
                tx: Digest::read(r)?,
                context: match version {
                    VERSION => Digest::ZERO,
                    _ => Digest::read(r)?,
                },
            })
        })
    }
}

/// How (a, t) became final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinalRecord {
    /// Covered by a settlement of `from..=last`.
    Settled {
        /// First t that it speaks of.
        from: u64,
        /// Last t.
        last: u64,
        /// Transaction.
        tx: Digest,
        /// Of the whole transaction.
        gas_used: u64,
        /// How many share it.
        outcomes: u32,
    },
    /// By a hole certificate.
    Hole {
        /// Id of the dispute.
        dispute: Digest,
        /// Transaction.
        tx: Digest,
    },
    /// By the users, in band.
    Resolved {
        /// Transaction.
        tx: Digest,
    },
}

impl FinalRecord {
    /// The write that keeps it.
    pub fn put(&self, a: &AgreementId, t: u64) -> Op {
        put(t_key(FINAL, a, t), |w| match self {
            Self::Settled {
                from,
                last,
                tx,
                gas_used,
                outcomes,
            } => {
                w.u8(0)
                    .u64(*from)
                    .u64(*last)
                    .raw(&tx.0)
                    .u64(*gas_used)
                    .u32(*outcomes);
            }
            Self::Hole { dispute, tx } => {
                w.u8(1).raw(&dispute.0).raw(&tx.0);
            }
            Self::Resolved { tx } => {
                w.u8(2).raw(&tx.0);
            }
        })
    }
    /// Reads it.
    ///
    /// # Errors
    /// A version that this one does not read, or damaged bytes.
    pub fn decode(value: &[u8]) -> Result<Self> {
        get(value, |r| match r.u8("final")? {
            0 => Ok(Self::Settled {
                from: r.u64("from")?,
                last: r.u64("last")?,
                tx: Digest::read(r)?,
                gas_used: r.u64("gas")?,
                outcomes: r.u32("outcomes")?,
            }),
            1 => Ok(Self::Hole {
                dispute: Digest::read(r)?,
                tx: Digest::read(r)?,
            }),
            2 => Ok(Self::Resolved {
                tx: Digest::read(r)?,
            }),
            _ => Err(DecodeError::Invalid("final")),
        })
    }
}
