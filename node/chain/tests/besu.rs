//! What a client of Besu networks must handle, against recorded answers of Besu 25.11 and 26.8.

mod common;

use alloy::consensus::{Transaction, TxEnvelope};
use alloy::eips::eip2718::Decodable2718;
use common::{Chain, Memory, Server};
use diversity_chain::follow::{Cursor, FollowConfig, FollowError, Follower};
use diversity_chain::rpc::{Call, Rpc, RpcConfig, RpcError};
use diversity_chain::submitter::{Delivered, Outbox, OutboxSettings, Report, Submission};
use diversity_chain::{Account, Contracts, revert};
use diversity_proto::{Address, Digest};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

const CONTRACT: Address = {
    let mut a = [0; 20];
    a[19] = 0xcc;
    Address(a)
};

const CONTRACTS: Contracts = Contracts {
    main: CONTRACT,
    cells: Address([0xce; 20]),
};

fn rpc(servers: &[&Server]) -> Rpc {
    Rpc::new(&RpcConfig::new(servers.iter().map(|s| s.url.clone()))).unwrap()
}

fn account() -> Account {
    Account::from_secret(&[7; 32]).unwrap()
}

fn submission(n: u8) -> Submission {
    Submission {
        id: Digest([n; 32]),
        label: format!("settle {n}"),
        to: Some(CONTRACT),
        data: vec![n; 8],
        patience_ms: None,
        goal: None,
        row: None,
    }
}

async fn outbox(rpc: &Rpc, journal: Arc<Memory>) -> (Outbox, mpsc::Receiver<Delivered>) {
    let mut settings = OutboxSettings::for_chain(1337);
    settings.poll = Duration::from_millis(10);
    settings.submitter.rebroadcast_ms = 50;
    settings.submitter.recheck_ms = 50;
    let chain = rpc.identity().await.unwrap();
    Outbox::start(rpc.clone(), chain, CONTRACTS, account(), journal, settings)
        .await
        .unwrap()
}

async fn next(reports: &mut mpsc::Receiver<Delivered>) -> Delivered {
    tokio::time::timeout(Duration::from_secs(30), reports.recv())
        .await
        .expect("a report")
        .expect("the outbox runs")
}

fn decoded(raw: &[u8]) -> TxEnvelope {
    TxEnvelope::decode_2718(&mut &raw[..]).unwrap()
}

/// Checklist 1.
#[tokio::test]
async fn a_zero_fee_chain_is_paid_nothing_from_an_account_that_has_nothing() {
    let server = Server::start(Chain {
        automine: true,
        ..Chain::new()
    })
    .await;
    let rpc = rpc(&[&server]);
    let (outbox, mut reports) = outbox(&rpc, Arc::default()).await;
    outbox.submit(submission(1)).await.unwrap();
    assert!(matches!(
        next(&mut reports).await.report,
        Report::Mined {
            gas_used: 21_000,
            ..
        }
    ));
    let tx = decoded(&server.with(|c| c.sent[0].clone()));
    assert_eq!(
        (tx.max_fee_per_gas(), tx.max_priority_fee_per_gas()),
        (0, Some(0))
    );
}

/// Checklist 1: since 25.12 no error would ever say so.
#[tokio::test]
async fn a_transaction_that_cannot_be_paid_is_never_sent_and_says_who_and_how_much() {
    let server = Server::start(Chain {
        header: "block_base_fee",
        automine: true,
        ..Chain::new()
    })
    .await;
    let rpc = rpc(&[&server]);
    let (outbox, mut reports) = outbox(&rpc, Arc::default()).await;
    let mut status = outbox.watch();
    outbox.submit(submission(1)).await.unwrap();
    let told = status
        .wait_for(|s| s.waiting.iter().any(|w| w.why.contains("has 0 wei")))
        .await
        .unwrap()
        .waiting[0]
        .why
        .clone();
    assert!(
        told.contains(&account().address().hex()) && told.contains("send it at least"),
        "{told}"
    );
    server.with(|c| {
        assert!(c.sent.is_empty());
        c.balance = 10_u128.pow(18);
        c.mine();
    });
    assert!(matches!(
        next(&mut reports).await.report,
        Report::Mined { .. }
    ));
    let tx = decoded(&server.with(|c| c.sent[0].clone()));
    assert_eq!(tx.max_priority_fee_per_gas(), Some(1_000), "checklist 3");
}

/// Checklist 2: no key in the header, whatever `eth_feeHistory` says.
#[tokio::test]
async fn a_chain_before_london_gets_legacy_transactions() {
    let server = Server::start(Chain {
        header: "block_before_london",
        balance: u128::MAX,
        automine: true,
        ..Chain::new()
    })
    .await;
    let rpc = rpc(&[&server]);
    let (outbox, mut reports) = outbox(&rpc, Arc::default()).await;
    outbox.submit(submission(1)).await.unwrap();
    next(&mut reports).await;
    let tx = decoded(&server.with(|c| c.sent[0].clone()));
    assert!(matches!(tx, TxEnvelope::Legacy(_)));
    assert_eq!(
        (tx.max_fee_per_gas(), tx.chain_id()),
        (1_000_000_000, Some(1337))
    );
}

/// Checklist 6, 7, 8, 10: what is never asked, because it does not exist, expires or lies.
#[tokio::test]
async fn neither_tags_of_finality_nor_filters_nor_pending_counts_nor_blocks_beyond_the_head_are_asked_for()
 {
    let server = Server::start(Chain {
        automine: true,
        forks: vec![0; 12_001],
        ..Chain::new()
    })
    .await;
    for block in [3, 4_999, 5_000, 5_001, 11_999, 12_000] {
        server.with(|c| c.log(block, 0, json!([Digest([9; 32]).hex()]), &[]));
    }
    let rpc = rpc(&[&server]);
    let (outbox, mut reports) = outbox(&rpc, Arc::default()).await;
    let mut follower = Follower::new(rpc, CONTRACTS, FollowConfig::for_chain(1337), None);
    let mut blocks = Vec::new();
    loop {
        let progress = follower.look().await.unwrap();
        blocks.extend(progress.events.iter().map(|e| e.at.block));
        if progress.caught_up {
            break;
        }
    }
    assert_eq!(blocks, [3, 4_999, 5_000, 5_001, 11_999, 12_000]);
    outbox.submit(submission(1)).await.unwrap();
    next(&mut reports).await;
    server.with(|c| {
        let text = format!("{:?}", c.asked);
        for never in [
            "finalized",
            "safe",
            "pending",
            "Filter",
            "subscribe",
            "eth_sendTransaction",
        ] {
            assert!(!text.contains(never), "{never} was asked for");
        }
        for (method, params) in &c.asked {
            if method == "eth_getLogs" {
                let to = params[0]["toBlock"].as_str().unwrap();
                assert!(u64::from_str_radix(&to[2..], 16).unwrap() <= 12_000);
            }
        }
    });
}

/// Checklist 5, 7: -32005 is no rate limit.
#[tokio::test]
async fn a_smaller_range_of_an_endpoint_is_found_by_halving_and_remembered() {
    let server = Server::start(Chain {
        forks: vec![0; 1_001],
        log_range: 100,
        ..Chain::new()
    })
    .await;
    server.with(|c| c.log(777, 4, json!([Digest([9; 32]).hex()]), &[]));
    let mut follower = Follower::new(
        rpc(&[&server]),
        CONTRACTS,
        FollowConfig::for_chain(1337),
        None,
    );
    let mut found = 0;
    loop {
        let progress = follower.look().await.unwrap();
        found += progress.events.len();
        if progress.caught_up {
            break;
        }
    }
    assert_eq!(found, 1);
    // 1001, 500, 250, 125 fail or fit; after that none is refused again.
    assert!(server.with(|c| c.asked_for("eth_getLogs")) < 25);
    let again = Cursor::decode(&follower.cursor().encode()).unwrap();
    assert_eq!(again.block(), Some(1_000));
}

/// Checklist 11: the pool is not saved over a restart.
#[tokio::test]
async fn identical_bytes_are_sent_again_after_chain_and_node_were_restarted() {
    let server = Server::start(Chain::new()).await;
    let journal = Arc::<Memory>::default();
    let rpc = rpc(&[&server]);
    let (first, reports) = outbox(&rpc, journal.clone()).await;
    first.submit(submission(1)).await.unwrap();
    server.until("sent", |c| c.sent.len() >= 2).await;
    // Both go down; the chain comes back later than the node, with an empty pool.
    drop((first, reports));
    server.with(|c| {
        c.dead = true;
        c.pool.clear();
    });
    let settings = OutboxSettings {
        poll: Duration::from_millis(10),
        ..OutboxSettings::for_chain(1337)
    };
    let chain = rpc.identity().await.unwrap();
    let (outbox, mut reports) =
        Outbox::start(rpc.clone(), chain, CONTRACTS, account(), journal, settings)
            .await
            .unwrap();
    let mut status = outbox.watch();
    let told = status
        .wait_for(|s| s.trouble.is_some())
        .await
        .unwrap()
        .trouble
        .clone()
        .unwrap();
    assert!(told.contains("cannot be reached"), "{told}");
    assert!(outbox.status().waiting[0].why.contains("cannot be reached"));
    server.with(|c| c.dead = false);
    server.until("sent again", |c| !c.pool.is_empty()).await;
    server.with(Chain::mine);
    assert!(matches!(
        next(&mut reports).await.report,
        Report::Mined { .. }
    ));
    server.with(|c| assert!(c.sent.iter().all(|s| *s == c.sent[0]), "identical bytes"));
}

/// Checklist 14: accepted by one endpoint, never seen by the validators.
#[tokio::test]
async fn what_one_endpoint_keeps_to_itself_is_sent_through_the_others() {
    let validators = Server::start(Chain::new()).await;
    let forgetful = Server::start(Chain {
        forgets: true,
        ..Chain::new()
    })
    .await;
    let rpc = rpc(&[&forgetful, &validators]);
    let (outbox, mut reports) = outbox(&rpc, Arc::default()).await;
    outbox.submit(submission(1)).await.unwrap();
    validators
        .until("the other endpoint has it", |c| !c.pool.is_empty())
        .await;
    assert!(forgetful.with(|c| !c.sent.is_empty()));
    validators.with(Chain::mine);
    assert!(matches!(
        next(&mut reports).await.report,
        Report::Mined { .. }
    ));
}

/// Checklist 15.
#[tokio::test]
async fn failover_goes_past_dead_foreign_lagging_and_refusing_endpoints() {
    let good = Server::start(Chain {
        forks: vec![0; 101],
        ..Chain::new()
    })
    .await;
    let dead = Server::start(Chain {
        dead: true,
        ..Chain::new()
    })
    .await;
    let foreign = Server::start(Chain {
        chain_id: 1,
        ..Chain::new()
    })
    .await;
    let other_genesis = Server::start(Chain {
        genesis: 9,
        ..Chain::new()
    })
    .await;
    let lagging = Server::start(Chain {
        forks: vec![0; 51],
        ..Chain::new()
    })
    .await;
    let refusing = Server::start(Chain::new()).await;
    refusing.with(|c| c.script.insert("*".into(), "host_not_allowed".into()));

    let mut config = RpcConfig::new(
        [&dead, &foreign, &other_genesis, &lagging, &refusing, &good].map(|s| s.url.clone()),
    );
    config.chain_id = Some(1337);
    config.genesis = Some(good.with(|c| c.hash(0)));
    let rpc = Rpc::new(&config).unwrap();
    assert_eq!(
        rpc.head().await.unwrap().number,
        100,
        "the lagging one does not count"
    );
    assert_eq!(rpc.balance(&CONTRACT).await.unwrap(), 0);
    let words: Vec<_> = rpc
        .status()
        .into_iter()
        .map(|s| s.trouble.unwrap_or_default())
        .collect();
    assert!(words[0].contains("cannot be reached"), "{words:?}");
    assert!(
        words[1].contains("serves another chain") && words[1].contains("chain id 1 "),
        "{words:?}"
    );
    assert!(words[2].contains("serves another chain"), "{words:?}");
    assert!(words[3].is_empty() && words[5].is_empty(), "{words:?}");
    assert!(words[4].contains("allow-list"), "{words:?}");

    // An answer is never hidden by the faults of others, nor a refusal asked again elsewhere.
    good.with(|c| c.script.insert("eth_call".into(), "revert_new".into()));
    let call = Call {
        from: CONTRACT,
        to: Some(CONTRACT),
        data: vec![2],
    };
    let one = Rpc::new(&RpcConfig {
        endpoints: vec![dead.url.clone(), good.url.clone()],
        ..config.clone()
    })
    .unwrap();
    assert!(matches!(
        one.call(&call).await,
        Err(RpcError::Reverted { .. })
    ));

    let alone = Rpc::new(&RpcConfig {
        endpoints: vec![foreign.url.clone()],
        ..config
    })
    .unwrap();
    let text = alone.head().await.unwrap_err().to_string();
    assert!(
        text.contains("start a new node for the other chain"),
        "{text}"
    );
}

/// Checklist 16, both columns.
#[tokio::test]
async fn reverts_of_old_and_new_versions_carry_their_data() {
    for name in ["revert_new", "revert_25_11"] {
        let server = Server::start(Chain::new()).await;
        server.with(|c| c.script.insert("eth_call".into(), name.into()));
        let call = Call {
            from: CONTRACT,
            to: Some(CONTRACT),
            data: vec![2],
        };
        let Err(RpcError::Reverted { data, .. }) = rpc(&[&server]).call(&call).await else {
            panic!("{name}")
        };
        assert_eq!(data[..4], [0xcf, 0x47, 0x91, 0x81]);
        assert!(revert::explain(&data).words.contains("0xcf479181"));
    }
}

/// Checklist 16: with and without --revert-reason-enabled.
#[tokio::test]
async fn receipts_of_reverted_transactions_are_read() {
    for (name, reason) in [
        ("receipt_reverted", false),
        ("receipt_reverted_with_reason", true),
    ] {
        let server = Server::start(Chain::new()).await;
        server.with(|c| {
            c.script
                .insert("eth_getTransactionReceipt".into(), name.into())
        });
        let receipt = rpc(&[&server])
            .receipt(&Digest([1; 32]))
            .await
            .unwrap()
            .unwrap();
        assert!(!receipt.success);
        assert_eq!(receipt.revert_reason.is_some(), reason);
    }
}

/// Checklist 17, both columns.
#[tokio::test]
async fn an_absent_block_is_nothing_and_no_failure() {
    for name in ["absent_block_new", "absent_block_25_11", "finalized"] {
        let server = Server::start(Chain::new()).await;
        let rpc = rpc(&[&server]);
        rpc.identity().await.unwrap();
        server.with(|c| c.script.insert("eth_getBlockByNumber".into(), name.into()));
        assert_eq!(rpc.block(1_000_000).await, Ok(None), "{name}");
        // Where `latest` was asked for, null is no balance.
        server.with(|c| c.script.insert("eth_getBalance".into(), name.into()));
        let balance = rpc.balance(&CONTRACT).await;
        match name {
            "absent_block_new" => {
                assert!(matches!(&balance, Err(e @ RpcError::NoLatest { .. }) if !e.is_passing()))
            }
            _ => assert!(
                matches!(balance, Err(RpcError::UnknownBlock { .. })),
                "{name}"
            ),
        }
    }
}

/// Checklist 18: PUSH0 fails where Shanghai is not enabled.
#[test]
fn the_contracts_are_compiled_for_chains_without_shanghai() {
    for text in [
        include_str!("../../../contracts/artifacts/Evidence.json"),
        include_str!("../../../contracts/artifacts/Holes.json"),
        include_str!("../../../contracts/artifacts/Resolutions.json"),
        include_str!("../../../contracts/artifacts/MainContract.json"),
        include_str!("../../../contracts/artifacts/Cells.json"),
    ] {
        let artifact: serde_json::Value = serde_json::from_str(text).unwrap();
        let version = artifact["evmVersion"].as_str().unwrap();
        assert!(
            ["berlin", "london", "paris"].contains(&version),
            "{version}"
        );
        // Checklist 19.
        assert!(artifact["deployedBytecodeBytes"].as_u64().unwrap() <= 24_576);
    }
}

/// Checklist 22.
#[tokio::test]
async fn a_host_that_is_not_allowed_is_named_in_words() {
    let server = Server::start(Chain::new()).await;
    server.with(|c| c.script.insert("*".into(), "host_not_allowed".into()));
    let text = rpc(&[&server]).head().await.unwrap_err().to_string();
    assert!(text.contains("allow-list"), "{text}");
}

#[tokio::test]
async fn a_chain_that_takes_blocks_back_is_read_again_from_the_last_common_block() {
    let server = Server::start(Chain {
        forks: vec![0; 101],
        ..Chain::new()
    })
    .await;
    let topics = json!([Digest([9; 32]).hex()]);
    for block in [90, 95, 98, 100] {
        server.with(|c| c.log(block, 0, topics.clone(), &[]));
    }
    let rpc = rpc(&[&server]);
    let config = FollowConfig {
        lag_grace: Duration::ZERO,
        ..FollowConfig::for_chain(1337)
    };
    let mut follower = Follower::new(rpc.clone(), CONTRACTS, config, None);
    let progress = follower.look().await.unwrap();
    assert_eq!(progress.events.len(), 4);

    for (depth, then) in [(1u64, 101u64), (3, 98), (10, 105)] {
        server.with(|c| {
            let common = c.head() - depth;
            c.forks.truncate(common as usize + 1);
            c.forks.resize(then as usize + 1, depth as u8);
            c.logs.retain(|l| {
                u64::from_str_radix(&l["blockNumber"].as_str().unwrap()[2..], 16).unwrap() <= common
            });
            c.log(then, 0, topics.clone(), &[]);
        });
        let progress = follower.look().await.unwrap();
        let ancestor = progress.rewound.expect("a step back");
        assert!(progress.events.is_empty());
        let kept: Vec<_> = server.with(|c| c.logs.clone());
        // Everything above the ancestor comes again, and nothing that is gone.
        let mut seen = Vec::new();
        loop {
            let progress = follower.look().await.unwrap();
            seen.extend(progress.events.iter().map(|e| e.at.block));
            if progress.caught_up {
                break;
            }
        }
        let want: Vec<_> = kept
            .iter()
            .map(|l| u64::from_str_radix(&l["blockNumber"].as_str().unwrap()[2..], 16).unwrap())
            .filter(|n| *n > ancestor)
            .collect();
        assert_eq!(seen, want, "depth {depth}");
    }
}

#[tokio::test]
async fn a_chain_that_lost_its_blocks_is_refused_in_words_and_one_that_lags_is_waited_for() {
    let server = Server::start(Chain {
        forks: vec![0; 501],
        ..Chain::new()
    })
    .await;
    let rpc = rpc(&[&server]);
    let config = FollowConfig {
        lag_grace: Duration::from_secs(3600),
        ..FollowConfig::for_chain(1337)
    };
    let mut follower = Follower::new(rpc.clone(), CONTRACTS, config, None);
    follower.look().await.unwrap();
    let cursor = follower.cursor().clone();

    server.with(|c| c.forks.truncate(301));
    assert!(matches!(
        follower.look().await,
        Err(FollowError::Behind {
            head: 300,
            cursor: 500
        })
    ));
    let config = FollowConfig {
        lag_grace: Duration::ZERO,
        ..config
    };
    let mut follower = Follower::new(rpc, CONTRACTS, config, Some(cursor));
    let text = follower.look().await.unwrap_err().to_string();
    assert!(
        text.contains("has lost blocks")
            && text.contains("block 500")
            && text.contains("block 300"),
        "{text}"
    );
    // Nothing has moved: when the chain is restored, it goes on.
    server.with(|c| c.forks.resize(601, 0));
    assert!(follower.look().await.unwrap().caught_up);
}

#[tokio::test]
async fn https_endpoints_work_with_an_authority_of_ones_own() {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use std::io::{Read, Write};

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificate =
        CertificateDer::from_pem_slice(include_bytes!("fixtures/tls-localhost.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("fixtures/tls-localhost.key")).unwrap();
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let tls = Arc::new(tls);
    std::thread::spawn(move || {
        let mut chain = Chain::new();
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(tls.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            let mut received = Vec::new();
            let mut chunk = [0; 4096];
            // A client that does not trust the certificate goes away in the handshake.
            while let Ok(n @ 1..) = stream.read(&mut chunk) {
                received.extend_from_slice(&chunk[..n]);
                let text = String::from_utf8_lossy(&received).to_string();
                let Some((head, body)) = text.split_once("\r\n\r\n") else {
                    continue;
                };
                let length = head.lines().find_map(|l| {
                    l.to_lowercase()
                        .strip_prefix("content-length: ")
                        .map(str::to_owned)
                });
                if length.is_some_and(|l| body.len() < l.parse().unwrap()) {
                    continue;
                }
                let request: serde_json::Value = serde_json::from_str(body).unwrap();
                let (status, answer) =
                    chain.answer(request["method"].as_str().unwrap(), &request["params"]);
                stream
                    .write_all(&common::response(status, &answer))
                    .unwrap();
                stream.flush().unwrap();
                received.clear();
            }
        }
    });
    let mut config = RpcConfig::new([format!("https://localhost:{port}")]);
    let text = Rpc::new(&config)
        .unwrap()
        .head()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("no connection"),
        "an unknown authority is not trusted: {text}"
    );
    config.ca_pem = Some(include_bytes!("fixtures/tls-authority.pem").to_vec());
    assert_eq!(Rpc::new(&config).unwrap().head().await.unwrap().number, 10);
}

#[tokio::test]
async fn urls_and_secrets() {
    let bad = |url: &str| Rpc::new(&RpcConfig::new([url])).err().unwrap().to_string();
    assert!(bad("ws://localhost:8546").contains("only http and https"));
    assert!(bad("localhost").contains("is not a URL"));
    // What cannot be read may hold a secret anywhere.
    for url in [
        "user:s3cret@localhost",
        "http://us3r:s3cret@local host",
        "http://us3r:s3/cret@localhost:x",
        "wss://us3r:s3cret@localhost/k3y",
    ] {
        let words = bad(url);
        for secret in ["s3", "us3r", "cret", "k3y"] {
            assert!(!words.contains(secret), "{url}: {words}");
        }
    }
    assert!(
        Rpc::new(&RpcConfig::new(Vec::<String>::new()))
            .err()
            .unwrap()
            .to_string()
            .contains("at least one")
    );
    let rpc = Rpc::new(&RpcConfig::new([
        "http://user:secret@127.0.0.1:1/token-in-path?key=abc",
    ]))
    .unwrap();
    let text = format!("{} {:?}", rpc.head().await.unwrap_err(), rpc.status());
    for secret in ["secret", "token-in-path", "abc"] {
        assert!(!text.contains(secret), "{text}");
    }
}
