//! Sensors: they sign frames, send them to some nodes, and send them again until nodes of every user have acknowledged (R7).

use crate::crypto::Party;
use crate::rng::Rng;
use crate::scenario::{AgreementPlan, Scenario};
use crate::truth::Said;
use diversity_proto::entity::{Period, SensorDeclaration};
use diversity_proto::frame::{Frame, Message, Opening, Variable, VariableType, write_body};
use diversity_proto::{Deployment, SensorId, Signature, Writer};
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
        let messages: Vec<_> = plan
            .iter()
            .map(|p| {
                let [a, b] = (rng.below(1 << 16) as u16).to_be_bytes();
                (p.time, vec![rng.below(2) as u8, a, b])
            })
            .collect();
        let mut sensor = Self {
            id,
            declaration,
            said: Said {
                sensor: id,
                width,
                messages,
            },
            frames: Vec::new(),
            acknowledged: vec![0; s.nodes],
            users: s.over(k).flat_map(AgreementPlan::by_user).collect(),
            takers: s.takers(k),
        };
        sensor.sign_all(&party, deployment, period, plan, frame_max, rng);
        sensor
    }

    fn sign_all(
        &mut self,
        party: &Party,
        deployment: &Deployment,
        period: Period,
        plan: &[Planned],
        frame_max: u64,
        rng: &mut Rng,
    ) {
        let (mut q, mut epoch, mut last_frame) = (0, 0, None);
        while q < plan.len() {
            let reboot = plan[q].reboot && q > 0;
            if reboot {
                epoch += 1;
            }
            let mut end = (q + rng.range(1, frame_max) as usize).min(plan.len());
            // A frame crosses neither a reboot nor a period.
            if let Some(cut) =
                (q + 1..end).find(|i| plan[*i].reboot || !period.same(plan[*i].time, plan[q].time))
            {
                end = cut;
            }
            let mut body = Writer::new();
            let messages = self.said.messages[q..end]
                .iter()
                .map(|(time, values)| Message {
                    time: *time,
                    values,
                });
            write_body(&mut body, messages);
            let opening = reboot.then(|| Opening {
                last_q: q as u64 - 1,
                last_frame: last_frame.expect("a frame came before the reboot"),
            });
            let mut frame = Frame {
                sensor: self.id,
                epoch,
                first_q: q as u64,
                count: (end - q) as u16,
                width: self.said.width,
                opening,
                body: body.finish(),
                signature: Signature([0; 64]),
            };
            let digest = frame.digest(deployment);
            frame.signature = party.sign(&digest);
            last_frame = Some(digest);
            self.frames.push(Outgoing {
                bytes: frame.encode().into(),
                first_q: q as u64,
                next_q: end as u64,
                made_at: plan[end - 1].at,
                erased: false,
            });
            q = end;
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
    /// Frames that wait for acknowledgements, oldest first.
    pub fn waiting(&self, now: u64) -> impl Iterator<Item = &Outgoing> {
        self.frames
            .iter()
            .filter(move |f| !f.erased && f.made_at <= now)
    }
    /// Whether everything was said and erased.
    pub fn done(&self) -> bool {
        self.frames.iter().all(|f| f.erased)
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
