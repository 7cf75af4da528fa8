//! Somebody outside the network: knocks at the API of every node with what no sensor ever signed.

use super::*;
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
