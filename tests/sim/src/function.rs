//! `f` of the simulated agreements, in plain Rust, and the assembling of its window from stored frames.

use diversity_engine::api::{Execution, ExecutionPlan};
use diversity_engine::records::{segment_key, split_segment};
use diversity_proto::Digest;
use diversity_proto::domain::keccak_raw;
use diversity_proto::frame::{Frame, Message};
use diversity_proto::round::{Computed, OutputKind};
use diversity_proto::window::{Leaf, Window, detail_root, state};

/// What the module of a scenario does at one t; the same on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Behaviour {
    Value,
    Null,
    Trap,
}

/// What `f` gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Null, value or trap.
    pub kind: OutputKind,
    /// `uint64` sum, `uint32` count, `bytes4` fold over all that was ever seen.
    pub result: Vec<u8>,
    /// `uint64` sum and `uint32` count of each sensor.
    pub detail: Vec<Vec<u8>>,
    /// The fold, so that a wrong order or a lost window changes everything after it.
    pub carry: Vec<u8>,
    /// Digest over what was processed.
    pub trace: Digest,
}

/// `f(carry, w[t])`. With `keeps_carry` false the carry stays empty.
pub fn run(behaviour: Behaviour, keeps_carry: bool, carry: &[u8], window: &Window) -> Output {
    if behaviour == Behaviour::Trap {
        return Output {
            kind: OutputKind::Trap,
            result: Vec::new(),
            detail: Vec::new(),
            carry: carry.to_vec(),
            trace: Digest::ZERO,
        };
    }
    let mut fold = keccak_raw(carry);
    let (mut sum, mut count) = (0u64, 0u32);
    let mut detail = Vec::new();
    for leaf in &window.leaves {
        let (mut s, mut c) = (0u64, 0u32);
        for m in diversity_proto::frame::read_body(&leaf.body, leaf.width).map_while(Result::ok) {
            s += m.values.iter().map(|v| u64::from(*v)).sum::<u64>();
            c += 1;
        }
        fold = keccak_raw(&[&fold[..], &leaf.body].concat());
        detail.push([&s.to_be_bytes()[..], &c.to_be_bytes()].concat());
        sum += s;
        count += c;
    }
    let null = behaviour == Behaviour::Null;
    let result = [&sum.to_be_bytes()[..], &count.to_be_bytes(), &fold[..4]].concat();
    Output {
        kind: if null {
            OutputKind::Null
        } else {
            OutputKind::Value
        },
        result: if null { Vec::new() } else { result },
        detail,
        carry: if keeps_carry {
            fold[..8].to_vec()
        } else {
            Vec::new()
        },
        trace: Digest(fold),
    }
}

/// What the commitment covers.
pub fn computed(output: &Output, window: &Window, q_next: &[u64]) -> Computed {
    let sensors: Vec<_> = window.leaves.iter().map(|l| l.sensor).collect();
    Computed {
        kind: output.kind,
        result: output.result.clone(),
        detail_root: detail_root(&sensors, &output.detail),
        state: state(&output.carry, q_next),
        trace: output.trace,
        window_hash: window.hash(),
    }
}

/// The execution of a node whose engine met a limit: it vouches for nothing (R8).
pub fn abstain(plan: &ExecutionPlan, window: &Window) -> Execution {
    Execution {
        computed: Computed {
            kind: OutputKind::Abstain,
            result: vec![1],
            detail_root: Digest::ZERO,
            state: state(&plan.carry, &plan.q_next),
            trace: Digest::ZERO,
            window_hash: window.hash(),
        },
        detail: Vec::new(),
        carry: plan.carry.clone(),
    }
}

/// Builds `w[t]` from what is stored durably.
///
/// # Errors
/// In words, what the plan names that the store does not hold: a core that plans so is broken.
pub fn assemble<'a>(
    plan: &ExecutionPlan,
    read: impl Fn(&[u8]) -> Option<&'a [u8]>,
) -> Result<Window, String> {
    let mut leaves = Vec::new();
    for l in &plan.leaves {
        let mut next = l.first_q;
        let mut messages: Vec<(u64, Vec<u8>)> = Vec::new();
        for p in &l.pieces {
            let value = read(&segment_key(p.frame.segment))
                .ok_or_else(|| format!("segment {} is not durable", p.frame.segment))?;
            let frames = split_segment(value).map_err(|e| e.to_string())?;
            let bytes = frames
                .get(p.frame.index as usize)
                .ok_or_else(|| format!("segment {} has no such frame", p.frame.segment))?;
            let frame = Frame::decode(bytes).map_err(|e| e.to_string())?;
            let (q, left) = (
                frame.first_q + u64::from(p.skip),
                u32::from(frame.count) - p.skip.min(frame.count.into()),
            );
            // What lies between is lost, by a gap record; that nothing else is left out, the oracle of the cuts sees.
            if frame.sensor != l.sensor || q < next || p.take == 0 || p.take > left {
                return Err(format!(
                    "the plan of t {} takes {} messages from q {q} of {} where q {next} of {} is due",
                    plan.t, p.take, frame.sensor, l.sensor
                ));
            }
            let taken = frame
                .messages()
                .skip(p.skip as usize)
                .take(p.take as usize)
                .map(|m| (m.time, m.values.to_vec()));
            messages.extend(taken);
            next += u64::from(p.take);
        }
        let items = messages.iter().map(|(time, values)| Message {
            time: *time,
            values,
        });
        leaves.push(Leaf::new(l.sensor, l.first_q, l.end, l.width, items));
    }
    Ok(Window {
        t: plan.t,
        from: plan.from,
        to: plan.to,
        leaves,
    })
}
