//! One line for each thing that happens, for people who follow a trace.

use diversity_engine::api::{Effect, Execution, Input, Source};
use diversity_proto::round::{Body, Commit, Session};
use diversity_proto::wire::Part;
use diversity_proto::{AgreementId, Digest, NodeId};

/// Names nodes and agreements by index.
pub struct Names {
    /// All nodes.
    pub nodes: Vec<NodeId>,
    /// All agreements.
    pub agreements: Vec<AgreementId>,
}

impl Names {
    fn agreement(&self, id: &AgreementId) -> String {
        self.agreements
            .iter()
            .position(|a| a == id)
            .map_or_else(|| id.hex(), |i| format!("a{i}"))
    }
    fn node(&self, id: &NodeId) -> String {
        self.nodes
            .iter()
            .position(|n| n == id)
            .map_or_else(|| id.hex(), |i| format!("node {i}"))
    }

    /// What a core is told.
    pub fn input(&self, input: &Input) -> String {
        match input {
            Input::Reread { t, .. } => format!("the operator asks for a reading of t={t}"),
            Input::Tick => "tick".into(),
            Input::Sensor { .. } => "a sensor is registered".into(),
            Input::Agreement { id, .. } => format!("{} stands", self.agreement(id)),
            Input::Frames { source, frames } => {
                let from = match source {
                    Source::Api(t) => format!("request {t}"),
                    Source::Peer(p) => self.node(p),
                };
                format!("{} frames of {from}", frames.len())
            }
            Input::FramesVerified { job, digests } => {
                format!(
                    "job {job}: {} of {} frames are good",
                    digests.iter().flatten().count(),
                    digests.len()
                )
            }
            Input::SignaturesVerified { job, good } => format!("job {job}: signatures {good:?}"),
            Input::Persisted { job } => format!("job {job}: durable"),
            Input::Executed {
                agreement,
                t,
                execution,
                ..
            } => {
                let a = self.agreement(agreement);
                format!("{a} executed t {t}: {}", self.execution(execution))
            }
            Input::Committed { agreement, t, .. } => {
                format!("{} commit of t {t} is signed", self.agreement(agreement))
            }
            Input::Signed { job, .. } => format!("job {job}: signed"),
            Input::MusigNonce { session, .. } => format!("nonce for {}", self.session(session)),
            Input::MusigSigned { session, partial } => {
                format!(
                    "partial for {}: {}",
                    self.session(session),
                    if partial.is_some() {
                        "made"
                    } else {
                        "nonce is gone"
                    }
                )
            }
            Input::MusigAggregated { session, result } => {
                let bad = result.as_ref().err();
                format!(
                    "aggregated {}: {}",
                    self.session(session),
                    bad.map_or("good".into(), |b| format!("bad partials of {b:?}"))
                )
            }
            Input::AggregateVerified { session, good, .. } => {
                format!("aggregate of {} is good: {good}", self.session(session))
            }
            Input::Message { from, parts } => {
                format!("from {}: {}", self.node(from), self.parts(parts))
            }
            Input::PeerUp(p) => format!("{} is up", self.node(p)),
            Input::PeerDown(p) => format!("{} is down", self.node(p)),
            Input::RepairRequest { from, ranges, .. } => {
                format!("{} asks for {} ranges", self.node(from), ranges.len())
            }
            Input::Chain(e) => format!("chain: {e:?}"),
            Input::Taken(id) => format!("the outbox has {id:?}"),
            Input::Paid { id, gas } => format!("{id:?} cost {gas} gas"),
            Input::Spent { agreement, gas } => format!("{agreement:?} cost {gas} gas"),
            Input::TimesLoaded { times, .. } => format!("times of {} frames", times.len()),
            Input::Compared { contradiction, .. } => {
                let q = contradiction.as_ref().map(|c| c.q);
                format!("compared frames: differ at q {q:?}")
            }
        }
    }

    fn execution(&self, e: &Execution) -> String {
        format!(
            "{:?} {:?}, state {:.10}, trace {:.10}",
            e.computed.kind, e.computed.result, e.computed.state, e.computed.trace
        )
    }
    fn session(&self, s: &Session) -> String {
        let a = self.agreement(&s.agreement);
        format!("{a} {}..={} attempt {}", s.from, s.t, s.attempt)
    }

    fn body(&self, t: u64, body: &Body) -> String {
        let short = |commits: &[Commit]| {
            let all = commits.iter().map(|c| short(&c.commitment));
            all.collect::<Vec<_>>().join(" ")
        };
        match body {
            Body::Commit { commit } => format!("commit t {t} {}", short(&[*commit])),
            Body::Seal { commits } => format!("seal t {t} [{}]", short(commits)),
            Body::Reveal { seal, reveal } => format!(
                "reveal t {t} under {} from {} holes {:?}",
                self::short(seal),
                reveal.from,
                reveal.holes
            ),
            Body::Certificate { commits, reveals } => {
                let all: Vec<_> = reveals
                    .iter()
                    .map(|r| format!("{}/{:?}", r.from, r.holes))
                    .collect();
                format!("certificate t {t} [{}] [{}]", short(commits), all.join(" "))
            }
        }
    }

    /// Parts that travel together.
    pub fn parts(&self, parts: &[Part]) -> String {
        let one = |p: &Part| match p {
            Part::Round { epoch, t, body, .. } => {
                let epoch = if *epoch == 0 {
                    String::new()
                } else {
                    format!(" epoch {epoch:x}")
                };
                format!("{}{epoch}", self.body(*t, body))
            }
            Part::Held { t, held, .. } => {
                let open: Vec<_> = held
                    .open
                    .iter()
                    .map(|o| {
                        let doubt = o.contradiction.as_ref().map(|c| c.q);
                        format!("{}:{}/{doubt:?}", o.index, o.lacks)
                    })
                    .collect();
                format!("held t {t} [{}]", open.join(" "))
            }
            Part::Leaves { t, .. } => format!("leaves t {t}"),
            Part::Nonce { session, .. } => format!("nonce {}", self.session(session)),
            Part::Nonces { session, .. } => format!("nonces {}", self.session(session)),
            Part::Partial { session, .. } => format!("partial {}", self.session(session)),
            Part::Aggregate { session, .. } => format!("aggregate {}", self.session(session)),
            Part::Status { next_t, next_q, .. } => format!("status t {next_t} q {next_q:?}"),
            Part::Clock { unix_ms, .. } => format!("clock {unix_ms}"),
            Part::Want { from_t, .. } => format!("want from t {from_t}"),
            Part::WantState { t, .. } => format!("want the state behind t {t}"),
            Part::State { t, .. } => format!("the state behind t {t}"),
            Part::Terms { .. } => "terms".into(),
        };
        let named = |p: &Part| format!("{} {}", self.agreement(&p.agreement()), one(p));
        parts.iter().map(named).collect::<Vec<_>>().join(", ")
    }

    /// What a core wants done; nothing where the answer says it all.
    pub fn effect(&self, effect: &Effect) -> Option<String> {
        Some(match effect {
            Effect::Execute(p) => {
                let leaf = |l: &diversity_engine::api::LeafPlan| {
                    let n: u32 = l.pieces.iter().map(|p| p.take).sum();
                    format!("{}+{n}", l.first_q)
                };
                format!(
                    "{} execute t {} on [{}], next q {:?}",
                    self.agreement(&p.agreement),
                    p.t,
                    p.leaves.iter().map(leaf).collect::<Vec<_>>().join(" "),
                    p.q_next
                )
            }
            Effect::Send { to, parts } => format!("to {}: {}", self.node(to), self.parts(parts)),
            Effect::SendStored { to, key } => format!(
                "to {}: record {}",
                self.node(to),
                key.first().map_or('?', |k| *k as char)
            ),
            Effect::Gossip { agreement, frames } => {
                format!(
                    "gossip {} frames in {}",
                    frames.len(),
                    self.agreement(agreement)
                )
            }
            Effect::RequestFrames { to, ranges } => {
                let all: Vec<_> = ranges
                    .iter()
                    .map(|r| format!("{}..{}", r.from_q, r.to_q))
                    .collect();
                format!("ask {} for {}", self.node(to), all.join(" "))
            }
            Effect::ServeFrames { frames, .. } => format!("serve {} frames", frames.len()),
            Effect::RefuseFrames { .. } => "refuse frames".into(),
            Effect::CompareFrames { .. } => "compare frames".into(),
            Effect::Answer { ticket, answer } => {
                let held: Vec<_> = answer.held.iter().map(|h| h.2).collect();
                format!(
                    "answer request {ticket}: next q {held:?}, refused {:?}",
                    answer.refused
                )
            }
            Effect::Submit { id, .. } => format!("submit {id:?}"),
            Effect::Retire { agreement, t } => {
                format!("retire {} ..={t}", self.agreement(agreement))
            }
            Effect::LoadTimes { frames, .. } => format!("load times of {} frames", frames.len()),
            Effect::Notice(n) => format!("notice {n:?}"),
            _ => return None,
        })
    }
}

fn short(d: &Digest) -> String {
    d.hex().chars().skip(2).take(6).collect()
}
