//! What every window must hold and every execution must give, worked out from what the sensors said and nothing else.
//! It shares only `f` and the hashes with the nodes, never their bookkeeping.

use crate::function::{self, Behaviour, Output};
use diversity_proto::SensorId;
use diversity_proto::frame::Message;
use diversity_proto::round::Computed;
use diversity_proto::terms::{Terms, WindowSpec};
use diversity_proto::window::{Leaf, Window, WindowEnd};

/// Everything that one sensor ever says, from q = 0.
#[derive(Clone, Debug)]
pub struct Said {
    /// Who.
    pub sensor: SensorId,
    /// Bytes of values.
    pub width: u8,
    /// Sensor time (seconds) and values of each message.
    pub messages: Vec<(u64, Vec<u8>)>,
}

/// One window as it must be.
#[derive(Clone, Debug)]
pub struct TrueWindow {
    /// What honest nodes commit to.
    pub computed: Computed,
    /// The output of `f` on it.
    pub output: Output,
    /// For each sensor, the q of the message without which the window does not close.
    pub closing_q: Vec<u64>,
    /// For each sensor, first q after the window.
    pub end_q: Vec<u64>,
    /// For each sensor, where the next window starts.
    pub next_q: Vec<u64>,
}

/// More windows than any run gets through: one message from 2036 closes them by the million.
pub const WINDOWS_MAX: u64 = 400;

/// All windows that the messages close. `overrides(t)` makes the nodes keep the carry of t-1 (a hole that all agree on,
/// because all abstained).
pub fn windows(
    terms: &Terms,
    said: &[&Said],
    behaviour: impl Fn(u64) -> Behaviour,
    keeps_carry: bool,
    all_abstain: impl Fn(u64) -> bool,
) -> Vec<TrueWindow> {
    let mut starts: Vec<u64> = terms.sensors.iter().map(|s| s.q0).collect();
    let mut carry = Vec::new();
    let mut out = Vec::new();
    'window: for t in 0..WINDOWS_MAX {
        let (from, to) = terms.window.span(t);
        let (mut closing_q, mut end_q, mut next_q, mut leaves) = (vec![], vec![], vec![], vec![]);
        for (s, start) in said.iter().copied().zip(&starts) {
            let Some((closing, end, next)) = cut(terms.window, to, s, *start) else {
                break 'window;
            };
            let messages =
                s.messages[*start as usize..end as usize]
                    .iter()
                    .map(|(time, values)| Message {
                        time: *time,
                        values,
                    });
            leaves.push(Leaf::new(
                s.sensor,
                *start,
                WindowEnd::Message,
                s.width,
                messages,
            ));
            closing_q.push(closing);
            end_q.push(end);
            next_q.push(next);
        }
        let window = Window {
            t,
            from,
            to,
            leaves,
        };
        let output = function::run(behaviour(t), keeps_carry, &carry, &window);
        let computed = function::computed(&output, &window, &next_q);
        if !all_abstain(t) {
            carry.clone_from(&output.carry);
        }
        starts.clone_from(&next_q);
        out.push(TrueWindow {
            computed,
            output,
            closing_q,
            end_q,
            next_q,
        });
    }
    out
}

/// `(closing q, end, start of the next)` of the window of one sensor that starts at `start`.
fn cut(spec: WindowSpec, to: u64, said: &Said, start: u64) -> Option<(u64, u64, u64)> {
    let have = said.messages.len() as u64;
    match spec {
        WindowSpec::Count { z, slide } => {
            let end = start + u64::from(z);
            // What the next window starts with need not be here yet.
            (end <= have).then(|| (end - 1, end, start + u64::from(slide)))
        }
        // Order is q alone: the first message at or past the end closes it, whatever comes later.
        WindowSpec::Month { .. } | WindowSpec::Seconds { .. } => (start..have)
            .find(|q| said.messages[*q as usize].0 >= to)
            .map(|q| (q, q, q)),
    }
}
