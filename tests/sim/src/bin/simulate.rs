//! `simulate --seed N [--trace] [--real]` runs one seed; `simulate --seeds A..B [--real] [--failures K]` runs many.
//! `--off CLASS` leaves a class of faults out (see `Classes`), `--off all` every one.

use diversity_sim::campaign::campaign_of;
use diversity_sim::crypto::Mode;
use diversity_sim::scenario::Classes;
use diversity_sim::{Sabotage, Scenario, run};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "usage: simulate --seed N [--trace] [--real] [--off CLASS] | simulate --seeds A..B [--real] [--failures K] [--off CLASS]";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (mut seed, mut seeds, mut trace, mut mode, mut failures) =
        (None, None, false, Mode::Test, 10);
    let mut classes = Classes::all();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seed" => seed = args.next().and_then(|v| v.parse::<u64>().ok()),
            "--seeds" => {
                seeds = args.next().and_then(|v| {
                    let (a, b) = v.split_once("..")?;
                    Some(a.parse::<u64>().ok()?..b.parse::<u64>().ok()?)
                });
            }
            "--off" if args.next().is_some_and(|name| classes.switch_off(&name)) => {}
            "--trace" => trace = true,
            "--real" => mode = Mode::Real,
            "--failures" => failures = args.next().and_then(|v| v.parse().ok()).unwrap_or(failures),
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    match (seed, seeds) {
        (Some(seed), None) => one(Scenario::with(seed, mode, classes), trace),
        (None, Some(seeds)) => many(seeds, mode, classes, failures),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn one(plan: Scenario, trace: bool) -> ExitCode {
    let seed = plan.seed;
    if trace {
        println!("{plan:#?}");
    }
    match run(plan, Sabotage::None, trace) {
        Ok(summary) => {
            println!("seed {seed}: {summary:?}");
            ExitCode::SUCCESS
        }
        Err(v) => {
            println!("seed {seed} at {}: {}: {}", v.at, v.oracle, v.text);
            ExitCode::FAILURE
        }
    }
}

fn many(seeds: std::ops::Range<u64>, mode: Mode, classes: Classes, failures: usize) -> ExitCode {
    let (start, count) = (Instant::now(), seeds.end.saturating_sub(seeds.start));
    let shown = std::io::stderr().is_terminal();
    let plan = |seed| Scenario::with(seed, mode, classes);
    let report = campaign_of(seeds, plan, failures, |done| {
        if shown && done % 20 == 0 {
            eprint!("\r{done} of {count} seeds");
            let _ = std::io::stderr().flush();
        }
    });
    if shown {
        eprintln!();
    }
    for (seed, v) in &report.failures {
        println!("seed {seed} fails {}: {}", v.oracle, v.text);
    }
    let t = &report.total;
    println!(
        "{} seeds in {:.1} s: {} failed, {} complete; {} agreements, {} windows, {} settled, {} holes, {} words of users, {} crashes, {} events, {} simulated seconds, slowest window {} ms after the faults, fingerprint {:016x}",
        report.seeds,
        start.elapsed().as_secs_f64(),
        report.failures.len(),
        report.complete,
        t.agreements,
        t.windows,
        t.settled,
        t.holes,
        t.words,
        t.crashes,
        t.events,
        t.simulated_ms / 1000,
        t.slowest_ms,
        t.fingerprint,
    );
    if report.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
