//! A generated city: trips that look like bike hire, from a seed alone. The same seed gives the same file everywhere, so only
//! integers are used.

use crate::trips::{Trip, Trips};
use diversity_proto::time::{DAY, month_start, month_start_after};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// What kind of city.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct City {
    /// Same seed, same trips.
    pub seed: u64,
    /// Number of bikes.
    pub bikes: u32,
    /// Year and month (1..=12) of the first trips.
    pub first: (u64, u64),
    /// Number of months.
    pub months: u64,
    /// Trips of one bike in a day, on average.
    pub trips_per_day: u32,
}

impl City {
    /// The trips. Every bike is rented at least once in the first and in the last month, so that the file spans all months; a few
    /// rentals go over the end of a month.
    pub fn trips(&self) -> Trips {
        let from = month_start(self.first.0, self.first.1);
        let to = month_start_after(from, self.months);
        let trips = |bike: u32| {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(bike.into());
            (
                format!("bike-{:04}", bike + 1),
                self.bike(&mut rng, from, to),
            )
        };
        Trips((0..self.bikes).map(trips).collect())
    }

    fn bike(&self, rng: &mut ChaCha8Rng, from: u64, to: u64) -> Vec<Trip> {
        let mean_gap = DAY / u64::from(self.trips_per_day.max(1));
        let last_month = month_start_after(to - 1, 0);
        let mut out: Vec<Trip> = Vec::new();
        let mut at = from + below(rng, mean_gap.min(DAY));
        let mut late = false;
        while at < to {
            let start = daytime(rng, at);
            let end = start + duration(rng);
            if end >= to {
                break;
            }
            late |= start >= last_month;
            out.push(Trip {
                start,
                end,
                line: 0,
            });
            // Twice a product of two uniform numbers has mean one half: short gaps are common, long ones happen.
            at = end + 60 + 2 * below(rng, mean_gap.max(2)) * (1 + below(rng, 256)) / 256;
        }
        if !late {
            // A long gap skipped the last month.
            let free = out.last().map_or(last_month, |t| t.end.max(last_month));
            let start = free + below(rng, (to - free) / 2);
            out.push(Trip {
                start,
                end: start + 600,
                line: 0,
            });
        }
        // A bike that is out at the turn of the first month, so that a rental is carried over.
        let turn = month_start_after(from, 1);
        if self.months > 1
            && let Some(trip) = out.iter().position(|t| t.start > turn)
            && trip > 0
            && out[trip - 1].end < turn
            && below(rng, 4) == 0
        {
            let free_until = out[trip].start;
            out[trip - 1].end = turn + below(rng, free_until - turn);
        }
        out
    }
}

/// A few minutes mostly, hours sometimes.
fn duration(rng: &mut ChaCha8Rng) -> u64 {
    let hours = if below(rng, 20) == 0 { 5 } else { 1 };
    120 + below(rng, 1_500) + below(rng, hours * 3_600) * below(rng, 256) / 256
}

/// Few people rent at night.
fn daytime(rng: &mut ChaCha8Rng, at: u64) -> u64 {
    let second = at % DAY;
    if second < 6 * 3_600 && below(rng, 4) != 0 {
        at - second + 6 * 3_600 + below(rng, 3 * 3_600)
    } else {
        at
    }
}

/// Uniform below `n`, up to a bias of 2^-32.
fn below(rng: &mut ChaCha8Rng, n: u64) -> u64 {
    let wide = u128::from(rng.next_u64()) * u128::from(n);
    (wide >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Schedule;

    fn city(seed: u64) -> City {
        City {
            seed,
            bikes: 20,
            first: (2024, 12),
            months: 3,
            trips_per_day: 4,
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_valid_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trips.csv");
        for seed in 0..30 {
            let trips = city(seed).trips();
            assert_eq!(trips, city(seed).trips());
            trips.write(&path).unwrap();
            let read = crate::trips::Trips::read(&path).unwrap();
            assert_eq!((read.0.len(), read.count()), (20, trips.count()));
            let schedule = Schedule::new(&read, 1);
            assert_eq!(
                (schedule.start, schedule.months),
                (month_start(2024, 12), 3)
            );
            assert!(
                (1_000..20_000).contains(&trips.count()),
                "{}",
                trips.count()
            );
        }
        assert_ne!(city(1).trips(), city(2).trips());
    }

    #[test]
    fn some_rentals_go_over_the_end_of_a_month() {
        let crossing = (0..10).flat_map(|seed| city(seed).trips().0.into_values().flatten());
        let turn = month_start(2025, 1);
        let crossing = crossing.filter(|t| t.start < turn && t.end > turn).count();
        assert!(crossing > 5, "{crossing}");
    }
}
