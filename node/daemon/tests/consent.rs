//! A node does nothing that it has not accepted, and gives and takes nothing over what it shares with nobody: real chain, real
//! transport (docs/protocol.md, P-CONSENT, P-COMMON).

mod common;

use std::time::Duration;

use common::{BIKE, Chain, MONTHS, TestNode, World, batch, executor, send, terms, until};
use diversity_chain::{EvmSignature, calls};
use diversity_client::api::{AgreementView, NodeBinding, codes};
use diversity_client::draft::Draft;
use diversity_client::hexed::{Bytes, WalletSignature};
use diversity_keys::{SecretKey, peer_public, peer_sign};
use diversity_net::{Net, NetConfig, NetEvent, NetHandle, NetLimits, PeerEntry, TopicEntry};
use diversity_proto::entity::{NodeDeclaration, node_registration_digest, peer_binding_digest};
use diversity_proto::wire::{Range, encode_ranges, frames_topic};
use diversity_proto::{Address, AgreementId, NodeId, PublicKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// A draft between the first two users over a lock, which the nodes of the test accept as they are asked; the third node is named by
/// the first user.
async fn draft_of_three(world: &World) -> Draft {
    let api = &world.nodes[0].api;
    for node in &world.nodes {
        node.api.put_code(BIKE).await.expect("stored");
    }
    let code = api.put_code(BIKE).await.expect("stored").sha256;
    let users: Vec<_> = world.users[..2].iter().map(|u| u.id()).collect();
    let nodes = world
        .ids
        .iter()
        .copied()
        .zip([users[0], users[1], users[0]]);
    let nodes: Vec<_> = nodes.collect();
    let terms = terms(&users, &nodes, &[world.locks[0].id()], code);
    let mut keys = Vec::new();
    for n in &terms.nodes {
        keys.push(api.node(&n.node).await.expect("registered").public_key);
    }
    let mut draft = Draft::new(world.chain.deployment, terms, keys).expect("draft");
    for user in &world.users[..2] {
        draft.sign(user).expect("signed");
    }
    draft
}

async fn accept(node: &TestNode, draft: &mut Draft) {
    let accepted = node.api.accept(&draft.accept_request()).await;
    draft.accept(accepted.expect("accepted")).expect("good");
}

/// Creates it on chain without its nodes' help, with the acceptances of the first two nodes.
async fn create_past_the_nodes(chain: &Chain, draft: &Draft) {
    let checked = draft.check().expect("good");
    let key = calls::AgreementKey {
        agreement: draft.agreement,
        aggregate: checked.key.aggregate_x,
        y: checked.key.y,
    };
    let digest = diversity_proto::terms::agreement_digest(
        &chain.deployment,
        &draft.agreement,
        &checked.terms_digest,
    );
    let signatures = draft.signatures.iter().map(|s| {
        assert_eq!(s.signature.signer(&digest), Ok(s.user.address()));
        EvmSignature::from_rsv(&s.signature.0).expect("a signature")
    });
    let signatures: Vec<_> = signatures.collect();
    let of = |user: usize| {
        let one = draft.acceptances.iter().find_map(|a| {
            let node = checked.terms.node_index(&a.node)?;
            let trusted = usize::from(checked.terms.nodes[node].trust) == user;
            trusted.then(|| calls::Acceptance {
                node,
                signature: a.signature.compact(),
            })
        });
        one.expect("a node of each user")
    };
    let accepted = [of(0), of(1)];
    let call = calls::create_agreement(
        &chain.deployment,
        &key,
        &checked.terms,
        &signatures,
        &accepted,
    );
    send(chain, &call.expect("complete")).await;
}

async fn shown(node: &TestNode, a: &AgreementId) -> AgreementView {
    until("the agreement is seen", async || {
        node.api.agreement(a).await.is_ok()
    })
    .await;
    node.api.agreement(a).await.expect("seen")
}

async fn held(node: &TestNode, world: &World) -> u64 {
    let sensor = node.api.sensor(&world.locks[0].id()).await;
    sensor.expect("registered").next_q
}

async fn metric(node: &TestNode, line: &str) -> u64 {
    let address = node.base.strip_prefix("http://").expect("plain");
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let request = b"GET /metrics HTTP/1.0\r\n\r\n";
    stream.write_all(request).await.expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("answered");
    let found = text.lines().find_map(|l| l.strip_prefix(line));
    found.map_or(0, |n| n.trim().parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agreement_that_names_a_node_is_nothing_to_it_until_it_accepts() {
    let Some(world) = World::start(vec![executor(), executor(), executor()], 1).await else {
        return;
    };
    let mut draft = draft_of_three(&world).await;
    accept(&world.nodes[0], &mut draft).await;
    accept(&world.nodes[1], &mut draft).await;
    // Its own nodes do not help to create it without the third.
    assert!(draft.complete().is_err());
    let missing = draft.missing().expect("good").acceptances;
    assert_eq!(missing, [world.ids[2]]);

    create_past_the_nodes(&world.chain, &draft).await;
    let a = draft.agreement;
    for (node, accepted) in world.nodes.iter().zip([true, true, false]) {
        let view = shown(node, &a).await;
        assert_eq!(view.accepted, accepted, "{}", node.config.name);
        let listed = node.api.agreements().await.expect("listed");
        assert_eq!((listed.len(), listed[0].accepted), (1, accepted));
        let info = node.api.info().await.expect("info");
        assert_eq!(info.agreements.len(), usize::from(accepted));
    }
    let third = &world.nodes[2];
    let waits = &shown(third, &a).await.progress.waiting_for[0];
    assert!(waits.contains("not accepted by this node"), "{waits}");

    // Two of its nodes share the lock; the third, which is connected to both, hears nothing of it.
    let lock = &world.locks[0];
    let first = batch(&[lock.frame(0, &[(MONTHS[0] + 10, true)])]);
    let taken = world.nodes[0].api.send_frames(first).await.expect("taken");
    assert!(taken.refused.is_empty(), "{:?}", taken.refused);
    until("the second node has it", async || {
        held(&world.nodes[1], &world).await == 1
    })
    .await;
    assert_eq!(held(third, &world).await, 0);
    assert_eq!(metric(third, "diversity_not_accepted ").await, 1);

    // A restart changes nothing; its own acceptance changes everything.
    let World {
        mut nodes,
        locks,
        users,
        chain,
        ids,
    } = world;
    let (config, dir) = nodes.pop().expect("three").stop().await;
    nodes.push(TestNode::start(config, dir, executor()).await);
    let world = World {
        nodes,
        locks,
        users,
        chain,
        ids,
    };
    let third = &world.nodes[2];
    assert!(!shown(third, &a).await.accepted);
    assert_eq!(held(third, &world).await, 0);
    accept(third, &mut draft).await;
    until("it has what the others have", async || {
        held(third, &world).await == 1
    })
    .await;
    assert!(shown(third, &a).await.accepted);
    // Gossip too: a month settles with all three.
    let rest = [
        world.locks[0].frame(1, &[(MONTHS[0] + 610, false)]),
        world.locks[0].frame(2, &[(MONTHS[1] + 1, false)]),
    ];
    third.api.send_frames(batch(&rest)).await.expect("taken");
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

/// A stranger's node: it stands registered, with a transport of its own and no more of a node.
struct Stranger {
    net: NetHandle,
    events: mpsc::Receiver<NetEvent>,
}

const PEER: [u8; 32] = [0x5a; 32];

/// Registers it; the owner is a user of the test, and a stranger to the agreement all the same.
async fn register(world: &World) -> NodeId {
    let (d, key) = (
        world.chain.deployment,
        SecretKey::from_bytes(&[0x5b; 32]).expect("key"),
    );
    let (node, public_key) = (NodeId(key.address()), PublicKey(key.public_key()));
    let account = Address([7; 20]);
    let owner = &world.users[0];
    let proof = peer_sign(
        &PEER,
        &peer_binding_digest(&d, &node, &public_key, &account).0,
    );
    let declaration = NodeDeclaration {
        public_key,
        account,
        peer_key: peer_public(&PEER),
        peer_proof: proof,
        name: "a stranger's".into(),
        addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
        revision: 0,
    };
    let consent = node_registration_digest(&d, &owner.id(), &node, &declaration.digest());
    let binding = NodeBinding {
        node,
        owner: owner.id(),
        declaration: Bytes(declaration.encode()),
        signature: WalletSignature(key.sign_recoverable(&consent.0)),
    };
    let api = &world.nodes[0].api;
    let count = api.registered(&owner.id()).await.expect("counted");
    let signed = owner.node(binding, count).expect("consented");
    api.register_node(&signed).await.expect("registered");
    node
}

impl Stranger {
    async fn connect(to: &TestNode, topic: &str) -> Self {
        let info = to.api.info().await.expect("info").node;
        let peer: [u8; 32] = info.peer_key.0[..].try_into().expect("32 bytes");
        let config = NetConfig {
            identity: PEER.into(),
            listen: Vec::new(),
            peers: vec![PeerEntry {
                peer,
                addresses: to.config.p2p_listen.to_vec(),
            }],
            topics: vec![TopicEntry {
                topic: topic.into(),
                members: vec![peer],
            }],
            limits: NetLimits::default(),
        };
        let (net, events) = Net::spawn(config).expect("starts");
        let mut stranger = Self { net, events };
        // The node listens to the topic, and says so to everybody that it is connected to.
        stranger
            .wait(|e| matches!(e, NetEvent::Subscribed { .. }).then_some(()))
            .await;
        stranger
    }

    async fn wait<T>(&mut self, mut wanted: impl FnMut(&NetEvent) -> Option<T>) -> T {
        let look = async {
            loop {
                let event = self.events.recv().await.expect("runs");
                assert!(
                    !matches!(event, NetEvent::Gossip { .. } | NetEvent::Direct { .. }),
                    "a stranger hears {event:?}"
                );
                if let Some(found) = wanted(&event) {
                    return found;
                }
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(60), look).await;
        found.expect("in time")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registered_stranger_hears_and_gets_nothing() {
    let Some(mut world) = World::start(vec![executor(), executor()], 1).await else {
        return;
    };
    let a = world.agree().await;
    register(&world).await;
    // The operator of the first node lets it connect.
    let peer_id = diversity_net::peer_to_text(&peer_public(&PEER)).expect("a key");
    let stopped = world.nodes.remove(0);
    let (mut config, dir) = stopped.stop().await;
    let friend = format!("/ip4/127.0.0.1/tcp/{}/p2p/{peer_id}", common::free_port());
    config.p2p_peers = friend.parse().expect("list");
    world
        .nodes
        .insert(0, TestNode::start(config, dir, executor()).await);
    let node = &world.nodes[0];
    let topic = frames_topic(&world.chain.deployment, &a);
    let mut stranger = Stranger::connect(node, &topic).await;
    let peer: [u8; 32] = node.api.info().await.expect("info").node.peer_key.0[..]
        .try_into()
        .expect("32 bytes");

    let lock = &world.locks[0];
    let frames = batch(&[lock.frame(0, &[(MONTHS[0] + 10, true)])]);
    node.api.send_frames(frames).await.expect("taken");
    until("the other node has it", async || {
        held(&world.nodes[1], &world).await == 1
    })
    .await;
    let wanted = encode_ranges(&[Range {
        sensor: lock.id(),
        from_q: 0,
        to_q: 1,
    }]);
    stranger.net.request(peer, 1, wanted).expect("room");
    let answer = stranger
        .wait(|e| match e {
            NetEvent::Response { result, .. } => Some(result.clone()),
            _ => None,
        })
        .await;
    assert_eq!(answer, Ok(Vec::new()), "a refusal");
    assert_eq!(
        metric(node, "diversity_foreign_total{what=\"asked\"} ").await,
        1
    );

    // What it sends is not taken, on the topic or otherwise, however genuine.
    let next = batch(&[lock.frame(1, &[(MONTHS[0] + 610, false)])]);
    let before = metric(node, "diversity_foreign_total{what=\"topic\"} ").await;
    assert!(before >= 1, "its subscription was turned away");
    stranger.net.publish(topic, next).expect("room");
    until("it is turned away", async || {
        metric(node, "diversity_foreign_total{what=\"topic\"} ").await > before
    })
    .await;
    assert_eq!(held(node, &world).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sensors_without_an_agreement_have_a_quota_in_words() {
    let Some(mut world) = World::start(vec![executor(), executor()], 1).await else {
        return;
    };
    let (mut config, dir) = world.nodes.remove(0).stop().await;
    config.unagreed_frames_max = 2;
    world
        .nodes
        .insert(0, TestNode::start(config, dir, executor()).await);
    let api = &world.nodes[0].api;
    let lock = &world.locks[0];
    let frame = |q: u64| lock.frame(q, &[(MONTHS[0] + q, q.is_multiple_of(2))]);
    let taken = api.send_frames(batch(&[frame(0), frame(1)])).await;
    assert_eq!(taken.expect("taken").acknowledged[0].next_q, 2);
    let error = api.send_frames(batch(&[frame(2)])).await;
    let problem = error
        .expect_err("full")
        .problem()
        .expect("a problem")
        .clone();
    assert_eq!((problem.status, problem.code.as_str()), (429, codes::QUOTA));
    assert!(
        problem.refused[0].detail.contains("in no agreement"),
        "{problem:?}"
    );
    let held = &problem
        .acknowledgement
        .expect("says what is held")
        .acknowledged[0];
    assert_eq!(held.next_q, 2, "an acknowledgement covers what is held");

    world.agree().await;
    until("the agreement makes room", async || {
        api.send_frames(batch(&[frame(2)])).await.is_ok()
    })
    .await;
    assert_eq!(api.sensor(&lock.id()).await.expect("known").next_q, 3);
}
