//! One agreement of the simulated world: its contract, its truth, and the oracles that are its own.

use super::*;
use crate::scenario::AgreementPlan;

/// An agreement.
pub struct Agreement {
    /// What the scenario says of it.
    pub plan: AgreementPlan,
    /// Its terms.
    pub terms: Terms,
    /// Its key.
    pub aggregate: Aggregate,
    /// Its part of the contract.
    pub contract: Contract,
    /// What every window must be.
    pub truth: Vec<TrueWindow>,
    /// When each of them can be had, world time.
    pub ready_at: Vec<u64>,
    /// N2.
    pub finality: Finality,
    /// N5.
    pub liveness: Liveness,
    /// Since when an honest node does not know of something that the chain holds, once faults have stopped.
    pub told_since: Option<u64>,
    /// Whether it stands on chain.
    pub stands: bool,
}

impl Agreement {
    /// The `i`-th agreement of a plan.
    pub fn new(s: &Scenario, i: usize, parties: &[Party], sensors: &[Sensor]) -> Self {
        let plan = s.agreements[i].clone();
        let deployment = deployment();
        let terms = terms(&plan, i, parties, sensors);
        terms.validate().expect("the scenario makes valid terms");
        let member = |i: &usize| &parties[*i];
        let keys = plan.nodes.iter().map(|i| member(i).public).collect();
        let ids = plan.nodes.iter().map(|i| member(i).node()).collect();
        let said: Vec<_> = plan
            .sensors
            .iter()
            .map(|(k, _)| &sensors[*k].said)
            .collect();
        let truth = truth::windows(
            &terms,
            &said,
            |t| plan.behaviour(t),
            plan.keeps_carry,
            |t| plan.all_abstain(t),
        );
        let ready_at = truth
            .iter()
            .map(|w| ready_at(s, &plan, sensors, w))
            .collect();
        let lies = s.actor_in(i).is_some_and(|a| a.kind.makes_holes());
        let abstains = plan.abstains.clone();
        Self {
            aggregate: Aggregate::new(s.mode, &deployment, keys, &terms.digest()),
            contract: Contract::new(s.mode, deployment, ids),
            finality: Finality::new(truth.clone(), move |t| {
                lies || abstains.iter().any(|(_, at)| *at == t)
            }),
            liveness: Liveness::new(bound_ms(s, i)),
            terms,
            truth,
            ready_at,
            told_since: None,
            stands: false,
            plan,
        }
    }

    /// `a`.
    pub fn id(&self) -> AgreementId {
        self.aggregate.id
    }
    /// Number of windows that may become final.
    pub fn windows(&self) -> u64 {
        self.contract.end.min(self.truth.len() as u64)
    }
    /// Whether every window is final.
    pub fn complete(&self) -> bool {
        self.liveness.first_open() >= self.windows()
    }
    /// For a sensor of the world: below which q no window needs its messages any more, as far as the chain has settled.
    pub fn needs_from(&self, sensor: usize) -> Option<u64> {
        let k = self.plan.sensors.iter().position(|s| s.0 == sensor)?;
        let settled = self.contract.next_t.checked_sub(1);
        let window = settled.and_then(|t| self.truth.get(t as usize));
        Some(match window {
            Some(w) if self.plan.qos == Qos::None => w.next_q[k].min(w.end_q[k]),
            _ => 0,
        })
    }
}

fn terms(plan: &AgreementPlan, i: usize, parties: &[Party], sensors: &[Sensor]) -> Terms {
    let field = |name: &str, ty: &str| Field {
        name: name.into(),
        ty: ty.into(),
    };
    let node = |(i, trust): (&usize, &u8)| TrustedNode {
        node: parties[*i].node(),
        trust: *trust,
    };
    let sensor = |(k, q0): &(usize, u64)| SensorStart {
        sensor: sensors[*k].id,
        q0: *q0,
    };
    Terms {
        title: format!("simulated {i}"),
        users: (1..=plan.users()).map(|u| UserId([u; 20])).collect(),
        nodes: plan.nodes.iter().zip(&plan.trust).map(node).collect(),
        sensors: plan.sensors.iter().map(sensor).collect(),
        off_chain_code: Digest([7; 32]),
        window: plan.window,
        future_tolerance_s: plan.future_tolerance_s,
        leader: plan.leader,
        flush_ms: plan.flush_ms,
        round_timeout_ms: plan.round_timeout_ms,
        round_timeout_max_ms: plan.round_timeout_max_ms,
        batch: plan.batch,
        qos: plan.qos,
        result: vec![
            field("sum", "uint64"),
            field("count", "uint32"),
            field("fold", "bytes4"),
        ],
        detail: vec![field("sum", "uint64"), field("count", "uint32")],
    }
}
