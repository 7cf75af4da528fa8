//! What waits for what, for people: where agreements stand, and how the node itself is.

mod health;
mod reached;
mod waits;

pub use health::Health;

use diversity_chain::events::DisputeKind;
use diversity_client::api::{AgreementSummary, AgreementView, Life, Page, Progress};
use diversity_client::terms_json::TermsJson;
use diversity_engine::AgreementStatus;
use diversity_proto::terms::{Terms, WindowSpec};
use diversity_proto::{AgreementId, NodeId};
use std::sync::Arc;
use tokio::sync::watch;

use super::agreements::Book;
use super::core::Core;
use super::error::RoomResult;
use super::page;
use crate::node::activation::Waiting;
use crate::node::chain::ChainView;
use crate::node::clocks::Clocks;
use crate::node::driver::unix_ms;
use crate::node::registry::AgreementRecord;
use crate::node::shared::{Peers, Registered, Shared};
use reached::Reached;
use waits::Sight;

/// Where agreements stand.
#[derive(Clone)]
pub struct Standing {
    node: NodeId,
    registered: Registered,
    peers: Peers,
    waiting: Arc<Waiting>,
    chain: watch::Receiver<ChainView>,
    book: Book,
    core: Core,
    clocks: Clocks,
    reached: Reached,
}

impl Standing {
    /// Sees everything that an agreement may wait for, and changes none of it.
    pub fn new(shared: &Shared, chain: watch::Receiver<ChainView>, book: Book, core: Core) -> Self {
        Self {
            node: shared.identity.node,
            registered: shared.registered.clone(),
            peers: shared.peers.clone(),
            waiting: Arc::clone(&shared.waiting),
            chain,
            book,
            core,
            clocks: shared.clocks.clone(),
            reached: Reached::default(),
        }
    }

    /// Terms, keys and progress of one agreement.
    ///
    /// # Errors
    /// [`super::RoomError::NotFound`], or [`super::RoomError::Unavailable`].
    pub async fn agreement(&self, a: &AgreementId) -> RoomResult<AgreementView> {
        let (record, agreement) = self.book.load(a)?;
        let status = self.core.status(vec![*a]).await?.pop().flatten();
        let accepted = self.is_accepted(a);
        Ok(AgreementView {
            agreement: *a,
            terms: TermsJson::from(&agreement.terms),
            terms_digest: record.terms_digest,
            keys: agreement.keys,
            status: life(&record, status.as_ref()),
            accepted,
            epoch: record.epoch,
            tx: record.tx,
            progress: self.progress(a, &agreement.terms, status)?,
            closings: self.book.records.closings(a, &agreement.terms)?,
        })
    }

    /// Agreements that name this node after `after`, ascending by a, those that it has not accepted only if they are asked for; those
    /// whose terms are not here are left out.
    ///
    /// # Errors
    /// [`super::RoomError::Unavailable`].
    pub async fn agreements(
        &self,
        after: Option<AgreementId>,
        limit: Option<usize>,
        not_accepted: bool,
    ) -> RoomResult<Page<AgreementSummary>> {
        let found = {
            let registry = self.registered.read();
            let ours = registry.agreements.iter().filter(|(a, r)| {
                after.is_none_or(|after| **a > after)
                    && r.nodes.contains(&self.node)
                    && (not_accepted || registry.is_accepted(a))
            });
            page(ours.map(|(a, r)| (*a, r.clone())), |i| i.0, limit)
        };
        let ids = found.items.iter().map(|i| i.0).collect();
        let all = self.core.status(ids).await?;
        let mut items = Vec::with_capacity(found.items.len());
        for ((a, record), status) in found.items.into_iter().zip(all) {
            let Some(terms) = self.book.records.terms(&a)? else {
                continue;
            };
            let accepted = self.is_accepted(&a);
            items.push(AgreementSummary {
                agreement: a,
                title: terms.title.clone(),
                status: life(&record, status.as_ref()),
                accepted,
                progress: self.progress(&a, &terms, status)?,
            });
        }
        Ok(Page {
            items,
            next: found.next,
        })
    }

    fn is_accepted(&self, a: &AgreementId) -> bool {
        self.registered.read().is_accepted(a)
    }

    /// Where an agreement stands, and what it waits for.
    fn progress(
        &self,
        a: &AgreementId,
        terms: &Terms,
        status: Option<AgreementStatus>,
    ) -> RoomResult<Progress> {
        let holes: Vec<u64> = self
            .registered
            .read()
            .disputes
            .values()
            .filter(|d| d.agreement == Some(*a) && d.kind == DisputeKind::UnequalReveals)
            .filter(|d| !d.resolved)
            .map(|d| d.at)
            .collect();
        let Some(s) = status else {
            let registry = self.registered.read();
            let named = registry.agreements.get(a);
            let reason = if !named.is_some_and(|r| r.nodes.contains(&self.node)) {
                "this node is no node of it".into()
            } else if !registry.is_accepted(a) {
                "not accepted by this node, which does nothing for it: `diversity agreement accept DRAFT` accepts it".into()
            } else {
                let reason = self.waiting.reason(a);
                reason.unwrap_or_else(|| "it is about to start".into())
            };
            return Ok(Progress {
                holes,
                waiting_for: vec![reason],
                ..Progress::default()
            });
        };
        let next_execution = self.book.records.next_execution(a)?;
        let view = self.chain.borrow().clone();
        let ours = view.stuck.iter().filter(|c| c.agreement == Some(*a));
        let sight = Sight {
            registry: &self.registered.read(),
            peers: &self.peers.lock(),
            trouble: view.trouble.as_deref(),
            stuck: ours.map(|c| (c.label.as_str(), c.why.as_str())).collect(),
            now_s: unix_ms() / 1000,
        };
        // What the loop around the core says of an agreement that runs: that this node abstains.
        let mut waiting_for: Vec<_> = self.waiting.reason(a).into_iter().collect();
        waiting_for.extend(sight.waiting_for(terms, &s));
        if !s.ended && !matches!(terms.window, WindowSpec::Count { .. }) {
            // Windows close by this node's clock.
            waiting_for.extend(self.clocks.off());
        }
        let progress = Progress {
            next_window: s.open_t,
            next_execution,
            next_certificate: s.undecided_t,
            next_settlement: s.unsettled_t,
            waiting_for,
            holes,
        };
        Ok(self.reached.shown(a, progress))
    }
}

fn life(record: &AgreementRecord, status: Option<&AgreementStatus>) -> Life {
    match record.end {
        // Void sensors end it, though nobody has closed it (P-HELD-5).
        None => match status.filter(|s| s.ended) {
            Some(s) if s.unsettled_t >= s.open_t => Life::Closed,
            Some(_) => Life::Closing,
            None => Life::Open,
        },
        Some(end) if record.next_t >= end => Life::Closed,
        Some(end) if status.is_some_and(|s| s.unsettled_t >= end) => Life::Closed,
        Some(_) => Life::Closing,
    }
}

#[cfg(test)]
#[path = "standing_tests.rs"]
mod tests;
