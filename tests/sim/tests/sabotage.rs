//! No oracle is blind: each thing that is broken on purpose is caught, and by the oracle that is there for it.

use diversity_sim::crypto::Mode;
use diversity_sim::scenario::ActorKind;
use diversity_sim::{Sabotage, Scenario, run};
use std::collections::BTreeSet;

/// Seeds that a sabotage may need until one shows it.
const SEEDS: u64 = 60;

/// Scenarios in which the sabotage can show: honest nodes only, unless the sabotage needs attempts to fail.
fn plan(sabotage: Sabotage, seed: u64) -> Scenario {
    let mut s = Scenario::new(seed, Mode::Test);
    if sabotage == Sabotage::NonceKept {
        // Bad partials open attempt after attempt.
        s.actor = Some(diversity_sim::scenario::ActorPlan {
            node: 0,
            kind: ActorKind::Saboteur,
            reforms: false,
            variant: 0,
        });
    } else {
        s.actor = None;
    }
    s.agreements.iter_mut().for_each(|a| a.abstains.clear());
    s
}

#[test]
fn every_sabotage_is_caught_by_its_oracle() {
    let mut seen = BTreeSet::new();
    for (sabotage, oracles) in Sabotage::ALL {
        let caught = (0..SEEDS).find_map(|seed| {
            run(plan(sabotage, seed), sabotage, false)
                .err()
                .map(|v| (seed, v))
        });
        let Some((seed, v)) = caught else {
            panic!("{sabotage:?} was not caught in {SEEDS} seeds")
        };
        println!("{sabotage:?}: seed {seed}, {}: {}", v.oracle, v.text);
        assert!(
            oracles.contains(&v.oracle),
            "{sabotage:?} was caught by {} and not by {oracles:?}: {}",
            v.oracle,
            v.text
        );
        seen.insert(v.oracle);
    }
    for oracle in ["N1", "N2", "N3", "N4", "N5"] {
        assert!(
            seen.contains(oracle),
            "no sabotage shows that {oracle} sees anything"
        );
    }
}

#[test]
fn without_sabotage_the_same_scenarios_hold() {
    for seed in 0..SEEDS / 4 {
        for sabotage in [Sabotage::None, Sabotage::NonceKept] {
            if let Err(v) = run(plan(sabotage, seed), Sabotage::None, false) {
                panic!("seed {seed}: {}: {}", v.oracle, v.text);
            }
        }
    }
}
