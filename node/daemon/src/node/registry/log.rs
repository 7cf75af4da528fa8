//! What the chain says of agreements, kept for whoever starts late and for whoever asks.

use diversity_chain::events::{Outputs, Position};
use diversity_engine::api::{CellWriter, ChainEvent, Input, Resolution};
use diversity_engine::records::CARRY_BYTES_MAX;
use diversity_proto::codec::{DecodeError, Reader, Writer};
use diversity_proto::round::{Entry, HOLES_MAX, OutputKind, RESULT_BYTES_MAX};
use diversity_proto::terms::SENSORS_MAX;
use diversity_proto::{AgreementId, Digest};
use diversity_store::{Op, Store};

use super::RegistryError;
use super::records::{SettledRecord, counts_key, get, key, log_key, put, settled_key};

/// The kind of a cell as it is kept; an earlier one, 4, had no context.
const CELL: u8 = 5;

/// An event of an agreement that the core must hear, again when it learns of the agreement late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainLog {
    /// Outcomes have settled.
    Settled(SettledRecord),
    /// A hole certificate has settled t.
    Hole {
        /// Which t.
        t: u64,
        /// The epoch that it put in force.
        epoch: u32,
        /// Which dispute shows the evidence.
        dispute: Digest,
        /// Transaction.
        tx: Digest,
    },
    /// The users have settled t themselves.
    Resolved {
        /// Which t.
        t: u64,
        /// The epoch that it put in force.
        epoch: u32,
        /// What counts.
        outputs: Outputs,
        /// Transaction.
        tx: Digest,
        /// Gas of the whole transaction.
        gas_used: u64,
    },
    /// The cell of t was written.
    Cell {
        /// Which t.
        t: u64,
        /// By whom.
        writer: CellWriter,
        /// What counts.
        outputs: Outputs,
        /// Of a second reading the context of its outcome, which covers its state; else zero.
        context: Digest,
        /// Transaction.
        tx: Digest,
        /// Gas of the whole transaction.
        gas_used: u64,
    },
    /// Closed from here on.
    Closed {
        /// First t that never settles.
        end: u64,
    },
}

impl ChainLog {
    /// The writes that keep it.
    pub(super) fn put(&self, a: &AgreementId, at: &Position) -> Vec<Op> {
        let place = log_key(a, at);
        let mut ops = Vec::new();
        let known_by = match self {
            Self::Settled(s) => Some(settled_key(a, s.t)),
            Self::Resolved { t, .. } | Self::Cell { t, .. } => Some(counts_key(a, *t)),
            Self::Hole { .. } | Self::Closed { .. } => None,
        };
        ops.extend(known_by.map(|key| Op::Put(key, place.clone())));
        ops.push(put(place, |w| self.write(w)));
        ops
    }

    fn write(&self, w: &mut Writer) {
        match self {
            Self::Settled(s) => {
                w.u8(0)
                    .u64(s.from)
                    .u64(s.t)
                    .raw(&s.tx.0)
                    .u64(s.gas_used)
                    .u32(s.outcomes)
                    .raw(&s.context.0);
                w.u8(s.batch.into()).list(&s.entries, |w, (t, e)| {
                    w.u64(*t);
                    match e {
                        Entry::Value(v) => w.u8(1).bytes(v),
                        Entry::Null => w.u8(0),
                        Entry::Trap => w.u8(2),
                        Entry::Hole => w.u8(255),
                    };
                });
                w.u32(s.epoch);
            }
            Self::Hole {
                t,
                epoch,
                dispute,
                tx,
            } => {
                w.u8(1).u64(*t).u32(*epoch).raw(&dispute.0).raw(&tx.0);
            }
            Self::Closed { end } => {
                w.u8(2).u64(*end);
            }
            Self::Resolved {
                t,
                epoch,
                outputs,
                tx,
                gas_used,
            } => {
                w.u8(3).u64(*t).u32(*epoch).raw(&tx.0).u64(*gas_used);
                write_outputs(w, outputs);
            }
            Self::Cell {
                t,
                writer,
                outputs,
                context,
                tx,
                gas_used,
            } => {
                w.u8(CELL).u64(*t).u8(*writer as u8);
                w.raw(&tx.0).u64(*gas_used).raw(&context.0);
                write_outputs(w, outputs);
            }
        }
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        get(value, |r| {
            Ok(match r.u8("chain event")? {
                0 => Self::Settled(SettledRecord {
                    from: r.u64("from")?,
                    t: r.u64("t")?,
                    tx: Digest::read(r)?,
                    gas_used: r.u64("gas")?,
                    outcomes: r.u32("outcomes")?,
                    context: Digest::read(r)?,
                    batch: r.bool("batch")?,
                    entries: r.list(usize::from(u16::MAX) + HOLES_MAX + 1, "entries", |r| {
                        let t = r.u64("t")?;
                        let entry = match r.u8("entry")? {
                            0 => Entry::Null,
                            1 => Entry::Value(r.bytes(RESULT_BYTES_MAX, "result")?.to_vec()),
                            2 => Entry::Trap,
                            255 => Entry::Hole,
                            _ => return Err(DecodeError::Invalid("entry")),
                        };
                        Ok((t, entry))
                    })?,
                    epoch: r.u32("epoch")?,
                }),
                1 => Self::Hole {
                    t: r.u64("t")?,
                    epoch: r.u32("epoch")?,
                    dispute: Digest::read(r)?,
                    tx: Digest::read(r)?,
                },
                2 => Self::Closed { end: r.u64("end")? },
                3 => Self::Resolved {
                    t: r.u64("t")?,
                    epoch: r.u32("epoch")?,
                    tx: Digest::read(r)?,
                    gas_used: r.u64("gas")?,
                    outputs: read_outputs(r)?,
                },
                kind @ (4 | CELL) => Self::Cell {
                    t: r.u64("t")?,
                    writer: writer(r.u8("writer of a cell")?)
                        .ok_or(DecodeError::Invalid("writer of a cell"))?,
                    tx: Digest::read(r)?,
                    gas_used: r.u64("gas")?,
                    context: match kind {
                        CELL => Digest::read(r)?,
                        _ => Digest::ZERO,
                    },
                    outputs: read_outputs(r)?,
                },
                _ => return Err(DecodeError::Invalid("chain event")),
            })
        })
    }

    /// As the core is told. An agreement that is closed before its first t is told nothing: nothing of it ever settles.
    pub fn input(&self, agreement: AgreementId) -> Option<Input> {
        Some(Input::Chain(match self {
            Self::Settled(s) => ChainEvent::Settled {
                agreement,
                from: s.from,
                t: s.t,
                epoch: s.epoch,
                tx: s.tx,
                gas_used: s.gas_used,
                outcomes: s.outcomes,
            },
            Self::Hole {
                t,
                epoch,
                dispute,
                tx,
            } => ChainEvent::Hole {
                agreement,
                t: *t,
                epoch: *epoch,
                dispute: *dispute,
                tx: *tx,
            },
            Self::Resolved {
                t,
                epoch,
                outputs,
                tx,
                ..
            } => ChainEvent::Resolved {
                agreement,
                t: *t,
                epoch: *epoch,
                resolution: resolution(outputs),
                tx: *tx,
            },
            Self::Cell {
                t,
                writer,
                outputs,
                context,
                tx,
                ..
            } => ChainEvent::Cell {
                agreement,
                t: *t,
                writer: *writer,
                resolution: resolution(outputs),
                context: *context,
                tx: *tx,
            },
            Self::Closed { end } => ChainEvent::Closed {
                agreement,
                last_t: end.checked_sub(1)?,
            },
        }))
    }

    /// The settlement whose last t this is.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn settled(
        store: &Store,
        a: &AgreementId,
        last: u64,
    ) -> Result<Option<SettledRecord>, RegistryError> {
        Ok(match Self::known_by(store, &settled_key(a, last))? {
            Some(Self::Settled(s)) => Some(s),
            _ => None,
        })
    }

    /// What the users, or a second reading, said of t: a resolution or a cell.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn counts(store: &Store, a: &AgreementId, t: u64) -> Result<Option<Self>, RegistryError> {
        Self::known_by(store, &counts_key(a, t))
    }

    /// What it says counts at its t, in which transaction, and whether that settled t itself.
    pub fn counted(&self) -> Option<(&Outputs, Digest, bool)> {
        match self {
            Self::Resolved { outputs, tx, .. } => Some((outputs, *tx, true)),
            Self::Cell { outputs, tx, .. } => Some((outputs, *tx, false)),
            Self::Settled(_) | Self::Hole { .. } | Self::Closed { .. } => None,
        }
    }

    fn known_by(store: &Store, key: &[u8]) -> Result<Option<Self>, RegistryError> {
        let Some(place) = store.get(key)? else {
            return Ok(None);
        };
        let value = store.get(&place)?;
        Ok(value.map(|v| Self::decode(&v)).transpose()?)
    }

    /// All of an agreement, in the order of the chain.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn of(store: &Store, a: &AgreementId) -> Result<Vec<Self>, RegistryError> {
        store
            .scan_prefix(&key(b'k', &a.0))
            .map(|item| Ok(Self::decode(&item?.1)?))
            .collect()
    }
}

/// Who wrote a cell; nothing for a writer that this build does not know.
pub(super) fn writer(code: u8) -> Option<CellWriter> {
    Some(match code {
        1 => CellWriter::Reading,
        2 => CellWriter::Users,
        3 => CellWriter::Referee,
        4 => CellWriter::Arbiter,
        _ => return None,
    })
}

fn resolution(o: &Outputs) -> Resolution {
    Resolution {
        kind: o.kind,
        result: o.result.clone(),
        state: o.state,
        carry: o.carry.clone(),
        q_next: o.q_next.clone(),
    }
}

fn write_outputs(w: &mut Writer, o: &Outputs) {
    w.u8(o.kind as u8)
        .bytes(&o.result)
        .raw(&o.state.0)
        .bytes(&o.carry)
        .list(&o.q_next, |w, q| {
            w.u64(*q);
        });
}

fn read_outputs(r: &mut Reader<'_>) -> Result<Outputs, DecodeError> {
    Ok(Outputs {
        kind: OutputKind::read(r)?,
        result: r.bytes(RESULT_BYTES_MAX, "result")?.to_vec(),
        state: Digest::read(r)?,
        carry: r.bytes(CARRY_BYTES_MAX, "carry")?.to_vec(),
        q_next: r.list(SENSORS_MAX, "q_next", |r| r.u64("q"))?,
    })
}
