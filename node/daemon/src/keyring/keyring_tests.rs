use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn keys_and_tokens_survive_and_only_their_owner_reads_them() {
    let dir = tempfile::tempdir().expect("dir");
    let first = Keyring::open(dir.path(), Path::new(""), true).expect("made");
    let tokens = Tokens::open(dir.path()).expect("made");
    let again = Keyring::open(dir.path(), Path::new(""), true).expect("read");
    assert_eq!(first.node(), again.node());
    assert_eq!((*first.peer, *first.seed), (*again.peer, *again.seed));
    assert_ne!(first.protocol.address(), first.account.address());
    for scope in Scope::ALL {
        let token = Tokens::open(dir.path())
            .expect("read")
            .token(scope)
            .to_owned();
        assert_eq!(tokens.scope(&token), Some(scope));
    }
    assert_eq!(tokens.scope(""), None);
    assert_eq!(tokens.scope(&"0".repeat(64)), None);
    let mut files = 0;
    for folder in [dir.path().to_path_buf(), dir.path().join("keys")] {
        for entry in fs::read_dir(folder).expect("dir") {
            let meta = entry.expect("entry").metadata().expect("meta");
            if meta.is_file() {
                files += 1;
                assert_eq!(meta.permissions().mode() & 0o777, 0o600);
            }
        }
    }
    assert_eq!(files, 4 + 1 + 1 + 4, "keys, password, record, tokens");
    assert!(first.new && !again.new);
}

#[test]
fn a_wrong_password_is_said_and_nothing_is_overwritten() {
    let dir = tempfile::tempdir().expect("dir");
    Keyring::open(dir.path(), Path::new(""), true).expect("made");
    let other = dir.path().join("other");
    fs::write(&other, "wrong\n").expect("written");
    fs::set_permissions(&other, fs::Permissions::from_mode(0o640)).expect("ours");
    let exposed = Keyring::open(dir.path(), &other, true);
    let exposed = exposed.err().expect("others can read it").to_string();
    assert!(exposed.contains("chmod 600"), "{exposed}");
    fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).expect("ours");
    assert!(matches!(
        Keyring::open(dir.path(), &other, true),
        Err(KeyringError::Keystore { .. })
    ));
    fs::write(&other, "").expect("written");
    assert!(matches!(
        Keyring::open(dir.path(), &other, true),
        Err(KeyringError::Password(_))
    ));
    Keyring::open(dir.path(), Path::new(""), true).expect("still there");
}

/// A data directory with keys that have run.
fn made() -> (tempfile::TempDir, NodeId) {
    let dir = tempfile::tempdir().expect("dir");
    let node = Keyring::open(dir.path(), Path::new(""), true)
        .expect("made")
        .node();
    (dir, node)
}

fn refused(dir: &Path) -> String {
    match Keyring::open(dir, Path::new(""), true) {
        Ok(_) => panic!("opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_key_that_is_gone_is_an_error_and_never_a_new_key() {
    for which in KEYS.into_iter().chain(["password"]) {
        let (dir, node) = made();
        let keys = dir.path().join("keys");
        let name = match which {
            "password" => which.to_owned(),
            _ => format!("{which}.json"),
        };
        let kept = dir.path().join("kept");
        fs::rename(keys.join(&name), &kept).expect("moved");
        let words = refused(dir.path());
        assert!(words.contains(&name) && words.contains("backup"), "{words}");
        assert!(!keys.join(&name).exists(), "{which} was made anew");
        // Nor when the record went with it, as long as there is a store.
        fs::remove_file(keys.join("made.json")).expect("removed");
        fs::create_dir(dir.path().join("store")).expect("a folder");
        fs::write(dir.path().join("store/format"), "").expect("written");
        assert!(refused(dir.path()).contains(&name));
        fs::rename(&kept, keys.join(&name)).expect("moved back");
        let again = Keyring::open(dir.path(), Path::new(""), true).expect("whole again");
        assert!(again.node() == node && !again.new);
        assert!(keys.join("made.json").exists(), "of an older version");
    }
}

#[test]
fn a_first_start_that_was_cut_off_is_finished() {
    for kept in [&["password"][..], &["password", "protocol.json"]] {
        let (dir, _) = made();
        let keys = dir.path().join("keys");
        for entry in fs::read_dir(&keys).expect("dir") {
            let entry = entry.expect("entry");
            if !kept.contains(&&*entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path()).expect("removed");
            }
        }
        assert!(
            Keyring::open(dir.path(), Path::new(""), true)
                .expect("made")
                .new
        );
    }
}

#[test]
fn an_exchanged_key_is_noticed() {
    let (dir, _) = made();
    let (other, _) = made();
    let keys = |dir: &tempfile::TempDir| dir.path().join("keys");
    // Under one password, as an operator who mixes up two nodes may have them.
    let password = fs::read(keys(&dir).join("password")).expect("read");
    for which in KEYS {
        let (path, from) = (
            keys(&dir).join(format!("{which}.json")),
            keys(&other).join(format!("{which}.json")),
        );
        let theirs = password::read(&keys(&other).join("password")).expect("read");
        let secret = keystore::read(&from, theirs.as_bytes()).expect("read");
        let good = fs::read(&path).expect("read");
        fs::remove_file(&path).expect("removed");
        let line = String::from_utf8_lossy(&password);
        let password = line.trim().as_bytes();
        keystore::write(&path, &secret, None, password, Cost::Light).expect("written");
        let words = refused(dir.path());
        assert!(
            words.contains("another key") && words.contains(which),
            "{words}"
        );
        fs::write(&path, good).expect("written back");
    }
    Keyring::open(dir.path(), Path::new(""), true).expect("whole again");
}

#[test]
fn a_key_that_others_can_read_is_refused_with_what_mends_it() {
    let (dir, _) = made();
    let keys = dir.path().join("keys");
    for name in [
        "protocol.json",
        "account.json",
        "peer.json",
        "seed.json",
        "password",
    ] {
        let path = keys.join(name);
        for mode in [0o640, 0o604, 0o620, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
            let words = refused(dir.path());
            let mends = format!("chmod 600 {}", path.display());
            assert!(words.contains(&mends), "{words}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("set");
        Keyring::open(dir.path(), Path::new(""), true).expect("its owner alone");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
    }
}
