use super::*;
use diversity_chain::goal::Goal;
use diversity_engine::api::Settlement;
use diversity_proto::frame::{Contradiction, Frame};
use diversity_proto::round::{Outcome, marked_epoch};
use diversity_proto::{Address, SensorId, Signature};

const A: AgreementId = AgreementId([1; 32]);
const CONTRACTS: Contracts = Contracts {
    main: Address([7; 20]),
    cells: Address([8; 20]),
};
const DEPLOYMENT: Deployment = Deployment {
    chain_id: 5,
    contract: CONTRACTS.main,
};

fn outcome(epoch: u32, from: u64, t: u64) -> Outcome {
    Outcome {
        agreement: A,
        epoch,
        from,
        t,
        kind: 1,
        result: vec![1, 2],
        context: Digest([3; 32]),
    }
}

/// A signature whose R is a point of the curve: the generator's x.
fn signature() -> Signature {
    let mut bytes = [9; 64];
    let x = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    bytes[..32].copy_from_slice(&diversity_client::hexed::decode(x).expect("hexadecimal"));
    Signature(bytes)
}

fn single(epoch: u32, from: u64, t: u64) -> Submission {
    Submission::Settle {
        agreement: A,
        settlement: Settlement::Single {
            outcome: outcome(epoch, from, t),
            signature: signature(),
        },
    }
}

fn to_chain() -> (Arc<ToChain>, mpsc::Receiver<Command>) {
    let (control, taken) = mpsc::channel(8);
    let to_chain = ToChain::new(
        DEPLOYMENT,
        CONTRACTS,
        Agreements::default(),
        Arc::default(),
        control,
    );
    (to_chain, taken)
}

fn waiting(to_chain: &ToChain) -> Vec<SubmissionId> {
    let queues = to_chain.queues();
    assert_eq!(queues.order.len(), queues.submissions.len());
    queues.order.iter().copied().collect()
}

#[test]
fn what_is_handed_in_again_is_one_and_what_is_final_is_not_wanted() {
    let (to_chain, _taken) = to_chain();
    for t in [3, 4, 5, 4, 3] {
        let submission = single(0, t, t);
        to_chain.submit(submission.id(), submission);
    }
    let id = |t| SubmissionId::Settle(A, 0, t, t, false);
    assert_eq!(waiting(&to_chain), [id(3), id(4), id(5)]);
    to_chain.retire(AgreementId([2; 32]), 9);
    assert_eq!(waiting(&to_chain).len(), 3);
    to_chain.retire(A, 4);
    assert_eq!(waiting(&to_chain), [id(5)]);
    let mut queues = to_chain.queues();
    let retired: Vec<_> = queues.retired.values().copied().collect();
    assert_eq!(retired, [4, 9]);
    assert!(matches!(queues.next(), Some(Next::Retire(A, 4))));
    assert!(matches!(queues.next(), Some(Next::Retire(..))));
    assert!(matches!(queues.next(), Some(Next::Submit(i, _)) if i == id(5)));
    assert!(queues.next().is_none());
}

#[test]
fn what_fits_no_call_is_told_in_words() {
    let (to_chain, _taken) = to_chain();
    let submission = single(0, 3, 3);
    let error = to_chain.encode(&submission.id(), &submission);
    assert!(
        error
            .expect_err("not a member")
            .contains("does not run here")
    );
    let reading = Submission::Reading {
        outcome: outcome(marked_epoch(0, 1), 3, 3),
        signature: Signature([0xff; 64]),
    };
    let error = to_chain.encode(&reading.id(), &reading);
    assert!(
        error
            .expect_err("no point")
            .contains("no point of the curve")
    );
}

#[test]
fn each_submission_is_owed_until_the_chain_says_that_its_goal_is_reached() {
    let (to_chain, _taken) = to_chain();
    let reading = Submission::Reading {
        outcome: outcome(marked_epoch(2, 1), 3, 3),
        signature: signature(),
    };
    let call = to_chain.encode(&reading.id(), &reading).expect("a call");
    assert_eq!((call.to, call.patience_ms), (Some(CONTRACTS.cells), None));
    assert_eq!(call.goal, Some(Goal::Cell { agreement: A, t: 3 }));
    let again = to_chain.encode(&reading.id(), &reading).expect("a call");
    assert_eq!(call.id, again.id);

    let frame = |lost, signature: u8| Frame {
        sensor: SensorId([6; 20]),
        epoch: 0,
        first_q: 4,
        count: u16::from(lost == 0),
        lost,
        width: 0,
        opening: None,
        body: if lost == 0 { vec![2] } else { vec![] },
        signature: Signature([signature; 64]),
    };
    let (message, gap) = (frame(0, 1).encode(), frame(2, 1).encode());
    let contradiction = Submission::Contradiction {
        sensor: SensorId([6; 20]),
        contradiction: Contradiction::of(&message, &gap).expect("they differ"),
    };
    // Nobody signed these frames: they cost no gas.
    let error = to_chain.encode(&contradiction.id(), &contradiction);
    assert!(error.expect_err("unsigned").contains("not by"));
}

#[test]
fn what_is_signed_anew_under_another_epoch_is_another_submission() {
    let known = crate::rooms::testkit::known();
    let call = |s: &Submission| {
        encode::submission(&DEPLOYMENT, &CONTRACTS, Some(&known), &s.id(), s).expect("a call")
    };
    let first = call(&single(0, 3, 4));
    assert_eq!(first.id, call(&single(0, 3, 4)).id);
    assert_ne!(first.id, call(&single(2, 3, 4)).id);
    assert_ne!(first.id, call(&single(0, 4, 4)).id);
    assert_eq!(first.to, Some(CONTRACTS.main));
    let goal = Goal::Settled {
        agreement: A,
        epoch: Some(0),
        t: 4,
    };
    assert_eq!(first.goal, Some(goal));
    let row = first.row.expect("in a row");
    assert_eq!((row.agreement, row.from, row.t), (A, 3, 4));
    assert_eq!(row.gas, calls::settlement_gas(&first.data));
}

#[test]
fn what_a_submission_cost_is_said_once_it_has_ended() {
    let (to_chain, _taken) = to_chain();
    let submission = single(0, 3, 3);
    let id = submission.id();
    let report = |report, owed_for, gas| Delivered {
        id: Digest([7; 32]),
        report,
        owed_for,
        gas,
    };
    let mined = || Report::Mined {
        tx: Digest([1; 32]),
        gas_used: 36_000,
        block: 1,
        contract: None,
    };
    let relayed = to_chain.report(&report(mined(), None, 36_000));
    assert!(relayed.is_none(), "a relayed call");
    let reason = String::new;
    let reverted = Report::Reverted {
        name: String::new(),
        words: String::new(),
        mined: Some((Digest([1; 32]), 30_000, 1)),
    };
    // A lost race costs gas too.
    let endings = [
        (mined(), 36_000),
        (reverted, 30_000),
        (Report::Pointless { reason: reason() }, 30_000),
        (Report::Pointless { reason: reason() }, 0),
        (Report::Undone { reason: reason() }, 0),
    ];
    for (ending, gas) in endings {
        to_chain.queues().carried.insert(Digest([7; 32]), id);
        let ended = to_chain.report(&report(ending, Some(A), gas));
        assert!(matches!(ended, Some(Command::Paid(i, g)) if (i, g) == (id, gas)));
        assert!(to_chain.queues().carried.is_empty());
    }
    // An earlier run handed it in.
    let ended = to_chain.report(&report(mined(), Some(A), 36_000));
    assert!(matches!(ended, Some(Command::Spent(A, 36_000))));
    assert!(to_chain.metrics.text().contains("gas_paid_total 132000"));
}

#[test]
fn what_is_dropped_before_it_was_taken_has_ended_and_what_is_carried_has_not() {
    let (to_chain, _taken) = to_chain();
    for t in [3, 4, 5] {
        let submission = single(0, t, t);
        to_chain.submit(submission.id(), submission);
    }
    let id = |t| SubmissionId::Settle(A, 0, t, t, false);
    // It was handed in again while the outbox had it already.
    to_chain.queues().carried.insert(Digest([3; 32]), id(3));
    assert_eq!(to_chain.retire(A, 4), [id(4)]);
    assert_eq!(waiting(&to_chain), [id(5)]);
}

#[tokio::test]
async fn what_fits_no_call_costs_nothing() {
    let (to_chain, mut told) = to_chain();
    let submission = single(0, 3, 3);
    to_chain.submit(submission.id(), submission);
    let next = to_chain.queues().next();
    let Some(Next::Submit(id, submission)) = next else {
        panic!("it waits");
    };
    let error = to_chain.encode(&id, &submission).expect_err("not a member");
    to_chain.not_encoded(id, &error).await;
    assert!(matches!(told.try_recv(), Ok(Command::Paid(i, 0)) if i == id));
}
