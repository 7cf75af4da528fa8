//! Keeps back what others wait for: never reveals, or is silent in random phases. It is unavailable, never to blame.

use super::{Actor, Context, body_of, parts};
use diversity_engine::api::Effect;
use diversity_proto::round::Body;
use diversity_proto::wire::Part;

/// Stays silent in some phases.
pub struct Withholder {
    variant: u64,
}

impl Withholder {
    /// The low bits choose the phases.
    pub fn new(variant: u64) -> Self {
        Self { variant }
    }
    fn withholds(&self, part: &Part, chance: bool) -> bool {
        let body = body_of(part).map(|(_, body)| body);
        match self.variant % 8 {
            // Learns what all others computed and says nothing.
            0 | 1 => matches!(body, Some(Body::Reveal { .. })),
            // The same, and as a leader keeps the certificate to itself.
            2 => matches!(body, Some(Body::Reveal { .. } | Body::Certificate { .. })),
            3 => matches!(body, Some(Body::Commit { .. })),
            4 => matches!(body, Some(Body::Seal { .. })),
            5 => {
                matches!(body, Some(Body::Certificate { .. }))
                    || matches!(part, Part::Aggregate { .. })
            }
            6 => chance,
            // Helps nobody with frames or states either.
            _ => true,
        }
    }
}

impl Actor for Withholder {
    fn effect(&mut self, c: &mut Context<'_>, effect: Effect) -> Vec<Effect> {
        match effect {
            Effect::Gossip { .. } | Effect::ServeFrames { .. } | Effect::SendStored { .. }
                if self.variant % 8 == 7 =>
            {
                Vec::new()
            }
            // The last revealer keeps its certificate from the chain too.
            Effect::Submit { .. } => Vec::new(),
            other => parts(other, |_, part| {
                let chance = c.rng.chance(500);
                (!self.withholds(&part, chance)).then_some(part)
            }),
        }
    }
}
