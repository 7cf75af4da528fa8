//! Sensors: they sign frames, send them to some nodes, and send them again until nodes of every user have acknowledged (R7).

use crate::crypto::Party;
use crate::rng::Rng;
use crate::scenario::{AgreementPlan, Oddity, Scenario, SensorPlan};
use crate::truth::{Message, Said};
use diversity_proto::entity::{Period, SensorDeclaration};
use diversity_proto::frame::{self, Frame, Opening, Variable, VariableType, write_body};
use diversity_proto::{Deployment, SensorId, Signature, Writer};
use std::ops::Range;
use std::sync::Arc;

/// A signed frame and who holds it.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// As encoded.
    pub bytes: Arc<[u8]>,
    /// First q.
    pub first_q: u64,
    /// First q after it.
    pub next_q: u64,
    /// When the sensor made it, world time.
    pub made_at: u64,
    /// Erased by the sensor: nodes of every user have it.
    pub erased: bool,
    /// How often it was sent; a second tongue tries only so often.
    pub sent: u32,
}

/// A sensor of the simulated world.
pub struct Sensor {
    /// Its id.
    pub id: SensorId,
    /// What it declared.
    pub declaration: SensorDeclaration,
    /// What it says in its whole life.
    pub said: Said,
    /// Its frames, in order.
    pub frames: Vec<Outgoing>,
    /// What a second tongue says instead.
    pub lies: Vec<Outgoing>,
    /// For each node, what it acknowledged.
    pub acknowledged: Vec<u64>,
    /// For each user of an agreement over this sensor, the nodes that it trusts.
    users: Vec<Vec<usize>>,
    /// To whom it sends.
    pub takers: Vec<usize>,
}

/// One message to come: when it is made (world, ms), what the sensor's clock says (s), and whether the sensor rebooted before it.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// World time, milliseconds.
    pub at: u64,
    /// Sensor time, seconds.
    pub time: u64,
    /// A new boot epoch starts with it.
    pub reboot: bool,
}

impl Sensor {
    /// Signs all that the `k`-th sensor of a plan will ever say, in frames of 1 to `frame_max` messages.
    pub fn new(s: &Scenario, deployment: &Deployment, k: usize, rng: &mut Rng) -> Self {
        let (plan, frame_max) = (&s.sensors[k].messages, s.sensors[k].frame_max);
        let period = s.period;
        let party = Party::new(s.mode, rng.bytes32());
        let id = SensorId::from(party.address);
        let variables = vec![
            Variable {
                name: "locked".into(),
                ty: VariableType::Bool,
            },
            Variable {
                name: "value".into(),
                ty: VariableType::U16,
            },
        ];
        let declaration = SensorDeclaration {
            public_key: party.public,
            sensor_type: "simulated".into(),
            label: String::new(),
            variables,
            period,
        };
        let width = declaration.width();
        let messages: Vec<Message> = plan.iter().map(|p| (p.time, values(rng))).collect();
        let mut sensor = Self {
            id,
            declaration,
            said: Said {
                sensor: id,
                width,
                tongues: vec![messages],
                doubtful_from: u64::MAX,
                lost: s.sensors[k].oddity.map_or(0..0, |o| o.lost()),
            },
            frames: Vec::new(),
            lies: Vec::new(),
            acknowledged: vec![0; s.nodes],
            users: s.over(k).flat_map(AgreementPlan::by_user).collect(),
            takers: s.takers(k),
        };
        let mut pen = Pen {
            party: &party,
            deployment,
            period,
            frame_max,
            width,
            epoch: 0,
            last_frame: None,
        };
        let said = sensor.said.messages().to_vec();
        let lost = sensor.said.lost.clone();
        sensor.frames = pen.write_around(plan, &said, lost, rng);
        if s.sensors[k].two_tongues() {
            sensor.grow_tongue(&s.sensors[k], pen, rng);
        } else if let Some(Oddity::Reframes { q, reboots, .. }) = s.sensors[k].oddity {
            sensor.sign_again(plan, q, reboots, pen, rng);
        }
        sensor
    }

    /// The second tongue: another body at one q in the same epoch, or a boot epoch of its own.
    fn grow_tongue(&mut self, plan: &SensorPlan, mut pen: Pen<'_>, rng: &mut Rng) {
        let mut other = self.said.messages().to_vec();
        let first_q = match plan.oddity {
            Some(Oddity::Contradicts { q }) => {
                // As if it had signed the frame over q a second time.
                let frame = self
                    .frames
                    .iter()
                    .find(|f| (f.first_q..f.next_q).contains(&q));
                let Some(mut frame) = frame.and_then(|f| Frame::decode(&f.bytes).ok()) else {
                    return;
                };
                other[q as usize].1[1] ^= 1;
                let own = &other[frame.first_q as usize..frame.next_q() as usize];
                frame.body = body(own);
                frame.signature = pen.party.sign(&frame.digest(pen.deployment));
                let made_at = plan.messages[q as usize].at;
                self.lies.push(outgoing(&frame, made_at));
                q
            }
            Some(Oddity::Forks { q }) => {
                // Where a frame ends.
                let before = self.frames.iter().rfind(|f| f.next_q <= q);
                let Some(before) = before.or(self.frames.first()) else {
                    return;
                };
                let q = before.next_q;
                let before = Frame::decode(&before.bytes).expect("a sensor made it");
                pen.epoch = before.epoch + 1;
                pen.last_frame = Some(before.digest(pen.deployment));
                for m in &mut other[q as usize..] {
                    m.1 = values(rng);
                }
                let copy = &plan.messages;
                self.lies = pen.write_from(copy, &other, q as usize, rng);
                q
            }
            _ => return,
        };
        self.said.tongues.push(other);
        self.said.doubtful_from = first_q;
    }

    /// The same messages in other frames, from where a frame begins on.
    fn sign_again(
        &mut self,
        plan: &[Planned],
        q: u64,
        reboots: bool,
        mut pen: Pen<'_>,
        rng: &mut Rng,
    ) {
        let before = self.frames.iter().rfind(|f| f.next_q <= q);
        let before = before.map(|f| Frame::decode(&f.bytes).expect("a sensor made it"));
        let said = self.said.messages().to_vec();
        let lost = self.said.lost.clone();
        let from = before.as_ref().map_or(0, Frame::next_q) as usize;
        pen.epoch = before.as_ref().map_or(0, |f| f.epoch);
        pen.last_frame = before.as_ref().map(|f| f.digest(pen.deployment));
        if !lost.is_empty() {
            // A part of the loss alone.
            let to = lost.start + rng.range(1, lost.end - lost.start);
            let last = self.frames.iter().find(|f| f.first_q == lost.start);
            let epoch = last.map(|f| Frame::decode(&f.bytes).expect("a sensor made it").epoch);
            let mut pen = pen.clone();
            pen.epoch = epoch.unwrap_or(0);
            let made_at = plan[to as usize - 1].at;
            self.lies = vec![outgoing(&pen.gap(lost.start, to, false), made_at)];
            return;
        }
        if reboots && before.is_some() {
            pen.epoch += 1;
            self.lies = pen.write_from(plan, &said, from, rng);
        } else {
            self.lies = pen.write(plan, &said, from, rng);
        }
    }

    /// A node acknowledged everything below `next_q`.
    pub fn acknowledge(&mut self, node: usize, next_q: u64) {
        self.acknowledged[node] = self.acknowledged[node].max(next_q);
        let best = |nodes: &Vec<usize>| nodes.iter().map(|i| self.acknowledged[*i]).max();
        let all = self.users.iter().map(|u| best(u).unwrap_or(0)).min();
        // What no agreement is about is sent once to somebody, and that is that.
        let all = all.unwrap_or(next_q);
        for f in &mut self.frames {
            f.erased |= f.next_q <= all;
        }
    }
    /// A frame of the second tongue, whichever was said least.
    pub fn lie(&mut self, now: u64) -> Option<Arc<[u8]>> {
        let made = self.lies.iter_mut().filter(|f| f.made_at <= now);
        let least = made.filter(|f| f.sent < 6).min_by_key(|f| f.sent)?;
        least.sent += 1;
        Some(least.bytes.clone())
    }
    /// Frames that wait for acknowledgements, oldest first.
    pub fn waiting(&self, now: u64) -> impl Iterator<Item = &Outgoing> {
        self.frames
            .iter()
            .filter(move |f| !f.erased && f.made_at <= now)
    }
    /// Whether everything was said and erased; of one with two tongues nobody takes all.
    pub fn done(&self) -> bool {
        self.said.tongues.len() > 1 || self.frames.iter().all(|f| f.erased)
    }
    /// When everything was made that it says, world time.
    pub fn all_made_at(&self) -> u64 {
        self.frames.last().map_or(0, |f| f.made_at)
    }
    /// When message q was made, world time.
    pub fn made_at(&self, q: u64) -> u64 {
        let f = self
            .frames
            .iter()
            .find(|f| (f.first_q..f.next_q).contains(&q));
        f.expect("a message that was said").made_at
    }
}

fn values(rng: &mut Rng) -> Vec<u8> {
    let [a, b] = (rng.below(1 << 16) as u16).to_be_bytes();
    vec![rng.below(2) as u8, a, b]
}

fn body(messages: &[Message]) -> Vec<u8> {
    let mut w = Writer::new();
    write_body(
        &mut w,
        messages.iter().map(|(time, values)| frame::Message {
            time: *time,
            values,
        }),
    );
    w.finish()
}

fn outgoing(frame: &Frame, made_at: u64) -> Outgoing {
    Outgoing {
        bytes: frame.encode().into(),
        first_q: frame.first_q,
        next_q: frame.next_q(),
        made_at,
        erased: false,
        sent: 0,
    }
}

/// Signs frames.
#[derive(Clone)]
struct Pen<'a> {
    party: &'a Party,
    deployment: &'a Deployment,
    period: Period,
    frame_max: u64,
    width: u8,
    epoch: u32,
    last_frame: Option<diversity_proto::Digest>,
}

impl Pen<'_> {
    /// Frames over all that is said, with a gap record over what is lost of it.
    fn write_around(
        &mut self,
        plan: &[Planned],
        said: &[Message],
        lost: Range<u64>,
        rng: &mut Rng,
    ) -> Vec<Outgoing> {
        if lost.is_empty() {
            return self.write(plan, said, 0, rng);
        }
        let (start, end) = (lost.start as usize, lost.end as usize);
        let mut out = self.write(&plan[..start], said, 0, rng);
        let gap = self.gap(lost.start, lost.end, false);
        out.push(outgoing(&gap, plan[end - 1].at));
        out.extend(self.write(plan, said, end, rng));
        out
    }
    /// A gap record.
    fn gap(&mut self, from: u64, to: u64, opens: bool) -> Frame {
        self.finish(Frame {
            lost: (to - from) as u32,
            width: 0,
            ..self.frame(&[], from, opens)
        })
    }
    /// Frames over all that is said from `q` on.
    fn write(
        &mut self,
        plan: &[Planned],
        said: &[Message],
        q: usize,
        rng: &mut Rng,
    ) -> Vec<Outgoing> {
        let (mut q, mut out) = (q, Vec::new());
        while q < plan.len() {
            let reboot = plan[q].reboot && q > 0;
            if reboot {
                self.epoch += 1;
            }
            let end = self.end(plan, q, rng);
            let frame = self.sign(&said[q..end], q as u64, reboot);
            out.push(outgoing(&frame, plan[end - 1].at));
            q = end;
        }
        out
    }
    /// The same, beginning with a boot epoch of its own.
    fn write_from(
        &mut self,
        plan: &[Planned],
        said: &[Message],
        q: usize,
        rng: &mut Rng,
    ) -> Vec<Outgoing> {
        if q >= plan.len() {
            return Vec::new();
        }
        let end = self.end(plan, q, rng);
        let first = self.sign(&said[q..end], q as u64, true);
        let mut out = vec![outgoing(&first, plan[end - 1].at)];
        out.extend(self.write(plan, said, end, rng));
        out
    }
    /// A frame crosses neither a reboot nor a period.
    fn end(&self, plan: &[Planned], q: usize, rng: &mut Rng) -> usize {
        let end = (q + rng.range(1, self.frame_max) as usize).min(plan.len());
        let apart = |i: &usize| plan[*i].reboot || !self.period.same(plan[*i].time, plan[q].time);
        (q + 1..end).find(apart).unwrap_or(end)
    }
    fn sign(&mut self, messages: &[Message], first_q: u64, opens: bool) -> Frame {
        self.finish(self.frame(messages, first_q, opens))
    }
    fn frame(&self, messages: &[Message], first_q: u64, opens: bool) -> Frame {
        let opening = opens.then(|| Opening {
            last_q: first_q - 1,
            last_frame: self.last_frame.expect("a frame came before the reboot"),
        });
        Frame {
            sensor: SensorId::from(self.party.address),
            epoch: self.epoch,
            first_q,
            count: messages.len() as u16,
            lost: 0,
            width: self.width,
            opening,
            body: body(messages),
            signature: Signature([0; 64]),
        }
    }
    fn finish(&mut self, mut frame: Frame) -> Frame {
        let digest = frame.digest(self.deployment);
        frame.signature = self.party.sign(&digest);
        self.last_frame = Some(digest);
        frame
    }
}
