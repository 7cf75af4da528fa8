//! A copied data directory that runs elsewhere: the two never meet, and whoever both connect to tells them.

mod common;

use common::{World, executor, until};
use diversity_daemon::keyring::Keyring;
use diversity_net::{Net, NetConfig, NetLimits, PeerEntry};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_with_one_key_are_told_of_one_another() {
    let Some(world) = World::start(vec![executor(), executor()], 1).await else {
        return;
    };
    let a = world.agree().await;
    until("the agreement runs on both", async || {
        let mut runs = true;
        for node in &world.nodes {
            let view = node.api.agreement(&a).await;
            runs &= view.is_ok_and(|v| {
                let waits = v.progress.waiting_for;
                !waits.iter().any(|why| why.contains("not"))
            });
        }
        runs
    })
    .await;
    // On one machine a second daemon of one key does not start; its transport is what the others see of it.
    let [witness, original] = &world.nodes[..] else {
        panic!("two nodes")
    };
    let keys = Keyring::open(&original.config.data_dir, std::path::Path::new(""), true);
    let keys = keys.expect("the key of the original");
    let info = witness.api.info().await.expect("info");
    let peer = diversity_net::peer_from_text(&info.node.peer_id).expect("a peer id");
    let witness_at = witness.config.p2p_listen[0].clone();
    let copied = NetConfig {
        identity: keys.peer.clone(),
        listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
        peers: vec![PeerEntry {
            peer,
            addresses: vec![witness_at],
        }],
        topics: Vec::new(),
        limits: NetLimits::default(),
    };
    let (_copy, _events) = Net::spawn(copied).expect("a transport");
    until("the original says that it has a twin", async || {
        let view = original.api.agreement(&a).await.expect("agreement");
        view.progress
            .waiting_for
            .iter()
            .any(|why| why.contains("two processes with the key of this node"))
    })
    .await;
}
