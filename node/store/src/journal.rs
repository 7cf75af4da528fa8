//! The journal in front of the engine: what is in it is durable, at the price of one write over blocks that the file system
//! has placed long ago (ADR 10).
//!
//! Two files of fixed length take turns. A batch is appended to the active one and synced; only then does it reach the
//! engine, unsynced, and only then is it acknowledged. When a file is full, the engine is flushed behind it while the other
//! file is written, so that the full one may be written over in its turn. After a crash both are read again, the older one
//! first, and each batch is applied once more: batches only set and remove, so it does not matter how much of it the engine had.
//!
//! ```text
//! record  = magic u32 | generation u64 | sequence u64 | length u32 | crc32 of all else u32 | payload | zeros to 16 bytes
//! payload = for each change: key length u32 (top bit: it is removed) | key | [value length u32 | value]
//! ```

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::{KEY_BYTES_MAX, Op, StoreError, VALUE_BYTES_MAX};

/// Bytes of each file. Longer batches make one longer for once.
pub(crate) const FILE_BYTES: u64 = 8 * 1024 * 1024;
pub(crate) const NAMES: [&str; 2] = ["journal-a", "journal-b"];
pub(crate) const MAGIC: u32 = 0xd1_5e_12_51;
pub(crate) const HEADER: usize = 28;
pub(crate) const ALIGN: usize = 16;
/// What a new file is filled with: blocks of zeros may be given back by what lies below the file system.
pub(crate) const FILL: u8 = 0xa5;
const DELETE: u32 = 1 << 31;

/// The journal, open for appending.
pub(crate) struct Journal {
    files: [(PathBuf, File); 2],
    active: usize,
    offset: u64,
    generation: u64,
    sequence: u64,
}

/// Whether an append filled the active file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    Here,
    /// The other file is active from here on: everything before this batch must be flushed before they change again.
    Turned,
}

impl Journal {
    /// Opens or makes the files, gives every batch that they hold to `apply`, oldest first, then calls `flush`, and starts
    /// behind all of it.
    pub fn open(
        dir: &Path,
        mut apply: impl FnMut(Vec<Op>) -> Result<(), StoreError>,
        flush: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<Self, StoreError> {
        let mut files = Vec::new();
        let mut found = Vec::new();
        for (i, name) in NAMES.iter().enumerate() {
            let path = dir.join(name);
            let file = open_filled(&path)?;
            found.push((i, read(&path, &file)?));
            files.push((path, file));
        }
        found.sort_by_key(|(_, content)| content.generation);
        let mut sequence: Option<u64> = None;
        for (i, content) in &mut found {
            // The newer file goes on where the older one ends.
            if sequence
                .zip(content.first)
                .is_some_and(|(last, first)| last + 1 != first)
            {
                return Err(StoreError::Damaged {
                    path: files[*i].0.display().to_string(),
                });
            }
            for ops in content.batches.drain(..) {
                apply(ops)?;
            }
            sequence = content.last.or(sequence);
        }
        if sequence.is_some() {
            flush()?;
        }
        let newest = found.last().map_or(0, |(_, content)| content.generation);
        let files = files.try_into().expect("two names, two files");
        Ok(Self {
            active: found.first().map_or(0, |(i, _)| *i),
            files,
            offset: 0,
            generation: newest + 1,
            sequence: sequence.map_or(0, |s| s + 1),
        })
    }

    /// Number of the next batch.
    pub fn next(&self) -> u64 {
        self.sequence
    }

    /// Makes a batch durable. `flushed` is called before a file whose batches may not be in the engine's files yet is written over;
    /// it returns when they are.
    pub fn append(
        &mut self,
        ops: &[Op],
        flushed: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<Appended, StoreError> {
        let mut turned = Appended::Here;
        let payload: usize = ops.iter().map(|op| op.bytes() + 8).sum();
        let bytes = (HEADER + payload).next_multiple_of(ALIGN) as u64;
        if self.offset > 0 && self.offset + bytes > FILE_BYTES {
            flushed()?;
            self.active = 1 - self.active;
            self.offset = 0;
            self.generation += 1;
            turned = Appended::Turned;
        }
        let record = encode(self.generation, self.sequence, ops);
        let (path, file) = &self.files[self.active];
        file.write_all_at(&record, self.offset)
            .and_then(|()| file.sync_data())
            .map_err(|error| failed("write", path, &error))?;
        self.offset += record.len() as u64;
        self.sequence += 1;
        Ok(turned)
    }
}

fn encode(generation: u64, sequence: u64, ops: &[Op]) -> Vec<u8> {
    let mut payload = Vec::new();
    for op in ops {
        let (key, flag) = match op {
            Op::Put(key, _) => (key, 0),
            Op::Delete(key) => (key, DELETE),
        };
        payload.extend_from_slice(&(key.len() as u32 | flag).to_be_bytes());
        payload.extend_from_slice(key);
        if let Op::Put(_, value) = op {
            payload.extend_from_slice(&(value.len() as u32).to_be_bytes());
            payload.extend_from_slice(value);
        }
    }
    let mut record = header(generation, sequence, &payload).to_vec();
    record.append(&mut payload);
    record.resize(record.len().next_multiple_of(ALIGN), 0);
    record
}

pub(crate) fn header(generation: u64, sequence: u64, payload: &[u8]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&MAGIC.to_be_bytes());
    header[4..12].copy_from_slice(&generation.to_be_bytes());
    header[12..20].copy_from_slice(&sequence.to_be_bytes());
    header[20..24].copy_from_slice(&(payload.len() as u32).to_be_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header[..24]);
    crc.update(payload);
    header[24..].copy_from_slice(&crc.finalize().to_be_bytes());
    header
}

/// What one file holds: the batches of its newest generation, in order.
#[derive(Default)]
struct Content {
    generation: u64,
    first: Option<u64>,
    last: Option<u64>,
    batches: Vec<Vec<Op>>,
}

/// Reads a file up to the first record that was not written whole. What follows it was never acknowledged, unless a whole
/// record of the same generation stands behind it: then the file is damaged.
fn read(path: &Path, file: &File) -> Result<Content, StoreError> {
    let length = file
        .metadata()
        .map_err(|error| failed("look at", path, &error))?
        .len();
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0)
        .map_err(|error| failed("read", path, &error))?;
    let mut content = Content::default();
    let mut at = 0;
    while let Some(record) = record(&bytes[at..]) {
        let follows = match content.last {
            None => true,
            Some(last) => record.generation == content.generation && record.sequence == last + 1,
        };
        if !follows {
            break;
        }
        content.generation = record.generation;
        content.first.get_or_insert(record.sequence);
        content.last = Some(record.sequence);
        content.batches.push(record.ops);
        at += record.bytes;
    }
    let expected = content.last.map_or(0, |last| last + 1);
    let damaged = (at..bytes.len())
        .step_by(ALIGN)
        .skip(1)
        .filter(|at| bytes[*at..].starts_with(&MAGIC.to_be_bytes()))
        .filter_map(|at| record(&bytes[at..]))
        .any(|r| {
            content.last.is_some() && r.generation == content.generation && r.sequence > expected
        });
    if damaged {
        return Err(StoreError::Damaged {
            path: path.display().to_string(),
        });
    }
    Ok(content)
}

pub(crate) struct Record {
    pub generation: u64,
    pub sequence: u64,
    pub ops: Vec<Op>,
    pub bytes: usize,
}

pub(crate) fn record(bytes: &[u8]) -> Option<Record> {
    let head = bytes.get(..HEADER)?;
    let u32_at = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().expect("4 bytes"));
    let u64_at = |at: usize| u64::from_be_bytes(head[at..at + 8].try_into().expect("8 bytes"));
    if u32_at(0) != MAGIC {
        return None;
    }
    let (generation, sequence, length) = (u64_at(4), u64_at(12), u32_at(20) as usize);
    let payload = bytes.get(HEADER..HEADER.checked_add(length)?)?;
    if header(generation, sequence, payload) != *head {
        return None;
    }
    Some(Record {
        generation,
        sequence,
        ops: decode(payload)?,
        bytes: (HEADER + length).next_multiple_of(ALIGN),
    })
}

fn decode(mut payload: &[u8]) -> Option<Vec<Op>> {
    let mut ops = Vec::new();
    while !payload.is_empty() {
        let key_length = take_u32(&mut payload)?;
        let key = take(&mut payload, (key_length & !DELETE) as usize, KEY_BYTES_MAX)?;
        if key_length & DELETE != 0 {
            ops.push(Op::Delete(key));
            continue;
        }
        let value_length = take_u32(&mut payload)? as usize;
        ops.push(Op::Put(
            key,
            take(&mut payload, value_length, VALUE_BYTES_MAX)?,
        ));
    }
    Some(ops)
}

fn take_u32(from: &mut &[u8]) -> Option<u32> {
    let bytes = take(from, 4, 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn take(from: &mut &[u8], length: usize, max: usize) -> Option<Vec<u8>> {
    if length > max {
        return None;
    }
    let (head, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(head.to_vec())
}

/// Opens a file of the journal; a missing or short one is filled up first.
fn open_filled(path: &Path) -> Result<File, StoreError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|error| failed("open", path, &error))?;
    let fill = || -> std::io::Result<()> {
        let length = file.metadata()?.len();
        if length < FILE_BYTES {
            let fill = vec![FILL; usize::try_from(FILE_BYTES - length).unwrap_or(0)];
            file.write_all_at(&fill, length)?;
            file.sync_all()?;
            if let Some(dir) = path.parent() {
                File::open(dir)?.sync_all()?;
            }
        }
        Ok(())
    };
    fill().map_err(|error| failed("fill", path, &error))?;
    Ok(file)
}

fn failed(action: &'static str, path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::File {
        action,
        path: path.display().to_string(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
