//! Agreements: accepted, created, shown and closed.

use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::State;
use diversity_client::api::{
    AcceptRequest, AgreementCreation, AgreementSummary, AgreementView, CloseRequest,
    NodeAcceptance, Page, RereadRequest, ResolutionView, ResolveRequest,
};
use diversity_proto::AgreementId;
use serde::Deserialize;

use super::Api;
use super::extract::{Id, Json, Params, id};
use super::problem::ApiResult;

/// `POST /v1/agreements/accept`.
pub async fn accept(
    State(api): State<Arc<Api>>,
    Json(r): Json<AcceptRequest>,
) -> ApiResult<JsonAnswer<NodeAcceptance>> {
    Ok(JsonAnswer(api.rooms.acceptance.accept(&r).await?))
}

/// `POST /v1/agreements`.
pub async fn create(
    State(api): State<Arc<Api>>,
    Json(r): Json<AgreementCreation>,
) -> ApiResult<JsonAnswer<AgreementView>> {
    api.rooms.relay.create(&r).await?;
    Ok(JsonAnswer(
        api.rooms.standing.agreement(&r.agreement).await?,
    ))
}

#[derive(Deserialize)]
pub struct Paging {
    cursor: Option<String>,
    limit: Option<usize>,
}

/// `GET /v1/agreements`.
pub async fn list(
    State(api): State<Arc<Api>>,
    Params(p): Params<Paging>,
) -> ApiResult<JsonAnswer<Page<AgreementSummary>>> {
    let after = p.cursor.as_deref().map(id).transpose()?;
    let page = api.rooms.standing.agreements(after, p.limit, true).await?;
    Ok(JsonAnswer(page))
}

/// `GET /v1/agreements/{a}`.
pub async fn show(
    State(api): State<Arc<Api>>,
    Id(a): Id<AgreementId>,
) -> ApiResult<JsonAnswer<AgreementView>> {
    Ok(JsonAnswer(api.rooms.standing.agreement(&a).await?))
}

/// `POST /v1/agreements/{a}/close`.
pub async fn close(
    State(api): State<Arc<Api>>,
    Id(a): Id<AgreementId>,
    Json(r): Json<CloseRequest>,
) -> ApiResult<JsonAnswer<AgreementView>> {
    api.rooms.relay.close(&a, &r).await?;
    Ok(JsonAnswer(api.rooms.standing.agreement(&a).await?))
}

/// `POST /v1/agreements/{a}/resolve`.
pub async fn resolve(
    State(api): State<Arc<Api>>,
    Id(a): Id<AgreementId>,
    Json(r): Json<ResolveRequest>,
) -> ApiResult<JsonAnswer<ResolutionView>> {
    Ok(JsonAnswer(api.rooms.relay.resolve(&a, &r).await?))
}

/// `POST /v1/agreements/{a}/reread`.
pub async fn reread(
    State(api): State<Arc<Api>>,
    Id(a): Id<AgreementId>,
    Json(r): Json<RereadRequest>,
) -> ApiResult<JsonAnswer<AgreementView>> {
    api.rooms.archive.reread(&a, r.t).await?;
    Ok(JsonAnswer(api.rooms.standing.agreement(&a).await?))
}
