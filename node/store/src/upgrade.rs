//! A store of version 2 becomes one of version 3: its records are copied into an engine of their own, with checksums and marks, and
//! the format file then names that one. Until it does, the store is what it was.

use std::fs::{self, File};
use std::path::Path;

use crate::engine::{self, Engine};
use crate::journal::Journal;
use crate::{Op, StoreError, directory, presence};

/// Bytes of records that are copied in one batch.
const COPIED_BYTES: usize = 1024 * 1024;

/// Brings the directory to version 3.
pub(crate) fn from_2(dir: &Path, identity: &[u8]) -> Result<(), StoreError> {
    let (old, new) = (
        dir.join(directory::ENGINE),
        dir.join(directory::ENGINE_UPGRADED),
    );
    presence::check(dir, &old)?;
    presence::clear_snapshots(&old)?;
    directory::remove(&new)?;
    {
        let db = engine::open_files(dir, &old)?;
        let files = File::open(dir).map_err(|error| StoreError::File {
            action: "open",
            path: dir.display().to_string(),
            reason: error.to_string(),
        })?;
        let journal = Journal::open(
            dir,
            |ops| apply(dir, &db, ops),
            || engine::flush(&db, &files, dir),
        )?;
        let copy = Engine::create(dir, &new, journal.next())?;
        let (mut ops, mut bytes) = (Vec::new(), 0);
        for item in db.iter() {
            let (key, value) = item.map_err(|error| engine::failed(dir, "read", &error))?;
            let op = Op::Put(key.to_vec(), value.to_vec());
            bytes += op.bytes();
            ops.push(op);
            if bytes > COPIED_BYTES {
                copy.apply(std::mem::take(&mut ops), None)?;
                bytes = 0;
            }
        }
        copy.apply(ops, None)?;
        copy.flush()?;
    }
    directory::made(dir, identity, directory::ENGINE_UPGRADED)?;
    // What is left of it is removed by the next start.
    let _ = fs::remove_dir_all(&old);
    Ok(())
}

fn apply(dir: &Path, db: &sled::Db, ops: Vec<Op>) -> Result<(), StoreError> {
    let mut batch = sled::Batch::default();
    for op in ops {
        match op {
            Op::Put(key, value) => batch.insert(key, value),
            Op::Delete(key) => batch.remove(key),
        }
    }
    db.apply_batch(batch)
        .map_err(|error| engine::failed(dir, "apply a batch", &error))
}
