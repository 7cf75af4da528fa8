//! A store whose process was killed at any of its writes, or within one, opens with everything that it had acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use diversity_store::{Op, Store};

type Files = BTreeMap<PathBuf, Vec<u8>>;
type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// Batches that are written.
const BATCHES: u8 = 24;
/// A write that is cut off ends between sectors (ADR 13).
const SECTOR: usize = 512;
/// Cuts within one write.
const CUTS_MAX: usize = 6;

fn batch(n: u8) -> Vec<Op> {
    let key = |k: u8| vec![b'A' + k % 3, k];
    // From a few bytes to several sectors; some is written over, some removed.
    let value = |k: u8| vec![n + 1; usize::from(k % 5) * 700 + 20];
    let mut ops = vec![Op::Put(key(n), value(n)), Op::Put(key(n / 2), value(n + 1))];
    if n % 4 == 3 {
        ops.push(Op::Delete(key(n - 1)));
    }
    ops
}

fn applied(records: &mut Records, ops: &[Op]) {
    for op in ops {
        match op {
            Op::Put(key, value) => drop(records.insert(key.clone(), value.clone())),
            Op::Delete(key) => drop(records.remove(key)),
        }
    }
}

fn read(dir: &Path, below: &Path, out: &mut Files) {
    for entry in fs::read_dir(dir.join(below)).expect("lists") {
        let entry = entry.expect("an entry");
        let path = below.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            read(dir, &path, out);
        } else {
            out.insert(path, fs::read(entry.path()).expect("reads"));
        }
    }
}

/// As a kill would leave it now: the journal last, since it is written first.
fn image(dir: &Path) -> Files {
    let mut out = Files::new();
    read(dir, Path::new("sled"), &mut out);
    for entry in fs::read_dir(dir).expect("lists") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("a type").is_file() {
            let content = fs::read(entry.path()).expect("reads");
            out.insert(entry.file_name().into(), content);
        }
    }
    out
}

fn opens_with(files: &Files, allowed: &[&Records], what: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    for (path, content) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, content).expect("writes");
    }
    let store = Store::open(dir.path(), b"me").unwrap_or_else(|e| panic!("{what}: {e}"));
    let found: Result<Records, _> = store.scan_prefix(b"").collect();
    let found = found.unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(
        allowed.contains(&&found),
        "{what}: {} records, and none of what was acknowledged",
        found.len()
    );
}

/// Ends of sectors within what differs, some of them, ascending.
fn cuts(old: &[u8], new: &[u8]) -> Vec<usize> {
    let differs = |at: usize| old.get(at) != new.get(at);
    let changed = (0..new.len()).filter(|at| differs(*at));
    let ends: BTreeSet<usize> = changed.map(|at| (at / SECTOR + 1) * SECTOR).collect();
    let step = (ends.len() / CUTS_MAX).max(1);
    ends.into_iter().step_by(step).collect()
}

#[test]
fn a_kill_at_any_write_and_within_it_stops_no_start_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path(), b"me").expect("opens");
    let mut before = (image(dir.path()), Records::new());
    let mut cases = 0;
    for n in 0..BATCHES {
        let ops = batch(n);
        let mut records = before.1.clone();
        applied(&mut records, &ops);
        store.write(ops).expect("writes");
        let files = image(dir.path());
        opens_with(&files, &[&records], &format!("after batch {n}"));
        // File by file, in the order in which they are written: the journal, then the engine.
        let (engine, own): (Vec<&PathBuf>, Vec<&PathBuf>) =
            files.keys().partition(|path| path.starts_with("sled"));
        let mut torn = before.0.clone();
        for path in own.into_iter().chain(engine) {
            let (old, new) = (torn.remove(path).unwrap_or_default(), &files[path]);
            for cut in cuts(&old, new) {
                let mut content = old.clone();
                let end = cut.min(new.len());
                content.resize(content.len().max(end), 0);
                content[..end].copy_from_slice(&new[..end]);
                torn.insert(path.clone(), content);
                let what = format!("batch {n}, {} up to byte {end}", path.display());
                opens_with(&torn, &[&before.1, &records], &what);
                cases += 1;
            }
            torn.insert(path.clone(), new.clone());
        }
        before = (files, records);
    }
    println!("{cases} kills within a write");
    assert!(cases > usize::from(BATCHES), "{cases}");
}
