//! The one place where a window is cut: `w[t]` out of signed frames (wire-format §4). The loop cuts by the core's plan, the
//! archive cuts again what was executed, and `diversity dispute replay` cuts again what a bundle of evidence holds.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};

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

/// Cuts a window again from frames at hand; nothing if they do not hold all of it. Frames are in the order in which the node that cut it
/// took them, that of [`FrameRef`]s: where two hold the same q, the first counts, as it did there (P-FRAME-8). Whoever calls it has
/// checked the frames' signatures, or compares the window's hash with one that is certified.
pub fn recut(span: (u64, u64, u64), ranges: &[LeafRange], frames: &[Frame]) -> Option<Window> {
    let mut by_sensor: HashMap<SensorId, Vec<(u32, &Frame)>> = HashMap::new();
    for (index, frame) in (0..).zip(frames) {
        by_sensor
            .entry(frame.sensor)
            .or_default()
            .push((index, frame));
    }
    let held = |sensor| by_sensor.get(sensor).map_or(&[][..], Vec::as_slice);
    let leaves: Vec<_> = ranges
        .iter()
        .map(|range| plan(range, &taken(held(&range.sensor))))
        .collect::<Option<_>>()?;
    cut(span, &leaves, |at| {
        frames.get(at.index as usize).ok_or_else(|| damaged(at))
    })
    .ok()
}

/// First q behind the `count` messages of a sensor from `first_q` on, which `frames` hold in the order of [`recut`]. What a gap
/// record says is lost takes numbers too. If they do not hold so many, as if the rest followed without a gap.
pub fn end_of(sensor: &SensorId, first_q: u64, count: u32, frames: &[Frame]) -> u64 {
    let of_sensor: Vec<_> = (0..)
        .zip(frames)
        .filter(|(_, f)| f.sensor == *sensor)
        .collect();
    let (mut next, mut left) = (first_q, u64::from(count));
    for part in taken(&of_sensor) {
        if left == 0 || part.from > next {
            break;
        }
        let here = part.to.saturating_sub(next);
        let messages = if part.frame.is_gap() {
            0
        } else {
            here.min(left)
        };
        left -= messages;
        next += if part.frame.is_gap() { here } else { messages };
    }
    next.saturating_add(left)
}

/// What is taken of a frame: all that no frame before it holds.
struct Taken<'a> {
    from: u64,
    to: u64,
    index: u32,
    frame: &'a Frame,
}

/// What a node takes of these frames of one sensor, in their order; ascending by q.
fn taken<'a>(frames: &[(u32, &'a Frame)]) -> Vec<Taken<'a>> {
    let mut parts: BTreeMap<u64, Taken<'a>> = BTreeMap::new();
    for (index, frame) in frames {
        let (first, end) = (frame.first_q, frame.next_q());
        let before = parts.range(..=first).next_back().map_or(first, |(q, _)| *q);
        let held = parts.range(before..end).map(|(_, p)| (p.from, p.to));
        let held: Vec<_> = held
            .filter(|(_, to)| *to > first)
            .chain([(end, end)])
            .collect();
        let mut at = first;
        for (from, to) in held {
            if at < from {
                let part = Taken {
                    from: at,
                    to: from,
                    index: *index,
                    frame,
                };
                parts.insert(at, part);
            }
            at = at.max(to);
        }
    }
    parts.into_values().collect()
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

/// Pieces of what is taken of a sensor's frames that make up the range; nothing where a frame is missing. What a gap record says is
/// lost is not missing.
fn plan(range: &LeafRange, parts: &[Taken<'_>]) -> Option<LeafPlan> {
    let (mut next, mut pieces) = (range.first_q, Vec::new());
    for part in parts.iter().filter(|p| p.to > range.first_q) {
        if next >= range.end_q || part.from > next {
            break;
        }
        let end = part.to.min(range.end_q);
        if !part.frame.is_gap() {
            pieces.push(Piece {
                frame: FrameRef {
                    segment: 0,
                    index: part.index,
                },
                skip: u32::try_from(next - part.frame.first_q).ok()?,
                take: u32::try_from(end - next).ok()?,
            });
        }
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
