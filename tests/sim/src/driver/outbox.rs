//! The durable outbox of the chain.

use super::*;
use crate::host::Queued;
use diversity_engine::api::{Settlement, Submission};
use diversity_proto::round::Entry;

impl World {
    pub(super) fn queue_submission(&mut self, node: usize, mut submission: Submission) {
        if let (Submission::Misbehaviour { evidence, .. }, true) = (&submission, self.honest(node))
        {
            let verdict = self.oracles.blame.accused(evidence);
            self.oracles.judge(self.now, "N4", verdict);
        }
        let id = submission.id();
        if self.sabotage == Sabotage::SettlesWrongResult {
            submission = other_result(submission);
        }
        let slow = self.rng.below(self.s.disk_ms + 1);
        let durable_at = self.now + slow;
        self.hosts[node].outbox.entry(id).or_insert(Queued {
            submission,
            durable_at,
        });
        let incarnation = self.hosts[node].incarnation;
        self.schedule(
            durable_at,
            Event::Tell {
                node,
                incarnation,
                input: Box::new(Input::Taken(id)),
            },
        );
    }
}

/// The same settlement with another result.
fn other_result(mut submission: Submission) -> Submission {
    if let Submission::Settle { settlement, .. } = &mut submission {
        let result = match settlement {
            Settlement::Single { outcome, .. } | Settlement::Reveals { outcome, .. } => {
                Some(&mut outcome.result)
            }
            Settlement::Batch { batch, .. } => {
                batch.entries.iter_mut().find_map(|e| match &mut e.0 {
                    Entry::Value(v) => Some(v),
                    _ => None,
                })
            }
        };
        if let Some(byte) = result.and_then(|r| r.first_mut()) {
            *byte ^= 1;
        }
    }
    submission
}
