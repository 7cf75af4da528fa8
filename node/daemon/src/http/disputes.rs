//! Disputes and their evidence.

use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::State;
use diversity_chain::calls;
use diversity_chain::evidence::{self, Evidence};
use diversity_client::api::{DisputeView, EvidenceBundle, ResolveRequest};
use diversity_client::hexed::Bytes;
use diversity_client::terms_json::TermsJson;
use diversity_proto::round::{Outcome, word};
use diversity_proto::terms::resolution_digest;
use diversity_proto::{AgreementId, Digest};

use super::Api;
use super::agreements::{load, user_signatures};
use super::extract::{Id, Json};
use super::problem::{ApiError, ApiResult};
use super::results::{certificate, commit_json, execution, recorded, reveal_json};
use crate::node::explain;
use crate::node::registry::{self, DisputeRecord};

fn view(api: &Api, record: &DisputeRecord) -> ApiResult<DisputeView> {
    let terms = match &record.agreement {
        Some(a) => registry::terms(&api.store, a).map_err(ApiError::internal)?,
        None => None,
    };
    Ok(explain::view(&api.registry(), terms.as_ref(), record))
}

fn views(
    api: &Api,
    wanted: impl Fn(&DisputeRecord) -> bool,
    by_t: bool,
) -> ApiResult<JsonAnswer<Vec<DisputeView>>> {
    let mut found: Vec<_> = api
        .registry()
        .disputes
        .values()
        .filter(|d| wanted(d))
        .cloned()
        .collect();
    found.sort_by_key(|d| {
        if by_t {
            (d.at, d.block)
        } else {
            (d.block, d.at)
        }
    });
    // The newest are kept where there are more than a page holds.
    let skip = found.len().saturating_sub(diversity_client::api::PAGE_MAX);
    found
        .iter()
        .skip(skip)
        .map(|d| view(api, d))
        .collect::<ApiResult<_>>()
        .map(JsonAnswer)
}

/// `GET /v1/disputes`.
pub async fn list(State(api): State<Arc<Api>>) -> ApiResult<JsonAnswer<Vec<DisputeView>>> {
    views(&api, |_| true, false)
}

/// `GET /v1/agreements/{a}/disputes`.
pub async fn of_agreement(
    State(api): State<Arc<Api>>,
    Id(a): Id<AgreementId>,
) -> ApiResult<JsonAnswer<Vec<DisputeView>>> {
    load(&api, &a)?;
    views(&api, |d| d.agreement == Some(a), true)
}

fn record(api: &Api, dispute: &Digest) -> ApiResult<DisputeRecord> {
    let found = api.registry().disputes.get(dispute).cloned();
    found.ok_or_else(|| {
        ApiError::not_found(
            format!("the chain holds no dispute {dispute}"),
            "See GET /v1/disputes.",
        )
    })
}

/// `GET /v1/disputes/{d}`.
pub async fn show(
    State(api): State<Arc<Api>>,
    Id(d): Id<Digest>,
) -> ApiResult<JsonAnswer<DisputeView>> {
    view(&api, &record(&api, &d)?).map(JsonAnswer)
}

/// `GET /v1/disputes/{d}/evidence`.
pub async fn evidence(
    State(api): State<Arc<Api>>,
    Id(d): Id<Digest>,
) -> ApiResult<JsonAnswer<EvidenceBundle>> {
    let record = record(&api, &d)?;
    let decoded = evidence::decode(&record.evidence).map_err(ApiError::internal)?;
    let mut bundle = EvidenceBundle {
        version: 1,
        dispute: view(&api, &record)?,
        deployment: api.deployment.into(),
        calldata: Bytes(record.evidence.clone()),
        terms: None,
        keys: Vec::new(),
        input: None,
        q_next: Vec::new(),
        seal: None,
        commits: Vec::new(),
        reveals: Vec::new(),
        frames: Vec::new(),
    };
    let Some(a) = record.agreement else {
        if let Evidence::SensorContradiction { first, second, .. } = &decoded {
            bundle.frames = [first, second].map(|f| Bytes(f.encode())).to_vec();
        }
        return Ok(JsonAnswer(bundle));
    };
    let (_, checked) = load(&api, &a)?;
    bundle.terms = Some(TermsJson::from(&checked.terms));
    bundle.keys.clone_from(&checked.keys);
    bundle.seal = match &decoded {
        Evidence::FalseReveal { seal, .. } | Evidence::UnequalReveals { seal, .. } => Some(*seal),
        _ => None,
    };
    if let Some(c) = certificate(&api, &a, record.at)? {
        let nodes = || checked.terms.nodes.iter().map(|n| n.node);
        bundle.commits = nodes()
            .zip(&c.commits)
            .map(|(n, c)| commit_json(n, c))
            .collect();
        bundle.reveals = nodes()
            .zip(&c.reveals)
            .map(|(n, r)| reveal_json(n, r))
            .collect();
    }
    if let Evidence::UnequalReveals { reveals, .. } = &decoded
        && bundle.reveals.is_empty()
    {
        bundle.reveals = reveals.iter().map(|(n, r)| reveal_json(*n, r)).collect();
    }
    if let Some(execution) = execution(&api, &a, record.at)? {
        bundle.q_next.clone_from(&execution.q_next);
        if let Some(window) = recorded(&api, &checked.terms, record.at, &execution).await? {
            bundle.input = Some(Bytes(window.input(&api, &a, record.at)?));
            bundle.frames = window.frames.into_iter().map(Bytes).collect();
        }
    }
    Ok(JsonAnswer(bundle))
}

/// `POST /v1/disputes/{d}/resolve`.
pub async fn resolve(
    State(api): State<Arc<Api>>,
    Id(d): Id<Digest>,
    Json(r): Json<ResolveRequest>,
) -> ApiResult<JsonAnswer<DisputeView>> {
    let found = record(&api, &d)?;
    if found.resolved {
        return view(&api, &found).map(JsonAnswer);
    }
    let a = found.agreement.ok_or_else(|| {
        ApiError::malformed(
            "a sensor's contradiction is final by itself: there is nothing to resolve",
        )
    })?;
    let (_, checked) = load(&api, &a)?;
    let kind = r
        .kind
        .output()
        .ok_or_else(|| ApiError::malformed("kind is null, value or trap"))?;
    if r.from > r.t || r.t != found.at {
        return Err(ApiError::malformed(format!(
            "the dispute is about t {}, and from lies at or before it",
            found.at
        )));
    }
    let outcome = Outcome {
        agreement: a,
        epoch: r.epoch,
        from: r.from,
        t: r.t,
        kind: kind as u8,
        result: r.result.0.clone(),
        context: r.context,
    };
    let word = word(outcome.kind, outcome.epoch, outcome.from, outcome.t);
    let digest = resolution_digest(&api.deployment, &d, &a, &word, &r.context, &r.result.0);
    let users = user_signatures(&checked.terms, &r.signatures, &digest)?;
    let data = calls::resolve(&checked.chain_key(), &checked.terms, &d, &outcome, &users);
    api.relay(format!("resolve dispute {d}"), data).await?;
    view(&api, &record(&api, &d)?).map(JsonAnswer)
}
