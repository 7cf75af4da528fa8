//! Shows different commits, or different reveals, to different peers.

use super::{Actor, Context, parts};
use diversity_engine::api::{Effect, Evidence, Input, Submission};
use diversity_proto::round::{Commit, Computed, OutputKind, Reveal};
use diversity_proto::wire::Part;
use diversity_proto::{AgreementId, NodeId};
use std::collections::BTreeMap;

/// Two-faced.
pub struct Equivocator {
    variant: u64,
    computed: BTreeMap<(AgreementId, u64), Computed>,
}

impl Equivocator {
    /// The low bits choose what differs.
    pub fn new(variant: u64) -> Self {
        Self {
            variant,
            computed: BTreeMap::new(),
        }
    }
    /// Peers with an odd index see the second face.
    fn second_face(&self, c: &Context<'_>, a: &AgreementId, to: NodeId) -> bool {
        c.index(a, &to) % 2 == 1
    }
    fn other_commit(&self, c: &Context<'_>, a: &AgreementId, epoch: u32, t: u64) -> Option<Commit> {
        let mut other = self.computed.get(&(*a, t))?.clone();
        if other.kind == OutputKind::Value && !other.result.is_empty() {
            other.result[0] ^= 1;
        } else {
            other.trace.0[0] ^= 1;
        }
        Some(c.commit_to(&c.subject(a, epoch, t), &other))
    }
    /// The same computation, signed with another `from`: the commitment does not cover it.
    fn other_reveal(
        &self,
        c: &Context<'_>,
        a: &AgreementId,
        epoch: u32,
        t: u64,
        seal: &diversity_proto::Digest,
        r: &mut Reveal,
    ) {
        r.from = r.from.saturating_sub(1);
        r.holes.clear();
        r.signature = c
            .party
            .sign(&r.digest(&c.deployment, &r.outcome(*a, epoch, t, seal)));
    }
}

impl Equivocator {
    /// Evidence of a hole that is none: the n reveals of a certificate, its own signed a second time over something else. The
    /// contract cannot tell; no honest node may go by it.
    fn forge_hole(&self, c: &Context<'_>, part: &Part) -> Option<Effect> {
        let Part::Certificate {
            agreement,
            epoch,
            t,
            commits,
            reveals,
        } = part
        else {
            return None;
        };
        let s = c.subject(agreement, *epoch, *t);
        let seal = c.seal(agreement, &s, commits);
        let mut reveals = reveals.clone();
        let own = reveals.get_mut(c.me(agreement))?;
        if t % 2 == 0 {
            own.from = own.from.wrapping_add(1);
        } else {
            own.computed.trace.0[0] ^= 1;
        }
        own.signature = c
            .party
            .sign(&own.digest(&c.deployment, &own.outcome(*agreement, *epoch, *t, &seal)));
        let evidence = Evidence::UnequalReveals {
            commits: commits.clone(),
            reveals,
            seal,
        };
        let submission = Submission::Dispute {
            epoch: *epoch,
            t: *t,
            evidence,
        };
        Some(Effect::Submit {
            agreement: *agreement,
            submission,
        })
    }
}

impl Actor for Equivocator {
    fn input(&mut self, _c: &mut Context<'_>, input: &mut Input) {
        if let Input::Executed {
            agreement,
            t,
            execution,
        } = input
        {
            let computed = execution.computed.clone();
            self.computed.insert((*agreement, *t), computed);
        }
    }
    fn effect(&mut self, c: &mut Context<'_>, effect: Effect) -> Vec<Effect> {
        let (commits, reveals) = (
            self.variant % 4 != 1,
            self.variant % 4 == 1 || self.variant % 4 == 3,
        );
        let mut extra = Vec::new();
        if let (Effect::Send { parts, .. }, true) = (&effect, self.variant & 12 == 12) {
            extra.extend(parts.iter().filter_map(|p| self.forge_hole(c, p)));
        }
        let mut out = parts(effect, |to, part| {
            if !self.second_face(c, &part.agreement(), to) {
                // The second commit also goes straight to a peer that did not ask for it.
                if let (
                    Part::Commit {
                        agreement,
                        epoch,
                        t,
                        ..
                    },
                    2,
                ) = (&part, self.variant % 4)
                {
                    let nodes = c.nodes(agreement);
                    let peer = nodes[c.rng.index(nodes.len())];
                    if let Some(commit) = self
                        .other_commit(c, agreement, *epoch, *t)
                        .filter(|_| peer != c.party.node())
                    {
                        let part = Part::Commit {
                            agreement: *agreement,
                            epoch: *epoch,
                            t: *t,
                            commit,
                        };
                        extra.push(Effect::Send {
                            to: peer,
                            parts: vec![part],
                        });
                    }
                }
                return Some(part);
            }
            Some(match part {
                Part::Commit {
                    agreement,
                    epoch,
                    t,
                    commit,
                } if commits => {
                    let commit = self.other_commit(c, &agreement, epoch, t).unwrap_or(commit);
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
                } if self.variant % 4 != 1 => {
                    if let Some(other) = self.other_commit(c, &agreement, epoch, t) {
                        commits[c.me(&agreement)] = other;
                    }
                    Part::Seal {
                        agreement,
                        epoch,
                        t,
                        commits,
                    }
                }
                Part::Reveal {
                    agreement,
                    epoch,
                    t,
                    seal,
                    mut reveal,
                } if reveals => {
                    self.other_reveal(c, &agreement, epoch, t, &seal, &mut reveal);
                    Part::Reveal {
                        agreement,
                        epoch,
                        t,
                        seal,
                        reveal,
                    }
                }
                Part::Certificate {
                    agreement,
                    epoch,
                    t,
                    commits,
                    mut reveals,
                } if self.variant % 4 == 3 => {
                    let s = c.subject(&agreement, epoch, t);
                    let seal = c.seal(&agreement, &s, &commits);
                    if let Some(own) = reveals.get_mut(c.me(&agreement)) {
                        self.other_reveal(c, &agreement, epoch, t, &seal, own);
                    }
                    Part::Certificate {
                        agreement,
                        epoch,
                        t,
                        commits,
                        reveals,
                    }
                }
                other => other,
            })
        });
        out.extend(extra);
        out
    }
}
