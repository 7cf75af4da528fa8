//! Terms as people read and write them.

use crate::hexed;
use diversity_proto::terms::{
    Field, Leader, Protocol, Qos, SensorStart, Terms, TrustedNode, WindowSpec,
};
use diversity_proto::{DecodeError, Digest, NodeId, SensorId, UserId};
use serde::{Deserialize, Serialize};

/// The terms of an agreement in JSON; `proto::terms::Terms` is what is hashed and signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermsJson {
    /// Title for people.
    pub title: String,
    /// `U_a`, ascending.
    #[serde(with = "hexed::list")]
    pub users: Vec<UserId>,
    /// `I_a`, ascending by node.
    pub nodes: Vec<TrustedNodeJson>,
    /// `S_a` with `Q_0`, in the order in which `f` sees them.
    pub sensors: Vec<SensorStartJson>,
    /// `f_a`: SHA-256 of the module.
    #[serde(with = "hexed")]
    pub off_chain_code: Digest,
    /// How windows are cut.
    pub window: WindowJson,
    /// A message more than this many seconds ahead of a node's clock closes nothing yet.
    pub future_tolerance_s: u32,
    /// How long past its end a window waits for a message of each sensor before a record of what all nodes hold ends it,
    /// seconds; count windows: from the close of the window before.
    pub grace_s: u32,
    /// Which protocol a round runs.
    pub protocol: ProtocolJson,
    /// Who leads.
    pub leader: LeaderJson,
    /// How long a reveal waits for the next commit, milliseconds.
    pub flush_ms: u32,
    /// First round timeout, milliseconds.
    pub round_timeout_ms: u32,
    /// Largest round timeout, milliseconds.
    pub round_timeout_max_ms: u32,
    /// `K`: consecutive outcomes that may settle in one transaction.
    pub batch: u16,
    /// Storage policy.
    pub qos: QosJson,
    /// Fields of the result.
    pub result: Vec<FieldJson>,
    /// Fields of each sensor's detail.
    pub detail: Vec<FieldJson>,
    /// How long a node that cannot run `f` within its own limits tries again before it commits to an abstention, milliseconds.
    pub abstain_ms: u32,
}

/// A node and the user that trusts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedNodeJson {
    /// Which node.
    #[serde(with = "hexed")]
    pub node: NodeId,
    /// Which user.
    #[serde(with = "hexed")]
    pub trusted_by: UserId,
}

/// A sensor and where its first window starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SensorStartJson {
    /// Which sensor.
    #[serde(with = "hexed")]
    pub sensor: SensorId,
    /// Its `q_0`.
    #[serde(default)]
    pub q0: u64,
}

/// How windows are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum WindowJson {
    /// UTC calendar months.
    Month {
        /// First second of the first one.
        start: u64,
    },
    /// Spans of equal length.
    Seconds {
        /// First second of the first one.
        start: u64,
        /// Length; 86,400 for UTC days.
        seconds: u64,
    },
    /// Numbers of messages.
    Count {
        /// Messages in a window.
        z: u32,
        /// By how many it slides.
        slide: u32,
    },
}

/// Which protocol a round runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProtocolJson {
    /// Leader based (paper, Fig. 2B).
    Fast,
}

/// Who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LeaderJson {
    /// Always the node with this index, unless it is silent.
    Fixed {
        /// Position in `nodes`.
        index: u8,
    },
    /// Node `t mod n`.
    Rotating,
}

/// Storage policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QosJson {
    /// Window data is dropped once final.
    None,
    /// Every window is kept by the nodes.
    OffChain,
}

/// A named value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldJson {
    /// Name.
    pub name: String,
    /// Static elementary ABI type.
    #[serde(rename = "type")]
    pub ty: String,
}

/// Why JSON terms are no terms.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// A node is trusted by somebody who is no user of the agreement.
    #[error(
        "node {node} is trusted by {user}, who is not among the users: add the user or name another"
    )]
    Trust {
        /// The node.
        node: NodeId,
        /// The stranger.
        user: UserId,
    },
    /// A rule of the terms is broken.
    #[error("the terms break a rule: {0}")]
    Rule(#[from] DecodeError),
}

impl TryFrom<&TermsJson> for Terms {
    type Error = TermsError;

    /// Also applies [`Terms::validate`].
    fn try_from(json: &TermsJson) -> Result<Self, TermsError> {
        let trusted = |n: &TrustedNodeJson| {
            let position = json.users.iter().position(|u| *u == n.trusted_by);
            let trust = position.and_then(|p| u8::try_from(p).ok());
            trust
                .map(|trust| TrustedNode {
                    node: n.node,
                    trust,
                })
                .ok_or(TermsError::Trust {
                    node: n.node,
                    user: n.trusted_by,
                })
        };
        let terms = Self {
            title: json.title.clone(),
            users: json.users.clone(),
            nodes: json.nodes.iter().map(trusted).collect::<Result<_, _>>()?,
            sensors: json
                .sensors
                .iter()
                .map(|s| SensorStart {
                    sensor: s.sensor,
                    q0: s.q0,
                })
                .collect(),
            off_chain_code: json.off_chain_code,
            window: match json.window {
                WindowJson::Month { start } => WindowSpec::Month { start },
                WindowJson::Seconds { start, seconds } => WindowSpec::Seconds { start, seconds },
                WindowJson::Count { z, slide } => WindowSpec::Count { z, slide },
            },
            future_tolerance_s: json.future_tolerance_s,
            grace_s: json.grace_s,
            protocol: match json.protocol {
                ProtocolJson::Fast => Protocol::Fast,
            },
            leader: match json.leader {
                LeaderJson::Fixed { index } => Leader::Fixed(index),
                LeaderJson::Rotating => Leader::Rotating,
            },
            flush_ms: json.flush_ms,
            round_timeout_ms: json.round_timeout_ms,
            round_timeout_max_ms: json.round_timeout_max_ms,
            batch: json.batch,
            qos: match json.qos {
                QosJson::None => Qos::None,
                QosJson::OffChain => Qos::OffChain,
            },
            result: json.result.iter().map(Into::into).collect(),
            detail: json.detail.iter().map(Into::into).collect(),
            abstain_ms: json.abstain_ms,
        };
        // The bounds of the decoder (lengths of texts and lists) count as rules too.
        Ok(Self::decode(&terms.encode())?)
    }
}

impl From<&Terms> for TermsJson {
    fn from(terms: &Terms) -> Self {
        Self {
            title: terms.title.clone(),
            users: terms.users.clone(),
            nodes: terms
                .nodes
                .iter()
                .map(|n| TrustedNodeJson {
                    node: n.node,
                    trusted_by: terms.users[usize::from(n.trust)],
                })
                .collect(),
            sensors: terms
                .sensors
                .iter()
                .map(|s| SensorStartJson {
                    sensor: s.sensor,
                    q0: s.q0,
                })
                .collect(),
            off_chain_code: terms.off_chain_code,
            window: match terms.window {
                WindowSpec::Month { start } => WindowJson::Month { start },
                WindowSpec::Seconds { start, seconds } => WindowJson::Seconds { start, seconds },
                WindowSpec::Count { z, slide } => WindowJson::Count { z, slide },
            },
            future_tolerance_s: terms.future_tolerance_s,
            grace_s: terms.grace_s,
            protocol: match terms.protocol {
                Protocol::Fast => ProtocolJson::Fast,
            },
            leader: match terms.leader {
                Leader::Fixed(index) => LeaderJson::Fixed { index },
                Leader::Rotating => LeaderJson::Rotating,
            },
            flush_ms: terms.flush_ms,
            round_timeout_ms: terms.round_timeout_ms,
            round_timeout_max_ms: terms.round_timeout_max_ms,
            batch: terms.batch,
            qos: match terms.qos {
                Qos::None => QosJson::None,
                Qos::OffChain => QosJson::OffChain,
            },
            result: terms.result.iter().map(Into::into).collect(),
            detail: terms.detail.iter().map(Into::into).collect(),
            abstain_ms: terms.abstain_ms,
        }
    }
}

impl From<&FieldJson> for Field {
    fn from(f: &FieldJson) -> Self {
        Self {
            name: f.name.clone(),
            ty: f.ty.clone(),
        }
    }
}

impl From<&Field> for FieldJson {
    fn from(f: &Field) -> Self {
        Self {
            name: f.name.clone(),
            ty: f.ty.clone(),
        }
    }
}
