//! The node's keys and the tokens of its API: made at the first start, read at every later one. A key that is missing at a later
//! start is an error, never a new key.
//!
//! Four secrets, each in a keystore file of its own under `DATA_DIR/keys`, mode 0600: the protocol key (identity of the node
//! in agreements), the account key (pays gas), the peer key (libp2p), and the seed from which the secret and salt of every
//! commit are derived (R2).

mod files;
mod record;
mod tokens;

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use diversity_keys::keystore::{self, Cost, KeystoreError};
use diversity_keys::password::{self, PasswordError};
use diversity_keys::{KeyError, SecretKey, os_random};
use diversity_proto::{NodeId, PublicKey};
use zeroize::Zeroizing;

use files::{check_private, file, hex, write_private};
use record::Record;

pub use tokens::{Scope, Tokens};

/// Names of the keys; each is a keystore file `NAME.json`.
const KEYS: [&str; 4] = ["protocol", "account", "peer", "seed"];

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// A keystore file.
    #[error("the {which} key of this node: {source}")]
    Keystore {
        /// Which key.
        which: &'static str,
        /// What is wrong.
        source: KeystoreError,
    },
    /// No randomness, or a stored key out of range.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A file or directory.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A password file.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// A key that was there once.
    #[error(
        "{} is gone, and this node has run with it: restore it from your backup of that folder. No new one is made: {}",
        path.display(), loss(which)
    )]
    Gone {
        /// Which key.
        which: &'static str,
        /// Its file.
        path: PathBuf,
    },
    /// A key that is another one now.
    #[error(
        "{} holds another key than the one that this node has run with: put the right file back from your backup. {}",
        path.display(), loss(which)
    )]
    Exchanged {
        /// Which key.
        which: &'static str,
        /// Its file.
        path: PathBuf,
    },
    /// A key file that others read.
    #[error(
        "{} can be read or written by others than its owner (mode {mode:03o}): whoever could read it has the key. If nobody did, run `chmod 600 {}`; else make new keys in a new data directory",
        path.display(), path.display()
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The record of the keys.
    #[error("{} is damaged: restore it from your backup of that folder", path.display())]
    Record {
        /// Which file.
        path: PathBuf,
    },
    /// A token file that others wrote.
    #[error(
        "{path} holds no token of 64 hexadecimal digits: remove it, and the next start makes a new one"
    )]
    Token {
        /// Which file.
        path: PathBuf,
    },
}

/// What it means to be without a key.
fn loss(which: &str) -> &'static str {
    match which {
        "protocol" => {
            "a new protocol key would be another node, of no agreement. If it is lost, start a node in a new data directory, register it, and make new agreements"
        }
        "seed" => {
            "with another seed this node would sign second commits for what it has committed to, which is evidence against it. If it is lost, start a node in a new data directory, register it, and make new agreements"
        }
        "account" => "what the old account holds would be out of reach",
        "password" => "without it the keys beside it do not open",
        _ => "other nodes know this one by it",
    }
}

/// The node's secrets.
pub struct Keyring {
    /// Signs everything that the protocol knows of this node.
    pub protocol: SecretKey,
    /// Pays gas.
    pub account: SecretKey,
    /// ed25519 secret of the transport.
    pub peer: Zeroizing<[u8; 32]>,
    /// Secrets and salts of commits are derived from it.
    pub seed: Zeroizing<[u8; 32]>,
    /// Whether they were made just now.
    pub new: bool,
}

impl Keyring {
    /// Opens the keys in `data_dir/keys`, and makes them at the first start. `password_file` may be empty: then a password is
    /// generated beside them.
    ///
    /// # Errors
    /// [`KeyringError`]; no file is ever overwritten, and no key made in the place of one that was there.
    pub fn open(data_dir: &Path, password_file: &Path, light: bool) -> Result<Self, KeyringError> {
        let dir = data_dir.join("keys");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(file("make the directory", &dir))?;
        let record_file = dir.join("made.json");
        let record = Record::read(&record_file)?;
        // A first start that was cut off made some of them, and nothing was signed with those.
        let has_run = record.is_some() || data_dir.join("store").join("format").exists();
        let path_of = |which: &str| dir.join(format!("{which}.json"));
        for which in KEYS {
            let path = path_of(which);
            if path.exists() {
                check_private(&path)?;
            } else if has_run {
                return Err(KeyringError::Gone { which, path });
            }
        }
        let password = if password_file.as_os_str().is_empty() {
            own_password(&dir, has_run)?
        } else {
            password::read_new(password_file)?
        };
        let cost = if light { Cost::Light } else { Cost::Standard };
        // scrypt at full cost takes about a second a file, so the four are opened side by side.
        let keys = std::thread::scope(|scope| {
            let jobs = KEYS.map(|which| {
                let (path, password) = (path_of(which), password.as_bytes());
                scope.spawn(move || open_key(which, &path, password, cost))
            });
            let [a, b, c, d] = jobs.map(|job| job.join().expect("opening a key does not panic"));
            Ok::<_, KeyringError>([a?, b?, c?, d?])
        })?;
        let protocol = SecretKey::from_bytes(&keys[0])?;
        let account = SecretKey::from_bytes(&keys[1])?;
        let text = |key: &SecretKey| diversity_proto::Address(key.address()).hex();
        let now = Record::of(text(&protocol), text(&account), &keys);
        match &record {
            Some(record) => {
                if let Some(which) = record.exchanged(&now) {
                    let path = path_of(which);
                    return Err(KeyringError::Exchanged { which, path });
                }
            }
            None => now.write(&record_file)?,
        }
        let [_, _, peer, seed] = keys;
        Ok(Self {
            protocol,
            account,
            peer,
            seed,
            new: !has_run,
        })
    }

    /// The node's id.
    pub fn node(&self) -> NodeId {
        NodeId(self.protocol.address())
    }

    /// The protocol key.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.protocol.public_key())
    }
}

/// The password that lies beside the keys, generated with them.
fn own_password(dir: &Path, has_run: bool) -> Result<Zeroizing<String>, KeyringError> {
    let path = dir.join("password");
    if path.exists() {
        check_private(&path)?;
    } else if has_run
        || KEYS
            .iter()
            .any(|key| dir.join(format!("{key}.json")).exists())
    {
        let which = "password";
        return Err(KeyringError::Gone { which, path });
    } else {
        write_private(&path, &hex(&os_random::<24>()?))?;
    }
    Ok(password::read_new(&path)?)
}

/// Opens a key; one that is not there is made.
fn open_key(
    which: &'static str,
    path: &Path,
    password: &[u8],
    cost: Cost,
) -> Result<Zeroizing<[u8; 32]>, KeyringError> {
    let keystore = |source| KeyringError::Keystore { which, source };
    if !path.exists() {
        let (secret, address) = match which {
            "protocol" | "account" => {
                let key = SecretKey::generate()?;
                (key.to_bytes(), Some(key.address()))
            }
            _ => (Zeroizing::new(os_random()?), None),
        };
        keystore::write(path, &secret, address.as_ref(), password, cost).map_err(keystore)?;
    }
    keystore::read(path, password).map_err(keystore)
}

#[cfg(test)]
#[path = "keyring/keyring_tests.rs"]
mod tests;
