//! Direct messages that wait for one peer. One batch is in flight at a time, and the next leaves with everything that has
//! gathered when it is acknowledged: that is what keeps them in order over a request-response protocol.

use std::collections::VecDeque;

use crate::NetLimits;
use crate::codec::{BATCH_MESSAGES_MAX, LENGTH, push_message};

/// The bytes of the largest batch: it holds the longest message.
pub(crate) fn batch_bytes_max(limits: &NetLimits) -> usize {
    limits.direct_bytes_max + LENGTH
}

#[derive(Debug)]
pub(crate) struct Outbound<Id> {
    queue: VecDeque<Vec<u8>>,
    queue_bytes: usize,
    in_flight: Option<(Id, usize)>,
}

impl<Id> Default for Outbound<Id> {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            queue_bytes: 0,
            in_flight: None,
        }
    }
}

impl<Id: PartialEq> Outbound<Id> {
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

    /// The next batch and its number of messages, if none is in flight and something waits.
    pub(crate) fn next_batch(&mut self, limits: &NetLimits) -> Option<(Vec<u8>, usize)> {
        if self.in_flight.is_some() || self.queue.is_empty() {
            return None;
        }
        let mut batch = Vec::new();
        let mut messages = 0;
        while let Some(message) = self.queue.front() {
            if messages == BATCH_MESSAGES_MAX
                || batch.len() + LENGTH + message.len() > batch_bytes_max(limits)
            {
                break;
            }
            self.queue_bytes -= message.len();
            push_message(&mut batch, message);
            self.queue.pop_front();
            messages += 1;
        }
        Some((batch, messages))
    }

    pub(crate) fn sent(&mut self, id: Id, messages: usize) {
        self.in_flight = Some((id, messages));
    }

    /// The batch `id` was acknowledged or has failed; how many messages it had.
    pub(crate) fn done(&mut self, id: &Id) -> usize {
        match self.in_flight.take_if(|(current, _)| current == id) {
            Some((_, messages)) => messages,
            None => 0,
        }
    }

    /// Forgets everything that is not in flight; how many messages that were.
    pub(crate) fn clear(&mut self) -> usize {
        let messages = self.queue.len();
        self.queue = VecDeque::new();
        self.queue_bytes = 0;
        messages
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
    fn one_batch_is_in_flight_and_the_rest_gathers_in_order() {
        let limits = limits();
        let mut outbound = Outbound::default();
        assert_eq!(outbound.next_batch(&limits), None);
        assert!(outbound.push(vec![1; 100], &limits));
        let (batch, messages) = outbound
            .next_batch(&limits)
            .expect("the longest message fits");
        assert_eq!((batch.len(), messages), (104, 1));
        outbound.sent(7, messages);
        for n in 2..6 {
            assert!(outbound.push(vec![n; 30], &limits));
        }
        assert_eq!(outbound.next_batch(&limits), None);
        assert_eq!(outbound.done(&6), 0, "not this one");
        assert_eq!(outbound.done(&7), 1);
        let (batch, messages) = outbound.next_batch(&limits).expect("gathered");
        assert_eq!(messages, 3);
        assert_eq!(
            split_batch(&batch, 100),
            Some(vec![vec![2; 30], vec![3; 30], vec![4; 30]])
        );
        assert_eq!(outbound.clear(), 1);
        assert_eq!(outbound.next_batch(&limits), None);
    }

    #[test]
    fn the_queue_is_bounded_in_messages_and_bytes() {
        let limits = limits();
        let mut outbound = Outbound::<u8>::default();
        for _ in 0..10 {
            assert!(outbound.push(vec![], &limits));
        }
        assert!(!outbound.push(vec![], &limits));
        outbound.clear();
        for _ in 0..3 {
            assert!(outbound.push(vec![0; 100], &limits));
        }
        assert!(!outbound.push(vec![0; 1], &limits));
    }
}
