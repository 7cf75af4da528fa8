//! Who registers: users, sensors, nodes.

use super::{sig, with_tail};
use crate::abi::IMainContract as C;
use crate::packed;
use crate::signature::{EvmSignature, SignatureError};
use alloy::sol_types::SolCall;
use diversity_proto::entity::{
    NodeDeclaration, SensorDeclaration, node_registration_digest, sensor_registration_digest,
};
use diversity_proto::{Deployment, NodeId, SensorId, Signature, UserId};

/// Registers a user under its signature of [`diversity_proto::terms::user_digest`].
pub fn register_user(user: &UserId, name: &str, signature: &EvmSignature) -> Vec<u8> {
    let call = C::registerUserCall {
        signature: sig(signature),
    };
    with_tail(call, &packed::user(user, name))
}

/// A sensor that is registered: its declaration and its own signature of
/// [`diversity_proto::entity::sensor_registration_digest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SensorEntry {
    /// Address of its signing key.
    pub sensor: SensorId,
    /// What it is.
    pub declaration: SensorDeclaration,
    /// By its own key.
    pub consent: Signature,
}

impl SensorEntry {
    fn consent(&self, d: &Deployment, owner: &UserId) -> Result<EvmSignature, SignatureError> {
        let digest = sensor_registration_digest(d, owner, &self.sensor, &self.declaration.digest());
        EvmSignature::by(&self.consent, &digest, &self.sensor.address())
    }
}

/// Registers a sensor under its owner's signature of [`diversity_proto::terms::sensor_owner_digest`].
///
/// # Errors
/// [`SignatureError`] if the sensor's consent is not its own.
pub fn register_sensor(
    d: &Deployment,
    owner: &UserId,
    owner_signature: &EvmSignature,
    entry: &SensorEntry,
) -> Result<Vec<u8>, SignatureError> {
    let call = C::registerSensorCall {
        sensor: entry.sensor.0.into(),
        owner: owner.0.into(),
        ownerSignature: sig(owner_signature),
        consent: sig(&entry.consent(d, owner)?),
    };
    Ok(with_tail(call, &entry.declaration.encode()))
}

/// Registers sensors of one owner under one signature of [`diversity_proto::terms::sensors_owner_digest`].
///
/// # Errors
/// [`SignatureError`] that names the first sensor whose consent is not its own.
pub fn register_sensors(
    d: &Deployment,
    owner: &UserId,
    owner_signature: &EvmSignature,
    entries: &[SensorEntry],
) -> Result<Vec<u8>, SignatureError> {
    let entries = entries
        .iter()
        .map(|e| {
            Ok(C::SensorEntry {
                sensor: e.sensor.0.into(),
                consent: sig(&e.consent(d, owner)?),
                declaration: e.declaration.encode().into(),
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(C::registerSensorsCall {
        owner: owner.0.into(),
        ownerSignature: sig(owner_signature),
        entries,
    }
    .abi_encode())
}

/// Registers a node, or a new revision of its declaration. `binding` is by its protocol key over
/// [`diversity_proto::entity::node_registration_digest`].
///
/// # Errors
/// [`SignatureError`] if the binding is not by the node's protocol key.
pub fn register_node(
    d: &Deployment,
    node: &NodeId,
    owner: &UserId,
    owner_signature: &EvmSignature,
    declaration: &NodeDeclaration,
    binding: &Signature,
) -> Result<Vec<u8>, SignatureError> {
    let digest = node_registration_digest(d, owner, node, &declaration.digest());
    let call = C::registerNodeCall {
        node: node.0.into(),
        owner: owner.0.into(),
        ownerSignature: sig(owner_signature),
        binding: sig(&EvmSignature::by(binding, &digest, &node.address())?),
    };
    Ok(with_tail(call, &declaration.encode()))
}
