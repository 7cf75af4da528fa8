//! Windows: the bytes that `f` is given are the bytes that the window hash covers (wire-format §4).

use crate::codec::{DecodeError, Reader, Result, Writer};
use crate::domain::{Kind, keccak};
use crate::frame::{Message, read_body, write_body};
use crate::ids::{Digest, SensorId};
use crate::merkle;
use alloc::vec::Vec;

/// What ended a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum WindowEnd {
    /// A message at or past its end, or, for a count window, its last message.
    Message = 0,
    /// A closing record of all nodes (design §2).
    ClosingRecord = 1,
}

impl WindowEnd {
    /// Reads it.
    pub fn read(r: &mut Reader<'_>) -> Result<Self> {
        match r.u8("end of a window")? {
            0 => Ok(Self::Message),
            1 => Ok(Self::ClosingRecord),
            _ => Err(DecodeError::Invalid("end of a window")),
        }
    }
}

/// The window of one sensor: a sub-string of its trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Whose trace.
    pub sensor: SensorId,
    /// Where it starts.
    pub first_q: u64,
    /// Number of messages.
    pub count: u32,
    /// What ended it.
    pub end: WindowEnd,
    /// Bytes of values in a message.
    pub width: u8,
    /// The messages in the one compact encoding.
    pub body: Vec<u8>,
}

impl Leaf {
    /// Builds the leaf from messages, in order of `q`.
    pub fn new<'a>(
        sensor: SensorId,
        first_q: u64,
        end: WindowEnd,
        width: u8,
        messages: impl IntoIterator<Item = Message<'a>>,
    ) -> Self {
        let mut count = 0;
        let mut w = Writer::new();
        write_body(&mut w, messages.into_iter().inspect(|_| count += 1));
        Self {
            sensor,
            first_q,
            count,
            end,
            width,
            body: w.finish(),
        }
    }
    fn write(&self, w: &mut Writer) {
        w.raw(&self.sensor.0)
            .u64(self.first_q)
            .u32(self.count)
            .u8(self.end as u8)
            .u8(self.width)
            .bytes(&self.body);
    }
    fn read(r: &mut Reader<'_>, body_max: usize) -> Result<Self> {
        let sensor = SensorId::read(r)?;
        let (first_q, count) = (r.u64("first_q")?, r.u32("count")?);
        let end = WindowEnd::read(r)?;
        let width = r.u8("width")?;
        let body = r.bytes(body_max, "window body")?.to_vec();
        let mut n = 0u32;
        for m in read_body(&body, width) {
            m?;
            n += 1;
        }
        if n != count {
            return Err(DecodeError::Invalid("count of a window"));
        }
        Ok(Self {
            sensor,
            first_q,
            count,
            end,
            width,
            body,
        })
    }
    /// Hash of the leaf.
    pub fn hash(&self) -> Digest {
        let mut w = Writer::new();
        self.write(&mut w);
        keccak(Kind::WindowLeaf).raw(w.finish()).finish()
    }
}

/// `w[t]`: the windows of all sensors of an agreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Execution number.
    pub t: u64,
    /// First second, 0 for count windows.
    pub from: u64,
    /// First second after it, 0 for count windows.
    pub to: u64,
    /// One per sensor, in agreement order.
    pub leaves: Vec<Leaf>,
}

impl Window {
    /// The bytes that follow the carry in the input of `f`.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(crate::VERSION)
            .u64(self.t)
            .u64(self.from)
            .u64(self.to)
            .list(&self.leaves, |w, l| l.write(w));
        w.finish()
    }
    /// Strict decoder, bounded by `bytes_max`.
    pub fn decode(input: &[u8], bytes_max: usize) -> Result<Self> {
        if input.len() > bytes_max {
            return Err(DecodeError::TooLong {
                what: "window",
                len: input.len(),
                max: bytes_max,
            });
        }
        crate::codec::decode_all(input, |r| {
            r.version("window")?;
            let (t, from, to) = (r.u64("t")?, r.u64("from")?, r.u64("to")?);
            let leaves = r.list(crate::terms::SENSORS_MAX, "leaves", |r| {
                Leaf::read(r, bytes_max)
            })?;
            Ok(Self {
                t,
                from,
                to,
                leaves,
            })
        })
    }
    /// `H(w[t])`: covers bodies, never signatures (R3).
    pub fn hash(&self) -> Digest {
        let leaves: Vec<_> = self.leaves.iter().map(Leaf::hash).collect();
        let n = u32::try_from(leaves.len()).expect("bounded by SENSORS_MAX");
        keccak(Kind::Window)
            .u8(crate::VERSION)
            .u64(self.t)
            .u64(self.from)
            .u64(self.to)
            .u32(n)
            .raw(merkle::root(&leaves).0)
            .finish()
    }
    /// `input = carry bytes | window bytes` of wire-format §5.
    pub fn input(&self, carry: &[u8]) -> Vec<u8> {
        let mut w = Writer::new();
        w.bytes(carry).raw(&self.encode());
        w.finish()
    }
}

/// `state' = H(carry', Q_next)`.
pub fn state(carry: &[u8], q_next: &[u64]) -> Digest {
    let mut w = Writer::new();
    w.list(q_next, |w, q| {
        w.u64(*q);
    });
    keccak(Kind::State).bytes(carry).raw(w.finish()).finish()
}

/// Root over the detail of each sensor; zero for an empty detail.
pub fn detail_root(sensors: &[SensorId], detail: &[Vec<u8>]) -> Digest {
    let leaves: Vec<_> = sensors
        .iter()
        .zip(detail)
        .map(|(s, d)| keccak(Kind::DetailLeaf).raw(s.0).raw(d).finish())
        .collect();
    merkle::root(&leaves)
}
