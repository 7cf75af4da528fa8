//! Events of `MainContract` as values, and what the calldata of a settlement adds to them.

use crate::abi::IMainContract as C;
use crate::rpc::{Log, Receipt, Transaction};
use alloy::primitives::B256;
use alloy::sol_types::{SolCall, SolEvent};
use diversity_proto::codec::{DecodeError, Reader};
use diversity_proto::entity::{NodeDeclaration, SensorDeclaration};
use diversity_proto::round::{Entry, HOLES_MAX, KIND_BATCH, OutputKind, RESULT_BYTES_MAX};
use diversity_proto::terms::{BATCH_MAX, Terms, TermsHeader};
use diversity_proto::{Address, AgreementId, Digest, NodeId, SensorId, UserId};
use std::collections::BTreeMap;

/// Where an event stands on the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Block.
    pub block: u64,
    /// Its hash.
    pub block_hash: Digest,
    /// Position in the block.
    pub log_index: u64,
    /// Transaction.
    pub tx: Digest,
}

/// An event with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Where.
    pub at: Position,
    /// What.
    pub event: ChainEvent,
}

/// What a dispute is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DisputeKind {
    /// Two commits of one node: it is to blame.
    Equivocation,
    /// A reveal that does not open its commit: the node is to blame.
    FalseReveal,
    /// Two bodies of one sensor at one q: the sensor is void from there on.
    SensorContradiction,
    /// Reveals that differ: a hole, without blame.
    UnequalReveals,
}

impl DisputeKind {
    pub(crate) fn from_abi(kind: C::DisputeKind) -> Option<Self> {
        Some(match kind {
            C::DisputeKind::Equivocation => Self::Equivocation,
            C::DisputeKind::FalseReveal => Self::FalseReveal,
            C::DisputeKind::SensorContradiction => Self::SensorContradiction,
            C::DisputeKind::UnequalReveals => Self::UnequalReveals,
            _ => return None,
        })
    }
    pub(crate) fn abi(self) -> C::DisputeKind {
        match self {
            Self::Equivocation => C::DisputeKind::Equivocation,
            Self::FalseReveal => C::DisputeKind::FalseReveal,
            Self::SensorContradiction => C::DisputeKind::SensorContradiction,
            Self::UnequalReveals => C::DisputeKind::UnequalReveals,
        }
    }
    /// One sentence for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Equivocation => "the node signed two different commits for one execution",
            Self::FalseReveal => "the node signed a reveal that does not open its own commit",
            Self::SensorContradiction => {
                "the sensor signed two different messages under one number"
            }
            Self::UnequalReveals => {
                "the nodes revealed different results; nobody is to blame by that alone"
            }
        }
    }
}

/// The terms of a created agreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishedTerms {
    /// The event carries them, and they are those that were signed.
    Whole(Box<Terms>),
    /// The event does not carry them, or others, or some that this build does not know: only their header counts.
    HeaderOnly {
        /// Why, in words.
        reason: String,
    },
}

/// One t of a settlement: what it says.
pub type SettledEntry = (u64, Entry);

/// An event of the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)]
pub enum ChainEvent {
    /// A user.
    UserRegistered {
        /// Its account.
        user: UserId,
        /// Its name.
        name: String,
    },
    /// A sensor.
    SensorRegistered {
        /// Address of its key.
        sensor: SensorId,
        /// Whose it is.
        owner: UserId,
        /// What it is.
        declaration: SensorDeclaration,
    },
    /// A node, or a new revision of its declaration: the highest revision counts.
    NodeRegistered {
        /// Address of its protocol key.
        node: NodeId,
        /// Whose it is.
        owner: UserId,
        /// Keys and addresses.
        declaration: NodeDeclaration,
    },
    /// An agreement.
    AgreementCreated {
        /// `a`.
        agreement: AgreementId,
        /// `U_a`.
        users: Vec<UserId>,
        /// `I_a` and, for each, the index of the user that trusts it.
        nodes: Vec<(NodeId, u8)>,
        /// Digests of the terms.
        header: TermsHeader,
        /// The terms themselves.
        terms: PublishedTerms,
    },
    /// Outcomes have settled: one, or a batch.
    Settled {
        /// `a`.
        agreement: AgreementId,
        /// Resolution epoch.
        epoch: u32,
        /// First t of which it speaks.
        from: u64,
        /// Last t.
        t: u64,
        /// Each t that it names; those of `from..=t` that are missing were null.
        entries: Vec<SettledEntry>,
        /// Disputed t that it names as holes.
        holes: Vec<u64>,
        /// Context of a single outcome, or root of the contexts of a batch. None if a contract between hides it.
        context: Option<Digest>,
        /// Whether it is a batch.
        batch: bool,
        /// Gas of the whole transaction.
        gas_used: u64,
        /// Outcomes that share the transaction: values, traps and nulls of its batches, without holes.
        outcomes: u32,
    },
    /// An outcome was verified, and nothing stored.
    Attested {
        /// `a`.
        agreement: AgreementId,
        /// Resolution epoch.
        epoch: u32,
        /// First t of which it speaks.
        from: u64,
        /// Execution.
        t: u64,
        /// What it says.
        entry: Entry,
        /// Gas of the whole transaction.
        gas_used: u64,
    },
    /// Executions from `end` on never settle.
    AgreementClosed {
        /// `a`.
        agreement: AgreementId,
        /// First t that does not settle.
        end: u64,
    },
    /// Evidence was checked and recorded.
    DisputeRecorded {
        /// Its id.
        dispute: Digest,
        /// What it is about.
        kind: DisputeKind,
        /// None for a sensor.
        agreement: Option<AgreementId>,
        /// Whom it blames: a node or a sensor; none for unequal reveals.
        accused: Option<Address>,
        /// Resolution epoch, or boot epoch of a sensor.
        epoch: u32,
        /// Execution t, or a sensor's q.
        at: u64,
        /// Calldata of the call that brought it; [`crate::evidence::decode`] reads it.
        evidence: Vec<u8>,
    },
    /// The users have agreed what counts at a disputed execution.
    DisputeResolved {
        /// Its id.
        dispute: Digest,
        /// `a`.
        agreement: AgreementId,
        /// Null, value or trap.
        kind: OutputKind,
        /// Epoch of the resolution: the one in force, or the next, which it begins.
        epoch: u32,
        /// First t of which it speaks.
        from: u64,
        /// Execution.
        t: u64,
        /// Context that counts.
        context: Digest,
        /// Result that counts.
        result: Vec<u8>,
    },
    /// A log of the contract that this build cannot read. It is shown and not lost.
    Unreadable {
        /// Why, in words.
        reason: String,
    },
}

/// What is known of a transaction with settlements.
#[derive(Clone, Debug, Default)]
pub struct TransactionFacts {
    /// Calldata, where it went to the contract itself.
    pub input: Option<Vec<u8>>,
    /// Gas of the whole transaction.
    pub gas_used: u64,
}

impl TransactionFacts {
    /// Facts of a mined transaction; `contract` is `MainContract`.
    pub fn new(receipt: &Receipt, transaction: Option<Transaction>, contract: &Address) -> Self {
        Self {
            input: transaction
                .filter(|t| t.to.as_ref() == Some(contract))
                .map(|t| t.input),
            gas_used: receipt.gas_used,
        }
    }
}

/// Whether a log is a settlement or an attestation, so that [`TransactionFacts`] are wanted.
pub fn wants_transaction(log: &Log) -> bool {
    log.topics.is_empty() || log.topics.first() == Some(&topic(C::BatchSettled::SIGNATURE_HASH))
}

/// The last 20 bytes of an agreement's id, which settlements show.
pub fn short_id(a: &AgreementId) -> [u8; 20] {
    *a.0.last_chunk().expect("32 bytes have 20")
}

/// Decodes the logs of one transaction of the contract, in order. Nothing is ever dropped: what cannot be read becomes
/// [`ChainEvent::Unreadable`]. `known` are agreements by [`short_id`], for settlements whose calldata does not have it.
pub fn decode(
    logs: &[Log],
    facts: &TransactionFacts,
    known: &BTreeMap<[u8; 20], AgreementId>,
) -> Vec<Located> {
    let mut out: Vec<Located> = Vec::new();
    let mut agreed_holes = Vec::new();
    for log in logs {
        let at = Position {
            block: log.block_number,
            block_hash: log.block_hash,
            log_index: log.log_index,
            tx: log.tx,
        };
        let event = match decode_one(log, facts, known, std::mem::take(&mut agreed_holes)) {
            Ok(Decoded::Event(event)) => event,
            Ok(Decoded::Holes(holes)) => {
                agreed_holes = holes;
                continue;
            }
            Err(reason) => ChainEvent::Unreadable { reason },
        };
        out.push(Located { at, event });
    }
    let total = out.iter().map(|l| count_outcomes(&l.event)).sum();
    for l in &mut out {
        if let ChainEvent::Settled { outcomes, .. } = &mut l.event {
            *outcomes = total;
        }
    }
    out
}

fn count_outcomes(event: &ChainEvent) -> u32 {
    match event {
        ChainEvent::Settled { entries, .. } => {
            let n = entries.iter().filter(|(_, e)| *e != Entry::Hole).count();
            u32::try_from(n).unwrap_or(u32::MAX)
        }
        _ => 0,
    }
}

enum Decoded {
    Event(ChainEvent),
    Holes(Vec<u64>),
}

fn topic(hash: B256) -> Digest {
    Digest(hash.0)
}

fn decode_one(
    log: &Log,
    facts: &TransactionFacts,
    known: &BTreeMap<[u8; 20], AgreementId>,
    holes: Vec<u64>,
) -> Result<Decoded, String> {
    if log.topics.is_empty() {
        return single(&log.data, facts, known, holes).map(Decoded::Event);
    }
    let first = log.topics.first().copied().unwrap_or(Digest::ZERO);
    let arg = |i: usize| log.topics.get(i).copied().unwrap_or(Digest::ZERO);
    let address = |i: usize| Address(*arg(i).0.last_chunk().expect("32 bytes have 20"));
    let topics = || log.topics.iter().map(|t| B256::from(t.0));
    let words = |e: alloy::sol_types::Error| e.to_string();
    let of = |what: &'static str| move |e: DecodeError| format!("{what}: {e}");

    let event = if first == topic(C::UserRegistered::SIGNATURE_HASH) {
        ChainEvent::UserRegistered {
            user: address(1),
            // The contract bounds it; wallets decide what is in it.
            name: String::from_utf8_lossy(&log.data).into_owned(),
        }
    } else if first == topic(C::SensorRegistered::SIGNATURE_HASH) {
        ChainEvent::SensorRegistered {
            sensor: address(1),
            owner: address(2),
            declaration: SensorDeclaration::decode(&log.data)
                .map_err(of("declaration of a sensor"))?,
        }
    } else if first == topic(C::NodeRegistered::SIGNATURE_HASH) {
        ChainEvent::NodeRegistered {
            node: address(1),
            owner: address(2),
            declaration: NodeDeclaration::decode(&log.data).map_err(of("declaration of a node"))?,
        }
    } else if first == topic(C::AgreementCreated::SIGNATURE_HASH) {
        created(C::AgreementCreated::decode_raw_log(topics(), &log.data).map_err(words)?)
    } else if first == topic(C::BatchSettled::SIGNATURE_HASH) {
        batch(AgreementId(arg(1).0), &log.data, facts).map_err(of("batch"))?
    } else if first == topic(C::HolesAgreed::SIGNATURE_HASH) {
        let event = C::HolesAgreed::decode_raw_log(topics(), &log.data).map_err(words)?;
        return Ok(Decoded::Holes(
            event.holes.into_iter().take(HOLES_MAX).collect(),
        ));
    } else if first == topic(C::AgreementClosed::SIGNATURE_HASH) {
        let event = C::AgreementClosed::decode_raw_log(topics(), &log.data).map_err(words)?;
        ChainEvent::AgreementClosed {
            agreement: AgreementId(event.agreement.0),
            end: event.end,
        }
    } else if first == topic(C::DisputeRecorded::SIGNATURE_HASH) {
        let e = C::DisputeRecorded::decode_raw_log(topics(), &log.data).map_err(words)?;
        let accused = Address(e.accused.into_array());
        ChainEvent::DisputeRecorded {
            dispute: Digest(e.dispute.0),
            kind: DisputeKind::from_abi(e.kind).ok_or("a dispute of an unknown kind")?,
            agreement: (e.agreement != B256::ZERO).then_some(AgreementId(e.agreement.0)),
            accused: (accused.0 != [0; 20]).then_some(accused),
            epoch: e.epoch,
            at: e.point,
            evidence: e.evidence.to_vec(),
        }
    } else if first == topic(C::DisputeResolved::SIGNATURE_HASH) {
        let e = C::DisputeResolved::decode_raw_log(topics(), &log.data).map_err(words)?;
        let word = Word::new(&e.word.to_be_bytes());
        ChainEvent::DisputeResolved {
            dispute: Digest(e.dispute.0),
            agreement: AgreementId(e.agreement.0),
            kind: match word.kind {
                0 => OutputKind::Null,
                1 => OutputKind::Value,
                2 => OutputKind::Trap,
                k => return Err(format!("a resolution of kind {k}")),
            },
            epoch: word.epoch,
            from: word.from,
            t: word.t,
            context: Digest(e.context.0),
            result: e.result.to_vec(),
        }
    } else {
        return Err(format!(
            "an event that this build does not know ({first}): upgrade the node"
        ));
    };
    Ok(Decoded::Event(event))
}

/// `0^11 | kind | epoch | from | t` (wire-format §7), or its last 21 bytes.
struct Word {
    kind: u8,
    epoch: u32,
    from: u64,
    t: u64,
}

impl Word {
    fn new(bytes: &[u8; 32]) -> Self {
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
fn single(
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

fn batch(
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
            if n < 240 || n > RESULT_BYTES_MAX {
                return Err(DecodeError::Invalid("length of a result"));
            }
            out.push(Entry::Value(r.take(n, "result")?.to_vec()));
        }
        241 => {
            let items = u16::from(r.u8("items of a run")?) + 1;
            let n = usize::from(r.u8("length in a run")?);
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

fn created(e: C::AgreementCreated) -> ChainEvent {
    let digest = |d: B256| Digest(d.0);
    let users: Vec<_> = e
        .terms
        .users
        .iter()
        .map(|u| Address(u.into_array()))
        .collect();
    let nodes: Vec<_> = e
        .terms
        .nodes
        .iter()
        .zip(&e.terms.trust)
        .map(|(n, t)| (Address(n.into_array()), *t))
        .collect();
    let words = |items: Vec<&[u8]>| {
        let mut out = Vec::with_capacity(32 * items.len());
        for item in items {
            out.extend(std::iter::repeat_n(0, 32 - item.len()));
            out.extend_from_slice(item);
        }
        Digest(diversity_proto::domain::keccak_raw(&out))
    };
    let header = TermsHeader {
        users: words(users.iter().map(|u| &u.0[..]).collect()),
        nodes: words(nodes.iter().map(|n| &n.0.0[..]).collect()),
        trust: words(nodes.iter().map(|n| std::slice::from_ref(&n.1)).collect()),
        sensors_root: digest(e.terms.sensorsRoot),
        off_chain_code: digest(e.terms.offChainCode),
        conditions: digest(e.terms.conditions),
    };
    let terms = match Terms::decode(&e.extra) {
        Ok(terms) if terms.header() == header => PublishedTerms::Whole(Box::new(terms)),
        Ok(_) => PublishedTerms::HeaderOnly {
            reason: "the published terms are not those that were signed: ask a party for them"
                .into(),
        },
        Err(error) => PublishedTerms::HeaderOnly {
            reason: format!("the published terms cannot be read ({error}): ask a party for them"),
        },
    };
    ChainEvent::AgreementCreated {
        agreement: AgreementId(e.agreement.0),
        users,
        nodes,
        header,
        terms,
    }
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
