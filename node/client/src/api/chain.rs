//! What a node makes of the chain.

use crate::hexed;
use diversity_proto::Digest;
use serde::{Deserialize, Serialize};

/// An entry of the chain that the node does not believe: it is skipped and changes nothing. Anybody with an account can make
/// some.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedView {
    /// Block.
    pub block: u64,
    /// Place of its log in the block.
    pub log_index: u64,
    /// Transaction.
    #[serde(with = "hexed")]
    pub tx: Digest,
    /// Why, as the metric `diversity_chain_skipped_total` names it.
    pub reason: String,
    /// Why, in words.
    pub detail: String,
}
