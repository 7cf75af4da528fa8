//! Alters the unsigned parts of what it relays: in a certificate the secrets of others, which no signature covers (T1, T1b). What it
//! keeps it hands out as it is, or it would only be silent.

use super::{Actor, Context, Place, bodies};
use diversity_engine::api::Effect;
use diversity_proto::NodeId;
use diversity_proto::round::{Body, Reveal};

/// Forges certificates.
pub struct Forger {
    variant: u64,
}

impl Forger {
    /// The low bits choose whose reveal it alters, and how.
    pub fn new(variant: u64) -> Self {
        Self { variant }
    }

    fn alter(&self, r: &mut Reveal) {
        match self.variant / 4 % 3 {
            0 => r.blinding.secret[0] ^= 1,
            1 => r.blinding.salt[31] ^= 1,
            _ => r.computed.trace.0[0] ^= 1,
        }
    }

    fn forge(&self, c: &mut Context<'_>, to: NodeId, place: Place, body: Body) -> Body {
        let Body::Certificate {
            commits,
            mut reveals,
        } = body
        else {
            return body;
        };
        let a = &place.agreement;
        let (me, to) = (c.me(a), c.index(a, &to));
        for (i, r) in reveals.iter_mut().enumerate().filter(|(i, _)| *i != me) {
            let chosen = match self.variant % 4 {
                // The receiver's own reveal: is its store older than what it signed?
                0 => i == to,
                // Another honest node's: did it lie?
                1 => i != to,
                2 => true,
                _ => c.rng.chance(300),
            };
            if chosen {
                self.alter(r);
            }
        }
        Body::Certificate { commits, reveals }
    }
}

impl Actor for Forger {
    fn effect(&mut self, c: &mut Context<'_>, effect: Effect) -> Vec<Effect> {
        bodies(effect, |to, place, body| {
            Some(self.forge(c, to, place, body))
        })
    }
}
