//! Files that only their owner reads.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use super::KeyringError;

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> Zeroizing<String> {
    use std::fmt::Write;
    let mut out = Zeroizing::new(String::with_capacity(2 * bytes.len()));
    for b in bytes {
        write!(out, "{b:02x}").expect("a string takes everything");
    }
    out
}

/// What went wrong with a file.
pub(super) fn file<'a>(
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
pub(super) fn write_private(path: &Path, line: &str) -> Result<(), KeyringError> {
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

/// Refuses a file that others than its owner can read or write.
pub(super) fn check_private(path: &Path) -> Result<(), KeyringError> {
    let mode = fs::metadata(path)
        .map_err(file("look at", path))?
        .permissions()
        .mode()
        & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(KeyringError::Exposed {
        path: path.into(),
        mode,
    })
}
