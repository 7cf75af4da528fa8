//! Somebody outside the network: knocks at the API of every node with what no sensor ever signed; and nodes that have no agreement
//! over a sensor, which ask for its messages and send them all the same (R11).

use super::*;
use crate::scenario::AgreementPlan;
use diversity_proto::NodeId;
use diversity_proto::frame::Frame;

impl World {
    pub(super) fn stranger(&mut self) {
        if !self.faulty() {
            return;
        }
        let pause = self.stranger_rng.range(50, 500);
        self.schedule(self.now + pause, Event::Stranger);
        let node = self.stranger_rng.index(self.hosts.len());
        if self.hosts[node].core.is_none() {
            return;
        }
        let sensor = self.stranger_rng.index(self.sensors.len());
        let frames = (0..self.stranger_rng.range(1, 4))
            .filter_map(|_| self.rubbish(sensor))
            .collect();
        // Nobody waits for this ticket.
        let ticket = self.hosts[node].fresh();
        let source = Source::Api(ticket);
        self.step(node, Input::Frames { source, frames });
        self.nosy(node, sensor);
    }

    /// A node that does not share the sensor with this one wants to have its messages, and to give some.
    fn nosy(&mut self, node: usize, sensor: usize) {
        if self.hosts[node].core.is_none() {
            return;
        }
        let others = (0..self.hosts.len()).filter(|i| *i != node && !self.share(*i, node, sensor));
        let others: Vec<_> = others.collect();
        // One that is in no agreement at all, if all nodes share it.
        let who = others.get(self.stranger_rng.index(others.len().max(1)));
        let from = match who {
            Some(i) => self.hosts[*i].party.node(),
            None => NodeId(
                self.stranger_rng.bytes32()[..20]
                    .try_into()
                    .expect("20 bytes"),
            ),
        };
        let token = self.hosts[node].fresh();
        self.hosts[node].strangers.insert(token);
        let range = diversity_proto::wire::Range {
            sensor: self.sensors[sensor].id,
            from_q: 0,
            to_q: 1 << 20,
        };
        let asks = Input::RepairRequest {
            token,
            from,
            ranges: vec![range],
        };
        self.step(node, asks);
        let said = &self.sensors[sensor].frames;
        let Some(genuine) = said.get(self.stranger_rng.index(said.len().max(1))) else {
            return;
        };
        let frames = vec![genuine.bytes.to_vec()];
        let source = Source::Peer(from);
        self.taking_nothing = Some(node);
        self.step(node, Input::Frames { source, frames });
        self.taking_nothing = None;
    }

    /// Whether two nodes are in one agreement over the sensor.
    pub(super) fn share(&self, one: usize, other: usize, sensor: usize) -> bool {
        let both = |a: &AgreementPlan| a.nodes.contains(&one) && a.nodes.contains(&other);
        self.s.over(sensor).any(both)
    }

    /// Bytes that are no frame, or a genuine frame with something changed.
    fn rubbish(&mut self, sensor: usize) -> Option<Vec<u8>> {
        let rng = &mut self.stranger_rng;
        if rng.chance(200) {
            return Some(rng.bytes32()[..rng.index(32)].to_vec());
        }
        let genuine = &self.sensors[sensor].frames;
        let genuine = genuine.get(rng.index(genuine.len().max(1)))?;
        let mut frame = Frame::decode(&genuine.bytes).expect("a sensor made it");
        match rng.below(6) {
            0 => frame.sensor = SensorId(rng.bytes32()[..20].try_into().expect("20 bytes")),
            1 => frame.first_q += rng.range(1, 1 << 20),
            2 => frame.epoch += 1,
            3 => frame.signature.0[rng.index(64)] ^= 1,
            4 if frame.is_gap() => frame.lost += 1,
            4 => {
                let at = rng.index(frame.body.len());
                frame.body[at] ^= 1;
            }
            _ => frame.first_q = u64::MAX - 3,
        }
        Some(frame.encode())
    }
}
