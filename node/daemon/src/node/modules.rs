//! WASM modules by their SHA-256, as files in the data directory: there before an agreement names them, and after a restart.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::path::PathBuf;

use diversity_proto::Digest;
use diversity_proto::domain::sha256_raw;

/// Longest module, bytes.
pub const MODULE_BYTES_MAX: usize = diversity_client::api::CODE_BYTES_MAX;
/// Most modules.
const MODULES_MAX: usize = 4_096;

/// Why a module cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum ModuleStoreError {
    /// The file system.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Too many.
    #[error(
        "this node keeps {MODULES_MAX} modules already: remove files that no agreement needs from {path}"
    )]
    Full {
        /// The directory.
        path: PathBuf,
    },
    /// The file was changed.
    #[error("{path} is not the module that its name says: remove it and upload the module again")]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
}

/// The modules of a node.
#[derive(Debug)]
pub struct Modules {
    dir: PathBuf,
}

impl Modules {
    /// In this directory, which is made.
    ///
    /// # Errors
    /// [`ModuleStoreError::File`].
    pub fn open(dir: PathBuf) -> Result<Self, ModuleStoreError> {
        fs::create_dir_all(&dir).map_err(|source| ModuleStoreError::File {
            action: "make the directory",
            path: dir.clone(),
            source,
        })?;
        Ok(Self { dir })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{}.wasm", &digest.hex()[2..]))
    }

    /// Whether it is there.
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Keeps a module durably; returns its SHA-256. A repeat is fine.
    ///
    /// # Errors
    /// [`ModuleStoreError`].
    pub fn put(&self, module: &[u8]) -> Result<Digest, ModuleStoreError> {
        let digest = Digest(sha256_raw(module));
        let path = self.path(&digest);
        if path.is_file() {
            return Ok(digest);
        }
        let count = fs::read_dir(&self.dir).map_or(0, Iterator::count);
        if count >= MODULES_MAX {
            return Err(ModuleStoreError::Full {
                path: self.dir.clone(),
            });
        }
        let new = path.with_extension("new");
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&new)
            .and_then(|mut f| {
                f.write_all(module)?;
                f.sync_all()
            })
            .and_then(|()| fs::rename(&new, &path))
            .and_then(|()| fs::File::open(&self.dir)?.sync_all())
            .map_err(|source| ModuleStoreError::File {
                action: "write",
                path,
                source,
            })?;
        Ok(digest)
    }

    /// Reads a module and checks its hash; nothing if there is none.
    ///
    /// # Errors
    /// [`ModuleStoreError`].
    pub fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>, ModuleStoreError> {
        let path = self.path(digest);
        let mut bytes = Vec::new();
        let read = fs::File::open(&path)
            .and_then(|f| f.take(MODULE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes));
        match read {
            Ok(_) if Digest(sha256_raw(&bytes)) == *digest => Ok(Some(bytes)),
            Ok(_) => Err(ModuleStoreError::Damaged { path }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ModuleStoreError::File {
                action: "read",
                path,
                source,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_found_by_its_hash_and_a_changed_one_is_not_run() {
        let dir = tempfile::tempdir().expect("dir");
        let modules = Modules::open(dir.path().join("modules")).expect("made");
        let digest = modules.put(b"module").expect("kept");
        assert_eq!(modules.put(b"module").expect("again"), digest);
        assert!(modules.has(&digest));
        assert_eq!(
            modules.get(&digest).expect("read").as_deref(),
            Some(&b"module"[..])
        );
        assert_eq!(modules.get(&Digest::ZERO).expect("none"), None);
        fs::write(modules.path(&digest), b"changed").expect("written");
        assert!(matches!(
            modules.get(&digest),
            Err(ModuleStoreError::Damaged { .. })
        ));
    }
}
