//! What the chain says to a submission, and what becomes of it then.

use super::core::{Doubt, MISSES_MAX, Submitter, Track};
use super::record::{SPENT_MAX, Stage};
use super::{Effect, Precheck, Report};
use crate::revert::{ExplainedRevert, RevertClass, explain};
use crate::rpc::{Receipt, RpcError};
use diversity_proto::Digest;

impl Submitter {
    pub(super) fn prechecked(&mut self, now: u64, seq: u64, outcome: Precheck) {
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
            Precheck::NoCode => self.stuck(
                now,
                seq,
                "there is no contract at its address: the chain has lost it, or the address is wrong".into(),
            ),
            Precheck::Error(RpcError::Reverted { data, .. }) => {
                let failure = explain(&data);
                if failure.class == RevertClass::NotYet && patient {
                    self.wait(now, seq, failure.words);
                } else {
                    self.confirm(now, seq, failure);
                }
            }
            Precheck::Error(
                error @ (RpcError::EvmFailure { .. } | RpcError::GasLimit { .. } | RpcError::IntrinsicGas { .. }),
            ) => self.confirm(now, seq, ExplainedRevert {
                class: RevertClass::Wrong,
                name: "",
                words: error.to_string(),
            }),
            Precheck::Error(error) if error.needs_somebody() => {
                self.stuck(now, seq, error.to_string());
            }
            Precheck::Error(error) => self.wait(now, seq, error.to_string()),
        }
    }

    /// The contract refuses it. Before that counts, its state is asked whether the goal is reached.
    fn confirm(&mut self, now: u64, seq: u64, failure: ExplainedRevert) {
        let goal = self.records.get(&seq).and_then(|r| r.submission.goal);
        let track = self.tracks.entry(seq).or_default();
        track.confirming = Some(failure);
        match goal {
            Some(goal) => self.out.push(Effect::Confirm { seq, goal }),
            None => self.confirmed(now, seq, Ok(None)),
        }
    }

    /// What the state says of a submission that the contract refused.
    pub(super) fn confirmed(
        &mut self,
        now: u64,
        seq: u64,
        outcome: Result<Option<String>, String>,
    ) {
        let Some(track) = self.tracks.get_mut(&seq) else {
            return;
        };
        if track.doubt != Doubt::None {
            return self.reconfirmed(now, seq, outcome);
        }
        let Some(failure) = track.confirming.take() else {
            return;
        };
        let Some(record) = self.records.get(&seq) else {
            return;
        };
        let reached = match outcome {
            Ok(reached) => reached,
            // The refusal stands, but nothing follows from it yet.
            Err(words) if record.stage == Stage::Queued => return self.wait(now, seq, words),
            Err(_) => {
                // The receipt is looked at again.
                self.tracks.entry(seq).or_default().mined = None;
                return;
            }
        };
        if record.stage != Stage::Queued {
            return self.mined_refused(now, seq, failure, reached);
        }
        let owed = record.submission.patience_ms.is_none() && record.submission.goal.is_some();
        let patient = record
            .submission
            .patience_ms
            .is_none_or(|ms| now.saturating_sub(record.since) < ms);
        match (reached, failure.class) {
            (Some(reason), _) => self.end(seq, Report::Pointless { reason }, None),
            (None, RevertClass::Pointless) if patient && record.submission.goal.is_some() => {
                self.wait(now, seq, failure.words);
            }
            (None, RevertClass::Wrong) if owed => self.hold(now, seq, failure.words),
            (None, _) => self.end(
                seq,
                Report::Reverted {
                    name: failure.name.into(),
                    words: failure.words,
                    mined: None,
                },
                None,
            ),
        }
    }

    /// What the state says of something that was dropped as pointless.
    fn reconfirmed(&mut self, now: u64, seq: u64, outcome: Result<Option<String>, String>) {
        let track = self.tracks.entry(seq).or_default();
        match outcome {
            Ok(Some(_)) if track.doubt == Doubt::Asked => track.doubt = Doubt::None,
            Ok(Some(_)) => track.doubt = Doubt::Open,
            Err(_) => {
                track.doubt = Doubt::Open;
                track.doubted = Some(now);
            }
            Ok(None) => self.owed_again(now, seq),
        }
    }

    /// The chain has taken back what others had done: this node owes it as if that had never been.
    fn owed_again(&mut self, now: u64, seq: u64) {
        let Some(record) = self.records.get_mut(&seq) else {
            return;
        };
        let Stage::Done { signed, .. } = &mut record.stage else {
            return;
        };
        record.since = now;
        record.wasted = 0;
        if let Some(signed) = signed.take() {
            let (nonce, raw) = (signed.nonce, signed.last().raw.clone());
            return self.requeue(seq, nonce, raw);
        }
        record.stage = Stage::Queued;
        self.persist(seq);
        self.tracks.insert(seq, Track::default());
    }

    pub(super) fn sent(&mut self, now: u64, seq: u64, tx: Digest, outcome: Result<(), RpcError>) {
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
                track.accepted_at_block = track.accepted_at_block.or(block);
                self.query(now, seq);
            }
            Err(RpcError::NonceTooLow) => {
                track.refusal = None;
                self.query(now, seq);
                self.ask_account(now);
            }
            Err(error @ (RpcError::Underpriced { .. } | RpcError::TransactionType { .. })) => {
                track.refusal = Some(error.clone());
                if self.reprice(now, seq, &error) {
                    // The next version may be taken: that is heard in a moment.
                    self.tracks.entry(seq).or_default().refusal = None;
                }
            }
            Err(error @ RpcError::Oversized { .. }) if track.accepted_at_block.is_none() => {
                self.too_large(seq, error.to_string());
            }
            Err(error) => {
                track.refusal = Some(error);
                self.query(now, seq);
            }
        }
    }

    /// No pool takes it, and none ever will: it would hold its nonce, and everything behind it, for ever. Since nobody has
    /// these bytes the nonce is free again.
    fn too_large(&mut self, seq: u64, words: String) {
        let Some(record) = self.records.get_mut(&seq) else {
            return;
        };
        if !matches!(&record.stage, Stage::Signed(s) if s.attempts.len() == 1) {
            return;
        }
        record.stage = Stage::Queued;
        let report = Report::Reverted {
            name: String::new(),
            words,
            mined: None,
        };
        self.end(seq, report, None);
    }

    pub(super) fn receipt(
        &mut self,
        now: u64,
        seq: u64,
        outcome: Result<Option<Receipt>, RpcError>,
    ) {
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
            self.mined_reverted(now, seq, explain(&reason));
        } else {
            self.replay(seq, &receipt);
        }
    }

    pub(super) fn replay(&mut self, seq: u64, receipt: &Receipt) {
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

    pub(super) fn replayed(&mut self, now: u64, seq: u64, outcome: &Result<Vec<u8>, RpcError>) {
        self.tracks.entry(seq).or_default().replaying = false;
        let failure = match outcome {
            Err(RpcError::Reverted { data, .. }) => explain(data),
            Err(error) if error.is_passing() => return,
            Err(error) => ExplainedRevert {
                class: RevertClass::Wrong,
                name: "",
                words: error.to_string(),
            },
            // What it lacked is there by now, or the endpoint no longer has the state of that block.
            Ok(_) => ExplainedRevert {
                class: RevertClass::NotYet,
                name: "",
                words: "it failed when it was mined, and works now".into(),
            },
        };
        self.mined_reverted(now, seq, failure);
    }

    /// No receipt. If the account is past the nonce all the same, another transaction has used it.
    pub(super) fn missing(&mut self, seq: u64, done: bool) {
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
            self.undo(seq, "the chain has lost its block, and another transaction of the account has taken its place".into(), None);
        } else {
            self.requeue(seq, nonce, raw);
        }
    }

    /// A submission that had ended is mined in another block now.
    pub(super) fn mined_again(&mut self, now: u64, seq: u64, receipt: Receipt) {
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
                Some(reason) => self.mined_reverted(now, seq, explain(&reason)),
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

    /// A transaction was mined without effect.
    pub(super) fn mined_reverted(&mut self, now: u64, seq: u64, failure: ExplainedRevert) {
        if failure.class == RevertClass::NotYet {
            self.mined_refused(now, seq, failure, None);
        } else if self.tracks.get(&seq).is_none_or(|t| t.confirming.is_none()) {
            self.confirm(now, seq, failure);
        }
    }

    /// A transaction was mined without effect; `reached` says why its goal is reached all the same, if it is.
    fn mined_refused(
        &mut self,
        now: u64,
        seq: u64,
        failure: ExplainedRevert,
        reached: Option<String>,
    ) {
        let gas_used = self.tracks.get(&seq).and_then(|t| t.mined.as_ref());
        let gas_used = gas_used.map_or(0, |receipt| receipt.gas_used);
        if let Some(record) = self.records.get_mut(&seq) {
            record.wasted = record.wasted.saturating_add(gas_used);
        }
        let (Some(record), Some(signed)) = (self.records.get(&seq), self.signed_of(seq)) else {
            return;
        };
        let was_done = matches!(record.stage, Stage::Done { .. });
        let (nonce, raw) = (signed.nonce, signed.last().raw.clone());
        let gas_limit = signed.last().gas_limit;
        let s = &record.submission;
        if let Some(receipt) = self.tracks.get(&seq).and_then(|t| t.mined.as_ref()) {
            self.wasted.0 += 1;
            self.wasted.1 = self.wasted.1.saturating_add(receipt.gas_used);
            self.out.push(Effect::Wasted {
                label: s.label.clone(),
                tx: receipt.tx,
                gas_used: receipt.gas_used,
                why: reached.clone().unwrap_or_else(|| failure.words.clone()),
            });
        }
        // Something that was there when it was simulated was gone when it was mined, or was lost by the chain and comes
        // back from somebody else: another try. The nonces that it may use up are bounded.
        let again = match failure.class {
            RevertClass::NotYet => true,
            RevertClass::Pointless => s.goal.is_some(),
            RevertClass::Wrong => s.goal.is_some() && s.patience_ms.is_none(),
        };
        if reached.is_none() && again && record.spent.len() < SPENT_MAX {
            self.requeue(seq, nonce, raw);
            if failure.class == RevertClass::Wrong {
                self.hold(now, seq, failure.words);
            } else {
                self.wait(now, seq, failure.words);
            }
            return;
        }
        if was_done {
            self.undo(seq, failure.words, reached);
            return;
        }
        let Some(receipt) = self.tracks.get(&seq).and_then(|t| t.mined.clone()) else {
            return;
        };
        let report = match reached {
            Some(reason) => Report::Pointless { reason },
            None => Report::Reverted {
                name: failure.name.into(),
                words: if receipt.gas_used >= gas_limit {
                    "it ran out of gas".into()
                } else {
                    failure.words
                },
                mined: Some((receipt.tx, receipt.gas_used, receipt.block_number)),
            },
        };
        self.end(seq, report, Some(receipt.block_number));
    }

    /// What is owed and refused as wrong is tried again, but seldom: perhaps an endpoint was wrong, and not the call.
    fn hold(&mut self, now: u64, seq: u64, why: String) {
        let until = now.saturating_add(self.config.refused_ms);
        self.stuck(now, seq, format!("the contract refuses it: {why}"));
        let track = self.tracks.entry(seq).or_default();
        track.not_before = Some(until);
        track.by_contract = true;
    }

    /// The nonce is used up without effect: the payload gets another one.
    pub(super) fn requeue(&mut self, seq: u64, nonce: u64, raw: Vec<u8>) {
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
        self.tracks.insert(seq, Track::default());
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

    /// What was reported as mined is not so any more: others have reached its goal, or it failed.
    pub(super) fn undo(&mut self, seq: u64, reason: String, reached: Option<String>) {
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
            *report = match reached {
                Some(reason) => Report::Pointless { reason },
                None => Report::Undone { reason },
            };
            *acknowledged = false;
        }
        // What it took was told when it was mined.
        let track = Track {
            gas_told: true,
            ..Track::default()
        };
        self.tracks.insert(seq, track);
        self.persist(seq);
        self.deliver(seq);
    }
}
