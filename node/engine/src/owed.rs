//! Nothing is asked for once and then forgotten (R13): what is handed to the outbox stays owed until the outbox says that it has
//! made it durable. What an agreement may not cost any more today waits here as well, owed (P-BUDGET-1).

use crate::alloc_prelude::*;
use crate::api::{Effect, GasWait, Millis, Notice, OWED_AGAIN_MS, Op, Submission, SubmissionId};
use crate::budget::Budget;
use crate::records::{self, SpentRecord};
use diversity_proto::AgreementId;

struct Item {
    submission: Submission,
    /// It has a record of its own: evidence is known from nothing else after a restart.
    recorded: bool,
    /// Whether that record is durable.
    durable: bool,
    /// It waits for the gas of another day.
    waits: bool,
}

/// Submissions that the outbox has not taken.
pub(crate) struct Owed {
    items: BTreeMap<SubmissionId, Item>,
    budget: Budget,
    gas_per_day: u64,
    due: Option<Millis>,
}

impl Owed {
    pub fn new(gas_per_day: u64) -> Self {
        Self {
            items: BTreeMap::new(),
            budget: Budget::new(gas_per_day),
            gas_per_day,
            due: None,
        }
    }
    pub fn due(&self) -> Option<Millis> {
        self.due
    }

    /// Owed from now on; nothing follows if it was owed already.
    pub fn submit(&mut self, submission: Submission, now: Millis) -> Vec<Effect> {
        let id = submission.id();
        if self.items.contains_key(&id) {
            return Vec::new();
        }
        let item = Item {
            submission,
            recorded: false,
            durable: true,
            waits: false,
        };
        self.items.insert(id, item);
        self.due.get_or_insert(now + OWED_AGAIN_MS);
        self.leave(&id, now)
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
            waits: false,
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
            waits: false,
        };
        self.items.insert(submission.id(), item);
        self.due = Some(0);
    }
    /// What an earlier run spent on an agreement.
    pub fn restore_spent(&mut self, a: AgreementId, spent: SpentRecord) {
        self.budget.restore(a, spent);
    }
    /// The record is durable: now it may leave.
    pub fn durable(&mut self, id: &SubmissionId, now: Millis) -> Vec<Effect> {
        if let Some(item) = self.items.get_mut(id) {
            item.durable = true;
        }
        self.due.get_or_insert(now + OWED_AGAIN_MS);
        self.leave(id, now)
    }

    /// Hands it to the outbox if its agreement may cost more today.
    fn leave(&mut self, id: &SubmissionId, now: Millis) -> Vec<Effect> {
        let Some(item) = self.items.get_mut(id).filter(|i| i.durable) else {
            return Vec::new();
        };
        if self.budget.admits(*id, &item.submission, now) {
            item.waits = false;
            return vec![Effect::Submit {
                id: *id,
                submission: item.submission.clone(),
            }];
        }
        let of = id.agreement();
        let waits = |(other, item): (&SubmissionId, &Item)| item.waits && other.agreement() == of;
        let told = self.items.iter().any(waits);
        if let Some(item) = self.items.get_mut(id) {
            item.waits = true;
        }
        let notice = |agreement| {
            Effect::Notice(Notice::GasBudget {
                agreement,
                used: self.budget.used(&agreement),
            })
        };
        of.filter(|_| !told).map(notice).into_iter().collect()
    }

    /// The outbox has it; its record, if it has one, goes.
    pub fn taken(&mut self, id: &SubmissionId) -> Option<Op> {
        let item = self.items.remove(id)?;
        item.recorded.then(|| records::delete_owed(id))
    }
    /// A submission has ended and cost this much: what is to be kept of that, and what may leave now.
    pub fn paid(&mut self, id: &SubmissionId, gas: u64, now: Millis) -> (Option<Op>, Vec<Effect>) {
        let spent = self.budget.paid(id, gas, now);
        let op = spent.map(|(a, spent)| spent.put(&a));
        let of = id.agreement();
        let waits = |(other, item): (&SubmissionId, &Item)| {
            (item.waits && other.agreement() == of).then_some(*other)
        };
        let waiting: Vec<_> = self.items.iter().filter_map(waits).collect();
        let effects = waiting.iter().flat_map(|id| self.leave(id, now)).collect();
        (op, effects)
    }
    /// Something that an earlier run handed in has ended, and cost this much: what is to be kept of that.
    pub fn spent(&mut self, a: AgreementId, gas: u64, now: Millis) -> Op {
        self.budget.spent(a, gas, now).put(&a)
    }
    /// Settlements and doors up to t are owed no more. What they may cost still counts, until the outbox says that they have ended:
    /// the chain may tell of a settlement before its receipt is here.
    pub fn retire(&mut self, a: &AgreementId, t: u64) {
        self.items.retain(|id, _| !id.is_final_by(a, t));
    }
    /// Settlements and doors that reach to t or further are owed no more: another epoch counts there.
    pub fn forget(&mut self, a: &AgreementId, t: u64) {
        self.items.retain(|id, _| match id {
            SubmissionId::Settle(of, _, _, last, _) => of != a || *last < t,
            SubmissionId::Hole(of, _, at) => of != a || *at < t,
            _ => true,
        });
    }

    /// What was not taken for a while, and what waits for a day that has come.
    pub fn again(&mut self, now: Millis) -> Vec<Effect> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.due = (!self.items.is_empty()).then_some(now + OWED_AGAIN_MS);
        let ids: Vec<_> = self.items.keys().copied().collect();
        ids.iter().flat_map(|id| self.leave(id, now)).collect()
    }

    /// What of an agreement waits for the gas of another day.
    pub fn gas_wait(&self, a: &AgreementId, now: Millis) -> Option<GasWait> {
        let waits = |(id, item): &(&SubmissionId, &Item)| item.waits && id.agreement() == Some(*a);
        let waiting = self.items.iter().filter(waits).count();
        (waiting > 0).then(|| GasWait {
            waiting,
            used: self.budget.used(a),
            per_day: self.gas_per_day,
            until: Budget::next_day(now),
        })
    }
}
