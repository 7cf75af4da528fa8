//! Every hole can end (design §3b; docs/protocol.md, Holes).

mod stage;

use diversity_engine::Input;
use diversity_engine::api::Submission;
use diversity_proto::round::OutputKind;
use diversity_proto::terms::WindowSpec;
use stage::*;
use std::cell::RefCell;
use std::rc::Rc;

/// `f` that differs on node 0 at t = 2: in the result alone, or in the state too.
fn differs(state: bool) -> F {
    Box::new(move |i, t, _, _| {
        let lie = i == 0 && t == 2;
        let carry = if lie && state { vec![1] } else { vec![] };
        (OutputKind::Value, vec![t as u8, u8::from(lie)], carry)
    })
}
fn doors(s: &Stage) -> usize {
    let is = |x: &&(u64, usize, Submission)| matches!(x.2, Submission::Hole { .. });
    s.submits.iter().filter(is).count()
}

#[test]
fn a_hole_has_its_door_and_the_rest_goes_on_where_states_are_equal() {
    for batch in [1, 4] {
        let mut s = Stage::new(3, differs(false));
        let a = agreement(1);
        s.register(a, &terms(3, &[(0, 0)], EACH, batch));
        s.count(0..6);
        s.run(60_000);
        assert_eq!(s.chain[&a].holes, [2], "batch {batch}");
        assert_eq!(
            s.chain[&a].next_t, 6,
            "batch {batch}: {:?}",
            s.chain[&a].settled
        );
        assert!(
            s.chain[&a].reverted.is_empty(),
            "{:?}",
            s.chain[&a].reverted
        );
        assert!(s.blamed().is_empty(), "a difference blames nobody");
    }
}

#[test]
fn a_door_is_owed_across_a_crash_of_whoever_should_submit_it() {
    let mut s = Stage::new(3, differs(true));
    let a = agreement(1);
    s.register(a, &terms(3, &[(0, 0)], EACH, 1));
    s.count(0..2);
    s.run(5_000);
    s.outbox_on = false;
    s.count(2..4);
    s.run(10_000);
    assert!(doors(&s) > 0);
    for i in 0..3 {
        s.restart(i);
    }
    s.outbox_on = true;
    s.run(30_000);
    assert_eq!(s.chain[&a].holes, [2]);
}

#[test]
fn the_cell_of_the_users_lets_everybody_go_on_from_its_state() {
    let mut s = Stage::new(3, differs(true));
    let a = agreement(1);
    s.register(a, &terms(3, &[(0, 0)], EACH, 1));
    s.count(0..6);
    s.run(60_000);
    assert_eq!(s.chain[&a].next_t, 3, "t = 2 has its door");
    for i in 0..3 {
        assert_eq!(s.status(i, &a).blocked, Some(2));
    }
    // A node that was away meanwhile follows from its store and the chain.
    s.restart(1);
    s.resolve(&a, 2, &[2, 0], &[7, 7], &[3]);
    s.run(60_000);
    for i in 0..3 {
        assert_eq!(s.status(i, &a).blocked, None);
        assert_eq!(s.status(i, &a).epoch, 1);
    }
    assert_eq!(s.chain[&a].next_t, 6);
    assert_eq!(s.chain[&a].epoch, 1);
    let (_, plan) = s
        .plans
        .iter()
        .rev()
        .find(|(_, p)| p.t == 3)
        .expect("executed");
    assert_eq!(
        plan.carry,
        [7, 7],
        "t = 3 starts from the state of the cell"
    );
    // And again from the store alone.
    for i in 0..3 {
        s.restart(i);
    }
    s.count(6..8);
    s.run(60_000);
    assert_eq!(s.chain[&a].next_t, 8);
    assert!(
        s.chain[&a].reverted.is_empty(),
        "{:?}",
        s.chain[&a].reverted
    );
}

#[test]
fn a_resolution_in_band_ends_a_t_that_the_nodes_could_not() {
    let hold = Rc::new(RefCell::new(true));
    let held = hold.clone();
    let mut s = Stage::new(3, counts());
    let a = agreement(1);
    s.register(a, &terms(3, &[(0, 0)], EACH, 1));
    // Node 2 is unavailable: it says nothing of t = 2.
    s.tamper = Box::new(move |from, _, p| {
        let about = matches!(&p, diversity_proto::wire::Part::Round { t: 2, .. });
        if from == 2 && about && *held.borrow() {
            vec![]
        } else {
            vec![p]
        }
    });
    s.count(0..6);
    s.run(60_000);
    assert_eq!(s.chain[&a].next_t, 2);
    s.resolve(&a, 2, b"agreed", &[], &[3]);
    s.run(60_000);
    assert_eq!(s.chain[&a].next_t, 6);
    assert_eq!(s.chain[&a].epoch, 2);
    for i in 0..3 {
        assert_eq!(s.status(i, &a).epoch, 2, "node {i}");
        assert_eq!(s.status(i, &a).halted, None);
        s.restart(i);
    }
    *hold.borrow_mut() = false;
    s.count(6..8);
    s.run(60_000);
    assert_eq!(s.chain[&a].next_t, 8);
    assert!(
        s.chain[&a].reverted.is_empty(),
        "{:?}",
        s.chain[&a].reverted
    );
}

#[test]
fn a_resolution_in_band_that_a_node_missed_is_followed_when_it_is_back() {
    let mut s = Stage::new(3, counts());
    let a = agreement(1);
    s.register(a, &terms(3, &[(0, 0)], EACH, 1));
    s.count(0..2);
    s.run(10_000);
    s.down[2] = true;
    s.count(2..4);
    s.run(10_000);
    assert_eq!(s.chain[&a].next_t, 2);
    s.resolve(&a, 2, b"agreed", &[], &[3]);
    s.run(10_000);
    s.down[2] = false;
    s.restart(2);
    let resolution = diversity_engine::api::Resolution {
        kind: OutputKind::Value,
        result: b"agreed".to_vec(),
        state: diversity_proto::window::state(&[], &[3]),
        carry: vec![],
        q_next: vec![3],
    };
    s.input(
        2,
        diversity_engine::Input::Chain(diversity_engine::api::ChainEvent::Resolved {
            agreement: a,
            t: 2,
            epoch: 2,
            resolution,
            tx: diversity_proto::Digest([3; 32]),
        }),
    );
    s.run(60_000);
    assert_eq!(s.chain[&a].next_t, 4, "{:?}", s.status(2, &a));
}

#[test]
fn an_abstention_is_tried_again_and_committed_only_past_the_deadline_of_the_terms() {
    let tries = Rc::new(RefCell::new(0));
    let count = tries.clone();
    let mut s = Stage::new(
        2,
        Box::new(move |i, t, _, _| {
            if i == 0 && t == 0 {
                *count.borrow_mut() += 1;
                if *count.borrow() < 4 {
                    return (OutputKind::Abstain, vec![3], vec![]);
                }
            }
            (OutputKind::Value, vec![t as u8], vec![])
        }),
    );
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0)], EACH, 1));
    s.count(0..2);
    s.run(30_000);
    assert_eq!(*tries.borrow(), 4);
    assert!(s.chain[&a].holes.is_empty());
    assert_eq!(s.chain[&a].next_t, 2);
}

#[test]
fn a_node_that_can_never_run_the_code_makes_a_hole_that_waits_for_its_cell() {
    let mut s = Stage::new(
        2,
        Box::new(|i, t, _, _| {
            if i == 0 && t == 0 {
                (OutputKind::Abstain, vec![3], vec![])
            } else {
                (OutputKind::Value, vec![t as u8], vec![])
            }
        }),
    );
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0)], EACH, 1));
    s.count(0..2);
    s.run(9_000);
    assert!(
        s.chain[&a].holes.is_empty(),
        "within the deadline nothing is committed"
    );
    s.run(30_000);
    assert_eq!(s.chain[&a].holes, [0]);
    assert_eq!(
        s.status(1, &a).blocked,
        Some(0),
        "an abstention makes the states unequal"
    );
    s.resolve(&a, 0, &[0], &[], &[1]);
    s.run(30_000);
    assert_eq!(s.chain[&a].next_t, 2);
}

#[test]
fn a_node_that_can_run_the_code_later_cures_its_hole_by_a_second_reading() {
    for restart in [false, true] {
        let well = Rc::new(RefCell::new(false));
        let w = well.clone();
        let mut s = Stage::new(
            3,
            Box::new(move |i, t, _, carry| {
                let carry = [carry, &[t as u8]].concat();
                if i == 0 && t == 0 && !*w.borrow() {
                    return (OutputKind::Abstain, vec![3], vec![]);
                }
                (OutputKind::Value, vec![t as u8], carry)
            }),
        );
        let a = agreement(1);
        s.register(a, &terms(3, &[(0, 0)], EACH, 1));
        s.count(0..3);
        s.run(12_000);
        assert_eq!(s.chain[&a].holes, [0]);
        *well.borrow_mut() = true;
        for i in 0..3 {
            if restart {
                s.run(1_500);
                s.restart(i);
            }
        }
        s.run(120_000);
        assert!(s.chain[&a].cells.contains(&0), "restart {restart}");
        assert_eq!(
            s.chain[&a].next_t,
            3,
            "restart {restart}: {:?}",
            s.status(0, &a)
        );
        let (_, plan) = s
            .plans
            .iter()
            .rev()
            .find(|(_, p)| p.t == 2)
            .expect("executed");
        assert_eq!(
            plan.carry,
            [0, 1],
            "t+1 starts from the state of the reading"
        );
        for i in 0..3 {
            s.restart(i);
        }
        s.count(3..5);
        s.run(30_000);
        assert_eq!(s.chain[&a].next_t, 5);
        assert!(s.blamed().is_empty() && s.chain[&a].reverted.is_empty());
    }
}

#[test]
fn where_windows_differ_the_frames_are_compared_and_the_contradiction_ends_the_window_for_all() {
    let day = START / 1_000 - 86_400;
    let days = WindowSpec::Seconds {
        start: day,
        seconds: 86_400,
    };
    let mut s = Stage::new(3, counts());
    let a = agreement(1);
    s.register(a, &terms(3, &[(0, 0), (1, 0)], days, 1));
    s.gossip_on = false;
    // One body of q = 1 for node 0, another for the others; all end the day by a message.
    for i in 0..3 {
        let value = u8::from(i == 0);
        let end = day + 86_400;
        s.frames(
            i,
            &[frame(0, 0, &[(day, 1)]), frame(0, 1, &[(day + 5, value)])],
        );
        s.frames(
            i,
            &[frame(0, 2, &[(end, 1)]), frame(1, 0, &[(day, 1), (end, 1)])],
        );
    }
    s.run(5_000);
    assert_eq!(s.chain[&a].holes, [0]);
    s.run(120_000);
    assert!(s.chain[&a].cells.contains(&0), "{:?}", s.status(0, &a));
    let read = s.plans.iter().rev().find(|(_, p)| p.t == 0).expect("read");
    let taken: Vec<u32> = read
        .1
        .leaves
        .iter()
        .map(|l| l.pieces.iter().map(|p| p.take).sum())
        .collect();
    assert_eq!(
        taken,
        [1, 1],
        "the sensor that contradicted itself is cut there; the other one is billed"
    );
    assert!(s.blamed().is_empty());
}

#[test]
fn where_outputs_differ_a_reading_runs_only_when_every_operator_asked() {
    let bug = Rc::new(RefCell::new(true));
    let b = bug.clone();
    let mut s = Stage::new(
        3,
        Box::new(move |i, t, _, _| {
            let wrong = u8::from(i == 0 && t == 1 && *b.borrow());
            (OutputKind::Value, vec![t as u8, wrong], vec![])
        }),
    );
    let a = agreement(1);
    s.register(a, &terms(3, &[(0, 0)], EACH, 1));
    s.count(0..3);
    s.run(120_000);
    assert_eq!(s.chain[&a].holes, [1]);
    assert!(
        s.chain[&a].cells.is_empty(),
        "one window hash, two outputs: nothing starts by itself"
    );
    *bug.borrow_mut() = false;
    for i in 0..3 {
        assert!(s.chain[&a].cells.is_empty(), "who moves alone waits");
        s.input(i, Input::Reread { agreement: a, t: 1 });
        s.run(20_000);
    }
    s.run(20_000);
    assert!(s.chain[&a].cells.contains(&1));
    assert_eq!(s.chain[&a].next_t, 3);
}
