//! Settled results beside what they should be.

use crate::trips::{Months, Total, month};
use diversity_client::api::{SettledResult, output_name};
use diversity_proto::round::OutputKind;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The results of one agreement as a node shows them, read as months of bike hire.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// By month and lock.
    pub locks: BTreeMap<(String, String), Total>,
    /// The result on chain, by month.
    pub months: BTreeMap<String, Total>,
}

impl Settled {
    /// Reads results; what is not a month with seconds and trips is named in the error.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn read(results: &[SettledResult]) -> Result<Self, String> {
        let mut out = Self::default();
        for r in results {
            if r.kind != OutputKind::Value {
                let kind = output_name(r.kind);
                return Err(format!("t = {} settled as {kind}, not as a value", r.t));
            }
            let name = month(r.from);
            let whole = r.to > r.from
                && month(r.to - 1) == name
                && month(r.to) != name
                && (r.from == 0 || month(r.from - 1) != name);
            if !whole {
                return Err(format!(
                    "t = {} covers {}..{}, which is not a month",
                    r.t, r.from, r.to
                ));
            }
            for s in &r.sensors {
                let total = read(&s.detail, "seconds", r.t)?;
                if out
                    .locks
                    .insert((name.clone(), s.label.clone()), total)
                    .is_some()
                {
                    return Err(format!("lock {} stands twice in {name}", s.label));
                }
            }
            if out
                .months
                .insert(name.clone(), read(&r.result, "total_seconds", r.t)?)
                .is_some()
            {
                return Err(format!("{name} has settled twice"));
            }
        }
        Ok(out)
    }
}

fn read(fields: &Map<String, Value>, seconds: &str, t: u64) -> Result<Total, String> {
    let number = |name: &str| {
        let value = fields.get(name).and_then(Value::as_u64);
        value.ok_or_else(|| format!("t = {t} has no number {name}"))
    };
    Ok(Total {
        seconds: number(seconds)?,
        trips: number("trips")?,
    })
}

/// A comparison: how many (month, lock) pairs were looked at, and every difference in words.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Pairs that were compared, those that must be zero included.
    pub pairs: usize,
    /// Months whose total on chain was compared.
    pub months: usize,
    /// What differs.
    pub differences: Vec<String>,
}

impl Comparison {
    /// Compares every month and lock that either side names, and every total on chain with the sum of its locks.
    pub fn new(settled: &Settled, expected: &Months, months: &[String], locks: &[String]) -> Self {
        let mut out = Self::default();
        let names: BTreeSet<&String> = months
            .iter()
            .chain(settled.months.keys())
            .chain(&expected.months)
            .collect();
        let labels: BTreeSet<&String> = locks
            .iter()
            .chain(settled.locks.keys().map(|k| &k.1))
            .chain(&expected.locks)
            .collect();
        for name in names {
            let Some(total) = settled.months.get(name) else {
                out.differences.push(format!("{name}: not settled"));
                continue;
            };
            out.months += 1;
            let sum = expected.sum(name);
            if *total != sum {
                out.differences.push(format!(
                    "{name}, all locks: settled {} s in {} trips, expected {} s in {} trips",
                    total.seconds, total.trips, sum.seconds, sum.trips
                ));
            }
            for label in &labels {
                out.pairs += 1;
                let wanted = expected.of(name, label);
                match settled.locks.get(&(name.clone(), (*label).clone())) {
                    Some(found) if *found == wanted => {}
                    Some(found) => out.differences.push(format!(
                        "{name}, lock {label}: settled {} s in {} trips, expected {} s in {} trips",
                        found.seconds, found.trips, wanted.seconds, wanted.trips
                    )),
                    None => out
                        .differences
                        .push(format!("{name}, lock {label}: not listed")),
                }
            }
        }
        out
    }

    /// Whether there was something to compare and nothing differs.
    pub fn holds(&self) -> bool {
        self.pairs > 0 && self.differences.is_empty()
    }
}

/// What the settlements of some results have cost: transactions, and their gas together.
pub fn gas(results: &[SettledResult]) -> (usize, u64) {
    let transactions: BTreeMap<_, _> = results.iter().map(|r| (r.tx, r.gas_used)).collect();
    (transactions.len(), transactions.values().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(seconds: u64, total: u64) -> SettledResult {
        let json = serde_json::json!({
            "t": 0, "from": 1_443_657_600u64, "to": 1_446_336_000u64, "kind": "value", "total_seconds": total, "trips": 1,
            "sensors": [
                {"sensor": format!("0x{:040x}", 1), "label": "a", "seconds": seconds, "trips": 1},
                {"sensor": format!("0x{:040x}", 2), "label": "b", "seconds": 0, "trips": 0},
            ],
            "window_hash": format!("0x{:064x}", 1), "tx": format!("0x{:064x}", 2), "gas_used": 9, "outcomes": 1,
        });
        serde_json::from_value(json).expect("a result")
    }

    fn expected() -> Months {
        let totals = [(
            ("2015-10".into(), "a".into()),
            Total {
                seconds: 60,
                trips: 1,
            },
        )];
        Months {
            totals: totals.into(),
            locks: vec!["a".into(), "b".into()],
            months: vec!["2015-10".into()],
        }
    }

    #[test]
    fn each_difference_is_found() {
        let compare = |results: &[SettledResult]| {
            let settled = Settled::read(results).expect("months");
            Comparison::new(
                &settled,
                &expected(),
                &["2015-10".into()],
                &["a".into(), "b".into()],
            )
        };
        let same = compare(&[result(60, 60)]);
        assert!(same.holds());
        assert_eq!((same.pairs, same.months), (2, 1));
        assert!(compare(&[result(61, 60)]).differences[0].contains("lock a"));
        assert!(compare(&[result(60, 61)]).differences[0].contains("all locks"));
        assert!(compare(&[]).differences[0].contains("not settled"));
        let mut missing = result(60, 60);
        missing.sensors.pop();
        assert!(compare(&[missing]).differences[0].contains("lock b: not listed"));
        assert!(Settled::read(&[result(60, 60), result(60, 60)]).is_err());
    }
}
