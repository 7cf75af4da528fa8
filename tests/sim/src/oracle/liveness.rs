//! N5: after faults stop, every repairable window becomes final on the chain within n + 2 capped round timeouts, and what
//! settling and the chain may take beside.

/// What of the world the oracle looks at.
pub struct View<'a> {
    /// World time.
    pub now: u64,
    /// When faults stopped.
    pub heal_at: u64,
    /// Number of windows.
    pub windows: u64,
    /// When all was there to be had that t needs to become final; nothing where it need not.
    pub due: &'a dyn Fn(u64) -> Option<u64>,
    /// Whether t is final.
    pub is_final: &'a dyn Fn(u64) -> bool,
}

/// Watches the first window that is not final.
pub struct Liveness {
    /// Longest time from the last obstacle to finality, milliseconds.
    bound_ms: u64,
    first_open: u64,
    /// When the window before `first_open` became final.
    since: u64,
    /// Longest time that a window took after faults stopped, milliseconds.
    pub slowest_ms: u64,
}

impl Liveness {
    /// A window may take this long once nothing stands in its way.
    pub fn new(bound_ms: u64) -> Self {
        Self {
            bound_ms,
            first_open: 0,
            since: 0,
            slowest_ms: 0,
        }
    }
    /// First window that is not final.
    pub fn first_open(&self) -> u64 {
        self.first_open
    }
    /// Looks at the world. An error names the window that takes too long.
    pub fn look(&mut self, v: &View<'_>) -> Result<(), String> {
        while self.first_open < v.windows && (v.is_final)(self.first_open) {
            if let Some(due) = (v.due)(self.first_open) {
                let waited = v.now.saturating_sub(self.start(v, due));
                self.slowest_ms = self.slowest_ms.max(waited);
            }
            self.first_open += 1;
            self.since = v.now;
        }
        let t = self.first_open;
        let Some(due) = (v.due)(t).filter(|_| t < v.windows) else {
            return Ok(());
        };
        let waited = v.now.saturating_sub(self.start(v, due));
        if waited > self.bound_ms {
            return Err(format!(
                "t {t} is not final {waited} ms after nothing stood in its way (bound {} ms)",
                self.bound_ms
            ));
        }
        Ok(())
    }
    /// When the last obstacle of the first open window went away: faults, what it needs, or the window before it.
    fn start(&self, v: &View<'_>, due: u64) -> u64 {
        v.heal_at.max(due).max(self.since)
    }
}
