//! What the chain itself says, without asking a node.

use crate::locks::deployment;
use crate::{E2eError, Result};
use diversity_chain::events::{self, ChainEvent};
use diversity_chain::fees::FeePolicy;
use diversity_chain::rpc::{Call, Log, Receipt, Rpc, RpcConfig};
use diversity_chain::{Account, Unsigned};
use diversity_client::devnet::Devnet;
use diversity_keys::SecretKey;
use diversity_proto::{AgreementId, Digest};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a transaction may take to be mined.
const MINED_WITHIN: Duration = Duration::from_secs(30);
/// How often its receipt is asked for.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A client of a devnet's chain.
///
/// # Errors
/// [`E2eError::Chain`].
pub fn client(devnet: &Devnet) -> Result<Rpc> {
    let mut config = RpcConfig::new([devnet.chain.rpc_url.clone()]);
    config.chain_id = Some(devnet.chain.chain_id);
    Ok(Rpc::new(&config)?)
}

/// Every event of the contracts, decoded.
///
/// # Errors
/// [`E2eError::Chain`].
pub async fn all_events(devnet: &Devnet) -> Result<Vec<ChainEvent>> {
    events_since(devnet, 0).await
}

async fn events_since(devnet: &Devnet, first: u64) -> Result<Vec<ChainEvent>> {
    let rpc = client(devnet)?;
    let contracts = [devnet.contracts.main, devnet.contracts.cells];
    let head = rpc.head().await?.number;
    let (mut logs, mut from): (Vec<Log>, u64) = (Vec::new(), first);
    while from <= head {
        let (mut some, last) = rpc.logs(&contracts, from, head).await?;
        logs.append(&mut some);
        from = last + 1;
    }
    let mut out = Vec::new();
    for of_one in logs.chunk_by(|a, b| a.tx == b.tx) {
        let mut gas_used = 0;
        if of_one.iter().any(events::wants_gas) {
            let tx = of_one[0].tx;
            let receipt = rpc.receipt(&tx).await?;
            let receipt = receipt
                .ok_or_else(|| E2eError::Chain(format!("no receipt of {tx}, which has logs")))?;
            gas_used = receipt.gas_used;
        }
        out.extend(
            events::decode(of_one, gas_used, &deployment(devnet))
                .into_iter()
                .map(|l| l.event),
        );
    }
    Ok(out)
}

/// How often the chain has settled each t of an agreement. Of a settlement that speaks of more, what lies at the next t or behind
/// it counts.
///
/// # Errors
/// [`E2eError::Chain`], also for an event that cannot be read.
pub async fn settlements(devnet: &Devnet, agreement: &AgreementId) -> Result<BTreeMap<u64, u32>> {
    settlements_since(devnet, agreement, 0).await
}

/// The same on a chain that is older than the agreement: from block `first` on.
///
/// # Errors
/// [`E2eError::Chain`].
pub async fn settlements_since(
    devnet: &Devnet,
    agreement: &AgreementId,
    first: u64,
) -> Result<BTreeMap<u64, u32>> {
    let mut out = BTreeMap::new();
    let mut next = 0;
    for event in events_since(devnet, first).await? {
        match event {
            ChainEvent::Settled { place, holes, .. } if place.agreement == *agreement => {
                for t in (next..=place.t).filter(|t| !holes.contains(t)) {
                    *out.entry(t).or_default() += 1;
                }
                next = place.t + 1;
            }
            ChainEvent::HoleSettled { place, .. } | ChainEvent::Resolved { place, .. }
                if place.agreement == *agreement =>
            {
                next = place.t + 1;
            }
            ChainEvent::Skipped(skipped) => return Err(E2eError::Chain(skipped.words)),
            _ => {}
        }
    }
    Ok(out)
}

/// What a sample of messages costs when each is sent as the calldata of a transaction of its own, stored nowhere and checked by
/// nobody: the least that "every message on chain" can cost. Gas of each, from its receipt.
///
/// # Errors
/// [`E2eError::Chain`], [`E2eError::NotSo`] if one is not mined.
pub async fn raw_messages(devnet: &Devnet, messages: &[Vec<u8>]) -> Result<Vec<u64>> {
    let rpc = client(devnet)?;
    let key = SecretKey::generate()?;
    let account =
        Account::from_secret(&key.to_bytes()).map_err(|e| E2eError::Chain(e.to_string()))?;
    let policy = FeePolicy::default();
    let mut out = Vec::with_capacity(messages.len());
    for (nonce, message) in (0..).zip(messages) {
        let head = rpc.head().await?;
        // An account without code and storage: the bytes stay in the chain's history and touch nothing else.
        let call = Call {
            from: account.address(),
            to: Some(account.address()),
            data: message.clone(),
        };
        let gas = rpc.estimate_gas(&call).await?;
        let unsigned = Unsigned {
            chain_id: devnet.chain.chain_id,
            nonce,
            to: call.to,
            value: 0,
            data: message,
            gas_limit: policy
                .gas_limit(gas, head.gas_limit)
                .map_err(|e| E2eError::Chain(e.to_string()))?,
            fees: policy.fees(&head, None, 0),
        };
        let (raw, tx) = account.sign(&unsigned);
        rpc.send_raw(&raw, true).await?;
        out.push(mined(&rpc, &tx).await?.gas_used);
    }
    Ok(out)
}

/// Waits until a transaction is mined.
///
/// # Errors
/// [`E2eError::NotSo`] if it is not in time.
pub async fn mined(rpc: &Rpc, tx: &Digest) -> Result<Receipt> {
    let deadline = Instant::now() + MINED_WITHIN;
    loop {
        if let Some(receipt) = rpc.receipt(tx).await? {
            return Ok(receipt);
        }
        if Instant::now() > deadline {
            return Err(E2eError::NotSo(format!(
                "transaction {tx} is not mined after {} s",
                MINED_WITHIN.as_secs()
            )));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
