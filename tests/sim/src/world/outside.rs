//! What comes from outside a node: peers, sensors and the chain.

use super::*;

impl World {
    pub(super) fn deliver(&mut self, from: usize, to: usize, bytes: &[u8]) {
        let parts = diversity_proto::wire::decode_envelope(bytes).expect("encoded by a node");
        let from = self.hosts[from].party.node();
        self.step(to, Input::Message { from, parts });
    }

    pub(super) fn repair(&mut self, from: usize, to: usize, bytes: &[u8]) {
        if self.hosts[to].core.is_none() || self.sabotage == Sabotage::NoRepair {
            return;
        }
        let ranges = diversity_proto::wire::decode_ranges(bytes).expect("encoded by a node");
        let token = self.hosts[to].fresh();
        self.hosts[to].tokens.insert(token, from);
        let from = self.hosts[from].party.node();
        self.step(
            to,
            Input::RepairRequest {
                token,
                from,
                ranges,
            },
        );
    }

    pub(super) fn request(&mut self, sensor: usize, node: usize, frames: &[Arc<[u8]>]) {
        if self.hosts[node].core.is_none() {
            return;
        }
        let ticket = self.hosts[node].fresh();
        self.hosts[node].tickets.insert(ticket, sensor);
        let frames = frames.iter().map(|f| f.to_vec()).collect();
        self.step(
            node,
            Input::Frames {
                source: Source::Api(ticket),
                frames,
            },
        );
    }

    /// An honest sensor may be told to wait, never that its frames are bad.
    pub fn refused(&mut self, node: usize, refusal: &Refusal) {
        let waits = matches!(
            refusal,
            Refusal::UnknownSensor
                | Refusal::TooFarAhead { .. }
                | Refusal::Busy
                | Refusal::WrongEpoch { .. }
                | Refusal::BadOpening
        );
        if !waits {
            let text = format!("node {node} refused a frame of an honest sensor: {refusal:?}");
            self.oracles.judge(self.now, "ingest", Err(text));
        }
    }

    pub(super) fn sensor(&mut self, sensor: usize) {
        let waiting: Vec<_> = self.sensors[sensor]
            .waiting(self.now)
            .take(6)
            .map(|f| (f.bytes.clone(), f.next_q))
            .collect();
        if !waiting.is_empty() {
            let lacking: Vec<_> = (0..self.hosts.len())
                .filter(|i| self.sensors[sensor].acknowledged[*i] < waiting[0].1)
                .collect();
            for _ in 0..self.rng.range(1, 2) {
                let node = if lacking.is_empty() {
                    self.rng.index(self.hosts.len())
                } else {
                    self.rng.pick(&lacking)
                };
                let mut frames: Vec<_> = waiting.iter().map(|f| f.0.clone()).collect();
                if self.rng.chance(100) {
                    self.rng.shuffle(&mut frames);
                }
                for at in self.net.arrivals(&self.s, self.now, usize::MAX, node) {
                    self.schedule(
                        at,
                        Event::Api {
                            sensor,
                            node,
                            frames: frames.clone(),
                        },
                    );
                }
            }
        }
        if !self.sensors[sensor].done() {
            self.schedule(self.now + RESEND_MS, Event::Sensor { sensor });
        }
    }

    pub(super) fn poll(&mut self, node: usize, incarnation: u32) {
        if self.hosts[node].incarnation != incarnation {
            return;
        }
        self.schedule(self.now + POLL_MS, Event::Poll { node, incarnation });
        if self.outage() {
            return;
        }
        let faulty = self.faulty();
        let host = &mut self.hosts[node];
        if faulty && self.rng.chance(self.s.repeat / 10) {
            host.cursor -= self.rng.index(host.cursor + 1);
        }
        let news: Vec<ChainEvent> = self.contract.events[host.cursor..]
            .iter()
            .take_while(|(mined, _)| mined + self.s.rpc_ms <= self.now)
            .map(|(_, e)| e.clone())
            .collect();
        // What was told a poll ago has long arrived; if no batch waits, it is durable.
        if host.disk.waiting() == 0 {
            host.safe_cursor = host.told;
        }
        host.cursor += news.len();
        host.told = host.cursor;
        let next_t = self.contract.next_t;
        // What another settlement has overtaken can never be mined again.
        if self.sabotage != Sabotage::SettlesTwice {
            host.outbox
                .retain(|k, _| !matches!(k, Key::Settle { from, .. } if *from < next_t));
        }
        // In the order of the chain; a second telling may come behind later news.
        let arrives = self.now + self.rng.below(self.s.rpc_ms + 1);
        for e in news {
            let twice = self.faulty() && self.rng.chance(self.s.repeat);
            for _ in 0..=u32::from(twice) {
                let input = Box::new(Input::Chain(e.clone()));
                self.schedule(
                    arrives,
                    Event::Tell {
                        node,
                        incarnation,
                        input,
                    },
                );
            }
        }
    }

    pub(super) fn submit(&mut self, node: usize, incarnation: u32) {
        if self.hosts[node].incarnation != incarnation {
            return;
        }
        self.schedule(self.now + RETRY_MS, Event::Outbox { node, incarnation });
        let due: Vec<_> = self.hosts[node]
            .outbox
            .values()
            .filter(|q| q.durable_at <= self.now)
            .map(|q| q.submission.clone())
            .collect();
        for submission in due {
            let lost = self.outage()
                || self.faulty() && self.rng.chance(self.s.submit_loss)
                || self.sabotage == Sabotage::ChainDeaf;
            if !lost {
                let at = self.now + self.rng.below(self.s.rpc_ms + 1);
                self.schedule(
                    at,
                    Event::Transaction {
                        node,
                        submission: Box::new(submission),
                    },
                );
            }
        }
    }

    pub(super) fn block(&mut self) {
        self.schedule(self.now + self.s.block_ms, Event::Block);
        if self.outage() {
            return;
        }
        let mut pool = std::mem::take(&mut self.pool);
        self.rng.shuffle(&mut pool);
        for (node, submission) in pool {
            let result = self.contract.apply(self.now, &self.aggregate, &submission);
            self.trace.note(self.now, usize::MAX, ("tx", node), || {
                format!(
                    "chain: {:?} of node {node}: {result:?}",
                    Key::of(&submission)
                )
            });
            match result {
                Ok(mined) => self.mined(node, &submission, &mined),
                Err(Revert::FromIsNotNext) => {}
                Err(Revert::AlreadyRecorded | Revert::BeyondEnd) => {
                    self.hosts[node].outbox.remove(&Key::of(&submission));
                }
                Err(Revert::Refused(why)) if self.s.honest(node) => {
                    let text = format!(
                        "the contract refuses {:?} of honest node {node}: {why}",
                        Key::of(&submission)
                    );
                    self.oracles.judge(self.now, "chain", Err(text));
                }
                Err(Revert::Refused(_)) => {
                    self.hosts[node].outbox.remove(&Key::of(&submission));
                }
            }
        }
    }

    pub(super) fn mined(&mut self, node: usize, submission: &Submission, mined: &Mined) {
        let verdict = self.oracles.finality.mined(mined);
        self.oracles.judge(self.now, "N2", verdict);
        if let Mined::Dispute { blamed, .. } = mined {
            self.blamed += u64::from(blamed.is_some());
            let verdict = self.oracles.blame.recorded(blamed.as_ref());
            self.oracles.judge(self.now, "N4", verdict);
        }
        if let Submission::Settle {
            settlement: Settlement::Reveals { .. },
            ..
        } = submission
        {
            self.by_reveals += 1;
        }
        if let Mined::Settled { from, says } = mined
            && self.s.qos == Qos::None
        {
            let last = from + says.len() as u64 - 1;
            for sensor in 0..self.sensors.len() {
                if let Some(w) = self.truth.get(last as usize) {
                    self.oracles
                        .acknowledged
                        .may_drop_below(sensor, w.next_q[sensor].min(w.end_q[sensor]));
                }
            }
        }
        if self.sabotage != Sabotage::SettlesTwice {
            self.hosts[node].outbox.remove(&Key::of(submission));
        }
    }

    /// Two commits that node 0 never signed.
    pub(super) fn fabricated(&self) -> Submission {
        let forged = |x: u8| Commit {
            commitment: Digest([x; 32]),
            opening: Digest([x; 32]),
            signature: Signature([x; 64]),
        };
        let node = self.hosts[0].party.node();
        Submission::Dispute {
            epoch: 0,
            t: 0,
            evidence: Evidence::Equivocation {
                node,
                first: forged(1),
                second: forged(2),
            },
        }
    }
}
