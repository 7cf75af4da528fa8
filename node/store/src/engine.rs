//! The engine, and what of our own stands around it: every value carries a checksum, and marks say what must be there.

use std::fs::File;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::quiet::quietly;
use crate::sums::{Mark, Sums, seal, unseal};
use crate::{Op, StoreError, lock};

/// Memory for pages that are kept decoded, in bytes.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// The tree of the marks.
const MARKS: &[u8] = b"marks";

/// How long an engine that is being closed is waited for.
const CLOSING_MAX: Duration = Duration::from_secs(10);
const CLOSING_STEP: Duration = Duration::from_millis(5);

/// The engine of a store, open.
pub(crate) struct Engine {
    db: sled::Db,
    marks: sled::Tree,
    mark: Mutex<Mark>,
    /// The store's directory, for errors and for syncing its file system.
    dir: PathBuf,
    files: Arc<File>,
}

/// Opens the files of an engine. One that was closed a moment ago may still let go of its files in a thread of its own, and says
/// nothing when it has; so it is asked again for a while.
pub(crate) fn open_files(dir: &Path, path: &Path) -> Result<sled::Db, StoreError> {
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(CACHE_BYTES)
        .mode(sled::Mode::HighThroughput)
        // Flushed by hand, at each checkpoint.
        .flush_every_ms(None);
    let since = Instant::now();
    loop {
        match quietly(dir, || Ok(config.open()))? {
            Err(sled::Error::Io(error)) if is_lock(&error) && since.elapsed() < CLOSING_MAX => {
                std::thread::sleep(CLOSING_STEP);
            }
            opened => return opened.map_err(|error| failed(dir, "open its files", &error)),
        }
    }
}

/// The engine wraps what the system said into words of its own.
fn is_lock(error: &std::io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

impl Engine {
    /// An engine in a folder that is not there yet, without records.
    pub fn create(dir: &Path, path: &Path, position: u64) -> Result<Self, StoreError> {
        let engine = Self::over(dir, open_files(dir, path)?)?;
        let mark = Mark {
            position,
            ..Mark::default()
        };
        engine.put_mark(&mark)?;
        *lock(&engine.mark) = mark;
        engine.flush()?;
        Ok(engine)
    }

    /// Opens the files and reads all that is in them: what is missing or was changed is an error, in words.
    pub fn open(dir: &Path, path: &Path) -> Result<Self, StoreError> {
        let engine = Self::over(dir, open_files(dir, path)?)?;
        let found = quietly(dir, || engine.sums())?;
        let marks = quietly(dir, || marks_of(&engine.marks, dir))?;
        let Some(mark) = marks.iter().find(|mark| mark.sums == found) else {
            let what = match marks.first() {
                Some(newest) => found.difference(&newest.sums),
                None => "the record of what it should hold is gone".into(),
            };
            return Err(engine.corrupt(what));
        };
        // If the newest batch did not come through, the next mark takes the place of the one that was made for it.
        *lock(&engine.mark) = mark.clone();
        Ok(engine)
    }

    fn over(dir: &Path, db: sled::Db) -> Result<Self, StoreError> {
        let marks = quietly(dir, || Ok(db.open_tree(MARKS)))?
            .map_err(|error| failed(dir, "open its files", &error))?;
        let files = File::open(dir).map_err(|error| StoreError::File {
            action: "open",
            path: dir.display().to_string(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            db,
            marks,
            mark: Mutex::default(),
            dir: dir.into(),
            files: Arc::new(files),
        })
    }

    /// The sums of what is there.
    fn sums(&self) -> Result<Sums, StoreError> {
        let mut sums = Sums::default();
        for item in self.db.iter() {
            let (key, stored) = item.map_err(|error| self.failed("read", &error))?;
            self.value(&key, &stored)?;
            sums.add(&key, &stored);
        }
        Ok(sums)
    }

    /// Number of the journal's batches up to which all are here.
    pub fn position(&self) -> u64 {
        lock(&self.mark).position
    }

    /// All of the journal is here, up to `position`: that is kept before anything of the journal is written over.
    pub fn caught_up(&self, position: u64) -> Result<(), StoreError> {
        {
            let mut mark = lock(&self.mark);
            if mark.position == position {
                return Ok(());
            }
            let next = Mark {
                turn: mark.turn + 1,
                position,
                sums: mark.sums.clone(),
            };
            self.put_mark(&next)?;
            *mark = next;
        }
        self.flush()
    }

    /// Applies a batch, atomically. `position` is that of the journal behind it; none while the journal is read again.
    pub fn apply(&self, ops: Vec<Op>, position: Option<u64>) -> Result<(), StoreError> {
        let mut mark = lock(&self.mark);
        let mut next = Mark {
            turn: mark.turn + 1,
            position: position.unwrap_or(mark.position),
            sums: mark.sums.clone(),
        };
        let mut batch = sled::Batch::default();
        for (key, stored) in last_of_each(ops) {
            let old = self.db.get(&key);
            if let Some(old) = old.map_err(|error| self.failed("read", &error))? {
                next.sums.remove(&key, &old);
            }
            match stored {
                Some(stored) => {
                    next.sums.add(&key, &stored);
                    batch.insert(key, stored);
                }
                None => batch.remove(key),
            }
        }
        self.put_mark(&next)?;
        *mark = next;
        self.db
            .apply_batch(batch)
            .map_err(|error| self.failed("apply a batch", &error))
    }

    fn put_mark(&self, mark: &Mark) -> Result<(), StoreError> {
        self.marks
            .insert(mark.key(), mark.encode())
            .map(drop)
            .map_err(|error| self.failed("apply a batch", &error))
    }

    /// What brings everything that the engine holds onto the disk, for any thread.
    pub fn flusher(&self) -> impl FnOnce() -> Result<(), StoreError> + Send + 'static {
        let (db, files) = (self.db.clone(), Arc::clone(&self.files));
        let dir = self.dir.clone();
        move || flush(&db, &files, &dir)
    }

    /// Brings everything that the engine holds onto the disk.
    pub fn flush(&self) -> Result<(), StoreError> {
        flush(&self.db, &self.files, &self.dir)
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let stored = self.db.get(key);
        let Some(stored) = stored.map_err(|error| self.failed("read", &error))? else {
            return Ok(None);
        };
        Ok(Some(self.value(key, &stored)?.to_vec()))
    }

    pub fn scan_prefix(&self, prefix: &[u8]) -> Scan {
        self.scan(self.db.scan_prefix(prefix))
    }

    pub fn scan_range<'a>(&self, range: impl RangeBounds<&'a [u8]>) -> Scan {
        self.scan(self.db.range::<&'a [u8], _>(range))
    }

    fn scan(&self, iter: sled::Iter) -> Scan {
        Scan {
            iter,
            dir: self.dir.clone(),
        }
    }

    pub fn size_on_disk(&self) -> Result<u64, StoreError> {
        self.db
            .size_on_disk()
            .map_err(|error| self.failed("measure its files", &error))
    }

    fn value<'a>(&self, key: &[u8], stored: &'a [u8]) -> Result<&'a [u8], StoreError> {
        unseal(key, stored).ok_or_else(|| changed(&self.dir, key))
    }

    fn failed(&self, action: &'static str, error: &sled::Error) -> StoreError {
        failed(&self.dir, action, error)
    }

    fn corrupt(&self, what: String) -> StoreError {
        StoreError::corrupt(&self.dir, what)
    }
}

/// The last marks of an engine, the newest first, at most two.
pub(crate) fn marks(db: &sled::Db, dir: &Path) -> Result<Vec<Mark>, StoreError> {
    let tree = db.open_tree(MARKS);
    marks_of(
        &tree.map_err(|error| failed(dir, "open its files", &error))?,
        dir,
    )
}

fn marks_of(tree: &sled::Tree, dir: &Path) -> Result<Vec<Mark>, StoreError> {
    let mut marks = Vec::new();
    for item in tree.iter() {
        let (_, stored) = item.map_err(|error| failed(dir, "read", &error))?;
        marks.extend(Mark::decode(&stored));
    }
    marks.sort_by_key(|mark: &Mark| std::cmp::Reverse(mark.turn));
    let newest = marks.first().map_or(0, |mark| mark.turn);
    marks.retain(|mark| mark.turn + 1 >= newest);
    Ok(marks)
}

/// What a batch leaves of each of its keys, as it is stored.
fn last_of_each(ops: Vec<Op>) -> std::collections::BTreeMap<Vec<u8>, Option<Vec<u8>>> {
    let pairs = ops.into_iter().map(|op| match op {
        Op::Put(key, value) => {
            let stored = seal(&key, value);
            (key, Some(stored))
        }
        Op::Delete(key) => (key, None),
    });
    pairs.collect()
}

/// On Linux the engine's own flush leaves the files' metadata and the disk's cache alone, so the file system is synced behind it;
/// elsewhere it syncs its files itself.
pub(crate) fn flush(db: &sled::Db, files: &File, dir: &Path) -> Result<(), StoreError> {
    db.flush()
        .map_err(|error| failed(dir, "flush to disk", &error))?;
    #[cfg(target_os = "linux")]
    let synced = rustix::fs::syncfs(files);
    #[cfg(not(target_os = "linux"))]
    let synced = files.sync_all();
    synced.map_err(|error| StoreError::Engine {
        action: "sync its file system",
        reason: error.to_string(),
    })
}

/// What the engine says: damage is told apart from a disk that fails.
pub(crate) fn failed(dir: &Path, action: &'static str, error: &sled::Error) -> StoreError {
    match error {
        sled::Error::Corruption { .. }
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)
        | sled::Error::CollectionNotFound(_) => {
            StoreError::corrupt(dir, format!("its engine cannot {action}: {error}"))
        }
        sled::Error::Io(_) => StoreError::Engine {
            action,
            reason: error.to_string(),
        },
    }
}

/// A value whose checksum is another one.
pub(crate) fn changed(dir: &Path, key: &[u8]) -> StoreError {
    let shown: Vec<u8> = key.iter().copied().take(48).collect();
    let what = format!(
        "the record {} was changed on the disk",
        shown.escape_ascii()
    );
    StoreError::corrupt(dir, what)
}

/// Pairs of a store in the order of their keys. See [`crate::Store::scan_prefix`].
pub struct Scan {
    iter: sled::Iter,
    dir: PathBuf,
}

impl Scan {
    fn pair(
        &self,
        item: sled::Result<(sled::IVec, sled::IVec)>,
    ) -> Result<(Vec<u8>, Vec<u8>), StoreError> {
        let (key, stored) = item.map_err(|error| failed(&self.dir, "read", &error))?;
        match unseal(&key, &stored) {
            Some(value) => Ok((key.to_vec(), value.to_vec())),
            None => Err(changed(&self.dir, &key)),
        }
    }
}

impl Iterator for Scan {
    type Item = Result<(Vec<u8>, Vec<u8>), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.iter.next()?;
        Some(self.pair(item))
    }
}

impl DoubleEndedIterator for Scan {
    fn next_back(&mut self) -> Option<Self::Item> {
        let item = self.iter.next_back()?;
        Some(self.pair(item))
    }
}
