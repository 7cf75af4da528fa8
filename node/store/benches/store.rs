//! Durable writes per second, one by one and in groups. `cargo bench -p diversity-store`

use std::sync::mpsc::sync_channel;
use std::time::Instant;

use diversity_store::{Op, Store, Writer, WriterLimits};

fn op(n: u64, bytes: usize) -> Op {
    // Spread over the tree as the keys of many sensors are.
    let mut key = (n % 100).to_be_bytes().to_vec();
    key.extend_from_slice(&n.to_be_bytes());
    Op::Put(key, vec![n as u8; bytes])
}

fn report(name: &str, items: u64, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{name:<58} {:>9.0} /s {:>9.1} us each",
        items as f64 / seconds,
        seconds * 1e6 / items as f64
    );
}

fn main() {
    let dir = tempfile::tempdir().expect("directory");
    for bytes in [100, 1000] {
        let path = dir.path().join(bytes.to_string());
        let store = Store::open(&path, b"bench").expect("opens");
        let mut next = 0..;
        let mut take = |count: usize| next.by_ref().take(count).collect::<Vec<u64>>();

        let items = take(2_000);
        let start = Instant::now();
        for n in items {
            store.write(vec![op(n, bytes)]).expect("writes");
        }
        report(&format!("{bytes} B, one by one"), 2_000, start);

        for group in [10, 100, 1000] {
            let items = take(50_000);
            let start = Instant::now();
            for chunk in items.chunks(group) {
                let ops = chunk.iter().map(|n| op(*n, bytes)).collect();
                store.write(ops).expect("writes");
            }
            report(&format!("{bytes} B, batches of {group}"), 50_000, start);
        }

        let writer = Writer::spawn(store.clone(), WriterLimits::default()).expect("a thread");
        for waiting in [16usize, 256, 4096] {
            let items = take(50_000);
            let (done, answers) = sync_channel(waiting);
            let start = Instant::now();
            let mut open = 0;
            for n in items {
                if open == waiting {
                    answers.recv().expect("answered");
                    open -= 1;
                }
                let done = done.clone();
                writer.submit(
                    vec![op(n, bytes)],
                    Box::new(move |result| {
                        result.expect("durable");
                        done.send(()).expect("waited for");
                    }),
                );
                open += 1;
            }
            for _ in 0..open {
                answers.recv().expect("answered");
            }
            report(
                &format!("{bytes} B, writer, single puts, {waiting} in flight"),
                50_000,
                start,
            );
        }
        writer.close();
        let start = Instant::now();
        let count = store.scan_prefix(b"").count() as u64;
        report(&format!("{bytes} B, scan"), count, start);
        println!(
            "{bytes} B: {count} items, {:.1} times their size on disk",
            store.size_on_disk().expect("measures") as f64 / (count * (bytes as u64 + 16)) as f64
        );
        drop(store);
        let start = Instant::now();
        drop(Store::open(&path, b"bench").expect("opens"));
        report(&format!("{bytes} B, open with {count} items"), 1, start);
    }
}
