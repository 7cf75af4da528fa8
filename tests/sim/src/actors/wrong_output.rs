//! Computes something else than `f` and goes through the protocol with it: the round must become a hole, never a result.

use super::{Actor, Context};
use diversity_engine::api::Input;
use diversity_proto::Digest;
use diversity_proto::round::OutputKind;

/// Lies about what its execution gave.
pub struct WrongOutput {
    variant: u64,
}

impl WrongOutput {
    /// The low bits choose what it lies about and how often.
    pub fn new(variant: u64) -> Self {
        Self { variant }
    }
    /// Whether it lies at t.
    pub fn lies_at(&self, t: u64) -> bool {
        match self.variant >> 3 & 3 {
            0 => true,
            1 => t % 2 == 1,
            n => t == n,
        }
    }
}

impl Actor for WrongOutput {
    fn input(&mut self, _c: &mut Context<'_>, input: &mut Input) {
        let Input::Executed { t, execution, .. } = input else {
            return;
        };
        if !self.lies_at(*t) {
            return;
        }
        let c = &mut execution.computed;
        match self.variant & 7 {
            // A higher bill.
            0..=2 if c.kind == OutputKind::Value => c.result[0] ^= 1,
            // Always null, without having looked at the window: the trace gives it away.
            3 if c.kind == OutputKind::Value => {
                c.kind = OutputKind::Null;
                c.result.clear();
                c.trace = Digest::ZERO;
            }
            4 => c.detail_root.0[0] ^= 1,
            5 => c.trace.0[0] ^= 1,
            6 => c.window_hash.0[0] ^= 1,
            // State and carry: the agreement has to stop, nothing may settle on top of it.
            7 => {
                c.state.0[0] ^= 1;
                execution.carry.push(1);
            }
            _ => c.trace.0[1] ^= 1,
        }
    }
}
