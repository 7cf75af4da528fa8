//! `diversity dispute`.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use diversity_client::Api;
use diversity_client::api::{DisputeView, EvidenceBundle, ResolveRequest, ResolvedKind};
use diversity_client::hexed::{self, Bytes};
use diversity_proto::{AgreementId, Digest};

use super::agreement::keep;
use super::locate::{At, Who, agreement_id, digest, which_agreement};
use super::output::{Context, FAILED, Failure, MISMATCH, Outcome, Output, counted, still_to_sign};
use super::replay::{Replay, replay};

/// What to do with disputes.
#[derive(Subcommand)]
pub enum Command {
    /// List the disputes that the chain holds
    #[command(after_help = "Example:\n  diversity dispute list --devnet net/devnet.json")]
    List {
        /// Only of this agreement.
        #[arg(long, value_name = "A", value_parser = agreement_id)]
        agreement: Option<AgreementId>,
        #[command(flatten)]
        at: At,
    },
    /// Explain a dispute in words: what happened, what it means, what can be done
    #[command(after_help = "Example:\n  diversity dispute show --devnet net/devnet.json 0x5a...")]
    Show {
        /// Which. [default: the newest]
        #[arg(value_parser = digest)]
        dispute: Option<Digest>,
        #[command(flatten)]
        at: At,
    },
    /// Re-run f on the evidence's window and say whose result matches
    #[command(after_help = concat!(
        "Everything in the evidence that can be computed anew is; exit code 5 when it does not hold.\n\n",
        "Examples:\n  diversity dispute replay --devnet net/devnet.json 0x5a... --save evidence.json\n",
        "  diversity dispute replay --evidence evidence.json --module bike-lock.wasm"))]
    Replay {
        /// Which. [default: the newest]
        #[arg(value_parser = digest)]
        dispute: Option<Digest>,
        /// An evidence bundle that was saved, instead of a node's.
        #[arg(long, value_name = "FILE", conflicts_with = "dispute")]
        evidence: Option<PathBuf>,
        /// The module. [default: the node's copy, checked against its hash]
        #[arg(long, value_name = "FILE")]
        module: Option<PathBuf>,
        /// Keep the evidence bundle in this file.
        #[arg(long, value_name = "FILE")]
        save: Option<PathBuf>,
        #[command(flatten)]
        at: At,
    },
    /// Say with all users what counts at an execution
    #[command(after_help = concat!(
        "Every user must sign. Signatures come together in the file that --signatures names; the one who adds the last one\n",
        "sends it. Where t is the next one on chain, it settles t itself; where t is behind, it fills the cell of t: the same\n",
        "signatures serve both. What t + 1 starts from is, unless it is given, what the asked node computed for t.\n\n",
        "Examples:\n  diversity dispute resolve 0x5a... --kind value --result 0x00000000000010680000002a \\\n",
        "      --signatures resolution.json --user operator --devnet net/devnet.json\n",
        "  diversity dispute resolve --agreement 0x7024... --t 3 --kind null --carry 0x --q-next 17,4 \\\n",
        "      --signatures resolution.json --user city --devnet net/devnet.json"))]
    Resolve(Box<ResolveArgs>),
    /// Let this node read a hole once more
    #[command(after_help = concat!(
        "Where some node's f gave up, or the nodes had different windows, they read the hole again by themselves. Where one\n",
        "window gave different outputs, each node does so only once its own operator has looked into it and asks for it here;\n",
        "it begins when all have. If a node restarts before, its operator asks again.\n\n",
        "Examples:\n  diversity dispute reread 0x5a... --devnet net/devnet.json\n",
        "  diversity dispute reread --agreement 0x7024... --t 3 --devnet net/devnet.json"))]
    Reread {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        at: At,
    },
}

/// Which execution.
#[derive(clap::Args)]
pub struct Which {
    /// Which dispute: its agreement and t.
    #[arg(value_parser = digest, required_unless_present = "t", conflicts_with_all = ["agreement", "t"])]
    dispute: Option<Digest>,
    /// Which agreement, instead of a dispute. [default: the node's only one]
    #[arg(long, value_name = "A", value_parser = agreement_id, requires = "t")]
    agreement: Option<AgreementId>,
    /// Which execution, instead of a dispute.
    #[arg(long)]
    t: Option<u64>,
}

/// A resolution.
#[derive(clap::Args)]
pub struct ResolveArgs {
    #[command(flatten)]
    which: Which,
    /// Kind of output that counts.
    #[arg(long, value_enum)]
    kind: WhatCounts,
    /// Packed result, hexadecimal. [default: empty]
    #[arg(long, value_name = "HEX", default_value = "0x")]
    result: String,
    /// What f is given at t + 1, hexadecimal. [default: what the node computed for t]
    #[arg(long, value_name = "HEX", requires = "q_next")]
    carry: Option<String>,
    /// Where the window t + 1 of each sensor starts, in the order of the terms. [default: what the node computed for t]
    #[arg(long, value_name = "Q", value_delimiter = ',', requires = "carry")]
    q_next: Option<Vec<u64>>,
    /// File in which the signatures come together.
    #[arg(long, value_name = "FILE")]
    signatures: PathBuf,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    at: At,
}

/// What can count.
#[derive(Clone, Copy, ValueEnum)]
pub enum WhatCounts {
    /// Nothing.
    Null,
    /// A value.
    Value,
    /// A trap.
    Trap,
}

/// Runs the command.
pub async fn run(command: Command, output: Output) -> Outcome {
    match command {
        Command::List { agreement, at } => {
            let disputes = at.api().await?.disputes(agreement.as_ref()).await?;
            output.table(
                &["dispute", "kind", "at", "accused", "resolved"],
                &disputes,
                |d| {
                    let at = match (d.t, d.q) {
                        (Some(t), _) => format!("t={t}"),
                        (_, Some(q)) => format!("q={q}"),
                        _ => "-".into(),
                    };
                    vec![
                        d.dispute.hex(),
                        d.kind.to_string(),
                        at,
                        accused(d),
                        if d.resolved { "yes" } else { "no" }.into(),
                    ]
                },
            )
        }
        Command::Show { dispute, at } => {
            let api = at.api().await?;
            let view = which(&api, dispute).await?;
            output.item(&view, explained)
        }
        Command::Replay {
            dispute,
            evidence,
            module,
            save,
            at,
        } => {
            replayed(
                dispute,
                evidence.as_deref(),
                module.as_deref(),
                save.as_deref(),
                &at,
                output,
            )
            .await
        }
        Command::Resolve(args) => resolve(*args, output).await,
        Command::Reread { which, at } => {
            let api = at.api().await?;
            let (a, t) = execution(&api, &which).await?;
            let view = api.reread(&a, t).await?;
            output.item(&view, |_| {
                format!(
                    "this node reads t = {t} of {a} once more when all nodes' operators have asked"
                )
            })
        }
    }
}

fn accused(d: &DisputeView) -> String {
    match (&d.accused, d.accused_name.as_str()) {
        (None, _) => "nobody".into(),
        (Some(a), "") => a.hex(),
        (Some(_), name) => name.into(),
    }
}

async fn which(api: &Api, named: Option<Digest>) -> Outcome<DisputeView> {
    match named {
        Some(d) => Ok(api.dispute(&d).await?),
        None => api.newest_dispute().await?.ok_or_else(|| {
            Failure::new(
                FAILED,
                "the chain holds no dispute of this node's agreements",
            )
        }),
    }
}

/// A dispute for people.
fn explained(d: &DisputeView) -> String {
    let subject = match (d.agreement, d.t, d.q) {
        (Some(a), Some(t), _) => format!("agreement {a}, execution t = {t}"),
        (_, _, Some(q)) => format!("sequence number q = {q}"),
        _ => "its subject is not known".into(),
    };
    format!(
        "dispute {}: {}\n{subject}\naccused: {}\n\n{}\n\n{}; recorded in transaction {} (block {})",
        d.dispute,
        d.kind,
        accused(d),
        d.explanation,
        if d.resolved {
            "the users have resolved it"
        } else {
            "not resolved"
        },
        d.tx,
        d.block,
    )
}

async fn replayed(
    dispute: Option<Digest>,
    evidence: Option<&Path>,
    module: Option<&Path>,
    save: Option<&Path>,
    at: &At,
    output: Output,
) -> Outcome {
    let (bundle, api): (EvidenceBundle, Option<Api>) = match evidence {
        Some(path) => {
            let text = std::fs::read_to_string(path).context(path.display())?;
            (
                serde_json::from_str(&text)
                    .context(format_args!("{} is no evidence bundle", path.display()))?,
                None,
            )
        }
        None => {
            let api = at.api().await?;
            let view = which(&api, dispute).await?;
            (api.evidence(&view.dispute).await?, Some(api))
        }
    };
    if let Some(path) = save {
        keep(path, &bundle)?;
    }
    let fetch = async |sha256: &Digest| match (module, api) {
        (Some(path), _) => std::fs::read(path).context(path.display()),
        (None, Some(api)) => Ok(api.code(sha256).await?),
        (None, None) => Err(Failure::usage("give the module too: --module FILE")),
    };
    let found = replay(&bundle, fetch).await?;
    output.item(&found, people)?;
    if found.holds {
        Ok(())
    } else {
        Err(Failure::new(
            MISMATCH,
            "the evidence does not hold: see the lines marked WRONG",
        ))
    }
}

fn people(r: &Replay) -> String {
    let mut out = format!("dispute {} ({})", r.dispute, r.kind);
    for check in &r.checks {
        out.push_str(&format!("\n  {check}"));
    }
    if let Some(c) = &r.recomputed {
        out.push_str(&format!(
            "\nf gives: {} {} on window {}",
            c.kind, c.result, c.window_hash
        ));
    }
    for n in &r.nodes {
        out.push_str(&format!("\n  node {} ({}): {}", n.index, n.node, n.words));
    }
    out.push_str(&format!("\n{}", r.verdict));
    out
}

/// Which execution it is about.
async fn execution(api: &Api, which: &Which) -> Outcome<(AgreementId, u64)> {
    let Some(dispute) = &which.dispute else {
        let t = which.t.ok_or_else(|| Failure::usage("which t? Give --t"))?;
        return Ok((which_agreement(api, which.agreement).await?, t));
    };
    let view = api.dispute(dispute).await?;
    match (view.agreement, view.t) {
        (Some(a), Some(t)) => Ok((a, t)),
        _ => Err(Failure::new(
            FAILED,
            "a sensor's contradiction is not resolved: the sensor is void from there on",
        )),
    }
}

/// Carry and starts of the windows at t + 1: as given, or as the node computed them.
async fn next_state(
    api: &Api,
    args: &ResolveArgs,
    a: &AgreementId,
    t: u64,
) -> Outcome<(Bytes, Vec<u64>)> {
    if let (Some(carry), Some(q_next)) = (&args.carry, &args.q_next) {
        let carry =
            hexed::decode(carry).ok_or_else(|| Failure::usage("--carry is not hexadecimal"))?;
        return Ok((Bytes(carry), q_next.clone()));
    }
    let window = api.window(a, t).await.map_err(|e| {
        Failure::from(e).during(format_args!(
            "this node has not computed t {t}, so give --carry and --q-next, or ask another node"
        ))
    })?;
    Ok((window.carry, window.q_next))
}

async fn resolve(args: ResolveArgs, output: Output) -> Outcome {
    let api = args.at.api().await?;
    let (a, t) = execution(&api, &args.which).await?;
    let (carry, q_next) = next_state(&api, &args, &a, t).await?;
    let fresh = ResolveRequest {
        t,
        kind: match args.kind {
            WhatCounts::Null => ResolvedKind::Null,
            WhatCounts::Value => ResolvedKind::Value,
            WhatCounts::Trap => ResolvedKind::Trap,
        },
        result: Bytes(
            hexed::decode(&args.result)
                .ok_or_else(|| Failure::usage("--result is not hexadecimal"))?,
        ),
        carry,
        q_next,
        signatures: Vec::new(),
    };
    let mut request: ResolveRequest = if args.signatures.exists() {
        let text = std::fs::read_to_string(&args.signatures).context(args.signatures.display())?;
        serde_json::from_str(&text).context(format_args!(
            "{} holds no signatures",
            args.signatures.display()
        ))?
    } else {
        fresh.clone()
    };
    if (ResolveRequest {
        signatures: Vec::new(),
        ..request.clone()
    }) != fresh
    {
        return Err(Failure::new(
            FAILED,
            format_args!(
                "{} has signatures for another resolution",
                args.signatures.display()
            ),
        ));
    }
    let users = api.agreement(&a).await?.terms.users;
    let signer = args
        .who
        .signer(&args.at, api.info().await?.deployment.into())?;
    if !users.contains(&signer.id()) {
        return Err(Failure::new(
            FAILED,
            format_args!("{} is no user of this agreement", signer.id()),
        ));
    }
    signer
        .add_to_resolution(&a, &mut request)
        .context("not signed")?;
    keep(&args.signatures, &request)?;
    let unsigned: Vec<_> = users
        .iter()
        .filter(|u| !request.signatures.iter().any(|s| s.user == **u))
        .collect();
    if !unsigned.is_empty() {
        output.say(still_to_sign(&args.signatures, &unsigned));
        return output.item(&request, |r| counted(r.signatures.len(), "signature"));
    }
    let view = api.resolve(&a, &request).await?;
    output.item(&view, |v| {
        let how = if v.in_band {
            "it is settled so, and another epoch is in force"
        } else {
            "its cell says so"
        };
        format!(
            "t = {} of {}: {how} (transaction {})",
            v.t, v.agreement, v.tx
        )
    })
}
