//! What this node has accepted (R11, P-CONSENT-1): one file for each agreement in the data directory, beside the keys and not in the
//! store, because what a node has signed must outlive a store that is lost or rebuilt. A file holds everything that the acceptance
//! asserts to be here (terms with their sensor list, grants of sensors' owners; the module is a file of its own) and the acceptance,
//! which this node's own key has signed over it, so that a file proves itself. Nothing removes one.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use diversity_client::hexed::WalletSignature;
use diversity_keys::SecretKey;
use diversity_proto::codec::{DecodeError, Writer, decode_all};
use diversity_proto::terms::{SENSORS_MAX, TERMS_BYTES_MAX, Terms, acceptance_digest};
use diversity_proto::{AgreementId, Deployment, Digest, NodeId, UserId};

/// Version of the files.
const VERSION: u8 = 1;
/// Longest file, bytes: whole terms, a grant for each sensor, and the rest.
const FILE_BYTES_MAX: u64 = (TERMS_BYTES_MAX + SENSORS_MAX * (20 + 65) + 1_024) as u64;
/// Most agreements that a node has accepted.
const ACCEPTED_MAX: usize = 100_000;

/// Why an acceptance cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum ConsentError {
    /// The file system.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Too many.
    #[error(
        "this node has accepted {ACCEPTED_MAX} agreements: remove those that have ended long ago from {}, while it does not run",
        path.display()
    )]
    Full {
        /// The directory.
        path: PathBuf,
    },
}

/// The consent of a sensor's owner who is no user of the agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who.
    pub owner: UserId,
    /// Over `proto::terms::grant_digest`.
    pub signature: WalletSignature,
}

/// An acceptance with all that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// `a`.
    pub agreement: AgreementId,
    /// The terms.
    pub terms: Terms,
    /// Of owners of its sensors who are no users of it.
    pub grants: Vec<Grant>,
    /// By this node's protocol key, over `proto::terms::acceptance_digest`.
    pub signature: WalletSignature,
}

impl Accepted {
    /// Signs.
    pub fn sign(
        key: &SecretKey,
        d: &Deployment,
        agreement: AgreementId,
        terms: Terms,
        grants: Vec<Grant>,
    ) -> Self {
        let node = NodeId(key.address());
        let digest = acceptance_digest(d, &agreement, &terms.digest(), &node);
        Self {
            agreement,
            terms,
            grants,
            signature: WalletSignature(key.sign_recoverable(&digest.0)),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(VERSION).raw(&self.agreement.0);
        w.bytes(&self.terms.encode());
        w.u32(u32::try_from(self.grants.len()).expect("at most one for each sensor"));
        for g in &self.grants {
            w.raw(&g.owner.0).raw(&g.signature.0);
        }
        w.raw(&self.signature.0);
        w.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode_all(bytes, |r| {
            if r.u8("version")? != VERSION {
                return Err(DecodeError::Invalid("version of an acceptance"));
            }
            let agreement = AgreementId(r.array("agreement")?);
            let terms = Terms::decode(r.bytes(TERMS_BYTES_MAX, "terms")?)?;
            let count = r.u32("number of grants")? as usize;
            if count > SENSORS_MAX {
                return Err(DecodeError::Invalid("number of grants"));
            }
            let mut grants = Vec::new();
            for _ in 0..count {
                grants.push(Grant {
                    owner: UserId(r.array("owner")?),
                    signature: WalletSignature(r.array("grant")?),
                });
            }
            Ok(Self {
                agreement,
                terms,
                grants,
                signature: WalletSignature(r.array("acceptance")?),
            })
        })
    }

    /// Whether this node has signed it.
    fn is_signed(&self, d: &Deployment, node: &NodeId) -> bool {
        let digest = acceptance_digest(d, &self.agreement, &self.terms.digest(), node);
        self.signature.signer(&digest) == Ok(node.address())
    }
}

/// What this node has accepted, to be looked up. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Consent(Arc<Shelf>);

#[derive(Debug, Default)]
struct Shelf {
    dir: PathBuf,
    /// Terms, with their digest.
    accepted: RwLock<BTreeMap<AgreementId, (Digest, Arc<Terms>)>>,
}

impl Consent {
    /// Reads what was accepted. Where there is no directory yet, it is made with what `adopted` gives: what a former version of the
    /// program has kept elsewhere, if this store is of one.
    ///
    /// # Errors
    /// [`ConsentError::File`], or that of `adopted`. A file that is not a whole acceptance of this node is told of, and counts for
    /// nothing.
    pub fn open<E: From<ConsentError>>(
        dir: PathBuf,
        d: &Deployment,
        node: &NodeId,
        adopted: impl FnOnce() -> Result<Vec<Accepted>, E>,
    ) -> Result<Self, E> {
        if !dir.exists() {
            make(&dir, &adopted()?)?;
        }
        let consent = Self(Arc::new(Shelf {
            accepted: RwLock::default(),
            dir,
        }));
        let dir = &consent.0.dir;
        let failed = |source| failed("read", dir, source);
        for entry in fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "new") {
                // A crash came in between; nothing was signed for it.
                continue;
            }
            // What somebody has moved aside, or put here, is no acceptance.
            let regular = entry.file_type().is_ok_and(|t| t.is_file());
            let found = if regular { read(&path)? } else { None };
            let ours = |a: &Accepted| a.is_signed(d, node) && path == path_of(dir, &a.agreement);
            match found.filter(ours) {
                Some(accepted) => consent.put(accepted),
                None => tracing::warn!(
                    file = %path.display(),
                    "this is no whole acceptance of this node under its own name, and counts for nothing: remove it, and accept the agreement again if it is to run"
                ),
            }
        }
        Ok(consent)
    }

    /// Keeps an acceptance durably; a repeat is fine.
    ///
    /// # Errors
    /// [`ConsentError`].
    pub fn keep(&self, accepted: Accepted) -> Result<(), ConsentError> {
        let known = self.len();
        let path = path_of(&self.0.dir, &accepted.agreement);
        if known >= ACCEPTED_MAX && !path.exists() {
            return Err(ConsentError::Full {
                path: self.0.dir.clone(),
            });
        }
        write(&path, &accepted.encode())?;
        sync(&self.0.dir)?;
        self.put(accepted);
        Ok(())
    }

    /// What was accepted counts from now on.
    fn put(&self, accepted: Accepted) {
        let one = (accepted.terms.digest(), Arc::new(accepted.terms));
        let all = self.0.accepted.write();
        all.unwrap_or_else(PoisonError::into_inner)
            .insert(accepted.agreement, one);
    }

    /// As if this node had accepted these.
    #[cfg(test)]
    pub fn given(accepted: impl IntoIterator<Item = (AgreementId, Terms)>) -> Self {
        let one = |(a, terms): (AgreementId, Terms)| (a, (terms.digest(), Arc::new(terms)));
        let accepted = RwLock::new(accepted.into_iter().map(one).collect());
        Self(Arc::new(Shelf {
            dir: PathBuf::new(),
            accepted,
        }))
    }

    fn len(&self) -> usize {
        let all = self.0.accepted.read();
        all.unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The terms of an agreement that this node has accepted under this digest.
    pub fn terms(&self, a: &AgreementId, digest: &Digest) -> Option<Arc<Terms>> {
        let all = self.0.accepted.read();
        let all = all.unwrap_or_else(PoisonError::into_inner);
        let (found, terms) = all.get(a)?;
        (found == digest).then(|| Arc::clone(terms))
    }

    /// Whether this node has accepted an agreement with these terms.
    pub fn is_given(&self, a: &AgreementId, digest: &Digest) -> bool {
        let all = self.0.accepted.read();
        let all = all.unwrap_or_else(PoisonError::into_inner);
        all.get(a).is_some_and(|(found, _)| found == digest)
    }
}

fn failed(action: &'static str, path: &Path, source: std::io::Error) -> ConsentError {
    ConsentError::File {
        action,
        path: path.into(),
        source,
    }
}

fn path_of(dir: &Path, a: &AgreementId) -> PathBuf {
    dir.join(&a.hex()[2..])
}

/// Nothing for what is no acceptance.
fn read(path: &Path) -> Result<Option<Accepted>, ConsentError> {
    let failed = |source| failed("read", path, source);
    if fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Ok(None);
    }
    Ok(Accepted::decode(&fs::read(path).map_err(failed)?).ok())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ConsentError> {
    use std::os::unix::fs::OpenOptionsExt;
    let new = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
        .open(&new)
        .and_then(|mut f| {
            f.write_all(bytes)?;
            f.sync_all()
        })
        .and_then(|()| fs::rename(&new, path))
        .map_err(|source| failed("write", path, source))
}

fn sync(dir: &Path) -> Result<(), ConsentError> {
    fs::File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(|source| failed("write", dir, source))
}

/// The directory, which is there only once it is whole.
fn make(dir: &Path, accepted: &[Accepted]) -> Result<(), ConsentError> {
    let new = dir.with_extension("new");
    let made = match fs::remove_dir_all(&new) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => fs::create_dir_all(&new),
    };
    made.map_err(|source| failed("make", &new, source))?;
    for one in accepted {
        write(&path_of(&new, &one.agreement), &one.encode())?;
    }
    sync(&new)?;
    fs::rename(&new, dir).map_err(|source| failed("make", dir, source))?;
    sync(dir.parent().unwrap_or(Path::new(".")))
}

#[cfg(test)]
#[path = "consent_tests.rs"]
mod tests;
