//! Agreements, their results and their windows.

use super::kinds::{self, Life, SaidBy, WindowStatus};
use crate::hexed::{self, Bytes, WalletSignature};
use crate::terms_json::TermsJson;
use diversity_proto::round::OutputKind;
use diversity_proto::window::WindowEnd;
use diversity_proto::{AgreementId, Digest, NodeId, PublicKey, SensorId, Signature, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// `POST /v1/agreements/accept`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptRequest {
    /// `a`, which the node computes anew from the terms and its peers' registered keys.
    #[serde(with = "hexed")]
    pub agreement: AgreementId,
    /// The terms, with the list of sensors.
    pub terms: TermsJson,
    /// Of each owner of a sensor (by its first registration) who is no user of the terms, over EIP-712
    /// `Grant(address owner,Terms terms)`; any order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<UserSignature>,
}

/// A node's acceptance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAcceptance {
    /// Which node.
    #[serde(with = "hexed")]
    pub node: NodeId,
    /// By its protocol key over `proto::terms::acceptance_digest`.
    pub signature: WalletSignature,
}

/// A user's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSignature {
    /// Which user.
    #[serde(with = "hexed")]
    pub user: UserId,
    /// By its account.
    pub signature: WalletSignature,
}

/// `POST /v1/agreements`: everything that the contract asks for. Nodes of the agreement learn of it from the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreementCreation {
    /// `a`.
    #[serde(with = "hexed")]
    pub agreement: AgreementId,
    /// The terms.
    pub terms: TermsJson,
    /// Of every user over EIP-712 `Agreement(bytes32 agreement,Terms terms)`; any order.
    pub signatures: Vec<UserSignature>,
    /// Of every node; any order. The contract is shown one of each user.
    pub acceptances: Vec<NodeAcceptance>,
}

/// `POST /v1/agreements/{a}/close`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseRequest {
    /// Executions from this t on never settle.
    pub end: u64,
    /// Of every user over EIP-712 `Close(bytes32 agreement,uint64 end)`; any order.
    pub signatures: Vec<UserSignature>,
}

/// An agreement in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreementSummary {
    /// `a`.
    #[serde(with = "hexed")]
    pub agreement: AgreementId,
    /// Title for people.
    pub title: String,
    /// `open`, `closing` or `closed`.
    pub status: Life,
    /// Whether this node has accepted it; else it does nothing for it.
    pub accepted: bool,
    /// Where it stands.
    pub progress: Progress,
}

/// Where an agreement stands on this node. Each is the first t of which it is not so yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The windows of all sensors are whole.
    pub next_window: u64,
    /// `f` ran.
    pub next_execution: u64,
    /// n equal reveals, or a hole.
    pub next_certificate: u64,
    /// Settled on chain, or a hole that the chain holds.
    pub next_settlement: u64,
    /// t with a dispute and no result.
    pub holes: Vec<u64>,
    /// What the first t that is not settled waits for, in words; empty when nothing is due.
    pub waiting_for: Vec<String>,
}

/// One agreement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreementView {
    /// `a`.
    #[serde(with = "hexed")]
    pub agreement: AgreementId,
    /// The terms.
    pub terms: TermsJson,
    /// EIP-712 struct hash of the terms.
    #[serde(with = "hexed")]
    pub terms_digest: Digest,
    /// Protocol keys in node-index order.
    #[serde(with = "hexed::list")]
    pub keys: Vec<PublicKey>,
    /// `open`, `closing` or `closed`.
    pub status: Life,
    /// Whether this node has accepted it; else it does nothing for it.
    pub accepted: bool,
    /// Resolution epoch in force.
    pub epoch: u32,
    /// Transaction that created it.
    #[serde(with = "hexed")]
    pub tx: Digest,
    /// Where it stands.
    pub progress: Progress,
    /// Parts of windows that a record of what all nodes hold ended, and no message, ascending by t; of the newest
    /// [`CLOSINGS_T_MAX`] executions of this node.
    pub closings: Vec<Closing>,
}

/// How many executions back [`AgreementView::closings`] reaches.
pub const CLOSINGS_T_MAX: usize = 1_000;

/// A sensor's part of a window that was ended by a record (wire-format §7, Held).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// Execution.
    pub t: u64,
    /// Whose part.
    #[serde(with = "hexed")]
    pub sensor: SensorId,
    /// First q that is not in it.
    pub q: u64,
}

/// `GET /v1/agreements/{a}/results`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultsPage {
    /// `a`.
    #[serde(with = "hexed")]
    pub agreement: AgreementId,
    /// Settled executions, ascending by t. Executions that gave nothing (null) are listed too once an outcome that speaks of
    /// them has settled, with kind `null` and without fields.
    pub results: Vec<SettledResult>,
    /// `from` of the next page; `null` at the end.
    #[serde(default)]
    pub next: Option<u64>,
}

/// One settled execution, with the fields that the terms name between the fixed ones. Terms that name a field like a fixed one
/// are refused by a draft; see [`crate::abi::RESERVED`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettledResult {
    /// Execution.
    pub t: u64,
    /// T0 in Unix seconds; 0 for count windows.
    pub from: u64,
    /// T1 in Unix seconds: the first second after the window; 0 for count windows.
    pub to: u64,
    /// `null`, `value` or `trap`.
    #[serde(with = "kinds::output")]
    pub kind: OutputKind,
    /// The fields of the result: numbers where they fit 64 bits, else decimal strings; bytes as hexadecimal.
    #[serde(flatten)]
    pub result: Map<String, Value>,
    /// The detail of every sensor, agreement order; empty if `f` gives none, or if this node computed something else than what
    /// the users say counts. Checked against the root that has settled.
    pub sensors: Vec<SensorDetail>,
    /// `H(w[t])`.
    #[serde(with = "hexed")]
    pub window_hash: Digest,
    /// Transaction that settled it.
    #[serde(with = "hexed")]
    pub tx: Digest,
    /// Gas of the whole transaction.
    pub gas_used: u64,
    /// How many outcomes share the transaction.
    pub outcomes: u64,
    /// Who said so: `nodes`, or where they did not agree `second-reading`, `users`, `referee` or `arbiter`.
    #[serde(default)]
    pub said_by: SaidBy,
}

/// One sensor's part of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SensorDetail {
    /// Which sensor.
    #[serde(with = "hexed")]
    pub sensor: SensorId,
    /// Its label from its registration.
    pub label: String,
    /// The fields of the detail.
    #[serde(flatten)]
    pub detail: Map<String, Value>,
}

/// `GET /v1/agreements/{a}/windows/{t}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowView {
    /// Execution.
    pub t: u64,
    /// T0 in Unix seconds; 0 for count windows.
    pub from: u64,
    /// T1 in Unix seconds; 0 for count windows.
    pub to: u64,
    /// `open` (executed, no certificate yet), `certified`, `settled` or `hole`.
    pub status: WindowStatus,
    /// What counts at t by what the chain says, whoever said it; `null` until it stands there.
    #[serde(default)]
    pub counts: Option<CountsView>,
    /// What this node computed.
    pub computed: ComputedJson,
    /// What `f` is given at t + 1; with `q_next` it gives `state'`.
    pub carry: Bytes,
    /// Where the window t + 1 of each sensor starts, agreement order.
    pub q_next: Vec<u64>,
    /// The fields of the result; empty unless it is a value.
    pub result: Map<String, Value>,
    /// Range and detail of each sensor, agreement order.
    pub sensors: Vec<WindowRange>,
    /// Seal over the commits; `null` before.
    #[serde(with = "hexed::option", default)]
    pub seal: Option<Digest>,
    /// Context of the outcome that this node computed, under the seal (wire-format §7); `null` before.
    #[serde(with = "hexed::option", default)]
    pub context: Option<Digest>,
    /// The signed commits, node-index order; empty before the certificate.
    pub commits: Vec<CommitJson>,
    /// The signed reveals, node-index order; empty before the certificate.
    pub reveals: Vec<RevealJson>,
}

/// What counts at one t.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountsView {
    /// `nodes`, or where they did not agree `second-reading`, `users`, `referee` or `arbiter`.
    pub said_by: SaidBy,
    /// `null`, `value` or `trap`.
    #[serde(with = "kinds::output")]
    pub kind: OutputKind,
    /// The fields of the result; empty unless it is a value.
    pub result: Map<String, Value>,
    /// Transaction that says so.
    #[serde(with = "hexed")]
    pub tx: Digest,
    /// Gas of the whole transaction.
    pub gas_used: u64,
}

/// What was computed for one execution (wire-format §7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComputedJson {
    /// `null`, `value`, `trap` or `abstain`.
    #[serde(with = "kinds::output")]
    pub kind: OutputKind,
    /// Packed result.
    pub result: Bytes,
    /// Root over the detail.
    #[serde(with = "hexed")]
    pub detail_root: Digest,
    /// `state'`.
    #[serde(with = "hexed")]
    pub state: Digest,
    /// Trace of `f`.
    #[serde(with = "hexed")]
    pub trace: Digest,
    /// `H(w[t])`.
    #[serde(with = "hexed")]
    pub window_hash: Digest,
}

/// One sensor's part of a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowRange {
    /// Which sensor.
    #[serde(with = "hexed")]
    pub sensor: SensorId,
    /// Label from its registration.
    pub label: String,
    /// First q.
    pub first_q: u64,
    /// Numbers that it takes: its messages, and those that the sensor says are lost.
    pub count: u32,
    /// `message` or `closing-record`.
    #[serde(with = "kinds::end")]
    pub end: WindowEnd,
    /// The fields of its detail; empty if `f` gave none.
    pub detail: Map<String, Value>,
}

/// A signed commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitJson {
    /// By whom.
    #[serde(with = "hexed")]
    pub node: NodeId,
    /// Hides what it computed.
    #[serde(with = "hexed")]
    pub commitment: Digest,
    /// `H(secret, salt)`.
    #[serde(with = "hexed")]
    pub opening: Digest,
    /// Over the commit digest.
    #[serde(with = "hexed")]
    pub signature: Signature,
}

/// A signed reveal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevealJson {
    /// By whom.
    #[serde(with = "hexed")]
    pub node: NodeId,
    /// What it computed.
    pub computed: ComputedJson,
    /// Opens the commitment.
    #[serde(with = "hexed")]
    pub secret: Digest,
    /// Opens the commitment.
    #[serde(with = "hexed")]
    pub salt: Digest,
    /// First t of which the outcome speaks.
    pub from: u64,
    /// Disputed t before it.
    pub holes: Vec<u64>,
    /// Over the reveal digest.
    #[serde(with = "hexed")]
    pub signature: Signature,
}
