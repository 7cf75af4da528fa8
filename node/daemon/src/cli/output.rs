//! What a command prints: data on stdout, everything else on stderr; and how it fails.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

/// Something did not work.
pub const FAILED: u8 = 1;
/// The command line is wrong (clap's own code).
pub const USAGE: u8 = 2;
/// No node or chain answers, or one did not get ready in time.
pub const UNREACHABLE: u8 = 3;
/// The node refused the request; its problem document says why.
pub const REFUSED: u8 = 4;
/// What was checked does not hold.
pub const MISMATCH: u8 = 5;

/// The exit codes, as every `--help` ends.
pub const EXIT_CODES: &str = "Exit codes: 0 done; 1 failed; 2 wrong use; 3 no node or chain answers, or it was not ready in time; \
4 the node refused (its problem document is printed); 5 what was checked does not hold.";

/// Why a command ended: a sentence for people and the exit code.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    text: String,
}

/// Result of a command.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure with this exit code.
    pub fn new(code: u8, text: impl fmt::Display) -> Self {
        Self {
            code,
            text: text.to_string(),
        }
    }
    /// The command line is wrong in a way that clap cannot know.
    pub fn usage(text: impl fmt::Display) -> Self {
        Self::new(USAGE, text)
    }
    /// The same failure, with what was being done in front.
    pub fn during(self, what: impl fmt::Display) -> Self {
        Self {
            code: self.code,
            text: format!("{what}: {}", self.text),
        }
    }
    /// The exit code.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Adds what was being done to an error of any kind; exit code 1.
pub trait Context<T> {
    /// `WHAT: the error`.
    fn context(self, what: impl fmt::Display) -> Outcome<T>;
}

impl<T, E: fmt::Display> Context<T> for Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Outcome<T> {
        self.map_err(|error| Failure::new(FAILED, format_args!("{what}: {error}")))
    }
}

/// Where a command's words go.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Data only on stdout, one JSON object a line.
    pub json: bool,
}

impl Output {
    /// One item of data: an object a line with `--json`, else what `human` makes of it.
    pub fn item<T: Serialize>(self, value: &T, human: impl FnOnce(&T) -> String) -> Outcome {
        let text = if self.json {
            serde_json::to_string(value).context("cannot write JSON")?
        } else {
            human(value)
        };
        print(&text)
    }

    /// A list: an object a line with `--json`, else a table.
    pub fn table<T: Serialize>(
        self,
        head: &[&str],
        items: &[T],
        row: impl Fn(&T) -> Vec<String>,
    ) -> Outcome {
        if self.json {
            return items
                .iter()
                .try_for_each(|item| self.item(item, |_| String::new()));
        }
        let rows: Vec<_> = items.iter().map(row).collect();
        print(&table(head, &rows))
    }

    /// A word to the person, on stderr.
    pub fn say(self, text: impl fmt::Display) {
        // A closed stderr is no reason to stop.
        let _ = writeln!(io::stderr(), "{text}");
    }
}

/// Writes a line to stdout. A reader that has gone away (`| head`) ends the command quietly.
fn print(text: &str) -> Outcome {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to stdout"),
    }
}

/// Columns side by side; those that hold numbers are set to the right.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let cell = |row: &Vec<String>, i: usize| row.get(i).map_or(0, |c| c.chars().count());
    let widths: Vec<usize> = (0..head.len())
        .map(|i| {
            rows.iter()
                .map(|r| cell(r, i))
                .chain([head[i].chars().count()])
                .max()
                .unwrap_or(0)
        })
        .collect();
    let number = |i: usize| {
        !rows.is_empty()
            && rows.iter().all(|r| {
                r.get(i).is_some_and(|c| {
                    c.starts_with(|x: char| x.is_ascii_digit()) && !c.contains(['x', ' '])
                })
            })
    };
    let line = |cells: &[String]| {
        let mut out = String::new();
        for (i, c) in cells.iter().enumerate() {
            if i > 0 {
                out.push_str("  ");
            }
            let pad = " ".repeat(
                widths
                    .get(i)
                    .map_or(0, |w| w.saturating_sub(c.chars().count())),
            );
            if number(i) {
                out.push_str(&pad);
                out.push_str(c);
            } else {
                out.push_str(c);
                out.push_str(&pad);
            }
        }
        out.trim_end().to_owned()
    };
    let head: Vec<_> = head.iter().map(ToString::to_string).collect();
    let mut out = vec![line(&head)];
    out.extend(rows.iter().map(|r| line(r)));
    out.join("\n")
}

/// `1 node`, `2 nodes`.
pub fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Who must still sign a file in which signatures come together.
pub fn still_to_sign(file: &std::path::Path, users: &[&diversity_proto::UserId]) -> String {
    let users: Vec<_> = users.iter().map(|u| u.hex()).collect();
    format!(
        "signed, and kept in {}; still to sign: {}",
        file.display(),
        users.join(", ")
    )
}

/// A day of a Unix time, `2015-10-01`, in UTC.
pub fn day(time: u64) -> String {
    let (year, month) = diversity_proto::time::month_of(time);
    let first = diversity_proto::time::month_start(year, month);
    format!(
        "{year:04}-{month:02}-{:02}",
        (time - first) / diversity_proto::time::DAY + 1
    )
}

/// What a window covers: a month by its name, else its first day (and second), else its number.
pub fn span(t: u64, from: u64, to: u64) -> String {
    if (from, to) == (0, 0) {
        return format!("#{t}");
    }
    let (year, month) = diversity_proto::time::month_of(from);
    if diversity_proto::time::month_start(year, month) == from
        && diversity_proto::time::month_start_after(from, 1) == to
    {
        return format!("{year:04}-{month:02}");
    }
    let clock = from % diversity_proto::time::DAY;
    format!(
        "{} {:02}:{:02}:{:02}",
        day(from),
        clock / 3_600,
        clock / 60 % 60,
        clock % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right_and_nothing_trails() {
        let rows = vec![
            vec!["a".into(), "7".into()],
            vec!["long".into(), "1234".into()],
        ];
        assert_eq!(
            table(&["name", "n"], &rows),
            "name     n\na        7\nlong  1234"
        );
    }

    #[test]
    fn spans_have_names() {
        assert_eq!(span(0, 1_443_657_600, 1_446_336_000), "2015-10");
        assert_eq!(span(3, 1_443_657_600, 1_443_661_200), "2015-10-01 00:00:00");
        assert_eq!(span(3, 0, 0), "#3");
        assert_eq!(day(1_446_336_000 - 1), "2015-10-31");
    }
}
