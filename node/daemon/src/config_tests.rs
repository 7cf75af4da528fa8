use super::*;

fn minimal() -> NodeFlags {
    NodeFlags {
        chain_id: Some(31337),
        contract: Some("0x5fbdb2315678afecb367f032d93f642f64180aa3".into()),
        cells: Some("0xdc64a140aa3e981100a9beca4e685f962f0cf6c9".into()),
        ..NodeFlags::default()
    }
}

#[test]
fn every_setting_but_the_deployment_has_a_default() {
    let config = NodeConfig::load(&minimal()).expect("complete");
    assert!(config.api_listen.ip().is_loopback());
    assert!(
        config
            .p2p_listen
            .iter()
            .all(|a| a.starts_with("/ip4/127.0.0.1/"))
    );
    let error = NodeConfig::load(&NodeFlags::default()).expect_err("no deployment");
    assert!(error.to_string().contains("--chain-id"), "{error}");
    let error = NodeConfig::load(&NodeFlags {
        contract: None,
        ..minimal()
    })
    .expect_err("no contract");
    assert!(error.to_string().contains("DIVERSITY_CONTRACT"), "{error}");
    let error = NodeConfig::load(&NodeFlags {
        cells: None,
        ..minimal()
    })
    .expect_err("no cells");
    assert!(error.to_string().contains("--cells"), "{error}");
}

#[test]
fn flags_win_over_the_file_and_lists_have_two_forms() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("node.toml");
    std::fs::write(
        &path,
        "name = \"file\"\nahead_max = 7\nrpc_urls = [\"http://a\", \"http://b\"]\n",
    )
    .expect("written");
    let flags = NodeFlags {
        config: Some(path.clone()),
        name: Some("flag".into()),
        ..minimal()
    };
    let config = NodeConfig::load(&flags).expect("good");
    assert_eq!((config.name.as_str(), config.ahead_max), ("flag", 7));
    assert_eq!(*config.rpc_urls, ["http://a", "http://b"]);
    let flags = NodeFlags {
        rpc_urls: Some("http://c, http://d".parse().expect("list")),
        ..flags
    };
    assert_eq!(
        *NodeConfig::load(&flags).expect("good").rpc_urls,
        ["http://c", "http://d"]
    );

    std::fs::write(&path, "nmae = \"typo\"\n").expect("written");
    let error = NodeConfig::load(&flags).expect_err("unknown");
    assert!(error.to_string().contains("nmae"), "{error}");
    std::fs::remove_file(&path).expect("removed");
    assert!(matches!(
        NodeConfig::load(&flags),
        Err(ConfigError::Missing { .. })
    ));
}

#[test]
fn values_out_of_range_are_named() {
    for (flags, word) in [
        (
            NodeFlags {
                contract: Some("0x12".into()),
                ..minimal()
            },
            "contract",
        ),
        (
            NodeFlags {
                http_body_bytes_max: Some(1),
                ..minimal()
            },
            "http_body_bytes_max",
        ),
        (
            NodeFlags {
                ahead_max: Some(0),
                ..minimal()
            },
            "ahead_max",
        ),
        (
            NodeFlags {
                name: Some(String::new()),
                ..minimal()
            },
            "name",
        ),
    ] {
        let error = NodeConfig::load(&flags).expect_err(word);
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn a_password_may_hold_a_comma_and_no_setting_shows_it() {
    let one = "https://us3r:pa,ss@a.example/k3y?t=0k3n";
    let flags = NodeFlags {
        rpc_urls: Some(format!("{one},http://b").parse().expect("urls")),
        ..minimal()
    };
    let config = NodeConfig::load(&flags).expect("good");
    assert_eq!(*config.rpc_urls, [one, "http://b"]);
    for words in [format!("{config:?}"), format!("{flags:?}")] {
        assert!(words.contains("https://a.example"), "{words}");
        for secret in ["us3r", "pa,ss", "k3y", "0k3n"] {
            assert!(!words.contains(secret), "{words}");
        }
    }
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("node.toml");
    for (line, wanted) in [
        (format!("rpc_urls = \"{one}, http://b\""), Some(2)),
        (format!("rpc_urls = [\"{one}\", \"http://b\"]"), Some(2)),
        (format!("rpc_urls = {{ a = \"{one}\" }}"), None),
    ] {
        std::fs::write(&path, line).expect("written");
        let flags = NodeFlags {
            config: Some(path.clone()),
            ..minimal()
        };
        match (NodeConfig::load(&flags), wanted) {
            (Ok(config), Some(n)) => assert_eq!(config.rpc_urls.len(), n),
            (Err(error), None) => {
                let words = error.to_string();
                assert!(
                    words.contains("rpc_urls") && !words.contains("k3y"),
                    "{words}"
                );
            }
            (other, _) => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_stall_is_automatic_or_a_number_and_fees_have_settings() {
    use crate::settings::Stall;
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("node.toml");
    for (line, wanted) in [
        ("", Stall::Auto),
        ("chain_stall_s = \"auto\"", Stall::Auto),
        ("chain_stall_s = 0", Stall::After(0)),
        ("chain_stall_s = 90", Stall::After(90)),
    ] {
        std::fs::write(&path, line).expect("written");
        let flags = NodeFlags {
            config: Some(path.clone()),
            ..minimal()
        };
        assert_eq!(
            NodeConfig::load(&flags).expect("good").chain_stall_s,
            wanted
        );
    }
    let fees = |min: u64, max: u64| {
        let flags = NodeFlags {
            min_gas_price: Some(min),
            max_gas_price: Some(max),
            ..minimal()
        };
        NodeConfig::load(&flags).map(|c| c.fees())
    };
    let usual = fees(0, 5_000).expect("good");
    assert_eq!((usual.min_gas_price, usual.free_gas_price), (1_000, 0));
    let known = fees(3_000, 5_000).expect("good");
    assert_eq!((known.min_gas_price, known.free_gas_price), (3_000, 3_000));
    assert_eq!(known.max_gas_price, 5_000);
    let error = fees(3_000, 2_000).expect_err("contradiction").to_string();
    assert!(error.contains("max_gas_price"), "{error}");
}
