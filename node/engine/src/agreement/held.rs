//! What ends windows that no message ends (design §3b, Held): past the grace each node signs, once, which sensors are still
//! open to it and what it holds of them; n such lists end them, without anybody's consent but each node's own signature.
//!
//! Lists go to everybody directly, and are kept by whoever signed them, so no leader is needed and none can pick a set. A
//! node goes by one list of each node, the last that came, until its window is cut: two different ones of one node make a hole at
//! worst.

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
    /// The window was begun to be cut by what is here.
    cutting: bool,
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
        if self.own.as_ref().is_some_and(|own| own.open != held.open) {
            self.cutting = false;
        }
        self.own = Some(held);
    }

    /// A list of another node whose signatures are good; returns whether it is news.
    pub fn listed(&mut self, from: usize, held: Held) -> bool {
        let new = self.lacks(from, &held);
        if new {
            self.others.insert(from, held);
            self.cutting = false;
        }
        new
    }
    /// Whether this list of a node would be news.
    pub fn lacks(&self, from: usize, held: &Held) -> bool {
        self.others.get(&from).is_none_or(|h| h.open != held.open)
    }
    /// Whether the cut begins by the set that is here now: whatever ended before, ends by the set alone (P-HELD-3). Said once for
    /// each set.
    pub fn begins_cut(&mut self, s: &Setting) -> bool {
        let begins = !self.cutting && self.complete(s);
        self.cutting |= begins;
        begins
    }
    fn complete(&self, s: &Setting) -> bool {
        self.own.is_some() && self.others.len() + 1 == s.n()
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
        let own = self.own.as_ref().filter(|_| self.complete(s))?;
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
