//! Keys and values of what the core keeps durably. Values start with the format version.

use crate::api::{Execution, Op};
use diversity_proto::codec::{DecodeError, Reader, Result, Writer, decode_all};
use diversity_proto::entity::SensorDeclaration;
use diversity_proto::round::{Commit, Computed, Reveal};
use diversity_proto::terms::Terms;
use diversity_proto::wire::Part;
use diversity_proto::{AgreementId, Digest, PublicKey, SensorId, VERSION};

/// Prefix of agreements: `A | a`.
pub const AGREEMENT: u8 = b'A';
/// Prefix of sensors: `S | sensor`.
pub const SENSOR: u8 = b'S';
/// Prefix of segments of frames: `F | number u64`.
pub const SEGMENT: u8 = b'F';
/// Prefix of executions: `X | a | t u64`.
pub const EXECUTION: u8 = b'X';
/// Prefix of reveals, kept before they leave: `V | a | t u64`.
pub const REVEAL: u8 = b'V';
/// Prefix of certificates: `C | a | t u64`.
pub const CERTIFICATE: u8 = b'C';
/// Prefix of finality: `H | a | t u64`.
pub const FINAL: u8 = b'H';
/// Prefix of aggregated signatures: `G | a | t u64` (t the last of the range).
pub const AGGREGATE: u8 = b'G';

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

/// Splits a key of [`t_key`].
pub fn split_t_key(key: &[u8]) -> Option<(AgreementId, u64)> {
    let rest = key.get(1..)?;
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
        r.version("stored record")?;
        read(r)
    })
}

/// An agreement: its terms and its nodes' keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgreementRecord {
    /// The terms.
    pub terms: Terms,
    /// Protocol keys in node-index order.
    pub keys: Vec<PublicKey>,
    /// Last t, once closed.
    pub last_t: Option<u64>,
}

impl AgreementRecord {
    /// The write that keeps it.
    pub fn put(&self, a: &AgreementId) -> Op {
        put(agreement_key(a), |w| {
            w.bytes(&self.terms.encode())
                .list(&self.keys, |w, k| k.write(w));
            match self.last_t {
                Some(t) => w.u8(1).u64(t),
                None => w.u8(0),
            };
        })
    }
    /// Reads it.
    pub fn decode(value: &[u8]) -> Result<Self> {
        get(value, |r| {
            Ok(Self {
                terms: Terms::decode(r.bytes(diversity_proto::terms::TERMS_BYTES_MAX, "terms")?)?,
                keys: r.list(diversity_proto::terms::NODES_MAX, "keys", PublicKey::read)?,
                last_t: if r.bool("closed")? {
                    Some(r.u64("last t")?)
                } else {
                    None
                },
            })
        })
    }
}

/// A sensor: its declaration and from which q it is void.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorRecord {
    /// What it declared.
    pub declaration: SensorDeclaration,
    /// Void from this q on.
    pub void_from: Option<u64>,
}

impl SensorRecord {
    /// The write that keeps it.
    pub fn put(&self, s: &SensorId) -> Op {
        put(sensor_key(s), |w| {
            w.bytes(&self.declaration.encode());
            match self.void_from {
                Some(q) => w.u8(1).u64(q),
                None => w.u8(0),
            };
        })
    }
    /// Reads it.
    pub fn decode(value: &[u8]) -> Result<Self> {
        get(value, |r| {
            Ok(Self {
                declaration: SensorDeclaration::decode(r.bytes(16_384, "declaration")?)?,
                void_from: if r.bool("void")? {
                    Some(r.u64("void from")?)
                } else {
                    None
                },
            })
        })
    }
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
    /// `[T0, T1)`, 0 for count windows.
    pub from: u64,
    /// See `from`.
    pub to: u64,
    /// Where each sensor's window starts.
    pub q_start: Vec<u64>,
    /// First q after each sensor's window.
    pub q_end: Vec<u64>,
    /// Where each sensor's next window starts.
    pub q_next: Vec<u64>,
    /// What `f` gave.
    pub execution: Execution,
    /// Opens the commitment.
    pub secret: [u8; 32],
    /// Opens the commitment.
    pub salt: [u8; 32],
    /// The commit as signed.
    pub commit: Commit,
    /// Resolution epoch of the commit.
    pub epoch: u32,
}

impl ExecutionRecord {
    /// The write that keeps it.
    pub fn put(&self, a: &AgreementId, t: u64) -> Op {
        put(t_key(EXECUTION, a, t), |w| {
            w.u64(self.from).u64(self.to);
            for qs in [&self.q_start, &self.q_end, &self.q_next] {
                w.list(qs, |w, q| {
                    w.u64(*q);
                });
            }
            self.execution.computed.write(w);
            w.list(&self.execution.detail, |w, d| {
                w.bytes(d);
            });
            w.bytes(&self.execution.carry)
                .raw(&self.secret)
                .raw(&self.salt);
            self.commit.write(w);
            w.u32(self.epoch);
        })
    }
    /// Reads it.
    pub fn decode(value: &[u8]) -> Result<Self> {
        use diversity_proto::terms::SENSORS_MAX;
        get(value, |r| {
            let (from, to) = (r.u64("from")?, r.u64("to")?);
            let mut qs = || r.list(SENSORS_MAX, "qs", |r| r.u64("q"));
            let (q_start, q_end, q_next) = (qs()?, qs()?, qs()?);
            let computed = Computed::read(r)?;
            let detail = r.list(SENSORS_MAX, "detail", |r| {
                Ok(r.bytes(DETAIL_BYTES_MAX, "detail")?.to_vec())
            })?;
            let carry = r.bytes(CARRY_BYTES_MAX, "carry")?.to_vec();
            Ok(Self {
                from,
                to,
                q_start,
                q_end,
                q_next,
                execution: Execution {
                    computed,
                    detail,
                    carry,
                },
                secret: r.array("secret")?,
                salt: r.array("salt")?,
                commit: Commit::read(r)?,
                epoch: r.u32("epoch")?,
            })
        })
    }
}

/// A node's own reveal, kept before it leaves, with the seal that it is bound to: one per (a, t), ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevealRecord {
    /// The seal it was given under.
    pub seal: Digest,
    /// The reveal as signed.
    pub reveal: Reveal,
}

impl RevealRecord {
    /// The write that keeps it.
    pub fn put(&self, a: &AgreementId, t: u64) -> Op {
        put(t_key(REVEAL, a, t), |w| {
            w.raw(&self.seal.0);
            self.reveal.write(w);
        })
    }
    /// Reads it.
    pub fn decode(value: &[u8]) -> Result<Self> {
        get(value, |r| {
            Ok(Self {
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
        value: diversity_proto::wire::encode_envelope(std::slice::from_ref(part)),
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
#[allow(missing_docs)]
pub enum FinalRecord {
    /// Covered by a settlement of `from..=last`.
    Settled {
        from: u64,
        last: u64,
        tx: Digest,
        gas_used: u64,
        outcomes: u32,
    },
    /// A dispute on chain.
    Hole { dispute: Digest, tx: Digest },
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
            _ => Err(DecodeError::Invalid("final")),
        })
    }
}
