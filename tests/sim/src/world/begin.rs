//! The world of a plan at its start.

use super::*;

impl World {
    /// The world of a plan at its start. With `print` it tells what happens.
    pub fn new(s: Scenario, sabotage: Sabotage, print: bool) -> Self {
        let n = s.nodes();
        let deployment = Deployment {
            chain_id: 31_337,
            contract: Address([0xd1; 20]),
        };
        let mut rng = Rng::new(s.seed, 2);
        let mut parties: Vec<_> = (0..n).map(|_| Party::new(s.mode, rng.bytes32())).collect();
        parties.sort_unstable_by_key(|p| p.node());
        let mut sensor_rng = Rng::new(s.seed, 3);
        let sensors: Vec<_> = s
            .sensors
            .iter()
            .map(|(plan, _, max)| {
                Sensor::new(
                    s.mode,
                    &deployment,
                    s.period,
                    plan,
                    *max,
                    n,
                    &mut sensor_rng,
                )
            })
            .collect();
        let terms = terms(&s, &parties, &sensors);
        terms.validate().expect("the scenario makes valid terms");
        let keys: Vec<_> = parties.iter().map(|p| p.public).collect();
        let aggregate = Aggregate::new(s.mode, &deployment, keys, &terms.digest());
        let ids: Vec<_> = parties.iter().map(|p| p.node()).collect();
        let said: Vec<_> = sensors.iter().map(|s| s.said.clone()).collect();
        let truth = truth::windows(
            &terms,
            &said,
            |t| s.behaviour(t),
            s.keeps_carry,
            |t| s.all_abstain(t),
        );
        let ready_at = truth.iter().map(|w| ready_at(&s, &sensors, w)).collect();
        let honest: Vec<_> = (0..n).map(|i| s.honest(i)).collect();
        let honest_ids = (0..n).filter(|i| honest[*i]).map(|i| ids[i]).collect();
        let (lies, abstains) = (s.actor.is_some(), s.abstains.clone());
        let oracles = Oracles {
            acknowledged: Acknowledged::new(said, n),
            finality: Finality::new(truth.clone(), move |t| {
                lies || abstains.iter().any(|(_, at)| *at == t)
            }),
            signing: Signing::new(deployment, ids.clone(), honest),
            blame: Blame::new(honest_ids),
            liveness: Liveness::new(bound_ms(&s)),
            violation: None,
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
            net: Net::new(&s),
            contract: Contract::new(s.mode, deployment, ids.clone()),
            pool: Vec::new(),
            trace: Trace::new(START, print),
            blamed: 0,
            by_reveals: 0,
            crashes: 0,
            told_since: None,
            names: Names(ids.clone()),
            s,
            rng,
            deployment,
            aggregate,
            terms,
            hosts,
            sensors,
            truth,
            ready_at,
            oracles,
            sabotage,
        };
        world.contract.gullible = matches!(
            sabotage,
            Sabotage::SettlesTwice | Sabotage::SettlesWrongResult | Sabotage::FabricatedEvidence
        );
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

fn terms(s: &Scenario, parties: &[Party], sensors: &[Sensor]) -> Terms {
    let users = s.trust.iter().max().map_or(0, |u| u + 1);
    let field = |name: &str, ty: &str| Field {
        name: name.into(),
        ty: ty.into(),
    };
    Terms {
        title: "simulated".into(),
        users: (1..=users).map(|u| UserId([u; 20])).collect(),
        nodes: parties
            .iter()
            .zip(&s.trust)
            .map(|(p, t)| TrustedNode {
                node: p.node(),
                trust: *t,
            })
            .collect(),
        sensors: sensors
            .iter()
            .zip(&s.sensors)
            .map(|(x, (_, q0, _))| SensorStart {
                sensor: x.id,
                q0: *q0,
            })
            .collect(),
        off_chain_code: Digest([7; 32]),
        window: s.window,
        future_tolerance_s: s.future_tolerance_s,
        leader: s.leader,
        flush_ms: s.flush_ms,
        round_timeout_ms: s.round_timeout_ms,
        round_timeout_max_ms: s.round_timeout_max_ms,
        batch: s.batch,
        qos: s.qos,
        result: vec![
            field("sum", "uint64"),
            field("count", "uint32"),
            field("fold", "bytes4"),
        ],
        detail: vec![field("sum", "uint64"), field("count", "uint32")],
    }
}
