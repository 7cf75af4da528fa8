//! Statuses become units: what settles under one signature (P-UNIT-1, P-UNIT-2).

use super::is_value;
use crate::agreement::setting::Setting;
use crate::agreement::signing::Aim;
use crate::alloc_prelude::*;
use crate::api::{LOOKAHEAD, Millis, Settlement};
use diversity_proto::round::{Batch, Entry, Outcome, OutputKind};
use diversity_proto::{Deployment, Digest, Signature};
use diversity_round::sabotage::{Defect, on};

/// What is known of one t.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)]
pub(crate) enum Status {
    /// n equal reveals.
    Outcome {
        outcome: Outcome,
        /// Of the reveals, node-index order.
        signatures: Vec<Signature>,
        /// Disputed t in its range.
        holes: Vec<u64>,
    },
    /// A hole, which has a door of its own on chain.
    Hole,
}

impl Status {
    pub fn is_value(&self) -> bool {
        matches!(self, Self::Outcome { outcome, .. } if is_value(outcome))
    }
}

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)]
enum Form {
    Single(Outcome),
    Batch(Batch),
}

/// Outcomes under one aggregated signature.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    from: u64,
    t: u64,
    epoch: u32,
    form: Form,
    digest: Digest,
    /// The signature, and since when it is durable here.
    signature: Option<(Signature, Millis)>,
    /// Since when its certificates have waited long enough for the signature.
    fallback: Option<Millis>,
}

impl Unit {
    pub fn from(&self) -> u64 {
        self.from
    }
    pub fn t(&self) -> u64 {
        self.t
    }
    /// Since when it may be submitted; `None` while neither signature nor fallback is there.
    pub fn ready(&self) -> Option<Millis> {
        match self.signature {
            Some((_, since)) => Some(since),
            None => self.fallback,
        }
    }
}

/// The decided t that the chain has not settled, and how they are cut.
pub(crate) struct Units {
    batch: u64,
    statuses: BTreeMap<u64, Status>,
    /// By first t.
    units: BTreeMap<u64, Unit>,
    /// First t without a status.
    next: u64,
    /// The last t that settles.
    last: u64,
}

impl Units {
    pub fn new(batch: u16) -> Self {
        Self {
            batch: batch.into(),
            statuses: BTreeMap::new(),
            units: BTreeMap::new(),
            next: 0,
            last: u64::MAX,
        }
    }

    pub fn batch(&self) -> u64 {
        self.batch
    }
    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &Unit> {
        self.units.values()
    }
    /// Decided values that the chain has not settled.
    pub fn values(&self) -> impl Iterator<Item = u64> + '_ {
        let values = self.statuses.iter().filter(|(_, s)| s.is_value());
        values.map(|(t, _)| *t)
    }
    /// Ranges of units without a signature.
    pub fn unsigned(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let unsigned = self.units.values().filter(|u| u.signature.is_none());
        unsigned.map(|u| (u.from, u.t))
    }
    fn get(&self, from: u64, t: u64) -> Option<&Unit> {
        self.units.get(&from).filter(|u| u.t == t)
    }
    pub fn is_signed(&self, from: u64, t: u64) -> bool {
        self.get(from, t).is_some_and(|u| u.signature.is_some())
    }
    pub fn is_unsigned(&self, from: u64, t: u64) -> bool {
        self.get(from, t).is_some_and(|u| u.signature.is_none())
    }
    /// What is to be signed, if the range is a unit without a signature.
    pub fn aim(&self, from: u64, t: u64) -> Option<Aim> {
        let unit = self.get(from, t).filter(|u| u.signature.is_none())?;
        Some(Aim {
            epoch: unit.epoch,
            digest: unit.digest,
        })
    }
    /// Whether a range may become a unit here, so that what others say of it is kept.
    pub fn near(&self, from: u64, t: u64, chain_next: u64) -> bool {
        from >= chain_next && from <= t && t < self.next + LOOKAHEAD
    }

    pub fn decided(&mut self, t: u64, status: Status) {
        self.next = t + 1;
        self.statuses.insert(t, status);
    }
    pub fn settled(&mut self, chain_next: u64) {
        self.next = self.next.max(chain_next);
        self.statuses.retain(|t, _| *t >= chain_next);
        // One switch: what was settled in part settles on; but nothing may be left between.
        self.units.retain(|_, u| u.t >= chain_next);
        if self
            .units
            .keys()
            .next()
            .is_some_and(|from| *from > chain_next)
            && self
                .statuses
                .get(&chain_next)
                .is_some_and(|s| !matches!(s, Status::Hole))
        {
            self.units.clear();
        }
    }
    /// Ranges of units that reached over `last`.
    pub fn close(&mut self, last: u64) -> Vec<(u64, u64)> {
        self.last = last;
        self.remove(|u| u.t > last)
    }
    /// Ranges of units that reached to t or further.
    pub fn forget_from(&mut self, t: u64) -> Vec<(u64, u64)> {
        self.statuses.retain(|at, _| *at < t);
        self.next = self.next.min(t);
        self.remove(|u| u.t >= t)
    }
    fn remove(&mut self, gone: impl Fn(&Unit) -> bool) -> Vec<(u64, u64)> {
        let ranges: Vec<_> = self
            .units
            .values()
            .filter(|u| gone(u))
            .map(|u| (u.from, u.t))
            .collect();
        self.units.retain(|_, u| !gone(u));
        ranges
    }

    /// First t behind all units and all holes that lead up to them.
    fn start(&self, chain_next: u64) -> u64 {
        let behind = self.units.values().map(|u| u.t + 1).max();
        behind.unwrap_or(0).max(chain_next)
    }

    /// P-UNIT-2: whether a range that another node proposes becomes a unit here too: it begins where this node's next unit would, or
    /// is a shorter cut of one that is not signed; it ends in a value, and no hole lies in it. Everything else could not settle, or
    /// would leave something behind. (Of two cuts the shorter one is taken, so that nodes that were idle at different times meet.)
    pub fn takes(&self, from: u64, t: u64, chain_next: u64) -> bool {
        let start = self.start(chain_next);
        let start = (start..self.next)
            .find(|at| !matches!(self.statuses.get(at), Some(Status::Hole)))
            .unwrap_or(self.next);
        let shorter = self
            .units
            .get(&from)
            .is_some_and(|u| u.signature.is_none() && t < u.t);
        let outcome = |at: u64| matches!(self.statuses.get(&at), Some(Status::Outcome { .. }));
        self.batch > 1
            && (from == start || shorter)
            && from <= t
            && t <= self.last
            && t - from < self.batch
            && (from..=t).all(outcome)
            && (self.statuses.get(&t).is_some_and(Status::is_value) || on(Defect::AnyRangeIsCut))
    }

    /// Cuts the range as it is; it is one that [`Units::takes`] takes. Returns the last t of the unit that it shortens.
    pub fn cut(&mut self, from: u64, t: u64, s: &Setting) -> Option<u64> {
        let unit = self.build(from, t, &s.deployment, s.id);
        self.units.insert(from, unit).map(|u| u.t)
    }

    /// Cuts what is decided: after K executions, before a hole, where the agreement was closed, or when forced. A unit ends in a
    /// value; what is null behind it waits for the next one. Returns the ranges of new units.
    pub fn form(&mut self, force: bool, chain_next: u64, s: &Setting) -> Vec<(u64, u64)> {
        let mut new = Vec::new();
        let first = self.start(chain_next);
        let mut start = first;
        let mut last_value = None;
        let end = self.next.min(self.last.saturating_add(1));
        for t in first..end {
            let status = self.statuses.get(&t);
            if !matches!(status, Some(Status::Outcome { .. })) {
                // A hole has a door of its own: the unit before it ends, and the next one begins behind it.
                if let Some(last) = last_value.take() {
                    new.push((start, last));
                }
                start = t + 1;
                continue;
            }
            if status.is_some_and(Status::is_value) {
                last_value = Some(t);
            }
            let full = t + 1 - start >= self.batch;
            let over = t + 1 == end && (force || t == self.last);
            if let Some(last) = last_value.filter(|_| full || over) {
                new.push((start, last));
                start = last + 1;
                last_value = None;
            }
        }
        for (from, t) in &new {
            self.cut(*from, *t, s);
        }
        new
    }

    fn build(&self, from: u64, t: u64, d: &Deployment, id: diversity_proto::AgreementId) -> Unit {
        let outcomes: Vec<&Outcome> = (from..=t)
            .filter_map(|at| match self.statuses.get(&at) {
                Some(Status::Outcome { outcome, .. }) => Some(outcome),
                _ => None,
            })
            .collect();
        let last = *outcomes.last().expect("a unit ends in a value");
        let no_holes = matches!(self.statuses.get(&t), Some(Status::Outcome { holes, .. }) if holes.is_empty());
        let alone = outcomes.iter().filter(|o| is_value(o)).count() == 1;
        // A single outcome with holes, or one that speaks of more than this unit, settles in the batch form.
        let form = if alone && no_holes && last.from == from {
            Form::Single(last.clone())
        } else {
            Form::Batch(Batch {
                agreement: id,
                epoch: last.epoch,
                from,
                entries: outcomes.iter().map(|o| (entry(o), o.context)).collect(),
            })
        };
        let digest = match &form {
            Form::Single(o) => o.digest(d),
            Form::Batch(b) => b.digest(d),
        };
        Unit {
            from,
            t,
            epoch: last.epoch,
            form,
            digest,
            signature: None,
            fallback: None,
        }
    }

    /// The aggregated signature over a unit is durable.
    pub fn sign(&mut self, from: u64, t: u64, signature: Signature, now: Millis) {
        if let Some(u) = self.units.get_mut(&from).filter(|u| u.t == t) {
            u.signature.get_or_insert((signature, now));
        }
    }
    /// The unit that covers t settles by reveals if it has no signature.
    pub fn fall_back(&mut self, t: u64, now: Millis) {
        let unit = self
            .units
            .values_mut()
            .find(|u| (u.from..=u.t).contains(&t));
        if let Some(u) = unit {
            u.fallback.get_or_insert(now);
        }
    }

    /// What of a unit is submitted, in order: it as a whole, or each of its values that is not settled.
    pub fn settlements(&self, u: &Unit, chain_next: u64) -> Vec<Settlement> {
        match (&u.signature, &u.form) {
            (Some((signature, _)), Form::Single(outcome)) => vec![Settlement::Single {
                outcome: outcome.clone(),
                signature: *signature,
            }],
            (Some((signature, _)), Form::Batch(batch)) => vec![Settlement::Batch {
                batch: batch.clone(),
                signature: *signature,
            }],
            (None, _) => self
                .statuses
                .range(u.from.max(chain_next)..=u.t)
                .filter_map(|(_, status)| match status {
                    Status::Outcome {
                        outcome,
                        signatures,
                        holes,
                    } if is_value(outcome) => Some(Settlement::Reveals {
                        outcome: outcome.clone(),
                        holes: holes.clone(),
                        signatures: signatures.clone(),
                    }),
                    _ => None,
                })
                .collect(),
        }
    }
}

fn entry(o: &Outcome) -> Entry {
    match o.kind {
        k if k == OutputKind::Null as u8 => Entry::Null,
        k if k == OutputKind::Trap as u8 => Entry::Trap,
        _ => Entry::Value(o.result.clone()),
    }
}
