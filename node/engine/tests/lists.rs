//! Lists of open sensors: two of one node, and those of a t that is decided (design §3b, Held; docs/protocol.md, P-HELD).

mod stage;

use diversity_engine::api::Notice;
use diversity_proto::Signature;
use diversity_proto::frame::Contradiction;
use diversity_proto::held::Held;
use diversity_proto::terms::WindowSpec;
use diversity_proto::window::WindowEnd;
use diversity_proto::wire::Part;
use stage::*;
use std::cell::Cell;
use std::rc::Rc;

const DAYS: WindowSpec = WindowSpec::Seconds {
    start: START / 1_000 - 86_400,
    seconds: 86_400,
};

fn switch() -> (Rc<Cell<bool>>, Rc<Cell<bool>>) {
    let on = Rc::new(Cell::new(true));
    (on.clone(), on)
}
#[test]
fn two_lists_of_one_node_block_nobody_once_it_is_honest_again() {
    let (two, w) = switch();
    let a = agreement(1);
    let mut s = Stage::new(3, counts());
    s.register(a, &terms(3, &[(0, 0)], DAYS, 1));
    s.tamper = Box::new(move |from, to, p| match p {
        Part::Held { epoch, t: 0, .. } if from == 2 && to == 1 && w.get() => {
            let mut held = Held {
                open: vec![],
                signature: Signature([0; 64]),
            };
            let digest = held.digest(&subject(&a, epoch, 0), &node(2));
            held.signature = sign(&node_key(2), &digest);
            vec![Part::Held {
                agreement: a,
                epoch,
                t: 0,
                held,
            }]
        }
        p => vec![p],
    });
    s.run(DAY_MS + 60_000);
    assert_eq!(s.status(1, &a).open_t, 0);
    two.set(false);
    s.run(600_000);
    assert_eq!(s.chain[&a].next_t, 1, "{:?}", s.status(1, &a));
    assert!(s.blamed().is_empty());
}

#[test]
fn a_store_from_before_the_lists_of_a_decided_t_goes_on_or_says_why_not() {
    let mut s = Stage::new(2, counts());
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0)], DAYS, 1));
    let old = s.store[1].clone();
    s.run(DAY_MS + 60_000);
    assert_eq!(s.chain[&a].next_t, 1);
    s.store[1] = old;
    s.restart(1);
    s.run(3 * DAY_MS);
    let status = s.status(1, &a);
    assert!(
        status.halted.is_some() || status.undecided_t >= 2,
        "silently blocked: {status:?}"
    );
}

#[test]
fn a_contradiction_that_one_list_shows_ends_the_sensor_for_those_who_cut_it_by_a_message_too() {
    let mut s = Stage::new(2, counts());
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0), (1, 0)], DAYS, 1));
    let day = START / 1_000 - 86_400;
    let end = (day + 86_400, 1);
    // Sensor 1 is silent. Sensor 0 shows node 1 two bodies of q = 1, and node 0 one of them and what ends the day.
    s.gossip_on = false;
    s.serves = Box::new(|_, _| false);
    let one = frame(0, 1, &[(day + 5, 1)]);
    let other = frame(0, 1, &[(day + 5, 2)]);
    s.frames(0, &[frame(0, 0, &[(day, 1)]), one.clone()]);
    s.frames(1, &[frame(0, 0, &[(day, 1)]), one.clone()]);
    s.run(1_000);
    s.chain_on = false;
    s.frames(0, &[frame(0, 2, &[end])]);
    s.frames(1, std::slice::from_ref(&other));
    s.run(DAY_MS + 60_000);
    assert!(Contradiction::of(&one.encode(), &other.encode()).is_some());
    let shown = |n: &(u64, usize, Notice)| matches!(n.2, Notice::Contradiction { q: 1, .. });
    assert!(s.notices.iter().any(shown));
    for i in 0..2 {
        let (_, plan) = s
            .plans
            .iter()
            .find(|(n, p)| *n == i && p.t == 0)
            .expect("executed");
        assert_eq!(plan.leaves[0].end, WindowEnd::ClosingRecord, "node {i}");
        assert_eq!(s.executed(i, &a)[0], [1, 0], "node {i}");
    }
    let hole = |n: &(u64, usize, Notice)| matches!(n.2, Notice::Hole { .. });
    assert!(!s.notices.iter().any(hole), "both cut by the same lists");
}
