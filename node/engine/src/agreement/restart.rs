//! Taking up an agreement from what an earlier run made durable (R2).

use super::*;

impl Agreement {
    // ---- recovery

    /// A record of an execution, in order of t.
    pub(crate) fn recover_execution(&mut self, t: u64, r: ExecutionRecord) {
        self.carry = r.execution.carry;
        self.execute_next = t + 1;
        self.cutter = Cutter::new(&self.record.terms, t + 1, r.q_next);
        self.own.insert(t, (r.execution.computed, r.secret, r.salt));
        self.recovered.insert(t, (r.commit, None));
    }
    /// A record of an own reveal.
    pub(crate) fn recover_reveal(&mut self, t: u64, r: RevealRecord) {
        if let Some(x) = self.recovered.get_mut(&t) {
            x.1 = Some(r);
        }
    }
    /// A record of a certificate, in order of t.
    pub(crate) fn recover_certificate(&mut self, t: u64, part: Part, io: &mut Io) {
        let Part::Certificate {
            commits, reveals, ..
        } = part
        else {
            return;
        };
        if t != self.decided_next || reveals.is_empty() {
            return;
        }
        let decision = diversity_round::decide(reveals.iter());
        let seal =
            Round::new(self.subject(t, io), self.nodes.clone(), self.me, 0).seal_of(&commits);
        self.recovered.remove(&t);
        self.apply(t, &decision, &commits, &reveals, seal, io);
    }
    /// All records are in: take up what was left.
    pub(crate) fn resume(&mut self, traces: &Traces, io: &mut Io) {
        for (t, (commit, reveal)) in std::mem::take(&mut self.recovered) {
            self.feed(t, RoundInput::OwnCommit(commit), io);
            if let Some(r) = reveal
                && let Ok(round) = self.round(t, io)
            {
                round.restore_reveal(r.seal, r.reveal);
            }
        }
        self.settle.resume(io);
        self.pacemaker.progress(io.now, self.has_undecided());
        let n = self.sensors.len();
        self.look(0..n, traces, io);
    }
}
