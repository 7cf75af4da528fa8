use super::*;
use crate::node::frames::tests::encoded;
use crate::rooms::error::RoomError;
use crate::rooms::testkit::{Kit, Loop, sensor};
use diversity_chain::events::{ChainEvent, DisputeKind, Outputs, Place};
use diversity_client::api::WindowStatus;
use diversity_engine::api::{Execution, FrameRef, Stretch};
use diversity_engine::records::{
    CERTIFICATE, ExecutionRecord, FinalRecord, put_part, put_segment, t_key,
};
use diversity_proto::frame::Frame;
use diversity_proto::round::{Blinding, Body, Entry, OutputKind};
use diversity_proto::window::{WindowEnd, detail_root, state};
use diversity_proto::wire::Part;
use diversity_proto::{Address, Signature};

use crate::node::cut::{LeafRange, recut};

/// What t computed: sum t, on the window of messages 2t and 2t + 1.
fn execution(kit: &Kit, t: u64) -> ExecutionRecord {
    let detail = vec![vec![t as u8]];
    let range = LeafRange {
        sensor: sensor(21),
        first_q: 2 * t,
        end_q: 2 * t + 2,
        width: 1,
        end: WindowEnd::Message,
    };
    let frames: Vec<_> = frames()
        .iter()
        .map(|f| Frame::decode(f).expect("a frame"))
        .collect();
    let span = (t, 100 * t, 100 * t + 100);
    let window = recut(span, &[range], &frames).expect("all is there");
    let sensors: Vec<_> = kit.terms.sensors.iter().map(|s| s.sensor).collect();
    let carry = vec![t as u8; 3];
    ExecutionRecord {
        from: span.1,
        to: span.2,
        stretches: vec![Stretch {
            start: range.first_q,
            end: range.end_q,
            next: range.end_q,
            by: range.end,
        }],
        void: Vec::new(),
        execution: Execution {
            computed: Computed {
                kind: OutputKind::Value,
                result: vec![0, t as u8],
                detail_root: detail_root(&sensors, &detail),
                state: state(&carry, &[range.end_q]),
                trace: Digest::ZERO,
                window_hash: window.hash(),
            },
            detail,
            carry,
        },
        blinding: Blinding {
            secret: [1; 32],
            salt: [2; 32],
        },
        commit: commit(1),
        epoch: 0,
    }
}

fn commit(n: u8) -> Commit {
    Commit {
        commitment: Digest([n; 32]),
        opening: Digest([n + 1; 32]),
        signature: Signature([n; 64]),
    }
}

/// Messages 0 to 5 of the sensor, in frames of 1, 2 and 3.
fn frames() -> [Vec<u8>; 3] {
    let of = |q, times: &[u64]| encoded(sensor(21), q, times);
    [of(0, &[10]), of(1, &[20, 110]), of(3, &[120, 210, 220])]
}

fn settled(kit: &Kit, a: AgreementId, t: u64, entry: Option<Entry>, context: Digest) {
    let record = FinalRecord::Settled {
        from: t,
        last: t,
        tx: Digest([5; 32]),
        gas_used: 30_000,
        outcomes: 1,
    };
    kit.keep(record.put(&a, t));
    let event = ChainEvent::Settled {
        place: Place {
            agreement: a,
            epoch: 0,
            from: t,
            t,
        },
        entries: entry.into_iter().map(|e| (t, e)).collect(),
        holes: Vec::new(),
        context,
        batch: false,
        gas_used: 30_000,
        outcomes: 1,
    };
    kit.said(30 + t, event);
}

/// A node that has executed t = 0, 1 and 2, with all frames.
fn node() -> (Kit, Agreement) {
    let kit = Kit::new();
    let agreement = kit.agreed();
    for t in 0..3 {
        kit.keep(execution(&kit, t).put(&agreement.id, t));
    }
    kit.keep(put_segment(0, frames().iter().map(|f| &f[..])));
    (kit, agreement)
}

fn archive(kit: &Kit, found: &[u32]) -> Archive {
    let at = |index: &u32| FrameRef {
        segment: 0,
        index: *index,
    };
    let answers = Loop {
        found: found.iter().map(at).collect(),
        ..Loop::default()
    };
    Archive::new(&kit.shared, kit.book(), answers.run())
}

#[tokio::test]
async fn results_are_those_that_have_settled() {
    let (kit, Agreement { id: a, .. }) = node();
    settled(&kit, a, 0, Some(Entry::Value(vec![0, 0])), Digest::ZERO);
    let hole = FinalRecord::Hole {
        dispute: Digest([6; 32]),
        tx: Digest([7; 32]),
    };
    kit.keep(hole.put(&a, 1));
    settled(&kit, a, 2, Some(Entry::Value(vec![0, 2])), Digest::ZERO);
    // Settled while this node was away: it has not computed it yet.
    settled(&kit, a, 3, Some(Entry::Trap), Digest::ZERO);
    let room = archive(&kit, &[]);
    let page = room.results(a, 0, Some(1)).await.expect("the first");
    assert_eq!((page.results.len(), page.next), (1, Some(1)));
    let rest = room.results(a, 1, None).await.expect("the rest");
    let [only] = &rest.results[..] else {
        panic!("{rest:?}");
    };
    assert_eq!((only.t, only.from, only.gas_used), (2, 200, 30_000));
    assert_eq!(only.result["total"], 2);
    assert_eq!(only.sensors[0].label, "lock 21");
    assert_eq!(
        (only.sensors[0].detail["seconds"].clone(), rest.next),
        (2.into(), None)
    );
}

#[tokio::test]
async fn what_the_users_say_of_a_hole_is_a_result() {
    let (kit, Agreement { id: a, .. }) = node();
    let hole = FinalRecord::Hole {
        dispute: Digest([6; 32]),
        tx: Digest([7; 32]),
    };
    kit.keep(hole.put(&a, 1));
    kit.keep(hole.put(&a, 2));
    let place = |t| Place {
        agreement: a,
        epoch: 0,
        from: t,
        t,
    };
    let cell = |t, result: [u8; 2]| ChainEvent::CellWritten {
        place: place(t),
        writer: 2,
        context: Digest::ZERO,
        outputs: Outputs {
            kind: OutputKind::Value,
            result: result.to_vec(),
            state: Digest::ZERO,
            carry: Vec::new(),
            q_next: vec![4],
        },
        gas_used: 80_000,
    };
    let room = archive(&kit, &[]);
    room.reread(&a, 1).await.expect("a hole that waits");
    room.reread(&a, 3).await.expect_err("no hole");
    kit.said(40, cell(1, [0, 1]));
    kit.said(41, cell(2, [9, 9]));
    let page = room.results(a, 0, None).await.expect("all");
    let [own, other] = &page.results[..] else {
        panic!("{page:?}");
    };
    let said = room.reread(&a, 1).await.expect_err("its cell is written");
    assert!(matches!(said, RoomError::Conflict { .. }), "{said:?}");
    assert_eq!(
        (own.t, own.from, own.to, own.gas_used),
        (1, 100, 200, 80_000)
    );
    assert_eq!((&own.result["total"], own.sensors.len()), (&1.into(), 1));
    // This node computed something else: its detail is not that of the result.
    assert_eq!(
        (&other.result["total"], other.sensors.len()),
        (&0x909.into(), 0)
    );
}

#[tokio::test]
async fn what_differs_from_what_has_settled_is_not_shown() {
    let refused = async |kit: &Kit, a| match archive(kit, &[]).results(a, 0, None).await {
        Err(RoomError::Internal(words)) => words,
        other => panic!("{other:?}"),
    };
    let (kit, Agreement { id: a, .. }) = node();
    settled(&kit, a, 0, Some(Entry::Value(vec![9, 9])), Digest::ZERO);
    assert!(refused(&kit, a).await.starts_with("the result of t 0"));

    let (kit, Agreement { id: a, .. }) = node();
    settled(&kit, a, 0, None, Digest::ZERO);
    assert!(
        refused(&kit, a).await.starts_with("the result of t 0"),
        "null settled"
    );

    let (kit, Agreement { id: a, .. }) = node();
    let mut changed = execution(&kit, 0);
    changed.execution.detail = vec![vec![77]];
    kit.keep(changed.put(&a, 0));
    settled(&kit, a, 0, Some(Entry::Value(vec![0, 0])), Digest::ZERO);
    assert!(refused(&kit, a).await.starts_with("the detail of t 0"));
}

#[tokio::test]
async fn the_context_is_computed_anew_from_the_certificate() {
    let (kit, agreement) = node();
    let a = agreement.id;
    let certificate = Part::Round {
        agreement: a,
        epoch: 0,
        t: 0,
        body: Body::Certificate {
            commits: vec![commit(1), commit(2)],
            reveals: Vec::new(),
        },
    };
    kit.keep(put_part(t_key(CERTIFICATE, &a, 0), &certificate));
    let room = archive(&kit, &[]);
    let shown = room.window(&a, 0).expect("executed");
    assert_eq!(shown.status, WindowStatus::Certified);
    let context = shown.context.expect("certified");
    let entry = || Some(Entry::Value(vec![0, 0]));
    settled(&kit, a, 0, entry(), context);
    assert!(room.results(a, 0, None).await.is_ok());
    let shown = room.window(&a, 0).expect("executed");
    assert_eq!(shown.status, WindowStatus::Settled);

    let (kit, Agreement { id: a, .. }) = node();
    kit.keep(put_part(t_key(CERTIFICATE, &a, 0), &certificate));
    settled(&kit, a, 0, entry(), Digest([8; 32]));
    let other = archive(&kit, &[]).results(a, 0, None).await;
    let Err(RoomError::Internal(words)) = other else {
        panic!("{other:?}");
    };
    assert!(words.starts_with("the context of t 0"), "{words}");
}

#[tokio::test]
async fn a_window_is_cut_again_from_signed_frames_or_not_given() {
    let (kit, Agreement { id: a, .. }) = node();
    let view = archive(&kit, &[]).window(&a, 1).expect("executed");
    assert_eq!(view.status, WindowStatus::Open);
    assert_eq!((view.sensors[0].first_q, view.sensors[0].count), (2, 2));
    let held = archive(&kit, &[1, 2]).messages(&a, 1).await.expect("held");
    assert_eq!(held.window.hash(), view.computed.window_hash);
    assert_eq!(held.frames, frames()[1..]);
    let input = archive(&kit, &[1, 2]).input(&a, 1).await.expect("held");
    assert_eq!(input, held.window.input(&[0; 3]), "the carry of t 0");
    let first = archive(&kit, &[0, 1]).input(&a, 0).await.expect("held");
    assert!(first.starts_with(&[0, 0, 0, 0]), "no carry before t 0");
    for gone in [&[1][..], &[]] {
        let gone = archive(&kit, gone).messages(&a, 1).await;
        assert!(matches!(gone, Err(RoomError::NotFound { .. })), "{gone:?}");
    }
    let later = archive(&kit, &[]).window(&a, 9);
    assert!(matches!(later, Err(RoomError::NotFound { .. })));
}

#[tokio::test]
async fn disputes_are_listed_by_page_and_those_of_strangers_come_last() {
    let (kit, Agreement { id: a, .. }) = node();
    kit.shared
        .registered
        .write()
        .keep(&a, &kit.terms, &mut Vec::new());
    // Of a stranger's sensor, and of this node's agreement, by turns.
    for n in 0..7u8 {
        let stranger = n % 2 == 0;
        let event = ChainEvent::DisputeRecorded {
            dispute: Digest([n; 32]),
            kind: match stranger {
                true => DisputeKind::SensorContradiction,
                false => DisputeKind::UnequalReveals,
            },
            agreement: (!stranger).then_some(a),
            accused: stranger.then_some(Address([77; 20])),
            epoch: 0,
            at: 1,
            evidence: Vec::new(),
        };
        kit.said(100 + u64::from(n), event);
    }
    let archive = archive(&kit, &[]);
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = archive.disputes(after, Some(2)).expect("listed");
        assert!(page.items.len() <= 2);
        seen.extend(page.items.iter().map(|d| d.dispute.0[0]));
        let Some(next) = page.next else { break };
        after = Some(DisputePlace::parse(&next).expect("its own cursor"));
    }
    assert_eq!(seen, [5, 3, 1, 6, 4, 2, 0]);
    let of_it = archive.disputes_of(&a, None, None).expect("listed");
    let of_it: Vec<_> = of_it.items.iter().map(|d| d.dispute.0[0]).collect();
    assert_eq!(of_it, [5, 3, 1]);
    for wrong in ["", "ours", "ours-1", "theirs-1-0x00", "ours-x-0x00"] {
        assert_eq!(DisputePlace::parse(wrong), None, "{wrong}");
    }
}
