//! The messages of a frame that is being collected, in their one compact encoding.

use crate::{
    FRAME_BODY_BYTES_MAX, FRAME_MESSAGES_MAX, Identity, Period, TIME_MAX, TIME_PLAUSIBLE_FROM,
};

/// Why a message does not go into this frame. After [`PushError::Full`] and [`PushError::Period`] the frame is sealed and the
/// message goes into the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// No room for another message.
    Full,
    /// The message lies in another day or month than the frame.
    Period,
    /// The values have not the width that the sensor declared.
    Width,
    /// Not Unix seconds below 2^48.
    Time,
    /// A time that cannot be: before the year 2000, or later than the latest that was given.
    Implausible,
}

impl core::fmt::Display for PushError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Full => "the frame is full: seal it and begin another",
            Self::Period => "the message lies in another period: seal the frame and begin another",
            Self::Width => "the values have not the declared width",
            Self::Time => "the time is not Unix seconds below 2^48: set the clock",
            Self::Implausible => {
                "the time cannot be: set the clock before anything is signed with it"
            }
        })
    }
}

impl core::error::Error for PushError {}

/// Up to `N` bytes of consecutive messages. A message takes at most 7 bytes beside its values, mostly 2 or 3.
#[derive(Clone, Debug)]
pub struct Body<const N: usize> {
    bytes: [u8; N],
    len: usize,
    count: u16,
    width: u8,
    period: Period,
    first: u64,
    previous: u64,
}

impl<const N: usize> Body<N> {
    /// An empty one.
    pub fn new(identity: &Identity) -> Self {
        Self {
            bytes: [0; N],
            len: 0,
            count: 0,
            width: identity.width,
            period: identity.period,
            first: 0,
            previous: 0,
        }
    }

    /// Appends a message: sensor time in Unix seconds, and the big-endian values in the order of the declaration.
    ///
    /// # Errors
    /// [`PushError`]; nothing is appended then.
    pub fn push(&mut self, time: u64, values: &[u8]) -> Result<(), PushError> {
        if values.len() != usize::from(self.width) {
            return Err(PushError::Width);
        }
        if time >= TIME_MAX {
            return Err(PushError::Time);
        }
        if self.count > 0 && !self.period.same(self.first, time) {
            return Err(PushError::Period);
        }
        let mut delta = [0; 10];
        let n = varint(zigzag(time as i64 - self.previous as i64), &mut delta);
        let end = self.len + n + values.len();
        if self.count == FRAME_MESSAGES_MAX || end > N.min(FRAME_BODY_BYTES_MAX) {
            return Err(PushError::Full);
        }
        self.bytes[self.len..self.len + n].copy_from_slice(&delta[..n]);
        self.bytes[self.len + n..end].copy_from_slice(values);
        if self.count == 0 {
            self.first = time;
        }
        self.previous = time;
        self.len = end;
        self.count += 1;
        Ok(())
    }

    /// [`Body::push`] of a message that is made now. What is signed once is never signed anew, so a clock that was never set (1970), that
    /// counts milliseconds or that lies in the future is refused here. `latest` is the latest time that can be: for a gateway its own
    /// clock and a day; for a device without another clock the signed time that a node gave it, or the end of its life.
    ///
    /// # Errors
    /// [`PushError`]; nothing is appended then.
    pub fn push_now(&mut self, time: u64, latest: u64, values: &[u8]) -> Result<(), PushError> {
        if !(TIME_PLAUSIBLE_FROM..=latest).contains(&time) {
            return Err(PushError::Implausible);
        }
        self.push(time, values)
    }

    /// Empties it for the next frame.
    pub fn clear(&mut self) {
        self.len = 0;
        self.count = 0;
        self.previous = 0;
    }

    /// Number of messages.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// The encoding.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(crate) fn width(&self) -> u8 {
        self.width
    }
}

const fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}

/// Unsigned LEB128 in its shortest form; gives its length.
fn varint(mut v: u64, out: &mut [u8; 10]) -> usize {
    let mut n = 0;
    while v > 0x7f {
        out[n] = v as u8 | 0x80;
        v >>= 7;
        n += 1;
    }
    out[n] = v as u8;
    n + 1
}
