//! Settlements, which are logged raw (wire-format §7, `IMainContract.sol`).

use super::{ChainEvent, TransactionFacts, short_id};
use crate::abi::IMainContract as C;
use alloy::sol_types::SolCall;
use diversity_proto::codec::{DecodeError, Reader};
use diversity_proto::round::{Entry, KIND_BATCH, RESULT_BYTES_MAX};
use diversity_proto::terms::BATCH_MAX;
use diversity_proto::{Address, AgreementId, Digest};
use std::collections::BTreeMap;

/// `0^11 | kind | epoch | from | t` (wire-format §7), or its last 21 bytes.
pub(super) struct Word {
    pub kind: u8,
    pub epoch: u32,
    pub from: u64,
    pub t: u64,
}

impl Word {
    pub fn new(bytes: &[u8; 32]) -> Self {
        let be8 = |i: usize| u64::from_be_bytes(bytes[i..i + 8].try_into().expect("8 bytes"));
        Self {
            kind: bytes[11],
            epoch: u32::from_be_bytes(bytes[12..16].try_into().expect("4 bytes")),
            from: be8(16),
            t: be8(24),
        }
    }
}

/// A settlement shows 20 bytes of its agreement and 21 of its word, then the result. Those 20 bytes are an id like an
/// address; the whole id is in the calldata.
pub(super) fn single(
    data: &[u8],
    facts: &TransactionFacts,
    known: &BTreeMap<[u8; 20], AgreementId>,
    holes: Vec<u64>,
) -> Result<ChainEvent, String> {
    let Some((head, result)) = data.split_first_chunk::<41>() else {
        return Err(format!("a settlement of {} bytes", data.len()));
    };
    let short: [u8; 20] = *head.first_chunk().expect("41 bytes have 20");
    let mut word = [0; 32];
    word[11..].copy_from_slice(&head[20..]);
    let w = Word::new(&word);
    let call = facts.input.as_deref().and_then(SettlementCall::read);
    let call = call.filter(|c| short_id(&c.agreement) == short && c.is_of(&w));
    let agreement = match &call {
        Some(call) => call.agreement,
        None => *known.get(&short).ok_or_else(|| {
            format!(
                "a settlement of an unknown agreement that ends in {}",
                Address(short)
            )
        })?,
    };
    if result.len() > RESULT_BYTES_MAX {
        return Err(format!("a result of {} bytes", result.len()));
    }
    let entry = match w.kind & 0x7f {
        1 => Entry::Value(result.to_vec()),
        2 => Entry::Trap,
        k => return Err(format!("a settlement of kind {k}")),
    };
    if w.kind & 0x80 != 0 {
        return Ok(ChainEvent::Attested {
            agreement,
            epoch: w.epoch,
            from: w.from,
            t: w.t,
            entry,
            gas_used: facts.gas_used,
        });
    }
    let mut entries: Vec<_> = holes.iter().map(|t| (*t, Entry::Hole)).collect();
    entries.push((w.t, entry));
    Ok(ChainEvent::Settled {
        agreement,
        epoch: w.epoch,
        from: w.from,
        t: w.t,
        entries,
        holes,
        context: call.map(|c| c.context),
        batch: false,
        gas_used: facts.gas_used,
        outcomes: 1,
    })
}

/// What stands only in the calldata of a settlement.
struct SettlementCall {
    agreement: AgreementId,
    word: Word,
    context: Digest,
}

impl SettlementCall {
    fn read(input: &[u8]) -> Option<Self> {
        let (selector, arguments) = input.split_first_chunk::<4>()?;
        if [C::settleCall::SELECTOR, C::attestCertificateCall::SELECTOR].contains(selector) {
            let (certificate, tail) = arguments.split_first_chunk::<128>()?;
            let (word_bytes, tail) = tail.split_first_chunk::<21>()?;
            let mut word = [0; 32];
            word[11..].copy_from_slice(word_bytes);
            return Some(Self {
                agreement: AgreementId(*certificate.last_chunk()?),
                word: Word::new(&word),
                context: Digest(*tail.first_chunk()?),
            });
        }
        if *selector == C::settleByRevealsCall::SELECTOR {
            let call = C::settleByRevealsCall::abi_decode_raw(arguments).ok()?;
            return Some(Self {
                agreement: AgreementId(call.agreement.0),
                word: Word::new(&call.word.to_be_bytes()),
                context: Digest(call.context.0),
            });
        }
        None
    }
    fn is_of(&self, logged: &Word) -> bool {
        let w = &self.word;
        (w.kind, w.epoch, w.from, w.t) == (logged.kind & 0x7f, logged.epoch, logged.from, logged.t)
    }
}

pub(super) fn batch(
    agreement: AgreementId,
    data: &[u8],
    facts: &TransactionFacts,
) -> Result<ChainEvent, DecodeError> {
    let mut r = Reader::new(data);
    let mut word = [0; 32];
    word[11..].copy_from_slice(r.take(21, "word")?);
    let word = Word::new(&word);
    let root = Digest::read(&mut r)?;
    if word.kind != KIND_BATCH {
        return Err(DecodeError::Invalid("kind of a batch"));
    }
    let count = word
        .t
        .checked_sub(word.from)
        .filter(|n| *n < u64::from(u16::MAX))
        .ok_or(DecodeError::Invalid("range of a batch"))?;
    let mut found = Vec::with_capacity(usize::from(BATCH_MAX));
    while !r.rest().is_empty() {
        read_entries(&mut r, &mut found)?;
        if found.len() as u64 > count + 1 {
            return Err(DecodeError::Invalid("entries (more than the range)"));
        }
    }
    if found.len() as u64 != count + 1 {
        return Err(DecodeError::Invalid("entries (fewer than the range)"));
    }
    let entries: Vec<_> = (word.from..).zip(found).collect();
    let holes = entries
        .iter()
        .filter(|(_, e)| *e == Entry::Hole)
        .map(|(t, _)| *t)
        .collect();
    Ok(ChainEvent::Settled {
        agreement,
        epoch: word.epoch,
        from: word.from,
        t: word.t,
        entries,
        holes,
        context: Some(root),
        batch: true,
        gas_used: facts.gas_used,
        outcomes: 0,
    })
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
