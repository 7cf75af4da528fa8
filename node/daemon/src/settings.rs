//! Settings that are more than a number or a text.

use std::fmt;
use std::str::FromStr;

use diversity_chain::rpc::{shown, split};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// URLs of RPC endpoints. A comma parts two of them only where another URL begins after it, since a password may hold commas;
/// and none of them is ever printed with user, password, path or query.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
pub struct Urls(pub Vec<String>);

impl std::ops::Deref for Urls {
    type Target = [String];
    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Debug for Urls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|u| shown(u)))
            .finish()
    }
}

impl FromStr for Urls {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(split(text)))
    }
}

impl<'de> Deserialize<'de> for Urls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            One(String),
            Many(Vec<String>),
        }
        // The words of the derived error would quote what was given.
        match Form::deserialize(deserializer) {
            Ok(Form::One(text)) => Ok(Self(split(&text))),
            Ok(Form::Many(items)) => Ok(Self(items)),
            Err(_) => Err(serde::de::Error::custom(
                "a URL, or a list of URLs, is wanted",
            )),
        }
    }
}

/// How long the head of the chain may stand still before that is reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stall {
    /// As the chain's own pauses say ([`crate::node`] looks at its empty blocks); never where it makes no empty blocks.
    #[default]
    Auto,
    /// Seconds; 0 never.
    After(u64),
}

impl FromStr for Stall {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            seconds => seconds
                .parse()
                .map(Self::After)
                .map_err(|_| "give `auto`, or a number of seconds (0 never)".into()),
        }
    }
}

impl Serialize for Stall {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::After(seconds) => serializer.serialize_u64(*seconds),
        }
    }
}

impl<'de> Deserialize<'de> for Stall {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Seconds(u64),
            Word(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Seconds(seconds) => Ok(Self::After(seconds)),
            Form::Word(word) => word.parse().map_err(serde::de::Error::custom),
        }
    }
}
