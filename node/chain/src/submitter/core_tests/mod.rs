//! The outbox against a modelled chain: each test drives [`Submitter::step`] and nothing else.

use super::*;
use crate::abi::IMainContract as C;
use crate::fees::Fees;
use crate::goal::Goal;
use crate::submitter::{Precheck, Row};
use alloy::sol_types::SolError;
use diversity_proto::AgreementId;
use std::collections::VecDeque;

mod lost;
mod model;
mod pointless;
mod stuck;

use super::super::Waiting;
use model::*;

#[test]
fn a_submission_ends_in_one_report_and_the_zero_fee_chain_is_paid_nothing() {
    let mut w = World::new();
    w.look();
    w.step(Input::Submit(submission(1)));
    let (nonce, data, fees) = World::nonce_of(&w.sent[0].1);
    assert_eq!(
        (nonce, data, fees),
        (0, vec![1, 1, 2, 3], Fees::Dynamic { max_fee: 0, tip: 0 })
    );
    assert!(w.reports.is_empty());
    assert!(w.why(1).contains("was sent 1 times"), "{}", w.why(1));
    w.mine();
    w.mine();
    assert_eq!(w.mined_ids(), [id(1)]);
    // The same id again, before it is acknowledged: the same report, no second transaction.
    w.step(Input::Submit(submission(1)));
    assert_eq!(w.mined_ids(), [id(1), id(1)]);
    w.step(Input::Acknowledge(id(1)));
    w.mine();
    assert_eq!(w.sent.len(), 1);
    assert!(w.core.is_idle());
}

#[test]
fn reports_survive_a_restart_until_they_are_acknowledged() {
    let mut w = World::new();
    w.look();
    w.step(Input::Submit(submission(1)));
    w.mine();
    w.restart();
    w.step(Input::Tick);
    assert_eq!(w.mined_ids(), [id(1), id(1)]);
    w.step(Input::Acknowledge(id(1)));
    w.restart();
    w.step(Input::Tick);
    assert_eq!(w.reports.len(), 2);
}

#[test]
fn at_most_four_are_in_flight_and_all_are_mined_in_order() {
    let mut w = World::new();
    w.look();
    for n in 0..12 {
        w.step(Input::Submit(submission(n)));
    }
    assert_eq!(w.pool.len(), 4);
    for _ in 0..4 {
        w.mine();
    }
    assert_eq!(w.mined_ids(), (0..12).map(id).collect::<Vec<_>>());
    assert_eq!(w.nonce(), 12);
}

#[test]
fn a_dead_chain_is_waited_for_and_identical_bytes_are_sent_when_it_is_back() {
    let mut w = World::new();
    w.step(Input::Submit(submission(1)));
    w.step(Input::Trouble(
        "no endpoint answers: http://x: refused".into(),
    ));
    assert!(w.sent.is_empty());
    assert!(w.why(1).contains("no endpoint answers"));
    w.look();
    assert_eq!(w.sent.len(), 1);
    for _ in 0..100 {
        w.pass(3_600_000);
        w.step(Input::Trouble("no endpoint answers".into()));
    }
    // The pool is gone with the node (Besu does not save it).
    w.pool.clear();
    w.restart();
    w.look();
    w.mine();
    assert_eq!(w.mined_ids(), [id(1)]);
    let first = &w.sent[0];
    assert!(
        w.sent.len() >= 2 && w.sent.iter().all(|s| s == first),
        "identical bytes"
    );
}

#[test]
fn a_transaction_that_was_taken_and_never_mined_is_sent_again() {
    let mut w = World::new();
    w.taken = false;
    w.look();
    w.step(Input::Submit(submission(1)));
    w.mine();
    assert!(w.mined_ids().is_empty());
    w.taken = true;
    w.pass(5_000);
    w.mine();
    assert_eq!(w.mined_ids(), [id(1)]);
}

#[test]
fn known_and_nonce_too_low_are_answers_and_not_failures() {
    for refusal in [RpcError::KnownTransaction, RpcError::NonceTooLow] {
        let mut w = World::new();
        w.look();
        w.step(Input::Submit(submission(1)));
        w.refusal = Some(refusal);
        w.pass(6_000);
        assert!(w.reports.is_empty());
        w.mine();
        assert_eq!(w.mined_ids(), [id(1)]);
    }
}

#[test]
fn a_call_that_has_become_pointless_never_gets_a_nonce() {
    let mut w = World::new();
    w.outcome
        .insert(1, reverted(C::AlreadySettled { t: 1, nextT: 3 }));
    w.outcome.insert(2, reverted(C::NotUnanimous {}));
    w.next_t = Some(3);
    w.look();
    w.step(Input::Submit(owed(1)));
    w.step(Input::Submit(submission(2)));
    assert!(w.sent.is_empty());
    assert!(
        matches!(&w.reports[0].1, Report::Pointless { reason } if reason.contains("settled already"))
    );
    assert!(
        matches!(&w.reports[1].1, Report::Reverted { name, mined: None, .. } if name == "NotUnanimous")
    );
}

/// R13: an endpoint that lags or errs must not make a node forget what it owes.
#[test]
fn nothing_that_is_owed_is_dropped_by_an_answer_that_the_state_does_not_bear_out() {
    let refusals = [
        reverted(C::AlreadySettled { t: 1, nextT: 3 }),
        reverted(C::EpochNotInForce {
            given: 0,
            inForce: 2,
        }),
        reverted(C::AlreadyRecorded {
            dispute: [1; 32].into(),
        }),
        reverted(C::BeyondEnd { t: 1, end: 1 }),
        reverted(C::NotUnanimous {}),
        Precheck::Error(RpcError::Reverted {
            data: vec![],
            message: String::new(),
        }),
    ];
    for next_t in [Some(0), None] {
        for refusal in &refusals {
            let mut w = World::new();
            w.next_t = next_t;
            w.outcome.insert(1, refusal.clone());
            w.look();
            w.step(Input::Submit(owed(1)));
            for _ in 0..30 {
                w.now += 5_000;
                w.mine();
            }
            assert!(w.reports.is_empty(), "{refusal:?}: {:?}", w.reports);
            assert!(w.confirmed > 1 && w.confirmed <= 32, "{}", w.confirmed);
            assert!(!w.why(1).is_empty());
            // The endpoint comes to its senses.
            w.outcome.clear();
            for _ in 0..14 {
                w.now += 5_000;
                w.mine();
            }
            assert_eq!(w.mined_ids(), [id(1)], "{refusal:?}");
        }
    }
}

#[test]
fn what_is_final_is_not_submitted_any_more_and_what_is_signed_runs_its_course() {
    let mut w = World::new();
    for n in 1..=4 {
        w.outcome
            .insert(n, reverted(C::FromBeyondNext { from: 9, nextT: 0 }));
    }
    w.outcome.remove(&1);
    w.look();
    for n in 1..=4 {
        w.step(Input::Submit(owed(n)));
    }
    w.step(Input::Retire {
        agreement: AgreementId([2; 32]),
        t: 9,
    });
    assert!(w.reports.is_empty(), "another agreement");
    w.step(Input::Retire {
        agreement: AgreementId([1; 32]),
        t: 3,
    });
    let retired: Vec<_> = w.reports.iter().map(|(id, _)| *id).collect();
    assert_eq!(retired, [id(2), id(3)]);
    w.mine();
    assert_eq!(w.mined_ids(), [id(1)]);
    assert!(w.why(4).contains("has to settle first"), "{}", w.why(4));
}

#[test]
fn settlements_in_a_row_share_a_block_and_ask_the_chain_about_the_first_alone() {
    let mut w = World::new();
    // What the chain would say of those that stand on one that is not mined yet.
    for n in 1..=9 {
        w.outcome.insert(
            n,
            reverted(C::FromBeyondNext {
                from: n.into(),
                nextT: 0,
            }),
        );
    }
    w.look();
    for n in 0..=9 {
        w.step(Input::Submit(settlement(n)));
    }
    assert_eq!(w.pool.len(), 4, "as many as a pool takes of one sender");
    for block in 1..=3 {
        w.mine();
        assert_eq!(w.nonce(), 10.min(4 * block));
    }
    assert_eq!(w.prechecks, 1);
    w.mine();
    let nonces: Vec<_> = w
        .sent
        .iter()
        .map(|(_, raw)| World::nonce_of(raw))
        .map(|(nonce, data, _)| (nonce, data[0]))
        .collect();
    assert_eq!(nonces, (0..10).map(|n| (n, n as u8)).collect::<Vec<_>>());
    assert_eq!(w.mined_ids(), (0..10).map(id).collect::<Vec<_>>());
}

#[test]
fn one_that_does_not_stand_on_the_one_before_it_waits() {
    let mut w = World::new();
    for n in [2, 3] {
        w.outcome.insert(
            n,
            reverted(C::FromBeyondNext {
                from: n.into(),
                nextT: 0,
            }),
        );
    }
    w.look();
    w.step(Input::Submit(settlement(0)));
    // t = 1 is another node's.
    w.step(Input::Submit(settlement(2)));
    w.step(Input::Submit(settlement(3)));
    assert_eq!(w.pool.len(), 1);
    w.mine();
    w.outcome.remove(&2);
    w.mine();
    assert_eq!(w.pool.len(), 2, "t = 2, and t = 3 behind it");
    w.mine();
    assert_eq!(w.mined_ids(), [id(0), id(2), id(3)]);
}

#[test]
fn another_form_of_what_is_on_its_way_waits_for_it() {
    let mut w = World::new();
    w.look();
    w.step(Input::Submit(settlement(3)));
    // The same t under the aggregated signature, which was late; and one that stands on it.
    let late = Submission {
        row: settlement(3).row,
        goal: owed(3).goal,
        ..submission(33)
    };
    w.step(Input::Submit(late));
    w.step(Input::Submit(settlement(4)));
    assert_eq!(w.pool.len(), 2, "t = 3 once, and t = 4 behind it");
    w.outcome
        .insert(33, reverted(C::AlreadySettled { t: 3, nextT: 5 }));
    w.next_t = Some(5);
    w.mine();
    w.mine();
    assert_eq!(w.mined_ids(), [id(3), id(4)]);
    assert!(
        w.reports
            .iter()
            .any(|(i, r)| *i == id(33) && matches!(r, Report::Pointless { .. }))
    );
    assert_eq!(w.nonce(), 2, "none that reverted");
}

#[test]
fn the_newest_calldata_of_a_submission_counts_until_it_is_signed() {
    let mut w = World::new();
    w.outcome
        .insert(1, reverted(C::FromBeyondNext { from: 9, nextT: 0 }));
    w.look();
    w.step(Input::Submit(owed(1)));
    w.step(Input::Submit(Submission {
        data: vec![7; 4],
        ..owed(1)
    }));
    assert_eq!(World::nonce_of(&w.sent[0].1).1, [7; 4]);
    // Now it is signed: another one changes nothing.
    w.step(Input::Submit(Submission {
        data: vec![8; 4],
        ..owed(1)
    }));
    w.mine();
    assert_eq!((w.sent.len(), w.mined_ids()), (1, vec![id(1)]));
}

#[test]
fn what_comes_too_early_waits_for_the_next_block_and_no_longer_than_its_patience() {
    let mut w = World::new();
    w.outcome
        .insert(1, reverted(C::FromBeyondNext { from: 5, nextT: 3 }));
    w.outcome.insert(
        2,
        reverted(C::NotRegistered {
            user: [9; 20].into(),
        }),
    );
    w.look();
    w.step(Input::Submit(submission(1)));
    w.step(Input::Submit(Submission {
        patience_ms: Some(10_000),
        ..submission(2)
    }));
    assert!(
        w.why(1).contains("t = 3 has to settle first"),
        "{}",
        w.why(1)
    );
    for _ in 0..3 {
        w.now += 5_000;
        w.mine();
    }
    assert!(
        matches!(&w.reports[..], [(i, Report::Reverted { name, .. })] if *i == id(2) && name == "NotRegistered")
    );
    w.outcome.clear();
    w.mine();
    w.mine();
    assert_eq!(w.mined_ids(), [id(1)]);
}

#[test]
fn an_account_without_funds_waits_with_account_and_amount_in_words() {
    let mut w = World::new();
    w.base_fee = Some(7);
    w.balance = 10;
    w.look();
    w.step(Input::Submit(submission(1)));
    assert!(w.sent.is_empty(), "Besu would take it and never mine it");
    let why = w.why(1);
    assert!(
        why.contains(&account().address().hex()) && why.contains("10 wei"),
        "{why}"
    );
    w.balance = 1_000_000_000;
    w.mine();
    let (_, _, fees) = World::nonce_of(&w.sent[0].1);
    assert_eq!(
        fees,
        Fees::Dynamic {
            max_fee: 1_014,
            tip: 1_000
        }
    );
    w.mine();
    assert_eq!(w.mined_ids(), [id(1)]);
}

#[test]
fn chains_before_london_get_legacy_transactions() {
    let mut w = World::new();
    w.base_fee = None;
    w.balance = u128::MAX;
    w.look();
    w.step(Input::Submit(submission(1)));
    let (_, _, fees) = World::nonce_of(&w.sent[0].1);
    assert_eq!(
        fees,
        Fees::Legacy {
            gas_price: 1_000_000_000
        }
    );

    let mut w = World::new();
    w.look();
    w.refusal = Some(RpcError::TransactionType {
        message: "Invalid transaction type".into(),
    });
    w.step(Input::Submit(submission(1)));
    w.refusal = None;
    w.pass(6_000);
    let (nonce, _, fees) = World::nonce_of(&w.sent.last().unwrap().1);
    assert_eq!(
        (nonce, fees),
        (0, Fees::Legacy { gas_price: 0 }),
        "the same payload under the same nonce"
    );
    w.mine();
    assert_eq!(w.mined_ids(), [id(1)]);
}

#[test]
fn a_price_that_the_network_left_behind_is_raised_by_a_tenth_for_the_same_payload() {
    let mut w = World::new();
    w.base_fee = Some(1_000);
    w.balance = u128::MAX / 2;
    w.taken = false;
    w.look();
    w.step(Input::Submit(submission(1)));
    let old = World::nonce_of(&w.sent[0].1).2;
    w.base_fee = Some(1_000_000);
    w.pass(61_000);
    assert!(
        w.sent.iter().all(|s| *s == w.sent[0]),
        "a chain that stands still is no reason to pay more"
    );
    for _ in 0..4 {
        w.mine();
    }
    w.taken = true;
    w.pass(61_000);
    w.pass(6_000);
    let new = World::nonce_of(&w.sent.last().unwrap().1).2;
    assert!(new.most() * 10 >= old.most() * 11, "{old:?} {new:?}");
    // The first version wins all the same: it counts.
    let first = w.sent[0].0;
    w.pool.insert(0, (first, 0));
    w.mine();
    assert!(matches!(&w.reports[0].1, Report::Mined { tx, .. } if *tx == first));
}

#[test]
fn a_refused_price_raises_the_floor() {
    let mut w = World::new();
    w.balance = u128::MAX / 2;
    w.refusal = Some(RpcError::Underpriced {
        message: "Gas price below configured minimum gas price".into(),
    });
    w.look();
    w.step(Input::Submit(submission(1)));
    w.refusal = None;
    w.pass(6_000);
    let fees = World::nonce_of(&w.sent.last().unwrap().1).2;
    assert!(fees.most() >= 1_000, "{fees:?}");
}

#[test]
fn reverts_are_reported_in_words_with_or_without_a_reason_in_the_receipt() {
    for (reason, want) in [
        (None, "NotUnanimous"),
        (
            Some(
                C::BadSignature {
                    expected: [3; 20].into(),
                }
                .abi_encode(),
            ),
            "BadSignature",
        ),
    ] {
        let mut w = World::new();
        w.look();
        w.reverts.insert(0, reason);
        w.step(Input::Submit(submission(1)));
        w.mine();
        assert!(
            matches!(&w.reports[..], [(_, Report::Reverted { name, mined: Some(_), .. })] if name == want),
            "{:?}",
            w.reports
        );
    }
}

#[test]
fn a_race_that_was_lost_in_the_block_is_pointless_and_one_that_came_too_early_is_tried_again() {
    let mut w = World::new();
    w.look();
    w.reverts
        .insert(0, Some(C::AlreadySettled { t: 1, nextT: 2 }.abi_encode()));
    w.reverts.insert(
        1,
        Some(C::FromBeyondNext { from: 3, nextT: 2 }.abi_encode()),
    );
    w.next_t = Some(2);
    w.step(Input::Submit(owed(1)));
    w.step(Input::Submit(owed(2)));
    w.mine();
    w.mine();
    w.mine();
    assert!(matches!(&w.reports[0], (i, Report::Pointless { .. }) if *i == id(1)));
    assert!(matches!(&w.reports[1], (i, Report::Mined { .. }) if *i == id(2)));
    assert_eq!(w.nonce(), 3);
    // What that has cost is told and counted, the try that came too early included.
    assert_eq!(w.wasted, [25_000, 25_000]);
    let s = w.core.status();
    assert_eq!((s.wasted, s.wasted_gas, w.told_gas[1]), (2, 50_000, 50_000));
    // Also the bytes of the failed try come back if the chain loses them: nothing behind them is mined otherwise.
    for n in 1..=2 {
        w.step(Input::Acknowledge(id(n)));
    }
    w.blocks.truncate(1);
    w.mined.clear();
    w.pool.clear();
    w.reverts.clear();
    w.restart();
    w.look();
    w.mine();
    w.pass(6_000);
    w.mine();
    assert_eq!(w.nonce(), 3);
}

#[test]
fn an_address_without_code_and_too_much_gas_cost_no_nonce() {
    let mut w = World::new();
    w.outcome.insert(1, Precheck::NoCode);
    w.outcome.insert(2, Precheck::Gas(20_000_000));
    w.look();
    w.step(Input::Submit(submission(1)));
    w.step(Input::Submit(submission(2)));
    assert!(w.sent.is_empty());
    assert!(w.why(1).contains("no contract"), "{}", w.why(1));
    assert!(
        matches!(&w.reports[..], [(i, Report::Reverted { words, .. })] if *i == id(2) && words.contains("16777216"))
    );
}

#[test]
fn a_full_queue_refuses_and_a_crash_between_any_two_effects_signs_no_nonce_twice() {
    let mut w = World::with(SubmitterConfig {
        queue_max: 2,
        ..SubmitterConfig::default()
    });
    for n in 1..=3 {
        w.step(Input::Submit(submission(n)));
    }
    assert!(matches!(&w.reports[..], [(i, Report::Pointless { .. })] if *i == id(3)));

    // Crash after k effects, for every k: what was persisted is on disk, the rest never happened.
    for k in 0..60 {
        let mut w = World::new();
        let mut left = k;
        let mut inputs = vec![
            Input::Submit(submission(2)),
            Input::Submit(submission(1)),
            Input::Head {
                block: w.head(),
                suggested: None,
                rewound: false,
            },
        ];
        'run: while let Some(input) = inputs.pop() {
            for effect in w.core.step(w.now, input) {
                if left == 0 {
                    break 'run;
                }
                left -= 1;
                inputs.extend(w.execute(effect));
            }
        }
        w.restart();
        w.look();
        for n in 1..=2 {
            w.step(Input::Submit(submission(n)));
        }
        for _ in 0..4 {
            w.mine();
            w.pass(6_000);
        }
        let mut done = w.mined_ids();
        done.sort_unstable();
        done.dedup();
        assert_eq!(done, [id(1), id(2)], "crash after {k} effects");
        assert_eq!(w.nonce(), 2, "crash after {k} effects");
    }
}
