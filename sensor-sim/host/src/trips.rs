//! The trips file: a header, then `bike_id,start_unix_s,end_unix_s` a line. It is checked whole before anything is sent.

use diversity_client::csv::{self, Row, RowError};
use diversity_proto::frame::TIME_MAX;
use diversity_proto::time::Implausible;
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

/// The header line.
pub const HEADER: &str = "bike_id,start_unix_s,end_unix_s";
/// Longest bike id, bytes: it is the label of a sensor.
pub const BIKE_ID_BYTES_MAX: usize = diversity_proto::entity::NAME_BYTES_MAX;
/// Most bikes in a file: what an agreement may have.
pub const BIKES_MAX: usize = diversity_proto::terms::SENSORS_MAX;
/// Longest line, bytes.
const LINE_BYTES_MAX: u64 = 256;

/// One rental.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trip {
    /// Unix seconds at which the lock opened.
    pub start: u64,
    /// Unix seconds at which it closed; not before the start.
    pub end: u64,
    /// Line of the file, from 1.
    pub line: u64,
}

/// The trips of every bike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trips(pub BTreeMap<String, Vec<Trip>>);

/// Why a file is refused. Each names its line.
#[derive(Debug, thiserror::Error)]
pub enum TripsError {
    /// Reading or writing failed.
    #[error("cannot {action} the trips file {}: {source}", path.display())]
    File {
        /// "read" or "write".
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The first line is not the header.
    #[error("line 1: the header is {found:?}, and it must be {HEADER:?}")]
    Header {
        /// What stands there.
        found: String,
    },
    /// Not three fields.
    #[error("line {line}: {fields} fields instead of 3 ({HEADER})")]
    Fields {
        /// Line.
        line: u64,
        /// How many.
        fields: usize,
    },
    /// A line that no trip needs.
    #[error("line {line}: longer than {LINE_BYTES_MAX} bytes, or not UTF-8 text")]
    Line {
        /// Line.
        line: u64,
    },
    /// Quotes that are not those of RFC 4180.
    #[error("line {line}: {reason}")]
    Quotes {
        /// Line.
        line: u64,
        /// What is wrong with them.
        reason: RowError,
    },
    /// An empty line with trips behind it.
    #[error(
        "line {line}: it is empty, and trips follow; only the end of a file may have empty lines"
    )]
    Blank {
        /// Line.
        line: u64,
    },
    /// No bike id, or one that is no label.
    #[error("line {line}: the bike id {id:?} {wrong}")]
    BikeId {
        /// Line.
        line: u64,
        /// What stands there, cut short.
        id: String,
        /// What is wrong with it.
        wrong: &'static str,
    },
    /// A time that cannot be: no lock signs it.
    #[error(
        "line {line}: {field} is {time}, which cannot be: {why}. Correct the file; nothing was signed"
    )]
    Implausible {
        /// Line.
        line: u64,
        /// Which column.
        field: &'static str,
        /// What stands there.
        time: u64,
        /// Why it cannot be.
        why: Implausible,
    },
    /// Not a time.
    #[error(
        "line {line}: {field} is {found:?}, and it must be a whole number of Unix seconds below 2^48"
    )]
    Time {
        /// Line.
        line: u64,
        /// Which column.
        field: &'static str,
        /// What stands there.
        found: String,
    },
    /// A trip that ends before it starts.
    #[error("line {line}: the trip of bike {bike} ends at {end}, before its start at {start}")]
    Backwards {
        /// Line.
        line: u64,
        /// Bike.
        bike: String,
        /// Start.
        start: u64,
        /// End.
        end: u64,
    },
    /// A bike is rented twice at a time.
    #[error(
        "line {line}: the trip of bike {bike} starts at {start}, while its trip of line {other} lasts until {end}"
    )]
    Overlap {
        /// The trip that starts later.
        line: u64,
        /// Bike.
        bike: String,
        /// Its start.
        start: u64,
        /// The trip that starts earlier.
        other: u64,
        /// Its end.
        end: u64,
    },
    /// More bikes than an agreement may have sensors.
    #[error(
        "line {line}: there are more than {BIKES_MAX} bikes, the most that one agreement takes: split the file"
    )]
    TooManyBikes {
        /// Line.
        line: u64,
    },
    /// Nothing but a header.
    #[error("the file has no trips")]
    Empty,
}

impl Trips {
    /// Reads a file.
    ///
    /// # Errors
    /// [`TripsError`], naming the line.
    pub fn read(path: &Path) -> Result<Self, TripsError> {
        let file = std::fs::File::open(path).map_err(|source| TripsError::File {
            action: "read",
            path: path.into(),
            source,
        })?;
        Self::parse(&mut std::io::BufReader::new(file), path)
    }

    /// Reads from anywhere; `path` is for error messages.
    ///
    /// # Errors
    /// [`TripsError`], naming the line.
    pub fn parse(input: &mut impl BufRead, path: &Path) -> Result<Self, TripsError> {
        let mut bikes: BTreeMap<String, Vec<Trip>> = BTreeMap::new();
        let mut buffer = Vec::new();
        let mut blank = None;
        for line in 1.. {
            let Some(text) = next_line(input, &mut buffer, line, path)? else {
                break;
            };
            if line == 1 {
                let header = csv::row(text.trim_start_matches('\u{feff}'));
                if !header.is_ok_and(|row| row.join(",") == HEADER) {
                    let found = text.to_string();
                    return Err(TripsError::Header { found });
                }
                continue;
            }
            // Spreadsheets leave rows of nothing but commas behind.
            if text.chars().all(|c| c == ',' || c.is_whitespace()) {
                blank = blank.or(Some(line));
                continue;
            }
            if let Some(line) = blank {
                return Err(TripsError::Blank { line });
            }
            let (bike, trip) = parse_line(text, line)?;
            let known = bikes.len();
            match bikes.get_mut(&bike) {
                Some(trips) => trips.push(trip),
                None if known == BIKES_MAX => return Err(TripsError::TooManyBikes { line }),
                None => {
                    bikes.insert(bike, vec![trip]);
                }
            }
        }
        for (bike, trips) in &mut bikes {
            trips.sort_unstable();
            check_overlaps(bike, trips)?;
        }
        if bikes.is_empty() {
            return Err(TripsError::Empty);
        }
        Ok(Self(bikes))
    }

    /// Writes them, sorted by start and then by bike.
    ///
    /// # Errors
    /// [`TripsError::File`].
    pub fn write(&self, path: &Path) -> Result<(), TripsError> {
        let mut all: Vec<_> = self
            .0
            .iter()
            .flat_map(|(bike, trips)| trips.iter().map(move |t| (t.start, bike, t.end)))
            .collect();
        all.sort_unstable();
        let write = || {
            let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
            writeln!(file, "{HEADER}")?;
            for (start, bike, end) in all {
                writeln!(file, "{},{start},{end}", csv::field(bike))?;
            }
            file.flush()
        };
        write().map_err(|source| TripsError::File {
            action: "write",
            path: path.into(),
            source,
        })
    }

    /// Refuses times that cannot be, seen by a clock that shows `now` (Unix seconds): what a lock has signed it never signs anew.
    ///
    /// # Errors
    /// [`TripsError::Implausible`], of the first line that has one.
    pub fn check_times(&self, now: u64) -> Result<(), TripsError> {
        let wrong = |t: &Trip| {
            let fields = [("start_unix_s", t.start), ("end_unix_s", t.end)];
            fields.into_iter().find_map(|(field, time)| {
                let why = Implausible::look(time, now)?;
                let line = t.line;
                Some(TripsError::Implausible {
                    line,
                    field,
                    time,
                    why,
                })
            })
        };
        let all = self.0.values().flatten();
        match all
            .filter_map(|t| Some((t.line, wrong(t)?)))
            .min_by_key(|w| w.0)
        {
            Some((_, wrong)) => Err(wrong),
            None => Ok(()),
        }
    }

    /// Number of trips.
    pub fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// First and last moment; the last is an end, and the trip that has it comes with it.
    pub fn span(&self) -> (u64, Trip) {
        let all = || self.0.values().flatten();
        let first = all().map(|t| t.start).min().expect("never empty");
        let last = all().max_by_key(|t| t.end).expect("never empty");
        (first, *last)
    }
}

/// The next line without its end; `None` after the last.
fn next_line<'a>(
    input: &mut impl BufRead,
    buffer: &'a mut Vec<u8>,
    line: u64,
    path: &Path,
) -> Result<Option<&'a str>, TripsError> {
    buffer.clear();
    let mut bounded = std::io::Read::take(input, LINE_BYTES_MAX + 2);
    let n = bounded
        .read_until(b'\n', buffer)
        .map_err(|source| TripsError::File {
            action: "read",
            path: path.into(),
            source,
        })?;
    if n == 0 {
        return Ok(None);
    }
    if buffer.last() == Some(&b'\n') {
        buffer.pop();
        if buffer.last() == Some(&b'\r') {
            buffer.pop();
        }
    }
    if buffer.len() as u64 > LINE_BYTES_MAX {
        return Err(TripsError::Line { line });
    }
    std::str::from_utf8(buffer)
        .map(Some)
        .map_err(|_| TripsError::Line { line })
}

fn parse_line(text: &str, line: u64) -> Result<(String, Trip), TripsError> {
    let row: Row = csv::row(text).map_err(|reason| TripsError::Quotes { line, reason })?;
    let fields = row.len();
    let Ok([bike, start, end]) = <[String; 3]>::try_from(row) else {
        return Err(TripsError::Fields { line, fields });
    };
    if let Some(wrong) = no_label(&bike) {
        let id = bike.chars().take(BIKE_ID_BYTES_MAX).collect();
        return Err(TripsError::BikeId { line, id, wrong });
    }
    let start = time(&start, "start_unix_s", line)?;
    let end = time(&end, "end_unix_s", line)?;
    if end < start {
        return Err(TripsError::Backwards {
            line,
            bike,
            start,
            end,
        });
    }
    Ok((bike, Trip { start, end, line }))
}

/// Why a text is no bike id: it is shown to people, who must be able to tell it from every other one. Ids are compared byte by byte.
fn no_label(id: &str) -> Option<&'static str> {
    let unseen = |c: char| {
        // Zero width, direction, line and paragraph separators, and the byte order mark.
        let formats = [
            '\u{200b}'..='\u{200f}',
            '\u{2028}'..='\u{202e}',
            '\u{2060}'..='\u{206f}',
            '\u{feff}'..='\u{feff}',
        ];
        c.is_control() || formats.iter().any(|f| f.contains(&c))
    };
    if id.trim().is_empty() {
        Some("is empty: every trip needs one")
    } else if id.len() > BIKE_ID_BYTES_MAX {
        Some("is longer than the 64 bytes of UTF-8 that a label may have")
    } else if id.chars().any(unseen) {
        Some("has characters that cannot be seen (control characters, zero width): remove them")
    } else if id.trim() != id {
        Some("begins or ends with a blank, so that it looks like another one: remove it")
    } else {
        None
    }
}

fn time(text: &str, field: &'static str, line: u64) -> Result<u64, TripsError> {
    // A sign or a space is no digit; `parse` alone would let a plus pass.
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let value = if digits { text.parse().ok() } else { None };
    value
        .filter(|t| *t < TIME_MAX)
        .ok_or_else(|| TripsError::Time {
            line,
            field,
            found: text.into(),
        })
}

/// Sorted by start: each trip begins when the one before it has ended, or later.
fn check_overlaps(bike: &str, trips: &[Trip]) -> Result<(), TripsError> {
    for pair in trips.windows(2) {
        let (earlier, later) = (pair[0], pair[1]);
        if later.start < earlier.end {
            return Err(TripsError::Overlap {
                line: later.line,
                bike: bike.into(),
                start: later.start,
                other: earlier.line,
                end: earlier.end,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Trips, TripsError> {
        Trips::parse(&mut text.as_bytes(), Path::new("trips.csv"))
    }

    fn refusal(lines: &str) -> String {
        parse(&format!("{HEADER}\n{lines}"))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn good_files_are_read_whatever_their_order_and_line_ends() {
        let text = format!("{HEADER}\r\nB 2,5,9\r\nA,100,100\r\nB 2,9,9\nB 2,0,5\nB 2,9,12");
        let trips = parse(&text).unwrap();
        let of =
            |bike: &str| -> Vec<_> { trips.0[bike].iter().map(|t| (t.start, t.end)).collect() };
        assert_eq!(of("B 2"), [(0, 5), (5, 9), (9, 9), (9, 12)]);
        assert_eq!(of("A"), [(100, 100)]);
        assert_eq!(trips.count(), 5);
        assert_eq!((trips.span().0, trips.span().1.line), (0, 3));
    }

    #[test]
    fn each_error_names_its_line() {
        assert!(refusal("A,1,2\nA,3\n").starts_with("line 3: 2 fields"));
        assert!(
            refusal("A,1,2\n\n,,\nA,3,4\n").starts_with("line 3: it is empty, and trips follow")
        );
        assert!(refusal("A,1,2,\n").starts_with("line 2: 4 fields"));
        assert!(refusal(",1,2\n").starts_with("line 2: the bike id"));
        assert!(refusal(&format!("{},1,2\n", "x".repeat(65))).starts_with("line 2: the bike id"));
        for bad in [
            "",
            "x",
            "-1",
            "+1",
            " 1",
            "1.5",
            "281474976710656",
            "99999999999999999999",
        ] {
            let text = refusal(&format!("A,0,1\nA,{bad},5\n"));
            assert!(text.starts_with("line 3: start_unix_s"), "{text}");
            let text = refusal(&format!("A,0,{bad}\n"));
            assert!(text.starts_with("line 2: end_unix_s"), "{text}");
        }
        assert!(refusal("A,9,8\n").starts_with("line 2: the trip of bike A ends at 8, before"));
        let overlap = refusal("A,5,9\nB,5,9\nA,0,6\n");
        assert!(
            overlap.starts_with("line 2: the trip of bike A starts at 5"),
            "{overlap}"
        );
        assert!(overlap.contains("line 4 lasts until 6"), "{overlap}");
        assert!(refusal("A,1,1\nA,0,2\n").contains("lasts until 2"));
        assert!(refusal(&"x".repeat(300)).starts_with("line 2: longer"));
    }

    #[test]
    fn fields_may_be_quoted_as_rfc_4180_says() {
        let text = "\"bike_id\",\"start_unix_s\",\"end_unix_s\"\r\n\"b,1\",\"5\",\"9\"\r\n\"say \"\"b\"\"\",1,2\r\nb2,\"3\",4";
        let trips = parse(text).unwrap();
        let ids: Vec<_> = trips.0.keys().map(String::as_str).collect();
        assert_eq!(ids, ["b,1", "b2", "say \"b\""]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trips.csv");
        trips.write(&path).unwrap();
        let again = Trips::read(&path).unwrap();
        assert_eq!(
            again.0.keys().collect::<Vec<_>>(),
            trips.0.keys().collect::<Vec<_>>()
        );
        // A quote that never ends, one in the middle, and one with something behind it.
        for bad in ["\"b1\"\",1,2", "b\"1,1,2", "\"b1\"x,1,2"] {
            let text = refusal(&format!("A,1,2\n{bad}\n"));
            assert!(
                text.starts_with("line 3: ") && text.contains("quote"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_file_may_end_with_empty_lines() {
        for end in ["\n", "\n\n\n", "\r\n\r\n", "  \n\t\n", ",,\n,,\n", " , ,"] {
            let trips = parse(&format!("{HEADER}\nA,1,2\nB,3,4\n{end}")).unwrap();
            assert_eq!(trips.count(), 2, "{end:?}");
        }
        assert!(
            parse(&format!("{HEADER}\n\n,,\n"))
                .unwrap_err()
                .to_string()
                .contains("no trips")
        );
    }

    #[test]
    fn ids_are_text_that_people_can_tell_apart() {
        for good in [
            "W20409",
            "w20409",
            "../../x",
            "=1+1",
            "nan",
            "b 1",
            "V\u{e9}lo",
            "Ve\u{301}lo",
            "\u{8eca}",
            "\u{1f6b2}",
        ] {
            let trips = parse(&format!("{HEADER}\n{good},1,2\n")).unwrap();
            assert!(trips.0.contains_key(good));
        }
        for bad in [
            "",
            " ",
            "\u{a0}",
            "b1 ",
            " b1",
            "b1\u{3000}",
            "\u{1b}[31mred",
            "a\tb",
            "a\u{85}",
            "a\u{200b}",
            "\u{202e}a",
            "a\u{feff}",
        ] {
            let text = refusal(&format!("A,1,2\n{bad},1,2\n"));
            assert!(text.starts_with("line 3: the bike id"), "{bad:?}: {text}");
            assert!(
                !text.chars().any(char::is_control),
                "nothing reaches a terminal: {text:?}"
            );
        }
        let long = refusal(&format!("{},1,2\n", "\u{8eca}".repeat(22)));
        assert!(long.contains("64 bytes of UTF-8"), "{long}");
    }

    #[test]
    fn times_that_cannot_be_are_refused_before_anything_is_signed() {
        let now = 1_795_834_000;
        let check = |lines: &str| {
            parse(&format!("{HEADER}\n{lines}"))
                .unwrap()
                .check_times(now)
        };
        assert!(check("A,1459468860,1459469460\nB,1795830000,1795833000\n").is_ok());
        for (bad, why) in [
            ("0,5", "2000"),
            ("1459468860,1459469460000", "milliseconds"),
            ("1459468860,2082758400", "future"),
        ] {
            let text = check(&format!("B,1459468860,1459469460\nA,{bad}\n"))
                .unwrap_err()
                .to_string();
            assert!(text.starts_with("line 3: ") && text.contains(why), "{text}");
        }
    }

    #[test]
    fn files_without_header_or_trips_are_refused() {
        assert!(parse("").unwrap_err().to_string().contains("no trips"));
        assert!(parse(HEADER).unwrap_err().to_string().contains("no trips"));
        let text = parse("A,1,2\n").unwrap_err().to_string();
        assert!(
            text.starts_with("line 1: the header is \"A,1,2\""),
            "{text}"
        );
        let latin1 = Trips::parse(
            &mut &b"bike_id,start_unix_s,end_unix_s\n\xfc,1,2\n"[..],
            Path::new("x"),
        );
        assert!(latin1.unwrap_err().to_string().starts_with("line 2"));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let trips = parse(&format!("{HEADER}\nB,5,9\nA,100,100\nB,0,5\n")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trips.csv");
        trips.write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{HEADER}\nB,0,5\nB,5,9\nA,100,100\n"));
        assert_eq!(Trips::read(&path).unwrap().count(), 3);
    }
}
