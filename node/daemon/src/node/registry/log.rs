//! What the chain says of agreements, kept for whoever starts late and for whoever asks.

use diversity_engine::api::{ChainEvent, Input};
use diversity_proto::codec::DecodeError;
use diversity_proto::round::{Entry, HOLES_MAX, RESULT_BYTES_MAX};
use diversity_proto::terms::BATCH_MAX;
use diversity_proto::{AgreementId, Digest};
use diversity_store::{Op, Store};

use super::RegistryError;
use super::records::{SettledRecord, get, key, option, put, read_option};

/// An event of an agreement that the core must hear, again when it learns of the agreement late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainLog {
    /// Settled.
    Settled(SettledRecord),
    /// A dispute stands.
    Hole {
        /// Which t.
        t: u64,
        /// Which dispute.
        dispute: Digest,
        /// Its transaction.
        tx: Digest,
    },
    /// Closed from here on.
    Closed {
        /// First t that never settles.
        end: u64,
    },
}

impl ChainLog {
    pub(super) fn put(&self, key: Vec<u8>) -> Op {
        put(key, |w| match self {
            Self::Settled(s) => {
                w.u8(0)
                    .u64(s.from)
                    .u64(s.t)
                    .raw(&s.tx.0)
                    .u64(s.gas_used)
                    .u32(s.outcomes);
                option(w, s.context, |w, c| c.write(w));
                w.u8(s.batch.into()).list(&s.entries, |w, (t, e)| {
                    w.u64(*t);
                    match e {
                        Entry::Value(v) => w.u8(1).bytes(v),
                        Entry::Null => w.u8(0),
                        Entry::Trap => w.u8(2),
                        Entry::Hole => w.u8(255),
                    };
                });
            }
            Self::Hole { t, dispute, tx } => {
                w.u8(1).u64(*t).raw(&dispute.0).raw(&tx.0);
            }
            Self::Closed { end } => {
                w.u8(2).u64(*end);
            }
        })
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
                    context: read_option(r, Digest::read)?,
                    batch: r.bool("batch")?,
                    entries: r.list(usize::from(BATCH_MAX) + HOLES_MAX + 1, "entries", |r| {
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
                }),
                1 => Self::Hole {
                    t: r.u64("t")?,
                    dispute: Digest::read(r)?,
                    tx: Digest::read(r)?,
                },
                2 => Self::Closed { end: r.u64("end")? },
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
                tx: s.tx,
                gas_used: s.gas_used,
                outcomes: s.outcomes,
            },
            Self::Hole { t, dispute, tx } => ChainEvent::Hole {
                agreement,
                t: *t,
                dispute: *dispute,
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
        let mut k = key(b'k', &a.0);
        k.push(1);
        k.extend(last.to_be_bytes());
        let Some(value) = store.get(&k)? else {
            return Ok(None);
        };
        Ok(match Self::decode(&value)? {
            Self::Settled(s) => Some(s),
            _ => None,
        })
    }

    /// All of an agreement, in an order in which the core can hear them.
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
