//! Tries to make honest nodes look guilty: commits and reveals in their name under signatures that are none, and as a
//! coordinator other nonce sets for each, so that partial signatures of the honest do not add up.

use super::{Actor, Context, parts};
use diversity_engine::api::Effect;
use diversity_proto::round::Body;
use diversity_proto::wire::Part;

/// Frames others.
pub struct Framer {
    variant: u64,
}

impl Framer {
    /// The low bits choose how.
    pub fn new(variant: u64) -> Self {
        Self { variant }
    }

    fn frame(&self, c: &mut Context<'_>, mut part: Part) -> Part {
        let me = c.me(&part.agreement());
        match (&mut part, self.variant % 4) {
            (
                Part::Round {
                    body: Body::Seal { commits },
                    ..
                },
                0,
            ) => {
                for (_, k) in commits.iter_mut().enumerate().filter(|(i, _)| *i != me) {
                    k.commitment.0[0] ^= 1;
                }
            }
            (
                Part::Round {
                    body: Body::Certificate { reveals, .. },
                    ..
                },
                1,
            ) => {
                for (_, r) in reveals.iter_mut().enumerate().filter(|(i, _)| *i != me) {
                    r.from = r.from.wrapping_add(1);
                }
            }
            // A set of its own for each node: every partial is good, and none fits another.
            (Part::Nonces { nonces, .. }, 2) => {
                if let Some(own) = nonces.get_mut(me) {
                    own[40] ^= c.rng.below(255) as u8;
                }
            }
            // The nonces of others.
            (Part::Nonces { nonces, .. }, 3) => {
                for (_, n) in nonces.iter_mut().enumerate().filter(|(i, _)| *i != me) {
                    n[40] ^= 1;
                }
            }
            _ => {}
        }
        part
    }
}

impl Actor for Framer {
    fn effect(&mut self, c: &mut Context<'_>, effect: Effect) -> Vec<Effect> {
        parts(effect, |_, part| Some(self.frame(c, part)))
    }
}
