//! Every defect that the core once had (its tests describe them) is put back, one at a time, and seen by some seed. With
//! `TABLE=docs/reliability.md` the table between the two marks of that file is written anew.
#![cfg(feature = "sabotage")]

use diversity_round::sabotage::{Defect, set};
use diversity_sim::crypto::Mode;
use diversity_sim::scenario::{ActorKind, ActorPlan, Classes, Oddity};
use diversity_sim::{Sabotage, Scenario, Violation, run};
use std::fmt::Write;

/// Seeds that a defect may need until one shows it.
const SEEDS: u64 = 400;

/// What shows a defect, and what it is, in words.
fn shown_by(d: Defect) -> (&'static str, &'static str) {
    match d {
        Defect::ForgedCertificateHalts => {
            ("T1", "an altered secret in a certificate halts its owner")
        }
        Defect::ForgedCertificateNamesAnother => {
            ("T1b", "an altered secret in a certificate blames its owner")
        }
        Defect::AttemptsPostponeTheFallback => {
            ("T2", "a nonce of a peer moves the deadline of the fallback")
        }
        Defect::AttemptsAreNeverPruned => ("T3", "every attempt that a peer speaks of is joined"),
        Defect::OnePeerIsBelieved => ("T4", "whoever claims most is asked for everything"),
        Defect::ForgottenIsNoMessage => ("T5", "forgotten times are taken for no message"),
        Defect::AnyRangeIsCut => (
            "T6",
            "a peer makes the others cut a unit that ends in a null",
        ),
        Defect::CountersGoBack => ("T7", "what is told again later undoes what is final"),
        Defect::TheChainsVoidCuts => ("T8", "a void record cuts windows wherever it arrives"),
        Defect::ForksAreNotCompared => {
            ("T9", "a trace that forks by a boot epoch is never compared")
        }
        Defect::TheFutureIsACandidate => ("T10", "a message from the far future ends a window"),
        Defect::CloseStrands => (
            "T11",
            "units that reach over the end are kept when users close",
        ),
        Defect::ReportedMeansBlocked => ("T12", "who reports two commits takes t for a hole"),
        Defect::EveryMessageIsAnswered => {
            ("T13", "every late message is answered with what is kept")
        }
        Defect::FinalIsRewritten => (
            "T14",
            "what made a t final is rewritten by what is told later",
        ),
        Defect::LostStateWaits => (
            "T15",
            "whoever has lost the state behind a cell asks nobody for it",
        ),
        Defect::AnybodyIsServed => (
            "T16",
            "frames are served to, and taken from, nodes that share no agreement over their sensor",
        ),
    }
}

/// Scenarios in which the defect can show.
fn plan(d: Defect, seed: u64) -> Scenario {
    if d == Defect::LostStateWaits {
        return Scenario::lost_reading(seed, Mode::Test);
    }
    let mut s = Scenario::with(seed, Mode::Test, Classes::all());
    let kind = match d {
        Defect::ForgedCertificateHalts | Defect::ForgedCertificateNamesAnother => ActorKind::Forger,
        Defect::AttemptsPostponeTheFallback | Defect::AttemptsAreNeverPruned => {
            ActorKind::NonceBumper
        }
        Defect::OnePeerIsBelieved => ActorKind::LyingStatus,
        Defect::AnyRangeIsCut => ActorKind::ForcedCut,
        Defect::ReportedMeansBlocked => ActorKind::LateCommitter,
        Defect::TheChainsVoidCuts | Defect::ForksAreNotCompared | Defect::TheFutureIsACandidate => {
            let sensor = seed as usize % s.sensors.len();
            let plan = &mut s.sensors[sensor];
            plan.messages.clone_from(&plan.meant);
            let q = plan.messages.len() as u64 / 2;
            if d == Defect::TheFutureIsACandidate {
                plan.messages[q as usize].time = (1 << 48) - 1;
            }
            plan.oddity = Some(match d {
                Defect::TheFutureIsACandidate => Oddity::WrongTime {
                    q,
                    time: (1 << 48) - 1,
                },
                _ => Oddity::Forks { q: q.max(1) },
            });
            s.actor = None;
            return s;
        }
        Defect::AnybodyIsServed => {
            (s.actor, s.stranger) = (None, true);
            return s;
        }
        _ => {
            s.actor = None;
            return s;
        }
    };
    s.actor = Some(ActorPlan {
        node: seed as usize % s.nodes,
        kind,
        reforms: false,
        variant: seed,
    });
    s
}

fn caught(d: Defect) -> Option<(u64, Violation)> {
    (0..SEEDS).find_map(|seed| {
        let result = run(plan(d, seed), Sabotage::None, false);
        result.err().map(|v| (seed, v))
    })
}

#[test]
fn every_defect_is_seen_when_it_is_put_back() {
    let mut table = String::new();
    let mut unseen = Vec::new();
    for d in Defect::ALL {
        let (name, what) = shown_by(d);
        set(Some(d));
        let with = caught(d);
        set(None);
        let Some((seed, v)) = with else {
            unseen.push(name);
            continue;
        };
        // Without it the same seed holds: the oracle sees the defect and nothing else.
        if let Err(v) = run(plan(d, seed), Sabotage::None, false) {
            panic!(
                "{name}: seed {seed} fails without it: {}: {}",
                v.oracle, v.text
            );
        }
        println!("{name}: seed {seed}, {}: {}", v.oracle, v.text);
        writeln!(table, "| {name} | {what} | {} | {seed} |", v.oracle).expect("to a string");
    }
    assert!(unseen.is_empty(), "nobody sees {unseen:?} in {SEEDS} seeds");
    if let Ok(path) = std::env::var("TABLE") {
        write_table(&path, &table);
    }
}

/// `DEFECT=T9 SEED=82` shows what happens in one of these scenarios; with `BACK=1` with the defect.
#[test]
fn one_scenario() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let (Ok(name), Some(seed)) = (std::env::var("DEFECT"), number("SEED")) else {
        return;
    };
    let d = Defect::ALL.into_iter().find(|d| shown_by(*d).0 == name);
    let d = d.expect("T1 to T16");
    set(number("BACK").map(|_| d));
    println!("{:#?}", plan(d, seed));
    println!("{:?}", run(plan(d, seed), Sabotage::None, true));
    set(None);
}

/// Puts the rows between the marks of the file.
fn write_table(path: &str, rows: &str) {
    const FROM: &str = "<!-- defects: written by tests/sim/tests/defects.rs -->\n";
    const TO: &str = "<!-- end of defects -->";
    let text = std::fs::read_to_string(path).expect("the file with the marks");
    let (head, rest) = text.split_once(FROM).expect("the first mark");
    let (_, tail) = rest.split_once(TO).expect("the second mark");
    let table =
        format!("{head}{FROM}| | defect | seen by | seed |\n|---|---|---|---|\n{rows}{TO}{tail}");
    std::fs::write(path, table).expect("the file can be written");
}
