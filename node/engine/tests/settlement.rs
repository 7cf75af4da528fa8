//! n signed reveals always settle (docs/protocol.md, Settlement).

mod stage;

use diversity_engine::Input;
use diversity_engine::api::{ChainEvent, Resolution, Submission};
use diversity_engine::records::{FINAL, FinalRecord, t_key};
use diversity_proto::Digest;
use diversity_proto::round::{OutputKind, Session};
use diversity_proto::terms::Leader;
use diversity_proto::wire::Part;
use stage::*;

fn nonce(a: diversity_proto::AgreementId, from: u64, t: u64, attempt: u32) -> Part {
    Part::Nonce {
        session: Session {
            agreement: a,
            from,
            t,
            attempt,
        },
        nonce: [9; 66],
    }
}
/// Node 2 takes no part in signing.
fn saboteur() -> Tamper {
    Box::new(|from, _, p| {
        if from == 2 && is_signing(&p) {
            vec![]
        } else {
            vec![p]
        }
    })
}

#[test]
fn whoever_refuses_to_sign_or_bumps_attempts_only_makes_it_dearer() {
    for bumps in [false, true] {
        let mut s = Stage::new(3, counts());
        let a = agreement(1);
        s.register(a, &terms(3, &[(0, 0)], EACH, 1));
        s.tamper = saboteur();
        s.count(0..1);
        s.run(500);
        let mut attempt = 1;
        while s.now < START + 60_000 {
            if bumps {
                for to in 0..2 {
                    s.forge(2, to, nonce(a, 0, 0, attempt));
                }
                attempt += 1;
            }
            s.run(900);
        }
        assert_eq!(s.chain[&a].settled, [(0, 0, true)], "bumps {bumps}");
        assert!(s.chain[&a].reverted.is_empty());
    }
}

#[test]
fn bumped_attempts_cost_neither_memory_nor_nonces() {
    let mut s = Stage::new(3, counts());
    let a = agreement(1);
    s.register(a, &terms(3, &[(0, 0)], EACH, 1));
    s.tamper = saboteur();
    s.count(0..1);
    s.run(500);
    let before = s.nonces_drawn;
    for round in 0..200u32 {
        let parts = (1..1_000)
            .map(|x| nonce(a, 0, 0, round * 1_000 + x))
            .collect();
        s.input(
            0,
            Input::Message {
                from: node(2),
                parts,
            },
        );
        s.settle();
    }
    assert!(
        s.nonces_drawn - before <= 2,
        "each other node joins once: {}",
        s.nonces_drawn - before
    );
    // Ranges that nobody is near are not kept either: every one of them would call for a nonce or a slot.
    for x in 0..10_000u64 {
        s.input(
            0,
            Input::Message {
                from: node(2),
                parts: vec![nonce(a, x * 7, x * 9 + 1_000, 0)],
            },
        );
    }
    s.settle();
    assert!(s.nonces_drawn - before <= 2);
}

#[test]
fn a_range_that_could_not_settle_is_never_signed_whoever_proposes_it() {
    let f: F = Box::new(|_, t, _, _| match t {
        0 | 3 => (OutputKind::Value, vec![t as u8], vec![]),
        _ => (OutputKind::Null, vec![], vec![]),
    });
    let mut s = Stage::new(3, f);
    let a = agreement(1);
    s.register(a, &terms(3, &[(0, 0)], EACH, 4));
    s.count(0..3);
    s.run(10_000);
    assert_eq!(s.chain[&a].next_t, 1, "t=0 has settled; 1 and 2 are null");
    let before = s.nonces_drawn;
    for to in 0..3 {
        s.forge((to + 1) % 3, to, nonce(a, 1, 2, 0));
    }
    s.run(30_000);
    assert_eq!(
        s.nonces_drawn, before,
        "a unit that ends in a null would settle nothing"
    );
    s.tamper = saboteur();
    s.count(3..4);
    s.run(60_000);
    assert_eq!(s.chain[&a].next_t, 4);
    assert!(
        s.chain[&a].reverted.is_empty(),
        "{:?}",
        s.chain[&a].reverted
    );
}

#[test]
fn nodes_that_cut_batches_at_different_times_meet_in_the_shorter_one() {
    let mut s = Stage::new(3, counts());
    let a = agreement(1);
    s.register(a, &terms(3, &[(0, 0)], EACH, 4));
    s.chain_on = false;
    s.count(0..2);
    s.run(20);
    // Node 0 is asked for (0, 1) before it would have cut; the others have cut nothing yet.
    s.forge(1, 0, nonce(a, 0, 1, 0));
    s.run(20);
    s.count(2..4);
    s.run(10_000);
    s.chain_on = true;
    for i in 0..3 {
        s.restart(i);
    }
    s.run(60_000);
    assert_eq!(s.chain[&a].next_t, 4, "{:?}", s.chain[&a].settled);
    assert!(
        s.chain[&a].settled.iter().all(|x| !x.2),
        "nobody had to fall back: {:?}",
        s.chain[&a].settled
    );
}

#[test]
fn what_is_final_is_not_hidden_by_what_is_recorded_later() {
    let mut s = Stage::new(2, counts());
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0)], EACH, 1));
    s.count(0..3);
    s.run(10_000);
    assert_eq!(s.chain[&a].next_t, 3);
    let before = s.store[0].clone();
    // The chain is read again from far back, in other words.
    s.all(Input::Chain(ChainEvent::Settled {
        agreement: a,
        from: 0,
        t: 0,
        epoch: 0,
        tx: Digest([7; 32]),
        gas_used: 2,
        outcomes: 1,
    }));
    s.settle();
    assert_eq!(s.store[0], before, "what made it final stays");
    s.restart(0);
    s.run(10_000);
    assert_eq!(s.status(0, &a).unsettled_t, 3, "no counter goes back");
}

#[test]
fn what_made_a_t_final_is_not_rewritten_by_a_batch_that_overlaps_it() {
    let mut s = Stage::new(2, counts());
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0)], EACH, 1));
    let settled = |from, t, tx, outcomes| {
        Input::Chain(ChainEvent::Settled {
            agreement: a,
            from,
            t,
            epoch: 0,
            tx: Digest([tx; 32]),
            gas_used: u64::from(tx),
            outcomes,
        })
    };
    let made = |s: &Stage, t| match FinalRecord::decode(&s.store[0][&t_key(FINAL, &a, t)]) {
        Ok(FinalRecord::Settled {
            tx,
            gas_used,
            outcomes,
            ..
        }) => (tx.0[0], gas_used, outcomes),
        other => panic!("t = {t}: {other:?}"),
    };
    s.all(settled(0, 1, 1, 2));
    // A hole and its door, and a batch that covers all of it and more.
    s.all(Input::Chain(ChainEvent::Hole {
        agreement: a,
        t: 2,
        epoch: 0,
        dispute: Digest([9; 32]),
        tx: Digest([2; 32]),
    }));
    s.all(settled(0, 4, 3, 5));
    s.settle();
    let first = s.store[0].clone();
    // Everything is told again, one by one, after a restart too.
    for restart in [false, true] {
        if restart {
            s.restart(0);
        }
        s.all(settled(0, 4, 7, 5));
        s.all(settled(0, 1, 7, 9));
        s.all(Input::Chain(ChainEvent::Hole {
            agreement: a,
            t: 1,
            epoch: 0,
            dispute: Digest([7; 32]),
            tx: Digest([7; 32]),
        }));
        s.settle();
        assert_eq!(s.store[0], first, "restart {restart}");
    }
    assert_eq!((made(&s, 0), made(&s, 1)), ((1, 1, 2), (1, 1, 2)));
    assert_eq!((made(&s, 3), made(&s, 4)), ((3, 3, 5), (3, 3, 5)));
    assert!(matches!(
        FinalRecord::decode(&s.store[0][&t_key(FINAL, &a, 2)]),
        Ok(FinalRecord::Hole { .. })
    ));
    // What the users said in band stands likewise.
    s.chain.get_mut(&a).expect("registered").next_t = 5;
    s.resolve(&a, 5, b"agreed", &[], &[6]);
    s.settle();
    let first = s.store[0].clone();
    s.all(settled(0, 5, 7, 1));
    s.all(Input::Chain(ChainEvent::Resolved {
        agreement: a,
        t: 4,
        epoch: 2,
        resolution: Resolution {
            kind: OutputKind::Null,
            result: vec![],
            state: Digest::ZERO,
            carry: vec![],
            q_next: vec![],
        },
        tx: Digest([7; 32]),
    }));
    s.settle();
    assert_eq!(
        s.store[0][&t_key(FINAL, &a, 5)],
        first[&t_key(FINAL, &a, 5)]
    );
    assert_eq!(
        s.store[0][&t_key(FINAL, &a, 4)],
        first[&t_key(FINAL, &a, 4)]
    );
}

#[test]
fn closing_in_the_middle_of_a_batch_settles_what_lies_before_the_end() {
    let mut s = Stage::new(3, counts());
    let a = agreement(1);
    s.register(a, &terms(3, &[(0, 0)], EACH, 4));
    s.chain_on = false;
    s.count(0..4);
    s.run(500);
    s.chain_on = true;
    s.close(&a, 1);
    s.run(60_000);
    for i in 0..3 {
        s.restart(i);
    }
    s.run(60_000);
    assert_eq!(s.chain[&a].next_t, 2, "{:?}", s.chain[&a].settled);
    assert!(s.status(0, &a).ended);
}

#[test]
fn a_part_that_settled_alone_strands_nothing() {
    let mut s = Stage::new(3, counts());
    let a = agreement(1);
    s.register(a, &terms(3, &[(0, 0)], EACH, 4));
    s.chain_on = false;
    s.count(0..4);
    s.run(2_000);
    // Somebody settled t=0 by reveals; then what was signed for 0..=3 reaches the chain.
    s.chain.get_mut(&a).expect("registered").next_t = 1;
    s.all(Input::Chain(ChainEvent::Settled {
        agreement: a,
        from: 0,
        t: 0,
        epoch: 0,
        tx: Digest([1; 32]),
        gas_used: 1,
        outcomes: 1,
    }));
    s.chain_on = true;
    for i in 0..3 {
        s.restart(i);
    }
    s.run(60_000);
    assert_eq!(s.chain[&a].next_t, 4);
}

/// Submissions of settlements by each node, as long as the chain takes nothing.
fn submitted(s: &Stage) -> Vec<(usize, u64)> {
    let of = |x: &(u64, usize, Submission)| match &x.2 {
        Submission::Settle { settlement, .. } => Some((x.1, settlement.range().1)),
        _ => None,
    };
    s.submits.iter().filter_map(of).collect()
}

#[test]
fn a_backlog_goes_out_in_a_row_from_one_node_and_nothing_reverts() {
    for leader in [Leader::Rotating, Leader::Fixed(1)] {
        let mut s = Stage::new(3, counts());
        let a = agreement(1);
        let mut t = terms(3, &[(0, 0)], EACH, 1);
        t.leader = leader;
        s.register(a, &t);
        s.chain_on = false;
        s.count(0..10);
        s.run(1_500);
        let out = submitted(&s);
        assert_eq!(out.len(), 10, "{out:?}");
        assert!(out.iter().all(|x| x.0 == out[0].0), "{out:?}");
        assert!(out.is_sorted_by(|x, y| x.1 < y.1));
        s.run(10_000);
        assert!(
            submitted(&s).len() > 10,
            "when the chain does not move, the next node submits what is next"
        );
    }
}

#[test]
fn the_stage_counts_from_when_a_unit_became_next() {
    let mut s = Stage::new(3, counts());
    let a = agreement(1);
    s.register(a, &terms(3, &[(0, 0)], EACH, 1));
    // Blocks come every second; each takes what was submitted before it.
    s.chain_on = false;
    s.count(0..40);
    let mut mined = 0;
    for _ in 0..60 {
        s.run(1_000);
        let batch: Vec<Submission> = s.submits[mined..].iter().map(|x| x.2.clone()).collect();
        mined = s.submits.len();
        for x in batch {
            s.mine(&x);
        }
    }
    assert_eq!(s.chain[&a].next_t, 40);
    assert!(
        s.chain[&a].reverted.is_empty(),
        "{:?}",
        s.chain[&a].reverted.len()
    );
}

#[test]
fn a_submission_that_the_outbox_did_not_take_comes_again() {
    let mut s = Stage::new(2, counts());
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0)], EACH, 1));
    s.outbox_on = false;
    s.count(0..1);
    s.run(10_000);
    assert_eq!(s.chain[&a].next_t, 0);
    s.outbox_on = true;
    s.run(60_000);
    assert_eq!(s.chain[&a].next_t, 1);
}

#[test]
fn a_silent_submitter_costs_one_stage_and_not_one_for_each_t() {
    let mut s = Stage::new(3, counts());
    let a = agreement(1);
    s.register(a, &terms(3, &[(0, 0)], EACH, 1));
    // Whatever the first submitter of these t hands to its outbox is lost.
    s.chain_on = false;
    s.count(0..12);
    let mut seen = 0;
    let mut at = 0;
    while s.chain[&a].next_t < 12 && at < 60_000 {
        s.run(50);
        at += 50;
        let batch: Vec<_> = s.submits[seen..]
            .iter()
            .map(|x| (x.1, x.2.clone()))
            .collect();
        seen = s.submits.len();
        for (i, x) in batch {
            if i != 0 {
                s.mine(&x);
            }
        }
    }
    assert_eq!(s.chain[&a].next_t, 12);
    assert!(at < 12_000, "twelve stages are 24 s; it took {at} ms");
}
