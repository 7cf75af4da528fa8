//! For tests of a module on the host: builds the input of an execution and parses its output.
//!
//! ```
//! use diversity_guest::testing::{LeafBuilder, WindowBuilder, run};
//! use diversity_guest::{Answer, Input, Output};
//!
//! fn messages(input: &Input<'_>) -> Answer {
//!     let n = input.leaves().map(|leaf| leaf.messages().count() as u32).sum();
//!     Output::new().value(|result| result.u32(n))
//! }
//!
//! let lock = LeafBuilder::new([7; 20], 1).message(1_000, &[1]).message(1_060, &[0]);
//! let output = run(messages, &WindowBuilder::new(0).leaf(lock).input(&[]));
//! assert_eq!(output.result, Some(vec![0, 0, 0, 2]));
//! ```

use crate::{Answer, Input, Reader, VERSION, WindowEnd, execute};
use alloc::vec::Vec;

/// Builds the window of one sensor.
#[derive(Clone, Debug)]
pub struct LeafBuilder {
    sensor: [u8; 20],
    first_q: u64,
    count: u32,
    end: WindowEnd,
    width: u8,
    time: u64,
    body: Vec<u8>,
}

impl LeafBuilder {
    /// No messages yet of a sensor whose messages have `width` bytes of values; `first_q` is 0.
    pub fn new(sensor: [u8; 20], width: u8) -> Self {
        Self {
            sensor,
            first_q: 0,
            count: 0,
            end: WindowEnd::Message,
            width,
            time: 0,
            body: Vec::new(),
        }
    }

    /// The sequence number of the first message.
    pub fn first_q(mut self, first_q: u64) -> Self {
        self.first_q = first_q;
        self
    }

    /// Marks the window as closed by a closing record.
    pub fn closed_by_record(mut self) -> Self {
        self.end = WindowEnd::ClosingRecord;
        self
    }

    /// Appends a message.
    ///
    /// # Panics
    /// When `values` has another width than declared, or `time` is not below 2^48.
    pub fn message(mut self, time: u64, values: &[u8]) -> Self {
        assert_eq!(values.len(), usize::from(self.width), "bytes of values");
        assert!(time < 1 << 48, "times are below 2^48");
        let delta = time as i64 - self.time as i64;
        self.time = time;
        let mut zigzag = (delta << 1 ^ delta >> 63) as u64;
        while zigzag >= 0x80 {
            self.body.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        self.body.push(zigzag as u8);
        self.body.extend_from_slice(values);
        self.count += 1;
        self
    }

    /// The bytes of the leaf (wire-format §4).
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.sensor.to_vec();
        out.extend(self.first_q.to_be_bytes());
        out.extend(self.count.to_be_bytes());
        out.extend([self.end as u8, self.width]);
        out.extend((self.body.len() as u32).to_be_bytes());
        out.extend(&self.body);
        out
    }
}

/// Builds the window of an execution.
#[derive(Clone, Debug)]
pub struct WindowBuilder {
    t: u64,
    from: u64,
    to: u64,
    leaves: Vec<LeafBuilder>,
}

impl WindowBuilder {
    /// An empty count window of execution `t`.
    pub const fn new(t: u64) -> Self {
        Self {
            t,
            from: 0,
            to: 0,
            leaves: Vec::new(),
        }
    }

    /// Makes it the time window `[from, to)` in Unix seconds.
    pub fn period(mut self, from: u64, to: u64) -> Self {
        (self.from, self.to) = (from, to);
        self
    }

    /// Appends the window of the next sensor.
    pub fn leaf(mut self, leaf: LeafBuilder) -> Self {
        self.leaves.push(leaf);
        self
    }

    /// The input of the execution: `carry bytes | window` (wire-format §5).
    pub fn input(&self, carry: &[u8]) -> Vec<u8> {
        let mut out = (carry.len() as u32).to_be_bytes().to_vec();
        out.extend(carry);
        out.push(VERSION);
        for x in [self.t, self.from, self.to] {
            out.extend(x.to_be_bytes());
        }
        out.extend((self.leaves.len() as u32).to_be_bytes());
        for leaf in &self.leaves {
            out.extend(leaf.encode());
        }
        out
    }
}

/// The output of an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestOutput {
    /// The packed result, or `None` for null.
    pub result: Option<Vec<u8>>,
    /// Packed, one item per sensor, or none at all.
    pub detail: Vec<Vec<u8>>,
    /// What the next execution is given.
    pub carry: Vec<u8>,
    /// Digest of what was processed.
    pub trace: [u8; 32],
}

/// Executes `f` natively over input bytes.
///
/// # Panics
/// When `f` traps.
pub fn run(f: impl FnOnce(&Input<'_>) -> Answer, input: &[u8]) -> TestOutput {
    let output = execute(f, input);
    let mut r = Reader::new(&output);
    assert_eq!(r.u8(), VERSION);
    let tag = r.u8();
    let result = r.bytes().to_vec();
    assert!(tag == 1 || tag == 0 && result.is_empty());
    let items = r.u32();
    let detail = (0..items).map(|_| r.bytes().to_vec()).collect();
    let carry = r.bytes().to_vec();
    let trace = *r.raw();
    r.end();
    TestOutput {
        result: (tag == 1).then_some(result),
        detail,
        carry,
        trace,
    }
}
