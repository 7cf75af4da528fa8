//! `diversity-liar`: a node that is honest in everything but what it says that `f` gave. It pads the bill by an hour, in the
//! result and, so that the two fit, in the detail of one sensor; everything else is the daemon's own code, and its commits,
//! reveals and signatures are all in order. Started as `diversity node` is: `diversity-liar node --data-dir ...`.

use clap::{Parser, Subcommand};
use diversity_daemon::{NodeConfig, NodeFlags, RunFailure, RunOutput, Runner};
use diversity_exec::{Executor, Limits};
use diversity_proto::Digest;
use diversity_proto::round::OutputKind;
use std::process::ExitCode;
use std::sync::Arc;

/// What is added to the bill, seconds.
const PADDING: u64 = 3_600;

/// A node of the tests that lies about its results.
#[derive(Parser)]
#[command(name = "diversity-liar", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the node until it is told to stop
    #[command(
        after_help = "Example: diversity devnet up --dir net --node-bin node3=target/release/diversity-liar"
    )]
    Node(Box<NodeFlags>),
}

/// Runs `f`, and lies about what came of it.
struct Liar(Executor);

impl Runner for Liar {
    fn check(&self, module: &[u8]) -> Result<(), String> {
        Runner::check(&self.0, module)
    }

    fn add(&self, module: &[u8]) -> Result<(), String> {
        Runner::add(&self.0, module)
    }

    fn run(&self, module: &Digest, input: &[u8]) -> Result<RunOutput, RunFailure> {
        let mut output = Runner::run(&self.0, module, input)?;
        if output.kind == OutputKind::Value {
            pad(&mut output.result);
            // The sensor with the largest first number, where an hour more is noticed least.
            if let Some(sensor) = output.detail.iter_mut().max_by_key(|d| first(d)) {
                pad(sensor);
            }
        }
        Ok(output)
    }
}

/// The first eight bytes as a number: the seconds of a bike-lock result and of its detail.
fn first(packed: &[u8]) -> Option<u64> {
    packed.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

fn pad(packed: &mut [u8]) {
    if let Some(bytes) = packed.first_chunk_mut() {
        *bytes = u64::from_be_bytes(*bytes)
            .wrapping_add(PADDING)
            .to_be_bytes();
    }
}

fn main() -> ExitCode {
    let Command::Node(flags) = Cli::parse().command;
    match run(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &NodeFlags) -> Result<(), Box<dyn std::error::Error>> {
    let config = NodeConfig::load(flags)?;
    diversity_daemon::telemetry::init_logging(&config)?;
    let executor = Executor::new(Limits::default())?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(diversity_daemon::run_node(config, Arc::new(Liar(executor))))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bill_grows_by_an_hour() {
        let mut packed = [&7_200u64.to_be_bytes()[..], &3u32.to_be_bytes()].concat();
        pad(&mut packed);
        assert_eq!(first(&packed), Some(10_800));
        assert_eq!(packed[8..], 3u32.to_be_bytes());
        let mut short = vec![1, 2];
        pad(&mut short);
        assert_eq!(short, [1, 2]);
    }
}
