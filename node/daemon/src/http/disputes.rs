//! Disputes and their evidence.

use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::State;
use diversity_client::api::{AgreementView, DisputeView, EvidenceBundle, Page};
use diversity_proto::{AgreementId, Digest};
use serde::Deserialize;

use super::Api;
use super::extract::{Id, Params};
use super::problem::{ApiError, ApiResult};
use crate::rooms::archive::DisputePlace;

#[derive(Deserialize)]
pub struct Paging {
    cursor: Option<String>,
    limit: Option<usize>,
}

impl Paging {
    fn after(&self) -> ApiResult<Option<DisputePlace>> {
        let place = |cursor: &str| {
            DisputePlace::parse(cursor)
                .ok_or_else(|| ApiError::malformed("cursor is what an earlier page gave as next"))
        };
        self.cursor.as_deref().map(place).transpose()
    }
}

/// `GET /v1/disputes`.
pub async fn list(
    State(api): State<Arc<Api>>,
    Params(p): Params<Paging>,
) -> ApiResult<JsonAnswer<Page<DisputeView>>> {
    let page = api.rooms.archive.disputes(p.after()?, p.limit)?;
    Ok(JsonAnswer(page))
}

/// `GET /v1/agreements/{a}/disputes`.
pub async fn of_agreement(
    State(api): State<Arc<Api>>,
    Id(a): Id<AgreementId>,
    Params(p): Params<Paging>,
) -> ApiResult<JsonAnswer<Page<DisputeView>>> {
    let page = api.rooms.archive.disputes_of(&a, p.after()?, p.limit)?;
    Ok(JsonAnswer(page))
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
