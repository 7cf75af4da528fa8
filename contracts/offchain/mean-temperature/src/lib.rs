//! `f` of an agreement about heat: the mean temperature of a count window, and nothing while it is cool.
//!
//! - Sensors: thermometers with one variable, `millidegrees: i32` (thousandths of a degree Celsius).
//! - Result, packed: `int32 millidegrees`, the mean over all messages of all sensors, rounded towards zero. Null when
//!   it is below [`THRESHOLD`], or when there was no message at all.
//! - Detail, packed, one item per sensor: `int32 millidegrees, uint32 messages` (0, 0 for a silent sensor). It is
//!   given with a null, too: the nodes keep it, the chain sees nothing of it.
//! - Carry: none. With overlapping windows a message counts in each window that it lies in.

#![cfg_attr(target_arch = "wasm32", no_std)]

use diversity_guest::{Answer, Input, OrTrap, Output};

diversity_guest::export!(mean_temperature);

/// Below this mean, in thousandths of a degree Celsius, the result is null.
pub const THRESHOLD: i32 = 20_000;

/// Sum and number of readings. The sum of 2^32 readings of 32 bits fits 64.
#[derive(Default)]
struct Mean {
    sum: i64,
    n: u32,
}

impl Mean {
    fn add(&mut self, sum: i64, n: u32) {
        self.n = self.n.checked_add(n).or_trap("2^32 messages");
        self.sum = self
            .sum
            .checked_add(sum)
            .or_trap("the sum of the readings overflows");
    }

    /// `None` without readings. A mean of 32-bit readings has 32 bits.
    fn get(&self) -> Option<i32> {
        self.sum.checked_div(self.n.into()).map(|mean| mean as i32)
    }
}

/// See the documentation of the crate.
pub fn mean_temperature(input: &Input<'_>) -> Answer {
    input.carry().end();
    let mut output = Output::new();
    let mut all = Mean::default();
    for leaf in input.leaves() {
        let mut one = Mean::default();
        for message in leaf.messages() {
            let mut values = message.values();
            one.add(values.i32().into(), 1);
            values.end();
        }
        output.detail(|item| item.i32(one.get().unwrap_or(0)).u32(one.n));
        input.trace().fold(one.sum as u64);
        all.add(one.sum, one.n);
    }
    match all.get() {
        Some(mean) if mean >= THRESHOLD => output.value(|result| result.i32(mean)),
        _ => output.null(),
    }
}
