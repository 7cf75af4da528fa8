//! The state machine of the outbox.

use super::record::{
    DATA_BYTES_MAX, LABEL_BYTES_MAX, META_KEY, Meta, Record, Stage, record_key, seq_of,
};
use super::{Effect, Input, Report, Submission, SubmitterConfig};
use crate::account::Account;
use crate::goal::Goal;
use crate::revert::ExplainedRevert;
use crate::rpc::{Block, ChainIdentity, Receipt, RpcError};
use diversity_proto::{Address, AgreementId, Digest};
use std::collections::BTreeMap;

/// How often a transaction whose nonce is used up is looked for before it counts as overtaken.
pub(super) const MISSES_MAX: u32 = 4;
/// How many mined transactions are looked at again when the chain has changed its mind.
pub(super) const RECHECKED_MAX: usize = 64;

/// Why a journal cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A record that cannot be read.
    #[error("the outbox in the store cannot be read ({0}): restore the store, or upgrade the node")]
    Record(#[from] diversity_proto::DecodeError),
    /// Made for another chain or account.
    #[error(
        "the outbox in the store belongs to {stored}, this node is set to {wanted}: correct the settings, or start with an empty store"
    )]
    Foreign {
        /// What the store says.
        stored: String,
        /// What the settings say.
        wanted: String,
    },
}

/// Whether the chain has to be asked once more if the goal of what was dropped as pointless is still reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Doubt {
    /// No.
    #[default]
    None,
    /// It may have taken back what reached it.
    Open,
    /// It was asked.
    Asked,
    /// It was asked, and may have changed its mind meanwhile.
    Renewed,
}

/// What is known of a submission since the start; nothing of it needs to survive.
#[derive(Clone, Debug, Default)]
pub(super) struct Track {
    pub(super) prechecking: bool,
    /// Why it has to wait, and since when.
    pub(super) waiting: Option<(String, u64)>,
    /// It is not tried before then, whatever blocks come: the contract refused it as wrong.
    pub(super) not_before: Option<u64>,
    /// What the contract said, while its state is asked whether that is so.
    pub(super) confirming: Option<ExplainedRevert>,
    pub(super) last_sent: Option<u64>,
    pub(super) sends: u32,
    pub(super) querying: bool,
    pub(super) last_query: Option<u64>,
    pub(super) refusal: Option<RpcError>,
    /// Why it makes no way unless somebody does something; kept over blocks, until it makes some.
    pub(super) problem: Option<String>,
    /// It is the contract that refuses it.
    pub(super) by_contract: bool,
    pub(super) misses: u32,
    pub(super) sent_at_block: Option<u64>,
    /// When an endpoint first took any version of it.
    pub(super) accepted_at_block: Option<u64>,
    /// Mined, and waiting for confirmations or for the reason of its revert.
    pub(super) mined: Option<Receipt>,
    pub(super) replaying: bool,
    /// It was mined, and the chain has lost it.
    pub(super) lost: bool,
    pub(super) doubt: Doubt,
    /// When the chain last could not say.
    pub(super) doubted: Option<u64>,
    /// What it took was told, and is told as nothing from then on.
    pub(super) gas_told: bool,
    /// When bytes of nonces that it has used up were last sent again.
    pub(super) last_spent: Option<u64>,
}

/// The outbox. See the module for its rules.
pub struct Submitter {
    pub(super) config: SubmitterConfig,
    pub(super) account: Account,
    pub(super) meta: Meta,
    pub(super) records: BTreeMap<u64, Record>,
    pub(super) tracks: BTreeMap<u64, Track>,
    pub(super) ids: BTreeMap<Digest, u64>,
    pub(super) next_seq: u64,
    pub(super) head: Option<Block>,
    pub(super) suggested: Option<u128>,
    /// Nonce and balance at the newest block that was asked for.
    pub(super) state: Option<(u64, u128)>,
    pub(super) asking_account: bool,
    pub(super) last_account: Option<u64>,
    /// Price that the network has been seen to ask for, wei.
    pub(super) floor: u128,
    /// The chain has no type-2 transactions in spite of its header.
    pub(super) legacy: bool,
    pub(super) trouble: Option<String>,
    /// The chain has lost more than is kept here.
    pub(super) beyond_repair: Option<String>,
    pub(super) undelivered: Vec<u64>,
    pub(super) gap_since: Option<(u64, u64)>,
    /// Transactions of this run that were mined without effect, and their gas.
    pub(super) wasted: (u64, u64),
    pub(super) out: Vec<Effect>,
}

impl Submitter {
    /// Takes up what the journal holds (`entries` as scanned), or starts anew.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(
        config: SubmitterConfig,
        chain: ChainIdentity,
        account: Account,
        entries: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<Self, LoadError> {
        let wanted = Meta {
            chain_id: chain.chain_id,
            genesis: chain.genesis,
            account: account.address(),
            floor: 0,
        };
        let mut this = Self {
            config,
            account,
            meta: wanted,
            records: BTreeMap::new(),
            tracks: BTreeMap::new(),
            ids: BTreeMap::new(),
            next_seq: 0,
            head: None,
            suggested: None,
            state: None,
            asking_account: false,
            last_account: None,
            floor: 0,
            legacy: false,
            trouble: None,
            beyond_repair: None,
            undelivered: Vec::new(),
            gap_since: None,
            wasted: (0, 0),
            out: Vec::new(),
        };
        let words = |m: &Meta| {
            format!(
                "account {} on chain {} with genesis {}",
                m.account, m.chain_id, m.genesis
            )
        };
        let mut known = false;
        for (key, value) in entries {
            if key == META_KEY {
                let stored = Meta::decode(value)?;
                if (Meta { floor: 0, ..stored }) != wanted {
                    return Err(LoadError::Foreign {
                        stored: words(&stored),
                        wanted: words(&wanted),
                    });
                }
                this.meta = stored;
                known = true;
            } else if let Some(seq) = seq_of(key) {
                let record = Record::decode(value)?;
                this.ids.insert(record.submission.id, seq);
                this.next_seq = this.next_seq.max(seq + 1);
                if matches!(
                    record.stage,
                    Stage::Done {
                        acknowledged: false,
                        ..
                    }
                ) {
                    this.undelivered.push(seq);
                }
                this.tracks.insert(seq, Track::default());
                this.records.insert(seq, record);
            }
        }
        if !known {
            this.out.push(Effect::Persist {
                key: META_KEY.to_vec(),
                value: this.meta.encode(),
            });
        }
        Ok(this)
    }

    /// One step. `now` is Unix milliseconds and never used for more than waiting.
    pub fn step(&mut self, now: u64, input: Input) -> Vec<Effect> {
        for seq in std::mem::take(&mut self.undelivered) {
            self.deliver(seq);
        }
        match input {
            Input::Submit(submission) => self.submit(now, submission),
            Input::Acknowledge(id) => self.acknowledge(&id),
            Input::Retire { agreement, t } => self.retire(&agreement, t),
            Input::Head {
                block,
                suggested,
                rewound,
            } => self.new_head(now, block, suggested, rewound),
            Input::Account { nonce, balance } => self.new_account(now, nonce, balance),
            Input::Prechecked { seq, outcome } => self.prechecked(now, seq, outcome),
            Input::Confirmed { seq, outcome } => self.confirmed(now, seq, outcome),
            Input::Sent { seq, tx, outcome } => self.sent(now, seq, tx, outcome),
            Input::Receipt { seq, outcome } => self.receipt(now, seq, outcome),
            Input::Replayed { seq, outcome } => self.replayed(now, seq, &outcome),
            Input::Trouble(words) => self.trouble(words),
            Input::Tick => {}
        }
        self.pump(now);
        std::mem::take(&mut self.out)
    }

    /// Whether anything has not ended.
    pub fn is_idle(&self) -> bool {
        self.records.iter().all(|(seq, r)| {
            let track = &self.tracks[seq];
            matches!(r.stage, Stage::Done { .. }) && !track.lost && track.doubt == Doubt::None
        })
    }

    /// Number and hash of the block that was the newest at last, while something is kept that depends on it.
    pub fn known_head(&self) -> Option<(u64, Digest)> {
        let head = self.head.as_ref().filter(|_| self.retains())?;
        Some((head.number, head.hash))
    }

    /// Whether something that was mined may still have to be sent again.
    pub fn retains(&self) -> bool {
        !self.records.is_empty()
    }

    fn submit(&mut self, now: u64, submission: Submission) {
        if let Some(seq) = self.ids.get(&submission.id).copied() {
            self.submit_again(now, seq, submission);
            return;
        }
        let open = self
            .records
            .values()
            .filter(|r| !matches!(r.stage, Stage::Done { .. }))
            .count();
        let refusal = if submission.data.len() > DATA_BYTES_MAX
            || submission.label.len() > LABEL_BYTES_MAX
        {
            Some(format!(
                "calldata is limited to {DATA_BYTES_MAX} bytes and the label to {LABEL_BYTES_MAX}"
            ))
        } else if submission.label.is_empty() {
            Some("it has no label: say in a few words what it is".into())
        } else if open >= self.config.queue_max {
            Some(format!(
                "{open} submissions wait already: wait until the chain has taken some"
            ))
        } else {
            None
        };
        if let Some(reason) = refusal {
            self.out.push(Effect::Refuse {
                id: submission.id,
                reason,
            });
            return;
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        self.ids.insert(submission.id, seq);
        self.tracks.insert(seq, Track::default());
        self.records.insert(
            seq,
            Record {
                submission,
                since: now,
                spent: Vec::new(),
                wasted: 0,
                stage: Stage::Queued,
            },
        );
        self.persist(seq);
    }

    /// The same id is the same submission, whose newest calldata counts until it is signed. Whoever asks again has missed the
    /// report; or knows that it failed, and wants another try.
    fn submit_again(&mut self, now: u64, seq: u64, submission: Submission) {
        let Some(record) = self.records.get_mut(&seq) else {
            return;
        };
        if record.stage == Stage::Queued {
            let changed = record.submission != submission;
            record.submission = submission;
            let track = self.tracks.insert(seq, Track::default());
            if track.is_some_and(|t| t.problem.is_some()) {
                // Whoever asks again may have mended it, such as with funds: what was known of the account is old.
                self.state = None;
                self.ask_account(now);
            }
            if changed {
                self.persist(seq);
            }
            return;
        }
        let Stage::Done {
            report,
            acknowledged,
            signed,
            ..
        } = &mut record.stage
        else {
            return;
        };
        let lost = self.tracks.get(&seq).is_some_and(|t| t.lost);
        if !*acknowledged {
            self.deliver(seq);
        } else if matches!(report, Report::Mined { .. }) {
            *acknowledged = false;
            self.persist(seq);
            // What it took was told when it was acknowledged.
            self.tracks.entry(seq).or_default().gas_told = true;
            if !lost {
                self.deliver(seq);
            }
        } else {
            if let Some(signed) = signed.take() {
                record.spent.push((signed.nonce, signed.last().raw.clone()));
            }
            record.submission = submission;
            record.wasted = 0;
            record.since = now;
            record.stage = Stage::Queued;
            self.tracks.insert(seq, Track::default());
            self.persist(seq);
        }
    }

    fn acknowledge(&mut self, id: &Digest) {
        let Some(seq) = self.ids.get(id).copied() else {
            return;
        };
        let Some(record) = self.records.get_mut(&seq) else {
            return;
        };
        let Stage::Done {
            report,
            acknowledged,
            signed,
            ..
        } = &mut record.stage
        else {
            return;
        };
        if *acknowledged {
            return;
        }
        *acknowledged = true;
        // Whatever reached its goal, the chain may take it back (R13).
        let may_be_owed =
            matches!(report, Report::Pointless { .. }) && record.submission.goal.is_some();
        if signed.is_none() && record.spent.is_empty() && !may_be_owed {
            self.forget(seq);
        } else {
            self.persist(seq);
        }
    }

    fn retire(&mut self, a: &AgreementId, t: u64) {
        let over = |goal: Option<Goal>| matches!(goal, Some(Goal::Settled { agreement, t: at, .. }) if agreement == *a && at <= t);
        let retired: Vec<_> = self
            .records
            .iter()
            .filter(|(_, r)| r.stage == Stage::Queued && over(r.submission.goal))
            .map(|(seq, _)| *seq)
            .collect();
        for seq in retired {
            let reason = format!("everything up to t = {t} is final");
            self.end(seq, Report::Pointless { reason }, None);
        }
    }

    fn new_head(&mut self, now: u64, block: Block, suggested: Option<u128>, rewound: bool) {
        self.suggested = suggested;
        let was_dead = self.trouble.take().is_some();
        let before = self.head.replace(block.clone());
        if before.as_ref().is_some_and(|b| b.hash == block.hash) && !was_dead && !rewound {
            return;
        }
        // A head that does not follow the one before: blocks may be gone, and pools too.
        let rewound = rewound
            || before.as_ref().is_some_and(|b| {
                block.number < b.number
                    || block.number == b.number && block.hash != b.hash
                    || block.number == b.number + 1 && block.parent_hash != b.hash
            });
        if rewound || was_dead || before.is_none() {
            for track in self.tracks.values_mut() {
                track.last_sent = None;
                track.last_spent = None;
            }
            self.recheck_mined(now);
            self.doubt();
        }
        self.prune(block.number);
        for track in self.tracks.values_mut() {
            track.waiting = None;
        }
        for seq in self.watched() {
            self.query(now, seq);
        }
        self.ask_account(now);
    }

    fn new_account(&mut self, now: u64, nonce: u64, balance: u128) {
        self.asking_account = false;
        let changed = self.state.replace((nonce, balance)) != Some((nonce, balance));
        self.beyond_repair = None;
        if nonce < self.meta.floor {
            self.beyond_repair = Some(format!(
                "the chain has lost more blocks than this node can restore: it has {nonce} transactions of account {}, and {} were mined before; restore the chain, or start with an empty store",
                self.meta.account, self.meta.floor
            ));
            return;
        }
        let lost: Vec<_> = self
            .records
            .iter()
            .filter(|(_, r)| matches!(&r.stage, Stage::Done { signed: Some(s), .. } if s.nonce >= nonce))
            .map(|(seq, _)| *seq)
            .collect();
        let mut anew = false;
        for seq in lost {
            let track = self.tracks.entry(seq).or_default();
            if !track.lost {
                anew = true;
                track.lost = true;
                track.last_sent = None;
                track.sends = 0;
                self.query(now, seq);
            }
        }
        if anew {
            self.doubt();
        }
        if changed {
            for track in self.tracks.values_mut() {
                track.waiting = None;
            }
        }
    }

    fn trouble(&mut self, words: String) {
        self.trouble = Some(words);
        self.asking_account = false;
        for track in self.tracks.values_mut() {
            track.refusal = None;
        }
    }

    fn prune(&mut self, head: u64) {
        let old: Vec<_> = self
            .records
            .iter()
            .filter(|(seq, r)| {
                matches!(&r.stage, Stage::Done { acknowledged: true, block, .. }
                    if block + self.config.retain_blocks < head)
                    && !self.tracks[seq].lost
                    && self.tracks[seq].doubt == Doubt::None
            })
            .map(|(seq, _)| *seq)
            .collect();
        for seq in old {
            self.forget(seq);
        }
    }

    /// Removes a record; its nonces are remembered as used first.
    pub(super) fn forget(&mut self, seq: u64) {
        let Some(record) = self.records.remove(&seq) else {
            return;
        };
        self.tracks.remove(&seq);
        self.ids.remove(&record.submission.id);
        let mut used: Vec<_> = record.spent.iter().map(|(n, _)| n + 1).collect();
        if let Stage::Done {
            signed: Some(s), ..
        } = &record.stage
        {
            used.push(s.nonce + 1);
        }
        if let Some(floor) = used.into_iter().max().filter(|f| *f > self.meta.floor) {
            self.meta.floor = floor;
            self.out.push(Effect::Persist {
                key: META_KEY.to_vec(),
                value: self.meta.encode(),
            });
        }
        self.out.push(Effect::Delete {
            key: record_key(seq),
        });
    }

    pub(super) fn persist(&mut self, seq: u64) {
        self.out.push(Effect::Persist {
            key: record_key(seq),
            value: self.records[&seq].encode(),
        });
    }

    pub(super) fn deliver(&mut self, seq: u64) {
        if let Some(Record {
            submission,
            wasted,
            stage:
                Stage::Done {
                    report,
                    acknowledged: false,
                    ..
                },
            ..
        }) = self.records.get(&seq)
        {
            let told = &mut self.tracks.entry(seq).or_default().gas_told;
            let gas = match report {
                _ if std::mem::replace(told, true) => 0,
                Report::Mined { gas_used, .. } => wasted.saturating_add(*gas_used),
                _ => *wasted,
            };
            // A relayed call has a patience; what this node owes has none.
            let owed = submission.patience_ms.is_none();
            self.out.push(Effect::Deliver {
                id: submission.id,
                report: report.clone(),
                owed_for: submission.goal.filter(|_| owed).and_then(|g| g.agreement()),
                gas,
            });
        }
    }

    pub(super) fn address(&self) -> Address {
        self.meta.account
    }
}

#[cfg(test)]
#[path = "core_tests/mod.rs"]
mod tests;
