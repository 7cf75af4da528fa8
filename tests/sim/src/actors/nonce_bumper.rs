//! Refuses to aggregate, and opens attempt after attempt so that the fallback to n reveals never comes (T2, T3).

use super::{Actor, Context, parts};
use diversity_engine::api::Effect;
use diversity_proto::round::Session;
use diversity_proto::wire::Part;
use std::collections::BTreeMap;

/// Bumps attempts.
pub struct NonceBumper {
    /// Milliseconds between bumps, and attempts of each.
    pause_ms: u64,
    step: u32,
    next_at: u64,
    /// The newest attempt of each range that it spoke of.
    attempts: BTreeMap<(diversity_proto::AgreementId, u64, u64), u32>,
}

impl NonceBumper {
    /// The low bits choose how often and how far.
    pub fn new(variant: u64) -> Self {
        Self {
            pause_ms: [20, 100, 400][(variant % 3) as usize],
            step: [1, 1, 50][(variant / 3 % 3) as usize],
            next_at: 0,
            attempts: BTreeMap::new(),
        }
    }
}

impl Actor for NonceBumper {
    fn effect(&mut self, _c: &mut Context<'_>, effect: Effect) -> Vec<Effect> {
        if let Effect::MusigNonce { session: s } = &effect {
            self.attempts
                .entry((s.agreement, s.from, s.t))
                .or_insert(s.attempt);
        }
        parts(effect, |_, part| {
            let helps = matches!(
                part,
                Part::Nonce { .. }
                    | Part::Nonces { .. }
                    | Part::Partial { .. }
                    | Part::Aggregate { .. }
            );
            (!helps).then_some(part)
        })
    }

    fn after(&mut self, c: &mut Context<'_>) -> Vec<Effect> {
        if c.now < self.next_at {
            return Vec::new();
        }
        self.next_at = c.now + self.pause_ms;
        let mut out = Vec::new();
        // The newest ranges only: the others have settled.
        for ((agreement, from, t), attempt) in self.attempts.iter_mut().rev().take(4) {
            *attempt = attempt.saturating_add(self.step);
            let session = Session {
                agreement: *agreement,
                from: *from,
                t: *t,
                attempt: *attempt,
            };
            let nonce = Part::Nonce {
                session,
                nonce: [3; 66],
            };
            out.extend(c.to_all(agreement, &[nonce]));
        }
        out
    }
}
