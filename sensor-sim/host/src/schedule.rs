//! From trips to messages and frames: what each lock says, when, and in which frame. All of it follows from the trips and the
//! number of messages in a frame, so a replay that was killed makes the same frames again.

use crate::trips::Trips;
use diversity_proto::time::{month_of, month_start_after};

/// One message of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Unix seconds.
    pub time: u64,
    /// Whether the lock is open.
    pub open: bool,
    /// Whether it only says that the lock lives.
    pub heartbeat: bool,
}

/// One lock and everything that it says; the position of a message is its `q`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The bike's id.
    pub label: String,
    /// In order of `q`; times never go back.
    pub events: Vec<Event>,
}

/// Consecutive messages of one lock that are signed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cut {
    /// Time of its last message: when it can leave.
    pub time: u64,
    /// Index of the lock.
    pub lock: u32,
    /// `q` of its first message.
    pub first_q: u32,
    /// Number of messages.
    pub count: u16,
}

impl Cut {
    /// First `q` after it.
    pub fn next_q(&self) -> u64 {
        u64::from(self.first_q) + u64::from(self.count)
    }
}

/// A whole replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The locks, ascending by label.
    pub locks: Vec<Lock>,
    /// The frames, in the order in which they leave.
    pub cuts: Vec<Cut>,
    /// First second of the first month.
    pub start: u64,
    /// Number of UTC months from that of the first event to that of the last.
    pub months: u64,
}

impl Schedule {
    /// Messages and frames of these trips, with a heartbeat of every lock at the end of every month, and at most
    /// `frame_messages` messages in a frame, which never crosses a month.
    pub fn new(trips: &Trips, frame_messages: u16) -> Self {
        let (first, last) = trips.span();
        let start = month_start_after(first, 0);
        let months = months_between(first, last.end) + 1;
        let ends: Vec<_> = (1..=months).map(|n| month_start_after(start, n)).collect();
        let locks: Vec<_> = trips
            .0
            .iter()
            .map(|(bike, trips)| Lock {
                label: bike.clone(),
                events: with_heartbeats(
                    trips.iter().flat_map(|t| [(t.start, true), (t.end, false)]),
                    &ends,
                ),
            })
            .collect();
        let mut cuts: Vec<_> = (0..)
            .zip(&locks)
            .flat_map(|(i, lock)| cut(i, &lock.events, frame_messages))
            .collect();
        cuts.sort_unstable();
        Self {
            locks,
            cuts,
            start,
            months,
        }
    }

    /// Number of messages.
    pub fn messages(&self) -> u64 {
        self.locks.iter().map(|l| l.events.len() as u64).sum()
    }

    /// Number of heartbeats among them.
    pub fn heartbeats(&self) -> u64 {
        self.months * self.locks.len() as u64
    }

    /// First second after the last month.
    pub fn end(&self) -> u64 {
        month_start_after(self.start, self.months)
    }

    /// Execution `t` as people call it: `2016-07`.
    pub fn month_name(&self, t: u64) -> String {
        let (year, month) = month_of(month_start_after(self.start, t));
        format!("{year}-{month:02}")
    }
}

fn months_between(from: u64, to: u64) -> u64 {
    let count = |t| {
        let (year, month) = month_of(t);
        year * 12 + month
    };
    count(to) - count(from)
}

/// Puts a heartbeat at each of `ends`, before the first change at or after it: it closes the month, and says the state that
/// the lock had then.
fn with_heartbeats(changes: impl Iterator<Item = (u64, bool)>, ends: &[u64]) -> Vec<Event> {
    let mut out = Vec::new();
    let mut ends = ends.iter().copied().peekable();
    let mut state = false;
    let beat = |time: u64, open: bool| Event {
        time,
        open,
        heartbeat: true,
    };
    for (time, open) in changes {
        while let Some(end) = ends.next_if(|end| *end <= time) {
            out.push(beat(end, state));
        }
        state = open;
        out.push(Event {
            time,
            open,
            heartbeat: false,
        });
    }
    out.extend(ends.map(|end| beat(end, state)));
    out
}

/// Cuts a lock's messages into frames. A frame ends when it is full, before another month, and with a heartbeat, which must not
/// wait for what comes after it.
fn cut(lock: u32, events: &[Event], frame_messages: u16) -> Vec<Cut> {
    let mut out: Vec<Cut> = Vec::new();
    let mut open = false;
    let mut previous = 0;
    for (q, event) in (0u32..).zip(events) {
        match out.last_mut() {
            Some(cut)
                if open
                    && cut.count < frame_messages
                    && month_of(previous) == month_of(event.time) =>
            {
                cut.count += 1;
                cut.time = event.time;
            }
            _ => out.push(Cut {
                time: event.time,
                lock,
                first_q: q,
                count: 1,
            }),
        }
        previous = event.time;
        open = !event.heartbeat;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trips::HEADER;
    use std::path::Path;

    const OCTOBER: u64 = 1_443_657_600;
    const NOVEMBER: u64 = OCTOBER + 31 * 86_400;
    const DECEMBER: u64 = NOVEMBER + 30 * 86_400;

    fn schedule(lines: &str, frame_messages: u16) -> Schedule {
        let text = format!("{HEADER}\n{lines}");
        let trips = Trips::parse(&mut text.as_bytes(), Path::new("x")).unwrap();
        Schedule::new(&trips, frame_messages)
    }

    fn said(lock: &Lock) -> Vec<(u64, bool, bool)> {
        lock.events
            .iter()
            .map(|e| (e.time, e.open, e.heartbeat))
            .collect()
    }

    #[test]
    fn every_lock_has_a_heartbeat_at_the_end_of_every_month_with_the_state_it_had() {
        let (a, b) = (OCTOBER + 100, NOVEMBER + 50);
        // A rental over the month's end, and a bike that is first seen in November.
        let s = schedule(&format!("A,{a},{b}\nB,{NOVEMBER},{}\n", NOVEMBER + 5), 1);
        assert_eq!((s.start, s.months, s.end()), (OCTOBER, 2, DECEMBER));
        assert_eq!(
            said(&s.locks[0]),
            [
                (a, true, false),
                (NOVEMBER, true, true),
                (b, false, false),
                (DECEMBER, false, true)
            ]
        );
        // A message at the very end of the month comes after the heartbeat.
        assert_eq!(
            said(&s.locks[1]),
            [
                (NOVEMBER, false, true),
                (NOVEMBER, true, false),
                (NOVEMBER + 5, false, false),
                (DECEMBER, false, true)
            ]
        );
        assert_eq!((s.messages(), s.heartbeats()), (8, 4));
        assert_eq!([s.month_name(0), s.month_name(1)], ["2015-10", "2015-11"]);
    }

    #[test]
    fn an_end_in_the_first_second_of_a_month_belongs_to_it() {
        let s = schedule(&format!("A,{OCTOBER},{NOVEMBER}\n"), 1);
        assert_eq!(s.months, 2);
        let times: Vec<_> = s.locks[0].events.iter().map(|e| (e.time, e.open)).collect();
        let expected = [
            (OCTOBER, true),
            (NOVEMBER, true),
            (NOVEMBER, false),
            (DECEMBER, false),
        ];
        assert_eq!(times, expected);
    }

    #[test]
    fn frames_hold_every_message_once_in_order_and_cross_no_month() {
        let mut lines = String::new();
        for bike in 0..3 {
            for i in 0..200u64 {
                let start = OCTOBER + bike * 977 + i * 26_000;
                lines.push_str(&format!("bike{bike},{start},{}\n", start + 900 * (i % 3)));
            }
        }
        for frame_messages in [1, 2, 20, 1_024] {
            let s = schedule(&lines, frame_messages);
            assert!(s.cuts.is_sorted());
            let mut next = [0u64; 3];
            for cut in &s.cuts {
                let lock = cut.lock as usize;
                assert_eq!(u64::from(cut.first_q), next[lock]);
                next[lock] = cut.next_q();
                let events = &s.locks[lock].events[cut.first_q as usize..cut.next_q() as usize];
                assert!(events.len() <= usize::from(frame_messages));
                assert!(
                    events
                        .iter()
                        .all(|e| month_of(e.time) == month_of(cut.time))
                );
                assert!(events.iter().rev().skip(1).all(|e| !e.heartbeat));
                assert_eq!(events.last().unwrap().time, cut.time);
            }
            for (lock, next) in s.locks.iter().zip(next) {
                assert_eq!(lock.events.len() as u64, next);
                assert!(lock.events.is_sorted_by_key(|e| e.time));
            }
        }
    }
}
