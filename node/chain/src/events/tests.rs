use super::*;
use diversity_proto::round::{Batch, KIND_BATCH, word};

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

fn settled(a: &AgreementId, word: [u8; 32], result: &[u8]) -> Vec<u8> {
    let mut data = short_id(a).to_vec();
    data.extend_from_slice(&word[11..]);
    data.extend_from_slice(result);
    data
}

fn no_known() -> BTreeMap<[u8; 20], AgreementId> {
    BTreeMap::new()
}

#[test]
fn a_settlement_has_its_agreement_and_context_from_the_calldata() {
    let outcome = diversity_proto::round::Outcome {
        agreement: AgreementId([5; 32]),
        epoch: 2,
        from: 3,
        t: 9,
        kind: 1,
        result: vec![1, 2, 3],
        context: Digest([6; 32]),
    };
    let signature = crate::calls::AggregateSignature {
        rx_s: [7; 64],
        ry: [8; 32],
    };
    let facts = TransactionFacts {
        input: Some(crate::calls::settle(&outcome, &signature)),
        gas_used: 31_000,
    };
    let data = settled(&outcome.agreement, word(1, 2, 3, 9), &[1, 2, 3]);
    let out = decode(&[log(vec![], data.clone(), 0)], &facts, &no_known());
    let ChainEvent::Settled {
        agreement,
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
    assert_eq!(*agreement, outcome.agreement);
    assert_eq!(
        (*epoch, *from, *t, *gas_used, *outcomes, *batch),
        (2, 3, 9, 31_000, 1, false)
    );
    assert_eq!(entries, &[(9, Entry::Value(vec![1, 2, 3]))]);
    assert_eq!(*context, Some(Digest([6; 32])));

    // The same call logged something else (a contract between): nothing is invented.
    let other = AgreementId([4; 32]);
    let elsewhere = [log(vec![], settled(&other, word(1, 2, 3, 9), &[1]), 0)];
    let out = decode(&elsewhere, &facts, &no_known());
    assert!(matches!(&out[0].event, ChainEvent::Unreadable { .. }));
    let known = BTreeMap::from([(short_id(&other), other)]);
    let out = decode(&elsewhere, &facts, &known);
    assert!(
        matches!(&out[0].event, ChainEvent::Settled { agreement, context: None, .. } if *agreement == other)
    );

    // An attestation says in its kind that it is one.
    let facts = TransactionFacts {
        input: Some(crate::calls::attest(&outcome, &signature)),
        gas_used: 28_000,
    };
    let data = settled(&outcome.agreement, word(0x81, 2, 3, 9), &[1, 2, 3]);
    let out = decode(&[log(vec![], data, 0)], &facts, &no_known());
    assert!(matches!(
        &out[0].event,
        ChainEvent::Attested {
            t: 9,
            gas_used: 28_000,
            ..
        }
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
    let mut data = word(KIND_BATCH, 0, 10, 14)[11..].to_vec();
    data.extend_from_slice(&batch.contexts_root().0);
    data.extend_from_slice(&batch.entries_bytes());
    let topics = vec![topic(C::BatchSettled::SIGNATURE_HASH), Digest([5; 32])];
    let out = decode(
        &[log(topics.clone(), data.clone(), 3)],
        &TransactionFacts::default(),
        &no_known(),
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

    for cut in [0, 20, 30, 53, data.len() - 1] {
        let out = decode(
            &[log(topics.clone(), data[..cut].to_vec(), 3)],
            &TransactionFacts::default(),
            &no_known(),
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
        log(vec![], settled(&AgreementId(a.0), word(2, 0, 3, 6), &[]), 1),
    ];
    let known = BTreeMap::from([(short_id(&AgreementId(a.0)), AgreementId(a.0))]);
    let out = decode(&logs, &TransactionFacts::default(), &known);
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
    let out = decode(&logs, &TransactionFacts::default(), &no_known());
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
    let out = decode(&logs, &TransactionFacts::default(), &no_known());
    let ChainEvent::Unreadable { reason } = &out[0].event else {
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
    let out = decode(&logs, &TransactionFacts::default(), &no_known());
    assert_eq!(out.len(), logs.len());
    for l in out {
        assert!(matches!(l.event, ChainEvent::Unreadable { .. }), "{l:?}");
    }
}

#[test]
fn a_run_of_equal_lengths_is_as_many_entries() {
    let mut data = word(KIND_BATCH, 0, 10, 13)[11..].to_vec();
    data.extend_from_slice(&[1; 32]);
    data.extend_from_slice(&[241, 2, 3, 1, 1, 1, 2, 2, 2, 3, 3, 3, 253]);
    let topics = vec![topic(C::BatchSettled::SIGNATURE_HASH), Digest([5; 32])];
    let out = decode(
        &[log(topics, data, 3)],
        &TransactionFacts::default(),
        &no_known(),
    );
    let ChainEvent::Settled { entries, .. } = &out[0].event else {
        panic!("{out:?}")
    };
    assert_eq!(
        entries,
        &[
            (10, Entry::Value(vec![1; 3])),
            (11, Entry::Value(vec![2; 3])),
            (12, Entry::Value(vec![3; 3])),
            (13, Entry::Null),
        ]
    );
}
