//! The modules that ship, on windows encoded by hand, with results worked out by hand.

mod common;

use common::{Event, input, leaf};
use diversity_exec::{Executor, Kind, Limits, ModuleId, Output};
use std::path::Path;

const OPEN: &[u8] = &[1];
const CLOSED: &[u8] = &[0];

fn committed(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../contracts/offchain/modules")
        .join(name);
    std::fs::read(path).unwrap()
}

fn executor(name: &str, limits: Limits) -> (Executor, ModuleId) {
    let executor = Executor::new(limits).unwrap();
    let id = executor.add(&committed(name)).unwrap();
    (executor, id)
}

fn run(name: &str, input: &[u8]) -> Output {
    let (executor, id) = executor(name, Limits::default());
    executor.run(&id, input).unwrap()
}

fn packed(seconds: u64, trips: u32) -> Vec<u8> {
    [&seconds.to_be_bytes()[..], &trips.to_be_bytes()].concat()
}

/// The detail of a lock.
fn item(seconds: u64, trips: u32, unbilled: u32) -> Vec<u8> {
    [packed(seconds, trips), unbilled.to_be_bytes().to_vec()].concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn they_are_the_files_of_the_manifest() {
    let manifest: serde_json::Value = serde_json::from_slice(&committed("manifest.json")).unwrap();
    let modules = manifest["modules"].as_array().unwrap();
    assert_eq!(modules.len(), 2);
    for module in modules {
        let bytes = committed(module["file"].as_str().unwrap());
        let info = Executor::new(Limits::default())
            .unwrap()
            .check(&bytes)
            .unwrap();
        assert_eq!(module["sha256"], hex(&info.sha256));
        assert_eq!(module["bytes"], bytes.len());
        assert_eq!(info.memory_bytes_max, 64 << 20);
    }
}

#[test]
fn bike_lock_over_two_months() {
    let first = run(
        "bike-lock.wasm",
        &input(
            &[],
            0,
            &[
                leaf(1, 5, 1, &[(1_000, OPEN), (1_060, CLOSED), (2_000, OPEN)]),
                leaf(2, 0, 1, &[(1_500, CLOSED)]),
                leaf(
                    3,
                    9,
                    1,
                    &[(10, OPEN), (10, CLOSED), (900, OPEN), (800, CLOSED)],
                ),
            ],
        ),
    );
    assert_eq!((first.kind, first.result), (Kind::Value, packed(60, 3)));
    assert_eq!(first.detail, [item(60, 1, 0), item(0, 0, 0), item(0, 2, 0)]);
    assert_eq!(
        first.carry,
        [&[1][..], &2_000u64.to_be_bytes(), &[0, 0]].concat()
    );
    assert_ne!(first.trace, [0; 32]);

    let heartbeat = 2_592_000;
    let second = run(
        "bike-lock.wasm",
        &input(
            &first.carry,
            1,
            &[
                leaf(1, 8, 1, &[(heartbeat, OPEN), (heartbeat + 100, CLOSED)]),
                leaf(2, 1, 1, &[(heartbeat, CLOSED)]),
                leaf(3, 13, 1, &[]),
            ],
        ),
    );
    let seconds = heartbeat + 100 - 2_000;
    assert_eq!(
        (second.kind, second.result),
        (Kind::Value, packed(seconds, 1))
    );
    assert_eq!(
        second.detail,
        [item(seconds, 1, 0), item(0, 0, 0), item(0, 0, 0)]
    );
    assert_eq!(second.carry, [0, 0, 0]);
}

/// A quiet month settles as (0, 0): it is a value.
#[test]
fn bike_lock_without_rentals() {
    let output = run("bike-lock.wasm", &input(&[], 0, &[leaf(1, 0, 1, &[])]));
    assert_eq!((output.kind, output.result), (Kind::Value, packed(0, 0)));
}

#[test]
fn bike_lock_traps_on_what_the_terms_do_not_allow() {
    let good = leaf(1, 0, 1, &[(5, OPEN)]);
    for (carry, leaves) in [
        (vec![], vec![leaf(1, 0, 1, &[(5, &[2])])]),
        (vec![], vec![leaf(1, 0, 2, &[(5, &[1, 1])])]),
        (vec![3], vec![good.clone()]),
        (vec![0, 0], vec![good.clone()]),
        (vec![1], vec![good]),
    ] {
        let output = run("bike-lock.wasm", &input(&carry, 0, &leaves));
        assert_eq!((output.kind, output.carry), (Kind::Trap, carry));
    }
}

#[test]
fn mean_temperature_above_and_below_its_threshold() {
    let readings = |xs: &[i32]| -> Vec<u8> {
        let values: Vec<_> = xs.iter().map(|x| x.to_be_bytes()).collect();
        let events: Vec<Event<'_>> = values
            .iter()
            .enumerate()
            .map(|(i, v)| (i as u64, &v[..]))
            .collect();
        leaf(1, 0, 4, &events)
    };
    let detail = |mean: i32, n: u32| [mean.to_be_bytes(), n.to_be_bytes()].concat();

    let warm = run(
        "mean-temperature.wasm",
        &input(
            &[],
            0,
            &[readings(&[30_000, 10_000, 50_000]), readings(&[-9_999])],
        ),
    );
    assert_eq!(
        (warm.kind, warm.result),
        (Kind::Value, 20_000i32.to_be_bytes().to_vec())
    );
    assert_eq!(warm.detail, [detail(30_000, 3), detail(-9_999, 1)]);
    assert!(warm.carry.is_empty());

    let cool = run(
        "mean-temperature.wasm",
        &input(&[], 0, &[readings(&[19_999, 20_000]), readings(&[])]),
    );
    assert_eq!((cool.kind, cool.result.len()), (Kind::Null, 0));
    assert_eq!(cool.detail, [detail(19_999, 2), detail(0, 0)]);
    assert_eq!(
        run("mean-temperature.wasm", &input(&[1], 0, &[])).kind,
        Kind::Trap
    );
}

/// R4: neither fuel, nor stack, nor anything else that a node may set changes what an execution gives, trace included.
#[test]
fn limits_never_change_an_answer() {
    let window = input(&[], 0, &[leaf(1, 0, 1, &[(1_000, OPEN), (1_060, CLOSED)])]);
    let outputs = [
        Limits::default(),
        Limits {
            fuel: 1_000_000,
            ..Limits::default()
        },
        Limits {
            fuel: u64::MAX,
            stack_bytes: 64 << 10,
            executions_max: 1,
            ..Limits::default()
        },
        Limits {
            memory_bytes_max: 256 << 20,
            table_elements_max: 100,
            ..Limits::default()
        },
    ]
    .map(|limits| {
        let (executor, id) = executor("bike-lock.wasm", limits);
        executor.run(&id, &window).unwrap()
    });
    assert_eq!(outputs[0].kind, Kind::Value);
    assert!(outputs.iter().all(|output| *output == outputs[0]));
}

/// The same source and the same window give these bytes on every engine; the module's own tests pin them natively.
#[test]
fn traces_are_pinned() {
    let window = input(&[], 0, &[leaf(1, 0, 1, &[(1_000, OPEN), (1_060, CLOSED)])]);
    assert_eq!(
        hex(&run("bike-lock.wasm", &window).trace),
        "4c5599f3aed531aba3bdb7b409874ccab80e0ec093a1326fe4eb77afdafb4c2c"
    );
}

/// A city: 1,000 locks and 200 messages each fit the limits.
#[test]
fn a_large_month_fits_the_limits() {
    let events: Vec<Event<'_>> = (0..200)
        .map(|i| (i * 60, if i % 2 == 0 { OPEN } else { CLOSED }))
        .collect();
    let leaves: Vec<_> = (0..1_000).map(|n| leaf(n as u8, 0, 1, &events)).collect();
    let output = run("bike-lock.wasm", &input(&[], 0, &leaves));
    assert_eq!(
        (output.kind, output.result),
        (Kind::Value, packed(1_000 * 100 * 60, 100_000))
    );
    assert_eq!(output.detail.len(), 1_000);
}
