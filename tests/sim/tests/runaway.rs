//! An agreement cannot run away: when all its sensors are void it ends, and silence costs nothing (P-HELD-5, P-HELD-6).

use diversity_proto::terms::WindowSpec;
use diversity_sim::crypto::Mode;
use diversity_sim::scenario::Oddity;
use diversity_sim::{Sabotage, Scenario, run};

/// Seeds of each kind.
const SEEDS: u64 = 60;

/// A world without faults in which every sensor signs two things for one of its messages.
fn void_fleet(seed: u64) -> Scenario {
    let mut s = Scenario::calm(seed, Mode::Test);
    s.agreements.truncate(1);
    s.agreements[0].closes = None;
    s.agreements[0].grace_s = 1;
    for (k, sensor) in s.sensors.iter_mut().enumerate() {
        let q = (seed + k as u64) % sensor.messages.len() as u64;
        sensor.oddity = Some(Oddity::Contradicts { q });
    }
    s
}

#[test]
fn a_fleet_of_void_sensors_ends_every_agreement() {
    let (mut count, mut time, mut ended) = (0, 0, 0);
    for seed in 0..SEEDS {
        let s = void_fleet(seed);
        let counts = matches!(s.agreements[0].window, WindowSpec::Count { .. });
        let said: usize = s.sensors.iter().map(|x| x.messages.len()).sum();
        let sensors = s.sensors.len();
        let summary =
            run(s, Sabotage::None, false).unwrap_or_else(|v| panic!("seed {seed}: {v:?}"));
        ended += summary.ended;
        if counts {
            count += 1;
            // Each window is about a message, or voids a sensor.
            let most = said + sensors;
            let settled = summary.settled as usize;
            assert!(
                settled <= most,
                "seed {seed}: {settled} windows of {said} messages"
            );
        } else {
            // The oracle of cuts keeps each of them behind the clock.
            time += 1;
        }
    }
    assert!(count > 5 && time > 5, "both kinds of windows are met");
    // The second tongue of a sensor is not always heard.
    assert!(ended * 2 > SEEDS, "only {ended} of {SEEDS} ended");
}

#[test]
fn a_silent_fleet_costs_nothing_in_count_windows() {
    let mut met = 0;
    for seed in 0..4 * SEEDS {
        let mut s = Scenario::calm(seed, Mode::Test);
        s.agreements.truncate(1);
        if !matches!(s.agreements[0].window, WindowSpec::Count { .. }) {
            continue;
        }
        met += 1;
        s.agreements[0].grace_s = 1;
        for sensor in &mut s.sensors {
            sensor.oddity = Some(Oddity::Silent { q: 0 });
            sensor.messages.clear();
        }
        let summary =
            run(s, Sabotage::None, false).unwrap_or_else(|v| panic!("seed {seed}: {v:?}"));
        assert_eq!(summary.settled, 0, "seed {seed}");
    }
    assert!(met > 20);
}
