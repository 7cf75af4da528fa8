//! Submissions of the core as calls to the contracts: calldata, what each is for, and its place in a row (wire-format §7).

use diversity_chain::Contracts;
use diversity_chain::calls::{self, AggregateSignature, Case, settlement_gas};
use diversity_chain::events::DisputeKind;
use diversity_chain::goal::{Goal, dispute_id};
use diversity_chain::submitter::{self, Row};
use diversity_engine::api::{Evidence, Settlement, Submission, SubmissionId};
use diversity_keys::musig::nonce_y;
use diversity_proto::domain::keccak_raw;
use diversity_proto::frame::Frame;
use diversity_proto::{AgreementId, Deployment, Digest, NodeId, Signature, Writer};

use crate::node::outbox::Known;

/// What is to be sent.
struct Encoded {
    label: String,
    to_cells: bool,
    data: Vec<u8>,
    goal: Goal,
    /// First and last t of a settlement.
    row: Option<(AgreementId, u64, u64)>,
}

/// The submission for the durable outbox. It is owed, so it has no patience; its id is that of the core under its epoch, so that
/// what is handed in twice is one, and what is signed anew under another epoch is not.
///
/// # Errors
/// In words, what of it fits no call.
pub fn submission(
    d: &Deployment,
    contracts: &Contracts,
    known: Option<&Known>,
    id: &SubmissionId,
    s: &Submission,
) -> Result<submitter::Submission, String> {
    let e = encode(d, known, s)?;
    let row = e.row.map(|(agreement, from, t)| Row {
        agreement,
        from,
        t,
        gas: settlement_gas(&e.data),
    });
    Ok(submitter::Submission {
        id: name(id, s),
        label: e.label,
        to: Some(if e.to_cells {
            contracts.cells
        } else {
            contracts.main
        }),
        data: e.data,
        patience_ms: None,
        goal: Some(e.goal),
        row,
    })
}

/// The outbox's name of a submission.
fn name(id: &SubmissionId, s: &Submission) -> Digest {
    let mut w = Writer::new();
    match id {
        SubmissionId::Settle(a, _, from, t, reveals) => {
            w.u8(0).raw(&a.0).u64(*from).u64(*t).u8((*reveals).into());
        }
        SubmissionId::Hole(a, _, t) => {
            w.u8(1).raw(&a.0).u64(*t);
        }
        SubmissionId::Reading(a, t, epoch) => {
            w.u8(2).raw(&a.0).u64(*t).u32(*epoch);
        }
        SubmissionId::Misbehaviour(a, epoch, t, node, what) => {
            w.u8(3).raw(&a.0).u32(*epoch).u64(*t);
            w.raw(&node.0).u8(*what);
        }
        SubmissionId::Contradiction(sensor, q) => {
            w.u8(4).raw(&sensor.0).u64(*q);
        }
    }
    w.u32(match s {
        Submission::Settle { settlement, .. } => settlement.epoch(),
        Submission::Hole { epoch, .. } => *epoch,
        _ => 0,
    });
    Digest(keccak_raw(&w.finish()))
}

fn encode(d: &Deployment, known: Option<&Known>, s: &Submission) -> Result<Encoded, String> {
    let words = |e: diversity_chain::SignatureError| e.to_string();
    let member = || known.ok_or_else(|| "its agreement does not run here".to_string());
    match s {
        Submission::Settle {
            agreement,
            settlement,
        } => {
            let (from, t) = settlement.range();
            Ok(Encoded {
                label: format!("settle t {from} to {t} of {agreement}"),
                to_cells: false,
                data: settle(d, member()?, settlement)?,
                goal: Goal::Settled {
                    agreement: *agreement,
                    epoch: Some(settlement.epoch()),
                    t,
                },
                row: Some((*agreement, from, t)),
            })
        }
        Submission::Hole {
            agreement,
            epoch,
            t,
            commits,
            reveals,
        } => {
            let known = member()?;
            let key = known.chain_key();
            let data = calls::settle_hole(&case(d, known, &key, *epoch, *t), commits, reveals);
            let from = reveals.first().map_or(*t, |r| r.from);
            Ok(Encoded {
                label: format!("settle t {t} of {agreement} as a hole"),
                to_cells: false,
                data: data.map_err(words)?,
                goal: Goal::Settled {
                    agreement: *agreement,
                    epoch: Some(*epoch),
                    t: *t,
                },
                row: Some((*agreement, from, *t)),
            })
        }
        Submission::Reading { outcome, signature } => Ok(Encoded {
            label: format!("fill the cell of t {} of {}", outcome.t, outcome.agreement),
            to_cells: true,
            data: calls::settle_reading(outcome, &aggregate(signature)?),
            goal: Goal::Cell {
                agreement: outcome.agreement,
                t: outcome.t,
            },
            row: None,
        }),
        Submission::Misbehaviour {
            agreement,
            epoch,
            t,
            evidence,
        } => {
            let known = member()?;
            let key = known.chain_key();
            let case = case(d, known, &key, *epoch, *t);
            let (node, kind, data) = report(&case, evidence)?;
            Ok(Encoded {
                label: format!("report node {node} for t {t} of {agreement}"),
                to_cells: false,
                data,
                goal: Goal::Dispute(dispute_id(
                    kind,
                    Some(agreement),
                    *epoch,
                    *t,
                    Some(&node.address()),
                )),
                row: None,
            })
        }
        Submission::Contradiction {
            sensor,
            contradiction: c,
        } => {
            let frame = |bytes| Frame::decode(bytes).map_err(|e| format!("frame of {sensor}: {e}"));
            let (first, second) = (frame(&c.first)?, frame(&c.second)?);
            let data = calls::report_sensor_contradiction(d, c.q, &first, &second);
            Ok(Encoded {
                label: format!(
                    "report that sensor {sensor} contradicts itself at q {}",
                    c.q
                ),
                to_cells: false,
                data: data.map_err(words)?,
                goal: Goal::SensorVoid {
                    sensor: *sensor,
                    q: c.q,
                },
                row: None,
            })
        }
    }
}

fn case<'a>(
    d: &'a Deployment,
    known: &'a Known,
    key: &'a calls::AgreementKey,
    epoch: u32,
    t: u64,
) -> Case<'a> {
    Case {
        deployment: d,
        key,
        terms: &known.terms,
        epoch,
        t,
    }
}

fn settle(d: &Deployment, known: &Known, settlement: &Settlement) -> Result<Vec<u8>, String> {
    Ok(match settlement {
        Settlement::Single { outcome, signature } => calls::settle(outcome, &aggregate(signature)?),
        Settlement::Batch { batch, signature } => {
            calls::settle_batch(batch, &aggregate(signature)?)
        }
        Settlement::Reveals {
            outcome,
            holes,
            signatures,
        } => calls::settle_by_reveals(
            d,
            &known.chain_key(),
            &known.terms,
            outcome,
            holes,
            signatures,
        )
        .map_err(|e| e.to_string())?,
    })
}

fn report(case: &Case<'_>, evidence: &Evidence) -> Result<(NodeId, DisputeKind, Vec<u8>), String> {
    let words = |e: diversity_chain::SignatureError| e.to_string();
    let index = |node: &NodeId| {
        let found = case.terms.node_index(node);
        found.ok_or_else(|| format!("{node} is no node of the agreement"))
    };
    Ok(match evidence {
        Evidence::Equivocation {
            node,
            first,
            second,
        } => {
            let data = calls::report_equivocation(case, index(node)?, first, second);
            (*node, DisputeKind::Equivocation, data.map_err(words)?)
        }
        Evidence::FalseOpening {
            node,
            commit,
            reveal,
            seal,
        } => {
            let data = calls::report_false_reveal(case, index(node)?, commit, seal, reveal);
            (*node, DisputeKind::FalseReveal, data.map_err(words)?)
        }
    })
}

fn aggregate(signature: &Signature) -> Result<AggregateSignature, String> {
    let ry =
        nonce_y(&signature.0).ok_or("an aggregated signature whose R is no point of the curve")?;
    Ok(AggregateSignature {
        rx_s: signature.0,
        ry,
    })
}
