//! Every route without a token and with each scope; every error a problem document; bad input changes nothing.

mod common;

use common::{BIKE, Chain, Lock, MONTHS, TestNode, World, batch, executor, terms, until, user};
use diversity_client::api::{AcceptRequest, Acknowledgement, Problem, ROUTES, Scope, codes};
use diversity_client::terms_json::QosJson;
use diversity_proto::{AgreementId, Digest};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// An answer as it came.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Answer {
    fn problem(&self) -> Problem {
        assert!(
            self.headers.contains("application/problem+json"),
            "{self:?}"
        );
        let problem: Problem = serde_json::from_slice(&self.body).expect("a problem document");
        assert_eq!(problem.status, self.status);
        assert!(
            !problem.title.is_empty()
                && !problem.detail.is_empty()
                && !problem.what_to_do.is_empty(),
            "{problem}"
        );
        assert_eq!(
            problem.kind,
            format!("urn:diversity:problem:{}", problem.code)
        );
        problem
    }
    fn is(&self, status: u16, code: &str) {
        let problem = self.problem();
        assert_eq!(
            (problem.status, problem.code.as_str()),
            (status, code),
            "{problem}"
        );
    }
}

/// One request over a connection of its own; only what HTTP itself needs.
async fn call(
    node: &TestNode,
    method: &str,
    path: &str,
    token: Option<&str>,
    kind: &str,
    body: &[u8],
) -> Answer {
    let mut stream = tokio::net::TcpStream::connect(node.config.api_listen)
        .await
        .expect("connected");
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    if let Some(token) = token {
        head += &format!("Authorization: Bearer {token}\r\n");
    }
    if !kind.is_empty() {
        head += &format!("Content-Type: {kind}\r\n");
    }
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.write_all(b"\r\n").await.expect("sent");
    // A server that refuses a long body may close before it is sent whole.
    let _ = stream.write_all(body).await;
    let mut all = Vec::new();
    while !complete(&all) {
        let mut buffer = [0; 16_384];
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(n) => all.extend_from_slice(&buffer[..n]),
        }
    }
    let end = all
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .expect("a head");
    let headers = String::from_utf8_lossy(&all[..end]).to_lowercase();
    let status = headers
        .split(' ')
        .nth(1)
        .and_then(|s| s.parse().ok())
        .expect("a status");
    Answer {
        status,
        headers,
        body: all[end + 4..].to_vec(),
    }
}

/// Whether the head has come, of an answer that goes on for ever.
fn complete(all: &[u8]) -> bool {
    let head = String::from_utf8_lossy(all).to_lowercase();
    head.contains("text/event-stream") && head.contains("\r\n\r\n")
}

async fn one() -> Option<(Chain, TestNode)> {
    let chain = Chain::start().await?;
    let dir = Arc::new(tempfile::tempdir().expect("dir"));
    let node = TestNode::start(TestNode::config(&chain, "node", &dir), dir, executor()).await;
    Some((chain, node))
}

fn filled(path: &str) -> String {
    let id = |n| format!("0x{}", "11".repeat(n));
    path.replace("{user}", &id(20))
        .replace("{sensor}", &id(20))
        .replace("{node}", &id(20))
        .replace("{sha256}", &id(32))
        .replace("{a}", &id(32))
        .replace("{d}", &id(32))
        .replace("{t}", "0")
}

/// Names of the tokens, weakest first.
const SCOPES: [&str; 4] = ["ingest", "read", "operate", "admin"];

/// A device's token sends messages and asks what is held of them.
#[test]
fn a_device_reads_acknowledgements_and_nothing_else() {
    let reached = ROUTES.iter().filter(|r| r.scope == Scope::Ingest);
    let reached: Vec<_> = reached.map(|r| (r.method, r.path)).collect();
    let wanted = [
        ("POST", "/v1/messages"),
        ("GET", "/v1/messages/acknowledged"),
    ];
    assert_eq!(reached, wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_route_wants_its_scope_and_no_other() {
    let Some((_chain, node)) = one().await else {
        return;
    };
    let tokens = SCOPES.map(|scope| (scope, node.token(scope)));
    for route in ROUTES {
        let path = filled(route.path);
        let without = call(&node, route.method, &path, None, "", b"").await;
        let wrong = call(&node, route.method, &path, Some(&"0".repeat(64)), "", b"").await;
        if route.scope == Scope::Public {
            assert_eq!(without.status, 200, "{path}");
        } else {
            without.is(401, codes::UNAUTHORIZED);
            wrong.is(401, codes::UNAUTHORIZED);
            assert!(
                without.headers.contains("www-authenticate: bearer"),
                "{path}"
            );
        }
        for (scope, token) in &tokens {
            let answer = call(&node, route.method, &path, Some(token), "", b"").await;
            let needs = match route.scope {
                Scope::Public | Scope::Ingest => 0,
                Scope::Read => 1,
                Scope::Operate => 2,
                Scope::Admin => 3,
            };
            let has = SCOPES.iter().position(|s| s == scope).expect("listed");
            if has < needs {
                answer.is(403, codes::FORBIDDEN);
            } else {
                assert!(
                    ![401, 403, 500].contains(&answer.status),
                    "{} {path} with {scope}: {answer:?}",
                    route.method
                );
                if answer.status >= 400 {
                    answer.problem();
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_a_problem() {
    let Some((_chain, node)) = one().await else {
        return;
    };
    let token = node.token("admin");
    let t = Some(token.as_str());
    let json = "application/json";
    let octets = "application/octet-stream";
    call(&node, "GET", "/nowhere", t, "", b"")
        .await
        .is(404, codes::NOT_FOUND);
    call(&node, "DELETE", "/v1/users", t, "", b"")
        .await
        .is(405, codes::METHOD);
    call(&node, "POST", "/v1/users", t, "text/plain", b"{}")
        .await
        .is(415, codes::MEDIA_TYPE);
    call(&node, "POST", "/v1/users", t, json, b"{")
        .await
        .is(400, codes::MALFORMED);
    call(&node, "POST", "/v1/users", t, json, b"{}")
        .await
        .is(400, codes::MALFORMED);
    call(&node, "GET", "/v1/users/0x12", t, "", b"")
        .await
        .is(400, codes::MALFORMED);
    call(&node, "GET", "/v1/users?limit=many", t, "", b"")
        .await
        .is(400, codes::MALFORMED);
    call(&node, "GET", "/v1/messages/acknowledged", t, "", b"")
        .await
        .is(400, codes::MALFORMED);
    call(&node, "GET", &filled("/v1/sensors/{sensor}"), t, "", b"")
        .await
        .is(404, codes::NOT_FOUND);
    call(
        &node,
        "GET",
        &filled("/v1/disputes/{d}/evidence"),
        t,
        "",
        b"",
    )
    .await
    .is(404, codes::NOT_FOUND);
    call(
        &node,
        "GET",
        &filled("/v1/agreements/{a}/windows/x"),
        t,
        "",
        b"",
    )
    .await
    .is(400, codes::MALFORMED);
    let long = vec![b'x'; node.config.http_body_bytes_max + 1];
    call(&node, "POST", "/v1/messages", t, octets, &long)
        .await
        .is(413, codes::TOO_LARGE);
    call(&node, "POST", "/v1/messages", t, octets, b"\x01\x00\x00")
        .await
        .is(400, codes::MALFORMED);
    call(&node, "POST", "/v1/messages", t, octets, &batch(&[]))
        .await
        .is(400, codes::MALFORMED);
    call(
        &node,
        "POST",
        "/v1/messages",
        t,
        octets,
        &batch(&[vec![9; 40]]),
    )
    .await
    .is(400, codes::MALFORMED);
    let sha = |module: &[u8]| {
        format!(
            "/v1/code/{}",
            Digest(diversity_proto::domain::sha256_raw(module))
        )
    };
    call(&node, "PUT", &sha(b"other"), t, "application/wasm", BIKE)
        .await
        .is(400, codes::BAD_MODULE);
    call(
        &node,
        "PUT",
        &sha(b"no wasm"),
        t,
        "application/wasm",
        b"no wasm",
    )
    .await
    .is(400, codes::BAD_MODULE);
    // A module that imports something (the smallest there is: one imported function).
    let imports = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x02\x07\x01\x01a\x01b\0\0";
    let answer = call(&node, "PUT", &sha(imports), t, "application/wasm", imports).await;
    answer.is(400, codes::BAD_MODULE);
    call(&node, "GET", &sha(imports), t, "", b"")
        .await
        .is(404, codes::NOT_FOUND);
    let ready = call(&node, "GET", "/readyz", None, "", b"").await;
    assert_eq!(ready.status, 200);
    let metrics = call(&node, "GET", "/metrics", None, "", b"").await;
    assert!(
        String::from_utf8_lossy(&metrics.body)
            .contains("diversity_requests_total{route=\"/v1/users\",status=\"415\"} 1")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_requests_are_told_to_come_back() {
    let Some(chain) = Chain::start().await else {
        return;
    };
    let dir = Arc::new(tempfile::tempdir().expect("dir"));
    let config = TestNode::config(&chain, "node", &dir);
    let node = TestNode::start(
        diversity_daemon::NodeConfig {
            http_rate_per_s: 20,
            ..config
        },
        dir,
        executor(),
    )
    .await;
    let mut refused = None;
    for _ in 0..100 {
        let answer = call(&node, "GET", "/healthz", None, "", b"").await;
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("a burst is bounded");
    refused.is(429, codes::BUSY);
    assert!(refused.headers.contains("retry-after: "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_chain_is_said_and_stops_nothing_else() {
    let Some((chain, node)) = one().await else {
        return;
    };
    let signer = user(chain.deployment, 10);
    drop(chain);
    until("the node notices", async || !node.api.ready().await).await;
    let token = node.token("admin");
    let ready = call(&node, "GET", "/readyz", None, "", b"").await;
    ready.is(503, codes::UNAVAILABLE);
    assert!(ready.problem().detail.contains("chain"), "{ready:?}");
    assert_eq!(
        call(&node, "GET", "/healthz", None, "", b"").await.status,
        200
    );
    assert_eq!(
        call(&node, "GET", "/v1/users", Some(&token), "", b"")
            .await
            .status,
        200
    );
    // A node that starts while the chain is dead answers too.
    drop(signer);
    let (config, dir) = node.stop().await;
    let node = TestNode::start_only(config, dir, executor()).await;
    assert_eq!(
        call(&node, "GET", "/v1/users", Some(&token), "", b"")
            .await
            .status,
        200
    );
    call(&node, "GET", "/readyz", None, "", b"")
        .await
        .is(503, codes::UNAVAILABLE);
}

/// Sends frames, and gives the problem that comes back.
async fn refused(node: &TestNode, frames: &[Vec<u8>]) -> Problem {
    let token = node.token("read");
    let answer = call(
        node,
        "POST",
        "/v1/messages",
        Some(&token),
        "application/octet-stream",
        &batch(frames),
    )
    .await;
    answer.problem()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_frames_and_bad_terms_get_a_clear_error_and_change_nothing() {
    let Some(world) = World::start(vec![executor(), executor()], 1).await else {
        return;
    };
    let node = &world.nodes[0];
    let lock = &world.locks[0];
    let at = MONTHS[0] + 5;
    let good = lock.frame(0, &[(at, true), (at + 10, false)]);
    let mut forged = good.clone();
    *forged.last_mut().expect("bytes") ^= 1;
    let stranger = Lock::new(world.chain.deployment, 99);
    let elsewhere = Lock::new(
        diversity_proto::Deployment {
            chain_id: 1,
            ..world.chain.deployment
        },
        100,
    );
    let mut wrong_value = lock.frame(0, &[(at, true)]);
    let place = wrong_value.len() - 65;
    wrong_value[place] = 2;
    for (frame, status, code) in [
        (vec![1, 2, 3], 400, codes::MALFORMED),
        (forged, 400, codes::BAD_SIGNATURE),
        (elsewhere.frame(0, &[(at, true)]), 400, codes::BAD_SIGNATURE),
        (stranger.frame(0, &[(at, true)]), 404, codes::UNKNOWN_SENSOR),
        (wrong_value, 400, codes::WRONG_VALUES),
        (
            lock.frame(0, &[(MONTHS[1] - 1, true), (MONTHS[1], true)]),
            400,
            codes::CROSSES_PERIOD,
        ),
        (
            lock.frame(1_000_000, &[(at, true)]),
            429,
            codes::TOO_FAR_AHEAD,
        ),
    ] {
        let problem = refused(node, &[frame]).await;
        assert_eq!(
            (problem.status, problem.code.as_str()),
            (status, code),
            "{problem}"
        );
        assert_eq!(problem.refused.len(), 1);
        assert!(!problem.refused[0].detail.is_empty());
    }
    assert_eq!(
        node.api.sensor(&lock.id()).await.expect("sensor").next_q,
        0,
        "nothing was taken"
    );
    // Out of order is stored and acknowledged when the gap is filled; the same again is a success.
    let later = lock.frame(2, &[(at + 20, true)]);
    let answer = node
        .api
        .send_frames(batch(std::slice::from_ref(&later)))
        .await
        .expect("stored");
    assert_eq!(answer.acknowledged[0].next_q, 0);
    let answer = node
        .api
        .send_frames(batch(&[good.clone(), later]))
        .await
        .expect("stored");
    assert_eq!(
        (answer.acknowledged[0].next_q, answer.refused.len()),
        (3, 0)
    );
    let held: Acknowledgement = node.api.acknowledged(&[lock.id()]).await.expect("held");
    assert_eq!(held.acknowledged, answer.acknowledged);
    let view = node.api.sensor(&lock.id()).await.expect("sensor");
    let digest =
        diversity_proto::frame::Frame::decode(&lock.frame(2, &[(at + 20, true)])).expect("frame");
    assert_eq!(
        (view.next_q, view.last_frame),
        (3, Some(digest.digest(&world.chain.deployment)))
    );
    // Two signed messages at one q: refused, kept as evidence, and brought to the chain.
    let problem = refused(node, &[lock.frame(0, &[(at, true), (at + 99, false)])]).await;
    assert_eq!(
        (problem.status, problem.code.as_str()),
        (409, codes::CONTRADICTION)
    );
    for node in &world.nodes {
        until("the sensor is void", async || {
            node.api.sensor(&lock.id()).await.expect("sensor").void_from == Some(1)
        })
        .await;
    }
    let disputes = node.api.disputes(None).await.expect("disputes");
    assert_eq!(
        (disputes[0].kind.as_str(), disputes[0].accused),
        ("sensor-contradiction", Some(lock.id().address()))
    );
    assert_eq!(
        node.api
            .evidence(&disputes[0].dispute)
            .await
            .expect("evidence")
            .frames
            .len(),
        2
    );

    // Terms.
    let users: Vec<_> = world.users.iter().map(|u| u.id()).collect();
    let nodes: Vec<_> = world
        .ids
        .iter()
        .copied()
        .zip(users.iter().copied())
        .collect();
    let code = Digest(diversity_proto::domain::sha256_raw(BIKE));
    let good = terms(&users, &nodes, &[lock.id()], code);
    let refuse = async |agreement: AgreementId, terms: &diversity_client::terms_json::TermsJson| {
        let error = node
            .api
            .accept(&AcceptRequest {
                agreement,
                terms: terms.clone(),
                grants: Vec::new(),
            })
            .await
            .expect_err("refused");
        error.problem().expect("a problem").code.clone()
    };
    let a = async |terms: &diversity_client::terms_json::TermsJson| {
        let mut keys = Vec::new();
        for n in &terms.nodes {
            keys.push(node.api.node(&n.node).await.expect("node").public_key);
        }
        diversity_client::draft::Draft::new(world.chain.deployment, terms.clone(), keys)
            .expect("draft")
            .agreement
    };
    assert_eq!(
        refuse(AgreementId([7; 32]), &good).await,
        codes::BAD_AGREEMENT_ID
    );
    assert_eq!(refuse(a(&good).await, &good).await, codes::MODULE_MISSING);
    let mut drops = good.clone();
    drops.qos = QosJson::None;
    assert_eq!(refuse(a(&drops).await, &drops).await, codes::BAD_TERMS);
    let mut one_user = good.clone();
    one_user.users.pop();
    assert_eq!(
        refuse(AgreementId([7; 32]), &one_user).await,
        codes::BAD_TERMS
    );
    let mut foreign = good.clone();
    foreign.sensors[0].sensor = stranger.id();
    assert_eq!(
        refuse(AgreementId([7; 32]), &foreign).await,
        codes::NOT_REGISTERED
    );
    assert!(node.api.agreements().await.expect("agreements").is_empty());
    // A user is registered once; the same again is a success, another name is not.
    let same = node
        .api
        .register_user(&world.users[0].user("user-1"))
        .await
        .expect("the same");
    assert_eq!(same.name, "user-1");
    let error = node
        .api
        .register_user(&world.users[0].user("other"))
        .await
        .expect_err("conflict");
    assert_eq!(error.problem().expect("a problem").code, codes::CONFLICT);
    let mut stolen = world.users[0].user("user-3");
    stolen.user = lock.id().address().into();
    let error = node
        .api
        .register_user(&stolen)
        .await
        .expect_err("not signed by it");
    assert_eq!(
        error.problem().expect("a problem").code,
        codes::BAD_SIGNATURE
    );
}
