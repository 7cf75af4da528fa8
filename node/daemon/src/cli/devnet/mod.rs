//! `diversity devnet`: a chain, and nodes of several parties, as separate processes on this machine (design §7).

mod chain;
mod members;
mod process;
mod state;
mod up;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;

use super::output::{FAILED, Failure, Outcome, Output, UNREACHABLE};
use process::Process;
use state::{Folder, State};

pub use process::{DETACH, detach};
pub use up::{UpArgs, up};

/// How long a start may take.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long a process that was asked to end may take before it is killed.
const END_WITHIN: Duration = Duration::from_secs(15);
/// How often something that is awaited is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// What to do with a devnet.
#[derive(Subcommand)]
pub enum Command {
    /// Start a chain and nodes, deploy, register users and nodes; return when all are ready. Resumes an existing folder
    #[command(after_help = concat!(
        "DIR/devnet.json says where everything is. Nodes are called node1, node2, ...; users operator, insurer, city, ...;\n",
        "user k owns node k. The processes outlive this command; `devnet down` ends them and keeps the folder.\n",
        "A program given by --node-bin is called as `PATH node --data-dir ...`, as `diversity` is.\n\n",
        "Examples:\n  diversity devnet up --dir net\n",
        "  diversity devnet up --dir net --nodes 4 --node-bin node3=target/release/diversity-liar\n",
        "  diversity devnet up --dir net --chain https://besu-1.example,https://besu-2.example \\\n",
        "      --funder rich.json --password-file rich.password"))]
    Up(UpArgs),
    /// Say what runs
    #[command(after_help = "Example:\n  diversity devnet status --dir net")]
    Status {
        #[command(flatten)]
        at: Dir,
    },
    /// End all processes; the folder stays, and `up` resumes it
    #[command(after_help = "Example:\n  diversity devnet down --dir net")]
    Down {
        #[command(flatten)]
        at: Dir,
    },
    /// Kill a node, or the chain, with SIGKILL
    #[command(after_help = "Example:\n  diversity devnet kill node2 --dir net")]
    Kill {
        /// A node's name, or `chain`.
        name: String,
        #[command(flatten)]
        at: Dir,
    },
    /// Start a node, or the chain, that does not run; return when it is ready, or fail after 60 s
    #[command(after_help = "Example:\n  diversity devnet start chain --dir net")]
    Start {
        /// A node's name, or `chain`.
        name: String,
        #[command(flatten)]
        at: Dir,
    },
}

/// Which devnet.
#[derive(clap::Args)]
pub struct Dir {
    /// The folder of the devnet.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

/// Runs the command.
pub async fn run(command: Command, output: Output) -> Outcome {
    match command {
        Command::Up(args) => up(args, output).await,
        Command::Status { at } => status(&at.dir, output).await,
        Command::Down { at } => {
            let folder = Folder::open(&at.dir)?;
            let _lock = folder.lock()?;
            let mut state = folder.load()?;
            down(&folder, &mut state).await?;
            output.say("all processes have ended; the folder is kept");
            Ok(())
        }
        Command::Kill { name, at } => {
            let folder = Folder::open(&at.dir)?;
            let _lock = folder.lock()?;
            let mut state = folder.load()?;
            kill(&folder, &mut state, &name).await?;
            output.say(format_args!("{name} is killed"));
            Ok(())
        }
        Command::Start { name, at } => {
            let folder = Folder::open(&at.dir)?;
            let _lock = folder.lock()?;
            let mut state = folder.load()?;
            start(&folder, &mut state, &name).await?;
            output.say(format_args!("{name} is ready"));
            Ok(())
        }
    }
}

/// Ends everything: first the nodes, so that they find the chain alive while they stop.
pub async fn down(folder: &Folder, state: &mut State) -> Outcome {
    let nodes: Vec<Process> = state
        .nodes
        .iter()
        .filter_map(|n| n.process.clone())
        .collect();
    end(&nodes).await?;
    for node in &mut state.nodes {
        node.process = None;
    }
    folder.save(state)?;
    end(state.chain.process().as_slice()).await?;
    state.chain.set_process(None);
    folder.save(state)
}

async fn end(processes: &[Process]) -> Outcome {
    signal(processes, rustix::process::Signal::TERM)?;
    if !gone(processes, END_WITHIN).await {
        signal(processes, rustix::process::Signal::KILL)?;
        if !gone(processes, END_WITHIN).await {
            return Err(Failure::new(
                FAILED,
                "a process does not end even when it is killed: the system is stuck on it",
            ));
        }
    }
    Ok(())
}

fn signal(processes: &[Process], signal: rustix::process::Signal) -> Outcome {
    processes.iter().try_for_each(|p| {
        p.signal(signal)
            .map_err(|e| Failure::new(FAILED, format_args!("cannot end process {}: {e}", p.pid)))
    })
}

async fn gone(processes: &[Process], within: Duration) -> bool {
    let deadline = tokio::time::Instant::now() + within;
    while processes.iter().any(Process::runs) {
        if tokio::time::Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    true
}

/// Kills one process with SIGKILL and waits until it is gone. One that does not run is fine.
pub async fn kill(folder: &Folder, state: &mut State, name: &str) -> Outcome {
    let process = if name == state::CHAIN {
        if !state.chain.is_ours() {
            return Err(Failure::new(
                FAILED,
                "the chain is not the devnet's own: it was given by --chain URL",
            ));
        }
        state.chain.process()
    } else {
        state.node(name)?.process.clone()
    };
    let processes: Vec<_> = process.into_iter().collect();
    signal(&processes, rustix::process::Signal::KILL)?;
    if !gone(&processes, END_WITHIN).await {
        return Err(Failure::new(
            FAILED,
            format_args!("{name} does not end even when it is killed"),
        ));
    }
    if name == state::CHAIN {
        state.chain.set_process(None);
    } else {
        state.node_mut(name)?.process = None;
    }
    folder.save(state)
}

/// Starts one process and waits until it is ready. One that runs is fine.
pub async fn start(folder: &Folder, state: &mut State, name: &str) -> Outcome {
    if name == state::CHAIN {
        chain::start(folder, state).await?;
    } else {
        state.node(name)?;
        members::start(folder, state, &[name.to_owned()]).await?;
    }
    folder.save(state)
}

#[derive(Serialize)]
struct Line {
    name: String,
    state: &'static str,
    pid: Option<u32>,
    url: String,
    log: PathBuf,
}

async fn status(dir: &Path, output: Output) -> Outcome {
    let folder = Folder::open(dir)?;
    let state = folder.load()?;
    let chain_up = chain::answers(&state).await;
    let mut lines = vec![Line {
        name: state::CHAIN.into(),
        state: match (chain_up, state.chain.process()) {
            (true, _) => "ready",
            (false, Some(p)) if p.runs() => "starting",
            _ => "stopped",
        },
        pid: state.chain.process().filter(Process::runs).map(|p| p.pid),
        url: state.chain.shown(),
        log: folder.log(state::CHAIN),
    }];
    for node in &state.nodes {
        let runs = node.process.as_ref().is_some_and(Process::runs);
        let ready = runs && members::ready(node).await.is_ok();
        lines.push(Line {
            name: node.name.clone(),
            state: match (runs, ready) {
                (_, true) => "ready",
                (true, false) => "not ready",
                _ => "stopped",
            },
            pid: node.process.as_ref().filter(|p| p.runs()).map(|p| p.pid),
            url: node.api_url(),
            log: folder.log(&node.name),
        });
    }
    output.table(&["name", "state", "pid", "url", "log"], &lines, |l| {
        vec![
            l.name.clone(),
            l.state.into(),
            l.pid.map_or_else(|| "-".into(), |p| p.to_string()),
            l.url.clone(),
            l.log.display().to_string(),
        ]
    })
}

/// Waits until `ready` says so, while the process runs.
async fn await_ready<E: std::fmt::Display>(
    name: &str,
    process: &Process,
    log: &process::Log,
    ready: impl AsyncFn() -> Result<(), E>,
) -> Outcome {
    let deadline = tokio::time::Instant::now() + READY_WITHIN;
    loop {
        let why = match ready().await {
            Ok(()) => return Ok(()),
            Err(why) => why.to_string(),
        };
        let failed = |what: String| Failure::new(UNREACHABLE, what);
        if !process.runs() {
            let (reason, path) = (log.reason(), log.path.display());
            return Err(failed(format!(
                "{name} has ended: {reason} (its log: {path})"
            )));
        }
        if tokio::time::Instant::now() > deadline {
            let (seconds, path) = (READY_WITHIN.as_secs(), log.path.display());
            return Err(failed(format!(
                "{name} is not ready after {seconds} s: {why} (its log: {path})"
            )));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
