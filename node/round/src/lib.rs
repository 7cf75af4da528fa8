//! The seam between a node and the round of one (a, t) (design §3, §5a).
//!
//! A round is given what its node computed and what others sent, and says what to send, when to reveal, and what status t
//! has. It has no clock and no keys: the pacemaker above it says who leads and when to try again, and whoever drives it
//! checks the signatures that [`Round::unverified`] names. A [`Verified`] body can be made in no other way, so nothing
//! unchecked gets in. The vocabulary of bodies is [`Body`]; the fast protocol ([`fast`]) is the one that is built.
//!
//! Rules cited are those of `docs/protocol.md`.
#![no_std]

extern crate alloc;

mod fast;
pub mod sabotage;

pub use diversity_proto::round::Body;
pub use fast::Round;

use alloc::sync::Arc;
use alloc::vec::Vec;
use diversity_proto::round::{Commit, Computed, OutputKind, Reveal, Subject};
use diversity_proto::{AgreementId, Digest, NodeId, PublicKey, Signature};

/// Who takes part, in node-index order, and which of them this node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committee {
    /// Ids.
    pub nodes: Vec<NodeId>,
    /// Protocol keys, as the agreement was created with them.
    pub keys: Vec<PublicKey>,
    /// Index of this node.
    pub me: usize,
}

/// Which round: everything that its signatures are made over.
#[derive(Clone, Debug)]
pub struct Place {
    /// Deployment, config (agreement and epoch) and t.
    pub subject: Subject,
    /// `a`.
    pub agreement: AgreementId,
    /// Resolution epoch, marked for a second reading.
    pub epoch: u32,
    /// Who takes part.
    pub committee: Arc<Committee>,
}

impl Place {
    /// The seal over n commits in node-index order (wire-format §7).
    pub fn seal(&self, commits: &[Commit]) -> Digest {
        diversity_proto::round::seal_of(&self.subject, &self.committee.nodes, commits)
    }
    /// What node `i` signs as its commit.
    pub fn commit_digest(&self, i: usize, c: &Commit) -> Digest {
        c.digest(&self.subject, &self.committee.nodes[i])
    }
    /// What a node signs as its reveal under this seal.
    pub fn reveal_digest(&self, r: &Reveal, seal: &Digest) -> Digest {
        let outcome = r.outcome(self.agreement, self.epoch, self.subject.t, seal);
        r.digest(&self.subject.deployment, &outcome)
    }
    fn n(&self) -> usize {
        self.committee.nodes.len()
    }
}

/// A signature to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignatureCheck {
    /// Whose.
    pub key: PublicKey,
    /// Over what.
    pub digest: Digest,
    /// The signature.
    pub signature: Signature,
}

/// A body whose new signatures are still to be checked.
#[derive(Clone, Debug)]
pub struct Unverified {
    from: usize,
    body: Body,
    checks: Vec<SignatureCheck>,
}

impl Unverified {
    /// The signatures that nobody here has checked yet; none for a repeat of what is known.
    pub fn checks(&self) -> &[SignatureCheck] {
        &self.checks
    }
    /// Who sent it (proven by the transport, not by a signature).
    pub fn from(&self) -> usize {
        self.from
    }
    /// The body, if each check came out good. `good` is in the order of [`Unverified::checks`].
    pub fn verified(self, good: &[bool]) -> Option<Verified> {
        let all = good.len() == self.checks.len() && good.iter().all(|g| *g);
        all.then_some(Verified {
            from: self.from,
            body: self.body,
        })
    }
}

/// A body all of whose signatures are good. Only [`Unverified::verified`] makes one.
#[derive(Clone, Debug)]
pub struct Verified {
    from: usize,
    body: Body,
}

impl Verified {
    /// Who sent it.
    pub fn from(&self) -> usize {
        self.from
    }
    /// Whether it is a seal, which only who leads sends.
    pub fn is_seal(&self) -> bool {
        matches!(self.body, Body::Seal { .. })
    }
}

/// What a round is told.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Input {
    /// This node's own commit is durable. Once; before it, bodies of others are only collected.
    OwnCommit(Commit),
    /// This node's own reveal under the seal is durable. After [`Output::MakeReveal`].
    OwnReveal(Reveal),
    /// What another node sent.
    Body(Verified),
    /// This node leads now; send it what it may lack.
    Lead(usize),
}

/// What a round wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)]
pub enum Output {
    /// Send the body to this node, or to all others.
    Send {
        /// Node index.
        to: Option<usize>,
        /// What.
        body: Body,
    },
    /// Make and persist the own reveal under this seal as soon as the status of t-1 is known. Asked for once.
    MakeReveal {
        /// The one seal that this node goes by.
        seal: Digest,
    },
    /// The status of t is fixed.
    Decided(Decision),
    /// Somebody misbehaved.
    Fault(Fault),
}

/// The status of t, fixed by its n reveals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// All equal: one outcome.
    Outcome,
    /// Unequal reveals, or nobody vouches for an output: a hole.
    Hole {
        /// Whether state' is equal in all reveals and none abstained, so that t+1 goes on (design §3b, Going on).
        state_agreed: bool,
        /// Whether every node abstained (R8): then nothing is in dispute.
        all_abstained: bool,
        /// Whether a second reading may cure it: some node abstained, or the window hashes differ.
        curable: bool,
    },
}

/// A peer's misbehaviour is a value. It follows from signed bytes alone (R12); only `Equivocation` and `FalseOpening` are
/// evidence for the contract (R5).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)]
pub enum Fault {
    /// Two commits of one node for one (a, t, config).
    Equivocation {
        /// Who.
        node: usize,
        /// The one that came first.
        first: Commit,
        /// The other one.
        second: Commit,
    },
    /// A reveal whose secret and salt are the committed ones and whose fields do not open the commitment.
    FalseOpening {
        /// Who.
        node: usize,
        /// Its commit.
        commit: Commit,
        /// Its reveal.
        reveal: Reveal,
        /// Under this seal.
        seal: Digest,
    },
    /// What `by` sent carries a secret that is not the committed one. No signature covers a secret, so only the sender can be
    /// named, and what it sent counts as silence.
    Altered {
        /// Who sent it.
        by: usize,
    },
    /// A signed reveal that speaks from another t, or of other holes, than the statuses below t say: treated like silence.
    WrongRange {
        /// Who.
        node: usize,
    },
    /// The others hold something that this node signed and its store does not know, and it is another statement than the
    /// store's: the store is older than what was signed (R2).
    StaleStore,
}

/// The status that n reveals fix (P-CERT-1). `reveals` holds at least two.
pub fn decide<'a>(reveals: impl Iterator<Item = &'a Reveal> + Clone) -> Decision {
    let key = |r: &'a Reveal| -> (&'a Computed, u64, &'a [u64]) { (&r.computed, r.from, &r.holes) };
    let same = |of: &dyn Fn(&'a Reveal) -> Digest| {
        let mut all = reveals.clone().map(of);
        let first = all.next();
        all.all(|x| Some(x) == first)
    };
    let mut all = reveals.clone().map(key);
    let first = all.next().expect("n is at least two");
    if all.all(|k| k == first) && first.0.kind != OutputKind::Abstain {
        return Decision::Outcome;
    }
    let abstained = reveals
        .clone()
        .filter(|r| r.computed.kind == OutputKind::Abstain)
        .count();
    Decision::Hole {
        state_agreed: abstained == 0 && same(&|r| r.computed.state),
        all_abstained: abstained == reveals.clone().count(),
        curable: abstained > 0 || !same(&|r| r.computed.window_hash),
    }
}
