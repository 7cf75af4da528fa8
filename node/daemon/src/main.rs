//! The program `diversity`: a node of the network, and the command line of the parties.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
