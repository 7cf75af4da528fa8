//! Windows as this node holds them: what was computed of them, and the same cut again from the sensors' signed frames.

use std::sync::Arc;

use diversity_client::abi::decode_packed;
use diversity_client::api::{WindowRange, WindowStatus, WindowView};
use diversity_client::hexed::Bytes;
use diversity_engine::api::{FrameRef, Stretch};
use diversity_proto::frame::Frame;
use diversity_proto::window::Window;
use diversity_proto::wire::Range;
use diversity_proto::{AgreementId, SensorId};
use serde_json::Map;

use super::records::{Certificate, ExecutionRecord, Finality};
use super::results::fields;
use super::{Archive, commit_json, computed_json, label, reveal_json};
use crate::node::cut::{LeafRange, recut};
use crate::rooms::agreements::Agreement;
use crate::rooms::error::{RoomError, RoomResult, blocking};

/// A window that was cut again and hashes to what was executed.
#[derive(Clone, Debug)]
pub struct HeldWindow {
    /// The window.
    pub window: Window,
    /// The frames that it is cut from, as the sensors signed them.
    pub frames: Vec<Vec<u8>>,
}

impl Archive {
    /// What this node knows of window t.
    ///
    /// # Errors
    /// [`RoomError::NotFound`] if the agreement is not known, or t is not executed here.
    pub fn window(&self, a: &AgreementId, t: u64) -> RoomResult<WindowView> {
        let (agreement, x) = self.executed(a, t)?;
        let certificate = self.records.certificate(a, t)?;
        let status = status(self.records.finality(a, t)?, certificate.as_ref());
        let terms = &agreement.terms;
        let nodes = || terms.nodes.iter().map(|n| n.node);
        let seal = certificate
            .as_ref()
            .map(|c| c.seal(&self.book.deployment, a, terms, t));
        Ok(WindowView {
            t,
            from: x.from,
            to: x.to,
            status,
            computed: computed_json(&x.execution.computed),
            carry: Bytes(x.execution.carry.clone()),
            q_next: x.stretches.iter().map(|s| s.next).collect(),
            result: fields(&terms.result, &x.execution.computed)?,
            sensors: self.ranges(&agreement, &x)?,
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

    /// The input of `f` at t: the carry of t-1, and window t cut again (wire-format §5).
    ///
    /// # Errors
    /// As [`Self::messages`].
    pub async fn input(&self, a: &AgreementId, t: u64) -> RoomResult<Vec<u8>> {
        let held = self.messages(a, t).await?;
        self.input_of(&held, a, t)
    }

    /// Window t cut again.
    ///
    /// # Errors
    /// As [`Self::window`], and [`RoomError::NotFound`] if messages of it are gone.
    pub async fn messages(&self, a: &AgreementId, t: u64) -> RoomResult<HeldWindow> {
        let (agreement, x) = self.executed(a, t)?;
        self.held(&agreement, t, &x).await?.ok_or_else(|| {
            RoomError::not_found(
                format!("this node does not hold the messages of window {t} any more"),
                "Ask another node of the agreement.",
            )
        })
    }

    fn executed(&self, a: &AgreementId, t: u64) -> RoomResult<(Agreement, ExecutionRecord)> {
        let agreement = self.agreement(a)?;
        let x = self.records.execution(a, t)?.ok_or_else(|| {
            RoomError::not_found(
                format!("this node has not executed t {t} of agreement {a} yet"),
                "See `progress` of the agreement.",
            )
        })?;
        Ok((agreement, x))
    }

    fn ranges(&self, agreement: &Agreement, x: &ExecutionRecord) -> RoomResult<Vec<WindowRange>> {
        let registry = self.registered.read();
        let range = |(k, sensor): (usize, &SensorId)| {
            let stretch = stretch(x, k)?;
            let detail = match x.execution.detail.get(k) {
                Some(detail) => {
                    decode_packed(&agreement.terms.detail, detail).map_err(RoomError::internal)?
                }
                None => Map::new(),
            };
            Ok(WindowRange {
                sensor: *sensor,
                label: label(&registry, sensor),
                first_q: stretch.start,
                count: u32::try_from(stretch.end.saturating_sub(stretch.start)).unwrap_or(u32::MAX),
                end: stretch.by,
                detail,
            })
        };
        agreement.sensors().iter().enumerate().map(range).collect()
    }

    /// Cuts the window of a recorded execution again; nothing if frames of it are gone.
    pub(super) async fn held(
        &self,
        agreement: &Agreement,
        t: u64,
        x: &ExecutionRecord,
    ) -> RoomResult<Option<HeldWindow>> {
        let ranges = self.leaf_ranges(agreement, x)?;
        let mut places = Vec::new();
        for range in &ranges {
            places.extend(self.places(range).await?);
        }
        let stored = Arc::clone(&self.frames);
        let (span, expected) = ((t, x.from, x.to), x.execution.computed.window_hash);
        blocking(move || {
            let frames = places
                .into_iter()
                .map(|at| stored.decoded(at))
                .collect::<Result<Vec<_>, _>>()?;
            let window = recut(span, &ranges, &frames).filter(|w| w.hash() == expected);
            let Some(window) = window else {
                return Ok(None);
            };
            Ok(Some(HeldWindow {
                window,
                frames: frames.iter().map(Frame::encode).collect(),
            }))
        })
        .await
    }

    fn leaf_ranges(
        &self,
        agreement: &Agreement,
        x: &ExecutionRecord,
    ) -> RoomResult<Vec<LeafRange>> {
        let registry = self.registered.read();
        let range = |(k, sensor): (usize, &SensorId)| {
            let stretch = stretch(x, k)?;
            Ok(LeafRange {
                sensor: *sensor,
                first_q: stretch.start,
                end_q: stretch.end,
                width: registry
                    .sensors
                    .get(sensor)
                    .map_or(0, |r| r.declaration.width()),
                end: stretch.by,
            })
        };
        agreement.sensors().iter().enumerate().map(range).collect()
    }

    /// Where the frames of a range are, as far as they are here.
    async fn places(&self, range: &LeafRange) -> RoomResult<Vec<FrameRef>> {
        let mut out: Vec<FrameRef> = Vec::new();
        let mut from_q = range.first_q;
        while from_q < range.end_q {
            let wanted = Range {
                sensor: range.sensor,
                from_q,
                to_q: range.end_q,
            };
            let found = self.core.find(vec![wanted]).await?;
            let Some(last) = found.last().copied() else {
                break;
            };
            for at in found {
                if out.last() != Some(&at) {
                    out.push(at);
                }
            }
            // An answer holds only so many: go on after the last one.
            let next = self.frames.decoded(last)?.next_q();
            if next <= from_q {
                break;
            }
            from_q = next;
        }
        Ok(out)
    }

    pub(super) fn input_of(
        &self,
        held: &HeldWindow,
        a: &AgreementId,
        t: u64,
    ) -> RoomResult<Vec<u8>> {
        let carry = match t.checked_sub(1) {
            None => Vec::new(),
            Some(before) => match self.records.execution(a, before)? {
                Some(x) => x.execution.carry,
                None => {
                    return Err(RoomError::internal(format!(
                        "the execution of t {before} is missing"
                    )));
                }
            },
        };
        Ok(held.window.input(&carry))
    }
}

fn stretch(x: &ExecutionRecord, k: usize) -> RoomResult<Stretch> {
    x.stretches
        .get(k)
        .copied()
        .ok_or_else(|| RoomError::internal("a stored execution has not one range for each sensor"))
}

fn status(last: Option<Finality>, certificate: Option<&Certificate>) -> WindowStatus {
    match (last, certificate) {
        (Some(Finality::Settled(_) | Finality::Resolved), _) => WindowStatus::Settled,
        (Some(Finality::Hole), _) => WindowStatus::Hole,
        (None, Some(_)) => WindowStatus::Certified,
        (None, None) => WindowStatus::Open,
    }
}
