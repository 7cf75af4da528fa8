//! What each Byzantine actor comes to: it really lies, and all that it gains is a hole, a delay or a dearer settlement.

use diversity_sim::campaign::{Report, campaign_of};
use diversity_sim::crypto::Mode;
use diversity_sim::scenario::{ActorKind, ActorPlan, Oddity};
use diversity_sim::{Sabotage, Scenario, run};

/// Seeds for each actor.
const SEEDS: u64 = 60;

/// One actor in a world that is otherwise without faults, so that what happens is its doing.
fn plan(kind: ActorKind, seed: u64) -> Scenario {
    let mut s = Scenario::calm(seed, Mode::Test);
    s.actor = Some(ActorPlan {
        node: seed as usize % s.nodes,
        kind,
        reforms: false,
        variant: seed,
    });
    s
}

/// `ACTOR=Forger SEED=3` shows what happens in one of these worlds.
#[test]
fn one_world() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let (Ok(name), Some(seed)) = (std::env::var("ACTOR"), number("SEED")) else {
        return;
    };
    let mut all = ActorKind::all();
    let kind = all.find(|k| format!("{k:?}") == name).expect("an actor");
    println!("{:#?}", plan(kind, seed));
    println!("{:?}", run(plan(kind, seed), Sabotage::None, true));
}

fn alone(kind: ActorKind) -> Report {
    let report = campaign_of(0..SEEDS, |seed| plan(kind, seed), 5, |_| {});
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
    // What it keeps back for ever, the users settle.
    assert!(t.words > 0 && t.blamed == 0, "{t:?}");
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

/// What these do costs time or gas, and nothing else: every window becomes final, and nobody is blamed.
fn costs_nothing_but_time(kind: ActorKind) {
    let r = alone(kind);
    assert_eq!(
        (r.total.blamed, r.complete),
        (0, SEEDS),
        "{kind:?}: {:?}",
        r.total
    );
}

#[test]
fn a_mute_leader_is_passed_over() {
    costs_nothing_but_time(ActorKind::MuteLeader);
}

#[test]
fn a_slow_leader_is_passed_over_or_waited_for() {
    costs_nothing_but_time(ActorKind::SlowLeader);
}

#[test]
fn a_nonce_bumper_does_not_move_the_fallback() {
    costs_nothing_but_time(ActorKind::NonceBumper);
}

#[test]
fn a_forced_cut_strands_nothing() {
    costs_nothing_but_time(ActorKind::ForcedCut);
}

#[test]
fn a_forger_of_certificates_halts_and_names_nobody() {
    costs_nothing_but_time(ActorKind::Forger);
}

#[test]
fn a_false_status_starves_nobody() {
    costs_nothing_but_time(ActorKind::LyingStatus);
}

#[test]
fn a_framer_makes_nobody_look_guilty() {
    costs_nothing_but_time(ActorKind::Framer);
}

#[test]
fn always_null_is_caught_every_time() {
    let t = alone(ActorKind::AlwaysNull).total;
    assert!(t.holes > SEEDS && t.blamed == 0, "{t:?}");
}

#[test]
fn a_late_second_commit_is_evidence_and_closes_no_door() {
    let t = alone(ActorKind::LateCommitter).total;
    assert!(t.blamed > SEEDS / 4, "{t:?}");
}

#[test]
fn two_lists_make_a_hole_at_worst_and_blame_nobody() {
    // In turn for good and until faults end; after that everything settles.
    let two = |seed: u64| {
        let mut s = plan(ActorKind::TwoLists, seed);
        if let Some(actor) = &mut s.actor {
            actor.reforms = seed.is_multiple_of(2);
        }
        // Sensors fall silent, so that lists end windows.
        for x in &mut s.sensors {
            let half = x.messages.len() as u64 / 2;
            x.messages.truncate(half as usize);
            x.oddity = Some(Oddity::Silent { q: half });
        }
        for a in &mut s.agreements {
            a.grace_s = a.grace_s.min(3);
        }
        s
    };
    let report = campaign_of(0..SEEDS, two, 5, |_| {});
    for (seed, v) in &report.failures {
        println!("seed {seed} fails {}: {}", v.oracle, v.text);
    }
    assert!(report.failures.is_empty());
    assert_eq!(report.total.blamed, 0, "{:?}", report.total);
    assert!(report.total.holes > 0, "{:?}", report.total);
}
