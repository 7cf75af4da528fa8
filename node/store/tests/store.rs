//! What a store promises while nothing crashes; `crash.rs` is about the rest.

use std::fs;

use diversity_store::{Op, Store, StoreError, VALUE_BYTES_MAX, Writer, WriterLimits};

fn put(key: &str, value: &str) -> Op {
    Op::Put(key.into(), value.into())
}

#[test]
fn batches_scans_and_deletes() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("made/on/demand");
    let store = Store::open(&path, b"me").expect("opens");
    store
        .write(vec![put("a/1", "x"), put("a/2", "y"), put("b/1", "z")])
        .expect("writes");
    store
        .write(vec![
            put("a/1", "first"),
            put("a/1", "second"),
            Op::Delete("a/2".into()),
            put("a/3", ""),
            Op::Delete("never".into()),
        ])
        .expect("writes");
    let pairs = |scan: diversity_store::Scan| {
        scan.map(|pair| {
            let (key, value) = pair.expect("reads");
            format!(
                "{}={}",
                String::from_utf8_lossy(&key),
                String::from_utf8_lossy(&value)
            )
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(pairs(store.scan_prefix(b"a/")), ["a/1=second", "a/3="]);
    assert_eq!(
        pairs(store.scan_prefix(b"")),
        ["a/1=second", "a/3=", "b/1=z"]
    );
    assert_eq!(
        pairs(store.scan_range(&b"a/2"[..]..&b"b/2"[..])),
        ["a/3=", "b/1=z"]
    );
    let last = store.scan_prefix(b"a/").next_back();
    assert_eq!(last.expect("some").expect("reads").0, b"a/3");
    assert_eq!(store.get(b"a/1").expect("reads"), Some(b"second".to_vec()));
    assert_eq!(store.get(b"a/2").expect("reads"), None);
    assert!(store.size_on_disk().expect("measures") > 0);

    let clone = store.clone();
    drop(store);
    assert!(matches!(
        Store::open(&path, b"me"),
        Err(StoreError::Locked { .. })
    ));
    drop(clone);
    let store = Store::open(&path, b"me").expect("opens again");
    assert_eq!(
        pairs(store.scan_prefix(b"")),
        ["a/1=second", "a/3=", "b/1=z"]
    );
}

#[test]
fn another_identity_or_version_is_refused_in_words_and_untouched() {
    let dir = tempfile::tempdir().expect("directory");
    drop(Store::open(dir.path(), b"me").expect("opens"));
    let error = Store::open(dir.path(), b"you").expect_err("foreign");
    assert!(
        error.to_string().contains("belongs to another node"),
        "{error}"
    );

    let format = dir.path().join("format");
    let good = fs::read_to_string(&format).expect("reads");
    for (text, words) in [
        (good.replace("store 3", "store 4"), "version 4"),
        (good.replace("store 3", "store 33"), "version 33"),
        (String::new(), "no readable version"),
        ("diversity-store 3\n".into(), "no readable identity"),
    ] {
        fs::write(&format, &text).expect("writes");
        let error = Store::open(dir.path(), b"me").expect_err("unknown");
        assert!(matches!(error, StoreError::UnknownVersion { .. }));
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(fs::read_to_string(&format).expect("reads"), text);
    }
    // One whose agreements this program cannot settle says where they go on.
    let old = good.replace("store 3", "store 1");
    fs::write(&format, &old).expect("writes");
    let error = Store::open(dir.path(), b"me").expect_err("old");
    assert!(matches!(error, StoreError::OldVersion { found: 1, .. }));
    assert!(
        error.to_string().contains("Go on with the program"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&format).expect("reads"), old);
    fs::write(&format, good).expect("writes");
    Store::open(dir.path(), b"me").expect("opens again");
}

/// A store as version 2 left it: values without checksums, no marks, and a format file of two lines.
#[test]
fn a_store_of_version_2_is_read_and_brought_to_version_3() {
    let dir = tempfile::tempdir().expect("directory");
    let store = Store::open(dir.path(), b"me").expect("opens");
    store
        .write(vec![put("b/1", "in the journal"), Op::Delete("a/0".into())])
        .expect("writes");
    drop(store);
    fs::remove_dir_all(dir.path().join("sled")).expect("removes");
    let db = sled::open(dir.path().join("sled")).expect("opens");
    for (key, value) in [
        ("a/0", "removed by the journal"),
        ("a/1", "old"),
        ("b/1", "older"),
    ] {
        db.insert(key, value).expect("writes");
    }
    db.insert("c/1", vec![7; 3 << 20]).expect("writes");
    drop(db);
    fs::write(
        dir.path().join("format"),
        "diversity-store 2\nidentity 6d65\n",
    )
    .expect("writes");
    // What an upgrade that was cut off leaves.
    fs::create_dir(dir.path().join("sled-3")).expect("a folder");
    fs::write(dir.path().join("sled-3/db"), b"half").expect("writes");

    let wanted = [("a/1", "old"), ("b/1", "in the journal")];
    for _ in 0..2 {
        let store = Store::open(dir.path(), b"me").expect("opens");
        for (key, value) in wanted {
            let found = store.get(key.as_bytes()).expect("reads");
            assert_eq!(found.as_deref(), Some(value.as_bytes()), "{key}");
        }
        assert_eq!(store.get(b"c/1").expect("reads"), Some(vec![7; 3 << 20]));
        assert_eq!(store.scan_prefix(b"").count(), 3);
        store.write(vec![put("b/2", "new")]).expect("writes");
        store.write(vec![Op::Delete("b/2".into())]).expect("writes");
    }
    let format = fs::read_to_string(dir.path().join("format")).expect("reads");
    assert!(format.starts_with("diversity-store 3\n"), "{format}");
    assert!(!dir.path().join("sled").exists(), "the old engine is gone");
}

#[test]
fn a_directory_of_other_things_is_left_alone() {
    let dir = tempfile::tempdir().expect("directory");
    fs::write(dir.path().join("holiday.jpg"), b"").expect("writes");
    let error = Store::open(dir.path(), b"me").expect_err("not ours");
    assert!(matches!(error, StoreError::NotAStore { .. }));
    assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 1);
}

#[test]
fn an_opener_that_died_early_does_not_block_the_next() {
    let dir = tempfile::tempdir().expect("directory");
    fs::write(dir.path().join("lock"), b"").expect("writes");
    fs::write(dir.path().join("format.new"), b"diversity-st").expect("writes");
    Store::open(dir.path(), b"me").expect("opens");
}

#[test]
fn sizes_are_bounded() {
    let dir = tempfile::tempdir().expect("directory");
    assert!(matches!(
        Store::open(dir.path(), &[0; 257]),
        Err(StoreError::TooLarge { .. })
    ));
    let store = Store::open(dir.path(), &[0; 256]).expect("opens");
    let large = vec![
        put("small", "1"),
        Op::Put(b"large".to_vec(), vec![0; VALUE_BYTES_MAX + 1]),
    ];
    assert!(matches!(
        store.write(large),
        Err(StoreError::TooLarge { what: "value", .. })
    ));
    assert_eq!(store.get(b"small").expect("reads"), None);
    assert!(!store.is_poisoned());
    store
        .write(vec![Op::Put(b"large".to_vec(), vec![7; VALUE_BYTES_MAX])])
        .expect("writes");
    drop(store);
    let store = Store::open(dir.path(), &[0; 256]).expect("opens again");
    assert_eq!(
        store.get(b"large").expect("reads"),
        Some(vec![7; VALUE_BYTES_MAX])
    );
}

#[test]
fn many_threads_share_a_writer() {
    let dir = tempfile::tempdir().expect("directory");
    let store = Store::open(dir.path(), b"me").expect("opens");
    let writer = Writer::spawn(store.clone(), WriterLimits::default()).expect("a thread");
    std::thread::scope(|scope| {
        for thread in 0..8u8 {
            let (writer, store) = (&writer, &store);
            scope.spawn(move || {
                for n in 0..50u8 {
                    let key = vec![thread, n];
                    writer
                        .write(vec![Op::Put(key.clone(), vec![n])])
                        .expect("writes");
                    assert_eq!(store.get(&key).expect("reads"), Some(vec![n]));
                }
            });
        }
    });
    writer.close();
    assert_eq!(store.scan_prefix(b"").count(), 400);
}
