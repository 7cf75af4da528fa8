//! Replays against a network of nodes that keep the HTTP contract, and misbehave when told to.

mod fake;

use diversity_sensor_sim::faults::Fault;
use diversity_sensor_sim::run::{Destination, Options, RunError, run};
use diversity_sensor_sim::tally::Summary;
use diversity_sensor_sim::trips::Trips;
use fake::Network;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

const OCTOBER: u64 = 1_443_657_600;

/// Three bikes over two months, with a rental over the month's end.
fn trips() -> Trips {
    let mut lines = String::from("bike_id,start_unix_s,end_unix_s\n");
    for bike in 0..3 {
        for i in 0..100u64 {
            let start = OCTOBER + i * 50_000 + bike * 997;
            lines.push_str(&format!("bike {bike},{start},{}\n", start + 1_800));
        }
    }
    let over = OCTOBER + 31 * 86_400;
    lines.push_str(&format!("bike 3,{},{}\n", over - 60, over + 60));
    Trips::parse(&mut lines.as_bytes(), Path::new("trips.csv")).unwrap()
}

const MESSAGES: u64 = 3 * 200 + 2 + 4 * 2;

fn options() -> Options {
    Options {
        frame_messages: 1,
        speed: None,
        timeout: Duration::from_secs(20),
        faults: Vec::new(),
        fault_seed: 1,
    }
}

async fn replay(network: &Network, options: &Options) -> Result<Summary, RunError> {
    let file = network.devnet_file();
    run(&trips(), &Destination::Devnet { file }, options).await
}

fn whole(summary: &Summary) {
    let s = summary;
    assert_eq!(
        (s.sent, s.acknowledged, s.heartbeats),
        (MESSAGES, MESSAGES, 8)
    );
    assert_eq!((s.lost, s.settled, s.disputed), (0, 2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_and_agreement_are_registered_once_and_a_repeated_replay_sends_nothing() {
    let network = Network::start(3, 2).await;
    let first = replay(&network, &options()).await.unwrap();
    whole(&first);
    let chain = network.chain();
    assert_eq!((chain.users, chain.nodes, chain.sensors), (2, 3, 4));
    // One node of each user got every frame, and no other node any.
    let frames = network.frames_received();
    assert_eq!(
        frames.iter().filter(|n| **n == MESSAGES).count(),
        2,
        "{frames:?}"
    );
    assert_eq!(frames.iter().sum::<u64>(), 2 * MESSAGES);

    let again = replay(&network, &options()).await.unwrap();
    whole(&again);
    assert_eq!(again.agreement, first.agreement);
    assert_eq!(network.frames_received(), frames, "nothing is sent twice");
    assert_eq!(network.chain(), chain, "nothing is registered twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_frames_carry_the_same_messages_and_a_resumed_replay_keeps_its_frames() {
    let network = Network::start(2, 2).await;
    let twenty = Options {
        frame_messages: 20,
        ..options()
    };
    whole(&replay(&network, &twenty).await.unwrap());
    let frames = network.frames_received();
    assert!(frames[0] < MESSAGES / 5, "{frames:?}");
    // Asked for others, it goes on with those that the nodes know.
    network.forget(0, 10);
    whole(&replay(&network, &options()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_goes_down_is_waited_for_or_another_of_its_user_is_used() {
    let network = Network::start(4, 2).await;
    // Nodes 0 and 2 belong to the first user, 1 and 3 to the second.
    let options = options();
    let running = replay(&network, &options);
    network.fail_after(0, 100);
    network.busy_for(1, 3);
    let summary = running.await.unwrap();
    whole(&summary);
    assert!(summary.retried > 0);
    assert!(
        network.frames_received()[2] > 0,
        "the first user's other node"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_are_refused_and_do_no_harm() {
    let network = Network::start(2, 2).await;
    let faulty = Options {
        faults: vec![
            Fault::Duplicate,
            Fault::Reorder,
            Fault::Malform,
            Fault::WrongSignature,
            Fault::Contradict,
            Fault::Future,
        ],
        // Slow enough for many batches.
        speed: Some(5_000_000.0),
        ..options()
    };
    let summary = replay(&network, &faulty).await.unwrap();
    whole(&summary);
    assert!(
        network.refused().contains("malformed"),
        "{:?}",
        network.refused()
    );
    assert!(
        network.refused().contains("bad-signature"),
        "{:?}",
        network.refused()
    );
    assert!(
        network.refused().contains("contradiction"),
        "{:?}",
        network.refused()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_takes_bad_frames_is_found_out() {
    let network = Network::start(2, 2).await;
    network
        .node(1)
        .takes_everything
        .store(true, Ordering::SeqCst);
    let faulty = Options {
        faults: vec![Fault::WrongSignature],
        speed: Some(5_000_000.0),
        ..options()
    };
    let error = replay(&network, &faulty).await.unwrap_err();
    assert!(error.to_string().contains("should have refused"), "{error}");
    assert_eq!(error.exit_code(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_acknowledgement_is_found_out() {
    let network = Network::start(2, 2).await;
    whole(&replay(&network, &options()).await.unwrap());
    network.node(0).forges.store(true, Ordering::SeqCst);
    let error = replay(&network, &options()).await.unwrap_err();
    assert!(
        error.to_string().contains("is not signed by the node"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standstill_names_what_waits() {
    let network = Network::start(2, 2).await;
    for i in 0..2 {
        let node = network.node(i);
        node.loses_everything.store(true, Ordering::SeqCst);
    }
    let hasty = Options {
        timeout: Duration::from_secs(2),
        ..options()
    };
    let error = replay(&network, &hasty).await.unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let text = error.to_string();
    assert!(text.contains("no progress for 2 s"), "{text}");
    assert!(
        text.contains(&format!("{MESSAGES} frames for the nodes of user")),
        "{text}"
    );
    assert!(
        text.contains("month 2015-10 (t = 0) is not settled"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_stands_already_is_used_with_the_same_keys() {
    let network = Network::start(2, 2).await;
    let first = replay(&network, &options()).await.unwrap();
    network.forget(0, 50);
    let folder = std::fs::read_dir(network.folder().join("sensor-sim")).unwrap();
    let keys = folder.map(|f| f.unwrap().path()).next().unwrap();
    let agreement = first.agreement.as_deref().unwrap();
    let agreement = diversity_proto::AgreementId::from_hex(agreement).unwrap();
    let nodes = |urls: Vec<String>| Destination::Nodes {
        urls,
        keys: keys.clone(),
        token_file: Some(network.folder().join("token")),
        agreement,
    };
    let summary = run(&trips(), &nodes(network.urls()), &options())
        .await
        .unwrap();
    whole(&summary);
    let one_user_only = run(&trips(), &nodes(network.urls()[..1].to_vec()), &options()).await;
    let text = one_user_only.unwrap_err().to_string();
    assert!(text.contains("give one more URL"), "{text}");
    // Other trips have other bikes.
    let other = "bike_id,start_unix_s,end_unix_s\nbike 1,1443675420,1443675723\n";
    let other = Trips::parse(&mut other.as_bytes(), Path::new("x")).unwrap();
    let text = run(&other, &nodes(network.urls()), &options())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("is not for the locks of this trips file"),
        "{text}"
    );
}
