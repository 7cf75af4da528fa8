//! A stranger's process writes to the contracts: after each of its transactions every node is killed and started again, and months
//! settle all the same (R10).

use diversity_client::api::NodeView;
use diversity_client::devnet::Devnet;
use diversity_e2e::locks::{self, Lock};
use diversity_e2e::net::{self, Net, Plan};
use diversity_e2e::stranger::{Became, Stranger};
use diversity_keys::SecretKey;
use diversity_proto::PublicKey;
use std::collections::BTreeSet;
use std::time::Duration;

const MONTHS: u32 = 2;

/// Kills and starts every node; each of them must come back.
fn restart_all(net: &Net, after: &str) {
    let devnet = net.devnet().expect("devnet.json");
    for node in &devnet.nodes {
        net.kill(&node.name).expect("killed");
    }
    for node in &devnet.nodes {
        net.start(&node.name)
            .unwrap_or_else(|e| panic!("{} does not start after {after}: {e}", node.name));
    }
}

/// Registers every user of the devnet, and every node with its owner.
async fn parties(devnet: &Devnet) -> diversity_e2e::Result {
    // All through one node, which has seen what it has relayed.
    let first = devnet.api(None).await?;
    for user in &devnet.users {
        let signer = locks::user(devnet, &user.name)?;
        first.register_user(&signer.user(&user.name)).await?;
    }
    for (i, node) in devnet.nodes.iter().enumerate() {
        let owner = &devnet.users[i % devnet.users.len()];
        let owner = locks::user(devnet, &owner.name)?;
        let binding = node.api()?.node_binding(&owner.id()).await?;
        let count = first.registered(&owner.id()).await?;
        first.register_node(&owner.node(binding, count)?).await?;
    }
    Ok(())
}

struct Attack<'a> {
    net: &'a Net,
    stranger: Stranger,
}

impl Attack<'_> {
    fn send(&mut self, what: &str, call: &[u8], became: Became) {
        let found = self.net.block_on(self.stranger.send(call));
        assert_eq!(found.expect("the chain answers"), became, "{what}");
    }

    /// The contract takes it, and no node minds.
    fn taken(&mut self, what: &str, call: &[u8]) {
        self.send(what, call, Became::Taken);
        restart_all(self.net, what);
    }

    fn refused(&mut self, what: &str, call: &[u8]) {
        self.send(what, call, Became::Refused);
    }
}

#[test]
fn whatever_a_stranger_writes_every_node_starts_and_months_settle() {
    let folder = tempfile::tempdir().expect("a folder");
    let trips = folder.path().join("trips.csv");
    net::city(&trips, 4, "2022-09", MONTHS, 3, 5).expect("a city");
    let net = Net::up(Plan::default()).expect("a devnet");
    let devnet = net.devnet().expect("devnet.json");
    // The parties are there already: their keys are what the stranger goes for.
    net.block_on(parties(&devnet)).expect("registered");
    let api = net.api("node1").expect("an API");
    let others: Vec<NodeView> = net.block_on(api.nodes()).expect("nodes");
    assert_eq!(others.len(), devnet.nodes.len());

    let stranger = Stranger::new(&devnet).expect("an account");
    let mut attack = Attack {
        net: &net,
        stranger,
    };
    let call = attack.stranger.register_user(1, "a\u{1b}[2Jstranger");
    attack.taken("a name that clears the screen", &call);
    let call = attack.stranger.register_user(0, "a stranger");
    attack.taken("a user", &call);
    registrations(&mut attack, &others);
    agreements(&mut attack, &others);

    // Nobody's connections were taken over, nobody is out of step: the months settle.
    let replay = net.replay(&trips, &[]).expect("starts");
    let summary = replay.finish().expect("a replay");
    assert_eq!(
        (summary.settled, summary.disputed, summary.lost),
        (u64::from(MONTHS), 0, 0),
        "{summary:?}"
    );

    over_the_locks_of_others(&mut attack, &others);

    // Every node says what it did not believe, and why.
    for node in &devnet.nodes {
        let api = net.api(&node.name).expect("an API");
        let skipped = net.block_on(api.skipped()).expect("a list");
        let reasons: BTreeSet<_> = skipped.iter().map(|s| s.reason.as_str()).collect();
        let wanted = [
            "foreign_key",
            "malformed",
            "peer_key_unproven",
            "revision_not_newer",
            "undialable_address",
            "unprintable_name",
        ];
        assert_eq!(reasons, BTreeSet::from(wanted), "{}", node.name);
    }
}

/// Sensors that are registered, a module that every node has, and nodes of its own that accept: before, that was enough for all others
/// to run it, to peer with the stranger's nodes, and to serve them the locks' messages.
fn over_the_locks_of_others(attack: &mut Attack<'_>, others: &[NodeView]) {
    let devnet = attack.net;
    for i in 0..2 {
        let declaration = attack.stranger.declaration(i, 9);
        let call = attack.stranger.register_node(i, &declaration);
        attack.send("its own nodes", &call, Became::Taken);
    }
    let api = devnet.api("node1").expect("an API");
    let sensors = devnet.block_on(api.sensors()).expect("sensors");
    let bike = sensors.iter().filter(|s| s.sensor_type == "bike-lock");
    let locks: Vec<_> = bike.map(|s| s.sensor).collect();
    assert!(!locks.is_empty());
    let ours = devnet.agreement("node1", Duration::from_secs(60));
    let ours = ours.expect("the agreement of the replay");
    let view = devnet.block_on(api.agreement(&ours)).expect("known");
    let code = view.terms.off_chain_code;
    let terms = attack.stranger.terms_over(others, &locks, code);
    let key = attack.stranger.key(&terms, others).expect("a key");
    let call = attack.stranger.create(&key, &terms);
    attack.taken("an agreement over the locks of others", &call);
    for node in &devnet.devnet().expect("devnet.json").nodes {
        let api = devnet.api(&node.name).expect("an API");
        let view = net::await_that("the agreement", Duration::from_secs(60), || {
            let view = devnet.block_on(api.agreement(&key.agreement));
            view.map_err(|e| e.to_string())
        });
        let view = view.unwrap_or_else(|e| panic!("{}: {e}", node.name));
        assert!(!view.accepted, "{}", node.name);
        let waits = view.progress.waiting_for.join("; ");
        assert!(waits.contains("not accepted by this node"), "{waits}");
        assert_eq!(view.progress.next_window, 0, "nothing runs");
        // The node's own agreement is its only one all the same.
        let found = devnet.agreement(&node.name, Duration::from_secs(60));
        assert_eq!(found.expect("one"), ours);
        let info = devnet.block_on(api.info()).expect("info");
        assert!(info.agreements.iter().all(|a| a.accepted));
    }
}

fn registrations(attack: &mut Attack<'_>, others: &[NodeView]) {
    let deployment = locks::deployment(&attack.net.devnet().expect("devnet.json"));
    let lock = Lock::new(deployment).expect("a key");
    let mut declaration = lock.declaration("a lock");
    declaration.public_key = PublicKey(SecretKey::generate().expect("a key").public_key());
    let call = attack.stranger.register_sensor(&lock.key, declaration);
    attack.taken("a sensor with another's key", &call);

    for address in [
        "not an address",
        "/ip4/127.0.0.9/udp/7440/quic-v1",
        "node-c.example:7440",
        "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN",
    ] {
        let mut declaration = attack.stranger.declaration(0, 0);
        declaration.addresses = vec![address.into()];
        let call = attack.stranger.register_node(0, &declaration);
        attack.taken(address, &call);
    }
    let mut declaration = attack.stranger.declaration(0, 0);
    declaration.peer_key = others[0].peer_key.0[..].try_into().expect("32 bytes");
    let call = attack.stranger.register_node(0, &declaration);
    attack.taken("the peer key of a node", &call);
    let mut declaration = attack.stranger.declaration(0, 0);
    declaration.public_key = others[0].public_key;
    let call = attack.stranger.register_node(0, &declaration);
    attack.taken("the protocol key of a node", &call);

    let declaration = attack.stranger.declaration(0, 0);
    let good = attack.stranger.register_node(0, &declaration);
    attack.taken("a node of its own", &good);
    attack.refused("the same registration again", &good);
    let again = attack.stranger.register_node(0, &declaration);
    attack.taken("the same declaration, signed again", &again);
    let mut other = declaration.clone();
    other.name = "another".into();
    let call = attack.stranger.register_node(0, &other);
    attack.taken("another declaration under the same revision", &call);
    // What the contract cannot look into.
    let mut cut = attack.stranger.declaration(1, 1);
    cut.name = String::new();
    let call = attack.stranger.register_node(1, &cut);
    attack.taken("a node without a name", &call);
}

fn agreements(attack: &mut Attack<'_>, others: &[NodeView]) {
    let deployment = locks::deployment(&attack.net.devnet().expect("devnet.json"));
    let terms = attack.stranger.terms(others, 0);
    let key = attack.stranger.key(&terms, others).expect("a key");
    let call = attack.stranger.create(&key, &terms);
    attack.taken(
        "an agreement that names nodes which were never asked",
        &call,
    );
    attack.refused("the same agreement again", &call);
    let call = attack.stranger.equivocation(&key, &terms, 1 << 62);
    attack.refused("an equivocation at t = 2^62", &call);
    let call = attack.stranger.equivocation(&key, &terms, (1 << 40) - 2);
    attack.taken("an equivocation at the last t of all", &call);

    let room = 100 - 2 - others.len();
    let terms = attack.stranger.terms(others, room);
    let key = attack.stranger.key(&terms, others).expect("a key");
    let call = attack.stranger.create(&key, &terms);
    attack.taken("an agreement of 100 nodes", &call);
    let terms = attack.stranger.terms(others, room + 50);
    let key = attack.stranger.key(&terms, others).expect("a key");
    let call = attack.stranger.create(&key, &terms);
    attack.refused("an agreement of 150 nodes", &call);

    let lock = Lock::new(deployment).expect("a key");
    let evidence = attack.stranger.contradiction(&lock);
    let long = [&evidence[..], &[0; 200_000]].concat();
    attack.refused("evidence with something behind it", &long);
    attack.taken(
        "a contradiction of a sensor that nobody has registered",
        &evidence,
    );
}
