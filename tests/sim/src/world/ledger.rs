//! The chain: agreements come and end, nodes look at it, and what they submit is mined.

use super::*;
use crate::crypto::verify;
use diversity_engine::api::SubmissionId;
use diversity_proto::frame::{Contradiction, Frame};

impl World {
    pub(super) fn poll(&mut self, node: usize, incarnation: u32) {
        if self.hosts[node].incarnation != incarnation {
            return;
        }
        self.schedule(self.now + POLL_MS, Event::Poll { node, incarnation });
        if self.outage() {
            return;
        }
        let faulty = self.faulty();
        let lag = if faulty { self.s.lag_ms[node] } else { 0 };
        let host = &mut self.hosts[node];
        if faulty && self.rng.chance(self.s.repeat / 10) {
            host.cursor -= self.rng.index(host.cursor + 1);
        }
        let news: Vec<News> = self.news[host.cursor..]
            .iter()
            .take_while(|(mined, _)| mined + self.s.rpc_ms + lag <= self.now)
            .map(|(_, n)| n.clone())
            .collect();
        // What was told a poll ago has long arrived; if no batch waits, it is durable.
        if host.disk.waiting() == 0 {
            host.safe_cursor = host.told;
        }
        host.cursor += news.len();
        host.told = host.cursor;
        // What another settlement has overtaken can never be mined again.
        if self.sabotage != Sabotage::SettlesTwice {
            for a in &self.agreements {
                let next_t = a.contract.next_t;
                host.outbox.retain(|k, _| match k {
                    SubmissionId::Settle(of, _, _, t, _) | SubmissionId::Hole(of, _, t) => {
                        *of != a.id() || *t >= next_t
                    }
                    _ => true,
                });
            }
        }
        // In the order of the chain; a second telling may come behind later news.
        let arrives = self.now + self.rng.below(self.s.rpc_ms + 1);
        for n in news {
            let input = match n {
                News::Agreement(a) => self.agreement_input(node, a),
                News::Event(e) => Some(Input::Chain(e)),
            };
            let Some(input) = input else { continue };
            let twice = self.faulty() && self.rng.chance(self.s.repeat);
            for _ in 0..=u32::from(twice) {
                let input = Box::new(input.clone());
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

    /// An agreement stands on chain.
    pub(super) fn create(&mut self, agreement: usize) {
        self.agreements[agreement].stands = true;
        self.trace.note(self.now, usize::MAX, "create", || {
            format!("chain: agreement {agreement} stands")
        });
        self.news.push((self.now, News::Agreement(agreement)));
    }

    /// All users end an agreement.
    pub(super) fn close(&mut self, agreement: usize, after: u64) {
        let a = &mut self.agreements[agreement];
        let event = a.contract.close(&a.aggregate, after);
        self.trace.note(self.now, usize::MAX, "close", || {
            format!("chain: agreement {agreement}: {event:?}")
        });
        self.news.push((self.now, News::Event(event)));
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
            let id = submission.id();
            let result = match &submission {
                Submission::Contradiction {
                    sensor,
                    contradiction,
                } => self.void(sensor, contradiction),
                _ => self.run_transaction(node, &submission),
            };
            self.trace.note(self.now, usize::MAX, ("tx", node), || {
                format!("chain: {id:?} of node {node}: {result:?}")
            });
            let keeps = self.sabotage == Sabotage::SettlesTwice;
            match result {
                Err(Revert::NotYet) => {}
                Ok(()) if keeps => {}
                Ok(()) | Err(Revert::Overtaken | Revert::BeyondEnd) => {
                    self.hosts[node].outbox.remove(&id);
                }
                Err(Revert::Refused(why)) if self.honest(node) => {
                    let text = format!("the contract refuses {id:?} of honest node {node}: {why}");
                    self.oracles.judge(self.now, "chain", Err(text));
                }
                Err(Revert::Refused(_)) => {
                    self.hosts[node].outbox.remove(&id);
                }
            }
        }
    }

    fn void(&mut self, sensor: &SensorId, c: &Contradiction) -> Result<(), Revert> {
        let of = self.sensors.iter().find(|s| s.id == *sensor);
        let key = of.ok_or(Revert::Refused("no such sensor"))?;
        let key = key.declaration.public_key;
        let signed = |bytes: &[u8]| {
            Frame::decode(bytes).is_ok_and(|f| {
                f.sensor == *sensor
                    && verify(self.s.mode, &key, &f.digest(&self.deployment), &f.signature)
            })
        };
        let both = signed(&c.first) && signed(&c.second);
        self.voids.record(sensor, c, both)?;
        let verdict = self.oracles.blame.sensor(sensor);
        self.oracles.judge(self.now, "N4", verdict);
        let event = ChainEvent::SensorVoid {
            sensor: *sensor,
            contradiction: c.clone(),
        };
        self.news.push((self.now, News::Event(event)));
        Ok(())
    }

    fn run_transaction(&mut self, node: usize, submission: &Submission) -> Result<(), Revert> {
        let id = match submission {
            Submission::Settle { agreement, .. }
            | Submission::Hole { agreement, .. }
            | Submission::Misbehaviour { agreement, .. } => *agreement,
            Submission::Reading { outcome, .. } => outcome.agreement,
            Submission::Contradiction { .. } => unreachable!("no transaction of an agreement"),
        };
        let agreement = self.index_of(&id);
        let a = &mut self.agreements[agreement];
        let (mined, events) = a.contract.apply(&a.aggregate, submission)?;
        if let Submission::Settle {
            settlement: Settlement::Reveals { .. },
            ..
        } = submission
        {
            self.by_reveals += 1;
        }
        let _ = node;
        self.mined(agreement, mined, events);
        Ok(())
    }

    /// The chain has changed.
    pub(super) fn mined(&mut self, agreement: usize, mined: Mined, events: Vec<ChainEvent>) {
        let at = self.now;
        let news = events.into_iter().map(|e| (at, News::Event(e)));
        self.news.extend(news);
        let a = &mut self.agreements[agreement];
        let verdict = a.finality.mined(&mined);
        let verdict = verdict.map_err(|text| format!("agreement {agreement}: {text}"));
        self.oracles.judge(self.now, "N2", verdict);
        match mined {
            Mined::Blamed(node) => {
                self.blamed += 1;
                let verdict = self.oracles.blame.recorded(&node);
                self.oracles.judge(self.now, "N4", verdict);
            }
            Mined::Covered { .. } | Mined::Resolved { .. } => self.let_go(),
            Mined::Cell { .. } => {}
        }
    }

    /// Messages that no window of any agreement needs any more may be dropped.
    fn let_go(&mut self) {
        for sensor in 0..self.sensors.len() {
            let needs = self.agreements.iter().filter_map(|a| a.needs_from(sensor));
            if let Some(q) = needs.min() {
                self.oracles.acknowledged.may_drop_below(sensor, q);
            }
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
        Submission::Misbehaviour {
            agreement: self.agreements[0].id(),
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
