//! The HTTP API of a node: every route, and the JSON that it takes and gives.
//!
//! - A request is authorised by `Authorization: Bearer TOKEN`; a token has a [`Scope`]. `/healthz`, `/readyz`, `/metrics` and
//!   `/openapi.json` need none.
//! - JSON names follow the paper's terms. Byte strings are hexadecimal ([`crate::hexed`]), times Unix seconds.
//! - An error is an RFC 9457 problem document ([`Problem`], `application/problem+json`) that says what to do.
//! - Registering something that stands registered already with the same content is a success, so that every `POST` here
//!   may be repeated; with other content it is a 409.

mod agreements;
mod chain;
mod disputes;
mod kinds;
mod messages;
mod problem;
mod registration;
mod routes;

pub use agreements::*;
pub use chain::SkippedView;
pub use disputes::*;
pub use kinds::{DisputeKind, Life, ResolvedKind, SaidBy, WindowStatus, end_name, output_name};
pub use messages::*;
pub use problem::{MEDIA_TYPE as PROBLEM_MEDIA_TYPE, Problem, codes};
pub use registration::*;
pub use routes::{ROUTES, Route, Scope};

use crate::hexed;
use diversity_proto::{Address, Deployment, NodeId, PublicKey, UserId};
use serde::{Deserialize, Serialize};

/// Largest body of a request, bytes: what a batch of frames may take on the wire, and any draft of an agreement.
pub const REQUEST_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Largest WASM module, bytes.
pub const CODE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Most sensors in one `POST /v1/sensors`, and in one transaction.
pub const SENSORS_AT_ONCE_MAX: usize = 64;
/// Most items on one page of a list.
pub const PAGE_MAX: usize = 1_000;
/// Most sensors in one `GET /v1/messages/acknowledged`.
pub const ACKNOWLEDGED_SENSORS_MAX: usize = 256;

/// Chain and contract, in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentJson {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Address of `MainContract`.
    #[serde(with = "hexed")]
    pub contract: Address,
}

impl From<DeploymentJson> for Deployment {
    fn from(d: DeploymentJson) -> Self {
        Self {
            chain_id: d.chain_id,
            contract: d.contract,
        }
    }
}

impl From<Deployment> for DeploymentJson {
    fn from(d: Deployment) -> Self {
        Self {
            chain_id: d.chain_id,
            contract: d.contract,
        }
    }
}

/// `GET /v1/info`: who this node is and how it fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Version of the program.
    pub version: String,
    /// What everything is signed for.
    pub deployment: DeploymentJson,
    /// Address of `Cells`, where what counts at a hole is kept.
    #[serde(with = "hexed")]
    pub cells: Address,
    /// The node's keys and addresses.
    pub node: NodeIdentity,
    /// How it sees the chain.
    pub chain: ChainStatus,
    /// The other nodes that it knows.
    pub peers: Vec<Peer>,
    /// Where each agreement of this node stands.
    pub agreements: Vec<AgreementSummary>,
}

/// The three keys of a node and where to find it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeIdentity {
    /// Id: the address of the protocol key.
    #[serde(with = "hexed")]
    pub node: NodeId,
    /// Protocol key.
    #[serde(with = "hexed")]
    pub public_key: PublicKey,
    /// Account that pays gas.
    #[serde(with = "hexed")]
    pub account: Address,
    /// libp2p peer key, ed25519, 32 bytes.
    pub peer_key: hexed::Bytes,
    /// libp2p peer id, as people write it.
    pub peer_id: String,
    /// Name for people.
    pub name: String,
    /// libp2p multiaddresses.
    pub addresses: Vec<String>,
    /// Who registered it; `null` before its registration.
    #[serde(with = "hexed::option", default)]
    pub owner: Option<UserId>,
}

/// How a node sees the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainStatus {
    /// Whether the last request to the endpoint succeeded.
    pub reachable: bool,
    /// Latest block that the endpoint knows.
    pub block: u64,
    /// Blocks up to this one are taken in.
    pub processed_block: u64,
    /// Wei on the account that pays gas, decimal.
    pub balance_wei: String,
    /// Settlements and disputes that wait in the durable outbox.
    pub outbox: u64,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Id.
    #[serde(with = "hexed")]
    pub node: NodeId,
    /// Name from its registration.
    pub name: String,
    /// Whether a connection stands.
    pub connected: bool,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// Items in a stable order.
    pub items: Vec<T>,
    /// `cursor` of the next page; `null` on the last one.
    #[serde(default)]
    pub next: Option<String>,
}
