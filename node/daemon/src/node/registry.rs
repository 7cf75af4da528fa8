//! Who is registered, and what the chain says of agreements and disputes: rebuilt from events, and kept in the store
//! together with the cursor, in one write.
//!
//! Records are small and in memory; settlements and evidence are many and stay in the store ([`ChainLog`], [`evidence_key`]). What
//! others than the parties of this node's agreements register is kept as far as there is room for it ([`strangers`]). What
//! nobody may believe was judged before it came here ([`diversity_chain::events`]); what is left to be judged needs to know what
//! stands already: a revision must be newer, and a peer key is its first claimant's.

mod entities;
mod keep;
mod load;
mod log;
mod records;
mod strangers;

use std::collections::{BTreeMap, VecDeque};

use diversity_chain::events::{
    ChainEvent as Event, Located, Place, Position, PublishedTerms, Refusal, Skipped,
};
use diversity_chain::look_back::Entity;
use diversity_engine::api::Input;
use diversity_proto::codec::DecodeError;
use diversity_proto::terms::{TERMS_BYTES_MAX, Terms, TermsHeader};
use diversity_proto::{AgreementId, Digest, NodeId, SensorId, UserId};
use diversity_store::{Op, Store, StoreError};

use crate::node::consent::Consent;
use crate::node::peers::KnownNode;
use keep::Parties;
pub use load::each_terms;
pub use log::ChainLog;
pub use records::{
    AgreementRecord, DisputeRecord, NodeRecord, SensorRecord, SettledRecord, SkippedRecord,
    UserRecord, adopted_key, agreement_key, cursor_key, evidence_key, identity_key, outbox_key,
    terms_key,
};
use records::{counts_key, forget, log_key, skipped_key};
use strangers::Strangers;

/// Entries of the chain that were skipped: how many of the newest are listed.
pub const SKIPPED_MAX: usize = 256;

/// Why the registry cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record.
    #[error(
        "a record of the registry cannot be read ({0}): use the program that wrote it, or give this node a new data directory, which it fills from the chain"
    )]
    Record(#[from] DecodeError),
}

/// What an event changes beside the registry itself.
#[derive(Debug, Default)]
pub struct Applied {
    /// For the core.
    pub inputs: Vec<Input>,
    /// To be made durable, with the cursor.
    pub ops: Vec<Op>,
    /// Agreements that now exist.
    pub created: Vec<AgreementId>,
    /// Nodes whose declaration is new.
    pub nodes: Vec<KnownNode>,
    /// New or changed disputes.
    pub disputes: Vec<Digest>,
    /// Sensors that are void now.
    pub void: Vec<(SensorId, u64)>,
    /// Entries that were skipped, each once.
    pub skipped: Vec<SkippedRecord>,
    /// Gas of settlements.
    pub gas_used: u64,
    /// Strangers of whom something was dropped: should they be none, they have to be looked for again.
    pub dropped: Vec<Entity>,
}

/// Everything that is registered.
#[derive(Debug, Default)]
pub struct Registry {
    /// Whose registry it is.
    node: Option<NodeId>,
    /// Where evidence and terms are.
    store: Option<Store>,
    /// What this node has accepted.
    consent: Consent,
    /// By account.
    pub users: BTreeMap<UserId, UserRecord>,
    /// By id.
    pub sensors: BTreeMap<SensorId, SensorRecord>,
    /// By id.
    pub nodes: BTreeMap<NodeId, NodeRecord>,
    /// By `a`.
    pub agreements: BTreeMap<AgreementId, AgreementRecord>,
    /// By id.
    pub disputes: BTreeMap<Digest, DisputeRecord>,
    /// The newest entries that were skipped, in the order of the chain.
    pub skipped: VecDeque<SkippedRecord>,
    /// Who claimed each peer key first.
    peer_keys: BTreeMap<[u8; 32], NodeId>,
    /// Sensors that have contradicted themselves: from which q on, and the dispute that shows it. Also of those that nobody has
    /// registered yet: who registers one later must not be rid of it.
    contradicted: BTreeMap<SensorId, (u64, Digest)>,
    /// Evidence that is not durable yet.
    fresh: BTreeMap<Digest, Vec<u8>>,
    ours: Parties,
    strangers: Strangers,
    /// How much of strangers was dropped so far, entries.
    dropped: u64,
}

impl Registry {
    /// The calldata that brought a dispute.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn evidence(&self, dispute: &Digest) -> Result<Vec<u8>, RegistryError> {
        if let Some(fresh) = self.fresh.get(dispute) {
            return Ok(fresh.clone());
        }
        let stored = self.store.as_ref().map(|s| s.get(&evidence_key(dispute)));
        Ok(stored.transpose()?.flatten().unwrap_or_default())
    }

    /// How much is kept of strangers, bytes of memory and disk together; there is no bound before it is set.
    pub fn keep_of_strangers(&mut self, bytes_max: usize) {
        self.strangers.bound(bytes_max);
    }

    /// Whether anything of strangers was ever dropped: what is not here may stand on the chain all the same.
    pub fn is_partial(&self) -> bool {
        self.dropped > 0
    }

    /// Those of them that are not here.
    pub fn missing(&self, entities: impl IntoIterator<Item = Entity>) -> Vec<Entity> {
        let missing = |e: &Entity| match e {
            Entity::User(u) => !self.users.contains_key(u),
            Entity::Sensor(s) => !self.sensors.contains_key(s),
            Entity::Node(n) => !self.nodes.contains_key(n),
        };
        entities.into_iter().filter(missing).collect()
    }

    /// What was applied so far is durable: evidence is in the store from now on.
    pub fn written(&mut self) {
        self.fresh.clear();
    }

    /// An entry that cannot be believed, or not beside what stands already. Counted once, also when it comes again.
    fn skip(&mut self, at: Position, skipped: Skipped, out: &mut Applied) {
        let place = |r: &SkippedRecord| (r.block, r.log_index);
        let here = (at.block, at.log_index);
        if self.skipped.iter().any(|r| place(r) == here) {
            return;
        }
        let record = SkippedRecord {
            block: at.block,
            log_index: at.log_index,
            tx: at.tx,
            skipped,
        };
        out.ops.push(record.put());
        out.skipped.push(record.clone());
        self.skipped.push_back(record);
        if self.skipped.len() > SKIPPED_MAX
            && let Some(oldest) = self.skipped.pop_front()
        {
            let key = skipped_key(oldest.block, oldest.log_index);
            out.ops.push(Op::Delete(key));
        }
    }

    /// Forgets what was registered above a block: the chain has taken it back, and says it again if it is still so. Nodes stay,
    /// since only their newest revision is kept, until the chain says another one; so does what the core was told of settlements,
    /// which are submitted again.
    pub fn rewind(&mut self, above: u64, out: &mut Applied) {
        self.drop_logs_above(above, out);
        let ops = &mut out.ops;
        self.users
            .retain(|id, r| r.block <= above || forget(ops, b'u', &id.0));
        self.sensors
            .retain(|id, r| r.block <= above || forget(ops, b's', &id.0));
        self.agreements
            .retain(|id, r| r.block <= above || forget(ops, b'a', &id.0));
        self.disputes
            .retain(|id, r| r.block <= above || forget(ops, b'd', &id.0));
        for (node, r) in self.nodes.iter_mut().filter(|(_, r)| r.block > above) {
            r.taken_back = true;
            ops.push(r.put(node));
        }
        self.contradicted.clear();
        self.index_contradictions();
        while let Some(last) = self.skipped.pop_back_if(|r| r.block > above) {
            ops.push(Op::Delete(skipped_key(last.block, last.log_index)));
        }
    }

    /// Takes in one event. Repeats change nothing.
    pub fn apply(&mut self, located: &Located, out: &mut Applied) {
        self.take(located, out);
        self.make_room(out);
    }

    fn take(&mut self, located: &Located, out: &mut Applied) {
        let at = located.at;
        match &located.event {
            Event::UserRegistered { user, name } => self.user(*user, name, at, out),
            Event::SensorRegistered {
                sensor,
                owner,
                declaration,
            } => {
                self.sensor(*sensor, *owner, declaration, at, out);
            }
            Event::NodeRegistered {
                node,
                owner,
                declaration,
            } => {
                if let Err(skipped) = self.node(*node, *owner, declaration, at, out) {
                    self.skip(at, skipped, out);
                }
            }
            Event::AgreementCreated {
                agreement,
                nodes,
                header,
                terms,
                ..
            } => {
                self.created(*agreement, nodes, header, terms, at, out);
            }
            Event::Settled {
                place,
                entries,
                context,
                batch,
                gas_used,
                outcomes,
                ..
            } => {
                out.gas_used = out.gas_used.saturating_add(*gas_used);
                let entry = ChainLog::Settled(SettledRecord {
                    from: place.from,
                    t: place.t,
                    tx: at.tx,
                    gas_used: *gas_used,
                    outcomes: *outcomes,
                    context: *context,
                    batch: *batch,
                    entries: entries.clone(),
                    epoch: place.epoch,
                });
                self.door(place, &entry, &at, out);
            }
            Event::HoleSettled {
                place,
                dispute,
                gas_used,
                ..
            } => {
                out.gas_used = out.gas_used.saturating_add(*gas_used);
                let entry = ChainLog::Hole {
                    t: place.t,
                    epoch: place.epoch,
                    dispute: *dispute,
                    tx: at.tx,
                };
                self.door(place, &entry, &at, out);
            }
            Event::Resolved {
                place,
                outputs,
                gas_used,
            } => {
                out.gas_used = out.gas_used.saturating_add(*gas_used);
                let entry = ChainLog::Resolved {
                    t: place.t,
                    epoch: place.epoch,
                    outputs: outputs.clone(),
                    tx: at.tx,
                    gas_used: *gas_used,
                };
                self.door(place, &entry, &at, out);
                self.resolved(place, out);
            }
            Event::CellWritten {
                place,
                writer,
                outputs,
                context,
                gas_used,
            } => {
                out.gas_used = out.gas_used.saturating_add(*gas_used);
                // What is final is not undone by what comes later (R12): the users cannot say twice what counts.
                if self.counts_already(place, &at, out) {
                    let words = format!(
                        "a cell of t = {} of {}, which counts otherwise already",
                        place.t, place.agreement
                    );
                    return self.skip(at, Refusal::SaidAlready.because(words), out);
                }
                if let Some(writer) = log::writer(*writer) {
                    let entry = ChainLog::Cell {
                        t: place.t,
                        writer,
                        outputs: outputs.clone(),
                        context: *context,
                        tx: at.tx,
                        gas_used: *gas_used,
                    };
                    self.log(&place.agreement, &entry, &at, out);
                }
                self.resolved(place, out);
            }
            // Verified and logged by somebody outside the agreement's own order: it settles nothing.
            Event::Attested { agreement, t, .. } => {
                let agreement = diversity_client::hexed::encode(agreement);
                tracing::debug!(agreement, t, tx = %at.tx, "chain.attested");
            }
            Event::AgreementClosed { agreement, end } => {
                if let Some(a) = self.agreements.get_mut(agreement) {
                    a.end = Some(*end);
                    out.ops.push(a.put(agreement));
                }
                self.log(agreement, &ChainLog::Closed { end: *end }, &at, out);
            }
            Event::DisputeRecorded { .. } => self.dispute(located, out),
            Event::Skipped(skipped) => self.skip(at, skipped.clone(), out),
        }
    }

    fn created(
        &mut self,
        agreement: AgreementId,
        nodes: &[(NodeId, u8)],
        header: &TermsHeader,
        terms: &PublishedTerms,
        at: Position,
        out: &mut Applied,
    ) {
        if self.agreements.contains_key(&agreement) {
            return;
        }
        let named = nodes.iter().any(|n| Some(n.0) == self.node);
        let terms_digest = header.digest();
        let accepted = self.consent.terms(&agreement, &terms_digest);
        let accepted = accepted.filter(|_| named);
        let record = AgreementRecord {
            tx: at.tx,
            block: at.block,
            nodes: nodes.iter().map(|n| n.0).collect(),
            terms_digest,
            code: header.off_chain_code,
            epoch: 0,
            next_t: 0,
            end: None,
            kept: false,
        };
        out.ops.push(record.put(&agreement));
        self.agreements.insert(agreement, record);
        if let Some(terms) = accepted {
            self.keep(&agreement, &terms, &mut out.ops);
        } else {
            self.weigh(b'a', agreement.0.to_vec());
        }
        // What others agree on is their business.
        if !named {
            return;
        }
        match terms {
            PublishedTerms::Whole(terms) => {
                let bytes = terms.encode();
                self.grow(&agreement, bytes.len());
                out.ops.push(Op::Put(terms_key(&agreement), bytes));
            }
            PublishedTerms::HeaderOnly { reason } => {
                // Anybody can create one that names this node, so it is no warning.
                tracing::info!(agreement = %agreement, reason, "agreement.terms_not_published");
            }
        }
        out.created.push(agreement);
    }

    /// Whether this node has accepted an agreement under the terms that stand on chain.
    pub fn is_accepted(&self, a: &AgreementId) -> bool {
        let record = self.agreements.get(a);
        record.is_some_and(|r| self.consent.is_given(a, &r.terms_digest))
    }

    /// So many bytes more of an agreement are stored.
    fn grow(&mut self, a: &AgreementId, bytes: usize) {
        if self.agreements.get(a).is_some_and(|r| !r.kept) {
            self.strangers.add((b'a', a.0.to_vec()), bytes);
        }
    }

    /// Something has settled everything up to t of it.
    fn door(&mut self, place: &Place, entry: &ChainLog, at: &Position, out: &mut Applied) {
        if let Some(a) = self.agreements.get_mut(&place.agreement)
            && a.next_t <= place.t
        {
            a.next_t = place.t + 1;
            a.epoch = place.epoch;
            out.ops.push(a.put(&place.agreement));
        }
        self.log(&place.agreement, entry, at, out);
    }

    /// Whether something else than the event here says what counts at t.
    fn counts_already(&self, place: &Place, at: &Position, out: &Applied) -> bool {
        let key = counts_key(&place.agreement, place.t);
        let here = log_key(&place.agreement, at);
        let other = |found: &[u8]| found != here;
        let pending = out.ops.iter().rev().find_map(|op| match op {
            Op::Put(k, v) if *k == key => Some(other(v)),
            _ => None,
        });
        let stored = || {
            let stored = self.store.as_ref().map(|s| s.get(&key));
            // What cannot be read says nothing.
            let stored = stored.and_then(Result::ok).flatten();
            stored.is_some_and(|found| other(&found))
        };
        pending.unwrap_or_else(stored)
    }

    /// The chain says what counts at t.
    fn resolved(&mut self, place: &Place, out: &mut Applied) {
        let of_t = |d: &&mut DisputeRecord| {
            d.agreement == Some(place.agreement) && d.at == place.t && !d.resolved
        };
        for d in self.disputes.values_mut().filter(of_t) {
            d.resolved = true;
            out.ops.push(d.put());
            out.disputes.push(d.dispute);
        }
    }

    /// Keeps what the chain says of an agreement of this node, for the core now and later. Of others nothing is kept.
    fn log(&mut self, agreement: &AgreementId, entry: &ChainLog, at: &Position, out: &mut Applied) {
        let record = self.agreements.get(agreement);
        if !record.is_some_and(|r| r.nodes.iter().any(|n| Some(*n) == self.node)) {
            return;
        }
        let ops = entry.put(agreement, at);
        let bytes = |op: &Op| match op {
            Op::Put(k, v) => k.len() + v.len(),
            Op::Delete(_) => 0,
        };
        self.grow(agreement, ops.iter().map(bytes).sum());
        out.ops.extend(ops);
        out.inputs.extend(entry.input(*agreement));
    }
}

/// All who must be known for terms to be run.
pub fn parties(terms: &Terms) -> impl Iterator<Item = Entity> + '_ {
    let users = terms.users.iter().map(|u| Entity::User(*u));
    let nodes = terms.nodes.iter().map(|n| Entity::Node(n.node));
    let sensors = terms.sensors.iter().map(|s| Entity::Sensor(s.sensor));
    users.chain(nodes).chain(sensors)
}

/// The terms of an agreement, accepted or published.
///
/// # Errors
/// [`RegistryError`].
pub fn terms(store: &Store, a: &AgreementId) -> Result<Option<Terms>, RegistryError> {
    let Some(bytes) = store.get(&terms_key(a))? else {
        return Ok(None);
    };
    if bytes.len() > TERMS_BYTES_MAX {
        return Err(DecodeError::TooLong {
            what: "terms",
            len: bytes.len(),
            max: TERMS_BYTES_MAX,
        }
        .into());
    }
    Ok(Some(Terms::decode(&bytes)?))
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
