//! Copies what another node committed to and revealed instead of computing: its reveal can never open the copied commit,
//! because the commitment names the node.

use super::{Actor, Context, parts};
use diversity_engine::api::{Effect, Input};
use diversity_proto::Digest;
use diversity_proto::round::{Commit, Reveal, seal};
use diversity_proto::wire::Part;
use std::collections::BTreeMap;

/// Copies one victim.
pub struct Echo {
    variant: u64,
    commits: BTreeMap<u64, Commit>,
    reveals: BTreeMap<u64, Reveal>,
    /// What the others reveal under: the seal that holds the copied commit.
    seals: BTreeMap<u64, Digest>,
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
    fn victim(&self, c: &Context<'_>) -> usize {
        (c.me + 1) % c.nodes.len()
    }
}

impl Actor for Echo {
    fn input(&mut self, c: &mut Context<'_>, input: &mut Input) {
        let Input::Message { from, parts } = input else {
            return;
        };
        let victim = self.victim(c);
        for part in parts {
            match part {
                Part::Commit { t, commit, .. } if *from == c.nodes[victim] => {
                    self.commits.entry(*t).or_insert(*commit);
                }
                Part::Seal { t, commits, .. } | Part::Certificate { t, commits, .. } => {
                    if let Some(commit) = commits.get(victim) {
                        self.commits.entry(*t).or_insert(*commit);
                    }
                    if let Part::Certificate { t, reveals, .. } = part
                        && let Some(reveal) = reveals.get(victim)
                    {
                        self.reveals.entry(*t).or_insert(reveal.clone());
                    }
                }
                Part::Reveal { t, reveal, .. } if *from == c.nodes[victim] => {
                    self.reveals.entry(*t).or_insert(reveal.clone());
                }
                _ => {}
            }
        }
    }

    fn effect(&mut self, c: &mut Context<'_>, effect: Effect) -> Vec<Effect> {
        parts(effect, |_, part| {
            Some(match part {
                // Waits with its own commit until it has one to copy.
                Part::Commit {
                    agreement,
                    epoch,
                    t,
                    ..
                } => {
                    let copied = *self.commits.get(&t)?;
                    let commit = c.sign(&c.subject(&agreement, epoch, t), copied);
                    Part::Commit {
                        agreement,
                        epoch,
                        t,
                        commit,
                    }
                }
                Part::Seal {
                    agreement,
                    epoch,
                    t,
                    mut commits,
                } => {
                    let subject = c.subject(&agreement, epoch, t);
                    if let Some(copied) = self.commits.get(&t) {
                        commits[c.me] = c.sign(&subject, *copied);
                    }
                    let digests: Vec<_> = commits
                        .iter()
                        .zip(c.nodes)
                        .map(|(k, n)| k.digest(&subject, n))
                        .collect();
                    self.seals.insert(t, seal(&subject, &digests));
                    Part::Seal {
                        agreement,
                        epoch,
                        t,
                        commits,
                    }
                }
                // Either its own opening under the copied commit, or the victim's whole reveal, signed anew.
                Part::Reveal {
                    agreement,
                    epoch,
                    t,
                    mut seal,
                    mut reveal,
                } => {
                    if let Some(sent) = self.seals.get(&t) {
                        seal = *sent;
                    }
                    if self.variant & 1 == 1
                        && let Some(copied) = self.reveals.get(&t)
                    {
                        reveal = copied.clone();
                    }
                    let outcome = reveal.outcome(agreement, epoch, t, &seal);
                    reveal.signature = c.party.sign(&reveal.digest(&c.deployment, &outcome));
                    Part::Reveal {
                        agreement,
                        epoch,
                        t,
                        seal,
                        reveal,
                    }
                }
                other => other,
            })
        })
    }
}
