//! The modelled disk: atomic batches wait until they are flushed, a crash loses those that were not.

use diversity_engine::api::{Job, Op};
use std::collections::{BTreeMap, VecDeque};

/// What a node keeps.
#[derive(Debug, Default)]
pub struct Disk {
    durable: BTreeMap<Vec<u8>, Vec<u8>>,
    pending: VecDeque<(Job, Vec<Op>)>,
    held: VecDeque<(Job, Vec<Op>)>,
    copy: Option<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Disk {
    /// Takes a batch, which waits for [`Disk::release`]; it is durable only once [`Disk::flush`] has reached it.
    pub fn hold(&mut self, job: Job, ops: Vec<Op>) {
        self.held.push_back((job, ops));
    }
    /// What was held goes the way of all batches; how many those are.
    pub fn release(&mut self) -> usize {
        let held = self.held.len();
        self.pending.append(&mut self.held);
        held
    }
    /// Makes the oldest batch durable and returns it.
    pub fn flush(&mut self) -> Option<(Job, Vec<Op>)> {
        let (job, ops) = self.pending.pop_front()?;
        for op in &ops {
            match op {
                Op::Put { key, value } => {
                    self.durable.insert(key.clone(), value.clone());
                }
                Op::Delete { key } => {
                    self.durable.remove(key);
                }
            }
        }
        Some((job, ops))
    }
    /// A crash: the oldest `survive` of the waiting batches had reached the disk unreported, the others are lost.
    /// Returns those that survived.
    pub fn crash(&mut self, survive: usize) -> Vec<Vec<Op>> {
        let survived = (0..survive).map_while(|_| Some(self.flush()?.1)).collect();
        self.pending.clear();
        self.held.clear();
        survived
    }
    /// Batches that wait, or are held.
    pub fn waiting(&self) -> usize {
        self.pending.len() + self.held.len()
    }
    /// The value of a key that was written, durable or not: what a node reads while it runs.
    pub fn written(&self, key: &[u8]) -> Option<&[u8]> {
        let waiting = self.held.iter().rev().chain(self.pending.iter().rev());
        for op in waiting.flat_map(|(_, ops)| ops.iter().rev()) {
            match op {
                Op::Put { key: k, value } if k == key => return Some(value),
                Op::Delete { key: k } if k == key => return None,
                _ => {}
            }
        }
        self.read(key)
    }
    /// A durable value.
    pub fn read(&self, key: &[u8]) -> Option<&[u8]> {
        self.durable.get(key).map(Vec::as_slice)
    }
    /// All durable records in key order.
    pub fn records(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.durable
            .iter()
            .map(|(k, v)| (k.as_slice(), v.as_slice()))
    }
    /// Copies what is durable.
    pub fn back_up(&mut self) {
        self.copy = Some(self.durable.clone());
    }
    /// Puts the copy in the place of what is durable.
    pub fn restore(&mut self) {
        if let Some(copy) = self.copy.take() {
            self.durable = copy;
        }
    }
    /// Loses a durable record: no real disk does, the sabotages of the oracles do.
    pub fn lose(&mut self, mut which: impl FnMut(&[u8]) -> bool) {
        self.durable.retain(|k, _| !which(k));
    }
}
