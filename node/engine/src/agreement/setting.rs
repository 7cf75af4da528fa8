//! What of an agreement never changes, and what follows from it.

use crate::alloc_prelude::*;
use crate::api::Millis;
use alloc::sync::Arc;
use diversity_proto::round::Subject;
use diversity_proto::terms::{Leader, Terms, WindowSpec, config};
use diversity_proto::{AgreementId, Deployment, NodeId, PublicKey, SensorId};
use diversity_round::{Committee, Place};

/// One agreement as every room of it sees it.
pub(crate) struct Setting {
    pub id: AgreementId,
    pub terms: Terms,
    pub deployment: Deployment,
    pub committee: Arc<Committee>,
    /// Agreement order.
    pub sensors: Vec<SensorId>,
}

/// For how many t one node submits before the next one does (P-SUBMIT-1): long enough that a backlog goes out in a row of
/// transactions of one account, short enough that all pay.
const SUBMITTER_SPAN: u64 = 16;

impl Setting {
    pub fn new(
        id: AgreementId,
        terms: Terms,
        keys: Vec<PublicKey>,
        me: usize,
        deployment: Deployment,
    ) -> Self {
        Self {
            id,
            deployment,
            committee: Arc::new(Committee {
                nodes: terms.nodes.iter().map(|n| n.node).collect(),
                keys,
                me,
            }),
            sensors: terms.sensors.iter().map(|s| s.sensor).collect(),
            terms,
        }
    }

    pub fn n(&self) -> usize {
        self.committee.nodes.len()
    }
    pub fn me(&self) -> usize {
        self.committee.me
    }
    pub fn node(&self, i: usize) -> NodeId {
        self.committee.nodes[i]
    }
    pub fn index_of(&self, node: &NodeId) -> Option<usize> {
        self.terms.node_index(node)
    }
    /// The other nodes.
    pub fn others(&self) -> impl Iterator<Item = NodeId> + '_ {
        let me = self.me();
        let all = self.committee.nodes.iter().enumerate();
        all.filter(move |(i, _)| *i != me).map(|(_, n)| *n)
    }

    pub fn subject(&self, epoch: u32, t: u64) -> Subject {
        Subject {
            deployment: self.deployment,
            config: config(&self.deployment, &self.id, epoch),
            t,
        }
    }
    pub fn place(&self, epoch: u32, t: u64) -> Place {
        Place {
            subject: self.subject(epoch, t),
            agreement: self.id,
            epoch,
            committee: self.committee.clone(),
        }
    }

    /// Who leads t when `view` leaders were passed over.
    pub fn leader(&self, t: u64, view: u32) -> usize {
        let n = self.n();
        let base = match self.terms.leader {
            Leader::Fixed(i) => usize::from(i),
            Leader::Rotating => (t % n as u64) as usize,
        };
        (base + view as usize) % n
    }
    /// Who submits what ends at t first; the others follow by index.
    pub fn submitter(&self, t: u64) -> usize {
        match self.terms.leader {
            Leader::Fixed(i) => usize::from(i),
            Leader::Rotating => (t / SUBMITTER_SPAN % self.n() as u64) as usize,
        }
    }
    /// Steps from `first` to this node, in index order.
    pub fn distance(&self, first: usize) -> u64 {
        ((self.me() + self.n() - first) % self.n()) as u64
    }

    pub fn timeout_ms(&self) -> Millis {
        self.terms.round_timeout_ms.into()
    }
    pub fn timeout_max_ms(&self) -> Millis {
        self.terms.round_timeout_max_ms.into()
    }
    /// The timeout after so many failures: growing, capped.
    pub fn backoff(&self, fails: u32) -> Millis {
        (self.timeout_ms() << fails.min(20)).min(self.timeout_max_ms())
    }
    /// How long from its own durable certificate a node waits for the aggregated signature (P-MUSIG-3).
    pub fn fallback_ms(&self) -> Millis {
        (4 * self.timeout_max_ms()).min(3_600_000)
    }
    pub fn grace_ms(&self) -> Millis {
        u64::from(self.terms.grace_s) * 1_000
    }
    /// `[T0, T1)` of t in Unix seconds; `None` for count windows.
    pub fn span(&self, t: u64) -> Option<(u64, u64)> {
        match self.terms.window {
            WindowSpec::Count { .. } => None,
            spec => Some(spec.span(t)),
        }
    }
}
