//! Registrations of users, sensors and nodes. One that stands already with the same content is a success.

use diversity_chain::calls;
use diversity_chain::goal::Goal;
use diversity_chain::look_back::Entity;
use diversity_client::api::{
    NodeRegistration, NodeView, SENSORS_AT_ONCE_MAX, SensorEntry, SensorRegistrations,
    SensorsRegistered, UserRegistration, UserView,
};
use diversity_keys::address_of;
use diversity_proto::entity::{
    NAME_BYTES_MAX, NodeDeclaration, SensorDeclaration, is_printable, node_registration_digest,
    sensor_registration_digest,
};
use diversity_proto::terms::{
    node_owner_digest, sensor_owner_digest, sensors_owner_digest, user_digest,
};
use diversity_proto::{NodeId, SensorId, UserId};

use super::{Relay, signed, to_main, unseen};
use crate::node::chain::Relayed;
use crate::rooms::error::{RoomError, RoomResult};

impl Relay {
    /// How many entities stand registered of a user, by the contract; nothing while the chain cannot be asked.
    pub async fn count(&self, user: &UserId) -> Option<u64> {
        self.line.count(*user).await.ok()
    }

    /// What an owner signs serves once: it covers how many entities stand registered of the owner.
    async fn counts(&self, owner: &UserId, signed: u64) -> RoomResult<()> {
        let count = self.line.count(*owner).await?;
        if signed == count {
            return Ok(());
        }
        Err(RoomError::conflict(
            format!(
                "{count} entities stand registered of {owner}, and {signed} is what was signed"
            ),
            "Sign again with the count that GET /v1/users/{user} gives.",
        ))
    }

    /// Registers a user under its own signature.
    ///
    /// # Errors
    /// [`RoomError::Malformed`], [`RoomError::Signature`], [`RoomError::Conflict`] under another name, and those of
    /// [`super::Line::mined`].
    pub async fn register_user(&self, r: &UserRegistration) -> RoomResult<UserView> {
        if r.name.is_empty() || r.name.len() > NAME_BYTES_MAX || !is_printable(&r.name) {
            return Err(RoomError::Malformed(format!(
                "name takes 1 to {NAME_BYTES_MAX} bytes without control characters"
            )));
        }
        let signature = signed(
            &r.signature,
            &user_digest(&self.deployment, &r.user, &r.name),
            r.user.address(),
            "the user's signature",
        )?;
        self.recall(&r.user).await?;
        match self.directory.find_user(&r.user) {
            Some(known) if known.name == r.name => return Ok(known),
            Some(known) => {
                return Err(RoomError::conflict(
                    format!("{} stands registered as {:?}", r.user, known.name),
                    "A user keeps its name; use another account for another name.",
                ));
            }
            None => {}
        }
        let data = calls::register_user(&r.user, &r.name, &signature);
        let label = format!("register user {}", r.user);
        self.line
            .mined(to_main(label, data, Goal::User(r.user)))
            .await?;
        self.directory.find_user(&r.user).ok_or_else(unseen)
    }

    /// Registers 1 to [`SENSORS_AT_ONCE_MAX`] sensors of one owner in one transaction, each with its own consent.
    ///
    /// # Errors
    /// [`RoomError::Malformed`], [`RoomError::NotRegistered`] for the owner, [`RoomError::Signature`], [`RoomError::Conflict`]
    /// for another declaration or owner, and those of [`super::Line::mined`].
    pub async fn register_sensors(&self, r: &SensorRegistrations) -> RoomResult<SensorsRegistered> {
        if r.sensors.is_empty() || r.sensors.len() > SENSORS_AT_ONCE_MAX {
            return Err(RoomError::Malformed(format!(
                "1 to {SENSORS_AT_ONCE_MAX} sensors are registered at once"
            )));
        }
        self.owner_is_registered(&r.owner).await?;
        let mut entries = Vec::with_capacity(r.sensors.len());
        let mut known = 0;
        for (i, entry) in r.sensors.iter().enumerate() {
            let entry = self.consenting(i, entry, &r.owner)?;
            known += usize::from(self.stands(&entry, &r.owner)?);
            entries.push(entry);
        }
        let data = self.owner_call(r, &entries)?;
        let sensors: Vec<_> = entries.iter().map(|e| e.sensor).collect();
        if known == sensors.len() {
            return Ok(SensorsRegistered { sensors, tx: None });
        }
        self.counts(&r.owner, r.count).await?;
        let label = format!("register {} sensors of {}", sensors.len(), r.owner);
        let call = Relayed {
            label,
            data,
            to_cells: false,
            // The contract keeps no list that could be asked.
            goal: None,
        };
        let tx = self.line.mined(call).await?;
        Ok(SensorsRegistered {
            sensors,
            tx: Some(tx),
        })
    }

    /// Registers a node, or a new revision of it, with its binding and its owner's signature.
    ///
    /// # Errors
    /// [`RoomError::Malformed`], [`RoomError::NotRegistered`] for the owner, [`RoomError::Signature`], [`RoomError::Conflict`]
    /// for a revision that is not newer, and those of [`super::Line::mined`].
    pub async fn register_node(&self, r: &NodeRegistration) -> RoomResult<NodeView> {
        let (d, b) = (&self.deployment, &r.binding);
        let declaration = NodeDeclaration::decode(&b.declaration.0)
            .map_err(|e| RoomError::Malformed(format!("declaration of the node: {e}")))?;
        let node = address_of(&declaration.public_key.0)
            .map(NodeId)
            .map_err(|e| RoomError::Malformed(e.to_string()))?;
        if node != b.node {
            return Err(RoomError::Malformed(format!(
                "the declaration is that of node {node}, not of {}",
                b.node
            )));
        }
        self.owner_is_registered(&b.owner).await?;
        let digest = node_registration_digest(d, &b.owner, &node, &declaration.digest());
        signed(&b.signature, &digest, node.address(), "the node's binding")?;
        let owner = signed(
            &r.owner_signature,
            &node_owner_digest(d, &node, &b.owner, &declaration.digest(), r.count),
            b.owner.address(),
            "the owner's signature",
        )?;
        let known = self.registered.read().nodes.get(&node).cloned();
        if let Some(known) = known {
            let revision = known.declaration.revision;
            if known.declaration == declaration && known.owner == b.owner {
                return self.directory.find_node(&node).ok_or_else(unseen);
            }
            if revision >= declaration.revision {
                return Err(RoomError::conflict(
                    format!("revision {revision} of node {node} stands registered"),
                    "Have the node make a new binding, which carries the next revision.",
                ));
            }
        }
        self.counts(&b.owner, r.count).await?;
        let binding = b.signature.compact();
        let data = calls::register_node(d, &node, &b.owner, &owner, &declaration, &binding)
            .map_err(|e| RoomError::Signature(e.to_string()))?;
        let goal = Goal::Node {
            node,
            revision: declaration.revision,
        };
        let label = format!("register node {node}");
        self.line.mined(to_main(label, data, goal)).await?;
        self.directory.find_node(&node).ok_or_else(unseen)
    }

    /// A user that stands registered and was dropped here while it was a stranger is found again; the contract is asked first, since
    /// looking through the chain takes longer.
    async fn recall(&self, user: &UserId) -> RoomResult<()> {
        let here = {
            let registry = self.registered.read();
            !registry.is_partial() || registry.users.contains_key(user)
        };
        if here || self.line.count(*user).await? == 0 {
            return Ok(());
        }
        self.book.find(vec![Entity::User(*user)]).await
    }

    async fn owner_is_registered(&self, owner: &UserId) -> RoomResult<()> {
        self.recall(owner).await?;
        if self.registered.read().users.contains_key(owner) {
            return Ok(());
        }
        Err(RoomError::NotRegistered(format!(
            "the owner {owner} is no registered user"
        )))
    }

    /// The `i`-th sensor of a request, if it consents to the owner itself.
    fn consenting(
        &self,
        i: usize,
        entry: &SensorEntry,
        owner: &UserId,
    ) -> RoomResult<calls::SensorEntry> {
        let malformed = |e: String| RoomError::Malformed(format!("declaration of sensor {i}: {e}"));
        let declaration = SensorDeclaration::decode(&entry.declaration.0)
            .map_err(|e| malformed(e.to_string()))?;
        let sensor = address_of(&declaration.public_key.0)
            .map(SensorId)
            .map_err(|e| malformed(e.to_string()))?;
        let digest =
            sensor_registration_digest(&self.deployment, owner, &sensor, &declaration.digest());
        signed(
            &entry.signature,
            &digest,
            sensor.address(),
            &format!("the consent of sensor {i}"),
        )?;
        Ok(calls::SensorEntry {
            sensor,
            declaration,
            consent: entry.signature.compact(),
        })
    }

    /// Whether the sensor stands registered with just this content.
    fn stands(&self, entry: &calls::SensorEntry, owner: &UserId) -> RoomResult<bool> {
        let registry = self.registered.read();
        let Some(known) = registry.sensors.get(&entry.sensor) else {
            return Ok(false);
        };
        if known.declaration == entry.declaration && known.owner == *owner {
            return Ok(true);
        }
        Err(RoomError::conflict(
            format!(
                "sensor {} stands registered with another declaration or owner",
                entry.sensor
            ),
            "A sensor keeps its declaration; give it a new key for another one.",
        ))
    }

    /// The call, after the owner's signature: one sensor and several are signed in different forms.
    fn owner_call(
        &self,
        r: &SensorRegistrations,
        entries: &[calls::SensorEntry],
    ) -> RoomResult<Vec<u8>> {
        let d = &self.deployment;
        let owner = |digest| {
            let who = "the owner's signature";
            signed(&r.owner_signature, &digest, r.owner.address(), who)
        };
        let data = if let [entry] = entries {
            let declared = entry.declaration.digest();
            let digest = sensor_owner_digest(d, &entry.sensor, &r.owner, &declared, r.count);
            calls::register_sensor(d, &r.owner, &owner(digest)?, entry)
        } else {
            let listed: Vec<_> = entries
                .iter()
                .map(|e| (e.sensor, e.declaration.digest()))
                .collect();
            let digest = sensors_owner_digest(d, &r.owner, &listed, r.count);
            calls::register_sensors(d, &r.owner, &owner(digest)?, entries)
        };
        data.map_err(|e| RoomError::Signature(e.to_string()))
    }
}
