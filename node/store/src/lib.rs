//! The durable store of a DIVERSITY node.
//!
//! One ordered map of byte strings, changed by atomic batches: a batch is on disk, whole, before it is
//! acknowledged (design rule R2 and invariant N1: what a node signs or acknowledges survives any crash). The engine below
//! is sled 0.34, which by itself acknowledges before it is durable; here every batch is in a synced journal of its own first
//! (ADR 10), and [`Writer`] makes many batches share one sync.
//!
//! A store belongs to one node of one deployment: the directory carries a version and an identity, and one that was
//! made by another version or for another node is refused in words.

mod applier;
mod directory;
mod engine;
mod journal;
mod presence;
mod quiet;
mod salvage;
mod sums;
mod tail;
mod upgrade;
mod writer;

use std::cell::Cell;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use applier::Applier;
use directory::Found;
use engine::Engine;
use journal::{Appended, Journal};

pub use engine::Scan;
pub use salvage::{Salvaged, salvage};
pub use writer::{Done, Full, Writer, WriterLimits};

/// The version of the layout on disk (wire-format §10). Version 1 belonged to the MainContract before holes and cells; version 2 had no
/// checksums of its own.
pub const FORMAT_VERSION: u32 = 3;
/// The oldest version that is read: it is brought to [`FORMAT_VERSION`] when it is opened.
pub const READ_FROM: u32 = 2;
/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;
/// The longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest identity record, in bytes.
pub const IDENTITY_BYTES_MAX: usize = 256;
/// What may be deleted of a damaged store, and what not.
const KEEP_AND_REBUILD: &str = "the disk lost or changed what was written there. Delete nothing by hand: this folder is what says what the node has signed, and the folder keys beside it is who the node is. Run `diversity node --rebuild-store` with the settings of this node: it keeps keys and signatures, fetches all else from the peers and the chain, and says which folder may be deleted afterwards";

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
    /// A journal has a hole in it: something that was acknowledged is gone.
    #[error("the journal {path} is damaged in the middle: {KEEP_AND_REBUILD}")]
    Damaged {
        /// Which file.
        path: String,
    },
    /// Something is missing or was changed on the disk.
    #[error("the store in {path} is damaged: {what}. {KEEP_AND_REBUILD}")]
    Corrupt {
        /// The directory.
        path: String,
        /// What was found.
        what: String,
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

impl StoreError {
    fn corrupt(dir: &Path, what: String) -> Self {
        Self::Corrupt {
            path: dir.display().to_string(),
            what,
        }
    }
}

fn check_length(what: &'static str, bytes: usize, max: usize) -> Result<(), StoreError> {
    if bytes > max {
        return Err(StoreError::TooLarge { what, bytes, max });
    }
    Ok(())
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A checkpoint holds the engine's files, and waits for the applier.
        if let Some(checkpoint) = lock(&self.checkpoint).take() {
            // What it failed with is told by the next start, which reads the journal again.
            let _ = checkpoint.join();
        }
        self.applier.end();
    }
}

/// An open store. Clones share it; the directory is free for another opener when the last one is dropped.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    // Dropped in this order: the engine lets go of its files before the lock is released.
    journal: Mutex<Journal>,
    checkpoint: Mutex<Option<JoinHandle<Result<(), StoreError>>>>,
    /// Brings into the engine what the journal has; who reads waits for it.
    applier: Applier,
    engine: Arc<Engine>,
    poisoned: AtomicBool,
    _lock: directory::Lock,
}

/// A write that panicked half-way has poisoned the store itself, so its locks need not be.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a store where there is none.
fn make(dir: &Path, identity: &[u8]) -> Result<(Engine, Journal), StoreError> {
    directory::making(dir, identity)?;
    let engine = Engine::create(dir, &dir.join(directory::ENGINE), 0)?;
    let journal = Journal::open(dir, |_| Ok(()), || Ok(()))?;
    directory::made(dir, identity, directory::ENGINE)?;
    Ok((engine, journal))
}

/// Opens a store that was made whole, and checks that it still is.
fn take_up(dir: &Path, engine: &str) -> Result<(Engine, Journal), StoreError> {
    let path = dir.join(engine);
    presence::check(dir, &path)?;
    presence::clear_snapshots(&path)?;
    tail::check(dir)?;
    if engine != directory::ENGINE {
        directory::remove(&dir.join(directory::ENGINE))?;
    }
    let engine = Engine::open(dir, &path)?;
    let read = Cell::new(0);
    let journal = Journal::open(
        dir,
        |ops| {
            read.set(read.get() + 1);
            engine.apply(ops, None)
        },
        || engine.flush(),
    )?;
    let (first, held) = (journal.next() - read.get(), engine.position());
    if held > journal.next() || held < first {
        let what = format!(
            "its engine holds the batches before {held}, and its journal those from {first} to {}",
            journal.next()
        );
        return Err(StoreError::corrupt(dir, what));
    }
    engine.caught_up(journal.next())?;
    Ok((engine, journal))
}

impl Store {
    /// Opens the store in `dir`, and makes it if the directory is missing or empty. `identity` says whose it is (for a node:
    /// deployment and node id); it is written when the store is made and compared ever after. All records are read once: one that
    /// is missing or was changed on the disk is an error, never an answer.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::UnknownVersion`], [`StoreError::OldVersion`], [`StoreError::ForeignIdentity`],
    /// [`StoreError::NotAStore`], [`StoreError::TooLarge`], [`StoreError::File`], [`StoreError::Corrupt`], [`StoreError::Damaged`] or
    /// [`StoreError::Engine`].
    pub fn open(dir: &Path, identity: &[u8]) -> Result<Self, StoreError> {
        check_length("identity record", identity.len(), IDENTITY_BYTES_MAX)?;
        let (lock, found) = directory::claim(dir, identity)?;
        let (engine, journal) = match found {
            Found::Nothing => make(dir, identity)?,
            Found::Version2 => {
                upgrade::from_2(dir, identity)?;
                take_up(dir, directory::ENGINE_UPGRADED)?
            }
            Found::Made(engine) => take_up(dir, engine)?,
        };
        let engine = Arc::new(engine);
        let behind = Arc::clone(&engine);
        let applier = Applier::spawn(journal.next(), move |ops, position| {
            behind.apply(ops, Some(position))
        })?;
        Ok(Self {
            inner: Arc::new(Inner {
                journal: Mutex::new(journal),
                checkpoint: Mutex::new(None),
                applier,
                engine,
                poisoned: AtomicBool::new(false),
                _lock: lock,
            }),
        })
    }

    /// Applies all changes as one atomic batch and returns when they are durable. Many small writes are cheaper through a
    /// [`Writer`].
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] leaves the store as it was. After [`StoreError::File`] nothing is known about the batch, and
    /// [`StoreError::Engine`] says that the engine failed with an earlier one, which the journal keeps for the next start. Either
    /// way the store is poisoned: every later write gives [`StoreError::Poisoned`].
    pub fn write(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        self.write_then(ops, || {})
    }

    /// [`Store::write`] that calls `durable` as soon as the batch is. The engine gets it later; whoever reads waits for the engine, so
    /// that what was told durable is always found.
    fn write_then(&self, ops: Vec<Op>, durable: impl FnOnce()) -> Result<(), StoreError> {
        if self.is_poisoned() {
            return Err(self.inner.applier.failure().unwrap_or(StoreError::Poisoned));
        }
        for op in &ops {
            op.check()?;
        }
        let guard = PoisonUnlessDone(&self.inner.poisoned);
        {
            // One after the other: the engine sees batches in the order of the journal.
            let mut journal = lock(&self.inner.journal);
            let appended = journal.append(&ops, || self.checkpointed())?;
            self.inner.applier.give(ops, journal.next());
            durable();
            if appended == Appended::Turned {
                self.begin_checkpoint()?;
            }
        }
        std::mem::forget(guard);
        Ok(())
    }

    /// The engine, with everything that was told durable.
    fn engine(&self) -> &Engine {
        self.inner.applier.settle();
        &self.inner.engine
    }

    /// Everything before is flushed behind the writer's back, while it goes on in the other file of the journal.
    fn begin_checkpoint(&self) -> Result<(), StoreError> {
        let (settled, flush) = (self.inner.applier.settling(), self.inner.engine.flusher());
        let flush = move || {
            settled()?;
            flush()
        };
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(flush)
            .map_err(|error| StoreError::Engine {
                action: "start its checkpoint",
                reason: error.to_string(),
            })?;
        *lock(&self.inner.checkpoint) = Some(thread);
        Ok(())
    }
    /// Waits for the checkpoint that was begun last.
    fn checkpointed(&self) -> Result<(), StoreError> {
        match lock(&self.inner.checkpoint).take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(StoreError::Engine {
                action: "flush to disk",
                reason: "the engine panicked; its message is on standard error".into(),
            }),
        }
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`StoreError::Engine`] if the files cannot be read, [`StoreError::Corrupt`] if the value was changed on the disk.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.engine().get(key)
    }

    /// All pairs whose key starts with `prefix`, in ascending order of the keys; from the end with `.rev()`. It sees
    /// writes that happen meanwhile or not, key by key.
    pub fn scan_prefix(&self, prefix: &[u8]) -> Scan {
        self.engine().scan_prefix(prefix)
    }

    /// All pairs whose key lies in `range`, as [`Store::scan_prefix`].
    pub fn scan_range<'a>(&self, range: impl RangeBounds<&'a [u8]>) -> Scan {
        self.engine().scan_range(range)
    }

    /// The bytes that the engine's files take.
    ///
    /// # Errors
    /// [`StoreError::Engine`] if they cannot be listed.
    pub fn size_on_disk(&self) -> Result<u64, StoreError> {
        self.engine().size_on_disk()
    }

    /// Whether a write has failed, so that no other is accepted.
    pub fn is_poisoned(&self) -> bool {
        self.inner.poisoned.load(Ordering::Acquire) || self.inner.applier.failed()
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
