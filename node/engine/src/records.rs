//! Keys and values of what the core keeps durably. Values start with the format version.

use crate::alloc_prelude::*;
use crate::api::{
    CellWriter, Evidence, Execution, Op, Resolution, Stretch, Submission, SubmissionId,
};
use diversity_proto::codec::{DecodeError, Reader, Result, Writer, decode_all};
use diversity_proto::entity::SensorDeclaration;
use diversity_proto::frame::Contradiction;
use diversity_proto::held::Held;
use diversity_proto::round::{Blinding, Commit, Computed, OutputKind, RESULT_BYTES_MAX, Reveal};
use diversity_proto::terms::{SENSORS_MAX, Terms};
use diversity_proto::window::WindowEnd;
use diversity_proto::wire::Part;
use diversity_proto::{AgreementId, Digest, NodeId, PublicKey, SensorId};

/// Version of the records of this module. Version 1 belonged to a MainContract whose agreements cannot be settled any more by
/// this version; its store is refused as a whole.
const VERSION: u8 = 2;

/// Prefix of agreements: `A | a`.
pub const AGREEMENT: u8 = b'A';
/// Prefix of sensors: `S | sensor`.
pub const SENSOR: u8 = b'S';
/// Prefix of segments of frames: `F | number u64`.
pub const SEGMENT: u8 = b'F';
/// Prefix of finality: `H | a | t u64`.
pub const FINAL: u8 = b'H';
/// Prefix of what the chain says of a t that the nodes did not agree on: `L | a | t u64`.
pub const CELL: u8 = b'L';
/// Prefix of certificates: `C | a | t u64`.
pub const CERTIFICATE: u8 = b'C';
/// Prefix of executions: `X | a | t u64`.
pub const EXECUTION: u8 = b'X';
/// Prefix of executions of second readings: `Y | a | t u64 | epoch u32`.
pub const READING: u8 = b'Y';
/// Prefix of own lists of open sensors: `K | a | t u64 | epoch u32`.
pub const HELD: u8 = b'K';
/// Prefix of reveals, kept before they leave: `V | a | t u64`.
pub const REVEAL: u8 = b'V';
/// Prefix of reveals of second readings: `W | a | t u64 | epoch u32`.
pub const READING_REVEAL: u8 = b'W';
/// Prefix of aggregated signatures: `G | a | t u64` (t the last of the range).
pub const AGGREGATE: u8 = b'G';
/// Prefix of second readings that the operator asked for: `Q | a | t u64`.
pub const ASKED: u8 = b'Q';
/// Prefix of what is owed to the outbox by a record of its own: `O | id`.
pub const OWED: u8 = b'O';
/// Prefix of what agreements cost in a day: `$ | a`.
pub const SPENT: u8 = b'$';

/// Every family of records, in the order in which recovery reads them: each needs those before it.
pub const FAMILIES: [u8; 15] = [
    SENSOR,
    AGREEMENT,
    SEGMENT,
    FINAL,
    CELL,
    CERTIFICATE,
    EXECUTION,
    READING,
    HELD,
    REVEAL,
    READING_REVEAL,
    ASKED,
    AGGREGATE,
    OWED,
    SPENT,
];

/// Most bytes of a carry.
pub const CARRY_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes of one detail item.
pub const DETAIL_BYTES_MAX: usize = 1024;

/// Key of a record of (a, t).
pub fn t_key(prefix: u8, a: &AgreementId, t: u64) -> Vec<u8> {
    let mut k = vec![prefix];
    k.extend_from_slice(&a.0);
    k.extend_from_slice(&t.to_be_bytes());
    k
}

/// Agreement and t of a key of [`t_key`] or [`held_key`].
pub fn split_t_key(key: &[u8]) -> Option<(AgreementId, u64)> {
    let tail = match key.first() {
        Some(&(HELD | READING | READING_REVEAL)) => 4,
        _ => 0,
    };
    let rest = key.get(1..key.len().checked_sub(tail)?)?;
    Some((
        AgreementId(rest.get(..32)?.try_into().ok()?),
        u64::from_be_bytes(rest.get(32..)?.try_into().ok()?),
    ))
}

/// Key of a segment.
pub fn segment_key(segment: u64) -> Vec<u8> {
    let mut k = vec![SEGMENT];
    k.extend_from_slice(&segment.to_be_bytes());
    k
}
/// The number of the segment whose key this is.
pub fn segment_of(key: &[u8]) -> Option<u64> {
    let number = key.strip_prefix(&[SEGMENT])?;
    Some(u64::from_be_bytes(number.try_into().ok()?))
}

/// Key of an agreement.
pub fn agreement_key(a: &AgreementId) -> Vec<u8> {
    [&[AGREEMENT][..], &a.0].concat()
}

/// Key of a sensor.
pub fn sensor_key(s: &SensorId) -> Vec<u8> {
    [&[SENSOR][..], &s.0].concat()
}

pub(crate) fn put(key: Vec<u8>, write: impl FnOnce(&mut Writer)) -> Op {
    let mut w = Writer::new();
    w.u8(VERSION);
    write(&mut w);
    Op::Put {
        key,
        value: w.finish(),
    }
}

fn get<T>(value: &[u8], read: impl FnOnce(&mut Reader<'_>) -> Result<T>) -> Result<T> {
    decode_all(value, |r| {
        r.version_in("stored record", VERSION, VERSION)?;
        read(r)
    })
}

/// Key of an own list of open sensors.
pub fn held_key(a: &AgreementId, t: u64, epoch: u32) -> Vec<u8> {
    epoch_key(HELD, a, t, epoch)
}

/// Key of a record of (a, t, epoch).
pub fn epoch_key(prefix: u8, a: &AgreementId, t: u64, epoch: u32) -> Vec<u8> {
    [&t_key(prefix, a, t)[..], &epoch.to_be_bytes()].concat()
}

/// An agreement: its terms and its nodes' keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgreementRecord {
    /// The terms.
    pub terms: Terms,
    /// Protocol keys in node-index order.
    pub keys: Vec<PublicKey>,
    /// When this node heard of it, Unix milliseconds: no grace ends before it is over since then.
    pub heard_ms: u64,
    /// Last t, once closed.
    pub last_t: Option<u64>,
}

impl AgreementRecord {
    /// The write that keeps it.
    pub fn put(&self, a: &AgreementId) -> Op {
        put(agreement_key(a), |w| {
            w.bytes(&self.terms.encode())
                .list(&self.keys, |w, k| k.write(w))
                .u64(self.heard_ms);
            option(w, self.last_t.as_ref(), |w, t| {
                w.u64(*t);
            });
        })
    }
    /// Reads it.
    pub fn decode(value: &[u8]) -> Result<Self> {
        get(value, |r| {
            Ok(Self {
                terms: Terms::decode(r.bytes(diversity_proto::terms::TERMS_BYTES_MAX, "terms")?)?,
                keys: r.list(diversity_proto::terms::NODES_MAX, "keys", PublicKey::read)?,
                heard_ms: r.u64("heard")?,
                last_t: read_option(r, "closed", |r| r.u64("last t"))?,
            })
        })
    }
}

/// A sensor: its declaration, and what is known against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorRecord {
    /// What it declared.
    pub declaration: SensorDeclaration,
    /// Void from this q on, by the chain's record.
    pub void_from: Option<u64>,
    /// The lowest contradiction that this node knows, with both bodies.
    pub contradiction: Option<Contradiction>,
}

impl SensorRecord {
    /// The write that keeps it.
    pub fn put(&self, s: &SensorId) -> Op {
        put(sensor_key(s), |w| {
            w.bytes(&self.declaration.encode());
            option(w, self.void_from.as_ref(), |w, q| {
                w.u64(*q);
            });
            option(w, self.contradiction.as_ref(), |w, c| c.write(w));
        })
    }
    /// Reads it.
    pub fn decode(value: &[u8]) -> Result<Self> {
        get(value, |r| {
            Ok(Self {
                declaration: SensorDeclaration::decode(r.bytes(16_384, "declaration")?)?,
                void_from: read_option(r, "void", |r| r.u64("void from"))?,
                contradiction: read_option(r, "contradiction", Contradiction::read)?,
            })
        })
    }
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
    pub fn decode(value: &[u8]) -> Result<Self> {
        get(value, |r| {
            Ok(Self {
                day: r.u64("day")?,
                gas: r.u64("gas")?,
            })
        })
    }
}

fn option<T>(w: &mut Writer, value: Option<&T>, write: impl FnOnce(&mut Writer, &T)) {
    w.u8(u8::from(value.is_some()));
    if let Some(value) = value {
        write(w, value);
    }
}

fn read_option<T>(
    r: &mut Reader<'_>,
    what: &'static str,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T>,
) -> Result<Option<T>> {
    r.bool(what)?.then(|| read(r)).transpose()
}

/// A segment: frames that were made durable together, as encoded.
pub fn put_segment<'a>(segment: u64, frames: impl ExactSizeIterator<Item = &'a [u8]>) -> Op {
    // The value is a batch of frames as on the wire (which starts with the version).
    Op::Put {
        key: segment_key(segment),
        value: diversity_proto::wire::encode_frames(frames),
    }
}

/// The frames of a segment, as encoded.
pub fn split_segment(value: &[u8]) -> Result<Vec<&[u8]>> {
    diversity_proto::wire::split_frames(value, usize::MAX)
}

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
    pub fn decode(value: &[u8]) -> Result<Self> {
        match stored_part(value)? {
            Part::Held { epoch, held, .. } => Ok(Self { epoch, held }),
            _ => Err(DecodeError::Invalid("own list of open sensors")),
        }
    }
}

/// What the chain says of a t that the nodes did not agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellRecord {
    /// The epoch that it put in force, where the users settled t themselves.
    pub in_band: Option<u32>,
    /// By whom.
    pub writer: CellWriter,
    /// What counts.
    pub resolution: Resolution,
    /// Transaction.
    pub tx: Digest,
}

impl CellRecord {
    /// The write that keeps it.
    pub fn put(&self, a: &AgreementId, t: u64) -> Op {
        put(t_key(CELL, a, t), |w| {
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
                .raw(&self.tx.0);
        })
    }
    /// Reads it.
    pub fn decode(value: &[u8]) -> Result<Self> {
        get(value, |r| {
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
            })
        })
    }
}

/// The operator asked for the second reading of t with this number.
pub(crate) fn put_asked(a: &AgreementId, t: u64, number: u16) -> Op {
    put(t_key(ASKED, a, t), |w| {
        w.u16(number);
    })
}
/// Reads a record of [`put_asked`].
pub(crate) fn decode_asked(value: &[u8]) -> Result<u16> {
    get(value, |r| r.u16("number of a reading"))
}

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

/// Keeps a part (a certificate) as it travels.
pub fn put_part(key: Vec<u8>, part: &Part) -> Op {
    Op::Put {
        key,
        value: diversity_proto::wire::encode_envelope(core::slice::from_ref(part)),
    }
}

/// The part that a record of [`put_part`] holds.
pub fn stored_part(value: &[u8]) -> Result<Part> {
    let mut parts = diversity_proto::wire::decode_envelope(value)?;
    match (parts.pop(), parts.is_empty()) {
        (Some(p), true) => Ok(p),
        _ => Err(DecodeError::Invalid("stored part")),
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
