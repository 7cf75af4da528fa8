//! Disputes and their evidence.

use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::State;
use diversity_client::api::{AgreementView, DisputeView, EvidenceBundle};
use diversity_proto::{AgreementId, Digest};

use super::Api;
use super::extract::Id;
use super::problem::ApiResult;

/// `GET /v1/disputes`.
pub async fn list(State(api): State<Arc<Api>>) -> ApiResult<JsonAnswer<Vec<DisputeView>>> {
    Ok(JsonAnswer(api.rooms.archive.disputes()?))
}

/// `GET /v1/agreements/{a}/disputes`.
pub async fn of_agreement(
    State(api): State<Arc<Api>>,
    Id(a): Id<AgreementId>,
) -> ApiResult<JsonAnswer<Vec<DisputeView>>> {
    Ok(JsonAnswer(api.rooms.archive.disputes_of(&a)?))
}

/// `GET /v1/disputes/{d}`.
pub async fn show(
    State(api): State<Arc<Api>>,
    Id(d): Id<Digest>,
) -> ApiResult<JsonAnswer<DisputeView>> {
    Ok(JsonAnswer(api.rooms.archive.dispute(&d)?))
}

/// `GET /v1/disputes/{d}/evidence`.
pub async fn evidence(
    State(api): State<Arc<Api>>,
    Id(d): Id<Digest>,
) -> ApiResult<JsonAnswer<EvidenceBundle>> {
    Ok(JsonAnswer(api.rooms.archive.evidence(&d).await?))
}

/// `POST /v1/disputes/{d}/reread`.
pub async fn reread(
    State(api): State<Arc<Api>>,
    Id(d): Id<Digest>,
) -> ApiResult<JsonAnswer<AgreementView>> {
    let (a, t) = api.rooms.archive.disputed(&d)?;
    api.rooms.archive.reread(&a, t).await?;
    Ok(JsonAnswer(api.rooms.standing.agreement(&a).await?))
}
