//! Events of `MainContract` and `Cells` as values.

mod settled;

use crate::abi::{ICells, IMainContract as C};
use crate::packed;
use crate::rpc::Log;
use alloy::primitives::B256;
use alloy::sol_types::SolEvent;
use diversity_proto::codec::DecodeError;
use diversity_proto::entity::{NodeDeclaration, SensorDeclaration};
use diversity_proto::round::{Entry, OutputKind};
use diversity_proto::terms::{Terms, TermsHeader};
use diversity_proto::{Address, AgreementId, Digest, NodeId, SensorId, UserId};

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
    /// Two messages of one sensor at one q, or a message and a gap: the sensor is void from there on.
    SensorContradiction,
    /// A hole certificate has settled t: without blame.
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
    /// Its number, which is part of the id of a dispute.
    pub fn code(self) -> u8 {
        match self {
            Self::Equivocation => 1,
            Self::FalseReveal => 2,
            Self::SensorContradiction => 3,
            Self::UnequalReveals => 4,
        }
    }
    /// One sentence for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Equivocation => "the node signed two different commits for one execution",
            Self::FalseReveal => "the node signed a reveal that does not open its own commit",
            Self::SensorContradiction => "the sensor signed two different things under one number",
            Self::UnequalReveals => {
                "the nodes revealed different results, or all of them abstained; nobody is to blame by that alone"
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

/// Which executions something speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// `a`.
    pub agreement: AgreementId,
    /// Resolution epoch.
    pub epoch: u32,
    /// First t of which it speaks.
    pub from: u64,
    /// Execution, or the last one.
    pub t: u64,
}

/// What counts at an execution, where others than the first reading of all nodes said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outputs {
    /// Null, value or trap.
    pub kind: OutputKind,
    /// Packed ABI result.
    pub result: Vec<u8>,
    /// `state'`; zero for a second reading, whose context covers it.
    pub state: Digest,
    /// Opens `state`.
    pub carry: Vec<u8>,
    /// Opens `state`.
    pub q_next: Vec<u64>,
}

/// An event of the contracts.
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
        /// Of it, what lies at the next t or behind it counts.
        place: Place,
        /// Each t that it names; those of `from..=t` that are missing were null.
        entries: Vec<SettledEntry>,
        /// Disputed t that it names as holes.
        holes: Vec<u64>,
        /// Context of a single outcome, or root of the contexts of a batch.
        context: Digest,
        /// Whether it is a batch.
        batch: bool,
        /// Gas of the whole transaction.
        gas_used: u64,
        /// Outcomes that share the transaction: values, traps and nulls of its batches, without holes.
        outcomes: u32,
    },
    /// A hole certificate has settled t.
    HoleSettled {
        /// t, and the first t of which the reveals speak.
        place: Place,
        /// Whether all nodes abstained.
        abstained: bool,
        /// Over the n commits.
        seal: Digest,
        /// The state' of all reveals; zero if they differ in it, or one abstained.
        state: Digest,
        /// Disputed t in `from..t`.
        holes: Vec<u64>,
        /// Id of the dispute that shows the evidence.
        dispute: Digest,
        /// Gas of the whole transaction.
        gas_used: u64,
    },
    /// The users have settled t themselves.
    Resolved {
        /// Its epoch is the one that this puts in force.
        place: Place,
        /// What counts.
        outputs: Outputs,
        /// Gas of the whole transaction.
        gas_used: u64,
    },
    /// What counts at a t that is behind.
    CellWritten {
        /// For a second reading the epoch is marked; for the users it is 0.
        place: Place,
        /// 1 a second reading, 2 the users, 3 the referee, 4 the arbiter.
        writer: u8,
        /// Of a second reading; zero otherwise.
        context: Digest,
        /// What counts.
        outputs: Outputs,
        /// Gas of the whole transaction.
        gas_used: u64,
    },
    /// An outcome was verified, and nothing stored.
    Attested {
        /// Last 20 bytes of the agreement's id, which name it like an address.
        agreement: [u8; 20],
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
    /// A log of the contracts that this build cannot read. It is shown and not lost.
    Unreadable {
        /// Why, in words.
        reason: String,
    },
}

/// Whether a log tells of something that settles, so that the gas of its transaction is wanted.
pub fn wants_gas(log: &Log) -> bool {
    let first = log.topics.first();
    log.topics.is_empty()
        || [
            C::Settled::SIGNATURE_HASH,
            C::BatchSettled::SIGNATURE_HASH,
            C::HoleSettled::SIGNATURE_HASH,
            C::Resolved::SIGNATURE_HASH,
            ICells::CellWritten::SIGNATURE_HASH,
        ]
        .iter()
        .any(|hash| first == Some(&topic(*hash)))
}

/// The last 20 bytes of an agreement's id, which attestations show.
pub fn short_id(a: &AgreementId) -> [u8; 20] {
    *a.0.last_chunk().expect("32 bytes have 20")
}

/// What logs say of the one that comes right behind them.
#[derive(Default)]
struct Before {
    /// Holes of reveals: where, and which.
    holes: Option<(AgreementId, u64, Vec<u64>)>,
    /// A dispute over unequal reveals: where, and its id.
    dispute: Option<(AgreementId, u64, Digest)>,
}

/// Decodes the logs of one transaction of the contracts, in order; `gas_used` is that of the whole transaction. Nothing is
/// ever dropped: what cannot be read becomes [`ChainEvent::Unreadable`].
pub fn decode(logs: &[Log], gas_used: u64) -> Vec<Located> {
    let mut out: Vec<Located> = Vec::new();
    let mut before = Before::default();
    for log in logs {
        let at = Position {
            block: log.block_number,
            block_hash: log.block_hash,
            log_index: log.log_index,
            tx: log.tx,
        };
        let mut now = Before::default();
        let event = match decode_one(log, gas_used, &before, &mut now) {
            Ok(Some(event)) => event,
            Ok(None) => {
                before = now;
                continue;
            }
            Err(reason) => ChainEvent::Unreadable { reason },
        };
        before = now;
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

fn topic(hash: B256) -> Digest {
    Digest(hash.0)
}

/// The event of a log; none for one that only says something of the next.
fn decode_one(
    log: &Log,
    gas_used: u64,
    before: &Before,
    now: &mut Before,
) -> Result<Option<ChainEvent>, String> {
    let Some(first) = log.topics.first().copied() else {
        let (agreement, place, entry) = settled::attested(&log.data)?;
        return Ok(Some(ChainEvent::Attested {
            agreement,
            epoch: place.epoch,
            from: place.from,
            t: place.t,
            entry,
            gas_used,
        }));
    };
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
    } else if first == topic(C::Settled::SIGNATURE_HASH) {
        let e = C::Settled::decode_raw_log(topics(), &log.data).map_err(words)?;
        let holes = match &before.holes {
            Some((a, t, holes)) if a.0 == e.agreement.0 && *t == e.t => holes.clone(),
            _ => Vec::new(),
        };
        let (place, entries, context) = settled::single(&e, &holes)?;
        ChainEvent::Settled {
            place,
            entries,
            holes,
            context,
            batch: false,
            gas_used,
            outcomes: 1,
        }
    } else if first == topic(C::BatchSettled::SIGNATURE_HASH) {
        let e = C::BatchSettled::decode_raw_log(topics(), &log.data).map_err(words)?;
        let (place, entries, context) = settled::batch(&e)?;
        let holes = entries.iter().filter(|(_, e)| *e == Entry::Hole);
        ChainEvent::Settled {
            place,
            holes: holes.map(|(t, _)| *t).collect(),
            entries,
            context,
            batch: true,
            gas_used,
            outcomes: 0,
        }
    } else if first == topic(C::HolesAgreed::SIGNATURE_HASH) {
        let e = C::HolesAgreed::decode_raw_log(topics(), &log.data).map_err(words)?;
        now.holes = Some((AgreementId(e.agreement.0), e.t, settled::holes(&e.holes)?));
        return Ok(None);
    } else if first == topic(C::HoleSettled::SIGNATURE_HASH) {
        let e = C::HoleSettled::decode_raw_log(topics(), &log.data).map_err(words)?;
        let (place, abstained) = settled::hole(&e)?;
        let dispute = match before.dispute {
            Some((a, t, dispute)) if (a, t) == (place.agreement, place.t) => dispute,
            _ => return Err("a hole without its evidence before it".into()),
        };
        ChainEvent::HoleSettled {
            place,
            abstained,
            seal: Digest(e.seal.0),
            state: Digest(e.state.0),
            holes: settled::holes(&e.holes)?,
            dispute,
            gas_used,
        }
    } else if first == topic(C::Resolved::SIGNATURE_HASH) {
        let e = C::Resolved::decode_raw_log(topics(), &log.data).map_err(words)?;
        let (place, outputs) = settled::resolved(&e)?;
        ChainEvent::Resolved {
            place,
            outputs,
            gas_used,
        }
    } else if first == topic(ICells::CellWritten::SIGNATURE_HASH) {
        let e = ICells::CellWritten::decode_raw_log(topics(), &log.data).map_err(words)?;
        let (place, outputs) = settled::cell(&e)?;
        ChainEvent::CellWritten {
            place,
            writer: e.writer,
            context: Digest(e.context.0),
            outputs,
            gas_used,
        }
    } else if first == topic(C::AgreementClosed::SIGNATURE_HASH) {
        let e = C::AgreementClosed::decode_raw_log(topics(), &log.data).map_err(words)?;
        ChainEvent::AgreementClosed {
            agreement: AgreementId(e.agreement.0),
            end: e.end,
        }
    } else if first == topic(C::DisputeRecorded::SIGNATURE_HASH) {
        let e = C::DisputeRecorded::decode_raw_log(topics(), &log.data).map_err(words)?;
        let accused = Address(e.accused.into_array());
        let kind = DisputeKind::from_abi(e.kind).ok_or("a dispute of an unknown kind")?;
        let dispute = Digest(e.dispute.0);
        if kind == DisputeKind::UnequalReveals {
            now.dispute = Some((AgreementId(e.agreement.0), e.point, dispute));
        }
        ChainEvent::DisputeRecorded {
            dispute,
            kind,
            agreement: (e.agreement != B256::ZERO).then_some(AgreementId(e.agreement.0)),
            accused: (accused.0 != [0; 20]).then_some(accused),
            epoch: e.epoch,
            at: e.point,
            evidence: e.evidence.to_vec(),
        }
    } else {
        return Err(format!(
            "an event that this build does not know ({first}): upgrade the node"
        ));
    };
    Ok(Some(event))
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
