//! What belongs to an epoch, or to an agreement, that is over (design §3b; docs/protocol.md, Settlement and Holes).

mod stage;

use diversity_engine::api::Submission;
use diversity_proto::round::Body;
use diversity_proto::wire::Part;
use stage::*;
use std::cell::Cell;
use std::rc::Rc;

/// What says how a round ended, or lets a node find out.
fn ends(p: &Part, of: u64) -> bool {
    matches!(p, Part::Round { t, body: Body::Certificate { .. } | Body::Reveal { .. }, .. } if *t == of)
}
fn switch() -> (Rc<Cell<bool>>, Rc<Cell<bool>>) {
    let on = Rc::new(Cell::new(true));
    (on.clone(), on)
}
#[test]
fn two_resolutions_in_band_in_a_row_are_followed_by_a_node_that_was_behind_both() {
    let (deaf, d) = switch();
    let mut s = Stage::new(3, counts());
    let a = agreement(1);
    s.register(a, &terms(3, &[(0, 0)], EACH, 1));
    s.tamper = Box::new(move |_, to, p| {
        if to == 2 && d.get() && ends(&p, 2) {
            vec![]
        } else {
            vec![p]
        }
    });
    s.count(0..3);
    s.run(60_000);
    assert_eq!(s.chain[&a].next_t, 3);
    assert_eq!(s.status(2, &a).undecided_t, 2);
    s.resolve(&a, 3, b"agreed", &[], &[4]);
    s.resolve(&a, 4, b"agreed", &[], &[5]);
    s.run(10_000);
    deaf.set(false);
    s.count(3..7);
    s.run(60_000);
    assert_eq!(s.chain[&a].next_t, 7, "{:?}", s.status(2, &a));
}

#[test]
fn a_close_is_kept_to_by_units_that_are_cut_again_after_a_restart() {
    let mut s = Stage::new(3, counts());
    let a = agreement(1);
    s.register(a, &terms(3, &[(0, 0)], EACH, 4));
    s.chain_on = false;
    s.count(0..4);
    s.run(500);
    s.close(&a, 1);
    s.settle();
    for i in 0..3 {
        s.restart(i);
    }
    s.chain_on = true;
    s.run(60_000);
    assert_eq!(s.chain[&a].next_t, 2, "{:?}", s.chain[&a].reverted);
}

#[test]
fn what_was_submitted_under_an_epoch_that_is_over_is_submitted_again_under_the_next() {
    let mut s = Stage::new(2, counts());
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0)], EACH, 1));
    s.chain_on = false;
    s.count(0..3);
    s.run(1_000);
    s.resolve(&a, 0, b"agreed", &[], &[1]);
    s.chain_on = true;
    s.run(1_000);
    assert_eq!(
        s.chain[&a].next_t, 3,
        "nobody waits for a stage: the first submitter is alive"
    );
    let of = |(_, _, x): &(u64, usize, Submission)| match x {
        Submission::Settle { settlement, .. } if settlement.range() == (1, 1) => Some(x.id()),
        _ => None,
    };
    let ids: std::collections::BTreeSet<_> = s.submits.iter().filter_map(of).collect();
    assert_eq!(ids.len(), 2, "one name under each epoch: {ids:?}");
}

#[test]
fn a_signature_of_an_epoch_that_is_over_is_not_taken_for_that_of_the_next() {
    let (mute, m) = switch();
    mute.set(false);
    let mut s = Stage::new(2, counts());
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0)], EACH, 1));
    s.tamper = Box::new(move |_, _, p| {
        if m.get() && is_signing(&p) {
            vec![]
        } else {
            vec![p]
        }
    });
    s.chain_on = false;
    s.count(0..3);
    s.run(1_000);
    mute.set(true);
    s.resolve(&a, 0, b"agreed", &[], &[1]);
    s.run(1_500);
    for i in 0..2 {
        s.restart(i);
    }
    mute.set(false);
    s.chain_on = true;
    s.run(60_000);
    assert_eq!(s.chain[&a].next_t, 3);
}
