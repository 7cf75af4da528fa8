//! `DATA_DIR/keys/made.json`: that the keys were made, and what they are known by. So a key that was deleted or exchanged since is an
//! error and never a new key: a new seed would make other commits, and a new protocol key is another node.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::files::{file, hex, write_private};
use super::{KEYS, KeyringError};

/// Bytes of a check; the keys are 32 random bytes, of which this says nothing that is of use.
const CHECK_BYTES: usize = 8;

/// What the keys are known by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The node's id, for people.
    node: String,
    /// The account that pays gas, for people.
    account: String,
    /// For each key, part of a hash of it.
    checks: BTreeMap<String, String>,
}

impl Record {
    /// Of these keys, in the order of [`KEYS`].
    pub fn of(node: String, account: String, keys: &[Zeroizing<[u8; 32]>; 4]) -> Self {
        let check = |(which, key): (&&str, &Zeroizing<[u8; 32]>)| {
            let text =
                Zeroizing::new([b"DIVERSITY key check ", which.as_bytes(), &key[..]].concat());
            let hash = diversity_keys::keccak256(&text);
            (String::from(*which), hex(&hash[..CHECK_BYTES]).to_string())
        };
        Self {
            node,
            account,
            checks: KEYS.iter().zip(keys).map(check).collect(),
        }
    }

    /// What an earlier start wrote.
    pub fn read(path: &Path) -> Result<Option<Self>, KeyringError> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(file("read", path))?,
        };
        let record =
            serde_json::from_str(&text).map_err(|_| KeyringError::Record { path: path.into() })?;
        Ok(Some(record))
    }

    /// Keeps it.
    pub fn write(&self, path: &Path) -> Result<(), KeyringError> {
        let text = serde_json::to_string(self).expect("texts");
        write_private(path, &text)
    }

    /// The first key that is another one than when the record was made.
    pub fn exchanged(&self, now: &Self) -> Option<&'static str> {
        KEYS.into_iter()
            .find(|which| self.checks.get(*which) != now.checks.get(*which))
    }
}
