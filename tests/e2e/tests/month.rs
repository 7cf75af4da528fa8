//! Months of generated locks settle, and equal what another computation gives, from each of three nodes.

use diversity_e2e::compare::{Comparison, Settled};
use diversity_e2e::net::{self, Net, Plan};
use diversity_e2e::onchain;
use diversity_e2e::trips::Months;
use diversity_proto::AgreementId;

/// Three months, so that rentals are carried over the end of two of them.
#[test]
fn months_settle_once_and_equal_the_recomputation() {
    let folder = tempfile::tempdir().expect("a folder");
    let trips = folder.path().join("trips.csv");
    net::city(&trips, 12, "2023-12", 3, 4, 11).expect("a city");
    let expected = Months::of_trips(&trips).expect("months");
    let net = Net::up(Plan::default()).expect("a devnet");
    let summary = net
        .replay(&trips, &["--frame-messages", "5"])
        .expect("starts")
        .finish()
        .expect("a replay");
    assert_eq!((summary.settled, summary.disputed, summary.lost), (3, 0, 0));
    assert_eq!(summary.heartbeats, 36);
    assert_eq!(summary.sent, 2 * expected.trips() + summary.heartbeats);
    let agreement = summary.agreement().expect("an agreement").to_owned();

    let devnet = net.devnet().expect("devnet.json");
    assert_eq!(devnet.nodes.len(), 3);
    let mut shown = Vec::new();
    for node in &devnet.nodes {
        shown.push(net.results(&node.name, &agreement).expect("results"));
    }
    assert!(
        shown.iter().all(|r| *r == shown[0]),
        "the nodes show different results"
    );
    let settled = Settled::read(&shown[0]).expect("months");
    let comparison = Comparison::new(&settled, &expected, &expected.months, &expected.locks);
    assert!(comparison.holds(), "{:?}", comparison.differences);
    assert_eq!((comparison.months, comparison.pairs), (3, 36));

    let id = AgreementId::from_hex(&agreement).expect("an id");
    let times = net
        .block_on(onchain::settlements(&devnet, &id))
        .expect("events");
    assert_eq!(
        times.into_iter().collect::<Vec<_>>(),
        [(0, 1), (1, 1), (2, 1)]
    );

    // The same replay again finds the same agreement, and has nothing to do.
    let again = net
        .replay(&trips, &["--frame-messages", "5"])
        .expect("starts")
        .finish()
        .expect("a replay");
    assert_eq!(
        (again.agreement.as_deref(), again.sent, again.settled),
        (Some(agreement.as_str()), summary.sent, 3)
    );
    let same = net
        .results(&devnet.nodes[1].name, &agreement)
        .expect("results");
    assert_eq!(same, shown[0]);
}
