//! What the oracle of liveness needs to know of the world: when a window can be had, and when it must be final.

use super::*;
use crate::actors::WrongOutput;

impl World {
    /// Whether t is final: settled, or a hole on the record, or, where nothing is written on chain, certified at every honest
    /// node.
    pub fn is_final(&self, t: u64) -> bool {
        if self.oracles.finality.is_final(t) {
            return true;
        }
        let Some(w) = self.truth.get(t as usize) else {
            return false;
        };
        let silent = w.output.kind == OutputKind::Null || self.s.all_abstain(t);
        let key = records::t_key(records::CERTIFICATE, &self.aggregate.id, t);
        silent
            && (0..self.hosts.len())
                .all(|i| !self.s.honest(i) || self.hosts[i].disk.read(&key).is_some())
    }

    /// Whether t must become final once faults have stopped.
    pub fn repairable(&self, t: u64) -> bool {
        // A node that abstained alone leaves the states apart where there is a carry: all later t wait for a resolution.
        let apart = |at: u64| !self.s.all_abstain(at) && self.s.keeps_carry;
        if self.s.abstains.iter().any(|(_, at)| *at < t && apart(*at)) {
            return false;
        }
        match self.s.actor {
            None => true,
            Some(a) => match a.kind {
                // Settlement only gets dearer.
                ActorKind::Saboteur => true,
                // Silence waits for the node (R5); a silent leader is followed by the next.
                ActorKind::Withholder => a.reforms || matches!(a.variant % 8, 4 | 5),
                // State apart: all after it waits for a resolution.
                ActorKind::WrongOutput => {
                    a.variant & 7 != 7 || !(0..t).any(|t| WrongOutput::new(a.variant).lies_at(t))
                }
                // A reveal that speaks from another t is silence. After two commits or a false opening the parties must resolve.
                ActorKind::Equivocator => a.variant % 4 == 1 && a.reforms,
                ActorKind::Echo => false,
            },
        }
    }

    pub(super) fn look(&mut self) {
        self.schedule(self.now + 100, Event::Look);
        let mut liveness = std::mem::replace(&mut self.oracles.liveness, Liveness::new(0));
        let verdict = liveness.look(&View {
            now: self.now,
            heal_at: self.s.heal_at,
            ready_at: &self.ready_at,
            repairable: &|t| self.repairable(t),
            is_final: &|t| self.is_final(t),
        });
        self.oracles.liveness = liveness;
        self.oracles.judge(self.now, "N5", verdict);
        self.look_who_knows();
    }

    /// What is final on the chain becomes final in every honest node's records too.
    pub(super) fn look_who_knows(&mut self) {
        let ignorant = (0..self.hosts.len())
            .filter(|i| self.s.honest(*i))
            .find(|i| {
                (0..self.contract.next_t).any(|t| {
                    let key = records::t_key(records::FINAL, &self.aggregate.id, t);
                    self.hosts[*i].disk.read(&key).is_none()
                })
            });
        let Some(node) = ignorant.filter(|_| !self.faulty()) else {
            self.told_since = None;
            return;
        };
        let since = *self.told_since.get_or_insert(self.now);
        let bound = bound_ms(&self.s);
        if self.now > since + bound {
            let text = format!(
                "node {node} has not recorded {bound} ms later that the chain settled all below t {}",
                self.contract.next_t
            );
            self.oracles.judge(self.now, "N5", Err(text));
        }
    }
}

/// When the last message that closes the window can be had and counts on every clock.
pub(super) fn ready_at(s: &Scenario, sensors: &[Sensor], w: &TrueWindow) -> u64 {
    let slowest = s.skew_ms.iter().min().copied().unwrap_or(0).min(0);
    let count = matches!(s.window, WindowSpec::Count { .. });
    let of = |(sensor, q): (&Sensor, &u64)| {
        let time = sensor.said.messages[*q as usize].0;
        let counts = (time.saturating_sub(s.future_tolerance_s.into()) * 1000)
            .saturating_add_signed(-slowest);
        // Whatever a window needs was made by then: frames are made in the order of q.
        sensor.made_at(*q).max(if count { 0 } else { counts })
    };
    sensors.iter().zip(&w.closing_q).map(of).max().unwrap_or(0)
}

/// How long a window may take once nothing stands in its way (N5): n + 2 capped round timeouts, then each node's turn to
/// settle, then the chain; and before all that the sensors' resending and the nodes' repair. A saboteur of the aggregate
/// costs the 2n attempts after which reveals settle (P-MUSIG-3).
pub(super) fn bound_ms(s: &Scenario) -> u64 {
    let n = s.nodes() as u64;
    let rounds = (n + 2) * u64::from(s.round_timeout_max_ms);
    let settle = n * s.settle_stage_ms + u64::from(s.flush_ms);
    let sabotaged = s.actor.is_some_and(|a| a.kind == ActorKind::Saboteur);
    let attempts = u64::from(sabotaged) * 2 * n * u64::from(s.round_timeout_max_ms);
    let chain = 2 * s.block_ms + 4 * s.rpc_ms + 2 * POLL_MS + 2 * RETRY_MS;
    let repair = 3 * s.status_interval_ms + 4 * RESEND_MS + s.gossip_flush_ms;
    let work = 20 * (s.delay_ms + s.disk_ms + s.job_ms + s.execute_ms);
    rounds + settle + attempts + chain + repair + work + 1_000
}
