//! What nodes send one another (wire-format §8).

use crate::cell::CellState;
use crate::codec::{DecodeError, Reader, Result, Writer, decode_all};
use crate::frame::{FRAME_BYTES_MAX, Frame};
use crate::held::Held;
use crate::ids::{AgreementId, Deployment, Digest, SensorId, Signature};
use crate::round::{Body, Commit, PublicNonce, Reveal, Session, T_MAX};
use crate::terms::{NODES_MAX, SENSORS_MAX, TERMS_BYTES_MAX};
use alloc::{format, string::String, vec::Vec};

/// Most bytes of a batch of frames, gossiped or answered.
pub const FRAME_BATCH_BYTES_MAX: usize = 256 * 1024;
/// Most frames of a batch.
pub const FRAMES_MAX: usize = 2_048;
/// Newest version of an envelope. Version 1 had no `Held` and no `Leaves`, version 2 no `Clock`, version 3 no `State`; all else is the
/// same, so they are read, and an envelope is written in the oldest version that has all that is in it, from 2 on.
pub const ENVELOPE_VERSION: u8 = 4;
/// Most bytes of a direct message.
pub const ENVELOPE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Most parts of an envelope.
pub const PARTS_MAX: usize = 1_024;
/// Most missing ranges in one repair request.
pub const RANGES_MAX: usize = 1_024;

/// Encodes frames (given as their encodings) for gossip, HTTP or repair.
pub fn encode_frames<'a>(frames: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut w = Writer::new();
    w.u8(crate::VERSION)
        .u32(u32::try_from(frames.len()).expect("bounded by FRAMES_MAX"));
    for f in frames {
        w.bytes(f);
    }
    w.finish()
}

/// The gossip topic of an agreement (wire-format §8).
pub fn frames_topic(d: &Deployment, a: &AgreementId) -> String {
    format!("diversity/1/frames/{}/{}", d.contract.hex(), a.hex())
}

/// Splits a batch into the encodings of its frames, bounded; each is decoded on its own.
pub fn split_frames(input: &[u8], bytes_max: usize) -> Result<Vec<&[u8]>> {
    if input.len() > bytes_max {
        return Err(DecodeError::TooLong {
            what: "frame batch",
            len: input.len(),
            max: bytes_max,
        });
    }
    let mut r = Reader::new(input);
    r.version("frame batch")?;
    let n = r.u32("frame count")? as usize;
    if n > FRAMES_MAX {
        return Err(DecodeError::TooLong {
            what: "frames of a batch",
            len: n,
            max: FRAMES_MAX,
        });
    }
    let mut out = Vec::with_capacity(n.min(r.rest().len()));
    for _ in 0..n {
        out.push(r.bytes(FRAME_BYTES_MAX, "frame")?);
    }
    r.end()?;
    Ok(out)
}

/// Decodes every frame of a batch.
pub fn decode_frames(input: &[u8], bytes_max: usize) -> Result<Vec<Frame>> {
    split_frames(input, bytes_max)?
        .into_iter()
        .map(Frame::decode)
        .collect()
}

/// A range `from_q..to_q` of one sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Whose.
    pub sensor: SensorId,
    /// First.
    pub from_q: u64,
    /// First after.
    pub to_q: u64,
}

/// One message of the round, or of what surrounds it. An envelope carries several, so that a reveal of t-1 travels with a commit of t.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, clippy::large_enum_variant)]
pub enum Part {
    /// Something about one round.
    Round {
        /// `a`.
        agreement: AgreementId,
        /// Resolution epoch, marked for a second reading.
        epoch: u32,
        /// Execution.
        t: u64,
        /// What.
        body: Body,
    },
    /// Node → leader: a public nonce, never in a commit or a seal.
    Nonce {
        session: Session,
        nonce: PublicNonce,
    },
    /// Leader → all: the nonces in node-index order.
    Nonces {
        session: Session,
        nonces: Vec<PublicNonce>,
    },
    /// Node → leader, in a signed envelope that names the nonce set.
    Partial {
        session: Session,
        nonce_set: Digest,
        partial: [u8; 32],
        signature: Signature,
    },
    /// Leader → all: the BIP-340 signature.
    Aggregate {
        session: Session,
        signature: Signature,
    },
    /// What a node holds: per sensor of an agreement (in its order) the first q that it lacks; and the first t it has no certificate for.
    Status {
        agreement: AgreementId,
        next_t: u64,
        next_q: Vec<u64>,
    },
    /// What the sender's clock shows. It proves nothing: a node compares its own with those of its peers.
    Clock {
        /// One that both are nodes of.
        agreement: AgreementId,
        /// Unix milliseconds.
        unix_ms: u64,
    },
    /// Please send the certificates from this t on.
    Want { agreement: AgreementId, from_t: u64 },
    /// Node → all: which sensors are still open past the grace.
    Held {
        /// `a`.
        agreement: AgreementId,
        /// Resolution epoch, marked for a second reading.
        epoch: u32,
        /// Which window.
        t: u64,
        /// As signed.
        held: Held,
    },
    /// Node → all, after unequal window hashes: the leaf hashes of its window, in agreement order.
    Leaves {
        /// `a`.
        agreement: AgreementId,
        /// Epoch of the round that ended as a hole.
        epoch: u32,
        /// Which window.
        t: u64,
        /// [`crate::window::Leaf::hash`].
        hashes: Vec<Digest>,
    },
    /// Please send what opens the cell of t.
    WantState {
        /// `a`.
        agreement: AgreementId,
        /// Which hole.
        t: u64,
    },
    /// What opens the cell of t, which a second reading filled.
    State {
        /// `a`.
        agreement: AgreementId,
        /// Which hole.
        t: u64,
        /// As large as an envelope may well be.
        state: CellState,
    },
    /// Proposed or created terms, so that each node of an agreement gets them from any other.
    Terms {
        agreement: AgreementId,
        terms: Vec<u8>,
    },
}

impl Part {
    /// The agreement that the part is about.
    pub fn agreement(&self) -> AgreementId {
        match self {
            Self::Round { agreement, .. }
            | Self::Held { agreement, .. }
            | Self::Leaves { agreement, .. }
            | Self::Status { agreement, .. }
            | Self::Clock { agreement, .. }
            | Self::Want { agreement, .. }
            | Self::WantState { agreement, .. }
            | Self::State { agreement, .. }
            | Self::Terms { agreement, .. } => *agreement,
            Self::Nonce { session, .. }
            | Self::Nonces { session, .. }
            | Self::Partial { session, .. }
            | Self::Aggregate { session, .. } => session.agreement,
        }
    }
    /// The version of envelopes that first had it.
    fn since(&self) -> u8 {
        match self {
            Self::WantState { .. } | Self::State { .. } => 4,
            Self::Clock { .. } => 3,
            _ => 2,
        }
    }
    fn write(&self, w: &mut Writer) {
        let head = |w: &mut Writer, tag: u8, a: &AgreementId, epoch: u32, t: u64| {
            w.u8(tag).raw(&a.0).u32(epoch).u64(t);
        };
        match self {
            Self::Round {
                agreement,
                epoch,
                t,
                body,
            } => match body {
                Body::Commit { commit } => {
                    head(w, 0, agreement, *epoch, *t);
                    commit.write(w);
                }
                Body::Seal { commits } => {
                    head(w, 1, agreement, *epoch, *t);
                    w.list(commits, |w, c| c.write(w));
                }
                Body::Reveal { seal, reveal } => {
                    head(w, 2, agreement, *epoch, *t);
                    w.raw(&seal.0);
                    reveal.write(w);
                }
                Body::Certificate { commits, reveals } => {
                    head(w, 3, agreement, *epoch, *t);
                    w.list(commits, |w, c| c.write(w))
                        .list(reveals, |w, r| r.write(w));
                }
            },
            Self::Held {
                agreement,
                epoch,
                t,
                held,
            } => {
                head(w, 11, agreement, *epoch, *t);
                held.write(w);
            }
            Self::Leaves {
                agreement,
                epoch,
                t,
                hashes,
            } => {
                head(w, 12, agreement, *epoch, *t);
                w.list(hashes, |w, h| {
                    w.raw(&h.0);
                });
            }
            Self::Nonce { session, nonce } => {
                session.write(w.u8(4));
                w.raw(nonce);
            }
            Self::Nonces { session, nonces } => {
                session.write(w.u8(5));
                w.list(nonces, |w, n| {
                    w.raw(n);
                });
            }
            Self::Partial {
                session,
                nonce_set,
                partial,
                signature,
            } => {
                session.write(w.u8(6));
                w.raw(&nonce_set.0).raw(partial).raw(&signature.0);
            }
            Self::Aggregate { session, signature } => {
                session.write(w.u8(7));
                w.raw(&signature.0);
            }
            Self::Status {
                agreement,
                next_t,
                next_q,
            } => {
                w.u8(8).raw(&agreement.0).u64(*next_t).list(next_q, |w, q| {
                    w.u64(*q);
                });
            }
            Self::Clock { agreement, unix_ms } => {
                w.u8(13).raw(&agreement.0).u64(*unix_ms);
            }
            Self::Want { agreement, from_t } => {
                w.u8(9).raw(&agreement.0).u64(*from_t);
            }
            Self::WantState { agreement, t } => {
                w.u8(14).raw(&agreement.0).u64(*t);
            }
            Self::State {
                agreement,
                t,
                state,
            } => {
                state.write(w.u8(15).raw(&agreement.0).u64(*t));
            }
            Self::Terms { agreement, terms } => {
                w.u8(10).raw(&agreement.0).bytes(terms);
            }
        }
    }
    fn read(r: &mut Reader<'_>) -> Result<Self> {
        let tag = r.u8("part")?;
        if (4..=7).contains(&tag) {
            let session = Session::read(r)?;
            return Ok(match tag {
                4 => Self::Nonce {
                    session,
                    nonce: r.array("nonce")?,
                },
                5 => Self::Nonces {
                    session,
                    nonces: r.list(NODES_MAX, "nonces", |r| r.array("nonce"))?,
                },
                6 => Self::Partial {
                    session,
                    nonce_set: Digest::read(r)?,
                    partial: r.array("partial")?,
                    signature: Signature::read(r)?,
                },
                _ => Self::Aggregate {
                    session,
                    signature: Signature::read(r)?,
                },
            });
        }
        let agreement = AgreementId::read(r)?;
        match tag {
            8 => {
                return Ok(Self::Status {
                    agreement,
                    next_t: r.u64("next_t")?,
                    next_q: r.list(SENSORS_MAX, "next_q", |r| r.u64("q"))?,
                });
            }
            13 => {
                return Ok(Self::Clock {
                    agreement,
                    unix_ms: r.u64("clock")?,
                });
            }
            9 => {
                return Ok(Self::Want {
                    agreement,
                    from_t: r.u64("from_t")?,
                });
            }
            14 => {
                return Ok(Self::WantState {
                    agreement,
                    t: read_t(r)?,
                });
            }
            15 => {
                return Ok(Self::State {
                    agreement,
                    t: read_t(r)?,
                    state: CellState::read(r)?,
                });
            }
            10 => {
                return Ok(Self::Terms {
                    agreement,
                    terms: r.bytes(TERMS_BYTES_MAX, "terms")?.to_vec(),
                });
            }
            _ => {}
        }
        let (epoch, t) = (r.u32("epoch")?, read_t(r)?);
        let body = match tag {
            0 => Body::Commit {
                commit: Commit::read(r)?,
            },
            1 => Body::Seal {
                commits: r.list(NODES_MAX, "commits", Commit::read)?,
            },
            2 => Body::Reveal {
                seal: Digest::read(r)?,
                reveal: Reveal::read(r)?,
            },
            3 => Body::Certificate {
                commits: r.list(NODES_MAX, "commits", Commit::read)?,
                reveals: r.list(NODES_MAX, "reveals", Reveal::read)?,
            },
            11 => {
                return Ok(Self::Held {
                    agreement,
                    epoch,
                    t,
                    held: Held::read(r)?,
                });
            }
            12 => {
                return Ok(Self::Leaves {
                    agreement,
                    epoch,
                    t,
                    hashes: r.list(SENSORS_MAX, "leaf hashes", Digest::read)?,
                });
            }
            _ => return Err(DecodeError::Invalid("part")),
        };
        Ok(Self::Round {
            agreement,
            epoch,
            t,
            body,
        })
    }
}

fn read_t(r: &mut Reader<'_>) -> Result<u64> {
    match r.u64("t")? {
        t if t < T_MAX => Ok(t),
        _ => Err(DecodeError::Invalid("t (below 2^40 - 1)")),
    }
}

/// Encodes parts that travel together.
pub fn encode_envelope(parts: &[Part]) -> Vec<u8> {
    let mut w = Writer::new();
    let version = parts.iter().map(Part::since).max().unwrap_or(2);
    w.u8(version).list(parts, |w, p| p.write(w));
    w.finish()
}

/// Strict, bounded decoder of an envelope.
pub fn decode_envelope(input: &[u8]) -> Result<Vec<Part>> {
    if input.len() > ENVELOPE_BYTES_MAX {
        return Err(DecodeError::TooLong {
            what: "envelope",
            len: input.len(),
            max: ENVELOPE_BYTES_MAX,
        });
    }
    decode_all(input, |r| {
        r.version_in("envelope", 1, ENVELOPE_VERSION)?;
        r.list(PARTS_MAX, "parts", Part::read)
    })
}

/// Encodes a repair request.
pub fn encode_ranges(ranges: &[Range]) -> Vec<u8> {
    let mut w = Writer::new();
    w.u8(crate::VERSION).list(ranges, |w, x| {
        w.raw(&x.sensor.0).u64(x.from_q).u64(x.to_q);
    });
    w.finish()
}

/// Strict decoder of a repair request.
pub fn decode_ranges(input: &[u8]) -> Result<Vec<Range>> {
    decode_all(input, |r| {
        r.version("repair request")?;
        r.list(RANGES_MAX, "ranges", |r| {
            let x = Range {
                sensor: SensorId::read(r)?,
                from_q: r.u64("from_q")?,
                to_q: r.u64("to_q")?,
            };
            if x.from_q < x.to_q {
                Ok(x)
            } else {
                Err(DecodeError::Invalid("range (from below to)"))
            }
        })
    })
}
