//! `demo`: a month of 20 locks from signed messages to a settled result, and the same month with a node that lies.

use clap::Parser;
use diversity_client::api::SettledResult;
use diversity_e2e::compare::{Comparison, Settled, gas};
use diversity_e2e::locks::{Lock, deployment};
use diversity_e2e::net::{self, Net, Plan, Summary, clean_up_when_interrupted};
use diversity_e2e::onchain;
use diversity_e2e::text::{grouped, table};
use diversity_e2e::trips::{Months, month};
use diversity_e2e::{E2eError, Result, programs};
use diversity_proto::round::OutputKind;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The month of the demo.
const MONTH: &str = "2024-03";
/// Its bikes.
const BIKES: u32 = 20;
/// Trips of one bike in a day, on average.
const TRIPS_PER_DAY: u32 = 4;
/// The node that lies in the second part.
const LIAR: &str = "node3";
/// How many messages are really put on the chain one by one, to measure what that costs.
const SAMPLE: usize = 40;
/// How long the nodes may take to show a dispute that has ended the replay.
const DISPUTE_WITHIN: Duration = Duration::from_secs(30);

/// Three parties who do not trust one another bill a month of bike hire, and one of them tries to cheat.
#[derive(Parser)]
#[command(name = "demo", version, after_help = "Example: demo --keep")]
struct Cli {
    /// Leave both devnets running and print their addresses.
    #[arg(long)]
    keep: bool,
    /// Seed of the generated city.
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let started = Instant::now();
    match clean_up_when_interrupted().and_then(|()| run(&cli)) {
        Ok(()) => {
            println!(
                "\nAll of this was so; {:.0} s.",
                started.elapsed().as_secs_f64()
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result {
    let folder = tempfile::tempdir().map_err(E2eError::system("make a temporary folder"))?;
    let trips = folder.path().join("trips.csv");
    net::city(&trips, BIKES, MONTH, 1, TRIPS_PER_DAY, cli.seed)?;
    let expected = Months::of_trips(&trips)?;

    step("1. Three parties, three nodes, one chain");
    let honest = Net::up(Plan {
        nodes: Some(3),
        keep: cli.keep,
        ..Plan::default()
    })?;
    println!("{}", honest.addresses()?);
    step(&format!(
        "2. {} rentals of {BIKES} locks in {MONTH}: signed by the locks, sent over HTTP",
        grouped(expected.trips())
    ));
    let summary = honest.replay(&trips, &[])?.finish()?;
    say(&summary);
    let results = everybody_shows(&honest, &summary)?;
    step("3. What has settled, beside a computation that shares no code with the nodes");
    compare(&results, &expected)?;
    step("4. What it has cost");
    costs(&honest, &results, &summary, &trips)?;

    step(&format!(
        "5. The same month again, but {LIAR} adds an hour to the bill"
    ));
    let liar = programs::find("diversity-liar")?;
    let lying = Net::up(Plan {
        nodes: Some(3),
        programs: vec![(LIAR.into(), liar)],
        keep: cli.keep,
        ..Plan::default()
    })?;
    let (status, lied) = lying.replay(&trips, &[])?.end()?;
    let lied = lied.ok_or_else(|| {
        E2eError::NotSo(format!(
            "the replay with the liar ended with {status} and no summary"
        ))
    })?;
    say(&lied);
    disputed(&lying, &lied)?;
    if cli.keep {
        println!(
            "\nLeft running, the honest one:\n{}\nand the one with the liar:\n{}",
            honest.addresses()?,
            lying.addresses()?
        );
    }
    Ok(())
}

fn step(text: &str) {
    println!("\n== {text}");
}

fn say(s: &Summary) {
    println!(
        "{} messages ({} heartbeats), {} acknowledged by nodes of every party, {} lost; months settled: {}, disputed: {}; {:.1} s",
        grouped(s.sent),
        s.heartbeats,
        grouped(s.acknowledged),
        s.lost,
        s.settled,
        s.disputed,
        s.seconds
    );
}

fn everybody_shows(net: &Net, summary: &Summary) -> Result<Vec<SettledResult>> {
    let mut shown: Option<Vec<SettledResult>> = None;
    for node in net.devnet()?.nodes {
        let results = net.results(&node.name, summary.agreement()?)?;
        match &shown {
            Some(first) if *first != results => {
                return Err(E2eError::NotSo(format!(
                    "{} shows other results than the nodes before it",
                    node.name
                )));
            }
            _ => shown = Some(results),
        }
    }
    shown.ok_or_else(|| E2eError::NotSo("there are no nodes".into()))
}

fn compare(results: &[SettledResult], expected: &Months) -> Result {
    let settled = Settled::read(results).map_err(E2eError::NotSo)?;
    let mut rows = Vec::new();
    for ((name, label), found) in &settled.locks {
        let wanted = expected.of(name, label);
        rows.push(vec![
            format!("{name} {label}"),
            grouped(found.seconds),
            grouped(wanted.seconds),
            found.trips.to_string(),
            wanted.trips.to_string(),
            if *found == wanted { "equal" } else { "DIFFERS" }.into(),
        ]);
    }
    for (name, found) in &settled.months {
        let wanted = expected.sum(name);
        rows.push(vec![
            format!("{name} on chain"),
            grouped(found.seconds),
            grouped(wanted.seconds),
            found.trips.to_string(),
            wanted.trips.to_string(),
            if *found == wanted { "equal" } else { "DIFFERS" }.into(),
        ]);
    }
    println!(
        "{}",
        table(
            &[
                "month and lock",
                "settled s",
                "computed s",
                "trips",
                "computed",
                ""
            ],
            &rows
        )
    );
    let comparison = Comparison::new(&settled, expected, &expected.months, &expected.locks);
    if !comparison.holds() {
        return Err(E2eError::NotSo(format!(
            "settled and computed differ: {}",
            comparison.differences.join("; ")
        )));
    }
    println!(
        "{} (month, lock) pairs, the same from each of the three nodes: all equal.",
        comparison.pairs
    );
    Ok(())
}

fn costs(net: &Net, results: &[SettledResult], summary: &Summary, trips: &Path) -> Result {
    let devnet = net.devnet()?;
    let sample = sample(net, trips)?;
    let measured = net.block_on(onchain::raw_messages(&devnet, &sample))?;
    let mean = measured.iter().sum::<u64>() / measured.len().max(1) as u64;
    let (transactions, settled) = gas(results);
    let all = mean * summary.sent;
    println!(
        "{transactions} settlement{} of {} messages: {} gas, verified, recorded and readable by anybody.",
        if transactions == 1 { "" } else { "s" },
        grouped(summary.sent),
        grouped(settled)
    );
    println!(
        "Every message on chain: {} gas each, {} in all, {} times as much.",
        grouped(mean),
        grouped(all),
        grouped(all / settled.max(1))
    );
    println!(
        "(Mean of {} messages that were sent to this chain as the calldata of a transaction each; checked and stored by nobody,\nwhich a contract would have to do too.)",
        measured.len()
    );
    if settled == 0 || settled >= all {
        return Err(E2eError::NotSo(
            "settling cost no less than putting every message on chain".into(),
        ));
    }
    Ok(())
}

/// Frames of one message each, as locks send them, of the first trips of the file.
fn sample(net: &Net, trips: &Path) -> Result<Vec<Vec<u8>>> {
    let deployment = deployment(&net.devnet()?);
    let text = std::fs::read_to_string(trips).map_err(E2eError::system("read the trips"))?;
    let mut locks: BTreeMap<String, (Lock, u64)> = BTreeMap::new();
    let mut out = Vec::new();
    for line in text.lines().skip(1).take(SAMPLE.div_ceil(2)) {
        let mut cells = line.split(',');
        let bike = cells.next().unwrap_or_default().to_owned();
        if !locks.contains_key(&bike) {
            locks.insert(bike.clone(), (Lock::new(deployment)?, 0));
        }
        let Some((lock, q)) = locks.get_mut(&bike) else {
            continue;
        };
        for (cell, open) in cells.zip([true, false]) {
            let time = cell
                .parse()
                .map_err(|_| E2eError::NotSo(format!("{cell:?} in the trips is no time")))?;
            out.push(lock.frame(*q, &[(time, open)]).encode());
            *q += 1;
        }
    }
    Ok(out)
}

fn disputed(net: &Net, summary: &Summary) -> Result {
    let devnet = net.devnet()?;
    let honest: Vec<String> = devnet
        .nodes
        .iter()
        .map(|n| n.name.clone())
        .filter(|n| n != LIAR)
        .collect();
    let Some(witness) = honest.first() else {
        return Err(E2eError::NotSo("there is no honest node".into()));
    };
    let disputes = net::await_that("dispute", DISPUTE_WITHIN, || match net.disputes(witness) {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err("none yet".into()),
        Err(error) => Err(error.to_string()),
    })?;
    println!("What the chain holds, as the honest {witness} tells it:\n");
    print!("{}", net.words("dispute list", &["--node", witness])?);
    for dispute in &disputes {
        let id = dispute.dispute.hex();
        print!(
            "\n{}",
            net.words("dispute show", &["--node", witness, &id])?
        );
    }
    let agreement = summary.agreement()?;
    for node in &honest {
        let results = net.results(node, agreement)?;
        if let Some(settled) = results.iter().find(|r| r.kind == OutputKind::Value) {
            return Err(E2eError::NotSo(format!(
                "{} has settled in spite of the lie",
                month(settled.from)
            )));
        }
    }
    let events = net.block_on(onchain::all_events(&devnet))?;
    let recorded = events.iter().any(|e| {
        matches!(
            e,
            diversity_chain::events::ChainEvent::DisputeRecorded { .. }
        )
    });
    if !recorded || summary.disputed != 1 || summary.settled != 0 {
        return Err(E2eError::NotSo(format!(
            "the lie has not ended as a dispute: {summary:?}"
        )));
    }
    println!("\nNo bill was settled: one honest node is enough to stop a wrong one.");
    Ok(())
}
