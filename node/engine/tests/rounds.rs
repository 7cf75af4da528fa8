//! Blame, halting and finality follow from signed bytes alone (R12), and what comes late ends as it would have in time.

mod stage;

use diversity_engine::Input;
use diversity_engine::api::{Notice, Submission};
use diversity_proto::round::{Body, Commit, OutputKind};
use diversity_proto::wire::Part;
use diversity_proto::{Digest, Signature};
use stage::*;
use std::cell::RefCell;
use std::rc::Rc;

/// Node 2 alters the secret of the reveal of node `whose(to)` in each certificate that it sends.
fn altered_secret(whose: fn(usize) -> usize) -> Tamper {
    Box::new(move |from, to, mut p| {
        if let Part::Round {
            body: Body::Certificate { reveals, .. },
            ..
        } = &mut p
            && from == 2
        {
            reveals[whose(to)].blinding.secret[0] ^= 1;
        }
        vec![p]
    })
}

#[test]
fn a_certificate_whose_unsigned_secret_was_altered_halts_and_names_nobody_honest() {
    for whose in [(|to| to) as fn(usize) -> usize, |to| 1 - to] {
        let mut s = Stage::new(3, counts());
        let a = agreement(1);
        s.register(a, &terms(3, &[(0, 0)], EACH, 1));
        s.tamper = altered_secret(whose);
        s.count(0..5);
        s.run(60_000);
        assert!(!s.halted());
        assert!(s.blamed().iter().all(|n| *n == node(2)), "{:?}", s.blamed());
        assert_eq!(s.chain[&a].next_t, 5, "the others go on without it");
    }
}

/// Another commit that node i signs for t.
fn second_commit(i: usize, t: u64) -> Part {
    let a = agreement(1);
    let at = subject(&a, 0, t);
    let mut commit = Commit {
        commitment: Digest([5; 32]),
        opening: Digest([6; 32]),
        signature: Signature([0; 64]),
    };
    let key = diversity_proto::PublicKey([i as u8 + 1; 33]);
    commit.signature = sign(&key, &commit.digest(&at, &node(i)));
    Part::Round {
        agreement: a,
        epoch: 0,
        t,
        body: Body::Commit { commit },
    }
}
fn accused(s: &Stage) -> usize {
    let is = |x: &&(u64, usize, Submission)| matches!(x.2, Submission::Misbehaviour { .. });
    s.submits.iter().filter(is).count()
}

#[test]
fn a_second_commit_is_evidence_before_and_after_the_decision_and_closes_no_door() {
    for late in [false, true] {
        let mut s = Stage::new(3, counts());
        let a = agreement(1);
        s.register(a, &terms(3, &[(0, 0)], EACH, 1));
        let hold = Rc::new(RefCell::new(!late));
        let held = hold.clone();
        // Node 2 withholds its reveals, and what would carry them.
        s.tamper = Box::new(move |from, _, p| {
            let reveals = matches!(
                p,
                Part::Round {
                    body: Body::Reveal { .. } | Body::Certificate { .. },
                    ..
                }
            );
            if from == 2 && reveals && *held.borrow() {
                vec![]
            } else {
                vec![p]
            }
        });
        s.count(0..1);
        s.run(300);
        s.forge(2, 0, second_commit(2, 0));
        s.run(300);
        assert_eq!(accused(&s), 1, "late {late}");
        *hold.borrow_mut() = false;
        s.count(1..4);
        s.run(60_000);
        for i in 0..3 {
            assert_eq!(s.status(i, &a).undecided_t, 4, "late {late}, node {i}");
            assert_eq!(s.status(i, &a).blocked, None);
        }
        assert_eq!(s.chain[&a].next_t, 4);
        assert!(s.chain[&a].holes.is_empty());
    }
}

#[test]
fn evidence_against_a_node_is_owed_until_the_outbox_has_it() {
    let mut s = Stage::new(3, counts());
    let a = agreement(1);
    s.register(a, &terms(3, &[(0, 0)], EACH, 1));
    s.outbox_on = false;
    s.count(0..1);
    s.run(300);
    s.forge(2, 0, second_commit(2, 0));
    s.run(300);
    assert_eq!(accused(&s), 1);
    // Neither a restart nor an outbox that fails loses it.
    s.restart(0);
    s.run(1_000);
    assert_eq!(accused(&s), 2);
    s.run(40_000);
    assert_eq!(accused(&s), 3);
    s.outbox_on = true;
    s.run(40_000);
    let taken = accused(&s);
    s.run(400_000);
    s.restart(0);
    s.run(400_000);
    assert_eq!(accused(&s), taken, "once taken it is owed no more");
}

#[test]
fn an_old_store_halts_only_over_two_signed_statements() {
    let mut s = Stage::new(3, counts());
    let a = agreement(1);
    s.register(a, &terms(3, &[(0, 0)], EACH, 1));
    s.count(0..1);
    s.run(5_000);
    let backup = s.store[0].clone();
    s.count(1..4);
    s.run(5_000);
    // The same frames give the same bytes again: an old backup alone contradicts nothing.
    s.store[0] = backup;
    s.restart(0);
    s.run(60_000);
    assert!(!s.halted());
    assert_eq!(s.status(0, &a).undecided_t, 4);
}

#[test]
fn an_old_store_that_computes_otherwise_halts_and_the_others_know_why() {
    let other = Rc::new(RefCell::new(false));
    let o = other.clone();
    let mut s = Stage::new(
        3,
        Box::new(move |i, t, _, _| {
            let lie = u8::from(i == 0 && *o.borrow());
            (OutputKind::Value, vec![t as u8, lie], vec![])
        }),
    );
    let a = agreement(1);
    s.register(a, &terms(3, &[(0, 0)], EACH, 1));
    s.count(0..1);
    s.run(5_000);
    let backup = s.store[0].clone();
    s.count(1..3);
    s.run(5_000);
    s.store[0] = backup;
    *other.borrow_mut() = true;
    s.restart(0);
    s.run(60_000);
    let halted = |n: &(u64, usize, Notice)| n.1 == 0 && matches!(n.2, Notice::Halted { .. });
    assert!(s.notices.iter().any(halted));
    assert!(s.status(0, &a).halted.is_some());
}

#[test]
fn unverified_messages_call_for_little() {
    let mut s = Stage::new(
        2,
        Box::new(|_, _, _, _| (OutputKind::Value, vec![7; 4_000], vec![])),
    );
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0)], EACH, 1));
    s.count(0..1);
    s.run(2_000);
    let before = s.stored_sent;
    let commit = Commit {
        commitment: Digest([5; 32]),
        opening: Digest([6; 32]),
        signature: Signature([0; 64]),
    };
    for _ in 0..1_024 {
        let part = Part::Round {
            agreement: a,
            epoch: 0,
            t: 0,
            body: Body::Commit { commit },
        };
        s.input(
            0,
            Input::Message {
                from: node(1),
                parts: vec![part],
            },
        );
        let want = Part::Want {
            agreement: a,
            from_t: 0,
        };
        s.input(
            0,
            Input::Message {
                from: node(1),
                parts: vec![want],
            },
        );
    }
    s.settle();
    assert!(
        s.stored_sent - before <= 1,
        "{} records sent",
        s.stored_sent - before
    );
}
