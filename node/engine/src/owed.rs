//! Nothing is asked for once and then forgotten (R13): what is handed to the outbox stays owed until the outbox says that it has
//! made it durable.

use crate::alloc_prelude::*;
use crate::api::{Effect, Millis, OWED_AGAIN_MS, Op, Submission, SubmissionId};
use crate::records;
use diversity_proto::AgreementId;

struct Item {
    submission: Submission,
    /// It has a record of its own: evidence is known from nothing else after a restart.
    recorded: bool,
    /// Whether that record is durable.
    durable: bool,
}

/// Submissions that the outbox has not taken.
#[derive(Default)]
pub(crate) struct Owed {
    items: BTreeMap<SubmissionId, Item>,
    due: Option<Millis>,
}

impl Owed {
    pub fn due(&self) -> Option<Millis> {
        self.due
    }

    /// Owed from now on; `None` if it was owed already.
    pub fn submit(&mut self, submission: Submission, now: Millis) -> Option<Effect> {
        let id = submission.id();
        if self.items.contains_key(&id) {
            return None;
        }
        let item = Item {
            submission: submission.clone(),
            recorded: false,
            durable: true,
        };
        self.items.insert(id, item);
        self.due.get_or_insert(now + OWED_AGAIN_MS);
        Some(Effect::Submit { id, submission })
    }

    /// Owed by a record, which is to be written; `None` if it was owed already.
    pub fn owe(&mut self, submission: Submission) -> Option<Op> {
        let id = submission.id();
        if self.items.contains_key(&id) {
            return None;
        }
        let op = records::put_owed(&submission);
        let item = Item {
            submission,
            recorded: true,
            durable: false,
        };
        self.items.insert(id, item);
        Some(op)
    }
    /// A record of an earlier run.
    pub fn restore(&mut self, submission: Submission) {
        let item = Item {
            submission: submission.clone(),
            recorded: true,
            durable: true,
        };
        self.items.insert(submission.id(), item);
        self.due = Some(0);
    }
    /// The record is durable: now it may leave.
    pub fn durable(&mut self, id: &SubmissionId, now: Millis) -> Option<Effect> {
        let item = self.items.get_mut(id)?;
        item.durable = true;
        self.due.get_or_insert(now + OWED_AGAIN_MS);
        Some(Effect::Submit {
            id: *id,
            submission: item.submission.clone(),
        })
    }

    /// The outbox has it; its record, if it has one, goes.
    pub fn taken(&mut self, id: &SubmissionId) -> Option<Op> {
        let item = self.items.remove(id)?;
        item.recorded.then(|| records::delete_owed(id))
    }
    /// Settlements and doors up to t are owed no more.
    pub fn retire(&mut self, a: &AgreementId, t: u64) {
        self.items.retain(|id, _| match id {
            SubmissionId::Settle(of, _, _, last, _) => of != a || *last > t,
            SubmissionId::Hole(of, _, at) => of != a || *at > t,
            _ => true,
        });
    }
    /// Settlements and doors that reach to t or further are owed no more: another epoch counts there.
    pub fn forget(&mut self, a: &AgreementId, t: u64) {
        self.items.retain(|id, _| match id {
            SubmissionId::Settle(of, _, _, last, _) => of != a || *last < t,
            SubmissionId::Hole(of, _, at) => of != a || *at < t,
            _ => true,
        });
    }

    /// What was not taken for a while.
    pub fn again(&mut self, now: Millis) -> Vec<Effect> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.due = (!self.items.is_empty()).then_some(now + OWED_AGAIN_MS);
        let ready = self.items.iter().filter(|(_, item)| item.durable);
        let again = ready.map(|(id, item)| Effect::Submit {
            id: *id,
            submission: item.submission.clone(),
        });
        again.collect()
    }
}
