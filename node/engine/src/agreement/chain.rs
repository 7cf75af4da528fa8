//! What the chain says of an agreement, and how everybody follows it (design §3b, Moving).

use super::*;
use crate::api::CellWriter;
use diversity_proto::Digest;

impl Agreement {
    pub fn chain(&mut self, event: ChainEvent, traces: &Traces, io: &mut Io) {
        let id = self.setting.id;
        match event {
            ChainEvent::Settled {
                from,
                t,
                tx,
                gas_used,
                outcomes,
                ..
            } => {
                // R12: what made a t final stays, also where a batch overlaps it or the chain is read again.
                let first = match on(Defect::FinalIsRewritten) {
                    true => from,
                    false => from.max(self.settle.chain_next()),
                };
                let record = FinalRecord::Settled {
                    from,
                    last: t,
                    tx,
                    gas_used,
                    outcomes,
                };
                let ops = (first..=t).map(|at| record.put(&id, at)).collect();
                io.persist(ops, After::Nothing);
                if self.settled(t, io) {
                    io.notice(Notice::Settled {
                        agreement: id,
                        from: first,
                        t,
                    });
                }
            }
            ChainEvent::Hole { t, dispute, tx, .. } => {
                let next = self.settle.chain_next();
                let mut ops = Vec::new();
                if next <= t {
                    ops.push(FinalRecord::Hole { dispute, tx }.put(&id, t));
                }
                // The certificate covers what came before it too (design §3b, One switch).
                let covered = FinalRecord::Settled {
                    from: next,
                    last: t.saturating_sub(1),
                    tx,
                    gas_used: 0,
                    outcomes: u32::try_from(t.saturating_sub(next)).unwrap_or(u32::MAX),
                };
                ops.extend((next..t).map(|at| covered.put(&id, at)));
                io.persist(ops, After::Nothing);
                self.settled(t, io);
            }
            ChainEvent::Resolved {
                t,
                epoch,
                resolution,
                tx,
                ..
            } => {
                let first = self.settle.chain_next() <= t;
                let new = self.cases.say(t, Word::InBand(epoch, resolution.clone()));
                let mut ops = Vec::new();
                ops.extend(first.then(|| FinalRecord::Resolved { tx }.put(&id, t)));
                let cell = CellRecord {
                    in_band: Some(epoch),
                    writer: CellWriter::Users,
                    resolution,
                    context: Digest::ZERO,
                    tx,
                };
                ops.extend(new.then(|| cell.put(&id, t)));
                io.persist(ops, After::Nothing);
                // First the epoch: what is behind t under the one that is over is not submitted any more.
                self.said(t, new, io);
                self.settled(t, io);
            }
            ChainEvent::Cell {
                t,
                writer,
                resolution,
                context,
                tx,
                ..
            } => {
                let record = CellRecord {
                    in_band: None,
                    writer,
                    resolution: resolution.clone(),
                    context,
                    tx,
                };
                let new = self.cases.say(t, Word::Cell(resolution, context));
                let mut ops = Vec::new();
                ops.extend(new.then(|| record.put(&id, t)));
                // The state that it leads to is what the nodes computed; with the cell, or a crash between would lose it.
                if let Some(state) = self.readings.state(t) {
                    ops.extend(self.open_cell(t, state));
                }
                io.persist(ops, After::Nothing);
                self.said(t, new, io);
                self.seek_state(io);
            }
            ChainEvent::Closed { last_t, .. } => {
                self.record.last_t = Some(last_t);
                io.persist(vec![self.record.put(&id)], After::Nothing);
                self.history.close(last_t);
                self.settle.closed(last_t, cx!(self, io));
            }
            ChainEvent::SensorVoid { .. } => {}
        }
        self.progress(traces, io);
        self.reveal_if_due(io);
    }

    /// Everything up to t is final.
    fn settled(&mut self, t: u64, io: &mut Io) -> bool {
        let new = self.settle.settled(t, cx!(self, io));
        let chain_next = self.settle.chain_next();
        self.cases.advance(chain_next, cx!(self, io));
        self.readings.advance(chain_next, cx!(self, io));
        io.retire(self.setting.id, t);
        new
    }

    fn said(&mut self, t: u64, new: bool, io: &mut Io) {
        if new {
            io.notice(Notice::Resolved {
                agreement: self.setting.id,
                t,
            });
            self.readings.settled(t, cx!(self, io));
            self.take_words(t, io);
        }
    }

    /// Follows what the chain says of t, and of the first t that is not decided here, as far as this node has come (P-CELL-2, P-BAND-1).
    pub(super) fn take_words(&mut self, t: u64, io: &mut Io) {
        // One word may make the way free for the next.
        while self.take_word(t, io) || self.take_word(self.history.next(), io) {}
    }

    fn take_word(&mut self, t: u64, io: &mut Io) -> bool {
        let h = &mut self.history;
        let r = match self.cases.word(t) {
            // Told again, it is in force already.
            Some(Word::InBand(epoch, r)) if t <= h.next() && *epoch > h.epoch() => {
                if !leads(&self.setting, r) {
                    return false;
                }
                h.resolved(t, *epoch);
                r.clone()
            }
            Some(Word::Cell(r, _)) if leads(&self.setting, r) && h.cell(t) => r.clone(),
            _ => return false,
        };
        self.start_anew(t, r, io);
        true
    }

    /// t+1 starts from what was said of t.
    fn start_anew(&mut self, t: u64, r: Resolution, io: &mut Io) {
        self.pipeline
            .start_anew(&self.setting, t + 1, r.carry, r.q_next);
        for timer in [
            Timer::Grace,
            Timer::HeldAgain,
            Timer::Candidate,
            Timer::Execution,
            Timer::State,
        ] {
            self.timers.clear(timer);
        }
        self.rounds.start_anew();
        self.restored.clear();
        let decided = self.history.next();
        self.settle.forget_from(decided, cx!(self, io));
        self.cases.forget_from(decided, cx!(self, io));
        self.readings.forget_from(decided, cx!(self, io));
        self.timers.clear(Timer::Leader);
        io.forget(self.setting.id, decided);
    }
}

/// Whether t+1 can start from it. A second reading's cell names only the value: the state behind it is what the nodes hold.
pub(super) fn leads(s: &Setting, r: &Resolution) -> bool {
    r.q_next.len() == s.sensors.len()
}
