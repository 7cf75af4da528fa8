use super::*;
use alloy::primitives::U256;
use diversity_proto::Deployment;
use diversity_proto::round::{Batch, KIND_BATCH, KIND_HOLE, T_MAX, marked_epoch, word};

const A: Digest = Digest([5; 32]);
pub(super) const D: Deployment = Deployment {
    chain_id: 31_337,
    contract: Address([0xcc; 20]),
};

pub(super) fn log(topics: Vec<Digest>, data: Vec<u8>, log_index: u64) -> Log {
    Log {
        topics,
        data,
        block_number: 7,
        block_hash: Digest([7; 32]),
        tx: Digest([8; 32]),
        log_index,
        removed: false,
    }
}

fn logged(event: impl SolEvent) -> Log {
    let topics = event.encode_topics();
    let topics = topics.into_iter().map(|t| Digest(t.0.0)).collect();
    log(topics, event.encode_data(), 0)
}

fn settled(word: [u8; 32], result: &[u8]) -> C::Settled {
    C::Settled {
        agreement: A.0.into(),
        t: u64::from_be_bytes(*word.last_chunk().unwrap()),
        word: U256::from_be_bytes(word),
        context: [6; 32].into(),
        result: result.to_vec().into(),
    }
}

pub(super) fn only(logs: &[Log]) -> ChainEvent {
    let mut out = decode(logs, 31_000, &D);
    assert_eq!(out.len(), 1, "{out:?}");
    out.remove(0).event
}

pub(super) fn refused(event: &ChainEvent) -> Option<Refusal> {
    match event {
        ChainEvent::Skipped(skipped) => Some(skipped.refusal),
        _ => None,
    }
}

#[test]
fn a_settlement_says_all_that_was_signed() {
    let ChainEvent::Settled {
        place,
        entries,
        context,
        gas_used,
        outcomes,
        batch,
        holes,
    } = only(&[logged(settled(word(1, 2, 3, 9), &[1, 2, 3]))])
    else {
        panic!()
    };
    let want = Place {
        agreement: AgreementId(A.0),
        epoch: 2,
        from: 3,
        t: 9,
    };
    assert_eq!(place, want);
    assert_eq!((gas_used, outcomes, batch), (31_000, 1, false));
    assert_eq!(entries, [(9, Entry::Value(vec![1, 2, 3]))]);
    assert_eq!((context, holes.len()), (Digest([6; 32]), 0));
}

#[test]
fn an_attestation_says_in_its_kind_that_it_is_one() {
    let attested = |kind: u8| {
        let mut data = A.0[12..].to_vec();
        data.extend_from_slice(&word(kind, 2, 3, 9)[11..]);
        data.extend_from_slice(&[1, 2, 3]);
        only(&[log(vec![], data, 0)])
    };
    let ChainEvent::Attested {
        agreement,
        t: 9,
        gas_used: 31_000,
        entry: Entry::Value(_),
        ..
    } = attested(0x81)
    else {
        panic!()
    };
    assert_eq!(agreement, short_id(&AgreementId(A.0)));
    assert!(matches!(attested(1), ChainEvent::Skipped(_)));
}

fn batch_log(word: [u8; 32], entries: Vec<u8>) -> Log {
    logged(C::BatchSettled {
        agreement: A.0.into(),
        t: u64::from_be_bytes(*word.last_chunk().unwrap()),
        word: U256::from_be_bytes(word),
        contexts: [9; 32].into(),
        entries: entries.into(),
    })
}

#[test]
fn a_batch_is_read_back_as_it_was_written() {
    let entries = vec![
        (Entry::Value(vec![]), Digest([1; 32])),
        (Entry::Value(vec![7; 300]), Digest([2; 32])),
        (Entry::Null, Digest([3; 32])),
        (Entry::Hole, Digest::ZERO),
        (Entry::Trap, Digest([5; 32])),
    ];
    let batch = Batch {
        agreement: AgreementId(A.0),
        epoch: 0,
        from: 10,
        entries,
    };
    let bytes = batch.entries_bytes();
    let ChainEvent::Settled {
        entries,
        holes,
        context,
        outcomes,
        ..
    } = only(&[batch_log(word(KIND_BATCH, 0, 10, 14), bytes.clone())])
    else {
        panic!()
    };
    let want: Vec<_> = (10..)
        .zip(batch.entries.iter().map(|(e, _)| e.clone()))
        .collect();
    assert_eq!(entries, want);
    assert_eq!((holes, context), (vec![13], Digest([9; 32])));
    assert_eq!(outcomes, 4, "a hole is no outcome");

    for cut in [0, 1, 30, bytes.len() - 1] {
        let log = batch_log(word(KIND_BATCH, 0, 10, 14), bytes[..cut].to_vec());
        assert!(matches!(only(&[log]), ChainEvent::Skipped(_)), "{cut}");
    }
    let huge = batch_log(word(KIND_BATCH, 0, 10, 1 << 39), bytes);
    assert!(matches!(only(&[huge]), ChainEvent::Skipped(_)));
}

#[test]
fn holes_agreed_belong_to_the_settlement_right_behind_them() {
    let holes = |t| {
        logged(C::HolesAgreed {
            agreement: A.0.into(),
            t,
            holes: vec![3, 5],
        })
    };
    let trap = logged(settled(word(2, 0, 3, 6), &[]));
    let ChainEvent::Settled {
        entries,
        holes: found,
        ..
    } = only(&[holes(6), trap.clone()])
    else {
        panic!()
    };
    assert_eq!(found, [3, 5]);
    assert_eq!(
        entries,
        [(3, Entry::Hole), (5, Entry::Hole), (6, Entry::Trap)]
    );
    // Those of another t, or with something between, are not its holes.
    for logs in [
        vec![holes(7), trap.clone()],
        vec![
            holes(6),
            batch_log(word(KIND_BATCH, 0, 1, 1), vec![253]),
            trap,
        ],
    ] {
        let out = decode(&logs, 0, &D);
        let Some(ChainEvent::Settled { holes, .. }) = out.last().map(|l| &l.event) else {
            panic!("{out:?}")
        };
        assert!(holes.is_empty());
    }
}

#[test]
fn a_hole_has_its_dispute_right_before_it() {
    let recorded = logged(C::DisputeRecorded {
        dispute: [0xd; 32].into(),
        agreement: A.0.into(),
        accused: [0; 20].into(),
        kind: C::DisputeKind::UnequalReveals,
        epoch: 1,
        point: 6,
        evidence: vec![1].into(),
    });
    let hole = |kind| {
        logged(C::HoleSettled {
            agreement: A.0.into(),
            t: 6,
            word: U256::from_be_bytes(word(kind, 1, 4, 6)),
            seal: [7; 32].into(),
            state: [8; 32].into(),
            holes: vec![5],
        })
    };
    for (kind, all_abstained) in [(KIND_HOLE, false), (3, true)] {
        let out = decode(&[recorded.clone(), hole(kind)], 9, &D);
        // Evidence that shows nothing is skipped, and the door that the contract has closed stays closed.
        assert_eq!(refused(&out[0].event), Some(Refusal::Evidence));
        let ChainEvent::HoleSettled {
            place,
            abstained,
            dispute,
            holes,
            ..
        } = &out[1].event
        else {
            panic!("{out:?}")
        };
        assert_eq!((place.epoch, place.from, place.t), (1, 4, 6));
        assert_eq!((*abstained, *dispute), (all_abstained, Digest([0xd; 32])));
        assert_eq!(holes, &[5]);
    }
    assert!(matches!(only(&[hole(5)]), ChainEvent::Skipped(_)));
    let out = decode(&[recorded, hole(1)], 0, &D);
    assert!(matches!(out[1].event, ChainEvent::Skipped(_)));
}

#[test]
fn what_counts_is_read_in_band_and_in_cells_and_bounded() {
    let resolved = |kind, result: usize, carry: usize, q_next: usize| {
        only(&[logged(C::Resolved {
            agreement: A.0.into(),
            t: 6,
            word: U256::from_be_bytes(word(kind, 3, 6, 6)),
            state: [8; 32].into(),
            result: vec![1; result].into(),
            carry: vec![2; carry].into(),
            qNext: vec![3; q_next],
        })])
    };
    let ChainEvent::Resolved { place, outputs, .. } = resolved(1, 4_096, 1 << 20, 10_000) else {
        panic!()
    };
    assert_eq!((place.epoch, place.t), (3, 6));
    assert_eq!(
        (outputs.kind, outputs.q_next.len()),
        (OutputKind::Value, 10_000)
    );
    for bad in [
        (3, 0, 0, 1),
        (1, 4_097, 0, 1),
        (1, 0, (1 << 20) + 1, 1),
        (1, 0, 0, 10_001),
    ] {
        let event = resolved(bad.0, bad.1, bad.2, bad.3);
        assert!(matches!(event, ChainEvent::Skipped(_)), "{bad:?}");
    }
    let ChainEvent::CellWritten {
        place,
        writer: 1,
        outputs,
        context,
        ..
    } = only(&[logged(ICells::CellWritten {
        agreement: A.0.into(),
        t: 6,
        writer: 1,
        word: U256::from_be_bytes(word(2, marked_epoch(3, 1), 6, 6)),
        context: [4; 32].into(),
        state: [0; 32].into(),
        result: vec![].into(),
        carry: vec![].into(),
        qNext: vec![],
    })])
    else {
        panic!()
    };
    assert_eq!((place.epoch, outputs.kind), (1 << 16 | 3, OutputKind::Trap));
    assert_eq!(context, Digest([4; 32]));
}

#[test]
fn words_that_name_no_executions_are_not_believed() {
    for bad in [word(1, 0, 4, 3), word(1, 0, 0, T_MAX), [1; 32]] {
        let event = only(&[logged(settled(bad, &[1]))]);
        assert!(matches!(event, ChainEvent::Skipped(_)), "{bad:?}");
    }
    for kind in [0, 3, 5] {
        let event = only(&[logged(settled(word(kind, 0, 0, 3), &[]))]);
        assert!(matches!(event, ChainEvent::Skipped(_)), "{kind}");
    }
}

#[test]
fn terms_that_are_not_those_signed_are_not_believed() {
    let topics = vec![topic(C::AgreementCreated::SIGNATURE_HASH), Digest([5; 32])];
    // The packed form, written out.
    let mut data = vec![2];
    data.extend([[1; 20], [2; 20]].concat());
    data.push(2);
    data.extend([3; 20]);
    data.push(0);
    data.extend([4; 20]);
    data.push(1);
    data.extend([0; 96]);
    let whole = data.len();
    data.extend([9, 9]);
    let logs = [log(topics.clone(), data.clone(), 0)];
    let out = decode(&logs, 0, &D);
    let ChainEvent::AgreementCreated {
        terms: PublishedTerms::HeaderOnly { reason },
        nodes,
        ..
    } = &out[0].event
    else {
        panic!("{out:?}")
    };
    assert!(reason.contains("ask a party"));
    assert_eq!(nodes[1], (NodeId([4; 20]), 1));

    let logs = [log(topics, data[..whole - 1].to_vec(), 0)];
    let out = decode(&logs, 0, &D);
    let ChainEvent::Skipped(Skipped { words: reason, .. }) = &out[0].event else {
        panic!("{out:?}")
    };
    assert!(
        reason.contains("ends inside digest of the conditions"),
        "{reason}"
    );
}

#[test]
fn what_cannot_be_read_is_shown_and_not_lost() {
    let logs = [
        log(vec![Digest([1; 32]), Digest([2; 32])], vec![], 0),
        log(vec![], vec![], 1),
        log(vec![], vec![1; 60], 1),
        log(vec![Digest([1; 32])], vec![1, 2], 2),
        log(
            vec![topic(C::UserRegistered::SIGNATURE_HASH)],
            vec![1; 20],
            4,
        ),
        log(
            vec![
                topic(C::SensorRegistered::SIGNATURE_HASH),
                Digest([1; 32]),
                Digest([2; 32]),
            ],
            vec![99],
            3,
        ),
    ];
    let out = decode(&logs, 0, &D);
    assert_eq!(out.len(), logs.len());
    for l in out {
        assert!(matches!(l.event, ChainEvent::Skipped(_)), "{l:?}");
    }
}

#[test]
fn a_run_of_equal_lengths_is_as_many_entries() {
    let data = vec![241, 2, 3, 1, 1, 1, 2, 2, 2, 3, 3, 3, 253];
    let ChainEvent::Settled { entries, .. } = only(&[batch_log(word(KIND_BATCH, 0, 10, 13), data)])
    else {
        panic!()
    };
    assert_eq!(
        entries,
        [
            (10, Entry::Value(vec![1; 3])),
            (11, Entry::Value(vec![2; 3])),
            (12, Entry::Value(vec![3; 3])),
            (13, Entry::Null),
        ]
    );
}
