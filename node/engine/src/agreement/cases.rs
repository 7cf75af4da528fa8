//! Holes, their doors, and what is said of them later (design §3b): every hole can end.

use crate::agreement::Cx;
use crate::agreement::rounds::Certified;
use crate::agreement::timers::Timer;
use crate::alloc_prelude::*;
use crate::api::{Evidence, Resolution, Submission};
use diversity_proto::cell::CellState;
use diversity_proto::round::{Commit, Reveal};
use diversity_proto::{Digest, NodeId};

/// A hole whose door is not final yet.
struct Case {
    epoch: u32,
    /// First t of which its reveals speak.
    from: u64,
    commits: Vec<Commit>,
    reveals: Vec<Reveal>,
    submitted: bool,
}

/// What the chain says that the nodes did not agree on.
#[derive(Clone, Debug)]
pub(crate) enum Word {
    /// The users settled t themselves, and put this epoch in force.
    InBand(u32, Resolution),
    /// The cell of t; where nodes wrote it, with the context of its outcome.
    Cell(Resolution, Digest),
}

impl Word {
    /// What counts.
    pub fn resolution(&self) -> &Resolution {
        match self {
            Self::InBand(_, r) | Self::Cell(r, _) => r,
        }
    }
}

/// The holes of an agreement and the words on them.
#[derive(Default)]
pub(crate) struct Cases {
    open: BTreeMap<u64, Case>,
    words: BTreeMap<u64, Word>,
    accused: BTreeSet<(u32, u64, NodeId, u8)>,
}

impl Cases {
    /// n unequal reveals: t is a hole. Its door is owed from now on (P-DOOR-1).
    pub fn opened(&mut self, c: &Certified, epoch: u32) {
        self.open.insert(
            c.t,
            Case {
                epoch,
                from: c.reveals[0].from,
                commits: c.commits.clone(),
                reveals: c.reveals.clone(),
                submitted: false,
            },
        );
    }

    /// The chain is this far: doors below are final; those that it could take now are submitted, by one node after the other.
    pub fn advance(&mut self, chain_next: u64, cx: &mut Cx<'_>) {
        self.open.retain(|t, _| *t >= chain_next);
        cx.timers
            .retain(|x| !matches!(x, Timer::Door(t) if *t < chain_next));
        for (t, case) in &self.open {
            if case.from <= chain_next && !case.submitted {
                let distance = cx.setting.distance(cx.setting.submitter(*t));
                let due = cx.io.now + distance * cx.io.config.settle_stage_ms;
                cx.timers.start(Timer::Door(*t), due);
            }
        }
    }

    /// This node may submit the door of t.
    pub fn submit(&mut self, t: u64, cx: &mut Cx<'_>) {
        if let Some(case) = self.open.get_mut(&t).filter(|c| !c.submitted) {
            case.submitted = true;
            cx.io.submit(Submission::Hole {
                agreement: cx.setting.id,
                epoch: case.epoch,
                t,
                commits: case.commits.clone(),
                reveals: case.reveals.clone(),
            });
        }
    }

    /// The chain says what counts at t; returns whether that is new.
    pub fn say(&mut self, t: u64, word: Word) -> bool {
        // R12: what was said first stays. A word in band is the door itself; behind it a cell says nothing new.
        let known = matches!(
            (self.words.get(&t), &word),
            (Some(Word::InBand(..)), _) | (Some(_), Word::Cell(..))
        );
        if !known {
            self.words.insert(t, word);
        }
        !known
    }
    /// What opens the cell of t, which is known to open it: t+1 can start from its state.
    pub fn opened_cell(&mut self, t: u64, state: CellState) {
        if let Some(Word::Cell(r, _)) = self.words.get_mut(&t) {
            r.state = state.computed.state;
            (r.carry, r.q_next) = (state.carry, state.q_next);
        }
    }
    /// What the chain says of t.
    pub fn word(&self, t: u64) -> Option<&Word> {
        self.words.get(&t)
    }
    /// Holes from t on are gone: another epoch counts there.
    pub fn forget_from(&mut self, t: u64, cx: &mut Cx<'_>) {
        self.open.retain(|at, _| *at < t);
        cx.timers
            .retain(|x| !matches!(x, Timer::Door(at) if *at >= t));
    }

    /// Proven misbehaviour: a record that closes no door. Owed until the outbox has it (R13).
    pub fn accuse(&mut self, epoch: u32, t: u64, evidence: Evidence, cx: &mut Cx<'_>) {
        let (node, kind) = match &evidence {
            Evidence::Equivocation { node, .. } => (*node, 1),
            Evidence::FalseOpening { node, .. } => (*node, 2),
        };
        if self.accused.insert((epoch, t, node, kind)) {
            let submission = Submission::Misbehaviour {
                agreement: cx.setting.id,
                epoch,
                t,
                evidence,
            };
            cx.io.owe(submission, Vec::new());
        }
    }
}
