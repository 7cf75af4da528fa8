//! What a store's directory holds beside the engine's files: a lock, and a text file with version, identity, the engine's folder, and
//! whether the store was made whole.
//!
//! The version is read before the engine touches anything, so that even a version with another engine is refused in words.
//!
//! ```text
//! diversity-store 3
//! identity <hexadecimal>
//! engine sled
//! state made                       or: making
//! crc32 <hexadecimal>              of the lines before
//! ```

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use crate::{FORMAT_VERSION, READ_FROM, StoreError};

/// The folder of the engine's own files.
pub(crate) const ENGINE: &str = "sled";
/// The same of a store that was of version 2 once.
pub(crate) const ENGINE_UPGRADED: &str = "sled-3";
const FORMAT: &str = "format";
const FORMAT_NEW: &str = "format.new";
const LOCK: &str = "lock";
const MAGIC: &str = "diversity-store ";
const MAKING: &str = "making";
const MADE: &str = "made";
/// The format file is far smaller.
const FORMAT_BYTES_MAX: u64 = 4096;

/// Held while a store is open. The system lets go of it when the process ends, however it ends.
pub(crate) struct Lock {
    _file: File,
}

/// What a directory that is ours holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing yet, or what an opener left behind that died while it made the store: nothing was ever acknowledged in it.
    Nothing,
    /// A store of version 2.
    Version2,
    /// A store of this version, with the folder of its engine.
    Made(&'static str),
}

/// Locks the directory and checks that it holds a store of this identity and of a version that can be read, or nothing.
pub(crate) fn claim(dir: &Path, identity: &[u8]) -> Result<(Lock, Found), StoreError> {
    fs::create_dir_all(dir).map_err(|error| failed("create", dir, &error))?;
    let format = dir.join(FORMAT);
    if !exists(&format)? && !is_fresh(dir)? {
        return Err(StoreError::NotAStore { path: shown(dir) });
    }
    let lock = lock(dir)?;
    // Looked at again now: another process may have made the store before this one had the lock.
    let found = if exists(&format)? {
        check(dir, &format, identity)?
    } else {
        Found::Nothing
    };
    Ok((lock, found))
}

/// Before the files of a new store are made: from here on the directory is a store's.
pub(crate) fn making(dir: &Path, identity: &[u8]) -> Result<(), StoreError> {
    for name in [ENGINE, crate::journal::NAMES[0], crate::journal::NAMES[1]] {
        remove(&dir.join(name))?;
    }
    write(dir, identity, ENGINE, MAKING)
}

/// All files are there and durable: from here on none of them may be missing.
pub(crate) fn made(dir: &Path, identity: &[u8], engine: &str) -> Result<(), StoreError> {
    write(dir, identity, engine, MADE)
}

/// Removes a file or a folder, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(failed("remove", path, &error))
        }
        _ => Ok(()),
    }
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

fn check(dir: &Path, format: &Path, identity: &[u8]) -> Result<Found, StoreError> {
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
        && found < READ_FROM
    {
        return Err(StoreError::OldVersion {
            path: shown(dir),
            found,
        });
    }
    if version != FORMAT_VERSION.to_string() && version != READ_FROM.to_string() {
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
    if text == format!("{MAGIC}{READ_FROM}\nidentity {expected}\n") {
        return Ok(Found::Version2);
    }
    for engine in [ENGINE, ENGINE_UPGRADED] {
        for (state, found) in [(MADE, Found::Made(engine)), (MAKING, Found::Nothing)] {
            if text == content(identity, engine, state) {
                return Ok(found);
            }
        }
    }
    Err(StoreError::corrupt(
        dir,
        "the file format was changed on the disk".into(),
    ))
}

fn content(identity: &[u8], engine: &str, state: &str) -> String {
    let mut text = format!(
        "{MAGIC}{FORMAT_VERSION}\nidentity {}\nengine {engine}\nstate {state}\n",
        hex(identity)
    );
    let crc = crc32fast::hash(text.as_bytes());
    let _ = writeln!(text, "crc32 {crc:08x}");
    text
}

/// Writes the format file so that it is there whole or not at all.
fn write(dir: &Path, identity: &[u8], engine: &str, state: &str) -> Result<(), StoreError> {
    let (format, new) = (dir.join(FORMAT), dir.join(FORMAT_NEW));
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(content(identity, engine, state).as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &format)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|error| failed("write", &format, &error))
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
