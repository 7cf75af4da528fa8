//! The aggregate key of an agreement and its n-of-n signature: MuSig2 (BIP-327), verified as BIP-340.
//!
//! One attempt to sign: every node makes a [`SecretNonce`] and sends its public half; with all n public nonces and the
//! message there is a [`Session`], which gives this node's partial signature, checks those of the others, and adds them
//! up. The secret nonce is a value that can be used once: [`Session::partial_sign`] consumes it, it cannot be cloned or
//! stored, and it is erased before the partial signature is returned. A new attempt needs a new one.
//!
//! Members are counted in node-index order (the order of `nodes` in the terms); sorting for BIP-327 happens inside.

use std::sync::Arc;

use musig2::secp::{MaybeScalar, Point, Scalar};
use musig2::{AggNonce, KeyAggContext, LiftedSignature, PubNonce, SecNonce};
use secp256k1::{SECP256K1, XOnlyPublicKey, schnorr};
use zeroize::Zeroizing;

use crate::{SecretKey, keccak256};

/// The greatest number of members of an aggregate key.
pub const MEMBERS_MAX: usize = 256;

/// `tag(TWEAK)` of `docs/wire-format.md` §2.
const TWEAK_TAG: &[u8; 12] = b"DIVERSITY\x01\x00\x17";

/// The group order.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe,
    0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
];

/// What can be wrong with keys, nonces or partial signatures. An `index` is a node index: it names who is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MusigError {
    /// No members, or too many.
    #[error("{members} keys cannot be aggregated: give 1 to {MEMBERS_MAX}")]
    Members {
        /// How many were given.
        members: usize,
    },
    /// A member's public key does not parse.
    #[error("the public key of node {index} is not a point of secp256k1: have it registered anew")]
    MemberKey {
        /// Whose key.
        index: usize,
    },
    /// Two members have the same key.
    #[error(
        "node {index} has the public key of a node before it: every node needs a key of its own"
    )]
    Duplicate {
        /// The later of the two.
        index: usize,
    },
    /// The aggregate is the point at infinity, or a coordinate is not below the group order, so that the contract could not
    /// check it. One in 2^127 by chance.
    #[error(
        "these keys and terms give an aggregate key that the contract cannot check: change the terms in any way"
    )]
    Unusable,
    /// A list has not one item for each member.
    #[error(
        "{given} items for {members} nodes: exactly one for each is needed, in node-index order"
    )]
    Count {
        /// How many were given.
        given: usize,
        /// How many members there are.
        members: usize,
    },
    /// A public nonce does not parse.
    #[error(
        "the public nonce of node {index} is not two points of secp256k1: ask for another attempt"
    )]
    Nonce {
        /// Whose nonce.
        index: usize,
    },
    /// The signing key belongs to no member.
    #[error("this key belongs to no node of the agreement")]
    NotAMember,
    /// The set holds another public nonce for this node than the one of the secret nonce, or the nonce was made for another
    /// agreement or key.
    #[error(
        "the nonce set does not hold the nonce that this node made for it: the attempt is dead, open another"
    )]
    ForeignNonce,
    /// A partial signature is wrong.
    #[error(
        "the partial signature of node {index} is wrong: settle by reveals, or open an attempt without trusting it"
    )]
    BadPartial {
        /// Whose partial signature.
        index: usize,
    },
    /// Every partial signature verifies but their sum does not; or this node's own partial did not verify: a defect of the
    /// machine or of this program.
    #[error("signing gave a signature that does not verify ({reason}): suspect this machine")]
    Inconsistent {
        /// What failed.
        reason: String,
    },
}

/// The BIP-327 aggregate K of the members' keys, before the tweak. See [`aggregate_key`].
#[derive(Debug, Clone)]
pub struct AggregateKey {
    context: KeyAggContext,
    members: Vec<Point>,
}

impl AggregateKey {
    /// K.x
    pub fn x(&self) -> [u8; 32] {
        self.context.aggregated_pubkey::<Point>().serialize_xonly()
    }

    /// Ties the aggregate to a deployment (chain id and contract, 28 bytes) and to the digest of the terms, as
    /// `docs/wire-format.md` §6 says.
    ///
    /// # Errors
    /// [`MusigError::Unusable`].
    pub fn tweaked(
        self,
        deployment: &[u8; 28],
        terms_digest: &[u8; 32],
    ) -> Result<AgreementKey, MusigError> {
        let aggregate_x = self.x();
        let mut preimage = Vec::with_capacity(TWEAK_TAG.len() + 32 + 28 + 32);
        preimage.extend_from_slice(TWEAK_TAG);
        preimage.extend_from_slice(&aggregate_x);
        preimage.extend_from_slice(deployment);
        preimage.extend_from_slice(terms_digest);
        let tweak = MaybeScalar::reduce_from(&keccak256(&preimage));
        let context = self
            .context
            .with_xonly_tweak(tweak)
            .map_err(|_| MusigError::Unusable)?;
        let point: Point = context.aggregated_pubkey();
        let uncompressed = point.serialize_uncompressed();
        let id = point.serialize_xonly();
        // ecrecover takes K.x as r and s, and a as r: both must be scalars.
        if aggregate_x >= ORDER || id >= ORDER {
            return Err(MusigError::Unusable);
        }
        Ok(AgreementKey {
            id,
            aggregate_x,
            y: *uncompressed.last_chunk().expect("65 bytes have 32"),
            tweak: tweak.serialize(),
            inner: Arc::new(Inner {
                context,
                members: self.members,
            }),
        })
    }
}

/// Aggregates compressed public keys, sorted as BIP-327 says (by their bytes), whatever order they are given in; that
/// order is remembered as the node-index order.
///
/// # Errors
/// [`MusigError::Members`], [`MusigError::MemberKey`], [`MusigError::Duplicate`], [`MusigError::Unusable`].
pub fn aggregate_key(public_keys: &[[u8; 33]]) -> Result<AggregateKey, MusigError> {
    if public_keys.is_empty() || public_keys.len() > MEMBERS_MAX {
        return Err(MusigError::Members {
            members: public_keys.len(),
        });
    }
    let mut members = Vec::with_capacity(public_keys.len());
    for (index, bytes) in public_keys.iter().enumerate() {
        if public_keys[..index].contains(bytes) {
            return Err(MusigError::Duplicate { index });
        }
        members.push(Point::try_from(bytes).map_err(|_| MusigError::MemberKey { index })?);
    }
    let mut sorted: Vec<([u8; 33], Point)> = public_keys
        .iter()
        .copied()
        .zip(members.iter().copied())
        .collect();
    sorted.sort_unstable_by_key(|(bytes, _)| *bytes);
    let context = KeyAggContext::new(sorted.into_iter().map(|(_, point)| point))
        .map_err(|_| MusigError::Unusable)?;
    Ok(AggregateKey { context, members })
}

/// [`aggregate_key`] and [`AggregateKey::tweaked`] in one.
///
/// # Errors
/// Those of both.
pub fn agreement_key(
    public_keys: &[[u8; 33]],
    deployment: &[u8; 28],
    terms_digest: &[u8; 32],
) -> Result<AgreementKey, MusigError> {
    aggregate_key(public_keys)?.tweaked(deployment, terms_digest)
}

/// The key of an agreement: its id, the key that settlements verify against, and a commitment to the terms, all at once
/// (`docs/wire-format.md` §6). Cheap to clone.
#[derive(Debug, Clone)]
pub struct AgreementKey {
    /// `a` = A.x, the agreement's id and a BIP-340 public key.
    pub id: [u8; 32],
    /// K.x, the aggregate before the tweak, with which the contract opens the commitment.
    pub aggregate_x: [u8; 32],
    /// A.y as it is, even or odd.
    pub y: [u8; 32],
    /// The tweak, reduced by the group order.
    pub tweak: [u8; 32],
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    context: KeyAggContext,
    members: Vec<Point>,
}

impl AgreementKey {
    /// How many nodes must sign.
    pub fn members(&self) -> usize {
        self.inner.members.len()
    }

    /// The node index of a compressed public key.
    pub fn index_of(&self, public_key: &[u8; 33]) -> Option<usize> {
        self.inner
            .members
            .iter()
            .position(|point| point.serialize() == *public_key)
    }
}

impl PartialEq for AgreementKey {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.inner.members == other.inner.members
    }
}

impl Eq for AgreementKey {}

/// A secret nonce: in memory only, for one partial signature. Not clonable, and consumed by
/// [`Session::partial_sign`], so that using it twice does not compile.
///
/// ```compile_fail
/// fn twice(nonce: diversity_keys::musig::SecretNonce, a: &diversity_keys::musig::Session,
///          b: &diversity_keys::musig::Session, key: &diversity_keys::SecretKey) {
///     let _ = a.partial_sign(nonce, key);
///     let _ = b.partial_sign(nonce, key); // used after move
/// }
/// ```
pub struct SecretNonce {
    /// The 97 bytes of BIP-327, on the heap so that moves leave no copies.
    bytes: Box<Zeroizing<[u8; 97]>>,
    public: [u8; 66],
    agreement: [u8; 32],
}

impl SecretNonce {
    /// Makes a nonce for one attempt (BIP-327 `NonceGen`). `randomness` must be fresh from a good generator
    /// ([`os_random`](crate::os_random)) and used for nothing else; the key, the agreement and `context` (which range, which
    /// attempt) are mixed in, so that a weak generator alone does not repeat a nonce.
    ///
    /// # Errors
    /// [`MusigError::NotAMember`] if the key is not one of the agreement's.
    pub fn generate(
        secret_key: &SecretKey,
        key: &AgreementKey,
        context: &[u8],
        randomness: &Zeroizing<[u8; 32]>,
    ) -> Result<Self, MusigError> {
        key.index_of(&secret_key.public_key())
            .ok_or(MusigError::NotAMember)?;
        let nonce = SecNonce::build_with_seckey(
            musig2::NonceSeed(**randomness),
            Scalar::from(*secret_key.inner()),
        )
        .with_aggregated_pubkey(key.inner.context.aggregated_pubkey::<Point>())
        .with_extra_input(&context)
        .build();
        let mut bytes = Box::new(Zeroizing::new([0u8; 97]));
        bytes.copy_from_slice(Zeroizing::new(nonce.serialize()).as_slice());
        Ok(Self {
            bytes,
            public: nonce.public_nonce().serialize(),
            agreement: key.id,
        })
    }

    /// The public half (66 bytes, BIP-327), which is sent to all.
    pub fn public(&self) -> [u8; 66] {
        self.public
    }
}

impl std::fmt::Debug for SecretNonce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretNonce").finish_non_exhaustive()
    }
}

/// One attempt to sign one message: the key, the public nonces of all members, and the message.
#[derive(Debug, Clone)]
pub struct Session {
    key: AgreementKey,
    nonces: Vec<PubNonce>,
    aggregated: AggNonce,
    message: [u8; 32],
}

impl Session {
    /// `public_nonces` in node-index order; `message` is the outcome or batch digest.
    ///
    /// # Errors
    /// [`MusigError::Count`], or [`MusigError::Nonce`] with the index of the first that does not parse.
    pub fn new(
        key: &AgreementKey,
        public_nonces: &[[u8; 66]],
        message: [u8; 32],
    ) -> Result<Self, MusigError> {
        key.check_count(public_nonces.len())?;
        let nonces = public_nonces
            .iter()
            .enumerate()
            .map(|(index, bytes)| {
                PubNonce::from_bytes(bytes).map_err(|_| MusigError::Nonce { index })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let aggregated = AggNonce::sum(&nonces);
        Ok(Self {
            key: key.clone(),
            nonces,
            aggregated,
            message,
        })
    }

    /// The digest that this session signs.
    pub fn message(&self) -> &[u8; 32] {
        &self.message
    }

    /// This node's partial signature. The secret nonce is gone before it is returned, also when this fails.
    ///
    /// # Errors
    /// [`MusigError::NotAMember`]; [`MusigError::ForeignNonce`] if the set does not hold this nonce at this node's place;
    /// [`MusigError::Inconsistent`] if the result does not verify.
    pub fn partial_sign(
        &self,
        nonce: SecretNonce,
        secret_key: &SecretKey,
    ) -> Result<[u8; 32], MusigError> {
        let index = self
            .key
            .index_of(&secret_key.public_key())
            .ok_or(MusigError::NotAMember)?;
        if nonce.agreement != self.key.id || self.nonces[index].serialize() != nonce.public {
            return Err(MusigError::ForeignNonce);
        }
        let secret =
            SecNonce::from_bytes(nonce.bytes.as_slice()).map_err(|_| MusigError::ForeignNonce)?;
        let partial: Result<MaybeScalar, _> = musig2::sign_partial(
            &self.key.inner.context,
            Scalar::from(*secret_key.inner()),
            secret,
            &self.aggregated,
            self.message,
        );
        drop(nonce);
        partial
            .map(|partial| partial.serialize())
            .map_err(|error| MusigError::Inconsistent {
                reason: error.to_string(),
            })
    }

    /// Checks one partial signature against its author's key and nonce.
    ///
    /// # Errors
    /// [`MusigError::Count`] if there is no such index, [`MusigError::BadPartial`] with the index otherwise.
    pub fn verify_partial(&self, index: usize, partial: &[u8; 32]) -> Result<(), MusigError> {
        let member = self.key.inner.members.get(index);
        let (Some(member), Some(nonce)) = (member, self.nonces.get(index)) else {
            return Err(MusigError::Count {
                given: index.saturating_add(1),
                members: self.key.members(),
            });
        };
        let partial =
            MaybeScalar::from_slice(partial).map_err(|_| MusigError::BadPartial { index })?;
        musig2::verify_partial(
            &self.key.inner.context,
            partial,
            &self.aggregated,
            *member,
            nonce,
            self.message,
        )
        .map_err(|_| MusigError::BadPartial { index })
    }

    /// Adds the partial signatures (node-index order) up to a BIP-340 signature under `a`, and checks it. Only if the sum
    /// is wrong is each one checked alone, to name who is at fault.
    ///
    /// # Errors
    /// [`MusigError::Count`], [`MusigError::BadPartial`] with the first index that is wrong, or
    /// [`MusigError::Inconsistent`].
    pub fn aggregate(&self, partials: &[[u8; 32]]) -> Result<[u8; 64], MusigError> {
        self.key.check_count(partials.len())?;
        let scalars = partials
            .iter()
            .enumerate()
            .map(|(index, bytes)| {
                MaybeScalar::from_slice(bytes).map_err(|_| MusigError::BadPartial { index })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let signature: Result<LiftedSignature, _> = musig2::aggregate_partial_signatures(
            &self.key.inner.context,
            &self.aggregated,
            scalars,
            self.message,
        );
        match signature {
            Ok(signature) => Ok(signature.compact().serialize()),
            Err(error) => {
                for (index, partial) in partials.iter().enumerate() {
                    self.verify_partial(index, partial)?;
                }
                Err(MusigError::Inconsistent {
                    reason: error.to_string(),
                })
            }
        }
    }
}

impl AgreementKey {
    fn check_count(&self, given: usize) -> Result<(), MusigError> {
        let members = self.members();
        if given != members {
            return Err(MusigError::Count { given, members });
        }
        Ok(())
    }
}

/// Whether `signature` (`R.x || s`) is the BIP-340 signature of `message` under the x-only key `a`.
pub fn verify_bip340(a: &[u8; 32], message: &[u8; 32], signature: &[u8; 64]) -> bool {
    XOnlyPublicKey::from_byte_array(*a).is_ok_and(|key| {
        SECP256K1
            .verify_schnorr(
                &schnorr::Signature::from_byte_array(*signature),
                message,
                &key,
            )
            .is_ok()
    })
}

/// R.y of a BIP-340 signature: the even y of the point at R.x, which the contract wants in its calldata.
/// Nothing if R.x is on no point.
pub fn nonce_y(signature: &[u8; 64]) -> Option<[u8; 32]> {
    let x: [u8; 32] = *signature.first_chunk()?;
    let point = Point::lift_x(x).ok()?;
    point.serialize_uncompressed().last_chunk().copied()
}

#[cfg(test)]
#[path = "musig_tests.rs"]
mod tests;
