//! What a former version of the program has accepted (ADR 20): it kept no record of its own of that. An agreement that it ran goes on,
//! and so does a draft that it has accepted and that stands on no chain yet; what only stands on chain and names this node does not.

use std::collections::BTreeMap;

use diversity_engine::records;
use diversity_proto::terms::Terms;
use diversity_proto::{AgreementId, DecodeError};
use diversity_store::{Op, Store, StoreError};

use super::registry::{adopted_key, agreement_key, each_terms};
use super::run::NodeError;

/// Whether a version that keeps acceptances by themselves has had this store: from then on they alone count, and one whose file was
/// removed does not come back.
///
/// # Errors
/// [`StoreError`].
pub(super) fn is_over(store: &Store) -> Result<bool, StoreError> {
    Ok(store.get(&adopted_key())?.is_some())
}

/// Acceptances are kept by themselves.
///
/// # Errors
/// [`StoreError`].
pub(super) fn end(store: &Store) -> Result<(), StoreError> {
    if is_over(store)? {
        return Ok(());
    }
    store.write(vec![Op::Put(adopted_key(), Vec::new())])
}

/// Agreements and their terms.
///
/// # Errors
/// [`NodeError::Store`], [`NodeError::Registry`] or [`NodeError::Record`].
pub(super) fn found(store: &Store) -> Result<BTreeMap<AgreementId, Terms>, NodeError> {
    let mut found = BTreeMap::new();
    for item in store.scan_prefix(&[records::AGREEMENT]) {
        let (key, value) = item?;
        let id = key.get(1..).and_then(|k| k.try_into().ok());
        let id = id.ok_or(DecodeError::Invalid("key of an agreement"))?;
        let record = records::AgreementRecord::decode(&value)?;
        found.insert(AgreementId(id), record.terms);
    }
    // Terms are stored when a draft is accepted, and when the chain publishes them.
    for item in each_terms(store) {
        let (a, terms) = item?;
        if store.get(&agreement_key(&a))?.is_none() {
            found.entry(a).or_insert(terms);
        }
    }
    Ok(found)
}
