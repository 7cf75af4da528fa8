//! What the oracle of liveness needs to know of the world: when a window can be had, and when it must be final.

use super::*;
use crate::function::Behaviour;
use crate::scenario::{ActorKind, AgreementPlan, Oddity};

impl World {
    /// Whether t is final: settled or a hole on the chain; or, of a null that nothing has followed yet, certified at every
    /// honest node (nothing is written on chain for it alone).
    pub fn is_final(&self, agreement: usize, t: u64) -> bool {
        let a = &self.agreements[agreement];
        if a.finality.is_final(t) {
            return true;
        }
        let key = records::t_key(records::CERTIFICATE, &a.id(), t);
        a.plan.behaviour(t) == Behaviour::Null
            && !a.plan.all_abstain(t)
            && a.plan
                .nodes
                .iter()
                .all(|i| !self.honest(*i) || self.hosts[*i].disk.read(&key).is_some())
    }

    /// Whether t must become final once faults have stopped.
    pub fn repairable(&self, agreement: usize, t: u64) -> bool {
        let plan = &self.agreements[agreement].plan;
        // A node that abstained alone leaves the states apart: all later t wait for a word of the users.
        if !self.s.users && plan.abstains.iter().any(|(_, at)| *at < t) {
            return false;
        }
        // Whoever put back an old disk may have to be waited for.
        if plan.nodes.iter().any(|i| self.restored[*i]) {
            return false;
        }
        let Some(actor) = self.s.actor_in(agreement) else {
            return true;
        };
        // A liar that confuses itself, because its second commit came back to it, is silent from then on.
        let core = self.hosts[actor.node].core.as_ref();
        let status = core.and_then(|c| c.status(&self.agreements[agreement].id()));
        let halted = status.is_some_and(|s| s.halted.is_some());
        !halted && actor.spares(t, self.s.users)
    }

    pub(super) fn look(&mut self) {
        self.schedule(self.now + 100, Event::Look);
        self.look_who_ends();
        self.look_for_evidence();
        for agreement in 0..self.agreements.len() {
            let a = &mut self.agreements[agreement];
            let mut liveness = std::mem::replace(&mut a.liveness, Liveness::new(0));
            let verdict = liveness.look(&View {
                now: self.now,
                heal_at: self.s.heal_at,
                windows: self.agreements[agreement].windows(),
                due: &|t| {
                    let ready = self.agreements[agreement].ready_at.get(t as usize);
                    let ready = ready.copied().flatten();
                    ready.filter(|_| self.repairable(agreement, t))
                },
                is_final: &|t| self.is_final(agreement, t),
            });
            self.agreements[agreement].liveness = liveness;
            let verdict = verdict.map_err(|text| format!("agreement {agreement}: {text}"));
            self.oracles.judge(self.now, "N5", verdict);
            self.look_who_knows(agreement);
            self.look_for_states(agreement);
        }
    }

    /// A node that has lost the state behind a cell (an old disk) gets it from any honest node that has it, and goes on by itself.
    fn look_for_states(&mut self, agreement: usize) {
        let a = &self.agreements[agreement];
        let (id, bound) = (a.id(), bound_ms(&self.s, agreement));
        let honest: Vec<usize> = a
            .plan
            .nodes
            .iter()
            .copied()
            .filter(|i| self.s.honest(*i))
            .collect();
        for node in &honest {
            let core = self.hosts[*node].core.as_ref();
            let status = core.and_then(|c| c.status(&id));
            let lost = status.filter(|s| s.waiting.state).and_then(|s| s.blocked);
            let Some(t) = lost else {
                self.lost_since.remove(&(*node, agreement));
                continue;
            };
            let since = *self
                .lost_since
                .entry((*node, agreement))
                .or_insert(self.now);
            let key = records::t_key(records::STATE, &id, t);
            let mut others = honest.iter().filter(|i| *i != node);
            let held = others.any(|i| self.hosts[*i].disk.read(&key).is_some());
            if held && self.now > since.max(self.s.heal_at) + bound {
                let text = format!(
                    "agreement {agreement}: node {node} still lacks the state behind the cell of t {t}, which others hold"
                );
                self.oracles.judge(self.now, "N5", Err(text));
            }
        }
    }

    /// What a node holds for final is final for good.
    pub(super) fn look_back(&mut self, node: usize) {
        for i in 0..self.agreements.len() {
            let id = self.agreements[i].id();
            let host = &mut self.hosts[node];
            let Some(status) = host.core.as_ref().and_then(|c| c.status(&id)) else {
                continue;
            };
            let before = host.final_below.insert(id, status.unsettled_t);
            if before.is_some_and(|t| t > status.unsettled_t) && self.honest(node) {
                let text = format!(
                    "node {node} held all of agreement {i} below t {before:?} for final, and now below {}",
                    status.unsettled_t
                );
                self.oracles.judge(self.now, "N2", Err(text));
            }
        }
    }

    /// Two honest nodes of an agreement that hold two tongues of a sensor find out, once nothing keeps them apart.
    pub(super) fn look_for_evidence(&mut self) {
        for (i, a) in self.agreements.iter().enumerate() {
            let long = self.now > self.s.heal_at.max(a.plan.created_at) + 2 * bound_ms(&self.s, i);
            for (k, _) in a.plan.sensors.iter().filter(|_| long) {
                let fork = matches!(self.s.sensors[*k].oddity, Some(Oddity::Forks { .. }));
                if !fork || self.voids.knows(&self.sensors[*k].id) {
                    continue;
                }
                let q = self.sensors[*k].said.doubtful_from;
                let honest = a.plan.nodes.iter().filter(|n| self.honest(**n));
                let heard = honest.filter_map(|n| self.oracles.acknowledged.heard(*n, *k, q));
                let heard: Vec<_> = heard.collect();
                if heard.iter().any(|t| *t != heard[0]) {
                    let text = format!(
                        "nodes of agreement {i} hold two bodies of sensor {k} at q {q}, and nobody has recorded it"
                    );
                    self.oracles.judge(self.now, "evidence", Err(text));
                    return;
                }
            }
        }
    }

    /// An agreement whose last sensor is void has no more windows.
    fn look_who_ends(&mut self) {
        for a in &mut self.agreements {
            let id = a.id();
            let honest = a.plan.nodes.iter().filter(|i| self.s.honest(**i));
            let status = |i: &usize| self.hosts[*i].core.as_ref()?.status(&id);
            let ends: Vec<_> = honest
                .filter_map(status)
                .map(|s| (s.ended, s.open_t))
                .collect();
            // All say so: what one alone holds for the end may be a hole yet.
            a.ended_at = match ends.iter().map(|e| e.1).max() {
                Some(t) if ends.iter().all(|e| e.0) => t,
                _ => u64::MAX,
            };
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
            .filter(|i| self.honest(*i))
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

/// When all that closes the window t can be had and counts on every clock: messages, or the grace without them.
pub(super) fn ready_at(
    s: &Scenario,
    plan: &AgreementPlan,
    sensors: &[Sensor],
    w: &TrueWindow,
    t: u64,
) -> Option<u64> {
    let slowest = s.skew_ms.iter().min().copied().unwrap_or(0).min(0);
    let on_every_clock = |time_s: u64| (time_s * 1000).saturating_add_signed(-slowest);
    let count = matches!(plan.window, WindowSpec::Count { .. });
    let (_, to) = plan.window.span(t);
    let closes = |k: usize, q: Option<u64>| q.is_some_and(|q| q < sensors[k].said.doubtful_from);
    let mut by_message = plan.sensors.iter().zip(&w.closing_q);
    // P-HELD-6: a count window about nothing is never cut, and this one may be.
    if count && !by_message.any(|((k, _), q)| closes(*k, *q)) {
        return None;
    }
    let mut ready = plan.created_at + catch_up_ms(s, plan);
    for ((k, _), q) in plan.sensors.iter().zip(&w.closing_q) {
        let said = &sensors[*k].said;
        let at = match q.filter(|q| *q < said.doubtful_from) {
            Some(q) if count => sensors[*k].made_at(q),
            Some(q) => {
                let time = said.messages()[q as usize].0;
                let counts = time.saturating_sub(plan.future_tolerance_s.into()).max(to);
                // Whatever a window needs was made by then: frames are made in the order of q.
                sensors[*k].made_at(q).max(on_every_clock(counts))
            }
            None if plan.grace_s > agreement::RECORDS_GRACE_S => return None,
            None if count => 0,
            None => on_every_clock(to + u64::from(plan.grace_s)),
        };
        ready = ready.max(at);
    }
    Some(ready)
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
/// settle, then the chain; and before all that the sensors' resending and the nodes' repair.
pub(super) fn bound_ms(s: &Scenario, agreement: usize) -> u64 {
    let plan = &s.agreements[agreement];
    let n = plan.nodes.len() as u64;
    let rounds = (n + 2) * u64::from(plan.round_timeout_max_ms);
    let settle = n * s.settle_stage_ms + u64::from(plan.flush_ms);
    let actor = s.actor_in(agreement);
    let sabotaged = actor.is_some_and(|a| a.kind.spoils_aggregate());
    let timeout = u64::from(plan.round_timeout_max_ms);
    // P-MUSIG-3: whoever spoils the aggregate only delays settlement until the n reveals settle.
    let attempts = (u64::from(sabotaged) * (2 * n + 4) + u64::from(plan.batch > 1) * 4) * timeout;
    // What no message ends, the lists of open sensors end; a list that was lost is shown again.
    let grace = if plan.grace_s > agreement::RECORDS_GRACE_S {
        0
    } else {
        let spread = s
            .skew_ms
            .iter()
            .map(|x| x.unsigned_abs())
            .max()
            .unwrap_or(0);
        u64::from(plan.grace_s) * 1_000 + 2 * spread + 3 * timeout
    };
    let tried_again = if plan.abstains.is_empty() {
        0
    } else {
        u64::from(plan.abstain_ms) + users::PATIENCE_MS + 2 * users::LOOK_MS
    };
    let states_apart = actor.is_some_and(|a| a.kind == ActorKind::WrongOutput);
    let words = u64::from(states_apart) * (users::PATIENCE_MS + 2 * users::LOOK_MS);
    let grace = grace + tried_again + words;
    let chain = 2 * s.block_ms + 4 * s.rpc_ms + 2 * POLL_MS + 2 * RETRY_MS;
    let repair = 3 * s.status_interval_ms + 4 * RESEND_MS + s.gossip_flush_ms;
    let work = 20 * (s.delay_ms + s.disk_ms + s.job_ms + s.execute_ms);
    rounds + settle + attempts + grace + chain + repair + work + 1_000
}
