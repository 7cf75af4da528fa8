//! What windows the sensors' messages close by themselves, worked out from what they say and nothing else. It says when a window
//! can be had; what nodes make of it is judged by [`crate::cuts`].

use diversity_proto::SensorId;
use diversity_proto::terms::{Terms, WindowSpec};
use std::ops::Range;

/// Sensor time (seconds) and values of a message.
pub type Message = (u64, Vec<u8>);

/// Everything that one sensor ever says, from q = 0.
#[derive(Clone, Debug)]
pub struct Said {
    /// Who.
    pub sensor: SensorId,
    /// Bytes of values.
    pub width: u8,
    /// What it says; a second time if it speaks with two tongues.
    pub tongues: Vec<Vec<Message>>,
    /// From which q on the tongues differ.
    pub doubtful_from: u64,
    /// What it has lost of that, and says so by gap records.
    pub lost: Range<u64>,
}

impl Said {
    /// What it says to most.
    pub fn messages(&self) -> &[Message] {
        &self.tongues[0]
    }
}

/// One window as messages close it.
#[derive(Clone, Debug)]
pub struct TrueWindow {
    /// For each sensor, the q of the message that closes the window, if one does.
    pub closing_q: Vec<Option<u64>>,
}

/// More windows than any run needs.
pub const WINDOWS_MAX: u64 = 200;

/// The first `count` windows. A sensor that has no more messages leaves its part of all later ones to the records of the nodes.
pub fn windows(terms: &Terms, said: &[&Said], count: u64) -> Vec<TrueWindow> {
    let mut starts: Vec<u64> = terms.sensors.iter().map(|s| s.q0).collect();
    let mut out = Vec::new();
    for t in 0..count.min(WINDOWS_MAX) {
        let mut closing_q = Vec::new();
        for (s, start) in said.iter().zip(&mut starts) {
            let closed = by_message(terms, t, s, *start);
            closing_q.push(closed.map(|(closing, _)| closing));
            if let Some((_, end)) = closed {
                *start = match terms.window {
                    WindowSpec::Count { slide, .. } => *start + u64::from(slide),
                    _ => end,
                };
            }
        }
        out.push(TrueWindow { closing_q });
    }
    out
}

/// How many windows the messages close for all sensors, one after the other.
pub fn closed_by_messages(terms: &Terms, said: &[&Said]) -> u64 {
    let all = windows(terms, said, WINDOWS_MAX);
    let by_all = |w: &&TrueWindow| w.closing_q.iter().all(Option::is_some);
    all.iter().take_while(by_all).count() as u64
}

/// `(closing q, end)` of the window t of one sensor that starts at `start`, if a message ends it: in time windows the first whose
/// time lies from T1 to T1 + grace + tolerance (design §3b, Candidate).
pub fn by_message(terms: &Terms, t: u64, said: &Said, start: u64) -> Option<(u64, u64)> {
    let messages = said.messages();
    let have = messages.len() as u64;
    match terms.window {
        WindowSpec::Count { z, .. } => {
            let end = start + u64::from(z);
            (end <= have).then(|| (end - 1, end))
        }
        WindowSpec::Month { .. } | WindowSpec::Seconds { .. } => {
            let (_, to) = terms.window.span(t);
            let latest = to + u64::from(terms.grace_s) + u64::from(terms.future_tolerance_s);
            (start..have)
                .filter(|q| !said.lost.contains(q))
                .find(|q| (to..=latest).contains(&messages[*q as usize].0))
                .map(|q| (q, q))
        }
    }
}
