//! The strict codec: big-endian integers, length-prefixed bytes, bounded lists (wire-format §1).

use alloc::{string::String, vec::Vec};
use core::fmt;

/// Why bytes were refused. The text names the field, so that a person can act on it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DecodeError {
    /// The input ended inside a field.
    Truncated(&'static str),
    /// Bytes follow the end of the value.
    Trailing(usize),
    /// A length or count is above its bound.
    TooLong {
        what: &'static str,
        len: usize,
        max: usize,
    },
    /// A value that the format does not allow.
    Invalid(&'static str),
    /// A format version that this build does not know.
    Version {
        what: &'static str,
        found: u8,
        known: u8,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated(what) => write!(f, "the input ends inside {what}"),
            Self::Trailing(n) => write!(f, "{n} bytes follow the end of the value"),
            Self::TooLong { what, len, max } => {
                write!(f, "{what} has length {len}, the limit is {max}")
            }
            Self::Invalid(what) => write!(f, "invalid value: {what}"),
            Self::Version { what, found, known } => {
                write!(
                    f,
                    "{what} has format version {found}, this build knows version {known}: upgrade the older side"
                )
            }
        }
    }
}

impl core::error::Error for DecodeError {}

/// Result of a decoder.
pub type Result<T> = core::result::Result<T, DecodeError>;

/// Appends values in their one encoding.
#[derive(Clone, Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Self::default()
    }
    /// A writer that starts with these bytes.
    pub fn with(prefix: &[u8]) -> Self {
        Self(prefix.to_vec())
    }
    /// One byte.
    pub fn u8(&mut self, v: u8) -> &mut Self {
        self.0.push(v);
        self
    }
    /// Two bytes, big-endian.
    pub fn u16(&mut self, v: u16) -> &mut Self {
        self.raw(&v.to_be_bytes())
    }
    /// Four bytes, big-endian.
    pub fn u32(&mut self, v: u32) -> &mut Self {
        self.raw(&v.to_be_bytes())
    }
    /// Eight bytes, big-endian.
    pub fn u64(&mut self, v: u64) -> &mut Self {
        self.raw(&v.to_be_bytes())
    }
    /// Bytes as they are, without a length.
    pub fn raw(&mut self, v: &[u8]) -> &mut Self {
        self.0.extend_from_slice(v);
        self
    }
    /// A `u32` length and the bytes.
    pub fn bytes(&mut self, v: &[u8]) -> &mut Self {
        self.u32(len_u32(v.len())).raw(v)
    }
    /// A `u32` length and UTF-8.
    pub fn text(&mut self, v: &str) -> &mut Self {
        self.bytes(v.as_bytes())
    }
    /// A `u32` count and each item.
    pub fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) -> &mut Self {
        self.u32(len_u32(items.len()));
        for item in items {
            each(self, item);
        }
        self
    }
    /// Unsigned LEB128 in its shortest form.
    pub fn varint(&mut self, v: u64) -> &mut Self {
        let mut buf = [0u8; 10];
        let n = write_varint(v, &mut buf);
        self.raw(&buf[..n])
    }
    /// The bytes written.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

fn len_u32(n: usize) -> u32 {
    u32::try_from(n).expect("encoded values are bounded far below 4 GiB")
}

/// Writes `v` as shortest-form LEB128 into `out` and returns the number of bytes (1..=10).
pub fn write_varint(mut v: u64, out: &mut [u8; 10]) -> usize {
    let mut n = 0;
    loop {
        let low = (v & 0x7f) as u8;
        v >>= 7;
        out[n] = if v == 0 { low } else { low | 0x80 };
        n += 1;
        if v == 0 {
            return n;
        }
    }
}

/// Maps a signed integer to an unsigned one of similar size.
pub const fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}

/// Inverse of [`zigzag`].
pub const fn unzigzag(v: u64) -> i64 {
    ((v >> 1) as i64) ^ -((v & 1) as i64)
}

/// Reads values strictly from a slice.
#[derive(Clone, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// A reader over the whole input.
    pub fn new(input: &'a [u8]) -> Self {
        Self(input)
    }
    /// Bytes not yet read.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }
    /// Takes `n` bytes.
    pub fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8]> {
        if self.0.len() < n {
            return Err(DecodeError::Truncated(what));
        }
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        Ok(head)
    }
    /// Takes exactly `N` bytes.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        Ok(self.take(N, what)?.try_into().expect("length was taken"))
    }
    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8> {
        Ok(self.array::<1>(what)?[0])
    }
    /// Two bytes, big-endian.
    pub fn u16(&mut self, what: &'static str) -> Result<u16> {
        Ok(u16::from_be_bytes(self.array(what)?))
    }
    /// Four bytes, big-endian.
    pub fn u32(&mut self, what: &'static str) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }
    /// Eight bytes, big-endian.
    pub fn u64(&mut self, what: &'static str) -> Result<u64> {
        Ok(u64::from_be_bytes(self.array(what)?))
    }
    /// Length-prefixed bytes of at most `max`.
    pub fn bytes(&mut self, max: usize, what: &'static str) -> Result<&'a [u8]> {
        let len = self.u32(what)? as usize;
        if len > max {
            return Err(DecodeError::TooLong { what, len, max });
        }
        self.take(len, what)
    }
    /// Length-prefixed UTF-8 of at most `max` bytes.
    pub fn text(&mut self, max: usize, what: &'static str) -> Result<String> {
        let raw = self.bytes(max, what)?;
        core::str::from_utf8(raw)
            .map(String::from)
            .map_err(|_| DecodeError::Invalid(what))
    }
    /// A counted list of at most `max` items.
    pub fn list<T>(
        &mut self,
        max: usize,
        what: &'static str,
        mut each: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let len = self.u32(what)? as usize;
        if len > max {
            return Err(DecodeError::TooLong { what, len, max });
        }
        // Grown while it is read: a count alone never makes us allocate.
        let mut out = Vec::with_capacity(len.min(self.0.len()));
        for _ in 0..len {
            out.push(each(self)?);
        }
        Ok(out)
    }
    /// Shortest-form LEB128.
    pub fn varint(&mut self, what: &'static str) -> Result<u64> {
        let mut v = 0u64;
        for i in 0..10 {
            let b = self.u8(what)?;
            let part = u64::from(b & 0x7f);
            if i == 9 && part > 1 {
                return Err(DecodeError::Invalid(what));
            }
            v |= part << (7 * i);
            if b & 0x80 == 0 {
                if b == 0 && i > 0 {
                    return Err(DecodeError::Invalid(what));
                }
                return Ok(v);
            }
        }
        Err(DecodeError::Invalid(what))
    }
    /// A version byte, which must be [`crate::VERSION`].
    pub fn version(&mut self, what: &'static str) -> Result<()> {
        self.version_in(what, crate::VERSION, crate::VERSION)
            .map(|_| ())
    }
    /// A version byte from `oldest` to `newest`, both included: a reader of version N reads N-1 where the format says so.
    pub fn version_in(&mut self, what: &'static str, oldest: u8, newest: u8) -> Result<u8> {
        match self.u8(what)? {
            found if (oldest..=newest).contains(&found) => Ok(found),
            found => Err(DecodeError::Version {
                what,
                found,
                known: newest,
            }),
        }
    }
    /// A byte that is 0 or 1.
    pub fn bool(&mut self, what: &'static str) -> Result<bool> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Invalid(what)),
        }
    }
    /// Fails unless everything was read.
    pub fn end(&self) -> Result<()> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing(self.0.len()))
        }
    }
}

/// Decodes a whole value: nothing may follow it.
pub fn decode_all<T>(input: &[u8], f: impl FnOnce(&mut Reader<'_>) -> Result<T>) -> Result<T> {
    let mut r = Reader::new(input);
    let v = f(&mut r)?;
    r.end()?;
    Ok(v)
}
