//! Second readings: what they run on, sign, and take up again (design §3b, Cell and Moving; docs/protocol.md, P-READ).

mod stage;

use diversity_engine::Input;
use diversity_engine::api::{CellWriter, ChainEvent, Notice, Resolution, Submission};
use diversity_engine::records::{ABSTAINED, EXECUTION, READING, STATE, stored_part, t_key};
use diversity_proto::round::{Body, OutputKind, Session, reading_of};
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

/// A network of n whose t = 0 is a hole with two states, read once more; node 1 has lost all of that since, and the chain tells it
/// of the cell again. `deaf` says which parts do not reach it.
fn lost(n: usize, deaf: impl Fn(&Part) -> bool + 'static) -> (Stage, AgreementId, Rc<Cell<bool>>) {
    let (lie, l) = switch();
    let mut s = Stage::new(n, lies(l, &[(0, true)]));
    let a = agreement(1);
    s.register(a, &terms(n, &[(0, 0)], EACH, 1));
    s.count(0..1);
    s.run(20_000);
    assert_eq!(s.status(1, &a).blocked, Some(0));
    let old = s.store[1].clone();
    lie.set(false);
    for i in 0..n {
        reread(&mut s, a, 0, i);
    }
    s.run(60_000);
    assert!(s.chain[&a].cells.contains(&0));
    assert_eq!(s.status(1, &a).blocked, None);
    let (on, o) = switch();
    s.tamper = Box::new(move |_, to, p| {
        let drop = to == 1 && o.get() && deaf(&p);
        if drop { vec![] } else { vec![p] }
    });
    s.store[1] = old;
    s.restart(1);
    s.notices.clear();
    let read = s.submits.iter().find_map(|x| match &x.2 {
        Submission::Reading { outcome, .. } => Some(outcome.clone()),
        _ => None,
    });
    let read = read.expect("submitted");
    let cell = ChainEvent::Cell {
        agreement: a,
        t: 0,
        writer: CellWriter::Reading,
        resolution: Resolution {
            kind: OutputKind::Value,
            result: read.result,
            state: Digest::ZERO,
            carry: vec![],
            q_next: vec![],
        },
        context: read.context,
        tx: Digest([4; 32]),
    };
    s.input(1, Input::Chain(cell));
    (s, a, on)
}
fn is_state(p: &Part) -> bool {
    matches!(p, Part::State { .. })
}

#[test]
fn a_store_from_before_a_reading_goes_on_by_what_others_serve() {
    for n in [2, 3] {
        let (mut s, a, _) = lost(n, |_| false);
        s.run(5_000);
        assert_eq!(s.status(1, &a).blocked, None, "n = {n}");
        s.count(1..3);
        s.run(60_000);
        assert_eq!(s.chain[&a].next_t, 3, "{:?}", s.status(1, &a));
        // It goes on from there after a restart, and serves others in its turn.
        s.restart(1);
        s.count(3..4);
        s.run(60_000);
        assert_eq!(s.chain[&a].next_t, 4, "{:?}", s.status(1, &a));
        let key = t_key(STATE, &a, 0);
        assert_eq!(s.store[1].get(&key), s.store[0].get(&key));
    }
}

#[test]
fn a_node_that_nobody_serves_says_so_and_asks_on() {
    let (mut s, a, deaf) = lost(3, is_state);
    s.run(60_000);
    let status = s.status(1, &a);
    assert_eq!((status.blocked, status.waiting.state), (Some(0), true));
    let says = |s: &Stage| {
        let is = |n: &(u64, usize, Notice)| {
            n.1 == 1
                && matches!(&n.2, Notice::Hole { t: 0, reason, .. } if reason.contains("older"))
        };
        s.notices.iter().filter(|n| is(n)).count()
    };
    assert_eq!(says(&s), 1, "once, not silently");
    s.notices.clear();
    s.restart(1);
    s.run(1_000);
    assert_eq!(says(&s), 1, "and after a restart");
    deaf.set(false);
    s.run(5_000);
    assert_eq!(s.status(1, &a).blocked, None);
}

#[test]
fn where_nobody_serves_it_the_users_go_on_in_band() {
    let (mut s, a, _) = lost(2, is_state);
    s.run(30_000);
    assert_eq!(s.status(1, &a).blocked, Some(0));
    s.resolve(&a, 1, b"agreed", &[], &[2]);
    s.count(1..3);
    s.run(60_000);
    assert_eq!(s.chain[&a].next_t, 3, "{:?}", s.status(1, &a));
}

#[test]
fn a_state_that_does_not_open_the_cell_is_nothing_whoever_sends_it() {
    let (mut s, a, deaf) = lost(3, is_state);
    s.run(5_000);
    let stored = stored_part(&s.store[0][&t_key(STATE, &a, 0)]).expect("the core wrote it");
    let Part::State { state, .. } = stored else {
        panic!("{stored:?}");
    };
    let mut forged = vec![state.clone(); 5];
    forged[0].carry.push(1);
    forged[1].q_next[0] += 1;
    forged[2].computed.result.push(1);
    forged[3].seal = Digest([1; 32]);
    // Another state whose parts fit one another.
    forged[4].carry = vec![7];
    forged[4].computed.state = diversity_proto::window::state(&[7], &forged[4].q_next);
    for state in forged {
        for t in [0, 1] {
            let part = Part::State {
                agreement: a,
                t,
                state: state.clone(),
            };
            s.forge(2, 1, part);
        }
    }
    s.settle();
    assert_eq!(s.status(1, &a).blocked, Some(0));
    assert!(!s.store[1].contains_key(&t_key(STATE, &a, 0)));
    deaf.set(false);
    s.run(5_000);
    assert_eq!(s.status(1, &a).blocked, None);
}

#[test]
fn whoever_asks_for_states_all_the_time_is_served_one_in_a_while() {
    let (mut s, a, _) = lost(3, |_| false);
    s.run(5_000);
    let before = s.stored_sent;
    for _ in 0..1_000 {
        s.forge(2, 0, Part::WantState { agreement: a, t: 0 });
        s.forge(2, 0, Part::WantState { agreement: a, t: 1 });
    }
    s.settle();
    assert_eq!(s.stored_sent - before, 1);
    s.run(3_000);
    s.forge(2, 0, Part::WantState { agreement: a, t: 0 });
    s.settle();
    assert!(s.stored_sent - before >= 2);
}

#[test]
fn a_store_from_before_a_hole_computes_it_anew_and_takes_part_in_its_reading() {
    for states_differ in [false, true] {
        let (lie, l) = switch();
        let at: &'static [(u64, bool)] = if states_differ {
            &[(1, true)]
        } else {
            &[(1, false)]
        };
        let mut s = Stage::new(2, lies(l, at));
        let a = agreement(1);
        s.register(a, &terms(2, &[(0, 0)], EACH, 1));
        s.count(0..1);
        s.run(10_000);
        let old = s.store[1].clone();
        s.count(1..3);
        s.run(20_000);
        assert_eq!(s.chain[&a].holes, [1]);
        s.store[1] = old;
        s.restart(1);
        // What the chain says is told again.
        s.input(
            1,
            Input::Chain(ChainEvent::Hole {
                agreement: a,
                t: 1,
                epoch: 0,
                dispute: Digest([9; 32]),
                tx: Digest([8; 32]),
            }),
        );
        s.run(10_000);
        lie.set(false);
        for i in 0..2 {
            reread(&mut s, a, 1, i);
        }
        s.run(60_000);
        assert!(s.chain[&a].cells.contains(&1), "{states_differ}");
        s.run(60_000);
        assert_eq!(s.chain[&a].next_t, 3, "{:?}", s.status(1, &a));
    }
}

#[test]
fn attempts_that_a_peer_uses_up_begin_again() {
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
        // For half a day one node says that it is as far as can be, or at least further than this one.
        let last = 2 * 65_536 - 1;
        let mut k = 0;
        while s.now < START + DAY_MS / 2 {
            s.run(1_000);
            k += 14;
            for to in (0..n).filter(|i| *i != 1) {
                let attempt = if n == 2 { last } else { (65_536 + k).min(last) };
                let session = Session {
                    agreement: a,
                    from: 1,
                    t: 1,
                    attempt,
                };
                let nonce = [9; 66];
                s.forge(1, to, Part::Nonce { session, nonce });
            }
        }
        assert!(s.chain[&a].cells.is_empty());
        mute.set(false);
        s.run(120_000);
        assert!(s.chain[&a].cells.contains(&1), "n = {n}");
    }
}

#[test]
fn what_settles_beside_it_does_not_stop_a_reading_from_being_signed() {
    let (lie, l) = switch();
    let (mute, m) = switch();
    let mut s = Stage::new(2, lies(l, &[(1, false)]));
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0)], EACH, 1));
    s.count(0..2);
    s.run(30_000);
    lie.set(false);
    s.tamper = Box::new(move |from, _, p| {
        let reading = |s: &Session| s.t == 1;
        let silent = match &p {
            Part::Nonce { session, .. }
            | Part::Nonces { session, .. }
            | Part::Partial { session, .. }
            | Part::Aggregate { session, .. } => reading(session),
            _ => false,
        };
        if from == 1 && silent && m.get() {
            vec![]
        } else {
            vec![p]
        }
    });
    for i in 0..2 {
        reread(&mut s, a, 1, i);
    }
    s.run(20_000);
    s.count(2..6);
    s.run(20_000);
    assert_eq!(s.chain[&a].next_t, 6);
    assert!(s.chain[&a].cells.is_empty());
    mute.set(false);
    s.run(60_000);
    assert!(s.chain[&a].cells.contains(&1));
}

#[test]
fn a_commit_of_a_reading_never_leaves_before_it_is_durable() {
    let mut shown = 0;
    // The disk of node 0 takes so many writes, and then nothing for a long time.
    for writes in 0..8 {
        let (lie, l) = switch();
        let left = Rc::new(Cell::new(false));
        let leaves = left.clone();
        let mut s = Stage::new(2, lies(l, &[(1, false)]));
        let a = agreement(1);
        s.register(a, &terms(2, &[(0, 0)], EACH, 1));
        s.count(0..2);
        s.run(30_000);
        lie.set(false);
        s.tamper = Box::new(move |from, _, p| {
            if let Part::Round { epoch, body, .. } = &p
                && from == 0
                && reading_of(*epoch) > 0
                && matches!(body, Body::Commit { .. })
            {
                leaves.set(true);
            }
            vec![p]
        });
        s.writes_left[0] = writes;
        for i in 0..2 {
            reread(&mut s, a, 1, i);
        }
        s.run(60_000);
        let durable = s.store[0].keys().any(|k| k[0] == READING);
        assert_eq!(left.get(), durable, "{writes} writes");
        shown += u32::from(
            !durable
                && s.plans
                    .iter()
                    .any(|(i, p)| *i == 0 && reading_of(p.epoch) > 0),
        );
        s.restart(0);
        // That it was asked may be lost as well.
        reread(&mut s, a, 1, 0);
        s.run(60_000);
        assert!(s.chain[&a].cells.contains(&1), "{writes} writes");
    }
    assert!(shown > 0, "computed, and not durable");
}

#[test]
fn restarts_do_not_begin_the_time_anew_that_a_reading_is_tried_for() {
    let (ill, x) = switch();
    // Node 0 cannot run t = 1, nor its first reading; abstain_ms is 10 s.
    let f: F = Box::new(move |i, t, _, carry| {
        if t == 1 && i == 0 && x.get() {
            (OutputKind::Abstain, vec![3], vec![])
        } else {
            (OutputKind::Value, vec![t as u8], carry.to_vec())
        }
    });
    let mut s = Stage::new(2, f);
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0)], EACH, 1));
    s.count(0..2);
    let commits = |s: &Stage, family: u8| {
        let of = |k: &&Vec<u8>| k[0] == family && k[33..41] == 1u64.to_be_bytes();
        s.store[0].keys().filter(of).count()
    };
    for (family, most_s) in [(EXECUTION, 16), (READING, 60)] {
        let begun = s.now;
        while commits(&s, family) == 0 {
            s.run(3_000);
            s.restart(0);
            assert!(s.now < begun + most_s * 1_000, "family {}", family as char);
        }
        s.run(20_000);
    }
    ill.set(false);
    s.run(120_000);
    assert!(s.chain[&a].cells.contains(&1));
    assert!(
        s.store[0].keys().all(|k| k[0] != ABSTAINED),
        "nothing of it is left"
    );
}
