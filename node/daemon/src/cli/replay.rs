//! Re-running a dispute from its evidence: nothing in the bundle is believed that can be computed anew.

use diversity_client::api::{ComputedJson, DisputeKind, EvidenceBundle};
use diversity_client::draft::agreement_key;
use diversity_daemon::node::cut::{LeafRange, end_of, recut};
use diversity_exec::{Kind, ModuleId};
use diversity_keys::{VerifyingKey, verify};
use diversity_proto::codec::Reader;
use diversity_proto::frame::{Contradiction, Frame};
use diversity_proto::round::{Blinding, Commit, Computed, OutputKind, Reveal, Subject, seal};
use diversity_proto::terms::{Terms, config};
use diversity_proto::window::{Leaf, Window, detail_root, state};
use diversity_proto::{Deployment, Digest, NodeId};
use serde::Serialize;

use super::code::{executor, split_input};
use super::output::{Context, FAILED, Failure, Outcome};

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Replay {
    /// Dispute.
    pub dispute: String,
    /// Kind of dispute.
    pub kind: DisputeKind,
    /// What `f` gives on the evidence's window, when it was run again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recomputed: Option<Recomputed>,
    /// Node by node.
    pub nodes: Vec<NodeVerdict>,
    /// Checks of the evidence itself, in words; each begins with `ok` or `WRONG`.
    pub checks: Vec<String>,
    /// One sentence.
    pub verdict: String,
    /// Whether the evidence shows what the dispute says.
    pub holds: bool,
}

/// What `f` gives.
#[derive(Debug, Serialize)]
pub struct Recomputed {
    /// `null`, `value`, `trap` or `abstain`.
    pub kind: &'static str,
    /// Packed result, hexadecimal.
    pub result: String,
    /// `H(w[t])` of the evidence's window.
    pub window_hash: String,
}

/// What the evidence says of one node.
#[derive(Debug, Serialize)]
pub struct NodeVerdict {
    /// Node.
    pub node: String,
    /// Its index.
    pub index: usize,
    /// Whether its reveal is what was recomputed; nothing if it has none or nothing was recomputed.
    pub matches: Option<bool>,
    /// In words.
    pub words: String,
}

/// Re-runs the dispute. `module` is asked for the code by its hash.
pub async fn replay(
    bundle: &EvidenceBundle,
    module: impl AsyncFnOnce(&Digest) -> Outcome<Vec<u8>>,
) -> Outcome<Replay> {
    if bundle.version != 1 {
        return Err(Failure::new(
            FAILED,
            format_args!(
                "the evidence has version {}, this program knows 1: upgrade the older side",
                bundle.version
            ),
        ));
    }
    let mut out = Replay {
        dispute: bundle.dispute.dispute.hex(),
        kind: bundle.dispute.kind,
        recomputed: None,
        nodes: Vec::new(),
        checks: Vec::new(),
        verdict: String::new(),
        holds: false,
    };
    match bundle.dispute.kind {
        DisputeKind::SensorContradiction => sensor(bundle, &mut out)?,
        DisputeKind::Equivocation | DisputeKind::FalseReveal | DisputeKind::UnequalReveals => {
            nodes(bundle, module, &mut out).await?;
        }
    }
    Ok(out)
}

impl Replay {
    fn check(&mut self, good: bool, what: impl std::fmt::Display) -> bool {
        self.checks
            .push(format!("{} {what}", if good { "ok   " } else { "WRONG" }));
        good
    }
}

/// Two frames of one sensor that say different things of one q: two messages, or a message and its loss. The keys are recovered:
/// ids are addresses.
fn sensor(bundle: &EvidenceBundle, out: &mut Replay) -> Outcome {
    let deployment: Deployment = bundle.deployment.into();
    let frames: Vec<Frame> = bundle
        .frames
        .iter()
        .map(|f| Frame::decode(&f.0))
        .collect::<Result<_, _>>()
        .context("a frame of the evidence")?;
    let [first, second] = &frames[..] else {
        return Err(Failure::new(
            FAILED,
            "the evidence of a contradiction is two frames",
        ));
    };
    let signed = |f: &Frame| {
        diversity_keys::recovery_parity(&f.digest(&deployment).0, &f.signature.0, &f.sensor.0)
            .is_ok()
    };
    let mut good = out.check(first.sensor == second.sensor, "both frames name one sensor");
    good &= out.check(signed(first), "the sensor signed the first frame");
    good &= out.check(signed(second), "the sensor signed the second frame");
    // Two frames may differ at several q; a record at any of them holds, and the lowest says the most.
    let q = Contradiction::of(&bundle.frames[0].0, &bundle.frames[1].0).map(|c| c.q);
    good &= out.check(
        q.is_some() && q <= bundle.dispute.q,
        "they say different things at the q of the dispute, or before it",
    );
    out.holds = good;
    out.verdict = match (good, q) {
        (true, Some(q)) => format!(
            "sensor {} signed two different things with sequence number {q}; no node is to blame",
            first.sensor
        ),
        _ => "the evidence does not show a contradiction".into(),
    };
    Ok(())
}

async fn nodes(
    bundle: &EvidenceBundle,
    module: impl AsyncFnOnce(&Digest) -> Outcome<Vec<u8>>,
    out: &mut Replay,
) -> Outcome {
    let missing = |what: &str| {
        Failure::new(
            FAILED,
            format_args!("the evidence has no {what}: ask another node for it"),
        )
    };
    let deployment: Deployment = bundle.deployment.into();
    let terms = Terms::try_from(bundle.terms.as_ref().ok_or_else(|| missing("terms"))?)
        .context("the terms of the evidence")?;
    let t = bundle.dispute.t.ok_or_else(|| missing("t"))?;
    let agreement = bundle
        .dispute
        .agreement
        .ok_or_else(|| missing("agreement"))?;
    let key =
        agreement_key(&deployment, &terms, &bundle.keys).context("the keys of the evidence")?;
    let mut sound = out.check(
        key.id == agreement.0,
        "the agreement id is the key of these nodes under these terms",
    );
    let subject = Subject {
        deployment,
        config: config(&deployment, &agreement, bundle.dispute.epoch),
        t,
    };
    let recomputed = match &bundle.input {
        Some(input) => {
            let window = split_input(&input.0)?;
            sound &= window_is_signed(bundle, &window, &deployment, out);
            let code = module(&terms.off_chain_code).await?;
            Some(recompute(&terms, &input.0, &window, &bundle.q_next, &code)?)
        }
        None => {
            out.check(
                true,
                "this node has not got the window, so f is not run again",
            );
            None
        }
    };
    let opened = reveals(bundle, &terms, &subject, recomputed.as_ref(), out);
    if let Some((computed, kind)) = &recomputed {
        out.recomputed = Some(Recomputed {
            kind,
            result: diversity_client::hexed::encode(&computed.result),
            window_hash: computed.window_hash.hex(),
        });
    }
    let names = |matching: bool| -> Vec<String> {
        out.nodes
            .iter()
            .filter(|n| n.matches == Some(matching))
            .map(|n| format!("node {} ({})", n.index, n.node))
            .collect()
    };
    let (right, wrong) = (names(true), names(false));
    out.verdict = match (right.len(), wrong.len()) {
        (0, 0) => "there is nothing to compare: the evidence has no window, or no reveal".into(),
        (_, 0) => format!("f gives what {} revealed", right.join(" and ")),
        (0, _) => format!(
            "f gives something else than {} revealed",
            wrong.join(" and ")
        ),
        _ => format!(
            "f gives what {} revealed, and not what {} revealed",
            right.join(" and "),
            wrong.join(" and ")
        ),
    };
    out.holds = sound && opened && !(right.is_empty() && wrong.is_empty());
    Ok(())
}

/// Whether every message of the window stands in a frame that its sensor signed.
fn window_is_signed(
    bundle: &EvidenceBundle,
    window: &Window,
    deployment: &Deployment,
    out: &mut Replay,
) -> bool {
    let mut frames: Vec<Frame> = bundle
        .frames
        .iter()
        .filter_map(|f| Frame::decode(&f.0).ok())
        .collect();
    frames.retain(|f| {
        diversity_keys::recovery_parity(&f.digest(deployment).0, &f.signature.0, &f.sensor.0)
            .is_ok()
    });
    let range = |leaf: &Leaf| LeafRange {
        sensor: leaf.sensor,
        first_q: leaf.first_q,
        end_q: end_of(&leaf.sensor, leaf.first_q, leaf.count, &frames),
        width: leaf.width,
        end: leaf.end,
    };
    let ranges: Vec<_> = window.leaves.iter().map(range).collect();
    let again = recut((window.t, window.from, window.to), &ranges, &frames);
    let messages: u64 = window.leaves.iter().map(|l| u64::from(l.count)).sum();
    out.check(
        again.as_ref() == Some(window),
        format_args!(
            "all {messages} messages of the window stand in frames that their sensors signed"
        ),
    )
}

fn recompute(
    terms: &Terms,
    input: &[u8],
    window: &Window,
    q_next: &[u64],
    code: &[u8],
) -> Outcome<(Computed, &'static str)> {
    let engine = executor()?;
    let id: ModuleId = engine.add(code).map_err(|e| Failure::new(FAILED, e))?;
    if id != terms.off_chain_code.0 {
        return Err(Failure::new(
            FAILED,
            "the module is not the one that the terms name",
        ));
    }
    let ran = engine.run(&id, input).context("the module did not run")?;
    let carry = match ran.kind {
        Kind::Null | Kind::Value => ran.carry.clone(),
        _ => Reader::new(input)
            .bytes(input.len(), "carry")
            .context("the input of f")?
            .to_vec(),
    };
    let sensors: Vec<_> = terms.sensors.iter().map(|s| s.sensor).collect();
    let computed = Computed {
        kind: match ran.kind {
            Kind::Null => OutputKind::Null,
            Kind::Value => OutputKind::Value,
            Kind::Trap => OutputKind::Trap,
            Kind::Abstain(_) => OutputKind::Abstain,
        },
        detail_root: detail_root(&sensors, &ran.detail),
        state: state(&carry, q_next),
        trace: Digest(ran.trace),
        window_hash: window.hash(),
        result: ran.result,
    };
    Ok((computed, super::code::kind(&ran.kind)))
}

fn computed_of(json: &ComputedJson) -> Computed {
    Computed {
        kind: json.kind,
        result: json.result.0.clone(),
        detail_root: json.detail_root,
        state: json.state,
        trace: json.trace,
        window_hash: json.window_hash,
    }
}

/// Checks signatures and openings of every commit and reveal, and compares each with what was recomputed.
fn reveals(
    bundle: &EvidenceBundle,
    terms: &Terms,
    subject: &Subject,
    recomputed: Option<&(Computed, &'static str)>,
    out: &mut Replay,
) -> bool {
    let mut good = true;
    let key_of = |node: &NodeId| {
        terms
            .node_index(node)
            .and_then(|i| bundle.keys.get(i).map(|k| (i, *k)))
    };
    let mut commits: Vec<(usize, Commit)> = Vec::new();
    for c in &bundle.commits {
        let commit = Commit {
            commitment: c.commitment,
            opening: c.opening,
            signature: c.signature,
        };
        let signed = key_of(&c.node).filter(|(_, key)| {
            verify(
                &key.0,
                &commit.digest(subject, &c.node).0,
                &commit.signature.0,
            )
        });
        good &= out.check(
            signed.is_some(),
            format_args!("the commit of {} is signed by it", c.node),
        );
        commits.extend(signed.map(|(i, _)| (i, commit)));
    }
    commits.sort_by_key(|(i, _)| *i);
    let ordered: Vec<Digest> = commits
        .iter()
        .map(|(i, c)| c.digest(subject, &terms.nodes[*i].node))
        .collect();
    if let Some(claimed) = bundle.seal
        && ordered.len() == terms.nodes.len()
        && commits.windows(2).all(|w| w[0].0 != w[1].0)
    {
        good &= out.check(
            seal(subject, &ordered) == claimed,
            "the seal covers these commits in order",
        );
    }
    for r in &bundle.reveals {
        let Some((index, key)) = key_of(&r.node) else {
            good &= out.check(
                false,
                format_args!("{} has revealed, but is no node of the agreement", r.node),
            );
            continue;
        };
        let Some(seal) = bundle.seal else {
            good &= out.check(
                false,
                format_args!("the reveal of {} is incomplete", r.node),
            );
            continue;
        };
        let reveal = Reveal {
            computed: computed_of(&r.computed),
            blinding: Blinding {
                secret: r.secret.0,
                salt: r.salt.0,
            },
            from: r.from,
            holes: r.holes.clone(),
            signature: r.signature,
        };
        let a = bundle.dispute.agreement.expect("checked by the caller");
        let outcome = reveal.outcome(a, bundle.dispute.epoch, subject.t, &seal);
        let digest = reveal.digest(&subject.deployment, &outcome);
        let signed = VerifyingKey::from_bytes(&key.0)
            .is_ok_and(|k| k.verify(&digest.0, &reveal.signature.0));
        good &= out.check(
            signed,
            format_args!("the reveal of {} is signed by it", r.node),
        );
        let commit = commits.iter().find(|(i, _)| *i == index).map(|(_, c)| c);
        let opens = commit.is_some_and(|c| {
            c.opening == reveal.blinding.opening_hash()
                && c.commitment
                    == reveal
                        .computed
                        .commitment(subject, &r.node, &reveal.blinding)
        });
        let matches = recomputed.map(|(computed, _)| *computed == reveal.computed);
        out.nodes.push(NodeVerdict {
            node: r.node.hex(),
            index,
            matches,
            words: words(&reveal.computed, recomputed.map(|(c, _)| c), opens),
        });
    }
    good
}

fn words(revealed: &Computed, recomputed: Option<&Computed>, opens: bool) -> String {
    let mut out = match recomputed {
        None => "not compared".to_owned(),
        Some(c) if c == revealed => "revealed what f gives".to_owned(),
        Some(c) => {
            let mut differs = Vec::new();
            for (what, equal) in [
                ("kind of output", c.kind == revealed.kind),
                ("result", c.result == revealed.result),
                ("detail", c.detail_root == revealed.detail_root),
                ("state after it", c.state == revealed.state),
                ("trace", c.trace == revealed.trace),
                ("window", c.window_hash == revealed.window_hash),
            ] {
                if !equal {
                    differs.push(what);
                }
            }
            format!("revealed another {}", differs.join(", "))
        }
    };
    if !opens {
        out.push_str("; its reveal does not open its commit");
    }
    out
}
