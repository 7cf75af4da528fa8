//! Sensors whose key a test holds: they sign what it wants, true or not.

use crate::{E2eError, Result};
use diversity_client::Api;
use diversity_client::devnet::Devnet;
use diversity_client::sign::Signer;
use diversity_keys::SecretKey;
use diversity_proto::entity::{Period, SensorDeclaration};
use diversity_proto::frame::{Frame, Message, Variable, VariableType, write_body};
use diversity_proto::{Deployment, PublicKey, SensorId, Signature, Writer};

/// One sensor.
pub struct Lock {
    /// Its key.
    pub key: SecretKey,
    /// What it signs for.
    pub deployment: Deployment,
}

/// A message: Unix seconds, and whether the lock is open.
pub type Said = (u64, bool);

impl Lock {
    /// A new one, registered nowhere.
    ///
    /// # Errors
    /// [`E2eError::Key`].
    pub fn new(deployment: Deployment) -> Result<Self> {
        Ok(Self {
            key: SecretKey::generate()?,
            deployment,
        })
    }

    /// Its id.
    pub fn id(&self) -> SensorId {
        SensorId(self.key.address())
    }

    /// What it is registered as.
    pub fn declaration(&self, label: &str) -> SensorDeclaration {
        SensorDeclaration {
            public_key: PublicKey(self.key.public_key()),
            sensor_type: "bike-lock".into(),
            label: label.into(),
            variables: vec![Variable {
                name: "state".into(),
                ty: VariableType::Bool,
            }],
            period: Period::Month,
        }
    }

    /// A frame of its messages from `first_q` on, signed.
    pub fn frame(&self, first_q: u64, said: &[Said]) -> Frame {
        self.frame_of(
            first_q,
            said.iter()
                .map(|(time, open)| (*time, vec![u8::from(*open)]))
                .collect(),
        )
    }

    /// A frame with any values, signed.
    pub fn frame_of(&self, first_q: u64, messages: Vec<(u64, Vec<u8>)>) -> Frame {
        let mut body = Writer::new();
        write_body(
            &mut body,
            messages.iter().map(|(time, values)| Message {
                time: *time,
                values,
            }),
        );
        let width = messages.first().map_or(0, |m| m.1.len());
        let mut frame = Frame {
            sensor: self.id(),
            epoch: 0,
            first_q,
            count: u16::try_from(messages.len()).unwrap_or(u16::MAX),
            lost: 0,
            width: u8::try_from(width).unwrap_or(u8::MAX),
            opening: None,
            body: body.finish(),
            signature: Signature([0; 64]),
        };
        self.sign(&mut frame);
        frame
    }

    /// Signs a frame that was changed.
    pub fn sign(&self, frame: &mut Frame) {
        frame.signature = Signature(self.key.sign(&frame.digest(&self.deployment).0));
    }
}

/// What everything in a devnet is signed for.
pub fn deployment(devnet: &Devnet) -> Deployment {
    Deployment {
        chain_id: devnet.chain.chain_id,
        contract: devnet.contracts.main,
    }
}

/// A user of a devnet.
///
/// # Errors
/// [`E2eError::Sign`], [`E2eError::NotSo`] if there is none of this name.
pub fn user(devnet: &Devnet, name: &str) -> Result<Signer> {
    let user = devnet.users.iter().find(|u| u.name == name);
    let user = user.ok_or_else(|| E2eError::NotSo(format!("the devnet has no user {name}")))?;
    Ok(Signer::from_keystore(
        &user.keystore,
        &user.password_file,
        deployment(devnet),
    )?)
}

/// Registers sensors of a user through a node; at most 64.
///
/// # Errors
/// [`E2eError::Api`], [`E2eError::Sign`].
pub async fn register(api: &Api, owner: &Signer, locks: &[Lock]) -> Result {
    let declarations: Vec<_> = locks
        .iter()
        .enumerate()
        .map(|(i, l)| l.declaration(&format!("lock {i}")))
        .collect();
    let pairs: Vec<_> = declarations
        .iter()
        .zip(locks.iter().map(|l| &l.key))
        .collect();
    let count = api.registered(&owner.id()).await?;
    api.register_sensors(&owner.sensors(&pairs, count)?).await?;
    Ok(())
}
