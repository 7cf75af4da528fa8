//! Evidence that a sensor contradicted itself (R5, R7).

use diversity_proto::frame::Frame;

/// The first q at which two frames of one sensor and epoch carry different messages; both signatures are checked already.
/// Nothing for frames that do not overlap, that agree, or that do not decode.
pub fn contradiction(first: &[u8], second: &[u8]) -> Option<u64> {
    let (first, second) = (Frame::decode(first).ok()?, Frame::decode(second).ok()?);
    if first.sensor != second.sensor || first.epoch != second.epoch {
        return None;
    }
    let from = first.first_q.max(second.first_q);
    let to = first.next_q().min(second.next_q());
    let skipped = |f: &Frame| usize::try_from(from - f.first_q).ok();
    if from >= to {
        return None;
    }
    let pairs = first
        .messages()
        .skip(skipped(&first)?)
        .zip(second.messages().skip(skipped(&second)?));
    (from..to)
        .zip(pairs)
        .find(|(_, (a, b))| a != b)
        .map(|(q, _)| q)
}

#[cfg(test)]
mod tests {
    use super::*;
    use diversity_proto::frame::{Message, write_body};
    use diversity_proto::{SensorId, Signature, Writer};

    fn frame(sensor: u8, epoch: u32, first_q: u64, times: &[u64]) -> Vec<u8> {
        let mut body = Writer::new();
        write_body(
            &mut body,
            times.iter().map(|time| Message {
                time: *time,
                values: &[1],
            }),
        );
        Frame {
            sensor: SensorId([sensor; 20]),
            epoch,
            first_q,
            count: times.len() as u16,
            width: 1,
            opening: None,
            body: body.finish(),
            signature: Signature([1; 64]),
        }
        .encode()
    }

    #[test]
    fn only_a_differing_message_at_one_q_is_a_contradiction() {
        let base = frame(1, 0, 10, &[100, 101, 102]);
        assert_eq!(
            contradiction(&base, &frame(1, 0, 10, &[100, 101, 102])),
            None
        );
        assert_eq!(
            contradiction(&base, &frame(1, 0, 11, &[101, 102, 103])),
            None,
            "another cut, equal messages"
        );
        assert_eq!(
            contradiction(&base, &frame(1, 0, 11, &[101, 109])),
            Some(12)
        );
        assert_eq!(
            contradiction(&base, &frame(1, 0, 8, &[98, 99, 77])),
            Some(10)
        );
        assert_eq!(
            contradiction(&base, &frame(1, 0, 13, &[1])),
            None,
            "no overlap"
        );
        assert_eq!(
            contradiction(&base, &frame(2, 0, 10, &[1, 2, 3])),
            None,
            "another sensor"
        );
        assert_eq!(
            contradiction(&base, &frame(1, 1, 10, &[1, 2, 3])),
            None,
            "another epoch"
        );
        assert_eq!(contradiction(&base, &[1, 2, 3]), None);
    }
}
