//! What the oracle of liveness needs to know of the world: when a window can be had, and when it must be final.

use super::*;
use crate::scenario::AgreementPlan;

impl World {
    /// Whether t is final: settled or a hole on the chain; or, of a null that nothing has followed yet, certified at every
    /// honest node (nothing is written on chain for it alone).
    pub fn is_final(&self, agreement: usize, t: u64) -> bool {
        let a = &self.agreements[agreement];
        if a.finality.is_final(t) {
            return true;
        }
        let Some(w) = a.truth.get(t as usize) else {
            return false;
        };
        let key = records::t_key(records::CERTIFICATE, &a.id(), t);
        w.output.kind == OutputKind::Null
            && !a.plan.all_abstain(t)
            && a.plan
                .nodes
                .iter()
                .all(|i| !self.s.honest(*i) || self.hosts[*i].disk.read(&key).is_some())
    }

    /// Whether t must become final once faults have stopped.
    pub fn repairable(&self, agreement: usize, t: u64) -> bool {
        let plan = &self.agreements[agreement].plan;
        // A node that abstained alone leaves the states apart where there is a carry: all later t wait for a resolution.
        let apart = |at: u64| !plan.all_abstain(at) && plan.keeps_carry;
        if plan.abstains.iter().any(|(_, at)| *at < t && apart(*at)) {
            return false;
        }
        let actor = self.s.actor_in(agreement);
        actor.is_none_or(|a| a.spares(t))
    }

    pub(super) fn look(&mut self) {
        self.schedule(self.now + 100, Event::Look);
        for agreement in 0..self.agreements.len() {
            let a = &mut self.agreements[agreement];
            let mut liveness = std::mem::replace(&mut a.liveness, Liveness::new(0));
            let verdict = liveness.look(&View {
                now: self.now,
                heal_at: self.s.heal_at,
                windows: self.agreements[agreement].windows(),
                due: &|t| {
                    let ready = self.agreements[agreement].ready_at.get(t as usize);
                    ready.copied().filter(|_| self.repairable(agreement, t))
                },
                is_final: &|t| self.is_final(agreement, t),
            });
            self.agreements[agreement].liveness = liveness;
            let verdict = verdict.map_err(|text| format!("agreement {agreement}: {text}"));
            self.oracles.judge(self.now, "N5", verdict);
            self.look_who_knows(agreement);
        }
    }

    /// What is final on the chain becomes final in every honest node's records too.
    pub(super) fn look_who_knows(&mut self, agreement: usize) {
        let a = &self.agreements[agreement];
        let next_t = a.contract.next_t;
        let ignorant = a
            .plan
            .nodes
            .iter()
            .copied()
            .filter(|i| self.s.honest(*i))
            .find(|i| {
                (0..next_t).any(|t| {
                    let key = records::t_key(records::FINAL, &a.id(), t);
                    self.hosts[*i].disk.read(&key).is_none()
                })
            });
        let Some(node) = ignorant.filter(|_| !self.faulty()) else {
            self.agreements[agreement].told_since = None;
            return;
        };
        let told_since = &mut self.agreements[agreement].told_since;
        let since = *told_since.get_or_insert(self.now);
        let bound = bound_ms(&self.s, agreement);
        if self.now > since + bound {
            let text = format!(
                "node {node} has not recorded {bound} ms later that the chain settled all of agreement {agreement} below t {next_t}"
            );
            self.oracles.judge(self.now, "N5", Err(text));
        }
    }
}

/// When the last message that closes the window can be had and counts on every clock.
pub(super) fn ready_at(
    s: &Scenario,
    plan: &AgreementPlan,
    sensors: &[Sensor],
    w: &TrueWindow,
) -> u64 {
    let slowest = s.skew_ms.iter().min().copied().unwrap_or(0).min(0);
    let count = matches!(plan.window, WindowSpec::Count { .. });
    let of = |(sensor, q): (&Sensor, &u64)| {
        let time = sensor.said.messages[*q as usize].0;
        let counts = (time.saturating_sub(plan.future_tolerance_s.into()) * 1000)
            .saturating_add_signed(-slowest);
        // Whatever a window needs was made by then: frames are made in the order of q.
        sensor.made_at(*q).max(if count { 0 } else { counts })
    };
    let its = plan.sensors.iter().map(|(k, _)| &sensors[*k]);
    let had = its.zip(&w.closing_q).map(of).max().unwrap_or(0);
    had.max(plan.created_at + catch_up_ms(s, plan))
}

/// How long nodes that were in no agreement over the sensors may take to get what was said before theirs stood.
fn catch_up_ms(s: &Scenario, plan: &AgreementPlan) -> u64 {
    if plan.created_at <= START {
        return 0;
    }
    let longest = plan
        .sensors
        .iter()
        .map(|(k, _)| s.sensors[*k].messages.len());
    let asked = longest.max().unwrap_or(0) as u64 / s.q_ahead_max + 3;
    POLL_MS + s.rpc_ms + 2 * asked * s.status_interval_ms
}

/// How long a window may take once nothing stands in its way (N5): n + 2 capped round timeouts, then each node's turn to
/// settle, then the chain; and before all that the sensors' resending and the nodes' repair. A saboteur of the aggregate
/// costs the 2n attempts after which reveals settle (P-MUSIG-3).
pub(super) fn bound_ms(s: &Scenario, agreement: usize) -> u64 {
    let plan = &s.agreements[agreement];
    let n = plan.nodes.len() as u64;
    let rounds = (n + 2) * u64::from(plan.round_timeout_max_ms);
    let settle = n * s.settle_stage_ms + u64::from(plan.flush_ms);
    let actor = s.actor_in(agreement);
    let sabotaged = actor.is_some_and(|a| a.kind.spoils_aggregate());
    let attempts = u64::from(sabotaged) * 2 * n * u64::from(plan.round_timeout_max_ms);
    let chain = 2 * s.block_ms + 4 * s.rpc_ms + 2 * POLL_MS + 2 * RETRY_MS;
    let repair = 3 * s.status_interval_ms + 4 * RESEND_MS + s.gossip_flush_ms;
    let work = 20 * (s.delay_ms + s.disk_ms + s.job_ms + s.execute_ms);
    rounds + settle + attempts + chain + repair + work + 1_000
}
