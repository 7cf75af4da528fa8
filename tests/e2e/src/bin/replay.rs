//! `replay`: a trips file through three nodes and a chain, compared with a reference and with a computation of its own.

use clap::Parser;
use diversity_e2e::compare::{Comparison, Settled, gas};
use diversity_e2e::measure::bare_verification;
use diversity_e2e::net::{Funds, Net, Plan, clean_up_when_interrupted};
use diversity_e2e::text::grouped;
use diversity_e2e::trips::Months;
use diversity_e2e::{E2eError, Result};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Wei that each node gets on a chain where gas has a price.
const FUND_WEI: u128 = 100_000_000_000_000_000;

/// Replays a trips file on a devnet of its own and compares every settled (month, lock) with a reference and with an independent
/// computation. Exit code 0 only if all nodes show the same and nothing differs.
#[derive(Parser)]
#[command(
    name = "replay",
    version,
    after_help = "Examples:\n  replay --trips trips.csv --reference monthly_by_end.csv\n  replay --trips trips.csv --rpc http://127.0.0.1:8545 --funder rich.json --password-file rich.password"
)]
struct Cli {
    /// The trips: the header bike_id,start_unix_s,end_unix_s, then one trip a line.
    #[arg(long, value_name = "FILE")]
    trips: PathBuf,
    /// The reference: bike_id,month,total_seconds,trips; a lock and month without a line must be zero.
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,
    /// RPC endpoints of a chain that runs already, comma separated; otherwise an anvil of its own.
    #[arg(long, value_name = "URL,...")]
    rpc: Option<String>,
    /// Keystore of an account that deploys and pays the nodes' gas there.
    #[arg(long, value_name = "KEYSTORE", requires_all = ["password_file", "rpc"])]
    funder: Option<PathBuf>,
    /// File with its password.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Number of nodes.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Messages in a frame.
    #[arg(long, value_name = "M", default_value_t = 1)]
    frame_messages: u16,
    /// Folder of the devnet; a temporary one otherwise.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Leave the devnet running and print its addresses.
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    match clean_up_when_interrupted().and_then(|()| run(&Cli::parse())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("replay: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result {
    let computed = Months::of_trips(&cli.trips)?;
    let reference = cli
        .reference
        .as_deref()
        .map(Months::of_reference)
        .transpose()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let bare = bare_verification(cores);
    match &cli.rpc {
        Some(_) => eprintln!("starting {} nodes on the chain that is there", cli.nodes),
        None => eprintln!("starting a chain and {} nodes", cli.nodes),
    }
    let net = Net::up(Plan {
        chain: cli.rpc.clone(),
        funds: cli.funder.clone().zip(cli.password_file.clone()).map(
            |(keystore, password_file)| Funds {
                keystore,
                password_file,
                wei: FUND_WEI,
            },
        ),
        nodes: Some(cli.nodes),
        dir: cli.dir.clone(),
        keep: cli.keep,
        ..Plan::default()
    })?;
    let started = Instant::now();
    let frame_messages = cli.frame_messages.to_string();
    let summary = net
        .replay(&cli.trips, &["--frame-messages", &frame_messages])?
        .finish()?;
    let wall = started.elapsed().as_secs_f64();
    let agreement = summary.agreement()?;

    let devnet = net.devnet()?;
    let mut shown = Vec::new();
    for node in &devnet.nodes {
        shown.push((node.name.clone(), net.results(&node.name, agreement)?));
    }
    let (first, others) = shown
        .split_first()
        .ok_or_else(|| E2eError::NotSo("the devnet has no nodes".into()))?;
    for (name, results) in others {
        if *results != first.1 {
            return Err(E2eError::NotSo(format!(
                "{name} shows other results than {}",
                first.0
            )));
        }
    }
    let results = &first.1;
    let settled = Settled::read(results).map_err(E2eError::NotSo)?;
    let (transactions, gas) = gas(results);
    let by_id = diversity_proto::AgreementId::from_hex(agreement)
        .ok_or_else(|| E2eError::NotSo(format!("{agreement} is no agreement id")))?;
    let times = net.block_on(diversity_e2e::onchain::settlements(&devnet, &by_id))?;
    let once = times.len() == results.len() && times.values().all(|n| *n == 1);

    println!("wall time            {wall:.1} s");
    println!(
        "messages             {} ({} of rentals, {} heartbeats)",
        grouped(summary.sent),
        grouped(summary.sent - summary.heartbeats),
        grouped(summary.heartbeats)
    );
    println!("messages per second  {:.0}", summary.sent as f64 / wall);
    if cli.frame_messages == 1 {
        let checks = (summary.sent as usize * cli.nodes) as f64 / bare;
        println!(
            "signature checks     {checks:.1} s for the {} nodes, alone on {cores} cores; the wall time is {:.1} times that",
            cli.nodes,
            wall / checks
        );
    }
    println!(
        "frames sent again    {}; lost {}",
        summary.retried, summary.lost
    );
    println!(
        "windows settled      {} of {}; disputed {}",
        results.len(),
        computed.months.len(),
        summary.disputed
    );
    println!(
        "settled once each    {}",
        if once {
            "yes, by the events of the contract"
        } else {
            "NO"
        }
    );
    println!(
        "transactions         {transactions}, {} gas ({} a window)",
        grouped(gas),
        grouped(gas / results.len().max(1) as u64)
    );
    println!(
        "nodes that agree     {} of {}",
        shown.len(),
        devnet.nodes.len()
    );

    let mut good = once && summary.disputed == 0;
    let mut compare = |name: &str, expected: &Months| {
        let comparison = Comparison::new(&settled, expected, &computed.months, &computed.locks);
        println!(
            "{name:<20} {} (month, lock) pairs and {} monthly totals: {}",
            grouped(comparison.pairs as u64),
            comparison.months,
            if comparison.holds() {
                "all equal".into()
            } else {
                format!("{} DIFFER", comparison.differences.len())
            }
        );
        for difference in comparison.differences.iter().take(20) {
            println!("    {difference}");
        }
        good &= comparison.holds();
    };
    compare("recomputation", &computed);
    if let Some(reference) = &reference {
        compare("reference", reference);
    }
    if cli.keep {
        println!("\nleft running:\n{}", net.addresses()?);
    }
    if good {
        Ok(())
    } else {
        Err(E2eError::NotSo(
            "the settled results are not what they should be".into(),
        ))
    }
}
