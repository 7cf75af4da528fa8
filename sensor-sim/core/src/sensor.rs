//! Counter, boot epoch, and the seal of a frame.

use crate::{Body, Period, Q_MAX, VERSION};
use sha2::{Digest, Sha256};

/// `"DIVERSITY" || version 1 || kind 1`: a sensor's frame (wire-format §2).
const TAG: &[u8; 12] = b"DIVERSITY\x01\x00\x01";

/// What a device is provisioned with beside its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `chain_id u64 || MainContract 20`.
    pub deployment: [u8; 28],
    /// The address of its key.
    pub sensor: [u8; 20],
    /// Bytes of values in a message.
    pub width: u8,
    /// What its frames never cross.
    pub period: Period,
}

/// What a device must never forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Boot epoch of the last frame.
    pub epoch: u32,
    /// First `q` that is not signed yet. Never restarts.
    pub next_q: u64,
    /// Digest of the last frame.
    pub last_frame: [u8; 32],
}

impl Counter {
    /// Bytes of the encoding.
    pub const LEN: usize = 1 + 4 + 8 + 32;

    /// The counter as a board may store it: version, epoch, next q, digest.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut out = [VERSION; Self::LEN];
        out[1..5].copy_from_slice(&self.epoch.to_be_bytes());
        out[5..13].copy_from_slice(&self.next_q.to_be_bytes());
        out[13..].copy_from_slice(&self.last_frame);
        out
    }

    /// Reads it; `None` for a version that this build does not know. A board must then refuse to start, since a counter that
    /// begins anew would contradict the frames before it.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (epoch, rest) = rest.split_first_chunk()?;
        let (next_q, rest) = rest.split_first_chunk()?;
        (*version == VERSION).then_some(Self {
            epoch: u32::from_be_bytes(*epoch),
            next_q: u64::from_be_bytes(*next_q),
            last_frame: *rest.first_chunk()?,
        })
    }
}

/// What the core needs of a board. Every method may block until the hardware is done.
pub trait Board {
    /// What can go wrong with the hardware.
    type Error;

    /// The counter that [`Board::commit`] stored last; `None` on a device that has never signed.
    ///
    /// # Errors
    /// If the store cannot be read. The device must not sign then.
    fn load(&mut self) -> Result<Option<Counter>, Self::Error>;

    /// Stores the counter and adds the frame to those that are not acknowledged yet, both or neither, durably before it
    /// returns.
    ///
    /// # Errors
    /// If it cannot; the frame is then not given out.
    fn commit(&mut self, counter: &Counter, frame: &[u8]) -> Result<(), Self::Error>;

    /// Forgets stored frames that end at or before `next_q`. May be lazy.
    ///
    /// # Errors
    /// If the store cannot be written.
    fn release(&mut self, next_q: u64) -> Result<(), Self::Error>;

    /// `r || s` over the digest with the device's key: [`crate::Key::sign`], or a secure element. It should be deterministic
    /// (RFC 6979), with low `s`.
    ///
    /// # Errors
    /// If the key is out of reach.
    fn sign(&mut self, digest: &[u8; 32]) -> Result<[u8; 64], Self::Error>;
}

/// Why no frame was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError<E> {
    /// A frame has at least one message.
    Empty,
    /// The output is too short: it takes [`crate::FRAME_OVERHEAD_MAX`] bytes beside the body.
    Output {
        /// Bytes that this frame takes.
        needed: usize,
    },
    /// The body was made for a sensor with other variables.
    Width,
    /// `q` is used up (2^62).
    Exhausted,
    /// The board failed; nothing was given out, and the same body may be sealed again.
    Board(E),
}

impl<E> core::fmt::Display for SealError<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Empty => "the frame has no message: push one first",
            Self::Output { .. } => {
                "the output buffer is too short for the frame: give a longer one"
            }
            Self::Width => "the body was made for a sensor with other variables",
            Self::Exhausted => "the sequence numbers are used up: register the device anew",
            Self::Board(_) => "the board could not sign or store the frame: try again",
        })
    }
}

impl<E: core::fmt::Debug> core::error::Error for SealError<E> {}

/// A frame that is signed and stored, ready to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Bytes at the start of the output.
    pub len: usize,
    /// First `q` in it.
    pub first_q: u64,
    /// First `q` after it.
    pub next_q: u64,
    /// What was signed.
    pub digest: [u8; 32],
}

/// One sensor from boot to reboot.
pub struct Sensor<B> {
    board: B,
    identity: Identity,
    counter: Counter,
    opens: bool,
}

impl<B: Board> Sensor<B> {
    /// After a boot. A device that has signed before begins a new epoch; its first frame opens it. Nothing is stored yet, so
    /// a boot that signs nothing leaves no trace.
    ///
    /// # Errors
    /// The board's, if the counter cannot be loaded.
    pub fn start(mut board: B, identity: Identity) -> Result<Self, B::Error> {
        let found = board.load()?;
        let opens = found.is_some_and(|c| c.next_q > 0);
        let mut counter = found.unwrap_or(Counter {
            epoch: 0,
            next_q: 0,
            last_frame: [0; 32],
        });
        if opens {
            // Four thousand million boots wear out any device before they wear out the epoch.
            counter.epoch = counter.epoch.saturating_add(1);
        }
        Ok(Self {
            board,
            identity,
            counter,
            opens,
        })
    }

    /// Goes on where the counter stands, in the same epoch: for a board whose memory survived.
    ///
    /// # Errors
    /// The board's, if the counter cannot be loaded.
    pub fn resume(board: B, identity: Identity) -> Result<Self, B::Error> {
        let mut sensor = Self::start(board, identity)?;
        if core::mem::take(&mut sensor.opens) {
            sensor.counter.epoch = sensor.counter.epoch.saturating_sub(1);
        }
        Ok(sensor)
    }

    /// Signs the messages as the next frame. It is in `out[..len]`, and durable, when this returns.
    ///
    /// # Errors
    /// [`SealError`]; the counter has not moved then.
    pub fn seal<const N: usize>(
        &mut self,
        body: &Body<N>,
        out: &mut [u8],
    ) -> Result<Sealed, SealError<B::Error>> {
        if body.count() == 0 {
            return Err(SealError::Empty);
        }
        if body.width() != self.identity.width {
            return Err(SealError::Width);
        }
        let first_q = self.counter.next_q;
        let next_q = first_q + u64::from(body.count());
        if next_q >= Q_MAX {
            return Err(SealError::Exhausted);
        }
        let needed = 37 + 40 * usize::from(self.opens) + 4 + body.bytes().len() + 64;
        let Some(frame) = out.get_mut(..needed) else {
            return Err(SealError::Output { needed });
        };
        let (unsigned, signature) = frame.split_at_mut(needed - 64);
        self.write(body, unsigned);
        let digest: [u8; 32] = Sha256::new()
            .chain_update(TAG)
            .chain_update(self.identity.deployment)
            .chain_update(&*unsigned)
            .finalize()
            .into();
        signature.copy_from_slice(&self.board.sign(&digest).map_err(SealError::Board)?);
        let counter = Counter {
            epoch: self.counter.epoch,
            next_q,
            last_frame: digest,
        };
        self.board
            .commit(&counter, frame)
            .map_err(SealError::Board)?;
        self.counter = counter;
        self.opens = false;
        Ok(Sealed {
            len: needed,
            first_q,
            next_q,
            digest,
        })
    }

    fn write<const N: usize>(&self, body: &Body<N>, out: &mut [u8]) {
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&[VERSION, u8::from(self.opens)]);
        put(&self.identity.sensor);
        put(&self.counter.epoch.to_be_bytes());
        put(&self.counter.next_q.to_be_bytes());
        put(&body.count().to_be_bytes());
        put(&[body.width()]);
        if self.opens {
            put(&(self.counter.next_q - 1).to_be_bytes());
            put(&self.counter.last_frame);
        }
        // A body has at most 16,384 bytes.
        put(&(body.bytes().len() as u32).to_be_bytes());
        put(body.bytes());
    }

    /// Nodes of every user hold everything below `next_q` (see [`Acknowledged`]): the board may forget it.
    ///
    /// # Errors
    /// The board's.
    pub fn acknowledged(&mut self, next_q: u64) -> Result<(), B::Error> {
        self.board.release(next_q.min(self.counter.next_q))
    }

    /// Where the counter stands.
    pub fn counter(&self) -> &Counter {
        &self.counter
    }

    /// The board, to send the frames that it stores.
    pub fn board(&mut self) -> &mut B {
        &mut self.board
    }
}

/// Up to where a node of each of `U` users holds this sensor's messages. A frame is erased only when all of them do, so that
/// no party can make evidence vanish (rule R7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged<const U: usize>([u64; U]);

impl<const U: usize> Default for Acknowledged<U> {
    fn default() -> Self {
        Self([0; U])
    }
}

impl<const U: usize> Acknowledged<U> {
    /// A node of this user (by index) acknowledged everything below `next_q`, under a signature that the caller has checked.
    /// Gives what all users have acknowledged. An unknown user changes nothing.
    pub fn by(&mut self, user: usize, next_q: u64) -> u64 {
        if let Some(held) = self.0.get_mut(user) {
            *held = next_q.max(*held);
        }
        self.by_all()
    }

    /// Everything below this is held by a node of every user.
    pub fn by_all(&self) -> u64 {
        self.0.iter().copied().min().unwrap_or(0)
    }
}
