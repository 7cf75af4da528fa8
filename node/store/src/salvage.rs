//! What can still be read of a damaged store, for the few families of records that nobody else can give back.

use std::collections::BTreeMap;
use std::path::Path;

use crate::directory::{self, Found};
use crate::engine;
use crate::journal::{NAMES, record};
use crate::quiet::quietly;
use crate::sums::{Mark, Sums, unseal};
use crate::{Op, Store, StoreError, presence, tail};

/// Reads of the engine that fail in a row before it is given up.
const FAILURES_MAX: usize = 64;

/// Bytes of records that are written in one batch.
const BATCH_BYTES: usize = 1024 * 1024;

/// What was read of a damaged store.
#[derive(Debug, Default)]
pub struct Salvaged {
    /// Records that were taken along.
    pub records: u64,
    /// Whether these are certainly all that the store held of the families that matter: then nothing of them is lost.
    pub complete: bool,
    /// What is damaged, in words.
    pub damage: Vec<String>,
}

/// Copies what is left of the families of keys (their first byte) from the store in `dir` into another one, and says whether those
/// that `matter` are all there. A value that was changed on the disk is left out.
///
/// # Errors
/// What [`Store::open`] says of a directory that is no store, is another's, or is in use; and what writing says.
pub fn salvage(
    dir: &Path,
    identity: &[u8],
    families: &[u8],
    matter: &[u8],
    into: &Store,
) -> Result<Salvaged, StoreError> {
    let (_lock, found) = directory::claim(dir, identity)?;
    let mut out = Salvaged {
        complete: true,
        ..Salvaged::default()
    };
    let (engine, sealed) = match found {
        Found::Nothing => return Ok(out),
        Found::Version2 => (directory::ENGINE, false),
        Found::Made(engine) => (engine, true),
    };
    let path = dir.join(engine);
    let mut copy = Copy::new(families, into);
    let held = match presence::check(dir, &path).and_then(|()| presence::clear_snapshots(&path)) {
        Ok(()) => quietly(dir, || {
            out.read_engine(dir, &path, &mut copy, matter, sealed)
        }),
        Err(error) => Err(error),
    };
    copy.write()?;
    let held = held.unwrap_or_else(|error| {
        out.lost(error.to_string());
        None
    });
    if let Err(error) = tail::check(dir) {
        out.lost(error.to_string());
    }
    out.read_journal(dir, &mut copy, held);
    copy.write()?;
    out.records = copy.records()?;
    Ok(out)
}

/// Writes what belongs to the families into another store.
struct Copy<'a> {
    families: &'a [u8],
    into: &'a Store,
    ops: Vec<Op>,
    bytes: usize,
    failed: Option<StoreError>,
}

impl<'a> Copy<'a> {
    fn new(families: &'a [u8], into: &'a Store) -> Self {
        Self {
            families,
            into,
            ops: Vec::new(),
            bytes: 0,
            failed: None,
        }
    }

    fn wants(&self, key: &[u8]) -> bool {
        key.first()
            .is_some_and(|family| self.families.contains(family))
    }

    fn op(&mut self, op: Op) {
        let (Op::Put(key, _) | Op::Delete(key)) = &op;
        if !self.wants(key) {
            return;
        }
        self.bytes += op.bytes();
        self.ops.push(op);
        if self.bytes >= BATCH_BYTES {
            let written = self.write();
            self.failed = self.failed.take().or(written.err());
        }
    }

    fn write(&mut self) -> Result<(), StoreError> {
        self.bytes = 0;
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let ops = std::mem::take(&mut self.ops);
        if ops.is_empty() {
            return Ok(());
        }
        self.into.write(ops)
    }

    fn records(&self) -> Result<u64, StoreError> {
        let mut count = 0;
        for item in self.into.scan_prefix(b"") {
            item?;
            count += 1;
        }
        Ok(count)
    }
}

impl Salvaged {
    fn lost(&mut self, what: String) {
        self.complete = false;
        self.damage.push(what);
    }

    /// The engine's records; gives up to which batch of the journal they go.
    fn read_engine(
        &mut self,
        dir: &Path,
        path: &Path,
        copy: &mut Copy<'_>,
        matter: &[u8],
        sealed: bool,
    ) -> Result<Option<u64>, StoreError> {
        let db = engine::open_files(dir, path)?;
        let (mut sums, mut failures) = (Sums::default(), 0);
        for item in db.iter() {
            let (key, stored) = match item {
                Ok(pair) => pair,
                Err(error) => {
                    self.lost(error.to_string());
                    failures += 1;
                    if failures >= FAILURES_MAX {
                        break;
                    }
                    continue;
                }
            };
            if !copy.wants(&key) {
                continue;
            }
            sums.add(&key, &stored);
            let value = match sealed {
                true => unseal(&key, &stored),
                false => Some(&stored[..]),
            };
            match value {
                Some(value) => copy.op(Op::Put(key.to_vec(), value.to_vec())),
                None if matter.contains(&key[0]) => {
                    self.lost(engine::changed(dir, &key).to_string());
                }
                None => self.damage.push(engine::changed(dir, &key).to_string()),
            }
        }
        if !sealed {
            // Nothing says what should be there.
            self.complete = false;
            return Ok(None);
        }
        let marks = engine::marks(&db, dir)?;
        let fits = |mark: &&Mark| sums.agree_on(&mark.sums, matter);
        let Some(mark) = marks.iter().find(fits) else {
            self.lost("records of what was signed are missing".into());
            return Ok(None);
        };
        Ok(Some(mark.position))
    }

    /// What the journal says of the families, over what the engine had.
    fn read_journal(&mut self, dir: &Path, copy: &mut Copy<'_>, held: Option<u64>) {
        let mut batches = BTreeMap::new();
        for name in NAMES {
            let Ok(bytes) = std::fs::read(dir.join(name)) else {
                self.lost(format!("the file {name} is gone"));
                continue;
            };
            // Behind a damaged record there may be good ones, and those of an older generation.
            let mut at = 0;
            while at < bytes.len() {
                match record(&bytes[at..]) {
                    Some(found) => {
                        at += found.bytes;
                        batches.insert(found.sequence, found.ops);
                    }
                    None => at += crate::journal::ALIGN,
                }
            }
        }
        let newest = batches.keys().last().map_or(0, |last| last + 1);
        let mut unbroken = newest;
        while unbroken > 0 && batches.contains_key(&(unbroken - 1)) {
            unbroken -= 1;
        }
        if !held.is_some_and(|held| (unbroken..=newest).contains(&held)) {
            self.lost("batches between its engine and the end of its journal are missing".into());
        }
        // Older ones are leftovers of a time that the engine is beyond.
        let batches = batches.split_off(&unbroken.min(held.unwrap_or(0)));
        for op in batches.into_values().flatten() {
            copy.op(op);
        }
    }
}
