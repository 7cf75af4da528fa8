//! Reads the evidence of a recorded dispute: the calldata of the call that brought it (R5: whoever has the chain can
//! check it again).

use crate::abi::IMainContract as C;
use alloy::primitives::B256;
use alloy::sol_types::SolInterface;
use diversity_proto::frame::Frame;
use diversity_proto::round::{Blinding, Commit, Computed, OutputKind, Reveal, Subject, seal_of};
use diversity_proto::terms::config;
use diversity_proto::{AgreementId, Deployment, Digest, NodeId, Signature};

/// Evidence as the chain holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Two commits of one node.
    Equivocation {
        /// Which execution.
        of: Execution,
        /// The node.
        node: NodeId,
        /// One.
        first: Commit,
        /// The other.
        second: Commit,
    },
    /// A reveal that does not open the commit.
    FalseReveal {
        /// Which execution.
        of: Execution,
        /// The node.
        node: NodeId,
        /// What it committed to.
        commit: Commit,
        /// Under which seal it revealed.
        seal: Digest,
        /// What it revealed.
        reveal: Reveal,
    },
    /// Two frames that differ at `q`.
    SensorContradiction {
        /// Number of the message.
        q: u64,
        /// One.
        first: Frame,
        /// The other.
        second: Frame,
    },
    /// A hole certificate: the commits and the reveals of all nodes, which open them, and which differ or all abstain.
    UnequalReveals {
        /// Which execution.
        of: Execution,
        /// Each node with its commit and its reveal, in node-index order.
        said: Vec<(NodeId, Commit, Reveal)>,
    },
}

impl Evidence {
    /// The seal over the commits of a hole certificate.
    pub fn seal(&self, d: &Deployment) -> Option<Digest> {
        let Self::UnequalReveals { of, said } = self else {
            return None;
        };
        let subject = Subject {
            deployment: *d,
            config: config(d, &of.agreement, of.epoch),
            t: of.t,
        };
        let nodes: Vec<_> = said.iter().map(|s| s.0).collect();
        let commits: Vec<_> = said.iter().map(|s| s.1).collect();
        Some(seal_of(&subject, &nodes, &commits))
    }
}

/// One execution of an agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execution {
    /// `a`.
    pub agreement: AgreementId,
    /// Resolution epoch.
    pub epoch: u32,
    /// Execution.
    pub t: u64,
}

/// Why evidence cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the evidence on the chain cannot be read ({reason}): upgrade this program, or read the transaction by hand"
)]
pub struct EvidenceError {
    reason: String,
}

fn wrong(reason: impl ToString) -> EvidenceError {
    EvidenceError {
        reason: reason.to_string(),
    }
}

/// Decodes the evidence of [`crate::events::ChainEvent::DisputeRecorded`].
///
/// # Errors
/// [`EvidenceError`] if it is the calldata of no report.
pub fn decode(calldata: &[u8]) -> Result<Evidence, EvidenceError> {
    use C::IMainContractCalls as Calls;
    let call = Calls::abi_decode(calldata).map_err(wrong)?;
    let of = |agreement: B256, epoch, t| Execution {
        agreement: AgreementId(agreement.0),
        epoch,
        t,
    };
    Ok(match call {
        Calls::reportEquivocation(c) => Evidence::Equivocation {
            of: of(c.agreement, c.epoch, c.t),
            node: node(&c.nodes, c.node)?,
            first: commit(&c.first),
            second: commit(&c.second),
        },
        Calls::reportFalseReveal(c) => Evidence::FalseReveal {
            of: of(c.agreement, c.epoch, c.t),
            node: node(&c.nodes, c.reveal.node)?,
            commit: commit(&c.commit),
            seal: Digest(c.seal.0),
            reveal: Reveal {
                computed: computed(&c.reveal.computed)?,
                blinding: Blinding {
                    secret: c.secret.0,
                    salt: c.salt.0,
                },
                from: c.reveal.from,
                holes: c.reveal.holes.clone(),
                signature: signature(&c.reveal.signature),
            },
        },
        Calls::reportSensorContradiction(c) => Evidence::SensorContradiction {
            q: c.q,
            first: Frame::decode(&c.first).map_err(wrong)?,
            second: Frame::decode(&c.second).map_err(wrong)?,
        },
        Calls::settleHole(c) => {
            if c.commits.len() != c.nodes.len() || c.reveals.len() != c.nodes.len() {
                return Err(wrong("not a commit and a reveal of every node"));
            }
            let said = c.nodes.iter().zip(&c.commits).zip(&c.reveals);
            let said = said.map(|((node, commit_), r)| {
                let revealed = Reveal {
                    computed: computed(&r.computed)?,
                    blinding: Blinding {
                        secret: r.secret.0,
                        salt: r.salt.0,
                    },
                    from: c.from,
                    holes: c.holes.clone(),
                    signature: signature(&r.signature),
                };
                Ok((NodeId(node.into_array()), commit(commit_), revealed))
            });
            Evidence::UnequalReveals {
                of: of(c.agreement, c.epoch, c.t),
                said: said.collect::<Result<_, _>>()?,
            }
        }
        _ => return Err(wrong("it is no report")),
    })
}

fn node(
    nodes: &[alloy::primitives::Address],
    index: alloy::primitives::U256,
) -> Result<NodeId, EvidenceError> {
    nodes
        .get(index.saturating_to::<usize>())
        .map(|n| NodeId(n.into_array()))
        .ok_or_else(|| wrong("a node that is not in the list"))
}

fn signature(s: &C::Signature) -> Signature {
    let mut out = [0; 64];
    out[..32].copy_from_slice(&s.r.0);
    out[32..].copy_from_slice(&s.vs.0);
    out[32] &= 0x7f;
    Signature(out)
}

fn commit(c: &C::Commit) -> Commit {
    Commit {
        commitment: Digest(c.commitment.0),
        opening: Digest(c.openingHash.0),
        signature: signature(&c.signature),
    }
}

fn computed(c: &C::Computed) -> Result<Computed, EvidenceError> {
    Ok(Computed {
        kind: OutputKind::from_code(c.kind).map_err(wrong)?,
        result: c.result.to_vec(),
        detail_root: Digest(c.detailRoot.0),
        state: Digest(c.state.0),
        trace: Digest(c.trace.0),
        window_hash: Digest(c.windowHash.0),
    })
}
