//! Log lines and metrics of a node.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use diversity_engine::api::Notice;
use diversity_proto::AgreementId;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, NodeConfig};
use crate::node::registry::SkippedRecord;

/// Windows whose time to the certificate is being measured, at most.
const MEASURED_MAX: usize = 4_096;

/// Sends log lines to standard error as the settings say. A second call changes nothing.
///
/// # Errors
/// What is wrong with the filter.
pub fn init_logging(config: &NodeConfig) -> Result<(), String> {
    let filter = EnvFilter::try_new(&config.log).map_err(|error| {
        format!(
            "log is {:?}: {error}; write it like `info` or `diversity_daemon=debug,info`",
            config.log
        )
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // A log that goes to a file is read without a terminal.
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let set = match config.log_format {
        LogFormat::Human => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    // Only a second subscriber is refused, and the first one goes on.
    drop(set);
    Ok(())
}

type Labelled1 = Family<[(&'static str, String); 1], Counter>;

/// The metrics of a node, in the OpenMetrics text format at `/metrics`.
pub struct Metrics {
    registry: Registry,
    /// Frames taken from the API or from peers, by `source`.
    pub frames: Labelled1,
    /// Frames of API requests that were refused, by `code`.
    pub refused: Labelled1,
    /// Frames of API requests that were taken although a time in them cannot be.
    pub implausible_times: Counter,
    /// Signed acknowledgements.
    pub acknowledgements: Counter,
    /// Jobs that the core waits for.
    pub outstanding: Gauge,
    /// Seconds of one step of the core and its effects.
    pub step_seconds: Histogram,
    /// Seconds to make one batch durable.
    pub persist_seconds: Histogram,
    /// Seconds of one execution, cutting the window included.
    pub execute_seconds: Histogram,
    /// Seconds in `f` alone.
    pub run_seconds: Histogram,
    /// Seconds from a window's end to its certificate.
    pub certificate_seconds: Histogram,
    /// What happened to windows, by `what`.
    pub windows: Labelled1,
    /// Agreements on chain that name this node and that it has not accepted.
    pub not_accepted: Gauge,
    /// Faults of peers.
    pub faults: Counter,
    /// What peers wanted of sensors and topics that they do not share with this node, and did not get, by `what`.
    pub foreign: Labelled1,
    /// Peers connected.
    pub peers: Gauge,
    /// Direct messages to peers that are not known to have arrived.
    pub undelivered: Counter,
    /// Last block seen.
    pub chain_head: Gauge,
    /// Last block whose events are in the store.
    pub chain_cursor: Gauge,
    /// Submissions that wait for the chain.
    pub outbox: Gauge,
    /// Submissions that make no way unless somebody does something.
    pub stuck: Gauge,
    /// Wei on the account that pays gas.
    pub account_balance_wei: Gauge<f64, AtomicU64>,
    /// Own transactions that were mined without effect: lost races, and what the contract refuses.
    pub wasted: Counter,
    /// Their gas.
    pub gas_wasted: Counter,
    /// Whether an RPC endpoint answers, by `endpoint` (scheme, host and port).
    pub endpoint_up: Family<[(&'static str, String); 1], Gauge>,
    /// Its newest block.
    pub endpoint_head: Family<[(&'static str, String); 1], Gauge>,
    /// What became of submissions to the chain, by `what`.
    pub submissions: Labelled1,
    /// Gas of the settlements that this node's agreements saw.
    pub gas_used: Counter,
    /// Gas of what this node itself sent for its agreements.
    pub gas_paid: Counter,
    /// By how many milliseconds this node's clock is ahead, by what it was compared `with`.
    pub clock_ahead_ms: Family<[(&'static str, String); 1], Gauge>,
    /// Entries of the chain that nobody may believe, by `reason`.
    pub chain_skipped: Labelled1,
    /// Requests, by `route` and `status`.
    pub requests: Family<[(&'static str, String); 2], Counter>,
    /// Seconds of a request.
    pub request_seconds: Histogram,
    closed_at: Mutex<BTreeMap<(AgreementId, u64), std::time::Instant>>,
}

impl Default for Metrics {
    fn default() -> Self {
        // 50 microseconds to about 26 s.
        let seconds = || Histogram::new(exponential_buckets(0.000_05, 2.0, 20));
        let mut registry = Registry::with_prefix("diversity");
        macro_rules! metric {
            ($name:ident, $metric:expr, $help:literal) => {
                let $name = $metric;
                registry.register(stringify!($name), $help, $name.clone());
            };
        }
        metric!(frames, Labelled1::default(), "Frames taken, by source");
        metric!(
            refused,
            Labelled1::default(),
            "Frames of API requests that were refused, by code"
        );
        metric!(
            implausible_times,
            Counter::default(),
            "Frames taken from the API although a time in them cannot be"
        );
        metric!(
            acknowledgements,
            Counter::default(),
            "Signed acknowledgements"
        );
        metric!(
            outstanding,
            Gauge::default(),
            "Jobs that the core waits for"
        );
        metric!(
            step_seconds,
            seconds(),
            "One step of the core with its effects"
        );
        metric!(persist_seconds, seconds(), "From a batch to its durability");
        metric!(
            execute_seconds,
            seconds(),
            "One execution, cutting the window included"
        );
        metric!(run_seconds, seconds(), "Time in f alone");
        metric!(
            certificate_seconds,
            seconds(),
            "From the end of a window to its certificate"
        );
        metric!(windows, Labelled1::default(), "What happened to windows");
        metric!(
            not_accepted,
            Gauge::default(),
            "Agreements on chain that name this node and that it has not accepted: nothing is done for them"
        );
        metric!(faults, Counter::default(), "Faults of peers");
        metric!(
            foreign,
            Labelled1::default(),
            "What peers wanted of sensors and topics that they do not share with this node, and did not get"
        );
        metric!(peers, Gauge::default(), "Peers connected");
        metric!(
            undelivered,
            Counter::default(),
            "Direct messages not known to have arrived"
        );
        metric!(chain_head, Gauge::default(), "Last block seen");
        metric!(
            chain_cursor,
            Gauge::default(),
            "Last block whose events are stored"
        );
        metric!(
            outbox,
            Gauge::default(),
            "Submissions that wait for the chain"
        );
        metric!(
            stuck,
            Gauge::default(),
            "Submissions that are refused, cannot be paid, or are accepted and not mined"
        );
        metric!(
            account_balance_wei,
            Gauge::<f64, AtomicU64>::default(),
            "Wei on the account that pays gas"
        );
        metric!(
            wasted,
            Counter::default(),
            "Own transactions that were mined without effect"
        );
        metric!(
            gas_wasted,
            Counter::default(),
            "Gas of own transactions that were mined without effect"
        );
        metric!(
            endpoint_up,
            Family::default(),
            "Whether an RPC endpoint answers"
        );
        metric!(
            endpoint_head,
            Family::default(),
            "Newest block of an RPC endpoint"
        );
        metric!(
            submissions,
            Labelled1::default(),
            "What became of submissions to the chain"
        );
        metric!(gas_used, Counter::default(), "Gas of settlements seen");
        metric!(
            gas_paid,
            Counter::default(),
            "Gas of what this node sent for its agreements"
        );
        metric!(
            clock_ahead_ms,
            Family::default(),
            "By how much this node's clock is ahead of the chain's and the peers', milliseconds"
        );
        metric!(
            chain_skipped,
            Labelled1::default(),
            "Entries of the chain that were skipped, by reason"
        );
        metric!(
            requests,
            Family::default(),
            "HTTP requests, by route and status"
        );
        metric!(request_seconds, seconds(), "HTTP requests");
        Self {
            registry,
            frames,
            refused,
            implausible_times,
            acknowledgements,
            outstanding,
            step_seconds,
            persist_seconds,
            execute_seconds,
            run_seconds,
            certificate_seconds,
            windows,
            not_accepted,
            faults,
            foreign,
            peers,
            undelivered,
            chain_head,
            chain_cursor,
            outbox,
            stuck,
            account_balance_wei,
            wasted,
            gas_wasted,
            endpoint_up,
            endpoint_head,
            submissions,
            gas_used,
            gas_paid,
            clock_ahead_ms,
            chain_skipped,
            requests,
            request_seconds,
            closed_at: Mutex::default(),
        }
    }
}

impl Metrics {
    /// The OpenMetrics text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        encode(&mut out, &self.registry).expect("a string takes everything");
        out
    }

    /// Counts entries of the chain that were skipped. They are listed by `diversity doctor`; in the log only the first of each kind
    /// stands as a warning, since whoever has an account can make any number of them.
    pub fn skipped(&self, records: &[SkippedRecord]) {
        for r in records {
            let reason = r.skipped.refusal.as_str();
            let counted = self
                .chain_skipped
                .get_or_create(&[("reason", reason.into())])
                .inc();
            let words = &r.skipped.words;
            if counted == 0 {
                tracing::warn!(block = r.block, tx = %r.tx, reason, words, "chain.entry_skipped");
            } else {
                tracing::debug!(block = r.block, tx = %r.tx, reason, words, "chain.entry_skipped");
            }
        }
    }

    /// Counts what became of a submission.
    pub fn submissions(&self, what: &str) {
        self.submissions
            .get_or_create(&[("what", what.into())])
            .inc();
    }

    /// A peer wanted something that it does not share with this node.
    pub fn foreign(&self, what: &str) {
        self.foreign.get_or_create(&[("what", what.into())]).inc();
    }

    /// Counts a notice of the core and writes its log line: one unit of work is one (agreement, t).
    pub fn notice(&self, notice: &Notice) {
        let count = |what: &str| {
            self.windows.get_or_create(&[("what", what.into())]).inc();
        };
        match notice {
            Notice::WindowClosed {
                agreement,
                t,
                messages,
            } => {
                count("closed");
                self.measure(*agreement, *t);
                tracing::debug!(agreement = %agreement, t, messages, "window.closed");
            }
            Notice::Executed { agreement, t } => {
                count("executed");
                tracing::debug!(agreement = %agreement, t, "window.executed");
            }
            Notice::Certified { agreement, t, kind } => {
                count("certified");
                if let Some(since) = self.measured(agreement, *t) {
                    self.certificate_seconds
                        .observe(since.elapsed().as_secs_f64());
                }
                tracing::info!(agreement = %agreement, t, kind, "round.certified");
            }
            Notice::Hole {
                agreement,
                t,
                reason,
            } => {
                count("hole");
                self.measured(agreement, *t);
                tracing::warn!(agreement = %agreement, t, reason, "round.hole");
            }
            Notice::Settled { agreement, from, t } => {
                count("settled");
                tracing::info!(agreement = %agreement, from, t, "chain.settled");
            }
            Notice::Resolved { agreement, t } => {
                count("resolved");
                tracing::info!(agreement = %agreement, t, "chain.resolved");
            }
            Notice::Held { agreement, t, open } => {
                count("held");
                tracing::info!(agreement = %agreement, t, open, "window.held");
            }
            Notice::Foreign {
                node,
                sensor,
                asked,
            } => {
                self.foreign(if *asked { "asked" } else { "sent" });
                // A peer may do so thousands of times a second.
                tracing::debug!(node = %node, sensor = %sensor, asked, "peer.foreign_sensor");
            }
            Notice::Contradiction { sensor, q } => {
                tracing::warn!(sensor = %sensor, q, "sensor.contradicts_itself");
            }
            Notice::WrongTime { sensor, q, time } => {
                tracing::warn!(sensor = %sensor, q, time, "sensor.implausible_time");
            }
            Notice::GasBudget { agreement, used } => {
                count("gas_budget");
                tracing::warn!(agreement = %agreement, used, "chain.gas_budget");
            }
            Notice::TakeOver {
                agreement,
                t,
                view,
                leader,
            } => {
                count("taken_over");
                tracing::info!(agreement = %agreement, t, view, leader = %leader, "round.take_over");
            }
            Notice::Fault {
                node,
                agreement,
                what,
            } => {
                self.faults.inc();
                tracing::warn!(agreement = %agreement, node = %node, what, "peer.fault");
            }
            Notice::Halted { agreement, why } => {
                count("halted");
                tracing::error!(agreement = %agreement, why, "agreement.halted");
            }
        }
    }

    fn measure(&self, a: AgreementId, t: u64) {
        let mut open = self
            .closed_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if open.len() < MEASURED_MAX {
            open.insert((a, t), std::time::Instant::now());
        }
    }

    fn measured(&self, a: &AgreementId, t: u64) -> Option<std::time::Instant> {
        self.closed_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&(*a, t))
    }
}
