//! The months of a trips file, computed here once more: nothing of the nodes, of `f` or of the sensor simulator is used, not even
//! their calendar, so that a mistake in one of them shows.

use crate::{E2eError, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// Seconds and number of trips.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Seconds of use.
    pub seconds: u64,
    /// Rentals that ended in the month.
    pub trips: u64,
}

/// The totals by month (`2016-07`) and lock. A pair that is not there is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Months {
    /// By month, then lock.
    pub totals: BTreeMap<(String, String), Total>,
    /// Every lock that is named.
    pub locks: Vec<String>,
    /// Months from that of the first event to that of the last, in order.
    pub months: Vec<String>,
}

impl Months {
    /// Computes them from a trips file: a rental counts, whole, in the UTC month in which it ends.
    ///
    /// # Errors
    /// [`E2eError::System`], [`E2eError::Csv`].
    pub fn of_trips(path: &Path) -> Result<Self> {
        let mut totals: BTreeMap<(String, String), Total> = BTreeMap::new();
        let (mut locks, mut first, mut last) = (Vec::new(), u64::MAX, 0);
        for (line, [bike, start, end]) in rows(path, "bike_id,start_unix_s,end_unix_s")? {
            let number = |text: &str| {
                text.parse::<u64>()
                    .map_err(|e| csv(path, line, &e.to_string()))
            };
            let (start, end) = (number(&start)?, number(&end)?);
            let seconds = end
                .checked_sub(start)
                .ok_or_else(|| csv(path, line, "it ends before it starts"))?;
            (first, last) = (first.min(start), last.max(end));
            locks.push(bike.clone());
            let total = totals.entry((month(end), bike)).or_default();
            total.seconds += seconds;
            total.trips += 1;
        }
        locks.sort_unstable();
        locks.dedup();
        let mut months = Vec::new();
        if !locks.is_empty() {
            let mut at = civil(first);
            while at <= civil(last) {
                months.push(format!("{:04}-{:02}", at.0, at.1));
                at = if at.1 == 12 {
                    (at.0 + 1, 1)
                } else {
                    (at.0, at.1 + 1)
                };
            }
        }
        Ok(Self {
            totals,
            locks,
            months,
        })
    }

    /// Reads a reference: `bike_id,month,total_seconds,trips`. Its locks and months are those that have a row.
    ///
    /// # Errors
    /// [`E2eError::System`], [`E2eError::Csv`].
    pub fn of_reference(path: &Path) -> Result<Self> {
        let mut out = Self::default();
        for (line, [bike, month, seconds, trips]) in
            rows(path, "bike_id,month,total_seconds,trips")?
        {
            let number = |text: &str| {
                text.parse::<u64>()
                    .map_err(|e| csv(path, line, &e.to_string()))
            };
            let total = Total {
                seconds: number(&seconds)?,
                trips: number(&trips)?,
            };
            out.locks.push(bike.clone());
            out.months.push(month.clone());
            if out.totals.insert((month, bike), total).is_some() {
                return Err(csv(path, line, "the same bike and month a second time"));
            }
        }
        for list in [&mut out.locks, &mut out.months] {
            list.sort_unstable();
            list.dedup();
        }
        Ok(out)
    }

    /// One lock's month; zero if it has none.
    pub fn of(&self, month: &str, lock: &str) -> Total {
        self.totals
            .get(&(month.to_owned(), lock.to_owned()))
            .copied()
            .unwrap_or_default()
    }

    /// All locks together in a month.
    pub fn sum(&self, month: &str) -> Total {
        let of_month = self.totals.iter().filter(|((m, _), _)| m == month);
        of_month.fold(Total::default(), |a, (_, b)| Total {
            seconds: a.seconds + b.seconds,
            trips: a.trips + b.trips,
        })
    }

    /// All trips.
    pub fn trips(&self) -> u64 {
        self.totals.values().map(|t| t.trips).sum()
    }
}

fn csv(path: &Path, line: usize, reason: &str) -> E2eError {
    E2eError::Csv {
        path: path.into(),
        line,
        reason: reason.into(),
    }
}

fn rows<const N: usize>(path: &Path, header: &str) -> Result<Vec<(usize, [String; N])>> {
    let text = std::fs::read_to_string(path)
        .map_err(E2eError::system(format!("read {}", path.display())))?;
    let mut lines = (1..).zip(text.lines());
    let first = lines.next().map(|l| l.1.trim_start_matches('\u{feff}'));
    if first.map(|l| cells(l).join(",")) != Some(header.to_owned()) {
        return Err(csv(path, 1, &format!("the header must be {header}")));
    }
    let parse = |(line, row): (usize, &str)| {
        let cells = cells(row)
            .try_into()
            .map_err(|_| csv(path, line, &format!("{N} columns are wanted")))?;
        Ok((line, cells))
    };
    lines
        .filter(|(_, row)| row.chars().any(|c| c != ',' && !c.is_whitespace()))
        .map(parse)
        .collect()
}

/// The fields of a line: a quote begins and ends what commas do not split, and two of them within are one (RFC 4180).
fn cells(row: &str) -> Vec<String> {
    let (mut out, mut quoted) = (vec![String::new()], false);
    let mut characters = row.chars().peekable();
    while let Some(c) = characters.next() {
        let field = out.last_mut().expect("never empty");
        match c {
            '"' if quoted && characters.next_if_eq(&'"').is_some() => field.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => out.push(String::new()),
            c => field.push(c),
        }
    }
    out
}

/// `2016-07` of Unix seconds, UTC.
pub fn month(time: u64) -> String {
    let (year, month) = civil(time);
    format!("{year:04}-{month:02}")
}

/// Year and month, by counting days year by year and month by month.
fn civil(time: u64) -> (u64, u64) {
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let mut days = time / 86_400;
    let mut year = 1970;
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let lengths = [
        31,
        if leap(year) { 29 } else { 28 },
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_those_of_the_calendar() {
        for (time, name) in [
            (0, "1970-01"),
            (951_782_399, "2000-02"),
            (951_868_799, "2000-02"),
            (951_868_800, "2000-03"),
            (1_443_657_599, "2015-09"),
            (1_443_657_600, "2015-10"),
            (1_483_228_799, "2016-12"),
            (4_107_542_400, "2100-03"),
        ] {
            assert_eq!(month(time), name, "{time}");
        }
    }

    #[test]
    fn quoted_fields_and_empty_ends_are_read_as_the_fleet_reads_them() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("trips.csv");
        let text = "\"bike_id\",\"start_unix_s\",\"end_unix_s\"\r\n\"b,1\",\"1446335900\",1446336000\r\n\"say \"\"b\"\"\",1446335900,1446335999\n,,\n  \n";
        std::fs::write(&path, text).expect("written");
        let months = Months::of_trips(&path).expect("good");
        assert_eq!(months.locks, ["b,1", "say \"b\""]);
    }

    #[test]
    fn a_rental_counts_where_it_ends() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("trips.csv");
        let text = "bike_id,start_unix_s,end_unix_s\nb,1446335900,1446336000\na,1446335900,1446335999\nb,1451606400,1451606400\n";
        std::fs::write(&path, text).expect("written");
        let months = Months::of_trips(&path).expect("good");
        assert_eq!(months.months, ["2015-10", "2015-11", "2015-12", "2016-01"]);
        assert_eq!(months.locks, ["a", "b"]);
        assert_eq!(
            months.of("2015-10", "a"),
            Total {
                seconds: 99,
                trips: 1
            }
        );
        assert_eq!(months.of("2015-10", "b"), Total::default());
        assert_eq!(
            months.of("2015-11", "b"),
            Total {
                seconds: 100,
                trips: 1
            }
        );
        assert_eq!(
            months.sum("2016-01"),
            Total {
                seconds: 0,
                trips: 1
            }
        );
        assert_eq!(months.trips(), 3);
    }
}
