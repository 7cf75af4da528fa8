//! Disputes, evidence, and events.

use super::kinds::{self, DisputeKind, ResolvedKind};
use super::{CommitJson, DeploymentJson, RevealJson, UserSignature};
use crate::hexed::{self, Bytes};
use crate::terms_json::TermsJson;
use diversity_proto::round::OutputKind;
use diversity_proto::{Address, AgreementId, Digest, NodeId, PublicKey, SensorId};
use serde::{Deserialize, Serialize};

/// A dispute that the chain holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisputeView {
    /// Id.
    #[serde(with = "hexed")]
    pub dispute: Digest,
    /// `equivocation`, `false-reveal`, `sensor-contradiction` or `unequal-reveals`.
    pub kind: DisputeKind,
    /// `a`; `null` for a sensor's contradiction.
    #[serde(with = "hexed::option", default)]
    pub agreement: Option<AgreementId>,
    /// Execution; `null` for a sensor's contradiction.
    #[serde(default)]
    pub t: Option<u64>,
    /// q of a sensor's contradiction; `null` otherwise.
    #[serde(default)]
    pub q: Option<u64>,
    /// Resolution epoch, or boot epoch of a sensor.
    pub epoch: u32,
    /// The node or sensor to blame; `null` when nobody is to blame by this alone.
    #[serde(with = "hexed::option", default)]
    pub accused: Option<Address>,
    /// Name of the accused node, label of the accused sensor; empty if nobody.
    #[serde(default)]
    pub accused_name: String,
    /// What happened, what it means for money and later executions, and what can be done, in words.
    pub explanation: String,
    /// Whether the chain says what counts at t: by the users, or by a second reading.
    pub resolved: bool,
    /// Transaction that brought the evidence.
    #[serde(with = "hexed")]
    pub tx: Digest,
    /// Its block.
    pub block: u64,
}

/// `GET /v1/disputes/{d}/evidence`: with the module, enough to re-run the execution anywhere. Whoever reads it recomputes every digest
/// in it and trusts nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceBundle {
    /// Version of this form, 1.
    pub version: u8,
    /// What the chain says.
    pub dispute: DisputeView,
    /// Chain and contract.
    pub deployment: DeploymentJson,
    /// The calldata that brought the evidence.
    pub calldata: Bytes,
    /// Terms; `null` for a sensor's contradiction.
    #[serde(default)]
    pub terms: Option<TermsJson>,
    /// Protocol keys in node-index order.
    #[serde(with = "hexed::list", default)]
    pub keys: Vec<PublicKey>,
    /// Input of `f` (carry and window) as this node holds it; `null` if it has not got it.
    #[serde(default)]
    pub input: Option<Bytes>,
    /// Where each sensor's next window starts, agreement order: with carry', it gives `state'`.
    #[serde(default)]
    pub q_next: Vec<u64>,
    /// Seal of the round; `null` for a sensor's contradiction.
    #[serde(with = "hexed::option", default)]
    pub seal: Option<Digest>,
    /// The signed commits that this node holds, node-index order.
    #[serde(default)]
    pub commits: Vec<CommitJson>,
    /// The signed reveals that this node holds, node-index order.
    #[serde(default)]
    pub reveals: Vec<RevealJson>,
    /// The sensors' signed frames that make up the window, or the two that contradict one another, as encoded.
    #[serde(default)]
    pub frames: Vec<Bytes>,
}

/// `POST /v1/agreements/{a}/resolve`: what all users say counts at t. It settles t itself where t is the next one on chain,
/// and fills the cell of t where t is behind; the same signatures serve both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolveRequest {
    /// Execution.
    pub t: u64,
    /// `null`, `value` or `trap`.
    pub kind: ResolvedKind,
    /// Packed result.
    pub result: Bytes,
    /// What `f` is given at t + 1.
    pub carry: Bytes,
    /// Where the window t + 1 of each sensor starts, agreement order.
    pub q_next: Vec<u64>,
    /// Of every user over EIP-712 `Resolution(bytes32 agreement,uint64 t,uint8 kind,bytes result,bytes32 state)`, with
    /// `state'` of carry and `q_next` (wire-format §5); any order.
    pub signatures: Vec<UserSignature>,
}

impl ResolveRequest {
    /// `state'`, from which t + 1 starts.
    pub fn state(&self) -> Digest {
        diversity_proto::window::state(&self.carry.0, &self.q_next)
    }
}

/// `POST /v1/agreements/{a}/reread`: this node may read the hole at t once more. It does once the operators of all nodes have
/// asked, each of its own node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RereadRequest {
    /// Execution, behind the door: settled, as a hole.
    pub t: u64,
}

/// A resolution that stands on chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolutionView {
    /// `a`.
    #[serde(with = "hexed")]
    pub agreement: AgreementId,
    /// Execution.
    pub t: u64,
    /// Whether it settled t itself; otherwise it filled the cell of t.
    pub in_band: bool,
    /// Transaction.
    #[serde(with = "hexed")]
    pub tx: Digest,
}

/// One server-sent event: `event:` is the tag, `data:` this JSON, `id:` grows while the process lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Window t is whole.
    WindowClosed {
        /// `a`.
        #[serde(with = "hexed")]
        agreement: AgreementId,
        /// Execution.
        t: u64,
        /// Messages in it.
        messages: u64,
    },
    /// `f` ran on window t.
    Executed {
        /// `a`.
        #[serde(with = "hexed")]
        agreement: AgreementId,
        /// Execution.
        t: u64,
    },
    /// All nodes revealed the same.
    Certified {
        /// `a`.
        #[serde(with = "hexed")]
        agreement: AgreementId,
        /// Execution.
        t: u64,
        /// `null`, `value` or `trap`.
        #[serde(with = "kinds::output")]
        kind: OutputKind,
    },
    /// `from..=t` stand on chain.
    Settled {
        /// `a`.
        #[serde(with = "hexed")]
        agreement: AgreementId,
        /// First t.
        from: u64,
        /// Last t.
        t: u64,
    },
    /// t has no result.
    Hole {
        /// `a`.
        #[serde(with = "hexed")]
        agreement: AgreementId,
        /// Execution.
        t: u64,
        /// Why, in words.
        reason: String,
    },
    /// The users, or a second reading of the nodes, said what counts at t.
    Resolved {
        /// `a`.
        #[serde(with = "hexed")]
        agreement: AgreementId,
        /// Execution.
        t: u64,
    },
    /// Past the grace this node says which sensors' parts of window t no message ends.
    Held {
        /// `a`.
        #[serde(with = "hexed")]
        agreement: AgreementId,
        /// Execution.
        t: u64,
        /// How many sensors.
        open: usize,
    },
    /// The chain holds a new dispute.
    Dispute {
        /// Which.
        dispute: DisputeView,
    },
    /// A sensor is void from q on.
    SensorVoid {
        /// Which.
        #[serde(with = "hexed")]
        sensor: SensorId,
        /// From where.
        from_q: u64,
    },
    /// Another leader took over.
    TakeOver {
        /// `a`.
        #[serde(with = "hexed")]
        agreement: AgreementId,
        /// Execution.
        t: u64,
        /// Who leads now.
        #[serde(with = "hexed")]
        leader: NodeId,
    },
    /// This node signs nothing more for the agreement.
    Halted {
        /// `a`.
        #[serde(with = "hexed")]
        agreement: AgreementId,
        /// Why, in words.
        reason: String,
    },
    /// The receiver was too slow and has missed some events: read the state anew.
    Missed {
        /// How many.
        count: u64,
    },
}
