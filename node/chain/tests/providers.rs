//! Endpoints of providers, each with its own words, limits and ways to fail.

mod common;

use common::{Chain, Server};
use diversity_chain::Contracts;
use diversity_chain::follow::{FollowConfig, Follower};
use diversity_chain::rpc::{EndpointError, Rpc, RpcConfig, RpcError};
use diversity_proto::{Address, Digest};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

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

fn long(blocks: usize) -> Chain {
    Chain {
        forks: vec![0; blocks + 1],
        ..Chain::new()
    }
}

/// Reads everything that there is; the number of events.
async fn read_all(follower: &mut Follower) -> usize {
    let mut found = 0;
    loop {
        let progress = follower.look().await.unwrap();
        found += progress.events.len();
        if progress.caught_up {
            return found;
        }
    }
}

fn event(chain: &mut Chain, block: u64) {
    chain.log(block, 0, json!([Digest([9; 32]).hex()]), &[]);
}

/// Refusals of a range as users of providers have met them; none of the words is known to the client.
fn refusals() -> Vec<(u16, Value)> {
    let error = |code: i64, message: &str| json!({"code": code, "message": message});
    vec![
        (
            200,
            error(-32005, "Requested range exceeds maximum RPC range limit"),
        ),
        (200, error(-32005, "query returned more than 10000 results")),
        (
            200,
            error(
                -32602,
                "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range",
            ),
        ),
        (
            413,
            error(-32614, "eth_getLogs is limited to a 10,000 range"),
        ),
        (
            400,
            error(
                -32600,
                "Under the Free tier plan, you can make eth_getLogs requests with up to a 10 block range.",
            ),
        ),
        (
            200,
            json!({"code": -32000, "message": "Server error", "data": "block range is too wide"}),
        ),
        (200, json!({"code": -32603, "message": "Internal error"})),
        (200, error(-32000, "query timeout exceeded")),
        (500, error(-1, "")),
        (200, error(-32602, "Invalid params")),
        (200, error(3, "execution reverted")),
        (200, error(-39001, "Unknown block")),
    ]
}

#[tokio::test]
async fn a_range_is_halved_whatever_the_provider_says() {
    for (status, error) in refusals() {
        let server = Server::start(Chain {
            log_range: 100,
            logs_refusal: Some((status, error.clone())),
            ..long(1_000)
        })
        .await;
        server.with(|c| event(c, 777));
        let mut follower = Follower::new(
            rpc(&[&server]),
            CONTRACTS,
            FollowConfig::for_chain(1337),
            None,
        );
        assert_eq!(read_all(&mut follower).await, 1, "{status} {error}");
        let asked = server.with(|c| c.asked_for("eth_getLogs"));
        assert!(asked < 26, "{status} {error}: {asked} questions");
    }
}

#[tokio::test]
async fn a_page_of_html_instead_of_logs_halves_the_range_too() {
    // No JSON at all, over more blocks than one: there is one block at the end.
    let server = Server::start(long(40)).await;
    let rpc = rpc(&[&server]);
    rpc.head().await.unwrap();
    server.with(|c| {
        c.logs_refusal = Some((400, Value::Null));
        c.log_range = 1;
        event(c, 33);
    });
    let (logs, last) = rpc.logs(&[CONTRACT], 32, 40).await.unwrap();
    assert_eq!((logs.len(), last), (1, 33));
}

#[tokio::test]
async fn the_range_grows_again_after_answers() {
    let server = Server::start(Chain {
        log_range: 10,
        logs_refusal: Some((400, json!({"code": -32600, "message": "plan"}))),
        ..long(20_000)
    })
    .await;
    let mut follower = Follower::new(
        rpc(&[&server]),
        CONTRACTS,
        FollowConfig::for_chain(1337),
        None,
    );
    follower.look().await.unwrap();
    server.with(|c| {
        c.log_range = 5_000;
        c.asked.clear();
    });
    read_all(&mut follower).await;
    let asked = server.with(|c| c.asked_for("eth_getLogs"));
    assert!(asked < 130, "20,000 blocks took {asked} questions");
    // A limit that stays is tried again ever less often.
    server.with(|c| {
        c.log_range = 10;
        c.forks.resize(30_001, 0);
        c.asked.clear();
    });
    read_all(&mut follower).await;
    let (asked, refused) = server.with(|c| {
        let span = |p: &Value| {
            let n = |v: &Value| u64::from_str_radix(&v.as_str().unwrap()[2..], 16).unwrap();
            n(&p[0]["toBlock"]) - n(&p[0]["fromBlock"])
        };
        let logs = c.asked.iter().filter(|(m, _)| m == "eth_getLogs");
        let spans: Vec<_> = logs.map(|(_, p)| span(p)).collect();
        (spans.len(), spans.iter().filter(|s| **s > 10).count())
    });
    assert!(refused < 25, "{refused} of {asked} were refused");
}

/// A provider that limits the rate is left alone, and not asked for fewer blocks.
#[tokio::test]
async fn rate_limits_are_waited_for_and_others_are_asked_meanwhile() {
    for raw in [
        "HTTP/1.1 429 Too Many Requests\r\nretry-after: 30\r\ncontent-length: 0\r\n\r\n".to_owned(),
        answer(
            200,
            r#"{"id":1,"error":{"code":-32005,"message":"daily request count exceeded, request rate limited"}}"#,
        ),
        answer(400, r#"{"error":"Too Many Requests"}"#),
    ] {
        let limited = Server::start(long(500)).await;
        let other = Server::start(long(500)).await;
        other.with(|c| event(c, 400));
        let both = rpc(&[&limited, &other]);
        both.head().await.unwrap();
        limited.with(|c| c.raw = Some(raw.clone()));
        let (logs, last) = both.logs(&[CONTRACT], 0, 500).await.unwrap();
        assert_eq!((logs.len(), last), (1, 500), "{raw}");
        let asked = limited.with(|c| c.asked.len());
        for _ in 0..10 {
            both.balance(&CONTRACT).await.unwrap();
        }
        assert_eq!(limited.with(|c| c.asked.len()), asked, "it is left alone");
        let trouble = both.status()[0].trouble.clone().unwrap();
        assert!(trouble.contains("how often it is asked"), "{trouble}");

        // Alone it is left alone as well, and the error says for how long.
        let alone = rpc(&[&limited]);
        let error = alone.balance(&CONTRACT).await.unwrap_err();
        assert!(
            matches!(error, RpcError::RateLimited { wait_s: 1.., .. }),
            "{error:?}"
        );
        let asked = limited.with(|c| c.asked.len());
        assert!(alone.balance(&CONTRACT).await.is_err());
        assert_eq!(limited.with(|c| c.asked.len()), asked);
    }
}

fn answer(status: u16, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Words that nobody has seen before are no reason to stop.
#[tokio::test]
async fn a_read_that_one_endpoint_refuses_goes_to_the_next() {
    let odd = Server::start(long(10)).await;
    let good = Server::start(Chain {
        balance: 7,
        ..long(10)
    })
    .await;
    let rpc = rpc(&[&odd, &good]);
    rpc.head().await.unwrap();
    for raw in [
        answer(
            200,
            r#"{"id":1,"error":{"code":-32098,"message":"not on your plan"}}"#,
        ),
        answer(
            200,
            r#"{"id":1,"error":{"code":-32603,"message":"Internal error"}}"#,
        ),
        answer(402, r#"{"message":"pay"}"#),
        answer(404, "<html>"),
        answer(200, r#"{"id":1,"result":null}"#),
        answer(200, "{"),
    ] {
        odd.with(|c| c.raw = Some(raw.clone()));
        assert_eq!(rpc.balance(&CONTRACT).await, Ok(7), "{raw}");
        assert_eq!(rpc.head().await.unwrap().number, 10, "{raw}");
    }
}

#[tokio::test]
async fn a_hanging_endpoint_costs_one_probe_and_comes_back_by_itself() {
    let first = Server::start(long(10)).await;
    let second = Server::start(long(10)).await;
    let mut config = RpcConfig::new([first.url.clone(), second.url.clone()]);
    config.timeout = Duration::from_secs(3);
    let rpc = Rpc::new(&config).unwrap();
    rpc.head().await.unwrap();
    first.with(|c| c.hangs = true);
    let began = Instant::now();
    for n in 11..40 {
        second.with(Chain::mine);
        assert_eq!(rpc.head().await.unwrap().number, n);
        assert!(rpc.block(n).await.unwrap().is_some());
        assert_eq!(rpc.balance(&CONTRACT).await, Ok(0));
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(8), "29 blocks took {took:?}");
    assert!(rpc.status()[0].trouble.is_some());
    let asked = first.with(|c| c.asked.len());
    assert!(asked < 16, "it was asked {asked} times");

    first.with(|c| {
        c.hangs = false;
        c.forks.resize(40, 0);
    });
    let recovered = async {
        while rpc.status()[0].trouble.is_some() {
            rpc.head().await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), recovered)
        .await
        .expect("a probe in the background finds it well");
}

/// Alone there is nobody to prefer; the answer is an error after one timeout.
#[tokio::test]
async fn an_endpoint_that_hangs_alone_is_an_error_after_its_timeout() {
    let server = Server::start(Chain {
        hangs: true,
        ..Chain::new()
    })
    .await;
    let mut config = RpcConfig::new([server.url.clone()]);
    config.timeout = Duration::from_millis(200);
    let error = Rpc::new(&config).unwrap().head().await.unwrap_err();
    assert!(error.to_string().contains("timed out"), "{error}");
}

#[tokio::test]
async fn null_for_the_newest_block_is_trouble_and_not_an_answer() {
    let null = Server::start(Chain::new()).await;
    let rpc = rpc(&[&null]);
    rpc.head().await.unwrap();
    null.with(|c| c.raw = Some(answer(200, r#"{"id":1,"result":null}"#)));
    for error in [
        rpc.head().await.unwrap_err(),
        rpc.balance(&CONTRACT).await.unwrap_err(),
        rpc.transaction_count(&CONTRACT).await.unwrap_err(),
        rpc.code(&CONTRACT).await.unwrap_err(),
        rpc.gas_price().await.unwrap_err(),
    ] {
        assert!(!error.is_passing(), "{error:?}");
        assert!(error.to_string().contains("null"), "{error}");
    }
    assert!(rpc.status()[0].trouble.is_some());
}

/// Heads of two endpoints differ by the road between validators: nothing is read twice, nothing is said.
#[tokio::test]
async fn endpoints_one_block_apart_are_no_trouble_and_many_blocks_apart_are_told() {
    let ahead = Server::start(long(100)).await;
    let behind = Server::start(long(99)).await;
    let both = rpc(&[&ahead, &behind]);
    let mut follower = Follower::new(both.clone(), CONTRACTS, FollowConfig::for_chain(1337), None);
    assert_eq!(follower.look().await.unwrap().cursor.block(), Some(100));
    // The better one falls silent: the other has one block less, and the cursor waits for it.
    ahead.with(|c| c.dead = true);
    for _ in 0..5 {
        let progress = follower.look().await.expect("no trouble");
        assert_eq!(
            (progress.rewound, progress.cursor.block()),
            (None, Some(100))
        );
        assert!(progress.pause, "not in a tight loop");
    }
    behind.with(|c| c.forks.resize(103, 0));
    assert_eq!(follower.look().await.unwrap().cursor.block(), Some(102));

    ahead.with(|c| {
        c.dead = false;
        c.forks.resize(301, 0);
    });
    let told = async {
        while !both.status()[1].lags {
            both.head().await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), told)
        .await
        .expect("200 blocks behind is worth a word");
}

#[tokio::test]
async fn redirects_are_not_followed_and_name_their_target_without_its_secrets() {
    let server = Server::start(Chain::new()).await;
    for (location, want) in [
        (
            "https://us3r:s3cret@rpc.example:8/k3y?t=0k3n",
            "redirects to https://rpc.example:8 (HTTP 301)",
        ),
        ("/v3/k3yk3y", "another path of the same host"),
    ] {
        let raw =
            format!("HTTP/1.1 301 Moved\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        server.with(|c| c.raw = Some(raw));
        let error = rpc(&[&server]).head().await.unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
        for secret in ["s3cret", "us3r", "k3y", "0k3n"] {
            assert!(!error.contains(secret), "{error}");
        }
    }
}

#[tokio::test]
async fn a_bearer_token_comes_from_a_file_and_a_new_one_is_read_when_it_is_refused() {
    let server = Server::start(Chain::new()).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let open = || {
        let mut config = RpcConfig::new([server.url.clone()]);
        config.token_file = Some(file.clone());
        Rpc::new(&config)
    };
    for content in [None, Some(""), Some("two words"), Some("\u{e4}")] {
        if let Some(content) = content {
            write_private(&file, content);
        }
        assert!(
            matches!(open(), Err(EndpointError::Token { .. })),
            "{content:?}"
        );
    }
    write_private(&file, "t0k3n-one\n");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let exposed = open().err().expect("others can read it").to_string();
    assert!(
        exposed.contains("chmod 600") && !exposed.contains("t0k3n"),
        "{exposed}"
    );
    write_private(&file, "t0k3n-one\n");
    let rpc = open().unwrap();
    rpc.head().await.unwrap();
    let head = server.with(|c| c.last_head.clone());
    assert!(
        head.contains("authorization: Bearer t0k3n-one\r\n"),
        "{head}"
    );

    // The endpoint repeats what it was told.
    server.with(|c| c.raw = Some(answer(401, r#"{"message":"t0k3n-one has expired"}"#)));
    let error = rpc.head().await.unwrap_err();
    let words = format!("{error} {error:?} {:?}", rpc.status());
    assert!(
        words.contains("has expired") && !words.contains("t0k3n"),
        "{words}"
    );
    server.with(|c| c.raw = None);
    write_private(&file, "t0k3n-two\n");
    rpc.head().await.unwrap();
    assert!(server.with(|c| c.last_head.contains("Bearer t0k3n-two\r\n")));
}

/// Whatever an endpoint repeats of its URL is hidden, in errors of every kind.
#[tokio::test]
async fn what_an_endpoint_repeats_of_its_url_is_hidden() {
    let server = Server::start(Chain::new()).await;
    let host = server.url.strip_prefix("http://").unwrap();
    let url = format!("http://us3r:pa%2Css,w0rd@{host}/v3/k3yk3y?apikey=f00dbabe");
    let rpc = Rpc::new(&RpcConfig::new([url])).unwrap();
    rpc.head().await.unwrap();
    let head = server.with(|c| c.last_head.clone());
    // us3r:pa,ss,w0rd
    assert!(
        head.contains("authorization: Basic dXMzcjpwYSxzcyx3MHJk\r\n"),
        "{head}"
    );
    let said = "no k3yk3y f00dbabe us3r pa,ss,w0rd /v3/k3yk3y?apikey=f00dbabe";
    for raw in [
        answer(200, &json!({"error": {"code": -32000, "message": said}}).to_string()),
        answer(200, &json!({"error": {"code": -32000, "message": "x", "data": said}}).to_string()),
        answer(200, &json!({"error": {"code": 3, "message": "execution reverted", "data": {"message": said}}}).to_string()),
        answer(200, &json!({"error": said}).to_string()),
        answer(403, &json!({"message": said}).to_string()),
        answer(400, &json!({"error": {"message": said}}).to_string()),
        answer(429, &json!({"message": said}).to_string()),
        answer(200, &json!({"result": said}).to_string()),
        answer(200, said),
        answer(418, said),
    ] {
        server.with(|c| c.raw = Some(raw.clone()));
        let call = diversity_chain::rpc::Call {
            from: CONTRACT,
            to: Some(CONTRACT),
            data: vec![2],
        };
        let error = rpc.call(&call).await.unwrap_err();
        let words = format!("{error} {error:?} {:?}", rpc.status());
        for secret in ["us3r", "pa,ss", "w0rd", "k3yk3y", "f00dbabe", "apikey"] {
            assert!(!words.contains(secret), "{raw}: {words}");
        }
    }
}

/// A transaction that one endpoint refuses for a limit of its own goes to the next one.
#[tokio::test]
async fn a_transaction_goes_past_an_endpoint_with_a_limit_of_its_own() {
    let strict = Server::start(Chain::new()).await;
    let good = Server::start(Chain::new()).await;
    let rpc = rpc(&[&strict, &good]);
    rpc.head().await.unwrap();
    let account = diversity_chain::Account::from_secret(&[7; 32]).unwrap();
    let (bytes, hash) = account.sign(&diversity_chain::Unsigned {
        chain_id: 1337,
        nonce: 0,
        to: Some(CONTRACT),
        value: 0,
        data: &[1],
        gas_limit: 21_000,
        fees: diversity_chain::fees::Fees::Dynamic { max_fee: 0, tip: 0 },
    });
    for words in [
        "Transaction fee cap exceeded",
        "oversized data: transaction size 160034, limit 131072",
        "Gas price below configured minimum gas price",
        "whatever",
    ] {
        let error = json!({"error": {"code": -32000, "message": words}});
        strict.with(|c| c.raw = Some(answer(200, &error.to_string())));
        good.with(|c| c.pool.clear());
        assert_eq!(rpc.send_raw(&bytes, false).await, Ok(hash), "{words}");
    }
}

/// A file that only its owner reads, as secrets have to be.
fn write_private(path: impl AsRef<std::path::Path>, content: &str) {
    std::fs::write(&path, content).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("ours");
}
