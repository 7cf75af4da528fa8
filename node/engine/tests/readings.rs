//! Second readings: what they run on, sign, and take up again (design §3b, Cell and Moving; docs/protocol.md, P-READ).

mod stage;

use diversity_engine::Input;
use diversity_engine::api::{CellWriter, ChainEvent, Notice, Resolution, Submission};
use diversity_proto::round::{Body, OutputKind, reading_of};
use diversity_proto::wire::Part;
use diversity_proto::{AgreementId, Digest};
use stage::*;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// What says how a round ended, or lets a node find out.
fn ends(p: &Part, of: u64) -> bool {
    matches!(p, Part::Round { t, body: Body::Certificate { .. } | Body::Reveal { .. }, .. } if *t == of)
}
fn switch() -> (Rc<Cell<bool>>, Rc<Cell<bool>>) {
    let on = Rc::new(Cell::new(true));
    (on.clone(), on)
}
fn reread(s: &mut Stage, a: AgreementId, t: u64, i: usize) {
    s.input(i, Input::Reread { agreement: a, t });
    s.settle();
}
/// `f` that lies on node 0 at these t as long as it is on: in the result, and in the state where said.
fn lies(on: Rc<Cell<bool>>, at: &'static [(u64, bool)]) -> F {
    Box::new(move |i, t, _, _| {
        let lie = at.iter().find(|(of, _)| *of == t && i == 0 && on.get());
        let carry = if lie.is_some_and(|l| l.1) {
            vec![1]
        } else {
            vec![]
        };
        (
            OutputKind::Value,
            vec![t as u8, u8::from(lie.is_some())],
            carry,
        )
    })
}

#[test]
fn an_abstention_in_a_second_reading_is_tried_again_on_the_same_window() {
    let (ill, x) = switch();
    let tries = Rc::new(Cell::new(0));
    let count = tries.clone();
    // Each window has another value; nobody can run t = 1 for a while, nor at the first try of its reading.
    let f: F = Box::new(move |i, t, w, carry| {
        if t == 1 && i == 0 && x.get() {
            return (OutputKind::Abstain, vec![3], vec![]);
        }
        if t == 1 && !x.get() && count.get() < 2 {
            count.set(count.get() + 1);
            return (OutputKind::Abstain, vec![3], vec![]);
        }
        let mut result = w.from.to_be_bytes().to_vec();
        result.extend(w.leaves[0].first_q.to_be_bytes());
        (OutputKind::Value, result, carry.to_vec())
    });
    let mut s = Stage::new(2, f);
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0)], EACH, 1));
    s.count(0..4);
    s.run(12_500);
    assert_eq!(s.chain[&a].holes, [1]);
    ill.set(false);
    s.run(200_000);
    assert!(s.chain[&a].cells.contains(&1));
    let mut expected = 0u64.to_be_bytes().to_vec();
    expected.extend(1u64.to_be_bytes());
    let read = s.submits.iter().find_map(|x| match &x.2 {
        Submission::Reading { outcome, .. } => Some(outcome.result.clone()),
        _ => None,
    });
    assert_eq!(read, Some(expected), "the window of t = 1 begins at q = 1");
}

#[test]
fn nodes_whose_signing_attempts_ran_apart_meet_again_in_a_second_reading() {
    for n in [2, 3] {
        let (lie, l) = switch();
        let (mute, m) = switch();
        let mut s = Stage::new(n, lies(l, &[(1, false)]));
        let a = agreement(1);
        s.register(a, &terms(n, &[(0, 0)], EACH, 1));
        s.count(0..2);
        s.run(30_000);
        assert_eq!(s.chain[&a].holes, [1]);
        lie.set(false);
        s.tamper = Box::new(move |from, _, p| {
            if from == 1 && m.get() && is_signing(&p) {
                vec![]
            } else {
                vec![p]
            }
        });
        for i in 0..n {
            reread(&mut s, a, 1, i);
        }
        s.run(120_000);
        s.restart(1);
        mute.set(false);
        s.run(120_000);
        assert!(s.chain[&a].cells.contains(&1), "n = {n}");
    }
}

#[test]
fn an_older_hole_can_be_read_again_after_a_later_cell_and_a_restart() {
    let (lie, l) = switch();
    let mut s = Stage::new(2, lies(l, &[(0, false), (1, true)]));
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0)], EACH, 1));
    s.count(0..3);
    s.run(30_000);
    assert_eq!(s.chain[&a].holes, [0, 1]);
    s.resolve(&a, 1, &[1, 0], &[], &[2]);
    s.run(30_000);
    assert_eq!(s.chain[&a].next_t, 3);
    lie.set(false);
    for i in 0..2 {
        s.restart(i);
    }
    for i in 0..2 {
        reread(&mut s, a, 0, i);
    }
    s.run(60_000);
    assert!(s.chain[&a].cells.contains(&0));
}

#[test]
fn a_cell_that_came_before_the_certificate_of_its_hole_leaves_nothing_to_read() {
    let (deaf, d) = switch();
    let late = Rc::new(Cell::new(false));
    let readings = Rc::new(RefCell::new(0));
    let (counted, after) = (readings.clone(), late.clone());
    let abstains: F = Box::new(|i, t, _, _| {
        if i == 0 && t == 0 {
            (OutputKind::Abstain, vec![3], vec![])
        } else {
            (OutputKind::Value, vec![t as u8], vec![])
        }
    });
    let mut s = Stage::new(3, abstains);
    let a = agreement(1);
    s.register(a, &terms(3, &[(0, 0)], EACH, 1));
    s.tamper = Box::new(move |from, to, p| {
        let read = match &p {
            Part::Leaves { .. } => true,
            Part::Round { epoch, .. } | Part::Held { epoch, .. } => reading_of(*epoch) > 0,
            _ => false,
        };
        if read && from == 2 && after.get() {
            *counted.borrow_mut() += 1;
        }
        if to == 2 && d.get() && ends(&p, 0) {
            vec![]
        } else {
            vec![p]
        }
    });
    s.count(0..2);
    s.run(13_000);
    assert_eq!(s.chain[&a].holes, [0]);
    assert_eq!(s.status(2, &a).undecided_t, 0);
    s.resolve(&a, 0, &[0], &[], &[1]);
    s.settle();
    deaf.set(false);
    late.set(true);
    s.run(120_000);
    assert_eq!(s.chain[&a].next_t, 2);
    assert_eq!(*readings.borrow(), 0, "t = 0 has its cell");
}

#[test]
fn what_an_operator_asked_for_survives_a_restart_and_a_reading_under_way() {
    for restart in [false, true] {
        let (lie, l) = switch();
        let mut s = Stage::new(2, lies(l, &[(1, false)]));
        let a = agreement(1);
        s.register(a, &terms(2, &[(0, 0)], EACH, 1));
        s.count(0..2);
        s.run(30_000);
        assert_eq!(s.chain[&a].holes, [1]);
        reread(&mut s, a, 1, 0);
        if restart {
            s.restart(0);
        } else {
            s.run(10_000);
            reread(&mut s, a, 1, 0); // For the reading behind this one, which will fail.
        }
        s.run(10_000);
        if restart {
            lie.set(false);
        }
        reread(&mut s, a, 1, 1);
        s.run(60_000);
        if !restart {
            assert!(s.chain[&a].cells.is_empty());
            lie.set(false);
            reread(&mut s, a, 1, 1);
            s.run(60_000);
        }
        assert!(s.chain[&a].cells.contains(&1), "restart {restart}");
    }
}

#[test]
fn a_store_from_before_a_reading_says_that_it_cannot_go_on_from_its_cell() {
    let (lie, l) = switch();
    let mut s = Stage::new(2, lies(l, &[(0, true)]));
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0)], EACH, 1));
    s.count(0..1);
    s.run(20_000);
    assert_eq!(s.status(1, &a).blocked, Some(0));
    let old = s.store[1].clone();
    lie.set(false);
    for i in 0..2 {
        reread(&mut s, a, 0, i);
    }
    s.run(60_000);
    assert!(s.chain[&a].cells.contains(&0));
    assert_eq!(s.status(1, &a).blocked, None);
    s.store[1] = old;
    s.restart(1);
    s.notices.clear();
    let cell = ChainEvent::Cell {
        agreement: a,
        t: 0,
        writer: CellWriter::Reading,
        resolution: Resolution {
            kind: OutputKind::Value,
            result: vec![0, 0],
            state: Digest::ZERO,
            carry: vec![],
            q_next: vec![],
        },
        tx: Digest([4; 32]),
    };
    s.input(1, Input::Chain(cell));
    s.run(60_000);
    assert_eq!(s.status(1, &a).blocked, Some(0));
    let says = |s: &Stage| {
        let is = |n: &(u64, usize, Notice)| {
            n.1 == 1
                && matches!(&n.2, Notice::Hole { t: 0, reason, .. } if reason.contains("older"))
        };
        s.notices.iter().any(is)
    };
    assert!(says(&s), "not silently");
    s.notices.clear();
    s.restart(1);
    s.run(1_000);
    assert!(says(&s), "nor after a restart");
    // The users settle t = 1 in band: everybody goes on.
    s.resolve(&a, 1, b"agreed", &[], &[2]);
    s.count(1..3);
    s.run(60_000);
    assert_eq!(s.chain[&a].next_t, 3, "{:?}", s.status(1, &a));
}
