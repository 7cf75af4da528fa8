//! One execution: run `f` on a window, and compute what the commitment covers (wire-format §5).

use diversity_engine::api::{Execution, ExecutionPlan};
use diversity_engine::records::{CARRY_BYTES_MAX, DETAIL_BYTES_MAX};
use diversity_exec::Abstain;
use diversity_proto::Digest;
use diversity_proto::round::{Computed, OutputKind, RESULT_BYTES_MAX};
use diversity_proto::terms::{Field, Terms, abi_width};
use diversity_proto::window::{Window, detail_root, state};

use crate::node::modules::Modules;
use crate::runner::{RunFailure, RunOutput, Runner};

/// Runs `f` on a window and computes what the commitment covers. A module that others have displaced is loaded again.
/// `seconds` is told the time in `f`.
pub fn execute(
    runner: &dyn Runner,
    modules: &Modules,
    terms: &Terms,
    plan: &ExecutionPlan,
    window: &Window,
    seconds: impl FnOnce(f64),
) -> Execution {
    let input = window.input(&plan.carry);
    let started = std::time::Instant::now();
    let mut output = runner.run(&plan.module, &input);
    if output == Err(RunFailure::NotLoaded) {
        let loaded = modules
            .get(&plan.module)
            .map_err(|e| e.to_string())
            .and_then(|module| {
                runner.add(&module.ok_or("its file is gone: upload it again (PUT /v1/code)")?)
            });
        output = match loaded {
            Ok(()) => runner.run(&plan.module, &input),
            Err(reason) => Err(RunFailure::Host(reason)),
        };
    }
    seconds(started.elapsed().as_secs_f64());
    let output = output.unwrap_or_else(|error| {
        tracing::error!(agreement = %plan.agreement, t = plan.t, module = %plan.module, %error, "execute.no_execution");
        abstain(Abstain::Engine)
    });
    complete(terms, plan, window.hash(), output)
}

fn abstain(reason: Abstain) -> RunOutput {
    RunOutput {
        kind: OutputKind::Abstain,
        result: vec![reason.code()],
        detail: Vec::new(),
        carry: Vec::new(),
        trace: Digest::ZERO,
    }
}

fn complete(
    terms: &Terms,
    plan: &ExecutionPlan,
    window_hash: Digest,
    output: RunOutput,
) -> Execution {
    // An output that does not fit the terms is one that cannot be used: a trap, equal on every node.
    let output = match (usable(terms, &output), output.kind) {
        (true, _) => output,
        (false, OutputKind::Abstain) => abstain(Abstain::Engine),
        (false, _) => RunOutput {
            kind: OutputKind::Trap,
            result: Vec::new(),
            detail: Vec::new(),
            carry: Vec::new(),
            trace: Digest::ZERO,
        },
    };
    let carry = match output.kind {
        OutputKind::Null | OutputKind::Value => output.carry,
        OutputKind::Trap | OutputKind::Abstain => plan.carry.clone(),
    };
    let sensors: Vec<_> = terms.sensors.iter().map(|s| s.sensor).collect();
    let computed = Computed {
        kind: output.kind,
        result: output.result,
        detail_root: detail_root(&sensors, &output.detail),
        state: state(&carry, &plan.q_next),
        trace: output.trace,
        window_hash,
    };
    Execution {
        computed,
        detail: output.detail,
        carry,
    }
}

/// Bytes of the packed values of these fields.
pub fn packed_width(fields: &[Field]) -> usize {
    fields
        .iter()
        .map(|f| abi_width(&f.ty).expect("checked with the terms"))
        .sum()
}

/// Whether an output has the lengths that the protocol and the terms allow.
fn usable(terms: &Terms, output: &RunOutput) -> bool {
    if output.result.len() > RESULT_BYTES_MAX
        || output.carry.len() > CARRY_BYTES_MAX
        || output.detail.iter().any(|d| d.len() > DETAIL_BYTES_MAX)
    {
        return false;
    }
    let result = match output.kind {
        OutputKind::Value => packed_width(&terms.result),
        OutputKind::Null | OutputKind::Trap => 0,
        OutputKind::Abstain => 1,
    };
    let answered = matches!(output.kind, OutputKind::Value | OutputKind::Null);
    let width = packed_width(&terms.detail);
    let detail = output.detail.is_empty()
        || (answered
            && output.detail.len() == terms.sensors.len()
            && output.detail.iter().all(|d| d.len() == width));
    output.result.len() == result && detail
}

#[cfg(test)]
#[path = "execute_tests.rs"]
mod tests;
