//! `f` of a bike-hire agreement: how long, and how often, each bike was rented in the window.
//!
//! - Sensors: locks with one variable, `state: bool`. True says that the lock is open, false that it is closed.
//! - A rental starts with the message that opens a closed lock and ends with the message that closes it. It counts,
//!   with all its seconds, in the window of the message that ends it. An open rental is carried over.
//! - A message that repeats the state (a heartbeat) changes nothing.
//! - **Nothing outside the window and the carry is billed.** A time that does not lie in the window (1970, 2036, last month) is
//!   the time of no rental: the state of the lock follows the message, and the rental that begins or ends with it has no
//!   duration. It is neither a second nor a trip, and is reported as *unbilled* in the window in which it ends. A rental that
//!   was carried over may end at any time from its beginning on that lies before the window's end. Windows that count messages
//!   have no times, and bound nothing.
//! - A clock that went backwards within the window makes a rental last 0 seconds; it is still a trip.
//! - Result, packed: `uint64 total_seconds, uint32 trips`, over all locks. Detail, packed, one item per lock:
//!   `uint64 seconds, uint32 trips, uint32 unbilled`.
//! - **The result is never null.** A window without a rental has the value (0, 0), so that every month settles and a
//!   month that nobody has billed yet cannot be taken for a quiet one.
//! - Carry: per lock, in agreement order, a byte: 0 closed; 1 open, and the `u64` time at which it was opened; 2 open since
//!   nobody knows when. An empty carry (t = 0) means that all locks start closed.

#![cfg_attr(target_arch = "wasm32", no_std)]

use diversity_guest::{Answer, Input, OrTrap, Output, Reader, Trace, trap};

diversity_guest::export!(bike_lock);

/// Times that a window bills.
#[derive(Clone, Copy)]
struct Span {
    from: u64,
    to: u64,
}

impl Span {
    fn of(input: &Input<'_>) -> Self {
        match (input.from(), input.to()) {
            // It counts messages.
            (0, 0) => Self {
                from: 0,
                to: u64::MAX,
            },
            (from, to) => Self { from, to },
        }
    }

    fn holds(self, time: u64) -> bool {
        self.from <= time && time < self.to
    }
}

/// An open rental.
#[derive(Clone, Copy)]
enum Rental {
    /// Carried over from an earlier window.
    Carried(u64),
    /// Begun in this window.
    Begun(u64),
    /// Begun at a time that cannot be billed.
    Unknown,
}

/// One lock within the window.
struct Lock {
    rental: Option<Rental>,
    seconds: u64,
    trips: u32,
    unbilled: u32,
}

impl Lock {
    /// As the carry says.
    fn carried(carry: &mut Reader<'_>) -> Option<Rental> {
        match carry.u8() {
            0 => None,
            1 => Some(Rental::Carried(carry.u64())),
            2 => Some(Rental::Unknown),
            _ => trap("a lock in the carry is neither open nor closed"),
        }
    }

    /// Applies one message.
    fn step(&mut self, open: bool, time: u64, span: Span, trace: &Trace) {
        match (self.rental, open) {
            (None, true) => {
                trace.fold(time);
                self.rental = Some(if span.holds(time) {
                    Rental::Begun(time)
                } else {
                    Rental::Unknown
                });
            }
            (Some(rental), false) => {
                self.rental = None;
                let billed = match rental {
                    Rental::Carried(since) if since.min(span.from) <= time && time < span.to => {
                        Some(since)
                    }
                    Rental::Begun(since) if span.holds(time) => Some(since),
                    _ => None,
                };
                match billed {
                    Some(since) => self.bill(time.saturating_sub(since)),
                    None => self.unbilled = self.unbilled.checked_add(1).or_trap("2^32 trips"),
                }
                trace.fold(self.seconds);
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    fn bill(&mut self, seconds: u64) {
        self.seconds = self.seconds.checked_add(seconds).or_trap("2^64 seconds");
        self.trips = self.trips.checked_add(1).or_trap("2^32 trips");
    }
}

/// See the documentation of the crate.
pub fn bike_lock(input: &Input<'_>) -> Answer {
    let span = Span::of(input);
    let mut carry = input.carry();
    let first = carry.is_empty();
    let mut output = Output::new();
    let (mut total_seconds, mut total_trips) = (0u64, 0u32);
    for leaf in input.leaves() {
        let mut lock = Lock {
            rental: if first {
                None
            } else {
                Lock::carried(&mut carry)
            },
            seconds: 0,
            trips: 0,
            unbilled: 0,
        };
        for message in leaf.messages() {
            let mut values = message.values();
            let open = values.bool();
            values.end();
            lock.step(open, message.time, span, input.trace());
        }
        output.detail(|item| item.u64(lock.seconds).u32(lock.trips).u32(lock.unbilled));
        total_seconds = total_seconds
            .checked_add(lock.seconds)
            .or_trap("2^64 seconds");
        total_trips = total_trips.checked_add(lock.trips).or_trap("2^32 trips");
        match lock.rental {
            Some(Rental::Carried(since) | Rental::Begun(since)) => output.carry().u8(1).u64(since),
            Some(Rental::Unknown) => output.carry().u8(2),
            None => output.carry().u8(0),
        };
    }
    carry.end();
    output.value(|result| result.u64(total_seconds).u32(total_trips))
}
