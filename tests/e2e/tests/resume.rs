//! A devnet that is ended and taken up again, as often as one likes and in another folder; and a node that ends at once when it is told
//! to, whatever connections are open.

use diversity_e2e::net::{self, Net, Plan, run};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How often; 50 by `DIVERSITY_RESUMES=50`.
const RESUMES: usize = 5;

fn devnet(what: &str, dir: &Path) {
    let arguments = ["devnet".into(), what.into(), "--dir".into(), dir.into()];
    run("diversity", &arguments).unwrap_or_else(|e| panic!("devnet {what}: {e}"));
}

#[test]
fn a_devnet_is_taken_up_again_and_again_and_in_another_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("net");
    let net = Net::up(Plan {
        nodes: Some(2),
        dir: Some(dir.clone()),
        ..Plan::default()
    })
    .expect("a devnet");
    let trips = folder.path().join("trips.csv");
    net::city(&trips, 2, "2024-05", 1, 2, 1).expect("a city");
    let replay = || {
        let ended = net.replay(&trips, &[]).expect("starts").end();
        let (_, summary) = ended.expect("a replay");
        let summary = summary.expect("a summary");
        assert_eq!((summary.settled, summary.lost), (1, 0), "{summary:?}");
    };
    replay();
    let resumes = std::env::var("DIVERSITY_RESUMES").ok();
    let resumes = resumes.and_then(|n| n.parse().ok()).unwrap_or(RESUMES);
    for round in 0..resumes {
        devnet("down", &dir);
        devnet("up", &dir);
        println!("taken up {} times", round + 1);
    }
    let agreement = net.agreements("node1").expect("agreements")[0].agreement;
    let before = net.results("node1", &agreement.hex()).expect("results");
    assert_eq!(before.len(), 1);

    // Moved while it is down, it is taken up where it lies now, and what it says of its files is right.
    devnet("down", &dir);
    let elsewhere = folder.path().join("elsewhere");
    std::fs::rename(&dir, &elsewhere).expect("moved");
    devnet("up", &elsewhere);
    let file = elsewhere.join("devnet.json");
    let text = std::fs::read_to_string(&file).expect("read");
    let old = format!("{}/", dir.display());
    assert!(!text.contains(&old), "{text}");
    devnet("down", &elsewhere);
    std::fs::rename(&elsewhere, &dir).expect("moved back");
    devnet("up", &dir);
    let after = net.results("node2", &agreement.hex()).expect("results");
    assert_eq!(after, before);
    replay();
}

#[test]
fn a_node_ends_within_five_seconds_whatever_connections_are_open() {
    let net = Net::up(Plan {
        nodes: Some(2),
        ..Plan::default()
    })
    .expect("a devnet");
    let devnet = net.devnet().expect("devnet.json");
    let node = &devnet.nodes[0];
    let address = node.api_url.trim_start_matches("http://").to_owned();
    let token = std::fs::read_to_string(&node.token_file).expect("a token");
    let connect = || TcpStream::connect(&address).expect("connects");

    // Listeners of events, one that has half asked, one that sends a body and stops, and one that says nothing.
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut events = connect();
        let request = format!(
            "GET /v1/events HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\n\r\n",
            token.trim()
        );
        events.write_all(request.as_bytes()).expect("asks");
        let mut line = String::new();
        BufReader::new(events.try_clone().expect("a clone"))
            .read_line(&mut line)
            .expect("an answer");
        assert!(line.contains("200"), "{line}");
        open.push(events);
    }
    let mut half = connect();
    half.write_all(b"GET /v1/info HTTP/1.1\r\nhost: ")
        .expect("asks");
    let mut slow = connect();
    let request = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\ncontent-length: 1000\r\n\r\nabc",
        token.trim()
    );
    slow.write_all(request.as_bytes()).expect("asks");
    open.extend([half, slow, connect()]);

    let pid = node.pid.expect("it runs").to_string();
    let told = Instant::now();
    let kill = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(kill.expect("kill").success());
    let status = [
        "devnet".into(),
        "status".into(),
        "--dir".into(),
        net.dir().into(),
        "--json".into(),
    ];
    let stopped = || {
        let text = run("diversity", &status).map_err(|e| e.to_string())?;
        let mut lines = text.lines();
        let line = lines.find(|l| l.contains("\"node1\"")).unwrap_or_default();
        match line.contains("stopped") {
            true => Ok(()),
            false => Err(line.to_owned()),
        }
    };
    net::await_that("end of node1", Duration::from_secs(20), stopped).expect("ends");
    let took = told.elapsed();
    assert!(took < Duration::from_secs(5), "it took {took:?}");
    for mut connection in open {
        let mut rest = Vec::new();
        let _ = connection.read_to_end(&mut rest);
    }
    net.start("node1").expect("comes back");
}
