//! Windows as this node holds them: what was computed of them, and the same cut again from the sensors' signed frames.

use std::sync::Arc;

use diversity_client::abi::decode_packed;
use diversity_client::api::{WindowRange, WindowStatus, WindowView};
use diversity_client::hexed::Bytes;
use diversity_engine::api::{FrameRef, Stretch};
use diversity_proto::frame::Frame;
use diversity_proto::window::Window;
use diversity_proto::wire::{FRAMES_MAX, Range};
use diversity_proto::{AgreementId, SensorId};
use serde_json::Map;

use super::counts::Stands;
use super::records::ExecutionRecord;
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
        let stands = self.stands_at(a, t)?;
        let terms = &agreement.terms;
        let nodes = || terms.nodes.iter().map(|n| n.node);
        let seal = certificate
            .as_ref()
            .map(|c| c.seal(&self.book.deployment, a, terms, t));
        Ok(WindowView {
            t,
            from: x.from,
            to: x.to,
            status: status(stands.as_ref(), certificate.is_some()),
            counts: match &stands {
                Some(stands) => self.shown(&agreement, t, stands)?,
                None => None,
            },
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

    /// Where the frames of a range are, as far as they are here, in the order in which the core took them.
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
            out.extend(&found);
            let Some(last) = found.last().filter(|_| found.len() >= FRAMES_MAX) else {
                break;
            };
            // An answer holds only so many: go on with the last one, which may hold messages of others.
            from_q = self.frames.decoded(*last)?.first_q.max(from_q + 1);
        }
        out.sort_unstable_by_key(|at| (at.segment, at.index));
        out.dedup();
        Ok(out)
    }

    pub(super) fn input_of(
        &self,
        held: &HeldWindow,
        a: &AgreementId,
        t: u64,
    ) -> RoomResult<Vec<u8>> {
        let carry = self.records.carry_into(a, t)?.ok_or_else(|| {
            RoomError::internal(format!("the carry that t {t} starts from is missing"))
        })?;
        Ok(held.window.input(&carry))
    }
}

fn stretch(x: &ExecutionRecord, k: usize) -> RoomResult<Stretch> {
    x.stretches
        .get(k)
        .copied()
        .ok_or_else(|| RoomError::internal("a stored execution has not one range for each sensor"))
}

fn status(stands: Option<&Stands>, certified: bool) -> WindowStatus {
    match (stands, certified) {
        (Some(Stands::Agreed(_) | Stands::Said(_)), _) => WindowStatus::Settled,
        (Some(Stands::Hole), _) => WindowStatus::Hole,
        (None, true) => WindowStatus::Certified,
        (None, false) => WindowStatus::Open,
    }
}
