use super::*;
use diversity_proto::frame::{Message, write_body};
use diversity_proto::{SensorId, Signature, Writer};

/// Whose frames they are.
pub const SENSOR: SensorId = SensorId([1; 20]);

/// A frame of [`SENSOR`].
pub fn frame(first_q: u64, times: &[u64]) -> Vec<u8> {
    encoded(SENSOR, first_q, times)
}

/// A frame whose signature nobody has made.
pub fn encoded(sensor: SensorId, first_q: u64, times: &[u64]) -> Vec<u8> {
    let mut body = Writer::new();
    write_body(
        &mut body,
        times.iter().map(|time| Message {
            time: *time,
            values: &[9],
        }),
    );
    Frame {
        sensor,
        epoch: 0,
        first_q,
        count: times.len() as u16,
        lost: 0,
        width: 1,
        opening: None,
        body: body.finish(),
        signature: Signature([1; 64]),
    }
    .encode()
}

/// A store of these segments.
pub fn store(frames: &[&[Vec<u8>]]) -> (tempfile::TempDir, Frames) {
    let dir = tempfile::tempdir().expect("dir");
    let store = Store::open(&dir.path().join("store"), b"test").expect("store");
    for (number, frames) in (0u64..).zip(frames) {
        let value = diversity_proto::wire::encode_frames(frames.iter().map(|f| &f[..]));
        store
            .write(vec![diversity_store::Op::Put(segment_key(number), value)])
            .expect("written");
    }
    (dir, Frames::new(store, 1024))
}

#[test]
fn only_so_many_bytes_of_segments_are_kept() {
    let segments: Vec<Vec<Vec<u8>>> = (0..50).map(|i| vec![frame(i, &[10])]).collect();
    let slices: Vec<&[Vec<u8>]> = segments.iter().map(Vec::as_slice).collect();
    let (_dir, frames) = store(&slices);
    for round in 0..3 {
        for (number, segment) in (0..50).zip(&segments) {
            let at = FrameRef {
                segment: number,
                index: 0,
            };
            assert_eq!(frames.encoded(at).expect("there"), segment[0], "{round}");
            let cached = lock(&frames.cached);
            assert!(cached.bytes <= 1024);
            assert_eq!(
                cached.bytes,
                cached
                    .segments
                    .values()
                    .map(|s| s.0.bytes.len())
                    .sum::<usize>()
            );
            assert_eq!(cached.segments.len(), cached.by_use.len());
        }
    }
}
