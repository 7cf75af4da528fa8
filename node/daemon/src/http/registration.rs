//! Users, sensors and nodes.

use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::State;
use diversity_client::api::{
    BindingRequest, NodeBinding, NodeRegistration, NodeView, Page, SensorRegistrations, SensorView,
    SensorsRegistered, UserRegistration, UserView,
};
use diversity_client::hexed::Hexed;
use diversity_proto::{NodeId, SensorId, UserId};
use serde::Deserialize;

use super::Api;
use super::extract::{Id, Json, Params, id};
use super::problem::ApiResult;

#[derive(Deserialize)]
pub struct Paging {
    owner: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

impl Paging {
    fn after<I: Hexed>(&self) -> ApiResult<Option<I>> {
        self.cursor.as_deref().map(id).transpose()
    }

    fn owner(&self) -> ApiResult<Option<UserId>> {
        self.owner.as_deref().map(id).transpose()
    }
}

// ---- users

/// `POST /v1/users`.
pub async fn register_user(
    State(api): State<Arc<Api>>,
    Json(r): Json<UserRegistration>,
) -> ApiResult<JsonAnswer<UserView>> {
    Ok(JsonAnswer(api.rooms.relay.register_user(&r).await?))
}

/// `GET /v1/users`.
pub async fn users(
    State(api): State<Arc<Api>>,
    Params(p): Params<Paging>,
) -> ApiResult<JsonAnswer<Page<UserView>>> {
    Ok(JsonAnswer(api.rooms.directory.users(p.after()?, p.limit)))
}

/// `GET /v1/users/{user}`.
pub async fn user(
    State(api): State<Arc<Api>>,
    Id(user): Id<UserId>,
) -> ApiResult<JsonAnswer<UserView>> {
    let mut view = api.rooms.directory.user(&user).await?;
    view.count = api.rooms.relay.count(&user).await;
    Ok(JsonAnswer(view))
}

// ---- sensors

/// `POST /v1/sensors`.
pub async fn register_sensors(
    State(api): State<Arc<Api>>,
    Json(r): Json<SensorRegistrations>,
) -> ApiResult<JsonAnswer<SensorsRegistered>> {
    Ok(JsonAnswer(api.rooms.relay.register_sensors(&r).await?))
}

/// `GET /v1/sensors`.
pub async fn sensors(
    State(api): State<Arc<Api>>,
    Params(p): Params<Paging>,
) -> ApiResult<JsonAnswer<Page<SensorView>>> {
    let (after, owner) = (p.after()?, p.owner()?);
    let page = api.rooms.directory.sensors(owner, after, p.limit).await?;
    Ok(JsonAnswer(page))
}

/// `GET /v1/sensors/{sensor}`.
pub async fn sensor(
    State(api): State<Arc<Api>>,
    Id(sensor): Id<SensorId>,
) -> ApiResult<JsonAnswer<SensorView>> {
    Ok(JsonAnswer(api.rooms.directory.sensor(sensor).await?))
}

// ---- nodes

/// `POST /v1/nodes/binding`.
pub async fn binding(
    State(api): State<Arc<Api>>,
    Json(BindingRequest { owner }): Json<BindingRequest>,
) -> ApiResult<JsonAnswer<NodeBinding>> {
    Ok(JsonAnswer(api.rooms.own.binding(owner)?))
}

/// `POST /v1/nodes`.
pub async fn register_node(
    State(api): State<Arc<Api>>,
    Json(r): Json<NodeRegistration>,
) -> ApiResult<JsonAnswer<NodeView>> {
    Ok(JsonAnswer(api.rooms.relay.register_node(&r).await?))
}

/// `GET /v1/nodes`.
pub async fn nodes(
    State(api): State<Arc<Api>>,
    Params(p): Params<Paging>,
) -> ApiResult<JsonAnswer<Page<NodeView>>> {
    let (after, owner) = (p.after()?, p.owner()?);
    let page = api.rooms.directory.nodes(owner, after, p.limit);
    Ok(JsonAnswer(page))
}

/// `GET /v1/nodes/{node}`.
pub async fn node(
    State(api): State<Arc<Api>>,
    Id(node): Id<NodeId>,
) -> ApiResult<JsonAnswer<NodeView>> {
    Ok(JsonAnswer(api.rooms.directory.node(&node).await?))
}
