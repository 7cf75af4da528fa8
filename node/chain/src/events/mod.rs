//! Events of `MainContract` as values, and what the calldata of a settlement adds to them.

mod settled;

use crate::abi::IMainContract as C;
use crate::packed;
use crate::rpc::{Log, Receipt, Transaction};
use alloy::primitives::B256;
use alloy::sol_types::SolEvent;
use diversity_proto::codec::DecodeError;
use diversity_proto::entity::{NodeDeclaration, SensorDeclaration};
use diversity_proto::round::{Entry, HOLES_MAX, OutputKind};
use diversity_proto::terms::{Terms, TermsHeader};
use diversity_proto::{Address, AgreementId, Digest, NodeId, SensorId, UserId};
use settled::{Word, batch, single};
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

// One at a time, and never stored: boxing would cost more than it saves.
#[allow(clippy::large_enum_variant)]
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
    let address = |i: usize| *arg(i).0.last_chunk().expect("32 bytes have 20");
    let topics = || log.topics.iter().map(|t| B256::from(t.0));
    let words = |e: alloy::sol_types::Error| e.to_string();
    let of = |what: &'static str| move |e: DecodeError| format!("{what}: {e}");

    let event = if first == topic(C::UserRegistered::SIGNATURE_HASH) {
        let (user, name) = packed::read_user(&log.data).map_err(of("registration of a user"))?;
        ChainEvent::UserRegistered { user, name }
    } else if first == topic(C::SensorRegistered::SIGNATURE_HASH) {
        ChainEvent::SensorRegistered {
            sensor: SensorId(address(1)),
            owner: UserId(address(2)),
            declaration: SensorDeclaration::decode(&log.data)
                .map_err(of("declaration of a sensor"))?,
        }
    } else if first == topic(C::NodeRegistered::SIGNATURE_HASH) {
        ChainEvent::NodeRegistered {
            node: NodeId(address(1)),
            owner: UserId(address(2)),
            declaration: NodeDeclaration::decode(&log.data).map_err(of("declaration of a node"))?,
        }
    } else if first == topic(C::AgreementCreated::SIGNATURE_HASH) {
        created(AgreementId(arg(1).0), &log.data).map_err(of("terms of an agreement"))?
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

fn created(agreement: AgreementId, data: &[u8]) -> Result<ChainEvent, DecodeError> {
    let signed = packed::read_terms(data)?;
    let terms = match Terms::decode(signed.extra) {
        Ok(terms) if terms.header() == signed.header => PublishedTerms::Whole(Box::new(terms)),
        Ok(_) => PublishedTerms::HeaderOnly {
            reason: "the published terms are not those that were signed: ask a party for them"
                .into(),
        },
        Err(error) => PublishedTerms::HeaderOnly {
            reason: format!("the published terms cannot be read ({error}): ask a party for them"),
        },
    };
    Ok(ChainEvent::AgreementCreated {
        agreement,
        users: signed.users,
        nodes: signed.nodes.iter().map(|n| (n.node, n.trust)).collect(),
        header: signed.header,
        terms,
    })
}

#[cfg(test)]
mod tests;
