//! What nodes of each user hold, and what all users' nodes hold: a frame is dropped only then (rule R7).

use crate::schedule::Cut;

/// For each user and lock, the first q that no node of this user has acknowledged.
#[derive(Clone, Debug)]
pub struct Holdings {
    held: Vec<Vec<u64>>,
    by_all: Vec<u64>,
    total: u64,
}

impl Holdings {
    /// Nothing is held.
    pub fn new(users: usize, locks: usize) -> Self {
        Self {
            held: vec![vec![0; locks]; users],
            by_all: vec![0; locks],
            total: 0,
        }
    }

    /// A node of this user holds everything of this lock below `next_q`. Gives by how many messages that which all hold has grown.
    pub fn acknowledged(&mut self, user: usize, lock: usize, next_q: u64) -> u64 {
        let held = &mut self.held[user][lock];
        *held = next_q.max(*held);
        let by_all = self.held.iter().map(|user| user[lock]).min().unwrap_or(0);
        let grown = by_all - self.by_all[lock];
        self.by_all[lock] = by_all;
        self.total += grown;
        grown
    }

    /// Whether a node of this user holds the whole frame.
    pub fn holds(&self, user: usize, cut: &Cut) -> bool {
        self.held[user][cut.lock as usize] >= cut.next_q()
    }

    /// Whether some user lacks some of the frame.
    pub fn lacked(&self, cut: &Cut) -> bool {
        self.by_all[cut.lock as usize] < cut.next_q()
    }

    /// First q of each lock that some user lacks.
    pub fn by_all(&self) -> &[u64] {
        &self.by_all
    }

    /// Messages that nodes of all users hold.
    pub fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_every_user_holds_counts() {
        let mut h = Holdings::new(2, 2);
        let cut = Cut {
            time: 0,
            lock: 1,
            first_q: 2,
            count: 3,
        };
        assert_eq!(h.acknowledged(0, 1, 5), 0);
        assert!(h.holds(0, &cut) && !h.holds(1, &cut) && h.lacked(&cut));
        assert_eq!(h.acknowledged(1, 1, 4), 4);
        // An older answer that arrives late takes nothing back.
        assert_eq!(h.acknowledged(1, 1, 2), 0);
        assert_eq!(h.acknowledged(1, 1, 9), 1);
        assert!(!h.lacked(&cut));
        assert_eq!((h.by_all(), h.total()), (&[0, 5][..], 5));
    }
}
