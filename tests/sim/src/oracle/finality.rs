//! N2: each (a, t) becomes final exactly once, and what settles is what an independent computation gives.

use crate::chain::Mined;
use crate::truth::TrueWindow;
use diversity_proto::round::{Entry, OutputKind};
use std::collections::{BTreeMap, BTreeSet};

/// What the chain has made final.
pub struct Finality {
    truth: Vec<TrueWindow>,
    /// `(t)` at which a hole has a cause: a liar, or a node that abstains.
    excused: Box<dyn Fn(u64) -> bool + Send>,
    says: BTreeMap<u64, Entry>,
    holes: BTreeSet<u64>,
    /// Where unequal reveals are on record that do not open the n commits: a liar's second reveal came first.
    liars_holes: BTreeSet<u64>,
    /// Where an honest node has n reveals that open the n commits and make a hole; the same dispute cannot be recorded again.
    decided_holes: BTreeSet<u64>,
}

impl Finality {
    /// Judges by the true windows; `excused(t)` says where a hole has a cause.
    pub fn new(truth: Vec<TrueWindow>, excused: impl Fn(u64) -> bool + Send + 'static) -> Self {
        Self {
            truth,
            excused: Box::new(excused),
            says: BTreeMap::new(),
            holes: BTreeSet::new(),
            liars_holes: BTreeSet::new(),
            decided_holes: BTreeSet::new(),
        }
    }
    /// Whether the chain has made t final.
    pub fn is_final(&self, t: u64) -> bool {
        self.says.contains_key(&t)
            || self.holes.contains(&t)
            || (self.liars_holes.contains(&t) && self.decided_holes.contains(&t))
    }
    /// An honest node has n reveals that make t a hole: then nothing else may become of it.
    pub fn decided_hole(&mut self, t: u64) -> Result<(), String> {
        self.decided_holes.insert(t);
        self.no_outcome(t)?;
        self.excuse(t)
    }
    /// How many t are settled as a value, null or trap, and how many as a hole or disputed.
    pub fn counts(&self) -> (u64, u64) {
        let settled_holes = self
            .says
            .iter()
            .filter(|(_, e)| **e == Entry::Hole)
            .map(|(t, _)| t);
        let holes: BTreeSet<_> = settled_holes.chain(&self.holes).collect();
        let outcomes = self.says.values().filter(|e| **e != Entry::Hole).count();
        (outcomes as u64, holes.len() as u64)
    }

    /// A transaction was accepted.
    pub fn mined(&mut self, m: &Mined) -> Result<(), String> {
        match m {
            Mined::Settled { from, says } => (*from..)
                .zip(says)
                .try_for_each(|(t, e)| self.settled(t, e)),
            Mined::Dispute { t, hole: true, .. } => {
                self.no_outcome(*t)?;
                self.holes.insert(*t);
                self.excuse(*t)
            }
            Mined::Dispute {
                t, blamed: None, ..
            } => {
                self.liars_holes.insert(*t);
                Ok(())
            }
            Mined::Dispute { .. } => Ok(()),
        }
    }

    fn settled(&mut self, t: u64, e: &Entry) -> Result<(), String> {
        if let Some(before) = self.says.insert(t, e.clone()) {
            return Err(format!(
                "t {t} was settled as {before:?} and again as {e:?}"
            ));
        }
        let Some(w) = self.truth.get(t as usize) else {
            return Err(format!(
                "t {t} was settled as {e:?}, and no such window was ever closed"
            ));
        };
        if *e == Entry::Hole {
            return self.excuse(t);
        }
        if self.holes.contains(&t) || self.decided_holes.contains(&t) {
            return Err(format!(
                "t {t} is a hole, by dispute or for an honest node, and was settled as {e:?}"
            ));
        }
        let right = match w.output.kind {
            OutputKind::Value => Entry::Value(w.output.result.clone()),
            OutputKind::Null => Entry::Null,
            OutputKind::Trap => Entry::Trap,
            OutputKind::Abstain => Entry::Hole,
        };
        if right == *e {
            Ok(())
        } else {
            Err(format!(
                "t {t} was settled as {e:?}, and right is {right:?}"
            ))
        }
    }

    fn no_outcome(&self, t: u64) -> Result<(), String> {
        match self.says.get(&t).filter(|e| **e != Entry::Hole) {
            Some(e) => Err(format!("t {t} was settled as {e:?} and is now a hole too")),
            None => Ok(()),
        }
    }

    fn excuse(&self, t: u64) -> Result<(), String> {
        if (self.excused)(t) {
            return Ok(());
        }
        Err(format!(
            "t {t} became a hole although all nodes are honest and none abstained"
        ))
    }
}
