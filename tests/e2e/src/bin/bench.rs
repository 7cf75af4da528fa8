//! `diversity-bench`: what the nodes do on this machine, as a Markdown document.

use clap::Parser;
use diversity_e2e::measure::{self, Ingest, Latencies, Rounds};
use diversity_e2e::net::{Net, Plan, clean_up_when_interrupted};
use diversity_e2e::text::{grouped, markdown, percentile};
use diversity_e2e::{E2eError, Result};
use std::process::{Command, ExitCode};

/// Gas from receipts, as `make -C contracts gas` writes it and CI checks it.
const GAS: &str = include_str!("../../../../contracts/snapshots/gas.json");
/// Table 1 of the paper: open and close messages in a month; gas of a transaction for each message (RDA), of one settled result
/// (SA), and of one transaction with all messages (SAT).
const PAPER: [(u64, u64, u64, u64); 10] = [
    (10, 634_876, 23_952, 222_607),
    (20, 1_269_688, 23_952, 416_244),
    (30, 1_904_628, 23_952, 610_379),
    (40, 2_539_952, 23_952, 803_924),
    (50, 3_206_367, 23_952, 998_992),
    (60, 3_809_896, 23_952, 1_193_854),
    (70, 4_444_836, 23_952, 1_388_638),
    (80, 5_079_584, 23_952, 1_584_176),
    (90, 5_714_780, 23_952, 1_780_853),
    (100, 6_349_208, 23_952, 1_976_492),
];

/// Measures nodes on this machine and prints the figures as Markdown on stdout.
#[derive(Parser)]
#[command(
    name = "diversity-bench",
    version,
    after_help = "Example: diversity-bench > figures.md"
)]
struct Cli {
    /// Windows of each round measurement.
    #[arg(long, default_value_t = 500)]
    windows: u64,
    /// Windows of the latency measurement, one after the other.
    #[arg(long, default_value_t = 200)]
    latencies: u64,
    /// Frames of each of the 64 sensors of the ingest measurement.
    #[arg(long, default_value_t = 500)]
    frames: usize,
}

fn main() -> ExitCode {
    match clean_up_when_interrupted().and_then(|()| run(&Cli::parse())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("diversity-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result {
    println!("# Figures\n\n{}", machine());
    eprintln!("ingest");
    let mut intakes = Vec::new();
    for per_frame in [1, 20] {
        let net = Net::up(Plan {
            nodes: Some(2),
            ..Plan::default()
        })?;
        // Beside each other, so that both see the same state of the machine.
        let before = Bare::measure();
        let intake = measure::ingest(&net, per_frame, cli.frames)?;
        let after = Bare::measure();
        intakes.push((before.mean(&after), intake));
    }
    ingest_section(&intakes);
    let mut rounds = Vec::new();
    let mut latencies = Vec::new();
    for nodes in [3, 4] {
        eprintln!("rounds with {nodes} nodes");
        let net = Net::up(Plan {
            nodes: Some(nodes),
            ..Plan::default()
        })?;
        rounds.push(measure::rounds(&net, cli.windows)?);
        drop(net);
        eprintln!("latencies with {nodes} nodes");
        let net = Net::up(Plan {
            nodes: Some(nodes),
            ..Plan::default()
        })?;
        latencies.push((nodes, measure::latencies(&net, cli.latencies)?));
    }
    round_section(&rounds, &latencies);
    gas_section()
}

fn machine() -> String {
    let of = |path: &str, key: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|l| l.starts_with(key)).map(str::to_owned);
        line.and_then(|l| l.split_once(':').map(|p| p.1.trim().to_owned()))
            .unwrap_or_else(|| "unknown".into())
    };
    let said = |program: &str, arguments: &[&str]| {
        let out = Command::new(program)
            .args(arguments)
            .output()
            .ok()
            .filter(|o| o.status.success());
        out.map_or_else(
            || "unknown".into(),
            |o| String::from_utf8_lossy(&o.stdout).trim().to_owned(),
        )
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let rows = [
        (
            "Processor",
            format!(
                "{}, {cores} cores usable",
                of("/proc/cpuinfo", "model name")
            ),
        ),
        ("Memory", of("/proc/meminfo", "MemTotal")),
        ("System", said("uname", &["-srm"])),
        (
            "Load when it began (1, 5, 15 min)",
            std::fs::read_to_string("/proc/loadavg").map_or_else(
                |_| "unknown".into(),
                |t| t.split(' ').take(3).collect::<Vec<_>>().join(" "),
            ),
        ),
        ("Commit", said("git", &["rev-parse", "HEAD"])),
        ("Repeat with", "`make bench`".into()),
    ];
    let rows: Vec<_> = rows
        .into_iter()
        .map(|(k, v)| vec![k.to_owned(), v])
        .collect();
    format!(
        "{}\nAll nodes, the chain (anvil) and the senders share the machine, so wall times are those of everything together.\n",
        markdown(&["", ""], &rows)
    )
}

/// Signatures a second of one core that does nothing else.
struct Bare {
    /// The others are idle.
    alone: f64,
    /// The others do the same: what cores share (caches, and often the core itself) makes each slower.
    busy: f64,
}

impl Bare {
    fn measure() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            alone: measure::bare_verification(1),
            busy: measure::bare_verification(cores) / cores as f64,
        }
    }

    fn mean(&self, other: &Self) -> Self {
        Self {
            alone: (self.alone + other.alone) / 2.0,
            busy: (self.busy + other.busy) / 2.0,
        }
    }
}

fn ingest_section(intakes: &[(Bare, Ingest)]) {
    println!("## Ingest to durable acknowledgement\n");
    println!(
        "Bare verification: a core that does nothing else (`diversity-keys`, libsecp256k1), before and after; with the other"
    );
    println!(
        "cores idle, and with all cores at it, as they are while the node and the senders run."
    );
    println!(
        "A node with two parties' devnet takes in frames over HTTP, 500 in a request, 4 requests at a time; a core's"
    );
    println!("second is a second of the node's processor time, kernel included.\n");
    let rows: Vec<_> = intakes
        .iter()
        .map(|(bare, i)| {
            let (frames, messages) = (i.frames as f64, (i.frames * i.per_frame) as f64);
            vec![
                i.per_frame.to_string(),
                grouped(bare.alone as u64),
                grouped(bare.busy as u64),
                grouped((frames / i.cpu_seconds) as u64),
                format!("{:.0} %", 100.0 * frames / i.cpu_seconds / bare.alone),
                format!("{:.0} %", 100.0 * frames / i.cpu_seconds / bare.busy),
                grouped((messages / i.cpu_seconds) as u64),
                grouped((messages / i.seconds) as u64),
                grouped(i.frames as u64),
            ]
        })
        .collect();
    let head = [
        "messages in a frame",
        "bare verifications/s",
        "all cores busy, each",
        "frames/s per core",
        "of bare verification",
        "of bare, all cores busy",
        "messages/s per core",
        "messages/s, wall",
        "frames sent",
    ];
    println!("{}", markdown(&head, &rows));
}

fn round_section(rounds: &[Rounds], latencies: &[(usize, Latencies)]) {
    println!("## Rounds\n");
    println!(
        "Windows of one minute, three sensors; all messages sent at once to one node; from the first message to the last certificate.\n"
    );
    let rows: Vec<_> = rounds
        .iter()
        .map(|r| {
            vec![
                r.nodes.to_string(),
                grouped(r.windows),
                format!("{:.2}", r.seconds),
                format!("{:.0}", r.windows as f64 / r.seconds),
                format!(
                    "{:.1}",
                    1e3 * r.cpu_seconds / (r.windows as f64 * r.nodes as f64)
                ),
            ]
        })
        .collect();
    println!(
        "{}",
        markdown(
            &[
                "nodes",
                "rounds",
                "seconds",
                "rounds/s",
                "processor ms a round, each node"
            ],
            &rows
        )
    );
    println!(
        "From the last message of a window, when it is sent, to its certificate and to its event on chain (anvil, a block with"
    );
    println!(
        "each transaction, asked for every 100 ms), one window after the other; milliseconds.\n"
    );
    let ms = |samples: &[f64], p| {
        percentile(samples, p).map_or_else(|| "-".into(), |s| format!("{:.1}", 1e3 * s))
    };
    let rows: Vec<_> = latencies
        .iter()
        .map(|(nodes, l)| {
            vec![
                nodes.to_string(),
                l.settled.len().to_string(),
                ms(&l.certificate, 50),
                ms(&l.certificate, 99),
                ms(&l.settled, 50),
                ms(&l.settled, 99),
                l.in_f
                    .map_or_else(|| "-".into(), |s| format!("{:.3}", 1e3 * s)),
            ]
        })
        .collect();
    let head = [
        "nodes",
        "windows",
        "certificate p50",
        "p99",
        "on-chain event p50",
        "p99",
        "mean in f",
    ];
    println!("{}", markdown(&head, &rows));
}

fn gas_section() -> Result {
    println!("## Gas\n");
    let unreadable =
        |reason: String| E2eError::NotSo(format!("contracts/snapshots/gas.json: {reason}"));
    let snapshot: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(GAS).map_err(|e| unreadable(e.to_string()))?;
    let gas = |name: &str| {
        snapshot
            .get(name)
            .and_then(|v| v.as_str().map_or_else(|| v.as_u64(), |s| s.parse().ok()))
    };
    let number = |v: &serde_json::Value| {
        v.as_str().map_or_else(
            || v.to_string(),
            |s| s.parse().map_or_else(|_| s.to_owned(), grouped),
        )
    };
    let rows: Vec<_> = snapshot
        .iter()
        .map(|(k, v)| vec![k.clone(), number(v)])
        .collect();
    println!(
        "{}",
        markdown(
            &[
                "from receipts (`contracts/snapshots/gas.json`), under the rules of Prague",
                "gas"
            ],
            &rows
        )
    );
    let settle = gas("settle: 12-byte result")
        .ok_or_else(|| unreadable("it has no settlement of 12 bytes".into()))?;
    let attest = gas("attest: 12-byte result")
        .ok_or_else(|| unreadable("it has no attestation of 12 bytes".into()))?;
    println!(
        "The paper's Table 1 (gas for one month of one lock) beside a settlement here, whose gas is the same for any number of"
    );
    println!(
        "messages and of locks: RDA puts each message on chain, SAT all of them in one transaction, SA only the result, which"
    );
    println!("nobody verifies on chain; here the chain verifies that all nodes agree.\n");
    let rows: Vec<_> = PAPER
        .iter()
        .map(|&(messages, rda, sa, sat)| {
            let mut row = vec![messages.to_string()];
            row.extend([rda, sat, sa, attest, settle].map(grouped));
            row.push(format!("{:.0} x", rda as f64 / settle as f64));
            row
        })
        .collect();
    let head = [
        "messages a month",
        "RDA",
        "SAT",
        "SA",
        "verified, event only",
        "verified, recorded, replay-safe",
        "RDA / recorded",
    ];
    println!("{}", markdown(&head, &rows));
    Ok(())
}
