//! N1: an acknowledged frame stays readable after any crash until its windows are final under their QoS.

use crate::disk::Disk;
use crate::truth::{Message, Said};
use diversity_engine::api::Op;
use diversity_engine::records::{SEGMENT, split_segment};
use diversity_proto::SensorId;
use diversity_proto::frame::Frame;

/// What each node has acknowledged and what its disk holds.
pub struct Acknowledged {
    said: Vec<Said>,
    /// For each node and sensor: first q that was not acknowledged.
    promised: Vec<Vec<u64>>,
    /// For each node and sensor: which q its disk holds, and of which tongue.
    held: Vec<Vec<Vec<Option<usize>>>>,
    /// For each sensor: q below this are in no window that is not final, so that QoS `none` may drop them.
    droppable: Vec<u64>,
}

impl Acknowledged {
    /// Nothing is stored or promised yet.
    pub fn new(said: Vec<Said>, nodes: usize) -> Self {
        let empty: Vec<_> = said.iter().map(|s| vec![None; longest(s)]).collect();
        Self {
            promised: vec![vec![0; said.len()]; nodes],
            held: vec![empty; nodes],
            droppable: vec![0; said.len()],
            said,
        }
    }
    /// Under QoS `none`: every window that needs a q below `next_q` of this sensor is final.
    pub fn may_drop_below(&mut self, sensor: usize, next_q: u64) {
        self.droppable[sensor] = self.droppable[sensor].max(next_q);
    }

    /// The node's disk was replaced by an old copy of it: what it promised since is lost, by its operator's doing.
    pub fn excuse(&mut self, node: usize) {
        self.promised[node].fill(0);
    }

    /// A batch became durable.
    pub fn flushed(&mut self, node: usize, ops: &[Op], disk: &Disk) -> Result<(), String> {
        for op in ops {
            match op {
                Op::Put { key, value } if key.first() == Some(&SEGMENT) => {
                    self.read(node, value)?
                }
                Op::Delete { key } if key.first() == Some(&SEGMENT) => {
                    return self.recovered(node, disk);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn read(&mut self, node: usize, segment: &[u8]) -> Result<(), String> {
        for bytes in split_segment(segment).map_err(|e| format!("a segment of node {node}: {e}"))? {
            let frame =
                Frame::decode(bytes).map_err(|e| format!("a stored frame of node {node}: {e}"))?;
            let s = self
                .index(&frame.sensor)
                .ok_or_else(|| format!("node {node} stores a frame of nobody"))?;
            if frame.is_gap() {
                let lost = &self.said[s].lost;
                if frame.first_q < lost.start || frame.next_q() > lost.end {
                    return Err(format!(
                        "node {node} stores another gap record of sensor {s} than was said"
                    ));
                }
                for q in frame.first_q..frame.next_q() {
                    self.held[node][s][q as usize].get_or_insert(0);
                }
            }
            for (q, m) in (frame.first_q..).zip(frame.messages()) {
                let said = |tongue: &Vec<Message>| {
                    let at = tongue.get(q as usize);
                    at.is_some_and(|(time, values)| (m.time, m.values) == (*time, values))
                };
                let tongue = self.said[s].tongues.iter().position(said).ok_or_else(|| {
                    format!("node {node} stores another q {q} of sensor {s} than was said")
                })?;
                // P-FRAME-8: of a frame that overlaps others only what they lack counts.
                self.held[node][s][q as usize].get_or_insert(tongue);
            }
        }
        Ok(())
    }

    /// A node came back from a crash, or deleted segments: all that it promised must be on its disk.
    pub fn recovered(&mut self, node: usize, disk: &Disk) -> Result<(), String> {
        self.held[node].iter_mut().for_each(|h| h.fill(None));
        for (key, value) in disk.records() {
            if key.first() == Some(&SEGMENT) {
                self.read(node, value)?;
            }
        }
        (0..self.said.len()).try_for_each(|s| self.check(node, s))
    }

    /// A node told a sensor what it holds.
    pub fn answered(&mut self, node: usize, held: &[(SensorId, u32, u64)]) -> Result<(), String> {
        for (sensor, _, next_q) in held {
            let s = self.index(sensor).ok_or_else(|| {
                format!("node {node} acknowledges a sensor that nobody registered")
            })?;
            let promised = &mut self.promised[node][s];
            if *next_q < *promised {
                return Err(format!(
                    "node {node} acknowledged sensor {s} up to q {promised} and now says {next_q}"
                ));
            }
            *promised = *next_q;
            self.check(node, s)?;
        }
        Ok(())
    }

    fn check(&self, node: usize, s: usize) -> Result<(), String> {
        let promised = self.promised[node][s];
        if promised > longest(&self.said[s]) as u64 {
            return Err(format!(
                "node {node} acknowledged q {promised} of sensor {s}, which was never said"
            ));
        }
        match (self.droppable[s]..promised).find(|q| self.held[node][s][*q as usize].is_none()) {
            Some(q) => Err(format!(
                "node {node} acknowledged sensor {s} up to q {promised} and its disk lacks q {q}"
            )),
            None => Ok(()),
        }
    }

    /// The first q of a sensor that the disk of a node lacks.
    pub fn lacks(&self, node: usize, sensor: usize) -> u64 {
        let held = &self.held[node][sensor];
        held.iter().position(Option::is_none).unwrap_or(held.len()) as u64
    }

    /// Which tongue of a sensor a node holds at q, if any.
    pub fn heard(&self, node: usize, sensor: usize, q: u64) -> Option<usize> {
        self.held[node][sensor].get(q as usize).copied().flatten()
    }

    /// Which tongue of a sensor a node heard at q.
    pub fn tongue(&self, node: usize, sensor: usize, q: u64) -> usize {
        self.heard(node, sensor, q).unwrap_or(0)
    }

    fn index(&self, sensor: &SensorId) -> Option<usize> {
        self.said.iter().position(|s| s.sensor == *sensor)
    }
}

fn longest(said: &Said) -> usize {
    said.tongues.iter().map(Vec::len).max().unwrap_or(0)
}
