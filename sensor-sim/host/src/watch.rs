//! Waiting until every month is final and visible from every live node.

use crate::network::{Network, Node};
use crate::schedule::Schedule;
use crate::tally::Tally;
use diversity_client::ApiError;
use diversity_client::api::Progress;
use futures::future::join_all;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

/// How often nodes are asked.
const POLL: Duration = Duration::from_millis(200);
/// Results on one page.
const PAGE: usize = 200;

/// What a node says.
#[derive(Clone, Debug)]
pub enum Said {
    /// It cannot be reached.
    Down(String),
    /// Where the agreement stands.
    Stands(Progress),
}

/// Watches the months of a replay.
pub struct Watch<'a> {
    /// Which agreement, and the nodes.
    pub network: &'a Network,
    /// Which months.
    pub schedule: &'a Schedule,
    /// Where progress is told.
    pub tally: &'a Tally,
    said: Mutex<Vec<(String, Said)>>,
}

/// How many months are settled, and which are disputed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Final {
    /// Months with a result on every live node.
    pub settled: u64,
    /// Months without.
    pub disputed: u64,
}

impl<'a> Watch<'a> {
    /// Nothing seen yet.
    pub fn new(network: &'a Network, schedule: &'a Schedule, tally: &'a Tally) -> Self {
        Self {
            network,
            schedule,
            tally,
            said: Mutex::new(Vec::new()),
        }
    }

    /// Returns when every live node (and at least one) shows every month settled or disputed.
    ///
    /// # Errors
    /// [`ApiError`] that does not pass by itself, such as a token without the right to read.
    pub async fn until_final(&self) -> Result<Final, ApiError> {
        let mut before = Vec::new();
        loop {
            let said = join_all(self.network.nodes.iter().map(|n| self.ask(n))).await;
            let said = said.into_iter().collect::<Result<Vec<_>, _>>()?;
            let progress: Vec<_> = said.iter().filter_map(progress).collect();
            let now: Vec<_> = progress.iter().map(|p| signature(p)).collect();
            if now != before {
                self.tally.moved();
                before = now;
            }
            let settled = progress.iter().map(|p| p.next_settlement).min();
            if let Some(settled) = settled {
                let settled = settled.min(self.schedule.months);
                if settled > 0 {
                    let name = self.schedule.month_name(settled - 1);
                    self.tally.settled(settled, &name);
                }
            }
            let all = settled.is_some_and(|t| t >= self.schedule.months);
            *self.said.lock().expect("no panic while locked") = said;
            if all && let Some(found) = self.visible().await? {
                return Ok(found);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn ask(&self, node: &Node) -> Result<(String, Said), ApiError> {
        let said = match node.api.agreement(&self.network.agreement).await {
            Ok(view) => Said::Stands(view.progress),
            Err(error) if error.is_transient() || error.is_not_found() => {
                Said::Down(error.to_string())
            }
            Err(error) => return Err(error),
        };
        Ok((node.name.clone(), said))
    }

    /// Whether each live node lists a result, or a hole, for every month.
    async fn visible(&self) -> Result<Option<Final>, ApiError> {
        let mut holes = BTreeSet::new();
        let live: Vec<_> = {
            let said = self.said.lock().expect("no panic while locked");
            let live = said.iter().filter_map(|entry| {
                let progress = progress(entry)?;
                holes.extend(progress.holes.iter().copied());
                Some(entry.0.clone())
            });
            live.collect()
        };
        holes.retain(|t| *t < self.schedule.months);
        for node in self.network.nodes.iter().filter(|n| live.contains(&n.name)) {
            let Some(listed) = self.listed(node).await? else {
                return Ok(None);
            };
            if (0..self.schedule.months).any(|t| !holes.contains(&t) && !listed.contains(&t)) {
                return Ok(None);
            }
        }
        Ok(Some(Final {
            settled: self.schedule.months - holes.len() as u64,
            disputed: holes.len() as u64,
        }))
    }

    /// The t that a node lists results of; `None` if it went down.
    async fn listed(&self, node: &Node) -> Result<Option<BTreeSet<u64>>, ApiError> {
        let mut out = BTreeSet::new();
        let mut from = 0;
        loop {
            let page = match node.api.results(&self.network.agreement, from, PAGE).await {
                Ok(page) => page,
                Err(error) if error.is_transient() => return Ok(None),
                Err(error) => return Err(error),
            };
            out.extend(page.results.iter().map(|r| r.t));
            match page.next {
                Some(next) if next > from => from = next,
                _ => return Ok(Some(out)),
            }
        }
    }

    /// What each node waits for, in words; for a replay that stands still.
    pub fn waiting(&self) -> Vec<String> {
        let said = self.said.lock().expect("no panic while locked");
        let mut out = Vec::new();
        for (name, said) in said.iter() {
            match said {
                Said::Down(reason) => out.push(format!("node {name}, which is down ({reason})")),
                Said::Stands(p) if p.next_settlement < self.schedule.months => {
                    let t = p.next_settlement;
                    let month = self.schedule.month_name(t);
                    let why = if p.waiting_for.is_empty() {
                        format!(
                            "windows whole up to t = {}, certified up to t = {}",
                            p.next_window, p.next_certificate
                        )
                    } else {
                        p.waiting_for.join("; ")
                    };
                    out.push(format!(
                        "node {name}: month {month} (t = {t}) is not settled: {why}"
                    ));
                }
                Said::Stands(_) => {}
            }
        }
        out
    }
}

fn progress(entry: &(String, Said)) -> Option<&Progress> {
    match &entry.1 {
        Said::Stands(progress) => Some(progress),
        Said::Down(_) => None,
    }
}

/// What of a progress counts as going forward.
fn signature(p: &Progress) -> [u64; 5] {
    [
        p.next_window,
        p.next_execution,
        p.next_certificate,
        p.next_settlement,
        p.holes.len() as u64,
    ]
}
