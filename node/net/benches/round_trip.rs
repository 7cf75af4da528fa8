//! Round trips and throughput between two nodes on the loopback interface, both in this process.
//! `cargo bench -p diversity-net`

use std::time::Instant;

use diversity_net::{
    Net, NetConfig, NetEvent, NetHandle, NetLimits, PeerEntry, TopicEntry, Verdict, public_key,
};
use tokio::sync::mpsc;

const TOPIC: &str = "bench";

struct Node {
    handle: NetHandle,
    events: mpsc::Receiver<NetEvent>,
}

impl Node {
    async fn next(&mut self) -> NetEvent {
        self.events.recv().await.expect("runs")
    }

    async fn wait<T>(&mut self, mut wanted: impl FnMut(NetEvent) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.next().await) {
                return found;
            }
        }
    }
}

fn start(seed: u8, other: u8, address: Option<String>) -> Node {
    let (handle, events) = Net::spawn(NetConfig {
        identity: [seed; 32].into(),
        listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
        peers: vec![PeerEntry {
            peer: public_key(&[other; 32]).expect("key"),
            addresses: address.into_iter().collect(),
        }],
        topics: vec![TopicEntry {
            topic: TOPIC.into(),
            members: vec![public_key(&[other; 32]).expect("key")],
        }],
        limits: NetLimits {
            peer_messages_per_second: u32::MAX,
            peer_bytes_per_second: u32::MAX,
            ..NetLimits::default()
        },
    })
    .expect("starts");
    Node { handle, events }
}

fn percentiles(name: &str, mut micros: Vec<f64>) {
    micros.sort_by(f64::total_cmp);
    let at = |share: f64| micros[((micros.len() - 1) as f64 * share) as usize];
    println!(
        "{name:<50} p50 {:>8.1} us  p99 {:>8.1} us",
        at(0.5),
        at(0.99)
    );
}

fn throughput(name: &str, count: u32, bytes: usize, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{name:<50} {:>8.0} /s {:>10.1} MB/s",
        f64::from(count) / seconds,
        f64::from(count) * bytes as f64 / seconds / 1e6
    );
}

fn main() {
    // One thread shows the cost, two what is left of it when both cores are free.
    println!("one thread for both nodes");
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime")
        .block_on(measure());
    println!("two threads");
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("runtime")
        .block_on(measure());
}

async fn measure() {
    let mut a = start(1, 2, None);
    let address = a
        .wait(|event| match event {
            NetEvent::Listening { address } => Some(address),
            _ => None,
        })
        .await;
    let mut b = start(2, 1, Some(address));
    for node in [&mut a, &mut b] {
        node.wait(|event| matches!(event, NetEvent::Subscribed { .. }).then_some(()))
            .await;
    }
    let (first, second) = (a.handle.local_peer(), b.handle.local_peer());
    let echo = b.handle.clone();
    tokio::spawn(async move {
        loop {
            match b.next().await {
                NetEvent::Direct { bytes, .. } if bytes[0] == 1 => {
                    echo.send(first, bytes).expect("room");
                }
                NetEvent::Direct { bytes, .. } if bytes[0] == 3 => {
                    echo.send(first, bytes).expect("room");
                }
                NetEvent::Request { token, bytes, .. } => {
                    echo.respond(token, bytes).expect("room");
                }
                NetEvent::Gossip {
                    from,
                    message_id,
                    bytes,
                    ..
                } => {
                    echo.validate(message_id, from, Verdict::Accept)
                        .expect("room");
                    if bytes[0] == 3 {
                        echo.send(first, vec![3]).expect("room");
                    }
                }
                _ => {}
            }
        }
    });

    for bytes in [200, 10_000] {
        let mut micros = Vec::new();
        for _ in 0..3000 {
            let start = Instant::now();
            a.handle.send(second, vec![1; bytes]).expect("room");
            a.wait(|event| matches!(event, NetEvent::Direct { .. }).then_some(()))
                .await;
            micros.push(start.elapsed().as_secs_f64() * 1e6);
        }
        percentiles(&format!("direct there and back, {bytes} B"), micros);
    }
    let mut micros = Vec::new();
    for id in 0..3000 {
        let start = Instant::now();
        a.handle.request(second, id, vec![0; 200]).expect("room");
        a.wait(|event| matches!(event, NetEvent::Response { .. }).then_some(()))
            .await;
        micros.push(start.elapsed().as_secs_f64() * 1e6);
    }
    percentiles("request and answer, 200 B", micros);

    const COUNT: u32 = 100_000;
    let start = Instant::now();
    for n in 0..COUNT {
        // The last of each thousand is answered: no more than a few thousand are on their way.
        let last = n % 1000 == 999;
        let mut bytes = vec![2; 200];
        bytes[0] = if last { 3 } else { 2 };
        while a.handle.send(second, bytes.clone()).is_err() {
            tokio::task::yield_now().await;
        }
        if last {
            a.wait(|event| matches!(event, NetEvent::Direct { .. }).then_some(()))
                .await;
        }
    }
    throughput("direct one way, 200 B", COUNT, 200, start);

    for bytes in [16 * 1024usize, 128 * 1024] {
        const BATCHES: u32 = 2000;
        let start = Instant::now();
        for n in 0..BATCHES {
            let last = n % 50 == 49;
            let mut batch = vec![2; bytes];
            batch[0] = if last { 3 } else { 2 };
            batch[1..5].copy_from_slice(&n.to_be_bytes());
            a.handle.publish(TOPIC.into(), batch).expect("room");
            if last {
                a.wait(|event| matches!(event, NetEvent::Direct { .. }).then_some(()))
                    .await;
            }
        }
        throughput(
            &format!("gossip one way, {} KiB batches", bytes / 1024),
            BATCHES,
            bytes,
            start,
        );
    }
}
