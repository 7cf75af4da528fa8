//! Users, sensors, nodes and code.

use crate::hexed::{self, Bytes, WalletSignature};
use diversity_proto::{Address, Digest, NodeId, PublicKey, SensorId, UserId};
use serde::{Deserialize, Serialize};

/// `POST /v1/users`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRegistration {
    /// The user's account.
    #[serde(with = "hexed")]
    pub user: UserId,
    /// Name for people, 1..=64 bytes.
    pub name: String,
    /// By the user over EIP-712 `User(address user,string name)`.
    pub signature: WalletSignature,
}

/// A registered user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserView {
    /// Account.
    #[serde(with = "hexed")]
    pub user: UserId,
    /// Name.
    pub name: String,
    /// Transaction that registered it.
    #[serde(with = "hexed")]
    pub tx: Digest,
    /// How many entities stand registered of the user, itself included, as the contract counts them: the owner's next
    /// signature of a sensor or node covers it. Only where one user is asked for; `null` while the chain cannot be asked.
    #[serde(default)]
    pub count: Option<u64>,
}

/// `POST /v1/sensors`: 1 to 64 sensors of one owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SensorRegistrations {
    /// Who registers them.
    #[serde(with = "hexed")]
    pub owner: UserId,
    /// How many entities stand registered of the owner: [`UserView::count`].
    pub count: u64,
    /// By the owner: for one sensor over EIP-712 `Sensor(address sensor,address owner,bytes32 declaration,uint64 count)`, for
    /// several over `Sensors(Sensor[] sensors)` in this order, in which `count` grows by one with each.
    pub owner_signature: WalletSignature,
    /// The sensors.
    pub sensors: Vec<SensorEntry>,
}

/// One sensor of a [`SensorRegistrations`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SensorEntry {
    /// `proto::entity::SensorDeclaration`, encoded.
    pub declaration: Bytes,
    /// By the sensor's own key over `proto::entity::sensor_registration_digest`.
    pub signature: WalletSignature,
}

/// Answer to `POST /v1/sensors`, in the order of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SensorsRegistered {
    /// Ids.
    #[serde(with = "hexed::list")]
    pub sensors: Vec<SensorId>,
    /// Transaction of this registration; `null` if all of them stood registered before.
    #[serde(with = "hexed::option", default)]
    pub tx: Option<Digest>,
}

/// A registered sensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SensorView {
    /// Id: the address of its key.
    #[serde(with = "hexed")]
    pub sensor: SensorId,
    /// Who registered it.
    #[serde(with = "hexed")]
    pub owner: UserId,
    /// Its key.
    #[serde(with = "hexed")]
    pub public_key: PublicKey,
    /// Type `c_s`.
    pub sensor_type: String,
    /// Name for people.
    pub label: String,
    /// Typed variables in order.
    pub variables: Vec<VariableJson>,
    /// `none`, `day` or `month`: what its frames never cross.
    pub period: String,
    /// The declaration as encoded and signed.
    pub declaration: Bytes,
    /// First q that this node does not hold durably.
    pub next_q: u64,
    /// Boot epoch of the message before it.
    pub epoch: u32,
    /// Digest of the frame that ends at `next_q`; `null` before the first.
    #[serde(with = "hexed::option", default)]
    pub last_frame: Option<Digest>,
    /// From this q on the sensor is void; `null` if it is not.
    #[serde(default)]
    pub void_from: Option<u64>,
}

/// A declared variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariableJson {
    /// Name.
    pub name: String,
    /// `bool`, `u8`..`u64`, `i8`..`i64` or `bytes32`.
    #[serde(rename = "type")]
    pub ty: String,
}

/// `POST /v1/nodes/binding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingRequest {
    /// The user that will register the node.
    #[serde(with = "hexed")]
    pub owner: UserId,
}

/// What a node gives its owner to register it with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeBinding {
    /// Id.
    #[serde(with = "hexed")]
    pub node: NodeId,
    /// The owner that it consents to.
    #[serde(with = "hexed")]
    pub owner: UserId,
    /// `proto::entity::NodeDeclaration`, encoded.
    pub declaration: Bytes,
    /// By the protocol key over `proto::entity::node_registration_digest`.
    pub signature: WalletSignature,
}

/// `POST /v1/nodes`: a [`NodeBinding`] with the owner's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRegistration {
    /// From the node.
    #[serde(flatten)]
    pub binding: NodeBinding,
    /// How many entities stand registered of the owner: [`UserView::count`].
    pub count: u64,
    /// By the owner over EIP-712 `Node(address node,address owner,bytes32 declaration,uint64 count)`.
    pub owner_signature: WalletSignature,
}

/// A registered node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Id.
    #[serde(with = "hexed")]
    pub node: NodeId,
    /// Who registered it.
    #[serde(with = "hexed")]
    pub owner: UserId,
    /// Protocol key.
    #[serde(with = "hexed")]
    pub public_key: PublicKey,
    /// Account that pays gas.
    #[serde(with = "hexed")]
    pub account: Address,
    /// libp2p peer key, ed25519, 32 bytes.
    pub peer_key: Bytes,
    /// Name.
    pub name: String,
    /// libp2p multiaddresses.
    pub addresses: Vec<String>,
    /// Revision of its declaration.
    pub revision: u32,
    /// Transaction that registered this revision.
    #[serde(with = "hexed")]
    pub tx: Digest,
}

/// Answer to `PUT /v1/code/{sha256}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeView {
    /// SHA-256: the module's identity on chain.
    #[serde(with = "hexed")]
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
}
