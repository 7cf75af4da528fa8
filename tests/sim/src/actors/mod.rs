//! Byzantine nodes: a real core each, with an actor between it and the world that tampers with what goes in and out.
//! An actor signs with its own node's key only; that a signature cannot be forged is assumed, not simulated.

mod echo;
mod equivocator;
mod saboteur;
mod withholder;
mod wrong_output;

pub use wrong_output::WrongOutput;

use crate::crypto::Party;
use crate::rng::Rng;
use crate::scenario::{ActorKind, ActorPlan};
use diversity_engine::api::{Effect, Input};
use diversity_proto::round::{Commit, Computed, Subject, opening_hash};
use diversity_proto::terms::config;
use diversity_proto::wire::Part;
use diversity_proto::{AgreementId, Deployment, NodeId};

/// What an actor knows.
pub struct Context<'a> {
    /// Its own index.
    pub me: usize,
    /// Node-index order.
    pub nodes: &'a [NodeId],
    /// Its own key.
    pub party: &'a Party,
    /// Chain and contract.
    pub deployment: Deployment,
    /// Chance of its own.
    pub rng: &'a mut Rng,
}

impl Context<'_> {
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
}

/// The actor of a plan.
pub fn actor(plan: &ActorPlan) -> Box<dyn Actor> {
    match plan.kind {
        ActorKind::WrongOutput => Box::new(WrongOutput::new(plan.variant)),
        ActorKind::Equivocator => Box::new(equivocator::Equivocator::new(plan.variant)),
        ActorKind::Withholder => Box::new(withholder::Withholder::new(plan.variant)),
        ActorKind::Echo => Box::new(echo::Echo::new(plan.variant)),
        ActorKind::Saboteur => Box::new(saboteur::Saboteur::new(plan.variant)),
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
