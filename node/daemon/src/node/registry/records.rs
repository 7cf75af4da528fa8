//! Records of the registry, and the keys of everything that the daemon itself keeps.

use diversity_chain::events::{DisputeKind, Position, Refusal, Skipped, WORDS_BYTES_MAX};
use diversity_proto::codec::{DecodeError, Reader, Writer, decode_all};
use diversity_proto::entity::{DECLARATION_BYTES_MAX, NodeDeclaration, SensorDeclaration};
use diversity_proto::round::Entry;
use diversity_proto::terms::NODES_MAX;
use diversity_proto::{Address, AgreementId, Digest, NodeId, SensorId, UserId};
use diversity_store::Op;

use crate::node::peers::KnownNode;

/// First byte of every key of the daemon's own; the core's families are capital letters.
const FAMILY: u8 = b'd';
/// Version of these records. Versions 1 and 2 were of other MainContracts.
const VERSION: u8 = 3;

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
    /// Void from this q on, and the dispute that shows it.
    pub void: Option<(u64, Digest)>,
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
    /// Its block.
    pub block: u64,
    /// The chain has taken that block back: whatever it says next of the node counts.
    pub taken_back: bool,
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
    /// This node has accepted it or runs it, so that nothing of it is dropped for others.
    pub kept: bool,
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
    /// Bytes of its evidence, the calldata of the report: it is kept beside the record ([`evidence_key`]).
    pub evidence_bytes: u32,
    /// Transaction.
    pub tx: Digest,
    /// Block.
    pub block: u64,
    /// The chain says what counts at t.
    pub resolved: bool,
}

/// An entry of the chain that was skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedRecord {
    /// Block.
    pub block: u64,
    /// Place in the block.
    pub log_index: u64,
    /// Transaction.
    pub tx: Digest,
    /// Why.
    pub skipped: Skipped,
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

/// Key of the record of an agreement that stands on chain.
pub fn agreement_key(a: &AgreementId) -> Vec<u8> {
    key(b'a', &a.0)
}

/// Key of the evidence of a dispute.
pub fn evidence_key(dispute: &Digest) -> Vec<u8> {
    key(b'e', &dispute.0)
}

/// Key of an entry that was skipped, in the order of the chain.
pub(super) fn skipped_key(block: u64, log_index: u64) -> Vec<u8> {
    let mut k = key(b'x', &block.to_be_bytes());
    k.extend(log_index.to_be_bytes());
    k
}

/// Key of how much of strangers was dropped.
pub(super) fn dropped_key() -> Vec<u8> {
    key(b'h', &[])
}

/// Key of the cursor.
pub fn cursor_key() -> Vec<u8> {
    key(b'c', &[])
}

/// Key of the word that what former versions had accepted was taken over (ADR 20).
pub fn adopted_key() -> Vec<u8> {
    key(b'v', &[])
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

/// The block of a [`log_key`].
pub(super) fn block_of(place: &[u8]) -> Option<u64> {
    let block = place.get(2 + AgreementId::LEN..2 + AgreementId::LEN + 8)?;
    Some(u64::from_be_bytes(block.try_into().ok()?))
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
            option(w, self.void, |w, (q, dispute)| {
                w.u64(q).raw(&dispute.0);
            });
        })
    }
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            owner: UserId::read(r)?,
            declaration: SensorDeclaration::decode(r.bytes(DECLARATION_BYTES_MAX, "declaration")?)?,
            tx: Digest::read(r)?,
            block: r.u64("block")?,
            void: read_option(r, |r| Ok((r.u64("q")?, Digest::read(r)?)))?,
        })
    }
}

impl SensorRecord {
    /// About as much as it takes.
    pub(super) fn bytes(&self) -> usize {
        let d = &self.declaration;
        let variables = d.variables.iter().map(|v| 32 + v.name.len());
        d.sensor_type.len() + d.label.len() + variables.sum::<usize>()
    }
}

impl NodeRecord {
    /// About as much as it takes.
    pub(super) fn bytes(&self) -> usize {
        let addresses = self.declaration.addresses.iter().map(|a| 32 + a.len());
        self.declaration.name.len() + addresses.sum::<usize>()
    }
    pub(super) fn put(&self, id: &NodeId) -> Op {
        put(key(b'n', &id.0), |w| {
            w.raw(&self.owner.0)
                .bytes(&self.declaration.encode())
                .raw(&self.tx.0)
                .u64(self.block)
                .u8(self.taken_back.into());
        })
    }
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            owner: UserId::read(r)?,
            declaration: NodeDeclaration::decode(r.bytes(DECLARATION_BYTES_MAX, "declaration")?)?,
            tx: Digest::read(r)?,
            block: r.u64("block")?,
            taken_back: r.bool("taken back")?,
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
    /// About as much as it takes.
    pub(super) fn bytes(&self) -> usize {
        self.nodes.len() * NodeId::LEN
    }
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
            w.u8(self.kept.into());
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
            kept: r.bool("kept")?,
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
                .u32(self.evidence_bytes)
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
            evidence_bytes: r.u32("bytes of the evidence")?,
            tx: Digest::read(r)?,
            block: r.u64("block")?,
            resolved: r.bool("resolved")?,
        })
    }
}

impl SkippedRecord {
    pub(super) fn put(&self) -> Op {
        put(skipped_key(self.block, self.log_index), |w| {
            w.u64(self.block)
                .u64(self.log_index)
                .raw(&self.tx.0)
                .u8(self.skipped.refusal as u8)
                .text(&self.skipped.words);
        })
    }
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            block: r.u64("block")?,
            log_index: r.u64("place in the block")?,
            tx: Digest::read(r)?,
            skipped: Skipped {
                refusal: Refusal::from_code(r.u8("refusal")?)
                    .ok_or(DecodeError::Invalid("refusal"))?,
                words: r.text(WORDS_BYTES_MAX, "words")?,
            },
        })
    }
}
