//! A node that lies settles nothing: the chain comes to hold a dispute, and whoever re-runs the evidence sees who was right.

use diversity_client::hexed;
use diversity_e2e::net::{self, Net, Plan};
use diversity_e2e::{onchain, programs};
use diversity_proto::AgreementId;
use diversity_proto::round::OutputKind;
use std::time::Duration;

#[test]
fn a_lie_ends_as_a_dispute_that_anybody_can_rerun() {
    let folder = tempfile::tempdir().expect("a folder");
    let trips = folder.path().join("trips.csv");
    net::city(&trips, 5, "2024-05", 1, 3, 3).expect("a city");
    let liar = programs::find("diversity-liar").expect("the liar");
    let net = Net::up(Plan {
        programs: vec![("node2".into(), liar)],
        ..Plan::default()
    })
    .expect("a devnet");
    let (_, summary) = net
        .replay(&trips, &[])
        .expect("starts")
        .end()
        .expect("a replay");
    let summary = summary.expect("a summary");
    assert_eq!(
        (summary.settled, summary.disputed, summary.lost),
        (0, 1, 0),
        "{summary:?}"
    );
    let agreement = summary.agreement().expect("an agreement").to_owned();

    let devnet = net.devnet().expect("devnet.json");
    let id = AgreementId::from_hex(&agreement).expect("an id");
    assert!(
        net.block_on(onchain::settlements(&devnet, &id))
            .expect("events")
            .is_empty()
    );
    for node in &devnet.nodes {
        let disputes = net::await_that("dispute", Duration::from_secs(30), || {
            match net.disputes(&node.name) {
                Ok(found) if !found.is_empty() => Ok(found),
                other => Err(format!("{other:?}")),
            }
        })
        .unwrap_or_else(|e| panic!("{}: {e}", node.name));
        assert_eq!(disputes.len(), 1, "{}: {disputes:?}", node.name);
        let dispute = &disputes[0];
        // Differences alone blame nobody (R5): who was wrong is seen by re-running f, not from the signatures.
        assert_eq!(
            (dispute.kind.as_str(), dispute.t, dispute.accused),
            ("unequal-reveals", Some(0), None)
        );
        assert!(!dispute.explanation.is_empty() && !dispute.resolved);
        assert!(
            net.results(&node.name, &agreement)
                .expect("results")
                .iter()
                .all(|r| r.kind != OutputKind::Value)
        );
    }
    let dispute = net.disputes("node1").expect("disputes")[0].dispute.hex();
    let words = net
        .words("dispute show", &["--node", "node1", &dispute])
        .expect("words");
    assert!(
        words.contains(&dispute) && words.contains("nobody"),
        "{words}"
    );
    let bundle = folder.path().join("evidence.json");
    let save = bundle.to_str().expect("text");
    let verdict = net
        .words(
            "dispute replay",
            &["--node", "node3", "--save", save, &dispute],
        )
        .expect("a verdict");
    assert!(verdict.contains(&dispute) && bundle.is_file(), "{verdict}");
    println!("{verdict}");

    // The users have looked into it: what the honest nodes computed counts.
    let api = net.api("node1").expect("a client");
    let window = net.block_on(api.window(&id, 0)).expect("the window");
    let result = hexed::encode(&window.computed.result.0);
    let signatures = folder.path().join("resolution.json");
    let file = signatures.to_str().expect("text");
    for (signed, user) in devnet.users.iter().enumerate() {
        let who = ["--signatures", file, "--user", &user.name];
        let what = ["--kind", "value", "--result", &result, &dispute];
        let words = net
            .words("dispute resolve", &[&what[..], &who[..]].concat())
            .expect("words");
        let all = signed + 1 == devnet.users.len();
        assert_eq!(words.contains("its cell says so"), all, "{words}");
    }
    for node in &devnet.nodes {
        // The liar's own detail is another, so that it shows none.
        let found = net::await_that("result", Duration::from_secs(30), || {
            match net.results(&node.name, &agreement) {
                Ok(found) if !found.is_empty() => Ok(found),
                other => Err(format!("{other:?}")),
            }
        })
        .unwrap_or_else(|e| panic!("{}: {e}", node.name));
        assert_eq!((found.len(), found[0].t), (1, 0));
        assert_eq!(found[0].kind, OutputKind::Value);
        let after = net.disputes(&node.name).expect("disputes");
        assert!(after[0].resolved, "{after:?}");
    }
    // Nothing is left to be read once more.
    let asked = net.words("dispute reread", &["--node", "node1", &dispute]);
    assert!(asked.is_err(), "{asked:?}");
}
