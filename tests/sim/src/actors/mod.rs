//! Byzantine nodes: a real core each, with an actor between it and the world that tampers with what goes in and out.
//! An actor signs with its own node's key only; that a signature cannot be forged is assumed, not simulated.

mod always_null;
mod echo;
mod equivocator;
mod forced_cut;
mod forger;
mod framer;
mod late_committer;
mod lying_status;
mod mute_leader;
mod nonce_bumper;
mod saboteur;
mod slow_leader;
mod two_lists;
mod withholder;
mod wrong_output;

pub use wrong_output::WrongOutput;

use crate::crypto::Party;
use crate::rng::Rng;
use crate::scenario::{ActorKind, ActorPlan};
use diversity_engine::api::{Effect, Input};
use diversity_proto::round::{Body, Commit, Computed, Reveal, Subject, seal_of};
use diversity_proto::terms::config;
use diversity_proto::wire::Part;
use diversity_proto::{AgreementId, Deployment, Digest, NodeId, Signature};
use std::collections::BTreeMap;

/// Of which round something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// `a`.
    pub agreement: AgreementId,
    /// Resolution epoch.
    pub epoch: u32,
    /// Execution.
    pub t: u64,
}

impl Place {
    /// The part that carries a body.
    pub fn part(self, body: Body) -> Part {
        Part::Round {
            agreement: self.agreement,
            epoch: self.epoch,
            t: self.t,
            body,
        }
    }
}

/// What an actor knows.
pub struct Context<'a> {
    /// World time, milliseconds.
    pub now: u64,
    /// Nodes of each agreement in node-index order.
    pub members: &'a BTreeMap<AgreementId, Vec<NodeId>>,
    /// Its own key.
    pub party: &'a Party,
    /// Chain and contract.
    pub deployment: Deployment,
    /// Chance of its own.
    pub rng: &'a mut Rng,
}

impl<'a> Context<'a> {
    /// Nodes of an agreement in node-index order.
    pub fn nodes(&self, a: &AgreementId) -> &'a [NodeId] {
        self.members.get(a).map_or(&[], Vec::as_slice)
    }
    /// Its own index in an agreement; beyond the end where it has no part in it.
    pub fn me(&self, a: &AgreementId) -> usize {
        self.index(a, &self.party.node())
    }
    /// The index of a node in an agreement; beyond the end where it has no part in it.
    pub fn index(&self, a: &AgreementId, node: &NodeId) -> usize {
        let at = self.nodes(a).iter().position(|n| n == node);
        at.unwrap_or(usize::MAX)
    }
    /// The other nodes of an agreement.
    pub fn others(&self, a: &AgreementId) -> impl Iterator<Item = NodeId> + use<'a> {
        let me = self.party.node();
        self.nodes(a).iter().copied().filter(move |n| *n != me)
    }
    /// The same parts to each of the others.
    pub fn to_all(&self, a: &AgreementId, parts: &[Part]) -> Vec<Effect> {
        let send = |to| Effect::Send {
            to,
            parts: parts.to_vec(),
        };
        self.others(a).map(send).collect()
    }
    /// The subject of a round.
    pub fn subject(&self, p: &Place) -> Subject {
        Subject {
            deployment: self.deployment,
            config: config(&self.deployment, &p.agreement, p.epoch),
            t: p.t,
        }
    }
    /// The seal over these commits.
    pub fn seal(&self, p: &Place, commits: &[Commit]) -> Digest {
        seal_of(&self.subject(p), self.nodes(&p.agreement), commits)
    }
    /// A correctly signed commit of this node to any values.
    pub fn commit_to(&self, p: &Place, computed: &Computed) -> Commit {
        let s = self.subject(p);
        let blinding = self.party.blinding(&s);
        let sign = |d: &Digest| self.party.sign(d);
        Commit::make(&s, &self.party.node(), computed, &blinding, sign)
    }
    /// The commit with this node's own signature.
    pub fn sign(&self, p: &Place, mut commit: Commit) -> Commit {
        let digest = commit.digest(&self.subject(p), &self.party.node());
        commit.signature = self.party.sign(&digest);
        commit
    }
    /// This node's own signature over the reveal.
    pub fn sign_reveal(&self, p: &Place, seal: &Digest, r: &Reveal) -> Signature {
        let outcome = r.outcome(p.agreement, p.epoch, p.t, seal);
        self.party.sign(&r.digest(&self.deployment, &outcome))
    }
}

/// A way of lying.
pub trait Actor: Send {
    /// Sees, and may change, what its core is told.
    fn input(&mut self, _c: &mut Context<'_>, _input: &mut Input) {}
    /// Gives what is carried out instead of this effect of its core.
    fn effect(&mut self, _c: &mut Context<'_>, effect: Effect) -> Vec<Effect> {
        vec![effect]
    }
    /// Gives what it does of its own accord after a step of its core.
    fn after(&mut self, _c: &mut Context<'_>) -> Vec<Effect> {
        Vec::new()
    }
}

/// The actor of a plan.
pub fn actor(plan: &ActorPlan) -> Box<dyn Actor> {
    match plan.kind {
        ActorKind::WrongOutput => Box::new(WrongOutput::new(plan.variant)),
        ActorKind::Equivocator => Box::new(equivocator::Equivocator::new(plan.variant)),
        ActorKind::Withholder => Box::new(withholder::Withholder::new(plan.variant)),
        ActorKind::Echo => Box::new(echo::Echo::new(plan.variant)),
        ActorKind::Saboteur => Box::new(saboteur::Saboteur::new(plan.variant)),
        ActorKind::AlwaysNull => Box::new(always_null::AlwaysNull),
        ActorKind::MuteLeader => Box::new(mute_leader::MuteLeader),
        ActorKind::SlowLeader => Box::new(slow_leader::SlowLeader::new(plan.variant)),
        ActorKind::NonceBumper => Box::new(nonce_bumper::NonceBumper::new(plan.variant)),
        ActorKind::ForcedCut => Box::new(forced_cut::ForcedCut::default()),
        ActorKind::Forger => Box::new(forger::Forger::new(plan.variant)),
        ActorKind::LyingStatus => Box::new(lying_status::LyingStatus::new(plan.variant)),
        ActorKind::LateCommitter => Box::new(late_committer::LateCommitter::new(plan.variant)),
        ActorKind::Framer => Box::new(framer::Framer::new(plan.variant)),
        ActorKind::TwoLists => Box::new(two_lists::TwoLists::new(plan.variant)),
    }
}

/// Applies `change` to every part that the effect sends; a part for which it gives nothing does not leave.
fn parts(effect: Effect, mut change: impl FnMut(NodeId, Part) -> Option<Part>) -> Vec<Effect> {
    match effect {
        Effect::Send { to, parts } => {
            let parts: Vec<_> = parts.into_iter().filter_map(|p| change(to, p)).collect();
            if parts.is_empty() {
                Vec::new()
            } else {
                vec![Effect::Send { to, parts }]
            }
        }
        other => vec![other],
    }
}

/// The same for the bodies of rounds alone; other parts leave as they are.
fn bodies(
    effect: Effect,
    mut change: impl FnMut(NodeId, Place, Body) -> Option<Body>,
) -> Vec<Effect> {
    parts(effect, |to, part| match part {
        Part::Round {
            agreement,
            epoch,
            t,
            body,
        } => {
            let place = Place {
                agreement,
                epoch,
                t,
            };
            change(to, place, body).map(|body| place.part(body))
        }
        other => Some(other),
    })
}

/// What a part says of a round.
fn body_of(part: &Part) -> Option<(Place, &Body)> {
    let Part::Round {
        agreement,
        epoch,
        t,
        body,
    } = part
    else {
        return None;
    };
    let place = Place {
        agreement: *agreement,
        epoch: *epoch,
        t: *t,
    };
    Some((place, body))
}
