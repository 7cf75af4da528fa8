//! The local chain of development networks and tests.
//!
//! What anvil 1.7.1 was seen to do (each stated fact has a test or a measurement behind it):
//! - With `--state FILE` it writes its state on exit alone: SIGKILL loses everything. With `--state-interval 1` SIGKILL
//!   loses what was mined since the last second began, up to one second of blocks.
//! - It rewrites the file in place, so a SIGKILL in that moment leaves it cut off, and anvil then refuses to start.
//!   [`Anvil::prepare_state`] keeps the last good copy beside it and takes that one up.
//! - Each start makes a genesis block of its own time, and adds it to those that the state file holds; which of them is block 0 is
//!   chance. So the time of the first start is kept beside the state, and every start is given it (`--timestamp`). anvil's clock
//!   then goes on from there, until it is set right ([`Anvil::set_clock`]).
//!
//! So a node's chain side must live with lost blocks: the outbox sends what was mined again (identical bytes), and the
//! event cursor steps back.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// anvil is nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnvilError {
    /// The place that was named does not have it.
    #[error(
        "there is no executable anvil at {path} (from {from}): correct it, or leave it out to have it looked for"
    )]
    NotThere {
        /// Where it should be.
        path: PathBuf,
        /// Who said so.
        from: &'static str,
    },
    /// Nowhere at all.
    #[error(
        "anvil is not found (looked at DIVERSITY_ANVIL, PATH, and contracts/node_modules under {looked}): run `npm ci --ignore-scripts` in the folder contracts, or install Foundry and put anvil on the PATH"
    )]
    Nowhere {
        /// Folders under which `contracts/node_modules` was looked for.
        looked: String,
    },
    /// Its clock cannot be set.
    #[error("the clock of the chain cannot be set: {0}")]
    Clock(String),
    /// The state file cannot be copied or read.
    #[error("the state of the chain at {path} cannot be used: {reason}")]
    State {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// How a local chain runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anvil {
    /// The executable.
    pub program: PathBuf,
    /// TCP port on 127.0.0.1.
    pub port: u16,
    /// State file; it survives restarts, see the module for what SIGKILL loses.
    pub state: PathBuf,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Gas costs nothing, so accounts need no balance.
    pub zero_fee: bool,
    /// A block every so many seconds; none for a block with each transaction.
    pub block_time_s: Option<u64>,
    /// Development accounts with a balance.
    pub accounts: u16,
    /// Time of the genesis block, Unix seconds, once [`Anvil::prepare_state`] has found it.
    pub genesis_s: Option<u64>,
}

impl Anvil {
    /// A zero-fee chain on a port with its state in a file; a block with each transaction.
    pub fn new(program: PathBuf, port: u16, state: PathBuf) -> Self {
        Self {
            program,
            port,
            state,
            chain_id: crate::ANVIL_CHAIN_ID,
            zero_fee: true,
            block_time_s: None,
            accounts: 1,
            genesis_s: None,
        }
    }

    /// Command line.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut out: Vec<OsString> = Vec::new();
        let mut add = |name: &str, value: &dyn AsRef<std::ffi::OsStr>| {
            out.push(name.into());
            out.push(value.as_ref().to_owned());
        };
        add("--host", &"127.0.0.1");
        add("--port", &self.port.to_string());
        add("--chain-id", &self.chain_id.to_string());
        add("--hardfork", &"prague");
        add("--accounts", &self.accounts.to_string());
        add("--state", &self.state);
        add("--state-interval", &"1");
        if self.zero_fee {
            add("--block-base-fee-per-gas", &"0");
            add("--gas-price", &"0");
        }
        if let Some(seconds) = self.block_time_s {
            add("--block-time", &seconds.to_string());
        }
        if let Some(seconds) = self.genesis_s {
            add("--timestamp", &seconds.to_string());
        }
        if self.zero_fee {
            out.push("--disable-min-priority-fee".into());
        }
        out.push("--quiet".into());
        out
    }

    /// The command, ready to be spawned.
    pub fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new(&self.program);
        command.args(self.arguments());
        command
    }

    /// Its endpoint.
    pub fn rpc_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn copy_path(&self) -> PathBuf {
        let mut name = self.state.clone().into_os_string();
        name.push(".good");
        name.into()
    }

    /// Before each start: keeps a copy of a state file that is whole, and puts the copy in the place of one that was cut
    /// off; finds the time of the genesis block. Says whether the copy was needed.
    ///
    /// # Errors
    /// [`AnvilError::State`] if neither is of use.
    pub fn prepare_state(&mut self) -> Result<bool, AnvilError> {
        let repaired = self.repair_state()?;
        self.genesis_s = Some(self.genesis()?);
        Ok(repaired)
    }

    fn repair_state(&self) -> Result<bool, AnvilError> {
        if !self.state.exists() {
            return Ok(false);
        }
        if self.save_copy()? {
            return Ok(false);
        }
        let copy = self.copy_path();
        if !is_whole(&copy) {
            return Err(AnvilError::State {
                path: self.state.clone(),
                reason: "it was cut off when anvil was killed, and there is no good copy: remove it to start a new chain".into(),
            });
        }
        std::fs::copy(&copy, &self.state).map_err(|e| self.failed(&e))?;
        Ok(true)
    }

    /// Time of the genesis block: what the first start kept. A state of an older version of this program may hold several of them;
    /// the oldest is the one that everything was built on, and the others go.
    fn genesis(&self) -> Result<u64, AnvilError> {
        let mut name = self.state.clone().into_os_string();
        name.push(".genesis");
        let kept = PathBuf::from(name);
        let seconds = if !self.state.exists() {
            // Without its state it is another chain.
            now_s()
        } else if let Ok(text) = std::fs::read_to_string(&kept)
            && let Ok(seconds) = text.trim().parse()
        {
            return Ok(seconds);
        } else {
            self.keep_oldest_genesis()?
        };
        std::fs::write(&kept, format!("{seconds}\n")).map_err(|e| self.failed(&e))?;
        Ok(seconds)
    }

    fn keep_oldest_genesis(&self) -> Result<u64, AnvilError> {
        use serde_json::Value;
        let wrong = |reason: &str| AnvilError::State {
            path: self.state.clone(),
            reason: reason.into(),
        };
        let bytes = std::fs::read(&self.state).map_err(|e| self.failed(&e))?;
        let mut state: Value = serde_json::from_slice(&bytes).map_err(|e| wrong(&e.to_string()))?;
        let number = |block: &Value, field: &str| {
            let value = block.get("header").and_then(|h| h.get(field))?;
            match value {
                Value::String(text) => u64::from_str_radix(text.trim_start_matches("0x"), 16).ok(),
                other => other.as_u64(),
            }
        };
        let blocks = state
            .get_mut("blocks")
            .and_then(Value::as_array_mut)
            .ok_or_else(|| wrong("it names no blocks: remove it to start a new chain"))?;
        let oldest = blocks
            .iter()
            .filter(|block| number(block, "number") == Some(0))
            .filter_map(|block| number(block, "timestamp"))
            .min()
            .ok_or_else(|| wrong("it has no genesis block: remove it to start a new chain"))?;
        let all = blocks.len();
        blocks.retain(|block| {
            number(block, "number") != Some(0) || number(block, "timestamp") == Some(oldest)
        });
        if blocks.len() < all {
            let part = self.state.with_extension("part");
            let text = serde_json::to_vec(&state).map_err(|e| wrong(&e.to_string()))?;
            std::fs::write(&part, text).map_err(|e| self.failed(&e))?;
            std::fs::rename(&part, &self.state).map_err(|e| self.failed(&e))?;
            self.save_copy()?;
        }
        Ok(oldest)
    }

    /// After each start: sets anvil's clock, which goes on from the genesis block's time, to that of this machine.
    ///
    /// # Errors
    /// [`AnvilError::Clock`].
    pub async fn set_clock(&self, rpc: &crate::rpc::Rpc) -> Result<(), AnvilError> {
        let now = serde_json::json!([now_s()]);
        match rpc.request("evm_setTime", now).await {
            Ok(_) => Ok(()),
            Err(error) => Err(AnvilError::Clock(error.to_string())),
        }
    }

    /// Keeps a copy of the state file if it is whole; worth doing after a deployment. Says whether it was whole.
    ///
    /// # Errors
    /// [`AnvilError::State`] if the copy cannot be written.
    pub fn save_copy(&self) -> Result<bool, AnvilError> {
        let Ok(bytes) = std::fs::read(&self.state) else {
            return Ok(false);
        };
        if serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_err() {
            return Ok(false);
        }
        let copy = self.copy_path();
        let part = copy.with_extension("part");
        std::fs::write(&part, bytes).map_err(|e| self.failed(&e))?;
        std::fs::rename(&part, &copy).map_err(|e| self.failed(&e))?;
        Ok(true)
    }

    /// Waits until everything that was mined before this call is in the state file, and keeps a copy of it. Call it after
    /// the deployment and the first registrations, so that no SIGKILL takes them back.
    ///
    /// # Errors
    /// [`AnvilError::State`] if that does not happen within `timeout`.
    pub async fn saved(&self, timeout: Duration) -> Result<(), AnvilError> {
        let written = || {
            std::fs::metadata(&self.state)
                .and_then(|m| m.modified())
                .ok()
        };
        let deadline = tokio::time::Instant::now() + timeout;
        // The first write from now on may have begun before; the second has not.
        for _ in 0..2 {
            let before = written();
            while written() == before || !is_whole(&self.state) {
                if tokio::time::Instant::now() > deadline {
                    return Err(AnvilError::State {
                        path: self.state.clone(),
                        reason:
                            "anvil has not written it in time: is it running, and is the disk full?"
                                .into(),
                    });
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        self.save_copy().map(|_| ())
    }

    fn failed(&self, error: &std::io::Error) -> AnvilError {
        AnvilError::State {
            path: self.state.clone(),
            reason: error.to_string(),
        }
    }
}

fn now_s() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

fn is_whole(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|b| serde_json::from_slice::<serde::de::IgnoredAny>(&b).is_ok())
}

/// Path of the executable inside `contracts`, for the platforms that the npm registry has.
fn npm_path() -> PathBuf {
    let os = match std::env::consts::OS {
        "macos" => "darwin",
        "windows" => "win32",
        os => os,
    };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        arch => arch,
    };
    Path::new("contracts/node_modules/@foundry-rs")
        .join(format!("anvil-{os}-{arch}"))
        .join("bin/anvil")
}

/// Looks for anvil: `explicit` (an option), `DIVERSITY_ANVIL`, `PATH`, and `contracts/node_modules` in the current folder
/// and in those that hold this executable, upwards.
///
/// # Errors
/// [`AnvilError`], which names two ways to get it.
pub fn locate(explicit: Option<&Path>) -> Result<PathBuf, AnvilError> {
    let executable = std::env::current_exe().ok();
    let current = std::env::current_dir().ok();
    let mut folders: Vec<PathBuf> = current
        .iter()
        .flat_map(|d| d.ancestors())
        .map(Path::to_owned)
        .collect();
    folders.extend(
        executable
            .iter()
            .flat_map(|e| e.ancestors().skip(1))
            .map(Path::to_owned),
    );
    locate_in(
        explicit,
        std::env::var_os("DIVERSITY_ANVIL")
            .as_deref()
            .map(Path::new),
        &std::env::var_os("PATH")
            .map(|p| std::env::split_paths(&p).collect::<Vec<_>>())
            .unwrap_or_default(),
        &folders,
    )
}

fn locate_in(
    explicit: Option<&Path>,
    variable: Option<&Path>,
    path: &[PathBuf],
    folders: &[PathBuf],
) -> Result<PathBuf, AnvilError> {
    for (named, from) in [(explicit, "--anvil"), (variable, "DIVERSITY_ANVIL")] {
        if let Some(named) = named {
            return if named.is_file() {
                Ok(named.to_owned())
            } else {
                Err(AnvilError::NotThere {
                    path: named.to_owned(),
                    from,
                })
            };
        }
    }
    let on_path = path.iter().map(|d| d.join("anvil"));
    let in_npm = folders.iter().map(|d| d.join(npm_path()));
    on_path
        .chain(in_npm)
        .find(|p| p.is_file())
        .ok_or_else(|| AnvilError::Nowhere {
            looked: folders
                .first()
                .map(|d| d.display().to_string())
                .unwrap_or_default(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anvil_is_looked_for_in_the_fixed_order() {
        let dir = tempfile::tempdir().unwrap();
        let make = |at: &str| {
            let path = dir.path().join(at);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            path
        };
        let (option, variable) = (make("o/anvil"), make("v/anvil"));
        let on_path = make("p/anvil");
        let npm = make(&npm_path().display().to_string());
        let path = [dir.path().join("empty"), dir.path().join("p")];
        let folders = [dir.path().to_owned()];
        assert_eq!(
            locate_in(Some(&option), Some(&variable), &path, &folders),
            Ok(option)
        );
        assert_eq!(
            locate_in(None, Some(&variable), &path, &folders),
            Ok(variable)
        );
        assert_eq!(locate_in(None, None, &path, &folders), Ok(on_path));
        assert_eq!(locate_in(None, None, &[], &folders), Ok(npm));
        let text = locate_in(None, None, &[], &[]).unwrap_err().to_string();
        assert!(
            text.contains("npm ci") && text.contains("install Foundry"),
            "{text}"
        );
        let gone = dir.path().join("gone");
        let text = locate_in(Some(&gone), None, &path, &folders)
            .unwrap_err()
            .to_string();
        assert!(text.contains("--anvil"), "{text}");
    }

    #[test]
    fn a_state_file_that_was_cut_off_is_replaced_by_the_last_good_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut anvil = Anvil::new("anvil".into(), 1, dir.path().join("chain.json"));
        assert_eq!(anvil.prepare_state(), Ok(false), "a new chain");
        let first = anvil.genesis_s;
        assert!(first.is_some_and(|s| s > 1_700_000_000));
        std::fs::write(&anvil.state, "{\"block\":1").unwrap();
        assert!(
            anvil
                .prepare_state()
                .unwrap_err()
                .to_string()
                .contains("cut off")
        );
        std::fs::write(&anvil.state, "{\"block\":1}").unwrap();
        assert_eq!(anvil.prepare_state(), Ok(false));
        std::fs::write(&anvil.state, "").unwrap();
        assert_eq!(anvil.prepare_state(), Ok(true));
        assert_eq!(
            std::fs::read_to_string(&anvil.state).unwrap(),
            "{\"block\":1}"
        );
        let mut again = Anvil {
            genesis_s: None,
            ..anvil.clone()
        };
        again.prepare_state().unwrap();
        assert_eq!(again.genesis_s, first, "the first start's");
    }

    #[test]
    fn of_several_genesis_blocks_the_oldest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut anvil = Anvil::new("anvil".into(), 1, dir.path().join("chain.json"));
        let block = |number: &str, timestamp: &str| serde_json::json!({"header": {"number": number, "timestamp": timestamp}});
        let blocks = [
            block("0x0", "0x6b0a459a"),
            block("0x1", "0x6b0a459b"),
            block("0x0", "0x6b0a4599"),
        ];
        let state = serde_json::json!({"best_block_number": 1, "blocks": blocks});
        std::fs::write(&anvil.state, state.to_string()).unwrap();
        assert_eq!(anvil.prepare_state(), Ok(false));
        assert_eq!(anvil.genesis_s, Some(0x6b0a_4599));
        let left: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&anvil.state).unwrap()).unwrap();
        assert_eq!(left["blocks"], serde_json::json!([blocks[1], blocks[2]]));
        assert_eq!(left["best_block_number"], 1);
    }
}
