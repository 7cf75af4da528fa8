//! Seeds by the thousand. A failing one prints itself; `SEED=n cargo test --release -p diversity-sim -- --nocapture one_seed`
//! runs it again with its trace, as does `simulate --seed n --trace`.

use diversity_sim::campaign::campaign;
use diversity_sim::crypto::Mode;
use diversity_sim::{Sabotage, Scenario, run};
use std::time::Instant;

/// Seeds of one `cargo test`; `SEEDS` in the environment asks for another number.
const SEEDS: u64 = 2_400;
/// Seeds with the signatures of `diversity-keys`.
const REAL_SEEDS: u64 = 40;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn all_hold(mode: Mode, count: u64) {
    let start = Instant::now();
    let report = campaign(0..count, mode, 5, |_| {});
    for (seed, v) in &report.failures {
        println!(
            "seed {seed} ({mode:?} signatures) fails {} at {}: {}",
            v.oracle, v.at, v.text
        );
    }
    let t = &report.total;
    println!(
        "{} seeds with {mode:?} signatures in {:.1} s: {} windows, {} settled, {} holes, {} crashes, {} runs ended with every window final",
        report.seeds,
        start.elapsed().as_secs_f64(),
        t.windows,
        t.settled,
        t.holes,
        t.crashes,
        report.complete
    );
    assert!(
        report.failures.is_empty(),
        "{} seeds fail; run one again with SEED=n",
        report.failures.len()
    );
    // The campaign is not vacuous: most windows settle, and every kind of end is met.
    assert!(
        t.settled * 2 > t.windows,
        "only {} of {} windows settled",
        t.settled,
        t.windows
    );
    assert!(count < 500 || t.holes > 0 && t.crashes > count / 4);
}

#[test]
fn the_invariants_hold_for_all_seeds() {
    all_hold(Mode::Test, number("SEEDS").unwrap_or(SEEDS));
}

#[test]
fn the_invariants_hold_with_real_signatures() {
    all_hold(Mode::Real, number("REAL_SEEDS").unwrap_or(REAL_SEEDS));
}

#[test]
fn one_seed() {
    let seed = number("SEED").unwrap_or(0);
    let print = number("SEED").is_some();
    let result = run(Scenario::new(seed, Mode::Test), Sabotage::None, print);
    println!("seed {seed}: {result:?}");
    assert!(result.is_ok(), "seed {seed} fails");
}

#[test]
fn a_seed_replays_identically() {
    for seed in 0..20 {
        let once =
            run(Scenario::new(seed, Mode::Test), Sabotage::None, false).expect("this seed holds");
        let again =
            run(Scenario::new(seed, Mode::Test), Sabotage::None, false).expect("this seed holds");
        assert_eq!(
            (once.fingerprint, once.events),
            (again.fingerprint, again.events),
            "seed {seed}"
        );
    }
    let other = run(Scenario::new(20, Mode::Test), Sabotage::None, false).expect("this seed holds");
    let first = run(Scenario::new(0, Mode::Test), Sabotage::None, false).expect("this seed holds");
    assert_ne!(first.fingerprint, other.fingerprint);
}
