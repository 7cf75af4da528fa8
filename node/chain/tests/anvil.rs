//! The whole chain side against a real local chain, which is killed and started again.

mod common;

use common::Memory;
use common::world::{Chain, Sender, World, id, sign, up, wallet, within};
use diversity_chain::ANVIL_CHAIN_ID;
use diversity_chain::calls::{self, Case};
use diversity_chain::contract::MainContract;
use diversity_chain::events::{ChainEvent, DisputeKind, Located, PublishedTerms};
use diversity_chain::evidence::{self, Evidence};
use diversity_chain::follow::{FollowConfig, FollowError, Follower};
use diversity_chain::submitter::Report;
use diversity_proto::round::Commit;
use diversity_proto::terms::{self};
use diversity_proto::{Address, Digest};
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

#[tokio::test]
async fn everything_that_a_node_does_on_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(dir.path());
    let rpc = chain.rpc();
    up(&rpc).await;
    let mut sender = Sender::start(&rpc, 0x51, Arc::default()).await;
    let (deploy_gas, contract) = sender.done("deploy", None, calls::deploy()).await;
    let contract = contract.expect("an address");
    let main = MainContract::new(rpc.clone(), contract);
    let w = World::new(contract);
    assert_eq!(main.deployment().await.unwrap(), w.d);
    assert!(
        MainContract::new(rpc.clone(), Address([1; 20]))
            .deployment()
            .await
            .is_err()
    );
    let to = Some(contract);

    // Handed in all at once and in a bad order: what is too early waits for what it needs.
    for i in 0..3 {
        sender.hand_in("node", to, w.register_node(i)).await;
    }
    for i in 0..2 {
        sender.hand_in("user", to, w.register_user(i)).await;
    }
    for _ in 0..5 {
        let delivered = sender.report().await;
        assert!(
            matches!(delivered.report, Report::Mined { .. }),
            "{delivered:?}"
        );
    }
    sender.done("sensor", to, w.register_sensor(0)).await;
    sender.done("sensors", to, w.register_sensors()).await;
    let (create_gas, _) = sender.done("agreement", to, w.create()).await;
    assert_eq!(main.agreement(&w.a()).await.unwrap().unwrap().next_t, 0);

    // Already registered: dropped before it costs a nonce.
    sender.hand_in("user again", to, w.register_user(0)).await;
    assert!(
        matches!(sender.report().await.report, Report::Pointless { reason } if reason.contains("registered already"))
    );

    // Settlement: single, batch, by reveals, and one that comes too early.
    sender.hand_in("t = 1", to, w.settle(1)).await;
    let (settle_gas, _) = {
        sender.hand_in("t = 0", to, w.settle(0)).await;
        let (first, second) = (sender.report().await, sender.report().await);
        assert_eq!(
            (first.id.0[0], second.id.0[0]),
            (sender.next, sender.next - 1),
            "in the order of t"
        );
        match (first.report, second.report) {
            (Report::Mined { .. }, Report::Mined { gas_used, .. }) => (gas_used, ()),
            other => panic!("{other:?}"),
        }
    };
    let batch = w.batch(2);
    let signature = w.aggregate(batch.digest(&w.d));
    let (batch_gas, _) = sender
        .done("batch", to, calls::settle_batch(&batch, &signature))
        .await;
    let seal = Digest([4; 32]);
    let reveals = w.reveals(5, &seal, [9, 9, 9]);
    let outcome = reveals[0].outcome(w.a(), 0, 5, &seal);
    let by_reveals =
        calls::settle_by_reveals(&w.d, &w.key(), &w.terms, &outcome, &reveals).unwrap();
    let (reveals_gas, _) = sender.done("by reveals", to, by_reveals).await;
    let attested = w.outcome(77);
    let signature = w.aggregate(attested.digest(&w.d));
    let (attest_gas, _) = sender
        .done("attest", to, calls::attest(&attested, &signature))
        .await;
    sender.hand_in("t = 1 again", to, w.settle(1)).await;
    assert!(
        matches!(sender.report().await.report, Report::Pointless { reason } if reason.contains("settled already"))
    );
    // A signature over something else is refused in words, without a transaction.
    let wrong = calls::settle(&w.outcome(6), &w.aggregate(w.outcome(7).digest(&w.d)));
    sender.hand_in("forged", to, wrong).await;
    assert!(
        matches!(sender.report().await.report, Report::Reverted { name, mined: None, .. } if name == "NotUnanimous")
    );
    assert_eq!(main.agreement(&w.a()).await.unwrap().unwrap().next_t, 6);

    // Disputes.
    let (d, key) = (w.d, w.key());
    let case = Case {
        deployment: &d,
        key: &key,
        terms: &w.terms,
        epoch: 0,
        t: 6,
    };
    let (one, two) = (w.commit(1, 6, 1), w.commit(1, 6, 2));
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
    let reveals = w.reveals(6, &seal, [1, 1, 2]);
    let numbered: Vec<_> = reveals.iter().cloned().enumerate().collect();
    sender
        .done(
            "unequal",
            to,
            calls::report_unequal_reveals(&case, &seal, &numbered).unwrap(),
        )
        .await;
    assert!(main.is_hole(&w.a(), 0, 6).await.unwrap());
    let dispute = main
        .dispute_id(
            DisputeKind::Equivocation,
            Some(&w.a()),
            0,
            6,
            Some(&id(&w.nodes[1])),
        )
        .await
        .unwrap();
    assert_eq!(
        main.dispute(&dispute).await.unwrap().unwrap().kind,
        DisputeKind::Equivocation
    );
    assert_eq!(main.dispute(&Digest([1; 32])).await.unwrap(), None);
    let mut lied = Commit {
        opening: diversity_proto::round::opening_hash(&[1; 32], &[2; 32]),
        ..w.commit(2, 6, 9)
    };
    lied.signature = sign(&w.nodes[2], &lied.digest(&w.subject(6), &id(&w.nodes[2])));
    sender
        .done(
            "false reveal",
            to,
            calls::report_false_reveal(&case, 2, &lied, &seal, &reveals[2]).unwrap(),
        )
        .await;
    let closing = terms::close_digest(&w.d, &w.a(), 8);
    let closed: Vec<_> = w.users.iter().map(|u| wallet(u, &closing)).collect();
    sender
        .done(
            "close",
            to,
            calls::close_agreement(&key, &w.terms, 8, &closed),
        )
        .await;
    assert_eq!(main.agreement(&w.a()).await.unwrap().unwrap().end, 8);

    // The events say all of it.
    let mut follower = Follower::new(
        rpc.clone(),
        contract,
        FollowConfig::for_chain(ANVIL_CHAIN_ID),
        None,
    );
    let mut events = Vec::new();
    catch_up(&mut follower, &mut events).await;
    assert!(
        !events
            .iter()
            .any(|e| matches!(e.event, ChainEvent::Unreadable { .. })),
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
        3
    );
    assert_eq!(
        count(|e| matches!(e, ChainEvent::Attested { t: 77, .. })),
        1
    );
    assert_eq!(
        count(|e| matches!(e, ChainEvent::AgreementClosed { end: 8, .. })),
        1
    );
    assert_eq!(settled_ts(&events), [0, 1, 2, 3, 4, 5]);
    for located in &events {
        match &located.event {
            ChainEvent::AgreementCreated {
                agreement,
                terms: published,
                users,
                nodes,
                ..
            } => {
                assert_eq!(*agreement, w.a());
                assert_eq!(*published, PublishedTerms::Whole(Box::new(w.terms.clone())));
                assert_eq!((users.len(), nodes.len()), (2, 3));
            }
            ChainEvent::Settled {
                agreement,
                t,
                context,
                gas_used,
                outcomes,
                batch: is_batch,
                ..
            } => {
                assert_eq!(*agreement, w.a());
                let want = match t {
                    4 => batch.contexts_root(),
                    5 => outcome.context,
                    t => w.outcome(*t).context,
                };
                assert_eq!(
                    (*context, *outcomes, *is_batch),
                    (Some(want), if *t == 4 { 3 } else { 1 }, *t == 4)
                );
                assert!(*gas_used > 21_000);
            }
            ChainEvent::DisputeRecorded {
                evidence: raw,
                kind,
                accused,
                at,
                ..
            } => {
                assert_eq!(*at, 6);
                match evidence::decode(raw).unwrap() {
                    Evidence::Equivocation {
                        node,
                        first,
                        second,
                        ..
                    } => {
                        assert_eq!((Some(node.address()), first, second), (*accused, one, two));
                    }
                    Evidence::UnequalReveals { reveals: found, .. } => {
                        assert_eq!(
                            (*kind, *accused, found.len()),
                            (DisputeKind::UnequalReveals, None, 3)
                        );
                        assert_eq!(found[2].1.signature, reveals[2].signature);
                    }
                    Evidence::FalseReveal { node, reveal, .. } => {
                        assert_eq!(
                            (Some(node.address()), reveal),
                            (*accused, reveals[2].clone())
                        );
                    }
                    other => panic!("{other:?}"),
                }
            }
            _ => {}
        }
    }
    println!(
        "gas: deploy {deploy_gas}, agreement {create_gas}, settle {settle_gas}, batch of 3 {batch_gas}, by 3 reveals {reveals_gas}, attest {attest_gas}"
    );
}

#[tokio::test]
async fn a_chain_that_is_killed_in_mid_run_settles_everything_exactly_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::new(dir.path());
    let rpc = chain.rpc();
    up(&rpc).await;
    let (journal, other_journal) = (Arc::<Memory>::default(), Arc::<Memory>::default());
    let mut sender = Sender::start(&rpc, 0x51, journal.clone()).await;
    let (_, contract) = sender.done("deploy", None, calls::deploy()).await;
    let contract = contract.unwrap();
    let to = Some(contract);
    let w = World::new(contract);
    for i in 0..2 {
        sender.done("user", to, w.register_user(i)).await;
    }
    for i in 0..3 {
        sender.done("node", to, w.register_node(i)).await;
    }
    sender.done("agreement", to, w.create()).await;
    chain.anvil.saved(Duration::from_secs(30)).await.unwrap();

    let mut other = Sender::start(&rpc, 0x52, other_journal).await;
    let mut follower = Follower::new(
        rpc.clone(),
        contract,
        FollowConfig::for_chain(ANVIL_CHAIN_ID),
        None,
    );
    let mut events = Vec::new();
    let main = MainContract::new(rpc.clone(), contract);
    let rounds = 4;
    let mut rewound = 0;
    for round in 0..rounds {
        // Two nodes send the same settlements; one of each pair wins.
        let from = round * 4;
        let (mut mine, mut theirs) = (Vec::new(), Vec::new());
        for t in from..from + 3 {
            let data = w.settle(t);
            let label = format!("t = {t}");
            mine.push(sender.hand_in(&label, to, data.clone()).await);
            theirs.push(other.hand_in(&label, to, data).await);
        }
        sender.reports_of(&mine).await;
        other.reports_of(&theirs).await;
        catch_up(&mut follower, &mut events).await;
        let before = rpc.head().await.unwrap().number;
        // SIGKILL at once: up to a second of blocks is gone. One more is handed in while the chain is dead.
        chain.kill();
        let label = format!("t = {}", from + 3);
        let late = sender.hand_in(&label, to, w.settle(from + 3)).await;
        if round == 2 {
            // The node dies too, and starts again on its journal.
            drop(sender);
            sender = Sender::start(&rpc, 0x51, journal.clone()).await;
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
    catch_up(&mut follower, &mut events).await;
    assert_eq!(
        settled_ts(&events),
        (0..rounds * 4).collect::<Vec<_>>(),
        "each t once, in order"
    );
    // The chain itself says the same from its first block.
    let mut fresh = Follower::new(
        rpc.clone(),
        contract,
        FollowConfig::for_chain(ANVIL_CHAIN_ID),
        None,
    );
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
