//! Nonces, prices and signatures of the outbox.

use super::core::Submitter;
use super::record::{ATTEMPTS_MAX, Attempt, Signed, Stage};
use super::{Effect, Report};
use crate::account::Unsigned;
use crate::fees::{Fees, check_balance};
use crate::rpc::RpcError;

impl Submitter {
    /// What gas costs now.
    pub(super) fn fees_now(&self) -> Option<Fees> {
        let head = self.head.as_ref()?;
        let fees = self.config.fees.fees(head, self.suggested, self.floor);
        Some(match fees {
            Fees::Dynamic { max_fee, .. } if self.legacy => Fees::Legacy { gas_price: max_fee },
            fees => fees,
        })
    }

    /// Gives a payload its nonce and its first signed version, or says why not yet.
    pub(super) fn sign_new(&mut self, now: u64, seq: u64, estimate: u64) {
        let (Some(head), Some((nonce, balance)), Some(fees)) =
            (self.head.clone(), self.state, self.fees_now())
        else {
            self.wait(now, seq, "the chain has not been asked yet".into());
            return;
        };
        let gas_limit = match self.config.fees.gas_limit(estimate, head.gas_limit) {
            Ok(gas) => gas,
            Err(error) => {
                let report = Report::Reverted {
                    name: String::new(),
                    words: error.to_string(),
                    mined: None,
                };
                self.end(seq, report, None);
                return;
            }
        };
        let in_flight: u128 = self
            .records
            .values()
            .filter_map(|r| match &r.stage {
                Stage::Signed(s) => {
                    Some(u128::from(s.last().gas_limit).saturating_mul(s.last().fees.most()))
                }
                _ => None,
            })
            .fold(0, u128::saturating_add);
        let needed = u128::from(gas_limit)
            .saturating_mul(fees.most())
            .saturating_add(in_flight);
        if let Err(error) = check_balance(&self.address(), balance, needed) {
            self.stuck(now, seq, error.to_string());
            return;
        }
        // Own nonces, counted from what is mined: the pending count of some pools runs past a hole.
        let covered = self.covered();
        let Some(nonce) = (nonce.max(self.meta.floor)..).find(|n| !covered.contains(n)) else {
            return;
        };
        let attempt = self.attempt(seq, nonce, gas_limit, fees);
        if let Some(record) = self.records.get_mut(&seq) {
            record.stage = Stage::Signed(Signed {
                nonce,
                attempts: vec![attempt],
                since: now,
            });
        }
        self.tracks.entry(seq).or_default().problem = None;
        self.persist(seq);
        self.send(now, seq);
    }

    fn attempt(&self, seq: u64, nonce: u64, gas_limit: u64, fees: Fees) -> Attempt {
        let submission = &self.records[&seq].submission;
        let (raw, tx) = self.account.sign(&Unsigned {
            chain_id: self.meta.chain_id,
            nonce,
            to: submission.to,
            value: 0,
            data: &submission.data,
            gas_limit,
            fees,
        });
        Attempt {
            tx,
            raw,
            fees,
            gas_limit,
        }
    }

    /// Sends the newest signed version: to one endpoint first, to all when that has not helped.
    pub(super) fn send(&mut self, now: u64, seq: u64) {
        let Some(signed) = self.signed_of(seq) else {
            return;
        };
        let (tx, raw) = (signed.last().tx, signed.last().raw.clone());
        let track = self.tracks.entry(seq).or_default();
        let all = track.sends > 0;
        track.sends += 1;
        track.last_sent = Some(now);
        self.out.push(Effect::Send { seq, tx, raw, all });
    }

    /// The network asks more, or another type of transaction: the same payload under the same nonce, signed anew. False if
    /// nothing better can be signed.
    pub(super) fn reprice(&mut self, now: u64, seq: u64, refusal: &RpcError) -> bool {
        let Some(signed) = self.signed_of(seq) else {
            return false;
        };
        let old = signed.last().fees;
        if matches!(refusal, RpcError::TransactionType { .. }) {
            if self.legacy || matches!(old, Fees::Legacy { .. }) {
                return false;
            }
            // No endpoint has taken it: it is no replacement, and a free one stays free.
            self.legacy = true;
            return match self.fees_now() {
                Some(fees) => self.sign_again(now, seq, fees),
                None => false,
            };
        }
        let policy = self.config.fees;
        let asked = self
            .suggested
            .unwrap_or(0)
            .max(policy.min_gas_price)
            .max(self.floor.saturating_mul(2));
        self.floor = asked.min(policy.max_gas_price);
        self.replace(now, seq, old)
    }

    /// Replaces a transaction that has waited long and that the network has left behind; only the price changes.
    pub(super) fn replace_if_outpriced(&mut self, now: u64, seq: u64) {
        let (Some(signed), Some(head), Some(fees)) =
            (self.signed_of(seq), &self.head, self.fees_now())
        else {
            return;
        };
        let old = signed.last().fees;
        let waited = now.saturating_sub(signed.since) >= self.config.replace_after_ms;
        // A chain that stands still is no reason to pay more.
        let moving = self.tracks[&seq]
            .sent_at_block
            .is_some_and(|at| head.number >= at + 3);
        if waited && moving && self.config.fees.outpriced(old, fees, head) {
            self.replace(now, seq, old);
        }
    }

    fn replace(&mut self, now: u64, seq: u64, old: Fees) -> bool {
        let fees = self
            .fees_now()
            .and_then(|f| self.config.fees.replacement(old, f));
        fees.is_some_and(|fees| self.sign_again(now, seq, fees))
    }

    fn sign_again(&mut self, now: u64, seq: u64, fees: Fees) -> bool {
        let Some(signed) = self.signed_of(seq) else {
            return false;
        };
        let (nonce, gas_limit, versions) =
            (signed.nonce, signed.last().gas_limit, signed.attempts.len());
        let balance = self.state.map_or(0, |(_, b)| b);
        if versions >= ATTEMPTS_MAX
            || check_balance(
                &self.address(),
                balance,
                u128::from(gas_limit).saturating_mul(fees.most()),
            )
            .is_err()
        {
            return false;
        }
        let attempt = self.attempt(seq, nonce, gas_limit, fees);
        if let Some(record) = self.records.get_mut(&seq)
            && let Stage::Signed(signed) = &mut record.stage
        {
            signed.attempts.push(attempt);
            signed.since = now;
            self.persist(seq);
            let track = self.tracks.entry(seq).or_default();
            track.sent_at_block = None;
            track.last_sent = None;
        }
        true
    }
}
