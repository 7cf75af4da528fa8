//! `f` of a bike-hire agreement: how long, and how often, each bike was rented in the window.
//!
//! - Sensors: locks with one variable, `state: bool`. True says that the lock is open, false that it is closed.
//! - A rental starts with the message that opens a closed lock and ends with the message that closes it. It counts,
//!   with all its seconds, in the window of the message that ends it. An open rental is carried over.
//! - A message that repeats the state (a heartbeat) changes nothing.
//! - A clock that went backwards during a rental makes it last 0 seconds; it is still a trip.
//! - Result, packed: `uint64 total_seconds, uint32 trips`, over all locks. Detail, packed, one item per lock:
//!   `uint64 seconds, uint32 trips`.
//! - **The result is never null.** A window without a rental has the value (0, 0), so that every month settles and a
//!   month that nobody has billed yet cannot be taken for a quiet one.
//! - Carry: per lock, in agreement order, an option (byte 0 or 1) of the `u64` time at which it was opened. An empty
//!   carry (t = 0) means that all locks start closed.

#![cfg_attr(target_arch = "wasm32", no_std)]

use diversity_guest::{Answer, Input, OrTrap, Output, Trace};

diversity_guest::export!(bike_lock);

/// One lock within the window.
struct Lock {
    /// When the open rental began, if there is one.
    opened: Option<u64>,
    seconds: u64,
    trips: u32,
}

impl Lock {
    /// Applies one message.
    fn step(&mut self, open: bool, time: u64, trace: &Trace) {
        match (self.opened, open) {
            (None, true) => {
                self.opened = Some(time);
                trace.fold(time);
            }
            (Some(opened), false) => {
                self.opened = None;
                self.seconds = self
                    .seconds
                    .checked_add(time.saturating_sub(opened))
                    .or_trap("2^64 seconds");
                self.trips = self.trips.checked_add(1).or_trap("2^32 trips");
                trace.fold(self.seconds);
            }
            (None, false) | (Some(_), true) => {}
        }
    }
}

/// See the documentation of the crate.
pub fn bike_lock(input: &Input<'_>) -> Answer {
    let mut carry = input.carry();
    let first = carry.is_empty();
    let mut output = Output::new();
    let (mut total_seconds, mut total_trips) = (0u64, 0u32);
    for leaf in input.leaves() {
        let opened = (!first && carry.bool()).then(|| carry.u64());
        let mut lock = Lock {
            opened,
            seconds: 0,
            trips: 0,
        };
        for message in leaf.messages() {
            let mut values = message.values();
            let open = values.bool();
            values.end();
            lock.step(open, message.time, input.trace());
        }
        output.detail(|item| item.u64(lock.seconds).u32(lock.trips));
        total_seconds = total_seconds
            .checked_add(lock.seconds)
            .or_trap("2^64 seconds");
        total_trips = total_trips.checked_add(lock.trips).or_trap("2^32 trips");
        match lock.opened {
            Some(opened) => output.carry().bool(true).u64(opened),
            None => output.carry().bool(false),
        };
    }
    carry.end();
    output.value(|result| result.u64(total_seconds).u32(total_trips))
}
