//! The HTTP client against a server that says what the test tells it to.

use diversity_client::api::{Acknowledgement, JsonFrame, JsonFrames, Problem, codes};
use diversity_client::{Api, ApiError};
use diversity_proto::frame::{Frame, Opening};
use diversity_proto::{Digest, SensorId, Signature};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Answers each connection with the next of these, and keeps the requests. An empty answer closes the connection.
async fn server(answers: Vec<String>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = requests.clone();
    tokio::spawn(async move {
        for answer in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !whole(&request) {
                if socket.read_buf(&mut request).await.unwrap() == 0 {
                    break;
                }
            }
            seen.lock()
                .unwrap()
                .push(String::from_utf8_lossy(&request).into_owned());
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, requests)
}

/// Whether head and body have arrived.
fn whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|l| l.strip_prefix("content-length: "));
    length.is_none_or(|n| body.len() >= n.parse::<usize>().unwrap())
}

fn answer(status: &str, media_type: &str, more: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: {media_type}\r\n{more}content-length: {length}\r\n\r\n{body}"
    )
}

fn problem(status: u16, code: &str) -> String {
    let problem = Problem::new(
        status,
        code,
        "No such sensor",
        "nobody registered it",
        "register it first",
    );
    let body = serde_json::to_string(&problem).unwrap();
    answer(
        &format!("{status} X"),
        "application/problem+json",
        "",
        &body,
    )
}

const ACKNOWLEDGED: &str = r#"{"node":"0x0101010101010101010101010101010101010101","acknowledged":[],
    "signature":"0x00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"}"#;

#[tokio::test]
async fn problems_are_read_and_say_what_to_do() {
    let (url, requests) = server(vec![problem(404, codes::NOT_FOUND)]).await;
    let api = Api::new(&url, Some("secret")).unwrap();
    let error = api.sensor(&SensorId([7; 20])).await.unwrap_err();
    assert!(error.is_not_found() && !error.is_transient());
    let text = error.to_string();
    assert!(
        text.contains("nobody registered it: register it first"),
        "{text}"
    );
    let requests = requests.lock().unwrap();
    assert!(
        requests[0].starts_with("GET /v1/sensors/0x0707"),
        "{}",
        requests[0]
    );
    assert!(requests[0].contains("authorization: Bearer secret"));
}

#[tokio::test]
async fn what_is_lost_is_asked_again_and_busy_nodes_are_waited_for() {
    let busy = answer("503 X", "text/plain", "retry-after: 0\r\n", "");
    let good = answer("200 OK", "application/json", "", ACKNOWLEDGED);
    let (url, requests) = server(vec![String::new(), busy, good]).await;
    let api = Api::new(&url, None).unwrap();
    api.acknowledged(&[SensorId([1; 20]), SensorId([2; 20])])
        .await
        .unwrap();
    let requests = requests.lock().unwrap();
    assert_eq!(requests.len(), 3);
    assert!(requests[2].contains("?sensor=0x0101010101010101010101010101010101010101,0x02"));
}

#[tokio::test]
async fn frames_are_sent_once_and_refusals_are_told_frame_by_frame() {
    let (url, _) = server(vec![String::new()]).await;
    let api = Api::new(&url, None).unwrap();
    let lost = api.send_frames(vec![1]).await.unwrap_err();
    assert!(lost.is_transient(), "{lost}");

    let acknowledgement: Acknowledgement = serde_json::from_str(ACKNOWLEDGED).unwrap();
    let mut refusal = Problem::new(404, codes::UNKNOWN_SENSOR, "No frame was taken", "", "");
    refusal.refused = vec![diversity_client::api::RefusedFrame {
        index: 0,
        sensor: Some(SensorId([7; 20])),
        first_q: Some(3),
        code: codes::UNKNOWN_SENSOR.into(),
        detail: "register the sensor first".into(),
    }];
    refusal.acknowledgement = Some(Box::new(acknowledgement));
    let body = serde_json::to_string(&refusal).unwrap();
    let (url, _) = server(vec![answer("404 X", "application/problem+json", "", &body)]).await;
    let error = Api::new(&url, None)
        .unwrap()
        .send_frames(vec![1])
        .await
        .unwrap_err();
    assert_eq!(error.problem(), Some(&refusal));
}

#[tokio::test]
async fn what_is_no_node_is_told_from_a_node_of_another_version() {
    let html = answer("200 OK", "text/html", "", "<html>router</html>");
    let (url, _) = server(vec![html]).await;
    let error = Api::new(&url, None).unwrap().info().await.unwrap_err();
    assert!(
        matches!(error, ApiError::Unexpected { status: 200, .. }),
        "{error}"
    );
    let (url, _) = server(vec![answer("200 OK", "application/json", "", "{}")]).await;
    let error = Api::new(&url, None).unwrap().info().await.unwrap_err();
    assert!(matches!(error, ApiError::Answer { .. }), "{error}");
    let redirect = answer(
        "302 Found",
        "text/plain",
        "location: http://127.0.0.1:1/\r\n",
        "",
    );
    let (url, _) = server(vec![redirect]).await;
    let error = Api::new(&url, Some("secret"))
        .unwrap()
        .info()
        .await
        .unwrap_err();
    assert!(
        matches!(error, ApiError::Unexpected { status: 302, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn addresses_and_tokens_are_checked_before_anything_is_sent() {
    for bad in ["127.0.0.1:8080", "ftp://x", "", "http://"] {
        assert!(
            matches!(Api::new(bad, None), Err(ApiError::Url { .. })),
            "{bad}"
        );
    }
    assert!(matches!(
        Api::new("http://x", Some("")),
        Err(ApiError::Token)
    ));
    assert!(matches!(
        Api::new("http://x", Some("a\nb")),
        Err(ApiError::Token)
    ));
    let missing = Api::with_token_file("http://x", std::path::Path::new("/nonexistent/token"));
    assert!(matches!(missing, Err(ApiError::TokenFile { .. })));
    assert_eq!(
        Api::new("http://127.0.0.1:80/node1/", None).unwrap().base(),
        "http://127.0.0.1/node1"
    );
    // A port that nobody listens at.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = Api::new(&url, None)
        .unwrap()
        .send_frames(Vec::new())
        .await
        .unwrap_err();
    assert!(matches!(error, ApiError::Unreachable { .. }), "{error}");
    assert!(!Api::new(&url, None).unwrap().ready().await);
}

#[test]
fn frames_in_json_are_the_frames() {
    let mut frame = Frame {
        sensor: SensorId([5; 20]),
        epoch: 1,
        first_q: 9,
        count: 2,
        lost: 0,
        width: 2,
        opening: Some(Opening {
            last_q: 8,
            last_frame: Digest([6; 32]),
        }),
        body: vec![2, 1, 1, 1, 0, 0],
        signature: Signature([1; 64]),
    };
    let json = JsonFrames {
        frames: vec![JsonFrame::from(&frame)],
    };
    let text = serde_json::to_string(&json).unwrap();
    let read: JsonFrames = serde_json::from_str(&text).unwrap();
    assert_eq!(read.frames[0].to_frame().as_ref(), Ok(&frame));
    frame.opening = None;
    let mut json = JsonFrame::from(&frame);
    json.messages[0].values.0.push(0);
    assert!(json.to_frame().is_err(), "two widths");
    json.messages.clear();
    assert!(json.to_frame().is_err(), "no messages");
    let mut json = JsonFrame::from(&frame);
    json.messages[1].time = 1 << 48;
    assert!(json.to_frame().is_err(), "no such time");
    let gap = Frame {
        count: 0,
        lost: 7,
        width: 0,
        body: vec![],
        ..frame
    };
    let mut json = JsonFrame::from(&gap);
    let text = serde_json::to_string(&json).unwrap();
    let read: JsonFrame = serde_json::from_str(&text).unwrap();
    assert_eq!(read.to_frame(), Ok(gap));
    json.messages = JsonFrame::from(&frame).messages;
    assert!(json.to_frame().is_err(), "messages in a gap");
}
