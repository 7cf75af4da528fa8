//! What is kept of those who have nothing to do with this node is bounded, however much they register: beyond it the oldest of
//! theirs is dropped, and never anything of an agreement of this node.

use std::collections::{BTreeMap, VecDeque};

/// What an entry is: the kind of its record, and its id.
pub(super) type EntryId = (u8, Vec<u8>);

/// Bytes of a record besides what it carries: its key, its places in memory and on disk.
pub(super) const RECORD_BYTES: usize = 256;

/// Entries of strangers, oldest first, and how much they are.
#[derive(Debug)]
pub(super) struct Strangers {
    order: VecDeque<EntryId>,
    sizes: BTreeMap<EntryId, usize>,
    bytes: usize,
    bytes_max: usize,
}

impl Default for Strangers {
    /// Without a bound.
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Strangers {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            order: VecDeque::new(),
            sizes: BTreeMap::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Sets the bound.
    pub(super) fn bound(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// An entry is, or has become, so much larger.
    pub(super) fn add(&mut self, id: EntryId, bytes: usize) {
        self.bytes += bytes;
        let size = self.sizes.entry(id.clone()).or_insert_with(|| {
            self.order.push_back(id);
            0
        });
        *size += bytes;
    }

    /// An entry is gone, or is a stranger's no more.
    pub(super) fn forget(&mut self, id: &EntryId) {
        if let Some(size) = self.sizes.remove(id) {
            self.bytes -= size;
        }
        // Its place in the order is passed over when its turn comes; a list of nothing but those is cleared.
        if self.order.len() > 1_024 && self.order.len() > 2 * self.sizes.len() {
            let sizes = &self.sizes;
            self.order.retain(|id| sizes.contains_key(id));
        }
    }

    /// The oldest entry, while there is too much of them. It is forgotten here.
    pub(super) fn surplus(&mut self) -> Option<EntryId> {
        while self.bytes > self.bytes_max {
            let id = self.order.pop_front()?;
            if let Some(size) = self.sizes.remove(&id) {
                self.bytes -= size;
                return Some(id);
            }
        }
        None
    }

    /// Bytes of all of them.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first_and_what_was_claimed_stays() {
        let mut strangers = Strangers::new(100);
        let id = |n: u8| (b's', vec![n]);
        for n in 0..4 {
            strangers.add(id(n), 30);
        }
        assert_eq!(strangers.bytes(), 120);
        strangers.forget(&id(0));
        assert_eq!(strangers.surplus(), None, "90 bytes are left");
        strangers.add(id(1), 40);
        assert_eq!(strangers.surplus(), Some(id(1)), "the oldest that is left");
        assert_eq!(strangers.surplus(), None);
        assert_eq!(strangers.bytes(), 60);
    }

    #[test]
    fn what_is_forgotten_leaves_no_trace() {
        let mut strangers = Strangers::new(1_000_000);
        for n in 0..10_000u32 {
            let id = (b's', n.to_be_bytes().to_vec());
            strangers.add(id.clone(), 1);
            strangers.forget(&id);
        }
        assert!(strangers.order.len() <= 1_025);
        assert_eq!(strangers.bytes(), 0);
    }
}
