//! Blocks that the chain loses, and nonces that somebody else uses.

use super::*;

#[test]
fn lost_blocks_bring_back_identical_bytes_and_one_report_more_at_most() {
    let mut w = World::new();
    w.look();
    for n in 1..=3 {
        w.step(Input::Submit(submission(n)));
        w.mine();
        w.step(Input::Acknowledge(id(n)));
    }
    let before = w.sent.clone();
    assert_eq!(w.mined_ids().len(), 3);
    w.lose_blocks(2);
    assert!(w.core.status().trouble.unwrap().contains("lost blocks"));
    // A new one has to wait until the nonces before it are mined again.
    w.step(Input::Submit(submission(4)));
    w.mine();
    w.mine();
    assert_eq!(w.nonce(), 4);
    assert_eq!(w.sent[before.len()..before.len() + 2], before[1..3]);
    assert!(w.core.status().trouble.is_none());
    assert!(w.mined_ids().contains(&id(4)));
    assert!(
        !w.reports
            .iter()
            .any(|(_, r)| matches!(r, Report::Undone { .. }))
    );
}

#[test]
fn lost_blocks_while_the_node_was_down_are_noticed_after_its_start() {
    let mut w = World::new();
    w.look();
    for n in 1..=3 {
        w.step(Input::Submit(submission(n)));
        w.mine();
        w.step(Input::Acknowledge(id(n)));
    }
    w.blocks.truncate(1);
    w.mined.clear();
    w.restart();
    w.look();
    w.mine();
    assert_eq!(w.nonce(), 3);
}

#[test]
fn what_fails_after_the_chain_lost_it_is_reported_as_undone() {
    let mut w = World::new();
    w.look();
    w.step(Input::Submit(submission(1)));
    w.mine();
    w.step(Input::Acknowledge(id(1)));
    w.reverts
        .insert(0, Some(C::AlreadySettled { t: 1, nextT: 2 }.abi_encode()));
    w.lose_blocks(1);
    w.mine();
    assert!(
        matches!(w.reports.last(), Some((i, Report::Undone { .. })) if *i == id(1)),
        "{:?}",
        w.reports
    );
    // The caller decides anew, under the same id.
    w.step(Input::Acknowledge(id(1)));
    w.step(Input::Submit(submission(1)));
    w.mine();
    assert_eq!(w.mined_ids(), [id(1), id(1)]);
    assert_eq!(w.nonce(), 2);
}

#[test]
fn what_others_have_settled_after_the_chain_lost_it_is_pointless() {
    let mut w = World::new();
    w.look();
    w.step(Input::Submit(owed(1)));
    w.mine();
    w.step(Input::Acknowledge(id(1)));
    w.reverts
        .insert(0, Some(C::AlreadySettled { t: 1, nextT: 2 }.abi_encode()));
    w.next_t = Some(2);
    w.lose_blocks(1);
    w.mine();
    assert!(
        matches!(w.reports.last(), Some((i, Report::Pointless { .. })) if *i == id(1)),
        "{:?}",
        w.reports
    );
}

#[test]
fn what_comes_back_before_what_it_stood_on_is_tried_again_by_itself() {
    let mut w = World::new();
    w.look();
    w.step(Input::Submit(submission(1)));
    w.mine();
    w.step(Input::Acknowledge(id(1)));
    // The settlement before this one was another node's, and that node is slower to bring it back.
    w.reverts.insert(
        0,
        Some(C::FromBeyondNext { from: 1, nextT: 0 }.abi_encode()),
    );
    w.lose_blocks(1);
    for _ in 0..3 {
        w.mine();
    }
    assert_eq!(w.mined_ids(), [id(1), id(1)]);
    assert_eq!(w.nonce(), 2);
    assert!(
        !w.reports
            .iter()
            .any(|(_, r)| matches!(r, Report::Undone { .. }))
    );
}

#[test]
fn a_chain_that_lost_more_than_is_kept_is_refused_in_words() {
    let mut w = World::with(SubmitterConfig {
        retain_blocks: 2,
        ..SubmitterConfig::default()
    });
    w.look();
    w.step(Input::Submit(submission(1)));
    w.mine();
    w.step(Input::Acknowledge(id(1)));
    for _ in 0..5 {
        w.mine();
    }
    w.mined.clear();
    w.blocks.truncate(1);
    w.look();
    w.step(Input::Submit(submission(2)));
    let trouble = w.core.status().trouble.unwrap();
    assert!(
        trouble.contains("lost more blocks") && trouble.contains("restore the chain"),
        "{trouble}"
    );
    assert_eq!(w.sent.len(), 1, "no nonce is signed for a second payload");
}

#[test]
fn a_store_of_another_chain_or_account_is_refused_in_words() {
    let mut w = World::new();
    w.look();
    let entries: Vec<_> = w.disk.clone().into_iter().collect();
    let other = ChainIdentity {
        genesis: Digest([2; 32]),
        ..CHAIN
    };
    let text = Submitter::load(SubmitterConfig::default(), other, account(), &entries)
        .err()
        .unwrap()
        .to_string();
    assert!(
        text.contains(&Digest([2; 32]).hex()) && text.contains("empty store"),
        "{text}"
    );
    let stranger = Account::from_secret(&[8; 32]).unwrap();
    assert!(Submitter::load(SubmitterConfig::default(), CHAIN, stranger, &entries).is_err());
}

#[test]
fn a_nonce_that_somebody_else_used_up_costs_the_payload_another_one() {
    let mut w = World::new();
    w.taken = false;
    w.look();
    w.step(Input::Submit(submission(1)));
    // Another program of the same account was faster.
    w.mined.insert(0, (Digest([0xaa; 32]), 11));
    w.taken = true;
    for _ in 0..8 {
        w.mine();
        w.pass(6_000);
    }
    assert_eq!(w.mined_ids(), [id(1)]);
    assert_eq!(World::nonce_of(&w.sent.last().unwrap().1).0, 1);
}

#[test]
fn a_gap_that_is_not_ours_is_filled_from_latest() {
    let mut w = World::new();
    w.mined.insert(0, (Digest([0xaa; 32]), 10));
    w.look();
    w.step(Input::Submit(submission(1)));
    assert_eq!(World::nonce_of(&w.sent[0].1).0, 1);
    // The chain loses the block with the stranger's transaction, and nobody sends that again.
    w.mined.clear();
    w.pool.clear();
    w.blocks.pop();
    w.blocks.push((9, Digest([9; 32])));
    w.look();
    for _ in 0..4 {
        w.pass(6_000);
        w.mine();
    }
    assert_eq!(w.mined_ids(), [id(1)], "and the filler has no report");
    assert_eq!(w.nonce(), 2);
}

#[test]
fn confirmations_are_waited_for() {
    let mut w = World::with(SubmitterConfig {
        confirmations: 2,
        ..SubmitterConfig::default()
    });
    w.look();
    w.step(Input::Submit(submission(1)));
    w.mine();
    assert!(w.why(1).contains("confirmations"), "{}", w.why(1));
    w.lose_blocks(1);
    w.mine();
    w.mine();
    assert!(w.reports.is_empty());
    w.mine();
    assert_eq!(w.mined_ids(), [id(1)]);
}
