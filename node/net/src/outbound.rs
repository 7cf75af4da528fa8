//! Direct messages that wait for one peer. What has gathered leaves as one batch.

use std::collections::VecDeque;

use crate::NetLimits;
use crate::codec::{BATCH_MESSAGES_MAX, LENGTH, push_message};

/// The bytes of the largest batch: it holds the longest message.
pub(crate) fn batch_bytes_max(limits: &NetLimits) -> usize {
    limits.direct_bytes_max + LENGTH
}

#[derive(Debug, Default)]
pub(crate) struct Outbound {
    queue: VecDeque<Vec<u8>>,
    queue_bytes: usize,
    /// Messages of the batch that is being written.
    writing: usize,
}

impl Outbound {
    /// Queues a message; whether there was room.
    pub(crate) fn push(&mut self, message: Vec<u8>, limits: &NetLimits) -> bool {
        if self.queue.len() >= limits.queue_messages_max
            || self.queue_bytes + message.len() > limits.queue_bytes_max
        {
            return false;
        }
        self.queue_bytes += message.len();
        self.queue.push_back(message);
        true
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The next batch, if something waits; to be called when the one before is [`Self::written`].
    pub(crate) fn next_batch(&mut self, limits: &NetLimits) -> Option<Vec<u8>> {
        if self.queue.is_empty() {
            return None;
        }
        let mut batch = Vec::new();
        while let Some(message) = self.queue.front() {
            if self.writing == BATCH_MESSAGES_MAX
                || batch.len() + LENGTH + message.len() > batch_bytes_max(limits)
            {
                break;
            }
            self.queue_bytes -= message.len();
            push_message(&mut batch, message);
            self.queue.pop_front();
            self.writing += 1;
        }
        Some(batch)
    }

    /// The batch has left.
    pub(crate) fn written(&mut self) {
        self.writing = 0;
    }

    /// The batch did not leave, or not all of it; how many messages it had.
    pub(crate) fn failed(&mut self) -> usize {
        std::mem::take(&mut self.writing)
    }

    /// Messages that have not left.
    pub(crate) fn unsent(&self) -> usize {
        self.queue.len() + self.writing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::split_batch;

    fn limits() -> NetLimits {
        NetLimits {
            direct_bytes_max: 100,
            queue_messages_max: 10,
            queue_bytes_max: 300,
            ..NetLimits::default()
        }
    }

    #[test]
    fn what_gathers_while_a_batch_is_written_leaves_in_order() {
        let limits = limits();
        let mut outbound = Outbound::default();
        assert_eq!(outbound.next_batch(&limits), None);
        assert!(outbound.push(vec![1; 100], &limits));
        let batch = outbound
            .next_batch(&limits)
            .expect("the longest message fits");
        assert_eq!(batch.len(), 104);
        for n in 2..6 {
            assert!(outbound.push(vec![n; 30], &limits));
        }
        assert_eq!(outbound.unsent(), 5);
        outbound.written();
        assert_eq!(outbound.failed(), 0, "it has left");
        let batch = outbound.next_batch(&limits).expect("gathered");
        assert_eq!(
            split_batch(&batch, 100),
            Some(vec![vec![2; 30], vec![3; 30], vec![4; 30]])
        );
        assert_eq!(outbound.failed(), 3);
        assert_eq!(outbound.unsent(), 1, "the rest still waits");
    }

    #[test]
    fn a_batch_has_no_more_messages_than_its_reader_takes() {
        let limits = NetLimits::default();
        let mut outbound = Outbound::default();
        for _ in 0..=BATCH_MESSAGES_MAX {
            assert!(outbound.push(vec![], &limits));
        }
        let batch = outbound.next_batch(&limits).expect("full");
        assert!(split_batch(&batch, 0).is_some());
        assert_eq!(outbound.failed(), BATCH_MESSAGES_MAX);
        assert_eq!(outbound.unsent(), 1);
    }

    #[test]
    fn the_queue_is_bounded_in_messages_and_bytes() {
        let limits = limits();
        let mut outbound = Outbound::default();
        for _ in 0..10 {
            assert!(outbound.push(vec![], &limits));
        }
        assert!(!outbound.push(vec![], &limits));
        let mut outbound = Outbound::default();
        for _ in 0..3 {
            assert!(outbound.push(vec![0; 100], &limits));
        }
        assert!(!outbound.push(vec![0; 1], &limits));
    }
}
