//! UTC days and months, which no frame crosses (wire-format §3).

const DAY: u64 = 86_400;

/// A span that no frame of a sensor crosses, as the sensor declared it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// Frames may span any time.
    None,
    /// A UTC day.
    Day,
    /// A UTC calendar month.
    Month,
}

impl Period {
    /// Whether both moments (Unix seconds) lie in one period.
    pub fn same(self, a: u64, b: u64) -> bool {
        match self {
            Self::None => true,
            Self::Day => a / DAY == b / DAY,
            Self::Month => month(a / DAY) == month(b / DAY),
        }
    }
}

/// Year and month of a day since 1970, counted from March, so that the leap day is the last of its year.
fn month(day: u64) -> (u64, u64) {
    let z = day + 719_468;
    let of_era = z % 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    (year + z / 146_097 * 400, (5 * of_year + 2) / 153)
}
