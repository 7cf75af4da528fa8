//! What of the chain is told to people: each thing once in the log when it begins and once when it is over, and all of it in the
//! view that `/readyz`, `waiting_for` and the metrics are made of.

use std::collections::BTreeMap;

use diversity_chain::rpc::EndpointStatus;
use diversity_chain::submitter::Status;
use diversity_proto::{Address, Digest};
use tokio::sync::watch;

use crate::node::chain::{ChainView, Stuck};
use crate::node::driver::unix_ms;
use crate::telemetry::Metrics;

/// An account that can pay for less gas than this is nearly empty: a hundred settlements or so.
const LOW_GAS: u128 = 5_000_000;
/// Stuck submissions in the view, at most.
const STUCK_MAX: usize = 10;

/// What was told.
#[derive(Default)]
pub struct Alarm {
    /// Stuck submissions, and their labels.
    told: BTreeMap<Digest, String>,
    /// Who pays, and the price of gas when it was last known.
    account: Option<(Address, u128)>,
    /// The account is nearly empty, in words.
    low: Option<String>,
    /// Counted so far: transactions without effect, and their gas.
    wasted: (u64, u64),
}

impl Alarm {
    /// Takes in the state of the outbox.
    pub fn outbox(&mut self, s: &Status, view: &watch::Sender<ChainView>, metrics: &Metrics) {
        let stuck: Vec<_> = s.waiting.iter().filter(|w| w.stuck).collect();
        for w in &stuck {
            // Numbers in the words change with every block; the first words are those of the log.
            self.told.entry(w.id).or_insert_with(|| {
                tracing::warn!(label = w.label, why = w.why, "chain.stuck");
                w.label.clone()
            });
        }
        self.told.retain(|id, label| {
            let still = stuck.iter().any(|w| w.id == *id);
            // While the chain is down nothing is known of them.
            if !still && s.trouble.is_none() {
                tracing::info!(label, "chain.goes_on");
            }
            still || s.trouble.is_some()
        });
        self.account = s.account.zip(s.gas_price).or(self.account);
        if let Some(balance) = s.balance {
            self.balance(balance, view);
        }
        let (wasted, gas) = (s.wasted - self.wasted.0, s.wasted_gas - self.wasted.1);
        self.wasted = (s.wasted, s.wasted_gas);
        metrics.wasted.inc_by(wasted);
        metrics.gas_wasted.inc_by(gas);
        metrics.stuck.set(stuck.len() as i64);
        let shown = stuck.into_iter().take(STUCK_MAX).map(|w| Stuck {
            label: w.label.clone(),
            agreement: w.agreement,
            why: w.why.clone(),
            by_contract: w.by_contract,
        });
        let shown: Vec<_> = shown.collect();
        view.send_modify(|v| {
            v.outbox = (s.in_flight + s.queued) as u64;
            v.stuck = shown;
        });
    }

    /// Takes in what is on the account now, wei.
    pub fn balance(&mut self, balance: u128, view: &watch::Sender<ChainView>) {
        view.send_if_modified(|v| std::mem::replace(&mut v.balance, balance) != balance);
        let Some((account, price)) = self.account else {
            return;
        };
        let needed = price.saturating_mul(LOW_GAS);
        if balance >= needed {
            if self.low.take().is_some() {
                tracing::info!(account = %account, balance, "chain.account.funded");
            }
            return;
        }
        let words = format!(
            "account {account} has {balance} wei, which pays for {} gas at most at the price of now ({price} wei): send it more",
            balance / price.max(1)
        );
        if self.low.is_none() {
            tracing::warn!(account = %account, balance, price, "chain.account.low");
        }
        self.low = Some(words);
    }

    /// Looks at the endpoints, and renews the warnings of the view.
    pub fn endpoints(
        &self,
        endpoints: &[EndpointStatus],
        view: &watch::Sender<ChainView>,
        metrics: &Metrics,
    ) {
        let mut warnings: Vec<String> = self.low.iter().cloned().collect();
        let best = endpoints.iter().filter_map(|e| e.head).max().unwrap_or(0);
        for e in endpoints {
            let label = [("endpoint", e.endpoint.clone())];
            let up = i64::from(e.trouble.is_none());
            metrics.endpoint_up.get_or_create(&label).set(up);
            let head = e.head.unwrap_or(0);
            metrics
                .endpoint_head
                .get_or_create(&label)
                .set(i64::try_from(head).unwrap_or(i64::MAX));
            if let Some(trouble) = &e.trouble {
                warnings.push(format!("endpoint {}: {trouble}", e.endpoint));
            } else if e.lags {
                warnings.push(format!(
                    "endpoint {}: it is at block {head}, others are at {best}: is it in sync?",
                    e.endpoint
                ));
            }
        }
        if view.borrow().warnings != warnings {
            view.send_modify(|v| v.warnings = warnings);
        }
    }
}

/// The chain cannot be used, and why.
pub fn trouble(view: &watch::Sender<ChainView>, trouble: String) {
    // Words that differ in a number (of seconds, of blocks) are the same.
    let plain = |words: &str| words.replace(|c: char| c.is_ascii_digit(), "");
    let before = view.borrow().trouble.as_deref().map(plain);
    if before != Some(plain(&trouble)) {
        tracing::warn!(trouble, "chain.trouble");
    }
    view.send_modify(|v| {
        v.trouble = Some(trouble);
        v.trouble_since_ms.get_or_insert_with(unix_ms);
    });
}

/// It can be used again.
pub fn well(view: &mut ChainView) {
    if view.trouble.take().is_some() {
        let since = view.trouble_since_ms.take().unwrap_or_else(unix_ms);
        let after_s = unix_ms().saturating_sub(since) / 1000;
        tracing::info!(after_s, "chain.well");
    }
}

#[cfg(test)]
#[path = "alarm_tests.rs"]
mod tests;
