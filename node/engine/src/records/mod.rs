//! Keys and values of what the core keeps durably. Values start with the format version.

mod chain;
mod owed;
mod round;

pub use chain::{CellRecord, FinalRecord};
pub use owed::SpentRecord;
pub(crate) use owed::{decode_owed, delete_owed, put_owed};
pub use round::{ExecutionRecord, HeldRecord, RevealRecord};

use crate::alloc_prelude::*;
use crate::api::Op;
use diversity_proto::codec::{DecodeError, Reader, Result, Writer, decode_all};
use diversity_proto::entity::SensorDeclaration;
use diversity_proto::frame::Contradiction;
use diversity_proto::terms::Terms;
use diversity_proto::wire::Part;
use diversity_proto::{AgreementId, PublicKey, SensorId};

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
/// Prefix of what opens a cell that a second reading filled: `T | a | t u64`.
pub const STATE: u8 = b'T';
/// Prefix of certificates: `C | a | t u64`.
pub const CERTIFICATE: u8 = b'C';
/// Prefix of executions: `X | a | t u64`.
pub const EXECUTION: u8 = b'X';
/// Prefix of executions of second readings: `Y | a | t u64 | epoch u32`.
pub const READING: u8 = b'Y';
/// Prefix of windows on which `f` abstained: `E | a | t u64 | epoch u32`.
pub const ABSTAINED: u8 = b'E';
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
pub const FAMILIES: [u8; 17] = [
    SENSOR,
    AGREEMENT,
    SEGMENT,
    FINAL,
    CELL,
    STATE,
    CERTIFICATE,
    EXECUTION,
    READING,
    ABSTAINED,
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

/// Key of a record of (a, t); keys of one family and agreement are in the order of t.
pub fn t_key(prefix: u8, a: &AgreementId, t: u64) -> Vec<u8> {
    let mut k = vec![prefix];
    k.extend_from_slice(&a.0);
    k.extend_from_slice(&t.to_be_bytes());
    k
}

/// Agreement and t of a key of [`t_key`], [`held_key`] or [`epoch_key`]; `None` for any other.
pub fn split_t_key(key: &[u8]) -> Option<(AgreementId, u64)> {
    let tail = match key.first() {
        Some(&(HELD | READING | READING_REVEAL | ABSTAINED)) => 4,
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
/// The number of the segment whose key this is; `None` for a key of another family.
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
    put_in(key, VERSION, write)
}
fn put_in(key: Vec<u8>, version: u8, write: impl FnOnce(&mut Writer)) -> Op {
    let mut w = Writer::new();
    w.u8(version);
    write(&mut w);
    Op::Put {
        key,
        value: w.finish(),
    }
}

fn get<T>(value: &[u8], read: impl FnOnce(&mut Reader<'_>) -> Result<T>) -> Result<T> {
    get_in(value, VERSION, |_, r| read(r))
}
/// A record of a kind whose newest version is `newest`: `read` is given the one that is read.
fn get_in<T>(
    value: &[u8],
    newest: u8,
    read: impl FnOnce(u8, &mut Reader<'_>) -> Result<T>,
) -> Result<T> {
    decode_all(value, |r| {
        let version = r.version_in("stored record", VERSION, newest)?;
        read(version, r)
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
    ///
    /// # Errors
    /// A version that this one does not read, or damaged bytes.
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
    ///
    /// # Errors
    /// A version that this one does not read, or damaged bytes.
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
///
/// # Errors
/// A version that this one does not read, or damaged bytes.
pub fn split_segment(value: &[u8]) -> Result<Vec<&[u8]>> {
    diversity_proto::wire::split_frames(value, usize::MAX)
}

/// Since when `f` is tried on a window that it abstained on, Unix milliseconds (P-EXEC-3).
pub(crate) fn put_abstained(a: &AgreementId, t: u64, epoch: u32, since_ms: u64) -> Op {
    put(epoch_key(ABSTAINED, a, t, epoch), |w| {
        w.u32(epoch).u64(since_ms);
    })
}
/// Reads a record of [`put_abstained`]: epoch, and since when.
pub(crate) fn decode_abstained(value: &[u8]) -> Result<(u32, u64)> {
    get(value, |r| Ok((r.u32("epoch")?, r.u64("since")?)))
}
/// The window is committed to.
pub(crate) fn delete_abstained(a: &AgreementId, t: u64, epoch: u32) -> Op {
    Op::Delete {
        key: epoch_key(ABSTAINED, a, t, epoch),
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

/// Keeps a part (a certificate, what opens a cell) as it travels.
pub fn put_part(key: Vec<u8>, part: &Part) -> Op {
    Op::Put {
        key,
        value: diversity_proto::wire::encode_envelope(core::slice::from_ref(part)),
    }
}

/// The part that a record of [`put_part`] holds.
///
/// # Errors
/// A version that this one does not read, or damaged bytes.
pub fn stored_part(value: &[u8]) -> Result<Part> {
    let mut parts = diversity_proto::wire::decode_envelope(value)?;
    match (parts.pop(), parts.is_empty()) {
        (Some(p), true) => Ok(p),
        _ => Err(DecodeError::Invalid("stored part")),
    }
}
