//! What the outbox does by itself: sends, asks, fills gaps.

use super::core::{Doubt, RECHECKED_MAX, Submitter, Track};
use super::record::{Record, Signed, Stage};
use super::{Effect, Report, Row, Submission};
use crate::fees::TRANSACTION_GAS_MAX;
use crate::rpc::Call;
use diversity_proto::domain::keccak_raw;
use diversity_proto::{AgreementId, Digest};
use std::collections::BTreeSet;

impl Submitter {
    pub(super) fn pump(&mut self, now: u64) {
        if self.trouble.is_some() || self.beyond_repair.is_some() || self.head.is_none() {
            return;
        }
        let Some((nonce, _)) = self.state else { return };
        self.resend_spent(now, nonce);
        self.resend(now, nonce);
        self.fill_gap(now, nonce);
        self.reconfirm(now);
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
    pub(super) fn resend(&mut self, now: u64, nonce: u64) {
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
    pub(super) fn resend_spent(&mut self, now: u64, nonce: u64) {
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

    pub(super) fn precheck(&mut self, now: u64) {
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
            if let Some(gas) = self.in_a_row(seq) {
                let most = self.head.as_ref().map_or(gas, |h| h.gas_limit);
                self.sign_new(now, seq, gas.min(most).min(TRANSACTION_GAS_MAX));
                free -= 1;
                continue;
            }
            let track = self.tracks.entry(seq).or_default();
            let waits = track
                .waiting
                .as_ref()
                .is_some_and(|(_, at)| now < at + self.config.recheck_ms)
                || track.not_before.is_some_and(|at| now < at);
            if track.prechecking || track.confirming.is_some() || waits || self.overtaken(seq) {
                continue;
            }
            let track = self.tracks.entry(seq).or_default();
            track.prechecking = true;
            free -= 1;
            let call = self.call(&self.records[&seq].submission);
            self.out.push(Effect::Precheck { seq, call });
        }
    }

    /// The chain may have taken back what made submissions pointless.
    pub(super) fn doubt(&mut self) {
        for (seq, record) in &self.records {
            let dropped = matches!(
                &record.stage,
                Stage::Done {
                    report: Report::Pointless { .. },
                    ..
                }
            );
            if dropped && record.submission.goal.is_some() {
                let track = self.tracks.entry(*seq).or_default();
                track.doubt = match track.doubt {
                    Doubt::None | Doubt::Open => Doubt::Open,
                    Doubt::Asked | Doubt::Renewed => Doubt::Renewed,
                };
            }
        }
    }

    /// Asks whether the goals of what is in doubt are still reached; a few at a time, and once what was mined is mined again.
    fn reconfirm(&mut self, now: u64) {
        if self.tracks.values().any(|t| t.lost) {
            return;
        }
        let asked = |t: &&Track| matches!(t.doubt, Doubt::Asked | Doubt::Renewed);
        let free = self
            .config
            .in_flight_max
            .saturating_sub(self.tracks.values().filter(asked).count());
        let due: Vec<_> = self
            .records
            .iter()
            .filter_map(|(seq, r)| Some((*seq, r.submission.goal?)))
            .filter(|(seq, _)| {
                let track = &self.tracks[seq];
                let waits = track
                    .doubted
                    .is_some_and(|at| now < at.saturating_add(self.config.recheck_ms));
                track.doubt == Doubt::Open && !waits
            })
            .take(free)
            .collect();
        for (seq, goal) in due {
            self.tracks.entry(seq).or_default().doubt = Doubt::Asked;
            self.out.push(Effect::Confirm { seq, goal });
        }
    }

    /// Gas for a submission that stands on another one of its row, which is on its way: no question is asked of a chain that
    /// does not know that one yet. Whatever comes first on chain, forms that overlap never strand one another, so this
    /// fails only if the one before does.
    fn in_a_row(&self, seq: u64) -> Option<u64> {
        let row = self.records.get(&seq)?.submission.row?;
        let track = self.tracks.get(&seq)?;
        // One that failed already, for whatever reason, is looked at closely.
        let again = !self.records[&seq].spent.is_empty();
        if again || track.prechecking || track.confirming.is_some() || track.not_before.is_some() {
            return None;
        }
        self.on_its_way(&row.agreement)
            .any(|before| before.t < row.t && before.t + 1 >= row.from)
            .then_some(row.gas)
    }

    /// Whether another form of the same settlement is on its way, and this one would come too late.
    fn overtaken(&self, seq: u64) -> bool {
        let row = self.records.get(&seq).and_then(|r| r.submission.row);
        row.is_some_and(|row| {
            self.on_its_way(&row.agreement)
                .any(|other| other.t >= row.t)
        })
    }

    /// Settlements of an agreement that are signed and not known to be mined.
    fn on_its_way<'a>(&'a self, a: &'a AgreementId) -> impl Iterator<Item = Row> + 'a {
        let under_way = |(seq, r): (&u64, &Record)| {
            let track = &self.tracks[seq];
            let signed = matches!(r.stage, Stage::Signed(_));
            (signed && track.mined.is_none() && track.confirming.is_none())
                .then_some(r.submission.row)?
        };
        let rows = self.records.iter().filter_map(under_way);
        rows.filter(move |row| row.agreement == *a)
    }

    /// A nonce that nothing of ours has, below one that we have signed: the chain has lost a transaction that somebody
    /// else sent from this account. A transaction without effect closes the gap, if no new submission does.
    pub(super) fn fill_gap(&mut self, now: u64, nonce: u64) {
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
                        goal: None,
                        row: None,
                    },
                    since: now,
                    spent: Vec::new(),
                    wasted: 0,
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
    pub(super) fn watched(&self) -> Vec<u64> {
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

    pub(super) fn call(&self, s: &Submission) -> Call {
        Call {
            from: self.meta.account,
            to: s.to,
            data: s.data.clone(),
        }
    }

    /// Looks at the newest mined transactions again.
    pub(super) fn recheck_mined(&mut self, now: u64) {
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

    pub(super) fn query(&mut self, now: u64, seq: u64) {
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

    /// It waits for something that comes by itself.
    pub(super) fn wait(&mut self, now: u64, seq: u64, why: String) {
        let track = self.tracks.entry(seq).or_default();
        track.waiting = Some((why, now));
        track.problem = None;
    }

    /// It waits for somebody to do what `why` says.
    pub(super) fn stuck(&mut self, now: u64, seq: u64, why: String) {
        let track = self.tracks.entry(seq).or_default();
        track.problem = Some(why.clone());
        track.by_contract = false;
        track.waiting = Some((why, now));
    }
}
