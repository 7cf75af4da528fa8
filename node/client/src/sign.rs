//! What users sign (EIP-712, wire-format §6), with a key or a Web3 keystore.

use crate::api::{
    CloseRequest, NodeBinding, NodeRegistration, ResolveRequest, SensorEntry, SensorRegistrations,
    UserRegistration, UserSignature,
};
use crate::hexed::{Bytes, WalletSignature};
use diversity_keys::keystore::{self, KeystoreError};
use diversity_keys::password::PasswordError;
use diversity_keys::{KeyError, SecretKey};
use diversity_proto::entity::{
    NodeDeclaration, SensorDeclaration, node_registration_digest, sensor_registration_digest,
};
use diversity_proto::terms::{
    agreement_digest, close_digest, grant_digest, node_owner_digest, resolution_digest,
    resolution_struct, sensor_owner_digest, sensors_owner_digest, user_digest,
};
use diversity_proto::{AgreementId, DecodeError, Deployment, Digest, SensorId, UserId};
use std::path::{Path, PathBuf};

/// What can go wrong before something is signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The keystore.
    #[error("{}: {source}", path.display())]
    Keystore {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: KeystoreError,
    },
    /// The password file.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// Not a key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A declaration does not decode.
    #[error("the declaration is malformed: {0}")]
    Declaration(#[from] DecodeError),
    /// The key of a declaration is not the key that signs for it.
    #[error("the declaration names another key than that of {0}: use the key that it names")]
    ForeignKey(SensorId),
    /// A node's consent is not for this owner, or not by its protocol key.
    #[error(
        "the node's consent is not for this owner or not by the key that its declaration names: ask the node again"
    )]
    Binding,
    /// A kind of output that nobody can resolve to.
    #[error("an execution is resolved to null, value or trap, not to {0}")]
    Kind(String),
}

/// A user's key. Nodes never hold one.
#[derive(Debug)]
pub struct Signer {
    key: SecretKey,
    deployment: Deployment,
}

impl Signer {
    /// Signs for one deployment.
    pub fn new(key: SecretKey, deployment: Deployment) -> Self {
        Self { key, deployment }
    }

    /// With the key in a keystore file, and its password in another (its first line).
    ///
    /// # Errors
    /// [`SignError::Password`], [`SignError::Keystore`], [`SignError::Key`].
    pub fn from_keystore(
        keystore: &Path,
        password_file: &Path,
        deployment: Deployment,
    ) -> Result<Self, SignError> {
        let password = diversity_keys::password::read(password_file)?;
        let secret = keystore::read(keystore, password.as_bytes()).map_err(|source| {
            let path = keystore.into();
            SignError::Keystore { path, source }
        })?;
        Ok(Self::new(SecretKey::from_bytes(&secret)?, deployment))
    }

    /// The user.
    pub fn id(&self) -> UserId {
        UserId(self.key.address())
    }

    /// What it signs for.
    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// Registers the user itself.
    pub fn user(&self, name: &str) -> UserRegistration {
        let user = self.id();
        UserRegistration {
            user,
            name: name.into(),
            signature: self.sign(&user_digest(&self.deployment, &user, name)),
        }
    }

    /// Registers sensors of this user; each comes with its own key, which signs too. `count` is how many entities stand registered
    /// of this user ([`crate::Api::registered`]): what is signed serves once.
    ///
    /// # Errors
    /// [`SignError::ForeignKey`] if a declaration names another key.
    pub fn sensors(
        &self,
        sensors: &[(&SensorDeclaration, &SecretKey)],
        count: u64,
    ) -> Result<SensorRegistrations, SignError> {
        let owner = self.id();
        let mut list: Vec<(SensorId, Digest)> = Vec::with_capacity(sensors.len());
        let mut entries = Vec::with_capacity(sensors.len());
        for (declaration, key) in sensors {
            let sensor = SensorId(key.address());
            if declaration.public_key.0 != key.public_key() {
                return Err(SignError::ForeignKey(sensor));
            }
            let digest = declaration.digest();
            let consent = sensor_registration_digest(&self.deployment, &owner, &sensor, &digest);
            entries.push(SensorEntry {
                declaration: Bytes(declaration.encode()),
                signature: WalletSignature(key.sign_recoverable(&consent.0)),
            });
            list.push((sensor, digest));
        }
        let digest = match &list[..] {
            [(sensor, declaration)] => {
                sensor_owner_digest(&self.deployment, sensor, &owner, declaration, count)
            }
            several => sensors_owner_digest(&self.deployment, &owner, several, count),
        };
        Ok(SensorRegistrations {
            owner,
            count,
            owner_signature: self.sign(&digest),
            sensors: entries,
        })
    }

    /// Registers a node that has consented to this owner, after checking its consent. `count` as for [`Signer::sensors`].
    ///
    /// # Errors
    /// [`SignError::Declaration`], [`SignError::Binding`].
    pub fn node(&self, binding: NodeBinding, count: u64) -> Result<NodeRegistration, SignError> {
        let declaration = NodeDeclaration::decode(&binding.declaration.0)?;
        let owner = self.id();
        let digest = declaration.digest();
        let consent = node_registration_digest(&self.deployment, &owner, &binding.node, &digest);
        let by_key = diversity_keys::address_of(&declaration.public_key.0);
        let signer = binding.signature.signer(&consent);
        if binding.owner != owner
            || by_key != Ok(binding.node.0)
            || signer != Ok(binding.node.address())
        {
            return Err(SignError::Binding);
        }
        let digest = node_owner_digest(&self.deployment, &binding.node, &owner, &digest, count);
        Ok(NodeRegistration {
            count,
            owner_signature: self.sign(&digest),
            binding,
        })
    }

    /// Signs an agreement. [`crate::draft::Draft::sign`] checks it before.
    pub fn agreement(&self, a: &AgreementId, terms_digest: &Digest) -> UserSignature {
        self.user_signature(&agreement_digest(&self.deployment, a, terms_digest))
    }

    /// Grants, as the owner of sensors, that they are in an agreement with these terms. [`crate::draft::Draft::grant`] checks it before.
    pub fn grant(&self, terms_digest: &Digest) -> UserSignature {
        self.user_signature(&grant_digest(&self.deployment, &self.id(), terms_digest))
    }

    /// Signs the end of an agreement: executions from `end` on never settle.
    pub fn close(&self, a: &AgreementId, end: u64) -> UserSignature {
        self.user_signature(&close_digest(&self.deployment, a, end))
    }

    /// Adds this user's signature to a request to close.
    pub fn add_to_close(&self, a: &AgreementId, request: &mut CloseRequest) {
        put(&mut request.signatures, self.close(a, request.end));
    }

    /// Adds this user's signature to what all users say of an execution.
    ///
    /// # Errors
    /// [`SignError::Kind`].
    pub fn add_to_resolution(
        &self,
        a: &AgreementId,
        request: &mut ResolveRequest,
    ) -> Result<(), SignError> {
        let kind = request
            .kind
            .output()
            .ok_or_else(|| SignError::Kind(request.kind.as_str().into()))?;
        let signed = resolution_struct(a, request.t, kind, &request.result.0, &request.state());
        let digest = resolution_digest(&self.deployment, &signed);
        put(&mut request.signatures, self.user_signature(&digest));
        Ok(())
    }

    fn user_signature(&self, digest: &Digest) -> UserSignature {
        UserSignature {
            user: self.id(),
            signature: self.sign(digest),
        }
    }

    fn sign(&self, digest: &Digest) -> WalletSignature {
        WalletSignature(self.key.sign_recoverable(&digest.0))
    }
}

/// Adds a signature, in the place of an earlier one by the same user.
pub(crate) fn put(all: &mut Vec<UserSignature>, one: UserSignature) {
    all.retain(|s| s.user != one.user);
    all.push(one);
    all.sort_by_key(|s| s.user);
}
