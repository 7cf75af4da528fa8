use super::*;
use diversity_engine::api::Piece;
use diversity_proto::frame::{Message, write_body};
use diversity_proto::terms::{Leader, Qos, SensorStart, TrustedNode, WindowSpec};
use diversity_proto::window::WindowEnd;
use diversity_proto::{AgreementId, NodeId, SensorId, Signature, UserId, Writer};

const SENSOR: SensorId = SensorId([1; 20]);

fn frame(first_q: u64, times: &[u64]) -> Vec<u8> {
    let mut body = Writer::new();
    write_body(
        &mut body,
        times.iter().map(|time| Message {
            time: *time,
            values: &[9],
        }),
    );
    Frame {
        sensor: SENSOR,
        epoch: 0,
        first_q,
        count: times.len() as u16,
        width: 1,
        opening: None,
        body: body.finish(),
        signature: Signature([1; 64]),
    }
    .encode()
}

fn store(frames: &[&[Vec<u8>]]) -> (tempfile::TempDir, Frames) {
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
    let a = cut_leaf(&one.1, &leaf(1, vec![piece(0, 0, 1, 3)])).expect("cut");
    let b = cut_leaf(
        &many.1,
        &leaf(
            1,
            vec![piece(0, 0, 1, 1), piece(0, 1, 0, 1), piece(1, 0, 0, 1)],
        ),
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
        vec![piece(0, 1, 0, 1)],
        vec![piece(0, 0, 0, 3)],
        vec![piece(0, 0, 0, 1), piece(0, 1, 0, 1)],
    ] {
        assert!(matches!(
            cut_leaf(&frames, &leaf(0, pieces)),
            Err(CutError::Damaged { .. })
        ));
    }
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
            let cached = frames.lock();
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

fn terms() -> Terms {
    let field = |name: &str, ty: &str| Field {
        name: name.into(),
        ty: ty.into(),
    };
    Terms {
        title: "test".into(),
        users: vec![UserId([1; 20]), UserId([2; 20])],
        nodes: vec![
            TrustedNode {
                node: NodeId([3; 20]),
                trust: 0,
            },
            TrustedNode {
                node: NodeId([4; 20]),
                trust: 1,
            },
        ],
        sensors: vec![SensorStart {
            sensor: SENSOR,
            q0: 0,
        }],
        off_chain_code: Digest::ZERO,
        window: WindowSpec::Count { z: 1, slide: 1 },
        future_tolerance_s: 0,
        leader: Leader::Rotating,
        flush_ms: 0,
        round_timeout_ms: 100,
        round_timeout_max_ms: 100,
        batch: 1,
        qos: Qos::OffChain,
        result: vec![field("total", "uint64"), field("good", "bool")],
        detail: vec![field("seconds", "uint32")],
    }
}

fn plan() -> ExecutionPlan {
    ExecutionPlan {
        agreement: AgreementId([7; 32]),
        module: Digest::ZERO,
        t: 3,
        from: 0,
        to: 0,
        carry: b"carry".to_vec(),
        leaves: Vec::new(),
        q_next: vec![5],
    }
}

fn output(kind: OutputKind, result: usize, detail: &[usize]) -> RunOutput {
    RunOutput {
        kind,
        result: vec![1; result],
        detail: detail.iter().map(|n| vec![2; *n]).collect(),
        carry: b"next".to_vec(),
        trace: Digest([6; 32]),
    }
}

#[test]
fn an_output_that_does_not_fit_the_terms_is_no_result() {
    use OutputKind::{Abstain as A, Null, Trap, Value};
    for (output, kind) in [
        (output(Value, 9, &[4]), Value),
        (output(Value, 9, &[]), Value),
        (output(Null, 0, &[4]), Null),
        (output(Trap, 0, &[]), Trap),
        (output(A, 1, &[]), A),
        (output(Value, 8, &[4]), A),
        (output(Value, 9, &[5]), A),
        (output(Value, 9, &[4, 4]), A),
        (output(Null, 1, &[]), A),
        (output(Trap, 0, &[4]), A),
        (output(A, 2, &[]), A),
    ] {
        let shown = format!("{output:?}");
        let done = complete(&terms(), &plan(), Digest([8; 32]), output);
        assert_eq!(done.computed.kind, kind, "{shown}");
        let answered = matches!(kind, Value | Null);
        assert_eq!(
            done.carry,
            if answered { &b"next"[..] } else { b"carry" },
            "{shown}"
        );
        assert_eq!(done.computed.state, state(&done.carry, &[5]));
        if kind == A {
            assert_eq!(
                (done.computed.result.len(), done.computed.detail_root),
                (1, Digest::ZERO)
            );
        }
    }
}
