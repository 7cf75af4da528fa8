//! Nodes on the loopback interface.

mod common;

use std::collections::HashSet;

use common::{ANY, MOMENT, Node, TOPIC, config, entry, peer, start};
use diversity_net::{
    Net, NetConfig, NetError, NetEvent, NetLimits, PeerEntry, RequestFailure, Verdict,
};

/// Two nodes, 1 and 2, that are connected and subscribed; node 2 dials.
async fn pair(first: NetLimits, second: NetLimits) -> (Node, Node) {
    let mut a = start(NetConfig {
        limits: first,
        ..config(1, ANY, vec![entry(2, "")])
    })
    .await;
    let mut b = start(NetConfig {
        limits: second,
        ..config(2, ANY, vec![entry(1, &a.address)])
    })
    .await;
    a.subscribed(&[peer(2)]).await;
    b.subscribed(&[peer(1)]).await;
    (a, b)
}

async fn three() -> [Node; 3] {
    let mut a = start(config(1, ANY, vec![entry(2, ""), entry(3, "")])).await;
    let mut b = start(config(2, ANY, vec![entry(1, &a.address), entry(3, "")])).await;
    let mut c = start(config(
        3,
        ANY,
        vec![entry(1, &a.address), entry(2, &b.address)],
    ))
    .await;
    a.subscribed(&[peer(2), peer(3)]).await;
    b.subscribed(&[peer(1), peer(3)]).await;
    c.subscribed(&[peer(1), peer(2)]).await;
    [a, b, c]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_exchange_gossip() {
    let [mut a, mut b, mut c] = three().await;
    let longest = vec![7u8; NetLimits::default().gossip_bytes_max];
    for (round, bytes) in [vec![], vec![1; 16 * 1024], longest]
        .into_iter()
        .enumerate()
    {
        a.handle
            .publish(TOPIC.into(), bytes.clone())
            .expect("queued");
        // The same bytes again are the same message.
        a.handle
            .publish(TOPIC.into(), bytes.clone())
            .expect("queued");
        for node in [&mut b, &mut c] {
            let (from, id, got) = node.gossip().await;
            assert_eq!(got, bytes, "round {round}");
            node.handle
                .validate(id, from, Verdict::Accept)
                .expect("queued");
        }
    }
    c.handle
        .publish(TOPIC.into(), b"last".to_vec())
        .expect("queued");
    assert_eq!(a.gossip().await.2, b"last");
    assert_eq!(b.gossip().await.2, b"last", "nothing came twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_accepted_gossip_is_relayed() {
    // 1 and 3 know only 2.
    let mut b = start(config(2, ANY, vec![entry(1, ""), entry(3, "")])).await;
    let mut a = start(config(1, ANY, vec![entry(2, &b.address)])).await;
    let mut c = start(config(3, ANY, vec![entry(2, &b.address)])).await;
    a.subscribed(&[peer(2)]).await;
    c.subscribed(&[peer(2)]).await;
    b.subscribed(&[peer(1), peer(3)]).await;
    for (text, verdict) in [
        ("rejected", Verdict::Reject),
        ("ignored", Verdict::Ignore),
        ("accepted", Verdict::Accept),
    ] {
        a.handle.publish(TOPIC.into(), text.into()).expect("queued");
        let (from, id, bytes) = b.gossip().await;
        assert_eq!((from, bytes), (peer(1), text.into()));
        b.handle.validate(id, from, verdict).expect("queued");
    }
    let (from, _, bytes) = c.gossip().await;
    assert_eq!((from, bytes), (peer(2), b"accepted".to_vec()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn direct_messages_arrive_once_and_in_order() {
    let [mut a, mut b, mut c] = three().await;
    let message = |n: u32| {
        let mut bytes = n.to_be_bytes().to_vec();
        bytes.resize(4 + (n as usize * 37) % 3000, 0);
        bytes
    };
    const COUNT: u32 = 800;
    for n in 0..COUNT {
        a.handle.send(peer(2), message(n)).expect("room");
        b.handle.send(peer(1), message(n)).expect("room");
        if n % 20 == 0 {
            c.handle.send(peer(2), vec![9]).expect("room");
        }
    }
    let mut from_c = 0;
    let mut next = 0;
    while next < COUNT || from_c < COUNT / 20 {
        let (from, bytes) = b.direct().await;
        if from == peer(3) {
            from_c += 1;
        } else {
            assert_eq!((from, bytes), (peer(1), message(next)));
            next += 1;
        }
    }
    for n in 0..COUNT {
        assert_eq!(a.direct().await, (peer(2), message(n)));
    }
    let longest = vec![1; NetLimits::default().direct_bytes_max];
    a.handle.send(peer(3), longest.clone()).expect("room");
    assert_eq!(c.direct().await, (peer(1), longest));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_answered_or_fail() {
    let (mut a, mut b) = pair(NetLimits::default(), NetLimits::default()).await;
    for id in [5, 6] {
        a.handle.request(peer(2), id, vec![id as u8]).expect("room");
    }
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let (from, token, bytes) = b
            .wait(|event| match event {
                NetEvent::Request { from, token, bytes } => Some((from, token, bytes)),
                _ => None,
            })
            .await;
        assert_eq!(from, peer(1));
        tokens.push((token, bytes));
    }
    // Answered in the other order.
    for (token, bytes) in tokens.into_iter().rev() {
        b.handle
            .respond(token, [bytes, vec![0; 100_000]].concat())
            .expect("room");
        b.handle.respond(token, vec![]).expect("ignored");
    }
    let mut answers = vec![a.response().await, a.response().await];
    answers.sort_by_key(|(id, _)| *id);
    for (id, result) in answers {
        let bytes = result.expect("answered");
        assert_eq!((bytes.len(), u64::from(bytes[0])), (100_001, id));
    }
    a.handle.request(peer(9), 7, vec![]).expect("room");
    assert_eq!(a.response().await, (7, Err(RequestFailure::NotConnected)));
    let most = NetLimits::default().requests_open_max as u64;
    for id in 0..=most {
        a.handle.request(peer(2), id, vec![]).expect("room");
    }
    assert_eq!(a.response().await, (most, Err(RequestFailure::TooManyOpen)));
    b.stop().await;
    for _ in 0..most {
        let (_, result) = a.response().await;
        result.expect_err("the peer is gone");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_refused_until_it_is_listed() {
    let mut a = start(config(1, ANY, vec![])).await;
    let mut c = start(config(3, ANY, vec![entry(1, &a.address)])).await;
    a.wait(|event| {
        assert!(!matches!(event, NetEvent::Connected { .. }));
        (event == NetEvent::Refused { peer: peer(3) }).then_some(())
    })
    .await;
    // It keeps trying, and is let in once it is on the list.
    a.handle.set_peers(&[entry(3, "")]).expect("a good list");
    a.wait_for(NetEvent::Connected { peer: peer(3) }).await;
    a.subscribed(&[peer(3)]).await;
    a.handle.send(peer(3), b"welcome".to_vec()).expect("room");
    assert_eq!(c.direct().await, (peer(1), b"welcome".to_vec()));

    a.handle.set_peers(&[]).expect("a good list");
    a.wait_for(NetEvent::Disconnected { peer: peer(3) }).await;
    c.wait_for(NetEvent::Disconnected { peer: peer(1) }).await;
    a.wait_for(NetEvent::Refused { peer: peer(3) }).await;
    a.handle.send(peer(3), vec![1]).expect("room");
    a.wait_for(NetEvent::Undelivered {
        peer: peer(3),
        messages: 1,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_impostor_at_a_peers_address_is_not_connected() {
    let impostor = start(config(9, ANY, vec![entry(1, "")])).await;
    let mut b = start(config(2, ANY, vec![entry(1, "")])).await;
    // Node 2 is first looked for where node 9 listens.
    let mut a = start(config(1, ANY, vec![entry(2, &impostor.address)])).await;
    a.handle.send(peer(2), vec![1]).expect("room");
    a.wait_for(NetEvent::Undelivered {
        peer: peer(2),
        messages: 1,
    })
    .await;
    a.handle
        .set_peers(&[entry(2, &b.address)])
        .expect("a good list");
    a.wait(|event| {
        assert_ne!(event, NetEvent::Connected { peer: peer(9) });
        (event == NetEvent::Connected { peer: peer(2) }).then_some(())
    })
    .await;
    b.wait_for(NetEvent::Connected { peer: peer(1) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_restarts_is_reconnected() {
    let b = start(config(2, ANY, vec![entry(1, "")])).await;
    let mut a = start(config(1, ANY, vec![entry(2, &b.address)])).await;
    a.wait_for(NetEvent::Connected { peer: peer(2) }).await;
    let mut address = b.stop().await;
    a.wait_for(NetEvent::Disconnected { peer: peer(2) }).await;
    for restart in 0..3 {
        let mut b = start(config(2, &address, vec![entry(1, "")])).await;
        assert_eq!(b.address, address);
        a.wait_for(NetEvent::Connected { peer: peer(2) }).await;
        b.wait_for(NetEvent::Connected { peer: peer(1) }).await;
        a.handle.send(peer(2), vec![restart]).expect("room");
        assert_eq!(b.direct().await, (peer(1), vec![restart]));
        address = b.stop().await;
        a.wait_for(NetEvent::Disconnected { peer: peer(2) }).await;
        a.handle.send(peer(2), vec![restart]).expect("room");
        a.wait_for(NetEvent::Undelivered {
            peer: peer(2),
            messages: 1,
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversized_messages_are_refused_on_both_sides() {
    let small = NetLimits {
        gossip_bytes_max: 10_000,
        direct_bytes_max: 10_000,
        request_bytes_max: 10_000,
        ..NetLimits::default()
    };
    let (mut a, mut b) = pair(NetLimits::default(), small).await;
    for result in [
        b.handle.publish(TOPIC.into(), vec![0; 10_001]),
        b.handle.send(peer(1), vec![0; 10_001]),
        b.handle.request(peer(1), 1, vec![0; 10_001]),
        b.handle.respond(1, vec![0; 1024 * 1024 + 1]),
    ] {
        assert!(matches!(result, Err(NetError::TooLarge { .. })));
    }
    // Node 1 has larger limits: its messages leave it, and node 2 refuses them.
    a.handle.send(peer(2), vec![0; 10_001]).expect("room");
    a.handle.request(peer(2), 1, vec![0; 10_001]).expect("room");
    let (id, result) = a.response().await;
    assert_eq!(id, 1);
    result.expect_err("refused");
    a.handle
        .publish(TOPIC.into(), vec![0; 10_001])
        .expect("room");
    a.handle
        .publish(TOPIC.into(), vec![1; 10_000])
        .expect("room");
    let mut seen = HashSet::new();
    while seen.len() < 2 {
        // Lost if it leaves before node 1 learns that its stream was closed.
        a.handle.send(peer(2), vec![2; 10_000]).expect("room");
        let Ok(event) = tokio::time::timeout(MOMENT, b.next()).await else {
            continue;
        };
        match event {
            NetEvent::Gossip { bytes, .. } | NetEvent::Direct { bytes, .. } => {
                assert_eq!(bytes.len(), 10_000);
                seen.insert(bytes[0]);
            }
            NetEvent::Request { .. } => panic!("the oversized request came through"),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flooding_peer_is_read_no_faster_than_it_may_send() {
    const RATE: u32 = 200;
    let strict = NetLimits {
        peer_messages_per_second: RATE,
        ..NetLimits::default()
    };
    let (a, mut b) = pair(NetLimits::default(), strict).await;
    let started = std::time::Instant::now();
    // Twice the rate passes as a burst; the rest takes a second and a half. Nothing is lost.
    for n in 0..RATE * 7 / 2 {
        a.handle
            .send(peer(2), n.to_be_bytes().to_vec())
            .expect("room");
    }
    for n in 0..RATE * 7 / 2 {
        assert_eq!(b.direct().await, (peer(1), n.to_be_bytes().to_vec()));
        let allowed = f64::from(RATE) * (2.0 + started.elapsed().as_secs_f64());
        assert!(
            f64::from(n) <= allowed,
            "{n} came through, {allowed:.0} may"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_engine_holds_its_peers_up_and_costs_no_memory() {
    let narrow = NetLimits {
        channel_max: 4,
        ..NetLimits::default()
    };
    let queue = NetLimits {
        queue_messages_max: 50,
        ..NetLimits::default()
    };
    let (mut a, mut b) = pair(queue, narrow).await;
    const COUNT: usize = 2000;
    let mut lost = 0;
    for n in 0..COUNT as u32 {
        match a.handle.send(peer(2), n.to_be_bytes().to_vec()) {
            Ok(()) => {}
            Err(NetError::Busy) => lost += 1,
            Err(error) => panic!("{error}"),
        }
        // Node 1's own engine is quick.
        while let Ok(event) = a.events.try_recv() {
            if let NetEvent::Undelivered { messages, .. } = event {
                lost += messages;
            }
        }
        tokio::task::yield_now().await;
    }
    let mut delivered = 0;
    let mut last = None;
    while delivered + lost < COUNT {
        tokio::select! {
            event = a.next() => if let NetEvent::Undelivered { messages, .. } = event {
                lost += messages;
            },
            event = b.next() => if let NetEvent::Direct { bytes, .. } = event {
                let n = u32::from_be_bytes(bytes.try_into().expect("4 bytes"));
                assert!(last.is_none_or(|last| last < n), "in order");
                last = Some(n);
                delivered += 1;
            },
        }
    }
    assert!(delivered > 0);
    assert_eq!(delivered + lost, COUNT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_configurations_are_refused_in_words() {
    let good = || config(1, ANY, vec![]);
    let refused = |config: NetConfig| Net::spawn(config).map(|_| ()).expect_err("refused");
    let taken = start(good()).await;
    for error in [
        refused(NetConfig {
            listen: vec!["localhost:9000".into()],
            ..good()
        }),
        refused(NetConfig {
            listen: vec![taken.address.clone()],
            ..config(2, ANY, vec![])
        }),
        refused(NetConfig {
            peers: vec![entry(2, "/ip4/127.0.0.1")],
            ..good()
        }),
        refused(NetConfig {
            peers: vec![entry(2, ""); 257],
            ..good()
        }),
        refused(NetConfig {
            limits: NetLimits {
                channel_max: 0,
                ..NetLimits::default()
            },
            ..good()
        }),
    ] {
        assert!(error.to_string().len() > 40, "{error}");
    }
    let handle = taken.handle.clone();
    assert!(matches!(
        handle.set_peers(&[entry(2, "nonsense")]),
        Err(NetError::Address { .. })
    ));
    drop(taken);
    drop(handle);
}

/// A copied data directory on another machine: each of the two knows nothing of the other, and whoever both connect to sees it.
#[tokio::test]
async fn two_processes_with_one_key_are_noticed_by_a_peer() {
    let any = "/ip4/127.0.0.1/tcp/0";
    let entry = |seed, address: &str| PeerEntry {
        peer: peer(seed),
        addresses: vec![address.into()],
    };
    let listed = PeerEntry {
        peer: peer(2),
        addresses: Vec::new(),
    };
    let mut witness = start(config(1, any, vec![listed])).await;
    let address = witness.address.clone();
    let _original = start(config(2, any, vec![entry(1, &address)])).await;
    witness
        .wait_for(NetEvent::Connected { peer: peer(2) })
        .await;
    let _copy = start(config(2, any, vec![entry(1, &address)])).await;
    witness.wait_for(NetEvent::Twins { peer: peer(2) }).await;
}
