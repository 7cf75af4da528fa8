//! The durable store of a DIVERSITY node.
//!
//! One ordered map of byte strings, changed by atomic batches: a batch is on disk, whole, before it is
//! acknowledged (design rule R2 and invariant N1: what a node signs or acknowledges survives any crash). The engine below
//! is sled 0.34, which by itself acknowledges before it is durable; here every batch is flushed first, and
//! [`Writer`] makes many batches share one flush.
//!
//! A store belongs to one node of one deployment: the directory carries a version and an identity, and one that was
//! made by another version or for another node is refused in words.

mod directory;
mod writer;

use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use writer::{Done, Full, Writer, WriterLimits};

/// The version of the layout on disk. Version 1 belonged to the MainContract before holes and cells.
pub const FORMAT_VERSION: u32 = 2;
/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;
/// The longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest identity record, in bytes.
pub const IDENTITY_BYTES_MAX: usize = 256;
/// Memory for pages that are kept decoded, in bytes.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// What can go wrong with a store. Clonable, because one failed flush is told to everyone who waits for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A file or directory cannot be used.
    #[error("cannot {action} {path}: {reason}")]
    File {
        /// What was tried.
        action: &'static str,
        /// Which file or directory.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// Another process has the store open.
    #[error(
        "the store in {path} is in use by another process: stop that one first, or give this node another data directory"
    )]
    Locked {
        /// The directory.
        path: String,
    },
    /// A version that this program does not know.
    #[error(
        "the store in {path} has {found}, and this program knows version {FORMAT_VERSION}: use the program that wrote it, or give this node another data directory"
    )]
    UnknownVersion {
        /// The directory.
        path: String,
        /// What its format file says.
        found: String,
    },
    /// A version whose records are of no use to this program.
    #[error(
        "the store in {path} has version {found}, and this program knows version {FORMAT_VERSION}: its agreements belong to a MainContract that this version cannot settle with. Go on with the program that wrote it until they are settled out, and give this one another data directory and a new deployment"
    )]
    OldVersion {
        /// The directory.
        path: String,
        /// Its version.
        found: u32,
    },
    /// The store of another node or deployment.
    #[error(
        "the store in {path} belongs to another node or deployment (identity {found}, expected {expected}): check the data directory and the keys"
    )]
    ForeignIdentity {
        /// The directory.
        path: String,
        /// The identity that the directory carries, as hexadecimal.
        found: String,
        /// The identity that was asked for, as hexadecimal.
        expected: String,
    },
    /// The directory has other things in it.
    #[error(
        "{path} is not empty and holds no store: give an empty or a new directory as data directory"
    )]
    NotAStore {
        /// The directory.
        path: String,
    },
    /// A key, value or identity beyond the bounds.
    #[error("a {what} of {bytes} bytes is longer than the {max} that are allowed")]
    TooLarge {
        /// "key", "value" or "identity record".
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The engine failed: a full or failing disk, or damaged files.
    #[error(
        "the store cannot {action} ({reason}): look at the free space and the health of the disk, then start again"
    )]
    Engine {
        /// What was tried.
        action: &'static str,
        /// What the engine said.
        reason: String,
    },
    /// A write failed before; nothing is acknowledged any more.
    #[error(
        "an earlier write failed, so nothing more is written or acknowledged: stop the node, mend the disk, and start again"
    )]
    Poisoned,
    /// The writer was closed.
    #[error("the store's writer is closed: the node is shutting down")]
    Closed,
}

/// One change of a batch. Later changes of the same key win.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Sets a key.
    Put(Vec<u8>, Vec<u8>),
    /// Removes a key, if it is there.
    Delete(Vec<u8>),
}

impl Op {
    /// The bytes that it carries.
    pub fn bytes(&self) -> usize {
        match self {
            Op::Put(key, value) => key.len() + value.len(),
            Op::Delete(key) => key.len(),
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        let (key, value) = match self {
            Op::Put(key, value) => (key.len(), value.len()),
            Op::Delete(key) => (key.len(), 0),
        };
        check_length("key", key, KEY_BYTES_MAX)?;
        check_length("value", value, VALUE_BYTES_MAX)
    }
}

fn check_length(what: &'static str, bytes: usize, max: usize) -> Result<(), StoreError> {
    if bytes > max {
        return Err(StoreError::TooLarge { what, bytes, max });
    }
    Ok(())
}

/// An open store. Clones share it; the directory is free for another opener when the last one is dropped.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    // Dropped in this order: the engine lets go of its files before the lock is released.
    db: sled::Db,
    poisoned: AtomicBool,
    _lock: directory::Lock,
}

impl Store {
    /// Opens the store in `dir`, and makes it if the directory is missing or empty. `identity` says whose it is (for a node:
    /// deployment and node id); it is written when the store is made and compared ever after.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::UnknownVersion`], [`StoreError::OldVersion`], [`StoreError::ForeignIdentity`], [`StoreError::NotAStore`],
    /// [`StoreError::TooLarge`], [`StoreError::File`] or [`StoreError::Engine`].
    pub fn open(dir: &Path, identity: &[u8]) -> Result<Self, StoreError> {
        check_length("identity record", identity.len(), IDENTITY_BYTES_MAX)?;
        let lock = directory::claim(dir, identity)?;
        let db = sled::Config::new()
            .path(dir.join(directory::ENGINE))
            .cache_capacity(CACHE_BYTES)
            .mode(sled::Mode::HighThroughput)
            // Flushed by hand, after each group of batches.
            .flush_every_ms(None)
            .open()
            .map_err(|error| engine("open its files", &error))?;
        Ok(Self {
            inner: Arc::new(Inner {
                db,
                poisoned: AtomicBool::new(false),
                _lock: lock,
            }),
        })
    }

    /// Applies all changes as one atomic batch and returns when they are durable. Many small writes are cheaper through a
    /// [`Writer`].
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] leaves the store as it was. After [`StoreError::Engine`] nothing is known about the batch
    /// (reads may show it, and a restart may lose it), so the store is poisoned: every later write gives
    /// [`StoreError::Poisoned`].
    pub fn write(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        if self.inner.poisoned.load(Ordering::Acquire) {
            return Err(StoreError::Poisoned);
        }
        for op in &ops {
            op.check()?;
        }
        let mut batch = sled::Batch::default();
        for op in ops {
            match op {
                Op::Put(key, value) => batch.insert(key, value),
                Op::Delete(key) => batch.remove(key),
            }
        }
        let guard = PoisonUnlessDone(&self.inner.poisoned);
        self.inner
            .db
            .apply_batch(batch)
            .map_err(|error| engine("apply a batch", &error))?;
        self.inner
            .db
            .flush()
            .map_err(|error| engine("flush to disk", &error))?;
        std::mem::forget(guard);
        // Somebody else's flush may have failed meanwhile, and then this one means nothing.
        if self.inner.poisoned.load(Ordering::Acquire) {
            return Err(StoreError::Poisoned);
        }
        Ok(())
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`StoreError::Engine`] if the files cannot be read.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.inner.db.get(key) {
            Ok(value) => Ok(value.map(|value| value.to_vec())),
            Err(error) => Err(engine("read", &error)),
        }
    }

    /// All pairs whose key starts with `prefix`, in ascending order of the keys; from the end with `.rev()`. It sees
    /// writes that happen meanwhile or not, key by key.
    pub fn scan_prefix(&self, prefix: &[u8]) -> Scan {
        Scan {
            iter: self.inner.db.scan_prefix(prefix),
        }
    }

    /// All pairs whose key lies in `range`, as [`Store::scan_prefix`].
    pub fn scan_range<'a>(&self, range: impl RangeBounds<&'a [u8]>) -> Scan {
        Scan {
            iter: self.inner.db.range::<&'a [u8], _>(range),
        }
    }

    /// The bytes that the engine's files take.
    ///
    /// # Errors
    /// [`StoreError::Engine`] if they cannot be listed.
    pub fn size_on_disk(&self) -> Result<u64, StoreError> {
        self.inner
            .db
            .size_on_disk()
            .map_err(|error| engine("measure its files", &error))
    }

    /// Whether a write has failed, so that no other is accepted.
    pub fn is_poisoned(&self) -> bool {
        self.inner.poisoned.load(Ordering::Acquire)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("poisoned", &self.is_poisoned())
            .finish_non_exhaustive()
    }
}

/// Poisons the store when it is dropped: on an error and on a panic inside the engine alike.
struct PoisonUnlessDone<'a>(&'a AtomicBool);

impl Drop for PoisonUnlessDone<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Pairs of a store in the order of their keys. See [`Store::scan_prefix`].
pub struct Scan {
    iter: sled::Iter,
}

impl Scan {
    fn pair(
        item: sled::Result<(sled::IVec, sled::IVec)>,
    ) -> Result<(Vec<u8>, Vec<u8>), StoreError> {
        match item {
            Ok((key, value)) => Ok((key.to_vec(), value.to_vec())),
            Err(error) => Err(engine("read", &error)),
        }
    }
}

impl Iterator for Scan {
    type Item = Result<(Vec<u8>, Vec<u8>), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.iter.next().map(Self::pair)
    }
}

impl DoubleEndedIterator for Scan {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.iter.next_back().map(Self::pair)
    }
}

fn engine(action: &'static str, error: &sled::Error) -> StoreError {
    StoreError::Engine {
        action,
        reason: error.to_string(),
    }
}
