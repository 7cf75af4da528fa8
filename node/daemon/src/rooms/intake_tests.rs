use super::*;
use crate::rooms::testkit::{DEPLOYMENT, Kit, Loop, key, sensor};
use diversity_engine::api::IngestAnswer;
use diversity_keys::VerifyingKey;
use diversity_proto::time::Implausible;
use tokio::sync::mpsc;

/// As much of a frame as the order of mention needs.
fn frame(seed: u8) -> Vec<u8> {
    [&[1, 0][..], &sensor(seed).0, &[0; 8]].concat()
}

fn intake(kit: &Kit, ingested: IngestAnswer) -> Intake {
    let answers = Loop {
        ingested: Some(ingested),
        ..Loop::default()
    };
    Intake::new(&kit.shared, answers.run())
}

#[tokio::test]
async fn what_is_held_is_signed_in_the_order_of_mention() {
    let kit = Kit::new();
    let answer = IngestAnswer {
        held: vec![(sensor(1), 0, 5), (sensor(2), 3, 9)],
        refused: vec![(1, Some((sensor(1), 7)), Refusal::TooFarAhead { next_q: 5 })],
        wrong_times: vec![WrongTime {
            index: 2,
            sensor: sensor(2),
            first_q: 8,
            time: 1_795_834_000_000,
            why: Implausible::Milliseconds,
        }],
    };
    let frames = vec![frame(2), frame(1), frame(2)];
    let receipt = intake(&kit, answer).take(frames).await.expect("taken");
    assert!(!receipt.nothing_taken());
    let ack = &receipt.acknowledgement;
    let order: Vec<_> = ack.acknowledged.iter().map(|h| h.sensor).collect();
    assert_eq!(order, [sensor(2), sensor(1)]);
    let by = VerifyingKey::from_bytes(&key(11).public_key()).expect("a key");
    assert!(by.verify(&ack.digest(&DEPLOYMENT).0, &ack.signature.0));
    assert_eq!(
        (ack.refused[0].index, ack.refused[0].code.as_str()),
        (1, codes::TOO_FAR_AHEAD)
    );
    assert!(ack.refused[0].detail.contains("q 5"), "{ack:?}");
    let [remark] = &ack.remarks[..] else {
        panic!("one frame is odd: {ack:?}")
    };
    assert_eq!(
        (remark.index, remark.first_q, remark.code.as_str()),
        (2, 8, codes::IMPLAUSIBLE_TIME)
    );
    assert!(remark.detail.contains("milliseconds"), "{remark:?}");
    let metrics = kit.shared.metrics.text();
    assert!(metrics.contains("implausible_times_total 1"), "{metrics}");
}

#[tokio::test]
async fn nothing_taken_is_said_with_every_reason() {
    let kit = Kit::new();
    let answer = IngestAnswer {
        held: Vec::new(),
        refused: vec![
            (0, None, Refusal::UnknownSensor),
            (1, None, Refusal::BadSignature),
        ],
        wrong_times: Vec::new(),
    };
    let taken = intake(&kit, answer).take(vec![frame(1), frame(2)]).await;
    let receipt = taken.expect("answered");
    assert!(receipt.nothing_taken());
    assert_eq!(
        receipt.refusals,
        [Refusal::UnknownSensor, Refusal::BadSignature]
    );
    let none = intake(
        &kit,
        IngestAnswer {
            held: vec![],
            refused: vec![],
            wrong_times: vec![],
        },
    )
    .take(Vec::new())
    .await;
    assert!(matches!(none, Err(RoomError::Malformed(_))));
}

#[tokio::test]
async fn a_full_queue_is_said_at_once_and_an_end_is_an_end() {
    let kit = Kit::new();
    let (commands, asked) = mpsc::channel(1);
    let intake = Intake::new(&kit.shared, Core::new(commands));
    let first = tokio::spawn({
        let intake = intake.clone();
        async move { intake.take(vec![frame(1)]).await }
    });
    while asked.is_empty() {
        tokio::task::yield_now().await;
    }
    let second = intake.take(vec![frame(1)]).await;
    assert!(matches!(second, Err(RoomError::Busy(_))), "{second:?}");
    drop(asked);
    let first = first.await.expect("no panic");
    assert_eq!(first.expect_err("nobody answered"), RoomError::stopping());
    let third = intake.take(vec![frame(1)]).await;
    assert_eq!(third.expect_err("the loop is gone"), RoomError::stopping());
}

#[tokio::test]
async fn sensors_are_asked_for_once_and_within_a_bound() {
    let kit = Kit::new();
    let answers = Loop {
        held: vec![Some((0, 4, None)), None],
        ..Loop::default()
    };
    let intake = Intake::new(&kit.shared, answers.run());
    let asked = vec![sensor(1), sensor(2), sensor(1)];
    let held = intake.held(asked).await.expect("answered");
    assert_eq!(
        held.acknowledged,
        [Held {
            sensor: sensor(1),
            epoch: 0,
            next_q: 4
        }]
    );
    let many = (0..=ACKNOWLEDGED_SENSORS_MAX)
        .map(|i| {
            let mut id = [0; 20];
            id[..8].copy_from_slice(&i.to_be_bytes());
            SensorId(id)
        })
        .collect();
    for sensors in [Vec::new(), many] {
        let refused = intake.held(sensors).await;
        assert!(matches!(refused, Err(RoomError::Malformed(_))));
    }
}
