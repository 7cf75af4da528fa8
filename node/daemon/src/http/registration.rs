//! Users, sensors and nodes: who signs is checked here already, so that a wrong signature costs no gas.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::State;
use diversity_chain::EvmSignature;
use diversity_chain::calls;
use diversity_client::api::{
    BindingRequest, NodeBinding, NodeRegistration, NodeView, Page, SENSORS_AT_ONCE_MAX,
    SensorRegistrations, SensorView, SensorsRegistered, UserRegistration, UserView, VariableJson,
};
use diversity_client::hexed::{Bytes, Hexed, WalletSignature};
use diversity_keys::address_of;
use diversity_proto::entity::{
    NAME_BYTES_MAX, NodeDeclaration, Period, SensorDeclaration, node_registration_digest,
    sensor_registration_digest,
};
use diversity_proto::terms::{
    node_owner_digest, sensor_owner_digest, sensors_owner_digest, user_digest,
};
use diversity_proto::wire::Range;
use diversity_proto::{Address, Digest, NodeId, SensorId, UserId};
use serde::Deserialize;

use super::extract::{Id, Json, Params};
use super::problem::{ApiError, ApiResult};
use super::{Api, page};
use crate::node::driver::{Command, HeldSensor};
use crate::node::registry::{NodeRecord, SensorRecord, UserRecord};

#[derive(Deserialize)]
pub struct Paging {
    owner: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

impl Paging {
    fn after<I: Hexed>(&self) -> ApiResult<Option<I>> {
        self.cursor.as_deref().map(super::extract::id).transpose()
    }
    fn owner(&self) -> ApiResult<Option<UserId>> {
        self.owner.as_deref().map(super::extract::id).transpose()
    }
}

/// Checks a wallet's signature, and gives it in the contract's form.
pub fn signed(
    signature: &WalletSignature,
    digest: &Digest,
    by: Address,
    who: &str,
) -> ApiResult<EvmSignature> {
    match signature.signer(digest) {
        Ok(signer) if signer == by => EvmSignature::from_rsv(&signature.0)
            .map_err(|e| ApiError::signature(format!("{who}: {e}"))),
        Ok(signer) => Err(ApiError::signature(format!(
            "{who}: signed by {signer}, and {by} should have signed"
        ))),
        Err(error) => Err(ApiError::signature(format!("{who}: {error}"))),
    }
}

// ---- users

/// `POST /v1/users`.
pub async fn register_user(
    State(api): State<Arc<Api>>,
    Json(r): Json<UserRegistration>,
) -> ApiResult<JsonAnswer<UserView>> {
    if r.name.is_empty() || r.name.len() > NAME_BYTES_MAX {
        return Err(ApiError::malformed(format!(
            "name takes 1 to {NAME_BYTES_MAX} bytes"
        )));
    }
    let signature = signed(
        &r.signature,
        &user_digest(&api.deployment, &r.user, &r.name),
        r.user.address(),
        "the user's signature",
    )?;
    let known = api.registry().users.get(&r.user).cloned();
    match known {
        Some(known) if known.name == r.name => return Ok(JsonAnswer(user_view(&r.user, &known))),
        Some(known) => {
            let detail = format!("{} stands registered as {:?}", r.user, known.name);
            return Err(ApiError::conflict(
                detail,
                "A user keeps its name; use another account for another name.",
            ));
        }
        None => {}
    }
    let data = calls::register_user(&r.user, &r.name, &signature);
    api.relay(format!("register user {}", r.user), data).await?;
    let record = api.registry().users.get(&r.user).cloned();
    let record = record.ok_or_else(|| {
        ApiError::internal("the registration was mined, and its event is missing")
    })?;
    Ok(JsonAnswer(user_view(&r.user, &record)))
}

fn user_view(user: &UserId, r: &UserRecord) -> UserView {
    UserView {
        user: *user,
        name: r.name.clone(),
        tx: r.tx,
    }
}

/// `GET /v1/users`.
pub async fn users(
    State(api): State<Arc<Api>>,
    Params(p): Params<Paging>,
) -> ApiResult<JsonAnswer<Page<UserView>>> {
    let after = p.after()?;
    let registry = api.registry();
    let items = registry
        .users
        .iter()
        .filter(|(id, _)| after.is_none_or(|a| **id > a));
    Ok(JsonAnswer(page(
        items.map(|(id, r)| (id.hex(), user_view(id, r))),
        p.limit,
    )))
}

/// `GET /v1/users/{user}`.
pub async fn user(
    State(api): State<Arc<Api>>,
    Id(user): Id<UserId>,
) -> ApiResult<JsonAnswer<UserView>> {
    let registry = api.registry();
    let record = registry.users.get(&user);
    let record = record.ok_or_else(|| {
        ApiError::not_found(
            format!("no user {user} is registered"),
            "Register it with POST /v1/users.",
        )
    })?;
    Ok(JsonAnswer(user_view(&user, record)))
}

// ---- sensors

/// `POST /v1/sensors`.
pub async fn register_sensors(
    State(api): State<Arc<Api>>,
    Json(r): Json<SensorRegistrations>,
) -> ApiResult<JsonAnswer<SensorsRegistered>> {
    if r.sensors.is_empty() || r.sensors.len() > SENSORS_AT_ONCE_MAX {
        return Err(ApiError::malformed(format!(
            "1 to {SENSORS_AT_ONCE_MAX} sensors are registered at once"
        )));
    }
    if !api.registry().users.contains_key(&r.owner) {
        return Err(ApiError::not_registered(format!(
            "the owner {} is no registered user",
            r.owner
        )));
    }
    let d = &api.deployment;
    let mut entries = Vec::with_capacity(r.sensors.len());
    let mut known = 0;
    for (i, entry) in r.sensors.iter().enumerate() {
        let declaration = SensorDeclaration::decode(&entry.declaration.0)
            .map_err(|e| ApiError::malformed(format!("declaration of sensor {i}: {e}")))?;
        let sensor = address_of(&declaration.public_key.0)
            .map(SensorId)
            .map_err(|e| ApiError::malformed(format!("declaration of sensor {i}: {e}")))?;
        let digest = sensor_registration_digest(d, &r.owner, &sensor, &declaration.digest());
        signed(
            &entry.signature,
            &digest,
            sensor.address(),
            &format!("the consent of sensor {i}"),
        )?;
        if let Some(registered) = api.registry().sensors.get(&sensor) {
            if registered.declaration != declaration || registered.owner != r.owner {
                let detail =
                    format!("sensor {sensor} stands registered with another declaration or owner");
                return Err(ApiError::conflict(
                    detail,
                    "A sensor keeps its declaration; give it a new key for another one.",
                ));
            }
            known += 1;
        }
        entries.push(calls::SensorEntry {
            sensor,
            declaration,
            consent: entry.signature.compact(),
        });
    }
    let sensors: Vec<_> = entries.iter().map(|e| e.sensor).collect();
    let who = "the owner's signature";
    let data = if let [entry] = &entries[..] {
        let digest = sensor_owner_digest(d, &entry.sensor, &r.owner, &entry.declaration.digest());
        let signature = signed(&r.owner_signature, &digest, r.owner.address(), who)?;
        calls::register_sensor(d, &r.owner, &signature, entry)
    } else {
        let listed: Vec<_> = entries
            .iter()
            .map(|e| (e.sensor, e.declaration.digest()))
            .collect();
        let signature = signed(
            &r.owner_signature,
            &sensors_owner_digest(d, &r.owner, &listed),
            r.owner.address(),
            who,
        )?;
        calls::register_sensors(d, &r.owner, &signature, &entries)
    };
    let data = data.map_err(|e| ApiError::signature(e.to_string()))?;
    if known == sensors.len() {
        return Ok(JsonAnswer(SensorsRegistered { sensors, tx: None }));
    }
    let label = format!("register {} sensors of {}", sensors.len(), r.owner);
    let tx = api.relay(label, data).await?;
    Ok(JsonAnswer(SensorsRegistered {
        sensors,
        tx: Some(tx),
    }))
}

async fn sensor_views(
    api: &Api,
    found: Vec<(SensorId, SensorRecord)>,
) -> ApiResult<Vec<SensorView>> {
    let sensors: Vec<_> = found.iter().map(|f| f.0).collect();
    let held = api
        .ask(|reply| Command::Held {
            sensors: sensors.clone(),
            reply,
        })
        .await?;
    let last = last_frames(api, &sensors, &held).await?;
    let views = found
        .into_iter()
        .zip(held)
        .zip(last)
        .map(|(((sensor, r), held), last_frame)| {
            let d = &r.declaration;
            SensorView {
                sensor,
                owner: r.owner,
                public_key: d.public_key,
                sensor_type: d.sensor_type.clone(),
                label: d.label.clone(),
                variables: d
                    .variables
                    .iter()
                    .map(|v| VariableJson {
                        name: v.name.clone(),
                        ty: v.ty.name().into(),
                    })
                    .collect(),
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
                void_from: r.void_from,
            }
        });
    Ok(views.collect())
}

/// For each sensor, the digest of the frame that holds its last contiguous message.
async fn last_frames(
    api: &Api,
    sensors: &[SensorId],
    held: &[HeldSensor],
) -> ApiResult<Vec<Option<Digest>>> {
    let last = |(sensor, held): (&SensorId, &HeldSensor)| {
        let q = held.as_ref()?.1.checked_sub(1)?;
        Some(Range {
            sensor: *sensor,
            from_q: q,
            to_q: q + 1,
        })
    };
    let ranges = sensors.iter().zip(held).filter_map(last).collect();
    let found = api.ask(|reply| Command::Find { ranges, reply }).await?;
    let (frames, deployment) = (Arc::clone(&api.frames), api.deployment);
    let digests = tokio::task::spawn_blocking(move || {
        found
            .into_iter()
            .map(|at| {
                frames
                    .decoded(at)
                    .map(|f| (f.sensor, f.digest(&deployment)))
            })
            .collect::<Result<HashMap<_, _>, _>>()
    });
    let digests = digests
        .await
        .map_err(ApiError::internal)?
        .map_err(ApiError::internal)?;
    Ok(sensors.iter().map(|s| digests.get(s).copied()).collect())
}

/// `GET /v1/sensors`.
pub async fn sensors(
    State(api): State<Arc<Api>>,
    Params(p): Params<Paging>,
) -> ApiResult<JsonAnswer<Page<SensorView>>> {
    let (after, owner) = (p.after()?, p.owner()?);
    let found = {
        let registry = api.registry();
        let items = registry
            .sensors
            .iter()
            .filter(|(id, r)| after.is_none_or(|a| **id > a) && owner.is_none_or(|o| r.owner == o));
        page(items.map(|(id, r)| (id.hex(), (*id, r.clone()))), p.limit)
    };
    Ok(JsonAnswer(Page {
        items: sensor_views(&api, found.items).await?,
        next: found.next,
    }))
}

/// `GET /v1/sensors/{sensor}`.
pub async fn sensor(
    State(api): State<Arc<Api>>,
    Id(sensor): Id<SensorId>,
) -> ApiResult<JsonAnswer<SensorView>> {
    let record = api.registry().sensors.get(&sensor).cloned();
    let record = record.ok_or_else(|| {
        ApiError::not_found(
            format!("no sensor {sensor} is registered"),
            "Register it with POST /v1/sensors.",
        )
    })?;
    let mut views = sensor_views(&api, vec![(sensor, record)]).await?;
    Ok(JsonAnswer(views.remove(0)))
}

// ---- nodes

/// This node's declaration: the registered one if nothing in it has changed, else the next revision.
pub fn declaration(api: &Api) -> NodeDeclaration {
    let mut declaration = NodeDeclaration {
        public_key: api.keys.public_key(),
        account: Address(api.keys.account.address()),
        peer_key: api.peer,
        name: api.config.name.clone(),
        addresses: api.config.advertised().to_vec(),
        revision: 0,
    };
    if let Some(registered) = api.registry().nodes.get(&api.node) {
        let revision = registered.declaration.revision;
        declaration.revision = revision;
        if declaration != registered.declaration {
            declaration.revision = revision.saturating_add(1);
        }
    }
    declaration
}

/// `POST /v1/nodes/binding`.
pub async fn binding(
    State(api): State<Arc<Api>>,
    Json(BindingRequest { owner }): Json<BindingRequest>,
) -> ApiResult<JsonAnswer<NodeBinding>> {
    if let Some(registered) = api.registry().nodes.get(&api.node)
        && registered.owner != owner
    {
        let detail = format!("this node is registered by {}", registered.owner);
        return Err(ApiError::conflict(
            detail,
            "Let that user register it, or give the node new keys.",
        ));
    }
    let declaration = declaration(&api);
    if declaration.addresses.len() > diversity_proto::entity::ADDRESSES_MAX {
        return Err(ApiError::malformed(
            "p2p_advertise names more than 8 addresses: shorten it",
        ));
    }
    let digest =
        node_registration_digest(&api.deployment, &owner, &api.node, &declaration.digest());
    Ok(JsonAnswer(NodeBinding {
        node: api.node,
        owner,
        declaration: Bytes(declaration.encode()),
        signature: WalletSignature(api.keys.protocol.sign_recoverable(&digest.0)),
    }))
}

/// `POST /v1/nodes`.
pub async fn register_node(
    State(api): State<Arc<Api>>,
    Json(r): Json<NodeRegistration>,
) -> ApiResult<JsonAnswer<NodeView>> {
    let (d, b) = (&api.deployment, &r.binding);
    let declaration = NodeDeclaration::decode(&b.declaration.0)
        .map_err(|e| ApiError::malformed(format!("declaration of the node: {e}")))?;
    let node = address_of(&declaration.public_key.0)
        .map(NodeId)
        .map_err(|e| ApiError::malformed(e.to_string()))?;
    if node != b.node {
        return Err(ApiError::malformed(format!(
            "the declaration is that of node {node}, not of {}",
            b.node
        )));
    }
    if !api.registry().users.contains_key(&b.owner) {
        return Err(ApiError::not_registered(format!(
            "the owner {} is no registered user",
            b.owner
        )));
    }
    let digest = node_registration_digest(d, &b.owner, &node, &declaration.digest());
    signed(&b.signature, &digest, node.address(), "the node's binding")?;
    let digest = node_owner_digest(d, &node, &b.owner, &declaration.digest());
    let owner = signed(
        &r.owner_signature,
        &digest,
        b.owner.address(),
        "the owner's signature",
    )?;
    if let Some(known) = api.registry().nodes.get(&node) {
        if known.declaration == declaration && known.owner == b.owner {
            return Ok(JsonAnswer(node_view(&node, known)));
        }
        if known.declaration.revision >= declaration.revision {
            let detail = format!(
                "revision {} of node {node} stands registered",
                known.declaration.revision
            );
            return Err(ApiError::conflict(
                detail,
                "Have the node make a new binding, which carries the next revision.",
            ));
        }
    }
    let data = calls::register_node(
        d,
        &node,
        &b.owner,
        &owner,
        &declaration,
        &b.signature.compact(),
    )
    .map_err(|e| ApiError::signature(e.to_string()))?;
    api.relay(format!("register node {node}"), data).await?;
    let registry = api.registry();
    let record = registry.nodes.get(&node);
    let record = record.ok_or_else(|| {
        ApiError::internal("the registration was mined, and its event is missing")
    })?;
    Ok(JsonAnswer(node_view(&node, record)))
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

/// `GET /v1/nodes`.
pub async fn nodes(
    State(api): State<Arc<Api>>,
    Params(p): Params<Paging>,
) -> ApiResult<JsonAnswer<Page<NodeView>>> {
    let (after, owner) = (p.after()?, p.owner()?);
    let registry = api.registry();
    let items = registry
        .nodes
        .iter()
        .filter(|(id, r)| after.is_none_or(|a| **id > a) && owner.is_none_or(|o| r.owner == o));
    Ok(JsonAnswer(page(
        items.map(|(id, r)| (id.hex(), node_view(id, r))),
        p.limit,
    )))
}

/// `GET /v1/nodes/{node}`.
pub async fn node(
    State(api): State<Arc<Api>>,
    Id(node): Id<NodeId>,
) -> ApiResult<JsonAnswer<NodeView>> {
    let registry = api.registry();
    let record = registry.nodes.get(&node);
    let record = record.ok_or_else(|| {
        ApiError::not_found(
            format!("no node {node} is registered"),
            "Register it with POST /v1/nodes.",
        )
    })?;
    Ok(JsonAnswer(node_view(&node, record)))
}
