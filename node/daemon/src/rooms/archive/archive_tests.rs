use super::*;
use crate::node::frames::tests::encoded;
use crate::rooms::error::RoomError;
use crate::rooms::testkit::{Kit, Loop, sensor};
use diversity_chain::events::{ChainEvent, DisputeKind, Outputs, Place};
use diversity_client::api::{SaidBy, WindowStatus};
use diversity_engine::api::{
    CellWriter, Execution, FrameRef, LeafPlan, Piece, Resolution, Stretch,
};
use diversity_engine::records::{
    CERTIFICATE, CellRecord, ExecutionRecord, FinalRecord, STATE, put_part, put_segment, t_key,
};
use diversity_proto::cell::CellState;
use diversity_proto::frame::Frame;
use diversity_proto::round::{Blinding, Body, Entry, OutputKind, marked_epoch};
use diversity_proto::window::{WindowEnd, detail_root, state};
use diversity_proto::wire::Part;
use diversity_proto::{Address, Signature};

use crate::node::cut::{LeafRange, cut, recut};

/// What t computed: sum t, on the window of messages 2t and 2t + 1.
fn execution(kit: &Kit, t: u64) -> ExecutionRecord {
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
    execution_of(kit, t, window.hash())
}

/// The same on a window with this hash.
fn execution_of(kit: &Kit, t: u64, window_hash: Digest) -> ExecutionRecord {
    let detail = vec![vec![t as u8]];
    let span = (t, 100 * t, 100 * t + 100);
    let range = Stretch {
        start: 2 * t,
        end: 2 * t + 2,
        next: 2 * t + 2,
        by: WindowEnd::Message,
    };
    let sensors: Vec<_> = kit.terms.sensors.iter().map(|s| s.sensor).collect();
    let carry = vec![t as u8; 3];
    ExecutionRecord {
        from: span.1,
        to: span.2,
        stretches: vec![range],
        void: Vec::new(),
        execution: Execution {
            computed: Computed {
                kind: OutputKind::Value,
                result: vec![0, t as u8],
                detail_root: detail_root(&sensors, &detail),
                state: state(&carry, &[range.end]),
                trace: Digest::ZERO,
                window_hash,
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
    let room = archive(&kit, &[]);
    room.reread(&a, 1).await.expect("a hole that waits");
    room.reread(&a, 3).await.expect_err("no hole");
    kit.said(40, cell(a, 1, 2, [0, 1]));
    kit.said(41, cell(a, 2, 2, [9, 9]));
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

/// The event of a cell of t.
fn cell(a: AgreementId, t: u64, writer: u8, result: [u8; 2]) -> ChainEvent {
    ChainEvent::CellWritten {
        place: Place {
            agreement: a,
            epoch: 0,
            from: t,
            t,
        },
        writer,
        context: Digest::ZERO,
        outputs: Outputs {
            kind: OutputKind::Value,
            result: result.to_vec(),
            state: Digest::ZERO,
            carry: Vec::new(),
            q_next: vec![4],
        },
        gas_used: 80_000,
    }
}

#[tokio::test]
async fn what_is_said_of_a_hole_is_shown_with_who_said_it() {
    let (kit, Agreement { id: a, .. }) = node();
    let hole = FinalRecord::Hole {
        dispute: Digest([6; 32]),
        tx: Digest([7; 32]),
    };
    settled(&kit, a, 0, Some(Entry::Value(vec![0, 0])), Digest::ZERO);
    for t in [1, 2] {
        kit.keep(hole.put(&a, t));
    }
    // In a second reading of t = 1 this node computed what counts.
    let mut read = execution(&kit, 1);
    read.epoch = marked_epoch(0, 1);
    read.execution.computed.result = vec![0, 77];
    read.execution.computed.window_hash = Digest([78; 32]);
    kit.keep(read.put_reading(&a, 1));
    let room = archive(&kit, &[]);
    let window = |t| room.window(&a, t).expect("executed");
    assert_eq!(window(1).status, WindowStatus::Hole);
    assert_eq!(window(1).counts, None);
    kit.said(40, cell(a, 1, 1, [0, 77]));
    kit.said(41, cell(a, 2, 2, [9, 9]));
    for (t, said_by, total) in [
        (0, SaidBy::Nodes, 0),
        (1, SaidBy::SecondReading, 77),
        (2, SaidBy::Users, 0x909),
    ] {
        let view = window(t);
        assert_eq!(view.status, WindowStatus::Settled, "t = {t}");
        let counts = view.counts.expect("it counts");
        assert_eq!(
            (counts.said_by, &counts.result["total"]),
            (said_by, &total.into())
        );
    }
    let page = room.results(a, 0, None).await.expect("all");
    let said: Vec<_> = page.results.iter().map(|r| (r.t, r.said_by)).collect();
    assert_eq!(
        said,
        [
            (0, SaidBy::Nodes),
            (1, SaidBy::SecondReading),
            (2, SaidBy::Users)
        ]
    );
    let again = &page.results[1];
    assert_eq!(
        (again.window_hash, again.sensors.len()),
        (Digest([78; 32]), 1)
    );
}

#[tokio::test]
async fn an_execution_is_given_the_carry_of_what_counts_before_it() {
    let certificate = |a, t, states: [u8; 2]| {
        let reveal = |state: u8| Reveal {
            computed: Computed {
                state: Digest([state; 32]),
                ..execution(&Kit::new(), t).execution.computed
            },
            blinding: Blinding {
                secret: [1; 32],
                salt: [2; 32],
            },
            from: t,
            holes: Vec::new(),
            signature: Signature([3; 64]),
        };
        let part = Part::Round {
            agreement: a,
            epoch: 0,
            t,
            body: Body::Certificate {
                commits: vec![commit(1), commit(2)],
                reveals: states.map(reveal).to_vec(),
            },
        };
        put_part(t_key(CERTIFICATE, &a, t), &part)
    };
    let record = |a, in_band, writer| {
        let resolution = Resolution {
            kind: OutputKind::Value,
            result: vec![9, 9],
            state: Digest::ZERO,
            carry: vec![55],
            q_next: match writer {
                CellWriter::Reading => vec![],
                _ => vec![2],
            },
        };
        let cell = CellRecord {
            in_band,
            writer,
            resolution,
            context: Digest::ZERO,
            tx: Digest([8; 32]),
        };
        cell.put(&a, 0)
    };
    for (in_band, writer, states, carry) in [
        (Some(2), CellWriter::Users, [1, 1], vec![55]),
        (None, CellWriter::Users, [1, 2], vec![55]),
        (None, CellWriter::Reading, [1, 2], vec![66]),
        // All agreed on the state: it stays, whatever is said later.
        (None, CellWriter::Users, [1, 1], vec![0; 3]),
        (None, CellWriter::Reading, [1, 1], vec![0; 3]),
    ] {
        let (kit, Agreement { id: a, .. }) = node();
        kit.keep(certificate(a, 0, states));
        kit.keep(record(a, in_band, writer));
        let state = CellState {
            computed: execution(&kit, 0).execution.computed,
            seal: Digest::ZERO,
            carry: vec![66],
            q_next: vec![2],
        };
        let part = Part::State {
            agreement: a,
            t: 0,
            state,
        };
        kit.keep(put_part(t_key(STATE, &a, 0), &part));
        let room = archive(&kit, &[1, 2]);
        let held = room.messages(&a, 1).await.expect("held");
        let input = room.input(&a, 1).await.expect("held");
        assert_eq!(
            input,
            held.window.input(&carry),
            "{in_band:?} {writer:?} {states:?}"
        );
    }
}

#[tokio::test]
async fn where_frames_contradict_one_another_the_archive_takes_what_the_core_took() {
    let kit = Kit::new();
    let Agreement { id: a, .. } = kit.agreed();
    // The core took q 1 and 2 first; then a frame of q 0 to 3, of which it lacked q 0 and 3.
    let frames = [
        encoded(sensor(21), 1, &[20, 30]),
        encoded(sensor(21), 0, &[10, 21, 31, 40]),
    ];
    kit.keep(put_segment(0, frames.iter().map(|f| &f[..])));
    let decoded = frames
        .each_ref()
        .map(|f| Frame::decode(f).expect("a frame"));
    let at = |index| FrameRef { segment: 0, index };
    let piece = |index, skip, take| Piece {
        frame: at(index),
        skip,
        take,
    };
    let plan = LeafPlan {
        sensor: sensor(21),
        first_q: 0,
        end: WindowEnd::Message,
        width: 1,
        pieces: vec![piece(1, 0, 1), piece(0, 0, 2), piece(1, 3, 1)],
    };
    let window = cut((0, 0, 100), &[plan], |at| Ok(&decoded[at.index as usize])).expect("cut");
    let mut record = execution_of(&kit, 0, window.hash());
    record.stretches[0].end = 4;
    kit.keep(record.put(&a, 0));
    // The core names the places in the order of q.
    let held = archive(&kit, &[1, 0, 1])
        .messages(&a, 0)
        .await
        .expect("held");
    assert_eq!(held.window, window);
    assert_eq!(held.frames, frames, "in the order in which they were taken");
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
