//! The node's keys and the tokens of its API: made at the first start, read at every later one.
//!
//! Four secrets, each in a keystore file of its own under `DATA_DIR/keys`, mode 0600: the protocol key (identity of the node
//! in agreements), the account key (pays gas), the peer key (libp2p), and the seed from which the secret and salt of every
//! commit are derived (R2).

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use diversity_keys::keystore::{self, Cost, KeystoreError};
use diversity_keys::{KeyError, SecretKey, os_random};
use diversity_proto::{NodeId, PublicKey};
use zeroize::Zeroizing;

/// Longest password file, bytes.
const PASSWORD_BYTES_MAX: u64 = 4096;
/// Bytes of an API token, before hexadecimal.
const TOKEN_BYTES: usize = 32;

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
    /// A password file that holds none.
    #[error("the password file {path} holds no password: put one line into it")]
    NoPassword {
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
}

impl Keyring {
    /// Opens the keys in `data_dir/keys`, and makes those that are missing. `password_file` may be empty: then a password is
    /// generated beside them.
    ///
    /// # Errors
    /// [`KeyringError`]; no file is ever overwritten.
    pub fn open(data_dir: &Path, password_file: &Path, light: bool) -> Result<Self, KeyringError> {
        let dir = data_dir.join("keys");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(file("make the directory", &dir))?;
        let password = if password_file.as_os_str().is_empty() {
            let path = dir.join("password");
            if !path.exists() {
                write_private(&path, &hex(&os_random::<24>()?))?;
            }
            read_line(&path)?
        } else {
            read_line(password_file)?
        };
        let cost = if light { Cost::Light } else { Cost::Standard };
        let open = |which: &'static str, secp: bool| -> Result<Zeroizing<[u8; 32]>, KeyringError> {
            let path = dir.join(format!("{which}.json"));
            let keystore = |source| KeyringError::Keystore { which, source };
            if !path.exists() {
                let (secret, address) = if secp {
                    let key = SecretKey::generate()?;
                    (key.to_bytes(), Some(key.address()))
                } else {
                    (Zeroizing::new(os_random()?), None)
                };
                keystore::write(&path, &secret, address.as_ref(), password.as_bytes(), cost)
                    .map_err(keystore)?;
            }
            keystore::read(&path, password.as_bytes()).map_err(keystore)
        };
        // scrypt at full cost takes about a second a file, so the four are opened side by side.
        let (protocol, account, peer, seed) = std::thread::scope(|scope| {
            let jobs = [
                ("protocol", true),
                ("account", true),
                ("peer", false),
                ("seed", false),
            ]
            .map(|(which, secp)| scope.spawn(move || open(which, secp)));
            let [protocol, account, peer, seed] =
                jobs.map(|job| job.join().expect("opening a key does not panic"));
            Ok::<_, KeyringError>((protocol?, account?, peer?, seed?))
        })?;
        Ok(Self {
            protocol: SecretKey::from_bytes(&protocol)?,
            account: SecretKey::from_bytes(&account)?,
            peer,
            seed,
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

/// What a caller of the API may do. Each scope includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// See everything.
    Read,
    /// Send messages and have things relayed to the chain.
    Operate,
    /// Have this node accept agreements, and change what it holds.
    Admin,
}

impl Scope {
    /// All, weakest first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Operate, Self::Admin];

    /// As in file names and problems.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

/// The tokens of the API, one for each scope, in `DATA_DIR/api-token-{read,operate,admin}`.
pub struct Tokens([Zeroizing<String>; 3]);

impl Tokens {
    /// Reads the tokens, and makes those that are missing.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn open(data_dir: &Path) -> Result<Self, KeyringError> {
        let token = |scope: Scope| -> Result<Zeroizing<String>, KeyringError> {
            let path = data_dir.join(format!("api-token-{}", scope.name()));
            if !path.exists() {
                write_private(&path, &hex(&os_random::<TOKEN_BYTES>()?))?;
            }
            let text = read_line(&path)?;
            if text.len() != 2 * TOKEN_BYTES || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(KeyringError::Token { path });
            }
            Ok(text)
        };
        Ok(Self([
            token(Scope::Read)?,
            token(Scope::Operate)?,
            token(Scope::Admin)?,
        ]))
    }

    /// The scope of a token; nothing for an unknown one. Takes as long for every token of the right length.
    pub fn scope(&self, given: &str) -> Option<Scope> {
        let mut found = None;
        for (scope, token) in Scope::ALL.into_iter().zip(&self.0) {
            if same(token.as_bytes(), given.as_bytes()) {
                found = Some(scope);
            }
        }
        found
    }

    /// The token of a scope.
    pub fn token(&self, scope: Scope) -> &str {
        &self.0[scope as usize]
    }
}

fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0u8, |sum, (a, b)| sum | (a ^ b)) == 0
}

fn hex(bytes: &[u8]) -> Zeroizing<String> {
    use std::fmt::Write;
    let mut out = Zeroizing::new(String::with_capacity(2 * bytes.len()));
    for b in bytes {
        write!(out, "{b:02x}").expect("a string takes everything");
    }
    out
}

fn file<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(std::io::Error) -> KeyringError + 'a {
    move |source| KeyringError::File {
        action,
        path: path.into(),
        source,
    }
}

/// Writes a new file that only its owner reads, whole or not at all.
fn write_private(path: &Path, line: &str) -> Result<(), KeyringError> {
    let new = path.with_extension("new");
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut f| {
            f.set_permissions(fs::Permissions::from_mode(0o600))?;
            writeln!(f, "{line}")?;
            f.sync_all()
        })
        .and_then(|()| fs::rename(&new, path))
        .map_err(file("write", path))
}

fn read_line(path: &Path) -> Result<Zeroizing<String>, KeyringError> {
    let mut text = Zeroizing::new(String::new());
    File::open(path)
        .and_then(|f| f.take(PASSWORD_BYTES_MAX).read_to_string(&mut text))
        .map_err(file("read", path))?;
    let line = Zeroizing::new(text.lines().next().unwrap_or_default().to_owned());
    if line.is_empty() {
        return Err(KeyringError::NoPassword { path: path.into() });
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
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
        assert_eq!(files, 4 + 1 + 3);
    }

    #[test]
    fn a_wrong_password_is_said_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().expect("dir");
        Keyring::open(dir.path(), Path::new(""), true).expect("made");
        let other = dir.path().join("other");
        fs::write(&other, "wrong\n").expect("written");
        assert!(matches!(
            Keyring::open(dir.path(), &other, true),
            Err(KeyringError::Keystore { .. })
        ));
        fs::write(&other, "").expect("written");
        assert!(matches!(
            Keyring::open(dir.path(), &other, true),
            Err(KeyringError::NoPassword { .. })
        ));
        Keyring::open(dir.path(), Path::new(""), true).expect("still there");
    }
}
