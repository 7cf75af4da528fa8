//! Records of the registry, and the keys of everything that the daemon itself keeps.

use diversity_chain::events::{DisputeKind, Position};
use diversity_proto::codec::{DecodeError, Reader, Writer, decode_all};
use diversity_proto::entity::{NodeDeclaration, SensorDeclaration};
use diversity_proto::round::Entry;
use diversity_proto::terms::NODES_MAX;
use diversity_proto::{Address, AgreementId, Digest, NodeId, SensorId, UserId};
use diversity_store::Op;

use crate::node::peers::KnownNode;

/// First byte of every key of the daemon's own; the core's families are capital letters.
const FAMILY: u8 = b'd';
/// Longest evidence (calldata of a report), bytes: n commits and reveals with their results.
const EVIDENCE_BYTES_MAX: usize = 1024 * 1024;
/// Version of these records. Version 1 was of another MainContract.
const VERSION: u8 = 2;
/// Longest declaration, bytes.
const DECLARATION_BYTES_MAX: usize = 16_384;

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
    /// The next t that settles.
    pub next_t: u64,
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
    /// The chain says what counts at t.
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
    pub context: Digest,
    /// Whether it is a batch.
    pub batch: bool,
    /// What each named t says.
    pub entries: Vec<(u64, Entry)>,
    /// The epoch that it put in force.
    pub epoch: u32,
}

pub(super) fn key(kind: u8, id: &[u8]) -> Vec<u8> {
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

/// Key of a chain event of an agreement, by its place on the chain: so the core hears them again in that order.
pub(super) fn log_key(a: &AgreementId, at: &Position) -> Vec<u8> {
    let mut k = key(b'k', &a.0);
    k.extend(at.block.to_be_bytes());
    k.extend(at.log_index.to_be_bytes());
    k
}

/// Key of the place of the settlement whose last t this is: its value is the key of the event.
pub(super) fn settled_key(a: &AgreementId, last: u64) -> Vec<u8> {
    let mut k = key(b'l', &a.0);
    k.extend(last.to_be_bytes());
    k
}

/// Key of the place of what the users, or a second reading, said of t.
pub(super) fn counts_key(a: &AgreementId, t: u64) -> Vec<u8> {
    let mut k = key(b'm', &a.0);
    k.extend(t.to_be_bytes());
    k
}

pub(super) fn forget(ops: &mut Vec<Op>, kind: u8, id: &[u8]) -> bool {
    ops.push(Op::Delete(key(kind, id)));
    false
}

pub(super) fn put(key: Vec<u8>, write: impl FnOnce(&mut Writer)) -> Op {
    let mut w = Writer::new();
    w.u8(VERSION);
    write(&mut w);
    Op::Put(key, w.finish())
}

pub(super) fn get<T>(
    value: &[u8],
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    decode_all(value, |r| {
        r.version_in("registry record", VERSION, VERSION)?;
        read(r)
    })
}

pub(super) fn option<T>(w: &mut Writer, value: Option<T>, write: impl FnOnce(&mut Writer, T)) {
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

pub(super) fn read_option<T>(
    r: &mut Reader<'_>,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    Ok(if r.bool("option")? {
        Some(read(r)?)
    } else {
        None
    })
}

impl SensorRecord {
    pub(super) fn put(&self, id: &SensorId) -> Op {
        put(key(b's', &id.0), |w| {
            w.raw(&self.owner.0)
                .bytes(&self.declaration.encode())
                .raw(&self.tx.0)
                .u64(self.block);
            option(w, self.void_from, |w, q| {
                w.u64(q);
            });
        })
    }
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            owner: UserId::read(r)?,
            declaration: SensorDeclaration::decode(r.bytes(DECLARATION_BYTES_MAX, "declaration")?)?,
            tx: Digest::read(r)?,
            block: r.u64("block")?,
            void_from: read_option(r, |r| r.u64("q"))?,
        })
    }
}

impl NodeRecord {
    pub(super) fn put(&self, id: &NodeId) -> Op {
        put(key(b'n', &id.0), |w| {
            w.raw(&self.owner.0)
                .bytes(&self.declaration.encode())
                .raw(&self.tx.0);
        })
    }
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            owner: UserId::read(r)?,
            declaration: NodeDeclaration::decode(r.bytes(DECLARATION_BYTES_MAX, "declaration")?)?,
            tx: Digest::read(r)?,
        })
    }
    /// As the transport needs it.
    pub fn known(&self, node: NodeId) -> KnownNode {
        KnownNode {
            node,
            peer: self.declaration.peer_key,
            addresses: self.declaration.addresses.clone(),
        }
    }
}

impl AgreementRecord {
    pub(super) fn put(&self, a: &AgreementId) -> Op {
        put(key(b'a', &a.0), |w| {
            w.raw(&self.tx.0)
                .u64(self.block)
                .list(&self.nodes, |w, n| n.write(w));
            w.raw(&self.terms_digest.0)
                .raw(&self.code.0)
                .u32(self.epoch)
                .u64(self.next_t);
            option(w, self.end, |w, t| {
                w.u64(t);
            });
        })
    }
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            tx: Digest::read(r)?,
            block: r.u64("block")?,
            nodes: r.list(NODES_MAX, "nodes", NodeId::read)?,
            terms_digest: Digest::read(r)?,
            code: Digest::read(r)?,
            epoch: r.u32("epoch")?,
            next_t: r.u64("next t")?,
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
    pub(super) fn put(&self) -> Op {
        put(key(b'd', &self.dispute.0), |w| {
            w.u8(KINDS
                .iter()
                .position(|k| *k == self.kind)
                .expect("all are listed") as u8);
            option(w, self.agreement, |w, a| a.write(w));
            option(w, self.accused, |w, a| a.write(w));
            w.u32(self.epoch)
                .u64(self.at)
                .bytes(&self.evidence)
                .raw(&self.tx.0)
                .u64(self.block);
            w.u8(self.resolved.into());
        })
    }
    pub(super) fn read(dispute: Digest, r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = usize::from(r.u8("kind")?);
        Ok(Self {
            dispute,
            kind: *KINDS
                .get(kind)
                .ok_or(DecodeError::Invalid("kind of a dispute"))?,
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
