//! The state machine of the outbox.

use super::record::{
    DATA_BYTES_MAX, LABEL_BYTES_MAX, META_KEY, Meta, Record, SPENT_MAX, Signed, Stage, record_key,
    seq_of,
};
use super::{
    Effect, Input, Precheck, Report, Status, Submission, SubmitterConfig, WAITING_SHOWN_MAX,
    Waiting,
};
use crate::account::Account;
use crate::revert::{RevertClass, explain};
use crate::rpc::{Block, Call, ChainIdentity, Receipt, RpcError};
use diversity_proto::domain::keccak_raw;
use diversity_proto::{Address, Digest};
use std::collections::{BTreeMap, BTreeSet};

/// How often a transaction whose nonce is used up is looked for before it counts as overtaken.
const MISSES_MAX: u32 = 4;
/// How many mined transactions are looked at again when the chain has changed its mind.
const RECHECKED_MAX: usize = 64;

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

/// What is known of a submission since the start; nothing of it needs to survive.
#[derive(Clone, Debug, Default)]
pub(super) struct Track {
    prechecking: bool,
    /// Why it has to wait, and since when.
    pub waiting: Option<(String, u64)>,
    pub last_sent: Option<u64>,
    pub sends: u32,
    querying: bool,
    last_query: Option<u64>,
    pub refusal: Option<RpcError>,
    misses: u32,
    requeues: u32,
    pub sent_at_block: Option<u64>,
    /// Mined, and waiting for confirmations or for the reason of its revert.
    mined: Option<Receipt>,
    replaying: bool,
    /// It was mined, and the chain has lost it.
    lost: bool,
    /// When bytes of nonces that it has used up were last sent again.
    last_spent: Option<u64>,
}

/// The outbox. See the module for its rules.
pub struct Submitter {
    pub(super) config: SubmitterConfig,
    pub(super) account: Account,
    pub(super) meta: Meta,
    pub(super) records: BTreeMap<u64, Record>,
    pub(super) tracks: BTreeMap<u64, Track>,
    ids: BTreeMap<Digest, u64>,
    next_seq: u64,
    pub(super) head: Option<Block>,
    pub(super) suggested: Option<u128>,
    /// Nonce and balance at the newest block that was asked for.
    pub(super) state: Option<(u64, u128)>,
    asking_account: bool,
    last_account: Option<u64>,
    /// Price that the network has been seen to ask for, wei.
    pub(super) floor: u128,
    /// The chain has no type-2 transactions in spite of its header.
    pub(super) legacy: bool,
    trouble: Option<String>,
    /// The chain has lost more than is kept here.
    beyond_repair: Option<String>,
    undelivered: Vec<u64>,
    gap_since: Option<(u64, u64)>,
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
            Input::Head { block, suggested } => self.new_head(now, block, suggested),
            Input::Account { nonce, balance } => self.new_account(now, nonce, balance),
            Input::Prechecked { seq, outcome } => self.prechecked(now, seq, outcome),
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
        self.records
            .iter()
            .all(|(seq, r)| matches!(r.stage, Stage::Done { .. }) && !self.tracks[seq].lost)
    }

    /// Whether something that was mined may still have to be sent again.
    pub fn retains(&self) -> bool {
        !self.records.is_empty()
    }

    /// State for people.
    pub fn status(&self) -> Status {
        let open = || {
            self.records
                .iter()
                .filter(|(_, r)| !matches!(r.stage, Stage::Done { .. }))
        };
        let waiting = open()
            .take(WAITING_SHOWN_MAX)
            .map(|(seq, r)| Waiting {
                id: r.submission.id,
                label: r.submission.label.clone(),
                since: r.since,
                why: self.why(*seq, r),
            })
            .collect();
        let lost = self.tracks.values().filter(|t| t.lost).count();
        let trouble = self
            .trouble
            .clone()
            .or_else(|| self.beyond_repair.clone())
            .or_else(|| {
                (lost > 0).then(|| {
                    format!("the chain has lost blocks: {lost} mined transactions are sent again")
                })
            });
        Status {
            account: Some(self.meta.account),
            balance: self.state.map(|(_, b)| b),
            head: self.head.as_ref().map(|h| h.number),
            trouble,
            in_flight: self.in_flight(),
            queued: open().filter(|(_, r)| r.stage == Stage::Queued).count(),
            waiting,
        }
    }

    fn why(&self, seq: u64, record: &Record) -> String {
        let track = &self.tracks[&seq];
        if let Some(trouble) = self.trouble.as_ref().or(self.beyond_repair.as_ref()) {
            return trouble.clone();
        }
        if let Some((why, _)) = &track.waiting {
            return why.clone();
        }
        match (&record.stage, &track.refusal) {
            (Stage::Signed(_), Some(refusal)) => refusal.to_string(),
            (Stage::Signed(s), None) if track.mined.is_some() => {
                format!(
                    "transaction {} is mined and waits for confirmations",
                    s.last().tx
                )
            }
            (Stage::Signed(s), None) if track.sends == 0 => {
                format!("transaction {} is about to be sent", s.last().tx)
            }
            (Stage::Signed(s), None) => format!(
                "transaction {} (nonce {}) was sent {} times and is not mined yet: if this lasts, look whether the chain makes blocks and whether a validator takes its price",
                s.last().tx,
                s.nonce,
                track.sends
            ),
            _ => "waits for its turn".into(),
        }
    }

    // ------------------------------------------------------------------------------------------- inputs

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
                stage: Stage::Queued,
            },
        );
        self.persist(seq);
    }

    /// The same id is the same submission. Whoever asks again has missed the report; or knows that it failed, and wants
    /// another try.
    fn submit_again(&mut self, now: u64, seq: u64, submission: Submission) {
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
        let lost = self.tracks.get(&seq).is_some_and(|t| t.lost);
        if !*acknowledged {
            self.deliver(seq);
        } else if matches!(report, Report::Mined { .. }) {
            *acknowledged = false;
            self.persist(seq);
            if !lost {
                self.deliver(seq);
            }
        } else {
            if let Some(signed) = signed.take() {
                record.spent.push((signed.nonce, signed.last().raw.clone()));
            }
            record.submission = submission;
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
        if signed.is_none() && record.spent.is_empty() {
            self.forget(seq);
        } else {
            self.persist(seq);
        }
    }

    fn new_head(&mut self, now: u64, block: Block, suggested: Option<u128>) {
        self.suggested = suggested;
        let was_dead = self.trouble.take().is_some();
        let before = self.head.replace(block.clone());
        if before.as_ref().is_some_and(|b| b.hash == block.hash) && !was_dead {
            return;
        }
        // A head that does not follow the one before: blocks may be gone, and pools too.
        let rewound = before.as_ref().is_some_and(|b| {
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
        for seq in lost {
            let track = self.tracks.entry(seq).or_default();
            if !track.lost {
                track.lost = true;
                track.last_sent = None;
                track.sends = 0;
                self.query(now, seq);
            }
        }
        if changed {
            for track in self.tracks.values_mut() {
                track.waiting = None;
            }
        }
    }

    fn prechecked(&mut self, now: u64, seq: u64, outcome: Precheck) {
        let Some(record) = self.records.get(&seq) else {
            return;
        };
        let track = self.tracks.entry(seq).or_default();
        track.prechecking = false;
        if record.stage != Stage::Queued {
            return;
        }
        let patient = record
            .submission
            .patience_ms
            .is_none_or(|ms| now.saturating_sub(record.since) < ms);
        match outcome {
            Precheck::Gas(gas) => self.sign_new(now, seq, gas),
            Precheck::NoCode => self.wait(
                now,
                seq,
                "there is no contract at its address: the chain has lost it, or the address is wrong".into(),
            ),
            Precheck::Error(RpcError::Reverted { data, .. }) => {
                let e = explain(&data);
                match e.class {
                    RevertClass::Pointless => self.end(seq, Report::Pointless { reason: e.words }, None),
                    RevertClass::NotYet if patient => self.wait(now, seq, e.words),
                    RevertClass::NotYet | RevertClass::Wrong => self.end(
                        seq,
                        Report::Reverted { name: e.name.into(), words: e.words, mined: None },
                        None,
                    ),
                }
            }
            Precheck::Error(
                error @ (RpcError::EvmFailure { .. } | RpcError::GasLimit { .. } | RpcError::IntrinsicGas { .. }),
            ) => self.end(
                seq,
                Report::Reverted { name: String::new(), words: error.to_string(), mined: None },
                None,
            ),
            Precheck::Error(error) => self.wait(now, seq, error.to_string()),
        }
    }

    fn sent(&mut self, now: u64, seq: u64, tx: Digest, outcome: Result<(), RpcError>) {
        let Some(signed) = self.signed_of(seq) else {
            return;
        };
        if signed.last().tx != tx {
            return;
        }
        let block = self.head.as_ref().map(|h| h.number);
        let track = self.tracks.entry(seq).or_default();
        match outcome {
            Ok(()) | Err(RpcError::KnownTransaction) => {
                track.refusal = None;
                track.sent_at_block = track.sent_at_block.or(block);
                self.query(now, seq);
            }
            Err(RpcError::NonceTooLow) => {
                track.refusal = None;
                self.query(now, seq);
                self.ask_account(now);
            }
            Err(error @ (RpcError::Underpriced { .. } | RpcError::TransactionType { .. })) => {
                track.refusal = Some(error.clone());
                self.reprice(now, seq, &error);
            }
            Err(error) => {
                track.refusal = Some(error);
                self.query(now, seq);
            }
        }
    }

    fn receipt(&mut self, now: u64, seq: u64, outcome: Result<Option<Receipt>, RpcError>) {
        let Some(record) = self.records.get(&seq) else {
            return;
        };
        let track = self.tracks.entry(seq).or_default();
        track.querying = false;
        let done = matches!(record.stage, Stage::Done { .. });
        let receipt = match outcome {
            Ok(Some(receipt)) => receipt,
            Ok(None) => {
                track.mined = None;
                self.missing(seq, done);
                return;
            }
            Err(_) => return,
        };
        track.misses = 0;
        if done {
            self.mined_again(now, seq, receipt);
            return;
        }
        let depth = self
            .head
            .as_ref()
            .map_or(0, |h| h.number.saturating_sub(receipt.block_number));
        let confirmed = depth >= self.config.confirmations;
        track.mined = Some(receipt.clone());
        if !confirmed {
            return;
        }
        if receipt.success {
            let report = Report::Mined {
                tx: receipt.tx,
                gas_used: receipt.gas_used,
                block: receipt.block_number,
                contract: receipt.contract,
            };
            self.end(seq, report, Some(receipt.block_number));
            // What waited for this one need not wait for the next block.
            for track in self.tracks.values_mut() {
                track.waiting = None;
            }
        } else if let Some(reason) = receipt.revert_reason.clone() {
            self.mined_reverted(now, seq, &reason, None);
        } else {
            self.replay(seq, &receipt);
        }
    }

    fn replay(&mut self, seq: u64, receipt: &Receipt) {
        let track = self.tracks.entry(seq).or_default();
        if track.replaying {
            return;
        }
        track.replaying = true;
        track.mined = Some(receipt.clone());
        let gas = self.signed_of(seq).map_or(0, |s| {
            s.attempts
                .iter()
                .find(|a| a.tx == receipt.tx)
                .unwrap_or(s.last())
                .gas_limit
        });
        self.out.push(Effect::Replay {
            seq,
            call: self.call(&self.records[&seq].submission),
            block: receipt.block_number.saturating_sub(1),
            gas,
        });
    }

    fn replayed(&mut self, now: u64, seq: u64, outcome: &Result<Vec<u8>, RpcError>) {
        self.tracks.entry(seq).or_default().replaying = false;
        match outcome {
            Err(RpcError::Reverted { data, .. }) => self.mined_reverted(now, seq, data, None),
            Err(error) if error.is_passing() => {}
            Err(error) => self.mined_reverted(now, seq, &[], Some(error.to_string())),
            Ok(_) => self.mined_reverted(
                now,
                seq,
                &[],
                Some("it failed when it was mined, and would work now: send it again".into()),
            ),
        }
    }

    fn trouble(&mut self, words: String) {
        self.trouble = Some(words);
        self.asking_account = false;
        for track in self.tracks.values_mut() {
            track.refusal = None;
        }
    }

    // ------------------------------------------------------------------------------------------- transitions

    /// No receipt. If the account is past the nonce all the same, another transaction has used it.
    fn missing(&mut self, seq: u64, done: bool) {
        let Some(signed) = self.signed_of(seq) else {
            return;
        };
        let overtaken = self.state.is_some_and(|(nonce, _)| nonce > signed.nonce);
        let (nonce, raw) = (signed.nonce, signed.last().raw.clone());
        let track = self.tracks.entry(seq).or_default();
        if !overtaken {
            track.misses = 0;
            return;
        }
        track.misses += 1;
        if track.misses < MISSES_MAX {
            return;
        }
        if done {
            self.undo(seq, "the chain has lost its block, and another transaction of the account has taken its place".into());
        } else {
            self.requeue(seq, nonce, raw);
        }
    }

    /// A submission that had ended is mined in another block now.
    fn mined_again(&mut self, now: u64, seq: u64, receipt: Receipt) {
        let track = self.tracks.entry(seq).or_default();
        let was_lost = std::mem::take(&mut track.lost);
        if !receipt.success {
            let was_mined = matches!(
                self.records[&seq].stage,
                Stage::Done {
                    report: Report::Mined { .. },
                    ..
                }
            );
            match receipt.revert_reason.clone() {
                _ if !was_mined => {}
                Some(reason) => self.mined_reverted(now, seq, &reason, None),
                None => self.replay(seq, &receipt),
            }
            return;
        }
        let Some(record) = self.records.get_mut(&seq) else {
            return;
        };
        let Stage::Done { report, block, .. } = &mut record.stage else {
            return;
        };
        if let Report::Mined {
            tx,
            gas_used,
            block: at,
            ..
        } = report
            && (*block != receipt.block_number || was_lost)
        {
            (*tx, *gas_used, *at) = (receipt.tx, receipt.gas_used, receipt.block_number);
            *block = receipt.block_number;
            self.persist(seq);
            self.deliver(seq);
        }
    }

    fn mined_reverted(&mut self, now: u64, seq: u64, data: &[u8], instead: Option<String>) {
        let e = explain(data);
        let Some(record) = self.records.get(&seq) else {
            return;
        };
        if matches!(record.stage, Stage::Done { .. }) {
            let spent = record.spent.len();
            let Some(signed) = self.signed_of(seq) else {
                return;
            };
            let (nonce, raw) = (signed.nonce, signed.last().raw.clone());
            if instead.is_none() && e.class == RevertClass::NotYet && spent < SPENT_MAX {
                // What it stood on was lost too, and comes back from somebody else: another try, another report.
                self.requeue(seq, nonce, raw);
                self.wait(now, seq, e.words);
            } else {
                self.undo(seq, instead.unwrap_or(e.words));
            }
            return;
        }
        let Some(receipt) = self.tracks.get(&seq).and_then(|t| t.mined.clone()) else {
            return;
        };
        let Some(signed) = self.signed_of(seq) else {
            return;
        };
        let (nonce, raw) = (signed.nonce, signed.last().raw.clone());
        let out_of_gas = receipt.gas_used >= signed.last().gas_limit;
        let track = self.tracks.entry(seq).or_default();
        if instead.is_none()
            && e.class == RevertClass::NotYet
            && track.requeues < 5
            && record.spent.len() < SPENT_MAX
        {
            // Something that was there when it was simulated was gone when it was mined.
            track.requeues += 1;
            self.requeue(seq, nonce, raw);
            self.wait(now, seq, e.words);
            return;
        }
        let report = if instead.is_none() && e.class == RevertClass::Pointless {
            Report::Pointless { reason: e.words }
        } else {
            let words = if out_of_gas {
                "it ran out of gas".into()
            } else {
                instead.unwrap_or(e.words)
            };
            Report::Reverted {
                name: e.name.into(),
                words,
                mined: Some((receipt.tx, receipt.gas_used, receipt.block_number)),
            }
        };
        self.end(seq, report, Some(receipt.block_number));
    }

    /// The nonce is used up without effect: the payload gets another one.
    fn requeue(&mut self, seq: u64, nonce: u64, raw: Vec<u8>) {
        let Some(record) = self.records.get_mut(&seq) else {
            return;
        };
        if record.spent.len() >= SPENT_MAX {
            let words = "its nonces were used up by other transactions again and again: is the account used elsewhere?";
            self.end(
                seq,
                Report::Reverted {
                    name: String::new(),
                    words: words.into(),
                    mined: None,
                },
                None,
            );
            return;
        }
        record.spent.push((nonce, raw));
        record.stage = Stage::Queued;
        self.persist(seq);
        let track = self.tracks.entry(seq).or_default();
        *track = Track {
            requeues: track.requeues,
            ..Track::default()
        };
    }

    pub(super) fn end(&mut self, seq: u64, report: Report, mined_at: Option<u64>) {
        let Some(record) = self.records.get_mut(&seq) else {
            return;
        };
        let signed = match &record.stage {
            Stage::Signed(s) => Some(s.clone()),
            _ => None,
        };
        record.stage = Stage::Done {
            report,
            // A filler of a gap has no caller.
            acknowledged: record.submission.label.is_empty(),
            signed,
            block: mined_at
                .or(self.head.as_ref().map(|h| h.number))
                .unwrap_or(0),
        };
        self.tracks.insert(seq, Track::default());
        self.persist(seq);
        self.deliver(seq);
    }

    /// What was reported as mined is not so any more.
    fn undo(&mut self, seq: u64, reason: String) {
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
        if let Some(signed) = signed.take()
            && record.spent.len() < SPENT_MAX
        {
            record.spent.push((signed.nonce, signed.last().raw.clone()));
        }
        if matches!(report, Report::Mined { .. }) && !record.submission.label.is_empty() {
            *report = Report::Undone { reason };
            *acknowledged = false;
        }
        self.tracks.insert(seq, Track::default());
        self.persist(seq);
        self.deliver(seq);
    }

    fn prune(&mut self, head: u64) {
        let old: Vec<_> = self
            .records
            .iter()
            .filter(|(seq, r)| {
                matches!(&r.stage, Stage::Done { acknowledged: true, block, .. }
                    if block + self.config.retain_blocks < head)
                    && !self.tracks[seq].lost
            })
            .map(|(seq, _)| *seq)
            .collect();
        for seq in old {
            self.forget(seq);
        }
    }

    /// Removes a record; its nonces are remembered as used first.
    fn forget(&mut self, seq: u64) {
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

    // ------------------------------------------------------------------------------------------- doing

    fn pump(&mut self, now: u64) {
        if self.trouble.is_some() || self.beyond_repair.is_some() || self.head.is_none() {
            return;
        }
        let Some((nonce, _)) = self.state else { return };
        self.resend_spent(now, nonce);
        self.resend(now, nonce);
        self.fill_gap(now, nonce);
        self.precheck(now);
        let due = |at: Option<u64>, ms: u64| at.is_none_or(|at| now >= at.saturating_add(ms));
        for seq in self.watched() {
            if due(self.tracks[&seq].last_query, self.config.rebroadcast_ms) {
                self.query(now, seq);
            }
        }
        let waits = self
            .tracks
            .values()
            .any(|t| t.waiting.is_some() || t.lost || t.misses > 0);
        if waits && due(self.last_account, self.config.recheck_ms) {
            self.ask_account(now);
        }
    }

    /// Sends identical bytes again, lowest nonce first; a few at a time, since pools take a few.
    fn resend(&mut self, now: u64, nonce: u64) {
        let mut due: Vec<_> = self
            .watched()
            .into_iter()
            .filter_map(|seq| Some((self.signed_of(seq)?.nonce, seq)))
            .filter(|(n, _)| *n >= nonce)
            .collect();
        due.sort_unstable();
        for (_, seq) in due.into_iter().take(self.config.in_flight_max) {
            let track = &self.tracks[&seq];
            if track.mined.is_some() && !track.lost {
                continue;
            }
            if track
                .last_sent
                .is_none_or(|at| now >= at.saturating_add(self.config.rebroadcast_ms))
            {
                if track.sends > 0 {
                    self.replace_if_outpriced(now, seq);
                }
                self.send(now, seq);
            }
        }
    }

    /// Bytes whose effect is known to be none still hold their nonce: without them nothing behind them is mined.
    fn resend_spent(&mut self, now: u64, nonce: u64) {
        for (seq, record) in &self.records {
            let Some(track) = self.tracks.get_mut(seq) else {
                continue;
            };
            let due = track
                .last_spent
                .is_none_or(|at| now >= at.saturating_add(self.config.rebroadcast_ms));
            for (n, raw) in &record.spent {
                if *n >= nonce && due {
                    track.last_spent = Some(now);
                    self.out.push(Effect::Send {
                        seq: *seq,
                        tx: Digest(keccak_raw(raw)),
                        raw: raw.clone(),
                        all: true,
                    });
                }
            }
        }
    }

    fn precheck(&mut self, now: u64) {
        if self.tracks.values().any(|t| t.lost) {
            return;
        }
        let busy = self.tracks.values().filter(|t| t.prechecking).count() + self.in_flight();
        let mut free = self.config.in_flight_max.saturating_sub(busy);
        let queued: Vec<_> = self
            .records
            .iter()
            .filter(|(_, r)| r.stage == Stage::Queued)
            .map(|(seq, _)| *seq)
            .collect();
        for seq in queued {
            if free == 0 {
                return;
            }
            let track = self.tracks.entry(seq).or_default();
            let waits = track
                .waiting
                .as_ref()
                .is_some_and(|(_, at)| now < at + self.config.recheck_ms);
            if track.prechecking || waits {
                continue;
            }
            track.prechecking = true;
            free -= 1;
            let call = self.call(&self.records[&seq].submission);
            self.out.push(Effect::Precheck { seq, call });
        }
    }

    /// A nonce that nothing of ours has, below one that we have signed: the chain has lost a transaction that somebody
    /// else sent from this account. A transaction without effect closes the gap, if no new submission does.
    fn fill_gap(&mut self, now: u64, nonce: u64) {
        let covered = self.covered();
        let gap = (nonce..)
            .find(|n| !covered.contains(n))
            .filter(|n| covered.iter().any(|c| c > n));
        let since = match (gap, self.gap_since) {
            (None, _) => {
                self.gap_since = None;
                return;
            }
            (Some(gap), Some((known, since))) if known == gap => since,
            (Some(gap), _) => {
                self.gap_since = Some((gap, now));
                now
            }
        };
        let filled = self
            .records
            .values()
            .any(|r| r.stage == Stage::Queued && r.submission.label.is_empty());
        if !filled && now.saturating_sub(since) >= self.config.rebroadcast_ms {
            self.gap_since = None;
            let seq = self.next_seq;
            self.next_seq += 1;
            let mut id = [0xff; 32];
            id[24..].copy_from_slice(&seq.to_be_bytes());
            self.ids.insert(Digest(id), seq);
            self.tracks.insert(seq, Track::default());
            self.records.insert(
                seq,
                Record {
                    submission: Submission {
                        id: Digest(id),
                        label: String::new(),
                        to: Some(self.meta.account),
                        data: Vec::new(),
                        patience_ms: None,
                    },
                    since: now,
                    spent: Vec::new(),
                    stage: Stage::Queued,
                },
            );
            self.sign_new(now, seq, 21_000);
        }
    }

    /// Nonces that were signed for payloads that are still kept.
    pub(super) fn covered(&self) -> BTreeSet<u64> {
        let mut out = BTreeSet::new();
        for record in self.records.values() {
            out.extend(record.spent.iter().map(|(n, _)| *n));
            match &record.stage {
                Stage::Signed(s)
                | Stage::Done {
                    signed: Some(s), ..
                } => {
                    out.insert(s.nonce);
                }
                _ => {}
            }
        }
        out
    }

    pub(super) fn in_flight(&self) -> usize {
        self.records
            .values()
            .filter(|r| matches!(r.stage, Stage::Signed(_)))
            .count()
    }

    /// Everything whose receipt matters, in the order of submission.
    fn watched(&self) -> Vec<u64> {
        self.records
            .iter()
            .filter(|(seq, r)| {
                let track = &self.tracks[seq];
                matches!(r.stage, Stage::Signed(_)) || track.lost || track.misses > 0
            })
            .map(|(seq, _)| *seq)
            .collect()
    }

    pub(super) fn signed_of(&self, seq: u64) -> Option<&Signed> {
        match &self.records.get(&seq)?.stage {
            Stage::Signed(s)
            | Stage::Done {
                signed: Some(s), ..
            } => Some(s),
            _ => None,
        }
    }

    fn call(&self, s: &Submission) -> Call {
        Call {
            from: self.meta.account,
            to: s.to,
            data: s.data.clone(),
        }
    }

    /// Looks at the newest mined transactions again.
    fn recheck_mined(&mut self, now: u64) {
        let mut mined: Vec<_> = self
            .records
            .iter()
            .filter_map(|(seq, r)| match &r.stage {
                Stage::Done {
                    signed: Some(s), ..
                } => Some((s.nonce, *seq)),
                _ => None,
            })
            .collect();
        mined.sort_unstable();
        for (_, seq) in mined.into_iter().rev().take(RECHECKED_MAX) {
            self.query(now, seq);
        }
    }

    fn query(&mut self, now: u64, seq: u64) {
        let Some(txs) = self.signed_of(seq).map(Signed::txs) else {
            return;
        };
        let track = self.tracks.entry(seq).or_default();
        if !track.querying {
            track.querying = true;
            track.last_query = Some(now);
            self.out.push(Effect::QueryReceipt { seq, txs });
        }
    }

    pub(super) fn ask_account(&mut self, now: u64) {
        if !self.asking_account {
            self.asking_account = true;
            self.last_account = Some(now);
            self.out.push(Effect::QueryAccount);
        }
    }

    pub(super) fn wait(&mut self, now: u64, seq: u64, why: String) {
        self.tracks.entry(seq).or_default().waiting = Some((why, now));
    }

    pub(super) fn persist(&mut self, seq: u64) {
        self.out.push(Effect::Persist {
            key: record_key(seq),
            value: self.records[&seq].encode(),
        });
    }

    fn deliver(&mut self, seq: u64) {
        if let Some(Record {
            submission,
            stage:
                Stage::Done {
                    report,
                    acknowledged: false,
                    ..
                },
            ..
        }) = self.records.get(&seq)
        {
            self.out.push(Effect::Deliver {
                id: submission.id,
                report: report.clone(),
            });
        }
    }

    pub(super) fn address(&self) -> Address {
        self.meta.account
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
