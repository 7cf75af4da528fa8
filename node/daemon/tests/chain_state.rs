//! How a node shows the state of the chain: what is refused or cannot be paid, what stands still, and no secret of an endpoint.

mod common;

use common::{Chain, TestNode, executor, fund, until, user};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Parts of the URL that the node is given.
const SECRETS: [&str; 4] = ["us3r", "pa,ss", "w0rd", "f00dbabe"];

async fn node(chain: &Chain) -> TestNode {
    let dir = Arc::new(tempfile::tempdir().expect("dir"));
    let mut config = TestNode::config(chain, "node", &dir);
    let host = chain.url.strip_prefix("http://").expect("http");
    config.rpc_urls = format!("http://us3r:pa,ss,w0rd@{host}/?apikey=f00dbabe")
        .parse()
        .expect("urls");
    TestNode::start(config, dir, executor()).await
}

/// Status and body of one request.
async fn ask(node: &TestNode, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(node.config.api_listen)
        .await
        .expect("connected");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        node.token("admin"),
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut all = String::new();
    stream.read_to_string(&mut all).await.expect("text");
    let status = all.split(' ').nth(1).and_then(|s| s.parse().ok());
    (status.expect("a status"), all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_account_is_said_at_once_wherever_somebody_looks() {
    let Some(chain) = Chain::start_with_fees().await else {
        return;
    };
    let node = node(&chain).await;
    let user = user(chain.deployment, 41);
    let registration = serde_json::to_string(&user.user("operator")).expect("JSON");
    let began = std::time::Instant::now();
    let (status, said) = ask(&node, "POST", "/v1/users", &registration).await;
    assert_eq!(status, 503, "{said}");
    assert!(said.contains("send it at least"), "{said}");
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());

    let info = node.api.info().await.expect("info");
    let account = info.node.account;
    let (status, ready) = ask(&node, "GET", "/readyz", "").await;
    assert_eq!(status, 503, "{ready}");
    assert!(
        ready.contains(&account.hex()) && ready.contains("send it at least"),
        "{ready}"
    );
    let (_, metrics) = ask(&node, "GET", "/metrics", "").await;
    for line in [
        "diversity_stuck 1",
        "diversity_account_balance_wei 0",
        "diversity_endpoint_up{endpoint=",
    ] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }
    let (_, info) = ask(&node, "GET", "/v1/info", "").await;
    for secret in SECRETS {
        for words in [&said, &ready, &metrics, &info] {
            assert!(!words.contains(secret), "{words}");
        }
    }

    // Enough for this, and not for much more: ready, with a warning.
    fund(&chain.rpc(), &account, 2_000_000_000_000_000).await;
    let (status, said) = ask(&node, "POST", "/v1/users", &registration).await;
    assert_eq!(status, 200, "{said}");
    until("the warning", async || {
        let (status, words) = ask(&node, "GET", "/readyz", "").await;
        status == 200 && words.contains("warning: account") && words.contains("send it more")
    })
    .await;
    fund(&chain.rpc(), &account, 10_u128.pow(19)).await;
    until("no warning", async || {
        let (status, words) = ask(&node, "GET", "/readyz", "").await;
        status == 200 && !words.contains("warning")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_chain_is_down_no_answer_shows_a_secret_and_what_is_stored_is_shown() {
    let Some(mut chain) = Chain::start_with_fees().await else {
        return;
    };
    let node = node(&chain).await;
    chain.kill();
    until("the trouble", async || {
        ask(&node, "GET", "/readyz", "").await.0 == 503
    })
    .await;
    let (_, ready) = ask(&node, "GET", "/readyz", "").await;
    assert!(ready.contains("cannot be reached"), "{ready}");
    let (status, list) = ask(&node, "GET", "/v1/agreements", "").await;
    assert_eq!(status, 200, "{list}");
    let (status, disputes) = ask(&node, "GET", "/v1/disputes", "").await;
    assert_eq!(status, 200, "{disputes}");
    let (_, metrics) = ask(&node, "GET", "/metrics", "").await;
    assert!(
        metrics.contains("diversity_endpoint_up{endpoint=\"http://127.0.0.1:"),
        "{metrics}"
    );
    for words in [&ready, &list, &disputes, &metrics] {
        for secret in SECRETS {
            assert!(!words.contains(secret), "{words}");
        }
    }
    // Whoever asks for something of the chain hears at once how that is, and what was asked is kept.
    let user = user(chain.deployment, 41);
    let registration = serde_json::to_string(&user.user("operator")).expect("JSON");
    for _ in 0..2 {
        let began = std::time::Instant::now();
        let (status, said) = ask(&node, "POST", "/v1/users", &registration).await;
        assert_eq!(status, 503, "{said}");
        assert!(
            said.contains("is kept and goes to the chain") && said.contains("cannot be reached"),
            "{said}"
        );
        assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
        assert_eq!(node.api.info().await.expect("info").chain.outbox, 1);
        for secret in SECRETS {
            assert!(!said.contains(secret), "{said}");
        }
    }
    assert!(node.api.alive().await);
    let why = node.api.not_ready().await.expect("it answers");
    assert!(why.expect("not ready").contains("cannot be reached"));
}
