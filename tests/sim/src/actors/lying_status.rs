//! Claims to hold everything and serves nothing: whoever asks it alone never gets what it lacks (T4).

use super::{Actor, Context, parts};
use diversity_engine::api::Effect;
use diversity_proto::wire::Part;

/// Lies about what it holds.
pub struct LyingStatus {
    variant: u64,
}

impl LyingStatus {
    /// The low bits choose the claim.
    pub fn new(variant: u64) -> Self {
        Self { variant }
    }
}

impl Actor for LyingStatus {
    fn effect(&mut self, _c: &mut Context<'_>, effect: Effect) -> Vec<Effect> {
        if matches!(effect, Effect::ServeFrames { .. } | Effect::Gossip { .. }) {
            return Vec::new();
        }
        parts(effect, |_, mut part| {
            if let Part::Status { next_q, next_t, .. } = &mut part {
                match self.variant % 3 {
                    0 => next_q.fill(1 << 40),
                    1 => next_q.iter_mut().for_each(|q| *q += 1_000),
                    _ => {
                        next_q.fill(u64::MAX);
                        *next_t = u64::MAX;
                    }
                }
            }
            Some(part)
        })
    }
}
