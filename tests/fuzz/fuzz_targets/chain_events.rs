//! The logs that anybody can have the contracts write: decoded and judged as a node does it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| diversity_chain::events::hostile::believe(bytes));
