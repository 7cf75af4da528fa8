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
        classify_http(403, "{\"error\":{\"message\":\"key is not allowed\"}}"),
        Some(RpcError::Unauthorized { status: 403, message }) if message == ": key is not allowed"
    ));
    assert!(matches!(
        classify_http(503, ""),
        Some(RpcError::Transient { .. })
    ));
    assert!(matches!(
        classify_http(404, "<html>"),
        Some(RpcError::Http { status: 404, message }) if message.is_empty()
    ));
    for body in ["", "{\"error\":\"Too Many Requests\"}", "<html>"] {
        assert!(matches!(
            classify_http(429, body),
            Some(RpcError::RateLimited { .. })
        ));
    }
    // A JSON-RPC answer says more than the status.
    for status in [400, 413, 500] {
        assert_eq!(classify_http(status, "{\"error\":{\"code\":-32700}}"), None);
    }
    assert_eq!(classify_http(200, ""), None);
}

/// Each provider's own words for a range of logs, as their users have met them.
pub(super) const RANGE_WORDS: &[(u16, &str)] = &[
    // Besu; Infura; Alchemy; QuickNode; Ankr; BlastAPI; Chainstack; nodes behind proxies.
    (
        200,
        r#"{"code":-32005,"message":"Requested range exceeds maximum RPC range limit"}"#,
    ),
    (
        200,
        r#"{"code":-32005,"message":"query returned more than 10000 results"}"#,
    ),
    (
        200,
        r#"{"code":-32602,"message":"Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range and no limit on the response size, or you can request any block range with a cap of 10K logs in the response."}"#,
    ),
    (
        413,
        r#"{"code":-32614,"message":"eth_getLogs is limited to a 10,000 range"}"#,
    ),
    (
        200,
        r#"{"code":-32600,"message":"Under the Free tier plan, you can make eth_getLogs requests with up to a 10 block range."}"#,
    ),
    (
        200,
        r#"{"code":-32000,"message":"exceed maximum block range: 5000"}"#,
    ),
    (
        400,
        r#"{"code":-32701,"message":"Please specify an address in your request or, to remove restrictions, order a dedicated full node"}"#,
    ),
    (
        200,
        r#"{"code":-32000,"message":"Server error","data":"block range is too wide"}"#,
    ),
    (200, r#"{"code":-32603,"message":"Internal error"}"#),
    (200, r#"{"code":-32000,"message":"query timeout exceeded"}"#),
    (
        200,
        r#"{"code":-1,"message":"","data":{"message":"no more than 1000"}}"#,
    ),
    (500, r#"{"code":-32099,"message":"kaputt"}"#),
];

#[test]
fn what_is_not_explained_may_be_the_range_and_rate_words_are_not() {
    for (_, error) in RANGE_WORDS {
        let error: Value = serde_json::from_str(error).expect("JSON");
        let (code, message) = (error["code"].as_i64(), error["message"].as_str());
        let got = classify(
            "eth_getLogs",
            code.expect("code"),
            message.expect("message"),
            error.get("data"),
        );
        assert!(got.may_be_the_range(), "{error}: {got:?}");
    }
    for (code, message, data) in [
        (
            -32005,
            "daily request count exceeded, request rate limited",
            None,
        ),
        (
            429,
            "Your app has exceeded its compute units per second capacity",
            None,
        ),
        (-32005, "project ID request rate exceeded", None),
        (
            -32000,
            "Server error",
            Some(json!("too many requests, slow down")),
        ),
        (
            -32007,
            "50/second request limit reached - reduce calls per second",
            None,
        ),
    ] {
        for method in ["eth_getLogs", "eth_call", "eth_getBlockByNumber"] {
            let got = classify(method, code, message, data.as_ref());
            assert!(
                matches!(got, RpcError::RateLimited { .. }),
                "{message}: {got:?}"
            );
            assert!(!got.may_be_the_range());
        }
    }
    for (code, message) in [
        (-32601, "the method eth_getLogs does not exist"),
        (-32604, "Method not enabled"),
    ] {
        assert!(!classify("eth_getLogs", code, message, None).may_be_the_range());
    }
}

#[test]
fn a_transaction_that_no_pool_takes_for_its_size_has_words_of_its_own() {
    let geth = "oversized data: transaction size 160034, limit 131072";
    let got = classify("eth_sendRawTransaction", -32000, geth, None);
    assert!(
        matches!(&got, RpcError::Oversized { message } if message == geth),
        "{got:?}"
    );
    assert!(got.to_string().contains("131072"));
}
