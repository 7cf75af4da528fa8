//! What an agreement may cost a node in a day: beyond it settlement waits, owed (P-BUDGET-1).

mod stage;

use diversity_engine::api::{Notice, Submission};
use stage::*;

/// Who submits what ends at t first, sixteen t in a row: node 0 for all of these tests.
const T: u64 = 12;

fn one_a_window(gas_per_day: u64) -> (Stage, diversity_proto::AgreementId) {
    let mut s = Stage::with_budget(2, counts(), gas_per_day);
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0)], EACH, 1));
    (s, a)
}
/// Settlements that node `i` handed to its outbox.
fn submitted(s: &Stage, i: usize) -> usize {
    let is = |x: &&(u64, usize, Submission)| x.1 == i && matches!(x.2, Submission::Settle { .. });
    s.submits.iter().filter(is).count()
}
fn told(s: &Stage) -> usize {
    let is = |n: &&(u64, usize, Notice)| matches!(n.2, Notice::GasBudget { .. });
    s.notices.iter().filter(is).count()
}

#[test]
fn beyond_the_budget_settlement_waits_and_goes_on_the_next_day() {
    // Each node may pay for three settlements a day (the third begins below the bound).
    let (mut s, a) = one_a_window(80_000);
    s.count(0..T);
    s.run(3_600_000);
    let next = s.chain[&a].next_t;
    assert!(
        (4..=6).contains(&next),
        "two nodes pay for three each: {next}"
    );
    assert_eq!(s.status(0, &a).undecided_t, T, "rounds go on meanwhile");
    for i in 0..2 {
        let gas = s.status(i, &a).gas.expect("it waits");
        assert!(
            gas.used >= 80_000 && gas.used < 80_000 + 2 * s.gas,
            "{gas:?}"
        );
        assert_eq!((gas.per_day, gas.until % DAY_MS), (80_000, 0));
    }
    assert_eq!(told(&s), 2, "each node says it once");
    s.run(5 * DAY_MS);
    assert_eq!(s.chain[&a].next_t, T, "nothing is forgotten");
    assert_eq!(s.status(0, &a).gas, None);
    assert!(s.chain[&a].reverted.is_empty());
}

#[test]
fn what_waits_and_what_was_spent_survive_a_restart() {
    let (mut s, a) = one_a_window(80_000);
    s.count(0..T);
    s.run(3_600_000);
    let next = s.chain[&a].next_t;
    for _ in 0..4 {
        for i in 0..2 {
            s.restart(i);
        }
        s.run(600_000);
    }
    assert_eq!(s.chain[&a].next_t, next, "a restart is no new day");
    s.run(5 * DAY_MS);
    assert_eq!(s.chain[&a].next_t, T);
}

#[test]
fn what_is_on_its_way_is_counted_before_it_is_mined() {
    let (mut s, a) = one_a_window(80_000);
    s.chain_on = false;
    s.count(0..T);
    s.run(20_000);
    assert_eq!(submitted(&s, 0), 2, "the estimates of two reach the bound");
    assert!(s.status(0, &a).gas.is_some());
}

#[test]
fn what_has_settled_is_counted_before_its_receipt() {
    let (mut s, a) = one_a_window(1);
    s.receipts_on = false;
    s.count(0..T);
    s.run(600_000);
    let next = s.chain[&a].next_t;
    assert!((1..=2).contains(&next), "each node pays for one: {next}");
    for i in 0..2 {
        assert_eq!(submitted(&s, i), 1, "node {i}");
    }
    s.receipts_arrive();
    s.run(600_000);
    assert_eq!(s.chain[&a].next_t, next, "a receipt frees nothing");
    assert_eq!(s.status(0, &a).gas.expect("it waits").used, s.gas);
}

#[test]
fn what_another_node_has_settled_is_not_counted_once_it_has_ended() {
    let (mut s, a) = one_a_window(100_000);
    // The outbox of neither takes anything: estimates alone.
    s.outbox_on = false;
    s.count(0..T);
    s.run(20_000);
    let gas = s.status(0, &a).gas.expect("the estimates reach the bound");
    assert!(gas.used >= 100_000);
    // The other one settles all; this one's outbox drops what it had.
    let all: Vec<_> = s.submits.iter().map(|x| x.2.clone()).collect();
    s.outbox_on = true;
    for submission in &all {
        s.mine(submission);
    }
    s.settle();
    assert!(s.chain[&a].next_t >= 3);
    s.run(3_600_000);
    for i in 0..2 {
        let used = s.status(i, &a).gas.map_or(0, |gas| gas.used);
        assert!(used < 100_000 + 2 * s.gas, "node {i}: {used}");
    }
    assert!(s.chain[&a].next_t > 3, "it pays for others now");
}

#[test]
fn a_budget_below_one_settlement_settles_one_a_day() {
    let (mut s, a) = one_a_window(1);
    s.count(0..2);
    s.run(DAY_MS / 2);
    let next = s.chain[&a].next_t;
    assert!(next >= 1, "{next}");
    s.run(2 * DAY_MS);
    assert_eq!(s.chain[&a].next_t, 2);
}

#[test]
fn evidence_and_other_agreements_do_not_wait() {
    let (mut s, a) = one_a_window(1);
    let b = agreement(2);
    s.register(b, &terms(2, &[(1, 0)], EACH, 1));
    s.count(0..2);
    s.run(60_000);
    s.frames(1, &[frame(1, 0, &[(5_000, 1)])]);
    s.frames(0, &[frame(0, 0, &[(1_000, 7)])]);
    s.run(60_000);
    assert_eq!(s.chain[&b].next_t, 1);
    let contradiction =
        |x: &(u64, usize, Submission)| matches!(x.2, Submission::Contradiction { .. });
    assert!(s.submits.iter().any(contradiction));
    assert!(
        s.status(0, &a).gas.is_some() || s.status(1, &a).gas.is_some() || s.chain[&a].next_t == 2
    );
}
