//! Frames in, acknowledgements out. The one busy route: the body goes to the core as it is, and one signature answers it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::{Request, State};
use diversity_client::api::{
    ACKNOWLEDGED_SENSORS_MAX, Acknowledgement, Held, JsonFrames, RefusedFrame, codes,
};
use diversity_engine::api::{IngestAnswer, Refusal};
use diversity_proto::SensorId;
use diversity_proto::frame::acknowledgement_digest;
use diversity_proto::wire::{FRAMES_MAX, split_frames};
use serde::Deserialize;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use super::extract::{Params, body_max, id, media_type, read_body};
use super::problem::{ApiError, ApiResult};
use super::{Api, CORE_WAIT};
use crate::node::driver::Command;

/// `POST /v1/messages`.
pub async fn ingest(
    State(api): State<Arc<Api>>,
    request: Request,
) -> ApiResult<JsonAnswer<Acknowledgement>> {
    let frames = frames(request).await?;
    if frames.is_empty() {
        return Err(ApiError::malformed("there is no frame in the request"));
    }
    let mentioned = mentioned(&frames);
    let count = frames.len();
    let (reply, answer) = oneshot::channel();
    // The queue in front of the core is short: who finds it full is told at once, and keeps its frames.
    api.core
        .try_send(Command::Ingest { frames, reply })
        .map_err(|error| match error {
            TrySendError::Full(_) => {
                ApiError::busy("more frames are coming in than are checked and stored")
            }
            TrySendError::Closed(_) => ApiError::unavailable("the node is shutting down"),
        })?;
    let mut answer = match tokio::time::timeout(CORE_WAIT, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => return Err(ApiError::unavailable("the node is shutting down")),
        Err(_) => {
            return Err(ApiError::busy(
                "the frames were not stored in time; those that were are known when they come again",
            ));
        }
    };
    for (_, _, refusal) in &answer.refused {
        api.metrics
            .refused
            .get_or_create(&[("code", code(refusal).into())])
            .inc();
    }
    answer
        .held
        .sort_by_key(|(sensor, ..)| mentioned.get(sensor).copied());
    respond(&api, count, answer).map(JsonAnswer)
}

/// For each sensor, its place among those of the request, in order of first mention.
fn mentioned(frames: &[Vec<u8>]) -> HashMap<SensorId, usize> {
    let mut places = HashMap::new();
    for frame in frames {
        // version, flags, sensor (wire-format section 3); what is too short is refused as malformed.
        if let Some(sensor) = frame.get(2..22).and_then(|s| s.try_into().ok()) {
            let next = places.len();
            places.entry(SensorId(sensor)).or_insert(next);
        }
    }
    places
}

async fn frames(request: Request) -> ApiResult<Vec<Vec<u8>>> {
    let (parts, body) = request.into_parts();
    let max = body_max(&parts);
    match media_type(&parts).as_str() {
        "application/octet-stream" => {
            let bytes = read_body(body, max).await?;
            let frames =
                split_frames(&bytes, max).map_err(|e| ApiError::malformed(e.to_string()))?;
            Ok(frames.into_iter().map(<[u8]>::to_vec).collect())
        }
        "application/json" => {
            let bytes = read_body(body, max).await?;
            let json: JsonFrames =
                serde_json::from_slice(&bytes).map_err(|e| ApiError::malformed(e.to_string()))?;
            if json.frames.len() > FRAMES_MAX {
                return Err(ApiError::malformed(format!(
                    "at most {FRAMES_MAX} frames are taken at once"
                )));
            }
            let encode = |(i, frame): (usize, &diversity_client::api::JsonFrame)| {
                frame
                    .to_frame()
                    .map(|f| f.encode())
                    .map_err(|e| ApiError::malformed(format!("frame {i}: {e}")))
            };
            json.frames.iter().enumerate().map(encode).collect()
        }
        _ => Err(ApiError::media_type(
            "application/octet-stream (or application/json)",
        )),
    }
}

/// The answer, or a problem if nothing was taken.
fn respond(api: &Api, frames: usize, answer: IngestAnswer) -> ApiResult<Acknowledgement> {
    let all_refused = answer.refused.len() >= frames;
    let worst = answer.refused.iter().map(|r| status(&r.2)).min();
    let text = answer.refused.first().map(|r| words(&r.2));
    let busy = answer.refused.iter().all(|r| matches!(r.2, Refusal::Busy));
    let acknowledgement = sign(api, answer.held, answer.refused);
    if !all_refused {
        return Ok(acknowledgement);
    }
    let mut error = if busy {
        ApiError::busy("more frames are coming in than are checked and stored")
    } else {
        let first = acknowledgement.refused.first();
        let mut error = ApiError::malformed(text.unwrap_or_default());
        error.problem.status = worst.unwrap_or(400);
        error.problem.title = "No frame was taken".into();
        error.problem.what_to_do = "Each frame's reason stands in `refused`.".into();
        if let Some(first) = first {
            error.problem.code.clone_from(&first.code);
            error.problem.kind = format!("urn:diversity:problem:{}", first.code);
        }
        error
    };
    error.problem.refused.clone_from(&acknowledgement.refused);
    error.problem.acknowledgement = Some(Box::new(acknowledgement));
    Err(error)
}

fn sign(
    api: &Api,
    held: Vec<(SensorId, u32, u64)>,
    refused: Vec<diversity_engine::api::Refused>,
) -> Acknowledgement {
    let digest = acknowledgement_digest(&api.deployment, &api.node, &held);
    api.metrics.acknowledgements.inc();
    Acknowledgement {
        node: api.node,
        acknowledged: held
            .into_iter()
            .map(|(sensor, epoch, next_q)| Held {
                sensor,
                epoch,
                next_q,
            })
            .collect(),
        signature: diversity_proto::Signature(api.keys.protocol.sign(&digest.0)),
        refused: refused
            .into_iter()
            .map(|(index, at, refusal)| RefusedFrame {
                index: u32::try_from(index).unwrap_or(u32::MAX),
                sensor: at.map(|a| a.0),
                first_q: at.map(|a| a.1),
                code: code(&refusal).into(),
                detail: words(&refusal),
            })
            .collect(),
    }
}

#[derive(Deserialize)]
pub struct Sensors {
    sensor: String,
}

/// `GET /v1/messages/acknowledged`.
pub async fn acknowledged(
    State(api): State<Arc<Api>>,
    Params(Sensors { sensor }): Params<Sensors>,
) -> ApiResult<JsonAnswer<Acknowledgement>> {
    let mut seen = HashSet::new();
    let mut sensors = Vec::new();
    for text in sensor.split(',').filter(|s| !s.is_empty()) {
        let sensor: SensorId = id(text)?;
        if seen.insert(sensor) {
            sensors.push(sensor);
        }
    }
    if sensors.is_empty() || sensors.len() > ACKNOWLEDGED_SENSORS_MAX {
        let detail =
            format!("sensor names 1 to {ACKNOWLEDGED_SENSORS_MAX} sensors, comma separated");
        return Err(ApiError::malformed(detail));
    }
    let found = api
        .ask(|reply| Command::Held {
            sensors: sensors.clone(),
            reply,
        })
        .await?;
    let held = sensors
        .into_iter()
        .zip(found)
        .filter_map(|(s, held)| held.map(|h| (s, h.0, h.1)))
        .collect();
    Ok(JsonAnswer(sign(&api, held, Vec::new())))
}

fn code(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Malformed(_) => codes::MALFORMED,
        Refusal::UnknownSensor => codes::UNKNOWN_SENSOR,
        Refusal::WrongWidth { .. } => codes::WRONG_WIDTH,
        Refusal::WrongValues => codes::WRONG_VALUES,
        Refusal::CrossesPeriod => codes::CROSSES_PERIOD,
        Refusal::BadSignature => codes::BAD_SIGNATURE,
        Refusal::Contradiction { .. } => codes::CONTRADICTION,
        Refusal::OtherFrame { .. } => codes::OTHER_FRAME,
        Refusal::TooFarAhead { .. } => codes::TOO_FAR_AHEAD,
        Refusal::WrongEpoch { .. } => codes::WRONG_EPOCH,
        Refusal::BadOpening => codes::BAD_OPENING,
        Refusal::Void { .. } => codes::VOID,
        Refusal::Busy => codes::BUSY,
    }
}

/// HTTP status of a request whose one frame is refused so.
fn status(refusal: &Refusal) -> u16 {
    match refusal {
        Refusal::UnknownSensor => 404,
        Refusal::Contradiction { .. } | Refusal::OtherFrame { .. } | Refusal::Void { .. } => 409,
        Refusal::TooFarAhead { .. } | Refusal::Busy => 429,
        _ => 400,
    }
}

fn words(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Malformed(error) => format!("the frame cannot be read ({error}): encode it as docs/wire-format.md section 3 says"),
        Refusal::UnknownSensor => "no such sensor is registered: register it, and send the frame again".into(),
        Refusal::WrongWidth { declared } => {
            format!("the values of each message take {declared} bytes by the sensor's declaration: send the declared variables in their order")
        }
        Refusal::WrongValues => "a value does not match its declared type (a bool is 0 or 1)".into(),
        Refusal::CrossesPeriod => "the messages lie in more than one of the sensor's declared periods: start a new frame with each period".into(),
        Refusal::BadSignature => "the signature is not the sensor's over this frame, for this chain and contract, with low s".into(),
        Refusal::Contradiction { q } => {
            format!("another message is stored at q {q}, signed by this sensor: both are kept as evidence, and nothing was changed")
        }
        Refusal::OtherFrame { q } => {
            format!("another frame over q {q} is stored: resend the identical bytes, and never frame the same messages anew")
        }
        Refusal::TooFarAhead { next_q } => format!("too far ahead of q {next_q}, the first that is missing: send that first"),
        Refusal::WrongEpoch { epoch } => format!("the sensor is in boot epoch {epoch}: number messages on from there"),
        Refusal::BadOpening => "the opening does not name the last message and frame before the reboot".into(),
        Refusal::Void { from_q } => format!("the sensor contradicted itself: nothing from q {from_q} on counts any more"),
        Refusal::Busy => "it is being stored right now, or too much is: send it again in a moment".into(),
    }
}
