//! Passwords in files: one reading of them, for the node, the command line and the SDK alike.

use std::io::Read;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::private;

/// The greatest password file that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 4096;

/// Why a password file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// It cannot be read.
    #[error("cannot read the password file {}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is something else.
    #[error("{} is larger than {FILE_BYTES_MAX} bytes, so it is no password file: check the path", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// Its first line is empty.
    #[error("the password file {} holds no password: put one line into it", path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
}

/// The password in a file: its first line, as other tools read it, without the line break and without the byte order mark that some
/// editors put in front. Blanks count. It may be empty: development chains make keystores with such passwords.
///
/// # Errors
/// [`PasswordError`].
pub fn read(path: &Path) -> Result<Zeroizing<String>, PasswordError> {
    let mut text = Zeroizing::new(String::new());
    private::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(|source| PasswordError::File {
            path: path.into(),
            source,
        })?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(PasswordError::TooLarge { path: path.into() });
    }
    let line = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let line = line.split('\n').next().unwrap_or_default();
    let line = line.strip_suffix('\r').unwrap_or(line);
    Ok(Zeroizing::new(line.to_owned()))
}

/// [`read`] for a keystore that is to be made: its password is not empty.
///
/// # Errors
/// [`PasswordError`].
pub fn read_new(path: &Path) -> Result<Zeroizing<String>, PasswordError> {
    let password = read(path)?;
    if password.is_empty() {
        return Err(PasswordError::Empty { path: path.into() });
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, content: &str) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(path, content).expect("writes");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("ours");
    }

    #[test]
    fn the_first_line_is_the_password() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("password");
        for (content, password) in [
            ("pass word-1", "pass word-1"),
            ("pass word-1\n", "pass word-1"),
            ("pass word-1\r\n", "pass word-1"),
            ("pass word-1\nother\n", "pass word-1"),
            ("\u{feff}pass word-1\r\nother", "pass word-1"),
            (" blanks count ", " blanks count "),
        ] {
            write(&path, content);
            assert_eq!(*read(&path).expect("a password"), password, "{content:?}");
        }
        for content in ["", "\n", "\r\n", "\u{feff}", "\nsecond\n"] {
            write(&path, content);
            assert_eq!(*read(&path).expect("an empty one"), "", "{content:?}");
            assert!(
                matches!(read_new(&path), Err(PasswordError::Empty { .. })),
                "{content:?}"
            );
        }
        write(&path, &"x".repeat(5000));
        assert!(matches!(read(&path), Err(PasswordError::TooLarge { .. })));
        let missing = read(&dir.path().join("none")).expect_err("missing");
        assert!(missing.to_string().contains("none"), "{missing}");
    }
}
