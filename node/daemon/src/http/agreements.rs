//! Agreements: accepted, created, shown and closed.

use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::State;
use diversity_chain::{EvmSignature, calls};
use diversity_client::abi::usable_name;
use diversity_client::api::{
    AcceptRequest, AgreementCreation, AgreementSummary, AgreementView, CloseRequest, Life,
    NodeAcceptance, Page, Progress, UserSignature,
};
use diversity_client::hexed::WalletSignature;
use diversity_client::terms_json::{TermsError, TermsJson};
use diversity_engine::AgreementStatus;
use diversity_engine::records;
use diversity_keys::musig::AgreementKey;
use diversity_proto::terms::{
    Qos, Terms, WindowSpec, acceptance_digest, agreement_digest, close_digest,
};
use diversity_proto::{AgreementId, Digest, PublicKey};
use diversity_store::Op;
use serde::Deserialize;

use super::extract::{Id, Json, Params};
use super::problem::{ApiError, ApiResult};
use super::registration::signed;
use super::{Api, page};
use crate::node::activation::{aggregate, node_keys};
use crate::node::driver::{Command, unix_ms};
use crate::node::registry::{self, AgreementRecord, terms_key};

/// Sensors named in one reason to wait.
const NAMED_MAX: usize = 10;

/// An agreement whose id is checked against its terms and keys.
pub struct Checked {
    /// The terms.
    pub terms: Terms,
    /// Protocol keys, node-index order.
    pub keys: Vec<PublicKey>,
    /// Its key.
    pub key: AgreementKey,
}

impl Checked {
    /// As the calls want it.
    pub fn chain_key(&self) -> calls::AgreementKey {
        calls::AgreementKey {
            agreement: AgreementId(self.key.id),
            aggregate: self.key.aggregate_x,
            y: self.key.y,
        }
    }
}

/// Terms whose parties are registered and whose id is the one given.
fn check(api: &Api, a: &AgreementId, json: &TermsJson) -> ApiResult<Checked> {
    let terms = Terms::try_from(json).map_err(|e: TermsError| ApiError::terms(e.to_string()))?;
    if let Some(field) = terms
        .result
        .iter()
        .chain(&terms.detail)
        .find(|f| !usable_name(&f.name))
    {
        return Err(ApiError::terms(format!(
            "a field may not be called {:?}: results use that name themselves",
            field.name
        )));
    }
    let registry = api.registry();
    if let Some(user) = terms.users.iter().find(|u| !registry.users.contains_key(u)) {
        return Err(ApiError::not_registered(format!(
            "user {user} of the terms is not registered"
        )));
    }
    if let Some(s) = terms
        .sensors
        .iter()
        .find(|s| !registry.sensors.contains_key(&s.sensor))
    {
        return Err(ApiError::not_registered(format!(
            "sensor {} of the terms is not registered",
            s.sensor
        )));
    }
    let keys = node_keys(&registry, &terms).map_err(|node| {
        ApiError::not_registered(format!("node {node} of the terms is not registered"))
    })?;
    drop(registry);
    let key = aggregate(&api.deployment, &terms, &keys)
        .map_err(|e| ApiError::agreement_id(e.to_string()))?;
    if key.id != a.0 {
        let detail = format!(
            "the nodes' keys and these terms make {}, not {a}",
            AgreementId(key.id)
        );
        return Err(ApiError::agreement_id(detail));
    }
    Ok(Checked { terms, keys, key })
}

/// `POST /v1/agreements/accept`.
pub async fn accept(
    State(api): State<Arc<Api>>,
    Json(r): Json<AcceptRequest>,
) -> ApiResult<JsonAnswer<NodeAcceptance>> {
    let Checked { terms, .. } = check(&api, &r.agreement, &r.terms)?;
    if terms.node_index(&api.node).is_none() {
        return Err(ApiError::not_a_member(format!(
            "the terms do not name this node ({})",
            api.node
        )));
    }
    if terms.qos != Qos::OffChain {
        return Err(ApiError::terms(
            "this node keeps every window (qos off-chain) and cannot promise to drop them yet: name off-chain",
        ));
    }
    let (modules, runner, code) = (
        Arc::clone(&api.modules),
        Arc::clone(&api.runner),
        terms.off_chain_code,
    );
    let runs = tokio::task::spawn_blocking(move || {
        let module = modules
            .get(&code)
            .map_err(ApiError::internal)?
            .ok_or_else(|| ApiError::module_missing(&code))?;
        runner
            .check(&module)
            .and_then(|()| runner.add(&module))
            .map_err(ApiError::module)
    });
    runs.await.map_err(ApiError::internal)??;
    // Durable before the signature leaves: whoever accepts must be able to run it after a crash.
    api.write(vec![Op::Put(terms_key(&r.agreement), terms.encode())])
        .await?;
    let digest = acceptance_digest(&api.deployment, &r.agreement, &terms.digest(), &api.node);
    tracing::info!(agreement = %r.agreement, title = terms.title, "agreement.accepted");
    Ok(JsonAnswer(NodeAcceptance {
        node: api.node,
        signature: WalletSignature(api.keys.protocol.sign_recoverable(&digest.0)),
    }))
}

/// Signatures of all users in the order of the terms, each checked.
pub fn user_signatures(
    terms: &Terms,
    given: &[UserSignature],
    digest: &Digest,
) -> ApiResult<Vec<EvmSignature>> {
    terms
        .users
        .iter()
        .map(|user| {
            let found = given.iter().find(|s| s.user == *user);
            let found = found.ok_or_else(|| {
                ApiError::signature(format!("the signature of user {user} is missing"))
            })?;
            signed(
                &found.signature,
                digest,
                user.address(),
                &format!("the signature of user {user}"),
            )
        })
        .collect()
}

/// One acceptance of each user's nodes, in the order of the users, each checked.
fn acceptances(
    api: &Api,
    a: &AgreementId,
    terms: &Terms,
    given: &[NodeAcceptance],
) -> ApiResult<Vec<calls::Acceptance>> {
    let digest = terms.digest();
    (0..terms.users.len())
        .map(|user| {
            let of_user = |n: &NodeAcceptance| {
                terms
                    .node_index(&n.node)
                    .is_some_and(|i| usize::from(terms.nodes[i].trust) == user)
            };
            let found = given.iter().find(|n| of_user(n)).ok_or_else(|| {
                ApiError::signature(format!(
                    "no node that user {} trusts has accepted",
                    terms.users[user]
                ))
            })?;
            let signed_digest = acceptance_digest(&api.deployment, a, &digest, &found.node);
            signed(
                &found.signature,
                &signed_digest,
                found.node.address(),
                &format!("the acceptance of node {}", found.node),
            )?;
            let node = terms.node_index(&found.node).expect("found above");
            Ok(calls::Acceptance {
                node,
                signature: found.signature.compact(),
            })
        })
        .collect()
}

/// `POST /v1/agreements`.
pub async fn create(
    State(api): State<Arc<Api>>,
    Json(r): Json<AgreementCreation>,
) -> ApiResult<JsonAnswer<AgreementView>> {
    let checked = check(&api, &r.agreement, &r.terms)?;
    let terms = &checked.terms;
    let digest = agreement_digest(&api.deployment, &r.agreement, &terms.digest());
    let users = user_signatures(terms, &r.signatures, &digest)?;
    let accepted = acceptances(&api, &r.agreement, terms, &r.acceptances)?;
    if !api.registry().agreements.contains_key(&r.agreement) {
        let data = calls::create_agreement(
            &api.deployment,
            &checked.chain_key(),
            terms,
            &users,
            &accepted,
        )
        .map_err(|e| ApiError::signature(e.to_string()))?;
        api.relay(format!("create agreement {}", r.agreement), data)
            .await?;
    }
    view(&api, &r.agreement).await.map(JsonAnswer)
}

/// What is known of an agreement on chain, with terms that are its own.
pub fn load(api: &Api, a: &AgreementId) -> ApiResult<(AgreementRecord, Checked)> {
    let record = api.registry().agreements.get(a).cloned();
    let record = record.ok_or_else(|| {
        ApiError::not_found(
            format!("no agreement {a} stands on chain"),
            "Create it with POST /v1/agreements.",
        )
    })?;
    let terms = registry::terms(&api.store, a).map_err(ApiError::internal)?;
    let terms = terms
        .filter(|t| t.digest() == record.terms_digest)
        .ok_or_else(|| {
            ApiError::not_found(
                format!("the terms of {a} are not known to this node"),
                "Ask one of the agreement's nodes.",
            )
        })?;
    let keys = node_keys(&api.registry(), &terms).map_err(|node| {
        ApiError::internal(format!("node {node} of agreement {a} is not registered"))
    })?;
    let key = aggregate(&api.deployment, &terms, &keys).map_err(ApiError::internal)?;
    Ok((record, Checked { terms, keys, key }))
}

async fn status(api: &Api, a: &AgreementId) -> ApiResult<Option<AgreementStatus>> {
    let mut all = api
        .ask(|reply| Command::Status {
            agreements: vec![*a],
            reply,
        })
        .await?;
    Ok(all.pop().flatten())
}

async fn view(api: &Api, a: &AgreementId) -> ApiResult<AgreementView> {
    let (record, checked) = load(api, a)?;
    let status = status(api, a).await?;
    Ok(AgreementView {
        agreement: *a,
        terms: TermsJson::from(&checked.terms),
        terms_digest: record.terms_digest,
        keys: checked.keys.clone(),
        status: life(&record, status.as_ref()),
        epoch: record.epoch,
        tx: record.tx,
        progress: progress(api, a, &checked.terms, status)?,
    })
}

fn life(record: &AgreementRecord, status: Option<&AgreementStatus>) -> Life {
    match record.end {
        None => Life::Open,
        Some(end) if status.is_some_and(|s| s.unsettled_t >= end) => Life::Closed,
        Some(_) => Life::Closing,
    }
}

/// Where an agreement stands, and what it waits for.
fn progress(
    api: &Api,
    a: &AgreementId,
    terms: &Terms,
    status: Option<AgreementStatus>,
) -> ApiResult<Progress> {
    let holes = api
        .registry()
        .disputes
        .values()
        .filter(|d| d.agreement == Some(*a) && !d.resolved)
        .map(|d| d.at)
        .collect();
    let Some(s) = status else {
        let reason = api
            .waiting
            .reason(a)
            .unwrap_or_else(|| "this node is no node of it".into());
        return Ok(Progress {
            holes,
            waiting_for: vec![reason],
            ..Progress::default()
        });
    };
    let prefix = [&[records::EXECUTION][..], &a.0].concat();
    let last = api
        .store
        .scan_prefix(&prefix)
        .next_back()
        .transpose()
        .map_err(ApiError::internal)?;
    let executed = last
        .and_then(|(key, _)| records::split_t_key(&key))
        .map_or(0, |(_, t)| t + 1);
    // A hole that the chain holds is final too; the next outcome lists it.
    let mut next_settlement = s.unsettled_t;
    while holes.contains(&next_settlement) {
        next_settlement += 1;
    }
    Ok(Progress {
        next_window: s.open_t,
        next_execution: executed,
        next_certificate: s.undecided_t,
        next_settlement,
        waiting_for: waiting_for(api, terms, &s, next_settlement),
        holes,
    })
}

fn waiting_for(api: &Api, terms: &Terms, s: &AgreementStatus, next_settlement: u64) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(why) = &s.halted {
        out.push(format!("this node signs nothing more: {why}"));
    }
    if let Some(t) = s.blocked {
        out.push(format!(
            "the users must resolve the dispute at t {t}: the nodes' states differ there"
        ));
    }
    if next_settlement < s.undecided_t {
        let trouble = api.chain_view.borrow().trouble.clone();
        let why = trouble.map_or_else(String::new, |t| format!(" ({t})"));
        out.push(format!(
            "t {next_settlement} is certified and waits for the chain{why}"
        ));
    } else if s.undecided_t < s.open_t {
        let registry = api.registry();
        let peers = api.peers();
        let absent = terms
            .nodes
            .iter()
            .filter(|n| n.node != api.node && !peers.connected(&n.node))
            .map(|n| {
                registry
                    .nodes
                    .get(&n.node)
                    .map_or_else(|| n.node.hex(), |r| r.declaration.name.clone())
            });
        let absent: Vec<_> = absent.collect();
        let who = if absent.is_empty() {
            "the other nodes".into()
        } else {
            format!("nodes that cannot be reached: {}", absent.join(", "))
        };
        out.push(format!("t {} waits for {who}", s.undecided_t));
    } else {
        let (_, end) = terms.window.span(s.open_t);
        let due = !matches!(terms.window, WindowSpec::Count { .. }) && unix_ms() / 1000 >= end;
        if due && !s.waiting_for.is_empty() {
            let registry = api.registry();
            let label = |s: &diversity_proto::SensorId| {
                registry
                    .sensors
                    .get(s)
                    .map_or_else(|| s.hex(), |r| r.declaration.label.clone())
            };
            let named: Vec<_> = s.waiting_for.iter().take(NAMED_MAX).map(label).collect();
            let more = s.waiting_for.len().saturating_sub(NAMED_MAX);
            let more = if more == 0 {
                String::new()
            } else {
                format!(" and {more} more")
            };
            out.push(format!(
                "window {} waits for a message at or after {end} of {}{more}",
                s.open_t,
                named.join(", ")
            ));
        }
    }
    out
}

#[derive(Deserialize)]
pub struct Paging {
    cursor: Option<String>,
    limit: Option<usize>,
}

/// Agreements of this node.
pub async fn summaries(
    api: &Api,
    after: Option<AgreementId>,
    limit: Option<usize>,
) -> ApiResult<Page<AgreementSummary>> {
    let found = {
        let registry = api.registry();
        let ours = registry
            .agreements
            .iter()
            .filter(|(a, r)| after.is_none_or(|after| **a > after) && r.nodes.contains(&api.node));
        page(ours.map(|(a, r)| (a.hex(), (*a, r.clone()))), limit)
    };
    let ids: Vec<_> = found.items.iter().map(|i| i.0).collect();
    let all = api
        .ask(|reply| Command::Status {
            agreements: ids,
            reply,
        })
        .await?;
    let mut items = Vec::with_capacity(found.items.len());
    for ((a, record), status) in found.items.into_iter().zip(all) {
        let Some(terms) = registry::terms(&api.store, &a).map_err(ApiError::internal)? else {
            continue;
        };
        items.push(AgreementSummary {
            agreement: a,
            title: terms.title.clone(),
            status: life(&record, status.as_ref()),
            progress: progress(api, &a, &terms, status)?,
        });
    }
    Ok(Page {
        items,
        next: found.next,
    })
}

/// `GET /v1/agreements`.
pub async fn list(
    State(api): State<Arc<Api>>,
    Params(p): Params<Paging>,
) -> ApiResult<JsonAnswer<Page<AgreementSummary>>> {
    let after = p.cursor.as_deref().map(super::extract::id).transpose()?;
    summaries(&api, after, p.limit).await.map(JsonAnswer)
}

/// `GET /v1/agreements/{a}`.
pub async fn show(
    State(api): State<Arc<Api>>,
    Id(a): Id<AgreementId>,
) -> ApiResult<JsonAnswer<AgreementView>> {
    view(&api, &a).await.map(JsonAnswer)
}

/// `POST /v1/agreements/{a}/close`.
pub async fn close(
    State(api): State<Arc<Api>>,
    Id(a): Id<AgreementId>,
    Json(r): Json<CloseRequest>,
) -> ApiResult<JsonAnswer<AgreementView>> {
    let (record, checked) = load(&api, &a)?;
    match record.end {
        Some(end) if end == r.end => return view(&api, &a).await.map(JsonAnswer),
        Some(end) => {
            let detail = format!("the agreement ends at t {end} already");
            return Err(ApiError::conflict(
                detail,
                "An end stays; make a new agreement for what comes after it.",
            ));
        }
        None => {}
    }
    let users = user_signatures(
        &checked.terms,
        &r.signatures,
        &close_digest(&api.deployment, &a, r.end),
    )?;
    let data = calls::close_agreement(&checked.chain_key(), &checked.terms, r.end, &users);
    api.relay(format!("close agreement {a} at t {}", r.end), data)
        .await?;
    view(&api, &a).await.map(JsonAnswer)
}
