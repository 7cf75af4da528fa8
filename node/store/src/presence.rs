//! What must lie in a store's directory before the engine looks at it, and what a killed process may have left there.

use std::fs;
use std::path::Path;

use crate::StoreError;
use crate::journal::{FILE_BYTES, NAMES};

/// What the engine calls its snapshots: an index of its log that saves reading it, and nothing else.
const SNAPSHOT: &str = "snap.";
/// One that was being written when the process was killed.
const HALF_WRITTEN: &str = ".generating";
/// Bytes behind a snapshot's content: its length and a checksum.
const TRAILER: usize = 12;

/// Checks that a store that was made whole still has all its files, so that none of them is made anew, empty.
pub(crate) fn check(dir: &Path, engine: &Path) -> Result<(), StoreError> {
    for name in ["db", "conf"] {
        let length = length(&engine.join(name))?;
        if length.unwrap_or(0) == 0 {
            let shown = engine.file_name().unwrap_or_default().to_string_lossy();
            let state = if length.is_none() { "gone" } else { "empty" };
            return Err(StoreError::corrupt(
                dir,
                format!("the file {shown}/{name} is {state}"),
            ));
        }
    }
    for name in NAMES {
        let what = match length(&dir.join(name))? {
            None => "gone",
            Some(length) if length < FILE_BYTES => "cut short",
            Some(_) => continue,
        };
        return Err(StoreError::corrupt(
            dir,
            format!("the file {name} is {what}"),
        ));
    }
    Ok(())
}

/// Removes snapshots that were not written whole or were changed since: the engine takes one for damage and stops, though it can do
/// without. What its log holds is checked by ourselves.
pub(crate) fn clear_snapshots(engine: &Path) -> Result<(), StoreError> {
    let entries = match fs::read_dir(engine) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|error| failed("list", engine, &error))?,
    };
    for entry in entries {
        let path = entry
            .map_err(|error| failed("list", engine, &error))?
            .path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with(SNAPSHOT) {
            continue;
        }
        let whole = !name.ends_with(HALF_WRITTEN)
            && is_whole(&fs::read(&path).map_err(|error| failed("read", &path, &error))?);
        if !whole {
            fs::remove_file(&path).map_err(|error| failed("remove", &path, &error))?;
        }
    }
    Ok(())
}

fn is_whole(bytes: &[u8]) -> bool {
    let Some((content, trailer)) = bytes
        .len()
        .checked_sub(TRAILER)
        .and_then(|at| bytes.split_at_checked(at))
    else {
        return false;
    };
    let (length, crc) = trailer.split_at(8);
    !content.is_empty()
        && crc32fast::hash(content).to_le_bytes() == crc
        && (content.len() as u64).to_le_bytes() == length
}

fn length(path: &Path) -> Result<Option<u64>, StoreError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("look at", path, &error)),
    }
}

fn failed(action: &'static str, path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::File {
        action,
        path: path.display().to_string(),
        reason: error.to_string(),
    }
}
