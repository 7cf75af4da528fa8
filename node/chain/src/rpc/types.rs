//! What the chain answers, in the fields that this node uses. Unknown fields are ignored, missing ones are errors.

use super::classify::RpcError;
use alloy::primitives::{Address as EvmAddress, B256, Bytes, U64, U256};
use diversity_proto::{Address, Digest};
use serde::Deserialize;
use serde_json::{Value, json};

/// Header of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Height.
    pub number: u64,
    /// As the chain names it (on QBFT it is not the hash of the header as served).
    pub hash: Digest,
    /// Hash of the block before.
    pub parent_hash: Digest,
    /// Unix seconds.
    pub timestamp: u64,
    /// Wei; none before London.
    pub base_fee: Option<u128>,
    /// Gas.
    pub gas_limit: u64,
    /// It holds no transaction: a chain that makes such blocks makes them by the clock.
    pub empty: bool,
}

/// What became of a mined transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Which transaction.
    pub tx: Digest,
    /// Where it was mined.
    pub block_number: u64,
    /// Where it was mined.
    pub block_hash: Digest,
    /// False if it reverted.
    pub success: bool,
    /// Gas of the whole transaction.
    pub gas_used: u64,
    /// Address of a deployed contract; Besu fills it for failed deployments too.
    pub contract: Option<Address>,
    /// Revert bytes, where the endpoint keeps them.
    pub revert_reason: Option<Vec<u8>>,
}

/// An event as the chain keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Topics, up to four.
    pub topics: Vec<Digest>,
    /// Data.
    pub data: Vec<u8>,
    /// Where.
    pub block_number: u64,
    /// Where.
    pub block_hash: Digest,
    /// In which transaction.
    pub tx: Digest,
    /// Position in the block.
    pub log_index: u64,
    /// Taken back by a reorganisation.
    pub removed: bool,
}

/// A mined or pending transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Sender.
    pub from: Address,
    /// Receiver; none for a deployment.
    pub to: Option<Address>,
    /// Calldata.
    pub input: Vec<u8>,
    /// Block, once mined.
    pub block_number: Option<u64>,
}

/// A call that is simulated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Sender.
    pub from: Address,
    /// Contract; none for a deployment.
    pub to: Option<Address>,
    /// Calldata.
    pub data: Vec<u8>,
}

impl Call {
    /// As a JSON-RPC parameter. `gas` is the limit under which it runs. No price is named: an explicit price of 0 fails
    /// where the base fee is above 0 (Besu #8888), and none is right everywhere.
    pub(super) fn json(&self, gas: Option<u64>) -> Value {
        let mut call = json!({
            "from": self.from.hex(),
            "data": alloy::primitives::hex::encode_prefixed(&self.data),
        });
        if let Some(to) = &self.to {
            call["to"] = json!(to.hex());
        }
        if let Some(gas) = gas {
            call["gas"] = json!(quantity(gas));
        }
        call
    }
}

/// A number in JSON-RPC's form.
pub fn quantity(v: u64) -> String {
    format!("{v:#x}")
}

/// A value that JSON-RPC can carry.
pub(super) trait FromRpc: Sized {
    fn from_rpc(value: Value) -> Result<Self, RpcError>;
}

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, RpcError> {
    serde_json::from_value(value).map_err(|e| {
        let words = e.to_string();
        // Other errors quote the value, which is whatever the endpoint likes.
        let message = if words.starts_with("missing field") {
            words
        } else {
            "a field is not of the type that it has in Ethereum's JSON-RPC".into()
        };
        RpcError::Malformed { message }
    })
}

fn address(a: EvmAddress) -> Address {
    Address(a.into_array())
}

fn digest(d: B256) -> Digest {
    Digest(d.0)
}

impl FromRpc for u64 {
    fn from_rpc(value: Value) -> Result<Self, RpcError> {
        Ok(parse::<U64>(value)?.to::<u64>())
    }
}

impl FromRpc for u128 {
    /// Saturates: a balance above 2^128 wei buys everything.
    fn from_rpc(value: Value) -> Result<Self, RpcError> {
        Ok(parse::<U256>(value)?.saturating_to::<u128>())
    }
}

impl FromRpc for Vec<u8> {
    fn from_rpc(value: Value) -> Result<Self, RpcError> {
        Ok(parse::<Bytes>(value)?.to_vec())
    }
}

impl FromRpc for Digest {
    fn from_rpc(value: Value) -> Result<Self, RpcError> {
        parse(value).map(digest)
    }
}

impl FromRpc for Block {
    fn from_rpc(value: Value) -> Result<Self, RpcError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw {
            number: U64,
            hash: B256,
            parent_hash: B256,
            timestamp: U64,
            base_fee_per_gas: Option<U256>,
            gas_limit: U64,
            transactions: Option<Vec<serde::de::IgnoredAny>>,
        }
        let raw: Raw = parse(value)?;
        Ok(Self {
            number: raw.number.to(),
            empty: raw.transactions.is_some_and(|t| t.is_empty()),
            hash: digest(raw.hash),
            parent_hash: digest(raw.parent_hash),
            timestamp: raw.timestamp.to(),
            base_fee: raw.base_fee_per_gas.map(|f| f.saturating_to()),
            gas_limit: raw.gas_limit.to(),
        })
    }
}

impl FromRpc for Receipt {
    fn from_rpc(value: Value) -> Result<Self, RpcError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw {
            transaction_hash: B256,
            block_number: U64,
            block_hash: B256,
            // Absent before Byzantium, which nothing here supports.
            status: U64,
            gas_used: U64,
            contract_address: Option<EvmAddress>,
            revert_reason: Option<Bytes>,
        }
        let raw: Raw = parse(value)?;
        Ok(Self {
            tx: digest(raw.transaction_hash),
            block_number: raw.block_number.to(),
            block_hash: digest(raw.block_hash),
            success: raw.status == U64::from(1),
            gas_used: raw.gas_used.to(),
            contract: raw.contract_address.map(address),
            revert_reason: raw.revert_reason.map(|b| b.to_vec()),
        })
    }
}

impl FromRpc for Vec<Log> {
    fn from_rpc(value: Value) -> Result<Self, RpcError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw {
            topics: Vec<B256>,
            data: Bytes,
            block_number: U64,
            block_hash: B256,
            transaction_hash: B256,
            log_index: U64,
            #[serde(default)]
            removed: bool,
        }
        let raw: Vec<Raw> = parse(value)?;
        Ok(raw
            .into_iter()
            .map(|l| Log {
                topics: l.topics.into_iter().map(digest).collect(),
                data: l.data.to_vec(),
                block_number: l.block_number.to(),
                block_hash: digest(l.block_hash),
                tx: digest(l.transaction_hash),
                log_index: l.log_index.to(),
                removed: l.removed,
            })
            .collect())
    }
}

impl FromRpc for Transaction {
    fn from_rpc(value: Value) -> Result<Self, RpcError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw {
            from: EvmAddress,
            to: Option<EvmAddress>,
            input: Bytes,
            block_number: Option<U64>,
        }
        let raw: Raw = parse(value)?;
        Ok(Self {
            from: address(raw.from),
            to: raw.to.map(address),
            input: raw.input.to_vec(),
            block_number: raw.block_number.map(|n| n.to()),
        })
    }
}
