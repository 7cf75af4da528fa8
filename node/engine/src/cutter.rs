//! Cuts the traces of an agreement's sensors into windows (design §2). Order is q alone: a clock that jumps back never
//! reopens a window, and a message from the future closes nothing yet.

use crate::api::{LeafPlan, Millis};
use crate::trace::Trace;
use diversity_proto::SensorId;
use diversity_proto::terms::{Terms, WindowSpec};
use diversity_proto::window::WindowEnd;
use std::collections::{BTreeMap, BTreeSet};

/// A window that is closed.
#[derive(Clone, Debug)]
pub(crate) struct Closed {
    pub t: u64,
    pub from: u64,
    pub to: u64,
    pub q_start: Vec<u64>,
    pub q_end: Vec<u64>,
    pub q_next: Vec<u64>,
    pub ends: Vec<WindowEnd>,
}

/// Cuts one window after another.
#[derive(Clone, Debug)]
pub(crate) struct Cutter {
    spec: WindowSpec,
    tolerance_s: u64,
    /// The window being cut.
    pub t: u64,
    pub q_start: Vec<u64>,
    scan: Vec<u64>,
    ends: Vec<Option<(u64, WindowEnd)>>,
    /// Sensors whose window is still open.
    pub open: BTreeSet<usize>,
    /// Sensors whose next message is from the future, and when it no longer is (Unix seconds).
    future: BTreeMap<usize, u64>,
}

impl Cutter {
    pub fn new(terms: &Terms, t: u64, q_start: Vec<u64>) -> Self {
        let n = q_start.len();
        Self {
            spec: terms.window,
            tolerance_s: terms.future_tolerance_s.into(),
            t,
            scan: q_start.clone(),
            q_start,
            ends: vec![None; n],
            open: (0..n).collect(),
            future: BTreeMap::new(),
        }
    }

    /// Looks whether the window of sensor `k` has ended.
    pub fn look(&mut self, k: usize, trace: &Trace, now: Millis) {
        if !self.open.contains(&k) {
            return;
        }
        self.future.remove(&k);
        let end = match self.spec {
            WindowSpec::Count { z, .. } => {
                let full = self.q_start[k] + u64::from(z);
                (trace.next_q >= full).then_some(full)
            }
            _ => self.look_time(k, trace, now),
        };
        // A void sensor sends nothing more that counts: the chain's record closes its windows.
        let void = trace
            .void_from
            .filter(|v| trace.next_q >= *v || end.is_some_and(|e| e > *v));
        let end = match (end, void) {
            (Some(e), Some(v)) if v < e => Some((v.max(self.q_start[k]), WindowEnd::ClosingRecord)),
            (Some(e), _) => Some((e, WindowEnd::Message)),
            (None, Some(v)) => Some((v.max(self.q_start[k]), WindowEnd::ClosingRecord)),
            (None, None) => None,
        };
        if end.is_some() {
            self.ends[k] = end;
            self.open.remove(&k);
        }
    }

    fn look_time(&mut self, k: usize, trace: &Trace, now: Millis) -> Option<u64> {
        let (_, to) = self.spec.span(self.t);
        for (q, time) in trace.times_from(self.scan[k]) {
            if time >= to {
                let due = time.saturating_sub(self.tolerance_s);
                self.scan[k] = q;
                if due > now / 1000 {
                    self.future.insert(k, due);
                    return None;
                }
                return Some(q);
            }
            self.scan[k] = q + 1;
        }
        None
    }

    /// When a message that was from the future no longer is.
    pub fn due(&self) -> Option<Millis> {
        self.future.values().min().map(|s| s * 1000)
    }
    /// Sensors whose future message may count by now.
    pub fn overdue(&self, now: Millis) -> Vec<usize> {
        self.future
            .iter()
            .filter(|(_, s)| **s <= now / 1000)
            .map(|(k, _)| *k)
            .collect()
    }

    /// Takes the window if every sensor's part has ended, and goes on to the next.
    pub fn take(&mut self) -> Option<Closed> {
        if !self.open.is_empty() {
            return None;
        }
        let ends: Vec<_> = self
            .ends
            .iter()
            .map(|e| e.expect("nothing is open"))
            .collect();
        let q_end: Vec<u64> = ends.iter().map(|e| e.0).collect();
        let q_next = match self.spec {
            WindowSpec::Count { slide, .. } => {
                let next = |(s, e): (&u64, &(u64, WindowEnd))| match e.1 {
                    WindowEnd::Message => s + u64::from(slide),
                    WindowEnd::ClosingRecord => e.0.min(s + u64::from(slide)),
                };
                self.q_start.iter().zip(&ends).map(next).collect()
            }
            _ => q_end.clone(),
        };
        let (from, to) = self.spec.span(self.t);
        let closed = Closed {
            t: self.t,
            from,
            to,
            q_start: std::mem::replace(&mut self.q_start, q_next.clone()),
            q_end,
            q_next: q_next.clone(),
            ends: ends.iter().map(|e| e.1).collect(),
        };
        self.t += 1;
        self.open = (0..q_next.len()).collect();
        self.ends = vec![None; q_next.len()];
        self.scan = q_next;
        Some(closed)
    }
}

impl Closed {
    /// Where the messages of each sensor are.
    pub fn leaves(
        &self,
        sensors: &[SensorId],
        traces: &BTreeMap<SensorId, Trace>,
    ) -> Vec<LeafPlan> {
        let leaf = |(k, sensor): (usize, &SensorId)| {
            let trace = &traces[sensor];
            LeafPlan {
                sensor: *sensor,
                first_q: self.q_start[k],
                end: self.ends[k],
                width: trace.declaration.width(),
                pieces: trace.pieces(self.q_start[k], self.q_end[k]),
            }
        };
        sensors.iter().enumerate().map(leaf).collect()
    }
    /// Messages in it.
    pub fn messages(&self) -> u64 {
        self.q_start
            .iter()
            .zip(&self.q_end)
            .map(|(s, e)| e - s)
            .sum()
    }
}
