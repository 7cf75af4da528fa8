//! `DIR/devnet.json`: everything that a script needs to know of a devnet (design §7).

use crate::{Api, ApiError};
use diversity_proto::{Address, UserId};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The devnet file. Relative paths in it are meant from the folder that it lies in; [`Devnet::read`] makes them whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Devnet {
    /// The chain.
    pub chain: DevnetChain,
    /// The contracts.
    pub contracts: DevnetContracts,
    /// The nodes.
    pub nodes: Vec<DevnetNode>,
    /// The users.
    pub users: Vec<DevnetUser>,
}

/// The chain of a devnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevnetChain {
    /// JSON-RPC endpoint, without what may be secret in its URL: user, password, path and query.
    pub rpc_url: String,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Its process; `null` when it is stopped, or not the devnet's own.
    pub pid: Option<u32>,
}

/// The contracts of a devnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevnetContracts {
    /// `MainContract`.
    #[serde(with = "crate::hexed")]
    pub main: Address,
    /// `Cells`.
    #[serde(with = "crate::hexed")]
    pub cells: Address,
}

/// A node of a devnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevnetNode {
    /// Name.
    pub name: String,
    /// Base URL of its API.
    pub api_url: String,
    /// File with its token.
    pub token_file: PathBuf,
    /// Its store, keys and log.
    pub data_dir: PathBuf,
    /// Its process; `null` when it is stopped.
    pub pid: Option<u32>,
}

/// A user of a devnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevnetUser {
    /// Name.
    pub name: String,
    /// Account.
    #[serde(with = "crate::hexed")]
    pub address: UserId,
    /// Web3 keystore.
    pub keystore: PathBuf,
    /// Its password.
    pub password_file: PathBuf,
}

/// What can go wrong with a devnet file.
#[derive(Debug, thiserror::Error)]
pub enum DevnetError {
    /// Reading or writing failed.
    #[error("cannot {action} the devnet file {}: {source}", path.display())]
    File {
        /// "read" or "write".
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not the JSON of a devnet.
    #[error("{} is not a devnet file ({reason}): give the devnet.json that `diversity devnet up` wrote", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No node has this name.
    #[error("no node of the devnet is called {name}; there are: {}", known.join(", "))]
    NoSuchNode {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// No node answers.
    #[error(
        "no node of the devnet answers ({reason}): start one with `diversity devnet start NAME`"
    )]
    NobodyAnswers {
        /// What the last one said.
        reason: String,
    },
    /// A node's API cannot be used.
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl Devnet {
    /// Reads the file.
    ///
    /// # Errors
    /// [`DevnetError::File`], [`DevnetError::Malformed`].
    pub fn read(path: &Path) -> Result<Self, DevnetError> {
        let text = fs::read_to_string(path).map_err(|source| DevnetError::File {
            action: "read",
            path: path.into(),
            source,
        })?;
        let mut devnet: Self =
            serde_json::from_str(&text).map_err(|error| DevnetError::Malformed {
                path: path.into(),
                reason: error.to_string(),
            })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for node in &mut devnet.nodes {
            node.token_file = folder.join(&node.token_file);
            node.data_dir = folder.join(&node.data_dir);
        }
        for user in &mut devnet.users {
            user.keystore = folder.join(&user.keystore);
            user.password_file = folder.join(&user.password_file);
        }
        Ok(devnet)
    }

    /// Writes the file atomically and durably: a reader sees the old one or the new one, whole.
    ///
    /// # Errors
    /// [`DevnetError::File`].
    pub fn write(&self, path: &Path) -> Result<(), DevnetError> {
        let mut text = serde_json::to_string_pretty(self).expect("strings and numbers");
        text.push('\n');
        write_atomically(path, text.as_bytes()).map_err(|source| DevnetError::File {
            action: "write",
            path: path.into(),
            source,
        })
    }

    /// The node with this name.
    ///
    /// # Errors
    /// [`DevnetError::NoSuchNode`].
    pub fn node(&self, name: &str) -> Result<&DevnetNode, DevnetError> {
        let found = self.nodes.iter().find(|n| n.name == name);
        found.ok_or_else(|| DevnetError::NoSuchNode {
            name: name.into(),
            known: self.nodes.iter().map(|n| n.name.clone()).collect(),
        })
    }

    /// The API of the node with this name, or of the first that is ready; if none is, of the first that answers: what a node
    /// has on its own disk can be read while the chain is down.
    ///
    /// # Errors
    /// [`DevnetError::NoSuchNode`], [`DevnetError::NobodyAnswers`], [`DevnetError::Api`].
    pub async fn api(&self, name: Option<&str>) -> Result<Api, DevnetError> {
        if let Some(name) = name {
            return Ok(self.node(name)?.api()?);
        }
        let mut reason = "it has none".to_string();
        let mut alive = None;
        for node in &self.nodes {
            match node.api() {
                Ok(api) if api.ready().await => return Ok(api),
                Ok(api) if alive.is_none() && api.alive().await => alive = Some(api),
                Ok(api) => reason = format!("{} is not ready", api.base()),
                Err(error) => reason = error.to_string(),
            }
        }
        alive.ok_or(DevnetError::NobodyAnswers { reason })
    }
}

impl DevnetNode {
    /// Its API.
    ///
    /// # Errors
    /// [`ApiError`] for a bad URL or token file.
    pub fn api(&self) -> Result<Api, ApiError> {
        Api::with_token_file(&self.api_url, &self.token_file)
    }
}

/// Replaces a file so that a reader sees the old content or the new one, and a power cut leaves one of them.
///
/// # Errors
/// What the system says.
pub fn write_atomically(path: &Path, content: &[u8]) -> std::io::Result<()> {
    // As files are made: the umask says who may read it.
    replace(path, content, 0o666)
}

/// The same, for what only its owner reads.
///
/// # Errors
/// What the system says.
pub fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    replace(path, content, 0o600)
}

fn replace(path: &Path, content: &[u8], mode: u32) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let mut options = fs::OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(mode);
    let mut file = options.open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_names_that_scripts_rely_on() {
        let json = serde_json::json!({
            "chain": {"rpc_url": "http://127.0.0.1:8545", "chain_id": 31337, "pid": 7},
            "contracts": {"main": "0x00000000000000000000000000000000000000d1",
                "cells": "0x00000000000000000000000000000000000000d2"},
            "nodes": [{"name": "node1", "api_url": "http://127.0.0.1:1", "token_file": "node1/token",
                "data_dir": "node1", "pid": null}],
            "users": [{"name": "operator", "address": "0x0000000000000000000000000000000000000041",
                "keystore": "users/operator.json", "password_file": "/etc/password"}],
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("devnet.json");
        let devnet: Devnet = serde_json::from_value(json.clone()).unwrap();
        devnet.write(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            json
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        // Relative paths become whole, absolute ones stay.
        let read = Devnet::read(&path).unwrap();
        assert_eq!(read.nodes[0].token_file, folder.path().join("node1/token"));
        assert_eq!(read.users[0].password_file, Path::new("/etc/password"));
        assert!(
            read.node("node2")
                .unwrap_err()
                .to_string()
                .contains("node1")
        );
    }

    #[test]
    fn what_is_no_devnet_file_is_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("devnet.json");
        let missing = Devnet::read(&path).unwrap_err().to_string();
        assert!(missing.contains("cannot read"), "{missing}");
        fs::write(&path, "{}").unwrap();
        let empty = Devnet::read(&path).unwrap_err().to_string();
        assert!(empty.contains("devnet up"), "{empty}");
    }
}
