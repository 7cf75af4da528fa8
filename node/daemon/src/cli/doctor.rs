//! `diversity doctor`.

use diversity_client::api::{AgreementSummary, Info, SkippedView};
use serde::Serialize;

use super::locate::At;
use super::output::{Failure, MISMATCH, Outcome, Output};

/// Which node.
#[derive(clap::Args)]
#[command(after_help = concat!(
    "One line for each thing that is looked at, with what to do where it is not well; then the newest entries of the chain that\n",
    "the node does not believe. Anybody with an account can make such entries: they are skipped and change nothing.\n\n",
    "Examples:\n  diversity doctor --devnet net/devnet.json --node node2\n",
    "  diversity doctor --api http://127.0.0.1:8080 --token-file token --json"))]
pub struct Args {
    #[command(flatten)]
    at: At,
}

/// Something that was looked at.
#[derive(Serialize)]
struct Finding {
    check: &'static str,
    well: bool,
    words: String,
}

/// Looks.
pub async fn run(args: Args, output: Output) -> Outcome {
    let api = args.at.api().await?;
    let info = api.info().await?;
    let findings = [
        chain(&info),
        account(&info),
        registration(&info),
        peers(&info),
        agreements(&info.agreements),
        not_accepted(&api.agreements().await?),
    ];
    for finding in &findings {
        output.item(finding, |f| {
            let mark = if f.well { "ok  " } else { "LOOK" };
            format!("{mark} {}: {}", f.check, f.words)
        })?;
    }
    skipped(&api.skipped().await?, output)?;
    let unwell = findings.iter().filter(|f| !f.well).count();
    if unwell == 0 {
        return Ok(());
    }
    Err(Failure::new(
        MISMATCH,
        format_args!("{unwell} of {} checks want a look", findings.len()),
    ))
}

fn skipped(entries: &[SkippedView], output: Output) -> Outcome {
    if output.json {
        return entries
            .iter()
            .try_for_each(|entry| output.item(entry, |_| String::new()));
    }
    if entries.is_empty() {
        output.say("no entry of the chain was skipped");
        return Ok(());
    }
    output.say(format_args!(
        "{} entries of the chain were skipped; they change nothing:",
        entries.len()
    ));
    output.table(&["block", "reason", "transaction", "why"], entries, |e| {
        vec![
            e.block.to_string(),
            e.reason.clone(),
            e.tx.hex(),
            e.detail.clone(),
        ]
    })
}

fn chain(info: &Info) -> Finding {
    let c = &info.chain;
    let behind = c.block.saturating_sub(c.processed_block);
    Finding {
        check: "chain",
        well: c.reachable,
        words: if c.reachable {
            format!("block {}, {behind} of them not read yet", c.block)
        } else {
            "no endpoint answers: see /readyz, and the setting rpc_urls".into()
        },
    }
}

fn account(info: &Info) -> Finding {
    let (account, wei, waiting) = (
        info.node.account,
        &info.chain.balance_wei,
        info.chain.outbox,
    );
    Finding {
        check: "account",
        well: true,
        words: format!("{account} has {wei} wei; {waiting} submissions wait"),
    }
}

fn registration(info: &Info) -> Finding {
    let (check, node) = ("registration", &info.node);
    match node.owner {
        Some(owner) => Finding {
            check,
            well: true,
            words: format!(
                "node {} ({}) is registered by {owner}",
                node.node, node.name
            ),
        },
        None => Finding {
            check,
            well: false,
            words: format!(
                "node {} stands registered nowhere, or its declaration is among the entries below: register it with diversity register node",
                node.node
            ),
        },
    }
}

fn peers(info: &Info) -> Finding {
    let connected = info.peers.iter().filter(|p| p.connected).count();
    Finding {
        check: "peers",
        well: true,
        words: format!(
            "{connected} of {} registered nodes are connected",
            info.peers.len()
        ),
    }
}

/// Anybody can make an agreement that names a node; it is listed, and nothing is done for it.
fn not_accepted(all: &[AgreementSummary]) -> Finding {
    const NAMED_MAX: usize = 10;
    let named: Vec<_> = all.iter().filter(|a| !a.accepted).collect();
    let first = named.iter().take(NAMED_MAX);
    let first: Vec<_> = first
        .map(|a| format!("{} ({:?})", a.agreement, a.title))
        .collect();
    Finding {
        check: "not accepted by this node",
        well: true,
        words: match named.len() {
            0 => "no agreement names this node without its acceptance".into(),
            n => format!(
                "{n} agreements name this node, which does nothing for them (diversity agreement accept, if it should): {}",
                first.join(", ")
            ),
        },
    }
}

fn agreements(all: &[AgreementSummary]) -> Finding {
    let waits = |a: &AgreementSummary| {
        let first = a.progress.waiting_for.first()?;
        Some(format!("{:?} waits: {first}", a.title))
    };
    let waiting: Vec<_> = all.iter().filter_map(waits).collect();
    Finding {
        check: "agreements",
        well: true,
        words: if waiting.is_empty() {
            format!("{} of this node, nothing waits", all.len())
        } else {
            waiting.join("; ")
        },
    }
}
