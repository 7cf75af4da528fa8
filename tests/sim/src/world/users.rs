//! The users of an agreement. They look at it now and then, compute for themselves, and say on chain what counts where the nodes
//! cannot: in the cell of a hole that everything waits for, or in band where a liar keeps t open for ever.

use super::*;

/// How often they look.
pub(super) const LOOK_MS: u64 = 500;
/// How long they let the nodes try.
pub(super) const PATIENCE_MS: u64 = 2_000;
/// How often they settle a t themselves, at most: a liar who never stops is a reason to part.
const IN_BAND_MAX: u32 = 3;

/// What they remember of an agreement.
#[derive(Debug, Default)]
pub struct Users {
    /// Since when a hole keeps everything waiting, and which.
    blocked: Option<(u64, u64)>,
    /// Since when t is the first that is not final.
    open: (u64, u64),
    in_band: u32,
}

impl World {
    pub(super) fn users(&mut self) {
        self.schedule(self.now + LOOK_MS, Event::Users);
        if self.outage() {
            return;
        }
        for agreement in 0..self.agreements.len() {
            if self.agreements[agreement].stands {
                self.fill_cell(agreement);
                self.settle_in_band(agreement);
            }
        }
    }

    /// A hole whose states are apart keeps everything waiting: what t+1 starts from is for the users to say.
    fn fill_cell(&mut self, agreement: usize) {
        let a = &self.agreements[agreement];
        let id = a.id();
        let waits = |i: &usize| {
            let core = self.hosts[*i].core.as_ref()?;
            core.status(&id)?.blocked
        };
        let honest = a.plan.nodes.iter().filter(|i| self.honest(**i));
        let blocked = honest.filter_map(waits).max();
        let open = |t: &u64| *t < a.contract.next_t && !a.contract.cells.contains_key(t);
        let Some(t) = blocked.filter(open) else {
            self.agreements[agreement].users.blocked = None;
            return;
        };
        let users = &mut self.agreements[agreement].users;
        match users.blocked {
            Some((at, since)) if at == t => {
                if self.now >= since + PATIENCE_MS {
                    self.resolve(agreement, t);
                }
            }
            _ => users.blocked = Some((t, self.now)),
        }
    }

    /// A liar keeps t open: they settle it themselves.
    fn settle_in_band(&mut self, agreement: usize) {
        let a = &self.agreements[agreement];
        let t = a.contract.next_t;
        if a.users.open.0 != t || a.users.open.1 == 0 {
            self.agreements[agreement].users.open = (t, self.now);
            return;
        }
        let since = a.users.open.1.max(self.s.heal_at);
        let long = self.now > since + bound_ms(&self.s, agreement);
        let due = t < a.windows() && !self.repairable(agreement, t);
        if long && due && a.users.in_band < IN_BAND_MAX {
            self.agreements[agreement].users.in_band += 1;
            self.resolve(agreement, t);
        }
    }

    fn resolve(&mut self, agreement: usize, t: u64) {
        let a = &mut self.agreements[agreement];
        let Some(resolution) = a.cuts.resolution(t) else {
            return;
        };
        let result = a.contract.resolve(&a.aggregate, t, resolution.clone());
        self.trace.note(self.now, usize::MAX, "users", || {
            format!("chain: users of agreement {agreement} resolve t {t}: {result:?}")
        });
        if let Ok((mined, events)) = result {
            a.cuts.said_of(t, &resolution);
            self.words += 1;
            self.mined(agreement, mined, events);
        }
    }

    /// Whether they may still settle a t of this agreement themselves.
    pub(super) fn users_may_help(&self, agreement: usize) -> bool {
        let a = &self.agreements[agreement];
        let t = a.contract.next_t;
        self.s.users && a.users.in_band < IN_BAND_MAX && a.cuts.resolution(t).is_some()
    }
}
