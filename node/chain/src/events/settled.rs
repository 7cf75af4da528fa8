//! What has settled: words, and the entries of a batch (wire-format §7).

use super::validate::{Refusal, Skipped};
use super::{Outputs, Place, SettledEntry};
use crate::abi::{ICells, IMainContract as C};
use alloy::primitives::U256;
use diversity_proto::codec::{DecodeError, Reader};
use diversity_proto::frame::Q_MAX;
use diversity_proto::round::{
    CARRY_BYTES_MAX, Entry, HOLES_MAX, KIND_BATCH, KIND_HOLE, OutputKind, RESULT_BYTES_MAX, T_MAX,
};
use diversity_proto::terms::{BATCH_MAX, BATCH_RANGE_MAX, SENSORS_MAX};
use diversity_proto::{AgreementId, Digest};

/// `0^11 | kind | epoch | from | t`.
pub(super) struct Word {
    pub kind: u8,
    pub epoch: u32,
    pub from: u64,
    pub t: u64,
}

impl Word {
    /// Reads it. `t` is the one that the event is indexed by.
    pub fn new(word: U256, t: u64) -> Result<Self, Skipped> {
        let bytes: [u8; 32] = word.to_be_bytes();
        let be8 = |i: usize| u64::from_be_bytes(bytes[i..i + 8].try_into().expect("8 bytes"));
        let out = Self {
            kind: bytes[11],
            epoch: u32::from_be_bytes(bytes[12..16].try_into().expect("4 bytes")),
            from: be8(16),
            t: be8(24),
        };
        if bytes[..11] != [0; 11] || out.from > out.t || out.t >= T_MAX || out.t != t {
            let words = format!("a word that names no executions ({word:#x})");
            return Err(Refusal::OutOfBounds.because(words));
        }
        Ok(out)
    }
    /// In band, an epoch has 16 bits; above them it is that of a second reading.
    pub fn in_band(self) -> Result<Self, Skipped> {
        if self.epoch > u32::from(u16::MAX) {
            let words = format!("epoch {}, which is never in force", self.epoch);
            return Err(Refusal::OutOfBounds.because(words));
        }
        Ok(self)
    }
    pub fn place(&self, agreement: AgreementId) -> Place {
        Place {
            agreement,
            epoch: self.epoch,
            from: self.from,
            t: self.t,
        }
    }
}

fn bounded(what: &str, len: usize, max: usize) -> Result<(), Skipped> {
    if len > max {
        return Err(Refusal::OutOfBounds.because(format!("{what} of {len}, more than {max}")));
    }
    Ok(())
}

fn entry(kind: u8, result: &[u8]) -> Result<Entry, Skipped> {
    bounded("a result", result.len(), RESULT_BYTES_MAX)?;
    match kind {
        1 => Ok(Entry::Value(result.to_vec())),
        2 if result.is_empty() => Ok(Entry::Trap),
        k => Err(format!("a settlement of kind {k} with {} bytes", result.len()).into()),
    }
}

/// Disputed t in `from..t`, strictly ascending.
pub(super) fn holes(holes: &[u64], from: u64, t: u64) -> Result<Vec<u64>, Skipped> {
    bounded("a list of holes", holes.len(), HOLES_MAX)?;
    if !holes.is_sorted_by(|a, b| a < b) || holes.iter().any(|h| !(from..t).contains(h)) {
        return Err(
            Refusal::OutOfBounds.because("holes that are not in the range that they are of")
        );
    }
    Ok(holes.to_vec())
}

/// One outcome: where, what each t says, and its context.
pub(super) fn single(
    e: &C::Settled,
    holes: &[u64],
) -> Result<(Place, Vec<SettledEntry>, Digest), Skipped> {
    let word = Word::new(e.word, e.t)?.in_band()?;
    let holes = self::holes(holes, word.from, word.t)?;
    let mut entries: Vec<_> = holes.iter().map(|t| (*t, Entry::Hole)).collect();
    entries.push((word.t, entry(word.kind, &e.result)?));
    let place = word.place(AgreementId(e.agreement.0));
    Ok((place, entries, Digest(e.context.0)))
}

/// An attestation: the last 20 bytes of its agreement and 21 of its word, then the result.
pub(super) fn attested(data: &[u8]) -> Result<([u8; 20], Place, Entry), Skipped> {
    let Some((head, result)) = data.split_first_chunk::<41>() else {
        return Err(format!("an attestation of {} bytes", data.len()).into());
    };
    let short: [u8; 20] = *head.first_chunk().expect("41 bytes have 20");
    let mut word = [0; 32];
    word[11..].copy_from_slice(&head[20..]);
    if word[11] & 0x80 == 0 {
        return Err(Refusal::Malformed.because("a log without topics that is no attestation"));
    }
    word[11] &= 0x7f;
    let t = u64::from_be_bytes(*word.last_chunk().expect("32 bytes have 8"));
    let word = Word::new(U256::from_be_bytes(word), t)?;
    let entry = match word.kind {
        0 if result.is_empty() => Entry::Null,
        kind => entry(kind, result)?,
    };
    Ok((short, word.place(AgreementId([0; 32])), entry))
}

/// A batch: where, what each t says, and the root of its contexts.
pub(super) fn batch(e: &C::BatchSettled) -> Result<(Place, Vec<SettledEntry>, Digest), Skipped> {
    let word = Word::new(e.word, e.t)?.in_band()?;
    if word.kind != KIND_BATCH {
        return Err(format!("a batch of kind {}", word.kind).into());
    }
    let range = word.t - word.from;
    let covered = usize::try_from(range).unwrap_or(usize::MAX);
    bounded("a range", covered, BATCH_RANGE_MAX - 1)?;
    let found = entries(&e.entries, range + 1).map_err(|e| Refusal::Malformed.because(e))?;
    let place = word.place(AgreementId(e.agreement.0));
    Ok((
        place,
        (word.from..).zip(found).collect(),
        Digest(e.contexts.0),
    ))
}

/// The entries of so many t.
fn entries(data: &[u8], range: u64) -> Result<Vec<Entry>, DecodeError> {
    let mut r = Reader::new(data);
    let mut found = Vec::with_capacity(usize::from(BATCH_MAX));
    while !r.rest().is_empty() {
        read_entries(&mut r, &mut found)?;
        if found.len() as u64 > range {
            return Err(DecodeError::Invalid("entries (more than the range)"));
        }
    }
    if (found.len() as u64) < range {
        return Err(DecodeError::Invalid("entries (fewer than the range)"));
    }
    Ok(found)
}

/// One code of a batch (wire-format §7), which is one entry, or for 241 a run of values of one length.
fn read_entries(r: &mut Reader<'_>, out: &mut Vec<Entry>) -> Result<(), DecodeError> {
    match r.u8("entry")? {
        n @ 0..=239 => out.push(Entry::Value(r.take(usize::from(n), "result")?.to_vec())),
        240 => {
            let n = usize::from(r.u16("length of a result")?);
            if !(240..=RESULT_BYTES_MAX).contains(&n) {
                return Err(DecodeError::Invalid("length of a result"));
            }
            out.push(Entry::Value(r.take(n, "result")?.to_vec()));
        }
        241 => {
            let items = u16::from(r.u8("items of a run")?) + 1;
            let n = usize::from(r.u8("length in a run")?);
            if n >= 240 {
                return Err(DecodeError::Invalid("length in a run"));
            }
            for _ in 0..items {
                out.push(Entry::Value(r.take(n, "result")?.to_vec()));
            }
        }
        253 => out.push(Entry::Null),
        254 => out.push(Entry::Trap),
        255 => out.push(Entry::Hole),
        _ => return Err(DecodeError::Invalid("entry")),
    }
    Ok(())
}

/// A hole: where, and whether all abstained.
pub(super) fn hole(e: &C::HoleSettled) -> Result<(Place, bool), Skipped> {
    let word = Word::new(e.word, e.t)?.in_band()?;
    let abstained = match word.kind {
        KIND_HOLE => false,
        k if k == OutputKind::Abstain as u8 => true,
        k => return Err(format!("a hole of kind {k}").into()),
    };
    Ok((word.place(AgreementId(e.agreement.0)), abstained))
}

/// What the users said, in band.
pub(super) fn resolved(e: &C::Resolved) -> Result<(Place, Outputs), Skipped> {
    let word = Word::new(e.word, e.t)?.in_band()?;
    let outputs = outputs(word.kind, &e.result, Digest(e.state.0), &e.carry, &e.qNext)?;
    Ok((word.place(AgreementId(e.agreement.0)), outputs))
}

/// What a cell was filled with.
pub(super) fn cell(e: &ICells::CellWritten) -> Result<(Place, Outputs), Skipped> {
    let word = Word::new(e.word, e.t)?;
    let outputs = outputs(word.kind, &e.result, Digest(e.state.0), &e.carry, &e.qNext)?;
    Ok((word.place(AgreementId(e.agreement.0)), outputs))
}

fn outputs(
    kind: u8,
    result: &[u8],
    state: Digest,
    carry: &[u8],
    q_next: &[u64],
) -> Result<Outputs, Skipped> {
    let kind = match OutputKind::from_code(kind) {
        Ok(kind @ (OutputKind::Null | OutputKind::Value | OutputKind::Trap)) => kind,
        _ => return Err(format!("what counts is of kind {kind}").into()),
    };
    bounded("a result", result.len(), RESULT_BYTES_MAX)?;
    bounded("a carry", carry.len(), CARRY_BYTES_MAX)?;
    bounded("a list of sensors", q_next.len(), SENSORS_MAX)?;
    if kind != OutputKind::Value && !result.is_empty() {
        return Err(Refusal::Malformed.because("a result where there is none"));
    }
    if q_next.iter().any(|q| *q >= Q_MAX) {
        return Err(Refusal::OutOfBounds.because("a q beyond 2^62"));
    }
    Ok(Outputs {
        kind,
        result: result.to_vec(),
        state,
        carry: carry.to_vec(),
        q_next: q_next.to_vec(),
    })
}
