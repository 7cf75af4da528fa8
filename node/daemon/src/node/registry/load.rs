//! The registry as an earlier run kept it.

use diversity_proto::codec::DecodeError;
use diversity_proto::terms::Terms;
use diversity_proto::{AgreementId, Digest, NodeId, SensorId, UserId};
use diversity_store::Store;

use super::records::{
    AgreementRecord, DisputeRecord, NodeRecord, SensorRecord, SkippedRecord, UserRecord,
    dropped_key, get, key,
};
use super::{Registry, RegistryError};
use crate::node::consent::Consent;

impl Registry {
    /// Reads what was kept.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn load(store: &Store, node: NodeId, consent: Consent) -> Result<Self, RegistryError> {
        let mut registry = Self {
            node: Some(node),
            consent,
            store: Some(store.clone()),
            ..Self::default()
        };
        fn each<K>(
            store: &Store,
            kind: u8,
            id: impl Fn(&[u8]) -> Option<K>,
            mut take: impl FnMut(K, &[u8]) -> Result<(), DecodeError>,
        ) -> Result<(), RegistryError> {
            for item in store.scan_prefix(&key(kind, &[])) {
                let (k, value) = item?;
                let k = id(&k[2..]).ok_or(DecodeError::Invalid("key of the registry"))?;
                take(k, &value)?;
            }
            Ok(())
        }
        let digest = |k: &[u8]| Some(Digest(k.try_into().ok()?));
        each(
            store,
            b'u',
            |k| Some(UserId(k.try_into().ok()?)),
            |k, v| {
                let user = get(v, |r| {
                    Ok(UserRecord {
                        name: r.text(256, "name")?,
                        tx: Digest::read(r)?,
                        block: r.u64("block")?,
                    })
                })?;
                registry.users.insert(k, user);
                Ok(())
            },
        )?;
        each(
            store,
            b's',
            |k| Some(SensorId(k.try_into().ok()?)),
            |k, v| {
                registry.sensors.insert(k, get(v, SensorRecord::read)?);
                Ok(())
            },
        )?;
        each(
            store,
            b'n',
            |k| Some(NodeId(k.try_into().ok()?)),
            |k, v| {
                registry.nodes.insert(k, get(v, NodeRecord::read)?);
                Ok(())
            },
        )?;
        each(store, b'a', digest, |k, v| {
            registry
                .agreements
                .insert(AgreementId(k.0), get(v, AgreementRecord::read)?);
            Ok(())
        })?;
        each(store, b'd', digest, |k, v| {
            registry
                .disputes
                .insert(k, get(v, |r| DisputeRecord::read(k, r))?);
            Ok(())
        })?;
        each(
            store,
            b'x',
            |_| Some(()),
            |(), v| {
                registry.skipped.push_back(get(v, SkippedRecord::read)?);
                Ok(())
            },
        )?;
        let dropped = store.get(&dropped_key())?;
        let dropped = dropped.map(|v| get(&v, |r| r.u64("dropped entries")));
        registry.dropped = dropped.transpose()?.unwrap_or(0);
        registry.sort_out();
        Ok(registry)
    }
}

/// All terms that are stored, accepted or published.
pub fn each_terms(
    store: &Store,
) -> impl Iterator<Item = Result<(AgreementId, Terms), RegistryError>> {
    store.scan_prefix(&key(b't', &[])).map(|item| {
        let (key, value) = item?;
        let a = key[2..].try_into().ok();
        let a = a.ok_or(DecodeError::Invalid("key of terms"))?;
        Ok((AgreementId(a), Terms::decode(&value)?))
    })
}
