//! The programs that a run starts: those that lie beside this one.

use crate::{E2eError, Result};
use std::path::{Path, PathBuf};

/// A program of the same build: beside this one, or one folder up for tests, which lie in `deps`.
///
/// # Errors
/// [`E2eError::NotBuilt`].
pub fn find(name: &str) -> Result<PathBuf> {
    let ours = std::env::current_exe().map_err(E2eError::system("find this program"))?;
    let mut folder = ours.parent().unwrap_or(Path::new("."));
    if folder.file_name().is_some_and(|n| n == "deps") {
        folder = folder.parent().unwrap_or(folder);
    }
    let path = folder.join(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(E2eError::NotBuilt { path })
    }
}
