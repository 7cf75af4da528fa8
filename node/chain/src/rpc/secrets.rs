//! What of a URL may be shown, and what must not be.
//!
//! User, password, path and query of an endpoint's URL are secrets: providers put keys into any of them. Scheme, host and
//! port name the endpoint to people. Endpoints repeat what they were asked ("no project with id …"), so their words are
//! searched for the secrets before they are kept.

use reqwest::Url;

/// Shorter parts of a path or query are words such as `v3`, and no secrets.
const SECRET_CHARS_MIN: usize = 5;

/// What stands in place of a secret.
const HIDDEN: &str = "[hidden]";

/// The parts of one endpoint's URL and token that are never shown.
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// Those of a URL.
    pub fn of(url: &Url) -> Self {
        let mut found = Vec::new();
        let mut add = |text: &str, chars_min: usize| {
            for form in [text.to_owned(), decoded(text)] {
                if form.chars().count() >= chars_min {
                    found.push(form);
                }
            }
        };
        add(url.username(), 2);
        add(url.password().unwrap_or_default(), 2);
        add(url.path(), SECRET_CHARS_MIN);
        for part in url.path().split('/') {
            add(part, SECRET_CHARS_MIN);
        }
        let query = url.query().unwrap_or_default();
        add(query, SECRET_CHARS_MIN);
        for (key, value) in url.query_pairs() {
            add(&key, SECRET_CHARS_MIN);
            add(&value, SECRET_CHARS_MIN);
        }
        // A longer one first, so that none is left in pieces.
        found.sort_by_key(|s| std::cmp::Reverse(s.len()));
        found.dedup();
        Self(found)
    }

    /// The same words without the secrets, nor `token`.
    pub fn scrub(&self, words: &str, token: Option<&str>) -> String {
        let all = self.0.iter().map(String::as_str).chain(token);
        all.filter(|secret| !secret.is_empty())
            .fold(words.to_owned(), |words, secret| {
                words.replace(secret, HIDDEN)
            })
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = |b: u8| char::from(b).to_digit(16);
        match (first, after) {
            (b'%', [high, low, after @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                let byte = hex(*high).unwrap_or(0) * 16 + hex(*low).unwrap_or(0);
                bytes.push(byte as u8);
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Scheme, host and port of a URL: what may be shown of it. Other text gives only that it is no URL.
pub fn shown(url: &str) -> String {
    Url::parse(url).map_or_else(|_| "(not a URL)".into(), |url| name(&url))
}

pub(super) fn name(url: &Url) -> String {
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    match url.host_str() {
        Some(host) => format!("{}://{host}{port}", url.scheme()),
        // `user:password@host` reads as a scheme and a path.
        None => "(a URL without a host)".into(),
    }
}

/// Takes a list of URLs apart. A comma ends a URL only where another one begins after it: passwords, paths and queries
/// may hold commas.
pub fn split(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for piece in text.split(',') {
        let begins = piece
            .trim_start()
            .split_once("://")
            .is_some_and(|(scheme, _)| {
                scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                    && scheme
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
            });
        match out.last_mut() {
            Some(last) if !begins => {
                last.push(',');
                last.push_str(piece);
            }
            _ => out.push(piece.to_owned()),
        }
    }
    out.iter()
        .map(|url| url.trim().trim_end_matches([',', ' ']).trim().to_owned())
        .filter(|url| !url.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_parts_urls_only_where_another_one_begins() {
        for (text, want) in [
            ("http://a", vec!["http://a"]),
            ("http://a,http://b", vec!["http://a", "http://b"]),
            (" http://a , https://b, ", vec!["http://a", "https://b"]),
            (
                "https://u:pa,ss@a/x,y?k=1,2,http://b",
                vec!["https://u:pa,ss@a/x,y?k=1,2", "http://b"],
            ),
            (
                "localhost:8545,http://b",
                vec!["localhost:8545", "http://b"],
            ),
            ("", vec![]),
            (" , ", vec![]),
        ] {
            assert_eq!(split(text), want, "{text}");
        }
    }

    #[test]
    fn words_lose_every_part_that_may_be_a_secret() {
        let url = Url::parse("https://us%2Cer:pa%20ss@rpc.example:8/v3/0123abcd?apikey=f00dbabe")
            .unwrap();
        let said = "no project 0123abcd (key f00dbabe, user us,er:pa ss, us%2Cer, /v3/0123abcd?apikey=f00dbabe) of t0ken";
        let shown = Secrets::of(&url).scrub(said, Some("t0ken"));
        for secret in [
            "0123abcd", "f00dbabe", "us,er", "us%2Cer", "pa ss", "t0ken", "apikey",
        ] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.starts_with("no project [hidden]"), "{shown}");
        assert_eq!(name(&url), "https://rpc.example:8");
    }
}
