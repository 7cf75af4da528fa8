//! What `f` answers (wire-format §5).

use crate::buffer::Buffer;
use crate::{OrTrap, Trace, VERSION, trap};

/// Most bytes of a result; a node abstains above it.
const RESULT_BYTES_MAX: usize = 4096;
/// Most bytes of one sensor's detail.
const DETAIL_BYTES_MAX: usize = 1024;
/// Most bytes of a carry.
const CARRY_BYTES_MAX: usize = 1 << 20;

/// Values in the packed ABI encoding: each in its natural width, big-endian, nothing between them.
#[derive(Debug, Default)]
pub struct Packed(Buffer);

macro_rules! integers {
    ($($name:ident $text:literal),*) => {$(
        #[doc = concat!("Appends a `", $text, "`.")]
        #[inline]
        pub fn $name(&mut self, value: $name) -> &mut Self {
            self.raw(&value.to_be_bytes())
        }
    )*};
}

impl Packed {
    integers!(u8 "uint8", u16 "uint16", u32 "uint32", u64 "uint64", u128 "uint128",
              i8 "int8", i16 "int16", i32 "int32", i64 "int64", i128 "int128");

    /// Appends a `bool`.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.u8(value.into())
    }

    /// Appends bytes as they are: a `bytesN`, an `address`, or a wider integer in big-endian.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends what `fill` writes as `bytes`, a `u32` length before it.
    fn counted(&mut self, max: usize, fill: impl FnOnce(&mut Packed) -> &mut Packed) {
        let at = self.0.as_slice().len();
        self.u32(0);
        fill(self);
        let (place, filled) = self
            .0
            .as_mut_slice()
            .get_mut(at..)
            .and_then(|counted| counted.split_first_chunk_mut())
            .or_trap("the length was written above");
        if filled.len() > max {
            trap("the answer is longer than a node accepts");
        }
        *place = (filled.len() as u32).to_be_bytes();
    }
}

/// The answer while it is being made. [`Output::value`] or [`Output::null`] ends it.
#[derive(Debug, Default)]
pub struct Output {
    items: u32,
    detail: Packed,
    carry: Packed,
}

impl Output {
    /// No detail and an empty carry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the detail of the next sensor: either never called, or once per leaf in their order.
    pub fn detail(&mut self, fill: impl FnOnce(&mut Packed) -> &mut Packed) {
        self.items = self.items.checked_add(1).or_trap("2^32 sensors");
        self.detail.counted(DETAIL_BYTES_MAX, fill);
    }

    /// The carry for the next execution, to be appended to.
    pub fn carry(&mut self) -> &mut Packed {
        &mut self.carry
    }

    /// Ends with a value: the result that goes on chain.
    pub fn value(self, fill: impl FnOnce(&mut Packed) -> &mut Packed) -> Answer {
        let mut result = Packed::default();
        result.counted(RESULT_BYTES_MAX, fill);
        Answer {
            tag: 1,
            result,
            output: self,
        }
    }

    /// Ends with null: nothing is written on chain. Not the same as an empty value.
    pub fn null(self) -> Answer {
        let mut result = Packed::default();
        result.u32(0);
        Answer {
            tag: 0,
            result,
            output: self,
        }
    }
}

/// A finished answer.
#[derive(Debug)]
pub struct Answer {
    tag: u8,
    /// With its length before it.
    result: Packed,
    output: Output,
}

impl Answer {
    /// The output bytes. The answer itself is the last thing that enters the trace.
    pub(crate) fn encode(self, trace: &Trace) -> Buffer {
        let Self {
            tag,
            result,
            output:
                Output {
                    items,
                    detail,
                    carry,
                },
        } = self;
        let (result, detail, carry) =
            (result.0.as_slice(), detail.0.as_slice(), carry.0.as_slice());
        if carry.len() > CARRY_BYTES_MAX {
            trap("the carry is longer than a node accepts");
        }
        let mut out = Packed::default();
        out.u8(VERSION)
            .u8(tag)
            .raw(result)
            .u32(items)
            .raw(detail)
            .u32(carry.len() as u32)
            .raw(carry);
        trace.fold_bytes(out.0.as_slice());
        out.raw(&trace.finish());
        out.0
    }
}
