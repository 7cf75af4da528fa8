//! Who is registered, and what the chain says of agreements and disputes: rebuilt from events, and kept in the store
//! together with the cursor, in one write.
//!
//! Records are small and all in memory; settlements are many and stay in the store ([`ChainLog`]).

use std::collections::BTreeMap;

use diversity_chain::events::{ChainEvent as Event, DisputeKind, Located, Position, PublishedTerms};
use diversity_engine::api::{ChainEvent, Input};
use diversity_proto::codec::{DecodeError, Reader, Writer, decode_all};
use diversity_proto::entity::{NodeDeclaration, SensorDeclaration};
use diversity_proto::round::{Entry, RESULT_BYTES_MAX};
use diversity_proto::terms::{BATCH_MAX, NODES_MAX, TERMS_BYTES_MAX, Terms, TermsHeader};
use diversity_proto::{Address, AgreementId, Digest, NodeId, SensorId, UserId, VERSION};
use diversity_store::{Op, Store, StoreError};

use crate::node::peers::KnownNode;

/// First byte of every key of the daemon's own; the core's families are capital letters.
const FAMILY: u8 = b'd';
/// Longest evidence (calldata of a report), bytes: n reveals with their results.
const EVIDENCE_BYTES_MAX: usize = 1024 * 1024;
/// Longest declaration, bytes.
const DECLARATION_BYTES_MAX: usize = 16_384;

/// Why the registry cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record.
    #[error("a record of the registry cannot be read ({0}): use the program that wrote it, or give this node a new data directory, which it fills from the chain")]
    Record(#[from] DecodeError),
}

/// A registered user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// Name.
    pub name: String,
    /// Transaction that registered it.
    pub tx: Digest,
    /// Block.
    pub block: u64,
}

/// A registered sensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorRecord {
    /// Who registered it.
    pub owner: UserId,
    /// What it is.
    pub declaration: SensorDeclaration,
    /// Transaction.
    pub tx: Digest,
    /// Block.
    pub block: u64,
    /// Void from this q on.
    pub void_from: Option<u64>,
}

/// A registered node, newest revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// Who registered it.
    pub owner: UserId,
    /// Keys and addresses.
    pub declaration: NodeDeclaration,
    /// Transaction of this revision.
    pub tx: Digest,
}

/// A created agreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgreementRecord {
    /// Transaction that created it.
    pub tx: Digest,
    /// Block.
    pub block: u64,
    /// Its nodes, index order.
    pub nodes: Vec<NodeId>,
    /// EIP-712 hash of its terms.
    pub terms_digest: Digest,
    /// Module.
    pub code: Digest,
    /// Resolution epoch in force.
    pub epoch: u32,
    /// Executions from here on never settle.
    pub end: Option<u64>,
}

/// A dispute on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisputeRecord {
    /// Id.
    pub dispute: Digest,
    /// Kind.
    pub kind: DisputeKind,
    /// None for a sensor.
    pub agreement: Option<AgreementId>,
    /// Whom it blames.
    pub accused: Option<Address>,
    /// Resolution epoch, or boot epoch of a sensor.
    pub epoch: u32,
    /// t, or q of a sensor.
    pub at: u64,
    /// Calldata of the report.
    pub evidence: Vec<u8>,
    /// Transaction.
    pub tx: Digest,
    /// Block.
    pub block: u64,
    /// Resolved by the users.
    pub resolved: bool,
}

/// A settlement as the chain logged it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettledRecord {
    /// First t.
    pub from: u64,
    /// Last t.
    pub t: u64,
    /// Transaction.
    pub tx: Digest,
    /// Gas of the whole transaction.
    pub gas_used: u64,
    /// Outcomes that share it.
    pub outcomes: u32,
    /// Context of a single outcome, root of the contexts of a batch.
    pub context: Option<Digest>,
    /// Whether it is a batch.
    pub batch: bool,
    /// What each named t says.
    pub entries: Vec<(u64, Entry)>,
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

fn key(kind: u8, id: &[u8]) -> Vec<u8> {
    [&[FAMILY, kind], id].concat()
}

/// Key of the terms of an agreement.
pub fn terms_key(a: &AgreementId) -> Vec<u8> {
    key(b't', &a.0)
}

/// Key of the cursor.
pub fn cursor_key() -> Vec<u8> {
    key(b'c', &[])
}

/// Key of the chain's identity.
pub fn identity_key() -> Vec<u8> {
    key(b'g', &[])
}

/// Prefix of the outbox.
pub fn outbox_key(id: &[u8]) -> Vec<u8> {
    key(b'o', id)
}

/// Key of the frames that contradict one another.
pub fn contradiction_key(sensor: &SensorId) -> Vec<u8> {
    key(b'e', &sensor.0)
}

/// Key of a chain event of an agreement: holes by t before settlements by their last t before the end, which is an order in
/// which the core can hear them again.
fn log_key(a: &AgreementId, entry: &ChainLog) -> Vec<u8> {
    let (kind, t) = match entry {
        ChainLog::Hole { t, .. } => (0, *t),
        ChainLog::Settled(s) => (1, s.t),
        ChainLog::Closed { .. } => (2, 0),
    };
    let mut k = key(b'k', &a.0);
    k.push(kind);
    k.extend(t.to_be_bytes());
    k
}

fn forget(ops: &mut Vec<Op>, kind: u8, id: &[u8]) -> bool {
    ops.push(Op::Delete(key(kind, id)));
    false
}

fn put(key: Vec<u8>, write: impl FnOnce(&mut Writer)) -> Op {
    let mut w = Writer::new();
    w.u8(VERSION);
    write(&mut w);
    Op::Put(key, w.finish())
}

fn get<T>(value: &[u8], read: impl FnOnce(&mut Reader<'_>) -> Result<T, DecodeError>) -> Result<T, DecodeError> {
    decode_all(value, |r| {
        r.version("registry record")?;
        read(r)
    })
}

fn option<T>(w: &mut Writer, value: Option<T>, write: impl FnOnce(&mut Writer, T)) {
    match value {
        Some(v) => {
            w.u8(1);
            write(w, v);
        }
        None => {
            w.u8(0);
        }
    }
}

fn read_option<T>(
    r: &mut Reader<'_>,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    Ok(if r.bool("option")? { Some(read(r)?) } else { None })
}

impl SensorRecord {
    fn put(&self, id: &SensorId) -> Op {
        put(key(b's', &id.0), |w| {
            w.raw(&self.owner.0).bytes(&self.declaration.encode()).raw(&self.tx.0).u64(self.block);
            option(w, self.void_from, |w, q| {
                w.u64(q);
            });
        })
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            owner: Address::read(r)?,
            declaration: SensorDeclaration::decode(r.bytes(DECLARATION_BYTES_MAX, "declaration")?)?,
            tx: Digest::read(r)?,
            block: r.u64("block")?,
            void_from: read_option(r, |r| r.u64("q"))?,
        })
    }
}

impl NodeRecord {
    fn put(&self, id: &NodeId) -> Op {
        put(key(b'n', &id.0), |w| {
            w.raw(&self.owner.0).bytes(&self.declaration.encode()).raw(&self.tx.0);
        })
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            owner: Address::read(r)?,
            declaration: NodeDeclaration::decode(r.bytes(DECLARATION_BYTES_MAX, "declaration")?)?,
            tx: Digest::read(r)?,
        })
    }
    /// As the transport needs it.
    pub fn known(&self, node: NodeId) -> KnownNode {
        KnownNode { node, peer: self.declaration.peer_key, addresses: self.declaration.addresses.clone() }
    }
}

impl AgreementRecord {
    fn put(&self, a: &AgreementId) -> Op {
        put(key(b'a', &a.0), |w| {
            w.raw(&self.tx.0).u64(self.block).list(&self.nodes, |w, n| n.write(w));
            w.raw(&self.terms_digest.0).raw(&self.code.0).u32(self.epoch);
            option(w, self.end, |w, t| {
                w.u64(t);
            });
        })
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            tx: Digest::read(r)?,
            block: r.u64("block")?,
            nodes: r.list(NODES_MAX, "nodes", Address::read)?,
            terms_digest: Digest::read(r)?,
            code: Digest::read(r)?,
            epoch: r.u32("epoch")?,
            end: read_option(r, |r| r.u64("end"))?,
        })
    }
}

const KINDS: [DisputeKind; 4] = [
    DisputeKind::Equivocation,
    DisputeKind::FalseReveal,
    DisputeKind::SensorContradiction,
    DisputeKind::UnequalReveals,
];

impl DisputeRecord {
    fn put(&self) -> Op {
        put(key(b'd', &self.dispute.0), |w| {
            w.u8(KINDS.iter().position(|k| *k == self.kind).expect("all are listed") as u8);
            option(w, self.agreement, |w, a| a.write(w));
            option(w, self.accused, |w, a| a.write(w));
            w.u32(self.epoch).u64(self.at).bytes(&self.evidence).raw(&self.tx.0).u64(self.block);
            w.u8(self.resolved.into());
        })
    }
    fn read(dispute: Digest, r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = usize::from(r.u8("kind")?);
        Ok(Self {
            dispute,
            kind: *KINDS.get(kind).ok_or(DecodeError::Invalid("kind of a dispute"))?,
            agreement: read_option(r, AgreementId::read)?,
            accused: read_option(r, Address::read)?,
            epoch: r.u32("epoch")?,
            at: r.u64("at")?,
            evidence: r.bytes(EVIDENCE_BYTES_MAX, "evidence")?.to_vec(),
            tx: Digest::read(r)?,
            block: r.u64("block")?,
            resolved: r.bool("resolved")?,
        })
    }
}

/// An event of an agreement that the core must hear, again when it learns of the agreement late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainLog {
    /// Settled.
    Settled(SettledRecord),
    /// A dispute stands.
    Hole {
        /// Which t.
        t: u64,
        /// Which dispute.
        dispute: Digest,
        /// Its transaction.
        tx: Digest,
    },
    /// Closed from here on.
    Closed {
        /// First t that never settles.
        end: u64,
    },
}

impl ChainLog {
    fn put(&self, key: Vec<u8>) -> Op {
        put(key, |w| match self {
            Self::Settled(s) => {
                w.u8(0).u64(s.from).u64(s.t).raw(&s.tx.0).u64(s.gas_used).u32(s.outcomes);
                option(w, s.context, |w, c| c.write(w));
                w.u8(s.batch.into()).list(&s.entries, |w, (t, e)| {
                    w.u64(*t);
                    match e {
                        Entry::Value(v) => w.u8(1).bytes(v),
                        Entry::Null => w.u8(0),
                        Entry::Trap => w.u8(2),
                        Entry::Hole => w.u8(255),
                    };
                });
            }
            Self::Hole { t, dispute, tx } => {
                w.u8(1).u64(*t).raw(&dispute.0).raw(&tx.0);
            }
            Self::Closed { end } => {
                w.u8(2).u64(*end);
            }
        })
    }

    fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        get(value, |r| {
            Ok(match r.u8("chain event")? {
                0 => Self::Settled(SettledRecord {
                    from: r.u64("from")?,
                    t: r.u64("t")?,
                    tx: Digest::read(r)?,
                    gas_used: r.u64("gas")?,
                    outcomes: r.u32("outcomes")?,
                    context: read_option(r, Digest::read)?,
                    batch: r.bool("batch")?,
                    entries: r.list(usize::from(BATCH_MAX) + diversity_proto::round::HOLES_MAX + 1, "entries", |r| {
                        let t = r.u64("t")?;
                        let entry = match r.u8("entry")? {
                            0 => Entry::Null,
                            1 => Entry::Value(r.bytes(RESULT_BYTES_MAX, "result")?.to_vec()),
                            2 => Entry::Trap,
                            255 => Entry::Hole,
                            _ => return Err(DecodeError::Invalid("entry")),
                        };
                        Ok((t, entry))
                    })?,
                }),
                1 => Self::Hole { t: r.u64("t")?, dispute: Digest::read(r)?, tx: Digest::read(r)? },
                2 => Self::Closed { end: r.u64("end")? },
                _ => return Err(DecodeError::Invalid("chain event")),
            })
        })
    }

    /// As the core is told. An agreement that is closed before its first t is told nothing: nothing of it ever settles.
    pub fn input(&self, agreement: AgreementId) -> Option<Input> {
        Some(Input::Chain(match self {
            Self::Settled(s) => ChainEvent::Settled {
                agreement,
                from: s.from,
                t: s.t,
                tx: s.tx,
                gas_used: s.gas_used,
                outcomes: s.outcomes,
            },
            Self::Hole { t, dispute, tx } => {
                ChainEvent::Hole { agreement, t: *t, dispute: *dispute, tx: *tx }
            }
            Self::Closed { end } => ChainEvent::Closed { agreement, last_t: end.checked_sub(1)? },
        }))
    }

    /// The settlement whose last t this is.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn settled(store: &Store, a: &AgreementId, last: u64) -> Result<Option<SettledRecord>, RegistryError> {
        let mut k = key(b'k', &a.0);
        k.push(1);
        k.extend(last.to_be_bytes());
        let Some(value) = store.get(&k)? else { return Ok(None) };
        Ok(match Self::decode(&value)? {
            Self::Settled(s) => Some(s),
            _ => None,
        })
    }

    /// All of an agreement, in an order in which the core can hear them.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn of(store: &Store, a: &AgreementId) -> Result<Vec<Self>, RegistryError> {
        store.scan_prefix(&key(b'k', &a.0)).map(|item| Ok(Self::decode(&item?.1)?)).collect()
    }
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
        let address = |k: &[u8]| Some(Address(k.try_into().ok()?));
        let digest = |k: &[u8]| Some(Digest(k.try_into().ok()?));
        each(store, b'u', address, |k, v| {
            let user = get(v, |r| Ok(UserRecord { name: r.text(256, "name")?, tx: Digest::read(r)?, block: r.u64("block")? }))?;
            registry.users.insert(k, user);
            Ok(())
        })?;
        each(store, b's', address, |k, v| {
            registry.sensors.insert(k, get(v, SensorRecord::read)?);
            Ok(())
        })?;
        each(store, b'n', address, |k, v| {
            registry.nodes.insert(k, get(v, NodeRecord::read)?);
            Ok(())
        })?;
        each(store, b'a', digest, |k, v| {
            registry.agreements.insert(AgreementId(k.0), get(v, AgreementRecord::read)?);
            Ok(())
        })?;
        each(store, b'd', digest, |k, v| {
            registry.disputes.insert(k, get(v, |r| DisputeRecord::read(k, r))?);
            Ok(())
        })?;
        Ok(registry)
    }

    /// Forgets what was registered above a block: the chain has taken it back, and says it again if it is still so. Nodes stay,
    /// since only their newest revision is kept; so does what the core was told of settlements, which are submitted again.
    pub fn rewind(&mut self, above: u64, out: &mut Applied) {
        let ops = &mut out.ops;
        self.users.retain(|id, r| r.block <= above || forget(ops, b'u', &id.0));
        self.sensors.retain(|id, r| r.block <= above || forget(ops, b's', &id.0));
        self.agreements.retain(|id, r| r.block <= above || forget(ops, b'a', &id.0));
        self.disputes.retain(|id, r| r.block <= above || forget(ops, b'd', &id.0));
    }

    /// Takes in one event. Repeats change nothing.
    pub fn apply(&mut self, located: &Located, out: &mut Applied) {
        let at = located.at;
        match &located.event {
            Event::UserRegistered { user, name } => {
                let record = UserRecord { name: name.clone(), tx: at.tx, block: at.block };
                out.ops.push(put(key(b'u', &user.0), |w| {
                    w.text(&record.name).raw(&record.tx.0).u64(record.block);
                }));
                self.users.insert(*user, record);
            }
            Event::SensorRegistered { sensor, owner, declaration } => {
                self.sensor(*sensor, *owner, declaration, at, out);
            }
            Event::NodeRegistered { node, owner, declaration } => {
                let older = self.nodes.get(node).is_some_and(|n| n.declaration.revision > declaration.revision);
                if !older {
                    let record = NodeRecord { owner: *owner, declaration: declaration.clone(), tx: at.tx };
                    out.ops.push(record.put(node));
                    out.nodes.push(record.known(*node));
                    self.nodes.insert(*node, record);
                }
            }
            Event::AgreementCreated { agreement, nodes, header, terms, .. } => {
                self.created(*agreement, nodes, header, terms, at, out);
            }
            Event::Settled { agreement, from, t, entries, context, batch, gas_used, outcomes, .. } => {
                out.gas_used += gas_used;
                let entry = ChainLog::Settled(SettledRecord {
                    from: *from,
                    t: *t,
                    tx: at.tx,
                    gas_used: *gas_used,
                    outcomes: *outcomes,
                    context: *context,
                    batch: *batch,
                    entries: entries.clone(),
                });
                Self::log(agreement, &entry, out);
            }
            // Verified and logged by somebody outside the agreement's own order: it settles nothing.
            Event::Attested { agreement, t, .. } => {
                tracing::info!(agreement = %agreement, t, tx = %at.tx, "chain.attested");
            }
            Event::AgreementClosed { agreement, end } => {
                if let Some(a) = self.agreements.get_mut(agreement) {
                    a.end = Some(*end);
                    out.ops.push(a.put(agreement));
                }
                Self::log(agreement, &ChainLog::Closed { end: *end }, out);
            }
            Event::DisputeRecorded { .. } => self.dispute(located, out),
            Event::DisputeResolved { dispute, agreement, epoch, .. } => {
                if let Some(d) = self.disputes.get_mut(dispute) {
                    d.resolved = true;
                    out.ops.push(d.put());
                    out.disputes.push(*dispute);
                }
                if let Some(a) = self.agreements.get_mut(agreement) {
                    a.epoch = a.epoch.max(*epoch);
                    out.ops.push(a.put(agreement));
                }
            }
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
        let record = SensorRecord { owner, declaration: declaration.clone(), tx: at.tx, block: at.block, void_from: None };
        out.ops.push(record.put(&sensor));
        self.sensors.insert(sensor, record);
        out.inputs.push(Input::Sensor { id: sensor, declaration: declaration.clone() });
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
            end: None,
        };
        if self.agreements.contains_key(&agreement) {
            return;
        }
        match terms {
            PublishedTerms::Whole(terms) => out.ops.push(Op::Put(terms_key(&agreement), terms.encode())),
            PublishedTerms::HeaderOnly { reason } => {
                tracing::warn!(agreement = %agreement, reason, "agreement.terms_not_published");
            }
        }
        out.ops.push(record.put(&agreement));
        out.created.push(agreement);
        self.agreements.insert(agreement, record);
    }

    fn dispute(&mut self, located: &Located, out: &mut Applied) {
        let Event::DisputeRecorded { dispute, kind, agreement, accused, epoch, at, evidence } = &located.event else {
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
        if let Some(agreement) = agreement {
            let hole = ChainLog::Hole { t: *at, dispute: *dispute, tx: located.at.tx };
            Self::log(agreement, &hole, out);
        } else if let Some(sensor) = accused {
            if let Some(s) = self.sensors.get_mut(sensor)
                && s.void_from.is_none_or(|q| *at < q)
            {
                s.void_from = Some(*at);
                out.ops.push(s.put(sensor));
                out.void.push((*sensor, *at));
            }
            out.inputs.push(Input::Chain(ChainEvent::SensorVoid { sensor: *sensor, from_q: *at }));
        }
    }

    fn log(agreement: &AgreementId, entry: &ChainLog, out: &mut Applied) {
        out.ops.push(entry.put(log_key(agreement, entry)));
        out.inputs.extend(entry.input(*agreement));
    }
}

/// The terms of an agreement, accepted or published.
///
/// # Errors
/// [`RegistryError`].
pub fn terms(store: &Store, a: &AgreementId) -> Result<Option<Terms>, RegistryError> {
    let Some(bytes) = store.get(&terms_key(a))? else { return Ok(None) };
    if bytes.len() > TERMS_BYTES_MAX {
        return Err(DecodeError::TooLong { what: "terms", len: bytes.len(), max: TERMS_BYTES_MAX }.into());
    }
    Ok(Some(Terms::decode(&bytes)?))
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
