//! Writes to the modelled disk, and what the oracles read of them.

use super::*;
use diversity_engine::api::{Job, Op, SHARE_FLUSH_MS};
use diversity_engine::records::{self, ExecutionRecord};
use diversity_proto::round::{Body, Subject};
use diversity_proto::terms::config;
use diversity_proto::wire::Part;

impl World {
    pub(super) fn persist(&mut self, node: usize, job: Job, mut ops: Vec<Op>, urgent: bool) {
        if self.sabotage == Sabotage::DiskChangesFrames {
            change_a_frame(&mut ops);
        }
        if self.honest(node) {
            ops.iter().for_each(|op| self.written(node, op));
        }
        let host = &mut self.hosts[node];
        let incarnation = host.incarnation;
        host.disk.hold(job, ops);
        if urgent {
            self.write_held(node);
        } else {
            self.schedule(
                self.now + SHARE_FLUSH_MS,
                Event::WriteHeld { node, incarnation },
            );
        }
        if self.sabotage == Sabotage::ReportsBeforeFlush {
            self.tell(node, 0, Input::Persisted { job });
        }
    }

    /// Judges what an honest node writes.
    fn written(&mut self, node: usize, op: &Op) {
        let Op::Put { key, value } = op else { return };
        match key.first() {
            Some(&records::CERTIFICATE) => self.certificate_kept(value),
            Some(&records::FINAL) => self.final_kept(node, key, value),
            _ => {}
        }
    }

    /// What made a t final stays (R12).
    fn final_kept(&mut self, node: usize, key: &[u8], value: &[u8]) {
        let before = self.hosts[node].disk.written(key);
        if before.is_some_and(|before| before != value) {
            let t = records::split_t_key(key).map(|k| k.1);
            let text = format!("node {node} says otherwise of what made t {t:?} final");
            self.oracles.judge(self.now, "N2", Err(text));
        }
    }

    /// Judges what an honest node has on its disk from now on. What was computed from frames and lost with them in a crash was never
    /// said.
    pub(crate) fn kept(&mut self, node: usize, ops: &[Op]) {
        if !self.honest(node) {
            return;
        }
        for op in ops {
            let Op::Put { key, value } = op else {
                continue;
            };
            match key.first() {
                Some(&records::EXECUTION) => self.execution_kept(node, key, value),
                Some(&records::READING) => self.reading_kept(node, key, value),
                _ => {}
            }
        }
    }

    fn certificate_kept(&mut self, value: &[u8]) {
        let Ok(Part::Round {
            agreement,
            epoch,
            t,
            body: Body::Certificate { commits, reveals },
        }) = stored_part(value)
        else {
            return;
        };
        let subject = Subject {
            deployment: self.deployment,
            config: config(&self.deployment, &agreement, epoch),
            t,
        };
        let at = self.index_of(&agreement);
        let a = &mut self.agreements[at];
        if a.contract.makes_a_hole(&subject, &commits, &reveals) {
            let verdict = a.finality.decided_hole(t, epoch);
            let verdict = verdict.map_err(|text| format!("agreement {at}: {text}"));
            self.oracles.judge(self.now, "N2", verdict);
        }
    }

    /// What an honest node commits to is what an independent computation gives on a window that it may cut so.
    fn execution_kept(&mut self, node: usize, key: &[u8], value: &[u8]) {
        let Some((id, t)) = records::split_t_key(key) else {
            return;
        };
        let record = ExecutionRecord::decode(value).expect("a core reads what it writes");
        let at = self.index_of(&id);
        let subject = Subject {
            deployment: self.deployment,
            config: config(&self.deployment, &id, record.epoch),
            t,
        };
        let digest = record
            .commit
            .digest(&subject, &self.hosts[node].party.node());
        let verdict = self.oracles.signing.committed(node, &subject, digest);
        self.oracles.judge(self.now, "N3", verdict);
        let clock = self.local(node) / 1_000;
        let (plan, restored) = (&self.s, &self.restored);
        let honest = |i: usize| plan.honest(i) && !restored[i];
        let a = &mut self.agreements[at];
        let acknowledged = &self.oracles.acknowledged;
        let heard = |sensor: usize, q: u64| acknowledged.tongue(node, sensor, q);
        let verdict = a
            .cuts
            .kept(node, clock, t, &record, &a.plan, &heard, &honest);
        if let Ok(right) = &verdict {
            a.finality.computed(t, record.epoch, right);
        }
        let verdict = verdict.map(|_| ());
        let verdict = verdict.map_err(|text| format!("agreement {at}, node {node}: {text}"));
        self.oracles.judge(self.now, "N2", verdict);
    }

    fn reading_kept(&mut self, node: usize, key: &[u8], value: &[u8]) {
        let Some((id, t)) = records::split_t_key(key) else {
            return;
        };
        let record = ExecutionRecord::decode(value).expect("a core reads what it writes");
        let at = self.index_of(&id);
        let acknowledged = &self.oracles.acknowledged;
        let heard = |sensor: usize, q: u64| acknowledged.tongue(node, sensor, q);
        let a = &mut self.agreements[at];
        let verdict = a.cuts.read_again(node, t, &record, &a.plan, &heard);
        if let Ok(says) = &verdict {
            a.finality.read_again(t, says);
        }
        let verdict = verdict.map(|_| ());
        let verdict = verdict.map_err(|text| format!("agreement {at}, node {node}: {text}"));
        self.oracles.judge(self.now, "N2", verdict);
    }

    /// What waited for another batch is written now.
    pub(crate) fn write_held(&mut self, node: usize) {
        let slow = self.rng.below(self.s.disk_ms + 1);
        let host = &mut self.hosts[node];
        // Batches become durable in the order in which they were written.
        host.flush_at = host.flush_at.max(self.now + slow);
        let (at, incarnation) = (host.flush_at, host.incarnation);
        for _ in 0..host.disk.release() {
            self.schedule(at, Event::Flush { node, incarnation });
        }
    }
}

/// Flips a bit of the first frame that is stored.
fn change_a_frame(ops: &mut [Op]) {
    for op in ops {
        if let Op::Put { key, value } = op
            && key.first() == Some(&records::SEGMENT)
            && let Some(last) = value.len().checked_sub(65)
        {
            // The byte before the signature is the last of the last value.
            value[last] ^= 1;
        }
    }
}
