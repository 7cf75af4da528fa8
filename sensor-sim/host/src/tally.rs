//! How a replay fares: counted in one place, shown as progress, and watched for a standstill.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The summary: the last line of `--json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The agreement, or null where there is none (`--offline`).
    pub agreement: Option<String>,
    /// Messages of the replay that went to nodes, heartbeats included, also in earlier runs of the same replay.
    pub sent: u64,
    /// Heartbeats among them.
    pub heartbeats: u64,
    /// Messages that nodes of every user have acknowledged.
    pub acknowledged: u64,
    /// Frames that had to be sent again.
    pub retried: u64,
    /// Messages that were sent and that no node of some user holds in the end: 0, or something is wrong.
    pub lost: u64,
    /// Months that are settled and visible from every live node.
    pub settled: u64,
    /// Months that are disputed instead, on any of them.
    pub disputed: u64,
    /// Wall time.
    pub seconds: f64,
}

/// Counters and bars.
pub struct Tally {
    started: Instant,
    moved: Mutex<Instant>,
    retried: AtomicU64,
    messages: ProgressBar,
    months: ProgressBar,
    bars: MultiProgress,
    terminal: bool,
}

impl Tally {
    /// For so many messages and months. Bars are drawn on stderr, if it is a terminal; else months are told line by line.
    pub fn new(messages: u64, months: u64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bars = MultiProgress::with_draw_target(if terminal {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        });
        let bar = |name: &'static str, length| {
            let style = "{prefix:>12} [{bar:40}] {human_pos} of {human_len} {msg}";
            let style = ProgressStyle::with_template(style).expect("a valid template");
            bars.add(ProgressBar::new(length))
                .with_style(style.progress_chars("=> "))
                .with_prefix(name)
        };
        let now = Instant::now();
        Self {
            started: now,
            moved: Mutex::new(now),
            retried: AtomicU64::new(0),
            messages: bar("acknowledged", messages),
            months: bar("settled", months),
            bars,
            terminal,
        }
    }

    /// A line for people.
    pub fn say(&self, text: impl AsRef<str>) {
        if self.terminal {
            // It fails only if the terminal is gone, and then nobody reads it.
            let _ = self.bars.println(text);
        } else {
            eprintln!("{}", text.as_ref());
        }
    }

    /// Something went forward.
    pub fn moved(&self) {
        *self.moved.lock().expect("no panic while locked") = Instant::now();
    }

    /// How long nothing has gone forward.
    pub fn still_for(&self) -> Duration {
        self.moved.lock().expect("no panic while locked").elapsed()
    }

    /// Messages that all users' nodes hold.
    pub fn acknowledged(&self, total: u64) {
        self.messages.set_position(total);
        self.moved();
    }

    /// Frames that are sent again.
    pub fn retried(&self, frames: u64) {
        self.retried.fetch_add(frames, Ordering::Relaxed);
    }

    /// How many frames were sent again.
    pub fn retries(&self) -> u64 {
        self.retried.load(Ordering::Relaxed)
    }

    /// The months up to this one are settled (or disputed) on every live node.
    pub fn settled(&self, count: u64, name: &str) {
        if count > self.months.position() {
            self.months.set_position(count);
            if !self.terminal {
                eprintln!(
                    "final: {name} ({count} of {})",
                    self.months.length().unwrap_or(count)
                );
            }
        }
        self.months.set_message(name.to_string());
    }

    /// Wall time so far.
    pub fn seconds(&self) -> f64 {
        (self.started.elapsed().as_secs_f64() * 1_000.0).round() / 1_000.0
    }

    /// No more bars.
    pub fn finish(&self) {
        self.messages.finish();
        self.months.finish();
    }
}
