//! What comes from outside a node: peers and sensors.

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
            let takers = self.sensors[sensor].takers.clone();
            let lacks = |i: &usize| self.sensors[sensor].acknowledged[*i] < waiting[0].1;
            let lacking: Vec<_> = takers.iter().copied().filter(lacks).collect();
            for _ in 0..self.rng.range(1, 2) {
                let node = if lacking.is_empty() {
                    self.rng.pick(&takers)
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
        if self.now < self.s.heal_at
            && self.rng.chance(300)
            && let Some(lie) = self.sensors[sensor].lie(self.now)
        {
            let node = self.rng.pick(&self.sensors[sensor].takers.clone());
            for at in self.net.arrivals(&self.s, self.now, usize::MAX, node) {
                let frames = vec![lie.clone()];
                self.schedule(
                    at,
                    Event::Api {
                        sensor,
                        node,
                        frames,
                    },
                );
            }
        }
        let said = self.s.heal_at.max(self.sensors[sensor].all_made_at());
        let stops = self.sensors[sensor].done() && self.now > said + 2_000;
        if !stops {
            self.schedule(self.now + RESEND_MS, Event::Sensor { sensor });
        }
    }
}
