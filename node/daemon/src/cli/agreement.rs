//! `diversity agreement`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use diversity_client::api::{AgreementView, CloseRequest, Life};
use diversity_client::draft::Draft;
use diversity_proto::{AgreementId, NodeId, UserId};
use serde::Serialize;

use super::draft::{DraftArgs, draft, words};
use super::locate::{At, Who, agreement_id, which_agreement};
use super::output::{Context, FAILED, Failure, Outcome, Output, counted, still_to_sign};

/// What to do with agreements.
#[derive(Subcommand)]
pub enum Command {
    /// Write the terms of a new agreement, with its id a, into a draft file
    #[command(after_help = concat!(
        "The id is the aggregate key of the nodes, tied to the terms; it is computed here, from the registered keys.\n",
        "The draft goes from user to user; each signs it (agreement sign), then one creates it (agreement create).\n\n",
        "Example:\n  diversity agreement draft --devnet net/devnet.json --title 'Bike hire 2016' --code bike-lock.wasm \\\n",
        "      --sensor-type bike-lock --window month:2016-01 --result total_seconds:uint64,trips:uint32 \\\n",
        "      --detail seconds:uint64,trips:uint32,unbilled:uint32 --out draft.json"))]
    Draft(Box<DraftArgs>),
    /// Check a draft and sign it as one of its users
    #[command(
        after_help = "Example:\n  diversity agreement sign draft.json --keystore alice.json --password-file alice.password"
    )]
    Sign {
        /// The draft file; the signature is added to it.
        draft: PathBuf,
        #[command(flatten)]
        who: Who,
        #[command(flatten)]
        at: At,
    },
    /// Grant a draft as the owner of sensors in it who is no user of it
    #[command(after_help = concat!(
        "Who owns a sensor is who registered it first. Users of the agreement grant it by signing; every other owner must, and no\n",
        "node accepts the draft before.\n\n",
        "Example:\n  diversity agreement grant draft.json --user city --devnet net/devnet.json"))]
    Grant {
        /// The draft file; the grant is added to it.
        draft: PathBuf,
        #[command(flatten)]
        who: Who,
        #[command(flatten)]
        at: At,
    },
    /// Ask nodes to accept a draft: every node must
    #[command(after_help = concat!(
        "A node accepts when it has checked terms, sensors and their owners, and has all of it and the module on its disk. It runs\n",
        "nothing else. An agreement that stands on chain already is accepted in the same way.\n\n",
        "Example:\n  diversity agreement accept draft.json --code bike-lock.wasm --api http://127.0.0.1:8440 --token-file token"))]
    Accept {
        /// The draft file; the acceptances are added to it.
        draft: PathBuf,
        /// The module, for nodes that have not got it.
        #[arg(long, value_name = "FILE")]
        code: Option<PathBuf>,
        #[command(flatten)]
        at: At,
    },
    /// Create an agreement on chain from a draft that every user has signed
    #[command(after_help = concat!(
        "Every user must have signed, and every node accepted. Acceptances that the draft lacks are asked of the nodes that the command\n",
        "can reach (with --devnet: all of them).\n\n",
        "Example:\n  diversity agreement create draft.json --devnet net/devnet.json"))]
    Create {
        /// The draft file.
        draft: PathBuf,
        #[command(flatten)]
        at: At,
    },
    /// Show one agreement, a draft file, or a list of what the node has
    #[command(
        after_help = "Examples:\n  diversity agreement show --devnet net/devnet.json\n  diversity agreement show draft.json"
    )]
    Show {
        /// Agreement id, or the path of a draft file. [default: list all]
        which: Option<String>,
        #[command(flatten)]
        at: At,
    },
    /// End an agreement: executions from t on never settle
    #[command(after_help = concat!(
        "Every user must sign. Signatures come together in the file that --signatures names; the one who adds the last one\n",
        "sends it.\n\n",
        "Example:\n  diversity agreement close --agreement 0x7024... --end 12 --signatures close.json --user operator \\\n",
        "      --devnet net/devnet.json"))]
    Close {
        /// Which agreement. [default: the node's only one]
        #[arg(long, value_name = "A", value_parser = agreement_id)]
        agreement: Option<AgreementId>,
        /// First t that does not settle any more.
        #[arg(long, value_name = "T")]
        end: u64,
        /// File in which the signatures come together.
        #[arg(long, value_name = "FILE")]
        signatures: PathBuf,
        #[command(flatten)]
        who: Who,
        #[command(flatten)]
        at: At,
    },
}

/// Runs the command.
pub async fn run(command: Command, output: Output) -> Outcome {
    match command {
        Command::Draft(args) => draft(*args, output).await,
        Command::Sign { draft, who, at } => sign(&draft, &who, &at, output),
        Command::Grant { draft, who, at } => grant(&draft, &who, &at, output),
        Command::Accept { draft, code, at } => {
            let mut file = read(&draft)?;
            let code = code.map(|c| std::fs::read(&c).context(c.display()));
            accept(&mut file, code.transpose()?, &at, output).await?;
            file.write(&draft).context("cannot keep the acceptances")?;
            missing(&file, output)
        }
        Command::Create { draft, at } => create(&draft, &at, output).await,
        Command::Show { which, at } => show(which, &at, output).await,
        Command::Close {
            agreement,
            end,
            signatures,
            who,
            at,
        } => close(agreement, end, &signatures, &who, &at, output).await,
    }
}

fn read(path: &Path) -> Outcome<Draft> {
    Draft::read(path).context(path.display())
}

fn sign(path: &Path, who: &Who, at: &At, output: Output) -> Outcome {
    let mut draft = read(path)?;
    output.say(words(&draft.terms));
    let signer = who.signer(at, draft.deployment.into())?;
    draft.sign(&signer).context("not signed")?;
    draft.write(path).context("cannot keep the signature")?;
    output.say(format_args!(
        "{} has signed {}",
        signer.id(),
        draft.agreement
    ));
    missing(&draft, output)
}

fn grant(path: &Path, who: &Who, at: &At, output: Output) -> Outcome {
    let mut draft = read(path)?;
    output.say(words(&draft.terms));
    let signer = who.signer(at, draft.deployment.into())?;
    draft.grant(&signer).context("not granted")?;
    draft.write(path).context("cannot keep the grant")?;
    output.say(format_args!(
        "{} has granted {}",
        signer.id(),
        draft.agreement
    ));
    missing(&draft, output)
}

#[derive(Serialize)]
struct Missing {
    agreement: String,
    not_signed: Vec<String>,
    not_granted: Vec<String>,
    not_accepted: Vec<String>,
}

fn missing(draft: &Draft, output: Output) -> Outcome {
    let lacks = draft.missing().context("the draft")?;
    let hex = |users: Vec<UserId>| users.iter().map(UserId::hex).collect();
    let m = Missing {
        agreement: draft.agreement.hex(),
        not_signed: hex(lacks.signatures),
        not_granted: hex(lacks.grants),
        not_accepted: lacks.acceptances.iter().map(NodeId::hex).collect(),
    };
    output.item(&m, |m| {
        let list = |what: &str, users: &[String]| match users {
            [] => format!("{what}: nothing is missing"),
            some => format!("{what}: missing {}", some.join(", ")),
        };
        [
            list("users' signatures", &m.not_signed),
            list("grants of sensors' owners", &m.not_granted),
            list("nodes' acceptances", &m.not_accepted),
        ]
        .join("\n")
    })
}

/// Asks those nodes of the draft that can be reached and have not accepted yet.
async fn accept(draft: &mut Draft, code: Option<Vec<u8>>, at: &At, output: Output) -> Outcome {
    let request = draft.accept_request();
    for (name, api) in at.all().await? {
        let node = match api.info().await {
            Ok(info) => info.node.node,
            Err(error) => {
                output.say(format_args!("{name} was not asked: {error}"));
                continue;
            }
        };
        let member = draft.terms.nodes.iter().any(|n| n.node == node);
        if !member || draft.acceptances.iter().any(|a| a.node == node) {
            continue;
        }
        if let Some(code) = &code {
            let stored = api.put_code(code).await;
            stored.map_err(|e| Failure::from(e).during(&name))?;
        }
        let acceptance = api
            .accept(&request)
            .await
            .map_err(|e| Failure::from(e).during(&name))?;
        draft.accept(acceptance).context(&name)?;
        output.say(format_args!("{name} has accepted"));
    }
    Ok(())
}

async fn create(path: &Path, at: &At, output: Output) -> Outcome {
    let mut draft = read(path)?;
    let lacks = draft.missing().context("the draft")?;
    if let Some(user) = lacks.signatures.first() {
        return Err(Failure::new(
            FAILED,
            format_args!(
                "{user} has not signed: diversity agreement sign {}",
                path.display()
            ),
        ));
    }
    if !lacks.acceptances.is_empty() {
        accept(&mut draft, None, at, output).await?;
        draft.write(path).context("cannot keep the acceptances")?;
    }
    let complete = draft.complete().context("cannot create the agreement")?;
    let view = at.api().await?.create(&complete).await?;
    output.say(format_args!("created in transaction {}", view.tx));
    output.item(&view, |v| v.agreement.hex())
}

async fn show(which: Option<String>, at: &At, output: Output) -> Outcome {
    if let Some(path) = which.as_deref().map(Path::new).filter(|p| p.exists()) {
        let draft = read(path)?;
        output.say(words(&draft.terms));
        return missing(&draft, output);
    }
    let api = at.api().await?;
    if let Some(text) = which {
        let id = agreement_id(&text)
            .map_err(|e| Failure::usage(format_args!("{text} is no file, and {e}")))?;
        let view = api.agreement(&id).await?;
        return output.item(&view, described);
    }
    let all = api.agreements().await?;
    output.table(
        &[
            "agreement",
            "status",
            "windows",
            "settled",
            "holes",
            "title",
        ],
        &all,
        |a| {
            vec![
                a.agreement.hex(),
                status(a.status, a.accepted),
                a.progress.next_window.to_string(),
                a.progress.next_settlement.to_string(),
                a.progress.holes.len().to_string(),
                a.title.clone(),
            ]
        },
    )
}

/// One that this node has not accepted is nothing to it, whatever the chain says.
fn status(life: Life, accepted: bool) -> String {
    if accepted {
        return life.to_string();
    }
    format!("{life}, not accepted by this node")
}

fn described(v: &AgreementView) -> String {
    let p = &v.progress;
    let mut out = format!(
        "{}\nagreement {} is {}; created in transaction {}\nwindows whole up to t = {}, executed {}, certified {}, settled {} (each: the first t that is not)",
        words(&v.terms),
        v.agreement,
        status(v.status, v.accepted),
        v.tx,
        p.next_window,
        p.next_execution,
        p.next_certificate,
        p.next_settlement
    );
    if !p.holes.is_empty() {
        out.push_str(&format!("\ndisputed: t = {:?}", p.holes));
    }
    if let (Some(first), Some(last)) = (v.closings.first(), v.closings.last()) {
        out.push_str(&format!(
            "\nended by a record and no message: {} of t = {} to {} (--json lists them)",
            counted(v.closings.len(), "part"),
            first.t,
            last.t
        ));
    }
    for reason in &p.waiting_for {
        out.push_str(&format!("\nwaits: {reason}"));
    }
    out
}

async fn close(
    agreement: Option<AgreementId>,
    end: u64,
    file: &Path,
    who: &Who,
    at: &At,
    output: Output,
) -> Outcome {
    let api = at.api().await?;
    let a = which_agreement(&api, agreement).await?;
    let view = api.agreement(&a).await?;
    let mut request = if file.exists() {
        let text = std::fs::read_to_string(file).context(file.display())?;
        serde_json::from_str(&text)
            .context(format_args!("{} holds no signatures", file.display()))?
    } else {
        CloseRequest {
            end,
            signatures: Vec::new(),
        }
    };
    if request.end != end {
        return Err(Failure::new(
            FAILED,
            format_args!(
                "{} has signatures for --end {}, not {end}",
                file.display(),
                request.end
            ),
        ));
    }
    let signer = who.signer(at, api.info().await?.deployment.into())?;
    if !view.terms.users.contains(&signer.id()) {
        return Err(Failure::new(
            FAILED,
            format_args!("{} is no user of this agreement", signer.id()),
        ));
    }
    signer.add_to_close(&a, &mut request);
    keep(file, &request)?;
    let signed: Vec<_> = request.signatures.iter().map(|s| s.user).collect();
    let unsigned: Vec<_> = view
        .terms
        .users
        .iter()
        .filter(|u| !signed.contains(u))
        .collect();
    if !unsigned.is_empty() {
        output.say(still_to_sign(file, &unsigned));
        return output.item(&request, |r| counted(r.signatures.len(), "signature"));
    }
    let view = api.close(&a, &request).await?;
    output.item(&view, described)
}

/// Writes signatures that come together in a file.
pub fn keep(file: &Path, request: &impl Serialize) -> Outcome {
    let text = serde_json::to_string_pretty(request).context("cannot write JSON")?;
    diversity_client::devnet::write_atomically(file, text.as_bytes()).context(file.display())
}
