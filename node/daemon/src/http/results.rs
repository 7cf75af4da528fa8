//! Settled results and windows, checked against what has settled before they are shown.

use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use diversity_client::abi::decode_packed;
use diversity_client::api::{
    CommitJson, ComputedJson, PAGE_MAX, ResultsPage, RevealJson, SensorDetail, SettledResult,
    WindowRange, WindowStatus, WindowView,
};
use diversity_client::hexed::Bytes;
use diversity_engine::records::{self, ExecutionRecord, FinalRecord, stored_part, t_key};
use diversity_proto::round::{Commit, Computed, Entry, OutputKind, Reveal, Subject, seal};
use diversity_proto::terms::{Field, Terms, config};
use diversity_proto::window::{Window, WindowEnd, detail_root};
use diversity_proto::wire::{Part, Range};
use diversity_proto::{AgreementId, Digest, NodeId, SensorId};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::agreements::{Checked, load};
use super::extract::{Execution, Id, Params};
use super::problem::{ApiError, ApiResult};
use super::{Api, PAGE};
use crate::node::cut::{LeafRange, recut};
use crate::node::driver::Command;
use crate::node::registry::{ChainLog, SettledRecord};

#[derive(Deserialize)]
pub struct From {
    #[serde(default)]
    from: u64,
    limit: Option<usize>,
}

/// `GET /v1/agreements/{a}/results`.
pub async fn results(
    State(api): State<Arc<Api>>,
    Id(a): Id<AgreementId>,
    Params(p): Params<From>,
) -> ApiResult<JsonAnswer<ResultsPage>> {
    let (_, checked) = load(&api, &a)?;
    // Details of many sensors take a while to check.
    tokio::task::spawn_blocking(move || page(&api, a, &checked, &p))
        .await
        .map_err(ApiError::internal)?
        .map(JsonAnswer)
}

fn page(api: &Api, a: AgreementId, checked: &Checked, p: &From) -> ApiResult<ResultsPage> {
    let limit = p.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let mut out = ResultsPage {
        agreement: a,
        results: Vec::new(),
        next: None,
    };
    let (low, high) = (
        t_key(records::FINAL, &a, p.from),
        t_key(records::FINAL, &a, u64::MAX),
    );
    let mut settled: Option<SettledRecord> = None;
    for item in api.store.scan_range(&low[..]..=&high[..]) {
        let (key, value) = item.map_err(ApiError::internal)?;
        let (_, t) = records::split_t_key(&key)
            .ok_or_else(|| ApiError::internal("a key of a final record is damaged"))?;
        let FinalRecord::Settled {
            from,
            last,
            tx,
            gas_used,
            outcomes,
        } = FinalRecord::decode(&value).map_err(ApiError::internal)?
        else {
            continue;
        };
        if out.results.len() == limit {
            out.next = Some(t);
            break;
        }
        // One settlement covers several t.
        if settled
            .as_ref()
            .is_none_or(|s| (s.from, s.t) != (from, last))
        {
            settled = ChainLog::settled(&api.store, &a, last).map_err(ApiError::internal)?;
        }
        let Some(mut result) = settled_result(api, &a, checked, t, settled.as_ref())? else {
            continue;
        };
        (result.tx, result.gas_used, result.outcomes) = (tx, gas_used, outcomes.into());
        out.results.push(result);
    }
    Ok(out)
}

/// One settled execution; nothing if this node has not computed it (it is catching up).
fn settled_result(
    api: &Api,
    a: &AgreementId,
    checked: &Checked,
    t: u64,
    settled: Option<&SettledRecord>,
) -> ApiResult<Option<SettledResult>> {
    let Some(x) = execution(api, a, t)? else {
        return Ok(None);
    };
    let (terms, computed) = (&checked.terms, &x.execution.computed);
    agrees(api, a, checked, t, &x, settled)?;
    Ok(Some(SettledResult {
        t,
        from: x.from,
        to: x.to,
        kind: computed.kind,
        result: fields(&terms.result, computed)?,
        sensors: details(api, terms, &x)?,
        window_hash: computed.window_hash,
        tx: Digest::ZERO,
        gas_used: 0,
        outcomes: 0,
    }))
}

/// Checks what is stored here against what has settled: the detail against its root, the result against the chain's entry, and
/// the context, recomputed from the certificate, against the one that the chain was given.
fn agrees(
    api: &Api,
    a: &AgreementId,
    checked: &Checked,
    t: u64,
    x: &ExecutionRecord,
    settled: Option<&SettledRecord>,
) -> ApiResult<()> {
    let computed = &x.execution.computed;
    let differs = |what: &str| {
        ApiError::internal(format!(
            "{what} of t {t} of agreement {a} is not the one that has settled: the data directory is damaged"
        ))
    };
    let sensors: Vec<_> = checked.terms.sensors.iter().map(|s| s.sensor).collect();
    if detail_root(&sensors, &x.execution.detail) != computed.detail_root {
        return Err(differs("the detail"));
    }
    let Some(settled) = settled else {
        return Ok(());
    };
    let entry = settled
        .entries
        .iter()
        .find(|(at, _)| *at == t)
        .map(|(_, e)| e);
    let same = match (entry, computed.kind) {
        (Some(Entry::Value(v)), OutputKind::Value) => *v == computed.result,
        (Some(Entry::Trap), OutputKind::Trap) | (None | Some(Entry::Null), OutputKind::Null) => {
            true
        }
        _ => false,
    };
    if !same {
        return Err(differs("the result"));
    }
    if !settled.batch
        && settled.t == t
        && let (Some(context), Some(c)) = (settled.context, certificate(api, a, t)?)
        && computed.context(&c.seal(api, a, &checked.terms, t)) != context
    {
        return Err(differs("the context"));
    }
    Ok(())
}

fn fields(fields: &[Field], computed: &Computed) -> ApiResult<Map<String, Value>> {
    if computed.kind != OutputKind::Value {
        return Ok(Map::new());
    }
    decode_packed(fields, &computed.result).map_err(ApiError::internal)
}

fn label(api: &Api, sensor: &SensorId) -> String {
    api.registry()
        .sensors
        .get(sensor)
        .map_or_else(String::new, |s| s.declaration.label.clone())
}

fn details(api: &Api, terms: &Terms, x: &ExecutionRecord) -> ApiResult<Vec<SensorDetail>> {
    terms
        .sensors
        .iter()
        .zip(&x.execution.detail)
        .map(|(s, detail)| {
            Ok(SensorDetail {
                sensor: s.sensor,
                label: label(api, &s.sensor),
                detail: decode_packed(&terms.detail, detail).map_err(ApiError::internal)?,
            })
        })
        .collect()
}

/// What this node computed for t.
pub fn execution(api: &Api, a: &AgreementId, t: u64) -> ApiResult<Option<ExecutionRecord>> {
    let value = api
        .store
        .get(&t_key(records::EXECUTION, a, t))
        .map_err(ApiError::internal)?;
    value
        .map(|v| ExecutionRecord::decode(&v).map_err(ApiError::internal))
        .transpose()
}

/// The commits and reveals of t.
pub struct Certificate {
    /// Resolution epoch.
    pub epoch: u32,
    /// Node-index order.
    pub commits: Vec<Commit>,
    /// Node-index order.
    pub reveals: Vec<Reveal>,
}

impl Certificate {
    /// The seal over the commits.
    pub fn seal(&self, api: &Api, a: &AgreementId, terms: &Terms, t: u64) -> Digest {
        let config = config(&api.deployment, a, self.epoch);
        let subject = Subject {
            deployment: api.deployment,
            config,
            t,
        };
        let digests: Vec<_> = terms
            .nodes
            .iter()
            .zip(&self.commits)
            .map(|(n, c)| c.digest(&subject, &n.node))
            .collect();
        seal(&subject, &digests)
    }
}

/// The certificate that this node holds of t.
pub fn certificate(api: &Api, a: &AgreementId, t: u64) -> ApiResult<Option<Certificate>> {
    let Some(value) = api
        .store
        .get(&t_key(records::CERTIFICATE, a, t))
        .map_err(ApiError::internal)?
    else {
        return Ok(None);
    };
    match stored_part(&value).map_err(ApiError::internal)? {
        Part::Certificate {
            epoch,
            commits,
            reveals,
            ..
        } => Ok(Some(Certificate {
            epoch,
            commits,
            reveals,
        })),
        _ => Err(ApiError::internal("a stored certificate is something else")),
    }
}

/// A commit in JSON.
pub fn commit_json(node: NodeId, c: &Commit) -> CommitJson {
    CommitJson {
        node,
        commitment: c.commitment,
        opening: c.opening,
        signature: c.signature,
    }
}

/// A reveal in JSON.
pub fn reveal_json(node: NodeId, r: &Reveal) -> RevealJson {
    RevealJson {
        node,
        computed: computed_json(&r.computed),
        secret: Digest(r.secret),
        salt: Digest(r.salt),
        from: r.from,
        holes: r.holes.clone(),
        signature: r.signature,
    }
}

fn computed_json(c: &Computed) -> ComputedJson {
    ComputedJson {
        kind: c.kind,
        result: Bytes(c.result.clone()),
        detail_root: c.detail_root,
        state: c.state,
        trace: c.trace,
        window_hash: c.window_hash,
    }
}

/// A window cut anew from the frames that this node holds.
pub struct Recorded {
    window: Window,
    /// The frames that it is cut from, as the sensors signed them.
    pub frames: Vec<Vec<u8>>,
}

impl Recorded {
    /// Input of `f`: the carry of t-1 and the window.
    pub fn input(&self, api: &Api, a: &AgreementId, t: u64) -> ApiResult<Vec<u8>> {
        let carry = match t.checked_sub(1) {
            None => Vec::new(),
            Some(before) => match execution(api, a, before)? {
                Some(x) => x.execution.carry,
                None => {
                    return Err(ApiError::internal(format!(
                        "the execution of t {before} is missing"
                    )));
                }
            },
        };
        Ok(self.window.input(&carry))
    }
}

/// Cuts the window of a recorded execution anew; nothing if frames of it are gone.
pub async fn recorded(
    api: &Arc<Api>,
    terms: &Terms,
    t: u64,
    x: &ExecutionRecord,
) -> ApiResult<Option<Recorded>> {
    let mut ranges = Vec::with_capacity(terms.sensors.len());
    let mut places = Vec::new();
    for (k, s) in terms.sensors.iter().enumerate() {
        let (Some(&first_q), Some(&end_q)) = (x.q_start.get(k), x.q_end.get(k)) else {
            return Err(ApiError::internal(
                "a stored execution has not one range for each sensor",
            ));
        };
        ranges.push(LeafRange {
            sensor: s.sensor,
            first_q,
            end_q,
            width: api
                .registry()
                .sensors
                .get(&s.sensor)
                .map_or(0, |r| r.declaration.width()),
            end: WindowEnd::Message,
        });
        places.extend(frames_of(api, s.sensor, first_q, end_q).await?);
    }
    let api = Arc::clone(api);
    let (span, expected) = ((t, x.from, x.to), x.execution.computed.window_hash);
    let again = tokio::task::spawn_blocking(move || -> ApiResult<Option<Recorded>> {
        let frames = places
            .into_iter()
            .map(|at| api.frames.decoded(at))
            .collect::<Result<Vec<_>, _>>()
            .map_err(ApiError::internal)?;
        let window = recut(span, &ranges, &frames).filter(|w| w.hash() == expected);
        Ok(window.map(|window| Recorded {
            window,
            frames: frames
                .iter()
                .map(diversity_proto::frame::Frame::encode)
                .collect(),
        }))
    });
    again.await.map_err(ApiError::internal)?
}

async fn frames_of(
    api: &Api,
    sensor: SensorId,
    start: u64,
    end: u64,
) -> ApiResult<Vec<diversity_engine::api::FrameRef>> {
    let mut out: Vec<diversity_engine::api::FrameRef> = Vec::new();
    let mut from_q = start;
    while from_q < end {
        let ranges = vec![Range {
            sensor,
            from_q,
            to_q: end,
        }];
        let found = api.ask(|reply| Command::Find { ranges, reply }).await?;
        let Some(last) = found.last().copied() else {
            break;
        };
        for at in found {
            if out.last() != Some(&at) {
                out.push(at);
            }
        }
        // An answer holds only so many: go on after the last one.
        let next = api
            .frames
            .decoded(last)
            .map_err(ApiError::internal)?
            .next_q();
        if next <= from_q {
            break;
        }
        from_q = next;
    }
    Ok(out)
}

#[derive(Deserialize)]
pub struct WhichPart {
    part: Option<String>,
}

/// `GET /v1/agreements/{a}/windows/{t}`.
pub async fn window(
    State(api): State<Arc<Api>>,
    Execution(a, t): Execution,
    Params(p): Params<WhichPart>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let (_, checked) = load(&api, &a)?;
    let x = execution(&api, &a, t)?;
    let x = x.ok_or_else(|| {
        ApiError::not_found(
            format!("this node has not executed t {t} of agreement {a} yet"),
            "See `progress` of the agreement.",
        )
    })?;
    let bytes = headers
        .get(ACCEPT)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.contains("application/octet-stream"));
    let input = match p.part.as_deref() {
        None => false,
        Some("input") => true,
        Some(_) => return Err(ApiError::malformed("part is input, or left out")),
    };
    if !bytes && !input {
        return Ok(JsonAnswer(view(&api, &a, &checked, t, &x)?).into_response());
    }
    let gone = || {
        ApiError::not_found(
            format!("this node does not hold the messages of window {t} any more"),
            "Ask another node of the agreement.",
        )
    };
    let window = recorded(&api, &checked.terms, t, &x)
        .await?
        .ok_or_else(gone)?;
    let body = if input {
        window.input(&api, &a, t)?
    } else {
        window.window.encode()
    };
    Ok((
        [(
            CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        )],
        body,
    )
        .into_response())
}

fn view(
    api: &Api,
    a: &AgreementId,
    checked: &Checked,
    t: u64,
    x: &ExecutionRecord,
) -> ApiResult<WindowView> {
    let terms = &checked.terms;
    let certificate = certificate(api, a, t)?;
    let last = api
        .store
        .get(&t_key(records::FINAL, a, t))
        .map_err(ApiError::internal)?;
    let last = last
        .map(|v| FinalRecord::decode(&v).map_err(ApiError::internal))
        .transpose()?;
    let status = match (&last, &certificate) {
        (Some(FinalRecord::Settled { .. }), _) => WindowStatus::Settled,
        (Some(FinalRecord::Hole { .. }), _) => WindowStatus::Hole,
        (None, Some(_)) => WindowStatus::Certified,
        (None, None) => WindowStatus::Open,
    };
    let mut sensors = Vec::with_capacity(terms.sensors.len());
    for (k, s) in terms.sensors.iter().enumerate() {
        let (start, end) = (
            x.q_start.get(k).copied().unwrap_or(0),
            x.q_end.get(k).copied().unwrap_or(0),
        );
        let detail = match x.execution.detail.get(k) {
            Some(detail) => decode_packed(&terms.detail, detail).map_err(ApiError::internal)?,
            None => Map::new(),
        };
        sensors.push(WindowRange {
            sensor: s.sensor,
            label: label(api, &s.sensor),
            first_q: start,
            count: u32::try_from(end.saturating_sub(start)).unwrap_or(u32::MAX),
            end: WindowEnd::Message,
            detail,
        });
    }
    let nodes = || terms.nodes.iter().map(|n| n.node);
    let seal = certificate.as_ref().map(|c| c.seal(api, a, terms, t));
    Ok(WindowView {
        t,
        from: x.from,
        to: x.to,
        status,
        computed: computed_json(&x.execution.computed),
        result: fields(&terms.result, &x.execution.computed)?,
        sensors,
        seal,
        context: seal.map(|seal| x.execution.computed.context(&seal)),
        commits: certificate.as_ref().map_or_else(Vec::new, |c| {
            nodes()
                .zip(&c.commits)
                .map(|(n, c)| commit_json(n, c))
                .collect()
        }),
        reveals: certificate.as_ref().map_or_else(Vec::new, |c| {
            nodes()
                .zip(&c.reveals)
                .map(|(n, r)| reveal_json(n, r))
                .collect()
        }),
    })
}
