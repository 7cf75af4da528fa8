//! Executes the off-chain code `f` of agreements: WebAssembly without imports, in wasmtime, the same on every node.
//!
//! A module is a pure function of its input bytes (wire-format §5). What can come of an execution is decided by rule R8
//! of the design, and by nothing else:
//!
//! - **Null, value**: the module answered, and the answer is well formed.
//! - **Trap**: a trap that the WebAssembly standard defines, such as `unreachable`, an access out of bounds, a division
//!   by zero; an output that cannot be used; an input that is too long, or that `alloc` gives no room. All of it follows
//!   from module and input alone, at the same place in every engine, so it is an answer on which nodes agree.
//! - **Abstain**: a limit of this engine (fuel, native stack, host memory, wall clock).
//!   Such limits protect the node; they never become a result.
//!
//! What makes it deterministic: no imports, so no clock, randomness or host state; NaNs canonical; no threads, no SIMD;
//! memory and table with declared maxima, at most the node's limits, so that growing fails at the same size everywhere;
//! a fresh instance for every execution. The trace that a module returns is its own arithmetic, so neither fuel nor the
//! engine's version can change it (R4).
//!
//! ```
//! use diversity_exec::{Executor, Kind, Limits};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let wasm = wat::parse_str(r#"(module (memory (export "memory") 1 1) (func (export "diversity_abi_1"))
//! #   (func (export "alloc") (param i32) (result i32) i32.const 0)
//! #   (func (export "run") (param i32 i32) (result i64) unreachable))"#)?;
//! let executor = Executor::new(Limits::default())?;
//! let id = executor.add(&wasm)?;
//! let input = [&[0; 4][..], &[1], &[0; 28]].concat(); // no carry, and a window of no sensors
//! assert_eq!(executor.run(&id, &input)?.kind, Kind::Trap);
//! # Ok(()) }
//! ```

mod check;
mod clock;
mod engine;
mod executor;
mod limits;
mod output;

pub use check::{ModuleError, ModuleInfo};
pub use executor::{Executor, ExecutorError, RunError};
pub use limits::Limits;
pub use output::{
    Abstain, CARRY_BYTES_MAX, DETAIL_BYTES_MAX, INPUT_BYTES_MAX, Kind, Output, RESULT_BYTES_MAX,
};

/// SHA-256 of a module's bytes: its identity in the terms of an agreement (`offChainCode`).
pub type ModuleId = [u8; 32];
