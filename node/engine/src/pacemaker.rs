//! When a silent leader is followed by the next (design §3): growing, capped timeouts, apart from the round.

use crate::api::Millis;

pub(crate) struct Pacemaker {
    /// How many leaders were passed over.
    pub view: u32,
    pub deadline: Option<Millis>,
    fails: u32,
    first_ms: u64,
    max_ms: u64,
}

impl Pacemaker {
    pub fn new(first_ms: u32, max_ms: u32) -> Self {
        Self {
            view: 0,
            deadline: None,
            fails: 0,
            first_ms: first_ms.into(),
            max_ms: max_ms.into(),
        }
    }
    fn wait(&self) -> u64 {
        (self.first_ms << self.fails.min(20)).min(self.max_ms)
    }
    /// Something waits for others from now on.
    pub fn arm(&mut self, now: Millis) {
        let due = now + self.wait();
        self.deadline.get_or_insert(due);
    }
    pub fn disarm(&mut self) {
        self.deadline = None;
        self.fails = 0;
    }
    pub fn due(&self, now: Millis) -> bool {
        self.deadline.is_some_and(|d| d <= now)
    }
    /// Whether more than one leader was passed over in vain.
    pub fn stuck(&self) -> bool {
        self.fails > 1
    }
    /// A t was decided: start afresh with the leader that made it.
    pub fn progress(&mut self, now: Millis, more: bool) {
        self.disarm();
        if more {
            self.arm(now);
        }
    }
    /// The leader was silent: the next one leads.
    pub fn timeout(&mut self, now: Millis, n: usize) {
        self.view = (self.view + 1) % n as u32;
        self.fails += 1;
        self.deadline = Some(now + self.wait());
    }
}
