//! What ends windows that no message ends (design §3b, Held): past the grace each node signs, once, which sensors are still
//! open to it and what it holds of them; n such lists end them, without anybody's consent but each node's own signature.
//!
//! Lists go to everybody directly, and are kept by whoever signed them, so no leader is needed and none can pick a set. A
//! node goes by the first list of each node that it sees: two different ones of one node make a hole at worst.

use crate::agreement::cutter::{Cutter, Word};
use crate::agreement::setting::Setting;
use crate::alloc_prelude::*;
use crate::ingest::Traces;
use diversity_proto::held::{Held, OpenSensor};
use diversity_proto::{NodeId, Signature};

/// The lists of one (t, epoch).
#[derive(Default)]
pub(crate) struct Lists {
    /// The own list is being signed or made durable.
    signing: bool,
    own: Option<Held>,
    others: BTreeMap<usize, Held>,
}

impl Lists {
    /// What an earlier run signed for this window.
    pub fn restore(own: Held) -> Self {
        Self {
            own: Some(own),
            ..Self::default()
        }
    }

    /// Whether this node has signed, or is about to: from then on no message ends anything by itself.
    pub fn bound(&self) -> bool {
        self.signing || self.own.is_some()
    }
    pub fn own(&self) -> Option<&Held> {
        self.own.as_ref()
    }

    /// P-HELD-1: the sensors that are open here, for signing; `None` if that was done.
    pub fn begin(&mut self, s: &Setting, cutter: &Cutter, traces: &Traces) -> Option<Held> {
        if self.bound() {
            return None;
        }
        self.signing = true;
        let open = cutter.open().iter().map(|k| {
            let trace = &traces[&s.sensors[*k]];
            OpenSensor {
                index: *k as u32,
                lacks: trace.next_q(),
                contradiction: trace.contradiction().cloned(),
            }
        });
        Some(Held {
            open: open.collect(),
            signature: Signature([0; 64]),
        })
    }

    /// The own list is durable.
    pub fn signed(&mut self, held: Held) {
        self.signing = false;
        self.own = Some(held);
    }

    /// A list of another node whose signatures are good; returns whether it is the first of that node.
    pub fn listed(&mut self, from: usize, held: Held) -> bool {
        let new = !self.others.contains_key(&from);
        self.others.entry(from).or_insert(held);
        new
    }
    /// Whether a list of this node is here.
    pub fn has(&self, from: usize) -> bool {
        self.others.contains_key(&from)
    }

    /// Nodes whose list is missing, once this node has given its own.
    pub fn missing(&self, s: &Setting) -> Vec<NodeId> {
        if self.own.is_none() {
            return Vec::new();
        }
        (0..s.n())
            .filter(|i| *i != s.me() && !self.others.contains_key(i))
            .map(|i| s.node(i))
            .collect()
    }

    /// What all n lists say of sensor `k`; `None` while one is missing.
    pub fn word(&self, s: &Setting, k: usize) -> Option<Word> {
        let own = self.own.as_ref()?;
        if self.others.len() + 1 < s.n() {
            return None;
        }
        let mut word = Word {
            all_to: Some(0),
            contradicted: None,
        };
        for held in self.others.values().chain([own]) {
            let said = held.of(k);
            word.all_to = match (word.all_to, said) {
                (Some(q), Some(o)) => Some(q.max(o.lacks)),
                _ => None,
            };
            let q = said.and_then(|o| o.contradiction.as_ref()).map(|c| c.q);
            word.contradicted = word.contradicted.into_iter().chain(q).min();
        }
        Some(word)
    }
}
