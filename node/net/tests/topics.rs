//! Topics of agreements: who is no member hears nothing and is not heard.

mod common;

use common::{ANY, PATIENCE, config, entry, peer, start, topic};
use diversity_net::{NetConfig, NetEvent, Verdict};

const OURS: &str = "diversity/1/frames/ours";
const COMMON: &str = "diversity/1/frames/common";

/// Nodes 1 and 2 have a topic of their own; node 3, which has another one in common with both, would like to be in it.
async fn with_a_stranger() -> [common::Node; 3] {
    let topics = |ours: &[u8]| vec![topic(OURS, ours.to_vec()), topic(COMMON, 1..=3)];
    let of = |seed, peers, ours: &[u8]| NetConfig {
        topics: topics(ours),
        ..config(seed, ANY, peers)
    };
    let mut a = start(of(1, vec![entry(2, ""), entry(3, "")], &[1, 2])).await;
    let mut b = start(of(2, vec![entry(1, &a.address), entry(3, "")], &[1, 2])).await;
    let mut c = start(of(
        3,
        vec![entry(1, &a.address), entry(2, &b.address)],
        &[1, 2, 3],
    ))
    .await;
    a.subscribed_to(&[(2, OURS), (2, COMMON), (3, COMMON)])
        .await;
    b.subscribed_to(&[(1, OURS), (1, COMMON), (3, COMMON)])
        .await;
    c.subscribed_to(&[(1, OURS), (2, OURS), (1, COMMON), (2, COMMON)])
        .await;
    [a, b, c]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_member_of_a_topic_hears_nothing_of_it() {
    let [a, mut b, mut c] = with_a_stranger().await;
    a.handle
        .publish(OURS.into(), b"ours".to_vec())
        .expect("queued");
    let (from, id, bytes) = b.gossip().await;
    assert_eq!(bytes, b"ours");
    // What is relayed does not reach it either.
    b.handle
        .validate(id, from, Verdict::Accept)
        .expect("queued");
    for node in [&a, &b] {
        let bytes = node.address.clone().into_bytes();
        node.handle.publish(COMMON.into(), bytes).expect("queued");
    }
    for _ in 0..2 {
        let (from, id, bytes) = c.gossip().await;
        assert_ne!(bytes, b"ours", "a stranger heard it");
        c.handle
            .validate(id, from, Verdict::Accept)
            .expect("queued");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_member_of_a_topic_is_not_heard_on_it_and_is_told_of() {
    let [mut a, _b, c] = with_a_stranger().await;
    c.handle
        .publish(OURS.into(), b"a stranger's".to_vec())
        .expect("queued");
    c.handle
        .publish(COMMON.into(), b"in common".to_vec())
        .expect("queued");
    let mut turned_away = 0;
    let heard = a
        .wait(|event| match event {
            NetEvent::TurnedAway { peer: who } => {
                assert_eq!(who, peer(3));
                turned_away += 1;
                None
            }
            NetEvent::Gossip { topic, bytes, .. } => Some((topic, bytes)),
            _ => None,
        })
        .await;
    assert_eq!(heard, (COMMON.to_owned(), b"in common".to_vec()));
    // Its subscription came before it could be told of in the fixture; this one is what it published.
    assert!(turned_away >= 1, "{turned_away}");
}

/// A peer says once that it subscribes: whoever joins a topic later counts it all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_a_topic_later_hears_and_is_heard() {
    let first = NetConfig {
        topics: vec![topic(OURS, [2]), topic(COMMON, [2])],
        ..config(1, ANY, vec![entry(2, "")])
    };
    let mut a = start(first).await;
    let second = NetConfig {
        topics: vec![topic(COMMON, [1])],
        ..config(2, ANY, vec![entry(1, &a.address)])
    };
    let mut b = start(second).await;
    // By now node 1 has said all that it subscribes to.
    b.subscribed_to(&[(1, COMMON)]).await;
    a.subscribed_to(&[(2, COMMON)]).await;
    a.handle
        .publish(COMMON.into(), b"before".to_vec())
        .expect("queued");
    assert_eq!(b.gossip().await.2, b"before");
    b.handle
        .set_topics(vec![topic(OURS, [1]), topic(COMMON, [1])])
        .expect("queued");
    b.subscribed_to(&[(1, OURS)]).await;
    a.subscribed_to(&[(2, OURS)]).await;
    b.handle
        .publish(OURS.into(), b"from the later one".to_vec())
        .expect("queued");
    assert_eq!(a.gossip().await.2, b"from the later one");
    a.handle
        .publish(OURS.into(), b"to the later one".to_vec())
        .expect("queued");
    assert_eq!(b.gossip().await.2, b"to the later one");
    // The same bytes on two topics are two messages.
    for name in [OURS, COMMON] {
        a.handle
            .publish(name.into(), b"twice".to_vec())
            .expect("queued");
    }
    assert_eq!(b.gossip().await.2, b"twice");
    assert_eq!(b.gossip().await.2, b"twice");
}

/// Who is taken out of a topic is heard no more and hears no more, whatever it had subscribed to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_a_member_no_more_hears_nothing_more() {
    let of = |seed: u8, address: &str| NetConfig {
        topics: vec![topic(OURS, 1..=2), topic(COMMON, 1..=2)],
        ..config(seed, ANY, vec![entry(3 - seed, address)])
    };
    let mut a = start(of(1, "")).await;
    let mut b = start(of(2, &a.address)).await;
    a.subscribed_to(&[(2, OURS), (2, COMMON)]).await;
    b.subscribed_to(&[(1, OURS), (1, COMMON)]).await;
    a.handle
        .set_topics(vec![topic(OURS, []), topic(COMMON, 1..=2)])
        .expect("queued");
    b.wait_for(NetEvent::Disconnected { peer: peer(1) }).await;
    a.subscribed_to(&[(2, COMMON)]).await;
    a.handle
        .publish(OURS.into(), b"ours".to_vec())
        .expect("queued");
    a.handle
        .publish(COMMON.into(), b"in common".to_vec())
        .expect("queued");
    let heard = tokio::time::timeout(PATIENCE, b.gossip())
        .await
        .expect("in time");
    assert_eq!(heard.2, b"in common");
}
