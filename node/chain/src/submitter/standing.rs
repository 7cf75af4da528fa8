//! How the outbox stands, for people: what waits, and what makes no way unless somebody does something.

use super::core::Submitter;
use super::record::{Record, Signed, Stage};
use super::{Status, WAITING_SHOWN_MAX, Waiting};

impl Submitter {
    /// State for people.
    pub fn status(&self) -> Status {
        let open = || {
            self.records
                .iter()
                .filter(|(_, r)| !matches!(r.stage, Stage::Done { .. }))
        };
        // Those with a problem first: a long queue must not hide them.
        let mut waiting: Vec<_> = open()
            .map(|(seq, r)| (self.problem(*seq, r), seq, r))
            .collect();
        waiting.sort_by_key(|(problem, seq, _)| (problem.is_none(), **seq));
        let waiting = waiting
            .into_iter()
            .take(WAITING_SHOWN_MAX)
            .map(|(problem, seq, r)| Waiting {
                id: r.submission.id,
                label: r.submission.label.clone(),
                agreement: r.submission.goal.and_then(|goal| goal.agreement()),
                since: r.since,
                stuck: problem.is_some(),
                by_contract: problem.is_some() && self.tracks[seq].by_contract,
                why: problem.unwrap_or_else(|| self.why(*seq, r)),
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
            gas_price: self.fees_now().map(|fees| fees.most()),
            head: self.head.as_ref().map(|h| h.number),
            trouble,
            in_flight: self.in_flight(),
            queued: open().filter(|(_, r)| r.stage == Stage::Queued).count(),
            wasted: self.wasted.0,
            wasted_gas: self.wasted.1,
            waiting,
        }
    }

    /// Why a submission makes no way unless somebody does something. A chain that cannot be asked is another matter, which
    /// the status names by itself.
    fn problem(&self, seq: u64, record: &Record) -> Option<String> {
        if self.trouble.is_some() || self.beyond_repair.is_some() {
            return None;
        }
        let track = &self.tracks[&seq];
        let Stage::Signed(signed) = &record.stage else {
            return track.problem.clone();
        };
        if let Some(refusal) = track.refusal.as_ref().filter(|r| r.needs_somebody()) {
            return Some(format!(
                "transaction {} is refused: {refusal}",
                signed.last().tx
            ));
        }
        self.never_mined(seq, signed)
    }

    /// Accepted, next in line, and passed over by block after block: no error will ever come (Besu since 25.12).
    fn never_mined(&self, seq: u64, signed: &Signed) -> Option<String> {
        let track = &self.tracks[&seq];
        let (head, (nonce, balance)) = (self.head.as_ref()?, self.state?);
        let blocks = head.number.saturating_sub(track.accepted_at_block?);
        if track.mined.is_some() || signed.nonce != nonce || blocks < self.config.stuck_blocks {
            return None;
        }
        let last = signed.last();
        let price = last.fees.most();
        let cost = u128::from(last.gas_limit).saturating_mul(price);
        let why = if balance < cost {
            format!(
                "account {} has {balance} wei and it may cost {cost}: send the account at least {} wei",
                self.meta.account,
                cost - balance
            )
        } else {
            format!(
                "it pays {price} wei per gas, which may be less than the validators take: raise min_gas_price (up to max_gas_price), or ask who runs the chain"
            )
        };
        Some(format!(
            "transaction {} was accepted, and {blocks} blocks have passed without it: {why}",
            last.tx
        ))
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
}
