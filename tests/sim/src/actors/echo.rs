//! Copies what another node committed to and revealed instead of computing: its reveal can never open the copied commit,
//! because the commitment names the node.

use super::{Actor, Context, parts};
use diversity_engine::api::{Effect, Input};

use diversity_proto::round::{Commit, Reveal};
use diversity_proto::wire::Part;
use diversity_proto::{AgreementId, Digest};
use std::collections::BTreeMap;

/// Copies one victim.
pub struct Echo {
    variant: u64,
    commits: BTreeMap<(AgreementId, u64), Commit>,
    reveals: BTreeMap<(AgreementId, u64), Reveal>,
    /// What the others reveal under: the seal that holds the copied commit.
    seals: BTreeMap<(AgreementId, u64), Digest>,
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
    fn victim(&self, c: &Context<'_>, a: &AgreementId) -> usize {
        (c.me(a) + 1) % c.nodes(a).len()
    }
}

impl Actor for Echo {
    fn input(&mut self, c: &mut Context<'_>, input: &mut Input) {
        let Input::Message { from, parts } = input else {
            return;
        };
        for part in parts {
            let a = part.agreement();
            if c.me(&a) == usize::MAX {
                continue;
            }
            let victim = self.victim(c, &a);
            let is_victim = c.index(&a, from) == victim;
            match part {
                Part::Commit { t, commit, .. } if is_victim => {
                    self.commits.entry((a, *t)).or_insert(*commit);
                }
                Part::Seal { t, commits, .. } | Part::Certificate { t, commits, .. } => {
                    if let Some(commit) = commits.get(victim) {
                        self.commits.entry((a, *t)).or_insert(*commit);
                    }
                    if let Part::Certificate { t, reveals, .. } = part
                        && let Some(reveal) = reveals.get(victim)
                    {
                        self.reveals.entry((a, *t)).or_insert(reveal.clone());
                    }
                }
                Part::Reveal { t, reveal, .. } if is_victim => {
                    self.reveals.entry((a, *t)).or_insert(reveal.clone());
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
                    let copied = *self.commits.get(&(agreement, t))?;
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
                    if let Some(copied) = self.commits.get(&(agreement, t)) {
                        commits[c.me(&agreement)] = c.sign(&subject, *copied);
                    }
                    let seal = c.seal(&agreement, &subject, &commits);
                    self.seals.insert((agreement, t), seal);
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
                    if let Some(sent) = self.seals.get(&(agreement, t)) {
                        seal = *sent;
                    }
                    if self.variant & 1 == 1
                        && let Some(copied) = self.reveals.get(&(agreement, t))
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
