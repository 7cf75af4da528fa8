//! What can still be read of a damaged store, for the few families of records that nobody else can give back.

use std::collections::BTreeMap;
use std::path::Path;

use crate::directory::{self, Found};
use crate::engine;
use crate::journal::{NAMES, record};
use crate::quiet::quietly;
use crate::sums::{Mark, Sums, unseal};
use crate::{Op, StoreError, presence, tail};

/// Reads of the engine that fail in a row before it is given up.
const FAILURES_MAX: usize = 64;

/// Records of a damaged store.
#[derive(Debug, Default)]
pub struct Salvaged {
    /// Key and value of each.
    pub records: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Whether these are certainly all that the store held of the families: then nothing of them is lost.
    pub complete: bool,
    /// What is damaged, in words.
    pub damage: Vec<String>,
}

/// Reads what is left of the families of keys (their first byte) in the store in `dir`. Of a value that was changed on the disk
/// nothing is given.
///
/// # Errors
/// What [`crate::Store::open`] says of a directory that is no store, is another's, or is in use.
pub fn salvage(dir: &Path, identity: &[u8], families: &[u8]) -> Result<Salvaged, StoreError> {
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
    let held = match presence::check(dir, &path).and_then(|()| presence::clear_snapshots(&path)) {
        Ok(()) => quietly(dir, || out.read_engine(dir, &path, families, sealed)),
        Err(error) => Err(error),
    };
    let held = held.unwrap_or_else(|error| {
        out.lost(error.to_string());
        None
    });
    if let Err(error) = tail::check(dir) {
        out.lost(error.to_string());
    }
    out.read_journal(dir, families, held);
    Ok(out)
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
        families: &[u8],
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
            if !key.first().is_some_and(|family| families.contains(family)) {
                continue;
            }
            sums.add(&key, &stored);
            match if sealed {
                unseal(&key, &stored)
            } else {
                Some(&stored[..])
            } {
                Some(value) => {
                    self.records.insert(key.to_vec(), value.to_vec());
                }
                None => self.lost(engine::changed(dir, &key).to_string()),
            }
        }
        if !sealed {
            // Nothing says what should be there.
            self.complete = false;
            return Ok(None);
        }
        let marks = engine::marks(&db, dir)?;
        let fits = |mark: &&Mark| sums.agree_on(&mark.sums, families);
        let Some(mark) = marks.iter().find(fits) else {
            self.lost("records of what was signed are missing".into());
            return Ok(None);
        };
        Ok(Some(mark.position))
    }

    /// What the journal says of the families, over what the engine had.
    fn read_journal(&mut self, dir: &Path, families: &[u8], held: Option<u64>) {
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
            match op {
                Op::Put(key, value) if key.first().is_some_and(|f| families.contains(f)) => {
                    self.records.insert(key, value);
                }
                Op::Put(..) => {}
                Op::Delete(key) => {
                    self.records.remove(&key);
                }
            }
        }
    }
}
