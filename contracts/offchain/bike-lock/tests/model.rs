//! The module against a naive model that knows whole histories and no carry.

use bike_lock::bike_lock;
use diversity_guest::testing::{LeafBuilder, TestOutput, WindowBuilder, run};
use proptest::prelude::*;

/// A message of a lock: time and state.
type Event = (u64, bool);

fn leaf(n: usize, events: &[Event]) -> LeafBuilder {
    let leaf = LeafBuilder::new([n as u8; 20], 1);
    events.iter().fold(leaf, |leaf, (time, open)| {
        leaf.message(*time, &[u8::from(*open)])
    })
}

fn execute(t: u64, carry: &[u8], locks: &[Vec<Event>]) -> TestOutput {
    let window = locks
        .iter()
        .enumerate()
        .fold(WindowBuilder::new(t), |w, (n, events)| {
            w.leaf(leaf(n, events))
        });
    run(bike_lock, &window.input(carry))
}

/// The detail of a lock.
fn item(seconds: u64, trips: u32, unbilled: u32) -> Vec<u8> {
    [packed(seconds, trips), unbilled.to_be_bytes().to_vec()].concat()
}

fn packed(seconds: u64, trips: u32) -> Vec<u8> {
    [&seconds.to_be_bytes()[..], &trips.to_be_bytes()].concat()
}

/// Rentals of one lock as (index of the message that ends it, seconds).
fn rentals(events: &[Event]) -> Vec<(usize, u64)> {
    let changes: Vec<_> = events
        .iter()
        .enumerate()
        .scan(false, |state, (i, (time, open))| {
            let changed = *state != *open;
            *state = *open;
            Some(changed.then_some((i, *time)))
        })
        .flatten()
        .collect();
    changes
        .chunks_exact(2)
        .map(|pair| (pair[1].0, pair[1].1.saturating_sub(pair[0].1)))
        .collect()
}

#[test]
fn a_rental_counts_in_the_window_in_which_it_ends() {
    let first = execute(
        0,
        &[],
        &[vec![(100, true), (160, false), (1_000, true)], vec![]],
    );
    assert_eq!(first.result, Some(packed(60, 1)));
    assert_eq!(first.detail, [item(60, 1, 0), item(0, 0, 0)]);
    assert_eq!(
        first.carry,
        [&[1][..], &1_000u64.to_be_bytes(), &[0]].concat()
    );

    // A heartbeat of the open lock at the month's end, then the lock.
    let second = execute(
        1,
        &first.carry,
        &[vec![(2_000, true), (2_500, false)], vec![(2_100, false)]],
    );
    assert_eq!(second.result, Some(packed(1_500, 1)));
    assert_eq!(second.detail, [item(1_500, 1, 0), item(0, 0, 0)]);
    assert_eq!(second.carry, [0, 0]);
}

#[test]
fn a_quiet_window_is_a_value_and_not_null() {
    assert_eq!(
        execute(0, &[], &[vec![], vec![(5, false)]]).result,
        Some(packed(0, 0))
    );
    assert_eq!(execute(0, &[], &[]).result, Some(packed(0, 0)));
}

#[test]
fn a_clock_that_goes_backwards_costs_nothing() {
    let output = execute(
        0,
        &[],
        &[vec![(500, true), (400, false), (450, true), (460, false)]],
    );
    assert_eq!(output.result, Some(packed(10, 2)));
}

#[test]
fn a_rental_of_no_time_is_a_trip() {
    assert_eq!(
        execute(0, &[], &[vec![(7, true), (7, false)]]).result,
        Some(packed(0, 1))
    );
}

const MARCH: u64 = 1_456_790_400;
const APRIL: u64 = 1_459_468_800;
const MAY: u64 = 1_462_060_800;

/// One lock in April.
fn april(carry: &[u8], events: &[Event]) -> TestOutput {
    let window = WindowBuilder::new(1)
        .period(APRIL, MAY)
        .leaf(leaf(0, events));
    run(bike_lock, &window.input(carry))
}
fn since(time: u64) -> Vec<u8> {
    [&[1][..], &time.to_be_bytes()].concat()
}

#[test]
fn no_interval_outside_the_window_is_billed() {
    let good = [(APRIL + 100, true), (APRIL + 160, false)];
    // 1970, last month, milliseconds, 2036, and the last second of all.
    for wrong in [
        0,
        MARCH,
        APRIL - 1,
        MAY,
        APRIL * 1_000,
        2_082_758_400,
        (1 << 48) - 1,
    ] {
        let begins = april(&[], &[(wrong, true), (APRIL + 60, false), good[0], good[1]]);
        assert_eq!(begins.detail, [item(60, 1, 1)], "begins at {wrong}");
        assert_eq!(begins.result, Some(packed(60, 1)));
        let ends = april(&[], &[(APRIL + 10, true), (wrong, false), good[0], good[1]]);
        assert_eq!(ends.detail, [item(60, 1, 1)], "ends at {wrong}");
        // It stays open into the next window, and its beginning is not made up there.
        let open = april(&[], &[good[0], good[1], (wrong, true)]);
        assert_eq!(
            (&open.detail[..], &open.carry[..]),
            (&[item(60, 1, 0)][..], &[2][..])
        );
        let closed = april(&open.carry, &[(APRIL + 5, false), good[0], good[1]]);
        assert_eq!(
            (&closed.detail[..], &closed.carry[..]),
            (&[item(60, 1, 1)][..], &[0][..])
        );
        // A heartbeat changes nothing, whatever its time.
        let heartbeat = april(&[], &[good[0], (wrong, true), good[1], (wrong, false)]);
        assert_eq!(heartbeat.detail, [item(60, 1, 0)]);
    }
}

#[test]
fn a_carried_rental_is_billed_from_its_beginning() {
    let carried = since(MARCH + 7);
    let billed = april(&carried, &[(APRIL + 5, false)]);
    assert_eq!(billed.detail, [item(APRIL + 5 - MARCH - 7, 1, 0)]);
    // A clock that was set back over the month's end.
    let early = april(&carried, &[(APRIL - 2, false)]);
    assert_eq!(early.detail, [item(APRIL - 2 - MARCH - 7, 1, 0)]);
    for wrong in [0, MARCH + 6, MAY, 2_082_758_400] {
        assert_eq!(
            april(&carried, &[(wrong, false)]).detail,
            [item(0, 0, 1)],
            "{wrong}"
        );
    }
    // Once it has ended, only the window counts.
    let next = april(
        &carried,
        &[(APRIL, false), (APRIL - 2, true), (APRIL + 9, false)],
    );
    assert_eq!(next.detail, [item(APRIL - MARCH - 7, 1, 1)]);
    assert_eq!(april(&carried, &[]).carry, carried);
    assert_eq!(april(&[2], &[]).carry, [2]);
}

#[test]
#[should_panic(expected = "trap")]
fn a_carry_that_is_neither_open_nor_closed_traps() {
    april(&[3], &[]);
}

proptest! {
    /// Whatever the clocks say, no window bills more than its own length for each trip, beside what was carried.
    #[test]
    fn a_trip_never_lasts_longer_than_the_window(
        times in prop::collection::vec(prop_oneof![0u64..1 << 48, MARCH..MAY + 86_400, APRIL..MAY], 0..40),
    ) {
        let events: Vec<Event> = times.iter().enumerate().map(|(i, t)| (*t, i % 2 == 0)).collect();
        let output = april(&[], &events);
        let seconds = u64::from_be_bytes(output.detail[0][..8].try_into().unwrap());
        let trips = u32::from_be_bytes(output.detail[0][8..12].try_into().unwrap());
        let unbilled = u32::from_be_bytes(output.detail[0][12..].try_into().unwrap());
        prop_assert!(seconds <= u64::from(trips) * (MAY - APRIL));
        prop_assert_eq!((trips + unbilled) as usize, events.len() / 2);
    }
}

/// The same bytes as the committed module gives in a node (`node/exec/tests/modules.rs`): native code, WebAssembly and
/// the engine agree on the trace.
#[test]
fn the_trace_is_pinned() {
    let window = WindowBuilder::new(0).leaf(leaf(1, &[(1_000, true), (1_060, false)]));
    let hex: String = run(bike_lock, &window.input(&[]))
        .trace
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert_eq!(
        hex,
        "4c5599f3aed531aba3bdb7b409874ccab80e0ec093a1326fe4eb77afdafb4c2c"
    );
}

#[test]
#[should_panic(expected = "trap")]
fn a_carry_of_fewer_locks_traps() {
    execute(1, &[0], &[vec![], vec![]]);
}

#[test]
#[should_panic(expected = "trap")]
fn a_carry_of_more_locks_traps() {
    execute(1, &[0, 0], &[vec![]]);
}

#[test]
#[should_panic(expected = "trap")]
fn a_state_that_is_no_bool_traps() {
    run(
        bike_lock,
        &WindowBuilder::new(0)
            .leaf(LeafBuilder::new([0; 20], 1).message(1, &[2]))
            .input(&[]),
    );
}

#[test]
#[should_panic(expected = "trap")]
fn a_second_variable_traps() {
    run(
        bike_lock,
        &WindowBuilder::new(0)
            .leaf(LeafBuilder::new([0; 20], 2).message(1, &[1, 1]))
            .input(&[]),
    );
}

/// Histories of up to six locks, each with the places where windows end. Times jump in both directions.
fn histories() -> impl Strategy<Value = (Vec<Vec<Event>>, Vec<Vec<usize>>)> {
    let history = prop::collection::vec((0u64..5_000, any::<bool>()), 0..60);
    let cuts = prop::collection::vec(0usize..60, 3);
    (1usize..=6).prop_flat_map(move |n| {
        (
            prop::collection::vec(history.clone(), n),
            prop::collection::vec(cuts.clone(), n),
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// However a history is cut into windows, each window counts the rentals that end in it, and nothing is lost.
    #[test]
    fn windows_of_any_cut((locks, cuts) in histories()) {
        let bounds: Vec<Vec<usize>> = locks.iter().zip(&cuts).map(|(events, cuts)| {
            let mut bounds: Vec<_> = cuts.iter().map(|c| c * events.len() / 60).collect();
            bounds.extend([0, events.len()]);
            bounds.sort_unstable();
            bounds
        }).collect();
        let expected: Vec<_> = locks.iter().map(|events| rentals(events)).collect();
        let mut carry = Vec::new();
        for t in 0..4 {
            let part: Vec<Vec<Event>> =
                locks.iter().zip(&bounds).map(|(events, b)| events[b[t]..b[t + 1]].to_vec()).collect();
            let output = execute(t as u64, &carry, &part);
            let mut total = (0, 0);
            for (n, rentals) in expected.iter().enumerate() {
                let ended: Vec<_> =
                    rentals.iter().filter(|(i, _)| (bounds[n][t]..bounds[n][t + 1]).contains(i)).collect();
                let (seconds, trips) = (ended.iter().map(|(_, s)| s).sum::<u64>(), ended.len() as u32);
                prop_assert_eq!(&output.detail[n], &item(seconds, trips, 0));
                total = (total.0 + seconds, total.1 + trips);
            }
            prop_assert_eq!(output.result, Some(packed(total.0, total.1)));
            carry = output.carry;
        }
    }

    /// Repeating the state changes neither the answer nor what is carried, but it does change the trace.
    #[test]
    fn heartbeats_change_nothing(events in prop::collection::vec((0u64..5_000, any::<bool>()), 1..40), at: prop::sample::Index) {
        let at = at.index(events.len());
        let mut with = events.clone();
        with.insert(at + 1, (9_999, events[at].1));
        let (without, with) = (execute(0, &[], &[events]), execute(0, &[], &[with]));
        prop_assert_eq!(without.result, with.result);
        prop_assert_eq!(without.carry, with.carry);
        prop_assert_ne!(without.trace, with.trace);
    }
}
