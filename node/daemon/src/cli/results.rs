//! `diversity results`.

use diversity_client::Api;
use diversity_client::api::{SettledResult, output_name};
use diversity_proto::AgreementId;
use serde_json::{Map, Value};

use super::locate::{At, agreement_id, which_agreement};
use super::output::{Outcome, Output, span, table};

/// Results on one page of the API.
const PAGE: usize = 500;

/// Which results.
#[derive(clap::Args)]
#[command(after_help = concat!(
    "For each settled t: t, from and to (T0 and T1, Unix seconds), the fields of result and detail as the terms name them,\n",
    "window_hash, tx, gas_used (of the whole transaction), outcomes (how many share it) and said_by (nodes; where they did\n",
    "not agree second-reading or users).\n\n",
    "Examples:\n  diversity results --devnet net/devnet.json\n",
    "  diversity results --devnet net/devnet.json --node node2 --agreement 0x7c... --json | jq .total_seconds"))]
pub struct Args {
    #[command(flatten)]
    at: At,
    /// Which agreement. [default: the node's only one]
    #[arg(long, value_name = "A", value_parser = agreement_id)]
    agreement: Option<AgreementId>,
    /// From this t on.
    #[arg(long, value_name = "T", default_value_t = 0)]
    from: u64,
    /// The detail of every sensor too (always there with --json).
    #[arg(long)]
    sensors: bool,
}

/// Prints them.
pub async fn run(args: Args, output: Output) -> Outcome {
    let api = args.at.api().await?;
    let agreement = which_agreement(&api, args.agreement).await?;
    let results = all(&api, &agreement, args.from).await?;
    if output.json {
        return results
            .iter()
            .try_for_each(|result| output.item(result, |_| String::new()));
    }
    let fields = names(results.iter().map(|r| &r.result));
    let mut head: Vec<&str> = vec!["t", "window", "kind"];
    head.extend(fields.iter().map(String::as_str));
    head.extend(["said by", "gas", "share of", "transaction"]);
    output.table(&head, &results, |r| {
        let mut row = vec![
            r.t.to_string(),
            span(r.t, r.from, r.to),
            output_name(r.kind).into(),
        ];
        row.extend(fields.iter().map(|f| show(r.result.get(f))));
        row.extend([
            r.said_by.to_string(),
            r.gas_used.to_string(),
            r.outcomes.to_string(),
            r.tx.hex(),
        ]);
        row
    })?;
    if args.sensors {
        for r in &results {
            output.say(format_args!("\n{}", detail(r)));
        }
    }
    if results.is_empty() {
        let progress = api.agreement(&agreement).await?.progress;
        output.say("nothing has settled yet");
        for reason in progress.waiting_for {
            output.say(format_args!("waits: {reason}"));
        }
    }
    Ok(())
}

/// Every settled result from `from` on.
pub async fn all(api: &Api, agreement: &AgreementId, from: u64) -> Outcome<Vec<SettledResult>> {
    let mut out = Vec::new();
    let mut next = Some(from);
    while let Some(from) = next {
        let mut page = api.results(agreement, from, PAGE).await?;
        out.append(&mut page.results);
        next = page.next;
    }
    Ok(out)
}

/// Names of fields, in the order in which they come.
fn names<'a>(maps: impl Iterator<Item = &'a Map<String, Value>>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for map in maps {
        for name in map.keys() {
            if !out.contains(name) {
                out.push(name.clone());
            }
        }
    }
    out
}

/// A value as people read it.
pub fn show(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".into(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn detail(r: &SettledResult) -> String {
    let fields = names(r.sensors.iter().map(|s| &s.detail));
    let mut head = vec!["sensor", "label"];
    head.extend(fields.iter().map(String::as_str));
    let rows: Vec<_> = r
        .sensors
        .iter()
        .map(|s| {
            let mut row = vec![s.sensor.hex(), s.label.clone()];
            row.extend(fields.iter().map(|f| show(s.detail.get(f))));
            row
        })
        .collect();
    format!("{}\n{}", span(r.t, r.from, r.to), table(&head, &rows))
}
