//! Modules that are well formed and mean no good: each execution ends, and as what R8 says.

mod common;

use common::{at, data, empty, input, leaf, module, value};
use diversity_exec::{Abstain, Executor, Kind, Limits, Output, RunError};
use std::time::Duration;

fn run_with(limits: Limits, bytes: &[u8], input: &[u8]) -> Output {
    let executor = Executor::new(limits).unwrap();
    let id = executor.add(bytes).unwrap();
    let output = executor.run(&id, input).unwrap();
    assert_eq!(executor.run(&id, input).unwrap(), output, "the same again");
    output
}

fn run(bytes: &[u8]) -> Output {
    run_with(
        Limits {
            fuel: 50_000_000,
            ..Limits::default()
        },
        bytes,
        &empty(),
    )
}

fn abstains(bytes: &[u8]) -> Abstain {
    let output = run(bytes);
    let Kind::Abstain(reason) = output.kind else {
        panic!("{output:?}")
    };
    assert_eq!(
        output,
        Output {
            kind: output.kind,
            result: vec![reason.code()],
            detail: vec![],
            carry: vec![],
            trace: [0; 32]
        }
    );
    reason
}

#[test]
fn endless_loop() {
    assert_eq!(
        abstains(&module("(loop (br 0)) unreachable", "")),
        Abstain::Fuel
    );
}

/// With fuel without end the wall clock stops it.
#[test]
fn endless_loop_with_fuel_without_end() {
    let limits = Limits {
        fuel: u64::MAX,
        time: Duration::from_millis(60),
        ..Limits::default()
    };
    let output = run_with(limits, &module("(loop (br 0)) unreachable", ""), &empty());
    assert_eq!(output.kind, Kind::Abstain(Abstain::Time));
}

#[test]
fn endless_recursion() {
    assert_eq!(
        abstains(&module(
            "call $f",
            "(func $f (result i64) (i64.add (i64.const 1) (call $f)))"
        )),
        Abstain::Stack
    );
    let mutual = "(func $f (result i64) (i64.add (i64.const 1) (call $g))) (func $g (result i64) (i64.add (i64.const 2) (call $f)))";
    assert_eq!(abstains(&module("call $f", mutual)), Abstain::Stack);
}

/// Growing beyond the declared maximum fails in the guest, at the same size on every node: it is an answer, and so is the
/// trap of touching what was not given.
#[test]
fn memory_growth() {
    let grown = |pages: &str| {
        let run = format!(
            "(i32.store8 (i32.const 6) (i32.sub (memory.grow (i32.const {pages})) (i32.const -1))) {}",
            at(0, 47)
        );
        run_with(
            Limits::default(),
            &module(&run, &data(&value(&[9]))),
            &empty(),
        )
    };
    // The result is the old size plus one, and so zero when it failed. Two of four pages are there.
    for (pages, result) in [
        ("0", 3),
        ("2", 3),
        ("3", 0),
        ("65534", 0),
        ("65535", 0),
        ("0x7fffffff", 0),
        ("-1", 0),
    ] {
        let output = grown(pages);
        assert_eq!(
            (output.kind, output.result),
            (Kind::Value, vec![result]),
            "by {pages} pages"
        );
    }
    let forever = "(loop (drop (memory.grow (i32.const 1))) (br 0)) unreachable";
    assert_eq!(abstains(&module(forever, "")), Abstain::Fuel);
    let touch = "(drop (memory.grow (i32.const 9))) (i32.store (i32.const 262144) (i32.const 1)) i64.const 0";
    assert_eq!(run(&module(touch, "")).kind, Kind::Trap);
}

#[test]
fn filling_memory_costs_fuel() {
    let fill =
        "(loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 131072)) (br 0)) unreachable";
    assert_eq!(abstains(&module(fill, "")), Abstain::Fuel);
}

#[test]
fn table_growth() {
    let grow = "(if (i32.ne (table.grow (ref.null func) (i32.const 2)) (i32.const -1)) (then unreachable))
                (if (i32.ne (table.grow (ref.null func) (i32.const 1)) (i32.const 1)) (then unreachable))";
    let output = run(&module(
        &format!("{grow} {}", at(0, 46)),
        &format!("(table 1 2 funcref) {}", data(&value(&[]))),
    ));
    assert_eq!(output.kind, Kind::Value);
}

/// Every trap of the standard is a trap: nothing changes, and the carry is the one that was given.
#[test]
fn traps_of_the_standard() {
    let table =
        "(table 2 2 funcref) (type $t (func)) (func $f (param i32)) (elem (i32.const 0) $f)";
    for (run, more) in [
        ("unreachable", ""),
        ("(i64.load (i32.const 131065))", ""),
        ("(i64.load offset=4294967295 (i32.const -1))", ""),
        ("(i64.store (i32.const -1) (i64.const 0)) i64.const 0", ""),
        (
            "(memory.copy (i32.const 0) (i32.const 131071) (i32.const 2)) i64.const 0",
            "",
        ),
        (
            "(memory.fill (i32.const 131072) (i32.const 0) (i32.const 1)) i64.const 0",
            "",
        ),
        (
            "(memory.init $d (i32.const 0) (i32.const 0) (i32.const 2)) i64.const 0",
            "(data $d \"x\")",
        ),
        ("(i64.div_s (i64.const 1) (i64.const 0))", ""),
        ("(i64.rem_u (i64.const 1) (i64.const 0))", ""),
        (
            "(i64.extend_i32_s (i32.div_s (i32.const 0x80000000) (i32.const -1)))",
            "",
        ),
        (
            "(i64.div_s (i64.const 0x8000000000000000) (i64.const -1))",
            "",
        ),
        ("(i64.trunc_f64_s (f64.const nan))", ""),
        ("(i64.trunc_f32_u (f32.const inf))", ""),
        (
            "(i64.extend_i32_s (i32.trunc_f64_s (f64.const 2147483648)))",
            "",
        ),
        ("(call_indirect (type $t) (i32.const 0)) i64.const 0", table),
        ("(call_indirect (type $t) (i32.const 1)) i64.const 0", table),
        ("(call_indirect (type $t) (i32.const 2)) i64.const 0", table),
        ("(drop (table.get (i32.const 2))) i64.const 0", table),
    ] {
        let input = input(&[1, 2, 3], 0, &[]);
        let output = run_with(Limits::default(), &module(run, more), &input);
        let expected = Output {
            kind: Kind::Trap,
            result: vec![],
            detail: vec![],
            carry: vec![1, 2, 3],
            trace: [0; 32],
        };
        assert_eq!(output, expected, "{run}");
    }
}

#[test]
fn a_trap_in_alloc_is_a_trap() {
    let bytes = wat::parse_str(
        r#"(module (memory (export "memory") 1 1) (func (export "diversity_abi_1") unreachable)
           (func (export "alloc") (param i32) (result i32) unreachable)
           (func (export "run") (param i32 i32) (result i64) i64.const 0))"#,
    );
    assert_eq!(run(&bytes.unwrap()).kind, Kind::Trap);
}

#[test]
fn room_for_the_input_that_is_none() {
    for ptr in ["65536", "65504", "-1", "0x80000000"] {
        let bytes = wat::parse_str(format!(
            r#"(module (memory (export "memory") 1 1) (func (export "diversity_abi_1"))
               (func (export "alloc") (param i32) (result i32) i32.const {ptr})
               (func (export "run") (param i32 i32) (result i64) unreachable))"#
        ));
        assert_eq!(run(&bytes.unwrap()).kind, Kind::Trap, "{ptr}");
    }
}

/// Pointers and lengths out of range, up to the ends of 32 bits.
#[test]
fn outputs_that_are_not_in_memory() {
    let max = u64::from(u32::MAX);
    for (ptr, len) in [
        (0, max),
        (max, max),
        (max, 0),
        (max, 1),
        (131_072, 1),
        (131_073, 0),
        (131_026, 47),
        (0, 131_073),
        (0, 0),
    ] {
        let output = run(&module(&at(ptr, len), &data(&value(&[9]))));
        assert_eq!(output.kind, Kind::Trap, "{ptr}, {len}");
    }
}

/// The output may lie anywhere in the memory, over the input or at the memory's very end.
#[test]
fn outputs_that_overlap_the_input() {
    let bytes = value(&[5, 6]);
    let copy = |to: u64| {
        let run = format!(
            "(memory.copy (i32.const {to}) (i32.const 0) (i32.const {})) {}",
            bytes.len(),
            at(to, 48)
        );
        run_with(Limits::default(), &module(&run, &data(&bytes)), &empty())
    };
    for to in [1, 65_530, 65_536, 65_540, 131_072 - 48] {
        assert_eq!(
            (copy(to).kind, copy(to).result),
            (Kind::Value, vec![5, 6]),
            "{to}"
        );
    }
    // The input itself is no output.
    assert_eq!(run(&module(&at(65_536, 33), "")).kind, Kind::Trap);
}

#[test]
fn outputs_that_are_malformed() {
    let good = value(&[9]);
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    for bytes in [
        changed(0, 0),
        changed(0, 2),
        changed(1, 0),
        changed(1, 2),
        changed(1, 3),
        changed(2, 0xff),
        changed(5, 2),
        changed(10, 1),
        changed(7, 0xff),
        changed(11, 0xff),
        changed(14, 1),
        [&good[..], &[0]].concat(),
        good[..46].to_vec(),
        vec![],
    ] {
        let bytes = module(&at(0, bytes.len() as u64), &data(&bytes));
        assert_eq!(run(&bytes).kind, Kind::Trap);
    }
}

#[test]
fn details_for_another_number_of_sensors() {
    let of = |items: u32| {
        let mut out = vec![1, 1, 0, 0, 0, 0];
        out.extend(items.to_be_bytes());
        (0..items).for_each(|i| out.extend([0, 0, 0, 1, i as u8]));
        out.extend([0; 4]);
        out.extend([7; 32]);
        let window = input(&[], 0, &[leaf(1, 0, 0, &[]), leaf(2, 0, 0, &[])]);
        run_with(
            Limits::default(),
            &module(&at(0, out.len() as u64), &data(&out)),
            &window,
        )
    };
    assert_eq!(of(2).detail, [[0], [1]]);
    assert_eq!(of(0).detail.len(), 0);
    assert_eq!(of(0).kind, Kind::Value);
    for items in [1, 3] {
        assert_eq!(of(items).kind, Kind::Trap);
    }
}

/// A NaN that the hardware chooses must not reach a result: each comes out as the canonical one.
#[test]
fn nans_are_canonical() {
    let canonical_f64 = 0x7ff8_0000_0000_0000u64.to_le_bytes();
    let canonical_f32 = 0x7fc0_0000u32.to_le_bytes();
    let odd_f64 = "(f64.reinterpret_i64 (i64.const 0xfff4deadbeef0001))";
    let odd_f32 = "(f32.reinterpret_i32 (i32.const 0xffa5beef))";
    for expression in [
        "(f64.div (f64.const 0) (f64.const 0))".to_owned(),
        "(f64.sqrt (f64.const -1))".to_owned(),
        "(f64.sub (f64.const inf) (f64.const inf))".to_owned(),
        format!("(f64.add {odd_f64} (f64.const 1))"),
        format!("(f64.min {odd_f64} (f64.const 1))"),
        format!("(f64.ceil {odd_f64})"),
        format!("(f64.promote_f32 {odd_f32})"),
    ] {
        let run = format!("(f64.store (i32.const 6) {expression}) {}", at(0, 54));
        let output = run_with(
            Limits::default(),
            &module(&run, &data(&value(&[0; 8]))),
            &empty(),
        );
        assert_eq!(output.result, canonical_f64, "{expression}");
    }
    for expression in [
        "(f32.mul (f32.const 0) (f32.const inf))".to_owned(),
        format!("(f32.max {odd_f32} (f32.const 1))"),
        format!("(f32.demote_f64 {odd_f64})"),
    ] {
        let run = format!("(f32.store (i32.const 6) {expression}) {}", at(0, 50));
        let output = run_with(
            Limits::default(),
            &module(&run, &data(&value(&[0; 4]))),
            &empty(),
        );
        assert_eq!(output.result, canonical_f32, "{expression}");
    }
}

/// A module that counts its own executions in a global and in memory always finds the first one.
#[test]
fn every_execution_is_the_first() {
    let count = format!(
        "(global.set $n (i32.add (global.get $n) (i32.const 1)))
         (i32.store (i32.const 131000) (i32.add (i32.load (i32.const 131000)) (i32.const 1)))
         (i32.store8 (i32.const 6) (i32.add (global.get $n) (i32.load (i32.const 131000)))) {}",
        at(0, 47)
    );
    let bytes = module(
        &count,
        &format!("(global $n (mut i32) (i32.const 0)) {}", data(&value(&[0]))),
    );
    let executor = Executor::new(Limits {
        executions_max: 2,
        ..Limits::default()
    })
    .unwrap();
    let id = executor.add(&bytes).unwrap();
    for _ in 0..20 {
        assert_eq!(executor.run(&id, &empty()).unwrap().result, [2]);
    }
}

/// Four times as many threads as places: each waits its turn, all get the same answer.
#[test]
fn many_threads_share_the_places() {
    let executor = Executor::new(Limits {
        executions_max: 2,
        ..Limits::default()
    })
    .unwrap();
    let good = executor
        .add(&module(&at(0, 47), &data(&value(&[9]))))
        .unwrap();
    let bad = executor.add(&module("unreachable", "")).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..200 {
                    assert_eq!(executor.run(&good, &empty()).unwrap().result, [9]);
                    assert_eq!(executor.run(&bad, &empty()).unwrap().kind, Kind::Trap);
                }
            });
        }
    });
}

#[test]
fn inputs_and_modules_that_are_not_there() {
    let executor = Executor::new(Limits {
        modules_max: 2,
        ..Limits::default()
    })
    .unwrap();
    let bytes: Vec<_> = (0..3)
        .map(|i| module(&at(0, 47), &data(&value(&[i]))))
        .collect();
    let ids: Vec<_> = bytes
        .iter()
        .map(|bytes| executor.add(bytes).unwrap())
        .collect();
    assert_eq!(
        executor.run(&ids[0], &empty()),
        Err(RunError::Unknown(ids[0])),
        "displaced by the third"
    );
    assert_eq!(executor.run(&ids[1], &empty()).unwrap().result, [1]);
    assert_eq!(executor.info(&ids[2]).unwrap().sha256, ids[2]);
    assert_eq!(executor.add(&bytes[0]).unwrap(), ids[0]);
    assert_eq!(
        executor.run(&ids[2], &empty()),
        Err(RunError::Unknown(ids[2])),
        "unused for longest"
    );
    for cut in 0..empty().len() {
        assert_eq!(executor.run(&ids[0], &empty()[..cut]), Err(RunError::Input));
    }
    // Its length alone makes it a trap, whatever the module does with it.
    let long = input(&[], 0, &[vec![0; diversity_exec::INPUT_BYTES_MAX]]);
    assert_eq!(executor.run(&ids[0], &long).unwrap().kind, Kind::Trap);
}

#[test]
fn limits_of_zero_are_refused() {
    let error = Executor::new(Limits {
        fuel: 0,
        ..Limits::default()
    })
    .unwrap_err();
    assert!(error.to_string().contains("fuel"));
}
