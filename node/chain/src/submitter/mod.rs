//! The durable outbox: what this node sends to the chain.
//!
//! [`Submitter`] is the core: no IO, no clock, no randomness, `step(now, input) -> effects`. Effects are executed in
//! order, and what follows a [`Effect::Persist`] only once that is durable; so signed bytes are on disk before they leave
//! (R2), and a nonce is never signed for two payloads. [`Outbox`] is the loop around it.
//!
//! The chain may be dead for any time, forget its pool, lose blocks, or take transactions that it never mines: identical
//! bytes are sent again until there is a receipt. What was mined is kept for some blocks more, and sent again if the
//! chain loses them.

mod core;
mod driver;
mod outcome;
mod pump;
mod record;
mod sign;
mod standing;

pub use self::core::{LoadError, Submitter};
pub use driver::{Delivered, Journal, JournalError, Outbox, OutboxError, OutboxSettings};
pub use record::{DATA_BYTES_MAX, LABEL_BYTES_MAX};

use crate::fees::FeePolicy;
use crate::goal::Goal;
use crate::rpc::{Block, Call, Receipt, RpcError};
use diversity_proto::{Address, AgreementId, Digest};

/// What is to be done on the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Chosen by the caller; the same id again is the same submission.
    pub id: Digest,
    /// For people, such as `settle t = 3 of 0x12…`.
    pub label: String,
    /// Contract; none for a deployment.
    pub to: Option<Address>,
    /// Calldata.
    pub data: Vec<u8>,
    /// How long something else may be missing (a user that is not registered yet, an earlier t that has not settled)
    /// before it is given up. If none, it is owed: it is tried until it is mined, or the chain's state says that its goal
    /// is reached.
    pub patience_ms: Option<u64>,
    /// What it is for. Only if the chain says that this is so already is the submission dropped as pointless.
    pub goal: Option<Goal>,
    /// Its place in a row of submissions that stand on one another.
    pub row: Option<Row>,
}

/// A settlement in a row: it is signed, with the next nonce, while the one right before it is still on its way, so that a
/// block takes several. Nothing is asked of the chain then, which would not know yet what it stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Whose row.
    pub agreement: AgreementId,
    /// First t that it settles.
    pub from: u64,
    /// Last t.
    pub t: u64,
    /// Gas that it takes at most.
    pub gas: u64,
}

/// How a submission ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Mined, with effect.
    Mined {
        /// Which of the signed versions.
        tx: Digest,
        /// Gas.
        gas_used: u64,
        /// Where.
        block: u64,
        /// Address of what was deployed.
        contract: Option<Address>,
    },
    /// The contract refuses it.
    Reverted {
        /// The contract's error, such as `BadSignature`; may be empty.
        name: String,
        /// The same in words.
        words: String,
        /// Transaction, gas used and block, if it went as far; otherwise it never was sent.
        mined: Option<(Digest, u64, u64)>,
    },
    /// What it wanted is so already, or can never be: it was dropped.
    Pointless {
        /// Why.
        reason: String,
    },
    /// It was reported as mined, then the chain lost that block, and it failed when it was sent again: decide anew.
    Undone {
        /// Why.
        reason: String,
    },
}

/// Settings of the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubmitterConfig {
    /// Most transactions without a receipt. Besu's sequenced pool takes about 5 of one sender.
    pub in_flight_max: usize,
    /// Most submissions that have not ended.
    pub queue_max: usize,
    /// Blocks on top of a transaction before it counts as mined; 0 on QBFT, whose blocks are final.
    pub confirmations: u64,
    /// How long until identical bytes are sent again, milliseconds.
    pub rebroadcast_ms: u64,
    /// How long until something that had to wait is tried again without a new block, milliseconds.
    pub recheck_ms: u64,
    /// How long until something owed that the contract refuses as wrong is tried again, milliseconds.
    pub refused_ms: u64,
    /// How long until a transaction that has become too cheap is replaced, milliseconds.
    pub replace_after_ms: u64,
    /// How many blocks may pass a transaction that was accepted before that is called a problem.
    pub stuck_blocks: u64,
    /// How many blocks what was mined is kept, in case the chain loses it.
    pub retain_blocks: u64,
    /// Fees.
    pub fees: FeePolicy,
}

impl Default for SubmitterConfig {
    fn default() -> Self {
        Self {
            in_flight_max: 4,
            queue_max: 10_000,
            confirmations: 0,
            rebroadcast_ms: 5_000,
            recheck_ms: 5_000,
            refused_ms: 60_000,
            replace_after_ms: 60_000,
            stuck_blocks: 10,
            retain_blocks: 1_024,
            fees: FeePolicy::default(),
        }
    }
}

/// What simulating a call gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precheck {
    /// It works, with this much gas.
    Gas(u64),
    /// There is no contract at the address.
    NoCode,
    /// It does not work, or could not be asked.
    Error(RpcError),
}

/// What happens to the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A new submission.
    Submit(Submission),
    /// The caller has dealt with the report of this id.
    Acknowledge(Digest),
    /// Everything of the agreement up to t is final: what is not signed yet of it is not wanted any more.
    Retire {
        /// `a`.
        agreement: AgreementId,
        /// Last t.
        t: u64,
    },
    /// The newest block, and `eth_gasPrice` where the chain is before London.
    Head {
        /// Newest block.
        block: Block,
        /// Wei.
        suggested: Option<u128>,
        /// It does not stand on the head before it. Where it is the next block, or no higher, its hashes say so by themselves.
        rewound: bool,
    },
    /// The account at the newest block.
    Account {
        /// Transactions mined so far.
        nonce: u64,
        /// Wei.
        balance: u128,
    },
    /// Answer to [`Effect::Precheck`].
    Prechecked {
        /// Which.
        seq: u64,
        /// What came of it.
        outcome: Precheck,
    },
    /// Answer to [`Effect::Confirm`].
    Confirmed {
        /// Which.
        seq: u64,
        /// Why its goal is reached, in words; none while it is not; or why the chain could not be asked.
        outcome: Result<Option<String>, String>,
    },
    /// Answer to [`Effect::Send`].
    Sent {
        /// Which.
        seq: u64,
        /// Which version.
        tx: Digest,
        /// What the endpoints said.
        outcome: Result<(), RpcError>,
    },
    /// Answer to [`Effect::QueryReceipt`].
    Receipt {
        /// Which.
        seq: u64,
        /// None while it is not mined.
        outcome: Result<Option<Receipt>, RpcError>,
    },
    /// Answer to [`Effect::Replay`].
    Replayed {
        /// Which.
        seq: u64,
        /// Of the call that reverted when it was mined.
        outcome: Result<Vec<u8>, RpcError>,
    },
    /// No endpoint answers; in words.
    Trouble(String),
    /// Time has passed.
    Tick,
}

/// What the outbox wants done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make this durable before anything that follows.
    Persist {
        /// Key.
        key: Vec<u8>,
        /// Value.
        value: Vec<u8>,
    },
    /// Forget this.
    Delete {
        /// Key.
        key: Vec<u8>,
    },
    /// Ask the chain whether the call works and what gas it needs.
    Precheck {
        /// Which.
        seq: u64,
        /// The call.
        call: Call,
    },
    /// Ask the chain's state whether the goal is reached.
    Confirm {
        /// Which.
        seq: u64,
        /// Its goal.
        goal: Goal,
    },
    /// Send signed bytes.
    Send {
        /// Which.
        seq: u64,
        /// Hash.
        tx: Digest,
        /// Bytes.
        raw: Vec<u8>,
        /// To every endpoint, since one alone has not helped.
        all: bool,
    },
    /// Look for a receipt of any of these, which share a nonce.
    QueryReceipt {
        /// Which.
        seq: u64,
        /// Newest version first.
        txs: Vec<Digest>,
    },
    /// Look at the account.
    QueryAccount,
    /// Find out why a mined transaction reverted.
    Replay {
        /// Which.
        seq: u64,
        /// The call.
        call: Call,
        /// State after this block.
        block: u64,
        /// Gas limit of the transaction.
        gas: u64,
    },
    /// Tell people: a transaction was mined without effect, since another one had the same effect first, or since the
    /// contract refuses it.
    Wasted {
        /// The caller's label.
        label: String,
        /// Transaction.
        tx: Digest,
        /// Gas that it has cost.
        gas_used: u64,
        /// What the contract said.
        why: String,
    },
    /// Tell the caller.
    Deliver {
        /// Its id.
        id: Digest,
        /// How it ended.
        report: Report,
        /// The agreement that it is owed for: none of what the node only relays, and of what belongs to none.
        owed_for: Option<AgreementId>,
        /// Gas of all its transactions, those without effect included. None where that was told before.
        gas: u64,
    },
    /// A submission was not taken.
    Refuse {
        /// Its id.
        id: Digest,
        /// Why.
        reason: String,
    },
}

/// State of the outbox, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Who pays.
    pub account: Option<Address>,
    /// Wei, when last asked.
    pub balance: Option<u128>,
    /// Most that a unit of gas would cost now, wei.
    pub gas_price: Option<u128>,
    /// Newest block.
    pub head: Option<u64>,
    /// Why nothing moves, in words: a dead chain, another chain, lost blocks.
    pub trouble: Option<String>,
    /// Transactions without a receipt.
    pub in_flight: usize,
    /// Submissions without a nonce.
    pub queued: usize,
    /// Transactions that were mined without effect since the start.
    pub wasted: u64,
    /// Their gas.
    pub wasted_gas: u64,
    /// The first of those that have not ended, and what each waits for; those that are stuck before the others.
    pub waiting: Vec<Waiting>,
}

/// One submission that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The caller's id.
    pub id: Digest,
    /// The caller's label.
    pub label: String,
    /// Which agreement it is about, if it is about one.
    pub agreement: Option<AgreementId>,
    /// Unix milliseconds.
    pub since: u64,
    /// It makes no way unless somebody does what `why` says.
    pub stuck: bool,
    /// It is the contract that refuses it: a matter of this submission, and not of the account or the chain.
    pub by_contract: bool,
    /// In words.
    pub why: String,
}

/// Most entries of [`Status::waiting`].
pub const WAITING_SHOWN_MAX: usize = 100;
