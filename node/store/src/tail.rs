//! The end of the journal: a record that a crash has cut off was never acknowledged, and is no loss; one that was changed on the disk
//! afterwards may be the only copy of what was. The two are told apart here, as far as they can be.
//!
//! A write that was cut off leaves whole sectors as they were before. So a record of ours that lies in one sector, or that a single
//! flipped bit keeps from being whole, was changed; and so was the end of a file that was never written over, if it neither begins
//! such a record nor still has the fill.

use std::fs;
use std::path::Path;

use crate::StoreError;
use crate::journal::{ALIGN, FILL, HEADER, MAGIC, NAMES, header, record};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
/// Magic, generation and sequence.
const PLACE: usize = 20;

/// Where the records of one file end.
struct End {
    name: &'static str,
    bytes: Vec<u8>,
    at: usize,
    /// Generation and sequence of the last record.
    last: Option<(u64, u64)>,
}

/// Checks the end of the newest file. Damage before the end is found when the files are read.
pub(crate) fn check(dir: &Path) -> Result<(), StoreError> {
    let mut ends = Vec::new();
    for name in NAMES {
        let path = dir.join(name);
        let bytes = fs::read(&path).map_err(|error| StoreError::File {
            action: "read",
            path: path.display().to_string(),
            reason: error.to_string(),
        })?;
        ends.push(end(name, bytes));
    }
    let newest = ends.iter().filter_map(|end| end.last).max();
    for end in &ends {
        // A file without records may be where the next one was being written.
        let next = match (end.last, newest) {
            (None, None) => (1, 0),
            (None, Some((generation, sequence))) => (generation + 1, sequence + 1),
            (Some(last), _) if Some(last) == newest => (last.0, last.1 + 1),
            (Some(_), _) => continue,
        };
        if is_damaged(&end.bytes, end.at, next, end.last.is_none()) {
            return Err(StoreError::corrupt(
                dir,
                format!("the end of the file {} was changed on the disk", end.name),
            ));
        }
    }
    Ok(())
}

fn end(name: &'static str, bytes: Vec<u8>) -> End {
    let (mut at, mut last) = (0, None);
    while let Some(record) = record(&bytes[at..]) {
        let here = (record.generation, record.sequence);
        let follows = last.is_none_or(|(g, s): (u64, u64)| here == (g, s + 1));
        if !follows {
            break;
        }
        last = Some(here);
        at += record.bytes;
    }
    End {
        name,
        bytes,
        at,
        last,
    }
}

/// Whether what stands at `at`, where no whole record does, is neither what a cut-off write leaves nor what was there before.
fn is_damaged(bytes: &[u8], at: usize, (generation, sequence): (u64, u64), first: bool) -> bool {
    let rest = &bytes[at.min(bytes.len())..];
    let expected = &header(generation, sequence, &[])[..PLACE];
    let Some(found) = rest.get(..HEADER) else {
        return false;
    };
    let differing = found.iter().zip(expected).filter(|(a, b)| a != b).count();
    if differing <= 1 {
        return was_whole(rest, expected, at % SECTOR);
    }
    let untouched = (at + 1).next_multiple_of(SECTOR).min(bytes.len()) - at;
    let is_fill = rest[..untouched].iter().all(|byte| *byte == FILL);
    if first {
        // Of an older generation, or never used.
        return !is_fill && !rest.starts_with(&MAGIC.to_be_bytes());
    }
    // Each file is written over from its second generation on, and then anything may stand here.
    generation <= 2 && !is_fill
}

/// Whether the record at the start of `rest` was written whole once: it lies in one sector, or one flipped bit mends it.
fn was_whole(rest: &[u8], expected: &[u8], in_sector: usize) -> bool {
    let length_at = |at: usize| u32::from_be_bytes(rest[at..at + 4].try_into().expect("4 bytes"));
    let (length, stored) = (length_at(PLACE), length_at(PLACE + 4));
    let syndrome = |length: u32| {
        let payload = rest.get(HEADER..HEADER.checked_add(length as usize)?)?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(expected);
        crc.update(&length.to_be_bytes());
        crc.update(payload);
        Some(crc.finalize() ^ stored)
    };
    let found = syndrome(length);
    let bytes = (HEADER + length as usize).next_multiple_of(ALIGN);
    let one_sector = found.is_some() && in_sector + bytes <= SECTOR;
    one_sector
        || found.is_some_and(|s| s == 0 || s.count_ones() == 1 || is_one_bit(s, length as usize))
        || (0..32).any(|bit| syndrome(length ^ 1 << bit) == Some(0))
}

/// Whether flipping one bit of the last `bytes` bytes changes a CRC-32 by `syndrome`.
fn is_one_bit(syndrome: u32, bytes: usize) -> bool {
    // What each bit of the last byte changes; a byte further back changes what that becomes behind one more zero byte.
    (0..8).any(|bit| {
        let mut change = behind_zero(1 << bit);
        for _ in 0..bytes {
            if change == syndrome {
                return true;
            }
            change = behind_zero(change);
        }
        false
    })
}

/// The register of CRC-32 (reflected, polynomial 0xedb88320) after a byte of zeros.
fn behind_zero(mut register: u32) -> u32 {
    for _ in 0..8 {
        let carry = register & 1;
        register >>= 1;
        if carry == 1 {
            register ^= 0xedb8_8320;
        }
    }
    register
}

#[cfg(test)]
#[path = "tail_tests.rs"]
mod tests;
