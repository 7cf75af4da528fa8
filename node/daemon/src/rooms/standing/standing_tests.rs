use super::health::chain_trouble;
use super::*;
use crate::node::peers::KnownNode;
use crate::node::registry::terms_key;
use crate::rooms::testkit::{Kit, Loop, key, sensor};
use diversity_chain::events::{ChainEvent, DisputeKind};
use diversity_engine::api::{GasWait, Waiting};
use diversity_proto::Digest;
use diversity_proto::terms::WindowSpec;

fn at(open_t: u64, undecided_t: u64, unsettled_t: u64) -> AgreementStatus {
    AgreementStatus {
        open_t,
        undecided_t,
        unsettled_t,
        epoch: 0,
        waiting: Waiting {
            sensors: vec![sensor(21), sensor(22)],
            wrong_times: Vec::new(),
            held: Vec::new(),
            reading: Vec::new(),
            state: false,
            nodes: vec![node(12)],
        },
        gas: None,
        blocked: None,
        halted: None,
        ended: false,
    }
}

fn node(seed: u8) -> NodeId {
    NodeId(key(seed).address())
}

/// What is waited for at 150 s, when window 0 is over and window 1 is not.
fn waits(kit: &Kit, trouble: Option<&str>, s: &AgreementStatus) -> Vec<String> {
    let sight = Sight {
        registry: &kit.shared.registered.read(),
        peers: &kit.shared.peers.lock(),
        trouble,
        stuck: Vec::new(),
        now_s: 150,
    };
    sight.waiting_for(&kit.terms, s)
}

#[test]
fn the_first_thing_that_is_due_is_named() {
    let kit = Kit::new();
    let unregistered = sensor(22).hex();
    let labels = format!(
        "window 0 waits for a message at or after 100 of lock 21, {unregistered}; 50 s after its end a record of what all nodes hold ends it"
    );
    assert_eq!(waits(&kit, None, &at(0, 0, 0)), [labels]);
    assert!(waits(&kit, None, &at(1, 1, 1)).is_empty(), "not over yet");
    let mut past = at(1, 1, 1);
    past.waiting.held = vec![node(12)];
    assert_eq!(
        waits(&kit, None, &past),
        [
            "window 1 is past the grace, and waits for the lists of what they hold of nodes that cannot be reached: node 12"
        ]
    );
    assert_eq!(
        waits(&kit, None, &at(2, 1, 1)),
        ["t 1 waits for nodes that cannot be reached: node 12"]
    );
    let other = KnownNode {
        node: node(12),
        peer: [12; 32],
        addresses: Vec::new(),
    };
    kit.shared.peers.lock().allow([other.node]);
    kit.shared.peers.lock().registered(other);
    kit.shared.peers.lock().up([12; 32]);
    assert_eq!(
        waits(&kit, None, &at(2, 1, 1)),
        ["t 1 waits for nodes node 12"]
    );
    let mut more = at(2, 1, 1);
    more.waiting.nodes.push(node(77));
    assert!(waits(&kit, None, &more)[0].ends_with("; and nodes node 12"));
    more.waiting.nodes.clear();
    assert!(waits(&kit, None, &more)[0].contains("is being executed"));
    let certified = at(2, 2, 1);
    assert_eq!(
        waits(&kit, Some("it is down"), &certified),
        ["t 1 is decided and waits for the chain (it is down)"]
    );
}

#[test]
fn what_a_blocked_t_waits_for_is_named() {
    let kit = Kit::new();
    let mut s = at(1, 1, 1);
    s.blocked = Some(0);
    assert!(waits(&kit, None, &s)[0].contains("dispute resolve"));
    s.waiting.state = true;
    let said = waits(&kit, None, &s);
    assert!(
        said[0].contains("asks the other nodes") && !said[0].contains("resolve"),
        "{said:?}"
    );
}

#[test]
fn gas_and_clocks_are_named_by_their_codes() {
    let kit = Kit::new();
    let mut s = at(1, 1, 0);
    s.gas = Some(GasWait {
        waiting: 2,
        used: 5_012_000,
        per_day: 5_000_000,
        until: 86_400_000,
    });
    let said = waits(&kit, None, &s);
    assert!(
        said[0].starts_with("gas_budget: 2 submissions wait") && said[0].contains("in 24 h"),
        "{said:?}"
    );
    assert!(said[1].contains("t 0 is decided"), "{said:?}");
    let mut s = at(1, 1, 1);
    s.waiting.wrong_times = vec![(sensor(21), 7, 0), (sensor(22), 9, 2_082_758_400)];
    let said = waits(&kit, None, &s);
    assert!(
        said[0].starts_with("implausible_time: ") && said[0].contains("lock 21 says 0 at q 7"),
        "{said:?}"
    );
}

#[test]
fn a_submission_that_makes_no_way_is_named_with_what_to_do() {
    let kit = Kit::new();
    let sight = Sight {
        registry: &kit.shared.registered.read(),
        peers: &kit.shared.peers.lock(),
        trouble: None,
        stuck: vec![("settle t 1", "account 0x07 has 0 wei: send it more")],
        now_s: 150,
    };
    let said = sight.waiting_for(&kit.terms, &at(2, 2, 1));
    assert_eq!(
        said,
        [
            "the chain does not take \"settle t 1\": account 0x07 has 0 wei: send it more",
            "t 1 is decided and waits for the chain"
        ]
    );
    let view = ChainView {
        head: Some(9),
        processed: Some(9),
        stuck: vec![crate::node::chain::Stuck {
            label: "settle t 1".into(),
            agreement: None,
            why: "it is refused".into(),
            by_contract: false,
        }],
        ..ChainView::default()
    };
    assert_eq!(
        chain_trouble(&view, 10, 0, 0),
        ["submission: settle t 1: it is refused"]
    );
}

#[test]
fn what_stops_an_agreement_comes_first_and_long_lists_are_cut() {
    let mut kit = Kit::new();
    let stopped = AgreementStatus {
        halted: Some("it must not".into()),
        blocked: Some(4),
        ..at(2, 2, 1)
    };
    let said = waits(&kit, None, &stopped);
    assert_eq!(said.len(), 3);
    assert!(said[0].contains("it must not") && said[1].contains("t 4"));
    let mut read_again = stopped;
    read_again.waiting.reading = vec![node(12)];
    assert_eq!(
        waits(&kit, None, &read_again)[2],
        "t 4 is read once more, which waits for nodes that cannot be reached: node 12"
    );
    let mut many = at(0, 0, 0);
    many.waiting.sensors = (0..14)
        .map(|i| diversity_proto::SensorId([i; 20]))
        .collect();
    assert!(waits(&kit, None, &many)[0].contains(" and 4 more;"));
    let over = AgreementStatus {
        ended: true,
        ..many.clone()
    };
    assert!(waits(&kit, None, &over).is_empty(), "no window follows");
    kit.terms.window = WindowSpec::Count { z: 2, slide: 2 };
    assert!(waits(&kit, None, &many).is_empty(), "never due");
}

#[test]
fn an_end_is_reached_when_all_before_it_is_settled() {
    let kit = Kit::new();
    let a = kit.agreed().id;
    let mut record = kit.shared.registered.read().agreements[&a].clone();
    assert_eq!(life(&record, Some(&at(9, 9, 9))), Life::Open);
    let ended = |settled| AgreementStatus {
        ended: true,
        ..at(9, 9, settled)
    };
    assert_eq!(life(&record, Some(&ended(8))), Life::Closing);
    assert_eq!(life(&record, Some(&ended(9))), Life::Closed);
    record.end = Some(5);
    assert_eq!(life(&record, Some(&at(9, 9, 4))), Life::Closing);
    assert_eq!(life(&record, None), Life::Closing);
    assert_eq!(life(&record, Some(&at(9, 9, 5))), Life::Closed);
    record.next_t = 5;
    assert_eq!(life(&record, None), Life::Closed, "as the chain says");
}

#[tokio::test]
async fn an_agreement_stands_where_the_core_and_the_chain_say() {
    let kit = Kit::new();
    let a = kit.agreed().id;
    let dispute = ChainEvent::DisputeRecorded {
        dispute: Digest([8; 32]),
        kind: DisputeKind::UnequalReveals,
        agreement: Some(a),
        accused: None,
        epoch: 0,
        at: 1,
        evidence: Vec::new(),
    };
    kit.said(20, dispute);
    let room = |status| {
        let answers = Loop {
            status: vec![status],
            ..Loop::default()
        };
        let (_, view) = watch::channel(ChainView::default());
        Standing::new(&kit.shared, view, kit.book(), answers.run())
    };
    let view = room(Some(at(3, 2, 1))).agreement(&a).await.expect("known");
    assert_eq!(
        (view.status, view.progress.next_settlement),
        (Life::Open, 1)
    );
    assert_eq!(view.progress.holes, [1]);
    kit.shared.waiting.set(a, "its module".into());
    let page = room(None).agreements(None, None, false).await;
    let page = page.expect("listed");
    assert!(page.items[0].accepted);
    assert_eq!(page.items[0].progress.waiting_for, ["its module"]);
    // Another one that only names this node is shown to whoever asks for such ones, and is nothing to the node.
    let mut other = kit.terms.clone();
    other.title = "a stranger's".into();
    let (b, mut record) = (kit.id(&other), {
        let registry = kit.shared.registered.read();
        registry.agreements[&a].clone()
    });
    (record.terms_digest, record.kept) = (other.digest(), false);
    let registered = &kit.shared.registered;
    registered.write().agreements.insert(b, record);
    kit.put(terms_key(&b), other.encode());
    let shown = room(None).agreement(&b).await.expect("known");
    assert!(!shown.accepted);
    let words = &shown.progress.waiting_for[0];
    assert!(words.contains("not accepted by this node"), "{words}");
    for (not_accepted, listed) in [(false, 1), (true, 2)] {
        let answers = Loop {
            status: vec![None; listed],
            ..Loop::default()
        };
        let (_, view) = watch::channel(ChainView::default());
        let room = Standing::new(&kit.shared, view, kit.book(), answers.run());
        let page = room.agreements(None, None, not_accepted).await;
        assert_eq!(page.expect("listed").items.len(), listed);
    }
    let unknown = room(None).agreement(&AgreementId([9; 32])).await;
    assert!(matches!(
        unknown,
        Err(crate::rooms::RoomError::NotFound { .. })
    ));
}

#[test]
fn a_chain_that_is_down_behind_or_still_is_named() {
    let good = ChainView {
        head: Some(200),
        head_at_ms: 1_000,
        processed: Some(150),
        ..ChainView::default()
    };
    assert!(chain_trouble(&good, 50, 60_000, 61_000).is_empty());
    assert_eq!(chain_trouble(&good, 49, 0, u64::MAX).len(), 1, "behind");
    let still = chain_trouble(&good, 50, 60_000, 61_001);
    assert!(still[0].contains("not moved for 60 s"), "{still:?}");
    let down = ChainView {
        trouble: Some("refused".into()),
        ..ChainView::default()
    };
    assert_eq!(
        chain_trouble(&down, 50, 60_000, 61_001),
        ["chain: refused", "chain: no block seen yet"]
    );
}
