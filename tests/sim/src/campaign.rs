//! Many seeds on all cores.

use crate::crypto::Mode;
use crate::{Sabotage, Scenario, Summary, Violation, run};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// What a campaign came to.
#[derive(Debug, Default)]
pub struct Report {
    /// Seeds run.
    pub seeds: u64,
    /// Failing seeds with what failed, in the order in which they were found.
    pub failures: Vec<(u64, Violation)>,
    /// Sums over all runs.
    pub total: Summary,
    /// Runs in which every window was final at the end.
    pub complete: u64,
}

/// Runs every seed of the range on all cores. After `failures_max` failures it stops.
pub fn campaign(
    seeds: Range<u64>,
    mode: Mode,
    failures_max: usize,
    progress: impl Fn(u64) + Sync,
) -> Report {
    campaign_of(
        seeds,
        |seed| Scenario::new(seed, mode),
        failures_max,
        progress,
    )
}

/// The same with plans of one's own.
pub fn campaign_of(
    seeds: Range<u64>,
    plan: impl Fn(u64) -> Scenario + Sync,
    failures_max: usize,
    progress: impl Fn(u64) + Sync,
) -> Report {
    let next = AtomicU64::new(seeds.start);
    let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let report = Mutex::new(Report::default());
    let threads = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let result = run(plan(seed), Sabotage::None, false);
                    let mut r = report
                        .lock()
                        .expect("no thread panics while it holds the report");
                    add(&mut r, seed, result);
                    if r.failures.len() >= failures_max {
                        stop.store(true, Ordering::Relaxed);
                    }
                    drop(r);
                    progress(done.fetch_add(1, Ordering::Relaxed) + 1);
                }
            });
        }
    });
    let mut report = report.into_inner().expect("all threads have ended");
    report.failures.sort_unstable_by_key(|f| f.0);
    report
}

fn add(r: &mut Report, seed: u64, result: Result<Summary, Violation>) {
    r.seeds += 1;
    match result {
        Err(v) => r.failures.push((seed, v)),
        Ok(s) => {
            r.complete += u64::from(s.complete);
            let t = &mut r.total;
            t.agreements += s.agreements;
            t.ended += s.ended;
            t.windows += s.windows;
            t.settled += s.settled;
            t.holes += s.holes;
            t.words += s.words;
            t.blamed += s.blamed;
            t.by_reveals += s.by_reveals;
            t.states += s.states;
            t.crashes += s.crashes;
            t.events += s.events;
            t.simulated_ms += s.simulated_ms;
            t.slowest_ms = t.slowest_ms.max(s.slowest_ms);
            t.fingerprint ^= s.fingerprint.rotate_left((seed % 64) as u32);
        }
    }
}
