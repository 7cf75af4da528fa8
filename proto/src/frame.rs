//! Messages, their compact body, and frames: the unit of signing, acknowledgement, repair and evidence (wire-format §3).

use crate::codec::{DecodeError, Reader, Result, Writer, unzigzag, zigzag};
use crate::domain::{Kind, keccak, sha256};
use crate::ids::{Deployment, Digest, NodeId, SensorId, Signature};
use alloc::{string::String, vec::Vec};

/// Most messages in one frame.
pub const FRAME_MESSAGES_MAX: usize = 1024;
/// Most bytes of body in one frame.
pub const FRAME_BODY_BYTES_MAX: usize = 16_384;
/// Most bytes of an encoded frame.
pub const FRAME_BYTES_MAX: usize = FRAME_BODY_BYTES_MAX + 256;
/// Sensor time is below this many seconds (2^48), so that differences never overflow.
pub const TIME_MAX: u64 = 1 << 48;
/// `q` is below this, so that sums never overflow.
pub const Q_MAX: u64 = 1 << 62;

/// Type of a declared variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum VariableType {
    Bool = 1,
    U8 = 2,
    U16 = 3,
    U32 = 4,
    U64 = 5,
    I8 = 6,
    I16 = 7,
    I32 = 8,
    I64 = 9,
    Bytes32 = 10,
}

impl VariableType {
    const ALL: [(Self, &'static str, u8); 10] = [
        (Self::Bool, "bool", 1),
        (Self::U8, "u8", 1),
        (Self::U16, "u16", 2),
        (Self::U32, "u32", 4),
        (Self::U64, "u64", 8),
        (Self::I8, "i8", 1),
        (Self::I16, "i16", 2),
        (Self::I32, "i32", 4),
        (Self::I64, "i64", 8),
        (Self::Bytes32, "bytes32", 32),
    ];
    /// Bytes of a value.
    pub fn width(self) -> usize {
        usize::from(Self::ALL[self as usize - 1].2)
    }
    /// Name as in declarations.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize - 1].1
    }
    /// The type with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|x| x.1 == name).map(|x| x.0)
    }
    /// The type with this code.
    pub fn from_code(code: u8) -> Result<Self> {
        Self::ALL
            .get(usize::from(code).wrapping_sub(1))
            .map(|x| x.0)
            .ok_or(DecodeError::Invalid("variable type"))
    }
}

/// A declared variable `type x` of a sensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Name, 1..=32 bytes.
    pub name: String,
    /// Type.
    pub ty: VariableType,
}

/// Bytes of values in each message of a sensor with these variables; an error above 255.
pub fn width(variables: &[Variable]) -> Result<u8> {
    let n: usize = variables.iter().map(|v| v.ty.width()).sum();
    u8::try_from(n).map_err(|_| DecodeError::TooLong {
        what: "values of a message",
        len: n,
        max: 255,
    })
}

/// Whether the bytes are values of these variables (a `bool` is 0 or 1; all else is only a matter of width).
pub fn values_comply(variables: &[Variable], values: &[u8]) -> bool {
    let mut at = 0;
    for v in variables {
        let Some(bytes) = values.get(at..at + v.ty.width()) else {
            return false;
        };
        if v.ty == VariableType::Bool && bytes[0] > 1 {
            return false;
        }
        at += v.ty.width();
    }
    at == values.len()
}

/// One message `m_{s,q}` without its `q`, which follows from its place in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Sensor time in Unix seconds.
    pub time: u64,
    /// Values, `width` bytes.
    pub values: &'a [u8],
}

/// Appends consecutive messages in the one compact encoding.
pub fn write_body<'a>(w: &mut Writer, messages: impl IntoIterator<Item = Message<'a>>) {
    let mut previous = 0i64;
    for m in messages {
        let time = m.time as i64;
        w.varint(zigzag(time - previous)).raw(m.values);
        previous = time;
    }
}

/// Iterates over a body of messages that are `width` bytes wide each; it ends at the first error.
pub struct BodyIter<'a> {
    r: Reader<'a>,
    width: usize,
    previous: i64,
    failed: bool,
}

/// The messages of a body.
pub fn read_body(body: &[u8], width: u8) -> BodyIter<'_> {
    BodyIter {
        r: Reader::new(body),
        width: width.into(),
        previous: 0,
        failed: false,
    }
}

impl<'a> BodyIter<'a> {
    fn one(&mut self) -> Result<Message<'a>> {
        let delta = unzigzag(self.r.varint("time of a message")?);
        let time = self
            .previous
            .checked_add(delta)
            .filter(|t| (0..TIME_MAX as i64).contains(t));
        let time = time.ok_or(DecodeError::Invalid(
            "time of a message (Unix seconds below 2^48)",
        ))?;
        self.previous = time;
        Ok(Message {
            time: time as u64,
            values: self.r.take(self.width, "values of a message")?,
        })
    }
}

impl<'a> Iterator for BodyIter<'a> {
    type Item = Result<Message<'a>>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.r.rest().is_empty() {
            return None;
        }
        let out = self.one();
        self.failed = out.is_err();
        Some(out)
    }
}

/// What the first frame after a reboot says of the epoch before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// `q` of the last message before the reboot.
    pub last_q: u64,
    /// Digest of the frame that message was in.
    pub last_frame: Digest,
}

/// Version of a frame that is a gap record; every other frame has version 1.
pub const GAP_VERSION: u8 = 2;
const OPENING_FLAG: u8 = 1;
const GAP_FLAG: u8 = 2;

/// Consecutive messages of one sensor under one signature, or a gap record: the sensor's word that so many messages are lost
/// (R7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Who signed it.
    pub sensor: SensorId,
    /// Boot epoch.
    pub epoch: u32,
    /// Sequence number of the first message.
    pub first_q: u64,
    /// Number of messages; 0 in a gap record.
    pub count: u16,
    /// Number of messages that a gap record says are lost; 0 in every other frame.
    pub lost: u32,
    /// Bytes of values in a message.
    pub width: u8,
    /// Present in the first frame of an epoch above 0.
    pub opening: Option<Opening>,
    /// The messages.
    pub body: Vec<u8>,
    /// ECDSA by the sensor over [`Frame::digest`].
    pub signature: Signature,
}

impl Frame {
    /// The encoding without the signature: what is hashed.
    pub fn unsigned_bytes(&self) -> Vec<u8> {
        let mut w = Writer(Vec::with_capacity(120 + self.body.len()));
        let opening = if self.opening.is_some() {
            OPENING_FLAG
        } else {
            0
        };
        let (version, gap) = if self.is_gap() {
            (GAP_VERSION, GAP_FLAG)
        } else {
            (crate::VERSION, 0)
        };
        w.u8(version)
            .u8(opening | gap)
            .raw(&self.sensor.0)
            .u32(self.epoch);
        w.u64(self.first_q).u16(self.count).u8(self.width);
        if let Some(o) = &self.opening {
            w.u64(o.last_q).raw(&o.last_frame.0);
        }
        if self.is_gap() {
            w.u32(self.lost);
        } else {
            w.bytes(&self.body);
        }
        w.finish()
    }
    /// Whether it says that messages are lost.
    pub fn is_gap(&self) -> bool {
        self.lost > 0
    }
    /// The whole encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.unsigned_bytes();
        out.extend_from_slice(&self.signature.0);
        out
    }
    /// Reads one frame; checks everything that needs no key and no declaration.
    pub fn read(r: &mut Reader<'_>) -> Result<Self> {
        let version = r.version_in("frame", crate::VERSION, GAP_VERSION)?;
        let flags = r.u8("frame flags")?;
        let gap = flags & GAP_FLAG != 0;
        if flags & !(OPENING_FLAG | GAP_FLAG) != 0 || gap != (version == GAP_VERSION) {
            return Err(DecodeError::Invalid("frame flags"));
        }
        let sensor = SensorId::read(r)?;
        let epoch = r.u32("epoch")?;
        let first_q = r.u64("first_q")?;
        let count = r.u16("count")?;
        let width = r.u8("width")?;
        if gap {
            if count != 0 || width != 0 {
                return Err(DecodeError::Invalid("gap record (without messages)"));
            }
        } else if count == 0 || usize::from(count) > FRAME_MESSAGES_MAX {
            return Err(DecodeError::Invalid("count (1..=1024 messages in a frame)"));
        }
        if first_q >= Q_MAX {
            return Err(DecodeError::Invalid("first_q (below 2^62)"));
        }
        let opening = if flags & OPENING_FLAG != 0 {
            Some(Opening {
                last_q: r.u64("opening")?,
                last_frame: Digest::read(r)?,
            })
        } else {
            None
        };
        let (lost, body) = if gap {
            (r.u32("lost messages")?, Vec::new())
        } else {
            (0, r.bytes(FRAME_BODY_BYTES_MAX, "frame body")?.to_vec())
        };
        if gap && lost == 0 {
            return Err(DecodeError::Invalid("lost messages (one or more)"));
        }
        let signature = Signature::read(r)?;
        let mut messages = 0;
        for m in read_body(&body, width) {
            m?;
            messages += 1;
        }
        if messages != usize::from(count) {
            return Err(DecodeError::Invalid(
                "count (differs from the messages in the body)",
            ));
        }
        Ok(Self {
            sensor,
            epoch,
            first_q,
            count,
            lost,
            width,
            opening,
            body,
            signature,
        })
    }
    /// Decodes exactly one frame.
    pub fn decode(input: &[u8]) -> Result<Self> {
        crate::codec::decode_all(input, Self::read)
    }
    /// What the sensor signs.
    pub fn digest(&self, deployment: &Deployment) -> Digest {
        sha256(Kind::SensorFrame)
            .raw(deployment.bytes())
            .raw(self.unsigned_bytes())
            .finish()
    }
    /// First `q` after this frame.
    pub fn next_q(&self) -> u64 {
        self.first_q + u64::from(self.span())
    }
    /// How many `q` it takes.
    pub fn span(&self) -> u32 {
        if self.is_gap() {
            self.lost
        } else {
            self.count.into()
        }
    }
    /// The message at `q`, or `None` where it has none: a gap record says that it is lost.
    pub fn message(&self, q: u64) -> Option<Message<'_>> {
        self.messages()
            .nth(usize::try_from(q.checked_sub(self.first_q)?).ok()?)
    }
    /// The lowest `q` at which this frame and another of the same sensor say different things: two messages that differ, or a
    /// message and its loss (R7). Boot epochs do not matter. Signatures are not looked at.
    pub fn contradicts(&self, other: &Self) -> Option<u64> {
        if self.sensor != other.sensor {
            return None;
        }
        let from = self.first_q.max(other.first_q);
        let to = self.next_q().min(other.next_q());
        if self.is_gap() && other.is_gap() {
            return None;
        }
        // At most 1,024 messages: one of the two holds some.
        let at = |f: &Self| {
            (
                f.messages()
                    .map(|m| (m.time, m.values.to_vec()))
                    .collect::<Vec<_>>(),
                f.first_q,
            )
        };
        let ((a, a0), (b, b0)) = (at(self), at(other));
        let message =
            |of: &[(u64, Vec<u8>)], first: u64, q: u64| of.get((q - first) as usize).cloned();
        (from..to).find(|q| message(&a, a0, *q) != message(&b, b0, *q))
    }
    /// Its messages; the body was checked when the frame was read.
    pub fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        read_body(&self.body, self.width).map_while(Result::ok)
    }
}

/// Two bodies of one sensor at one `q`, in one boot epoch or in two: evidence against the sensor and nobody else (R7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// Where they differ.
    pub q: u64,
    /// The frame that holds the one, as encoded.
    pub first: Vec<u8>,
    /// The frame that holds the other, as encoded.
    pub second: Vec<u8>,
}

impl Contradiction {
    /// What two frames (as encoded) of one sensor prove, if anything. Whether they are signed is for the caller to check.
    pub fn of(first: &[u8], second: &[u8]) -> Option<Self> {
        let q = Frame::decode(first)
            .ok()?
            .contradicts(&Frame::decode(second).ok()?)?;
        Some(Self {
            q,
            first: first.to_vec(),
            second: second.to_vec(),
        })
    }
    /// Appends the encoding.
    pub fn write(&self, w: &mut Writer) {
        w.u64(self.q).bytes(&self.first).bytes(&self.second);
    }
    /// Reads it; the frames must contradict one another at `q`.
    pub fn read(r: &mut Reader<'_>) -> Result<Self> {
        let q = r.u64("q of a contradiction")?;
        let first = r.bytes(FRAME_BYTES_MAX, "first frame")?.to_vec();
        let second = r.bytes(FRAME_BYTES_MAX, "second frame")?.to_vec();
        Self::of(&first, &second)
            .filter(|c| c.q == q)
            .ok_or(DecodeError::Invalid(
                "contradiction (two frames that differ at its q)",
            ))
    }
}

/// What a node signs to say that it holds everything of these sensors durably below `next_q`.
pub fn acknowledgement_digest(
    deployment: &Deployment,
    node: &NodeId,
    held: &[(SensorId, u32, u64)],
) -> Digest {
    let mut w = Writer::new();
    w.list(held, |w, (s, e, q)| {
        w.raw(&s.0).u32(*e).u64(*q);
    });
    keccak(Kind::Acknowledgement)
        .raw(deployment.bytes())
        .raw(node.0)
        .raw(w.finish())
        .finish()
}
