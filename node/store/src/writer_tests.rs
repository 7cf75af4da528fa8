use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::*;

type Answer = (u32, Result<(), StoreError>);

fn put(n: u32) -> Vec<Op> {
    vec![Op::Put(n.to_be_bytes().to_vec(), vec![0; 8])]
}

fn done(n: u32, answers: &SyncSender<Answer>) -> Done {
    let answers = answers.clone();
    Box::new(move |result| answers.send((n, result)).expect("the test listens"))
}

fn answers() -> (SyncSender<Answer>, Receiver<Answer>) {
    sync_channel(1024)
}

fn full_disk() -> StoreError {
    StoreError::Engine {
        action: "flush to disk",
        reason: "no space left".into(),
    }
}

/// A sink that waits for a permit before each write, so that a test decides what is queued meanwhile.
struct Gate {
    permits: SyncSender<Result<(), StoreError>>,
    groups: Receiver<usize>,
}

fn gated(limits: WriterLimits) -> (Writer, Gate) {
    let (permits, permit) = sync_channel(16);
    let (entered, groups) = sync_channel(16);
    let writer = Writer::with_sink(limits, move |ops| {
        entered.send(ops.len()).expect("the test listens");
        permit.recv().expect("the test decides")
    })
    .expect("a thread");
    (writer, Gate { permits, groups })
}

#[test]
fn what_waits_shares_one_flush_and_is_answered_in_order() {
    let (writer, gate) = gated(WriterLimits::default());
    let (sender, answers) = answers();
    writer.submit(put(0), done(0, &sender));
    assert_eq!(gate.groups.recv(), Ok(1));
    for n in 1..=100 {
        writer.submit(put(n), done(n, &sender));
    }
    assert!(answers.try_recv().is_err(), "nothing is durable yet");
    gate.permits.send(Ok(())).expect("waits");
    assert_eq!(gate.groups.recv(), Ok(100));
    gate.permits.send(Ok(())).expect("waits");
    for n in 0..=100 {
        assert_eq!(answers.recv(), Ok((n, Ok(()))));
    }
    writer.close();
}

#[test]
fn a_group_is_bounded_in_bytes() {
    let limits = WriterLimits {
        group_bytes_max: 36,
        ..WriterLimits::default()
    };
    let (writer, gate) = gated(limits);
    let (sender, answers) = answers();
    writer.submit(put(0), done(0, &sender));
    assert_eq!(gate.groups.recv(), Ok(1));
    for n in 1..=7 {
        writer.submit(put(n), done(n, &sender));
    }
    for group in [3, 3, 1] {
        gate.permits.send(Ok(())).expect("waits");
        assert_eq!(gate.groups.recv(), Ok(group));
    }
    gate.permits.send(Ok(())).expect("waits");
    assert_eq!(answers.iter().take(8).filter(|(_, r)| r.is_ok()).count(), 8);
}

#[test]
fn a_failed_flush_is_told_to_everyone_and_nothing_is_acknowledged_after_it() {
    let (writer, gate) = gated(WriterLimits::default());
    let (sender, answers) = answers();
    writer.submit(put(0), done(0, &sender));
    assert_eq!(gate.groups.recv(), Ok(1));
    gate.permits.send(Ok(())).expect("waits");
    assert_eq!(answers.recv(), Ok((0, Ok(()))));

    writer.submit(put(1), done(1, &sender));
    assert_eq!(gate.groups.recv(), Ok(1));
    writer.submit(put(2), done(2, &sender));
    writer.submit(put(3), done(3, &sender));
    gate.permits.send(Err(full_disk())).expect("waits");
    assert_eq!(answers.recv(), Ok((1, Err(full_disk()))));
    assert_eq!(answers.recv(), Ok((2, Err(StoreError::Poisoned))));
    assert_eq!(answers.recv(), Ok((3, Err(StoreError::Poisoned))));

    writer.submit(put(4), done(4, &sender));
    assert_eq!(answers.recv(), Ok((4, Err(StoreError::Poisoned))));
    writer
        .try_submit(put(5), done(5, &sender))
        .expect("answered");
    assert_eq!(answers.recv(), Ok((5, Err(StoreError::Poisoned))));
    assert_eq!(writer.write(put(6)), Err(StoreError::Poisoned));
}

#[test]
fn a_panic_of_the_engine_is_an_error_of_the_waiters() {
    let writer = Writer::with_sink(WriterLimits::default(), |_| panic!("a bug")).expect("a thread");
    assert!(matches!(
        writer.write(put(0)),
        Err(StoreError::Engine { .. } | StoreError::Poisoned)
    ));
    assert_eq!(writer.write(put(1)), Err(StoreError::Poisoned));
}

#[test]
fn a_full_queue_gives_back_or_waits() {
    let limits = WriterLimits {
        queue_batches_max: 2,
        ..WriterLimits::default()
    };
    let (writer, gate) = gated(limits);
    let (sender, answers) = answers();
    writer.submit(put(0), done(0, &sender));
    assert_eq!(gate.groups.recv(), Ok(1));
    writer.try_submit(put(1), done(1, &sender)).expect("room");
    writer.try_submit(put(2), done(2, &sender)).expect("room");
    let full = writer
        .try_submit(put(3), done(3, &sender))
        .expect_err("full");
    assert_eq!(full.ops, put(3));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| writer.submit(full.ops, full.on_done));
        for _ in 0..3 {
            gate.permits.send(Ok(())).expect("waits");
        }
        waiting.join().expect("had room in the end");
        for n in 0..=3 {
            assert_eq!(answers.recv(), Ok((n, Ok(()))));
        }
    });
}

#[test]
fn a_batch_above_the_queue_is_taken_when_nothing_waits() {
    let limits = WriterLimits {
        queue_bytes_max: 4,
        group_bytes_max: 4,
        ..WriterLimits::default()
    };
    let writer = Writer::with_sink(limits, |_| Ok(())).expect("a thread");
    for n in 0..10 {
        assert_eq!(writer.write(put(n)), Ok(()));
    }
}

#[test]
fn an_oversized_batch_harms_nobody_else() {
    let writer = Writer::with_sink(WriterLimits::default(), |_| Ok(())).expect("a thread");
    let too_large = vec![Op::Put(vec![0; crate::KEY_BYTES_MAX + 1], Vec::new())];
    assert!(matches!(
        writer.write(too_large),
        Err(StoreError::TooLarge { what: "key", .. })
    ));
    assert_eq!(writer.write(put(1)), Ok(()));
}

#[test]
fn closing_finishes_what_is_queued() {
    let (writer, gate) = gated(WriterLimits::default());
    let (sender, answers) = answers();
    for n in 0..3 {
        writer.submit(put(n), done(n, &sender));
    }
    for _ in 0..3 {
        gate.permits.send(Ok(())).expect("room");
    }
    writer.close();
    for n in 0..3 {
        assert_eq!(answers.recv(), Ok((n, Ok(()))));
    }
}

#[test]
fn what_is_durable_is_answered_before_the_engine_has_it() {
    let (permits, permit) = sync_channel::<()>(1);
    let writer = Writer::with_steps(WriterLimits::default(), move |_, durable| {
        durable();
        permit.recv().expect("the test decides");
        Err(full_disk())
    })
    .expect("a thread");
    let (sender, answers) = answers();
    writer.submit(put(0), done(0, &sender));
    assert_eq!(answers.recv(), Ok((0, Ok(()))));
    permits.send(()).expect("waits");
    // What failed behind the answer is in the journal; nothing more is taken.
    writer.submit(put(1), done(1, &sender));
    assert_eq!(answers.recv(), Ok((1, Err(StoreError::Poisoned))));
}
