//! The fuzzer's corpus, and many inputs beside it, through the fuzzer's own entry point.

use diversity_chain::events::hostile::believe;
use std::path::Path;

#[test]
fn the_corpus_of_the_fuzzer_is_believed_in_bounds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/chain_events");
    let files = std::fs::read_dir(&folder).expect("the corpus is in the tree");
    let mut read = 0;
    for file in files {
        let path = file.expect("an entry").path();
        believe(&std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
        read += 1;
    }
    assert!(read >= 64, "{read} inputs in {}", folder.display());
}

/// The same inputs in every run: a failing one is named by its number.
#[test]
fn whatever_the_logs_are_nothing_panics_and_nothing_out_of_bounds_is_believed() {
    for n in 0..4_000u64 {
        let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let len = next() % 2_048;
        let bytes: Vec<u8> = (0..len).map(|_| (next() >> 32) as u8).collect();
        let caught = std::panic::catch_unwind(|| believe(&bytes));
        assert!(caught.is_ok(), "input {n}");
    }
}
