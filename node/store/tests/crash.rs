//! SIGKILL under write load: nothing that was acknowledged is lost, and no batch is torn (invariant N1).
//!
//! The test starts this very binary as its child; the child acknowledges on standard output.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use diversity_store::{Op, Store, StoreError, Writer, WriterLimits};

const DIR: &str = "DIVERSITY_STORE_CRASH_DIR";
const KILLS: u64 = 12;
const KEYS_PER_BATCH: u64 = 7;

/// A value that depends on everything, so that a torn or stale one is noticed. One batch in 16 has a large one, which the
/// engine keeps in a file of its own.
fn value(batch: u64, part: u64) -> Vec<u8> {
    let length = match (batch % 16, part) {
        (5, 3) => 700_000,
        _ => 50 + (batch * 31 + part * 17) % 900,
    };
    let mut state = batch << 8 | part;
    (0..length)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

/// The parts of a batch lie far from one another in the tree.
fn key(batch: u64, part: u64) -> Vec<u8> {
    let mut key = vec![b'k', part as u8];
    key.extend_from_slice(&batch.to_be_bytes());
    key
}

fn ops(batch: u64) -> Vec<Op> {
    let mut ops: Vec<Op> = (0..KEYS_PER_BATCH)
        .map(|part| Op::Put(key(batch, part), value(batch, part)))
        .collect();
    ops.push(Op::Put(b"head".to_vec(), batch.to_be_bytes().to_vec()));
    // Every batch removes what the one 100 before it wrote, so that deletes are under test too.
    if batch >= 100 {
        ops.extend((0..KEYS_PER_BATCH).map(|part| Op::Delete(key(batch - 100, part))));
    }
    ops
}

fn head(store: &Store) -> Option<u64> {
    let bytes = store.get(b"head").expect("reads")?;
    Some(u64::from_be_bytes(bytes.try_into().expect("8 bytes")))
}

/// Not a test by itself: what the child runs, until it is killed.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let store = Store::open(Path::new(&dir), b"crash").expect("opens");
    let writer = Writer::spawn(store.clone(), WriterLimits::default()).expect("a thread");
    let stdout = Arc::new(Mutex::new(std::io::stdout()));
    let first = head(&store).map_or(0, |head| head + 1);
    for batch in first.. {
        let stdout = Arc::clone(&stdout);
        writer.submit(
            ops(batch),
            Box::new(move |result| {
                result.expect("durable");
                let mut stdout = stdout.lock().expect("not poisoned");
                writeln!(stdout, "\nacknowledged {batch}").expect("the parent reads");
                stdout.flush().expect("the parent reads");
            }),
        );
    }
}

fn spawn(dir: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts")
}

/// Reads acknowledgements; kills the child after `count` of them and drains what it still said. Gives the last one.
fn run_and_kill(dir: &Path, count: u64) -> u64 {
    let mut child = spawn(dir);
    let stdout = child.stdout.take().expect("piped");
    let mut last = None;
    let mut seen = 0;
    for line in BufReader::new(stdout).lines() {
        let line = line.expect("text");
        let Some(batch) = line.strip_prefix("acknowledged ") else {
            continue;
        };
        // The last line may be cut by the kill: a shorter number is then an older batch, which is there too.
        last = last.max(batch.parse::<u64>().ok());
        seen += 1;
        if seen == count {
            child.kill().expect("SIGKILL");
        }
    }
    child.wait().expect("ended");
    last.expect("something was acknowledged")
}

fn check(dir: &Path, acknowledged: u64) {
    let store = Store::open(dir, b"crash").expect("opens after the kill");
    let head = head(&store).expect("there is a head");
    assert!(
        head >= acknowledged,
        "{acknowledged} was acknowledged, {head} is there"
    );
    let mut parts: BTreeMap<u64, u64> = BTreeMap::new();
    for pair in store.scan_prefix(b"k") {
        let (found, bytes) = pair.expect("reads");
        let part = u64::from(found[1]);
        let batch = u64::from_be_bytes(found[2..].try_into().expect("8 bytes"));
        assert_eq!(found, key(batch, part));
        assert!(
            bytes == value(batch, part),
            "batch {batch} part {part} is damaged"
        );
        *parts.entry(batch).or_default() += 1;
    }
    let expected: BTreeMap<u64, u64> = (head.saturating_sub(99)..=head)
        .map(|batch| (batch, KEYS_PER_BATCH))
        .collect();
    assert_eq!(parts, expected, "a batch is torn or lost");
}

#[test]
fn sigkill_loses_nothing_acknowledged_and_tears_nothing() {
    let dir = tempfile::tempdir().expect("directory");
    let mut total = 0;
    for kill in 0..KILLS {
        let acknowledged = run_and_kill(dir.path(), 20 + kill * kill * 7 % 400);
        check(dir.path(), acknowledged);
        total = acknowledged;
    }
    println!("{KILLS} kills over {total} batches");
}

#[test]
fn a_second_process_is_refused_in_words() {
    let dir = tempfile::tempdir().expect("directory");
    let mut child = spawn(dir.path());
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert!(
        lines.any(|line| line.expect("text").starts_with("acknowledged")),
        "the child has it open"
    );
    let error = Store::open(dir.path(), b"crash").expect_err("locked");
    assert!(matches!(error, StoreError::Locked { .. }));
    assert!(
        error.to_string().contains("in use by another process"),
        "{error}"
    );
    child.kill().expect("SIGKILL");
    child.wait().expect("ended");
    Store::open(dir.path(), b"crash").expect("free again");
}
