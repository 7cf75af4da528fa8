//! Frames in, acknowledgements out: the one busy route.

use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::{Request, State};
use diversity_client::api::{Acknowledgement, JsonFrame, JsonFrames};
use diversity_proto::SensorId;
use diversity_proto::wire::{FRAMES_MAX, split_frames};
use serde::Deserialize;

use super::Api;
use super::extract::{Params, body_max, id, media_type, read_body};
use super::problem::{ApiError, ApiResult};
use crate::rooms::intake::{Receipt, Refusal};

/// `POST /v1/messages`.
pub async fn ingest(
    State(api): State<Arc<Api>>,
    request: Request,
) -> ApiResult<JsonAnswer<Acknowledgement>> {
    let frames = frames(request).await?;
    respond(api.rooms.intake.take(frames).await?).map(JsonAnswer)
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
    let sensors = sensor
        .split(',')
        .filter(|s| !s.is_empty())
        .map(id)
        .collect::<ApiResult<Vec<SensorId>>>()?;
    Ok(JsonAnswer(api.rooms.intake.held(sensors).await?))
}

/// The frames of a request, as encoded.
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
            let encode = |(i, frame): (usize, &JsonFrame)| {
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

/// The acknowledgement, or a problem that carries it if nothing was taken.
fn respond(receipt: Receipt) -> ApiResult<Acknowledgement> {
    if !receipt.nothing_taken() {
        return Ok(receipt.acknowledgement);
    }
    let Receipt {
        acknowledgement,
        refusals,
        ..
    } = receipt;
    let mut error = if refusals.iter().all(|r| matches!(r, Refusal::Busy)) {
        ApiError::busy("more frames are coming in than are checked and stored")
    } else {
        let first = acknowledgement.refused.first();
        let mut error = ApiError::malformed(first.map_or("", |r| &r.detail));
        error.problem.status = refusals.iter().map(status).min().unwrap_or(400);
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

/// HTTP status of a request whose one frame is refused so.
fn status(refusal: &Refusal) -> u16 {
    match refusal {
        Refusal::UnknownSensor => 404,
        Refusal::Contradiction { .. } | Refusal::OtherFrame { .. } | Refusal::Void { .. } => 409,
        Refusal::TooFarAhead { .. } | Refusal::Quota { .. } | Refusal::Busy => 429,
        _ => 400,
    }
}
