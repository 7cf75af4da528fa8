//! What each Byzantine actor comes to: it really lies, and all that it gains is a hole, a delay or a dearer settlement.

use diversity_sim::Scenario;
use diversity_sim::campaign::{Report, campaign_of};
use diversity_sim::crypto::Mode;
use diversity_sim::scenario::{ActorKind, ActorPlan};

/// Seeds for each actor.
const SEEDS: u64 = 150;

/// One actor in a world that is otherwise without faults, so that what happens is its doing.
fn alone(kind: ActorKind) -> Report {
    let plan = |seed: u64| {
        let mut s = Scenario::calm(seed, Mode::Test);
        let node = seed as usize % s.nodes;
        s.actor = Some(ActorPlan {
            node,
            kind,
            reforms: false,
            variant: seed,
        });
        s
    };
    let report = campaign_of(0..SEEDS, plan, 5, |_| {});
    for (seed, v) in &report.failures {
        println!("seed {seed} with {kind:?} fails {}: {}", v.oracle, v.text);
    }
    assert!(
        report.failures.is_empty(),
        "{kind:?}: {} seeds fail",
        report.failures.len()
    );
    println!("{kind:?}: {:?}", report.total);
    report
}

#[test]
fn a_wrong_output_makes_holes_and_nothing_else() {
    let t = alone(ActorKind::WrongOutput).total;
    assert!(t.holes > SEEDS && t.blamed == 0, "{t:?}");
}

#[test]
fn an_equivocator_is_blamed_by_its_own_signatures() {
    let t = alone(ActorKind::Equivocator).total;
    assert!(t.blamed > SEEDS / 4, "{t:?}");
}

#[test]
fn a_withholder_is_waited_for_and_never_blamed() {
    let t = alone(ActorKind::Withholder).total;
    assert!(t.settled < t.windows && t.blamed == 0, "{t:?}");
}

#[test]
fn an_echo_cannot_open_what_it_copied() {
    let t = alone(ActorKind::Echo).total;
    assert!(t.blamed > SEEDS / 8, "{t:?}");
}

#[test]
fn a_saboteur_of_the_aggregate_only_makes_settlement_dearer() {
    let r = alone(ActorKind::Saboteur);
    assert!(
        r.total.by_reveals > SEEDS && r.total.blamed == 0,
        "{:?}",
        r.total
    );
    assert_eq!(r.complete, SEEDS);
}
