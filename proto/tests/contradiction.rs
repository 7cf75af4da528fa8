//! What two frames of a sensor prove against it (R7): different things said of one `q`, and nothing else.

use diversity_proto::frame::{Contradiction, Frame, Message, Opening, write_body};
use diversity_proto::{Digest, SensorId, Signature, Writer};

fn frame(sensor: u8, epoch: u32, first_q: u64, times: &[u64]) -> Vec<u8> {
    let mut body = Writer::new();
    let message = |time: &u64| Message {
        time: *time,
        values: &[1],
    };
    write_body(&mut body, times.iter().map(message));
    let opening = Opening {
        last_q: first_q.wrapping_sub(1),
        last_frame: Digest::ZERO,
    };
    Frame {
        sensor: SensorId([sensor; 20]),
        epoch,
        first_q,
        count: times.len() as u16,
        lost: 0,
        width: 1,
        opening: (epoch > 0).then_some(opening),
        body: body.finish(),
        signature: Signature([1; 64]),
    }
    .encode()
}

fn gap(first_q: u64, lost: u32) -> Vec<u8> {
    Frame {
        sensor: SensorId([1; 20]),
        epoch: 0,
        first_q,
        count: 0,
        lost,
        width: 0,
        opening: None,
        body: Vec::new(),
        signature: Signature([1; 64]),
    }
    .encode()
}

#[test]
fn only_what_differs_at_one_q_is_a_contradiction() {
    let base = frame(1, 0, 10, &[100, 101, 102]);
    let cases: [(&str, Vec<u8>, Option<u64>); 13] = [
        ("the same again", base.clone(), None),
        (
            "another cut, equal messages",
            frame(1, 0, 11, &[101, 102, 103]),
            None,
        ),
        (
            "its last message differs",
            frame(1, 0, 11, &[101, 109]),
            Some(12),
        ),
        (
            "its first message differs",
            frame(1, 0, 8, &[98, 99, 77]),
            Some(10),
        ),
        (
            "of several the lowest",
            frame(1, 0, 10, &[100, 7, 8]),
            Some(11),
        ),
        ("no overlap", frame(1, 0, 13, &[1]), None),
        ("far below", frame(1, 0, 0, &[1]), None),
        ("another sensor", frame(2, 0, 10, &[1, 2, 3]), None),
        (
            "another boot epoch, another message",
            frame(1, 1, 10, &[1, 2, 3]),
            Some(10),
        ),
        (
            "another boot epoch, equal messages",
            frame(1, 1, 10, &[100, 101]),
            None,
        ),
        (
            "a message that is said to be lost",
            gap(12, 1_000),
            Some(12),
        ),
        ("a gap behind it", gap(13, 1_000), None),
        ("no frame", vec![1, 2, 3], None),
    ];
    for (what, other, q) in cases {
        for (first, second) in [(&base, &other), (&other, &base)] {
            let found = Contradiction::of(first, second).map(|c| c.q);
            assert_eq!(found, q, "{what}");
        }
    }
    assert_eq!(
        Contradiction::of(&gap(0, 9), &gap(4, u32::MAX)),
        None,
        "two gaps agree"
    );
}
