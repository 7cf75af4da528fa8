//! What an endpoint's refusal means. Codes alone do not tell: Besu uses -32005 for three different limits, -32000 for a
//! dozen things, and versions differ. So code, message and method are read together, for Besu 25.11 and for what came
//! after it, for geth, and for anvil.

use serde_json::Value;

/// Why a request has no result. The text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// The same transaction is in the pool already: as good as accepted.
    #[error("the chain already knows this transaction: wait for its receipt")]
    KnownTransaction,
    /// The account's nonce has moved past it: mined, or another transaction took its place.
    #[error("the nonce is used up: look for the receipt of this transaction")]
    NonceTooLow,
    /// Too many unmined transactions lie before it.
    #[error("the nonce is too far ahead of the account: wait until earlier transactions are mined")]
    NonceTooDistant,
    /// Below what the endpoint or the base fee demands.
    #[error(
        "the chain asks a higher gas price ({message}): raise min_gas_price, and max_gas_price if that is below it"
    )]
    Underpriced {
        /// The endpoint's words.
        message: String,
    },
    /// Another transaction with this nonce is in the pool, and this one does not pay enough more.
    #[error(
        "another transaction with this nonce is pending and pays as much: wait for one of the two"
    )]
    ReplacementUnderpriced,
    /// Above the endpoint's limit of the fee (`rpc-tx-feecap`).
    #[error(
        "the fee is above the limit of the endpoint ({message}): lower the gas price or raise its fee cap"
    )]
    FeeCap {
        /// The endpoint's words.
        message: String,
    },
    /// The account cannot pay for it.
    #[error("the account has not enough funds ({message}): send it more")]
    InsufficientFunds {
        /// The endpoint's words, without a stack trace.
        message: String,
    },
    /// Above the gas limit of a block, or of a transaction (EIP-7825).
    #[error(
        "the transaction needs more gas than the chain allows in one ({message}): send it in smaller parts"
    )]
    GasLimit {
        /// The endpoint's words.
        message: String,
    },
    /// More bytes than a pool takes in one transaction (geth: 128 KiB).
    #[error(
        "no endpoint takes a transaction of this size ({message}): make it smaller, such as an agreement with fewer sensors"
    )]
    Oversized {
        /// The endpoint's words.
        message: String,
    },
    /// Less gas than the transaction costs before it runs.
    #[error("the gas limit is below the intrinsic gas ({message})")]
    IntrinsicGas {
        /// The endpoint's words.
        message: String,
    },
    /// `eth_getLogs` over too many blocks, or with too many results.
    #[error("the range of blocks is too large for the endpoint ({message}): ask for fewer blocks")]
    RangeTooLarge {
        /// The endpoint's words.
        message: String,
    },
    /// `eth_getLogs` beyond the head of this endpoint, or backwards.
    #[error("the range of blocks lies beyond the head of the endpoint ({message})")]
    BeyondHead {
        /// The endpoint's words.
        message: String,
    },
    /// A block or tag that the endpoint does not have (`finalized` and `safe` never exist on QBFT).
    #[error("the endpoint does not have this block or its state ({message})")]
    UnknownBlock {
        /// The endpoint's words.
        message: String,
    },
    /// HTTP 403.
    #[error(
        "the endpoint refuses requests under this host name (HTTP 403): add the name to its host allow-list"
    )]
    HostNotAllowed,
    /// HTTP 401, 402 or 403 for another reason than the host name.
    #[error(
        "the endpoint wants authentication or refuses this key (HTTP {status}{message}): put user and password in its URL, or a bearer token into rpc_token_file"
    )]
    Unauthorized {
        /// HTTP status.
        status: u16,
        /// The endpoint's words after `: `, or nothing.
        message: String,
    },
    /// HTTP 3xx. It is not followed: a password must not go to whoever the endpoint names.
    #[error(
        "the endpoint redirects to {target} (HTTP {status}): if that is right, put its whole URL into rpc_urls"
    )]
    Redirected {
        /// Scheme, host and port.
        target: String,
        /// HTTP status.
        status: u16,
    },
    /// More requests than the endpoint takes of us.
    #[error(
        "the endpoint limits how often it is asked ({message}): it is asked again in {wait_s} s"
    )]
    RateLimited {
        /// The endpoint's words.
        message: String,
        /// How long it is left alone, seconds; 0 before that is decided.
        wait_s: u64,
    },
    /// Another HTTP status without a JSON-RPC answer.
    #[error("the endpoint answers HTTP {status}{message}: is its URL whole?")]
    Http {
        /// HTTP status.
        status: u16,
        /// The endpoint's words after `: `, or nothing.
        message: String,
    },
    /// `null` where every chain has an answer: its id, its first and its newest block, and the state after that one.
    #[error("the endpoint answers null to {method}: it is syncing, or has lost its state")]
    NoLatest {
        /// Which method.
        method: String,
    },
    /// Not implemented or not switched on.
    #[error("the endpoint does not offer {method} ({message}): enable the ETH API on it")]
    MethodOff {
        /// Which method.
        method: String,
        /// The endpoint's words.
        message: String,
    },
    /// The chain does not know this kind of transaction (type 2 before London).
    #[error("the chain does not accept this type of transaction ({message})")]
    TransactionType {
        /// The endpoint's words.
        message: String,
    },
    /// The contract said no.
    #[error("the call reverts ({message})")]
    Reverted {
        /// Revert bytes; empty when the contract or the endpoint gave none.
        data: Vec<u8>,
        /// The endpoint's words.
        message: String,
    },
    /// The call ran out of gas, or into an opcode that the chain does not have.
    #[error("the call fails in the EVM ({message})")]
    EvmFailure {
        /// The endpoint's words.
        message: String,
    },
    /// The transaction was signed for another chain.
    #[error("the endpoint serves another chain than the transaction was signed for ({message})")]
    WrongChainId {
        /// The endpoint's words.
        message: String,
    },
    /// The endpoint serves another chain than the one that this node belongs to.
    #[error(
        "{endpoint} serves another chain: it has chain id {found_chain_id} and genesis {found_genesis}, this node belongs to chain id {chain_id} with genesis {genesis}; correct the endpoint, or start a new node for the other chain"
    )]
    WrongChain {
        /// Which endpoint.
        endpoint: String,
        /// What it has.
        found_chain_id: u64,
        /// What it has.
        found_genesis: String,
        /// What this node wants.
        chain_id: u64,
        /// What this node wants; "any" if it does not know yet.
        genesis: String,
    },
    /// Busy, shut down, cut off, timed out: another try may work.
    #[error("the endpoint cannot be reached or is busy ({message})")]
    Transient {
        /// What happened.
        message: String,
    },
    /// The answer is not what the method returns.
    #[error(
        "the endpoint's answer is not usable ({message}): is it an Ethereum JSON-RPC endpoint?"
    )]
    Malformed {
        /// What is wrong.
        message: String,
    },
    /// Anything else.
    #[error("the endpoint refuses the request (code {code}: {message})")]
    Refused {
        /// JSON-RPC error code.
        code: i64,
        /// The endpoint's words.
        message: String,
    },
    /// No endpoint gave an answer.
    #[error("no endpoint answers: {reasons}")]
    Unavailable {
        /// Each endpoint and why.
        reasons: String,
    },
}

impl RpcError {
    /// Whether the chain itself has spoken, so that no other endpoint would say anything else. All other errors are tried
    /// elsewhere, known words or not.
    pub fn is_the_chains_word(&self) -> bool {
        matches!(
            self,
            Self::KnownTransaction
                | Self::NonceTooLow
                | Self::NonceTooDistant
                | Self::ReplacementUnderpriced
                | Self::InsufficientFunds { .. }
                | Self::GasLimit { .. }
                | Self::IntrinsicGas { .. }
                | Self::TransactionType { .. }
                | Self::Reverted { .. }
                | Self::EvmFailure { .. }
        )
    }
    /// Whether the endpoint itself is of no use, and not only for this request.
    pub fn is_the_endpoints_state(&self) -> bool {
        matches!(
            self,
            Self::Transient { .. }
                | Self::RateLimited { .. }
                | Self::Malformed { .. }
                | Self::Http { .. }
                | Self::Redirected { .. }
                | Self::NoLatest { .. }
                | Self::HostNotAllowed
                | Self::Unauthorized { .. }
                | Self::WrongChain { .. }
                | Self::WrongChainId { .. }
        )
    }
    /// Whether fewer blocks in one `eth_getLogs` may help. No list of words says so: whatever is not explained otherwise may
    /// be a limit of blocks, of results, of bytes or of time.
    pub fn may_be_the_range(&self) -> bool {
        !matches!(
            self,
            Self::Transient { .. }
                | Self::RateLimited { .. }
                | Self::MethodOff { .. }
                | Self::HostNotAllowed
                | Self::Unauthorized { .. }
                | Self::Redirected { .. }
                | Self::WrongChain { .. }
                | Self::NoLatest { .. }
        )
    }
    /// Whether a transaction that is refused so stays refused unless somebody does something.
    pub fn needs_somebody(&self) -> bool {
        !self.is_passing()
            && !matches!(
                self,
                Self::KnownTransaction | Self::NonceTooLow | Self::ReplacementUnderpriced
            )
    }
    /// Whether waiting and asking again can help without anybody doing anything.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Transient { .. }
                | Self::RateLimited { .. }
                | Self::Unavailable { .. }
                | Self::UnknownBlock { .. }
                | Self::BeyondHead { .. }
                | Self::NonceTooDistant
        )
    }
}

/// Longest part of an endpoint's message that is kept: Besu puts Java stack traces into some.
const MESSAGE_CHARS_MAX: usize = 300;

fn short(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    line.chars().take(MESSAGE_CHARS_MAX).collect()
}

/// Reads a JSON-RPC error. What stands in `data` is read with the message: some providers have all their words there.
pub fn classify(method: &str, code: i64, message: &str, data: Option<&Value>) -> RpcError {
    let more = data.and_then(words_in);
    let whole = match &more {
        Some(more) if message.is_empty() => more.clone(),
        Some(more) if !message.contains(more.as_str()) => format!("{message}: {more}"),
        _ => message.to_owned(),
    };
    let lower = whole.to_lowercase();
    let any = |needles: &[&str]| needles.iter().any(|n| lower.contains(n));
    let message = short(&whole);

    if method == "eth_getLogs" {
        return logs(code, &lower, message);
    }
    if code == 3 || any(&["execution reverted"]) || any(&["revert"]) && data.is_some() {
        return RpcError::Reverted {
            data: revert_bytes(data),
            message,
        };
    }
    if code == -32601 || code == -32604 {
        return RpcError::MethodOff {
            method: method.into(),
            message,
        };
    }
    if code == -39001
        || any(&[
            "unknown block",
            "block not found",
            "header not found",
            "blockoutofrange",
            "block does not exist",
            "missing trie node",
            "historical state",
            "world state unavailable",
            "no state available",
        ])
    {
        return RpcError::UnknownBlock { message };
    }
    if any(&["wrong chainid", "invalid chain id", "invalid sender: chain"]) {
        return RpcError::WrongChainId { message };
    }
    if any(&[
        "insufficient funds",
        "upfront cost exceeds",
        "cannot remove",
    ]) {
        return RpcError::InsufficientFunds { message };
    }
    if any(&["replacement transaction underpriced"]) {
        return RpcError::ReplacementUnderpriced;
    }
    if any(&["fee cap exceeded", "exceeds the configured cap"]) {
        return RpcError::FeeCap { message };
    }
    if any(&[
        "transaction processing could not be completed",
        "invalid opcode",
        "opcode not found",
        "invalidfeopcode",
        "notactivated",
        "out of gas",
        "outofgas",
        "stack overflow",
        "stack underflow",
    ]) {
        return RpcError::EvmFailure { message };
    }
    match method {
        "eth_sendRawTransaction" | "eth_estimateGas" | "eth_call" => {
            transaction(code, &lower, message)
        }
        _ => general(code, &lower, message),
    }
}

/// The words in the `data` of an error: a text that is no hex, or those of an object.
fn words_in(data: &Value) -> Option<String> {
    let text = match data {
        Value::String(text) if !text.starts_with("0x") && !text.starts_with("Reverted 0x") => text,
        Value::Object(fields) => ["message", "reason", "details", "error"]
            .iter()
            .find_map(|name| fields.get(*name)?.as_str().filter(|t| !t.starts_with("0x")))?,
        _ => return None,
    };
    Some(text.to_owned())
}

fn transaction(code: i64, lower: &str, message: String) -> RpcError {
    let any = |needles: &[&str]| needles.iter().any(|n| lower.contains(n));
    if any(&["known transaction", "already known", "already imported"]) {
        RpcError::KnownTransaction
    } else if code == -32001 || any(&["nonce too low"]) {
        RpcError::NonceTooLow
    } else if any(&["too distant", "nonce too high"]) {
        RpcError::NonceTooDistant
    } else if any(&[
        "oversized data",
        "transaction size",
        "exceeds max data size",
    ]) {
        RpcError::Oversized { message }
    } else if any(&[
        "exceeds block gas limit",
        "exceeds the block gas limit",
        "exceeds transaction gas",
        "gas limit too high",
        "gas limit is greater",
        "exceeds allowance",
        "transaction gas limit",
        "gas cap",
        "callergaslimitmorethanblock",
    ]) {
        RpcError::GasLimit { message }
    } else if any(&["intrinsic gas"]) {
        RpcError::IntrinsicGas { message }
    } else if code == -32009
        || any(&[
            "underpriced",
            "gas price below",
            "less than block base fee",
            "below current base fee",
            "gas tip cap",
            "max priority fee",
        ])
    {
        RpcError::Underpriced { message }
    } else if any(&["transaction type", "type not supported"]) {
        RpcError::TransactionType { message }
    } else {
        general(code, lower, message)
    }
}

/// Names what is known; whether the range is to be halved does not hang on it ([`RpcError::may_be_the_range`]).
fn logs(code: i64, lower: &str, message: String) -> RpcError {
    let any = |needles: &[&str]| needles.iter().any(|n| lower.contains(n));
    if code == -32601 || code == -32604 {
        return RpcError::MethodOff {
            method: "eth_getLogs".into(),
            message,
        };
    }
    if is_rate(code, lower) {
        return RpcError::RateLimited { message, wait_s: 0 };
    }
    if any(&[
        "beyond current head",
        "invalid params",
        "invalid block range",
        "toblock is greater",
    ]) {
        return RpcError::BeyondHead { message };
    }
    if any(&["shutting down", "starting up", "temporarily"]) {
        return RpcError::Transient { message };
    }
    RpcError::RangeTooLarge { message }
}

/// Whether an endpoint speaks of how often it is asked.
fn is_rate(code: i64, lower: &str) -> bool {
    let words = [
        "rate limit",
        "rate-limit",
        "ratelimit",
        "too many requests",
        "request rate",
        "rate exceeded",
        "requests per",
        "per second",
        "per minute",
        "throttl",
        "quota",
        "daily request",
        "request count exceeded",
        "credits",
        "slow down",
    ];
    code == 429 || words.iter().any(|n| lower.contains(n))
}

fn general(code: i64, lower: &str, message: String) -> RpcError {
    let any = |needles: &[&str]| needles.iter().any(|n| lower.contains(n));
    if is_rate(code, lower) {
        RpcError::RateLimited { message, wait_s: 0 }
    } else if any(&[
        "timeout",
        "timed out",
        "overloaded",
        "shutting down",
        "temporarily",
        "starting up",
    ]) {
        RpcError::Transient { message }
    } else {
        RpcError::Refused { code, message }
    }
}

/// Reads an HTTP status that is no JSON-RPC answer. A body that is one says more than the status, whatever that is.
pub fn classify_http(status: u16, body: &str) -> Option<RpcError> {
    if status == 200 {
        return None;
    }
    let json = serde_json::from_str::<Value>(body).ok();
    let answers = |v: &Value| {
        v.get("result").is_some()
            || v.get("error")
                .is_some_and(|e| e.is_object() || e.is_string())
    };
    if status == 429 {
        let message = format!("HTTP 429{}", said(json.as_ref()));
        return Some(RpcError::RateLimited { message, wait_s: 0 });
    }
    if !matches!(status, 401..=403) && json.as_ref().is_some_and(answers) {
        return None;
    }
    let message = said(json.as_ref());
    Some(match status {
        403 if body.to_lowercase().contains("host not authorized") => RpcError::HostNotAllowed,
        _ if is_rate(0, &message.to_lowercase()) => RpcError::RateLimited {
            message: format!("HTTP {status}{message}"),
            wait_s: 0,
        },
        401..=403 => RpcError::Unauthorized { status, message },
        408 | 425 | 500..=599 => RpcError::Transient {
            message: format!("HTTP {status}{message}"),
        },
        _ => RpcError::Http { status, message },
    })
}

/// The words of a body that is JSON, after `: `. A page of HTML is no word.
fn said(body: Option<&Value>) -> String {
    let error = body.and_then(|b| b.get("error"));
    let message = |v: &Value| v.get("message").and_then(Value::as_str).map(str::to_owned);
    let words = error
        .and_then(|e| e.as_str().map(str::to_owned).or_else(|| message(e)))
        .or_else(|| body.and_then(message));
    words.map_or_else(String::new, |w| format!(": {}", short(&w)))
}

/// Revert bytes from the `data` of an error: a hex string (Besu, geth, anvil), or an object that holds one.
fn revert_bytes(data: Option<&Value>) -> Vec<u8> {
    let text = match data {
        Some(Value::String(s)) => s.as_str(),
        Some(Value::Object(o)) => o
            .get("data")
            .or_else(|| o.get("result"))
            .and_then(Value::as_str)
            .unwrap_or_default(),
        _ => "",
    };
    let hex = text.strip_prefix("Reverted ").unwrap_or(text);
    alloy::primitives::hex::decode(hex).unwrap_or_default()
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
