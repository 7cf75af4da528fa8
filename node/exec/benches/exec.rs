//! What an execution costs: medians of many, in microseconds. `cargo bench -p diversity-exec`.
#![allow(missing_docs)]

#[path = "../tests/common/mod.rs"]
mod common;

use common::{Event, at, data, empty, input, leaf, module, value};
use diversity_exec::{Executor, Kind, Limits, ModuleId};
use std::path::Path;
use std::time::Instant;

fn main() {
    let executor = Executor::new(Limits::default()).expect("the engine starts");
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../contracts/offchain/modules/bike-lock.wasm");
    let bytes = std::fs::read(path).expect("the module is in the tree");

    let begin = Instant::now();
    let bike = executor.add(&bytes).expect("the module is fit");
    println!(
        "{:>10.1} µs  compile and check bike-lock ({} bytes), once",
        begin.elapsed().as_secs_f64() * 1e6,
        bytes.len()
    );

    let nothing = executor
        .add(&module(&at(0, 46), &data(&value(&[]))))
        .expect("the module is fit");
    let bare = median(&executor, &nothing, &empty(), 2_000);
    println!("{bare:>10.2} µs  an execution that does nothing: instance, two calls, output");
    for (locks, messages) in [(1, 0), (1, 200), (20, 60), (100, 30), (1_000, 200)] {
        let us = median(
            &executor,
            &bike,
            &window(locks, messages),
            if locks > 100 { 20 } else { 1_000 },
        );
        println!(
            "{us:>10.2} µs  bike-lock, {locks} locks with {messages} messages each, fresh instance"
        );
    }
}

fn window(locks: u32, messages: u64) -> Vec<u8> {
    let events: Vec<Event<'_>> = (0..messages)
        .map(|i| (i * 60, if i % 2 == 0 { &[1][..] } else { &[0] }))
        .collect();
    let leaves: Vec<_> = (0..locks).map(|n| leaf(n as u8, 0, 1, &events)).collect();
    input(&[], 0, &leaves)
}

fn median(executor: &Executor, id: &ModuleId, input: &[u8], times: usize) -> f64 {
    let mut took: Vec<f64> = (0..times)
        .map(|_| {
            let begin = Instant::now();
            let output = executor.run(id, input).expect("the module is loaded");
            assert_eq!(output.kind, Kind::Value);
            begin.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    took.sort_by(f64::total_cmp);
    took[took.len() / 2]
}
