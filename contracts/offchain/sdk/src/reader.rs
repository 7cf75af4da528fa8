//! Reads fixed-width big-endian values from bytes; anything missing is a trap.

use crate::{OrTrap, trap};

/// A position in bytes: of the carry, of a message's values, or of the window itself.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

macro_rules! integers {
    ($($name:ident $text:literal),*) => {$(
        #[doc = concat!("A big-endian `", $text, "`.")]
        #[inline]
        pub fn $name(&mut self) -> $name {
            $name::from_be_bytes(self.array())
        }
    )*};
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    integers!(u8 "u8", u16 "u16", u32 "u32", u64 "u64", i8 "i8", i16 "i16", i32 "i32", i64 "i64");

    /// A `bool`: one byte, 0 or 1. Any other byte traps.
    #[inline]
    pub fn bool(&mut self) -> bool {
        match self.u8() {
            0 => false,
            1 => true,
            _ => trap("a bool is 0 or 1"),
        }
    }

    /// A `bytes32`.
    #[inline]
    pub fn bytes32(&mut self) -> &'a [u8; 32] {
        self.raw()
    }

    /// The next `N` bytes.
    #[inline]
    pub fn raw<const N: usize>(&mut self) -> &'a [u8; N] {
        let (head, rest) = self
            .rest
            .split_first_chunk()
            .or_trap("the input ends too early");
        self.rest = rest;
        head
    }

    /// The next `n` bytes.
    #[inline]
    pub fn take(&mut self, n: usize) -> &'a [u8] {
        let (head, rest) = self
            .rest
            .split_at_checked(n)
            .or_trap("the input ends too early");
        self.rest = rest;
        head
    }

    /// `bytes`: a `u32` length and as many bytes.
    #[inline]
    pub fn bytes(&mut self) -> &'a [u8] {
        let n = self.u32();
        self.take(n as usize)
    }

    /// Whether nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is left, without reading it.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Traps when something is left: a module that expects one variable must not ignore a second one.
    #[inline]
    pub fn end(self) {
        if !self.rest.is_empty() {
            trap("more bytes than the module knows");
        }
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> [u8; N] {
        *self.raw()
    }

    /// Unsigned LEB128 in its shortest form, 10 bytes at most.
    #[inline]
    pub(crate) fn varint(&mut self) -> u64 {
        let mut value = 0u64;
        let mut shift = 0u32;
        loop {
            let byte = self.u8();
            // The tenth byte has room for one bit, and only the first byte may be the last with nothing in it.
            if shift == 63 && byte > 1 || shift > 0 && byte == 0 {
                trap("a varint is not in its shortest form");
            }
            value |= u64::from(byte & 0x7f).wrapping_shl(shift);
            if byte < 0x80 {
                return value;
            }
            // Never above 63. Checked arithmetic would leave the place in this file in every module.
            shift = shift.wrapping_add(7);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;
    use std::panic::catch_unwind;

    fn shortest(mut v: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while v >= 0x80 {
            out.push(v as u8 | 0x80);
            v >>= 7;
        }
        out.push(v as u8);
        out
    }

    proptest! {
        #[test]
        fn varint_round_trip(v: u64, cut in 0u32..64) {
            let v = v >> cut;
            let bytes = shortest(v);
            let mut r = Reader::new(&bytes);
            prop_assert_eq!(r.varint(), v);
            r.end();
        }
    }

    /// The two ends, and every way of being wrong: too short, not shortest, more than 64 bits, too long.
    #[test]
    fn varint_bounds() {
        for v in [0, 127, 128, u64::MAX >> 1, u64::MAX] {
            assert_eq!(Reader::new(&shortest(v)).varint(), v);
        }
        let too_wide = [[0xff; 9].as_slice(), &[2]].concat();
        let too_long = [[0xff; 9].as_slice(), &[0x81, 0]].concat();
        for bad in [
            &[][..],
            &[0x80],
            &[0x80, 0],
            &[0xff, 0x80, 0],
            &too_wide,
            &too_long,
        ] {
            assert!(
                catch_unwind(|| Reader::new(bad).varint()).is_err(),
                "{bad:?} was read"
            );
        }
    }

    #[test]
    fn typed_values() {
        let mut r = Reader::new(&[1, 0xff, 0xfe, 0x12, 0x34, 0x56, 0x78, 9]);
        assert!(r.bool());
        assert_eq!(r.i16(), -2);
        assert_eq!(r.u32(), 0x1234_5678);
        assert_eq!(r.take(1), [9]);
        assert!(r.is_empty());
        assert!(catch_unwind(move || r.u8()).is_err());
        assert!(catch_unwind(|| Reader::new(&[2]).bool()).is_err());
        assert!(catch_unwind(|| Reader::new(&[2]).end()).is_err());
    }
}
