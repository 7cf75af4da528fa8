//! The closed sets of words in the JSON: kinds, statuses and ends are values in programs and words only on the wire.

use diversity_proto::round::OutputKind;
use diversity_proto::window::WindowEnd;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where the life of an agreement stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Life {
    /// Nobody has closed it, and some of its sensors can still be believed.
    Open,
    /// It has an end (somebody has closed it, or the last of its sensors is void), and something before it is not settled yet.
    Closing,
    /// Everything before its end is settled.
    Closed,
}

/// How far a window has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WindowStatus {
    /// Executed here, no certificate yet.
    Open,
    /// All nodes revealed the same.
    Certified,
    /// What counts stands on chain, whoever said it.
    Settled,
    /// A dispute stands in its place, and nobody has said yet what counts.
    Hole,
}

/// Who said what counts at a t.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SaidBy {
    /// All nodes, in the first reading.
    #[default]
    Nodes,
    /// All nodes, in a second reading of a hole.
    SecondReading,
    /// All users.
    Users,
    /// The referee that the agreement names.
    Referee,
    /// The arbiter that the agreement names.
    Arbiter,
}

/// What a dispute is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DisputeKind {
    /// Two commits of one node for one execution.
    Equivocation,
    /// A reveal that does not open its commit.
    FalseReveal,
    /// Two messages of one sensor at one q.
    SensorContradiction,
    /// Reveals that differ: nobody is to blame by that alone.
    UnequalReveals,
}

/// What the users say counts. A word that is none of the three is carried as it came, so that whoever signs or relays it can say
/// what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum ResolvedKind {
    /// Nothing.
    Null,
    /// A value.
    Value,
    /// A trap.
    Trap,
    /// No kind that users can agree on.
    Other(String),
}

impl Life {
    /// The word in the JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }
}

impl WindowStatus {
    /// The word in the JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Certified => "certified",
            Self::Settled => "settled",
            Self::Hole => "hole",
        }
    }
}

impl SaidBy {
    /// The word in the JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::SecondReading => "second-reading",
            Self::Users => "users",
            Self::Referee => "referee",
            Self::Arbiter => "arbiter",
        }
    }
}

impl DisputeKind {
    /// The word in the JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equivocation => "equivocation",
            Self::FalseReveal => "false-reveal",
            Self::SensorContradiction => "sensor-contradiction",
            Self::UnequalReveals => "unequal-reveals",
        }
    }
}

impl ResolvedKind {
    /// The word in the JSON.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Null => "null",
            Self::Value => "value",
            Self::Trap => "trap",
            Self::Other(word) => word,
        }
    }

    /// The kind of output that it names; nothing for [`Self::Other`].
    pub fn output(&self) -> Option<OutputKind> {
        Some(match self {
            Self::Null => OutputKind::Null,
            Self::Value => OutputKind::Value,
            Self::Trap => OutputKind::Trap,
            Self::Other(_) => return None,
        })
    }
}

impl From<&str> for ResolvedKind {
    fn from(word: &str) -> Self {
        match word {
            "null" => Self::Null,
            "value" => Self::Value,
            "trap" => Self::Trap,
            other => Self::Other(other.into()),
        }
    }
}

impl From<String> for ResolvedKind {
    fn from(word: String) -> Self {
        Self::from(&word[..])
    }
}

impl From<ResolvedKind> for String {
    fn from(kind: ResolvedKind) -> Self {
        kind.as_str().into()
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for WindowStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for SaidBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for DisputeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The word for a kind of output.
pub fn output_name(kind: OutputKind) -> &'static str {
    match kind {
        OutputKind::Null => "null",
        OutputKind::Value => "value",
        OutputKind::Trap => "trap",
        OutputKind::Abstain => "abstain",
    }
}

/// The word for what ended a window.
pub fn end_name(end: WindowEnd) -> &'static str {
    match end {
        WindowEnd::Message => "message",
        WindowEnd::ClosingRecord => "closing-record",
    }
}

/// `#[serde(with)]` for a kind of output.
pub(super) mod output {
    use super::{OutputKind, output_name};

    pub fn serialize<S: serde::Serializer>(kind: &OutputKind, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(output_name(*kind))
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(d: D) -> Result<OutputKind, D::Error> {
        const ALL: [OutputKind; 4] = [
            OutputKind::Null,
            OutputKind::Value,
            OutputKind::Trap,
            OutputKind::Abstain,
        ];
        super::word(d, ALL, output_name, "null, value, trap or abstain")
    }
}

/// `#[serde(with)]` for what ended a window.
pub(super) mod end {
    use super::{WindowEnd, end_name};

    pub fn serialize<S: serde::Serializer>(end: &WindowEnd, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(end_name(*end))
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(d: D) -> Result<WindowEnd, D::Error> {
        const ALL: [WindowEnd; 2] = [WindowEnd::Message, WindowEnd::ClosingRecord];
        super::word(d, ALL, end_name, "message or closing-record")
    }
}

fn word<'de, D: serde::Deserializer<'de>, T: Copy, const N: usize>(
    d: D,
    all: [T; N],
    name: impl Fn(T) -> &'static str,
    wanted: &str,
) -> Result<T, D::Error> {
    let word = String::deserialize(d)?;
    all.into_iter().find(|k| name(*k) == word).ok_or_else(|| {
        let shown: String = word.chars().take(80).collect();
        serde::de::Error::custom(format_args!("{shown:?} is not {wanted}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word<T: Serialize>(value: T) -> String {
        match serde_json::to_value(value) {
            Ok(serde_json::Value::String(word)) => word,
            other => panic!("no word: {other:?}"),
        }
    }

    #[test]
    fn a_word_in_the_json_is_the_one_that_people_are_shown() {
        for kind in [
            DisputeKind::Equivocation,
            DisputeKind::FalseReveal,
            DisputeKind::SensorContradiction,
            DisputeKind::UnequalReveals,
        ] {
            assert_eq!(word(kind), kind.as_str());
        }
        for life in [Life::Open, Life::Closing, Life::Closed] {
            assert_eq!(word(life), life.as_str());
        }
        for status in [
            WindowStatus::Open,
            WindowStatus::Certified,
            WindowStatus::Settled,
            WindowStatus::Hole,
        ] {
            assert_eq!(word(status), status.as_str());
        }
        for by in [
            SaidBy::Nodes,
            SaidBy::SecondReading,
            SaidBy::Users,
            SaidBy::Referee,
            SaidBy::Arbiter,
        ] {
            assert_eq!(word(by), by.as_str());
        }
    }

    #[test]
    fn a_resolution_carries_what_it_was_given() {
        for word in ["null", "value", "trap", "abstain", ""] {
            let json = serde_json::to_string(word).expect("plain");
            let kind: ResolvedKind = serde_json::from_str(&json).expect("any word is read");
            assert_eq!(serde_json::to_string(&kind).expect("plain"), json);
            assert_eq!(
                kind.output().map(output_name),
                ["null", "value", "trap"].into_iter().find(|w| *w == word)
            );
        }
    }

    #[test]
    fn outputs_and_ends_are_read_back_and_other_words_are_refused() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Both {
            #[serde(with = "output")]
            kind: OutputKind,
            #[serde(with = "end")]
            end: WindowEnd,
        }
        let json = r#"{"kind":"abstain","end":"closing-record"}"#;
        let both: Both = serde_json::from_str(json).expect("known words");
        assert_eq!(
            both,
            Both {
                kind: OutputKind::Abstain,
                end: WindowEnd::ClosingRecord
            }
        );
        assert_eq!(serde_json::to_string(&both).expect("plain"), json);
        let error = serde_json::from_str::<Both>(r#"{"kind":"maybe","end":"message"}"#);
        let error = error.expect_err("no kind").to_string();
        assert!(
            error.contains("\"maybe\" is not null, value, trap or abstain"),
            "{error}"
        );
    }
}
