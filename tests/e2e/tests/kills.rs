//! SIGKILL of each node and of the chain in mid-run: nothing acknowledged is lost, and every month settles exactly once.

use diversity_e2e::compare::{Comparison, Settled};
use diversity_e2e::net::{self, Net, Plan};
use diversity_e2e::onchain;
use diversity_e2e::trips::Months;
use diversity_proto::AgreementId;
use std::time::Duration;

const MONTHS: u32 = 10;
const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn whoever_is_killed_everything_settles_exactly_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let trips = folder.path().join("trips.csv");
    net::city(&trips, 6, "2022-09", MONTHS, 3, 5).expect("a city");
    let expected = Months::of_trips(&trips).expect("months");
    let net = Net::up(Plan::default()).expect("a devnet");
    // Ten months in about 25 s, so that there is a middle in which to kill.
    let mut replay = net.replay(&trips, &["--speed", "1000000"]).expect("starts");
    let agreement = net.agreement("node1", WITHIN).expect("an agreement");

    // Each is killed after a further month is settled, and the others are watched meanwhile: no node settles alone, so
    // nothing may move on without the one that is down, but messages are taken in.
    for (month, victim, witness) in [
        (1, "node1", "node2"),
        (2, "node2", "node3"),
        (3, "node3", "node1"),
        (4, "chain", "node2"),
    ] {
        net.await_progress(witness, &agreement, "settled month", WITHIN, |p| {
            p.next_settlement >= month
        })
        .unwrap_or_else(|e| panic!("before {victim} is killed: {e}"));
        assert!(
            replay.runs().expect("asked"),
            "the replay has ended before {victim} was killed"
        );
        net.kill(victim).expect("killed");
        let devnet = net.devnet().expect("devnet.json");
        let pid = if victim == "chain" {
            devnet.chain.pid
        } else {
            devnet.node(victim).expect("listed").pid
        };
        assert_eq!(pid, None, "{victim} has a process after it was killed");
        // Something is to be done when it comes back.
        net.await_progress(
            witness,
            &agreement,
            "window while one is down",
            WITHIN,
            |p| p.next_window > month,
        )
        .unwrap_or_else(|e| panic!("while {victim} is down: {e}"));
        net.start(victim)
            .unwrap_or_else(|e| panic!("{victim} does not come back: {e}"));
    }
    let summary = replay.finish().expect("a replay");
    assert_eq!(
        (summary.settled, summary.disputed, summary.lost),
        (u64::from(MONTHS), 0, 0),
        "{summary:?}"
    );

    let devnet = net.devnet().expect("devnet.json");
    let times = net
        .block_on(onchain::settlements(&devnet, &agreement))
        .expect("events");
    let wanted: Vec<(u64, u32)> = (0..u64::from(MONTHS)).map(|t| (t, 1)).collect();
    assert_eq!(
        times.into_iter().collect::<Vec<_>>(),
        wanted,
        "how often the chain has settled each t"
    );
    let mut first = None;
    for node in &devnet.nodes {
        let results = net
            .results(&node.name, &AgreementId::hex(&agreement))
            .expect("results");
        let ts: Vec<u64> = results.iter().map(|r| r.t).collect();
        assert_eq!(
            ts,
            (0..u64::from(MONTHS)).collect::<Vec<_>>(),
            "what {} shows",
            node.name
        );
        let settled = Settled::read(&results).expect("months");
        let comparison = Comparison::new(&settled, &expected, &expected.months, &expected.locks);
        assert!(
            comparison.holds(),
            "{}: {:?}",
            node.name,
            comparison.differences
        );
        assert_eq!(
            first.get_or_insert_with(|| results.clone()),
            &results,
            "{} shows other results",
            node.name
        );
    }
}
