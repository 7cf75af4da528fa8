//! What people and metrics want to know; never needed for correctness.

use crate::alloc_prelude::*;
use crate::api::Millis;
use diversity_proto::{AgreementId, NodeId, SensorId};

/// Something that people and metrics want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A window is cut.
    WindowClosed {
        /// `a`.
        agreement: AgreementId,
        /// Which.
        t: u64,
        /// In it.
        messages: u64,
    },
    /// `f` is done.
    Executed {
        /// `a`.
        agreement: AgreementId,
        /// Which.
        t: u64,
    },
    /// All n reveals are equal.
    Certified {
        /// `a`.
        agreement: AgreementId,
        /// Which.
        t: u64,
        /// Of the output.
        kind: u8,
    },
    /// n reveals make t a hole.
    Hole {
        /// `a`.
        agreement: AgreementId,
        /// Which.
        t: u64,
        /// In words.
        reason: String,
    },
    /// Final on chain.
    Settled {
        /// `a`.
        agreement: AgreementId,
        /// First t.
        from: u64,
        /// Last t.
        t: u64,
    },
    /// The users, a second reading, a referee or an arbiter said what counts at t.
    Resolved {
        /// `a`.
        agreement: AgreementId,
        /// Which.
        t: u64,
    },
    /// The leader was silent.
    TakeOver {
        /// `a`.
        agreement: AgreementId,
        /// First undecided t.
        t: u64,
        /// Leaders passed over.
        view: u32,
        /// Who leads now.
        leader: NodeId,
    },
    /// This node says which sensors are still open past the grace (P-HELD-1).
    Held {
        /// `a`.
        agreement: AgreementId,
        /// Which window.
        t: u64,
        /// Open sensors.
        open: usize,
    },
    /// What a sensor says has a time that cannot be; told once until it says one that can.
    WrongTime {
        /// Whose.
        sensor: SensorId,
        /// First q of the frame.
        q: u64,
        /// Unix seconds.
        time: u64,
    },
    /// A peer asked for, or sent, messages of a sensor that is in no agreement in common with it (P-COMMON-2): it got nothing, and
    /// nothing was taken.
    Foreign {
        /// Who.
        node: NodeId,
        /// The first such sensor of what it asked or sent.
        sensor: SensorId,
        /// Whether it asked; else it sent.
        asked: bool,
    },
    /// A sensor contradicted itself.
    Contradiction {
        /// Whose.
        sensor: SensorId,
        /// From where on nothing counts.
        q: u64,
    },
    /// What is to be submitted for the agreement waits for the next day: it has cost this node what it may in a day (P-BUDGET-1).
    GasBudget {
        /// `a`.
        agreement: AgreementId,
        /// Gas of today, what is on its way included.
        used: u64,
    },
    /// A node misbehaved; named only by what it signed, or by what it sent itself.
    Fault {
        /// Who.
        node: NodeId,
        /// `a`.
        agreement: AgreementId,
        /// In words.
        what: String,
    },
    /// This node will sign nothing more for the agreement, and why.
    Halted {
        /// `a`.
        agreement: AgreementId,
        /// In words.
        why: String,
    },
}

/// What an agreement waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Sensors whose part of the open window has not ended.
    pub sensors: Vec<SensorId>,
    /// Sensors among them whose newest message has a time that cannot be: its q and time, Unix seconds. At most
    /// [`crate::api::WRONG_TIMES_MAX`].
    pub wrong_times: Vec<(SensorId, u64, u64)>,
    /// Nodes whose list of what they hold is missing for the open window, once this node has given its own (P-HELD-1).
    pub held: Vec<NodeId>,
    /// Nodes whose list, commit or reveal a second reading of the t that blocks waits for.
    pub reading: Vec<NodeId>,
    /// The t that blocks has its cell, and this node does not hold the state behind it: it asks the other nodes for it (P-CELL-3).
    pub state: bool,
    /// Nodes whose commit or reveal of the first undecided t is missing, once this node has committed.
    pub nodes: Vec<NodeId>,
}

/// What the gas of an agreement is up to today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GasWait {
    /// Submissions that wait for it.
    pub waiting: usize,
    /// Gas of today, what is on its way included.
    pub used: u64,
    /// [`crate::Config::gas_per_day`].
    pub per_day: u64,
    /// When the next day begins, Unix milliseconds.
    pub until: Millis,
}

/// What the core knows of an agreement, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgreementStatus {
    /// First t whose window is not closed.
    pub open_t: u64,
    /// First t whose status is not known.
    pub undecided_t: u64,
    /// First t that the chain has no settlement of.
    pub unsettled_t: u64,
    /// Epoch that the next t is committed under.
    pub epoch: u32,
    /// What it waits for.
    pub waiting: Waiting,
    /// What is to be submitted waits for the gas of another day.
    pub gas: Option<GasWait>,
    /// Unequal states at this t: what counts must be said on chain first.
    pub blocked: Option<u64>,
    /// Why this node signs nothing more.
    pub halted: Option<String>,
    /// No window follows: every sensor is void, or the agreement was closed.
    pub ended: bool,
}
