//! Peers that are listed but are not this program: another version, and malformed bytes.

use std::time::Duration;

use diversity_net::{Net, NetConfig, NetEvent, NetLimits, PeerEntry, public_key};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{StreamProtocol, Swarm, SwarmBuilder, identify, identity, noise, tcp, yamux};
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(30);

/// Writes its requests to the stream as they are.
#[derive(Clone, Default)]
struct Raw;

impl request_response::Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, _: &mut T) -> std::io::Result<Vec<u8>>
    where
        T: futures::AsyncRead + Unpin + Send,
    {
        Ok(Vec::new())
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> std::io::Result<Vec<u8>>
    where
        T: futures::AsyncRead + Unpin + Send,
    {
        let mut bytes = Vec::new();
        io.take(1000).read_to_end(&mut bytes).await?;
        Ok(bytes)
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Vec<u8>,
    ) -> std::io::Result<()>
    where
        T: futures::AsyncWrite + Unpin + Send,
    {
        io.write_all(&request).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        _: &mut T,
        _: Vec<u8>,
    ) -> std::io::Result<()>
    where
        T: futures::AsyncWrite + Unpin + Send,
    {
        Ok(())
    }
}

#[derive(NetworkBehaviour)]
struct Foreign {
    identify: identify::Behaviour,
    exchange: request_response::Behaviour<Raw>,
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
            exchange: request_response::Behaviour::new(
                [(
                    StreamProtocol::new("/diversity/1/round"),
                    ProtocolSupport::Full,
                )],
                request_response::Config::default(),
            ),
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
        topic: "diversity/1/frames/test".into(),
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
    let count = bad.len();
    for request in bad {
        swarm.behaviour_mut().exchange.send_request(&to, request);
    }
    let mut refused = 0;
    while refused < count {
        match swarm.select_next_some().await {
            SwarmEvent::Behaviour(ForeignEvent::Exchange(event)) => match event {
                request_response::Event::OutboundFailure { .. } => refused += 1,
                request_response::Event::Message {
                    message: request_response::Message::Response { response, .. },
                    ..
                } => {
                    assert_eq!(response, b"", "no acknowledgement");
                    refused += 1;
                }
                _ => {}
            },
            SwarmEvent::ConnectionClosed { cause, .. } => panic!("disconnected: {cause:?}"),
            _ => {}
        }
    }
    // A good one still comes through, and it is the first that does.
    let good = framed(&[0, 0, 0, 2, 8, 9, 0, 0, 0, 0]);
    swarm.behaviour_mut().exchange.send_request(&to, good);
    let task = tokio::spawn(async move { while swarm.next().await.is_some() {} });
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
