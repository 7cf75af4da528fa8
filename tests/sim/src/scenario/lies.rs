//! Who lies, and how.

use super::{AgreementPlan, Classes, Scenario};
use crate::actors::WrongOutput;
use crate::rng::Rng;

/// A Byzantine node's way of lying.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum ActorKind {
    WrongOutput,
    Equivocator,
    Withholder,
    Echo,
    Saboteur,
    AlwaysNull,
    MuteLeader,
    SlowLeader,
    NonceBumper,
    ForcedCut,
    Forger,
    LyingStatus,
    LateCommitter,
    Framer,
    TwoLists,
}

impl ActorKind {
    /// Those that the first engine stands.
    pub const EASY: [Self; 8] = [
        Self::WrongOutput,
        Self::Equivocator,
        Self::Withholder,
        Self::Echo,
        Self::Saboteur,
        Self::AlwaysNull,
        Self::MuteLeader,
        Self::SlowLeader,
    ];
    /// Those that it does not.
    pub const HARD: [Self; 6] = [
        Self::NonceBumper,
        Self::ForcedCut,
        Self::Forger,
        Self::LyingStatus,
        Self::LateCommitter,
        Self::Framer,
    ];
    /// Whether it spoils the aggregated signature, so that n signed reveals must settle.
    pub fn spoils_aggregate(self) -> bool {
        matches!(
            self,
            Self::Saboteur
                | Self::NonceBumper
                | Self::ForcedCut
                | Self::Framer
                | Self::MuteLeader
                | Self::SlowLeader
        )
    }
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let known = Self::EASY.into_iter().chain(Self::HARD);
        known.chain([Self::TwoLists])
    }
    /// Whether a hole may be its doing.
    pub fn makes_holes(self) -> bool {
        matches!(
            self,
            Self::WrongOutput
                | Self::Equivocator
                | Self::Echo
                | Self::AlwaysNull
                | Self::LateCommitter
                | Self::TwoLists
        )
    }
}

/// Who lies, how, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct ActorPlan {
    /// Node index.
    pub node: usize,
    /// How.
    pub kind: ActorKind,
    /// It behaves from `heal_at` on.
    pub reforms: bool,
    /// Chooses among the variants of the actor.
    pub variant: u64,
}

impl ActorPlan {
    /// Whether t must become final all the same, in an agreement that has this liar.
    pub fn spares(&self, t: u64, users: bool) -> bool {
        match self.kind {
            // Settlement only gets dearer, or later.
            ActorKind::Saboteur
            | ActorKind::MuteLeader
            | ActorKind::SlowLeader
            | ActorKind::NonceBumper
            | ActorKind::ForcedCut
            | ActorKind::Forger
            | ActorKind::LyingStatus
            | ActorKind::Framer => true,
            // Its trace differs, its state does not: holes.
            ActorKind::AlwaysNull => true,
            // Silence waits for the node (R5); a silent leader is followed by the next.
            ActorKind::Withholder => self.reforms || matches!(self.variant % 8, 4 | 5),
            // State apart: all after it waits for a word of the users.
            ActorKind::WrongOutput => {
                users
                    || self.variant & 7 != 7
                    || !(0..t).any(|t| WrongOutput::new(self.variant).lies_at(t))
            }
            // A reveal that speaks from another t is silence. After two commits or a false opening the parties must resolve.
            ActorKind::Equivocator => self.variant % 4 == 1 && self.reforms,
            // Whoever goes by a list that speaks of a message which nobody has waits for it as long as it lies; then the cuts may
            // differ, and the states with them.
            ActorKind::TwoLists => self.reforms && users,
            // Where the second commit comes before the seal that holds the first, nobody who saw it goes by that seal.
            ActorKind::Echo | ActorKind::LateCommitter => false,
        }
    }
}

impl Scenario {
    /// Some liars sign two lists instead; in a stream of its own, so that older seeds mean what they meant.
    pub(super) fn plan_lists(&mut self, rng: &mut Rng, classes: Classes) {
        let records = |a: &AgreementPlan| a.grace_s < 10;
        let some = self.agreements.iter().any(records);
        if let Some(actor) = self.actor.as_mut()
            && rng.chance(120)
            && some
            && classes.hard_actors
        {
            actor.kind = ActorKind::TwoLists;
        }
    }

    pub(super) fn plan_actor(&mut self, rng: &mut Rng, more: &mut Rng, classes: Classes) {
        if rng.chance(450) {
            self.actor = Some(ActorPlan {
                node: rng.index(self.nodes),
                kind: rng.pick(&ActorKind::EASY),
                reforms: rng.chance(500),
                variant: rng.below(1 << 16),
            });
        }
        let hard = more.pick(&ActorKind::HARD);
        if let Some(actor) = self.actor.as_mut().filter(|_| more.chance(500))
            && classes.hard_actors
        {
            actor.kind = hard;
        }
    }
}
