//! A draft of an agreement: terms, `a`, and the signatures that come together on the way to the chain.

use crate::abi;
use crate::api::{AcceptRequest, AgreementCreation, DeploymentJson, NodeAcceptance, UserSignature};
use crate::sign::{Signer, put};
use crate::terms_json::{TermsError, TermsJson};
use diversity_keys::musig::{self, AgreementKey, MusigError};
use diversity_proto::terms::{Terms, acceptance_digest, agreement_digest, grant_digest};
use diversity_proto::{Address, AgreementId, Deployment, Digest, NodeId, PublicKey, UserId};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Largest draft file, bytes.
pub const DRAFT_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Version of the draft file. Version 1 had terms of another MainContract.
pub const DRAFT_VERSION: u8 = 2;

/// A draft as it is passed from user to user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// [`DRAFT_VERSION`].
    pub version: u8,
    /// For which chain and contract.
    pub deployment: DeploymentJson,
    /// `a`: whoever reads the draft computes it anew.
    #[serde(with = "crate::hexed")]
    pub agreement: AgreementId,
    /// The terms.
    pub terms: TermsJson,
    /// The nodes' protocol keys, in node-index order.
    #[serde(with = "crate::hexed::list")]
    pub keys: Vec<PublicKey>,
    /// Users who signed.
    #[serde(default)]
    pub signatures: Vec<UserSignature>,
    /// Nodes that accepted.
    #[serde(default)]
    pub acceptances: Vec<NodeAcceptance>,
    /// Owners of its sensors who are no users of it, as far as whoever drafted it has seen: each must grant it. Every node looks for
    /// itself who they are.
    #[serde(
        with = "crate::hexed::list",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub owners: Vec<UserId>,
    /// Grants of such owners.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<UserSignature>,
}

/// What a draft still lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Users who have not signed.
    pub signatures: Vec<UserId>,
    /// Owners of sensors who have not granted.
    pub grants: Vec<UserId>,
    /// Nodes that have not accepted.
    pub acceptances: Vec<NodeId>,
}

#[derive(Deserialize)]
struct Versioned {
    version: u8,
}

/// Why a draft is refused.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// Reading or writing failed.
    #[error("cannot {action} the draft {}: {source}", path.display())]
    File {
        /// "read" or "write".
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not the JSON of a draft.
    #[error("this is not a draft of an agreement: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// Another version.
    #[error(
        "the draft has version {found}, and this program knows {DRAFT_VERSION}: upgrade the older side"
    )]
    Version {
        /// What the file says.
        found: u8,
    },
    /// Another chain or contract than the signer's.
    #[error(
        "the draft is for another chain or contract than the one that you sign for: check the network"
    )]
    Deployment,
    /// The terms.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// A field has a reserved name, or the name of another field.
    #[error(
        "the terms cannot name a field {name:?}: the name is reserved or taken, choose another"
    )]
    FieldName {
        /// The name.
        name: String,
    },
    /// A key is missing, or is not the key of its node.
    #[error(
        "the draft has not exactly the key of each node in order; node {index} does not match: draft it anew from the registered nodes"
    )]
    Key {
        /// Node index.
        index: usize,
    },
    /// The keys.
    #[error(transparent)]
    Musig(#[from] MusigError),
    /// `a` is not that of its nodes and terms.
    #[error(
        "the draft's a ({found}) is not the key of its nodes under these terms ({expected}): somebody put in another key or changed the terms; do not sign it"
    )]
    WrongId {
        /// In the draft.
        found: AgreementId,
        /// Computed.
        expected: AgreementId,
    },
    /// The signer owns no sensor that needs its grant.
    #[error(
        "{0} owns no sensor of this draft that needs a grant: users of the agreement have said so by signing it"
    )]
    NotAnOwner(UserId),
    /// The signer is no user of the agreement.
    #[error("{0} is no user of this agreement, so it cannot sign it")]
    NotAUser(UserId),
    /// Somebody accepts who is no node of the agreement.
    #[error("{0} is no node of this agreement, so its acceptance does not count")]
    NotANode(NodeId),
    /// A signature in the draft is not by whom it says.
    #[error("the signature of {0} in the draft is not over these terms: it must sign again")]
    BadSignature(Address),
    /// Something is missing.
    #[error("the draft is not complete: {0}")]
    Incomplete(String),
}

/// A draft whose `a`, keys, terms and signatures are right, as far as they are there.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The terms.
    pub terms: Terms,
    /// EIP-712 struct hash of the terms.
    pub terms_digest: Digest,
    /// The key of the agreement.
    pub key: AgreementKey,
}

/// The key of an agreement, after checking that each public key is the key of its node.
///
/// # Errors
/// [`DraftError::Key`], [`DraftError::Musig`].
pub fn agreement_key(
    deployment: &Deployment,
    terms: &Terms,
    keys: &[PublicKey],
) -> Result<AgreementKey, DraftError> {
    for (index, node) in terms.nodes.iter().enumerate() {
        let address = keys.get(index).map(|k| diversity_keys::address_of(&k.0));
        if address != Some(Ok(node.node.0)) {
            return Err(DraftError::Key { index });
        }
    }
    if keys.len() > terms.nodes.len() {
        return Err(DraftError::Key {
            index: terms.nodes.len(),
        });
    }
    let keys: Vec<_> = keys.iter().map(|k| k.0).collect();
    let digest = terms.digest();
    Ok(musig::agreement_key(&keys, &deployment.bytes(), &digest.0)?)
}

impl Draft {
    /// A new draft without signatures.
    ///
    /// # Errors
    /// [`DraftError`] if the terms or keys are wrong.
    pub fn new(
        deployment: Deployment,
        terms: TermsJson,
        keys: Vec<PublicKey>,
    ) -> Result<Self, DraftError> {
        let key = agreement_key(&deployment, &Terms::try_from(&terms)?, &keys)?;
        let draft = Self {
            version: DRAFT_VERSION,
            deployment: deployment.into(),
            agreement: AgreementId(key.id),
            terms,
            keys,
            signatures: Vec::new(),
            acceptances: Vec::new(),
            owners: Vec::new(),
            grants: Vec::new(),
        };
        draft.check()?;
        Ok(draft)
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`DraftError`].
    pub fn read(path: &Path) -> Result<Self, DraftError> {
        let file = |source| DraftError::File {
            action: "read",
            path: path.into(),
            source,
        };
        let size = std::fs::metadata(path).map_err(file)?.len();
        if size > DRAFT_BYTES_MAX {
            return Err(DraftError::Malformed {
                reason: format!("it has {size} bytes, the limit is {DRAFT_BYTES_MAX}"),
            });
        }
        let text = std::fs::read_to_string(path).map_err(file)?;
        let malformed = |e: serde_json::Error| DraftError::Malformed {
            reason: e.to_string(),
        };
        // Another version has other terms: its number says more than what is missing in it.
        let Versioned { version: found } = serde_json::from_str(&text).map_err(malformed)?;
        if found != DRAFT_VERSION {
            return Err(DraftError::Version { found });
        }
        let draft: Self = serde_json::from_str(&text).map_err(malformed)?;
        draft.check()?;
        Ok(draft)
    }

    /// Writes the file atomically.
    ///
    /// # Errors
    /// [`DraftError::File`].
    pub fn write(&self, path: &Path) -> Result<(), DraftError> {
        let mut text = serde_json::to_string_pretty(self).expect("strings and numbers");
        text.push('\n');
        crate::devnet::write_atomically(path, text.as_bytes()).map_err(|source| DraftError::File {
            action: "write",
            path: path.into(),
            source,
        })
    }

    /// Checks everything that can be checked without a network: version, terms, names of fields, that `a` is the key of these
    /// nodes under these terms, and every signature that is there.
    ///
    /// # Errors
    /// [`DraftError`].
    pub fn check(&self) -> Result<Checked, DraftError> {
        if self.version != DRAFT_VERSION {
            return Err(DraftError::Version {
                found: self.version,
            });
        }
        let terms = Terms::try_from(&self.terms)?;
        for fields in [&terms.result, &terms.detail] {
            for (i, field) in fields.iter().enumerate() {
                if !abi::usable_name(&field.name)
                    || fields[..i].iter().any(|f| f.name == field.name)
                {
                    return Err(DraftError::FieldName {
                        name: field.name.clone(),
                    });
                }
            }
        }
        let deployment = self.deployment.into();
        let key = agreement_key(&deployment, &terms, &self.keys)?;
        if key.id != self.agreement.0 {
            return Err(DraftError::WrongId {
                found: self.agreement,
                expected: AgreementId(key.id),
            });
        }
        let checked = Checked {
            terms_digest: terms.digest(),
            terms,
            key,
        };
        for s in &self.signatures {
            checked.user(&deployment, s)?;
        }
        for a in &self.acceptances {
            checked.acceptance(&deployment, a)?;
        }
        for g in &self.grants {
            checked.grant(&deployment, g)?;
        }
        Ok(checked)
    }

    /// Adds a user's signature, in the place of an earlier one.
    ///
    /// # Errors
    /// [`DraftError`]: nothing is signed unless the whole draft is right.
    pub fn sign(&mut self, signer: &Signer) -> Result<(), DraftError> {
        let checked = self.check()?;
        if Deployment::from(self.deployment) != *signer.deployment() {
            return Err(DraftError::Deployment);
        }
        if !checked.terms.users.contains(&signer.id()) {
            return Err(DraftError::NotAUser(signer.id()));
        }
        let signature = signer.agreement(&self.agreement, &checked.terms_digest);
        put(&mut self.signatures, signature);
        Ok(())
    }

    /// Says who owns its sensors: those who are no users of it must grant it.
    pub fn name_owners(&mut self, owners: impl IntoIterator<Item = UserId>) {
        let users = &self.terms.users;
        let others = owners.into_iter().filter(|o| !users.contains(o));
        self.owners = others.collect();
        self.owners.sort_unstable();
        self.owners.dedup();
    }

    /// Adds the grant of an owner of sensors, in the place of an earlier one.
    ///
    /// # Errors
    /// [`DraftError`]: nothing is signed unless the whole draft is right, and its sensors need this owner's grant.
    pub fn grant(&mut self, signer: &Signer) -> Result<(), DraftError> {
        let checked = self.check()?;
        if Deployment::from(self.deployment) != *signer.deployment() {
            return Err(DraftError::Deployment);
        }
        if !self.owners.contains(&signer.id()) {
            return Err(DraftError::NotAnOwner(signer.id()));
        }
        put(&mut self.grants, signer.grant(&checked.terms_digest));
        Ok(())
    }

    /// What a node is asked to accept.
    pub fn accept_request(&self) -> AcceptRequest {
        AcceptRequest {
            agreement: self.agreement,
            terms: self.terms.clone(),
            grants: self.grants.clone(),
        }
    }

    /// Adds a node's acceptance, in the place of an earlier one.
    ///
    /// # Errors
    /// [`DraftError`].
    pub fn accept(&mut self, acceptance: NodeAcceptance) -> Result<(), DraftError> {
        self.check()?
            .acceptance(&self.deployment.into(), &acceptance)?;
        self.acceptances.retain(|a| a.node != acceptance.node);
        self.acceptances.push(acceptance);
        self.acceptances.sort_by_key(|a| a.node);
        Ok(())
    }

    /// What it lacks: signatures of users, grants of owners, acceptances of nodes.
    ///
    /// # Errors
    /// [`DraftError`].
    pub fn missing(&self) -> Result<Missing, DraftError> {
        let terms = self.check()?.terms;
        let has = |all: &[UserSignature], u: &UserId| all.iter().any(|s| s.user == *u);
        let without = |of: &[UserId], all: &[UserSignature]| -> Vec<UserId> {
            of.iter().copied().filter(|u| !has(all, u)).collect()
        };
        let nodes = terms.nodes.iter().map(|n| n.node);
        let accepted = |node: &NodeId| self.acceptances.iter().any(|a| a.node == *node);
        Ok(Missing {
            signatures: without(&terms.users, &self.signatures),
            grants: without(&self.owners, &self.grants),
            acceptances: nodes.filter(|n| !accepted(n)).collect(),
        })
    }

    /// The request that creates the agreement.
    ///
    /// # Errors
    /// [`DraftError::Incomplete`], naming what is missing, and those of [`Draft::check`].
    pub fn complete(&self) -> Result<AgreementCreation, DraftError> {
        let missing = self.missing()?;
        let reason = match missing {
            Missing { signatures, .. } if !signatures.is_empty() => {
                format!("{} has not signed", signatures[0])
            }
            Missing { grants, .. } if !grants.is_empty() => format!(
                "{}, who owns sensors of it, has not granted it (diversity agreement grant)",
                grants[0]
            ),
            Missing { acceptances, .. } if !acceptances.is_empty() => format!(
                "node {} has not accepted, and every node must (diversity agreement accept)",
                acceptances[0]
            ),
            _ => {
                return Ok(AgreementCreation {
                    agreement: self.agreement,
                    terms: self.terms.clone(),
                    signatures: self.signatures.clone(),
                    acceptances: self.acceptances.clone(),
                });
            }
        };
        Err(DraftError::Incomplete(reason))
    }
}

impl Checked {
    /// Checks a user's signature.
    ///
    /// # Errors
    /// [`DraftError::NotAUser`], [`DraftError::BadSignature`].
    pub fn user(&self, d: &Deployment, s: &UserSignature) -> Result<(), DraftError> {
        if !self.terms.users.contains(&s.user) {
            return Err(DraftError::NotAUser(s.user));
        }
        let digest = agreement_digest(d, &AgreementId(self.key.id), &self.terms_digest);
        match s.signature.signer(&digest) {
            Ok(signer) if signer == s.user.address() => Ok(()),
            _ => Err(DraftError::BadSignature(s.user.address())),
        }
    }

    /// Checks the grant of an owner of sensors.
    ///
    /// # Errors
    /// [`DraftError::BadSignature`].
    pub fn grant(&self, d: &Deployment, g: &UserSignature) -> Result<(), DraftError> {
        match g
            .signature
            .signer(&grant_digest(d, &g.user, &self.terms_digest))
        {
            Ok(signer) if signer == g.user.address() => Ok(()),
            _ => Err(DraftError::BadSignature(g.user.address())),
        }
    }

    /// Checks a node's acceptance.
    ///
    /// # Errors
    /// [`DraftError::NotANode`], [`DraftError::BadSignature`].
    pub fn acceptance(&self, d: &Deployment, a: &NodeAcceptance) -> Result<(), DraftError> {
        if self.terms.node_index(&a.node).is_none() {
            return Err(DraftError::NotANode(a.node));
        }
        let digest = acceptance_digest(d, &AgreementId(self.key.id), &self.terms_digest, &a.node);
        match a.signature.signer(&digest) {
            Ok(signer) if signer == a.node.address() => Ok(()),
            _ => Err(DraftError::BadSignature(a.node.address())),
        }
    }
}
