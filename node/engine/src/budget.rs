//! What an agreement may cost this node in a day (P-BUDGET-1): beyond it submissions wait, owed. Counted is what the node itself
//! sent: an estimate from the moment it is handed to the outbox, the receipt from then on. The day is that of the node's clock,
//! UTC.

use crate::alloc_prelude::*;
use crate::api::{Millis, Settlement, Submission, SubmissionId};
use crate::records::SpentRecord;
use diversity_proto::AgreementId;

const DAY_MS: Millis = 86_400_000;

/// One agreement.
#[derive(Default)]
struct Account {
    spent: SpentRecord,
    /// Estimates of what is on its way: each until the outbox says what it came to, also where the chain is past it already.
    reserved: BTreeMap<SubmissionId, u64>,
}

impl Account {
    fn roll(&mut self, day: u64) {
        // A clock that was set back begins a day too: what stands under a day to come would never be forgotten.
        if self.spent.day != day {
            self.spent = SpentRecord { day, gas: 0 };
        }
    }
    fn used(&self) -> u64 {
        self.reserved
            .values()
            .fold(self.spent.gas, |sum, gas| sum.saturating_add(*gas))
    }
}

/// The budgets of all agreements.
pub(crate) struct Budget {
    gas_per_day: u64,
    accounts: BTreeMap<AgreementId, Account>,
}

impl Budget {
    pub fn new(gas_per_day: u64) -> Self {
        Self {
            gas_per_day,
            accounts: BTreeMap::new(),
        }
    }

    /// What an earlier run spent.
    pub fn restore(&mut self, a: AgreementId, spent: SpentRecord) {
        self.accounts.entry(a).or_default().spent = spent;
    }

    /// Whether the submission may leave now; if so, what it may cost is reserved. One that would cross the bound may still go, so that
    /// even a budget below one settlement settles once a day.
    pub fn admits(&mut self, id: SubmissionId, submission: &Submission, now: Millis) -> bool {
        let Some(a) = id.agreement() else {
            // A contradiction of a sensor is reported once.
            return true;
        };
        let account = self.accounts.entry(a).or_default();
        account.roll(now / DAY_MS);
        let may = account.reserved.contains_key(&id)
            || account.used() < self.gas_per_day
            || matches!(id, SubmissionId::Misbehaviour(..));
        if may {
            account.reserved.insert(id, estimate(submission));
        }
        may
    }

    /// A submission has ended and cost this much, nothing if it was never mined. Returns what is to be kept of it.
    pub fn paid(
        &mut self,
        id: &SubmissionId,
        gas: u64,
        now: Millis,
    ) -> Option<(AgreementId, SpentRecord)> {
        let a = id.agreement()?;
        self.accounts.entry(a).or_default().reserved.remove(id);
        let spent = self.spent(a, gas, now);
        (gas > 0).then_some((a, spent))
    }

    /// Something that an earlier run handed in has ended. Returns what is to be kept of it.
    pub fn spent(&mut self, a: AgreementId, gas: u64, now: Millis) -> SpentRecord {
        let account = self.accounts.entry(a).or_default();
        account.roll(now / DAY_MS);
        account.spent.gas = account.spent.gas.saturating_add(gas);
        account.spent
    }

    /// Gas of today, what is on its way included.
    pub fn used(&self, a: &AgreementId) -> u64 {
        self.accounts.get(a).map_or(0, Account::used)
    }

    /// When the next day begins.
    pub fn next_day(now: Millis) -> Millis {
        (now / DAY_MS + 1) * DAY_MS
    }
}

/// About what a submission costs until its receipt says it, gas. Measured on Prague receipts (docs/performance.md); what travels as
/// calldata costs up to 40 a byte there.
fn estimate(s: &Submission) -> u64 {
    const CALL: u64 = 40_000;
    const ENTRY: u64 = 400;
    const SIGNATURE: u64 = 8_000;
    const BODY: u64 = 40_000;
    match s {
        Submission::Settle { settlement, .. } => match settlement {
            Settlement::Single { outcome, .. } => CALL + 40 * outcome.result.len() as u64,
            Settlement::Batch { batch, .. } => CALL + ENTRY * batch.entries.len() as u64,
            Settlement::Reveals { signatures, .. } => CALL + SIGNATURE * signatures.len() as u64,
        },
        Submission::Hole { reveals, .. } => CALL + BODY * reveals.len() as u64,
        Submission::Reading { .. } => CALL,
        Submission::Misbehaviour { .. } | Submission::Contradiction { .. } => 2 * BODY,
    }
}
