//! The terms of an agreement as bytes: the parties, and everything else as tagged conditions (wire-format §6).

use crate::codec::{DecodeError, Reader, Result, Writer, decode_all};
use crate::ids::{Digest, NodeId, SensorId, UserId};
use crate::terms::{
    FIELDS_MAX, Field, Leader, NODES_MAX, Protocol, Qos, SENSORS_MAX, SensorStart, TERMS_BYTES_MAX,
    Terms, TrustedNode, USERS_MAX, WindowSpec,
};
use alloc::vec::Vec;

/// Version of the terms as exchanged and kept. Version 1 belonged to the MainContract before epochs and doors, whose agreements
/// no node of this version can settle, so it is refused.
pub const TERMS_VERSION: u8 = 2;

/// Tags of the conditions, strictly ascending in their encoding. A later condition gets a tag, not a format: it is left out where
/// it says nothing, and a reader that does not know a tag refuses the terms, because it cannot keep what it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
enum Tag {
    Title = 1,
    Window = 2,
    FutureTolerance = 3,
    Grace = 4,
    Protocol = 5,
    Leader = 6,
    Flush = 7,
    Timeouts = 8,
    Batch = 9,
    Qos = 10,
    Result = 11,
    Detail = 12,
    Abstain = 13,
    // 14 money, 15 referee, 16 arbiter, 17 predecessor: kept for later.
}

impl Terms {
    /// Encodes the terms as they are exchanged and kept.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(TERMS_VERSION).list(&self.users, |w, u| u.write(w));
        w.list(&self.nodes, |w, n| {
            w.raw(&n.node.0).u8(n.trust);
        });
        w.list(&self.sensors, |w, s| {
            w.raw(&s.sensor.0).u64(s.q0);
        });
        w.raw(&self.off_chain_code.0).raw(&self.conditions());
        w.finish()
    }
    /// `list of (tag u16, bytes)`.
    pub(crate) fn conditions(&self) -> Vec<u8> {
        let mut fields: Vec<(Tag, Vec<u8>)> = Vec::new();
        let mut field = |tag: Tag, write: &dyn Fn(&mut Writer)| {
            let mut w = Writer::new();
            write(&mut w);
            fields.push((tag, w.finish()));
        };
        field(Tag::Title, &|w| {
            w.text(&self.title);
        });
        field(Tag::Window, &|w| {
            match self.window {
                WindowSpec::Month { start } => w.u8(0).u64(start),
                WindowSpec::Seconds { start, seconds } => w.u8(1).u64(start).u64(seconds),
                WindowSpec::Count { z, slide } => w.u8(2).u32(z).u32(slide),
            };
        });
        field(Tag::FutureTolerance, &|w| {
            w.u32(self.future_tolerance_s);
        });
        field(Tag::Grace, &|w| {
            w.u32(self.grace_s);
        });
        field(Tag::Protocol, &|w| {
            w.u8(self.protocol as u8);
        });
        field(Tag::Leader, &|w| {
            match self.leader {
                Leader::Fixed(i) => w.u8(0).u8(i),
                Leader::Rotating => w.u8(1),
            };
        });
        field(Tag::Flush, &|w| {
            w.u32(self.flush_ms);
        });
        field(Tag::Timeouts, &|w| {
            w.u32(self.round_timeout_ms).u32(self.round_timeout_max_ms);
        });
        field(Tag::Batch, &|w| {
            w.u16(self.batch);
        });
        field(Tag::Qos, &|w| {
            w.u8(self.qos as u8);
        });
        for (tag, list) in [(Tag::Result, &self.result), (Tag::Detail, &self.detail)] {
            field(tag, &|w| {
                w.list(list, |w, f| {
                    w.text(&f.name).text(&f.ty);
                });
            });
        }
        field(Tag::Abstain, &|w| {
            w.u32(self.abstain_ms);
        });
        let mut w = Writer::new();
        w.list(&fields, |w, (tag, value)| {
            w.u16(*tag as u16).bytes(value);
        });
        w.finish()
    }
    /// Strict decoder; also applies [`Terms::validate`].
    pub fn decode(input: &[u8]) -> Result<Self> {
        if input.len() > TERMS_BYTES_MAX {
            return Err(DecodeError::TooLong {
                what: "terms",
                len: input.len(),
                max: TERMS_BYTES_MAX,
            });
        }
        let terms = decode_all(input, Self::read)?;
        terms.validate()?;
        Ok(terms)
    }
    fn read(r: &mut Reader<'_>) -> Result<Self> {
        r.version_in("terms", TERMS_VERSION, TERMS_VERSION)?;
        let users = r.list(USERS_MAX, "users", UserId::read)?;
        let nodes = r.list(NODES_MAX, "nodes", |r| {
            Ok(TrustedNode {
                node: NodeId::read(r)?,
                trust: r.u8("trust")?,
            })
        })?;
        let sensors = r.list(SENSORS_MAX, "sensors", |r| {
            Ok(SensorStart {
                sensor: SensorId::read(r)?,
                q0: r.u64("q_0")?,
            })
        })?;
        let off_chain_code = Digest::read(r)?;
        let mut c = Conditions(r.list(64, "conditions", |r| {
            let tag = r.u16("tag of a condition")?;
            Ok((tag, r.bytes(CONDITION_BYTES_MAX, "condition")?))
        })?);
        let terms = Self {
            title: c.field(Tag::Title, |r| r.text(128, "title"))?,
            window: c.field(Tag::Window, read_window)?,
            future_tolerance_s: c.field(Tag::FutureTolerance, |r| r.u32("future tolerance"))?,
            grace_s: c.field(Tag::Grace, |r| r.u32("grace"))?,
            protocol: c.field(Tag::Protocol, |r| match r.u8("protocol")? {
                0 => Ok(Protocol::Fast),
                _ => Err(DecodeError::Invalid("protocol (0 fast)")),
            })?,
            leader: c.field(Tag::Leader, |r| match r.u8("leader")? {
                0 => Ok(Leader::Fixed(r.u8("leader index")?)),
                1 => Ok(Leader::Rotating),
                _ => Err(DecodeError::Invalid("leader")),
            })?,
            flush_ms: c.field(Tag::Flush, |r| r.u32("flush_ms"))?,
            round_timeout_ms: 0,
            round_timeout_max_ms: 0,
            batch: 0,
            qos: Qos::None,
            result: Vec::new(),
            detail: Vec::new(),
            abstain_ms: 0,
            users,
            nodes,
            sensors,
            off_chain_code,
        };
        let timeouts =
            |r: &mut Reader<'_>| Ok((r.u32("round_timeout_ms")?, r.u32("round_timeout_max_ms")?));
        let (round_timeout_ms, round_timeout_max_ms) = c.field(Tag::Timeouts, timeouts)?;
        let terms = Self {
            round_timeout_ms,
            round_timeout_max_ms,
            batch: c.field(Tag::Batch, |r| r.u16("batch"))?,
            qos: c.field(Tag::Qos, |r| match r.u8("qos")? {
                0 => Ok(Qos::None),
                1 => Ok(Qos::OffChain),
                _ => Err(DecodeError::Invalid("qos (0 none, 1 off-chain)")),
            })?,
            result: c.field(Tag::Result, read_fields)?,
            detail: c.field(Tag::Detail, read_fields)?,
            abstain_ms: c.field(Tag::Abstain, |r| r.u32("abstain_ms"))?,
            ..terms
        };
        c.end()?;
        Ok(terms)
    }
}

/// Most bytes of one condition.
const CONDITION_BYTES_MAX: usize = 4_096;

/// Conditions as they are read: each tag once, ascending, none left over.
struct Conditions<'a>(Vec<(u16, &'a [u8])>);

impl Conditions<'_> {
    fn field<T>(&mut self, tag: Tag, read: impl FnOnce(&mut Reader<'_>) -> Result<T>) -> Result<T> {
        match self.0.first() {
            Some((t, value)) if *t == tag as u16 => {
                let value = decode_all(value, read)?;
                self.0.remove(0);
                Ok(value)
            }
            _ => Err(DecodeError::Invalid(
                "conditions (a tag is missing, out of order, or not known to this build: upgrade the older side)",
            )),
        }
    }
    fn end(&self) -> Result<()> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Invalid(
                "conditions (a tag that this build does not know: upgrade it)",
            ))
        }
    }
}

fn read_window(r: &mut Reader<'_>) -> Result<WindowSpec> {
    Ok(match r.u8("window")? {
        0 => WindowSpec::Month {
            start: r.u64("start")?,
        },
        1 => WindowSpec::Seconds {
            start: r.u64("start")?,
            seconds: r.u64("seconds")?,
        },
        2 => WindowSpec::Count {
            z: r.u32("z")?,
            slide: r.u32("slide")?,
        },
        _ => return Err(DecodeError::Invalid("window")),
    })
}

fn read_fields(r: &mut Reader<'_>) -> Result<Vec<Field>> {
    r.list(FIELDS_MAX, "fields", |r| {
        Ok(Field {
            name: r.text(32, "field name")?,
            ty: r.text(16, "field type")?,
        })
    })
}
