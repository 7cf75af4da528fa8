//! An agreement cannot run away: when the last of its sensors is void it ends. What it came to is shown while the chain is down.

mod common;

use common::{Lock, MONTHS, TestNode, World, batch, executor, until};
use diversity_client::terms_json::TermsJson;
use diversity_daemon::NodeConfig;
use diversity_proto::AgreementId;

/// Ends a month with its first message of the next one.
async fn month_ends(world: &World, lock: &Lock, t: usize) {
    let frame = lock.frame(t as u64, &[(MONTHS[t + 1] + 1, false)]);
    let taken = world.nodes[0].api.send_frames(batch(&[frame])).await;
    assert!(taken.expect("taken").refused.is_empty());
}

async fn settled(node: &TestNode, a: &AgreementId) -> u64 {
    let view = node.api.agreement(a).await.expect("agreement");
    view.progress.next_settlement
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agreement_whose_sensors_are_all_void_ends() {
    let Some(mut world) = World::start(vec![executor(), executor()], 2).await else {
        return;
    };
    // Whatever is silent is over two seconds after it may be: from 2015 on, months by the hundred.
    let quick = |terms| TermsJson {
        grace_s: 2,
        ..terms
    };
    let a = world.agree_on(quick).await;
    for lock in &world.locks {
        month_ends(&world, lock, 0).await;
        let other = lock.frame(0, &[(MONTHS[1] + 2, true)]);
        let refused = world.nodes[0].api.send_frames(batch(&[other])).await;
        assert!(refused.is_err(), "a contradiction");
    }
    for node in &world.nodes {
        // The other node hears of it from the chain.
        until("the agreement ends", async || {
            let view = node.api.agreement(&a).await;
            view.is_ok_and(|view| view.status.as_str() == "closed")
        })
        .await;
    }
    // What it took until then is all that it will ever take.
    let last = settled(&world.nodes[0], &a).await;
    assert!((1..12).contains(&last), "it ended before t = {last}");
    // Where one node cut before it heard of a contradiction and another one after, they leave a hole.
    let shown = async |node: &TestNode| {
        let page = node.api.results(&a, 0, 100).await.expect("results");
        let view = node.api.agreement(&a).await.expect("agreement");
        (page.results.len() + view.progress.holes.len()) as u64
    };
    for node in &world.nodes {
        until("all has settled here, and is shown", async || {
            settled(node, &a).await == last && shown(node).await == last
        })
        .await;
        let view = node.api.agreement(&a).await.expect("agreement");
        assert_eq!(view.progress.next_window, last);
        assert!(view.progress.waiting_for.is_empty(), "{view:?}");
    }

    // All of it is shown while the chain is down, after a start too.
    world.chain.kill();
    let (config, dir) = world.nodes.remove(0).stop().await;
    let node = TestNode::start_only(config, dir, executor()).await;
    until("it answers", async || node.api.alive().await).await;
    assert_eq!(settled(&node, &a).await, last);
    assert_eq!(shown(&node).await, last);
    let disputes = node.api.disputes(None).await.expect("disputes");
    let of_sensors = disputes.iter().filter(|d| d.agreement.is_none());
    assert_eq!(of_sensors.count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settlement_waits_for_the_gas_of_a_day_and_goes_on_when_the_setting_is_raised() {
    let poor = |config| NodeConfig {
        gas_per_day: 1,
        ..config
    };
    let runners = vec![executor(), executor()];
    let Some(mut world) = World::start_with(runners, 1, poor).await else {
        return;
    };
    let a = world.agree().await;
    for t in 0..3 {
        month_ends(&world, &world.locks[0], t).await;
    }
    let waits = |said: &[String]| said.iter().any(|w| w.starts_with("gas_budget: "));
    for node in &world.nodes {
        until(
            "each node has paid for one, and says what waits",
            async || {
                let view = node.api.agreement(&a).await.expect("agreement");
                let p = &view.progress;
                p.next_settlement == 2 && waits(&p.waiting_for)
            },
        )
        .await;
    }

    // A start is no new day.
    for _ in 0..2 {
        let (config, dir) = world.nodes.remove(0).stop().await;
        let node = TestNode::start(config, dir, executor()).await;
        until("it still says so", async || {
            let view = node.api.agreement(&a).await.expect("agreement");
            waits(&view.progress.waiting_for)
        })
        .await;
        assert_eq!(settled(&node, &a).await, 2);
        world.nodes.push(node);
    }

    let (config, dir) = world.nodes.remove(0).stop().await;
    let rich = NodeConfig {
        gas_per_day: 5_000_000,
        ..config
    };
    world
        .nodes
        .push(TestNode::start(rich, dir, executor()).await);
    for node in &world.nodes {
        until("what was owed settles", async || {
            settled(node, &a).await == 3
        })
        .await;
        until("nothing waits any more", async || {
            let view = node.api.agreement(&a).await.expect("agreement");
            !waits(&view.progress.waiting_for)
        })
        .await;
    }
}
