//! Copies what another node committed to and revealed instead of computing: its reveal can never open the copied commit,
//! because the commitment names the node.

use super::{Actor, Context, Place, bodies, body_of};
use diversity_engine::api::{Effect, Input};
use diversity_proto::round::{Body, Commit, Reveal};
use diversity_proto::{AgreementId, Digest};
use std::collections::BTreeMap;

/// Copies one victim.
pub struct Echo {
    variant: u64,
    commits: BTreeMap<Place, Commit>,
    reveals: BTreeMap<Place, Reveal>,
    /// What the others reveal under: the seal that holds the copied commit.
    seals: BTreeMap<Place, Digest>,
}

impl Echo {
    /// The low bits choose what it copies.
    pub fn new(variant: u64) -> Self {
        Self {
            variant,
            commits: BTreeMap::new(),
            reveals: BTreeMap::new(),
            seals: BTreeMap::new(),
        }
    }
    fn victim(&self, c: &Context<'_>, a: &AgreementId) -> Option<usize> {
        let me = c.me(a);
        (me != usize::MAX).then(|| (me + 1) % c.nodes(a).len())
    }
}

impl Actor for Echo {
    fn input(&mut self, c: &mut Context<'_>, input: &mut Input) {
        let Input::Message { from, parts } = input else {
            return;
        };
        for (place, body) in parts.iter().filter_map(body_of) {
            let Some(victim) = self.victim(c, &place.agreement) else {
                continue;
            };
            let is_victim = c.index(&place.agreement, from) == victim;
            let (mut commit, mut reveal) = (None, None);
            match body {
                Body::Commit { commit: k } if is_victim => commit = Some(k),
                Body::Reveal { reveal: r, .. } if is_victim => reveal = Some(r),
                Body::Seal { commits } => commit = commits.get(victim),
                Body::Certificate { commits, reveals } => {
                    (commit, reveal) = (commits.get(victim), reveals.get(victim));
                }
                _ => {}
            }
            if let Some(commit) = commit {
                self.commits.entry(place).or_insert(*commit);
            }
            if let Some(reveal) = reveal {
                self.reveals.entry(place).or_insert(reveal.clone());
            }
        }
    }

    fn effect(&mut self, c: &mut Context<'_>, effect: Effect) -> Vec<Effect> {
        bodies(effect, |_, place, body| {
            Some(match body {
                // Waits with its own commit until it has one to copy.
                Body::Commit { .. } => {
                    let commit = c.sign(&place, *self.commits.get(&place)?);
                    Body::Commit { commit }
                }
                Body::Seal { mut commits } => {
                    if let Some(copied) = self.commits.get(&place) {
                        commits[c.me(&place.agreement)] = c.sign(&place, *copied);
                    }
                    self.seals.insert(place, c.seal(&place, &commits));
                    Body::Seal { commits }
                }
                // Either its own opening under the copied commit, or the victim's whole reveal, signed anew.
                Body::Reveal {
                    mut seal,
                    mut reveal,
                } => {
                    if let Some(sent) = self.seals.get(&place) {
                        seal = *sent;
                    }
                    if self.variant & 1 == 1
                        && let Some(copied) = self.reveals.get(&place)
                    {
                        reveal = copied.clone();
                    }
                    reveal.signature = c.sign_reveal(&place, &seal, &reveal);
                    Body::Reveal { seal, reveal }
                }
                other => other,
            })
        })
    }
}
