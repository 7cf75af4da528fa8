//! What a node itself signed or computed: kept before it leaves (R2).

use super::{
    CARRY_BYTES_MAX, DETAIL_BYTES_MAX, EXECUTION, READING, READING_REVEAL, REVEAL, epoch_key, get,
    put, stored_part, t_key,
};
use crate::alloc_prelude::*;
use crate::api::{Execution, Op, Stretch};
use diversity_proto::codec::{DecodeError, Result};
use diversity_proto::held::Held;
use diversity_proto::round::{Blinding, Commit, Computed, Reveal};
use diversity_proto::terms::SENSORS_MAX;
use diversity_proto::window::WindowEnd;
use diversity_proto::wire::Part;
use diversity_proto::{AgreementId, Digest};

/// What a node computed for one t, and its own commit: kept before the commit leaves (R2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutionRecord {
    /// Epoch of the commit.
    pub epoch: u32,
    /// `[T0, T1)`, 0 for count windows.
    pub from: u64,
    /// See `from`.
    pub to: u64,
    /// What each sensor's window takes and what ended it, agreement order.
    pub stretches: Vec<Stretch>,
    /// Indices of sensors that what ended this window makes void.
    pub void: Vec<u32>,
    /// What `f` gave.
    pub execution: Execution,
    /// Opens the commit.
    pub blinding: Blinding,
    /// The commit as signed.
    pub commit: Commit,
}

impl ExecutionRecord {
    /// The write that keeps it.
    pub fn put(&self, a: &AgreementId, t: u64) -> Op {
        self.put_at(t_key(EXECUTION, a, t))
    }
    /// The write that keeps it as one of a second reading.
    pub fn put_reading(&self, a: &AgreementId, t: u64) -> Op {
        self.put_at(epoch_key(READING, a, t, self.epoch))
    }
    fn put_at(&self, key: Vec<u8>) -> Op {
        put(key, |w| {
            w.u32(self.epoch).u64(self.from).u64(self.to);
            w.list(&self.stretches, |w, s| {
                w.u64(s.start).u64(s.end).u64(s.next).u8(s.by as u8);
            });
            w.list(&self.void, |w, k| {
                w.u32(*k);
            });
            self.execution.computed.write(w);
            w.list(&self.execution.detail, |w, d| {
                w.bytes(d);
            });
            w.bytes(&self.execution.carry);
            self.blinding.write(w);
            self.commit.write(w);
        })
    }
    /// Reads it.
    ///
    /// # Errors
    /// A version that this one does not read, or damaged bytes.
    pub fn decode(value: &[u8]) -> Result<Self> {
        get(value, |r| {
            let (epoch, from, to) = (r.u32("epoch")?, r.u64("from")?, r.u64("to")?);
            let stretches = r.list(SENSORS_MAX, "stretches", |r| {
                Ok(Stretch {
                    start: r.u64("start")?,
                    end: r.u64("end")?,
                    next: r.u64("next")?,
                    by: WindowEnd::read(r)?,
                })
            })?;
            let void = r.list(SENSORS_MAX, "void sensors", |r| r.u32("sensor index"))?;
            let computed = Computed::read(r)?;
            let detail = r.list(SENSORS_MAX, "detail", |r| {
                Ok(r.bytes(DETAIL_BYTES_MAX, "detail")?.to_vec())
            })?;
            let carry = r.bytes(CARRY_BYTES_MAX, "carry")?.to_vec();
            Ok(Self {
                epoch,
                from,
                to,
                stretches,
                void,
                execution: Execution {
                    computed,
                    detail,
                    carry,
                },
                blinding: Blinding::read(r)?,
                commit: Commit::read(r)?,
            })
        })
    }
}

/// An own list of open sensors, as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldRecord {
    /// Epoch that it was signed under.
    pub epoch: u32,
    /// As signed.
    pub held: Held,
}

impl HeldRecord {
    /// Reads a record of [`put_part`].
    ///
    /// # Errors
    /// A version that this one does not read, or damaged bytes.
    pub fn decode(value: &[u8]) -> Result<Self> {
        match stored_part(value)? {
            Part::Held { epoch, held, .. } => Ok(Self { epoch, held }),
            _ => Err(DecodeError::Invalid("own list of open sensors")),
        }
    }
}

/// A node's own reveal, kept before it leaves, with the seal that it is bound to: one per (a, t), ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevealRecord {
    /// Epoch of the round.
    pub epoch: u32,
    /// The seal it was given under.
    pub seal: Digest,
    /// The reveal as signed.
    pub reveal: Reveal,
}

impl RevealRecord {
    /// The write that keeps it.
    pub fn put(&self, a: &AgreementId, t: u64) -> Op {
        let key = match diversity_proto::round::reading_of(self.epoch) {
            0 => t_key(REVEAL, a, t),
            _ => epoch_key(READING_REVEAL, a, t, self.epoch),
        };
        put(key, |w| {
            w.u32(self.epoch).raw(&self.seal.0);
            self.reveal.write(w);
        })
    }
    /// Reads it.
    ///
    /// # Errors
    /// A version that this one does not read, or damaged bytes.
    pub fn decode(value: &[u8]) -> Result<Self> {
        get(value, |r| {
            Ok(Self {
                epoch: r.u32("epoch")?,
                seal: Digest::read(r)?,
                reveal: Reveal::read(r)?,
            })
        })
    }
}
