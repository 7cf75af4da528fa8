use super::*;
use alloy::primitives::Bytes;
use diversity_proto::round::{Batch, word};

fn log(topics: Vec<Digest>, data: Vec<u8>, log_index: u64) -> Log {
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

#[test]
fn a_settlement_has_its_context_from_the_calldata_and_counts_what_shares_its_transaction() {
    let a = AgreementId([5; 32]);
    let w = word(1, 2, 3, 9);
    let call = C::settleCall {
        rx: B256::ZERO,
        ry: B256::ZERO,
        s: B256::ZERO,
        agreement: a.0.into(),
        word: w.into(),
        context: [6; 32].into(),
    };
    let mut data = w[11..].to_vec();
    data.extend_from_slice(&[1, 2, 3]);
    let facts = TransactionFacts {
        input: Some(call.abi_encode()),
        gas_used: 31_000,
    };
    let out = decode(&[log(vec![Digest(a.0)], data.clone(), 0)], &facts);
    let ChainEvent::Settled {
        epoch,
        from,
        t,
        entries,
        context,
        gas_used,
        outcomes,
        batch,
        ..
    } = &out[0].event
    else {
        panic!("{out:?}")
    };
    assert_eq!(
        (*epoch, *from, *t, *gas_used, *outcomes, *batch),
        (2, 3, 9, 31_000, 1, false)
    );
    assert_eq!(entries, &[(9, Entry::Value(vec![1, 2, 3]))]);
    assert_eq!(*context, Some(Digest([6; 32])));

    // The same log under a call that settled something else: no context is invented.
    let other = decode(&[log(vec![Digest([4; 32])], data, 0)], &facts);
    assert!(matches!(
        &other[0].event,
        ChainEvent::Settled { context: None, .. }
    ));
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
        agreement: AgreementId([5; 32]),
        epoch: 0,
        from: 10,
        entries,
    };
    let mut data = word(KIND_BATCH, 0, 10, 14).to_vec();
    data.extend_from_slice(&batch.contexts_root().0);
    data.extend_from_slice(&batch.entries_bytes());
    let topics = vec![topic(C::BatchSettled::SIGNATURE_HASH), Digest([5; 32])];
    let out = decode(
        &[log(topics.clone(), data.clone(), 3)],
        &TransactionFacts::default(),
    );
    let ChainEvent::Settled {
        entries,
        holes,
        context,
        outcomes,
        ..
    } = &out[0].event
    else {
        panic!("{out:?}")
    };
    let want: Vec<_> = (10..)
        .zip(batch.entries.iter().map(|(e, _)| e.clone()))
        .collect();
    assert_eq!(entries, &want);
    assert_eq!(holes, &[13]);
    assert_eq!(*context, Some(batch.contexts_root()));
    assert_eq!(*outcomes, 4, "a hole is no outcome");

    for cut in [0, 40, 64, data.len() - 1] {
        let out = decode(
            &[log(topics.clone(), data[..cut].to_vec(), 3)],
            &TransactionFacts::default(),
        );
        assert!(
            matches!(&out[0].event, ChainEvent::Unreadable { .. }),
            "{cut}"
        );
    }
}

#[test]
fn holes_agreed_belong_to_the_settlement_behind_them() {
    let a = Digest([5; 32]);
    let holes = C::HolesAgreed {
        agreement: a.0.into(),
        holes: vec![3, 5],
    };
    let data = holes.encode_data();
    let logs = [
        log(vec![topic(C::HolesAgreed::SIGNATURE_HASH), a], data, 0),
        log(vec![a], word(2, 0, 3, 6)[11..].to_vec(), 1),
    ];
    let out = decode(&logs, &TransactionFacts::default());
    assert_eq!(out.len(), 1);
    let ChainEvent::Settled { entries, holes, .. } = &out[0].event else {
        panic!()
    };
    assert_eq!(holes, &[3, 5]);
    assert_eq!(
        entries,
        &[(3, Entry::Hole), (5, Entry::Hole), (6, Entry::Trap)]
    );
}

#[test]
fn terms_that_are_not_those_signed_are_not_believed() {
    let e = C::AgreementCreated {
        agreement: [5; 32].into(),
        terms: C::Terms {
            users: vec![[1; 20].into(), [2; 20].into()],
            nodes: vec![[3; 20].into(), [4; 20].into()],
            trust: vec![0, 1],
            sensorsRoot: B256::ZERO,
            offChainCode: B256::ZERO,
            conditions: B256::ZERO,
        },
        extra: Bytes::from_static(&[9, 9]),
    };
    let logs = [log(
        vec![topic(C::AgreementCreated::SIGNATURE_HASH), Digest([5; 32])],
        e.encode_data(),
        0,
    )];
    let out = decode(&logs, &TransactionFacts::default());
    let ChainEvent::AgreementCreated {
        terms: PublishedTerms::HeaderOnly { reason },
        nodes,
        ..
    } = &out[0].event
    else {
        panic!("{out:?}")
    };
    assert!(reason.contains("ask a party"));
    assert_eq!(nodes[1], (Address([4; 20]), 1));
}

#[test]
fn what_cannot_be_read_is_shown_and_not_lost() {
    let logs = [
        log(vec![Digest([1; 32]), Digest([2; 32])], vec![], 0),
        log(vec![], vec![], 1),
        log(vec![Digest([1; 32])], vec![1, 2], 2),
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
    let out = decode(&logs, &TransactionFacts::default());
    assert_eq!(out.len(), 4);
    for l in out {
        assert!(matches!(l.event, ChainEvent::Unreadable { .. }), "{l:?}");
    }
}
