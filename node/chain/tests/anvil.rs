//! The whole chain side against a real local chain, which is killed and started again.

mod common;

use common::Memory;
use common::world::{Chain, Sender, World, deploy, id, sign, up, wallet, within};
use diversity_chain::calls;
use diversity_chain::contract::{Cells, MainContract};
use diversity_chain::events::{ChainEvent, DisputeKind, Located, PublishedTerms};
use diversity_chain::evidence::{self, Evidence};
use diversity_chain::follow::{FollowConfig, FollowError, Follower};
use diversity_chain::goal::{Goal, dispute_id};
use diversity_chain::look_back::{Entity, look_back};
use diversity_chain::submitter::{Report, Row, Submission};
use diversity_chain::{ANVIL_CHAIN_ID, Contracts};
use diversity_proto::frame::{Frame, Message, write_body};
use diversity_proto::round::{Hole, OutputKind, marked_epoch};
use diversity_proto::terms;
use diversity_proto::{Address, Digest, NodeId, Signature, UserId, Writer};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Reads until nothing is left; events that were taken back are forgotten.
async fn catch_up(follower: &mut Follower, events: &mut Vec<Located>) {
    within("caught up", async {
        loop {
            match follower.look().await {
                Ok(progress) => {
                    if let Some(block) = progress.rewound {
                        events.retain(|e| e.at.block <= block);
                    }
                    events.extend(progress.events);
                    if progress.caught_up {
                        return;
                    }
                }
                Err(FollowError::LostBlocks { .. }) => panic!("refused"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    })
    .await;
}

fn settled_ts(events: &[Located]) -> Vec<u64> {
    events
        .iter()
        .filter_map(|e| match &e.event {
            ChainEvent::Settled { entries, .. } => Some(entries.iter().map(|(t, _)| *t)),
            _ => None,
        })
        .flatten()
        .collect()
}

fn follower(rpc: &diversity_chain::rpc::Rpc, contracts: Contracts) -> Follower {
    let config = FollowConfig::for_chain(ANVIL_CHAIN_ID);
    Follower::new(rpc.clone(), contracts, config, None)
}

/// Users, nodes and the agreement.
async fn set_up(w: &World, sender: &mut Sender, contracts: Contracts) -> u64 {
    let to = Some(contracts.main);
    for i in 0..2 {
        sender.done("user", to, w.register_user(i)).await;
    }
    for i in 0..3 {
        sender.done("node", to, w.register_node(i)).await;
    }
    sender.done("agreement", to, w.create()).await.0
}

#[tokio::test]
async fn everything_that_a_node_does_on_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(dir.path());
    let rpc = chain.rpc();
    up(&rpc).await;
    let contracts = deploy(&rpc).await;
    let main = MainContract::new(rpc.clone(), contracts.main);
    let cells = Cells::new(rpc.clone(), contracts.cells);
    let mut sender = Sender::start(&rpc, contracts, 0x51, Arc::default()).await;
    let w = World::new(contracts);
    let a = w.a();
    assert_eq!(main.deployment().await.unwrap(), w.d);
    cells.belongs_to(&contracts.main).await.unwrap();
    assert!(cells.belongs_to(&contracts.cells).await.is_err());
    assert!(
        MainContract::new(rpc.clone(), Address([1; 20]))
            .deployment()
            .await
            .is_err()
    );
    let to = Some(contracts.main);

    // Handed in all at once and in a bad order: what is too early waits for what it needs.
    // Two nodes of two owners: an owner's registrations count, so the third comes when the first stands.
    for i in 0..2 {
        sender.hand_in("node", to, w.register_node(i), None).await;
    }
    for i in 0..2 {
        sender.hand_in("user", to, w.register_user(i), None).await;
    }
    for _ in 0..4 {
        let delivered = sender.report().await;
        assert!(
            matches!(delivered.report, Report::Mined { .. }),
            "{delivered:?}"
        );
    }
    sender.done("node", to, w.register_node(2)).await;
    sender.done("sensor", to, w.register_sensor(0)).await;
    sender.done("sensors", to, w.register_sensors()).await;
    let (create_gas, _) = sender.done("agreement", to, w.create()).await;
    assert_eq!(main.agreement(&a).await.unwrap().unwrap().next_t, 0);

    // Already registered: dropped before it costs a nonce.
    let goal = Some(Goal::User(id(&w.users[0])));
    sender
        .hand_in("user again", to, w.register_user(0), goal)
        .await;
    assert!(
        matches!(sender.report().await.report, Report::Pointless { reason } if reason.contains("registered already"))
    );

    // Settlement: single, batch, by reveals, and one that comes too early.
    let goal = |t| Some(w.goal(t));
    sender.hand_in("t = 1", to, w.settle(1), goal(1)).await;
    let settle_gas = {
        sender.hand_in("t = 0", to, w.settle(0), goal(0)).await;
        let (first, second) = (sender.report().await, sender.report().await);
        assert_eq!(
            (first.id.0[0], second.id.0[0]),
            (sender.next, sender.next - 1),
            "in the order of t"
        );
        match (first.report, second.report) {
            (Report::Mined { .. }, Report::Mined { gas_used, .. }) => gas_used,
            other => panic!("{other:?}"),
        }
    };
    let batch = w.batch(2);
    let signature = w.aggregate(batch.digest(&w.d));
    let call = calls::settle_batch(&batch, &signature);
    let (batch_gas, _) = sender.done("batch", to, call.clone()).await;
    assert!(batch_gas * 3 / 2 < calls::settlement_gas(&call));
    let equal = World::computed(9, Digest([6; 32]));
    let (_, seal, reveals) = w.round(5, 5, &[equal.clone(), equal.clone(), equal.clone()]);
    let outcome = reveals[0].outcome(a, 0, 5, &seal);
    let signatures: Vec<_> = reveals.iter().map(|r| r.signature).collect();
    let by_reveals =
        calls::settle_by_reveals(&w.d, &w.key(), &w.terms, &outcome, &[], &signatures).unwrap();
    let (reveals_gas, _) = sender.done("by reveals", to, by_reveals.clone()).await;
    assert!(reveals_gas * 3 / 2 < calls::settlement_gas(&by_reveals));
    let attested = w.outcome(77);
    let signature = w.aggregate(attested.digest(&w.d));
    let (attest_gas, _) = sender
        .done("attest", to, calls::attest(&attested, &signature))
        .await;
    sender
        .hand_in("t = 1 again", to, w.settle(1), goal(1))
        .await;
    assert!(
        matches!(sender.report().await.report, Report::Pointless { reason } if reason.contains("settled already"))
    );
    // A signature over something else is refused in words, without a transaction.
    let wrong = calls::settle(&w.outcome(6), &w.aggregate(w.outcome(7).digest(&w.d)));
    sender.hand_in("forged", to, wrong, goal(6)).await;
    assert!(
        matches!(sender.report().await.report, Report::Reverted { name, mined: None, .. } if name == "NotUnanimous")
    );
    assert_eq!(main.agreement(&a).await.unwrap().unwrap().next_t, 6);

    // Evidence that blames.
    let key = w.key();
    let case = w.case(&key, 0, 6);
    let other = World::computed(2, Digest([6; 32]));
    let (one, blinding) = w.commit(1, 6, &equal, 2);
    let (two, _) = w.commit(1, 6, &other, 2);
    sender
        .done(
            "equivocation",
            to,
            calls::report_equivocation(&case, 1, &one, &two).unwrap(),
        )
        .await;
    assert!(
        calls::report_equivocation(&case, 0, &one, &two).is_err(),
        "evidence against another node"
    );
    let dispute = dispute_id(
        DisputeKind::Equivocation,
        Some(&a),
        0,
        6,
        Some(&id(&w.nodes[1])),
    );
    assert_eq!(
        main.dispute(&dispute).await.unwrap().unwrap().kind,
        DisputeKind::Equivocation
    );
    assert_eq!(main.dispute(&Digest([1; 32])).await.unwrap(), None);
    sender
        .hand_in(
            "equivocation again",
            to,
            calls::report_equivocation(&case, 1, &one, &two).unwrap(),
            Some(Goal::Dispute(dispute)),
        )
        .await;
    assert!(matches!(
        sender.report().await.report,
        Report::Pointless { .. }
    ));
    let (commits, seal, mut lied) = w.round(6, 6, &[equal.clone(), equal.clone(), other.clone()]);
    lied[1].computed.trace = Digest([0xee; 32]);
    assert_eq!(lied[1].blinding, blinding);
    let outcome_of_lie = lied[1].outcome(a, 0, 6, &seal);
    lied[1].signature = sign(&w.nodes[1], &lied[1].digest(&w.d, &outcome_of_lie));
    sender
        .done(
            "false reveal",
            to,
            calls::report_false_reveal(&case, 1, &commits[1], &seal, &lied[1]).unwrap(),
        )
        .await;
    let frames = contradicting_frames(&w);
    let call = calls::report_sensor_contradiction(&w.d, 4, &frames[0], &frames[1]).unwrap();
    sender.done("sensor", to, call.clone()).await;
    assert_eq!(
        main.sensor_void(&id(&w.sensors[0])).await.unwrap(),
        Some((0, 4))
    );
    let void = Goal::SensorVoid {
        sensor: id(&w.sensors[0]),
        q: 4,
    };
    sender.hand_in("sensor again", to, call, Some(void)).await;
    assert!(matches!(
        sender.report().await.report,
        Report::Pointless { .. }
    ));

    // A hole, whose cell the nodes fill by a second reading; then the users, in band and in a cell.
    let (commits, seal, reveals) = w.round(6, 6, &[equal.clone(), equal.clone(), other.clone()]);
    let hole = calls::settle_hole(&case, &commits, &reveals).unwrap();
    assert!(calls::settle_hole(&case, &commits[..2], &reveals).is_err());
    let (hole_gas, _) = sender.done("hole", to, hole).await;
    assert!(main.is_hole(&a, 0, 6).await.unwrap());
    let to_cells = Some(contracts.cells);
    let mut reading = w.outcome(6);
    reading.epoch = marked_epoch(0, 1);
    let signature = w.aggregate(reading.digest(&w.d));
    let call = calls::settle_reading(&reading, &signature);
    assert_eq!(cells.cell(&a, 6).await.unwrap(), None);
    let (reading_gas, _) = sender.done("reading", to_cells, call).await;
    assert_eq!(cells.cell(&a, 6).await.unwrap().unwrap().writer, 1);
    let taken = w.resolve(6, &[1, 2, 3], b"carry");
    let goal_cell = Some(Goal::Cell { agreement: a, t: 6 });
    sender
        .hand_in("cell again", to_cells, taken, goal_cell)
        .await;
    assert!(
        matches!(sender.report().await.report, Report::Pointless { reason } if reason.contains("written already"))
    );
    let resolution = w.resolve(7, &[1, 2, 3], b"carry");
    let (resolve_gas, _) = sender.done("in band", to, resolution.clone()).await;
    let state = main.agreement(&a).await.unwrap().unwrap();
    assert_eq!((state.next_t, state.epoch), (8, 2));
    // The same call, now that t is behind.
    let (cell_gas, _) = sender.done("cell", to_cells, resolution.clone()).await;
    sender
        .hand_in("in band again", to, resolution, goal(7))
        .await;
    assert!(
        matches!(sender.report().await.report, Report::Pointless { reason } if reason.contains("settled already"))
    );
    // Its epoch is over, and the state says so.
    sender.hand_in("old epoch", to, w.settle(8), goal(8)).await;
    assert!(
        matches!(sender.report().await.report, Report::Pointless { reason } if reason.contains("epoch 0 is over"))
    );

    let closing = terms::close_digest(&w.d, &a, 9);
    let closed: Vec<_> = w.users.iter().map(|u| wallet(u, &closing)).collect();
    sender
        .done(
            "close",
            to,
            calls::close_agreement(&key, &w.terms, 9, &closed),
        )
        .await;
    assert_eq!(main.agreement(&a).await.unwrap().unwrap().end, 9);

    // The events say all of it.
    let mut follower = follower(&rpc, contracts);
    let mut events = Vec::new();
    catch_up(&mut follower, &mut events).await;
    assert!(
        !events
            .iter()
            .any(|e| matches!(e.event, ChainEvent::Skipped(_))),
        "{events:#?}"
    );
    let count = |f: fn(&ChainEvent) -> bool| events.iter().filter(|e| f(&e.event)).count();
    assert_eq!(
        count(
            |e| matches!(e, ChainEvent::UserRegistered { name, .. } if name.starts_with("user "))
        ),
        2
    );
    assert_eq!(count(|e| matches!(e, ChainEvent::NodeRegistered { .. })), 3);
    assert_eq!(
        count(|e| matches!(e, ChainEvent::SensorRegistered { .. })),
        3
    );
    assert_eq!(
        count(|e| matches!(e, ChainEvent::DisputeRecorded { .. })),
        4
    );
    assert_eq!(
        count(|e| matches!(e, ChainEvent::Attested { t: 77, .. })),
        1
    );
    assert_eq!(
        count(|e| matches!(e, ChainEvent::AgreementClosed { end: 9, .. })),
        1
    );
    assert_eq!(count(|e| matches!(e, ChainEvent::CellWritten { .. })), 2);
    assert_eq!(settled_ts(&events), [0, 1, 2, 3, 4, 5]);
    let expected_hole = Hole::of(a, 0, 6, seal, &reveals);
    for located in &events {
        match &located.event {
            ChainEvent::AgreementCreated {
                agreement,
                terms: published,
                users,
                nodes,
                ..
            } => {
                assert_eq!(*agreement, a);
                assert_eq!(*published, PublishedTerms::Whole(Box::new(w.terms.clone())));
                assert_eq!((users.len(), nodes.len()), (2, 3));
            }
            ChainEvent::Settled {
                place,
                context,
                gas_used,
                outcomes,
                batch: is_batch,
                ..
            } => {
                assert_eq!(place.agreement, a);
                let want = match place.t {
                    4 => batch.contexts_root(),
                    5 => outcome.context,
                    t => w.outcome(t).context,
                };
                assert_eq!(
                    (*context, *outcomes, *is_batch),
                    (want, if place.t == 4 { 3 } else { 1 }, place.t == 4)
                );
                assert!(*gas_used > 21_000);
            }
            ChainEvent::HoleSettled {
                place,
                abstained,
                seal: found,
                state,
                holes,
                dispute,
                gas_used,
            } => {
                assert_eq!((place.agreement, place.from, place.t), (a, 6, 6));
                assert_eq!(
                    (*abstained, *found, *state, holes.len()),
                    (false, expected_hole.seal, expected_hole.state, 0)
                );
                let id = dispute_id(DisputeKind::UnequalReveals, Some(&a), 0, 6, None);
                assert_eq!((*dispute, *gas_used), (id, hole_gas));
            }
            ChainEvent::Resolved { place, outputs, .. } => {
                assert_eq!((place.agreement, place.epoch, place.t), (a, 2, 7));
                assert_eq!(
                    (outputs.kind, &outputs.carry[..]),
                    (OutputKind::Value, &b"carry"[..])
                );
                assert_eq!(outputs.q_next, [7, 7]);
                let state = diversity_proto::window::state(&outputs.carry, &outputs.q_next);
                assert_eq!(outputs.state, state);
            }
            ChainEvent::CellWritten {
                place,
                writer,
                context,
                outputs,
                ..
            } => match place.t {
                6 => {
                    assert_eq!((*writer, place.epoch), (1, reading.epoch));
                    assert_eq!(
                        (*context, &outputs.result),
                        (reading.context, &reading.result)
                    );
                }
                t => {
                    assert_eq!((*writer, t, *context), (2, 7, Digest::ZERO));
                    assert_eq!(outputs.q_next, [7, 7]);
                }
            },
            ChainEvent::DisputeRecorded {
                evidence: raw,
                kind,
                accused,
                at,
                ..
            } => {
                let evidence = evidence::decode(raw).unwrap();
                let found_seal = evidence.seal(&w.d);
                match evidence {
                    Evidence::Equivocation {
                        node,
                        first,
                        second,
                        ..
                    } => {
                        assert_eq!((Some(node.address()), first, second), (*accused, one, two));
                    }
                    Evidence::UnequalReveals { said, .. } => {
                        assert_eq!(
                            (*kind, *accused, said.len()),
                            (DisputeKind::UnequalReveals, None, 3)
                        );
                        assert_eq!((said[2].1, &said[2].2), (commits[2], &reveals[2]));
                        assert_eq!(found_seal, Some(seal));
                    }
                    Evidence::FalseReveal { node, reveal, .. } => {
                        assert_eq!((Some(node.address()), &reveal), (*accused, &lied[1]));
                    }
                    Evidence::SensorContradiction { q, first, second } => {
                        assert_eq!((q, *at), (4, 4));
                        assert_eq!([first, second], frames);
                    }
                }
            }
            _ => {}
        }
    }
    // Asked for some alone, the chain says the same of them again.
    let sensor = id(&w.sensors[0]);
    let wanted = [
        Entity::User(UserId(w.users[1].address())),
        Entity::Node(NodeId(w.nodes[2].address())),
        Entity::Sensor(sensor),
    ];
    let head = rpc.head().await.unwrap().number;
    let wanted = BTreeSet::from(wanted);
    let found = look_back(&rpc, &w.d, &wanted, 0, head).await.unwrap();
    let of_them = |l: &&Located| match &l.event {
        ChainEvent::UserRegistered { user, .. } => wanted.contains(&Entity::User(*user)),
        ChainEvent::NodeRegistered { node, .. } => wanted.contains(&Entity::Node(*node)),
        ChainEvent::SensorRegistered { sensor, .. } => wanted.contains(&Entity::Sensor(*sensor)),
        ChainEvent::DisputeRecorded { kind, .. } => *kind == DisputeKind::SensorContradiction,
        _ => false,
    };
    // That sensor was registered again in one transaction with others; what counts is the first time.
    let again = |l: &&Located| matches!(l.event, ChainEvent::SensorRegistered { .. });
    let expected: Vec<_> = events.iter().filter(of_them).cloned().collect();
    let (sensors, mut rest): (Vec<&Located>, Vec<&Located>) = expected.iter().partition(again);
    assert_eq!(sensors.len(), 2);
    rest.push(sensors[0]);
    rest.sort_by_key(|l| (l.at.block, l.at.log_index));
    let expected: Vec<_> = rest.into_iter().cloned().collect();
    assert_eq!((found.len(), found), (4, expected));
    println!(
        "gas: agreement {create_gas}, settle {settle_gas}, batch of 3 {batch_gas}, by 3 reveals {reveals_gas}, attest {attest_gas}, hole {hole_gas}, reading {reading_gas}, in band {resolve_gas}, cell {cell_gas}"
    );
}

/// A frame of two messages, and a gap over the second of them.
fn contradicting_frames(w: &World) -> [Frame; 2] {
    let mut body = Writer::new();
    let message = |time| Message { time, values: &[1] };
    write_body(&mut body, [message(100), message(101)]);
    let mut frame = Frame {
        sensor: id(&w.sensors[0]),
        epoch: 0,
        first_q: 3,
        count: 2,
        lost: 0,
        width: 1,
        opening: None,
        body: body.finish(),
        signature: Signature([0; 64]),
    };
    let mut gap = Frame {
        first_q: 4,
        count: 0,
        lost: 5,
        width: 0,
        body: vec![],
        ..frame.clone()
    };
    for frame in [&mut frame, &mut gap] {
        frame.signature = sign(&w.sensors[0], &frame.digest(&w.d));
    }
    [frame, gap]
}

/// What a node comes back to after it was down for two years, on a chain whose blocks take their time.
#[tokio::test]
async fn a_backlog_settles_in_a_few_blocks_without_a_transaction_that_reverts() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::new(dir.path());
    let rpc = chain.rpc();
    up(&rpc).await;
    let contracts = deploy(&rpc).await;
    let w = World::new(contracts);
    let mut sender = Sender::start(&rpc, contracts, 0x51, Arc::default()).await;
    set_up(&w, &mut sender, contracts).await;
    chain.anvil.saved(Duration::from_secs(30)).await.unwrap();
    chain.kill();
    chain.anvil.block_time_s = Some(2);
    chain.start();
    up(&rpc).await;
    let months = 22u64;
    let before = rpc
        .transaction_count(&sender.outbox.account())
        .await
        .unwrap();
    let started = rpc.head().await.unwrap().number;
    for t in 0..months {
        let data = w.settle(t);
        let row = Row {
            agreement: w.a(),
            from: t,
            t,
            gas: calls::settlement_gas(&data),
        };
        sender
            .submit(Submission {
                id: Digest::ZERO,
                label: format!("settle t = {t}"),
                to: Some(contracts.main),
                data,
                patience_ms: None,
                goal: Some(w.goal(t)),
                row: Some(row),
            })
            .await;
    }
    let (mut most, mut last) = (0, 0);
    for _ in 0..months {
        match sender.report().await.report {
            Report::Mined {
                gas_used, block, ..
            } => {
                most = most.max(gas_used);
                last = last.max(block);
            }
            other => panic!("{other:?}"),
        }
    }
    let main = MainContract::new(rpc.clone(), contracts.main);
    assert_eq!(
        main.agreement(&w.a()).await.unwrap().unwrap().next_t,
        months
    );
    let after = rpc
        .transaction_count(&sender.outbox.account())
        .await
        .unwrap();
    assert_eq!(after - before, months, "none that reverted");
    let blocks = last - started;
    println!("{months} settlements in {blocks} blocks of 2 s, at most {most} gas each");
    assert!(blocks <= 12, "{blocks} blocks");
    assert!(most * 3 / 2 < calls::settlement_gas(&w.settle(0)));
}

#[tokio::test]
async fn a_chain_that_is_killed_in_mid_run_settles_everything_exactly_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::new(dir.path());
    let rpc = chain.rpc();
    up(&rpc).await;
    let (journal, other_journal) = (Arc::<Memory>::default(), Arc::<Memory>::default());
    let contracts = deploy(&rpc).await;
    let mut sender = Sender::start(&rpc, contracts, 0x51, journal.clone()).await;
    let to = Some(contracts.main);
    let w = World::new(contracts);
    set_up(&w, &mut sender, contracts).await;
    chain.anvil.saved(Duration::from_secs(30)).await.unwrap();

    let mut other = Sender::start(&rpc, contracts, 0x52, other_journal).await;
    let mut reader = follower(&rpc, contracts);
    let mut events = Vec::new();
    let main = MainContract::new(rpc.clone(), contracts.main);
    let rounds = 4;
    let mut rewound = 0;
    for round in 0..rounds {
        // Two nodes send the same settlements; one of each pair wins.
        let from = round * 4;
        let (mut mine, mut theirs) = (Vec::new(), Vec::new());
        for t in from..from + 3 {
            let data = w.settle(t);
            let label = format!("t = {t}");
            let goal = Some(w.goal(t));
            mine.push(sender.hand_in(&label, to, data.clone(), goal).await);
            theirs.push(other.hand_in(&label, to, data, goal).await);
        }
        sender.reports_of(&mine).await;
        other.reports_of(&theirs).await;
        catch_up(&mut reader, &mut events).await;
        let before = rpc.head().await.unwrap().number;
        // SIGKILL at once: up to a second of blocks is gone. One more is handed in while the chain is dead.
        chain.kill();
        let label = format!("t = {}", from + 3);
        let late = sender
            .hand_in(&label, to, w.settle(from + 3), Some(w.goal(from + 3)))
            .await;
        if round == 2 {
            // The node dies too, and starts again on its journal.
            drop(sender);
            sender = Sender::start(&rpc, contracts, 0x51, journal.clone()).await;
            sender.next = 100;
        }
        let mut status = sender.outbox.watch();
        within(
            "the dead chain is told",
            status.wait_for(|s| s.trouble.is_some()),
        )
        .await
        .unwrap();
        chain.start();
        up(&rpc).await;
        rewound += u64::from(rpc.head().await.unwrap().number < before);
        within("all has settled", async {
            while main
                .agreement(&w.a())
                .await
                .ok()
                .flatten()
                .is_none_or(|a| a.next_t < from + 4)
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        sender.reports_of(&[late]).await;
    }
    catch_up(&mut reader, &mut events).await;
    assert_eq!(
        settled_ts(&events),
        (0..rounds * 4).collect::<Vec<_>>(),
        "each t once, in order"
    );
    // The chain itself says the same from its first block.
    let mut fresh = follower(&rpc, contracts);
    let mut all = Vec::new();
    catch_up(&mut fresh, &mut all).await;
    assert_eq!(settled_ts(&all), settled_ts(&events));
    println!("{rewound} of {rounds} SIGKILLs lost blocks");
}

#[tokio::test]
async fn another_chain_on_the_same_port_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::new(dir.path());
    let rpc = chain.rpc();
    up(&rpc).await;
    let before = rpc.identity().await.unwrap();
    chain.kill();
    // Without its state it is another chain: the second of the first start is in its genesis.
    loop {
        let _ = std::fs::remove_file(&chain.anvil.state);
        chain.start();
        let fresh = chain.rpc();
        up(&fresh).await;
        if fresh.identity().await.unwrap() != before {
            break;
        }
        chain.kill();
    }
    let error = within("it answers", async {
        loop {
            match rpc.head().await {
                Err(e) if e.to_string().contains("another chain") => return e,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    })
    .await;
    assert!(error.to_string().contains(&before.genesis.hex()), "{error}");
}

/// A proxy in front of an endpoint, which leaves out all events while `lags` is set.
async fn lagging_index(
    upstream: u16,
    lags: Arc<std::sync::atomic::AtomicBool>,
) -> diversity_chain::rpc::Rpc {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let lags = Arc::clone(&lags);
            tokio::spawn(async move {
                // One request a connection: everything up to the body's length.
                let mut request = Vec::new();
                let body = loop {
                    if client.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                    let text = String::from_utf8_lossy(&request).to_lowercase();
                    let Some(head) = text.find("\r\n\r\n") else {
                        continue;
                    };
                    let length = text
                        .split("content-length:")
                        .nth(1)
                        .and_then(|t| t.split("\r\n").next()?.trim().parse::<usize>().ok());
                    if request.len() >= head + 4 + length.unwrap_or(0) {
                        break request[head + 4..].to_vec();
                    }
                };
                let asked: serde_json::Value = serde_json::from_slice(&body).unwrap();
                let withheld = lags.load(std::sync::atomic::Ordering::Relaxed)
                    && asked["method"] == "eth_getLogs";
                let answer = if withheld {
                    serde_json::json!({"jsonrpc": "2.0", "id": asked["id"], "result": []})
                        .to_string()
                } else {
                    let mut server = tokio::net::TcpStream::connect(("127.0.0.1", upstream))
                        .await
                        .unwrap();
                    let head = format!(
                        "POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    server.write_all(head.as_bytes()).await.unwrap();
                    server.write_all(&body).await.unwrap();
                    let mut answer = Vec::new();
                    server.read_to_end(&mut answer).await.unwrap();
                    let answer = String::from_utf8(answer).unwrap();
                    let body = answer.split_once("\r\n\r\n").unwrap().1;
                    body.to_owned()
                };
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    answer.len()
                );
                let _ = client.write_all(head.as_bytes()).await;
                let _ = client.write_all(answer.as_bytes()).await;
            });
        }
    });
    let config = diversity_chain::rpc::RpcConfig::new([format!("http://127.0.0.1:{port}")]);
    diversity_chain::rpc::Rpc::new(&config).unwrap()
}

#[tokio::test]
async fn events_that_an_endpoint_leaves_out_are_found_in_its_own_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(dir.path());
    let rpc = chain.rpc();
    up(&rpc).await;
    let contracts = deploy(&rpc).await;
    let mut sender = Sender::start(&rpc, contracts, 0x51, Arc::default()).await;
    let w = World::new(contracts);
    let lags = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let lagging = lagging_index(chain.anvil.port, Arc::clone(&lags)).await;
    let mut reader = follower(&lagging, contracts);
    let mut events = Vec::new();
    // Read block by block as they come, and many at once.
    set_up(&w, &mut sender, contracts).await;
    catch_up(&mut reader, &mut events).await;
    for t in 0..3 {
        let id = sender
            .hand_in("settle", Some(contracts.main), w.settle(t), Some(w.goal(t)))
            .await;
        sender.reports_of(&[id]).await;
        catch_up(&mut reader, &mut events).await;
    }
    let mut honest = Vec::new();
    catch_up(&mut follower(&rpc, contracts), &mut honest).await;
    assert_eq!(settled_ts(&honest), [0, 1, 2]);
    assert_eq!(events, honest);
}
