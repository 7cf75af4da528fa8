//! A node whose disk is replaced by an older copy of itself, from before a second reading, goes on by itself (P-CELL-3).

use diversity_sim::campaign::campaign_of;
use diversity_sim::crypto::Mode;
use diversity_sim::{Sabotage, Scenario, run};

/// Seeds of one `cargo test`.
const SEEDS: u64 = 240;

#[test]
fn whoever_has_lost_what_a_reading_gave_is_served_and_goes_on() {
    let plan = |seed| Scenario::lost_reading(seed, Mode::Test);
    let report = campaign_of(0..SEEDS, plan, 5, |_| {});
    for (seed, v) in &report.failures {
        println!("seed {seed} fails {}: {}", v.oracle, v.text);
    }
    assert!(report.failures.is_empty());
    let t = &report.total;
    println!("{t:?}");
    assert!(t.holes > SEEDS / 2, "{t:?}");
    assert!(
        t.states > SEEDS / 20,
        "the oracle had something to see: {t:?}"
    );
}

/// `SEED=3` shows what happens in one of these worlds.
#[test]
fn one_world() {
    let Some(seed) = std::env::var("SEED").ok().and_then(|s| s.parse().ok()) else {
        return;
    };
    println!("{:#?}", Scenario::lost_reading(seed, Mode::Test));
    let result = run(
        Scenario::lost_reading(seed, Mode::Test),
        Sabotage::None,
        true,
    );
    println!("{result:?}");
}
