//! Declarations of users, sensors and nodes, and what each of their keys signs (wire-format §6).

use crate::codec::{DecodeError, Reader, Result, Writer, decode_all};
use crate::domain::{Kind, keccak, keccak_raw};
use crate::frame::{Variable, VariableType, width};
use crate::ids::{Address, Deployment, Digest, NodeId, PublicKey, SensorId, UserId};
use alloc::{string::String, vec::Vec};

/// Longest name or label, bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Most variables of a sensor.
pub const VARIABLES_MAX: usize = 32;
/// Most network addresses of a node.
pub const ADDRESSES_MAX: usize = 8;
/// Longest network address, bytes.
pub const ADDRESS_BYTES_MAX: usize = 256;
/// Longest declaration of a sensor or node, bytes.
pub const DECLARATION_BYTES_MAX: usize = 4_096;
/// Version of a node's declaration. In version 1 the peer key proved nothing.
pub const NODE_DECLARATION_VERSION: u8 = 2;

/// A span that no frame of a sensor crosses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Period {
    None = 0,
    Day = 1,
    Month = 2,
}

impl Period {
    /// Whether both moments (Unix seconds) lie in one period.
    pub fn same(self, a: u64, b: u64) -> bool {
        match self {
            Self::None => true,
            Self::Day => a / crate::time::DAY == b / crate::time::DAY,
            Self::Month => crate::time::month_of(a) == crate::time::month_of(b),
        }
    }
}

/// `d_s`: what a sensor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorDeclaration {
    /// Signing key; its address is the sensor's id.
    pub public_key: PublicKey,
    /// Type `c_s`, such as `bike-lock`.
    pub sensor_type: String,
    /// Name for people, such as the number on the bike.
    pub label: String,
    /// `type_1 x_1, ..., type_h x_h`.
    pub variables: Vec<Variable>,
    /// What its frames never cross.
    pub period: Period,
}

impl SensorDeclaration {
    /// Encodes it.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(crate::VERSION)
            .raw(&self.public_key.0)
            .text(&self.sensor_type)
            .text(&self.label);
        w.list(&self.variables, |w, v| {
            w.text(&v.name).u8(v.ty as u8);
        });
        w.u8(self.period as u8);
        w.finish()
    }
    /// Strict decoder.
    pub fn decode(input: &[u8]) -> Result<Self> {
        let out = decode_all(input, |r| {
            r.version("sensor declaration")?;
            Ok(Self {
                public_key: PublicKey::read(r)?,
                sensor_type: name(r, "sensor type")?,
                label: r.text(NAME_BYTES_MAX, "label")?,
                variables: r.list(VARIABLES_MAX, "variables", |r| {
                    Ok(Variable {
                        name: name(r, "variable name")?,
                        ty: VariableType::from_code(r.u8("variable type")?)?,
                    })
                })?,
                period: match r.u8("period")? {
                    0 => Period::None,
                    1 => Period::Day,
                    2 => Period::Month,
                    _ => return Err(DecodeError::Invalid("period")),
                },
            })
        })?;
        width(&out.variables)?;
        Ok(out)
    }
    /// Keccak of the encoding, as stored and signed.
    pub fn digest(&self) -> Digest {
        Digest(keccak_raw(&self.encode()))
    }
    /// Bytes of values in each message.
    pub fn width(&self) -> u8 {
        width(&self.variables).expect("checked when decoded")
    }
}

/// An intermediate node: three keys and where to find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDeclaration {
    /// Protocol key; its address is the node's id.
    pub public_key: PublicKey,
    /// Account that pays gas.
    pub account: Address,
    /// libp2p peer key (ed25519).
    pub peer_key: [u8; 32],
    /// By the peer key (ed25519) over [`peer_binding_digest`], so that nobody claims the connections of another node.
    pub peer_proof: [u8; 64],
    /// Name for people.
    pub name: String,
    /// libp2p multiaddresses, each as [`check_address`] wants it.
    pub addresses: Vec<String>,
    /// Grows with each update of the declaration.
    pub revision: u32,
}

impl NodeDeclaration {
    /// Encodes it.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(NODE_DECLARATION_VERSION)
            .raw(&self.public_key.0)
            .raw(&self.account.0)
            .raw(&self.peer_key)
            .raw(&self.peer_proof)
            .text(&self.name);
        w.list(&self.addresses, |w, a| {
            w.text(a);
        });
        w.u32(self.revision);
        w.finish()
    }
    /// Strict decoder.
    pub fn decode(input: &[u8]) -> Result<Self> {
        decode_all(input, |r| {
            let version = NODE_DECLARATION_VERSION;
            r.version_in("node declaration", version, version)?;
            Ok(Self {
                public_key: PublicKey::read(r)?,
                account: Address::read(r)?,
                peer_key: r.array("peer key")?,
                peer_proof: r.array("proof of the peer key")?,
                name: name(r, "node name")?,
                addresses: r.list(ADDRESSES_MAX, "addresses", |r| {
                    r.text(ADDRESS_BYTES_MAX, "address")
                })?,
                revision: r.u32("revision")?,
            })
        })
    }
    /// Keccak of the encoding.
    pub fn digest(&self) -> Digest {
        Digest(keccak_raw(&self.encode()))
    }
}

/// What a sensor's own key signs at registration, so that nobody registers somebody else's sensor.
pub fn sensor_registration_digest(
    d: &Deployment,
    owner: &UserId,
    sensor: &SensorId,
    declaration: &Digest,
) -> Digest {
    keccak(Kind::SensorRegistration)
        .raw(d.bytes())
        .raw(owner.0)
        .raw(sensor.0)
        .raw(declaration.0)
        .finish()
}

/// What a node's protocol key signs at registration: it binds account, peer key and addresses.
pub fn node_registration_digest(
    d: &Deployment,
    owner: &UserId,
    node: &NodeId,
    declaration: &Digest,
) -> Digest {
    keccak(Kind::NodeRegistration)
        .raw(d.bytes())
        .raw(owner.0)
        .raw(node.0)
        .raw(declaration.0)
        .finish()
}

/// What a node's peer key (ed25519) signs: that it carries the messages of this node, with this protocol key and account.
pub fn peer_binding_digest(
    d: &Deployment,
    node: &NodeId,
    public_key: &PublicKey,
    account: &Address,
) -> Digest {
    keccak(Kind::PeerBinding)
        .raw(d.bytes())
        .raw(node.0)
        .raw(public_key.0)
        .raw(account.0)
        .finish()
}

/// Whether peers can dial a node at this address: a host and a TCP port, such as `/ip4/203.0.113.7/tcp/7440` or
/// `/dns4/node.example/tcp/7440`. It names no peer: the declaration does.
///
/// # Errors
/// [`DecodeError::Invalid`].
pub fn check_address(text: &str) -> Result<()> {
    if text.len() > ADDRESS_BYTES_MAX {
        return Err(DecodeError::Invalid("address (longer than 256 bytes)"));
    }
    let mut parts = text.split('/');
    let mut next = || parts.next().unwrap_or_default();
    let (start, family, host, transport, port) = (next(), next(), next(), next(), next());
    let host_is_good = match family {
        "ip4" => host.parse::<core::net::Ipv4Addr>().is_ok(),
        "ip6" => host.parse::<core::net::Ipv6Addr>().is_ok(),
        "dns" | "dns4" | "dns6" => {
            let label = |l: &str| {
                (1..=63).contains(&l.len())
                    && l.bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            };
            host.len() <= 253 && host.split('.').all(label)
        }
        _ => false,
    };
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let port_is_good = digits && port.parse::<u16>().is_ok_and(|p| p != 0);
    if !start.is_empty()
        || !host_is_good
        || transport != "tcp"
        || !port_is_good
        || parts.next().is_some()
    {
        return Err(DecodeError::Invalid(
            "address (write it like /ip4/203.0.113.7/tcp/7440 or /dns4/node.example/tcp/7440)",
        ));
    }
    Ok(())
}

/// Whether a name can be shown to people: nothing in it moves a cursor, starts a line of its own, or turns the order of what
/// follows.
pub fn is_printable(name: &str) -> bool {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let breaks = |c| matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
    !name
        .chars()
        .any(|c| c.is_control() || turns(c) || breaks(c))
}

fn name(r: &mut Reader<'_>, what: &'static str) -> Result<String> {
    let out = r.text(NAME_BYTES_MAX, what)?;
    if out.is_empty() {
        Err(DecodeError::Invalid(what))
    } else {
        Ok(out)
    }
}
