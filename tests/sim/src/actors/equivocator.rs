//! Shows different commits, or different reveals, to different peers.

use super::{Actor, Context, Place, bodies, body_of};
use diversity_engine::api::{Effect, Input, Submission};
use diversity_proto::NodeId;
use diversity_proto::round::{Body, Commit, Computed, OutputKind, Reveal};
use std::collections::BTreeMap;

/// Two-faced.
pub struct Equivocator {
    variant: u64,
    computed: BTreeMap<Place, Computed>,
}

impl Equivocator {
    /// The low bits choose what differs.
    pub fn new(variant: u64) -> Self {
        Self {
            variant,
            computed: BTreeMap::new(),
        }
    }
    fn two_commits(&self) -> bool {
        self.variant % 4 != 1
    }
    fn two_reveals(&self) -> bool {
        matches!(self.variant % 4, 1 | 3)
    }
    /// Peers with an odd index see the second face.
    fn second_face(c: &Context<'_>, place: &Place, to: NodeId) -> bool {
        c.index(&place.agreement, &to) % 2 == 1
    }
    fn other_commit(&self, c: &Context<'_>, place: &Place) -> Option<Commit> {
        let mut other = self.computed.get(place)?.clone();
        if other.kind == OutputKind::Value && !other.result.is_empty() {
            other.result[0] ^= 1;
        } else {
            other.trace.0[0] ^= 1;
        }
        Some(c.commit_to(place, &other))
    }
    /// The same computation, signed with another `from`: the commitment does not cover it.
    fn other_reveal(c: &Context<'_>, p: &Place, seal: &diversity_proto::Digest, r: &mut Reveal) {
        r.from = r.from.saturating_sub(1);
        r.holes.clear();
        r.signature = c.sign_reveal(p, seal, r);
    }

    /// A hole certificate that is none: the n reveals of a certificate, its own signed a second time over something else.
    fn forge_hole(c: &Context<'_>, place: Place, body: &Body) -> Option<Effect> {
        let Body::Certificate { commits, reveals } = body else {
            return None;
        };
        let seal = c.seal(&place, commits);
        let mut reveals = reveals.clone();
        let own = reveals.get_mut(c.me(&place.agreement))?;
        if place.t.is_multiple_of(2) {
            own.from = own.from.wrapping_add(1);
        } else {
            own.computed.trace.0[0] ^= 1;
        }
        own.signature = c.sign_reveal(&place, &seal, own);
        let submission = Submission::Hole {
            agreement: place.agreement,
            epoch: place.epoch,
            t: place.t,
            commits: commits.clone(),
            reveals,
        };
        Some(Effect::Submit {
            id: submission.id(),
            submission,
        })
    }

    /// What peers with an odd index see.
    fn other_face(&self, c: &Context<'_>, place: Place, body: Body) -> Body {
        let me = c.me(&place.agreement);
        match body {
            Body::Commit { commit } if self.two_commits() => Body::Commit {
                commit: self.other_commit(c, &place).unwrap_or(commit),
            },
            Body::Seal { mut commits } if self.two_commits() => {
                if let Some(other) = self.other_commit(c, &place) {
                    commits[me] = other;
                }
                Body::Seal { commits }
            }
            Body::Reveal { seal, mut reveal } if self.two_reveals() => {
                Self::other_reveal(c, &place, &seal, &mut reveal);
                Body::Reveal { seal, reveal }
            }
            Body::Certificate {
                commits,
                mut reveals,
            } if self.variant % 4 == 3 => {
                let seal = c.seal(&place, &commits);
                if let Some(own) = reveals.get_mut(me) {
                    Self::other_reveal(c, &place, &seal, own);
                }
                Body::Certificate { commits, reveals }
            }
            other => other,
        }
    }
}

impl Actor for Equivocator {
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
        let mut extra = Vec::new();
        if let (Effect::Send { parts, .. }, true) = (&effect, self.variant & 12 == 12) {
            let forged = parts.iter().filter_map(body_of);
            extra.extend(forged.filter_map(|(p, b)| Self::forge_hole(c, p, b)));
        }
        let mut out = bodies(effect, |to, place, body| {
            if Self::second_face(c, &place, to) {
                return Some(self.other_face(c, place, body));
            }
            // The second commit also goes straight to a peer that did not ask for it.
            if matches!(body, Body::Commit { .. }) && self.variant % 4 == 2 {
                let nodes = c.nodes(&place.agreement);
                let peer = nodes[c.rng.index(nodes.len())];
                let other = self.other_commit(c, &place);
                if let Some(commit) = other.filter(|_| peer != c.party.node()) {
                    extra.push(Effect::Send {
                        to: peer,
                        parts: vec![place.part(Body::Commit { commit })],
                    });
                }
            }
            Some(body)
        });
        out.extend(extra);
        out
    }
}
