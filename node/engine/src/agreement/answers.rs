//! What an agreement goes on with when a signature is made, or a write is durable.

use super::*;

impl Agreement {
    pub fn then(&mut self, then: Then, signature: Option<Signature>, traces: &Traces, io: &mut Io) {
        let id = self.setting.id;
        match then {
            Then::CommitDurable(epoch, t) if reading_of(epoch) > 0 => {
                let faults = self.readings.commit_durable(epoch, t, cx!(self, io));
                self.faults(faults, io);
            }
            Then::RevealDurable(epoch, t, reveal) if reading_of(epoch) > 0 => {
                let cx = cx!(self, io);
                let faults = self.readings.reveal_durable(epoch, t, reveal, cx);
                self.faults(faults, io);
            }
            Then::HeldDurable(epoch, t, held) if reading_of(epoch) > 0 => {
                let cx = cx!(self, io);
                let faults = self.readings.list_durable(epoch, t, held, traces, cx);
                self.faults(faults, io);
            }
            Then::CommitDurable(epoch, t) => {
                if epoch == self.history.epoch()
                    && let Some(commit) = self.pipeline.commit_durable(t)
                {
                    self.own_commit(t, commit, io);
                }
            }
            Then::RevealSigned(epoch, t, seal, mut reveal) => {
                let Some(signature) = signature else { return };
                reveal.signature = signature;
                let op = RevealRecord {
                    epoch,
                    seal,
                    reveal: reveal.clone(),
                }
                .put(&id, t);
                let then = Then::RevealDurable(epoch, t, reveal);
                io.persist(vec![op], After::Agreement(id, then));
            }
            Then::RevealDurable(epoch, t, reveal) => {
                if epoch == self.history.epoch() && self.halted.is_none() {
                    let wishes = self
                        .rounds
                        .own_reveal(t, reveal, &self.history, cx!(self, io));
                    self.carry_out(wishes, io);
                }
            }
            Then::HeldSigned(epoch, t, mut held) => {
                let Some(signature) = signature else { return };
                if epoch == self.history.epoch() && self.pipeline.has_list(t) {
                    // One that others hold has come meanwhile (P-RECALL-2).
                    return;
                }
                held.signature = signature;
                let part = pipeline::held_part(&self.setting, epoch, t, held.clone());
                let op = records::put_part(records::held_key(&id, t, epoch), &part);
                let then = Then::HeldDurable(epoch, t, held);
                io.persist(vec![op], After::Agreement(id, then));
            }
            Then::HeldDurable(epoch, t, held) => self.list_durable(epoch, t, held, traces, io),
            Then::PartialSigned(own) => {
                let Some(signature) = signature else { return };
                self.partial_signed(own, signature, io);
            }
            Then::AggregateDurable(session, signature) => {
                self.settle
                    .aggregate_durable(session, signature, cx!(self, io));
            }
        }
        self.progress(traces, io);
    }

    fn list_durable(&mut self, epoch: u32, t: u64, held: Held, traces: &Traces, io: &mut Io) {
        self.listed.insert((t, epoch));
        // Who asks for a t that is decided finds it in the store when it asks again.
        if epoch != self.history.epoch() || t < self.history.next() {
            return;
        }
        let part = self
            .pipeline
            .list_durable(epoch, t, held, traces, cx!(self, io));
        for node in self.setting.others() {
            io.send(node, part.clone());
        }
    }
}
