//! Taking up an agreement from what an earlier run made durable (R2). Records load state and emit nothing; what they leave to do
//! begins with [`Agreement::resume`].

use super::chain::leads;
use super::*;
use crate::records::{ExecutionRecord, HeldRecord};
use diversity_proto::round::reading_of;
use diversity_proto::wire::Part;
use diversity_round::decide;

impl Agreement {
    /// How a t became final. Before everything else.
    pub fn restore_final(&mut self, t: u64, r: &FinalRecord) {
        self.settle.restore_settled(match r {
            FinalRecord::Settled { last, .. } => *last,
            FinalRecord::Hole { .. } | FinalRecord::Resolved { .. } => t,
        });
    }
    /// What the chain said of a t. Before certificates.
    pub fn restore_cell(&mut self, t: u64, r: CellRecord) {
        let word = match r.in_band {
            Some(epoch) => Word::InBand(epoch, r.resolution),
            None => Word::Cell(r.resolution, r.context),
        };
        self.cases.say(t, word);
    }
    /// What opens the cell of a t. After cells, before certificates.
    pub fn restore_state(&mut self, part: Part) {
        if let Part::State { t, state, .. } = part {
            self.cases.opened_cell(t, state);
        }
    }

    /// A certificate, in order of t. Before executions.
    pub fn restore_certificate(&mut self, t: u64, part: Part) {
        self.restore_words();
        let Part::Round {
            epoch,
            body: Body::Certificate { commits, reveals },
            ..
        } = part
        else {
            return;
        };
        if t != self.history.next() || epoch != self.history.epoch() || reveals.is_empty() {
            return; // Of an epoch that a resolution ended.
        }
        let certified = Certified {
            t,
            decision: decide(reveals.iter()),
            seal: self.setting.place(epoch, t).seal(&commits),
            commits,
            reveals,
        };
        let c = &certified;
        let settled = t < self.settle.chain_next();
        match &c.decision {
            Decision::Outcome => {
                let outcome = c.reveals[0].outcome(self.setting.id, epoch, t, &c.seal);
                self.history.outcome(outcome.kind == OutputKind::Null as u8);
                let status = Status::Outcome {
                    outcome,
                    signatures: c.reveals.iter().map(|r| r.signature).collect(),
                    holes: c.reveals[0].holes.clone(),
                };
                self.settle.restore_status(t, status);
            }
            Decision::Hole { state_agreed, .. } => {
                self.history.hole(*state_agreed);
                self.restored_holes.insert(t);
                if !state_agreed {
                    self.unequal.insert(t);
                }
                if !settled {
                    self.cases.opened(c, epoch);
                }
                if self.cases.word(t).is_none() {
                    self.readings.opened(t, epoch, &c.decision, None);
                }
                self.settle.restore_status(t, Status::Hole);
            }
        }
        self.rounds.restore_decided(epoch, t, certified.commits);
    }

    /// All certificates are in.
    pub fn restore_words(&mut self) {
        loop {
            let next = self.history.next();
            let in_band = match self.cases.word(next) {
                Some(Word::InBand(epoch, r)) if leads(&self.setting, r) => Some(*epoch),
                _ => None,
            };
            if let Some(epoch) = in_band {
                self.history.resolved(next, epoch);
                self.restore_start(next);
                continue;
            }
            let Some(before) = next.checked_sub(1) else {
                return;
            };
            let leads = match self.cases.word(before) {
                Some(Word::Cell(r, _)) => leads(&self.setting, r),
                _ => false,
            };
            if !leads || !self.history.cell(before) {
                return;
            }
            self.restore_start(before);
        }
    }

    fn restore_start(&mut self, t: u64) {
        let Some(r) = self.cases.word(t).map(|w| w.resolution().clone()) else {
            return;
        };
        self.pipeline
            .start_anew(&self.setting, t + 1, r.carry, r.q_next);
    }

    /// An execution, in order of t. After certificates.
    pub fn restore_execution(&mut self, t: u64, r: &ExecutionRecord) {
        // Also of what lies before a resolution: it may be read again.
        if let Some(carry) = self.carry_into(t) {
            self.readings.restore_basis(t, r, &carry);
        }
        self.carried = Some((t, r.execution.carry.clone()));
        // What lies before a resolution, or was committed under an epoch that it ended, is not gone on from.
        if t != self.pipeline.open_t()
            || t >= self.history.next() && r.epoch != self.history.epoch()
        {
            return;
        }
        self.pipeline.restore(&self.setting, t, r);
        if t < self.history.next() {
            let hole = self.restored_holes.remove(&t);
            self.pipeline.decided(t, hole);
        } else {
            self.restored.insert(t, r.commit);
        }
    }
    /// The carry that an earlier run had at the beginning of t, if it is known.
    fn carry_into(&mut self, t: u64) -> Option<Vec<u8>> {
        let Some(before) = t.checked_sub(1) else {
            return Some(Vec::new());
        };
        match self.cases.word(before) {
            Some(Word::InBand(_, r)) => return Some(r.carry.clone()),
            Some(Word::Cell(r, _)) if self.unequal.contains(&before) => {
                return Some(r.carry.clone());
            }
            _ => {}
        }
        self.carried.take().filter(|c| c.0 == before).map(|c| c.1)
    }
    /// The operator asked for another reading. After all that readings left.
    pub fn restore_asked(&mut self, t: u64, number: u16) {
        self.readings.restore_asked(t, number);
    }
    /// `f` abstained on the window of t. After executions.
    pub fn restore_abstained(&mut self, t: u64, (epoch, since): (u32, Millis), io: &mut Io) {
        if reading_of(epoch) > 0 {
            let cx = cx!(self, io);
            self.readings.restore_abstained(t, epoch, since, cx);
        } else {
            self.pipeline.restore_abstained(t, epoch, since);
        }
    }
    /// An execution of a second reading. After those of first ones.
    pub fn restore_reading(&mut self, t: u64, r: ExecutionRecord, io: &mut Io) {
        self.readings.restore_execution(t, r, cx!(self, io));
    }
    /// The own list of open sensors. After executions.
    pub fn restore_held(&mut self, t: u64, r: HeldRecord, io: &mut Io) {
        if reading_of(r.epoch) > 0 {
            let cx = cx!(self, io);
            self.readings.restore_held(t, r.epoch, r.held, cx);
            return;
        }
        self.listed.insert((t, r.epoch));
        if r.epoch == self.history.epoch() && t >= self.history.next() {
            self.pipeline.restore_held(t, r.held);
        }
    }
    /// An own reveal. After executions.
    pub fn restore_reveal(&mut self, t: u64, r: RevealRecord, io: &mut Io) {
        if reading_of(r.epoch) > 0 {
            self.readings.restore_reveal(t, r, cx!(self, io));
        } else if r.epoch == self.history.epoch() && self.restored.contains_key(&t) {
            self.rounds.restore_reveal(t, r.seal, r.reveal);
        }
    }
    /// All of the above are in: what is decided is cut into units, and aggregated signatures find theirs.
    pub fn restore_units(&mut self, io: &mut Io) {
        self.settle.restore_units(cx!(self, io));
    }
    /// An aggregated signature. After [`Agreement::restore_units`].
    pub fn restore_aggregate(&mut self, part: &Part) {
        if let Part::Aggregate { session, signature } = part {
            self.settle.restore_aggregate(*session, *signature);
        }
    }

    /// All records are in: takes up what was left. The first thing that has effects.
    pub fn resume(&mut self, traces: &Traces, io: &mut Io) {
        self.pipeline.started(io.now);
        self.carried = None;
        self.unequal.clear();
        for (t, commit) in core::mem::take(&mut self.restored) {
            self.own_commit(t, commit, io);
        }
        self.settle.resume(cx!(self, io));
        let chain_next = self.settle.chain_next();
        self.cases.advance(chain_next, cx!(self, io));
        self.readings.advance(chain_next, cx!(self, io));
        self.look_all(traces, io);
        self.seek_state(io);
    }
}
