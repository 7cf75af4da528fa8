//! A new store in the place of a damaged one: what the node has signed and whatever else of the core can be read goes along, and the
//! rest comes from the peers and the chain.
//!
//! The new one is made beside the old one, and the two change places when it is whole. A crash in between is finished by the next
//! start, so that there is never an empty store in the place of one that says what was signed.

use std::fs;
use std::path::{Path, PathBuf};

use diversity_engine::records;
use diversity_proto::terms::SensorStart;
use diversity_store::{Salvaged, Store, salvage};

use super::adopt;
use super::run::NodeError;
use crate::config::NodeConfig;

/// What the node has signed, or is about to: nobody else can give it back.
pub const SIGNED: [u8; 5] = [
    records::EXECUTION,
    records::READING,
    records::HELD,
    records::REVEAL,
    records::READING_REVEAL,
];

const STORE: &str = "store";
/// A new store that is not whole yet.
const MAKING: &str = "store.new";
/// A new store that is whole.
const MADE: &str = "store.rebuilt";
/// A store that was replaced.
const REPLACED: &str = "store.damaged";

/// What became of it.
#[derive(Debug)]
pub struct Rebuilt {
    /// What was taken along, and what was not.
    pub salvaged: Salvaged,
    /// Where the old store lies now; nothing if there was none.
    pub replaced: Option<PathBuf>,
}

/// Replaces the store. `identity` is that of [`Store::open`].
///
/// # Errors
/// [`NodeError::Store`] if the store is another node's or in use, [`NodeError::Directory`].
pub fn rebuild(config: &NodeConfig, identity: &[u8]) -> Result<Rebuilt, NodeError> {
    finish(config)?;
    let (old, making) = (config.path(STORE), config.path(MAKING));
    remove(&making)?;
    let new = Store::open(&making, identity)?;
    let salvaged = if old.exists() {
        salvage(&old, identity, &records::FAMILIES, &SIGNED, &new)?
    } else {
        Salvaged::default()
    };
    drop_what_lacks_its_sensors(&new)?;
    if config.path("accepted").exists() {
        adopt::end(&new)?;
    }
    drop(new);
    rename(&making, &config.path(MADE))?;
    let replaced = finish(config)?;
    Ok(Rebuilt { salvaged, replaced })
}

/// Puts a store that was rebuilt in its place, if there is one. Before every start.
///
/// # Errors
/// [`NodeError::Directory`].
pub fn finish(config: &NodeConfig) -> Result<Option<PathBuf>, NodeError> {
    let (store, made) = (config.path(STORE), config.path(MADE));
    if !made.exists() {
        return Ok(None);
    }
    let mut replaced = None;
    if store.exists() {
        let free = (1..)
            .map(|n| config.path(&format!("{REPLACED}-{n}")))
            .find(|path| !path.exists())
            .expect("there is always a further number");
        rename(&store, &free)?;
        replaced = Some(free);
    }
    rename(&made, &store)?;
    Ok(replaced)
}

/// An agreement is of no use to the core without the sensors that it names; the chain tells of both again.
fn drop_what_lacks_its_sensors(store: &Store) -> Result<(), NodeError> {
    let mut ops = Vec::new();
    for item in store.scan_prefix(&[records::AGREEMENT]) {
        let (key, value) = item?;
        let whole = match records::AgreementRecord::decode(&value) {
            Ok(record) => {
                let known = |s: &SensorStart| store.get(&records::sensor_key(&s.sensor));
                let mut whole = true;
                for sensor in &record.terms.sensors {
                    whole &= known(sensor)?.is_some();
                }
                whole
            }
            Err(_) => false,
        };
        if !whole {
            ops.push(diversity_store::Op::Delete(key));
        }
    }
    if !ops.is_empty() {
        store.write(ops)?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), NodeError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(path, error)),
        _ => Ok(()),
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), NodeError> {
    let parent = to.parent().unwrap_or(Path::new("."));
    fs::rename(from, to)
        .and_then(|()| fs::File::open(parent)?.sync_all())
        .map_err(|error| failed(from, error))
}

fn failed(path: &Path, source: std::io::Error) -> NodeError {
    NodeError::Directory {
        path: path.into(),
        source,
    }
}
