//! What is believed of the chain: each check that an event has to pass, and the words for what did not.

use super::DisputeKind;
use crate::evidence::{self, Evidence, Execution};
use diversity_keys::{address_of, peer_verify};
use diversity_proto::codec::DecodeError;
use diversity_proto::entity::{
    DECLARATION_BYTES_MAX, NodeDeclaration, SensorDeclaration, check_address, is_printable,
    peer_binding_digest,
};
use diversity_proto::frame::{Contradiction, Q_MAX};
use diversity_proto::round::{EVIDENCE_BYTES_MAX, T_MAX};
use diversity_proto::terms::Terms;
use diversity_proto::{Address, AgreementId, Deployment, NodeId, PublicKey, SensorId};

/// Longest explanation of a skipped entry, bytes: its words may quote the entry.
pub const WORDS_BYTES_MAX: usize = 300;

/// Why an entry of the chain is skipped. The names are those of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Refusal {
    /// An event, or a kind in it, that this build does not know.
    UnknownEvent = 1,
    /// It does not decode, or contradicts itself.
    Malformed = 2,
    /// Larger than readers take, or a t, q or epoch that cannot be.
    OutOfBounds = 3,
    /// The public key is not that of the registered id.
    ForeignKey = 4,
    /// The peer key has not signed that it is this node's.
    PeerKeyUnproven = 5,
    /// An address at which nobody can be dialled.
    Undialable = 6,
    /// A name with control characters.
    Unprintable = 7,
    /// Evidence that does not show what its record says.
    Evidence = 8,
    /// Another node claimed the peer key first.
    PeerKeyTaken = 9,
    /// A revision of a node's declaration that is not newer than the one that stands.
    RevisionNotNewer = 10,
    /// More in one block than this node reads.
    BlockTooLarge = 11,
    /// What counts at a t was said already, and it is said once.
    SaidAlready = 12,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::UnknownEvent,
        Self::Malformed,
        Self::OutOfBounds,
        Self::ForeignKey,
        Self::PeerKeyUnproven,
        Self::Undialable,
        Self::Unprintable,
        Self::Evidence,
        Self::PeerKeyTaken,
        Self::RevisionNotNewer,
        Self::BlockTooLarge,
        Self::SaidAlready,
    ];

    /// Its name in metrics and lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownEvent => "unknown_event",
            Self::Malformed => "malformed",
            Self::OutOfBounds => "out_of_bounds",
            Self::ForeignKey => "foreign_key",
            Self::PeerKeyUnproven => "peer_key_unproven",
            Self::Undialable => "undialable_address",
            Self::Unprintable => "unprintable_name",
            Self::Evidence => "evidence",
            Self::PeerKeyTaken => "peer_key_taken",
            Self::RevisionNotNewer => "revision_not_newer",
            Self::BlockTooLarge => "block_too_large",
            Self::SaidAlready => "said_already",
        }
    }

    /// The refusal with this number, under which it is stored.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|r| *r as u8 == code)
    }

    /// With its reason in words. What an entry makes of its own words is escaped and cut: it is shown to people.
    pub fn because(self, words: impl ToString) -> Skipped {
        let mut escaped = String::new();
        for c in words.to_string().chars() {
            let shown = String::from(c);
            let shown = if is_printable(&shown) {
                shown
            } else {
                c.escape_default().collect()
            };
            if escaped.len() + shown.len() > WORDS_BYTES_MAX {
                break;
            }
            escaped.push_str(&shown);
        }
        Skipped {
            refusal: self,
            words: escaped,
        }
    }
}

/// An entry of the chain that is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Why.
    pub refusal: Refusal,
    /// Why, in words.
    pub words: String,
}

/// A text without meaning of its own is malformed.
impl From<String> for Skipped {
    fn from(words: String) -> Self {
        Refusal::Malformed.because(words)
    }
}

type Result<T> = core::result::Result<T, Skipped>;

/// Declarations are bounded before they are decoded.
fn declaration<T>(
    what: &str,
    data: &[u8],
    decode: fn(&[u8]) -> core::result::Result<T, DecodeError>,
) -> Result<T> {
    if data.len() > DECLARATION_BYTES_MAX {
        return Err(Refusal::OutOfBounds.because(format!(
            "{what} of {} bytes, more than {DECLARATION_BYTES_MAX}",
            data.len()
        )));
    }
    decode(data).map_err(|e| Refusal::Malformed.because(format!("{what}: {e}")))
}

pub(super) fn printable(what: &str, text: &str) -> Result<()> {
    if is_printable(text) {
        return Ok(());
    }
    Err(Refusal::Unprintable.because(format!("{what} has control characters")))
}

/// Whether everything that is shown of an agreement can be shown.
pub(super) fn shows(terms: &Terms) -> bool {
    let fields = terms.result.iter().chain(&terms.detail);
    is_printable(&terms.title) && fields.into_iter().all(|f| is_printable(&f.name))
}

/// The key is that of the id: otherwise what the key signs is nobody's word, and a sensor would be immune to evidence.
fn own_key(what: &str, key: &PublicKey, id: &Address) -> Result<()> {
    match address_of(&key.0) {
        Ok(found) if found == id.0 => Ok(()),
        Ok(found) => Err(Refusal::ForeignKey.because(format!(
            "{what} {id} declares the key of {}",
            Address(found)
        ))),
        Err(error) => Err(Refusal::ForeignKey.because(format!("{what} {id}: {error}"))),
    }
}

/// The declaration of a sensor.
pub(super) fn sensor(id: &SensorId, data: &[u8]) -> Result<SensorDeclaration> {
    let out = declaration("declaration of a sensor", data, SensorDeclaration::decode)?;
    own_key("sensor", &out.public_key, &id.address())?;
    printable("the type of a sensor", &out.sensor_type)?;
    printable("the label of a sensor", &out.label)?;
    for variable in &out.variables {
        printable("a variable of a sensor", &variable.name)?;
    }
    Ok(out)
}

/// The declaration of a node.
pub(super) fn node(d: &Deployment, id: &NodeId, data: &[u8]) -> Result<NodeDeclaration> {
    let out = declaration("declaration of a node", data, NodeDeclaration::decode)?;
    own_key("node", &out.public_key, &id.address())?;
    printable("the name of a node", &out.name)?;
    for address in &out.addresses {
        check_address(address)
            .map_err(|e| Refusal::Undialable.because(format!("node {id} at {address:?}: {e}")))?;
    }
    let digest = peer_binding_digest(d, id, &out.public_key, &out.account);
    if !peer_verify(&out.peer_key, &digest.0, &out.peer_proof) {
        return Err(Refusal::PeerKeyUnproven.because(format!(
            "node {id} claims a peer key that has not signed so"
        )));
    }
    Ok(out)
}

/// Who writes cells.
pub(super) fn writer(code: u8) -> Result<()> {
    if (1..=4).contains(&code) {
        return Ok(());
    }
    Err(Refusal::UnknownEvent.because(format!("a cell written by writer {code}: upgrade the node")))
}

/// A t, or the end of an agreement.
pub(super) fn execution(t: u64) -> Result<()> {
    if t <= T_MAX {
        return Ok(());
    }
    Err(Refusal::OutOfBounds.because(format!("t = {t}, beyond {T_MAX}")))
}

/// Evidence shows what its record says: otherwise the record would accuse by its own word.
pub(super) fn dispute(
    kind: DisputeKind,
    agreement: Option<AgreementId>,
    accused: Option<Address>,
    epoch: u32,
    at: u64,
    calldata: &[u8],
) -> Result<()> {
    if calldata.len() > EVIDENCE_BYTES_MAX {
        return Err(Refusal::OutOfBounds.because(format!(
            "evidence of {} bytes, more than {EVIDENCE_BYTES_MAX}",
            calldata.len()
        )));
    }
    let limit = match kind {
        DisputeKind::SensorContradiction => Q_MAX,
        _ => T_MAX,
    };
    if at >= limit {
        return Err(Refusal::OutOfBounds.because(format!("a dispute at {at}, beyond {limit}")));
    }
    let found = evidence::decode(calldata).map_err(|e| Refusal::Evidence.because(e))?;
    let of = |of: &Execution| agreement == Some(of.agreement) && epoch == of.epoch && at == of.t;
    let node = |node: &NodeId| accused == Some(node.address());
    let shows = match (&found, kind) {
        (Evidence::Equivocation { of: e, node: n, .. }, DisputeKind::Equivocation) => {
            of(e) && node(n)
        }
        (Evidence::FalseReveal { of: e, node: n, .. }, DisputeKind::FalseReveal) => {
            of(e) && node(n)
        }
        (Evidence::UnequalReveals { of: e, .. }, DisputeKind::UnequalReveals) => {
            of(e) && accused.is_none()
        }
        (Evidence::SensorContradiction { q, first, second }, DisputeKind::SensorContradiction) => {
            agreement.is_none()
                && accused == Some(first.sensor.address())
                && at == *q
                && Contradiction::of(&first.encode(), &second.encode()).is_some()
        }
        _ => false,
    };
    if shows {
        return Ok(());
    }
    Err(Refusal::Evidence.because("the evidence does not show what the record says"))
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
