//! What the first t that is not settled waits for, in words.

use diversity_engine::AgreementStatus;
use diversity_proto::terms::{Terms, WindowSpec};
use diversity_proto::time::Implausible;
use diversity_proto::{NodeId, SensorId};

use crate::node::peers::PeerMap;
use crate::node::registry::Registry;

/// Sensors named in one reason to wait.
const NAMED_MAX: usize = 10;

/// What is looked at, and when.
pub struct Sight<'a> {
    /// Names and labels.
    pub registry: &'a Registry,
    /// Who can be reached.
    pub peers: &'a PeerMap,
    /// Why the chain cannot be reached.
    pub trouble: Option<&'a str>,
    /// Submissions of this agreement that make no way: what they are, and why.
    pub stuck: Vec<(&'a str, &'a str)>,
    /// Unix seconds.
    pub now_s: u64,
}

impl Sight<'_> {
    /// Reasons to wait, the gravest first; none when nothing is due.
    pub fn waiting_for(&self, terms: &Terms, s: &AgreementStatus) -> Vec<String> {
        let mut out = Vec::new();
        if let Some(why) = &s.halted {
            out.push(format!("this node signs nothing more: {why}"));
        }
        if let Some(t) = s.blocked.filter(|_| s.waiting.state) {
            out.push(format!(
                "t {t} was read once more, and this node does not hold the state behind its cell: it asks the other nodes for it"
            ));
        } else if let Some(t) = s.blocked {
            out.push(format!(
                "the users must say what counts at t {t} (`diversity dispute resolve`): the nodes' states differ there"
            ));
            if !s.waiting.reading.is_empty() {
                out.push(format!(
                    "t {t} is read once more, which waits for {}",
                    self.names(&s.waiting.reading)
                ));
            }
        }
        if let Some(gas) = &s.gas {
            let hours = gas
                .until
                .saturating_sub(self.now_s * 1_000)
                .div_ceil(3_600_000);
            out.push(format!(
                "gas_budget: {} submissions wait: the agreement has cost this node {} gas today, of {} a day (gas_per_day); they go on in {hours} h, at midnight UTC, or another node settles",
                gas.waiting, gas.used, gas.per_day
            ));
        }
        for (label, why) in &self.stuck {
            out.push(format!("the chain does not take \"{label}\": {why}"));
        }
        if s.unsettled_t < s.undecided_t {
            let why = self.trouble.map_or_else(String::new, |t| format!(" ({t})"));
            out.push(format!(
                "t {} is decided and waits for the chain{why}",
                s.unsettled_t
            ));
        } else if s.undecided_t < s.open_t {
            out.push(self.nodes(s, s.undecided_t));
        } else if !s.ended {
            out.extend(self.sensors(terms, s));
        }
        if !s.ended {
            out.extend(self.wrong_times(s));
        }
        out
    }

    /// Sensors whose clocks are wrong end no window by their messages.
    fn wrong_times(&self, s: &AgreementStatus) -> Option<String> {
        let wrong = &s.waiting.wrong_times;
        let said = |(sensor, q, time): &(SensorId, u64, u64)| {
            let why = Implausible::look(*time, self.now_s);
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            format!("{} says {time} at q {q}{why}", self.label(sensor))
        };
        let all: Vec<_> = wrong.iter().map(said).collect();
        (!all.is_empty()).then(|| {
            format!(
                "implausible_time: the newest message of these sensors has a time that cannot be, and ends no window; set their clocks: {}",
                all.join("; ")
            )
        })
    }

    fn label(&self, s: &SensorId) -> String {
        let known = self.registry.sensors.get(s);
        known.map_or_else(|| s.hex(), |r| r.declaration.label.clone())
    }

    /// A round that has begun waits for nodes.
    fn nodes(&self, s: &AgreementStatus, t: u64) -> String {
        if s.waiting.nodes.is_empty() {
            return format!("t {t} is being executed, or its commit is being made");
        }
        format!("t {t} waits for {}", self.names(&s.waiting.nodes))
    }

    /// Nodes by name, those first that cannot be reached.
    fn names(&self, nodes: &[NodeId]) -> String {
        let name = |n: &&NodeId| {
            let known = self.registry.nodes.get(*n);
            known.map_or_else(|| n.hex(), |r| r.declaration.name.clone())
        };
        let (there, absent): (Vec<_>, Vec<_>) = nodes.iter().partition(|n| self.peers.connected(n));
        let list = |of: &[&NodeId]| of.iter().map(name).collect::<Vec<_>>().join(", ");
        match (&absent[..], &there[..]) {
            ([], there) => format!("nodes {}", list(there)),
            (absent, []) => format!("nodes that cannot be reached: {}", list(absent)),
            (absent, there) => format!(
                "nodes that cannot be reached: {}; and nodes {}",
                list(absent),
                list(there)
            ),
        }
    }

    /// A window whose time is over waits for sensors, and past the grace for what the nodes hold. A count window is never due.
    fn sensors(&self, terms: &Terms, s: &AgreementStatus) -> Option<String> {
        let t = s.open_t;
        if !s.waiting.held.is_empty() {
            return Some(format!(
                "window {t} is past the grace, and waits for the lists of what they hold of {}",
                self.names(&s.waiting.held)
            ));
        }
        let (_, end) = terms.window.span(t);
        let due = !matches!(terms.window, WindowSpec::Count { .. }) && self.now_s >= end;
        if !due || s.waiting.sensors.is_empty() {
            return None;
        }
        let sensors = &s.waiting.sensors;
        let named: Vec<_> = sensors
            .iter()
            .take(NAMED_MAX)
            .map(|s| self.label(s))
            .collect();
        let more = match sensors.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(format!(
            "window {t} waits for a message at or after {end} of {}{more}; {} s after its end a record of what all nodes hold ends it",
            named.join(", "),
            terms.grace_s
        ))
    }
}
