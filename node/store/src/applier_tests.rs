//! What the applier promises: order, what readers see, an end that loses nothing, and an engine that fails.

use super::*;
use crate::Store;
use crate::engine::Engine;

fn put(key: u64, value: &[u8]) -> Op {
    Op::Put(key.to_be_bytes().to_vec(), value.to_vec())
}

fn engine(dir: &std::path::Path) -> (Arc<Engine>, Applier) {
    let engine = Arc::new(Engine::create(dir, &dir.join("db"), 0).expect("made"));
    let behind = Arc::clone(&engine);
    let apply = move |ops, position| behind.apply(ops, Some(position));
    (engine, Applier::spawn(0, apply).expect("a thread"))
}

#[test]
fn what_was_given_is_found_after_it_has_settled_and_the_last_of_a_key_counts() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, applier) = engine(dir.path());
    for n in 0..200u64 {
        applier.give(vec![put(n % 10, &n.to_be_bytes())], n + 1);
    }
    applier.settle();
    assert_eq!(engine.position(), 200);
    for key in 0..10u64 {
        let last = engine
            .get(&key.to_be_bytes())
            .expect("read")
            .expect("there");
        assert_eq!(last, (190 + key).to_be_bytes());
    }
    // Without anybody who waits it comes by itself.
    applier.give(vec![put(10, b"late")], 201);
    while engine.position() < 201 {
        std::thread::yield_now();
    }
    applier.end();
}

#[test]
fn an_end_applies_what_is_left_and_many_share_a_batch() {
    let (tell, told) = std::sync::mpsc::channel();
    let applier = Applier::spawn(0, move |ops: Vec<Op>, position| {
        tell.send((ops.len(), position)).expect("heard");
        Ok(())
    })
    .expect("a thread");
    for n in 0..1_000u64 {
        applier.give(vec![put(n, b"x")], n + 1);
    }
    applier.end();
    let batches: Vec<_> = told.iter().collect();
    assert_eq!(batches.iter().map(|(ops, _)| ops).sum::<usize>(), 1_000);
    assert_eq!(batches.last().map(|(_, position)| *position), Some(1_000));
    assert!(
        batches.len() < 500,
        "{} batches of the engine",
        batches.len()
    );
}

#[test]
fn a_flood_is_bounded_by_the_engine() {
    let dir = tempfile::tempdir().expect("a folder");
    let (engine, applier) = engine(dir.path());
    let value = vec![7; 1 << 20];
    for n in 0..64u64 {
        applier.give(vec![put(n, &value)], n + 1);
        let pending = lock(&applier.shared.state).bytes;
        assert!(pending <= PENDING_BYTES_MAX + (2 << 20), "{pending} bytes");
    }
    applier.end();
    assert_eq!(engine.position(), 64);
}

#[test]
fn readers_of_a_store_see_what_was_told_durable_before_they_asked() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path(), b"me").expect("made");
    for n in 0..300u64 {
        let (reader, told) = (store.clone(), std::sync::mpsc::channel());
        store
            .write_then(vec![put(n, b"v"), put(1_000, &n.to_be_bytes())], || {
                told.0.send(()).expect("heard");
            })
            .expect("written");
        told.1.recv().expect("told");
        let read = std::thread::spawn(move || reader.get(&1_000u64.to_be_bytes()));
        let newest = read
            .join()
            .expect("no panic")
            .expect("read")
            .expect("there");
        assert_eq!(newest, n.to_be_bytes());
        assert_eq!(store.scan_prefix(&[]).count() as u64, n + 2);
    }
}

#[test]
fn an_engine_that_fails_is_told_once_and_nobody_waits_for_it() {
    let refused = StoreError::Engine {
        action: "apply a batch",
        reason: "the disk is gone".into(),
    };
    for panics in [false, true] {
        let error = refused.clone();
        let applier = Applier::spawn(0, move |_, _| {
            assert!(!panics, "as an engine may");
            Err(error.clone())
        })
        .expect("a thread");
        let value = vec![7; 1 << 20];
        for n in 0..64u64 {
            applier.give(vec![put(n, &value)], n + 1);
        }
        applier.settle();
        assert_eq!(applier.settling()(), Err(StoreError::Poisoned));
        assert!(applier.failed());
        let failure = applier.failure().expect("a reason");
        assert!(matches!(
            failure,
            StoreError::Engine {
                action: "apply a batch",
                ..
            }
        ));
        assert_eq!(panics, failure != refused);
        assert_eq!(applier.failure(), None);
        applier.end();
    }
}
