use std::os::unix::fs::PermissionsExt;

use super::*;

const SECRET: [u8; 32] = [0x42; 32];
const RANDOM: [u8; 64] = [7; 64];

fn sealed() -> String {
    seal(&SECRET, None, b"password", Cost::Light, &RANDOM)
}

/// The file with one text replaced by another, which must have been there.
fn changed(from: &str, to: &str) -> String {
    let json = sealed();
    assert!(json.contains(from), "{from} is not in {json}");
    json.replace(from, to)
}

#[test]
fn what_is_sealed_opens_with_its_password_only() {
    let json = sealed();
    assert_eq!(*open(&json, b"password").expect("opens"), SECRET);
    for wrong in [&b""[..], b"Password", b"password "] {
        assert!(matches!(open(&json, wrong), Err(KeystoreError::Password)));
    }
    assert!(!json.contains(&to_hex(&SECRET)));
}

/// The PBKDF2 example of the definition of Web3 Secret Storage.
#[test]
fn reads_the_published_example() {
    let json = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46","kdf":"pbkdf2",
        "kdfparams":{"c":262144,"dklen":32,"prf":"hmac-sha256","salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},
        "mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},
        "id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;
    assert_eq!(
        to_hex(open(json, b"testpassword").expect("opens").as_slice()),
        "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d"
    );
}

#[test]
fn other_implementations_read_ours_and_we_read_theirs() {
    let dir = tempfile::tempdir().expect("directory");
    let key = SecretKey::from_bytes(&SECRET).expect("in range");
    let path = dir.path().join("ours");
    write(&path, &SECRET, Some(&key.address()), b"pw", Cost::Light).expect("writes");
    assert_eq!(
        eth_keystore::decrypt_key(&path, "pw").expect("reads"),
        SECRET
    );
    let theirs = sealed_by_eth_keystore(dir.path());
    assert_eq!(*read(&theirs, b"pw").expect("reads"), SECRET);
}

/// The form that eth-keystore writes: compact, with its own order of fields and N = 2^13.
fn sealed_by_eth_keystore(dir: &Path) -> PathBuf {
    let key = scrypt_key(b"pw", &[1; 32], 13, 8, 1);
    let mut ciphertext = SECRET;
    apply_cipher(&key, &[2; 16], &mut ciphertext);
    let json = format!(
        r#"{{"crypto":{{"cipher":"aes-128-ctr","cipherparams":{{"iv":"{}"}},"ciphertext":"{}","kdf":"scrypt","kdfparams":{{"dklen":32,"n":8192,"p":1,"r":8,"salt":"{}"}},"mac":"{}"}},"id":"{}","version":3}}"#,
        to_hex(&[2; 16]),
        to_hex(&ciphertext),
        to_hex(&[1; 32]),
        to_hex(&mac(&key, &ciphertext)),
        uuid(&[3; 16]),
    );
    let path = dir.join("theirs");
    fs::write(&path, json).expect("writes");
    assert_eq!(
        eth_keystore::decrypt_key(&path, "pw").expect("reads"),
        SECRET
    );
    path
}

/// Files that other tools write and open.
#[test]
fn what_other_tools_open_is_opened() {
    let key = SecretKey::from_bytes(&SECRET).expect("in range");
    let json = seal(
        &SECRET,
        Some(&key.address()),
        b"password",
        Cost::Light,
        &RANDOM,
    );
    let value: Value = serde_json::from_str(&json).expect("JSON");
    let with = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        let mut value = value.clone();
        change(value.as_object_mut().expect("an object"));
        value.to_string()
    };
    let set = |name: &'static str, to: Value| {
        with(&|v| {
            v.insert(name.into(), to.clone());
        })
    };
    let without = |name: &str| {
        with(&|v| {
            v.remove(name);
        })
    };
    let upper = with(&|v| {
        let crypto = v.remove("crypto").expect("there");
        v.insert("Crypto".into(), crypto);
    });
    let address = to_hex(&key.address());
    for (what, json, named) in [
        (
            "crypto and Crypto",
            set("Crypto", value["crypto"].clone()),
            true,
        ),
        ("Crypto", upper, true),
        ("a byte order mark", format!("\u{feff}{json}"), true),
        ("no id", without("id"), true),
        ("id null", set("id", Value::Null), true),
        ("no address", without("address"), false),
        ("address null", set("address", Value::Null), false),
        ("an empty address", set("address", "".into()), false),
        (
            "0x before it",
            set("address", format!("0x{address}").into()),
            true,
        ),
        (
            "upper case",
            set("address", address.to_uppercase().into()),
            true,
        ),
        (
            "more than is known",
            set("x-ethers", serde_json::json!({"path": "m"})),
            true,
        ),
    ] {
        let opened = open(&json, b"password").unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(*opened, SECRET, "{what}");
        let address = named_address(&json).expect(what);
        assert_eq!(address, named.then(|| key.address()), "{what}");
    }
    for (what, json) in [
        (
            "another Crypto",
            set("Crypto", serde_json::json!({"cipher": "none"})),
        ),
        ("half an address", set("address", "2c75".into())),
    ] {
        let error = open(&json, b"password").expect_err(what);
        assert!(
            matches!(error, KeystoreError::Malformed { .. }),
            "{what}: {error}"
        );
    }
}

#[test]
fn files_are_private_and_never_overwritten() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("key.json");
    write(&path, &SECRET, None, b"pw", Cost::Light).expect("writes");
    let mode = fs::metadata(&path).expect("exists").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(matches!(
        write(&path, &[1; 32], None, b"pw", Cost::Light),
        Err(KeystoreError::Exists { .. })
    ));
    assert_eq!(*read(&path, b"pw").expect("reads"), SECRET);
    assert_eq!(
        fs::read_dir(dir.path()).expect("lists").count(),
        1,
        "nothing left beside it"
    );
    let missing = read(&dir.path().join("none"), b"pw").expect_err("missing");
    assert!(missing.to_string().contains("none"), "{missing}");
}

#[test]
fn hostile_parameters_are_refused_before_they_cost_anything() {
    let started = std::time::Instant::now();
    for (from, to) in [
        ("\"n\": 4096", "\"n\": 1099511627776"),
        ("\"n\": 4096", "\"n\": 18446744073709551615"),
        ("\"n\": 4096", "\"n\": 9223372036854775808"),
        ("\"n\": 4096", "\"n\": 4095"),
        ("\"n\": 4096", "\"n\": 0"),
        ("\"n\": 4096", "\"n\": 1"),
        ("\"r\": 8", "\"r\": 4294967295"),
        ("\"r\": 8", "\"r\": 0"),
        ("\"p\": 1", "\"p\": 4294967295"),
        ("\"p\": 1", "\"p\": 0"),
    ] {
        let error = open(&changed(from, to), b"password").expect_err(to);
        assert!(
            matches!(error, KeystoreError::TooCostly { .. }),
            "{to}: {error}"
        );
    }
    let pbkdf2 = changed("\"kdf\": \"scrypt\"", "\"kdf\": \"pbkdf2\"");
    for (c, costly) in [("4294967295", true), ("0", true), ("1", false)] {
        let json = pbkdf2.replace(
            "\"dklen\": 32",
            &format!("\"dklen\": 32, \"prf\": \"hmac-sha256\", \"c\": {c}"),
        );
        let error = open(&json, b"password").expect_err(c);
        assert_eq!(
            matches!(error, KeystoreError::TooCostly { .. }),
            costly,
            "{error}"
        );
    }
    assert!(started.elapsed().as_secs() < 5);
}

#[test]
fn unknown_and_malformed_files_are_refused_in_words() {
    for (from, to) in [
        ("\"version\": 3", "\"version\": 4"),
        ("aes-128-ctr", "aes-256-gcm"),
        ("\"scrypt\"", "\"argon2\""),
        ("\"dklen\": 32", "\"dklen\": 64"),
        ("\"r\": 8", "\"r\": 1048576"),
    ] {
        let error = open(&changed(from, to), b"password").expect_err(to);
        assert!(
            matches!(
                error,
                KeystoreError::Unsupported { .. } | KeystoreError::TooCostly { .. }
            ),
            "{to}: {error}"
        );
    }
    for (from, to) in [
        ("\"n\": 4096,", ""),
        ("0707", "07zz"),
        ("0707", "07"),
        ("\"mac\": \"", "\"mac\": \"0"),
        ("{", "["),
    ] {
        let error = open(&changed(from, to), b"password").expect_err(to);
        assert!(
            matches!(error, KeystoreError::Malformed { .. }),
            "{to}: {error}"
        );
    }
    assert!(matches!(
        open(&" ".repeat(20_000), b""),
        Err(KeystoreError::TooLarge)
    ));
    assert!(open("", b"").is_err());
}

#[test]
fn an_address_that_does_not_fit_is_noticed() {
    let json = seal(&SECRET, Some(&[1; 20]), b"pw", Cost::Light, &RANDOM);
    assert!(matches!(open(&json, b"pw"), Err(KeystoreError::Address)));
}

#[test]
fn the_standard_cost_is_readable_under_the_caps() {
    assert_eq!(check_scrypt(1 << 18, 8, 1).expect("allowed"), 18);
    let json = seal(&SECRET, None, b"pw", Cost::Standard, &RANDOM);
    assert_eq!(*open(&json, b"pw").expect("opens"), SECRET);
}
