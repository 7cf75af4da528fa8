//! What happened, as one hash and, on demand, as text.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

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
            let text = text();
            let who = if node == usize::MAX {
                "world".into()
            } else {
                format!("node {node}")
            };
            println!("{:>9} {who:<7} {text}", now as i64 - self.start as i64);
        }
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
