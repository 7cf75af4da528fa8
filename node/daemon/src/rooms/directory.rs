//! Who is registered, as this node has read it from the chain, and what it holds of each sensor.

use std::collections::HashMap;
use std::sync::Arc;

use diversity_chain::look_back::Entity;
use diversity_client::api::{NodeView, Page, SensorView, UserView, VariableJson};
use diversity_client::hexed::Bytes;
use diversity_proto::entity::Period;
use diversity_proto::wire::Range;
use diversity_proto::{Deployment, Digest, NodeId, SensorId, UserId};

use super::core::Core;
use super::error::{RoomError, RoomResult, blocking};
use super::page;
use crate::node::driver::HeldSensor;
use crate::node::frames::Frames;
use crate::node::registry::{NodeRecord, SensorRecord, UserRecord};
use crate::node::shared::{Registered, Shared};
use crate::node::sought::Sought;

/// The room.
#[derive(Clone)]
pub struct Directory {
    deployment: Deployment,
    registered: Registered,
    frames: Arc<Frames>,
    core: Core,
    sought: Arc<Sought>,
}

impl Directory {
    /// Sees registrations, and what the core holds of sensors.
    pub fn new(shared: &Shared, core: Core) -> Self {
        Self {
            deployment: shared.identity.deployment,
            registered: shared.registered.clone(),
            frames: Arc::clone(&shared.durable.frames),
            core,
            sought: Arc::clone(&shared.sought),
        }
    }

    /// Users after `after`, ascending.
    pub fn users(&self, after: Option<UserId>, limit: Option<usize>) -> Page<UserView> {
        let registry = self.registered.read();
        let items = registry
            .users
            .iter()
            .filter(|(id, _)| after.is_none_or(|a| **id > a));
        page(items.map(|(id, r)| user_view(id, r)), |v| v.user, limit)
    }

    /// One user.
    ///
    /// # Errors
    /// [`RoomError::NotFound`].
    pub async fn user(&self, user: &UserId) -> RoomResult<UserView> {
        self.look_for(Entity::User(*user)).await;
        self.find_user(user).ok_or_else(|| {
            RoomError::not_found(
                format!("no user {user} is registered"),
                "Register it with POST /v1/users.",
            )
        })
    }

    /// One user, if it is registered.
    pub fn find_user(&self, user: &UserId) -> Option<UserView> {
        let registry = self.registered.read();
        registry.users.get(user).map(|r| user_view(user, r))
    }

    /// Sensors of an owner, or of all, after `after`, ascending.
    ///
    /// # Errors
    /// [`RoomError::Unavailable`].
    pub async fn sensors(
        &self,
        owner: Option<UserId>,
        after: Option<SensorId>,
        limit: Option<usize>,
    ) -> RoomResult<Page<SensorView>> {
        let found = {
            let registry = self.registered.read();
            let items = registry.sensors.iter().filter(|(id, r)| {
                after.is_none_or(|a| **id > a) && owner.is_none_or(|o| r.owner == o)
            });
            page(items.map(|(id, r)| (*id, r.clone())), |i| i.0, limit)
        };
        Ok(Page {
            items: self.sensor_views(found.items).await?,
            next: found.next,
        })
    }

    /// One sensor.
    ///
    /// # Errors
    /// [`RoomError::NotFound`], [`RoomError::Unavailable`].
    pub async fn sensor(&self, sensor: SensorId) -> RoomResult<SensorView> {
        self.look_for(Entity::Sensor(sensor)).await;
        let record = self.registered.read().sensors.get(&sensor).cloned();
        let record = record.ok_or_else(|| {
            RoomError::not_found(
                format!("no sensor {sensor} is registered"),
                "Register it with POST /v1/sensors.",
            )
        })?;
        let mut views = self.sensor_views(vec![(sensor, record)]).await?;
        Ok(views.remove(0))
    }

    /// Nodes of an owner, or of all, after `after`, ascending.
    pub fn nodes(
        &self,
        owner: Option<UserId>,
        after: Option<NodeId>,
        limit: Option<usize>,
    ) -> Page<NodeView> {
        let registry = self.registered.read();
        let items = registry
            .nodes
            .iter()
            .filter(|(id, r)| after.is_none_or(|a| **id > a) && owner.is_none_or(|o| r.owner == o));
        page(items.map(|(id, r)| node_view(id, r)), |v| v.node, limit)
    }

    /// One node.
    ///
    /// # Errors
    /// [`RoomError::NotFound`].
    pub async fn node(&self, node: &NodeId) -> RoomResult<NodeView> {
        self.look_for(Entity::Node(*node)).await;
        self.find_node(node).ok_or_else(|| {
            RoomError::not_found(
                format!("no node {node} is registered"),
                "Register it with POST /v1/nodes.",
            )
        })
    }

    /// One node, if it is registered.
    pub fn find_node(&self, node: &NodeId) -> Option<NodeView> {
        let registry = self.registered.read();
        registry.nodes.get(node).map(|r| node_view(node, r))
    }

    /// One who is asked for by id, and was dropped for others, is found on the chain again; if that takes too long, the next who asks
    /// finds it.
    async fn look_for(&self, entity: Entity) {
        self.sought.find(&self.registered, vec![entity]).await;
    }

    async fn sensor_views(
        &self,
        found: Vec<(SensorId, SensorRecord)>,
    ) -> RoomResult<Vec<SensorView>> {
        let sensors: Vec<_> = found.iter().map(|f| f.0).collect();
        let held = self.core.held(sensors.clone()).await?;
        let last = self.last_frames(&sensors, &held).await?;
        Ok(found
            .iter()
            .zip(held)
            .zip(last)
            .map(|(((sensor, r), held), last)| sensor_view(sensor, r, held, last))
            .collect())
    }

    /// For each sensor, the digest of the frame that holds its last contiguous message.
    async fn last_frames(
        &self,
        sensors: &[SensorId],
        held: &[HeldSensor],
    ) -> RoomResult<Vec<Option<Digest>>> {
        let last = |(sensor, held): (&SensorId, &HeldSensor)| {
            let q = held.as_ref()?.1.checked_sub(1)?;
            Some(Range {
                sensor: *sensor,
                from_q: q,
                to_q: q + 1,
            })
        };
        let ranges = sensors.iter().zip(held).filter_map(last).collect();
        let found = self.core.find(ranges).await?;
        let (frames, deployment) = (Arc::clone(&self.frames), self.deployment);
        let digests: HashMap<_, _> = blocking(move || {
            let digest = |at| {
                let frame = frames.decoded(at)?;
                Ok((frame.sensor, frame.digest(&deployment)))
            };
            found.into_iter().map(digest).collect()
        })
        .await?;
        Ok(sensors.iter().map(|s| digests.get(s).copied()).collect())
    }
}

fn user_view(user: &UserId, r: &UserRecord) -> UserView {
    UserView {
        user: *user,
        name: r.name.clone(),
        tx: r.tx,
        count: None,
    }
}

fn sensor_view(
    sensor: &SensorId,
    r: &SensorRecord,
    held: HeldSensor,
    last_frame: Option<Digest>,
) -> SensorView {
    let d = &r.declaration;
    let variable = |v: &diversity_proto::frame::Variable| VariableJson {
        name: v.name.clone(),
        ty: v.ty.name().into(),
    };
    SensorView {
        sensor: *sensor,
        owner: r.owner,
        public_key: d.public_key,
        sensor_type: d.sensor_type.clone(),
        label: d.label.clone(),
        variables: d.variables.iter().map(variable).collect(),
        period: match d.period {
            Period::None => "none",
            Period::Day => "day",
            Period::Month => "month",
        }
        .into(),
        declaration: Bytes(d.encode()),
        next_q: held.map_or(0, |h| h.1),
        epoch: held.map_or(0, |h| h.0),
        last_frame,
        void_from: r.void.map(|v| v.0),
    }
}

fn node_view(node: &NodeId, r: &NodeRecord) -> NodeView {
    let d = &r.declaration;
    NodeView {
        node: *node,
        owner: r.owner,
        public_key: d.public_key,
        account: d.account,
        peer_key: Bytes(d.peer_key.to_vec()),
        name: d.name.clone(),
        addresses: d.addresses.clone(),
        revision: d.revision,
        tx: r.tx,
    }
}
