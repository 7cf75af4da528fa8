//! A block whose events are more than an answer may hold: read transaction by transaction. Anybody can fill a block with log bytes,
//! and what others do in that block must be seen all the same.

use super::types::FromRpc;
use super::{Log, Result, Rpc, RpcError, absent, quantity};
use diversity_proto::{Address, Digest};
use serde_json::{Value, json};

/// The events of one block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BulkyBlock {
    /// Events of the contracts, in order.
    pub logs: Vec<Log>,
    /// Transactions whose events are more than an answer may hold by themselves: of these, only what is indexed by one of the
    /// wanted words is among the events.
    pub skipped: Vec<Digest>,
}

impl RpcError {
    /// Whether an answer may have been larger than this client, or the endpoint, lets it be.
    pub(crate) fn may_be_too_much(&self) -> bool {
        matches!(
            self,
            Self::RangeTooLarge { .. } | Self::Malformed { .. } | Self::Unavailable { .. }
        )
    }
}

impl Rpc {
    /// Events of contracts in one block, without asking for all of them at once. Of a transaction that is too large by itself, the
    /// events whose first or second indexed argument is one of `wanted` are asked for alone.
    ///
    /// # Errors
    /// [`RpcError`]; what is too large is no error.
    pub(crate) async fn bulky_block(
        &self,
        contracts: &[Address],
        number: u64,
        wanted: &[Digest],
    ) -> Result<BulkyBlock> {
        let params = json!([quantity(number), false]);
        let block = absent(self.request("eth_getBlockByNumber", params).await)?;
        let malformed = |message: &str| RpcError::Malformed {
            message: message.into(),
        };
        let block = block.ok_or_else(|| malformed("a block that is gone"))?;
        let listed = block.get("transactions").and_then(Value::as_array);
        let listed = listed.ok_or_else(|| malformed("a block without a list of transactions"))?;
        let mut out = BulkyBlock::default();
        for tx in listed {
            let hash = Digest::from_rpc(tx.clone())?;
            let receipt = self
                .request("eth_getTransactionReceipt", json!([hash.hex()]))
                .await;
            match absent(receipt) {
                Ok(Some(receipt)) => out.logs.extend(of_contracts(receipt, contracts)?),
                Ok(None) => return Err(malformed("a mined transaction without a receipt")),
                Err(error) if error.may_be_too_much() => out.skipped.push(hash),
                Err(error) => return Err(error),
            }
        }
        if !out.skipped.is_empty() && !wanted.is_empty() {
            let found = self.wanted(contracts, number, wanted).await?;
            let skipped = &out.skipped;
            let rescued = found.into_iter().filter(|l| skipped.contains(&l.tx));
            out.logs.extend(rescued);
        }
        out.logs.retain(|l| !l.removed && l.block_number == number);
        out.logs.sort_by_key(|l| l.log_index);
        out.logs.dedup_by_key(|l| l.log_index);
        Ok(out)
    }

    /// Events of one block that are indexed by one of these words.
    async fn wanted(
        &self,
        contracts: &[Address],
        number: u64,
        wanted: &[Digest],
    ) -> Result<Vec<Log>> {
        let addresses: Vec<_> = contracts.iter().map(Address::hex).collect();
        let words: Vec<_> = wanted.iter().map(Digest::hex).collect();
        let mut out = Vec::new();
        for topics in [json!([null, words]), json!([null, null, words])] {
            let filter = json!([{
                "address": addresses,
                "fromBlock": quantity(number),
                "toBlock": quantity(number),
                "topics": topics,
            }]);
            match self.request("eth_getLogs", filter).await {
                Ok(value) => out.extend(Vec::<Log>::from_rpc(value)?),
                // Even that is too much: the transaction is listed as skipped.
                Err(error) if error.may_be_too_much() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(out)
    }
}

fn of_contracts(mut receipt: Value, contracts: &[Address]) -> Result<Vec<Log>> {
    let logs = receipt.get_mut("logs").map_or(Value::Null, Value::take);
    let Value::Array(mut logs) = logs else {
        return Err(RpcError::Malformed {
            message: "a receipt without logs".into(),
        });
    };
    logs.retain(|log| {
        let address = log.get("address").and_then(Value::as_str);
        let address = address.and_then(|a| Address::from_hex(&a.to_lowercase()));
        address.is_some_and(|a| contracts.contains(&a))
    });
    Vec::from_rpc(Value::Array(logs))
}
