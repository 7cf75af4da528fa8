use super::*;
use crate::node::frames::tests::{SENSOR, frame, store};
use diversity_proto::frame::read_body;

fn leaf(first_q: u64, pieces: Vec<Piece>) -> LeafPlan {
    LeafPlan {
        sensor: SENSOR,
        first_q,
        end: WindowEnd::Message,
        width: 1,
        pieces,
    }
}

fn piece(segment: u64, index: u32, skip: u32, take: u32) -> Piece {
    Piece {
        frame: FrameRef { segment, index },
        skip,
        take,
    }
}

#[test]
fn a_window_depends_on_messages_and_never_on_frames() {
    let one = store(&[&[frame(0, &[10, 20, 30, 40, 50])]]);
    let many = store(&[
        &[frame(0, &[10, 20]), frame(2, &[30])],
        &[frame(3, &[40, 50])],
    ]);
    let a = cut_leaf(&leaf(1, vec![piece(0, 0, 1, 3)]), |at| one.1.decoded(at)).expect("cut");
    let b = cut_leaf(
        &leaf(
            1,
            vec![piece(0, 0, 1, 1), piece(0, 1, 0, 1), piece(1, 0, 0, 1)],
        ),
        |at| many.1.decoded(at),
    )
    .expect("cut");
    assert_eq!(a, b);
    assert_eq!((a.first_q, a.count), (1, 3));
}

#[test]
fn a_store_that_says_otherwise_is_damaged() {
    let (_dir, frames) = store(&[&[frame(0, &[10, 20]), frame(2, &[30])]]);
    for pieces in [
        vec![piece(7, 0, 0, 1)],
        vec![piece(0, 5, 0, 1)],
        vec![piece(0, 0, 0, 3)],
        vec![piece(0, 1, 0, 1), piece(0, 0, 0, 1)],
    ] {
        assert!(matches!(
            cut_leaf(&leaf(0, pieces), |at| frames.decoded(at)),
            Err(CutError::Damaged { .. })
        ));
    }
}

fn range(first_q: u64, end_q: u64) -> LeafRange {
    LeafRange {
        sensor: SENSOR,
        first_q,
        end_q,
        width: 1,
        end: WindowEnd::Message,
    }
}

fn decoded(frames: &[Vec<u8>]) -> Vec<Frame> {
    let decode = |f: &Vec<u8>| Frame::decode(f).expect("a frame");
    frames.iter().map(decode).collect()
}

#[test]
fn a_window_cut_again_is_the_one_that_was_planned() {
    let stored = store(&[&[frame(0, &[10, 20]), frame(2, &[30]), frame(3, &[40, 50])]]);
    let planned = leaf(
        1,
        vec![piece(0, 0, 1, 1), piece(0, 1, 0, 1), piece(0, 2, 0, 1)],
    );
    let first = cut((7, 5, 60), &[planned], |at| stored.1.decoded(at)).expect("cut");
    // Where frames say the same, their order is nothing; some hold nothing of it, and a repeated one changes nothing.
    let at_hand = decoded(&[
        frame(3, &[40, 50]),
        frame(0, &[10, 20]),
        frame(2, &[30]),
        frame(0, &[10, 20]),
        frame(9, &[90]),
    ]);
    let again = recut((7, 5, 60), &[range(1, 4)], &at_hand).expect("all is at hand");
    assert_eq!(again, first);
    assert_eq!(again.hash(), first.hash());
}

#[test]
fn what_is_not_at_hand_is_not_made_up() {
    let at_hand = decoded(&[frame(0, &[10, 20]), frame(3, &[40])]);
    for (first_q, end_q, whole) in [
        (0, 2, true),
        (3, 4, true),
        (0, 3, false),
        (2, 4, false),
        (3, 5, false),
        (2, 2, true),
    ] {
        let cut = recut((0, 0, 0), &[range(first_q, end_q)], &at_hand);
        assert_eq!(cut.is_some(), whole, "{first_q}..{end_q}");
    }
    let wider = LeafRange {
        width: 2,
        ..range(0, 2)
    };
    assert_eq!(recut((0, 0, 0), &[wider], &at_hand), None);
    let other = LeafRange {
        sensor: SensorId([2; 20]),
        ..range(0, 2)
    };
    assert_eq!(recut((0, 0, 0), &[other], &at_hand), None);
}

#[test]
fn what_a_gap_record_says_is_lost_is_not_missing() {
    let gap = Frame {
        first_q: 2,
        count: 0,
        lost: 3,
        width: 0,
        body: Vec::new(),
        ..Frame::decode(&frame(0, &[10])).expect("a frame")
    };
    let mut at_hand = decoded(&[frame(0, &[10, 20]), frame(5, &[60, 70])]);
    let missing = recut((0, 0, 0), &[range(0, 7)], &at_hand);
    assert_eq!(missing, None);
    at_hand.push(gap);
    let window = recut((0, 0, 0), &[range(1, 6)], &at_hand).expect("all is at hand");
    let leaf = &window.leaves[0];
    assert_eq!((leaf.first_q, leaf.count), (1, 2), "q 1 and q 5");
    assert!(recut((0, 0, 0), &[range(3, 4)], &at_hand).is_some());
}

#[test]
fn of_frames_that_overlap_the_one_that_was_taken_first_counts() {
    // The sensor signed q 1 to 3 twice, with other times, and between a frame that holds all of it.
    let first = frame(1, &[20, 30]);
    let second = frame(0, &[10, 21, 31, 40]);
    let third = frame(2, &[32, 41, 50]);
    let times = |frames: &[Vec<u8>]| {
        let window = recut((0, 0, 0), &[range(0, 5)], &decoded(frames)).expect("all is at hand");
        let messages = read_body(&window.leaves[0].body, 1);
        let times = messages.map(|m| m.expect("as it was cut").time);
        times.collect::<Vec<_>>()
    };
    let all = [first.clone(), second.clone(), third.clone()];
    assert_eq!(times(&all), [10, 20, 30, 40, 50]);
    let all = [second.clone(), first.clone(), third.clone()];
    assert_eq!(times(&all), [10, 21, 31, 40, 50]);
    let all = [third, first, second];
    assert_eq!(times(&all), [10, 20, 32, 41, 50]);
}

#[test]
fn the_end_of_a_leaf_is_found_again_from_its_count() {
    let frames = decoded(&[
        frame(1, &[20, 30]),
        frame(0, &[10, 21, 31, 40]),
        frame(9, &[90]),
    ]);
    for (first_q, count, end) in [(0, 0, 0), (0, 3, 3), (1, 3, 4), (0, 4, 4), (0, 6, 6)] {
        assert_eq!(end_of(&SENSOR, first_q, count, &frames), end);
    }
}
