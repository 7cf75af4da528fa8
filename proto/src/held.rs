//! What a node says of the sensors whose window no message ends (design §3b, Held; wire-format §7).

use crate::codec::{DecodeError, Reader, Result, Writer};
use crate::domain::{Kind, keccak, keccak_raw};
use crate::frame::{Contradiction, Q_MAX};
use crate::ids::{Digest, NodeId, Signature};
use crate::round::Subject;
use crate::terms::SENSORS_MAX;
use alloc::vec::Vec;

/// A sensor whose part of the window is still open at a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSensor {
    /// Index in the terms.
    pub index: u32,
    /// First q that the node lacks.
    pub lacks: u64,
    /// A contradiction of the sensor that the node knows, with both bodies.
    pub contradiction: Option<Contradiction>,
}

/// The sensors that are still open at one node past the grace, possibly none. A node signs one for each (a, t, epoch), so also
/// one for each reading, and it depends on nothing that others hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Strictly ascending by index.
    pub open: Vec<OpenSensor>,
    /// ECDSA by the node over [`Held::digest`].
    pub signature: Signature,
}

impl Held {
    /// What the node signs. Both bodies of a contradiction are covered by their hashes.
    pub fn digest(&self, s: &Subject, node: &NodeId) -> Digest {
        let mut w = Writer::new();
        w.list(&self.open, |w, o| {
            w.u32(o.index).u64(o.lacks);
            match &o.contradiction {
                Some(c) => w
                    .u8(1)
                    .u64(c.q)
                    .raw(&keccak_raw(&c.first))
                    .raw(&keccak_raw(&c.second)),
                None => w.u8(0),
            };
        });
        keccak(Kind::Held)
            .raw(s.deployment.bytes())
            .raw(s.config.0)
            .u64(s.t)
            .raw(node.0)
            .raw(w.finish())
            .finish()
    }
    /// What it says of a sensor, if that is open.
    pub fn of(&self, index: usize) -> Option<&OpenSensor> {
        let at = self
            .open
            .binary_search_by_key(&index, |o| o.index as usize)
            .ok()?;
        self.open.get(at)
    }
    /// Appends the encoding.
    pub fn write(&self, w: &mut Writer) {
        w.list(&self.open, |w, o| {
            w.u32(o.index).u64(o.lacks);
            match &o.contradiction {
                Some(c) => c.write(w.u8(1)),
                None => {
                    w.u8(0);
                }
            }
        });
        w.raw(&self.signature.0);
    }
    /// Strict decoder.
    pub fn read(r: &mut Reader<'_>) -> Result<Self> {
        let open = r.list(SENSORS_MAX, "open sensors", |r| {
            let (index, lacks) = (r.u32("sensor index")?, r.u64("first q that is lacked")?);
            let contradiction = if r.bool("contradiction")? {
                Some(Contradiction::read(r)?)
            } else {
                None
            };
            if lacks > Q_MAX {
                return Err(DecodeError::Invalid(
                    "first q that is lacked (at most 2^62)",
                ));
            }
            Ok(OpenSensor {
                index,
                lacks,
                contradiction,
            })
        })?;
        if !open.is_sorted_by(|a, b| a.index < b.index) {
            return Err(DecodeError::Invalid("open sensors (strictly ascending)"));
        }
        Ok(Self {
            open,
            signature: Signature::read(r)?,
        })
    }
}
