//! What `f` is given: the carry, the window, its leaves and their messages (wire-format §4).

use crate::{OrTrap, Reader, Trace, VERSION, trap};

/// Sensor time is below this many seconds.
const TIME_MAX: u64 = 1 << 48;

/// The carry and the window of one execution.
#[derive(Debug)]
pub struct Input<'a> {
    carry: &'a [u8],
    t: u64,
    from: u64,
    to: u64,
    sensors: u32,
    leaves: &'a [u8],
    trace: Trace,
}

/// What ended a sensor's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowEnd {
    /// A message at or past the end, or, for a count window, its last message.
    Message,
    /// A closing record, since the sensor stayed silent.
    ClosingRecord,
}

impl<'a> Input<'a> {
    /// Parses `carry bytes | window`. Traps unless the structure is whole down to the leaves; bodies are parsed as
    /// their messages are read.
    pub fn parse(input: &'a [u8]) -> Self {
        let mut r = Reader::new(input);
        let carry = r.bytes();
        if r.u8() != VERSION {
            trap("this window has another version than the module knows");
        }
        let (t, from, to, sensors) = (r.u64(), r.u64(), r.u64(), r.u32());
        let leaves = r.rest();
        for _ in 0..sensors {
            LeafHeader::read(&mut r);
        }
        r.end();
        let trace = Trace::new();
        trace.fold_bytes(carry);
        for x in [t, from, to, sensors.into()] {
            trace.fold(x);
        }
        Self {
            carry,
            t,
            from,
            to,
            sensors,
            leaves,
            trace,
        }
    }

    /// What the previous execution left for this one; empty at t = 0.
    pub const fn carry(&self) -> Reader<'a> {
        Reader::new(self.carry)
    }

    /// Number of this execution, from 0.
    pub const fn t(&self) -> u64 {
        self.t
    }

    /// First second of the window (Unix time), 0 for count windows.
    pub const fn from(&self) -> u64 {
        self.from
    }

    /// First second after the window (Unix time), 0 for count windows.
    pub const fn to(&self) -> u64 {
        self.to
    }

    /// Number of sensors of the agreement: as many leaves there are, and as many items the detail may have.
    pub const fn sensors(&self) -> u32 {
        self.sensors
    }

    /// One leaf per sensor, in agreement order.
    pub const fn leaves(&self) -> Leaves<'_> {
        Leaves {
            left: self.sensors,
            r: Reader::new(self.leaves),
            trace: &self.trace,
        }
    }

    /// The trace, for folding what the module concluded.
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }
}

#[derive(Clone, Copy, Debug)]
struct LeafHeader<'a> {
    sensor: &'a [u8; 20],
    first_q: u64,
    count: u32,
    end: WindowEnd,
    width: u8,
    body: &'a [u8],
}

impl<'a> LeafHeader<'a> {
    fn read(r: &mut Reader<'a>) -> Self {
        Self {
            sensor: r.raw(),
            first_q: r.u64(),
            count: r.u32(),
            end: if r.bool() {
                WindowEnd::ClosingRecord
            } else {
                WindowEnd::Message
            },
            width: r.u8(),
            body: r.bytes(),
        }
    }
}

/// Iterator over the leaves of a window.
#[derive(Clone, Debug)]
pub struct Leaves<'a> {
    left: u32,
    r: Reader<'a>,
    trace: &'a Trace,
}

impl<'a> Iterator for Leaves<'a> {
    type Item = Leaf<'a>;

    fn next(&mut self) -> Option<Leaf<'a>> {
        self.left = self.left.checked_sub(1)?;
        Some(Leaf {
            header: LeafHeader::read(&mut self.r),
            trace: self.trace,
        })
    }
}

/// The window of one sensor.
#[derive(Clone, Debug)]
pub struct Leaf<'a> {
    header: LeafHeader<'a>,
    trace: &'a Trace,
}

impl<'a> Leaf<'a> {
    /// The sensor's id (an address).
    pub const fn sensor(&self) -> &'a [u8; 20] {
        self.header.sensor
    }

    /// `q` of its first message.
    pub const fn first_q(&self) -> u64 {
        self.header.first_q
    }

    /// Number of messages.
    pub const fn count(&self) -> u32 {
        self.header.count
    }

    /// What ended it.
    pub const fn end(&self) -> WindowEnd {
        self.header.end
    }

    /// Bytes of values in each message.
    pub const fn width(&self) -> u8 {
        self.header.width
    }

    /// The messages in order of `q`. Each one enters the trace as it is read.
    pub fn messages(&self) -> Messages<'a> {
        let h = &self.header;
        self.trace.fold_fixed(h.sensor);
        self.trace.fold(h.first_q);
        self.trace
            .fold(u64::from(h.count) << 16 | (h.end as u64) << 8 | u64::from(h.width));
        Messages {
            left: h.count,
            q: h.first_q,
            time: 0,
            width: h.width,
            r: Reader::new(h.body),
            trace: self.trace,
        }
    }
}

/// Iterator over the messages of a leaf. Traps when the body is malformed or is not as long as its count says.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    left: u32,
    q: u64,
    time: u64,
    width: u8,
    r: Reader<'a>,
    trace: &'a Trace,
}

/// A message of a sensor.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Sequence number.
    pub q: u64,
    /// Sensor time, Unix seconds, below 2^48. Not always ascending: clocks jump; `q` alone is the order.
    pub time: u64,
    values: &'a [u8],
}

impl<'a> Message<'a> {
    /// The variables of the sensor, to be read in the order of its declaration.
    pub const fn values(&self) -> Reader<'a> {
        Reader::new(self.values)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    #[inline]
    fn next(&mut self) -> Option<Message<'a>> {
        if self.left == 0 {
            self.r.end();
            return None;
        }
        self.left -= 1;
        let zigzag = self.r.varint();
        let delta = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        let time = self
            .time
            .checked_add_signed(delta)
            .or_trap("a time is below 0");
        if time >= TIME_MAX {
            trap("a time is not below 2^48");
        }
        self.time = time;
        let message = Message {
            q: self.q,
            time,
            values: self.r.take(self.width.into()),
        };
        self.q = self.q.checked_add(1).or_trap("q overflows");
        // `q` follows from the leaf's header, which is folded before its messages.
        self.trace.fold(time);
        self.trace.fold_fixed(message.values);
        Some(message)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left as usize))
    }
}
