//! What a block's own header says of the events in it. An endpoint whose index of events lags behind its blocks, or that leaves events
//! out, answers `eth_getLogs` with too little and no error; the header's bloom filter (yellow paper §4.3.1) tells.

use super::{Result, Rpc, RpcError, absent, quantity};
use diversity_proto::Address;
use diversity_proto::domain::keccak_raw;
use serde_json::{Value, json};

/// Bytes of a bloom filter.
const BLOOM: usize = 256;

impl Rpc {
    /// Whether a block may hold events of one of these contracts. Another contract's events may look like it; a block that holds some
    /// is never missed. Chains that keep no filter in their headers (all of it zero) say no.
    ///
    /// # Errors
    /// [`RpcError`], also where the block is gone.
    pub(crate) async fn may_hold_events(&self, contracts: &[Address], number: u64) -> Result<bool> {
        let params = json!([quantity(number), false]);
        let block = absent(self.request("eth_getBlockByNumber", params).await)?;
        let block = block.ok_or(RpcError::UnknownBlock {
            message: format!("block {number} is gone"),
        })?;
        let bloom = block.get("logsBloom").and_then(Value::as_str);
        let Some(bloom) = bloom.and_then(|hex| alloy::primitives::hex::decode(hex).ok()) else {
            return Ok(false);
        };
        Ok(bloom.len() == BLOOM && contracts.iter().any(|c| contains(&bloom, c)))
    }
}

/// Whether the filter has the three bits of an address.
fn contains(bloom: &[u8], address: &Address) -> bool {
    let hash = keccak_raw(&address.0);
    hash.chunks_exact(2).take(3).all(|pair| {
        let bit = usize::from(u16::from_be_bytes([pair[0], pair[1]]) & 0x7ff);
        bloom[BLOOM - 1 - bit / 8] >> (bit % 8) & 1 == 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_what_was_put_into_it() {
        let (ours, other) = (Address([0xcc; 20]), Address([0xdd; 20]));
        let mut filter = alloy::primitives::Bloom::ZERO;
        assert!(!contains(filter.as_slice(), &ours));
        filter.accrue(alloy::primitives::BloomInput::Raw(&ours.0));
        assert!(contains(filter.as_slice(), &ours));
        assert!(!contains(filter.as_slice(), &other));
    }
}
