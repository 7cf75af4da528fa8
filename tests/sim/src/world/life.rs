//! The life of a node: it starts, reaches its peers, flushes, dies.

use super::*;
use diversity_proto::DecodeError;

impl World {
    pub(super) fn start(&mut self, node: usize) {
        let config = Config {
            deployment: self.deployment,
            node: self.hosts[node].party.node(),
            gossip_flush_ms: self.s.gossip_flush_ms,
            gossip_bytes: 16 * 1024,
            status_interval_ms: self.s.status_interval_ms,
            settle_stage_ms: self.s.settle_stage_ms,
            ahead_max: self.s.ahead_max,
            q_ahead_max: self.s.q_ahead_max,
            gas_per_day: u64::MAX,
            inflight_max: 256,
            unagreed_frames_max: 1_000_000,
            unagreed_bytes_max: 1 << 30,
        };
        let faulty = self.faulty();
        let host = &mut self.hosts[node];
        if host.core.is_some() {
            return;
        }
        let disk = &host.disk;
        let core = Node::recover(config, |family, each| -> Result<(), DecodeError> {
            let of = disk.records().filter(|(k, _)| k.first() == Some(&family));
            of.into_iter().try_for_each(|(k, v)| each(k, v))
        });
        let core = core.expect("a core reads what it wrote");
        host.core = Some(core);
        // The driver keeps the place up to which the core's records of what it was told are durable; some keep none.
        host.cursor = if faulty && self.rng.chance(300) {
            0
        } else {
            host.safe_cursor
        };
        host.told = host.cursor;
        let incarnation = host.incarnation;
        self.trace.note(self.now, node, "start", || "starts".into());
        // What the daemon reads from the chain at its start, in the order of the chain: sensors stand before an agreement.
        let at = self.now + self.rng.pick(&[0, 5, 100]);
        let mut inputs: Vec<Input> = self
            .sensors
            .iter()
            .map(|s| Input::Sensor {
                id: s.id,
                declaration: s.declaration.clone(),
            })
            .collect();
        // Later ones come as news.
        let before = &self.news[..self.hosts[node].cursor];
        let standing = before.iter().filter_map(|(_, n)| match n {
            News::Agreement(a) => Some(*a),
            News::Event(_) => None,
        });
        inputs.extend(standing.filter_map(|a| self.agreement_input(node, a)));
        for input in inputs {
            let input = Box::new(input);
            self.schedule(
                at,
                Event::Tell {
                    node,
                    incarnation,
                    input,
                },
            );
        }
        for peer in (0..self.hosts.len()).filter(|p| *p != node) {
            let (out, back) = (self.rng.below(600), self.rng.below(600));
            self.schedule(self.now + out, Event::Link { node, peer });
            self.schedule(
                self.now + back,
                Event::Link {
                    node: peer,
                    peer: node,
                },
            );
        }
        let (poll, outbox) = (self.rng.below(POLL_MS), self.rng.below(RETRY_MS));
        self.schedule(at + poll, Event::Poll { node, incarnation });
        self.schedule(self.now + outbox, Event::Outbox { node, incarnation });
        self.rearm(node);
    }

    /// What a node is told of an agreement, if it is in it.
    pub(super) fn agreement_input(&self, node: usize, agreement: usize) -> Option<Input> {
        let a = &self.agreements[agreement];
        a.plan.nodes.contains(&node).then(|| Input::Agreement {
            id: a.id(),
            terms: a.terms.clone(),
            keys: a.aggregate.members.clone(),
        })
    }

    /// The process dies, and its operator starts it again from an old copy of its disk.
    pub(super) fn restore(&mut self, node: usize) {
        if self.hosts[node].core.is_some() {
            self.crash(node, 10);
        }
        let host = &mut self.hosts[node];
        host.disk.restore();
        host.outbox.clear();
        host.safe_cursor = 0;
        self.restored[node] = true;
        // Where nobody honest is left, anything may settle.
        for i in 0..self.agreements.len() {
            let nodes = self.agreements[i].plan.nodes.clone();
            if !nodes.iter().any(|n| self.honest(*n)) {
                self.agreements[i].finality.nobody_honest();
            }
        }
        self.oracles.acknowledged.excuse(node);
        self.oracles.signing.excuse(node);
        let id = self.hosts[node].party.node();
        self.oracles.blame.excuse(&id);
        let verdict = self
            .oracles
            .acknowledged
            .recovered(node, &self.hosts[node].disk);
        self.oracles.judge(self.now, "N1", verdict);
        self.trace
            .note(self.now, node, "restore", || "has an old disk".into());
    }

    pub(super) fn crash(&mut self, node: usize, down_ms: u64) {
        self.crashes += 1;
        let survive = self.rng.index(self.hosts[node].disk.waiting() + 1);
        self.trace.note(self.now, node, "crash", || {
            format!("dies; {survive} of the waiting batches are on its disk")
        });
        self.hosts[node].die(self.now);
        self.oracles.bounds.restart(node);
        for ops in self.hosts[node].disk.crash(survive) {
            let verdict = self
                .oracles
                .acknowledged
                .flushed(node, &ops, &self.hosts[node].disk);
            self.oracles.judge(self.now, "N1", verdict);
            self.kept(node, &ops);
        }
        self.break_disk(node);
        let verdict = self
            .oracles
            .acknowledged
            .recovered(node, &self.hosts[node].disk);
        self.oracles.judge(self.now, "N1", verdict);
        let at = (self.now + down_ms).min(self.s.heal_at.max(self.now));
        self.schedule(at, Event::Start { node });
        for peer in (0..self.hosts.len()).filter(|p| *p != node) {
            let notice = self.now + self.rng.below(1_000);
            self.schedule(
                notice,
                Event::Link {
                    node: peer,
                    peer: node,
                },
            );
        }
    }

    pub(super) fn break_disk(&mut self, node: usize) {
        let disk = &mut self.hosts[node].disk;
        match self.sabotage {
            Sabotage::DiskLosesFlushedFrames => disk.lose(|k| k.first() == Some(&records::SEGMENT)),
            Sabotage::OtherSecretAfterRestart | Sabotage::OtherOutputAfterRestart => {
                disk.lose(|k| k.first() == Some(&records::EXECUTION));
            }
            _ => {}
        }
    }

    pub(super) fn link(&mut self, node: usize, peer: usize) {
        let up = self.hosts[peer].core.is_some() && !self.net.cut(&self.s, self.now, node, peer);
        let host = &mut self.hosts[node];
        if host.core.is_none() {
            return;
        }
        let was = std::mem::replace(&mut host.linked[peer], up);
        let id = self.hosts[peer].party.node();
        // A short absence shows as a new connection, or not at all.
        let again = was && up && self.rng.chance(300);
        if was && !up || again {
            self.step(node, Input::PeerDown(id));
        }
        if up && !was || again {
            self.step(node, Input::PeerUp(id));
        }
    }

    pub(super) fn flush(&mut self, node: usize, incarnation: u32) {
        let host = &mut self.hosts[node];
        if host.incarnation != incarnation {
            return;
        }
        let Some((job, ops)) = host.disk.flush() else {
            return;
        };
        let verdict = self.oracles.acknowledged.flushed(node, &ops, &host.disk);
        self.oracles.judge(self.now, "N1", verdict);
        self.kept(node, &ops);
        self.trace.note(self.now, node, ("flush", job), || {
            format!("disk: job {job} is durable")
        });
        if self.sabotage != Sabotage::ReportsBeforeFlush {
            self.step(node, Input::Persisted { job });
        }
    }
}
