//! `diversity bench`.
use super::output::{Outcome, Output};

/// What to measure.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  diversity bench")]
pub struct Args {}

/// Measures.
pub async fn run(_: Args, _: Output) -> Outcome {
    Ok(())
}
