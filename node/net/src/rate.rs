//! How much one peer may send.

use std::time::{Duration, Instant};

use crate::NetLimits;

/// Two token buckets, of messages and of bytes; each holds two seconds' worth.
#[derive(Debug)]
pub(crate) struct Rate {
    messages: f64,
    bytes: f64,
    messages_per_second: f64,
    bytes_per_second: f64,
    at: Instant,
}

impl Rate {
    pub(crate) fn new(limits: &NetLimits, now: Instant) -> Self {
        let messages_per_second = f64::from(limits.peer_messages_per_second);
        let bytes_per_second = f64::from(limits.peer_bytes_per_second);
        Self {
            messages: 2.0 * messages_per_second,
            bytes: 2.0 * bytes_per_second,
            messages_per_second,
            bytes_per_second,
            at: now,
        }
    }

    /// Whether so much may pass now. Either all of it is charged or nothing. A single message larger than the bucket passes when
    /// the bucket is full, and leaves it in debt.
    pub(crate) fn admit(&mut self, messages: usize, bytes: usize, now: Instant) -> bool {
        self.admit_or_wait(messages, bytes, now).is_none()
    }

    /// [`Self::admit`]; what may not pass now may be tried again after the pause that is returned.
    pub(crate) fn admit_or_wait(
        &mut self,
        messages: usize,
        bytes: usize,
        now: Instant,
    ) -> Option<Duration> {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        let full_messages = 2.0 * self.messages_per_second;
        let full_bytes = 2.0 * self.bytes_per_second;
        self.messages = (self.messages + seconds * self.messages_per_second).min(full_messages);
        self.bytes = (self.bytes + seconds * self.bytes_per_second).min(full_bytes);
        let (messages, bytes) = (messages as f64, bytes as f64);
        let lacking = f64::max(
            (messages.min(full_messages) - self.messages) / self.messages_per_second,
            (bytes.min(full_bytes) - self.bytes) / self.bytes_per_second,
        );
        if lacking > 0.0 {
            // Not so short that rounding makes it no pause at all.
            return Some(Duration::from_secs_f64(lacking.max(0.001)));
        }
        self.messages -= messages;
        self.bytes -= bytes;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_only_the_rate() {
        let limits = NetLimits {
            peer_messages_per_second: 10,
            peer_bytes_per_second: 1000,
            ..NetLimits::default()
        };
        let start = Instant::now();
        let mut rate = Rate::new(&limits, start);
        let at = |millis| start + Duration::from_millis(millis);
        for _ in 0..20 {
            assert!(rate.admit(1, 10, at(0)));
        }
        assert!(!rate.admit(1, 10, at(0)), "the messages are used up");
        assert_eq!(
            rate.admit_or_wait(5, 10, at(0)),
            Some(Duration::from_millis(500))
        );
        assert!(rate.admit(1, 10, at(100)));
        assert!(!rate.admit(1, 10, at(100)));

        assert!(rate.admit(1, 2000, at(10_000)));
        assert!(!rate.admit(1, 1, at(10_000)), "the bytes are used up");
        assert!(!rate.admit(1, 5000, at(11_000)));
        assert!(rate.admit(1, 5000, at(12_000)), "larger than the bucket");
        assert!(!rate.admit(1, 1, at(14_000)), "and paid for afterwards");
        assert!(rate.admit(1, 1, at(15_100)));
    }
}
