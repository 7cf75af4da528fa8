//! `eth_getLogs` over a range that each endpoint limits in its own way: blocks, results, bytes or time, in its own words.

use super::endpoint::Endpoint;
use super::types::FromRpc;
use super::{Log, Result, Rpc, RpcError, join, quantity};
use diversity_proto::Address;
use serde_json::{Value, json};

/// Blocks in one `eth_getLogs` until an endpoint says otherwise (Besu's default limit).
pub const LOG_RANGE: u64 = 5_000;

impl Rpc {
    /// Events of contracts in `from..=to`, in order. The range is halved for an endpoint that refuses it, whatever it says;
    /// what it allows is remembered, and grows again after answers. The last block that was really covered is returned with
    /// the events.
    pub async fn logs(&self, contracts: &[Address], from: u64, to: u64) -> Result<(Vec<Log>, u64)> {
        self.logs_of(contracts, &Value::Null, from, to).await
    }

    /// The same of those whose indexed arguments are these: `topics` as `eth_getLogs` takes it, `null` for all.
    pub(crate) async fn logs_of(
        &self,
        contracts: &[Address],
        topics: &Value,
        from: u64,
        to: u64,
    ) -> Result<(Vec<Log>, u64)> {
        let mut errors = Vec::new();
        for endpoint in self.order() {
            // Never beyond this endpoint's own head: an error since Besu 26.1, silently less before.
            let head = match self.head_of(endpoint).await {
                Ok((block, _)) => block.number,
                Err(error) => {
                    errors.push((endpoint.name.clone(), error));
                    continue;
                }
            };
            if head < from {
                let error = RpcError::BeyondHead {
                    message: format!("its head is {head}, block {from} is wanted"),
                };
                errors.push((endpoint.name.clone(), error));
                continue;
            }
            match self
                .logs_from(endpoint, contracts, topics, from, to.min(head))
                .await
            {
                Ok(out) => return Ok(out),
                Err(error) => errors.push((endpoint.name.clone(), error)),
            }
        }
        Err(join(errors))
    }

    async fn logs_from(
        &self,
        endpoint: &Endpoint,
        contracts: &[Address],
        topics: &Value,
        from: u64,
        to: u64,
    ) -> Result<(Vec<Log>, u64)> {
        let addresses: Vec<_> = contracts.iter().map(Address::hex).collect();
        let mut span = (to - from + 1).min(endpoint.log_range(LOG_RANGE));
        loop {
            let last = from + span - 1;
            let mut filter = json!({
                "address": addresses,
                "fromBlock": quantity(from),
                "toBlock": quantity(last),
            });
            if !topics.is_null() {
                filter["topics"] = topics.clone();
            }
            let filter = json!([filter]);
            let answer = self.ask(endpoint, "eth_getLogs", &filter).await;
            match answer.and_then(Vec::<Log>::from_rpc) {
                Ok(mut logs) => {
                    endpoint.log_range_answered(span, LOG_RANGE);
                    logs.retain(|l| !l.removed && (from..=last).contains(&l.block_number));
                    logs.sort_by_key(|l| (l.block_number, l.log_index));
                    logs.dedup_by_key(|l| (l.block_hash, l.log_index));
                    return Ok((logs, last));
                }
                Err(error) if span > 1 && error.may_be_the_range() => {
                    endpoint.log_range_refused(span);
                    span /= 2;
                }
                Err(error) => {
                    // It took too long: the next time with fewer.
                    if span > 1 && matches!(error, RpcError::Transient { .. }) {
                        endpoint.log_range_refused(span);
                    }
                    return Err(error);
                }
            }
        }
    }
}
