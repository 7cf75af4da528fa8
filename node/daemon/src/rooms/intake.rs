//! Frames to a signed acknowledgement, whatever the transport: whoever sent them may erase what it covers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use diversity_client::api::{
    ACKNOWLEDGED_SENSORS_MAX, Acknowledgement, Held, RefusedFrame, Remark, codes,
};
pub use diversity_engine::api::Refusal;
use diversity_engine::api::{Refused, WrongTime};
use diversity_proto::frame::acknowledgement_digest;
use diversity_proto::{SensorId, Signature};

use super::core::Core;
use super::error::{RoomError, RoomResult};
use crate::node::frames::sensor_of;
use crate::node::shared::{Identity, Shared};
use crate::telemetry::Metrics;

/// The room.
#[derive(Clone)]
pub struct Intake {
    identity: Identity,
    core: Core,
    metrics: Arc<Metrics>,
}

/// What became of the frames of one request.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// What is held now, signed, and what was not taken in words.
    pub acknowledgement: Acknowledgement,
    /// Why each of those was not taken, in the same order.
    pub refusals: Vec<Refusal>,
    /// How many frames there were.
    pub frames: usize,
}

impl Receipt {
    /// Whether no frame was taken or known.
    pub fn nothing_taken(&self) -> bool {
        self.refusals.len() >= self.frames
    }
}

impl Intake {
    /// Signs with the protocol key, and hands frames to the core.
    pub fn new(shared: &Shared, core: Core) -> Self {
        Self {
            identity: shared.identity.clone(),
            core,
            metrics: Arc::clone(&shared.metrics),
        }
    }

    /// Takes encoded frames in; answers when each is durable or refused. Sensors are acknowledged in the order in which the frames
    /// mention them first.
    ///
    /// # Errors
    /// [`RoomError::Malformed`] without a frame, [`RoomError::Busy`] or [`RoomError::Unavailable`] when nothing is known of what
    /// became of them: the same frames again are fine.
    pub async fn take(&self, frames: Vec<Vec<u8>>) -> RoomResult<Receipt> {
        if frames.is_empty() {
            return Err(RoomError::Malformed(
                "there is no frame in the request".into(),
            ));
        }
        let (mentioned, count) = (mentioned(&frames), frames.len());
        let mut answer = self.core.ingest(frames).await?;
        for (_, _, refusal) in &answer.refused {
            self.metrics
                .refused
                .get_or_create(&[("code", code(refusal).into())])
                .inc();
        }
        self.metrics
            .implausible_times
            .inc_by(answer.wrong_times.len() as u64);
        answer
            .held
            .sort_by_key(|(sensor, ..)| mentioned.get(sensor).copied());
        Ok(Receipt {
            refusals: answer.refused.iter().map(|r| r.2.clone()).collect(),
            acknowledgement: self.sign(answer.held, answer.refused, &answer.wrong_times),
            frames: count,
        })
    }

    /// Up to where the messages of these sensors are held, in their order; repeats and sensors that are not known are left out.
    ///
    /// # Errors
    /// [`RoomError::Malformed`] for none or more than [`ACKNOWLEDGED_SENSORS_MAX`], [`RoomError::Unavailable`].
    pub async fn held(&self, sensors: Vec<SensorId>) -> RoomResult<Acknowledgement> {
        let mut seen = HashSet::new();
        let sensors: Vec<_> = sensors.into_iter().filter(|s| seen.insert(*s)).collect();
        if sensors.is_empty() || sensors.len() > ACKNOWLEDGED_SENSORS_MAX {
            return Err(RoomError::Malformed(format!(
                "sensor names 1 to {ACKNOWLEDGED_SENSORS_MAX} sensors, comma separated"
            )));
        }
        let found = self.core.held(sensors.clone()).await?;
        let held = sensors
            .into_iter()
            .zip(found)
            .filter_map(|(s, held)| held.map(|h| (s, h.0, h.1)))
            .collect();
        Ok(self.sign(held, Vec::new(), &[]))
    }

    fn sign(
        &self,
        held: Vec<(SensorId, u32, u64)>,
        refused: Vec<Refused>,
        wrong_times: &[WrongTime],
    ) -> Acknowledgement {
        let Identity {
            deployment,
            node,
            keys,
            ..
        } = &self.identity;
        let digest = acknowledgement_digest(deployment, node, &held);
        self.metrics.acknowledgements.inc();
        Acknowledgement {
            node: *node,
            acknowledged: held
                .into_iter()
                .map(|(sensor, epoch, next_q)| Held {
                    sensor,
                    epoch,
                    next_q,
                })
                .collect(),
            signature: Signature(keys.protocol.sign(&digest.0)),
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
            remarks: wrong_times.iter().map(remark).collect(),
        }
    }
}

/// What whoever sent a frame with a time that cannot be is told: it is kept, since nobody signs a q anew and other nodes keep it too.
fn remark(wrong: &WrongTime) -> Remark {
    Remark {
        index: u32::try_from(wrong.index).unwrap_or(u32::MAX),
        sensor: wrong.sensor,
        first_q: wrong.first_q,
        code: codes::IMPLAUSIBLE_TIME.into(),
        detail: format!(
            "the time {} cannot be: {}. The frame is kept as it is; set the clock of the sensor before it signs more",
            wrong.time, wrong.why
        ),
    }
}

/// For each sensor, its place among those of the request, in order of first mention.
fn mentioned(frames: &[Vec<u8>]) -> HashMap<SensorId, usize> {
    let mut places = HashMap::new();
    for frame in frames {
        // What is too short is refused as malformed.
        if let Some(sensor) = sensor_of(frame) {
            let next = places.len();
            places.entry(sensor).or_insert(next);
        }
    }
    places
}

/// The stable code of a refusal.
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
        Refusal::Quota { .. } => codes::QUOTA,
        Refusal::Busy => codes::BUSY,
    }
}

/// What is wrong and what to do.
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
        Refusal::Quota { frames_max, bytes_max } => {
            format!("the sensor is in no agreement of this node, which keeps at most {frames_max} frames and {bytes_max} bytes of all such sensors together, and holds them already: keep the frame, and send it again once an agreement with the sensor runs here (settings unagreed_frames_max and unagreed_bytes_max)")
        }
        Refusal::Busy => "it is being stored right now, or too much is: send it again in a moment".into(),
    }
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
