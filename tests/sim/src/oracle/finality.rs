//! N2: each (a, t) becomes final exactly once, and what settles is what an independent computation gives.

use crate::chain::Mined;
use crate::cuts::Right;
use diversity_proto::round::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// What the chain has made final.
pub struct Finality {
    /// What honest nodes rightly committed to at (t, epoch).
    right: BTreeMap<(u64, u32), Vec<Entry>>,
    /// `(t)` at which a hole has a cause: a liar, or a node that abstains.
    excused: Box<dyn Fn(u64) -> bool + Send>,
    nobody_honest: bool,
    says: BTreeMap<u64, Entry>,
    cells: BTreeMap<u64, Entry>,
    /// What honest nodes rightly read t as once more.
    readings: BTreeMap<u64, Vec<Entry>>,
    /// Where an honest node has n reveals that open the n commits and make a hole.
    decided_holes: BTreeSet<(u64, u32)>,
}

impl Finality {
    /// Nothing is final yet; `excused(t)` says where a hole has a cause.
    pub fn new(excused: impl Fn(u64) -> bool + Send + 'static) -> Self {
        Self {
            right: BTreeMap::new(),
            excused: Box::new(excused),
            nobody_honest: false,
            says: BTreeMap::new(),
            cells: BTreeMap::new(),
            readings: BTreeMap::new(),
            decided_holes: BTreeSet::new(),
        }
    }
    /// From now on anything may settle, once.
    pub fn nobody_honest(&mut self) {
        self.nobody_honest = true;
    }
    /// An honest node commits to this, and rightly so.
    pub fn computed(&mut self, t: u64, epoch: u32, right: &Right) {
        let all = self.right.entry((t, epoch)).or_default();
        if !all.contains(&right.says) {
            all.push(right.says.clone());
        }
    }
    /// An honest node commits to this in a second reading, and rightly so.
    pub fn read_again(&mut self, t: u64, says: &Entry) {
        self.readings.entry(t).or_default().push(says.clone());
    }
    /// Whether the chain has made t final.
    pub fn is_final(&self, t: u64) -> bool {
        self.says.contains_key(&t)
    }
    /// An honest node has n reveals that make t a hole: then nothing else may become of it in that epoch.
    pub fn decided_hole(&mut self, t: u64, epoch: u32) -> Result<(), String> {
        self.decided_holes.insert((t, epoch));
        self.excuse(t)
    }
    /// How many t are settled as a value, null or trap, and how many as a hole.
    pub fn counts(&self) -> (u64, u64) {
        let holes = self.says.values().filter(|e| **e == Entry::Hole).count();
        ((self.says.len() - holes) as u64, holes as u64)
    }
    /// How many holes have a second word.
    pub fn cells(&self) -> u64 {
        self.cells.len() as u64
    }

    /// A transaction was accepted.
    pub fn mined(&mut self, m: &Mined) -> Result<(), String> {
        match m {
            Mined::Covered {
                first, says, epoch, ..
            } => (*first..)
                .zip(says)
                .try_for_each(|(t, e)| self.settled(t, *epoch, e)),
            Mined::Resolved { t, says } => self.once(*t, says),
            Mined::Cell { t, says, by_nodes }
                if *by_nodes
                    && !self.nobody_honest
                    && !self.readings.get(t).is_some_and(|all| all.contains(says)) =>
            {
                Err(format!(
                    "the nodes wrote {says:?} into the cell of t {t}, and no honest one has read that"
                ))
            }
            Mined::Cell { t, says, .. } => match self.cells.insert(*t, says.clone()) {
                Some(before) => Err(format!("the cell of t {t} held {before:?} before {says:?}")),
                None if self.says.get(t) == Some(&Entry::Hole) => Ok(()),
                None => Err(format!("the cell of t {t} is written, and t is no hole")),
            },
            Mined::Blamed(_) => Ok(()),
        }
    }

    fn once(&mut self, t: u64, e: &Entry) -> Result<(), String> {
        match self.says.insert(t, e.clone()) {
            Some(before) => Err(format!(
                "t {t} was settled as {before:?} and again as {e:?}"
            )),
            None => Ok(()),
        }
    }

    fn settled(&mut self, t: u64, epoch: u32, e: &Entry) -> Result<(), String> {
        self.once(t, e)?;
        if self.nobody_honest {
            return Ok(());
        }
        if *e == Entry::Hole {
            return self.excuse(t);
        }
        let Some(((_, of), right)) = self.right.range((t, 0)..=(t, epoch)).next_back() else {
            return Err(format!(
                "t {t} was settled as {e:?}, and no honest node has committed to it"
            ));
        };
        if self.decided_holes.contains(&(t, *of)) {
            return Err(format!(
                "t {t} is a hole for an honest node, and was settled as {e:?}"
            ));
        }
        if right.contains(e) {
            Ok(())
        } else {
            Err(format!(
                "t {t} was settled as {e:?}, and right is {right:?}"
            ))
        }
    }

    fn excuse(&self, t: u64) -> Result<(), String> {
        if self.nobody_honest || (self.excused)(t) {
            return Ok(());
        }
        Err(format!(
            "t {t} became a hole although all nodes are honest and none abstained"
        ))
    }
}
