//! UTC calendar arithmetic for time windows: days and months of Unix seconds (proleptic Gregorian, no leap seconds).

/// Seconds of a day.
pub const DAY: u64 = 86_400;

/// Year and month (1..=12) of a moment.
pub fn month_of(time: u64) -> (u64, u64) {
    // Days to civil date with March as the first month of the year, so that the leap day comes last.
    let z = time / DAY + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let m = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + u64::from(m <= 2), m)
}

/// First second of a month (1..=12) of a year from 1970.
pub fn month_start(year: u64, month: u64) -> u64 {
    let y = year - u64::from(month <= 2);
    let era = y / 400;
    let yoe = y % 400;
    let mp = if month > 2 { month - 3 } else { month + 9 };
    let doy = (153 * mp + 2) / 5;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    (era * 146_097 + doe - 719_468) * DAY
}

/// First second of the month `n` months after the one that holds `time`.
pub fn month_start_after(time: u64, n: u64) -> u64 {
    let (y, m) = month_of(time);
    let months = y * 12 + (m - 1) + n;
    month_start(months / 12, months % 12 + 1)
}

/// No sensor of this protocol spoke before this moment, 2000-01-01 UTC: a clock that says so was never set.
pub const PLAUSIBLE_FROM: u64 = 946_684_800;
/// By how much a sensor's clock may be ahead of that of whoever looks, seconds: the most that terms tolerate.
pub const PLAUSIBLE_AHEAD: u64 = DAY;

/// Why a sensor's time cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implausible {
    /// Before [`PLAUSIBLE_FROM`].
    Unset,
    /// Milliseconds (or less) where seconds are meant.
    Milliseconds,
    /// Further ahead than [`PLAUSIBLE_AHEAD`].
    Future,
}

impl Implausible {
    /// Whether `time`, Unix seconds, cannot be, seen by a clock that shows `now`.
    pub fn look(time: u64, now: u64) -> Option<Self> {
        let latest = now.saturating_add(PLAUSIBLE_AHEAD);
        let fits = |time: u64| (PLAUSIBLE_FROM..=latest).contains(&time);
        if fits(time) {
            None
        } else if time < PLAUSIBLE_FROM {
            Some(Self::Unset)
        } else if fits(time / 1_000) || fits(time / 1_000_000) {
            Some(Self::Milliseconds)
        } else {
            Some(Self::Future)
        }
    }
}

impl core::fmt::Display for Implausible {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Unset => "it lies before the year 2000, as that of a clock that was never set",
            Self::Milliseconds => "it looks like milliseconds, and times are seconds",
            Self::Future => "it lies more than a day in the future",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_cannot_be_are_told_apart() {
        let now = 1_795_834_000;
        let of = |time| Implausible::look(time, now);
        for good in [PLAUSIBLE_FROM, 1_459_468_860, now, now + PLAUSIBLE_AHEAD] {
            assert_eq!(of(good), None, "{good}");
        }
        for unset in [0, 1, 86_400 * 365, PLAUSIBLE_FROM - 1] {
            assert_eq!(of(unset), Some(Implausible::Unset), "{unset}");
        }
        for milliseconds in [now * 1_000, 1_459_468_860_000] {
            assert_eq!(of(milliseconds), Some(Implausible::Milliseconds));
        }
        for future in [now + PLAUSIBLE_AHEAD + 1, 2_082_758_400, (1 << 48) - 1] {
            assert_eq!(of(future), Some(Implausible::Future), "{future}");
        }
    }

    #[test]
    fn months_of_four_centuries_follow_one_another() {
        let mut t = 0;
        for i in 0..4_800u64 {
            let (y, m) = (1970 + i / 12, i % 12 + 1);
            assert_eq!((month_of(t), month_start(y, m)), ((y, m), t));
            let next = month_start_after(t, 1);
            let days = (next - t) / DAY;
            let leap = y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
            assert_eq!(
                days,
                [
                    31,
                    if leap { 29 } else { 28 },
                    31,
                    30,
                    31,
                    30,
                    31,
                    31,
                    30,
                    31,
                    30,
                    31
                ][(m - 1) as usize]
            );
            assert_eq!(month_of(next - 1), (y, m));
            t = next;
        }
        assert_eq!(month_start(2015, 10), 1_443_657_600);
    }
}
