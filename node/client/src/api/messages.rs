//! Frames in, acknowledgements out.

use crate::hexed::{self, Bytes};
use diversity_proto::frame::{Frame, Message, Opening, acknowledgement_digest, write_body};
use diversity_proto::{Deployment, Digest, NodeId, SensorId, Signature, Writer};
use serde::{Deserialize, Serialize};

/// `POST /v1/messages` as `application/json`, for small clients. The octet stream of `proto::wire::encode_frames` is the usual form;
/// both carry at most `proto::wire::FRAMES_MAX` frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonFrames {
    /// The frames.
    pub frames: Vec<JsonFrame>,
}

/// A frame in JSON. What is signed is still the encoding of wire-format §3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonFrame {
    /// Who signed it.
    #[serde(with = "hexed")]
    pub sensor: SensorId,
    /// Boot epoch.
    #[serde(default)]
    pub epoch: u32,
    /// Sequence number of the first message.
    pub first_q: u64,
    /// Only in the first frame of an epoch above 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opening: Option<JsonOpening>,
    /// How many messages are lost: a gap record, without messages.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u32,
    /// Consecutive messages; empty in a gap record.
    #[serde(default)]
    pub messages: Vec<JsonMessage>,
    /// By the sensor.
    #[serde(with = "hexed")]
    pub signature: Signature,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// What the first frame after a reboot says of the epoch before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonOpening {
    /// `q` of the last message before the reboot.
    pub last_q: u64,
    /// Digest of the frame that message was in.
    #[serde(with = "hexed")]
    pub last_frame: Digest,
}

/// A message in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonMessage {
    /// Sensor time, Unix seconds.
    pub time: u64,
    /// Big-endian values in the order of the declaration.
    pub values: Bytes,
}

/// Why a frame in JSON has no encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonFrameError {
    /// No messages, or more than fit.
    #[error("a frame has 1 to 1024 messages, or says that some are lost: split it")]
    Count,
    /// Values of different widths.
    #[error("all messages of a frame have values of one width, at most 255 bytes")]
    Width,
    /// A time is out of range.
    #[error("the time of a message is Unix seconds below 2^48")]
    Time,
}

impl JsonFrame {
    /// The frame that it stands for.
    ///
    /// # Errors
    /// [`JsonFrameError`].
    pub fn to_frame(&self) -> Result<Frame, JsonFrameError> {
        let opening = self.opening.map(|o| Opening {
            last_q: o.last_q,
            last_frame: o.last_frame,
        });
        if self.lost > 0 && self.messages.is_empty() {
            return Ok(Frame {
                sensor: self.sensor,
                epoch: self.epoch,
                first_q: self.first_q,
                count: 0,
                lost: self.lost,
                width: 0,
                opening,
                body: Vec::new(),
                signature: self.signature,
            });
        }
        let count = u16::try_from(self.messages.len())
            .ok()
            .filter(|n| (1..=diversity_proto::frame::FRAME_MESSAGES_MAX).contains(&usize::from(*n)))
            .filter(|_| self.lost == 0)
            .ok_or(JsonFrameError::Count)?;
        let width = self.messages[0].values.0.len();
        if self.messages.iter().any(|m| m.values.0.len() != width) {
            return Err(JsonFrameError::Width);
        }
        let time_max = diversity_proto::frame::TIME_MAX;
        if self.messages.iter().any(|m| m.time >= time_max) {
            return Err(JsonFrameError::Time);
        }
        let mut body = Writer::new();
        let messages = self.messages.iter().map(|m| Message {
            time: m.time,
            values: &m.values.0,
        });
        write_body(&mut body, messages);
        Ok(Frame {
            sensor: self.sensor,
            epoch: self.epoch,
            first_q: self.first_q,
            count,
            lost: 0,
            width: u8::try_from(width).map_err(|_| JsonFrameError::Width)?,
            opening,
            body: body.finish(),
            signature: self.signature,
        })
    }
}

impl From<&Frame> for JsonFrame {
    fn from(frame: &Frame) -> Self {
        Self {
            sensor: frame.sensor,
            epoch: frame.epoch,
            first_q: frame.first_q,
            opening: frame.opening.map(|o| JsonOpening {
                last_q: o.last_q,
                last_frame: o.last_frame,
            }),
            lost: frame.lost,
            messages: frame
                .messages()
                .map(|m| JsonMessage {
                    time: m.time,
                    values: Bytes(m.values.to_vec()),
                })
                .collect(),
            signature: frame.signature,
        }
    }
}

/// Answer to `POST /v1/messages` (200 if at least one frame was taken or was known, else a problem that carries it) and to
/// `GET /v1/messages/acknowledged`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Who acknowledges.
    #[serde(with = "hexed")]
    pub node: NodeId,
    /// For each sensor of the request that is registered, in order of first mention: what this node holds durably.
    pub acknowledged: Vec<Held>,
    /// By the node's protocol key over `proto::frame::acknowledgement_digest` of exactly this list.
    #[serde(with = "hexed")]
    pub signature: Signature,
    /// Frames that were not taken.
    #[serde(default)]
    pub refused: Vec<RefusedFrame>,
    /// What is odd about frames that were taken, or are held already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<Remark>,
}

impl Acknowledgement {
    /// What the node signed.
    pub fn digest(&self, deployment: &Deployment) -> Digest {
        let held: Vec<_> = self
            .acknowledged
            .iter()
            .map(|h| (h.sensor, h.epoch, h.next_q))
            .collect();
        acknowledgement_digest(deployment, &self.node, &held)
    }
}

/// Up to where a node holds a sensor's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Which sensor.
    #[serde(with = "hexed")]
    pub sensor: SensorId,
    /// Boot epoch of the last message that it holds.
    pub epoch: u32,
    /// First q that it does not hold durably: everything below may be erased as far as this node is concerned.
    pub next_q: u64,
}

/// What is odd about one frame that is held all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    /// Position in the request.
    pub index: u32,
    /// Which sensor.
    #[serde(with = "hexed")]
    pub sensor: SensorId,
    /// First q of the frame.
    pub first_q: u64,
    /// Stable code, one of [`super::codes`].
    pub code: String,
    /// What is odd and what to do.
    pub detail: String,
}

/// Why one frame was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedFrame {
    /// Position in the request.
    pub index: u32,
    /// Which sensor, if that much could be read.
    #[serde(with = "hexed::option", default)]
    pub sensor: Option<SensorId>,
    /// Its first q, if that much could be read.
    #[serde(default)]
    pub first_q: Option<u64>,
    /// Stable code, one of [`super::codes`].
    pub code: String,
    /// What is wrong and what to do.
    pub detail: String,
}
