//! What a store's directory holds beside the engine's files: a lock, and a text file with version and identity.
//!
//! The version is read before the engine touches anything, so that even a version with another engine is refused in words.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use crate::{FORMAT_VERSION, StoreError};

/// The folder of the engine's own files.
pub(crate) const ENGINE: &str = "sled";
const FORMAT: &str = "format";
const FORMAT_NEW: &str = "format.new";
const LOCK: &str = "lock";
const MAGIC: &str = "diversity-store ";
/// The format file is far smaller.
const FORMAT_BYTES_MAX: u64 = 4096;

/// Held while a store is open. The system lets go of it when the process ends, however it ends.
pub(crate) struct Lock {
    _file: File,
}

/// Locks the directory and checks that it holds a store of this version and identity, or makes one of it.
pub(crate) fn claim(dir: &Path, identity: &[u8]) -> Result<Lock, StoreError> {
    fs::create_dir_all(dir).map_err(|error| failed("create", dir, &error))?;
    let format = dir.join(FORMAT);
    if !exists(&format)? && !is_fresh(dir)? {
        return Err(StoreError::NotAStore { path: shown(dir) });
    }
    let lock = lock(dir)?;
    // Looked at again now: another process may have made the store before this one had the lock.
    if exists(&format)? {
        check(dir, &format, identity)?;
    } else {
        make(dir, &format, identity).map_err(|error| failed("write", &format, &error))?;
    }
    Ok(lock)
}

fn lock(dir: &Path) -> Result<Lock, StoreError> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| failed("open", &path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: shown(dir) }),
        Err(TryLockError::Error(error)) => Err(failed("lock", &path, &error)),
    }
}

/// Nothing in it but what an opener that died early leaves behind.
fn is_fresh(dir: &Path) -> Result<bool, StoreError> {
    for entry in fs::read_dir(dir).map_err(|error| failed("list", dir, &error))? {
        let name = entry
            .map_err(|error| failed("list", dir, &error))?
            .file_name();
        if name != LOCK && name != FORMAT_NEW {
            return Ok(false);
        }
    }
    Ok(true)
}

fn check(dir: &Path, format: &Path, identity: &[u8]) -> Result<(), StoreError> {
    let mut bytes = Vec::new();
    File::open(format)
        .and_then(|file| file.take(FORMAT_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|error| failed("read", format, &error))?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let unknown = |found: String| StoreError::UnknownVersion {
        path: shown(dir),
        found,
    };
    let version = lines
        .next()
        .and_then(|line| line.strip_prefix(MAGIC))
        .ok_or_else(|| unknown("no readable version".into()))?;
    if let Ok(found) = version.parse::<u32>()
        && found > 0
        && found < FORMAT_VERSION
    {
        return Err(StoreError::OldVersion {
            path: shown(dir),
            found,
        });
    }
    if version != FORMAT_VERSION.to_string() {
        return Err(unknown(format!(
            "version {}",
            version
                .chars()
                .take(20)
                .flat_map(char::escape_default)
                .collect::<String>()
        )));
    }
    let found = lines
        .next()
        .and_then(|line| line.strip_prefix("identity "))
        .ok_or_else(|| unknown("no readable identity".into()))?;
    let expected = hex(identity);
    if found != expected {
        return Err(StoreError::ForeignIdentity {
            path: shown(dir),
            found: found
                .chars()
                .take(600)
                .flat_map(char::escape_default)
                .collect(),
            expected,
        });
    }
    Ok(())
}

/// Writes the format file so that it is there whole or not at all, before the engine makes its files.
fn make(dir: &Path, format: &Path, identity: &[u8]) -> std::io::Result<()> {
    let new = dir.join(FORMAT_NEW);
    let mut file = File::create(&new)?;
    write!(
        file,
        "{MAGIC}{FORMAT_VERSION}\nidentity {}\n",
        hex(identity)
    )?;
    file.sync_all()?;
    fs::rename(&new, format)?;
    File::open(dir)?.sync_all()
}

fn exists(path: &Path) -> Result<bool, StoreError> {
    path.try_exists()
        .map_err(|error| failed("look at", path, &error))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn failed(action: &'static str, path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::File {
        action,
        path: shown(path),
        reason: error.to_string(),
    }
}
