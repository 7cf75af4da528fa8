//! The command line. Every command prints data on stdout (one JSON object a line with `--json`) and all else on stderr.

mod agreement;
mod bench;
mod code;
mod devnet;
mod dispute;
mod doctor;
mod draft;
mod keys;
mod locate;
mod output;
mod register;
mod replay;
mod results;
mod tabular;

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use diversity_daemon::{NodeConfig, NodeFlags};

use output::{Context, EXIT_CODES, FAILED, Failure, Outcome, Output};

/// Off-chain execution of IoT agreements: parties who do not trust one another agree on what sensor data means.
#[derive(Parser)]
#[command(name = "diversity", version, propagate_version = true, after_help = EXIT_CODES, disable_help_subcommand = true)]
struct Cli {
    /// Print data only on stdout, one JSON object a line; everything else goes to stderr.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run an intermediate node until it is told to stop (SIGTERM, SIGINT)
    #[command(after_help = concat!(
        "Settings come from --config, then DIVERSITY_* variables, then flags; the later wins.\n\n",
        "Example:\n  diversity node --chain-id 1337 --contract 0x5FbDB2315678afecb367f032d93F642f64180aa3 \\\n",
        "      --cells 0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512 \\\n",
        "      --rpc-urls https://besu-1.example,https://besu-2.example --data-dir /var/lib/diversity"))]
    Node(Box<NodeArgs>),
    /// Run a chain and several nodes on this machine, for trying things out and for tests
    #[command(subcommand)]
    Devnet(devnet::Command),
    /// Register a user, a sensor or a node
    #[command(subcommand)]
    Register(register::Command),
    /// Draft, sign, create, show and close agreements
    #[command(subcommand)]
    Agreement(Box<agreement::Command>),
    /// Check, upload and run off-chain code (f)
    #[command(subcommand)]
    Code(code::Command),
    /// Show the disputes that the chain holds, and re-run them
    #[command(subcommand)]
    Dispute(dispute::Command),
    /// Print the settled results of an agreement
    Results(results::Args),
    /// Say how a node is, and which entries of the chain it does not believe
    Doctor(doctor::Args),
    /// Make, show and import keystores
    #[command(subcommand)]
    Keys(keys::Command),
    /// Measure what this machine can do at most: signatures verified, time in f
    Bench(bench::Args),
}

/// What runs a node.
#[derive(clap::Args)]
struct NodeArgs {
    /// First put a new store in the place of a damaged one. Keys and what the node has signed are kept, all else that can be read too;
    /// the rest comes from the peers and the chain.
    #[arg(long)]
    rebuild_store: bool,
    #[command(flatten)]
    settings: NodeFlags,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments
        .next()
        .is_some_and(|first| first == devnet::DETACH)
    {
        return devnet::detach(arguments);
    }
    let cli = Cli::parse();
    let output = Output { json: cli.json };
    match run(cli.command, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.say(format_args!("error: {failure}"));
            failure.exit_code()
        }
    }
}

fn run(command: Command, output: Output) -> Outcome {
    match command {
        Command::Node(args) => node(&args),
        Command::Code(command) => block_on(code::run(command, output)),
        Command::Keys(command) => keys::run(command, output),
        Command::Devnet(command) => block_on(devnet::run(command, output)),
        Command::Register(command) => block_on(register::run(command, output)),
        Command::Agreement(command) => block_on(agreement::run(*command, output)),
        Command::Dispute(command) => block_on(dispute::run(command, output)),
        Command::Results(args) => block_on(results::run(args, output)),
        Command::Doctor(args) => block_on(doctor::run(args, output)),
        Command::Bench(args) => block_on(bench::run(args, output)),
    }
}

fn block_on<F: Future<Output = Outcome>>(future: F) -> Outcome {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(future)
}

fn node(args: &NodeArgs) -> Outcome {
    let config = NodeConfig::load(&args.settings).map_err(Failure::usage)?;
    diversity_daemon::telemetry::init_logging(&config).map_err(Failure::usage)?;
    let executor = diversity_exec::Executor::new(diversity_exec::Limits::default())
        .context("cannot set up the WebAssembly engine")?;
    block_on(async {
        if args.rebuild_store {
            diversity_daemon::rebuild_store(&config)
                .await
                .map_err(|error| Failure::new(FAILED, error))?;
        }
        diversity_daemon::run_node(config, Arc::new(executor))
            .await
            .map_err(|error| Failure::new(FAILED, error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound_and_every_command_has_an_example() {
        let command = Cli::command();
        command.clone().debug_assert();
        let mut open = vec![(String::from("diversity"), command)];
        while let Some((path, mut command)) = open.pop() {
            let inner: Vec<_> = command.get_subcommands().cloned().collect();
            if inner.is_empty() {
                let help = command.render_help().to_string();
                assert!(help.contains("Example"), "{path} --help has no example");
            }
            open.extend(
                inner
                    .into_iter()
                    .map(|c| (format!("{path} {}", c.get_name()), c)),
            );
        }
    }
}
