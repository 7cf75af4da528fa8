//! The world of a plan at its start.

use super::*;

impl World {
    /// The world of a plan at its start. With `print` it tells what happens.
    pub fn new(s: Scenario, sabotage: Sabotage, print: bool) -> Self {
        let n = s.nodes;
        let deployment = deployment();
        let mut rng = Rng::new(s.seed, 2);
        let mut parties: Vec<_> = (0..n).map(|_| Party::new(s.mode, rng.bytes32())).collect();
        parties.sort_unstable_by_key(|p| p.node());
        let mut sensor_rng = Rng::new(s.seed, 3);
        let sensors: Vec<_> = (0..s.sensors.len())
            .map(|k| Sensor::new(&s, &deployment, k, &mut sensor_rng))
            .collect();
        let agreements: Vec<_> = (0..s.agreements.len())
            .map(|i| Agreement::new(&s, i, &parties, &sensors))
            .collect();
        let oracles = oracles(&s, &parties, &sensors, &agreements);
        let names = Names {
            nodes: parties.iter().map(Party::node).collect(),
            agreements: agreements.iter().map(Agreement::id).collect(),
        };
        let hosts = parties
            .into_iter()
            .enumerate()
            .map(|(i, p)| Host::new(p, n, s.actor.filter(|a| a.node == i).map(|a| actor(&a))))
            .collect();
        let mut world = Self {
            now: START,
            queue: BTreeMap::new(),
            scheduled: 0,
            actor_rng: Rng::new(s.seed, 4),
            stranger_rng: Rng::new(s.seed, 5),
            taking_nothing: None,
            net: Net::new(&s),
            news: Vec::new(),
            voids: Voids::default(),
            restored: vec![false; n],
            pool: Vec::new(),
            trace: Trace::new(START, print),
            blamed: 0,
            words: 0,
            by_reveals: 0,
            states: 0,
            lost_since: BTreeMap::new(),
            crashes: 0,
            names,
            members: members(&agreements),
            s,
            rng,
            deployment,
            agreements,
            hosts,
            sensors,
            oracles,
            sabotage,
            tried: BTreeSet::new(),
        };
        let gullible = matches!(
            sabotage,
            Sabotage::SettlesTwice | Sabotage::SettlesWrongResult | Sabotage::FabricatedEvidence
        );
        for a in &mut world.agreements {
            a.contract.gullible = gullible;
        }
        world.plant();
        world
    }

    fn plant(&mut self) {
        for node in 0..self.hosts.len() {
            let at = START + self.rng.below(50);
            self.schedule(at, Event::Start { node });
        }
        for sensor in 0..self.sensors.len() {
            self.schedule(START + 10, Event::Sensor { sensor });
        }
        for agreement in 0..self.agreements.len() {
            let plan = &self.agreements[agreement].plan;
            let (created_at, closes) = (plan.created_at, plan.closes);
            if created_at <= START {
                self.create(agreement);
            } else {
                self.schedule(created_at, Event::Create { agreement });
            }
            if let Some((at, after)) = closes {
                self.schedule(at, Event::Close { agreement, after });
            }
        }
        if let Some(b) = self.s.backup {
            self.schedule(b.taken_at, Event::Backup { node: b.node });
            self.schedule(b.restored_at, Event::Restore { node: b.node });
        }
        if self.s.users {
            self.schedule(START + 300, Event::Users);
        }
        if self.s.stranger {
            self.schedule(START + 200, Event::Stranger);
        }
        for crash in 0..self.s.crashes.len() {
            self.schedule(self.s.crashes[crash].at, Event::Doom { crash });
        }
        self.schedule(START + self.s.block_ms, Event::Block);
        self.schedule(START + 100, Event::Look);
        if self.sabotage == Sabotage::FabricatedEvidence {
            let submission = Box::new(self.fabricated());
            self.schedule(
                START + 500,
                Event::Transaction {
                    node: 1,
                    submission,
                },
            );
        }
        // Ends of partitions are noticed in a while; their beginnings sometimes.
        for p in self.s.partitions.clone() {
            for edge in [p.from, p.to, self.s.heal_at] {
                for (node, peer) in pairs(self.hosts.len()) {
                    let at = edge + self.rng.below(800);
                    self.schedule(at, Event::Link { node, peer });
                }
            }
        }
    }
}

/// Chain and contract of every run.
pub(super) fn deployment() -> Deployment {
    Deployment {
        chain_id: 31_337,
        contract: Address([0xd1; 20]),
    }
}

fn oracles(
    s: &Scenario,
    parties: &[Party],
    sensors: &[Sensor],
    agreements: &[Agreement],
) -> Oracles {
    let honest: Vec<_> = (0..s.nodes).map(|i| s.honest(i)).collect();
    let ids: Vec<_> = parties.iter().map(Party::node).collect();
    let blameless = (0..s.nodes)
        .filter(|i| honest[*i])
        .map(|i| ids[i])
        .collect();
    let of_one_tongue = sensors
        .iter()
        .zip(&s.sensors)
        .filter(|(_, plan)| !plan.two_tongues())
        .map(|(x, _)| x.id)
        .collect();
    let places = agreements
        .iter()
        .map(|a| (a.id(), a.plan.nodes.clone()))
        .collect();
    let said = sensors.iter().map(|s| s.said.clone()).collect();
    Oracles {
        acknowledged: Acknowledged::new(said, s.nodes),
        signing: Signing::new(deployment(), ids, places, honest),
        blame: Blame::new(blameless, of_one_tongue),
        bounds: Bounds::default(),
        violation: None,
    }
}

/// Nodes of each agreement in node-index order.
fn members(agreements: &[Agreement]) -> BTreeMap<AgreementId, Vec<NodeId>> {
    let ids = |a: &Agreement| a.terms.nodes.iter().map(|n| n.node).collect();
    agreements.iter().map(|a| (a.id(), ids(a))).collect()
}
