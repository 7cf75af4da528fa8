//! Keys and signatures of the simulated world: cheap keyed hashes, or those of `diversity-keys` for some seeds.
//!
//! A test signature is a hash over public key and digest. Anyone could forge one, so the actors of the simulator sign only
//! with keys of their own; in return a run costs thousands of times less, and a wrong digest, key or author still fails.

use diversity_keys::{SecretKey, derive_secret_salt, musig};
use diversity_proto::domain::keccak_raw;
use diversity_proto::round::{Blinding, PublicNonce, Session, Subject};
use diversity_proto::{Address, AgreementId, Deployment, Digest, NodeId, PublicKey, Signature};
use zeroize::Zeroizing;

/// Which signatures a run uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Keyed hashes.
    Test,
    /// secp256k1 ECDSA, MuSig2 and BIP-340 of `diversity-keys`.
    Real,
}

/// Somebody who signs.
pub struct Party {
    /// Public key.
    pub public: PublicKey,
    /// Its address.
    pub address: Address,
    seed: [u8; 32],
    real: Option<SecretKey>,
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut all = Vec::with_capacity(parts.iter().map(|p| p.len() + 1).sum());
    for p in parts {
        all.push(p.len() as u8);
        all.extend_from_slice(p);
    }
    keccak_raw(&all)
}

fn twice(h: [u8; 32]) -> Signature {
    let mut out = [0; 64];
    out[..32].copy_from_slice(&h);
    out[32..].copy_from_slice(&h);
    out[63] ^= 1;
    Signature(out)
}

impl Party {
    /// The party of this seed.
    pub fn new(mode: Mode, seed: [u8; 32]) -> Self {
        match mode {
            Mode::Test => {
                let mut public = [2; 33];
                public[1..].copy_from_slice(&hash(&[b"public", &seed]));
                let id = keccak_raw(&public)[12..]
                    .try_into()
                    .expect("20 of 32 bytes");
                Self {
                    public: PublicKey(public),
                    address: Address(id),
                    seed,
                    real: None,
                }
            }
            Mode::Real => {
                let key = SecretKey::from_bytes(&seed).expect("a hash is a scalar");
                Self {
                    public: PublicKey(key.public_key()),
                    address: Address(key.address()),
                    seed,
                    real: Some(key),
                }
            }
        }
    }
    /// Its id, where it is a node.
    pub fn node(&self) -> NodeId {
        self.address.into()
    }
    /// Signs a digest; always the same bytes.
    pub fn sign(&self, digest: &Digest) -> Signature {
        match &self.real {
            Some(key) => Signature(key.sign(&digest.0)),
            None => twice(hash(&[b"signature", &self.public.0, &digest.0])),
        }
    }
    /// Secret and salt for one subject (R2): derived, so that a restart draws no others.
    pub fn blinding(&self, subject: &Subject) -> Blinding {
        let mut domain = subject.deployment.bytes().to_vec();
        domain.extend_from_slice(&subject.config.0);
        domain.extend_from_slice(&subject.t.to_be_bytes());
        domain.extend_from_slice(&self.address.0);
        let (secret, salt) = match self.real {
            Some(_) => derive_secret_salt(&self.seed, &domain),
            None => (
                hash(&[b"secret", &self.seed, &domain]),
                hash(&[b"salt", &self.seed, &domain]),
            ),
        };
        Blinding { secret, salt }
    }
}

/// Whether the signature is the key's over the digest.
pub fn verify(mode: Mode, key: &PublicKey, digest: &Digest, signature: &Signature) -> bool {
    match mode {
        Mode::Test => *signature == twice(hash(&[b"signature", &key.0, &digest.0])),
        Mode::Real => diversity_keys::verify(&key.0, &digest.0, &signature.0),
    }
}

/// The key of an agreement, with what MuSig2 needs of it.
pub struct Aggregate {
    /// `a`.
    pub id: AgreementId,
    /// Protocol keys in node-index order.
    pub members: Vec<PublicKey>,
    real: Option<musig::AgreementKey>,
}

/// A secret nonce: in memory of one incarnation of one node only.
pub enum SecretNonce {
    /// Only its public half matters.
    Test(PublicNonce),
    /// That of BIP-327.
    Real(musig::SecretNonce),
}

impl SecretNonce {
    /// What is sent.
    pub fn public(&self) -> PublicNonce {
        match self {
            Self::Test(n) => *n,
            Self::Real(n) => n.public(),
        }
    }
}

impl Aggregate {
    /// The key of these nodes under these terms.
    pub fn new(mode: Mode, d: &Deployment, members: Vec<PublicKey>, terms: &Digest) -> Self {
        match mode {
            Mode::Test => {
                let mut all = terms.0.to_vec();
                members.iter().for_each(|m| all.extend_from_slice(&m.0));
                Self {
                    id: AgreementId(keccak_raw(&all)),
                    members,
                    real: None,
                }
            }
            Mode::Real => {
                let keys: Vec<_> = members.iter().map(|m| m.0).collect();
                let key = musig::agreement_key(&keys, &d.bytes(), &terms.0)
                    .expect("distinct valid keys aggregate");
                Self {
                    id: AgreementId(key.id),
                    members,
                    real: Some(key),
                }
            }
        }
    }

    /// A fresh nonce for a session; `randomness` is drawn once for each call.
    pub fn nonce(&self, party: &Party, session: &Session, randomness: [u8; 32]) -> SecretNonce {
        match (&self.real, &party.real) {
            (Some(key), Some(secret)) => {
                let context = session.nonce_set(&[]).0;
                let randomness = Zeroizing::new(randomness);
                SecretNonce::Real(
                    musig::SecretNonce::generate(secret, key, &context, &randomness)
                        .expect("a member of the agreement"),
                )
            }
            _ => {
                let mut out = [3; 66];
                out[1..33].copy_from_slice(&hash(&[b"nonce", &party.public.0, &randomness]));
                SecretNonce::Test(out)
            }
        }
    }

    /// A partial signature, which uses the nonce up; nothing if the set does not hold it at this node's place.
    pub fn partial(
        &self,
        party: &Party,
        nonce: SecretNonce,
        session: &Session,
        nonces: &[PublicNonce],
        digest: &Digest,
    ) -> Option<[u8; 32]> {
        let me = self.members.iter().position(|m| *m == party.public)?;
        match (nonce, &self.real, &party.real) {
            (SecretNonce::Real(nonce), Some(key), Some(secret)) => {
                musig::Session::new(key, nonces, digest.0)
                    .ok()?
                    .partial_sign(nonce, secret)
                    .ok()
            }
            (SecretNonce::Test(public), None, None) if nonces.get(me) == Some(&public) => {
                Some(self.test_partial(me, session, nonces, digest))
            }
            _ => None,
        }
    }

    fn test_partial(
        &self,
        i: usize,
        session: &Session,
        nonces: &[PublicNonce],
        digest: &Digest,
    ) -> [u8; 32] {
        let set = session.nonce_set(nonces);
        hash(&[b"partial", &self.members[i].0, &set.0, &digest.0])
    }

    /// Adds the partials up, or names the nodes whose partials are bad.
    pub fn aggregate(
        &self,
        session: &Session,
        nonces: &[PublicNonce],
        partials: &[[u8; 32]],
        digest: &Digest,
    ) -> Result<Signature, Vec<usize>> {
        let Some(key) = &self.real else {
            let bad: Vec<_> = (0..self.members.len())
                .filter(|i| {
                    partials.get(*i) != Some(&self.test_partial(*i, session, nonces, digest))
                })
                .collect();
            return if bad.is_empty() {
                Ok(twice(hash(&[b"aggregate", &self.id.0, &digest.0])))
            } else {
                Err(bad)
            };
        };
        let signing = match musig::Session::new(key, nonces, digest.0) {
            Ok(s) => s,
            Err(musig::MusigError::Nonce { index }) => return Err(vec![index]),
            Err(e) => panic!("the core gave lists of a wrong length: {e}"),
        };
        signing.aggregate(partials).map(Signature).map_err(|_| {
            (0..partials.len())
                .filter(|i| signing.verify_partial(*i, &partials[*i]).is_err())
                .collect()
        })
    }

    /// Whether this is the agreement's signature over the digest.
    pub fn verify(&self, digest: &Digest, signature: &Signature) -> bool {
        match self.real {
            Some(_) => musig::verify_bip340(&self.id.0, &digest.0, &signature.0),
            None => *signature == twice(hash(&[b"aggregate", &self.id.0, &digest.0])),
        }
    }
}
