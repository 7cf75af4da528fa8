//! What sensors say, so that the first agreement has windows to close.

use super::{AgreementPlan, START, Scenario, SensorPlan};
use crate::rng::Rng;
use crate::sensors::Planned;
use diversity_proto::entity::Period;
use diversity_proto::terms::WindowSpec;

impl Scenario {
    /// Chooses the first agreement's windows and the messages that fill them.
    pub(super) fn plan_messages(&mut self, rng: &mut Rng, a: &mut AgreementPlan) {
        let windows = rng.range(2, 10);
        let sensors = rng.range(1, 3) as usize;
        let frame_max = rng.pick(&[1, 3, 8]);
        let emit_ms = (self.heal_at - START) * rng.pick(&[2, 5, 8]) / 5;
        let start_s = START / 1000;
        a.window = match rng.below(3) {
            0 => {
                let z = rng.range(1, 6) as u32;
                // A slide below z overlaps, above z leaves messages out.
                WindowSpec::Count {
                    z,
                    slide: rng.range(1, u64::from(z) + 1) as u32,
                }
            }
            1 => WindowSpec::Seconds {
                start: start_s,
                seconds: (emit_ms / 1000 / windows).max(1),
            },
            // Old data, as fast as it goes: sensor time has nothing to do with the world's.
            _ => {
                self.period = Period::Month;
                WindowSpec::Month {
                    start: diversity_proto::time::month_start(2015 + rng.below(3), 10),
                }
            }
        };
        a.grace_s = rng.range(1, 6) as u32;
        if matches!(a.window, WindowSpec::Month { .. }) && rng.chance(700) {
            // Longer than the replay takes.
            a.grace_s = 40;
        }
        for sensor in 0..sensors {
            let q0 = rng.below(4);
            let messages = match a.window {
                WindowSpec::Count { z, slide } => {
                    let full = q0 + u64::from(slide) * (windows - 1) + u64::from(z);
                    let count = full + rng.below(2);
                    live(rng, count, emit_ms)
                }
                WindowSpec::Seconds { seconds, .. } => {
                    let count = q0 + windows * rng.range(1, 5);
                    let mut plan = live(rng, count, emit_ms);
                    // Heartbeats, so that the last window closes.
                    let end = start_s + windows * seconds;
                    plan.push(Planned {
                        at: START + (end * 1000 - START).max(emit_ms),
                        time: end + rng.below(2),
                        reboot: false,
                    });
                    plan
                }
                WindowSpec::Month { .. } => old(rng, a.window, windows, q0, emit_ms),
            };
            self.sensors.push(SensorPlan {
                meant: messages.clone(),
                messages,
                frame_max,
                oddity: None,
            });
            a.sensors.push((sensor, q0));
        }
    }
}

/// Messages in the time of the world; clocks are off and jump.
fn live(rng: &mut Rng, count: u64, emit_ms: u64) -> Vec<Planned> {
    let mut at: Vec<_> = (0..count).map(|_| START + rng.below(emit_ms)).collect();
    at.sort_unstable();
    let wild = rng.chance(300);
    let off = rng.below(3) as i64 - 1;
    let reboots = rng.chance(300);
    at.into_iter()
        .map(|at| {
            let jump = if wild && rng.chance(150) {
                rng.below(12) as i64 - 6
            } else {
                0
            };
            Planned {
                at,
                time: (at / 1000).saturating_add_signed(off + jump),
                reboot: reboots && rng.chance(100),
            }
        })
        .collect()
}

/// Messages of past months, at most a few a month, and a heartbeat at each month's end.
fn old(rng: &mut Rng, spec: WindowSpec, windows: u64, q0: u64, emit_ms: u64) -> Vec<Planned> {
    let mut times: Vec<u64> = (0..q0).map(|_| spec.span(0).0).collect();
    for t in 0..windows {
        let (from, to) = spec.span(t);
        let mut month: Vec<_> = (0..rng.below(5))
            .map(|_| from + rng.below(to - from))
            .collect();
        month.sort_unstable();
        times.extend(month);
        times.push(to);
    }
    let step = emit_ms / 2 / times.len() as u64;
    (0..)
        .zip(times)
        .map(|(i, time)| Planned {
            at: START + i * step,
            time,
            reboot: false,
        })
        .collect()
}
