//! How the rest of the node sees the chain.

use diversity_chain::goal::Goal;
use diversity_proto::{AgreementId, Digest, UserId};
use futures::future::BoxFuture;

/// A submission that makes no way unless somebody does something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// What it is, for people.
    pub label: String,
    /// Which agreement it is about, if it is about one.
    pub agreement: Option<AgreementId>,
    /// Why, and what to do.
    pub why: String,
    /// It is the contract that refuses it: that concerns this submission alone, and keeps the node from nothing else.
    pub by_contract: bool,
}

/// How the chain is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainView {
    /// Why it cannot be reached, in words; none while it can.
    pub trouble: Option<String>,
    /// Since when, Unix milliseconds.
    pub trouble_since_ms: Option<u64>,
    /// Submissions that are refused, cannot be paid, or were accepted and are not mined.
    pub stuck: Vec<Stuck>,
    /// What does not stop the node and is worth knowing: endpoints that fail or lag, an account that is nearly empty.
    pub warnings: Vec<String>,
    /// How long the head of this chain may stand still before that is odd, milliseconds; none while that is not known.
    pub stall_after_ms: Option<u64>,
    /// Newest block.
    pub head: Option<u64>,
    /// When the newest block was first seen, Unix milliseconds.
    pub head_at_ms: u64,
    /// When the chain answered last, Unix milliseconds.
    pub looked_at_ms: Option<u64>,
    /// Last block whose events are taken in.
    pub processed: Option<u64>,
    /// Wei on the account that pays gas.
    pub balance: u128,
    /// Submissions that wait.
    pub outbox: u64,
}

/// A mined call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mined {
    /// Transaction.
    pub tx: Digest,
    /// Block.
    pub block: u64,
}

/// Why a call was not mined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayError {
    /// The contract refuses it.
    #[error("the contract refuses it: {name}: {words}")]
    Reverted {
        /// The contract's error.
        name: String,
        /// The same in words.
        words: String,
    },
    /// What it wanted is so already, or can never be.
    #[error("{0}")]
    Pointless(String),
    /// It cannot be sent now.
    #[error("{0}")]
    Unavailable(String),
}

/// A call that somebody else has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// For people.
    pub label: String,
    /// Calldata.
    pub data: Vec<u8>,
    /// Whether it goes to `Cells`; otherwise to `MainContract`.
    pub to_cells: bool,
    /// What it is for: only the chain's state says that it is so already.
    pub goal: Option<Goal>,
}

/// Sends calls to the contracts.
pub trait Chain: Send + Sync + 'static {
    /// Has a call mined. It is kept durably first: it goes on when the caller goes away.
    fn relay(&self, call: Relayed) -> BoxFuture<'static, Result<Mined, RelayError>>;

    /// How many entities stand registered of a user, as the contract counts them; 0 for a user that is not registered.
    fn registered(&self, user: UserId) -> BoxFuture<'static, Result<u64, RelayError>>;
}
