//! `diversity keys`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use diversity_keys::SecretKey;
use diversity_keys::keystore::{self, Cost};
use diversity_proto::Address;
use serde::Serialize;
use zeroize::Zeroizing;

use super::output::{Context, FAILED, Failure, Outcome, Output};

/// What to do with keystores.
#[derive(Subcommand)]
pub enum Command {
    /// Make a new secp256k1 key and write it to a new keystore
    #[command(
        after_help = "Example:\n  diversity keys generate --out alice.json --password-file alice.password"
    )]
    Generate {
        #[command(flatten)]
        new: New,
    },
    /// Print the address of a keystore
    #[command(
        after_help = "Example:\n  diversity keys show alice.json --password-file alice.password"
    )]
    Show {
        /// The keystore.
        keystore: PathBuf,
        /// File with its password: also checks that it opens, and prints the public key.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Put a private key from a file into a new keystore
    #[command(
        after_help = "Example:\n  diversity keys import --private-key-file alice.hex --out alice.json --password-file alice.password"
    )]
    Import {
        /// File with the key: 32 bytes of hexadecimal.
        #[arg(long, value_name = "FILE")]
        private_key_file: PathBuf,
        #[command(flatten)]
        new: New,
    },
}

/// Where a new keystore goes.
#[derive(clap::Args)]
pub struct New {
    /// The keystore to write; an existing one is never overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// File with the password for it.
    #[arg(long, value_name = "FILE")]
    password_file: PathBuf,
    /// Cheap key derivation: for tests and local networks only.
    #[arg(long)]
    light: bool,
}

#[derive(Serialize)]
struct Key {
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    keystore: PathBuf,
}

/// Runs the command.
pub fn run(command: Command, output: Output) -> Outcome {
    let shown = match command {
        Command::Generate { new } => {
            let key = SecretKey::generate().context("cannot make a key")?;
            write(&new, &key)?
        }
        Command::Import {
            private_key_file,
            new,
        } => {
            let text = Zeroizing::new(
                std::fs::read_to_string(&private_key_file)
                    .context(format_args!("cannot read {}", private_key_file.display()))?,
            );
            let bytes = diversity_client::hexed::decode(text.trim()).map(Zeroizing::new);
            let bytes: Option<[u8; 32]> = bytes.and_then(|b| b.as_slice().try_into().ok());
            let bytes = Zeroizing::new(bytes.ok_or_else(|| {
                Failure::new(FAILED, "the file with the private key must hold 32 bytes of hexadecimal and nothing else")
            })?);
            let key = SecretKey::from_bytes(&bytes).context("the private key is of no use")?;
            write(&new, &key)?
        }
        Command::Show {
            keystore,
            password_file: Some(password_file),
        } => {
            let secret = keystore::read(&keystore, password(&password_file)?.as_bytes())
                .context(keystore.display())?;
            let key = SecretKey::from_bytes(&secret).context(keystore.display())?;
            key_of(&key, keystore)
        }
        Command::Show {
            keystore,
            password_file: None,
        } => Key {
            address: named_address(&keystore)?,
            public_key: None,
            keystore,
        },
    };
    output.item(&shown, |key| key.address.clone())
}

/// The password in a file.
pub fn password(path: &Path) -> Outcome<Zeroizing<String>> {
    diversity_keys::password::read(path).map_err(|error| Failure::new(FAILED, error))
}

/// The password of a new keystore: one that is not empty.
fn new_password(path: &Path) -> Outcome<Zeroizing<String>> {
    diversity_keys::password::read_new(path).map_err(|error| Failure::new(FAILED, error))
}

fn write(new: &New, key: &SecretKey) -> Outcome<Key> {
    let cost = if new.light {
        Cost::Light
    } else {
        Cost::Standard
    };
    let password = new_password(&new.password_file)?;
    keystore::write(
        &new.out,
        &key.to_bytes(),
        Some(&key.address()),
        password.as_bytes(),
        cost,
    )
    .context("cannot write the keystore")?;
    Ok(key_of(key, new.out.clone()))
}

fn key_of(key: &SecretKey, keystore: PathBuf) -> Key {
    Key {
        address: Address(key.address()).hex(),
        public_key: Some(diversity_client::hexed::encode(&key.public_key())),
        keystore,
    }
}

/// The address that stands in the clear in a keystore.
fn named_address(path: &Path) -> Outcome<String> {
    let text = keystore::read_text(path).context(path.display())?;
    let address = keystore::named_address(&text).context(path.display())?;
    address.map(|a| Address(a).hex()).ok_or_else(|| {
        Failure::new(
            FAILED,
            format_args!(
                "{} does not name its address: give --password-file to open it",
                path.display()
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_password_opens_a_keystore_and_makes_none() {
        let dir = tempfile::tempdir().expect("dir");
        let (file, password_file) = (dir.path().join("key.json"), dir.path().join("password"));
        let key = SecretKey::from_bytes(&[7; 32]).expect("a key");
        keystore::write(
            &file,
            &key.to_bytes(),
            Some(&key.address()),
            b"",
            Cost::Light,
        )
        .expect("as a development chain makes it");
        for content in ["", "\n"] {
            write_private(&password_file, content);
            let password = password(&password_file).expect("empty and fine");
            let secret = keystore::read(&file, password.as_bytes()).expect("opens");
            assert_eq!(*secret, *key.to_bytes());
            assert!(new_password(&password_file).is_err());
        }
    }

    /// A file that only its owner reads, as secrets have to be.
    fn write_private(path: impl AsRef<std::path::Path>, content: &str) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(&path, content).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("ours");
    }
}
