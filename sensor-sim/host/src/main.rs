//! The command line of `sensor-sim`.

use clap::{Args, Parser, Subcommand};
use diversity_proto::{Address, AgreementId, Deployment};
use diversity_sensor_sim::city::City;
use diversity_sensor_sim::faults::Fault;
use diversity_sensor_sim::run::{Destination, Options, RunError, run};
use diversity_sensor_sim::tally::Summary;
use diversity_sensor_sim::trips::Trips;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Exit code of a command line that makes no sense (2 means that a replay stood still).
const USAGE: u8 = 64;

const AFTER_HELP: &str = "\
Exit codes: 0 done; 1 an error, told in one sentence; 2 no progress for --timeout seconds, naming what waits; 64 a wrong command line.

The last line with --json: agreement, sent (messages, heartbeats included, also those of earlier runs of the same replay), heartbeats,
acknowledged (by nodes of every user), retried (frames sent again), lost (must be 0), settled, disputed (months), seconds.";

/// A fleet of bike locks in software.
#[derive(Parser)]
#[command(name = "sensor-sim", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Replay a file of trips: each trip is an unlock message at its start and a lock message at its end.
    #[command(
        after_help = "Example: sensor-sim replay --trips trips.csv --devnet .demo/devnet.json"
    )]
    Replay {
        /// The trips: the header bike_id,start_unix_s,end_unix_s, then one trip a line.
        #[arg(long, value_name = "FILE")]
        trips: PathBuf,
        #[command(flatten)]
        to: To,
    },
    /// Make up a city from a seed; write its trips, replay them, or both.
    #[command(
        after_help = "Example: sensor-sim fleet --bikes 20 --months 1 --seed 7 --write trips.csv --devnet .demo/devnet.json"
    )]
    Fleet {
        /// Number of bikes.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        bikes: u32,
        /// First month.
        #[arg(long, default_value = "2024-03", value_name = "YYYY-MM", value_parser = month)]
        first: (u64, u64),
        /// Number of months.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_200))]
        months: u64,
        /// Trips of one bike in a day, on average.
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
        trips_per_day: u32,
        /// The same seed gives the same trips.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Write the trips to this file.
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
        #[command(flatten)]
        to: To,
    },
}

#[derive(Args)]
struct To {
    /// A devnet: registers the locks and one monthly agreement there, if they are not there yet.
    #[arg(long, value_name = "FILE", env = "DIVERSITY_DEVNET", conflicts_with_all = ["nodes", "offline", "keys", "agreement", "token_file"])]
    devnet: Option<PathBuf>,
    /// A network that stands already: API URLs of at least one node of each user.
    #[arg(
        long,
        value_name = "URL,...",
        value_delimiter = ',',
        requires = "keys",
        requires = "agreement",
        conflicts_with = "offline"
    )]
    nodes: Vec<String>,
    /// Folder with the locks' keys, as an earlier run wrote it.
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Token for the URLs of --nodes.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The agreement in the network of --nodes.
    #[arg(long, value_name = "A", value_parser = agreement)]
    agreement: Option<AgreementId>,
    /// Write the signed frames to a file and send nothing: per batch a u32 length and a body for POST /v1/messages.
    #[arg(long, requires = "contract", requires = "keys")]
    offline: bool,
    /// The file of --offline.
    #[arg(long, value_name = "FILE", default_value = "frames.bin")]
    out: PathBuf,
    /// Chain id that --offline signs for.
    #[arg(long, default_value_t = 31_337)]
    chain_id: u64,
    /// MainContract that --offline signs for.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    contract: Option<Address>,
    /// Messages in a frame (never across a UTC month). An interrupted replay keeps the number that it began with.
    #[arg(long, value_name = "M", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    frame_messages: u16,
    /// Times real time; without it, as fast as acknowledgements allow.
    #[arg(long, value_name = "X", value_parser = speed)]
    speed: Option<f64>,
    /// Seconds without any progress after which the replay gives up.
    #[arg(long, value_name = "S", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Faults beside the replay; each is checked to do no harm.
    #[arg(long, value_delimiter = ',', value_name = "KIND,...")]
    fault: Vec<Fault>,
    /// Seed of the faults.
    #[arg(long, default_value_t = 1)]
    fault_seed: u64,
    /// The summary as one line of JSON on stdout, and nothing else there.
    #[arg(long)]
    json: bool,
}

impl To {
    fn destination(&self) -> Option<Destination> {
        if let Some(file) = &self.devnet {
            return Some(Destination::Devnet { file: file.clone() });
        }
        let keys = self.keys.clone()?;
        if self.offline {
            let deployment = Deployment {
                chain_id: self.chain_id,
                contract: self.contract?,
            };
            return Some(Destination::Offline {
                deployment,
                keys,
                out: self.out.clone(),
            });
        }
        (!self.nodes.is_empty()).then_some(Destination::Nodes {
            urls: self.nodes.clone(),
            keys,
            token_file: self.token_file.clone(),
            agreement: self.agreement?,
        })
    }

    fn options(&self) -> Options {
        Options {
            frame_messages: self.frame_messages,
            speed: self.speed,
            timeout: Duration::from_secs(self.timeout),
            faults: self.fault.clone(),
            fault_seed: self.fault_seed,
        }
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors.
            let code = if error.use_stderr() { USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start threads: {error}"), 1),
    };
    let result = match &cli.command {
        Command::Replay { trips, to } => Trips::read(trips)
            .map_err(RunError::from)
            .and_then(|trips| replay(&runtime, &trips, to)),
        Command::Fleet {
            bikes,
            first,
            months,
            trips_per_day,
            seed,
            write,
            to,
        } => {
            let city = City {
                seed: *seed,
                bikes: *bikes,
                first: *first,
                months: *months,
                trips_per_day: *trips_per_day,
            };
            fleet(&runtime, &city, write.as_ref(), to)
        }
    };
    match result {
        Ok(code) => code,
        Err(error) => fail(&error.to_string(), error.exit_code()),
    }
}

fn replay(runtime: &tokio::runtime::Runtime, trips: &Trips, to: &To) -> Result<ExitCode, RunError> {
    let Some(destination) = to.destination() else {
        let text = "say where the messages go: --devnet FILE, --nodes URL,... or --offline";
        return Ok(fail(text, USAGE));
    };
    let summary = runtime.block_on(run(trips, &destination, &to.options()))?;
    report(&summary, to.json);
    Ok(ExitCode::from(u8::from(summary.lost > 0)))
}

fn fleet(
    runtime: &tokio::runtime::Runtime,
    city: &City,
    write: Option<&PathBuf>,
    to: &To,
) -> Result<ExitCode, RunError> {
    let trips = city.trips();
    if let Some(path) = write {
        trips.write(path)?;
        eprintln!(
            "wrote {} trips of {} bikes to {}",
            trips.count(),
            city.bikes,
            path.display()
        );
        if to.destination().is_none() {
            return Ok(ExitCode::SUCCESS);
        }
    }
    replay(runtime, &trips, to)
}

fn report(summary: &Summary, json: bool) {
    if json {
        let line = serde_json::to_string(summary).expect("strings and numbers");
        println!("{line}");
        return;
    }
    eprintln!(
        "{} messages ({} heartbeats), {} acknowledged, {} frames sent again, {} lost; {} months settled, {} disputed; {:.1} s",
        summary.sent,
        summary.heartbeats,
        summary.acknowledged,
        summary.retried,
        summary.lost,
        summary.settled,
        summary.disputed,
        summary.seconds
    );
    if let Some(agreement) = &summary.agreement {
        println!("{agreement}");
    }
}

fn fail(text: &str, code: u8) -> ExitCode {
    eprintln!("sensor-sim: {text}");
    ExitCode::from(code)
}

fn month(text: &str) -> Result<(u64, u64), String> {
    let parsed = text.split_once('-').and_then(|(y, m)| {
        let (year, month) = (y.parse().ok()?, m.parse().ok()?);
        ((2_000..=9_999).contains(&year) && (1..=12).contains(&month)).then_some((year, month))
    });
    parsed.ok_or_else(|| "a month is written YYYY-MM, from 2000-01".into())
}

fn speed(text: &str) -> Result<f64, String> {
    let parsed = text
        .parse()
        .ok()
        .filter(|x: &f64| x.is_finite() && *x > 0.0);
    parsed.ok_or_else(|| "the speed is a number above 0".into())
}

fn agreement(text: &str) -> Result<AgreementId, String> {
    AgreementId::from_hex(text).ok_or_else(|| "an agreement id is 32 bytes of hexadecimal".into())
}

fn address(text: &str) -> Result<Address, String> {
    Address::from_hex(text).ok_or_else(|| "an address is 20 bytes of hexadecimal".into())
}
