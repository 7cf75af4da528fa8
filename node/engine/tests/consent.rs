//! Who hears of which sensor: the nodes of the agreements that it is in, and nobody else (docs/protocol.md, P-COMMON, P-QUOTA).

mod stage;

use diversity_engine::api::{Input, Notice, Refusal, Source};
use diversity_proto::SensorId;
use diversity_proto::wire::Range;
use stage::*;

fn next_q(s: &Stage, node: usize, k: u8) -> Option<u64> {
    s.nodes[node].sensor(&sensor(k)).map(|held| held.1)
}

fn foreign(s: &Stage, at: usize) -> Vec<(usize, SensorId, bool)> {
    let seen = |n: &(u64, usize, Notice)| match &n.2 {
        Notice::Foreign {
            node,
            sensor,
            asked,
        } if n.1 == at => Some((Stage::index(node), *sensor, *asked)),
        _ => None,
    };
    s.notices.iter().filter_map(seen).collect()
}

/// Nodes 0 and 1 share sensor 0, all three share sensor 1.
fn of_two_and_of_three() -> Stage {
    let mut s = Stage::new(3, counts());
    s.register(agreement(1), &terms(2, &[(0, 0)], EACH, 1));
    s.register(agreement(2), &terms(3, &[(1, 0)], EACH, 1));
    s
}

#[test]
fn a_frame_is_published_once_and_to_those_who_share_its_sensor() {
    let mut s = of_two_and_of_three();
    s.frames(0, &[frame(0, 0, &[(1_000, 1)])]);
    s.run(1_000);
    assert_eq!(s.gossiped, [(0, agreement(1), 1)], "once");
    assert_eq!(next_q(&s, 1, 0), Some(1));
    assert_eq!(next_q(&s, 2, 0).unwrap_or(0), 0, "a stranger to it");

    // Both sensors in one request are two batches, and a sensor in two agreements is published on both.
    s.gossiped.clear();
    s.register(agreement(3), &terms(2, &[(1, 0)], EACH, 1));
    let both = [frame(0, 1, &[(1_001, 1)]), frame(1, 0, &[(1_001, 1)])];
    s.frames(1, &both);
    s.run(1_000);
    s.gossiped.sort_unstable();
    let wanted = [1, 2, 3].map(|a| (1, agreement(a), 1));
    assert_eq!(s.gossiped, wanted);
    assert_eq!((next_q(&s, 0, 0), next_q(&s, 2, 1)), (Some(2), Some(1)));
}

#[test]
fn who_asks_for_the_messages_of_a_sensor_that_it_does_not_share_is_refused() {
    let mut s = of_two_and_of_three();
    s.frames(0, &[frame(0, 0, &[(1_000, 1)]), frame(1, 0, &[(1_000, 1)])]);
    s.run(1_000);
    let asks = |k: u8| Range {
        sensor: sensor(k),
        from_q: 0,
        to_q: 1,
    };
    s.ask(2, 0, vec![asks(1)]);
    s.ask(1, 0, vec![asks(0)]);
    s.run(100);
    assert!(s.refused.is_empty(), "{:?}", s.refused);
    // Together with what it may have, it is refused as well: no node asks so by mistake.
    for ranges in [vec![asks(0)], vec![asks(1), asks(0)], vec![asks(9)]] {
        s.refused.clear();
        s.served.clear();
        s.ask(2, 0, ranges);
        s.run(100);
        assert_eq!((s.refused.as_slice(), s.served.len()), (&[(0, 2)][..], 0));
    }
    let counted = foreign(&s, 0);
    assert_eq!(counted.len(), 3, "each is counted: {counted:?}");
    assert!(counted.iter().all(|(who, _, asked)| *who == 2 && *asked));
}

#[test]
fn what_a_peer_sends_of_a_sensor_that_it_does_not_share_is_not_taken() {
    let mut s = of_two_and_of_three();
    let frames = [frame(0, 0, &[(1_000, 1)]), frame(1, 0, &[(1_000, 1)])];
    s.input(
        0,
        Input::Frames {
            source: Source::Peer(node(2)),
            frames: frames.iter().map(|f| f.encode()).collect(),
        },
    );
    s.run(1_000);
    assert_eq!((next_q(&s, 0, 0), next_q(&s, 0, 1)), (Some(0), Some(1)));
    assert_eq!(foreign(&s, 0), [(2, sensor(0), false)]);
}

fn refusals(s: &Stage) -> Vec<Option<Refusal>> {
    let first =
        |a: &(usize, diversity_engine::api::IngestAnswer)| a.1.refused.first().map(|r| r.2.clone());
    s.answers.iter().map(first).collect()
}

#[test]
fn sensors_without_an_agreement_have_a_quota_that_an_agreement_frees() {
    let size = frame(5, 0, &[(1_000, 1)]).encode().len() as u64;
    for (frames_max, bytes_max) in [(2, 1_000_000), (1_000, 2 * size)] {
        let mut s = Stage::new(2, counts());
        s.unagreed = (frames_max, bytes_max);
        s.restart(0);
        for k in [5, 6] {
            s.known(k);
        }
        let full = Refusal::Quota {
            frames_max,
            bytes_max,
        };
        for q in 0..2 {
            s.frames(0, &[frame(5, q, &[(1_000 + q, 1)])]);
        }
        s.run(100);
        assert_eq!(refusals(&s), [None, None]);
        assert!(s.gossiped.is_empty(), "nobody is told of them");
        // One more of either is refused in words, also after a restart, and the acknowledgement says what is held.
        s.restart(0);
        s.answers.clear();
        s.frames(0, &[frame(5, 2, &[(1_002, 1)])]);
        s.frames(0, &[frame(6, 0, &[(1_002, 1)])]);
        // What is held already is held.
        s.frames(0, &[frame(5, 1, &[(1_001, 1)])]);
        s.run(100);
        assert_eq!(refusals(&s), [Some(full.clone()), Some(full), None]);
        let held: Vec<_> = s.answers.iter().map(|a| a.1.held[0].2).collect();
        assert_eq!(held, [2, 0, 2]);
        // One request that would go beyond it is taken as far as there is room.
        s.register(agreement(1), &terms(2, &[(5, 0)], EACH, 1));
        s.answers.clear();
        let three = [0, 1, 2].map(|q| frame(6, q, &[(1_000 + q, 1)]));
        s.frames(0, &three);
        s.frames(0, &[frame(5, 2, &[(1_002, 1)])]);
        s.run(5_000);
        let held: Vec<_> = s.answers.iter().map(|a| a.1.held[0].2).collect();
        assert_eq!(held, [2, 3]);
        assert_eq!(s.answers[0].1.refused.len(), 1);
        // Its trace reaches the other node, which heard nothing of it before the agreement.
        assert_eq!(next_q(&s, 1, 5), Some(3));
    }
}
