//! Right windows, always: what is cut, whoever looks when (design §2, §3b; docs/protocol.md, Windows).

mod stage;

use diversity_engine::api::{ChainEvent, Notice, Submission};
use diversity_engine::{Input, records};
use diversity_proto::frame::{Contradiction, Opening};
use diversity_proto::held::{Held, OpenSensor};
use diversity_proto::terms::WindowSpec;
use diversity_proto::time::Implausible;
use diversity_proto::window::WindowEnd;
use diversity_proto::wire::{Part, decode_envelope};
use stage::*;

/// Days, the first of which is just over when the stage begins.
const DAYS: WindowSpec = WindowSpec::Seconds {
    start: START / 1_000 - 86_400,
    seconds: 86_400,
};
/// Sensor time so many seconds after the first day began.
fn day(seconds: u64) -> u64 {
    START / 1_000 - 86_400 + seconds
}

/// Ten messages in each of four windows, and one in the fifth.
fn four_windows(s: &mut Stage) {
    for q in 0..41 {
        s.frames(0, &[frame(0, q, &[(1_000_000 + q * 10, 1)])]);
    }
}

#[test]
fn a_later_agreement_with_an_older_start_is_cut_from_what_was_forgotten() {
    for restart in [false, true] {
        let mut s = Stage::new(2, counts());
        let (a, b) = (agreement(1), agreement(2));
        s.register(a, &terms(2, &[(0, 0)], OLD, 1));
        four_windows(&mut s);
        s.run(10_000);
        assert_eq!(s.executed(0, &a), vec![[10]; 4]);
        if restart {
            s.restart(1);
        }
        s.register(b, &terms(2, &[(0, 0)], OLD, 1));
        s.run(20_000);
        for i in 0..2 {
            assert_eq!(
                s.executed(i, &b),
                vec![[10]; 4],
                "restart {restart}, node {i}"
            );
        }
        assert_eq!(s.chain[&b].next_t, 4);
    }
}

#[test]
fn a_start_in_the_middle_of_a_forgotten_trace_is_right_too() {
    let mut s = Stage::new(2, counts());
    let (a, b) = (agreement(1), agreement(2));
    s.register(a, &terms(2, &[(0, 0)], OLD, 1));
    four_windows(&mut s);
    s.run(10_000);
    s.register(b, &terms(2, &[(0, 5)], OLD, 1));
    s.run(20_000);
    assert_eq!(s.executed(1, &b), vec![[5], [10], [10], [10]]);
}

#[test]
fn one_message_from_the_far_future_is_skipped_by_data_alone() {
    let mut s = Stage::new(2, counts());
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0)], OLD, 1));
    s.frames(0, &[frame(0, 0, &[(1_000_000, 1)])]);
    s.frames(0, &[frame(0, 1, &[((1 << 48) - 1, 1)])]);
    for q in 2..21 {
        s.frames(0, &[frame(0, q, &[(1_000_000 + q * 10, 1)])]);
    }
    s.run(10_000);
    assert_eq!(
        s.executed(0, &a)[0],
        [10],
        "q = 10 is the first at or past T1"
    );
    assert_eq!(s.status(1, &a).open_t, 2);
}

#[test]
fn a_silent_sensor_is_closed_by_what_all_nodes_hold_past_the_grace() {
    let mut s = Stage::new(3, counts());
    let a = agreement(1);
    s.register(a, &terms(3, &[(0, 0), (1, 0)], DAYS, 1));
    for q in 0..3 {
        s.frames(0, &[frame(0, q, &[(day(q * 10), 1)])]);
    }
    s.frames(0, &[frame(1, 0, &[(day(86_400), 1)])]);
    s.run(DAY_MS - 60_000);
    assert_eq!(
        s.chain[&a].next_t, 0,
        "within the grace nothing ends by itself"
    );
    assert_eq!(s.status(0, &a).waiting.sensors, [sensor(0)]);
    s.run(120_000);
    assert_eq!(s.chain[&a].next_t, 1);
    let (_, plan) = s.plans.iter().find(|(i, _)| *i == 2).expect("executed");
    assert_eq!(plan.leaves[0].end, WindowEnd::ClosingRecord);
    assert_eq!(plan.leaves[1].end, WindowEnd::Message);
    assert_eq!(s.executed(2, &a)[0], [3, 0]);
    assert!(s.chain[&a].reverted.is_empty() && s.blamed().is_empty());
}

#[test]
fn messages_that_only_one_node_holds_are_fetched_before_a_record_ends_a_window() {
    let mut s = Stage::new(3, counts());
    let a = agreement(1);
    s.register(a, &terms(3, &[(0, 0)], DAYS, 1));
    s.run(DAY_MS - 2_000);
    s.gossip_on = false;
    s.serves = Box::new(|_, _| false);
    s.frames(2, &[frame(0, 0, &[(day(0), 1), (day(1), 1)])]);
    s.run(10_000);
    assert_eq!(s.chain[&a].next_t, 0, "two nodes lack what the third holds");
    s.serves = Box::new(|_, _| true);
    s.run(600_000);
    assert_eq!(s.executed(0, &a)[0], [2]);
    assert_eq!(s.chain[&a].next_t, 1);
}

#[test]
fn a_node_that_was_cut_by_messages_says_so_and_the_others_wait_for_the_message() {
    let mut s = Stage::new(2, counts());
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0)], DAYS, 1));
    s.gossip_on = false;
    s.serves = Box::new(|_, _| false);
    s.frames(0, &[frame(0, 0, &[(day(0), 1), (day(86_400), 1)])]);
    s.run(DAY_MS + 60_000);
    assert_eq!(s.status(0, &a).open_t, 1);
    assert_eq!(
        s.status(1, &a).open_t,
        0,
        "node 1 lacks the message that ends it"
    );
    assert_eq!(s.status(1, &a).waiting.sensors, [sensor(0)]);
    s.serves = Box::new(|_, _| true);
    s.run(600_000);
    let (_, plan) = s
        .plans
        .iter()
        .find(|(i, p)| *i == 1 && p.t == 0)
        .expect("executed");
    assert_eq!(plan.leaves[0].end, WindowEnd::Message);
    assert!(s.chain[&a].next_t >= 1);
}

#[test]
fn held_survives_a_restart_of_each_node_at_each_moment() {
    for i in 0..3 {
        for after in [0, 1, 500, 2_000, 5_000] {
            let mut s = Stage::new(3, counts());
            let a = agreement(1);
            let mut t = terms(3, &[(0, 0)], DAYS, 1);
            t.grace_s = 60;
            s.register(a, &t);
            s.run(60_000 + after);
            s.restart(i);
            s.run(600_000);
            assert_eq!(
                s.chain[&a].holes,
                [] as [u64; 0],
                "node {i} after {after} ms"
            );
            assert!(s.chain[&a].next_t >= 1, "node {i} after {after} ms");
        }
    }
}

#[test]
fn a_void_that_reaches_nodes_at_different_times_blocks_nobody() {
    let mut s = Stage::new(2, counts());
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0), (1, 0)], DAYS, 1));
    for k in 0..2 {
        for q in 0..5 {
            s.frames(0, &[frame(k, q, &[(day(q * 10), 1)])]);
        }
    }
    s.run(3_000);
    s.frames(0, &[frame(1, 5, &[(day(86_400), 1)])]);
    s.run(3_000);
    s.gossip_on = false;
    let two = (frame(0, 3, &[(day(30), 1)]), frame(0, 3, &[(day(30), 2)]));
    let void = Input::Chain(ChainEvent::SensorVoid {
        sensor: sensor(0),
        contradiction: Contradiction::of(&two.0.encode(), &two.1.encode()).expect("they differ"),
    });
    // Node 1 hears of it before the message that would end the window, node 0 after it has cut.
    s.input(1, void.clone());
    s.settle();
    s.frames(0, &[frame(0, 5, &[(day(86_400), 1)])]);
    s.settle();
    s.input(0, void);
    s.gossip_on = true;
    s.run(2 * DAY_MS);
    for i in 0..2 {
        assert_eq!(s.status(i, &a).halted, None);
        assert!(s.status(i, &a).undecided_t >= 1, "{:?}", s.status(i, &a));
    }
}

#[test]
fn a_copied_key_that_forks_by_a_boot_epoch_leaves_evidence() {
    let mut s = Stage::new(2, counts());
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0)], DAYS, 1));
    let first = frame(0, 0, &[(day(0), 1)]);
    s.frames(0, std::slice::from_ref(&first));
    s.run(2_000);
    s.gossip_on = false;
    s.frames(0, &[frame(0, 1, &[(day(50), 1)])]);
    let opening = Opening {
        last_q: 0,
        last_frame: first.digest(&deployment()),
    };
    s.frames(
        1,
        &[frame_of_epoch(0, 1, 1, Some(opening), &[(day(60), 0)])],
    );
    s.settle();
    s.frames(0, &[frame(0, 2, &[(day(70), 1)])]);
    s.gossip_on = true;
    s.run(60_000);
    let found = |i: usize| {
        let is = |n: &(u64, usize, Notice)| {
            n.1 == i && matches!(n.2, Notice::Contradiction { q: 1, .. })
        };
        s.notices.iter().any(is)
    };
    assert!(
        found(0) || found(1),
        "two epochs at q = 1 are a contradiction"
    );
    s.run(2 * DAY_MS);
    assert!(s.chain[&a].next_t >= 1, "{:?}", s.status(0, &a));
    assert_eq!(s.nodes[0].sensor(&sensor(0)).expect("known").2, Some(1));
}

#[test]
fn a_gap_record_closes_a_range_that_the_device_lost() {
    let mut s = Stage::new(2, counts());
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0)], DAYS, 1));
    s.frames(0, &[frame(0, 0, &[(day(0), 1)])]);
    s.frames(1, &[frame(0, 5, &[(day(90), 1), (day(86_400), 1)])]);
    s.run(5_000);
    assert_eq!(s.chain[&a].next_t, 0, "q = 1..5 are missing");
    s.frames(0, &[gap(0, 1, 4)]);
    s.run(20_000);
    assert_eq!(s.executed(1, &a)[0], [2]);
    assert_eq!(s.chain[&a].next_t, 1);
}

#[test]
fn a_gap_record_beside_a_message_is_a_contradiction() {
    let mut s = Stage::new(2, counts());
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0)], OLD, 1));
    s.frames(0, &[frame(0, 0, &[(1_000_000, 1), (1_000_001, 1)])]);
    s.settle();
    s.frames(0, &[gap(0, 1, 4)]);
    s.run(1_000);
    assert_eq!(s.nodes[1].sensor(&sensor(0)).expect("known").2, Some(1));
}

#[test]
fn an_agreement_whose_sensors_are_all_void_ends_and_never_runs_ahead_of_the_clock() {
    let mut s = Stage::new(2, counts());
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0)], DAYS, 1));
    s.frames(0, &[frame(0, 0, &[(day(0), 1)])]);
    s.settle();
    s.frames(0, &[frame(0, 0, &[(day(0), 2)])]);
    s.run(30 * DAY_MS);
    assert_eq!(
        s.chain[&a].next_t, 1,
        "the window that voids the last sensor is the last"
    );
    assert!(s.status(0, &a).ended);
}

#[test]
fn a_month_never_settles_before_it_is_over() {
    let seconds = START / 1_000;
    let spec = WindowSpec::Seconds {
        start: seconds,
        seconds: 3_600,
    };
    let mut s = Stage::new(2, counts());
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0)], spec, 1));
    // A clock that is half an hour ahead, and messages of the next three hours.
    for q in 0..4 {
        s.frames(0, &[frame(0, q, &[(seconds + 1_800 + q * 3_600, 1)])]);
    }
    s.run(3_599_000);
    assert_eq!(s.status(0, &a).open_t, 0);
    s.run(1_801_000);
    assert_eq!(
        s.status(0, &a).open_t,
        1,
        "its candidate of the next hour counts by now"
    );
}

#[test]
fn count_windows_of_a_silent_sensor_end_by_a_record_too() {
    let mut s = Stage::new(2, counts());
    let a = agreement(1);
    s.register(
        a,
        &terms(2, &[(0, 0)], WindowSpec::Count { z: 4, slide: 4 }, 1),
    );
    for q in 0..6 {
        s.frames(0, &[frame(0, q, &[(1_000 + q, 1)])]);
    }
    s.run(10_000);
    assert_eq!(s.chain[&a].next_t, 1);
    s.run(DAY_MS);
    assert_eq!(s.executed(1, &a), vec![[4], [2]]);
    assert_eq!(s.chain[&a].next_t, 2);
}

#[test]
fn evidence_against_a_sensor_is_owed_as_soon_as_it_is_known_durably() {
    for writes in 0..3 {
        let mut s = Stage::new(2, counts());
        let a = agreement(1);
        s.register(a, &terms(2, &[(0, 0)], DAYS, 1));
        s.gossip_on = false;
        s.outbox_on = false;
        s.frames(0, &[frame(0, 0, &[(1_000, 1)])]);
        s.run(10_000);
        s.writes_left[0] = writes;
        s.frames(0, &[frame(0, 0, &[(1_000, 2)])]);
        s.settle();
        s.restart(0);
        let known = s.store[0]
            .iter()
            .filter(|(k, _)| k[0] == records::SENSOR)
            .any(|(_, v)| {
                let record = records::SensorRecord::decode(v).expect("the core wrote it");
                record.contradiction.is_some()
            });
        s.submits.clear();
        s.outbox_on = true;
        s.run(60_000);
        let is = |x: &(u64, usize, Submission)| matches!(x.2, Submission::Contradiction { .. });
        assert_eq!(s.submits.iter().any(is), known, "after {writes} writes");
        assert_eq!(known, writes > 0);
    }
}

#[test]
fn a_time_that_cannot_be_is_kept_and_named() {
    let now = START / 1_000;
    // Never set, milliseconds, 2036.
    for (time, why) in [
        (0, Implausible::Unset),
        (now * 1_000, Implausible::Milliseconds),
        (2_082_758_400, Implausible::Future),
    ] {
        let mut s = Stage::new(2, counts());
        let a = agreement(1);
        s.register(a, &terms(2, &[(0, 0)], DAYS, 1));
        let bad = frame(0, 1, &[(day(20), 1), (time, 1)]);
        s.frames(0, &[frame(0, 0, &[(day(10), 1)]), bad.clone()]);
        s.settle();
        // Again: it is held already, and its time is no better.
        s.frames(0, &[bad]);
        s.run(2_000);
        for answer in &s.answers {
            let (node, answer) = answer;
            assert_eq!((*node, &answer.refused[..]), (0, &[][..]), "{time}");
            assert_eq!(answer.held, [(sensor(0), 0, 3)], "kept all the same");
            let [wrong] = &answer.wrong_times[..] else {
                panic!("one frame is wrong: {answer:?}")
            };
            assert_eq!((wrong.sensor, wrong.first_q), (sensor(0), 1));
            assert_eq!((wrong.time, wrong.why), (time, why));
        }
        assert_eq!(s.answers[0].1.wrong_times[0].index, 1);
        for i in 0..2 {
            assert_eq!(s.status(i, &a).waiting.wrong_times, [(sensor(0), 2, time)]);
            let told =
                |n: &&(u64, usize, Notice)| n.1 == i && matches!(n.2, Notice::WrongTime { .. });
            assert_eq!(s.notices.iter().filter(told).count(), 1);
        }
        // A clock that is set again.
        s.frames(0, &[frame(0, 3, &[(day(86_400), 1)])]);
        s.run(2_000);
        assert_eq!(s.chain[&a].next_t, 1);
        assert!(s.status(0, &a).waiting.wrong_times.is_empty());
    }
}

#[test]
fn a_frame_that_is_refused_is_not_remarked_on() {
    let mut s = Stage::new(2, counts());
    s.register(agreement(1), &terms(2, &[(0, 0)], DAYS, 1));
    let mut bad = frame(0, 0, &[(0, 1)]);
    bad.signature.0[0] ^= 1;
    s.frames(0, &[bad]);
    s.settle();
    let answer = &s.answers[0].1;
    assert_eq!((answer.refused.len(), answer.wrong_times.len()), (1, 0));
}

#[test]
fn a_count_window_needs_messages() {
    let mut s = Stage::new(2, counts());
    let a = agreement(1);
    let mut t = terms(
        2,
        &[(0, 0), (1, 0)],
        WindowSpec::Count { z: 4, slide: 1 },
        1,
    );
    t.grace_s = 1;
    s.register(a, &t);
    s.run(DAY_MS);
    assert!(s.plans.is_empty(), "nothing was said, so nothing is run");
    for q in 0..2 {
        s.frames(0, &[frame(0, q, &[(1_000 + q, 1)])]);
    }
    s.run(900);
    assert!(
        s.plans.is_empty(),
        "the grace begins with the first message, however long it was quiet before"
    );
    s.run(DAY_MS);
    assert_eq!(s.executed(1, &a), vec![[2, 0], [1, 0]]);
    for i in 0..2 {
        s.restart(i);
    }
    s.run(DAY_MS);
    assert_eq!(s.executed(1, &a).len(), 2);
    s.frames(1, &[frame(1, 0, &[(2_000, 1)])]);
    s.run(DAY_MS);
    assert_eq!(s.executed(0, &a)[2], [0, 1]);
    assert_eq!(s.chain[&a].next_t, 3);
}

#[test]
fn count_windows_of_void_sensors_end_whatever_one_of_them_says() {
    // With four messages window 0 is full before the last one is contradicted: the next window voids the sensors.
    for (last_q, windows) in [(0, 1), (3, 2), (9, 3)] {
        let mut s = Stage::new(2, counts());
        let a = agreement(1);
        let spec = WindowSpec::Count { z: 4, slide: 4 };
        let mut t = terms(2, &[(0, 0), (1, 0)], spec, 1);
        t.grace_s = 1;
        s.register(a, &t);
        for k in 0..2 {
            for q in 0..=last_q {
                s.frames(0, &[frame(k, q, &[(1_000 + q, 1)])]);
            }
            s.settle();
            s.frames(1, &[frame(k, last_q, &[(1_000 + last_q, 2)])]);
            s.settle();
        }
        s.run(30 * DAY_MS);
        assert_eq!(s.chain[&a].next_t, windows, "contradiction at q {last_q}");
        assert!(s.status(0, &a).ended && s.status(1, &a).ended);
        assert!(s.plans.len() < 10, "nothing runs on");
    }
}

/// A node with an old store would say otherwise which sensors are open; what others hold of it counts (P-RECALL-2).
#[test]
fn a_list_that_others_hold_of_this_node_takes_the_place_of_its_own() {
    let mut s = Stage::new(2, counts());
    let a = agreement(1);
    s.register(a, &terms(2, &[(0, 0), (1, 0)], DAYS, 1));
    let all = [
        frame(0, 0, &[(day(0), 1), (day(86_400), 1)]),
        frame(1, 0, &[(day(0), 1)]),
    ];
    s.frames(0, &all);
    s.settle();
    // As node 0 said it before its store was lost: it held one message of sensor 1.
    let mut held = Held {
        open: vec![OpenSensor {
            index: 1,
            lacks: 1,
            contradiction: None,
        }],
        signature: diversity_proto::Signature([0; 64]),
    };
    let digest = held.digest(&subject(&a, 0, 0), &node(0));
    held.signature = sign(&node_key(0), &digest);
    let shown = Part::Held {
        agreement: a,
        epoch: 0,
        t: 0,
        held,
    };
    s.input(
        0,
        Input::Message {
            from: node(0),
            parts: vec![shown.clone()],
        },
    );
    // By now it holds another one, and the record must not show it.
    s.frames(0, &[frame(1, 1, &[(day(0) + 1, 1)])]);
    s.run(2 * DAY_MS);
    let kept = s.store[0].get(&records::held_key(&a, 0, 0));
    let kept = kept.map(|envelope| decode_envelope(envelope).expect("an envelope"));
    assert_eq!(kept, Some(vec![shown]));
    assert!(s.chain[&a].next_t >= 1, "and the window ends by it");
    assert!(s.blamed().is_empty() && !s.halted());
}
