//! `make chain-test` against a chain that the devnet has not made: here anvil with a base fee, a block a second, another chain
//! id, and a rich account whose keystore has an empty password, as geth's development chain has.

use diversity_e2e::{net, programs};
use diversity_keys::SecretKey;
use diversity_keys::keystore::{self, Cost};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The key of anvil's first account, which everybody knows.
const RICH: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

struct Chain(Child);

impl Drop for Chain {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_chain_with_fees_that_is_there_settles_everything() {
    let folder = tempfile::tempdir().expect("a folder");
    let anvil = net::anvil_of_the_tree()
        .or_else(|| std::env::var_os("DIVERSITY_ANVIL").map(Into::into))
        .expect("anvil: make contracts");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("a port").port();
    drop(free);
    let child = Command::new(anvil)
        .args(["--chain-id", "1337", "--block-time", "1", "--port"])
        .arg(port.to_string())
        .stdout(Stdio::null())
        .spawn();
    let _chain = Chain(child.expect("anvil starts"));
    net::await_that("chain", Duration::from_secs(30), || {
        std::net::TcpStream::connect(("127.0.0.1", port)).map_err(|e| e.to_string())
    })
    .expect("it listens");

    let secret: [u8; 32] = diversity_client::hexed::decode(RICH)
        .and_then(|b| b.try_into().ok())
        .expect("32 bytes");
    let key = SecretKey::from_bytes(&secret).expect("a key");
    let (funder, password) = (folder.path().join("rich.json"), folder.path().join("empty"));
    keystore::write(&funder, &secret, Some(&key.address()), b"", Cost::Light).expect("written");
    write_private(&password, "\n");

    let out = Command::new(programs::find("chain-test").expect("the program"))
        .args([
            "--rpc",
            &format!("http://127.0.0.1:{port}"),
            "--months",
            "8",
        ])
        .arg("--funder")
        .arg(&funder)
        .arg("--password-file")
        .arg(&password)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&out.stdout);
    let words = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}\n{words}");
    for step in [
        "settlement",
        "restart",
        "backlog",
        "resume",
        "totals",
        "dispute",
    ] {
        assert!(said.contains(step), "no {step} in:\n{said}");
    }
}

/// A file that only its owner reads, as secrets have to be.
fn write_private(path: impl AsRef<std::path::Path>, content: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(&path, content).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("ours");
}
