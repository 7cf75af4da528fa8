//! What nodes sign in a round, and the outcome that settles (wire-format §7; paper §3, Fig. 2B).

use crate::codec::{DecodeError, Reader, Result, Writer};
use crate::domain::{Hasher, Kind, keccak};
use crate::ids::{AgreementId, Deployment, Digest, NodeId, Signature};
use crate::merkle;
use alloc::vec::Vec;

/// Most bytes of a result.
pub const RESULT_BYTES_MAX: usize = 4_096;
/// Longest carry, bytes.
pub const CARRY_BYTES_MAX: usize = 1 << 20;
/// Longest evidence on chain (the calldata that brought it), bytes: a hole of the most nodes with the longest results fits.
pub const EVIDENCE_BYTES_MAX: usize = 1 << 20;
/// Most holes between two outcomes.
pub const HOLES_MAX: usize = 256;

/// Which of the outputs of `f` this is: null, empty value and trap are never confused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum OutputKind {
    /// Nothing is written on chain.
    Null = 0,
    /// A result, possibly of no bytes.
    Value = 1,
    /// A trap of the WASM standard.
    Trap = 2,
    /// An engine limit or an unusable output: the node does not vouch for anything (R8).
    Abstain = 3,
}

impl OutputKind {
    /// The kind with this number.
    pub fn from_code(code: u8) -> Result<Self> {
        Ok(match code {
            0 => Self::Null,
            1 => Self::Value,
            2 => Self::Trap,
            3 => Self::Abstain,
            _ => return Err(DecodeError::Invalid("kind of output")),
        })
    }
    /// Reads it.
    pub fn read(r: &mut Reader<'_>) -> Result<Self> {
        Self::from_code(r.u8("kind of output")?)
    }
}

/// Kind byte of a batch in the word of an outcome.
pub const KIND_BATCH: u8 = 4;

/// The agreement at one configuration and one execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Chain and contract.
    pub deployment: Deployment,
    /// [`crate::terms::config`].
    pub config: Digest,
    /// Execution.
    pub t: u64,
}

impl Subject {
    fn hash(&self, kind: Kind) -> Hasher<sha3::Keccak256> {
        keccak(kind)
            .raw(self.deployment.bytes())
            .raw(self.config.0)
            .u64(self.t)
    }
}

/// What a node computed for one execution: what its commitment covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Computed {
    /// Null, value, trap or abstain.
    pub kind: OutputKind,
    /// Packed ABI result.
    pub result: Vec<u8>,
    /// Root over the detail.
    pub detail_root: Digest,
    /// `state' = H(carry', Q_next)`.
    pub state: Digest,
    /// Digest that the guest folded over what it processed (R4).
    pub trace: Digest,
    /// `H(w[t])`.
    pub window_hash: Digest,
}

impl Computed {
    /// Appends the encoding.
    pub fn write(&self, w: &mut Writer) {
        w.u8(self.kind as u8).bytes(&self.result);
        for d in [self.detail_root, self.state, self.trace, self.window_hash] {
            w.raw(&d.0);
        }
    }
    /// Strict decoder.
    pub fn read(r: &mut Reader<'_>) -> Result<Self> {
        let kind = OutputKind::read(r)?;
        let result = r.bytes(RESULT_BYTES_MAX, "result")?.to_vec();
        if matches!(kind, OutputKind::Null | OutputKind::Trap) && !result.is_empty() {
            return Err(DecodeError::Invalid("result (null and trap have none)"));
        }
        let mut d = || Digest::read(r);
        Ok(Self {
            kind,
            result,
            detail_root: d()?,
            state: d()?,
            trace: d()?,
            window_hash: d()?,
        })
    }
    /// The commitment that hides it behind secret and salt.
    pub fn commitment(&self, s: &Subject, node: &NodeId, blinding: &Blinding) -> Digest {
        let mut w = Writer::new();
        self.write(&mut w);
        s.hash(Kind::Commitment)
            .raw(node.0)
            .raw(w.finish())
            .raw(blinding.secret)
            .raw(blinding.salt)
            .finish()
    }
    /// What an outcome points to; opened in disputes and in proofs.
    pub fn context(&self, seal: &Digest) -> Digest {
        keccak(Kind::Context)
            .raw(self.window_hash.0)
            .raw(self.detail_root.0)
            .raw(self.state.0)
            .raw(self.trace.0)
            .raw(seal.0)
            .finish()
    }
}

/// Secret and salt: what opens a commitment. They travel together and are covered by no signature but through
/// [`Blinding::opening_hash`] in the commit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Blinding {
    /// Derived from the node's seed and the whole domain (R2).
    pub secret: [u8; 32],
    /// Derived likewise, under another label.
    pub salt: [u8; 32],
}

impl core::fmt::Debug for Blinding {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Blinding(..)")
    }
}

impl Blinding {
    /// `H(secret, salt)`, signed with the commit, so that nobody can pin a false secret on a node.
    pub fn opening_hash(&self) -> Digest {
        keccak(Kind::Opening)
            .raw(self.secret)
            .raw(self.salt)
            .finish()
    }
    /// Appends the bytes.
    pub fn write(&self, w: &mut Writer) {
        w.raw(&self.secret).raw(&self.salt);
    }
    /// Reads them.
    pub fn read(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            secret: r.array("secret")?,
            salt: r.array("salt")?,
        })
    }
}

/// A node's signed commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Hides what it computed.
    pub commitment: Digest,
    /// [`opening_hash`].
    pub opening: Digest,
    /// ECDSA over [`Commit::digest`].
    pub signature: Signature,
}

impl Commit {
    /// The commit to what a node computed; `sign` is its ECDSA.
    pub fn make(
        s: &Subject,
        node: &NodeId,
        computed: &Computed,
        blinding: &Blinding,
        sign: impl FnOnce(&Digest) -> Signature,
    ) -> Self {
        let mut commit = Self {
            commitment: computed.commitment(s, node, blinding),
            opening: blinding.opening_hash(),
            signature: Signature([0; 64]),
        };
        commit.signature = sign(&commit.digest(s, node));
        commit
    }
    /// What the node signs.
    pub fn digest(&self, s: &Subject, node: &NodeId) -> Digest {
        s.hash(Kind::Commit)
            .raw(node.0)
            .raw(self.commitment.0)
            .raw(self.opening.0)
            .finish()
    }
    /// Appends the encoding.
    pub fn write(&self, w: &mut Writer) {
        w.raw(&self.commitment.0)
            .raw(&self.opening.0)
            .raw(&self.signature.0);
    }
    /// Reads it.
    pub fn read(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            commitment: Digest::read(r)?,
            opening: Digest::read(r)?,
            signature: Signature::read(r)?,
        })
    }
}

/// The seal over the commit digests in node-index order: no signatures and no nonces in it, so it is the same whoever leads.
pub fn seal(s: &Subject, commits: &[Digest]) -> Digest {
    let n = u16::try_from(commits.len()).expect("bounded by NODES_MAX");
    let mut h = s.hash(Kind::Seal).u16(n);
    for c in commits {
        h = h.raw(c.0);
    }
    h.finish()
}

/// [`seal`] over the commits of these nodes, both in node-index order.
pub fn seal_of(s: &Subject, nodes: &[NodeId], commits: &[Commit]) -> Digest {
    let digests: Vec<_> = commits
        .iter()
        .zip(nodes)
        .map(|(c, n)| c.digest(s, n))
        .collect();
    seal(s, &digests)
}

/// A node's signed reveal: every field that its commitment covers, and the outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reveal {
    /// What it computed.
    pub computed: Computed,
    /// Opens the commitment.
    pub blinding: Blinding,
    /// First t of which the outcome speaks.
    pub from: u64,
    /// Disputed t in `from..t`.
    pub holes: Vec<u64>,
    /// ECDSA over [`Reveal::digest`].
    pub signature: Signature,
}

impl Reveal {
    /// Whether both say the same but for what no signature covers.
    pub fn says_the_same(&self, other: &Self) -> bool {
        (&self.computed, self.from, &self.holes) == (&other.computed, other.from, &other.holes)
    }
    /// The outcome that this reveal stands for.
    pub fn outcome(&self, a: AgreementId, epoch: u32, t: u64, seal: &Digest) -> Outcome {
        Outcome {
            agreement: a,
            epoch,
            from: self.from,
            t,
            kind: self.computed.kind as u8,
            result: self.computed.result.clone(),
            context: self.computed.context(seal),
        }
    }
    /// What the node signs; the same for all nodes that agree.
    pub fn digest(&self, d: &Deployment, outcome: &Outcome) -> Digest {
        outcome.reveal_digest(d, &self.holes)
    }
    /// Appends the encoding.
    pub fn write(&self, w: &mut Writer) {
        self.computed.write(w);
        self.blinding.write(w);
        w.u64(self.from);
        w.list(&self.holes, |w, t| {
            w.u64(*t);
        });
        w.raw(&self.signature.0);
    }
    /// Strict decoder.
    pub fn read(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            computed: Computed::read(r)?,
            blinding: Blinding::read(r)?,
            from: r.u64("from")?,
            holes: r.list(HOLES_MAX, "holes", |r| r.u64("hole"))?,
            signature: Signature::read(r)?,
        })
    }
}

/// A single outcome: what settles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `a`.
    pub agreement: AgreementId,
    /// Resolution epoch.
    pub epoch: u32,
    /// First t of which it speaks.
    pub from: u64,
    /// Execution.
    pub t: u64,
    /// [`OutputKind`] of the result.
    pub kind: u8,
    /// Packed ABI result.
    pub result: Vec<u8>,
    /// [`Computed::context`].
    pub context: Digest,
}

/// `0^11 | kind | epoch | from | t`, one EVM word.
pub fn word(kind: u8, epoch: u32, from: u64, t: u64) -> [u8; 32] {
    let mut out = [0; 32];
    out[11] = kind;
    out[12..16].copy_from_slice(&epoch.to_be_bytes());
    out[16..24].copy_from_slice(&from.to_be_bytes());
    out[24..].copy_from_slice(&t.to_be_bytes());
    out
}

impl Outcome {
    /// What a node signs that reveals this outcome, with the disputed t in its range.
    pub fn reveal_digest(&self, d: &Deployment, holes: &[u64]) -> Digest {
        let mut w = Writer::new();
        w.list(holes, |w, t| {
            w.u64(*t);
        });
        keccak(Kind::Reveal)
            .raw(self.digest(d).0)
            .raw(w.finish())
            .finish()
    }
    /// What the aggregated signature signs.
    pub fn digest(&self, d: &Deployment) -> Digest {
        let domain = keccak(Kind::OutcomeDomain).raw(d.bytes()).finish();
        let mut w = Writer::new();
        w.raw(&domain.0)
            .raw(&self.agreement.0)
            .raw(&word(self.kind, self.epoch, self.from, self.t));
        w.raw(&self.context.0).raw(&self.result);
        Digest(crate::domain::keccak_raw(&w.0))
    }
}

/// Execution numbers are below this, so that they fit into 40 bits on chain.
pub const T_MAX: u64 = (1 << 40) - 1;

/// The epoch of the `reading`-th (1..) second reading of a t whose first reading was in `epoch` (design §3b, Cell): no
/// settlement takes it.
pub fn marked_epoch(epoch: u32, reading: u16) -> u32 {
    u32::from(reading) << 16 | epoch & 0xffff
}
/// Which second reading an epoch is marked as; 0 for the first reading.
pub fn reading_of(epoch: u32) -> u16 {
    (epoch >> 16) as u16
}

/// Kind byte of a hole in its word.
pub const KIND_HOLE: u8 = 5;

/// A hole as the history of an agreement folds it: without signatures, so that every certificate of it gives the same digest
/// (design §3b, One switch).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// `a`.
    pub agreement: AgreementId,
    /// Resolution epoch of its round.
    pub epoch: u32,
    /// First t of which the reveals speak.
    pub from: u64,
    /// Execution.
    pub t: u64,
    /// Whether all n nodes abstained.
    pub abstained: bool,
    /// Over the n commits.
    pub seal: Digest,
    /// The state' of all reveals; zero if they differ in it or one abstained.
    pub state: Digest,
    /// Disputed t in `from..t`.
    pub holes: Vec<u64>,
}

impl Hole {
    /// What n unequal reveals under one seal say of t; they are equal in `from` and `holes`.
    pub fn of(a: AgreementId, epoch: u32, t: u64, seal: Digest, reveals: &[Reveal]) -> Self {
        let first = &reveals[0];
        let abstains = |r: &Reveal| r.computed.kind == OutputKind::Abstain;
        let agreed = reveals
            .iter()
            .all(|r| !abstains(r) && r.computed.state == first.computed.state);
        Self {
            agreement: a,
            epoch,
            from: first.from,
            t,
            abstained: reveals.iter().all(abstains),
            seal,
            state: if agreed {
                first.computed.state
            } else {
                Digest::ZERO
            },
            holes: first.holes.clone(),
        }
    }
    /// What the contract folds into the head.
    pub fn digest(&self, d: &Deployment) -> Digest {
        let kind = if self.abstained {
            OutputKind::Abstain as u8
        } else {
            KIND_HOLE
        };
        let mut w = Writer::new();
        w.list(&self.holes, |w, t| {
            w.u64(*t);
        });
        keccak(Kind::Hole)
            .raw(d.bytes())
            .raw(self.agreement.0)
            .raw(word(kind, self.epoch, self.from, self.t))
            .raw(self.seal.0)
            .raw(self.state.0)
            .raw(w.finish())
            .finish()
    }
}

/// What the history of an agreement folds of a resolution in band; `epoch` is the one that it put in force, `signed` the
/// EIP-712 struct hash that the users signed.
pub fn resolution_fold(
    d: &Deployment,
    a: &AgreementId,
    kind: OutputKind,
    epoch: u32,
    t: u64,
    signed: &Digest,
) -> Digest {
    keccak(Kind::Resolution)
        .raw(d.bytes())
        .raw(a.0)
        .raw(word(kind as u8, epoch, t, t))
        .raw(signed.0)
        .finish()
}

/// The vocabulary of a round: what nodes tell one another about one (a, t, epoch), whatever the protocol. Lists are in
/// node-index order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)]
pub enum Body {
    /// A node's commit.
    Commit {
        /// As signed.
        commit: Commit,
    },
    /// The n commits.
    Seal {
        /// As signed.
        commits: Vec<Commit>,
    },
    /// A node's reveal.
    Reveal {
        /// Under this seal.
        seal: Digest,
        /// As signed.
        reveal: Reveal,
    },
    /// The n commits and reveals. Whoever missed the round can check it alone.
    Certificate {
        /// As signed.
        commits: Vec<Commit>,
        /// As signed.
        reveals: Vec<Reveal>,
    },
}

/// What one t of a batch says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A result.
    Value(Vec<u8>),
    /// Nothing.
    Null,
    /// `f` trapped.
    Trap,
    /// Disputed: no outcome.
    Hole,
}

/// Consecutive outcomes that settle in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// `a`.
    pub agreement: AgreementId,
    /// Resolution epoch.
    pub epoch: u32,
    /// First t.
    pub from: u64,
    /// For each t from `from`: what it says, and its context (zero for a hole).
    pub entries: Vec<(Entry, Digest)>,
}

impl Batch {
    /// Last t.
    pub fn last(&self) -> u64 {
        self.from + self.entries.len() as u64 - 1
    }
    /// The entries as the contract is given them.
    pub fn entries_bytes(&self) -> Vec<u8> {
        let mut w = Writer::new();
        for (e, _) in &self.entries {
            match e {
                Entry::Value(v) if v.len() < 240 => w.u8(v.len() as u8).raw(v),
                Entry::Value(v) => w
                    .u8(240)
                    .u16(u16::try_from(v.len()).expect("RESULT_BYTES_MAX"))
                    .raw(v),
                Entry::Null => w.u8(253),
                Entry::Trap => w.u8(254),
                Entry::Hole => w.u8(255),
            };
        }
        w.finish()
    }
    /// Root over the contexts.
    pub fn contexts_root(&self) -> Digest {
        let leaves: Vec<_> = (self.from..)
            .zip(&self.entries)
            .map(|(t, (_, c))| keccak(Kind::ContextLeaf).u64(t).raw(c.0).finish())
            .collect();
        merkle::root(&leaves)
    }
    /// What the aggregated signature signs.
    pub fn digest(&self, d: &Deployment) -> Digest {
        let domain = keccak(Kind::BatchDomain).raw(d.bytes()).finish();
        let mut w = Writer::new();
        w.raw(&domain.0).raw(&self.agreement.0).raw(&word(
            KIND_BATCH,
            self.epoch,
            self.from,
            self.last(),
        ));
        w.raw(&self.contexts_root().0).raw(&self.entries_bytes());
        Digest(crate::domain::keccak_raw(&w.0))
    }
}

/// A public MuSig2 nonce (BIP-327), 66 bytes.
pub type PublicNonce = [u8; 66];

/// Which outcomes one MuSig2 session signs, and which try it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Session {
    /// `a`.
    pub agreement: AgreementId,
    /// First t.
    pub from: u64,
    /// Last t.
    pub t: u64,
    /// Try, from 0; each has fresh nonces.
    pub attempt: u32,
}

impl Session {
    /// Appends the encoding.
    pub fn write(&self, w: &mut Writer) {
        w.raw(&self.agreement.0)
            .u64(self.from)
            .u64(self.t)
            .u32(self.attempt);
    }
    /// Reads it.
    pub fn read(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            agreement: AgreementId::read(r)?,
            from: r.u64("from")?,
            t: r.u64("t")?,
            attempt: r.u32("attempt")?,
        })
    }
    /// The ordered nonce set that a partial signature names, so that a bad one has an author.
    pub fn nonce_set(&self, nonces: &[PublicNonce]) -> Digest {
        let n = u16::try_from(nonces.len()).expect("bounded by NODES_MAX");
        let mut h = keccak(Kind::NonceSet)
            .raw(self.agreement.0)
            .u64(self.from)
            .u64(self.t)
            .u32(self.attempt)
            .u16(n);
        for nonce in nonces {
            h = h.raw(nonce);
        }
        h.finish()
    }
}

/// What a node signs around its partial signature; `digest` is the outcome or batch digest.
pub fn partial_digest(
    s: &Subject,
    node: &NodeId,
    digest: &Digest,
    nonce_set: &Digest,
    partial: &[u8; 32],
) -> Digest {
    s.hash(Kind::Partial)
        .raw(node.0)
        .raw(digest.0)
        .raw(nonce_set.0)
        .raw(partial)
        .finish()
}
