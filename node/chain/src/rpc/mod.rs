//! JSON-RPC over several endpoints, with our own failover.
//!
//! A retry layer that does not know Besu takes -32005 for rate limiting, and a fallback layer that asks all endpoints
//! at once lets an error win the race. Here every refusal is read by [`classify`]; only what is an endpoint's own fault
//! is tried elsewhere; and no endpoint is used before its chain id and genesis are those of this node.

mod bloom;
mod bulky;
mod classify;
mod endpoint;
mod head;
mod logs;
mod secrets;
mod token;
mod types;

pub use bulky::BulkyBlock;
pub use classify::{RpcError, classify, classify_http};
pub use endpoint::EndpointError;
pub use logs::LOG_RANGE;
pub use secrets::{shown, split};
pub use types::{Block, Call, Log, Receipt, Transaction, quantity};

use diversity_proto::{Address, Digest};
use endpoint::Endpoint;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use token::Token;
use types::FromRpc;

/// Result of a request.
pub type Result<T> = std::result::Result<T, RpcError>;

/// Which chain this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainIdentity {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Hash of block 0.
    pub genesis: Digest,
}

/// Settings of [`Rpc`]. No `Debug`: URLs hold passwords and keys.
#[derive(Clone)]
pub struct RpcConfig {
    /// http or https URLs, the preferred one first.
    pub endpoints: Vec<String>,
    /// Chain id that every endpoint must have, if known.
    pub chain_id: Option<u64>,
    /// Genesis hash that every endpoint must have, if known; otherwise the first one that is seen counts from then on.
    pub genesis: Option<Digest>,
    /// An endpoint that is more blocks behind the best one than this comes after the others.
    pub head_lag_max: u64,
    /// For one request.
    pub timeout: Duration,
    /// Most bytes of one answer.
    pub response_bytes_max: usize,
    /// PEM certificates that https endpoints may be signed by, beside those of the system.
    pub ca_pem: Option<Vec<u8>>,
    /// File with a bearer token for endpoints whose URL names no user; read again while the node runs.
    pub token_file: Option<PathBuf>,
}

impl RpcConfig {
    /// The defaults for these endpoints.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            chain_id: None,
            genesis: None,
            head_lag_max: 3,
            timeout: Duration::from_secs(10),
            response_bytes_max: 32 << 20,
            ca_pem: None,
            token_file: None,
        }
    }
}

/// State of one endpoint, for people.
#[derive(Clone, Debug)]
pub struct EndpointStatus {
    /// Without secrets.
    pub endpoint: String,
    /// Head when last asked.
    pub head: Option<u64>,
    /// Why it is not used, in words.
    pub trouble: Option<String>,
    /// It has been more than a few blocks behind the others for a while.
    pub lags: bool,
}

/// A client of one chain over several endpoints. Cheap to clone.
#[derive(Clone)]
pub struct Rpc(Arc<Inner>);

struct Inner {
    endpoints: Vec<Endpoint>,
    chain_id: Option<u64>,
    identity: Mutex<Option<ChainIdentity>>,
    head_lag_max: u64,
    /// The head that was shown last, and whose it was.
    shown: Mutex<Option<(usize, Block)>>,
}

impl Rpc {
    /// Sets the client up; asks nothing yet.
    ///
    /// # Errors
    /// [`EndpointError`] if a URL or the certificates are of no use.
    pub fn new(config: &RpcConfig) -> std::result::Result<Self, EndpointError> {
        if config.endpoints.is_empty() {
            return Err(EndpointError::None);
        }
        let token = config.token_file.as_deref().map(Token::open).transpose()?;
        let token = token.map(Arc::new);
        let endpoints = config
            .endpoints
            .iter()
            .enumerate()
            .map(|(i, url)| Endpoint::new(i + 1, url, config, token.clone()))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let identity = match (config.chain_id, config.genesis) {
            (Some(chain_id), Some(genesis)) => Some(ChainIdentity { chain_id, genesis }),
            _ => None,
        };
        Ok(Self(Arc::new(Inner {
            endpoints,
            chain_id: config.chain_id,
            identity: Mutex::new(identity),
            head_lag_max: config.head_lag_max,
            shown: Mutex::new(None),
        })))
    }

    /// Chain id and genesis: the configured ones, or those of the first endpoint that answers, which are kept.
    pub async fn identity(&self) -> Result<ChainIdentity> {
        if let Some(identity) = self.known_identity() {
            return Ok(identity);
        }
        self.request("eth_chainId", json!([])).await?;
        self.known_identity().ok_or(RpcError::Transient {
            message: "the chain has not been identified yet".into(),
        })
    }

    fn known_identity(&self) -> Option<ChainIdentity> {
        *self
            .0
            .identity
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of each endpoint.
    pub fn status(&self) -> Vec<EndpointStatus> {
        self.0
            .endpoints
            .iter()
            .map(|e| {
                let state = e.state();
                EndpointStatus {
                    endpoint: e.name.clone(),
                    head: state.head.map(|(n, _)| n),
                    lags: state.lags(),
                    trouble: match state.trouble {
                        Some(trouble) => Some(trouble.to_string()),
                        None if state.hangs() => Some("it does not answer".into()),
                        None => None,
                    },
                }
            })
            .collect()
    }

    /// Endpoints in the order in which they are asked: working before failing, up to date before lagging. One that has failed
    /// or hangs comes back when its head has been heard, not when time has passed: a request must not be the probe.
    fn order(&self) -> Vec<&Endpoint> {
        let states: Vec<_> = self.0.endpoints.iter().map(|e| (e.state(), e)).collect();
        let fails = |s: &endpoint::State| s.trouble.is_some() || s.hangs();
        let heads = states.iter().filter(|(s, _)| !fails(s));
        let best = heads.filter_map(|(s, _)| s.head.map(|(n, _)| n)).max();
        let best = best.unwrap_or(0);
        let rank = |s: &endpoint::State| {
            let lags = s.head.is_some_and(|(h, _)| h + self.0.head_lag_max < best);
            (fails(s), lags)
        };
        let mut order: Vec<_> = states.iter().map(|(s, e)| (rank(s), *e)).collect();
        // Stable: among equals the configured order stays.
        order.sort_by_key(|(rank, _)| *rank);
        order.into_iter().map(|(_, e)| e).collect()
    }

    /// Checks chain id and genesis of an endpoint, once until it fails.
    async fn verify(&self, endpoint: &Endpoint) -> Result<()> {
        if endpoint.is_verified() {
            return Ok(());
        }
        let (method, params) = ("eth_chainId", json!([]));
        let chain_id = there(method, endpoint.request(method, &params).await?)?;
        let chain_id = u64::from_rpc(chain_id)?;
        let (method, params) = ("eth_getBlockByNumber", json!(["0x0", false]));
        let genesis = there(method, endpoint.request(method, &params).await?)?;
        let found = ChainIdentity {
            chain_id,
            genesis: Block::from_rpc(genesis)?.hash,
        };
        let known = {
            let mut identity = self
                .0
                .identity
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if identity.is_none() && self.0.chain_id.is_none_or(|id| id == chain_id) {
                *identity = Some(found);
            }
            *identity
        };
        if known == Some(found) {
            endpoint.verified();
            return Ok(());
        }
        Err(RpcError::WrongChain {
            endpoint: endpoint.name.clone(),
            found_chain_id: found.chain_id,
            found_genesis: found.genesis.hex(),
            chain_id: known
                .map(|k| k.chain_id)
                .or(self.0.chain_id)
                .unwrap_or_default(),
            genesis: known.map_or_else(|| "any".into(), |k| k.genesis.hex()),
        })
    }

    async fn ask(&self, endpoint: &Endpoint, method: &str, params: &Value) -> Result<Value> {
        if let Some(pause) = endpoint.paused() {
            return Err(pause);
        }
        let answer = match self.verify(endpoint).await {
            Ok(()) => endpoint.request(method, params).await,
            Err(error) => Err(error),
        };
        match answer {
            Err(error) if error.is_the_endpoints_state() => Err(endpoint.fails(error)),
            answer => {
                endpoint.works();
                answer
            }
        }
    }

    /// One request; endpoints are tried in turn until the chain itself has spoken. `null` is `Value::Null`.
    pub async fn request(&self, method: &str, params: Value) -> Result<Value> {
        self.first(method, &params, |_| true).await
    }

    /// The same of the newest block, where `null` is no answer.
    async fn latest(&self, method: &str, params: Value) -> Result<Value> {
        there(method, self.first(method, &params, |v| !v.is_null()).await?)
    }

    /// The first answer that is `good`; if none is, any answer; if there is none, why.
    async fn first(
        &self,
        method: &str,
        params: &Value,
        good: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let mut other = None;
        let mut errors = Vec::new();
        for endpoint in self.order() {
            match self.ask(endpoint, method, params).await {
                Ok(value) if good(&value) => return Ok(value),
                Ok(value) => other = Some(value),
                Err(error) if error.is_the_chains_word() => return Err(error),
                Err(error) => errors.push((endpoint.name.clone(), error)),
            }
        }
        match other {
            Some(value) => Ok(value),
            None => Err(join(errors)),
        }
    }

    /// A block by number; none if the chain has no such block (null since Besu 25.12, an error before).
    pub async fn block(&self, number: u64) -> Result<Option<Block>> {
        let params = json!([quantity(number), false]);
        absent(
            self.first("eth_getBlockByNumber", &params, |v| !v.is_null())
                .await,
        )?
        .map(Block::from_rpc)
        .transpose()
    }

    /// What became of a transaction; none while it is not mined. Endpoints that do not know it are not the last word.
    pub async fn receipt(&self, tx: &Digest) -> Result<Option<Receipt>> {
        let params = json!([tx.hex()]);
        absent(
            self.first("eth_getTransactionReceipt", &params, |v| !v.is_null())
                .await,
        )?
        .map(Receipt::from_rpc)
        .transpose()
    }

    /// A transaction, mined or pending.
    pub async fn transaction(&self, tx: &Digest) -> Result<Option<Transaction>> {
        let params = json!([tx.hex()]);
        absent(
            self.first("eth_getTransactionByHash", &params, |v| !v.is_null())
                .await,
        )?
        .map(Transaction::from_rpc)
        .transpose()
    }

    /// Number of transactions of an account in mined blocks: the next nonce. The pending count is never used: some
    /// pools count past a hole (Besu #9529).
    pub async fn transaction_count(&self, account: &Address) -> Result<u64> {
        let value = self
            .latest("eth_getTransactionCount", json!([account.hex(), "latest"]))
            .await?;
        u64::from_rpc(value)
    }

    /// Balance in wei.
    pub async fn balance(&self, account: &Address) -> Result<u128> {
        let value = self
            .latest("eth_getBalance", json!([account.hex(), "latest"]))
            .await?;
        u128::from_rpc(value)
    }

    /// Code of a contract; empty if there is none.
    pub async fn code(&self, contract: &Address) -> Result<Vec<u8>> {
        let value = self
            .latest("eth_getCode", json!([contract.hex(), "latest"]))
            .await?;
        Vec::from_rpc(value)
    }

    /// What the chain suggests for legacy transactions, wei.
    pub async fn gas_price(&self) -> Result<u128> {
        u128::from_rpc(self.latest("eth_gasPrice", json!([])).await?)
    }

    /// Runs a call on the newest block.
    pub async fn call(&self, call: &Call) -> Result<Vec<u8>> {
        let value = self
            .latest("eth_call", json!([call.json(None), "latest"]))
            .await?;
        Vec::from_rpc(value)
    }

    /// Runs a call on the state after block `number`, with a gas limit; falls back to the newest state where the
    /// endpoint no longer has that one (Bonsai keeps 512).
    pub async fn replay(&self, call: &Call, number: u64, gas: u64) -> Result<Vec<u8>> {
        let request = call.json(Some(gas));
        let old = self
            .request("eth_call", json!([request, quantity(number)]))
            .await;
        let value = match old {
            Ok(value) if !value.is_null() => value,
            Err(error @ RpcError::Reverted { .. } | error @ RpcError::EvmFailure { .. }) => {
                return Err(error);
            }
            _ => self.latest("eth_call", json!([request, "latest"])).await?,
        };
        Vec::from_rpc(value)
    }

    /// Gas that a call needs on the newest block; reverts are errors.
    pub async fn estimate_gas(&self, call: &Call) -> Result<u64> {
        let value = self
            .latest("eth_estimateGas", json!([call.json(None)]))
            .await?;
        u64::from_rpc(value)
    }

    /// Sends signed bytes, to one endpoint or to all; `Ok` if at least one took them. One that refuses them for a limit of its
    /// own is not the last word.
    ///
    /// # Errors
    /// If none did: a refusal of the transaction itself before a fault of an endpoint. [`RpcError::KnownTransaction`] and
    /// [`RpcError::NonceTooLow`] are answers, not failures: look for the receipt.
    pub async fn send_raw(&self, raw: &[u8], all: bool) -> Result<Digest> {
        let params = json!([alloy::primitives::hex::encode_prefixed(raw)]);
        let mut taken = None;
        let mut refusal = None;
        let mut faults = Vec::new();
        for endpoint in self.order() {
            let answer = self
                .ask(endpoint, "eth_sendRawTransaction", &params)
                .await
                .and_then(Digest::from_rpc);
            match answer {
                Ok(hash) => taken = Some(hash),
                Err(error) if error.is_the_endpoints_state() => {
                    faults.push((endpoint.name.clone(), error));
                    continue;
                }
                // Known to one endpoint: that is what we want to hear.
                Err(RpcError::KnownTransaction) => refusal = Some(RpcError::KnownTransaction),
                Err(error) if error.is_the_chains_word() => refusal = refusal.or(Some(error)),
                Err(error) => {
                    refusal = refusal.or(Some(error));
                    continue;
                }
            }
            if !all {
                break;
            }
        }
        match (taken, refusal) {
            (Some(hash), _) => Ok(hash),
            (None, Some(error)) => Err(error),
            (None, None) => Err(join(faults)),
        }
    }
}

/// `null` and "unknown block" both mean: it is not there.
fn absent(answer: Result<Value>) -> Result<Option<Value>> {
    match answer {
        Ok(Value::Null) | Err(RpcError::UnknownBlock { .. }) => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(error),
    }
}

/// Where every chain has something, `null` is an endpoint in trouble and not an answer.
fn there(method: &str, value: Value) -> Result<Value> {
    if value.is_null() {
        return Err(RpcError::NoLatest {
            method: method.into(),
        });
    }
    Ok(value)
}

fn join(mut errors: Vec<(String, RpcError)>) -> RpcError {
    if errors.len() == 1 {
        return errors.remove(0).1;
    }
    RpcError::Unavailable {
        reasons: errors
            .iter()
            .map(|(name, error)| format!("{name}: {error}"))
            .collect::<Vec<_>>()
            .join("; "),
    }
}
