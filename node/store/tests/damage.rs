//! A small store with one bit flipped, a file cut, emptied or removed, at every place: it opens with the same records, or says in words
//! that it does not.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use diversity_store::{Op, Store, StoreError, salvage};

const FAMILIES: &[u8] = b"AX";

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

fn records() -> Records {
    let key = |family: u8, n: u8| vec![family, 0, n];
    let mut all = Records::new();
    for n in 0..5u8 {
        all.insert(key(b'A', n), vec![n + 1; 40 + usize::from(n) * 150]);
        all.insert(key(b'X', n), (0..90 + n).collect());
    }
    all
}

/// Ten records in batches of their own, with some that are written over and removed.
fn fill(store: &Store) {
    for (key, value) in records() {
        let old = [&key[..], b"old"].concat();
        store
            .write(vec![
                Op::Put(key.clone(), b"before".to_vec()),
                Op::Put(old.clone(), vec![0; 20]),
            ])
            .expect("writes");
        store
            .write(vec![Op::Put(key, value), Op::Delete(old)])
            .expect("writes");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("lists") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copies");
        }
    }
}

fn files(dir: &Path, below: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir.join(below)).expect("lists") {
        let entry = entry.expect("an entry");
        let path = below.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            out.extend(files(dir, &path));
        } else {
            out.push(path);
        }
    }
    out.sort();
    out
}

/// A store as it lies on the disk after a clean end, and after a SIGKILL.
fn images(dir: &Path) -> [(&'static str, PathBuf); 2] {
    let (closed, killed) = (dir.join("closed"), dir.join("killed"));
    let live = dir.join("live");
    let store = Store::open(&live, b"me").expect("opens");
    fill(&store);
    copy(&live, &killed);
    drop(store);
    copy(&live, &closed);
    [("closed", closed), ("killed", killed)]
}

fn all(store: &Store) -> Result<Records, StoreError> {
    store.scan_prefix(b"").collect()
}

/// What opening gave: nothing if all records are there.
fn refusal(dir: &Path, what: &str) -> Option<StoreError> {
    match Store::open(dir, b"me").and_then(|store| all(&store)) {
        Ok(found) => {
            assert_eq!(found, records(), "{what}: other records, and no word of it");
            None
        }
        Err(error) => {
            let words = error.to_string();
            let useful = [
                "--rebuild-store",
                "use the program",
                "check the data directory",
                "holds no store",
            ];
            assert!(useful.iter().any(|w| words.contains(w)), "{what}: {words}");
            assert!(
                !words.contains('\n') && words.len() < 1500,
                "{what}: {words}"
            );
            Some(error)
        }
    }
}

/// What can be salvaged is never wrong, and complete only if it is.
fn salvaged(dir: &Path, what: &str) {
    let new = tempfile::tempdir().expect("a directory");
    let into = Store::open(new.path(), b"me").expect("opens");
    let Ok(found) = salvage(dir, b"me", FAMILIES, FAMILIES, &into) else {
        return;
    };
    let (wanted, records) = (records(), all(&into).expect("reads"));
    assert_eq!(found.records, records.len() as u64);
    if found.complete {
        assert_eq!(records, wanted, "{what}: called complete");
    } else {
        assert!(!found.damage.is_empty(), "{what}: nothing is said");
    }
    for (key, value) in &records {
        let older = [&b"before"[..], &[0; 20]].contains(&&value[..]);
        assert!(
            wanted.get(key) == Some(value) || older && !found.complete,
            "{what}: {key:?} is {value:?}"
        );
    }
}

/// Bytes at which a bit is flipped: of what is not fill, every one if `DIVERSITY_EVERY_BIT` is set, and else some.
fn places(bytes: &[u8]) -> Vec<usize> {
    let filled: Vec<usize> = (0..bytes.len())
        .filter(|at| !matches!(bytes[*at], 0 | 0xa5))
        .collect();
    let step = match std::env::var_os("DIVERSITY_EVERY_BIT") {
        Some(_) => 1,
        None => (filled.len() / 24).max(1),
    };
    filled.into_iter().step_by(step).collect()
}

#[test]
fn a_flipped_bit_is_noticed_or_does_no_harm() {
    let dir = tempfile::tempdir().expect("a directory");
    for (state, image) in images(dir.path()) {
        let (mut same, mut refused) = (0, 0);
        for file in files(&image, Path::new("")) {
            let good = fs::read(image.join(&file)).expect("reads");
            for (k, at) in places(&good).into_iter().enumerate() {
                let what = format!("{state}: bit {} of byte {at} of {}", k % 8, file.display());
                let case = tempfile::tempdir().expect("a directory");
                copy(&image, case.path());
                let mut bad = good.clone();
                bad[at] ^= 1 << (k % 8);
                fs::write(case.path().join(&file), bad).expect("writes");
                match refusal(case.path(), &what) {
                    None => same += 1,
                    Some(_) => {
                        refused += 1;
                        salvaged(case.path(), &what);
                    }
                }
            }
        }
        println!("{state}: {same} with the same records, {refused} refused");
        assert!(same > 0 && refused > 0, "{state}: {same}, {refused}");
    }
}

#[test]
fn a_file_that_is_gone_empty_or_cut_is_noticed_or_does_no_harm() {
    let dir = tempfile::tempdir().expect("a directory");
    for (state, image) in images(dir.path()) {
        for file in files(&image, Path::new("")) {
            let good = fs::read(image.join(&file)).expect("reads");
            for cut in ["gone", "empty", "halved", "zeroed", "a zeroed block"] {
                let what = format!("{state}: {} {cut}", file.display());
                let case = tempfile::tempdir().expect("a directory");
                copy(&image, case.path());
                let path = case.path().join(&file);
                let mut bytes = good.clone();
                match cut {
                    "gone" => fs::remove_file(&path).expect("removes"),
                    "empty" => bytes.clear(),
                    "halved" => bytes.truncate(good.len() / 2),
                    "zeroed" => bytes.fill(0),
                    _ => {
                        let end = bytes.len().min(4096);
                        bytes[..end].fill(0);
                    }
                }
                if cut != "gone" {
                    fs::write(&path, bytes).expect("writes");
                }
                let error = refusal(case.path(), &what);
                let name = file.to_string_lossy();
                let needed = ["sled/db", "journal-a", "journal-b", "format"];
                if needed.contains(&&*name) && cut == "gone" {
                    assert!(error.is_some(), "{what}: opened");
                }
                salvaged(case.path(), &what);
            }
        }
    }
}

#[test]
fn what_a_killed_process_left_half_written_stops_no_start() {
    let dir = tempfile::tempdir().expect("a directory");
    for (state, image) in images(dir.path()) {
        let engine = image.join("sled");
        fs::write(engine.join("snap.00000000000009AB.generating"), b"half").expect("writes");
        fs::write(engine.join("snap.0000000000000FFF"), b"").expect("writes");
        fs::write(image.join("format.new"), b"diversity-st").expect("writes");
        assert_eq!(refusal(&image, state), None);
        let left = files(&image, Path::new("sled"));
        assert!(
            left.iter()
                .all(|f| f.extension().is_none_or(|e| e != "generating")),
            "{left:?}"
        );
    }
}

#[test]
fn a_store_that_was_never_made_whole_is_made_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    let made = dir.path().join("made");
    drop(Store::open(&made, b"me").expect("opens"));
    let format = fs::read_to_string(made.join("format")).expect("reads");
    assert!(format.contains("state made"));
    for gone in ["", "journal-b", "journal-a", "sled"] {
        let case = tempfile::tempdir().expect("a directory");
        copy(&made, case.path());
        let text: String = format
            .lines()
            .take(3)
            .map(|line| format!("{line}\n"))
            .collect();
        let text = format!("{text}state making\n");
        let text = format!("{text}crc32 {:08x}\n", crc32fast::hash(text.as_bytes()));
        fs::write(case.path().join("format"), text).expect("writes");
        match gone {
            "" => {}
            "sled" => fs::remove_dir_all(case.path().join(gone)).expect("removes"),
            file => fs::remove_file(case.path().join(file)).expect("removes"),
        }
        let store = Store::open(case.path(), b"me").expect("opens");
        fill(&store);
        drop(store);
        assert_eq!(refusal(case.path(), gone), None);
    }
}

#[test]
fn an_old_journal_under_a_newer_engine_is_noticed() {
    let dir = tempfile::tempdir().expect("a directory");
    let live = dir.path().join("live");
    let store = Store::open(&live, b"me").expect("opens");
    store
        .write(vec![Op::Put(b"Ax".to_vec(), vec![1])])
        .expect("writes");
    drop(store);
    let old = dir.path().join("old");
    copy(&live, &old);
    let store = Store::open(&live, b"me").expect("opens");
    fill(&store);
    drop(store);
    for file in ["journal-a", "journal-b"] {
        fs::copy(old.join(file), live.join(file)).expect("copies");
    }
    let error = Store::open(&live, b"me").expect_err("another time's journal");
    assert!(error.to_string().contains("its journal"), "{error}");
}
