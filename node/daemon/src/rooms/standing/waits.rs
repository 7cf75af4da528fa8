//! What the first t that is not settled waits for, in words.

use diversity_engine::AgreementStatus;
use diversity_proto::terms::{Terms, WindowSpec};
use diversity_proto::{NodeId, SensorId};

use crate::node::peers::PeerMap;
use crate::node::registry::Registry;

/// Sensors named in one reason to wait.
const NAMED_MAX: usize = 10;

/// What is looked at, and when.
pub struct Sight<'a> {
    /// This node.
    pub node: NodeId,
    /// Names and labels.
    pub registry: &'a Registry,
    /// Who can be reached.
    pub peers: &'a PeerMap,
    /// Why the chain cannot be reached.
    pub trouble: Option<&'a str>,
    /// Unix seconds.
    pub now_s: u64,
}

impl Sight<'_> {
    /// Reasons to wait, the gravest first; none when nothing is due.
    pub fn waiting_for(
        &self,
        terms: &Terms,
        s: &AgreementStatus,
        next_settlement: u64,
    ) -> Vec<String> {
        let mut out = Vec::new();
        if let Some(why) = &s.halted {
            out.push(format!("this node signs nothing more: {why}"));
        }
        if let Some(t) = s.blocked {
            out.push(format!(
                "the users must resolve the dispute at t {t}: the nodes' states differ there"
            ));
        }
        if next_settlement < s.undecided_t {
            let why = self.trouble.map_or_else(String::new, |t| format!(" ({t})"));
            out.push(format!(
                "t {next_settlement} is certified and waits for the chain{why}"
            ));
        } else if s.undecided_t < s.open_t {
            out.push(self.nodes(terms, s.undecided_t));
        } else {
            out.extend(self.sensors(terms, s));
        }
        out
    }

    /// A round that has begun waits for nodes.
    fn nodes(&self, terms: &Terms, t: u64) -> String {
        let absent: Vec<_> = terms
            .nodes
            .iter()
            .filter(|n| n.node != self.node && !self.peers.connected(&n.node))
            .map(|n| {
                self.registry
                    .nodes
                    .get(&n.node)
                    .map_or_else(|| n.node.hex(), |r| r.declaration.name.clone())
            })
            .collect();
        let who = if absent.is_empty() {
            "the other nodes".into()
        } else {
            format!("nodes that cannot be reached: {}", absent.join(", "))
        };
        format!("t {t} waits for {who}")
    }

    /// A window whose time is over waits for sensors. A count window is never due.
    fn sensors(&self, terms: &Terms, s: &AgreementStatus) -> Option<String> {
        let (_, end) = terms.window.span(s.open_t);
        let due = !matches!(terms.window, WindowSpec::Count { .. }) && self.now_s >= end;
        if !due || s.waiting_for.is_empty() {
            return None;
        }
        let label = |s: &SensorId| {
            self.registry
                .sensors
                .get(s)
                .map_or_else(|| s.hex(), |r| r.declaration.label.clone())
        };
        let named: Vec<_> = s.waiting_for.iter().take(NAMED_MAX).map(label).collect();
        let more = match s.waiting_for.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(format!(
            "window {} waits for a message at or after {end} of {}{more}",
            s.open_t,
            named.join(", ")
        ))
    }
}
