use std::cell::RefCell;

use super::*;

fn put(key: u64, value: &[u8]) -> Op {
    Op::Put(key.to_be_bytes().to_vec(), value.to_vec())
}

/// Opens the journal; gives it and what it held.
fn open(dir: &Path) -> (Journal, Vec<Vec<Op>>) {
    let held = RefCell::new(Vec::new());
    let journal = Journal::open(
        dir,
        |ops| {
            held.borrow_mut().push(ops);
            Ok(())
        },
        || Ok(()),
    )
    .expect("opens");
    (journal, held.into_inner())
}

#[test]
fn what_was_appended_comes_back_in_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut journal, held) = open(dir.path());
    assert!(held.is_empty());
    let batches = [
        vec![put(1, b"one"), Op::Delete(b"gone".to_vec())],
        vec![],
        vec![put(2, &[7; 100_000])],
    ];
    for ops in &batches {
        journal.append(ops, || Ok(())).expect("appends");
    }
    drop(journal);
    assert_eq!(open(dir.path()).1, batches);
}

#[test]
fn a_record_that_was_cut_off_was_never_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut journal, _) = open(dir.path());
    for key in 0..3 {
        journal
            .append(&[put(key, &[1; 50])], || Ok(()))
            .expect("appends");
    }
    let end = journal.offset;
    drop(journal);
    let path = dir.path().join(NAMES[0]);
    for cut in 1..60 {
        let bytes = std::fs::read(&path).expect("reads");
        let mut torn = bytes.clone();
        torn[end as usize - cut] ^= 0xff;
        std::fs::write(&path, &torn).expect("writes");
        let (_, held) = open(dir.path());
        // The last bytes are padding, which no checksum covers and nothing reads.
        assert!(
            held.len() == 2 || held.len() == 3 && cut <= ALIGN,
            "cut {cut}: {}",
            held.len()
        );
        std::fs::write(&path, &bytes).expect("writes");
    }
}

#[test]
fn damage_in_the_middle_is_told_and_not_taken_for_the_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut journal, _) = open(dir.path());
    for key in 0..20 {
        journal
            .append(&[put(key, &[1; 50])], || Ok(()))
            .expect("appends");
    }
    drop(journal);
    let path = dir.path().join(NAMES[0]);
    let mut bytes = std::fs::read(&path).expect("reads");
    bytes[300] ^= 1;
    std::fs::write(&path, &bytes).expect("writes");
    let opened = Journal::open(dir.path(), |_| Ok(()), || Ok(()));
    assert!(matches!(opened, Err(StoreError::Damaged { .. })));
}

#[test]
fn files_take_turns_and_the_engine_is_flushed_before_one_is_written_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut journal, _) = open(dir.path());
    let turns = RefCell::new(0);
    let mut last = 0;
    for key in 0..500 {
        let appended = journal.append(&[put(key, &[key as u8; 100_000])], || {
            *turns.borrow_mut() += 1;
            Ok(())
        });
        if appended.expect("appends") == Appended::Turned {
            last = key;
        }
    }
    assert!(*turns.borrow() >= 5);
    drop(journal);
    let (_, held) = open(dir.path());
    let keys: Vec<u64> = held
        .iter()
        .map(|ops| match &ops[0] {
            Op::Put(key, _) => u64::from_be_bytes(key[..].try_into().expect("8 bytes")),
            Op::Delete(_) => unreachable!("only puts"),
        })
        .collect();
    assert_eq!(keys.last(), Some(&499));
    assert!(
        keys.is_sorted() && keys.windows(2).all(|w| w[0] + 1 == w[1]),
        "without a gap"
    );
    assert!(
        *keys.first().expect("some") < last,
        "at least one whole file before the active one"
    );
}

#[test]
fn a_batch_longer_than_a_file_is_taken() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut journal, _) = open(dir.path());
    let long = vec![put(0, &vec![1; 6 << 20]), put(1, &vec![2; 6 << 20])];
    journal.append(&[put(9, b"x")], || Ok(())).expect("appends");
    journal.append(&long, || Ok(())).expect("appends");
    journal
        .append(&[put(10, b"y")], || Ok(()))
        .expect("appends");
    drop(journal);
    // The first one was flushed before its file was written over.
    let (_, held) = open(dir.path());
    assert_eq!(held, [long, vec![put(10, b"y")]]);
}
