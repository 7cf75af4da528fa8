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
mod withholder;
mod wrong_output;

pub use wrong_output::WrongOutput;

use crate::crypto::Party;
use crate::rng::Rng;
use crate::scenario::{ActorKind, ActorPlan};
use diversity_engine::api::{Effect, Input};
use diversity_proto::round::{Commit, Computed, Subject, opening_hash, seal};
use diversity_proto::terms::config;
use diversity_proto::wire::Part;
use diversity_proto::{AgreementId, Deployment, Digest, NodeId};
use std::collections::BTreeMap;

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
    /// The seal over these commits.
    pub fn seal(&self, a: &AgreementId, s: &Subject, commits: &[Commit]) -> Digest {
        let digests: Vec<_> = commits
            .iter()
            .zip(self.nodes(a))
            .map(|(k, n)| k.digest(s, n))
            .collect();
        seal(s, &digests)
    }
    /// The subject of (a, epoch, t).
    pub fn subject(&self, a: &AgreementId, epoch: u32, t: u64) -> Subject {
        Subject {
            deployment: self.deployment,
            config: config(&self.deployment, a, epoch),
            t,
        }
    }
    /// A correctly signed commit of this node to any values.
    pub fn commit_to(&self, s: &Subject, computed: &Computed) -> Commit {
        let (secret, salt) = self.party.secret_salt(s);
        let commitment = computed.commitment(s, &self.party.node(), &secret, &salt);
        self.sign(
            s,
            Commit {
                commitment,
                opening: opening_hash(&secret, &salt),
                signature: diversity_proto::Signature([0; 64]),
            },
        )
    }
    /// The commit with this node's own signature.
    pub fn sign(&self, s: &Subject, mut commit: Commit) -> Commit {
        commit.signature = self.party.sign(&commit.digest(s, &self.party.node()));
        commit
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
