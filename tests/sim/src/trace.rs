//! What happened, as one hash and, on demand, as text.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io::Write;

/// Fingerprint of a run, and its text when asked for.
#[derive(Debug)]
pub struct Trace {
    hash: DefaultHasher,
    start: u64,
    print: bool,
    /// Things noted so far.
    pub events: u64,
}

impl Trace {
    /// A trace that counts time from `start`, milliseconds.
    pub fn new(start: u64, print: bool) -> Self {
        Self {
            hash: DefaultHasher::new(),
            start,
            print,
            events: 0,
        }
    }
    /// Notes one thing: `data` goes into the hash, `text` is only made when it is printed.
    pub fn note(&mut self, now: u64, node: usize, data: impl Hash, text: impl FnOnce() -> String) {
        self.events += 1;
        (now, node, data).hash(&mut self.hash);
        if self.print {
            self.say(now, node, &text());
        }
    }
    /// Prints a line that is no part of the fingerprint, if anything is printed.
    pub fn say(&self, now: u64, node: usize, text: &str) {
        if !self.print {
            return;
        }
        let who = if node == usize::MAX {
            "world".into()
        } else {
            format!("node {node}")
        };
        let at = now as i64 - self.start as i64;
        // Whoever reads may stop before the end.
        let _ = writeln!(std::io::stdout(), "{at:>9} {who:<7} {text}");
    }
    /// Adds to the fingerprint alone.
    pub fn data(&mut self, data: &[u8]) {
        data.hash(&mut self.hash);
    }
    /// Whether text is wanted.
    pub fn prints(&self) -> bool {
        self.print
    }
    /// The fingerprint so far.
    pub fn fingerprint(&self) -> u64 {
        self.hash.finish()
    }
}
