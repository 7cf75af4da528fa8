//! Withholds its reveal, shows one peer a second commit for the same t, and reveals after all when that is on record (T12).

use super::{Actor, Context, Place, bodies};
use diversity_engine::api::{Effect, Input};
use diversity_proto::NodeId;
use diversity_proto::round::{Body, Computed};
use std::collections::{BTreeMap, BTreeSet};

/// Commits twice, late, to one peer alone.
pub struct LateCommitter {
    delay_ms: u64,
    computed: BTreeMap<Place, Computed>,
    held: Vec<(u64, NodeId, Place, Body)>,
    shown: BTreeSet<Place>,
}

impl LateCommitter {
    /// The low bits choose how late it reveals.
    pub fn new(variant: u64) -> Self {
        Self {
            delay_ms: 200 + variant % 4_000,
            computed: BTreeMap::new(),
            held: Vec::new(),
            shown: BTreeSet::new(),
        }
    }

    fn show(&mut self, c: &Context<'_>, place: Place) -> Option<Effect> {
        if !self.shown.insert(place) {
            return None;
        }
        let mut other = self.computed.get(&place)?.clone();
        other.trace.0[0] ^= 1;
        let commit = c.commit_to(&place, &other);
        Some(Effect::Send {
            to: c.others(&place.agreement).next()?,
            parts: vec![place.part(Body::Commit { commit })],
        })
    }
}

impl Actor for LateCommitter {
    fn input(&mut self, _c: &mut Context<'_>, input: &mut Input) {
        if let Input::Executed {
            agreement,
            epoch,
            t,
            execution,
        } = input
        {
            let place = Place {
                agreement: *agreement,
                epoch: *epoch,
                t: *t,
            };
            self.computed.insert(place, execution.computed.clone());
        }
    }

    fn effect(&mut self, c: &mut Context<'_>, effect: Effect) -> Vec<Effect> {
        let due = c.now + self.delay_ms;
        let mut extra = Vec::new();
        let mut out = bodies(effect, |to, place, body| {
            let late = matches!(body, Body::Reveal { .. } | Body::Certificate { .. });
            if !late {
                return Some(body);
            }
            extra.extend(self.show(c, place));
            self.held.push((due, to, place, body));
            None
        });
        out.extend(extra);
        out
    }

    fn after(&mut self, c: &mut Context<'_>) -> Vec<Effect> {
        let due: Vec<_> = self.held.extract_if(.., |h| h.0 <= c.now).collect();
        let send = |(_, to, place, body): (u64, NodeId, Place, Body)| Effect::Send {
            to,
            parts: vec![place.part(body)],
        };
        due.into_iter().map(send).collect()
    }
}
