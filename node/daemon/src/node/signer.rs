//! Everything that needs the node's protocol key: signatures, commits, and its part in MuSig2.
//!
//! Secret nonces are in memory only, consumed by the one partial signature that they are for, and gone after a restart.

use std::collections::BTreeMap;
use std::sync::Arc;

use diversity_keys::musig::{AgreementKey, MusigError, SecretNonce, Session as MusigSession};
use diversity_keys::{KeyError, derive_secret_salt, os_random};
use diversity_proto::round::{Blinding, Commit, Computed, PublicNonce, Session, Subject};
use diversity_proto::{AgreementId, Digest, NodeId, PublicKey, Signature, Writer};
use zeroize::Zeroizing;

use crate::keyring::Keyring;

/// Secret nonces that wait for their session, at most; the oldest sessions of the lowest agreement go first.
const NONCES_MAX: usize = 8_192;

/// The protocol key at work.
pub struct Signer {
    keys: Arc<Keyring>,
    node: NodeId,
    agreements: BTreeMap<AgreementId, AgreementKey>,
    nonces: BTreeMap<Session, SecretNonce>,
}

impl Signer {
    /// With these keys.
    pub fn new(keys: Arc<Keyring>) -> Self {
        let node = keys.node();
        Self {
            keys,
            node,
            agreements: BTreeMap::new(),
            nonces: BTreeMap::new(),
        }
    }

    /// The protocol key.
    pub fn public_key(&self) -> PublicKey {
        self.keys.public_key()
    }

    /// Makes the key of an agreement known.
    pub fn agreement(&mut self, key: AgreementKey) {
        self.agreements.insert(AgreementId(key.id), key);
    }

    /// ECDSA with the protocol key (RFC 6979).
    pub fn sign(&self, digest: &Digest) -> Signature {
        Signature(self.keys.protocol.sign(&digest.0))
    }

    /// Derives secret and salt from the seed and the whole domain, and signs the commit: always the same bytes (R2).
    pub fn commit(&self, subject: &Subject, computed: &Computed) -> (Blinding, Commit) {
        let mut domain = Writer::new();
        domain
            .raw(&subject.deployment.bytes())
            .raw(&subject.config.0)
            .u64(subject.t)
            .raw(&self.node.0);
        let (secret, salt) = derive_secret_salt(&self.keys.seed, &domain.finish());
        let blinding = Blinding { secret, salt };
        let commit = Commit::make(subject, &self.node, computed, &blinding, |d| self.sign(d));
        (blinding, commit)
    }

    /// Draws a nonce for a session. A second call for one session replaces the first nonce, which signs nothing any more.
    ///
    /// # Errors
    /// If the agreement is not known here, or the system has no randomness.
    pub fn nonce(&mut self, session: Session) -> Result<PublicNonce, SignError> {
        let key = self
            .agreements
            .get(&session.agreement)
            .ok_or(SignError::Agreement(session.agreement))?;
        let mut context = Writer::new();
        session.write(&mut context);
        let randomness = Zeroizing::new(os_random::<32>()?);
        let nonce =
            SecretNonce::generate(&self.keys.protocol, key, &context.finish(), &randomness)?;
        let public = nonce.public();
        while self.nonces.len() >= NONCES_MAX {
            self.nonces.pop_first();
        }
        // An attempt that was given up signs nothing any more. Numbers of attempts are used again (P-MUSIG-1).
        let attempt = |attempt| Session { attempt, ..session };
        let range = attempt(0)..=attempt(u32::MAX);
        let old: Vec<_> = self.nonces.range(range).map(|(s, _)| *s).collect();
        for s in old {
            self.nonces.remove(&s);
        }
        self.nonces.insert(session, nonce);
        Ok(public)
    }

    /// Signs with the session's secret nonce, which is gone before this returns; nothing if there is none (a restart), or if
    /// the set does not hold this node's nonce.
    pub fn partial(
        &mut self,
        session: Session,
        nonces: &[PublicNonce],
        digest: &Digest,
    ) -> Option<[u8; 32]> {
        let nonce = self.nonces.remove(&session)?;
        let key = self.agreements.get(&session.agreement)?;
        let signed = MusigSession::new(key, nonces, digest.0)
            .and_then(|s| s.partial_sign(nonce, &self.keys.protocol));
        match signed {
            Ok(partial) => Some(partial),
            Err(error) => {
                tracing::warn!(agreement = %session.agreement, from = session.from, t = session.t,
                    attempt = session.attempt, %error, "musig.not_signed");
                None
            }
        }
    }

    /// The key of an agreement.
    pub fn key(&self, a: &AgreementId) -> Option<&AgreementKey> {
        self.agreements.get(a)
    }
}

/// Adds up partial signatures; otherwise the indices of the nodes whose nonce or partial is bad.
///
/// # Errors
/// The indices.
pub fn aggregate(
    key: &AgreementKey,
    nonces: &[PublicNonce],
    partials: &[[u8; 32]],
    digest: &Digest,
) -> Result<Signature, Vec<usize>> {
    let at_fault = |error: MusigError| match error {
        MusigError::Nonce { index } | MusigError::BadPartial { index } => vec![index],
        _ => Vec::new(),
    };
    let session = MusigSession::new(key, nonces, digest.0).map_err(at_fault)?;
    session.aggregate(partials).map(Signature).map_err(|error| {
        let bad: Vec<_> = (0..partials.len())
            .filter(|i| session.verify_partial(*i, &partials[*i]).is_err())
            .collect();
        if bad.is_empty() { at_fault(error) } else { bad }
    })
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The core asked for an agreement that was never made known.
    #[error("agreement {0} has no key here: this is a fault of the program, please report it")]
    Agreement(AgreementId),
    /// No randomness.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// This node is no member.
    #[error(transparent)]
    Musig(#[from] MusigError),
}

#[cfg(test)]
#[path = "signer_tests.rs"]
mod tests;
