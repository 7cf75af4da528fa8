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
    #[error("the chain asks a higher gas price ({message}): raise the minimum gas price setting")]
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
    #[error("the account has not enough funds ({message})")]
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
    /// HTTP 401.
    #[error(
        "the endpoint wants authentication (HTTP 401): put user and password in its URL, or use one without"
    )]
    Unauthorized,
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
    /// Whether the fault lies with this endpoint alone, so that another one may answer.
    pub fn is_endpoints_fault(&self) -> bool {
        matches!(
            self,
            Self::Transient { .. }
                | Self::Malformed { .. }
                | Self::HostNotAllowed
                | Self::Unauthorized
                | Self::MethodOff { .. }
                | Self::WrongChain { .. }
                | Self::WrongChainId { .. }
                | Self::UnknownBlock { .. }
                | Self::BeyondHead { .. }
                | Self::Refused { code: -32603, .. }
        )
    }
    /// Whether waiting and asking again can help without anybody doing anything.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Transient { .. }
                | Self::Unavailable { .. }
                | Self::UnknownBlock { .. }
                | Self::BeyondHead { .. }
                | Self::NonceTooDistant
        )
    }
}

/// Longest part of an endpoint's message that is kept: Besu puts Java stack traces into some.
const MESSAGE_CHARS_MAX: usize = 200;

fn short(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    line.chars().take(MESSAGE_CHARS_MAX).collect()
}

/// Reads a JSON-RPC error.
pub fn classify(method: &str, code: i64, message: &str, data: Option<&Value>) -> RpcError {
    let lower = message.to_lowercase();
    let has = |needle: &str| lower.contains(needle);
    let any = |needles: &[&str]| needles.iter().any(|n| lower.contains(n));
    let message = short(message);

    if code == 3 || has("execution reverted") || has("revert") && data.is_some() {
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
    if has("replacement transaction underpriced") {
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
        "eth_getLogs" => logs(code, &lower, message),
        _ => general(code, &lower, message),
    }
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

fn logs(code: i64, lower: &str, message: String) -> RpcError {
    let any = |needles: &[&str]| needles.iter().any(|n| lower.contains(n));
    if any(&[
        "beyond current head",
        "invalid params",
        "invalid block range",
        "toblock is greater",
    ]) {
        return RpcError::BeyondHead { message };
    }
    if code == -32005
        || any(&[
            "range limit",
            "block range",
            "too many results",
            "query returned more than",
            "response size",
            "limit exceeded",
            "too large",
        ])
    {
        return RpcError::RangeTooLarge { message };
    }
    general(code, lower, message)
}

fn general(code: i64, lower: &str, message: String) -> RpcError {
    let any = |needles: &[&str]| needles.iter().any(|n| lower.contains(n));
    if any(&[
        "timeout",
        "timed out",
        "too many requests",
        "rate limit",
        "overloaded",
        "shutting down",
        "temporarily",
        "starting up",
    ]) || code == 429
    {
        RpcError::Transient { message }
    } else {
        RpcError::Refused { code, message }
    }
}

/// Reads an HTTP status that is no JSON-RPC answer.
pub fn classify_http(status: u16, body: &str) -> Option<RpcError> {
    match status {
        200 => None,
        401 => Some(RpcError::Unauthorized),
        403 => Some(RpcError::HostNotAllowed),
        408 | 425 | 429 | 500..=599 => Some(RpcError::Transient {
            message: format!("HTTP {status}"),
        }),
        // Besu answers some malformed requests with 400 and a JSON-RPC error, which says more than the status.
        _ if body.trim_start().starts_with('{') => None,
        _ => Some(RpcError::Malformed {
            message: format!("HTTP {status}"),
        }),
    }
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
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_columns_of_besu_and_geth_and_anvil_mean_the_same() {
        let send = "eth_sendRawTransaction";
        type Want = fn(&RpcError) -> bool;
        let rows: &[(&str, i64, &str, Want)] = &[
            (send, -32000, "Known transaction", |e| {
                matches!(e, RpcError::KnownTransaction)
            }),
            (send, -32000, "already known", |e| {
                matches!(e, RpcError::KnownTransaction)
            }),
            (send, -32003, "transaction already imported", |e| {
                matches!(e, RpcError::KnownTransaction)
            }),
            (send, -32001, "Nonce too low", |e| {
                matches!(e, RpcError::NonceTooLow)
            }),
            (
                send,
                -32000,
                "nonce too low: next nonce 5, tx nonce 1",
                |e| matches!(e, RpcError::NonceTooLow),
            ),
            (send, -32003, "nonce too low", |e| {
                matches!(e, RpcError::NonceTooLow)
            }),
            (
                send,
                -32000,
                "Transaction nonce is too distant from current sender nonce",
                |e| matches!(e, RpcError::NonceTooDistant),
            ),
            (send, -32004, "Upfront cost exceeds account balance", |e| {
                matches!(e, RpcError::InsufficientFunds { .. })
            }),
            (
                send,
                -32003,
                "Insufficient funds for gas * price + value",
                |e| matches!(e, RpcError::InsufficientFunds { .. }),
            ),
            (
                "eth_estimateGas",
                -32603,
                "Internal error (Internal Error in Besu - java.lang.IllegalStateException: Cannot remove 0x1 wei from account\n at org.hyperledger",
                |e| matches!(e, RpcError::InsufficientFunds { message } if !message.contains("org.hyper")),
            ),
            (
                send,
                -32005,
                "Transaction gas limit exceeds block gas limit",
                |e| matches!(e, RpcError::GasLimit { .. }),
            ),
            (send, -32000, "exceeds block gas limit", |e| {
                matches!(e, RpcError::GasLimit { .. })
            }),
            (
                "eth_getLogs",
                -32005,
                "Requested range exceeds maximum RPC range limit",
                |e| matches!(e, RpcError::RangeTooLarge { .. }),
            ),
            (
                "eth_getLogs",
                -32602,
                "query returned more than 10000 results",
                |e| matches!(e, RpcError::RangeTooLarge { .. }),
            ),
            ("eth_getLogs", -32602, "Invalid params", |e| {
                matches!(e, RpcError::BeyondHead { .. })
            }),
            (
                "eth_getLogs",
                -32000,
                "block range extends beyond current head block",
                |e| matches!(e, RpcError::BeyondHead { .. }),
            ),
            ("eth_getBalance", -39001, "Unknown block", |e| {
                matches!(e, RpcError::UnknownBlock { .. })
            }),
            ("eth_getBalance", -32000, "Block not found", |e| {
                matches!(e, RpcError::UnknownBlock { .. })
            }),
            (
                "eth_getBalance",
                -32602,
                "BlockOutOfRangeError: block height is 132 but requested was 137",
                |e| matches!(e, RpcError::UnknownBlock { .. }),
            ),
            ("eth_coinbase", -32604, "Method not enabled", |e| {
                matches!(e, RpcError::MethodOff { .. })
            }),
            ("evm_mine", -32601, "Method not found", |e| {
                matches!(e, RpcError::MethodOff { .. })
            }),
            (send, -32602, "Invalid transaction type", |e| {
                matches!(e, RpcError::TransactionType { .. })
            }),
            (send, -32602, "Invalid params", |e| {
                matches!(e, RpcError::Refused { .. })
            }),
            (
                send,
                -32009,
                "Gas price below configured minimum gas price",
                |e| matches!(e, RpcError::Underpriced { .. }),
            ),
            (
                send,
                -32000,
                "max fee per gas less than block base fee",
                |e| matches!(e, RpcError::Underpriced { .. }),
            ),
            (send, -32000, "Replacement transaction underpriced", |e| {
                matches!(e, RpcError::ReplacementUnderpriced)
            }),
            (send, -32000, "Transaction fee cap exceeded", |e| {
                matches!(e, RpcError::FeeCap { .. })
            }),
            (send, -32003, "Intrinsic gas exceeds gas limit", |e| {
                matches!(e, RpcError::IntrinsicGas { .. })
            }),
            (send, -32000, "Wrong chainId", |e| {
                matches!(e, RpcError::WrongChainId { .. })
            }),
            (send, -32003, "invalid chain id for signer", |e| {
                matches!(e, RpcError::WrongChainId { .. })
            }),
            (
                "eth_call",
                -32000,
                "Transaction processing could not be completed due to an exception (Invalid opcode: 0x5f)",
                |e| matches!(e, RpcError::EvmFailure { .. }),
            ),
        ];
        for (method, code, message, want) in rows {
            let got = classify(method, *code, message, None);
            assert!(want(&got), "{method} {code} {message}: {got:?}");
        }
    }

    #[test]
    fn revert_data_is_found_in_every_form() {
        for (code, message, data) in [
            (3, "Execution reverted", json!("0xcf479181")),
            (-32000, "Execution reverted", json!("0xcf479181")),
            (3, "execution reverted: nope", json!("0xcf479181")),
            (
                -32015,
                "VM execution error: revert",
                json!({"data": "0xcf479181"}),
            ),
            (-32015, "revert", json!("Reverted 0xcf479181")),
        ] {
            let RpcError::Reverted { data, .. } = classify("eth_call", code, message, Some(&data))
            else {
                panic!("{message}")
            };
            assert_eq!(data, [0xcf, 0x47, 0x91, 0x81], "{message}");
        }
    }

    #[test]
    fn http_statuses_have_words_of_their_own() {
        assert_eq!(
            classify_http(403, "{\"message\":\"Host not authorized.\"}"),
            Some(RpcError::HostNotAllowed)
        );
        assert!(matches!(
            classify_http(503, ""),
            Some(RpcError::Transient { .. })
        ));
        assert!(matches!(
            classify_http(404, "<html>"),
            Some(RpcError::Malformed { .. })
        ));
        assert_eq!(classify_http(400, "{\"error\":{}}"), None);
        assert_eq!(classify_http(200, ""), None);
    }
}
