//! The state behind a cell that a second reading filled. The chain holds the value and the context of the outcome, which covers the
//! state; what opens it is kept by whoever read. A node that has lost it (an old backup, a disk that died) is served by any other
//! node, and need believe none: what does not open the context is nothing.

use super::chain::leads;
use super::*;
use crate::api::Op;
use diversity_proto::Digest;
use diversity_proto::cell::CellState;
use diversity_proto::wire::Part;

impl Agreement {
    /// The t that everything waits for, and the context of its cell, if the state behind it is not here.
    fn lost(&self) -> Option<(u64, Digest)> {
        let t = self.history.blocked()?;
        match self.cases.word(t)? {
            Word::Cell(r, context) if !leads(&self.setting, r) => Some((t, *context)),
            _ => None,
        }
    }
    /// Whether the state behind a cell is what everything waits for.
    pub(super) fn seeks_state(&self) -> bool {
        self.lost().is_some()
    }

    /// P-CELL-3: other nodes are asked for the state behind the cell that everything waits for, and whoever runs this one is told.
    pub(super) fn seek_state(&mut self, io: &mut Io) {
        let Some((t, _)) = self.lost().filter(|_| !self.timers.runs(Timer::State)) else {
            return;
        };
        self.timers.set(Timer::State, io.now);
        io.notice(Notice::Hole {
            agreement: self.setting.id,
            t,
            reason: format!(
                "the nodes read t={t} once more and agreed, but this node's store does not hold what it read then: it is older \
                 than that. It asks the other nodes for the state behind the cell, and goes on as soon as one of them has it"
            ),
        });
    }

    /// One node after the other: an answer may be as large as an envelope.
    pub(super) fn ask_for_state(&mut self, io: &mut Io) {
        let Some((t, _)) = self.lost().filter(|_| !on(Defect::LostStateWaits)) else {
            return;
        };
        let others: Vec<_> = self.setting.others().collect();
        if let Some(node) = others.get(self.asked_for_state % others.len().max(1)) {
            let agreement = self.setting.id;
            io.send(*node, Part::WantState { agreement, t });
        }
        self.asked_for_state += 1;
        let again = io.now + self.setting.timeout_ms();
        self.timers.set(Timer::State, again);
    }

    /// Another node has lost what opens the cell of t. One in a round timeout to each peer, whatever t it asks for.
    pub(super) fn serve_state(&mut self, to: usize, t: u64, io: &mut Io) {
        if cx!(self, io).may_serve(to, records::STATE, u64::MAX) {
            let key = records::t_key(records::STATE, &self.setting.id, t);
            let to = self.setting.node(to);
            io.effect(Effect::SendStored { to, key });
        }
    }

    /// A node sends what opens the cell of t. It counts if it does.
    pub(super) fn state_came(&mut self, t: u64, state: CellState, io: &mut Io) {
        if self.lost().is_none_or(|(lost, _)| lost != t) {
            return;
        }
        if let Some(op) = self.open_cell(t, state) {
            io.persist(vec![op], After::Nothing);
            self.timers.clear(Timer::State);
            self.take_words(t, io);
        }
    }

    /// Opens the cell of t, if this does; returns the write that keeps it, also for others.
    pub(super) fn open_cell(&mut self, t: u64, state: CellState) -> Option<Op> {
        let Some(Word::Cell(r, context)) = self.cases.word(t) else {
            return None;
        };
        let c = &state.computed;
        let fits = (c.kind, &c.result) == (r.kind, &r.result)
            && state.q_next.len() == self.setting.sensors.len()
            && state.opens(context);
        if !fits {
            return None;
        }
        let agreement = self.setting.id;
        self.cases.opened_cell(t, state.clone());
        let key = records::t_key(records::STATE, &agreement, t);
        let part = Part::State {
            agreement,
            t,
            state,
        };
        Some(records::put_part(key, &part))
    }
}
