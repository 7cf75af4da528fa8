//! Signs reveals and spoils the aggregate: a bad partial, none at all, or nonces that change. Settlement must only get dearer.

use super::{Actor, Context, Place, parts};
use diversity_engine::api::Effect;
use diversity_proto::round::{Session, partial_digest};
use diversity_proto::wire::Part;
use diversity_proto::{AgreementId, Digest, NodeId};
use std::collections::BTreeMap;

/// Spoils MuSig2.
pub struct Saboteur {
    variant: u64,
    /// What the session's aggregate is over, as its own core was asked to sign it.
    digests: BTreeMap<Session, Digest>,
    /// The newest epoch in which its core committed.
    epochs: BTreeMap<AgreementId, u32>,
}

impl Saboteur {
    /// The low bits choose how.
    pub fn new(variant: u64) -> Self {
        Self {
            variant,
            digests: BTreeMap::new(),
            epochs: BTreeMap::new(),
        }
    }
    fn spoil(&self, c: &mut Context<'_>, _to: NodeId, part: Part) -> Option<Part> {
        match (part, self.variant % 5) {
            // Correctly signed envelope, wrong partial: it has an author.
            (
                Part::Partial {
                    session,
                    nonce_set,
                    mut partial,
                    ..
                },
                0 | 1,
            ) => {
                partial[5] ^= 1;
                let digest = self.digests.get(&session).copied().unwrap_or(Digest::ZERO);
                let place = Place {
                    agreement: session.agreement,
                    epoch: self.epochs.get(&session.agreement).copied().unwrap_or(0),
                    t: session.t,
                };
                let s = c.subject(&place);
                let signature = c.party.sign(&partial_digest(
                    &s,
                    &c.party.node(),
                    &digest,
                    &nonce_set,
                    &partial,
                ));
                Some(Part::Partial {
                    session,
                    nonce_set,
                    partial,
                    signature,
                })
            }
            (Part::Partial { .. }, 2) => None,
            (Part::Nonce { .. }, 3) => None,
            (Part::Nonce { session, mut nonce }, 4) => {
                nonce[40] ^= c.rng.below(3) as u8;
                Some(Part::Nonce { session, nonce })
            }
            (part, _) => Some(part),
        }
    }
}

impl Actor for Saboteur {
    fn effect(&mut self, c: &mut Context<'_>, effect: Effect) -> Vec<Effect> {
        if let Effect::MusigSign {
            session, digest, ..
        } = &effect
        {
            self.digests.insert(*session, *digest);
        }
        if let Effect::Commit {
            agreement, epoch, ..
        } = &effect
        {
            self.epochs.insert(*agreement, *epoch);
        }
        // Its core would add up the true partials, its own among them.
        if matches!(effect, Effect::MusigAggregate { .. }) {
            return Vec::new();
        }
        parts(effect, |to, part| self.spoil(c, to, part))
    }
}
