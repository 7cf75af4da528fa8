//! Leads, but late: what it sends as a leader arrives when another one may have taken over.

use super::{Actor, Context};
use diversity_engine::api::Effect;
use diversity_proto::NodeId;
use diversity_proto::round::Body;
use diversity_proto::wire::Part;

/// Holds back what only a leader sends.
pub struct SlowLeader {
    delay_ms: u64,
    held: Vec<(u64, NodeId, Part)>,
}

impl SlowLeader {
    /// The low bits choose how late.
    pub fn new(variant: u64) -> Self {
        Self {
            delay_ms: 50 + variant % 2_000,
            held: Vec::new(),
        }
    }
}

impl Actor for SlowLeader {
    fn effect(&mut self, c: &mut Context<'_>, effect: Effect) -> Vec<Effect> {
        let Effect::Send { to, parts } = effect else {
            return vec![effect];
        };
        let leads = |p: &Part| {
            matches!(
                p,
                Part::Round {
                    body: Body::Seal { .. } | Body::Certificate { .. },
                    ..
                } | Part::Nonces { .. }
            )
        };
        let (late, parts): (Vec<_>, Vec<_>) = parts.into_iter().partition(leads);
        let due = c.now + self.delay_ms;
        self.held.extend(late.into_iter().map(|p| (due, to, p)));
        if parts.is_empty() {
            Vec::new()
        } else {
            vec![Effect::Send { to, parts }]
        }
    }

    fn after(&mut self, c: &mut Context<'_>) -> Vec<Effect> {
        let due: Vec<_> = self.held.extract_if(.., |h| h.0 <= c.now).collect();
        due.into_iter()
            .map(|(_, to, part)| Effect::Send {
                to,
                parts: vec![part],
            })
            .collect()
    }
}
