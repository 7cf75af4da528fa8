//! Files with secrets that somebody else has made: passwords, tokens. Others than their owner must not reach them.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Opens a file with a secret in it. A pipe or a device has no owner's content and is opened as it is.
///
/// # Errors
/// Those of the system; [`ErrorKind::PermissionDenied`] in words that say what to do if the group or everybody can read or write it.
pub fn open(path: &Path) -> Result<File> {
    let file = File::open(path)?;
    let found = file.metadata()?;
    let mode = found.permissions().mode() & 0o777;
    if found.is_file() && mode & 0o077 != 0 {
        return Err(Error::new(
            ErrorKind::PermissionDenied,
            format!(
                "others than its owner can read or write it (mode {mode:03o}); make it private: chmod 600 {}",
                path.display()
            ),
        ));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;

    #[test]
    fn what_others_can_reach_is_refused_in_words() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("token");
        std::fs::write(&path, "secret").expect("writes");
        for (mode, private) in [
            (0o600, true),
            (0o400, true),
            (0o700, true),
            (0o640, false),
            (0o604, false),
            (0o620, false),
            (0o602, false),
        ] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("ours");
            match open(&path) {
                Ok(_) => assert!(private, "{mode:o}"),
                Err(error) => {
                    let words = error.to_string();
                    assert!(!private && words.contains("chmod 600"), "{mode:o}: {words}");
                }
            }
        }
        open(Path::new("/dev/null")).expect("a device");
    }
}
