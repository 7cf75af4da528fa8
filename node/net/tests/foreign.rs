//! Peers that are listed but are not this program: another version, and malformed bytes.

use std::time::Duration;

use diversity_net::{Net, NetConfig, NetEvent, NetLimits, PeerEntry, public_key};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{StreamProtocol, Swarm, SwarmBuilder, identify, identity, noise, tcp, yamux};
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(30);

const ROUND: StreamProtocol = StreamProtocol::new("/diversity/1/round");

#[derive(NetworkBehaviour)]
struct Foreign {
    identify: identify::Behaviour,
    streams: libp2p_stream::Behaviour,
}

fn foreign(seed: u8, version: &str) -> Swarm<Foreign> {
    let key = identity::Keypair::ed25519_from_bytes([seed; 32]).expect("key");
    SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(
            tcp::Config::new(),
            noise::Config::new,
            yamux::Config::default,
        )
        .expect("tcp")
        .with_behaviour(|key| Foreign {
            identify: identify::Behaviour::new(identify::Config::new(version.into(), key.public())),
            streams: libp2p_stream::Behaviour::new(),
        })
        .expect("behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(PATIENCE))
        .build()
}

async fn node() -> (diversity_net::NetHandle, mpsc::Receiver<NetEvent>, String) {
    let (handle, mut events) = Net::spawn(NetConfig {
        identity: [1; 32].into(),
        listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
        peers: vec![PeerEntry {
            peer: public_key(&[2; 32]).expect("key"),
            addresses: vec![],
        }],
        topics: Vec::new(),
        limits: NetLimits::default(),
    })
    .expect("starts");
    let Some(NetEvent::Listening { address }) = events.recv().await else {
        panic!("it listens first");
    };
    (handle, events, address)
}

async fn next(events: &mut mpsc::Receiver<NetEvent>) -> NetEvent {
    tokio::time::timeout(PATIENCE, events.recv())
        .await
        .expect("an event in time")
        .expect("runs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_of_another_version_is_named_and_disconnected() {
    let (_handle, mut events, address) = node().await;
    let mut swarm = foreign(2, "/diversity/2");
    swarm
        .dial(address.parse::<libp2p::Multiaddr>().expect("address"))
        .expect("dials");
    let task = tokio::spawn(async move {
        loop {
            if let SwarmEvent::ConnectionClosed { .. } = swarm.select_next_some().await {
                return;
            }
        }
    });
    let peer = public_key(&[2; 32]).expect("key");
    loop {
        match next(&mut events).await {
            NetEvent::Incompatible { peer: who, version } => {
                assert_eq!((who, version.as_str()), (peer, "/diversity/2"));
                break;
            }
            NetEvent::Disconnected { .. } => panic!("named before it is thrown out"),
            _ => {}
        }
    }
    while next(&mut events).await != (NetEvent::Disconnected { peer }) {}
    task.await.expect("it was disconnected");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_direct_messages_are_refused_and_change_nothing() {
    let (handle, mut events, address) = node().await;
    let mut swarm = foreign(2, "/diversity/1");
    swarm
        .dial(address.parse::<libp2p::Multiaddr>().expect("address"))
        .expect("dials");
    let to = loop {
        if let SwarmEvent::ConnectionEstablished { peer_id, .. } = swarm.select_next_some().await {
            break peer_id;
        }
    };
    let mut control = swarm.behaviour().streams.new_control();
    let task = tokio::spawn(async move {
        loop {
            if let SwarmEvent::ConnectionClosed { cause, .. } = swarm.select_next_some().await {
                panic!("disconnected: {cause:?}");
            }
        }
    });
    let framed = |body: &[u8]| [&(body.len() as u32).to_be_bytes()[..], body].concat();
    let bad = [
        vec![],
        vec![0, 0],
        vec![0xff; 4],                        // announces 4 GiB
        vec![0, 0, 0, 9, 1],                  // less than announced
        framed(&[0, 0, 0]),                   // half a length
        framed(&[0, 0, 0, 2, 1]),             // less than the inner length
        framed(&[0xff, 0xff, 0xff, 0xff, 1]), // an inner length of 4 GiB
        framed(&[0; 4 * 1025]),               // too many messages
    ];
    for bytes in bad {
        let mut stream = control.open_stream(to, ROUND).await.expect("opens");
        // It fails when the node has closed the stream already.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.close().await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .expect("the stream ends");
        assert_eq!(answer, [1], "that it reads, and nothing else");
    }
    // Good ones still come through, and they are the first that do.
    let mut stream = control.open_stream(to, ROUND).await.expect("opens");
    let good = framed(&[0, 0, 0, 2, 8, 9, 0, 0, 0, 0]);
    stream.write_all(&good).await.expect("open");
    stream.flush().await.expect("open");
    let mut got = Vec::new();
    while got.len() < 2 {
        if let NetEvent::Direct { bytes, .. } = next(&mut events).await {
            got.push(bytes);
        }
    }
    assert_eq!(got, [vec![8, 9], vec![]]);
    drop(handle);
    task.abort();
}
