//! When a silent leader is followed by the next (design §3): growing, capped timeouts, apart from the round.

/// How many leaders were passed over, and how often in a row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pacemaker {
    view: u32,
    fails: u32,
}

impl Pacemaker {
    /// How many leaders were passed over.
    pub fn view(&self) -> u32 {
        self.view
    }
    /// Failures in a row, for the timeout.
    pub fn fails(&self) -> u32 {
        self.fails
    }
    /// Whether more than one leader was passed over in vain.
    pub fn stuck(&self) -> bool {
        self.fails > 1
    }
    /// A t was decided: the leader that made it stays.
    pub fn progress(&mut self) {
        self.fails = 0;
    }
    /// The leader was silent: the next one leads.
    pub fn timeout(&mut self, n: usize) {
        self.view = (self.view + 1) % n as u32;
        self.fails += 1;
    }
    /// Another node leads: nodes whose views drifted apart meet again.
    pub fn follow(&mut self, ahead: usize, n: usize) {
        self.view = (self.view + ahead as u32) % n as u32;
    }
}
