//! `chain-test`: settlement, restart, backlog and dispute against a chain that is there.

use clap::Parser;
use diversity_e2e::compare::{Comparison, Settled, gas};
use diversity_e2e::net::{self, Funds, Net, Plan, clean_up_when_interrupted};
use diversity_e2e::relay::Relay;
use diversity_e2e::text::grouped;
use diversity_e2e::trips::Months;
use diversity_e2e::{E2eError, Result, onchain, programs};
use diversity_proto::AgreementId;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// How long one step may take on a slow chain.
const WITHIN: Duration = Duration::from_secs(180);
/// Fewest months: one before each thing that is done to the network, and some to catch up with.
const MONTHS_MIN: u32 = 6;

/// Runs three nodes against a chain that runs already (Besu, geth, anvil), and does to them what happens to nodes: a node is
/// killed and started, the chain is out of reach for months, all processes end and start, a node lies. Exit code 0 only if every
/// month has settled once with the right totals, and the lie has become a dispute.
#[derive(Parser)]
#[command(
    name = "chain-test",
    version,
    after_help = "Example: chain-test --rpc http://127.0.0.1:8545 --funder rich.json --password-file rich.password"
)]
struct Cli {
    /// RPC endpoints of the chain, comma separated.
    #[arg(long, value_name = "URL,...")]
    rpc: String,
    /// Keystore of an account that deploys and pays the nodes' gas; needed where gas has a price.
    #[arg(long, value_name = "KEYSTORE", requires = "password_file")]
    funder: Option<PathBuf>,
    /// File with its password.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Wei that each node gets.
    #[arg(long, value_name = "WEI", default_value_t = 100_000_000_000_000_000)]
    fund: u128,
    /// Months that are replayed.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(i64::from(MONTHS_MIN)..))]
    months: u32,
}

fn main() -> ExitCode {
    match clean_up_when_interrupted().and_then(|()| run(&Cli::parse())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chain-test: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result {
    let folder = tempfile::tempdir().map_err(E2eError::system("make a temporary folder"))?;
    let urls = diversity_chain::rpc::split(&cli.rpc);
    let relays = urls.iter().map(|url| Relay::start(url));
    let relays: Vec<Option<Relay>> = relays.collect::<Result<_>>()?;
    let relays: Option<Vec<Relay>> = relays.into_iter().collect();
    if relays.is_none() {
        eprintln!("an endpoint is not plain http: instead of the chain, a node is taken away");
    }
    let told: Vec<String> = match &relays {
        Some(relays) => relays.iter().map(|r| r.url().to_owned()).collect(),
        None => urls,
    };
    let mut plan = Plan {
        chain: Some(told.join(",")),
        funds: cli.funder.clone().zip(cli.password_file.clone()).map(
            |(keystore, password_file)| Funds {
                keystore,
                password_file,
                wei: cli.fund,
            },
        ),
        ..Plan::default()
    };
    months(cli, folder.path(), &plan, relays.as_deref())?;
    let liar = programs::find("diversity-liar")?;
    plan.programs = vec![("node2".into(), liar)];
    dispute(folder.path(), plan)
}

/// Months settle through whatever happens.
fn months(cli: &Cli, folder: &Path, plan: &Plan, relays: Option<&[Relay]>) -> Result {
    let trips = folder.join("trips.csv");
    net::city(&trips, 5, "2022-09", cli.months, 3, 5)?;
    let expected = Months::of_trips(&trips)?;
    let net = Net::up(plan.clone())?;
    let rpc = onchain::client(&net.devnet()?)?;
    let first_block = net.block_on(rpc.head())?.number;
    let replay = net.replay(&trips, &["--speed", "1000000"])?;
    let agreement = net.agreement("node1", WITHIN)?;
    let settled = |node: &str, t: u64| {
        net.await_progress(node, &agreement, "settled month", WITHIN, |p| {
            p.next_settlement >= t
        })
    };

    settled("node1", 1)?;
    println!("settlement           the first month has settled");
    net.kill("node2")?;
    net.start("node2")?;
    settled("node2", 2)?;
    println!("restart              node2 was killed, and goes on");

    let stands = net.progress("node1", &agreement)?.next_settlement;
    match relays {
        Some(relays) => relays.iter().for_each(Relay::cut),
        None => net.kill("node2")?,
    }
    net.await_progress(
        "node1",
        &agreement,
        "whole month without the chain",
        WITHIN,
        |p| p.next_window >= stands + 2,
    )?;
    // What a node has on its own disk is shown all the same, whichever node answers.
    let during = net.words("results", &["--agreement", &agreement.hex()])?;
    let shown = net.words("agreement show", &[&agreement.hex()])?;
    net.words("dispute list", &[])?;
    if relays.is_some() && (!shown.contains("waits") || during.is_empty()) {
        return Err(E2eError::NotSo(format!(
            "without the chain is shown: {shown}"
        )));
    }
    match relays {
        Some(relays) => relays.iter().for_each(Relay::mend),
        None => net.start("node2")?,
    }
    settled("node1", stands + 2)?;
    println!("backlog              months that waited have settled");

    let summary = replay.finish()?;
    if (summary.settled, summary.disputed, summary.lost) != (cli.months.into(), 0, 0) {
        return Err(E2eError::NotSo(format!("the replay ends with {summary:?}")));
    }
    net.again(&Plan {
        funds: None,
        ..plan.clone()
    })?;
    println!("resume               all processes have ended and started, without the funder");
    let devnet = net.devnet()?;
    let times = net.block_on(onchain::settlements_since(&devnet, &agreement, first_block))?;
    if times.len() != cli.months as usize || times.values().any(|n| *n != 1) {
        return Err(E2eError::NotSo(format!("the chain has settled {times:?}")));
    }
    for node in &devnet.nodes {
        let results = net.results(&node.name, &AgreementId::hex(&agreement))?;
        let settled = Settled::read(&results).map_err(E2eError::NotSo)?;
        let compared = Comparison::new(&settled, &expected, &expected.months, &expected.locks);
        if !compared.holds() {
            let first = compared.differences.first();
            return Err(E2eError::NotSo(format!("{} shows {first:?}", node.name)));
        }
        if node.name == "node1" {
            let (transactions, gas) = gas(&results);
            println!(
                "gas                  {} in {transactions} transactions for {} months",
                grouped(gas),
                cli.months
            );
        }
    }
    println!(
        "totals               {} months, each settled once, all right",
        cli.months
    );
    Ok(())
}

/// A lie settles nothing.
fn dispute(folder: &Path, plan: Plan) -> Result {
    let trips = folder.join("lied.csv");
    net::city(&trips, 5, "2024-05", 1, 3, 3)?;
    let net = Net::up(plan)?;
    let (_, summary) = net.replay(&trips, &[])?.end()?;
    let summary = summary.ok_or_else(|| E2eError::NotSo("the replay says nothing".into()))?;
    if (summary.settled, summary.disputed, summary.lost) != (0, 1, 0) {
        return Err(E2eError::NotSo(format!(
            "with a liar the replay ends with {summary:?}"
        )));
    }
    for node in &net.devnet()?.nodes {
        net::await_that("dispute", WITHIN, || match net.disputes(&node.name) {
            Ok(found) if found.len() == 1 => Ok(()),
            other => Err(format!("{other:?}")),
        })?;
    }
    println!("dispute              the lie of node2 is on the chain, and nothing has settled");
    Ok(())
}
