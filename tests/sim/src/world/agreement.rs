//! One agreement of the simulated world: its contract, its truth, and the oracles that are its own.

use super::*;
use crate::cuts::Cuts;
use crate::scenario::{ActorKind, AgreementPlan};
use crate::truth::{self, Said};
use crate::world::users::Users;
use diversity_proto::held::Held;
use diversity_proto::terms::Protocol;

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
    /// What honest nodes make of the messages (N2).
    pub cuts: Cuts,
    /// When each window can be had, world time; nothing where nothing ends it in the time of a run.
    pub ready_at: Vec<Option<u64>>,
    /// Windows that no sensor is left for.
    pub ended_at: u64,
    /// What users do.
    pub users: Users,
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
            .map(|(k, _)| sensors[*k].said.clone())
            .collect();
        let refs: Vec<_> = said.iter().collect();
        let count = windows_meant(s, &plan, &terms);
        let ready_at = truth::windows(&terms, &refs, count)
            .iter()
            .zip(0..)
            .map(|(w, t)| ready_at(s, &plan, sensors, w, t))
            .collect();
        let listed = s.actor_in(i).is_some_and(|a| a.kind == ActorKind::TwoLists);
        let lies = s.actor_in(i).is_some_and(|a| a.kind.makes_holes());
        let odd = plan
            .sensors
            .iter()
            .any(|(k, _)| s.sensors[*k].two_tongues());
        let restored = s.backup.is_some_and(|b| plan.nodes.contains(&b.node));
        let abstains = plan.abstains.clone();
        Self {
            aggregate: Aggregate::new(s.mode, &deployment, keys, &terms.digest()),
            contract: Contract::new(s.mode, deployment, ids),
            finality: Finality::new(move |t| {
                lies || odd || restored || abstains.iter().any(|(_, at)| *at == t)
            }),
            liveness: Liveness::new(bound_ms(s, i)),
            cuts: Cuts::new(terms.clone(), said, !odd && !restored && !listed),
            terms,
            ready_at,
            ended_at: u64::MAX,
            users: Users::default(),
            told_since: None,
            stands: false,
            plan,
        }
    }

    /// `a`.
    pub fn id(&self) -> AgreementId {
        self.aggregate.id
    }
    /// Number of windows that must become final.
    pub fn windows(&self) -> u64 {
        let end = self.contract.end.min(self.ended_at);
        end.min(self.ready_at.len() as u64)
    }
    /// Whether every window is final.
    pub fn complete(&self) -> bool {
        self.liveness.first_open() >= self.windows()
    }
    /// For a sensor of the world: below which q no window needs its messages any more, as far as the chain has settled.
    pub fn needs_from(&self, sensor: usize) -> Option<u64> {
        let k = self.plan.sensors.iter().position(|s| s.0 == sensor)?;
        let settled = self.contract.next_t.checked_sub(1);
        let below = settled.and_then(|t| self.cuts.resolution(t));
        Some(match below {
            Some(r) if self.plan.qos == Qos::None => r.q_next[k],
            _ => 0,
        })
    }

    /// Whether a node whose clock shows this may give a list of open sensors for t.
    pub fn may_list(&self, clock_s: u64, t: u64, held: &Held) -> Result<(), String> {
        let (_, to) = self.terms.window.span(t);
        let over = to + u64::from(self.terms.grace_s);
        if to > 0 && clock_s < over && !held.open.is_empty() {
            return Err(format!(
                "sensors are listed as open at t {t} when the clock shows {clock_s}, and the grace ends at {over}"
            ));
        }
        Ok(())
    }
}

/// How many windows are to become final: those that the messages would close if nothing were wrong with the sensors, or all that
/// lie before their last message where a short grace closes the others.
fn windows_meant(s: &Scenario, plan: &AgreementPlan, terms: &Terms) -> u64 {
    let its = |(k, _): &(usize, u64)| &s.sensors[*k].meant;
    let said: Vec<_> = plan
        .sensors
        .iter()
        .map(|x| Said {
            sensor: SensorId([0; 20]),
            width: 0,
            tongues: vec![its(x).iter().map(|p| (p.time, Vec::new())).collect()],
            doubtful_from: u64::MAX,
            lost: 0..0,
        })
        .collect();
    let refs: Vec<_> = said.iter().collect();
    let by_messages = truth::closed_by_messages(terms, &refs);
    if matches!(terms.window, WindowSpec::Count { .. }) || terms.grace_s > RECORDS_GRACE_S {
        return by_messages;
    }
    let last = |x: &(usize, u64)| its(x).iter().map(|p| p.time).max().unwrap_or(0);
    let last = plan.sensors.iter().map(last).min().unwrap_or(0);
    let before = (0..WINDOWS_MEANT_MAX).take_while(|t| terms.window.span(*t).1 <= last);
    by_messages.max(before.count() as u64)
}

/// A grace up to which records end windows in the time of a run, seconds.
pub(super) const RECORDS_GRACE_S: u32 = 60;
/// Most windows of an agreement that must become final.
const WINDOWS_MEANT_MAX: u64 = 40;

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
        grace_s: plan.grace_s,
        protocol: Protocol::Fast,
        abstain_ms: plan.abstain_ms,
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
