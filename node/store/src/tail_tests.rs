use super::*;
use crate::Op;
use crate::journal::Journal;

fn open(dir: &Path) -> Journal {
    Journal::open(dir, |_| Ok(()), || Ok(())).expect("opens")
}

/// A journal with records of these lengths; where each begins.
fn journal(dir: &Path, lengths: &[usize]) -> Vec<usize> {
    let mut journal = open(dir);
    let mut starts = Vec::new();
    let mut at = 0;
    for (k, length) in lengths.iter().enumerate() {
        let op = Op::Put(vec![k as u8], vec![k as u8 + 1; *length]);
        starts.push(at);
        at += (HEADER + 8 + op.bytes()).next_multiple_of(ALIGN);
        journal.append(&[op], || Ok(())).expect("appends");
    }
    starts
}

#[test]
fn one_flipped_bit_of_the_last_record_is_told_from_a_write_that_was_cut_off() {
    for lengths in [&[50, 50, 50][..], &[3000], &[50, 700]] {
        let dir = tempfile::tempdir().expect("a directory");
        let last = *journal(dir.path(), lengths).last().expect("some");
        let path = dir.path().join(NAMES[0]);
        let good = fs::read(&path).expect("reads");
        assert_eq!(check(dir.path()), Ok(()));
        let end = last + HEADER + 9 + lengths[lengths.len() - 1];
        for at in (last..end).step_by(if lengths.len() == 3 { 1 } else { 37 }) {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                fs::write(&path, bad).expect("writes");
                let error = check(dir.path()).expect_err("changed");
                assert!(
                    error.to_string().contains("journal-a was changed"),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn a_write_that_was_cut_off_is_no_damage() {
    let dir = tempfile::tempdir().expect("a directory");
    let last = *journal(dir.path(), &[100, 5000]).last().expect("some");
    let path = dir.path().join(NAMES[0]);
    let good = fs::read(&path).expect("reads");
    // Any of its sectors may have come through.
    let sectors: Vec<usize> = (0..last + 5100).step_by(SECTOR).collect();
    for seed in 0..60u64 {
        let mut torn = good.clone();
        let mut whole = true;
        for (k, at) in sectors.iter().enumerate() {
            if seed >> (k % 8) & 1 == 0 || seed % 13 == k as u64 {
                let from = (*at).max(last);
                torn[from..at + SECTOR].fill(FILL);
                whole = false;
            }
        }
        fs::write(&path, &torn).expect("writes");
        assert!(check(dir.path()).is_ok(), "seed {seed}, whole {whole}");
    }
}

#[test]
fn an_end_that_was_overwritten_with_anything_else_is_damage() {
    let dir = tempfile::tempdir().expect("a directory");
    let last = *journal(dir.path(), &[100, 100, 100]).last().expect("some");
    let path = dir.path().join(NAMES[0]);
    let good = fs::read(&path).expect("reads");
    for (from, to) in [(last, 4096), (last, last + 64), (0, 4096)] {
        let mut bad = good.clone();
        bad[from..to].fill(0);
        fs::write(&path, bad).expect("writes");
        assert!(check(dir.path()).is_err(), "{from}..{to}");
    }
    fs::write(&path, good).expect("writes");
    assert_eq!(check(dir.path()), Ok(()));
    // In its later generations a file holds what was there before.
    for _ in 0..5 {
        open(dir.path())
            .append(&[Op::Put(vec![1], vec![2; 30])], || Ok(()))
            .expect("appends");
        assert_eq!(check(dir.path()), Ok(()));
    }
}

#[test]
fn the_register_is_that_of_the_checksum() {
    let bytes = [7u8; 100];
    for (at, bit) in [(0, 0), (50, 3), (99, 7)] {
        let mut other = bytes;
        other[at] ^= 1 << bit;
        let syndrome = crc32fast::hash(&bytes) ^ crc32fast::hash(&other);
        assert!(is_one_bit(syndrome, bytes.len()));
        assert!(!is_one_bit(syndrome ^ 0x1234_5678, bytes.len()));
    }
}
