//! The terms of an agreement and everything derived from them (wire-format §6).

pub use crate::conditions::TERMS_VERSION;

use crate::codec::{DecodeError, Result, Writer};
use crate::domain::{Kind, keccak, keccak_raw};
use crate::ids::{Address, AgreementId, Deployment, Digest, NodeId, SensorId, UserId};
use crate::round::OutputKind;
use crate::{merkle, time};
use alloc::{string::String, vec::Vec};

/// Most users of an agreement.
pub const USERS_MAX: usize = 32;
/// Most nodes of an agreement.
pub const NODES_MAX: usize = 100;
/// Most sensors of an agreement.
pub const SENSORS_MAX: usize = 10_000;
/// Most fields of a result or of a detail.
pub const FIELDS_MAX: usize = 16;
/// Most bytes of encoded terms.
pub const TERMS_BYTES_MAX: usize = 512 * 1024;
/// Most consecutive outcomes in one settlement.
pub const BATCH_MAX: u16 = 256;
/// Most executions that a batch on chain covers: more than [`BATCH_MAX`], so that terms may grow before contracts do.
pub const BATCH_RANGE_MAX: usize = 65_536;

/// How a sensor's trace is cut into windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum WindowSpec {
    /// UTC calendar months; `start` is the first second of the first one.
    Month { start: u64 },
    /// Spans of `seconds` (86,400 for UTC days) from `start`.
    Seconds { start: u64, seconds: u64 },
    /// `z` messages of each sensor, sliding by `slide`.
    Count { z: u32, slide: u32 },
}

impl WindowSpec {
    /// `[T0, T1)` of execution `t` in Unix seconds; `(0, 0)` for count windows.
    pub fn span(&self, t: u64) -> (u64, u64) {
        match *self {
            Self::Month { start } => (
                time::month_start_after(start, t),
                time::month_start_after(start, t + 1),
            ),
            Self::Seconds { start, seconds } => {
                let at = |t: u64| start.saturating_add(t.saturating_mul(seconds));
                (at(t), at(t.saturating_add(1)))
            }
            Self::Count { .. } => (0, 0),
        }
    }
}

/// Who leads a round of the fast protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leader {
    /// Always the node with this index, unless it is silent.
    Fixed(u8),
    /// Node `t mod n`.
    Rotating,
}

/// What is kept of window data (paper §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Qos {
    /// Dropped once final and no later window needs it; kept when disputed.
    None = 0,
    /// Every window is kept by the nodes.
    OffChain = 1,
}

/// A named value of a result or of a detail, in packed ABI encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name as shown by CLI, API and dashboard.
    pub name: String,
    /// Static elementary ABI type: `bool`, `uint8`..`uint256`, `int8`..`int256`, `bytes1`..`bytes32`, `address`.
    pub ty: String,
}

/// Bytes of a static elementary ABI type in packed encoding; `None` for any other type.
pub fn abi_width(ty: &str) -> Option<usize> {
    let bits = |s: &str| {
        s.parse::<usize>()
            .ok()
            .filter(|b| *b % 8 == 0 && (8..=256).contains(b))
            .map(|b| b / 8)
    };
    match ty {
        "bool" => Some(1),
        "address" => Some(20),
        _ => ty
            .strip_prefix("uint")
            .or_else(|| ty.strip_prefix("int"))
            .and_then(bits)
            .or_else(|| {
                ty.strip_prefix("bytes")?
                    .parse()
                    .ok()
                    .filter(|n| (1..=32).contains(n))
            }),
    }
}

/// A sensor of an agreement and where its first window starts (`Q_0`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SensorStart {
    /// Which sensor.
    pub sensor: SensorId,
    /// Its `q_0`.
    pub q0: u64,
}

/// A node of an agreement and the user that trusts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustedNode {
    /// Which node.
    pub node: NodeId,
    /// Index into [`Terms::users`].
    pub trust: u8,
}

/// The terms: `(U_a, S_a, Q_0, f_a, I_a, r_a)` of the paper (§3) and what the protocol needs beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Title for people.
    pub title: String,
    /// `U_a`, strictly ascending, two or more.
    pub users: Vec<UserId>,
    /// `I_a`, strictly ascending by node, two or more; the position is the node's index in a round.
    pub nodes: Vec<TrustedNode>,
    /// `S_a` with `Q_0`, in the order in which `f` sees them.
    pub sensors: Vec<SensorStart>,
    /// `f_a`: SHA-256 of the WASM module.
    pub off_chain_code: Digest,
    /// How windows are cut.
    pub window: WindowSpec,
    /// A message more than this many seconds ahead of a node's clock closes nothing yet.
    pub future_tolerance_s: u32,
    /// How long past its end a window waits for a message of each sensor before what the nodes hold ends it, seconds (design
    /// §3b, Held). Count windows: from the close of the window before.
    pub grace_s: u32,
    /// Which protocol a round runs.
    pub protocol: Protocol,
    /// Who leads.
    pub leader: Leader,
    /// How long a reveal waits for the next commit to travel with it, milliseconds.
    pub flush_ms: u32,
    /// First round timeout, milliseconds; doubles with each take-over.
    pub round_timeout_ms: u32,
    /// Largest round timeout, milliseconds.
    pub round_timeout_max_ms: u32,
    /// `K`: consecutive outcomes that may settle in one transaction.
    pub batch: u16,
    /// Storage policy.
    pub qos: Qos,
    /// Fields of the result.
    pub result: Vec<Field>,
    /// Fields of each sensor's detail.
    pub detail: Vec<Field>,
    /// How long a node that cannot run `f` on a window within its own limits tries again before it commits to an abstention,
    /// milliseconds from the first try (R8).
    pub abstain_ms: u32,
}

/// Which protocol a round runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Protocol {
    /// Leader based (paper, Fig. 2B).
    Fast = 0,
}

impl Terms {
    /// What every party may rely on; the error names the term that is wrong.
    pub fn validate(&self) -> Result<()> {
        let bad = |what| Err(DecodeError::Invalid(what));
        if self.users.len() < 2 || !self.users.is_sorted_by(|a, b| a < b) {
            return bad("users (two or more, strictly ascending)");
        }
        if self.nodes.len() < 2 || !self.nodes.is_sorted_by(|a, b| a.node < b.node) {
            return bad("nodes (two or more, strictly ascending)");
        }
        if (0..self.users.len()).any(|u| !self.nodes.iter().any(|n| usize::from(n.trust) == u))
            || self
                .nodes
                .iter()
                .any(|n| usize::from(n.trust) >= self.users.len())
        {
            return bad(
                "trust (each user trusts at least one node, each node is trusted by a user)",
            );
        }
        let mut sensors: Vec<_> = self.sensors.iter().map(|s| s.sensor).collect();
        sensors.sort_unstable();
        if sensors.is_empty() || !sensors.is_sorted_by(|a, b| a < b) {
            return bad("sensors (one or more, none twice)");
        }
        if self.sensors.iter().any(|s| s.q0 >= crate::frame::Q_MAX) {
            return bad("q_0 (below 2^62)");
        }
        match self.window {
            WindowSpec::Month { start }
                if start >= crate::frame::TIME_MAX
                    || time::month_start_after(start, 0) != start =>
            {
                return bad("window start (the first second of a UTC month)");
            }
            WindowSpec::Seconds { start, seconds }
                if start >= crate::frame::TIME_MAX || !(1..=366 * time::DAY).contains(&seconds) =>
            {
                return bad("window seconds (1 s to 366 days)");
            }
            WindowSpec::Count { z, slide }
                if z == 0 || slide == 0 || z > 1_000_000 || slide > 1_000_000 =>
            {
                return bad("window count (z and slide from 1 to 1,000,000)");
            }
            _ => {}
        }
        if matches!(self.leader, Leader::Fixed(i) if usize::from(i) >= self.nodes.len()) {
            return bad("leader (the index of a node)");
        }
        if self.flush_ms > 60_000
            || !(10..=3_600_000).contains(&self.round_timeout_ms)
            || !(self.round_timeout_ms..=86_400_000).contains(&self.round_timeout_max_ms)
        {
            return bad(
                "times (flush at most 60 s, round timeout 10 ms to 1 h, its maximum not below it and at most 1 day)",
            );
        }
        if self.grace_s == 0 || u64::from(self.grace_s) > 366 * time::DAY {
            return bad("grace_s (1 second to 366 days)");
        }
        if self.future_tolerance_s > 86_400 {
            return bad("future_tolerance_s (at most a day)");
        }
        if self.abstain_ms > 86_400_000 {
            return bad("abstain_ms (at most a day)");
        }
        if self.batch == 0 || self.batch > BATCH_MAX {
            return bad("batch (1 to 256 outcomes)");
        }
        for f in self.result.iter().chain(&self.detail) {
            if f.name.is_empty() || abi_width(&f.ty).is_none() {
                return bad("fields (a name and a static elementary ABI type each)");
            }
        }
        Ok(())
    }

    /// Ties the number of sensors and [`Terms::sensors_tree`] to the terms.
    pub fn sensors_root(&self) -> Digest {
        let n = u32::try_from(self.sensors.len()).expect("bounded by SENSORS_MAX");
        keccak(Kind::Sensors)
            .u32(n)
            .raw(self.sensors_tree().0)
            .finish()
    }
    /// Merkle root over `(index, sensor, q_0)`.
    pub fn sensors_tree(&self) -> Digest {
        let leaves: Vec<_> = (0u32..)
            .zip(&self.sensors)
            .map(|(i, s)| {
                keccak(Kind::SensorLeaf)
                    .u32(i)
                    .raw(s.sensor.0)
                    .u64(s.q0)
                    .finish()
            })
            .collect();
        merkle::root(&leaves)
    }
    /// Digest of the rest of the terms.
    pub fn conditions_digest(&self) -> Digest {
        keccak(Kind::Conditions).raw(self.conditions()).finish()
    }
    /// EIP-712 `hashStruct(Terms)`.
    pub fn digest(&self) -> Digest {
        self.header().digest()
    }
    /// What the contract opens in a dispute.
    pub fn header(&self) -> TermsHeader {
        TermsHeader {
            users: words(self.users.iter().map(|u| &u.0[..])),
            nodes: words(self.nodes.iter().map(|n| &n.node.0[..])),
            trust: words(self.nodes.iter().map(|n| core::slice::from_ref(&n.trust))),
            sensors_root: self.sensors_root(),
            off_chain_code: self.off_chain_code,
            conditions: self.conditions_digest(),
        }
    }
    /// Index of a node in rounds.
    pub fn node_index(&self, node: &NodeId) -> Option<usize> {
        self.nodes.binary_search_by(|n| n.node.cmp(node)).ok()
    }
}

/// Digests of the arrays and the remaining words of the EIP-712 `Terms` struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermsHeader {
    /// EIP-712 hash of `users`.
    pub users: Digest,
    /// EIP-712 hash of `nodes`.
    pub nodes: Digest,
    /// EIP-712 hash of `trust`.
    pub trust: Digest,
    /// Root over the sensors.
    pub sensors_root: Digest,
    /// SHA-256 of the module.
    pub off_chain_code: Digest,
    /// Digest of the rest.
    pub conditions: Digest,
}

/// EIP-712 type of the terms.
pub const TERMS_TYPE: &str = "Terms(address[] users,address[] nodes,uint8[] trust,bytes32 sensorsRoot,bytes32 offChainCode,bytes32 conditions)";

impl TermsHeader {
    /// EIP-712 `hashStruct(Terms)`.
    pub fn digest(&self) -> Digest {
        let mut w = Writer::new();
        w.raw(&keccak_raw(TERMS_TYPE.as_bytes()));
        for d in [
            self.users,
            self.nodes,
            self.trust,
            self.sensors_root,
            self.off_chain_code,
            self.conditions,
        ] {
            w.raw(&d.0);
        }
        Digest(keccak_raw(&w.0))
    }
}

fn words<'a>(items: impl Iterator<Item = &'a [u8]>) -> Digest {
    let mut out = Vec::new();
    for item in items {
        out.extend(core::iter::repeat_n(0, 32 - item.len()));
        out.extend_from_slice(item);
    }
    Digest(keccak_raw(&out))
}

/// EIP-712 domain separator of a deployment.
pub fn eip712_domain(d: &Deployment) -> Digest {
    let mut w = Writer::new();
    w.raw(&keccak_raw(
        b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)",
    ));
    w.raw(&keccak_raw(b"DIVERSITY")).raw(&keccak_raw(b"1"));
    w.raw(&[0; 24])
        .u64(d.chain_id)
        .raw(&[0; 12])
        .raw(&d.contract.0);
    Digest(keccak_raw(&w.0))
}

/// EIP-712 signing hash of a struct hash.
pub fn eip712_digest(d: &Deployment, struct_hash: &[u8; 32]) -> Digest {
    let mut w = Writer::new();
    w.raw(&[0x19, 0x01])
        .raw(&eip712_domain(d).0)
        .raw(struct_hash);
    Digest(keccak_raw(&w.0))
}

/// What each user signs: EIP-712 `Agreement(bytes32 agreement,Terms terms)`.
pub fn agreement_digest(d: &Deployment, a: &AgreementId, terms: &Digest) -> Digest {
    let mut w = Writer::new();
    let ty = alloc::format!("Agreement(bytes32 agreement,Terms terms){TERMS_TYPE}");
    w.raw(&keccak_raw(ty.as_bytes())).raw(&a.0).raw(&terms.0);
    eip712_digest(d, &keccak_raw(&w.0))
}

/// What the owner of sensors who is no user of an agreement signs, so that they may be in it: EIP-712
/// `Grant(address owner,Terms terms)`. It holds for all sensors of that owner that the terms name.
pub fn grant_digest(d: &Deployment, owner: &UserId, terms: &Digest) -> Digest {
    let mut w = Writer::new();
    let ty = alloc::format!("Grant(address owner,Terms terms){TERMS_TYPE}");
    w.raw(&keccak_raw(ty.as_bytes()))
        .raw(&[0; 12])
        .raw(&owner.0)
        .raw(&terms.0);
    eip712_digest(d, &keccak_raw(&w.0))
}

/// What a user signs to register itself: EIP-712 `User(address user,string name)`.
pub fn user_digest(d: &Deployment, user: &UserId, name: &str) -> Digest {
    let mut w = Writer::new();
    w.raw(&keccak_raw(b"User(address user,string name)"))
        .raw(&[0; 12])
        .raw(&user.0)
        .raw(&keccak_raw(name.as_bytes()));
    eip712_digest(d, &keccak_raw(&w.0))
}

const SENSOR_TYPE: &str = "Sensor(address sensor,address owner,bytes32 declaration,uint64 count)";
const NODE_TYPE: &str = "Node(address node,address owner,bytes32 declaration,uint64 count)";

/// What the owner of a sensor signs: EIP-712 `Sensor(address sensor,address owner,bytes32 declaration,uint64 count)`, where
/// `count` is how many entities stand registered of the owner (itself included), so that what is signed registers once.
pub fn sensor_owner_digest(
    d: &Deployment,
    sensor: &SensorId,
    owner: &UserId,
    declaration: &Digest,
    count: u64,
) -> Digest {
    let one = entity_struct(SENSOR_TYPE, sensor.address(), owner, declaration, count);
    eip712_digest(d, &one)
}

/// What the owner of a node signs: EIP-712 `Node(address node,address owner,bytes32 declaration,uint64 count)`; `count` as for a
/// sensor.
pub fn node_owner_digest(
    d: &Deployment,
    node: &NodeId,
    owner: &UserId,
    declaration: &Digest,
    count: u64,
) -> Digest {
    let one = entity_struct(NODE_TYPE, node.address(), owner, declaration, count);
    eip712_digest(d, &one)
}

/// What the owner of several sensors signs once for all of them: EIP-712 `Sensors(Sensor[] sensors)`, each with the digest of
/// its declaration, in the order of the registration. `count` is that of the first; it grows by one with each.
pub fn sensors_owner_digest(
    d: &Deployment,
    owner: &UserId,
    sensors: &[(SensorId, Digest)],
    count: u64,
) -> Digest {
    let mut list = Vec::with_capacity(32 * sensors.len());
    for (i, (sensor, declaration)) in (0..).zip(sensors) {
        let count = count.wrapping_add(i);
        let one = entity_struct(SENSOR_TYPE, sensor.address(), owner, declaration, count);
        list.extend_from_slice(&one);
    }
    let ty = alloc::format!("Sensors(Sensor[] sensors){SENSOR_TYPE}");
    let mut w = Writer::new();
    w.raw(&keccak_raw(ty.as_bytes())).raw(&keccak_raw(&list));
    eip712_digest(d, &keccak_raw(&w.0))
}

/// What each user signs to end an agreement: EIP-712 `Close(bytes32 agreement,uint64 end)`; executions from `end` on never settle.
pub fn close_digest(d: &Deployment, a: &AgreementId, end: u64) -> Digest {
    let mut w = Writer::new();
    w.raw(&keccak_raw(b"Close(bytes32 agreement,uint64 end)"))
        .raw(&a.0)
        .raw(&[0; 24])
        .u64(end);
    eip712_digest(d, &keccak_raw(&w.0))
}

/// EIP-712 `hashStruct` of what the users say together of one execution:
/// `Resolution(bytes32 agreement,uint64 t,uint8 kind,bytes result,bytes32 state)`. It serves in band and as a cell (design
/// §3b): the position of the agreement decides which.
pub fn resolution_struct(
    a: &AgreementId,
    t: u64,
    kind: OutputKind,
    result: &[u8],
    state: &Digest,
) -> Digest {
    const TYPE: &[u8] =
        b"Resolution(bytes32 agreement,uint64 t,uint8 kind,bytes result,bytes32 state)";
    let mut w = Writer::new();
    w.raw(&keccak_raw(TYPE)).raw(&a.0).raw(&[0; 24]).u64(t);
    w.raw(&[0; 31]).u8(kind as u8);
    w.raw(&keccak_raw(result)).raw(&state.0);
    Digest(keccak_raw(&w.0))
}

/// What each user signs to resolve an execution; `signed` is [`resolution_struct`].
pub fn resolution_digest(d: &Deployment, signed: &Digest) -> Digest {
    eip712_digest(d, &signed.0)
}

fn entity_struct(
    ty: &str,
    id: Address,
    owner: &UserId,
    declaration: &Digest,
    count: u64,
) -> [u8; 32] {
    let mut w = Writer::new();
    w.raw(&keccak_raw(ty.as_bytes()))
        .raw(&[0; 12])
        .raw(&id.0)
        .raw(&[0; 12])
        .raw(&owner.0)
        .raw(&declaration.0)
        .raw(&[0; 24])
        .u64(count);
    keccak_raw(&w.0)
}

/// What a node signs to accept an agreement after it has checked `a`, the terms and the module.
pub fn acceptance_digest(d: &Deployment, a: &AgreementId, terms: &Digest, node: &NodeId) -> Digest {
    keccak(Kind::NodeAcceptance)
        .raw(d.bytes())
        .raw(a.0)
        .raw(terms.0)
        .raw(node.0)
        .finish()
}

/// The scalar that ties the aggregate key to the terms, before reduction mod n.
pub fn tweak(d: &Deployment, aggregate_x: &[u8; 32], terms: &Digest) -> Digest {
    keccak(Kind::Tweak)
        .raw(aggregate_x)
        .raw(d.bytes())
        .raw(terms.0)
        .finish()
}

/// Configuration digest: what a contradiction must agree on (R1, R5).
pub fn config(d: &Deployment, a: &AgreementId, epoch: u32) -> Digest {
    keccak(Kind::Config)
        .raw(d.bytes())
        .raw(a.0)
        .u32(epoch)
        .finish()
}
