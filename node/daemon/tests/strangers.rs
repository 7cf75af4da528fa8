//! Strangers register more than a node keeps of them: what they push out is found again when somebody needs it.

mod common;

use common::{MONTHS, World, batch, executor, until, user};
use diversity_daemon::NodeConfig;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parties_that_strangers_pushed_out_agree_all_the_same() {
    let little = |config| NodeConfig {
        strangers_bytes_max: 4_096,
        ..config
    };
    let Some(world) = World::start_with(vec![executor(), executor()], 2, little).await else {
        return;
    };
    let d = world.chain.deployment;
    for seed in 150..190 {
        let stranger = user(d, seed).user("stranger");
        let registered = world.nodes[0].api.register_user(&stranger).await;
        registered.expect("registered");
    }
    for (node, id) in world.nodes.iter().zip(&world.ids) {
        until("only strangers and itself are left", async || {
            let api = &node.api;
            let nodes: Vec<_> = api.nodes().await.expect("nodes");
            let users = api.users().await.expect("users");
            let known = users
                .iter()
                .any(|u| world.users.iter().any(|w| w.id() == u.user));
            assert!(users.len() <= 16, "the bound holds: {}", users.len());
            nodes.iter().all(|n| n.node == *id)
                && api.sensors().await.expect("sensors").is_empty()
                && !known
        })
        .await;
    }

    // A user who is not there any more registers another sensor, with the count that the contract gives.
    let extra = common::Lock::new(d, 120);
    let count = world.nodes[1]
        .api
        .registered(&world.users[0].id())
        .await
        .expect("count");
    let pairs = [(&extra.declaration, &extra.key)];
    let request = world.users[0].sensors(&pairs, count).expect("good");
    let registered = world.nodes[1].api.register_sensors(&request).await;
    registered.expect("registered");

    let a = world.agree().await;
    let frames = [
        world.locks[0].frame(0, &[(MONTHS[0] + 10, true), (MONTHS[0] + 610, false)]),
        world.locks[0].frame(2, &[(MONTHS[1] + 1, false)]),
        world.locks[1].frame(0, &[(MONTHS[1] + 1, false)]),
    ];
    let taken = world.nodes[0].api.send_frames(batch(&frames)).await;
    assert!(taken.expect("taken").refused.is_empty());
    for node in &world.nodes {
        until("October is settled", async || {
            let page = node.api.results(&a, 0, 10).await.expect("results");
            page.results
                .first()
                .is_some_and(|r| r.result["total_seconds"] == 600)
        })
        .await;
    }
}
