//! Golden vectors (wire-format §2): each file under `proto/vectors/` holds inputs and what they give, flat, as
//! hexadecimal and decimal strings, so that Rust, Solidity and the firmware read the same bytes.
//!
//! `cargo test -p diversity-proto --test vectors` recomputes every output from the inputs in the file and compares.
//! `DIVERSITY_REGENERATE=1` writes the files anew from the inputs in this test; to do so is a decision about every
//! deployed contract and device, and belongs in a commit of its own.

mod file;
mod frames;
mod registration;
mod round;
mod terms;
mod window;
