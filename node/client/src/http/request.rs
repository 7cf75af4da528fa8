//! How a request of the API gets to a node and its answer back: repeated where that is safe, bounded, and never without TLS beyond this
//! machine with a token.

use super::Api;
use crate::api::{PROBLEM_MEDIA_TYPE, Page};
use crate::error::{ANSWER_BYTES_MAX, ApiError, Result, chain, transport_error, unexpected};
use futures::StreamExt;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Once;
use std::time::Duration;

/// Tries of a request that may be repeated.
const ATTEMPTS: u32 = 4;
/// How long to wait before the first repetition; doubles.
const BACKOFF: Duration = Duration::from_millis(150);
/// Longest wait that a node's `Retry-After` may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take; registrations wait for the chain.
const TIMEOUT: Duration = Duration::from_secs(90);

impl Api {
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let send = || {
            self.request(Method::GET, path)
                .header(ACCEPT, "application/json")
        };
        self.json(self.repeat(send, true).await?).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T> {
        // Every POST of the API may be repeated, but one whose answer was lost may still be at work on the chain: only what
        // never arrived is sent again here, and the rest is for the caller to decide.
        let send = || self.request(Method::POST, path).json(body);
        self.json(self.repeat(send, false).await?).await
    }

    pub(super) async fn bytes(&self, path: &str, media_type: &'static str) -> Result<Vec<u8>> {
        let send = || self.request(Method::GET, path).header(ACCEPT, media_type);
        read_body(self.repeat(send, true).await?).await
    }

    pub(super) fn url(&self, path: &str) -> Url {
        self.base.join(path).expect("paths are relative and plain")
    }

    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, self.url(path));
        match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value.clone()),
            None => request,
        }
    }

    pub(super) async fn repeat(
        &self,
        send: impl Fn() -> RequestBuilder,
        lost: bool,
    ) -> Result<Response> {
        let mut wait = BACKOFF;
        for attempt in 1.. {
            let result = match self.once(send()).await {
                Ok(response) => {
                    let after = retry_after(&response);
                    if let Some(after) = after
                        && attempt < ATTEMPTS
                    {
                        tokio::time::sleep(after.min(RETRY_AFTER_MAX)).await;
                        continue;
                    }
                    return self.check(response).await;
                }
                Err(error) => Err(error),
            };
            let again = match &result {
                Err(ApiError::Unreachable { .. }) => true,
                Err(ApiError::Timeout { .. } | ApiError::Broken { .. }) => lost,
                _ => false,
            };
            if !again || attempt >= ATTEMPTS {
                return result;
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        unreachable!("the loop returns")
    }

    pub(super) async fn once(&self, request: RequestBuilder) -> Result<Response> {
        request.send().await.map_err(transport_error)
    }

    pub(super) async fn check(&self, response: Response) -> Result<Response> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let url = response.url().to_string();
        let is_problem = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|v| v.starts_with(PROBLEM_MEDIA_TYPE));
        let body = read_body(response).await?;
        if is_problem && let Ok(problem) = serde_json::from_slice(&body) {
            return Err(ApiError::Problem {
                url,
                problem: Box::new(problem),
            });
        }
        Err(unexpected(url, status, &body))
    }

    pub(super) async fn json<T: DeserializeOwned>(&self, response: Response) -> Result<T> {
        let (url, status) = (response.url().to_string(), response.status());
        let body = read_body(response).await?;
        serde_json::from_slice(&body).map_err(|error| {
            if error.is_data() {
                ApiError::Answer {
                    url,
                    reason: error.to_string(),
                }
            } else {
                unexpected(url, status, &body)
            }
        })
    }

    /// All users, sensors (`"v1/sensors"`), nodes (`"v1/nodes"`) or agreements of a paged list.
    ///
    /// # Errors
    /// [`ApiError`].
    pub(super) async fn all<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>> {
        let mut page: Page<T> = self.get(path).await?;
        let mut out = page.items;
        while let Some(cursor) = page.next {
            page = self.get(&format!("{path}?cursor={cursor}")).await?;
            out.append(&mut page.items);
        }
        Ok(out)
    }
}

pub(super) fn bearer(token: &str) -> Result<HeaderValue> {
    let mut value =
        HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| ApiError::Token)?;
    if token.is_empty() {
        return Err(ApiError::Token);
    }
    value.set_sensitive(true);
    Ok(value)
}

pub(super) fn transport(url: &Url) -> Result<reqwest::Client> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // It fails only if the program chose a provider before, which is then used.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let mut builder = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIMEOUT)
        .user_agent(concat!("diversity/", env!("CARGO_PKG_VERSION")))
        // A token must not follow a redirect to somebody else.
        .redirect(reqwest::redirect::Policy::none());
    if url.scheme() == "http" {
        // No certificates are needed, so their absence must not matter.
        builder = builder.tls_certs_only([]);
    }
    if is_loopback(url) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| ApiError::Tls {
        url: url.to_string(),
        reason: chain(&error),
    })
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse();
    host == "localhost" || ip.is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// How long a node that is busy or not ready asks to wait.
fn retry_after(response: &Response) -> Option<Duration> {
    let busy = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::SERVICE_UNAVAILABLE,
    ];
    if !busy.contains(&response.status()) {
        return None;
    }
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    seconds.parse().ok().map(Duration::from_secs)
}

async fn read_body(response: Response) -> Result<Vec<u8>> {
    let url = response.url().to_string();
    let mut body = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| ApiError::Broken {
            url: url.clone(),
            reason: chain(&error),
        })?;
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(ApiError::TooLarge { url });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
