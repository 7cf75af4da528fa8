//! Cuts the traces of an agreement's sensors into windows (design §2, §3b). Order is q alone: a clock that jumps back never
//! reopens a window. A window ends before its *candidate*, the first message whose time lies from T1 to T1 + grace + tolerance,
//! or by what all nodes held past the grace.

use crate::alloc_prelude::*;
use crate::api::{LeafPlan, Millis, Stretch};
use crate::ingest::Traces;
use crate::trace::{Forgotten, Trace};
use diversity_proto::SensorId;
use diversity_proto::terms::{Terms, WindowSpec};
use diversity_proto::window::WindowEnd;
use diversity_round::sabotage::{Defect, on};

/// A window that is closed.
#[derive(Clone, Debug)]
pub(crate) struct Closed {
    pub t: u64,
    pub from: u64,
    pub to: u64,
    /// Agreement order.
    pub stretches: Vec<Stretch>,
    /// Sensors that what ended this window makes void.
    pub void: BTreeSet<usize>,
}

/// Sensors that are void. What a window voids counts for good once t is an outcome: then all nodes cut it alike. In a hole they
/// did not, so nobody counts it: the next window voids the sensor again (P-HELD-5).
#[derive(Clone, Debug, Default)]
pub(crate) struct Void {
    fixed: BTreeSet<usize>,
    pending: BTreeSet<(u64, usize)>,
}

impl Void {
    /// What ended the window t voids these.
    pub fn by(&mut self, t: u64, sensors: impl IntoIterator<Item = usize>) {
        self.pending.extend(sensors.into_iter().map(|k| (t, k)));
    }
    /// t is decided.
    pub fn decided(&mut self, t: u64, hole: bool) {
        let later = self.pending.split_off(&(t + 1, 0));
        let settled = core::mem::replace(&mut self.pending, later);
        let of_t = settled.into_iter().filter(|(at, _)| *at == t && !hole);
        self.fixed.extend(of_t.map(|(_, k)| k));
    }
    fn has(&self, k: usize) -> bool {
        self.fixed.contains(&k) || self.pending.iter().any(|p| p.1 == k)
    }
    fn all(&self, n: usize) -> bool {
        (0..n).all(|k| self.has(k))
    }
}

/// What n lists of open sensors say of one sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// The highest first-lacked q, if every node listed the sensor as open.
    pub all_to: Option<u64>,
    /// The lowest q of a contradiction that one of them shows with both bodies.
    pub contradicted: Option<u64>,
}

/// Cuts one window after another.
#[derive(Clone, Debug)]
pub(crate) struct Cutter {
    spec: WindowSpec,
    tolerance_s: u64,
    grace_s: u64,
    /// The window being cut.
    t: u64,
    start: Vec<u64>,
    /// First q that was not looked at yet.
    scan: Vec<u64>,
    /// First q behind the last message whose time lies before T1.
    inside: Vec<u64>,
    candidate: Vec<Option<(u64, u64)>>,
    ends: Vec<Option<(u64, WindowEnd)>>,
    open: BTreeSet<usize>,
    void: Void,
    /// Sensors that the open window voids.
    voided: BTreeSet<usize>,
    /// Sensors whose candidate is from the future, and when it no longer is.
    later: BTreeMap<usize, Millis>,
}

impl Cutter {
    pub fn new(terms: &Terms, t: u64, start: Vec<u64>, void: Void) -> Self {
        let n = start.len();
        Self {
            spec: terms.window,
            tolerance_s: terms.future_tolerance_s.into(),
            grace_s: terms.grace_s.into(),
            t,
            scan: start.clone(),
            inside: start.clone(),
            start,
            candidate: vec![None; n],
            ends: vec![None; n],
            open: (0..n).collect(),
            void,
            voided: BTreeSet::new(),
            later: BTreeMap::new(),
        }
    }

    pub fn t(&self) -> u64 {
        self.t
    }
    pub fn start(&self, k: usize) -> u64 {
        self.start[k]
    }
    /// Sensors whose part is still open.
    pub fn open(&self) -> &BTreeSet<usize> {
        &self.open
    }
    /// Whether every sensor is void: no window follows (design §3b, Held).
    pub fn all_void(&self) -> bool {
        self.void.all(self.start.len())
    }
    pub fn void(&mut self) -> &mut Void {
        &mut self.void
    }
    /// Whether there is anything of sensor `k` that the open window is about: a message of it, or a contradiction that no window
    /// has voided it for. A count window about nothing is never cut (P-HELD-6).
    pub fn is_about(&self, k: usize, trace: &Trace) -> bool {
        let doubtful = trace.doubtful_from();
        let news = doubtful < trace.next_q() && !self.void.has(k);
        trace.next_q().min(doubtful) > self.start[k] || news
    }
    /// When a message that was from the future no longer is.
    pub fn due(&self) -> Option<Millis> {
        self.later.values().min().copied()
    }
    /// Sensors whose message may count by now.
    pub fn overdue(&self, now: Millis) -> Vec<usize> {
        let due = self.later.iter().filter(|(_, at)| **at <= now);
        due.map(|(k, _)| *k).collect()
    }

    /// P-WINDOW-1..3: looks whether a message ends the window of sensor `k`.
    ///
    /// # Errors
    /// Times that must be read again first.
    pub fn look(&mut self, k: usize, trace: &Trace, now: Millis) -> Result<(), Forgotten> {
        if !self.open.contains(&k) {
            return Ok(());
        }
        self.later.remove(&k);
        let end = match self.spec {
            WindowSpec::Count { z, .. } => {
                let full = self.start[k] + u64::from(z);
                (trace.next_q() >= full).then_some(full)
            }
            _ => {
                self.find_candidate(k, trace, trace.doubtful_from())?;
                self.candidate_due(k, now)
            }
        };
        // A void or contradicted sensor is open to whoever knows it: that alone cuts nothing (P-HELD-2). The candidate itself is
        // the message at `end` in a time window, the one before in a count window.
        let count = matches!(self.spec, WindowSpec::Count { .. });
        let doubtful = trace.doubtful_from();
        if let Some(void) = trace.void_from()
            && on(Defect::TheChainsVoidCuts)
            && end.is_none_or(|e| e > void)
        {
            self.close(k, void.max(self.start[k]), WindowEnd::ClosingRecord);
            return Ok(());
        }
        let certain = |end: u64| {
            if count {
                doubtful >= end
            } else {
                doubtful > end
            }
        };
        if let Some(end) = end.filter(|e| certain(*e)) {
            self.close(k, end, WindowEnd::Message);
        }
        Ok(())
    }

    /// P-HELD-3: ends the window of sensor `k` by what all n nodes said, or by its message where they say that there is one.
    /// Nothing happens while messages that one of them holds are still missing here.
    ///
    /// # Errors
    /// Times that must be read again first.
    pub fn look_by_set(&mut self, k: usize, word: Word, trace: &Trace) -> Result<(), Forgotten> {
        if !self.open.contains(&k) {
            return Ok(());
        }
        let limit = word.contradicted.unwrap_or(u64::MAX);
        let bound = limit.min(word.all_to.unwrap_or(u64::MAX));
        let start = self.start[k];
        let here = trace.next_q() >= bound || bound <= start;
        if let WindowSpec::Count { z, .. } = self.spec {
            let full = start + u64::from(z);
            if bound >= full && trace.next_q() >= full {
                let by = match word.all_to {
                    Some(_) => WindowEnd::ClosingRecord,
                    None => WindowEnd::Message,
                };
                self.close(k, full, by);
            } else if bound < full && here {
                self.close_by_record(k, bound.max(start), &word);
            }
            return Ok(());
        }
        self.find_candidate(k, trace, bound)?;
        match self.candidate[k].filter(|(q, _)| *q < bound) {
            Some((q, _)) if word.all_to.is_none() => self.close(k, q, WindowEnd::Message),
            Some((q, _)) => self.close_by_record(k, q, &word),
            None if !here || bound == u64::MAX => {}
            // Contradicted: it ends there. Silent: behind the last message inside the window.
            None if bound == limit => self.close_by_record(k, limit.max(start), &word),
            None => self.close_by_record(k, self.inside[k], &word),
        }
        Ok(())
    }

    /// Nothing of the open window has ended yet: another word cuts it.
    pub fn reopen(&mut self) {
        let n = self.start.len();
        self.ends = vec![None; n];
        self.open = (0..n).collect();
        self.voided.clear();
        self.later.clear();
    }

    fn close_by_record(&mut self, k: usize, end: u64, word: &Word) {
        if word
            .contradicted
            .is_some_and(|q| q <= end.max(self.start[k]))
        {
            self.voided.insert(k);
        }
        self.close(k, end, WindowEnd::ClosingRecord);
    }

    fn close(&mut self, k: usize, end: u64, by: WindowEnd) {
        self.ends[k] = Some((end, by));
        self.open.remove(&k);
        self.later.remove(&k);
    }

    /// Goes on to the candidate below `bound`; messages later than it may be are skipped, by data alone.
    fn find_candidate(&mut self, k: usize, trace: &Trace, bound: u64) -> Result<(), Forgotten> {
        if self.candidate[k].is_some() {
            return Ok(());
        }
        let (_, to) = self.spec.span(self.t);
        let latest = to.saturating_add(self.grace_s + self.tolerance_s);
        let (mut scan, mut inside, mut found) = (self.scan[k], self.inside[k], None);
        let looked = trace.scan(scan, bound, |q, time| {
            let future = time > latest && on(Defect::TheFutureIsACandidate);
            if (to..=latest).contains(&time) || future {
                found = Some((q, time));
                return false;
            }
            if time < to {
                inside = q + 1;
            }
            scan = q + 1;
            true
        });
        if found.is_none() && looked.is_ok() {
            // Gap records at the end have no times.
            scan = scan.max(bound.min(trace.next_q()));
        }
        (self.scan[k], self.inside[k], self.candidate[k]) = (scan, inside, found);
        looked
    }

    /// The candidate's q, once the clock is past T1 and the candidate is at most the tolerance ahead of it.
    fn candidate_due(&mut self, k: usize, now: Millis) -> Option<u64> {
        let (q, time) = self.candidate[k]?;
        let (_, to) = self.spec.span(self.t);
        let due = to.max(time.saturating_sub(self.tolerance_s)) * 1_000;
        if due > now {
            self.later.insert(k, due);
            return None;
        }
        Some(q)
    }

    /// Takes the window if every sensor's part has ended, and goes on to the next.
    pub fn take(&mut self) -> Option<Closed> {
        if !self.open.is_empty() {
            return None;
        }
        let next = |start: u64, end: u64, by: WindowEnd| match (self.spec, by) {
            (WindowSpec::Count { slide, .. }, WindowEnd::Message) => start + u64::from(slide),
            (WindowSpec::Count { slide, .. }, WindowEnd::ClosingRecord) => {
                end.min(start + u64::from(slide))
            }
            _ => end,
        };
        let stretches: Vec<Stretch> = self
            .start
            .iter()
            .zip(&self.ends)
            .map(|(start, end)| {
                let (end, by) = end.expect("nothing is open");
                Stretch {
                    start: *start,
                    end,
                    next: next(*start, end, by),
                    by,
                }
            })
            .collect();
        let (from, to) = self.spec.span(self.t);
        let void = core::mem::take(&mut self.voided);
        self.void.by(self.t, void.iter().copied());
        let closed = Closed {
            t: self.t,
            from,
            to,
            void,
            stretches,
        };
        let n = self.start.len();
        self.t += 1;
        self.start = closed.stretches.iter().map(|s| s.next).collect();
        self.scan.clone_from(&self.start);
        self.inside.clone_from(&self.start);
        self.open = (0..n).collect();
        self.ends = vec![None; n];
        self.candidate = vec![None; n];
        Some(closed)
    }
}

impl Closed {
    /// Where the messages of each sensor are.
    pub fn leaves(&self, sensors: &[SensorId], traces: &Traces) -> Vec<LeafPlan> {
        let leaf = |(sensor, s): (&SensorId, &Stretch)| {
            let trace = &traces[sensor];
            LeafPlan {
                sensor: *sensor,
                first_q: s.start,
                end: s.by,
                width: trace.declaration().width(),
                pieces: trace.pieces(s.start, s.end),
            }
        };
        sensors.iter().zip(&self.stretches).map(leaf).collect()
    }
    /// `Q_next`.
    pub fn q_next(&self) -> Vec<u64> {
        self.stretches.iter().map(|s| s.next).collect()
    }
    /// Messages and lost messages in it.
    pub fn messages(&self) -> u64 {
        self.stretches.iter().map(|s| s.end - s.start).sum()
    }
}
