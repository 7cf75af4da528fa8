//! What was of no use because others had done it, and is owed again when the chain takes that back (R13).

use super::*;

/// t = 1 is settled by somebody else before this node has sent anything.
fn overtaken() -> World {
    let mut w = World::new();
    w.outcome
        .insert(1, reverted(C::AlreadySettled { t: 1, nextT: 2 }));
    w.next_t = Some(2);
    w.look();
    w.step(Input::Submit(owed(1)));
    assert!(
        matches!(w.reports[..], [(_, Report::Pointless { .. })]),
        "{:?}",
        w.reports
    );
    w.step(Input::Acknowledge(id(1)));
    w
}

/// The chain loses the block in which t = 1 was settled, and nobody brings it back.
fn taken_back(w: &mut World) {
    w.outcome.clear();
    w.next_t = Some(1);
}

#[test]
fn what_others_had_settled_is_sent_when_the_chain_has_lost_it() {
    let mut w = overtaken();
    w.mine();
    taken_back(&mut w);
    w.lose_blocks(1);
    w.mine();
    assert_eq!(w.mined_ids(), [id(1)]);
}

#[test]
fn a_rewind_that_was_overgrown_between_two_looks_or_during_a_restart_is_noticed_too() {
    let mut w = overtaken();
    w.mine();
    taken_back(&mut w);
    // The head is beyond the one that was known, on another branch.
    w.fork ^= 0x80;
    let head = w.blocks.len() - 1;
    w.blocks[head].1 = Digest([0xee; 32]);
    for _ in 0..3 {
        let number = w.blocks.last().unwrap().0 + 1;
        w.blocks.push((number, Digest([number as u8 ^ 0x80; 32])));
    }
    let mut restarted = overtaken();
    taken_back(&mut restarted);
    restarted.restart();
    w.step(Input::Head {
        block: w.head(),
        suggested: None,
        rewound: true,
    });
    restarted.look();
    for mut w in [w, restarted] {
        w.mine();
        assert_eq!(w.mined_ids(), [id(1)]);
    }
}

#[test]
fn what_the_chain_says_is_asked_until_it_answers_and_is_not_asked_without_a_reason() {
    let mut w = overtaken();
    let asked = w.confirmed;
    for _ in 0..5 {
        w.mine();
    }
    assert_eq!(w.confirmed, asked, "no block was lost");
    taken_back(&mut w);
    w.next_t = None;
    w.lose_blocks(1);
    w.mine();
    assert!(w.confirmed > asked && w.mined_ids().is_empty());
    w.next_t = Some(1);
    w.pass(6_000);
    w.mine();
    assert_eq!(w.mined_ids(), [id(1)]);
}

#[test]
fn bytes_of_a_pointless_one_that_took_effect_after_all_are_owed_when_that_is_lost_in_its_turn() {
    let mut w = World::new();
    w.look();
    // Sent, and mined behind the settlement of somebody else.
    w.step(Input::Submit(owed(1)));
    w.reverts
        .insert(0, Some(C::AlreadySettled { t: 1, nextT: 2 }.abi_encode()));
    w.next_t = Some(2);
    w.mine();
    assert!(matches!(w.reports[..], [(_, Report::Pointless { .. })]));
    w.step(Input::Acknowledge(id(1)));
    // Both are lost; this time ours comes first, and has its effect.
    w.reverts.clear();
    w.lose_blocks(1);
    w.mine();
    // That is lost too, and now it comes before what it stands on.
    w.reverts.insert(
        0,
        Some(C::FromBeyondNext { from: 1, nextT: 0 }.abi_encode()),
    );
    w.next_t = Some(0);
    w.lose_blocks(1);
    for _ in 0..4 {
        w.mine();
    }
    assert_eq!(w.mined_ids(), [id(1)], "{:?}", w.reports);
    assert_eq!(w.nonce(), 2);
}

#[test]
fn it_is_kept_as_long_as_what_was_mined_and_no_longer() {
    let mut w = overtaken();
    assert_eq!(w.disk.len(), 2, "with the meta record");
    for _ in 0..=w.core.config.retain_blocks + 1 {
        w.mine();
    }
    assert_eq!(w.disk.len(), 1);
    // What has no goal cannot be owed again.
    let mut w = World::new();
    w.outcome.insert(1, reverted(C::NotUnanimous {}));
    w.look();
    w.step(Input::Submit(submission(1)));
    w.step(Input::Acknowledge(id(1)));
    assert_eq!(w.disk.len(), 1);
}
