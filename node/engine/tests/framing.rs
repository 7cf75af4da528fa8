//! A sensor that signs the same messages in other frames, or under other boot epochs, than it did before: that contradicts nothing,
//! and it stops nobody (docs/protocol.md, Ingest).

mod stage;

use diversity_engine::api::Notice;
use diversity_proto::frame::{Frame, Opening};
use diversity_proto::terms::WindowSpec;
use stage::*;

/// Days, the first of which is just over when the stage begins.
const DAYS: WindowSpec = WindowSpec::Seconds {
    start: START / 1_000 - 86_400,
    seconds: 86_400,
};
fn day(seconds: u64) -> u64 {
    START / 1_000 - 86_400 + seconds
}
/// The messages `from..to` of a day whose last message, q = 4, lies in the next.
fn messages(from: u64, to: u64) -> Vec<(u64, u8)> {
    (from..to)
        .map(|q| (if q == 4 { day(86_400) } else { day(q * 10) }, q as u8))
        .collect()
}
fn of(from: u64, to: u64) -> Frame {
    frame(0, from, &messages(from, to))
}
fn opening(q: u64, last: &Frame) -> Option<Opening> {
    Some(Opening {
        last_q: q - 1,
        last_frame: last.digest(&deployment()),
    })
}
fn of_epoch(epoch: u32, from: u64, to: u64, opening: Option<Opening>) -> Frame {
    frame_of_epoch(0, epoch, from, opening, &messages(from, to))
}

/// Node 0 and node 1 are given these; then they repair, and the day must settle with its four messages.
fn day_settles(zero: &[Frame], one: &[Frame], restart: bool) {
    let mut s = Stage::new(2, counts());
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0)], DAYS, 1));
    s.gossip_on = false;
    for f in zero {
        s.frames(0, std::slice::from_ref(f));
        s.settle();
    }
    for f in one {
        s.frames(1, std::slice::from_ref(f));
        s.settle();
    }
    s.run(20_000);
    if restart {
        s.restart(0);
        s.restart(1);
    }
    s.run(DAY_MS + 600_000);
    for i in 0..2 {
        assert_eq!(
            s.nodes[i].sensor(&sensor(0)).expect("known").1,
            5,
            "node {i} holds all of it"
        );
        assert_eq!(s.executed(i, &a)[0], [4], "node {i}");
    }
    assert_eq!(s.chain[&a].next_t, 1, "{:?}", s.status(0, &a));
    let contradiction = |n: &(u64, usize, Notice)| matches!(n.2, Notice::Contradiction { .. });
    assert!(!s.notices.iter().any(contradiction) && s.blamed().is_empty());
}

#[test]
fn the_same_messages_in_other_frames_are_taken_where_they_lack() {
    for restart in [false, true] {
        day_settles(&[of(0, 3)], &[of(0, 2), of(2, 5)], restart);
        day_settles(&[of(0, 2), of(3, 4)], &[of(0, 5)], restart);
        day_settles(&[of(1, 4)], &[of(0, 3), of(3, 5)], restart);
    }
}

#[test]
fn the_same_loss_in_other_gap_records_is_taken_where_it_lacks() {
    let mut s = Stage::new(2, counts());
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0)], DAYS, 1));
    s.gossip_on = false;
    s.frames(0, &[of(0, 1), gap(0, 1, 2)]);
    s.frames(1, &[of(0, 1), gap(0, 1, 3), of(4, 5)]);
    s.run(DAY_MS + 600_000);
    assert_eq!(s.executed(0, &a)[0], [1]);
    assert_eq!(s.chain[&a].next_t, 1, "{:?}", s.status(0, &a));
}

#[test]
fn the_same_messages_under_another_boot_epoch_stop_nobody() {
    for restart in [false, true] {
        let first = of(0, 1);
        let one = of_epoch(1, 1, 3, opening(1, &first));
        let two = of_epoch(2, 1, 3, opening(1, &first));
        day_settles(
            &[first.clone(), one],
            &[first, two, of_epoch(2, 3, 5, None)],
            restart,
        );
    }
}

#[test]
fn an_opening_that_names_another_frame_of_the_same_messages_is_followed() {
    for restart in [false, true] {
        let whole = of(0, 3);
        let next = of_epoch(1, 3, 5, opening(3, &whole));
        day_settles(&[whole, next], &[of(0, 2), of(2, 3)], restart);
    }
}

#[test]
fn an_opening_that_names_a_frame_which_nobody_was_given_is_followed() {
    for restart in [false, true] {
        let next = of_epoch(1, 3, 5, opening(3, &of(0, 3)));
        let parts = [of(0, 2), of(2, 3), next.clone()];
        day_settles(&parts, &parts[..2], restart);
        day_settles(&parts, &[of(0, 1), of(1, 3), next], restart);
    }
}

#[test]
fn other_messages_below_an_opening_are_found_where_nobody_lacks_any() {
    for named in 0..2 {
        let mut s = Stage::new(2, counts());
        let a = agreement(1);
        s.register(a, &terms(2, &[(0, 0)], DAYS, 1));
        s.gossip_on = false;
        // Two copies of a sensor said different things at q = 2.
        let branches = [of(2, 3), frame(0, 2, &[(day(20), 9)])];
        let next = of_epoch(1, 3, 5, opening(3, &branches[named]));
        for (i, branch) in branches.into_iter().enumerate() {
            for f in [of(0, 2), branch, next.clone()] {
                s.frames(i, &[f]);
                s.settle();
            }
            assert_eq!(s.nodes[i].sensor(&sensor(0)).expect("known").1, 5);
        }
        s.run(20_000);
        let contradiction = |n: &(u64, usize, Notice)| matches!(n.2, Notice::Contradiction { .. });
        assert!(s.notices.iter().any(contradiction));
        let asked = s.requests.len();
        s.run(60_000);
        assert_eq!(s.requests.len(), asked, "and that is that");
    }
}

#[test]
fn what_lies_below_an_opening_is_shown_once() {
    let mut s = Stage::new(2, counts());
    s.register(agreement(1), &terms(2, &[(0, 0)], DAYS, 1));
    s.gossip_on = false;
    let next = of_epoch(1, 3, 5, opening(3, &of(0, 3)));
    for i in 0..2 {
        for f in [of(0, 2), of(2, 3), next.clone()] {
            s.frames(i, &[f]);
            s.settle();
        }
    }
    s.run(DAY_MS / 2);
    assert_eq!(s.requests.len(), 2, "each asks the other: {:?}", s.requests);
}
