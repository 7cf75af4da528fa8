//! From logs to events.

use super::validate::{self, Refusal, Skipped};
use super::{ChainEvent, DisputeKind, Located, Position, PublishedTerms, settled, topic};
use crate::abi::{ICells, IMainContract as C};
use crate::packed;
use crate::rpc::Log;
use alloy::primitives::B256;
use alloy::sol_types::SolEvent;
use diversity_proto::codec::DecodeError;
use diversity_proto::round::Entry;
use diversity_proto::terms::{TERMS_BYTES_MAX, Terms};
use diversity_proto::{Address, AgreementId, Deployment, Digest, NodeId, SensorId, UserId};

/// What logs say of the one that comes right behind them.
#[derive(Default)]
struct Before {
    /// Holes of reveals: where, and which.
    holes: Option<(AgreementId, u64, Vec<u64>)>,
    /// A dispute over unequal reveals: where, and its id.
    dispute: Option<(AgreementId, u64, Digest)>,
}

/// Decodes and judges the logs of one transaction of the contracts of `d`, in order; `gas_used` is that of the whole
/// transaction. No log is lost without a word: what nobody may believe becomes [`ChainEvent::Skipped`]. Never panics, whatever
/// the logs are.
pub fn decode(logs: &[Log], gas_used: u64, d: &Deployment) -> Vec<Located> {
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
        let event = match decode_one(log, gas_used, d, &before, &mut now) {
            Ok(Some(event)) => event,
            Ok(None) => {
                before = now;
                continue;
            }
            Err(skipped) => ChainEvent::Skipped(skipped),
        };
        before = now;
        out.push(Located { at, event });
    }
    let total = out
        .iter()
        .map(|l| count_outcomes(&l.event))
        .fold(0, u32::saturating_add);
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

/// The event of a log; none for one that only says something of the next.
fn decode_one(
    log: &Log,
    gas_used: u64,
    d: &Deployment,
    before: &Before,
    now: &mut Before,
) -> Result<Option<ChainEvent>, Skipped> {
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
    let words = |e: alloy::sol_types::Error| Refusal::Malformed.because(e);
    let of = |what: &'static str| {
        move |e: DecodeError| {
            let refusal = match e {
                DecodeError::TooLong { .. } => Refusal::OutOfBounds,
                _ => Refusal::Malformed,
            };
            refusal.because(format!("{what}: {e}"))
        }
    };

    let event = if first == topic(C::UserRegistered::SIGNATURE_HASH) {
        let (user, name) = packed::read_user(&log.data).map_err(of("registration of a user"))?;
        validate::printable("the name of a user", &name)?;
        ChainEvent::UserRegistered { user, name }
    } else if first == topic(C::SensorRegistered::SIGNATURE_HASH) {
        let sensor = SensorId(address(1));
        ChainEvent::SensorRegistered {
            sensor,
            owner: UserId(address(2)),
            declaration: validate::sensor(&sensor, &log.data)?,
        }
    } else if first == topic(C::NodeRegistered::SIGNATURE_HASH) {
        let node = NodeId(address(1));
        ChainEvent::NodeRegistered {
            node,
            owner: UserId(address(2)),
            declaration: validate::node(d, &node, &log.data)?,
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
        now.holes = Some((
            AgreementId(e.agreement.0),
            e.t,
            settled::holes(&e.holes, 0, e.t)?,
        ));
        return Ok(None);
    } else if first == topic(C::HoleSettled::SIGNATURE_HASH) {
        let e = C::HoleSettled::decode_raw_log(topics(), &log.data).map_err(words)?;
        let (place, abstained) = settled::hole(&e)?;
        let dispute = match before.dispute {
            Some((a, t, dispute)) if (a, t) == (place.agreement, place.t) => dispute,
            _ => {
                return Err(Refusal::Malformed.because("a hole without its evidence before it"));
            }
        };
        ChainEvent::HoleSettled {
            place,
            abstained,
            seal: Digest(e.seal.0),
            state: Digest(e.state.0),
            holes: settled::holes(&e.holes, place.from, place.t)?,
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
        validate::writer(e.writer)?;
        ChainEvent::CellWritten {
            place,
            writer: e.writer,
            context: Digest(e.context.0),
            outputs,
            gas_used,
        }
    } else if first == topic(C::AgreementClosed::SIGNATURE_HASH) {
        let e = C::AgreementClosed::decode_raw_log(topics(), &log.data).map_err(words)?;
        validate::execution(e.end)?;
        ChainEvent::AgreementClosed {
            agreement: AgreementId(e.agreement.0),
            end: e.end,
        }
    } else if first == topic(C::DisputeRecorded::SIGNATURE_HASH) {
        let e = C::DisputeRecorded::decode_raw_log(topics(), &log.data).map_err(words)?;
        let accused = Address(e.accused.into_array());
        let kind = DisputeKind::from_abi(e.kind)
            .ok_or_else(|| Refusal::UnknownEvent.because("a dispute of an unknown kind"))?;
        let dispute = Digest(e.dispute.0);
        if kind == DisputeKind::UnequalReveals {
            // The door is closed by what the contract settled, whether or not its evidence can be read here.
            now.dispute = Some((AgreementId(e.agreement.0), e.point, dispute));
        }
        let agreement = (e.agreement != B256::ZERO).then_some(AgreementId(e.agreement.0));
        let accused = (accused.0 != [0; 20]).then_some(accused);
        validate::dispute(kind, agreement, accused, e.epoch, e.point, &e.evidence)?;
        ChainEvent::DisputeRecorded {
            dispute,
            kind,
            agreement,
            accused,
            epoch: e.epoch,
            at: e.point,
            evidence: e.evidence.to_vec(),
        }
    } else {
        return Err(Refusal::UnknownEvent.because(format!(
            "an event that this build does not know ({first}): upgrade the node"
        )));
    };
    Ok(Some(event))
}

fn created(agreement: AgreementId, data: &[u8]) -> Result<ChainEvent, DecodeError> {
    let signed = packed::read_terms(data)?;
    if signed.extra.len() > TERMS_BYTES_MAX {
        return Err(DecodeError::TooLong {
            what: "published terms",
            len: signed.extra.len(),
            max: TERMS_BYTES_MAX,
        });
    }
    let terms = match Terms::decode(signed.extra) {
        Ok(terms) if terms.header() == signed.header && !validate::shows(&terms) => {
            PublishedTerms::HeaderOnly {
                reason:
                    "the published terms have names with control characters: ask a party for them"
                        .into(),
            }
        }
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
