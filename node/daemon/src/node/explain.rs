//! Disputes in words: who said what, what it means for money and for what comes after, and what can be done. Differences
//! blame nobody by themselves (R5), and the words keep to that.

use diversity_chain::events::DisputeKind;
use diversity_chain::evidence::{self, Evidence};
use diversity_client::abi::decode_packed;
use diversity_client::api::{DisputeView, SaidBy};
use diversity_proto::frame::Frame;
use diversity_proto::round::{Computed, OutputKind, Reveal};
use diversity_proto::terms::{Field, Terms, WindowSpec};
use diversity_proto::{NodeId, SensorId};

use crate::node::registry::{DisputeRecord, Registry};

/// The kind as the API names it.
pub fn kind(kind: DisputeKind) -> diversity_client::api::DisputeKind {
    use diversity_client::api::DisputeKind as Shown;
    match kind {
        DisputeKind::Equivocation => Shown::Equivocation,
        DisputeKind::FalseReveal => Shown::FalseReveal,
        DisputeKind::SensorContradiction => Shown::SensorContradiction,
        DisputeKind::UnequalReveals => Shown::UnequalReveals,
    }
}

/// A dispute as the API shows it.
///
/// `calldata` is what brought the evidence, as far as it is kept; `said_by` is who said what counts instead.
pub fn view(
    registry: &Registry,
    terms: Option<&Terms>,
    d: &DisputeRecord,
    calldata: &[u8],
    said_by: Option<SaidBy>,
) -> DisputeView {
    let sensor = d.kind == DisputeKind::SensorContradiction;
    let accused_name = d.accused.map_or_else(String::new, |a| {
        if sensor {
            label(registry, &a.into())
        } else {
            name(registry, &a.into())
        }
    });
    DisputeView {
        dispute: d.dispute,
        kind: kind(d.kind),
        agreement: d.agreement,
        t: (!sensor).then_some(d.at),
        q: sensor.then_some(d.at),
        epoch: d.epoch,
        accused: d.accused,
        explanation: explanation(registry, terms, d, calldata, (&accused_name, said_by)),
        accused_name,
        resolved: d.resolved,
        tx: d.tx,
        block: d.block,
    }
}

fn name(registry: &Registry, node: &NodeId) -> String {
    registry
        .nodes
        .get(node)
        .map_or_else(|| node.hex(), |n| n.declaration.name.clone())
}

fn label(registry: &Registry, sensor: &SensorId) -> String {
    let known = registry
        .sensors
        .get(sensor)
        .map(|s| s.declaration.label.clone());
    known
        .filter(|l| !l.is_empty())
        .unwrap_or_else(|| sensor.hex())
}

fn explanation(
    registry: &Registry,
    terms: Option<&Terms>,
    d: &DisputeRecord,
    calldata: &[u8],
    (accused, said_by): (&str, Option<SaidBy>),
) -> String {
    let t = d.at;
    let of = match terms {
        Some(terms) => format!("execution t = {t} of \"{}\"{}", terms.title, span(terms, t)),
        None => format!("execution t = {t}"),
    };
    let end = match said_by {
        Some(SaidBy::Users) => "The users have said what counts instead (`diversity results`).",
        Some(SaidBy::SecondReading) => {
            "The nodes have read it once more and agreed; that counts (`diversity results`)."
        }
        Some(_) => "The chain says what counts instead (`diversity results`).",
        None => {
            "Nothing is paid for it until a second reading of the nodes, or the users (`diversity dispute resolve`), say what counts; anyone can re-run it from the evidence (`diversity dispute replay`)."
        }
    };
    match evidence::decode(calldata) {
        Ok(Evidence::UnequalReveals { said, .. }) => {
            let reveals: Vec<_> = said.into_iter().map(|(n, _, r)| (n, r)).collect();
            let (said, same_state) = unequal(registry, terms, &reveals);
            let next = if same_state {
                format!(
                    "All agree on the state after it, so t = {} and later ones go on.",
                    t + 1
                )
            } else {
                format!(
                    "They differ on the state after it as well, or some abstained, so t = {} and later ones wait for what counts.",
                    t + 1
                )
            };
            format!(
                "The nodes revealed different outcomes for {of}. {said} A difference alone proves no lie, so nobody is blamed: the contract records a hole instead of a result. {next} {end}"
            )
        }
        Ok(Evidence::Equivocation { first, second, .. }) => format!(
            "Node {accused} signed two different commits ({} and {}) for {of}. Nobody else can make its signature, so it is to blame; the contract has checked both. {end}",
            short(&first.commitment.hex()),
            short(&second.commitment.hex())
        ),
        Ok(Evidence::FalseReveal { reveal, .. }) => format!(
            "Node {accused} committed to one outcome for {of} and revealed another: {}. The contract has opened its own commit and found that they differ, so it is to blame. {end}",
            outcome(terms.map(|t| &t.result[..]), &reveal.computed)
        ),
        Ok(Evidence::SensorContradiction { q, first, second }) => format!(
            "Sensor {accused} signed two different things with number q = {q} ({} and {}). Its key is shared, stolen or its counter was set back. Nothing of it from q = {q} on counts; other sensors are not touched, and what was settled stays final.",
            frame_words(&first),
            frame_words(&second)
        ),
        Err(error) => format!("{}: {}. {error}.", of, d.kind.words()),
    }
}

fn frame_words(frame: &Frame) -> String {
    if frame.is_gap() {
        format!("a record that {} messages are lost", frame.lost)
    } else {
        format!("a frame of {} messages", frame.count)
    }
}

fn span(terms: &Terms, t: u64) -> String {
    match terms.window {
        WindowSpec::Month { .. } => {
            let (year, month) = diversity_proto::time::month_of(terms.window.span(t).0);
            format!(" ({year}-{month:02})")
        }
        WindowSpec::Seconds { .. } => {
            let (from, to) = terms.window.span(t);
            format!(" ({from} to {to}, Unix seconds)")
        }
        WindowSpec::Count { .. } => String::new(),
    }
}

fn short(hex: &str) -> &str {
    hex.get(..10).unwrap_or(hex)
}

/// Which nodes said what, the largest group first; and whether all states are equal.
fn unequal(
    registry: &Registry,
    terms: Option<&Terms>,
    reveals: &[(NodeId, Reveal)],
) -> (String, bool) {
    let mut groups: Vec<(&Reveal, Vec<NodeId>)> = Vec::new();
    for (node, reveal) in reveals {
        let same = |g: &&mut (&Reveal, Vec<NodeId>)| {
            g.0.computed == reveal.computed && g.0.from == reveal.from && g.0.holes == reveal.holes
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.1.push(*node),
            None => groups.push((reveal, vec![*node])),
        }
    }
    groups.sort_by_key(|g| std::cmp::Reverse(g.1.len()));
    let abstains = |r: &Reveal| r.computed.kind == OutputKind::Abstain;
    let same_state = groups
        .iter()
        .all(|g| g.0.computed.state == reveals[0].1.computed.state && !abstains(g.0));
    let first = groups.first().map(|g| g.0);
    let said: Vec<_> = groups
        .iter()
        .map(|(reveal, nodes)| {
            let mut names: Vec<_> = nodes.iter().map(|n| name(registry, n)).collect();
            names.sort_unstable();
            let differs = first.map_or_else(String::new, |first| difference(first, reveal));
            format!(
                "{} revealed {}{differs}",
                names.join(", "),
                outcome(terms.map(|t| &t.result[..]), &reveal.computed)
            )
        })
        .collect();
    let majority = groups
        .first()
        .is_some_and(|g| g.1.len() * 2 > reveals.len());
    let note = match groups.iter().skip(1).flat_map(|g| &g.1).collect::<Vec<_>>()[..] {
        [only] if majority => format!(" {} differs from the majority.", name(registry, only)),
        _ => String::new(),
    };
    (format!("{}.{note}", said.join("; ")), same_state)
}

/// In what else two reveals differ.
fn difference(first: &Reveal, other: &Reveal) -> String {
    let (a, b) = (&first.computed, &other.computed);
    let mut parts = Vec::new();
    for (differs, what) in [
        (a.window_hash != b.window_hash, "the messages of the window"),
        (a.detail_root != b.detail_root, "the detail"),
        (a.state != b.state, "the state after it"),
        (a.trace != b.trace, "the trace of the computation"),
        (
            first.from != other.from || first.holes != other.holes,
            "which earlier executions are settled",
        ),
    ] {
        if differs {
            parts.push(what);
        }
    }
    if parts.is_empty() {
        String::new()
    } else {
        format!(" (and differs in {})", parts.join(", "))
    }
}

/// An outcome in words, with the fields as the terms name them.
pub fn outcome(fields: Option<&[Field]>, computed: &Computed) -> String {
    match computed.kind {
        OutputKind::Null => "nothing (null)".into(),
        OutputKind::Trap => "a trap of the module".into(),
        OutputKind::Abstain => {
            let reason = computed
                .result
                .first()
                .and_then(|code| diversity_exec::Abstain::from_code(*code));
            let reason = reason.map_or_else(
                || "for an unknown reason".into(),
                |r| format!("because {r}"),
            );
            format!("that it abstains, {reason}")
        }
        OutputKind::Value => match fields.map(|f| decode_packed(f, &computed.result)) {
            Some(Ok(map)) if !map.is_empty() => {
                let pairs: Vec<_> = map.iter().map(|(k, v)| format!("{k} = {v}")).collect();
                pairs.join(", ")
            }
            _ => diversity_client::hexed::encode(&computed.result),
        },
    }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
