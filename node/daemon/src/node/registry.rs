//! Who is registered, and what the chain says of agreements and disputes: rebuilt from events, and kept in the store
//! together with the cursor, in one write.
//!
//! Records are small and all in memory; settlements are many and stay in the store ([`ChainLog`]).

mod log;
mod records;

use std::collections::BTreeMap;

use diversity_chain::events::{ChainEvent as Event, Located, Place, Position, PublishedTerms};
use diversity_chain::evidence::{self, Evidence};
use diversity_engine::api::{ChainEvent, Input};
use diversity_proto::codec::DecodeError;
use diversity_proto::entity::SensorDeclaration;
use diversity_proto::frame::Contradiction;
use diversity_proto::terms::{TERMS_BYTES_MAX, Terms, TermsHeader};
use diversity_proto::{AgreementId, Digest, NodeId, SensorId, UserId};
use diversity_store::{Op, Store, StoreError};

use crate::node::peers::KnownNode;
pub use log::ChainLog;
pub use records::{
    AgreementRecord, DisputeRecord, NodeRecord, SensorRecord, SettledRecord, UserRecord,
    cursor_key, identity_key, outbox_key, terms_key,
};
use records::{forget, get, key, put};

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
    /// Gas of settlements.
    pub gas_used: u64,
}

/// Everything that is registered.
#[derive(Debug, Default)]
pub struct Registry {
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
}

impl Registry {
    /// Reads what was kept.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn load(store: &Store) -> Result<Self, RegistryError> {
        let mut registry = Self::default();
        fn each<K>(
            store: &Store,
            kind: u8,
            id: impl Fn(&[u8]) -> Option<K>,
            mut take: impl FnMut(K, &[u8]) -> Result<(), DecodeError>,
        ) -> Result<(), RegistryError> {
            for item in store.scan_prefix(&key(kind, &[])) {
                let (k, value) = item?;
                let k = id(&k[2..]).ok_or(DecodeError::Invalid("key of the registry"))?;
                take(k, &value)?;
            }
            Ok(())
        }
        let digest = |k: &[u8]| Some(Digest(k.try_into().ok()?));
        each(
            store,
            b'u',
            |k| Some(UserId(k.try_into().ok()?)),
            |k, v| {
                let user = get(v, |r| {
                    Ok(UserRecord {
                        name: r.text(256, "name")?,
                        tx: Digest::read(r)?,
                        block: r.u64("block")?,
                    })
                })?;
                registry.users.insert(k, user);
                Ok(())
            },
        )?;
        each(
            store,
            b's',
            |k| Some(SensorId(k.try_into().ok()?)),
            |k, v| {
                registry.sensors.insert(k, get(v, SensorRecord::read)?);
                Ok(())
            },
        )?;
        each(
            store,
            b'n',
            |k| Some(NodeId(k.try_into().ok()?)),
            |k, v| {
                registry.nodes.insert(k, get(v, NodeRecord::read)?);
                Ok(())
            },
        )?;
        each(store, b'a', digest, |k, v| {
            registry
                .agreements
                .insert(AgreementId(k.0), get(v, AgreementRecord::read)?);
            Ok(())
        })?;
        each(store, b'd', digest, |k, v| {
            registry
                .disputes
                .insert(k, get(v, |r| DisputeRecord::read(k, r))?);
            Ok(())
        })?;
        Ok(registry)
    }

    /// Forgets what was registered above a block: the chain has taken it back, and says it again if it is still so. Nodes stay,
    /// since only their newest revision is kept; so does what the core was told of settlements, which are submitted again.
    pub fn rewind(&mut self, above: u64, out: &mut Applied) {
        let ops = &mut out.ops;
        self.users
            .retain(|id, r| r.block <= above || forget(ops, b'u', &id.0));
        self.sensors
            .retain(|id, r| r.block <= above || forget(ops, b's', &id.0));
        self.agreements
            .retain(|id, r| r.block <= above || forget(ops, b'a', &id.0));
        self.disputes
            .retain(|id, r| r.block <= above || forget(ops, b'd', &id.0));
    }

    /// Takes in one event. Repeats change nothing.
    pub fn apply(&mut self, located: &Located, out: &mut Applied) {
        let at = located.at;
        match &located.event {
            Event::UserRegistered { user, name } => {
                let record = UserRecord {
                    name: name.clone(),
                    tx: at.tx,
                    block: at.block,
                };
                out.ops.push(put(key(b'u', &user.0), |w| {
                    w.text(&record.name).raw(&record.tx.0).u64(record.block);
                }));
                self.users.insert(*user, record);
            }
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
                let older = self
                    .nodes
                    .get(node)
                    .is_some_and(|n| n.declaration.revision > declaration.revision);
                if !older {
                    let record = NodeRecord {
                        owner: *owner,
                        declaration: declaration.clone(),
                        tx: at.tx,
                    };
                    out.ops.push(record.put(node));
                    out.nodes.push(record.known(*node));
                    self.nodes.insert(*node, record);
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
                out.gas_used += gas_used;
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
                out.gas_used += gas_used;
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
                out.gas_used += gas_used;
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
                gas_used,
                ..
            } => {
                out.gas_used += gas_used;
                match log::writer(*writer) {
                    Some(writer) => {
                        let entry = ChainLog::Cell {
                            t: place.t,
                            writer,
                            outputs: outputs.clone(),
                            tx: at.tx,
                            gas_used: *gas_used,
                        };
                        Self::log(&place.agreement, &entry, &at, out);
                    }
                    None => {
                        let reason = format!("a cell written by writer {writer}: upgrade the node");
                        tracing::error!(block = at.block, tx = %at.tx, reason, "chain.unreadable_event");
                    }
                }
                self.resolved(place, out);
            }
            // Verified and logged by somebody outside the agreement's own order: it settles nothing.
            Event::Attested { agreement, t, .. } => {
                let agreement = diversity_client::hexed::encode(agreement);
                tracing::info!(agreement, t, tx = %at.tx, "chain.attested");
            }
            Event::AgreementClosed { agreement, end } => {
                if let Some(a) = self.agreements.get_mut(agreement) {
                    a.end = Some(*end);
                    out.ops.push(a.put(agreement));
                }
                Self::log(agreement, &ChainLog::Closed { end: *end }, &at, out);
            }
            Event::DisputeRecorded { .. } => self.dispute(located, out),
            Event::Unreadable { reason } => {
                tracing::error!(block = at.block, tx = %at.tx, reason, "chain.unreadable_event");
            }
        }
    }

    fn sensor(
        &mut self,
        sensor: SensorId,
        owner: UserId,
        declaration: &SensorDeclaration,
        at: Position,
        out: &mut Applied,
    ) {
        // The first registration counts; the contract lets nobody replace it without the sensor's own key, and what was
        // signed and stored under the first declaration must keep its meaning.
        if self.sensors.contains_key(&sensor) {
            return;
        }
        let record = SensorRecord {
            owner,
            declaration: declaration.clone(),
            tx: at.tx,
            block: at.block,
            void_from: None,
        };
        out.ops.push(record.put(&sensor));
        self.sensors.insert(sensor, record);
        out.inputs.push(Input::Sensor {
            id: sensor,
            declaration: declaration.clone(),
        });
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
        let record = AgreementRecord {
            tx: at.tx,
            block: at.block,
            nodes: nodes.iter().map(|n| n.0).collect(),
            terms_digest: header.digest(),
            code: header.off_chain_code,
            epoch: 0,
            next_t: 0,
            end: None,
        };
        if self.agreements.contains_key(&agreement) {
            return;
        }
        match terms {
            PublishedTerms::Whole(terms) => {
                out.ops.push(Op::Put(terms_key(&agreement), terms.encode()))
            }
            PublishedTerms::HeaderOnly { reason } => {
                tracing::warn!(agreement = %agreement, reason, "agreement.terms_not_published");
            }
        }
        out.ops.push(record.put(&agreement));
        out.created.push(agreement);
        self.agreements.insert(agreement, record);
    }

    fn dispute(&mut self, located: &Located, out: &mut Applied) {
        let Event::DisputeRecorded {
            dispute,
            kind,
            agreement,
            accused,
            epoch,
            at,
            evidence,
        } = &located.event
        else {
            return;
        };
        if self.disputes.contains_key(dispute) {
            return;
        }
        let record = DisputeRecord {
            dispute: *dispute,
            kind: *kind,
            agreement: *agreement,
            accused: *accused,
            epoch: *epoch,
            at: *at,
            evidence: evidence.clone(),
            tx: located.at.tx,
            block: located.at.block,
            resolved: false,
        };
        out.ops.push(record.put());
        out.disputes.push(*dispute);
        self.disputes.insert(*dispute, record);
        if agreement.is_none()
            && let Some(accused) = accused
        {
            self.void(SensorId::from(*accused), *at, evidence, out);
        }
    }

    /// A sensor has contradicted itself. What the core is told is what the two frames prove.
    fn void(&mut self, sensor: SensorId, q: u64, evidence: &[u8], out: &mut Applied) {
        if let Some(s) = self.sensors.get_mut(&sensor)
            && s.void_from.is_none_or(|from| q < from)
        {
            s.void_from = Some(q);
            out.ops.push(s.put(&sensor));
            out.void.push((sensor, q));
        }
        let contradiction = match evidence::decode(evidence) {
            Ok(Evidence::SensorContradiction { first, second, .. }) => {
                Contradiction::of(&first.encode(), &second.encode())
            }
            Ok(_) | Err(_) => None,
        };
        match contradiction {
            Some(contradiction) => out.inputs.push(Input::Chain(ChainEvent::SensorVoid {
                sensor,
                contradiction,
            })),
            None => {
                tracing::error!(sensor = %sensor, q, "chain.unreadable_contradiction");
            }
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
        Self::log(&place.agreement, entry, at, out);
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

    fn log(agreement: &AgreementId, entry: &ChainLog, at: &Position, out: &mut Applied) {
        out.ops.extend(entry.put(agreement, at));
        out.inputs.extend(entry.input(*agreement));
    }
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
