//! What is refused, or accepted and never mined, is named at once, with what to do.

use super::*;

#[test]
fn an_empty_account_is_a_problem_until_it_is_funded_whatever_blocks_come() {
    let mut w = World::new();
    w.base_fee = Some(7);
    w.balance = 10;
    w.look();
    w.step(Input::Submit(owed(1)));
    for _ in 0..3 {
        let stuck = w.stuck();
        assert_eq!(stuck.len(), 1);
        assert!(
            stuck[0].why.contains("send it at least"),
            "{}",
            stuck[0].why
        );
        assert_eq!(stuck[0].agreement, Some(AgreementId([1; 32])));
        w.mine();
    }
    w.balance = 1_000_000_000;
    w.mine();
    assert!(w.stuck().is_empty());
}

#[test]
fn a_refusal_that_lasts_is_a_problem_and_one_that_a_higher_price_mends_is_none() {
    let refused = RpcError::Underpriced {
        message: "Gas price below configured minimum gas price".into(),
    };
    let mut w = World::new();
    w.base_fee = Some(7);
    w.balance = 1_000_000_000_000_000;
    w.refusal = Some(refused.clone());
    w.look();
    w.step(Input::Submit(submission(1)));
    w.refusal = None;
    w.pass(6_000);
    assert!(w.stuck().is_empty());
    w.mine();
    w.mine();
    assert_eq!(w.mined_ids(), [id(1)]);

    // The limit of the settings stands in the way of a better price.
    let mut config = SubmitterConfig::default();
    config.fees.max_gas_price = 1_000;
    let mut w = World::with(config);
    w.base_fee = Some(7);
    w.balance = 1_000_000_000_000_000;
    w.refusal = Some(refused);
    w.look();
    w.step(Input::Submit(submission(1)));
    let stuck = w.stuck();
    assert!(stuck[0].why.contains("min_gas_price"), "{}", stuck[0].why);
    assert!(stuck[0].why.contains("max_gas_price"), "{}", stuck[0].why);

    for refusal in [
        RpcError::InsufficientFunds {
            message: "Upfront cost exceeds account balance".into(),
        },
        RpcError::Refused {
            code: -32099,
            message: "words that nobody knows".into(),
        },
        RpcError::FeeCap {
            message: "Transaction fee cap exceeded".into(),
        },
    ] {
        let mut w = World::new();
        w.refusal = Some(refusal.clone());
        w.look();
        w.step(Input::Submit(submission(1)));
        assert_eq!(w.stuck().len(), 1, "{refusal:?}");
        w.refusal = None;
        w.pass(6_000);
        assert!(w.stuck().is_empty(), "{refusal:?}");
    }
}

#[test]
fn what_is_accepted_and_never_mined_is_a_problem_after_some_blocks() {
    let mut w = World::new();
    w.taken = false;
    w.look();
    w.step(Input::Submit(submission(1)));
    w.step(Input::Submit(submission(2)));
    for _ in 0..9 {
        w.mine();
    }
    assert!(w.stuck().is_empty());
    w.mine();
    let stuck = w.stuck();
    // Only the first in line: the other one waits for it.
    assert_eq!((stuck.len(), stuck[0].id), (1, id(1)));
    assert!(
        stuck[0].why.contains("10 blocks have passed") && stuck[0].why.contains("min_gas_price"),
        "{}",
        stuck[0].why
    );
    // The account was emptied meanwhile: that is the reason then.
    let mut w = World::new();
    w.taken = false;
    w.base_fee = Some(7);
    w.balance = 1_000_000_000;
    w.look();
    w.step(Input::Submit(submission(1)));
    w.balance = 5;
    for _ in 0..12 {
        w.mine();
    }
    let why = &w.stuck()[0].why;
    assert!(
        why.contains("has 5 wei") && why.contains("send the account"),
        "{why}"
    );
    // A chain that stands still is the chain's trouble, not the transaction's.
    w.step(Input::Trouble("it is down".into()));
    assert!(w.stuck().is_empty());
}

#[test]
fn what_the_contract_refuses_as_wrong_is_told_apart() {
    let mut w = World::new();
    w.outcome.insert(1, reverted(C::NotUnanimous {}));
    w.outcome.insert(2, Precheck::NoCode);
    w.look();
    w.step(Input::Submit(owed(1)));
    w.step(Input::Submit(owed(2)));
    let stuck: Vec<_> = w.stuck().iter().map(|s| s.by_contract).collect();
    assert_eq!(stuck, [true, false]);
}

#[test]
fn a_problem_comes_before_a_long_queue() {
    let mut w = World::new();
    w.outcome.insert(200, Precheck::NoCode);
    for n in 1..=150 {
        w.step(Input::Submit(submission(n)));
    }
    w.step(Input::Submit(submission(200)));
    w.look();
    for _ in 0..60 {
        w.mine();
    }
    assert_eq!(w.core.status().waiting[0].id, id(200));
}

#[test]
fn what_no_pool_takes_for_its_size_ends_in_words_and_holds_nothing_up() {
    let mut w = World::new();
    w.refusal = Some(RpcError::Oversized {
        message: "oversized data: transaction size 160034, limit 131072".into(),
    });
    w.look();
    w.step(Input::Submit(submission(1)));
    assert!(
        matches!(&w.reports[..], [(i, Report::Reverted { words, mined: None, .. })] if *i == id(1) && words.contains("limit 131072")),
        "{:?}",
        w.reports
    );
    w.refusal = None;
    // Nobody has those bytes: the nonce is that of the next one.
    w.sent.clear();
    w.step(Input::Submit(submission(2)));
    w.mine();
    w.mine();
    assert_eq!((w.mined_ids(), w.nonce()), (vec![id(2)], 1));
}
