//! The main job with two nodes: signed messages in, settled monthly results on a real chain out; then a restart, and a lie.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{BIKE, MONTHS, TestNode, World, batch, executor, until};
use diversity_client::api::ResolveRequest;
use diversity_daemon::{RunFailure, RunOutput, Runner};
use diversity_proto::{AgreementId, Digest};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_settle_months_and_go_on_after_a_restart() {
    let Some(mut world) = World::start(vec![executor(), executor()], 2).await else {
        return;
    };
    let a = world.agree().await;
    let [first, second] = [&world.locks[0], &world.locks[1]];
    // A trip of 600 s in October, one over the month's end that counts in November (900 s), and heartbeats.
    let trips = [
        (MONTHS[0] + 10, true),
        (MONTHS[0] + 610, false),
        (MONTHS[1] - 100, true),
    ];
    let frames = [
        first.frame(0, &trips),
        first.frame(3, &[(MONTHS[1] + 800, false)]),
        second.frame(0, &[(MONTHS[0] + 5, false)]),
        second.frame(1, &[(MONTHS[1] + 1, false)]),
    ];
    let answer = world.nodes[0]
        .api
        .send_frames(batch(&frames))
        .await
        .expect("taken");
    assert!(answer.refused.is_empty(), "{:?}", answer.refused);
    assert_eq!(
        answer
            .acknowledged
            .iter()
            .map(|h| h.next_q)
            .collect::<Vec<_>>(),
        [4, 2]
    );
    let key = diversity_keys::VerifyingKey::from_bytes(
        &world.nodes[0]
            .api
            .node(&world.ids[0])
            .await
            .expect("node")
            .public_key
            .0,
    );
    let digest = answer.digest(&world.chain.deployment);
    assert!(
        key.expect("key").verify(&digest.0, &answer.signature.0),
        "the acknowledgement is signed"
    );

    for node in &world.nodes {
        until("October is settled", async || {
            !node
                .api
                .results(&a, 0, 10)
                .await
                .expect("results")
                .results
                .is_empty()
        })
        .await;
        let page = node.api.results(&a, 0, 10).await.expect("results");
        let october = &page.results[0];
        assert_eq!(
            (october.t, october.from, october.to),
            (0, MONTHS[0], MONTHS[1])
        );
        assert_eq!(october.result["total_seconds"], 600);
        assert_eq!(october.result["trips"], 1);
        assert_eq!(october.sensors[0].label, "bike 100");
        assert_eq!(october.sensors[0].detail["seconds"], 600);
        assert_eq!(october.sensors[1].detail["trips"], 0);
        assert!(october.gas_used > 21_000 && october.tx != Digest::ZERO);
    }

    // One node restarts; the other alone settles nothing, and both together do.
    let stopped = world.nodes.pop().expect("two");
    let (config, dir) = stopped.stop().await;
    let frames = [
        first.frame(4, &[(MONTHS[2] + 1, false)]),
        second.frame(2, &[(MONTHS[2] + 2, false)]),
    ];
    world.nodes[0]
        .api
        .send_frames(batch(&frames))
        .await
        .expect("taken");
    world
        .nodes
        .push(TestNode::start(config, dir, executor()).await);
    for node in &world.nodes {
        until("November is settled", async || {
            node.api
                .results(&a, 1, 10)
                .await
                .expect("results")
                .results
                .len()
                == 1
        })
        .await;
        let november = &node.api.results(&a, 1, 10).await.expect("results").results[0];
        assert_eq!(november.result["total_seconds"], 900);
        let window = node.api.window(&a, 1).await.expect("window");
        assert_eq!(
            (window.status.as_str(), window.reveals.len()),
            ("settled", 2)
        );
        assert_eq!(window.computed.window_hash, november.window_hash);
        let input = node.api.window_input(&a, 1).await.expect("input");
        let again =
            diversity_exec::Executor::new(diversity_exec::Limits::default()).expect("engine");
        let id = again.add(BIKE).expect("module");
        assert_eq!(
            again.run(&id, &input).expect("ran").result,
            window.computed.result.0,
            "anyone can re-run it"
        );
    }
}

/// Gives another result, until it is mended.
struct Lying(Arc<dyn Runner>, Arc<AtomicBool>);

impl Runner for Lying {
    fn check(&self, module: &[u8]) -> Result<(), String> {
        self.0.check(module)
    }
    fn add(&self, module: &[u8]) -> Result<(), String> {
        self.0.add(module)
    }
    fn run(&self, module: &Digest, input: &[u8]) -> Result<RunOutput, RunFailure> {
        let mut output = self.0.run(module, input)?;
        output.result[7] ^= u8::from(!self.1.load(Ordering::Relaxed));
        Ok(output)
    }
}

/// The users say together that what the first node computed counts; fewer of them are refused.
async fn resolve_by_all_users(world: &World, a: &AgreementId, dispute: &Digest) {
    let api = &world.nodes[0].api;
    let window = api.window(a, 0).await.expect("window");
    let mut request = ResolveRequest {
        t: 0,
        kind: "value".into(),
        result: window.computed.result,
        carry: window.carry,
        q_next: window.q_next,
        signatures: Vec::new(),
    };
    assert_eq!(request.state(), window.computed.state);
    for (signed, user) in world.users.iter().enumerate() {
        let early = api.resolve(a, &request).await;
        assert!(
            early.is_err(),
            "{signed} of {} users are not all",
            world.users.len()
        );
        user.add_to_resolution(a, &mut request).expect("signed");
    }
    // t = 0 is behind: a hole certificate has settled it.
    let view = api.resolve(a, &request).await.expect("resolved");
    assert_eq!((view.t, view.in_band), (0, false));
    let view = api.dispute(dispute).await.expect("dispute");
    assert!(view.resolved, "{view:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lie_ends_in_a_dispute_that_the_chain_holds_and_explains() {
    let mended = Arc::new(AtomicBool::new(false));
    let liar: Arc<dyn Runner> = Arc::new(Lying(executor(), Arc::clone(&mended)));
    let Some(world) = World::start(vec![executor(), executor(), liar], 1).await else {
        return;
    };
    let a = world.agree().await;
    let mut events = world.nodes[0].api.events(Some(&a)).await.expect("events");
    let lock = &world.locks[0];
    let frames = [
        lock.frame(0, &[(MONTHS[0] + 10, true), (MONTHS[0] + 510, false)]),
        lock.frame(2, &[(MONTHS[1] + 1, false)]),
    ];
    world.nodes[1]
        .api
        .send_frames(batch(&frames))
        .await
        .expect("taken");
    for node in &world.nodes {
        until("the chain holds the dispute", async || {
            !node
                .api
                .disputes(Some(&a))
                .await
                .expect("disputes")
                .is_empty()
        })
        .await;
    }
    let disputes = world.nodes[0]
        .api
        .disputes(Some(&a))
        .await
        .expect("disputes");
    let [dispute] = &disputes[..] else {
        panic!("{disputes:?}")
    };
    assert_eq!(
        (dispute.kind.as_str(), dispute.t, dispute.accused),
        ("unequal-reveals", Some(0), None)
    );
    for words in [
        "node-1, node-2 revealed total_seconds = 500",
        "node-3 revealed total_seconds = 501",
        "nobody is blamed",
        "node-3 differs from the majority",
        "2015-10",
    ] {
        assert!(
            dispute.explanation.contains(words),
            "{words:?} is not in {:?}",
            dispute.explanation
        );
    }
    let bundle = world.nodes[0]
        .api
        .evidence(&dispute.dispute)
        .await
        .expect("evidence");
    assert_eq!(
        (
            bundle.commits.len(),
            bundle.reveals.len(),
            bundle.frames.len()
        ),
        (3, 3, 1)
    );
    assert!(bundle.input.is_some() && bundle.seal.is_some());
    assert!(
        world.nodes[0]
            .api
            .results(&a, 0, 10)
            .await
            .expect("results")
            .results
            .is_empty(),
        "nothing has settled"
    );
    resolve_by_all_users(&world, &a, &dispute.dispute).await;
    // The state is the same for all, so the next month goes on and the liar is caught again.
    world.nodes[0]
        .api
        .send_frames(batch(&[lock.frame(3, &[(MONTHS[2] + 1, false)])]))
        .await
        .expect("taken");
    until("the second dispute", async || {
        world.nodes[0]
            .api
            .disputes(Some(&a))
            .await
            .expect("disputes")
            .len()
            == 2
    })
    .await;
    let mut seen = Vec::new();
    while !seen.iter().any(|e: &String| e == "dispute") {
        let event = events.next().await.expect("no error").expect("an event");
        seen.push(
            serde_json::to_value(&event).expect("plain")["event"]
                .as_str()
                .expect("tag")
                .to_owned(),
        );
    }
    assert!(seen.contains(&"window-closed".to_owned()), "{seen:?}");
    mended.store(true, Ordering::Relaxed);
    read_again_by_all_nodes(&world, &a).await;
}

/// The operator of the third node has found what was wrong with it: t = 1 is read once more when every operator asks, not before.
async fn read_again_by_all_nodes(world: &World, a: &AgreementId) {
    let resolved = async |node: &TestNode| {
        let disputes = node.api.disputes(Some(a)).await.expect("disputes");
        disputes
            .iter()
            .find(|d| d.t == Some(1))
            .is_some_and(|d| d.resolved)
    };
    for (asked, node) in world.nodes.iter().enumerate() {
        assert!(!resolved(node).await, "{asked} of 3 operators have asked");
        let settled = async || match node.api.window(a, 1).await {
            Ok(window) => window.status.as_str() == "hole",
            Err(_) => false,
        };
        until("the node knows of the hole", settled).await;
        node.api.reread(a, 1).await.expect("it may be read again");
    }
    for node in &world.nodes {
        until("its cell is written", async || resolved(node).await).await;
        let results = node.api.results(a, 1, 10).await.expect("results").results;
        assert_eq!((results.len(), results[0].t), (1, 1));
        assert_eq!(results[0].result["trips"], 0);
        let again = node.api.reread(a, 1).await;
        assert!(again.is_err(), "nothing is left to be read");
    }
}
