//! What opens the cell that a second reading filled (wire-format §8): the chain holds its context, which all n nodes have signed
//! together, and the state that the next window starts from lies in it.

use crate::codec::{Reader, Result, Writer};
use crate::ids::Digest;
use crate::round::{CARRY_BYTES_MAX, Computed};
use crate::terms::SENSORS_MAX;
use crate::window;
use alloc::vec::Vec;

/// What the nodes computed in a second reading, and what its `state'` is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellState {
    /// As revealed.
    pub computed: Computed,
    /// Over the commits of the reading.
    pub seal: Digest,
    /// `carry'`.
    pub carry: Vec<u8>,
    /// First q of the next window of each sensor, agreement order.
    pub q_next: Vec<u64>,
}

impl CellState {
    /// Whether it is what this context was made of, and its carry and `q_next` are the state in it. Nothing else need be believed
    /// of whoever sent it.
    pub fn opens(&self, context: &Digest) -> bool {
        self.computed.context(&self.seal) == *context
            && window::state(&self.carry, &self.q_next) == self.computed.state
    }
    /// Writes it.
    pub fn write(&self, w: &mut Writer) {
        self.computed.write(w);
        w.raw(&self.seal.0)
            .bytes(&self.carry)
            .list(&self.q_next, |w, q| {
                w.u64(*q);
            });
    }
    /// Reads it.
    pub fn read(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            computed: Computed::read(r)?,
            seal: Digest::read(r)?,
            carry: r.bytes(CARRY_BYTES_MAX, "carry")?.to_vec(),
            q_next: r.list(SENSORS_MAX, "q_next", |r| r.u64("q"))?,
        })
    }
}
