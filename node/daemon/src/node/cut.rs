//! The one place where a window is cut: `w[t]` out of signed frames (wire-format §4). The loop cuts by the core's plan, the
//! archive cuts again what was executed, and `diversity dispute replay` cuts again what a bundle of evidence holds.

use std::borrow::Borrow;
use std::collections::HashMap;

use diversity_engine::api::{FrameRef, LeafPlan, Piece};
use diversity_proto::SensorId;
use diversity_proto::frame::Frame;
use diversity_proto::window::{Leaf, Window, WindowEnd};
use diversity_store::StoreError;

/// Why a window could not be cut. What was acknowledged is not there any more, so the node must not go on (N1).
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record is missing or damaged.
    #[error(
        "stored frame {index} of segment {segment} is missing or damaged: restore the data directory from a backup, or give the node a new one and let it repair from its peers"
    )]
    Damaged {
        /// Which segment.
        segment: u64,
        /// Which frame in it.
        index: u32,
    },
}

/// Puts `w[t]` of `[from, to)` (Unix seconds; 0 for count windows) together, one leaf for each plan. `frame` gives the frames that
/// the plans refer to.
///
/// # Errors
/// [`CutError`] of `frame`, or [`CutError::Damaged`] where a frame is not what the plan says.
pub fn cut<F: Borrow<Frame>>(
    (t, from, to): (u64, u64, u64),
    leaves: &[LeafPlan],
    frame: impl Fn(FrameRef) -> Result<F, CutError>,
) -> Result<Window, CutError> {
    let leaves = leaves
        .iter()
        .map(|leaf| cut_leaf(leaf, &frame))
        .collect::<Result<_, _>>()?;
    Ok(Window {
        t,
        from,
        to,
        leaves,
    })
}

/// One sensor's part of a window that was cut before: `first_q..end_q`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeafRange {
    /// Whose.
    pub sensor: SensorId,
    /// First q.
    pub first_q: u64,
    /// First q after it.
    pub end_q: u64,
    /// Bytes of values in a message.
    pub width: u8,
    /// What ended it.
    pub end: WindowEnd,
}

/// Cuts a window again from frames at hand, in any order; nothing if they do not hold all of it. Whoever calls it has checked the
/// frames' signatures, or compares the window's hash with one that is certified.
pub fn recut(span: (u64, u64, u64), ranges: &[LeafRange], frames: &[Frame]) -> Option<Window> {
    let mut by_sensor: HashMap<SensorId, Vec<(u32, &Frame)>> = HashMap::new();
    for (index, frame) in (0..).zip(frames) {
        by_sensor
            .entry(frame.sensor)
            .or_default()
            .push((index, frame));
    }
    for of_sensor in by_sensor.values_mut() {
        of_sensor.sort_by_key(|(_, f)| (f.first_q, f.next_q()));
    }
    let held = |sensor| by_sensor.get(sensor).map_or(&[][..], Vec::as_slice);
    let leaves: Vec<_> = ranges
        .iter()
        .map(|range| plan(range, held(&range.sensor)))
        .collect::<Option<_>>()?;
    cut(span, &leaves, |at| {
        frames.get(at.index as usize).ok_or_else(|| damaged(at))
    })
    .ok()
}

/// A record that is not what the core says it is.
pub(super) fn damaged(at: FrameRef) -> CutError {
    CutError::Damaged {
        segment: at.segment,
        index: at.index,
    }
}

fn cut_leaf<F: Borrow<Frame>>(
    plan: &LeafPlan,
    frame: impl Fn(FrameRef) -> Result<F, CutError>,
) -> Result<Leaf, CutError> {
    let mut next = plan.first_q;
    let mut parts = Vec::with_capacity(plan.pieces.len());
    for piece in &plan.pieces {
        let found = frame(piece.frame)?;
        let frame = found.borrow();
        // The core plans from what it recovered; if the store says otherwise it is damaged.
        let fits = frame.sensor == plan.sensor
            && frame.width == plan.width
            // What lies between was lost, by a gap record of the sensor.
            && frame.first_q + u64::from(piece.skip) >= next
            && u64::from(piece.skip) + u64::from(piece.take) <= u64::from(frame.count);
        if !fits {
            return Err(damaged(piece.frame));
        }
        next = frame.first_q + u64::from(piece.skip) + u64::from(piece.take);
        parts.push((found, piece));
    }
    let messages = parts.iter().flat_map(|(frame, piece)| {
        Borrow::<Frame>::borrow(frame)
            .messages()
            .skip(piece.skip as usize)
            .take(piece.take as usize)
    });
    Ok(Leaf::new(
        plan.sensor,
        plan.first_q,
        plan.end,
        plan.width,
        messages,
    ))
}

/// Pieces of a sensor's frames, ascending, that make up the range; nothing where a frame is missing. What a gap record says is
/// lost is not missing.
fn plan(range: &LeafRange, frames: &[(u32, &Frame)]) -> Option<LeafPlan> {
    let (mut next, mut pieces) = (range.first_q, Vec::new());
    for (index, frame) in frames {
        if next >= range.end_q || frame.first_q > next {
            break;
        }
        let end = frame.next_q().min(range.end_q);
        if end <= next {
            continue;
        }
        if frame.is_gap() {
            next = end;
            continue;
        }
        pieces.push(Piece {
            frame: FrameRef {
                segment: 0,
                index: *index,
            },
            skip: u32::try_from(next - frame.first_q).ok()?,
            take: u32::try_from(end - next).ok()?,
        });
        next = end;
    }
    (next >= range.end_q).then_some(LeafPlan {
        sensor: range.sensor,
        first_q: range.first_q,
        end: range.end,
        width: range.width,
        pieces,
    })
}

#[cfg(test)]
#[path = "cut_tests.rs"]
mod tests;
