//! Guest SDK: what a module `f` of an agreement needs, and nothing else (wire-format §4 and §5).
//!
//! A module is a pure function from the carry and the window to an answer. Write it over [`Input`], export it:
//!
//! ```
//! #![cfg_attr(target_arch = "wasm32", no_std)]
//! use diversity_guest::{Answer, Input, OrTrap, Output};
//!
//! /// Counts the messages of each sensor; null when there were none.
//! fn count(input: &Input<'_>) -> Answer {
//!     let mut output = Output::new();
//!     let mut total = 0u32;
//!     for leaf in input.leaves() {
//!         let n = leaf.messages().count() as u32;
//!         output.detail(|item| item.u32(n));
//!         total = total.checked_add(n).or_trap("more than 2^32 messages");
//!     }
//!     if total == 0 { output.null() } else { output.value(|result| result.u32(total)) }
//! }
//!
//! diversity_guest::export!(count);
//! # fn main() {}
//! ```
//!
//! Rules that the SDK keeps for the module:
//! - **Malformed input traps** (`unreachable`): every node meets the same trap, which is a value of the round.
//! - **The trace** ([`Trace`]) is folded over the carry, the header, each leaf and message that the module really
//!   iterated over, and the answer. Whoever did not run the module cannot know it (design R4). It uses integer
//!   semantics of WebAssembly alone, so no engine, fuel or speed changes it.
//! - **Integers only** where money is meant: floats work and are deterministic in a node, but round.
//!
//! On the host the same code runs natively: [`execute`] takes input bytes and gives output bytes, and [`testing`]
//! builds the one and parses the other. A trap is a panic there.

#![no_std]

#[cfg(not(target_arch = "wasm32"))]
extern crate alloc;
#[cfg(test)]
extern crate std;

#[cfg(target_arch = "wasm32")]
pub mod abi;
mod buffer;
mod input;
mod output;
mod reader;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod trace;

pub use input::{Input, Leaf, Leaves, Message, Messages, WindowEnd};
pub use output::{Answer, Output, Packed};
pub use reader::Reader;
pub use trace::Trace;

use buffer::Buffer;

/// Version of the window and of the output that this SDK speaks.
pub const VERSION: u8 = 1;

/// Ends the execution with a trap, which is the one way to say "this input is not for me".
///
/// In WebAssembly this is `unreachable` and the text is not in the module; on the host it is a panic with the text.
#[cfg_attr(target_arch = "wasm32", inline(always))]
#[cfg_attr(not(target_arch = "wasm32"), cold)]
pub fn trap(#[allow(unused_variables)] why: &'static str) -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    panic!("trap: {why}");
}

/// The value, or a trap: for arithmetic that must not overflow in silence.
pub trait OrTrap<T> {
    /// The value, or [`trap`].
    fn or_trap(self, why: &'static str) -> T;
}

impl<T> OrTrap<T> for Option<T> {
    #[inline]
    fn or_trap(self, why: &'static str) -> T {
        match self {
            Some(value) => value,
            None => trap(why),
        }
    }
}

/// Runs a module's function over input bytes (`carry bytes | window`) and returns the output bytes of wire-format §5.
/// Traps when the input is malformed.
pub fn execute(f: impl FnOnce(&Input<'_>) -> Answer, input: &[u8]) -> Buffer {
    let input = Input::parse(input);
    let answer = f(&input);
    answer.encode(input.trace())
}

/// Exports a function `fn(&Input<'_>) -> Answer` as the module's `f`: `memory`, `diversity_abi_1`, `alloc` and `run`.
/// On the host it does nothing, so that the same crate is tested natively.
#[macro_export]
macro_rules! export {
    ($f:path) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code)]
        const _: () = {
            /// Says which version of the interface this is. Never called.
            #[unsafe(no_mangle)]
            extern "C" fn diversity_abi_1() {}

            /// Room for the input.
            #[unsafe(no_mangle)]
            extern "C" fn alloc(len: u32) -> u32 {
                $crate::abi::room(len)
            }

            /// Runs `f` over the input at `ptr`.
            ///
            /// The host is trusted to hand over what `alloc` returned; a module can only harm itself.
            #[unsafe(no_mangle)]
            extern "C" fn run(ptr: u32, len: u32) -> u64 {
                $crate::abi::run($f, ptr, len)
            }
        };
    };
}

#[cfg(test)]
mod tests {
    use super::testing::{LeafBuilder, WindowBuilder, run};
    use super::*;
    use alloc::vec::Vec;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn last_times(input: &Input<'_>) -> Answer {
        let mut output = Output::new();
        output.carry().raw(input.carry().rest()).u8(input.t() as u8);
        let mut total = 0u64;
        for leaf in input.leaves() {
            let last = leaf.messages().last();
            output.detail(|item| item.u64(last.map_or(0, |m| m.q)).raw(leaf.sensor()));
            total += last.map_or(0, |m| m.time);
        }
        if total == 0 {
            output.null()
        } else {
            output.value(|result| result.u64(total))
        }
    }

    fn window() -> WindowBuilder {
        WindowBuilder::new(3)
            .period(100, 200)
            .leaf(
                LeafBuilder::new([1; 20], 4)
                    .first_q(7)
                    .message(150, &[0; 4])
                    .message(120, &[1; 4]),
            )
            .leaf(LeafBuilder::new([2; 20], 0).closed_by_record())
    }

    #[test]
    fn input_and_output() {
        let output = run(last_times, &window().input(&[9, 9]));
        assert_eq!(output.result, Some(120u64.to_be_bytes().to_vec()));
        assert_eq!(output.carry, [9, 9, 3]);
        assert_eq!(output.detail.len(), 2);
        assert_eq!(output.detail[0][..8], 8u64.to_be_bytes());
        assert_eq!(
            run(last_times, &WindowBuilder::new(0).input(&[])).result,
            None
        );
    }

    #[test]
    fn header() {
        let input = window().input(&[]);
        let input = Input::parse(&input);
        assert_eq!(
            (input.t(), input.from(), input.to(), input.sensors()),
            (3, 100, 200, 2)
        );
        let ends: Vec<_> = input
            .leaves()
            .map(|leaf| (leaf.end(), leaf.width(), leaf.first_q(), leaf.count()))
            .collect();
        assert_eq!(
            ends,
            [
                (WindowEnd::Message, 4, 7, 2),
                (WindowEnd::ClosingRecord, 0, 0, 0)
            ]
        );
    }

    /// Whatever the module reads, it either answers or traps; and a byte more or less never gives the same answer.
    #[test]
    fn every_cut_and_every_addition_traps() {
        let whole = window().input(&[1, 2, 3]);
        for n in 0..whole.len() {
            let cut = &whole[..n];
            assert!(
                catch_unwind(|| execute(last_times, cut)).is_err(),
                "cut at {n}"
            );
        }
        let longer = [whole.as_slice(), &[0]].concat();
        assert!(catch_unwind(|| execute(last_times, &longer)).is_err());
    }

    /// Every bit of what the module read moves the trace, or traps.
    #[test]
    fn every_bit_moves_the_trace() {
        let whole = window().input(&[1, 2, 3]);
        let trace = run(last_times, &whole).trace;
        for bit in 0..whole.len() * 8 {
            let mut other = whole.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            if let Ok(output) = catch_unwind(|| run(last_times, &other)) {
                assert_ne!(output.trace, trace, "bit {bit}");
            }
        }
    }

    /// The lazy node: it did not read the messages, so its trace differs although its answer is the same.
    #[test]
    fn a_lazy_execution_has_another_trace() {
        let input = window().input(&[]);
        let honest = run(
            |input| {
                let n = input
                    .leaves()
                    .map(|leaf| leaf.messages().count() as u32)
                    .sum();
                Output::new().value(|result| result.u32(n))
            },
            &input,
        );
        let lazy = run(
            |input| {
                let n = input.leaves().map(|leaf| leaf.count()).sum();
                Output::new().value(|result| result.u32(n))
            },
            &input,
        );
        assert_eq!(honest.result, lazy.result);
        assert_ne!(honest.trace, lazy.trace);
    }

    #[test]
    fn a_count_that_lies_traps() {
        let leaf = LeafBuilder::new([1; 20], 0).message(5, &[]).message(6, &[]);
        let whole = WindowBuilder::new(0).leaf(leaf).input(&[]);
        let at = 4 + 25 + 4 + 20 + 8 + 3;
        for count in [0, 1, 3, 255] {
            let mut other = whole.clone();
            other[at] = count;
            assert!(
                catch_unwind(|| execute(last_times, &other)).is_err(),
                "count {count}"
            );
        }
    }

    #[test]
    fn answers_longer_than_a_node_accepts_trap() {
        let empty = WindowBuilder::new(0).input(&[]);
        let too_long = |f: fn(&Input<'_>) -> Answer| {
            catch_unwind(AssertUnwindSafe(|| execute(f, &empty))).is_err()
        };
        assert!(too_long(
            |_| Output::new().value(|result| result.raw(&[0; 4097]))
        ));
        assert!(!too_long(
            |_| Output::new().value(|result| result.raw(&[0; 4096]))
        ));
        assert!(too_long(|_| {
            let mut output = Output::new();
            output.detail(|item| item.raw(&[0; 1025]));
            output.null()
        }));
        assert!(too_long(|_| {
            let mut output = Output::new();
            for _ in 0..1025 {
                output.carry().raw(&[0; 1024]);
            }
            output.null()
        }));
    }
}
