//! What every request passes: connections and rates are bounded, the token must reach, and it is counted.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use diversity_client::api::{ROUTES, Scope as RouteScope};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Api;
use super::extract::BodyMax;
use super::problem::ApiError;
use crate::keyring::Scope;

/// Connections at once.
const CONNECTIONS_MAX: usize = 1_024;
/// Connections of one address at once: a stranger who opens all that it can leaves room for others.
const CONNECTIONS_OF_ONE_MAX: usize = CONNECTIONS_MAX / 2;
/// A connection on which nothing moves for this long is closed (events are kept alive every 15 s).
const IDLE: Duration = Duration::from_secs(90);
/// Addresses whose rate is remembered.
const ADDRESSES_MAX: usize = 4_096;

/// Requests a second, averaged, per address; a burst may be twice as many.
pub struct Rates {
    per_s: f64,
    buckets: Mutex<HashMap<IpAddr, (f64, Instant)>>,
}

impl Rates {
    /// So many a second.
    pub fn new(per_s: u32) -> Self {
        Self {
            per_s: per_s.into(),
            buckets: Mutex::default(),
        }
    }

    /// Whether one more request is within the rate.
    pub fn take(&self, from: IpAddr) -> bool {
        let now = Instant::now();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= ADDRESSES_MAX && !buckets.contains_key(&from) {
            // A full bucket says nothing; only those that are being drawn from are worth remembering.
            let (burst, per_s) = (2.0 * self.per_s, self.per_s);
            buckets.retain(|_, (left, at)| *left + at.elapsed().as_secs_f64() * per_s < burst);
            if buckets.len() >= ADDRESSES_MAX {
                return false;
            }
        }
        let (left, at) = buckets.entry(from).or_insert((2.0 * self.per_s, now));
        *left = (*left + now.duration_since(*at).as_secs_f64() * self.per_s).min(2.0 * self.per_s);
        *at = now;
        if *left < 1.0 {
            return false;
        }
        *left -= 1.0;
        true
    }
}

/// What the table of routes asks for; nothing for what is not in it (it is answered by 404 or 405).
fn needed(method: &Method, path: Option<&str>) -> Option<RouteScope> {
    // axum answers HEAD with what GET gives.
    let method = if method == Method::HEAD {
        "GET"
    } else {
        method.as_str()
    };
    ROUTES
        .iter()
        .find(|r| Some(r.path) == path && r.method == method)
        .map(|r| r.scope)
}

fn reaches(has: Scope, needs: RouteScope) -> bool {
    let has = match has {
        Scope::Ingest => RouteScope::Ingest,
        Scope::Read => RouteScope::Read,
        Scope::Operate => RouteScope::Operate,
        Scope::Admin => RouteScope::Admin,
    };
    has >= needs
}

fn scope_name(scope: RouteScope) -> &'static str {
    match scope {
        RouteScope::Public => "none",
        RouteScope::Ingest => "ingest",
        RouteScope::Read => "read",
        RouteScope::Operate => "operate",
        RouteScope::Admin => "admin",
    }
}

fn authorise(api: &Api, request: &Request, path: Option<&str>) -> Result<(), ApiError> {
    let needs = match needed(request.method(), path) {
        None | Some(RouteScope::Public) => return Ok(()),
        Some(needs) => needs,
    };
    let header = request.headers().get(AUTHORIZATION);
    let Some(header) = header else {
        return Err(ApiError::unauthorized("there is no token"));
    };
    let token = header.to_str().ok().and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then_some(token.trim())
    });
    let Some(has) = token.and_then(|token| api.tokens.scope(token)) else {
        return Err(ApiError::unauthorized("the token is not one of this node"));
    };
    if reaches(has, needs) {
        Ok(())
    } else {
        Err(ApiError::forbidden(has.name(), scope_name(needs)))
    }
}

/// The outermost layer.
pub async fn guard(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let path = request
        .extensions()
        .get::<MatchedPath>()
        .map(|p| p.as_str().to_owned());
    let from = request
        .extensions()
        .get::<ConnectInfo<Caller>>()
        .map_or(IpAddr::from([127, 0, 0, 1]), |c| c.0.0.ip());
    request
        .extensions_mut()
        .insert(BodyMax(api.limits.body_bytes_max));
    let response = if !api.limits.rates.take(from) {
        ApiError::busy("too many requests from this address").into_response()
    } else if let Err(error) = authorise(&api, &request, path.as_deref()) {
        error.into_response()
    } else if let Ok(permit) = Arc::clone(&api.limits.requests).try_acquire_owned() {
        let response = next.run(request).await;
        drop(permit);
        response
    } else {
        ApiError::unavailable("as many requests are being worked on as the settings allow")
            .into_response()
    };
    let labels = [
        ("route", path.unwrap_or_else(|| "none".into())),
        ("status", response.status().as_u16().to_string()),
    ];
    api.metrics.requests.get_or_create(&labels).inc();
    api.metrics
        .request_seconds
        .observe(started.elapsed().as_secs_f64());
    response
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
pub struct Caller(pub SocketAddr);

impl Connected<IncomingStream<'_, Bounded>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// A listener with a bound on its connections, each of which ends when nothing moves on it.
pub struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    open: Open,
}

impl Bounded {
    /// Around a listener.
    pub fn new(listener: TcpListener) -> Self {
        Self {
            listener,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            open: Open::default(),
        }
    }
}

impl axum::serve::Listener for Bounded {
    type Io = Watched;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Watched, SocketAddr) {
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .expect("never closed");
        let (stream, from, seat) = loop {
            let (stream, from) = axum::serve::Listener::accept(&mut self.listener).await;
            match Seat::take(&self.open, from.ip()) {
                Some(seat) => break (stream, from, seat),
                // Closed without a word: whoever is told something may ask again.
                None => tracing::debug!(%from, "http.connections_of_one_address"),
            }
        };
        // An acknowledgement is one small packet that somebody waits for.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "http.nodelay");
        }
        let idle = Box::pin(tokio::time::sleep(IDLE));
        (
            Watched {
                stream,
                idle,
                _place: place,
                _seat: seat,
            },
            from,
        )
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Connections by address.
type Open = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// One of the connections that an address may have.
struct Seat {
    open: Open,
    of: IpAddr,
}

impl Seat {
    fn take(open: &Open, of: IpAddr) -> Option<Self> {
        let mut counts = open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(of).or_default();
        if *count >= CONNECTIONS_OF_ONE_MAX {
            return None;
        }
        *count += 1;
        let open = Arc::clone(open);
        Some(Self { open, of })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.of);
            }
        }
    }
}

/// A connection that ends when it is idle for too long.
pub struct Watched {
    stream: TcpStream,
    idle: Pin<Box<tokio::time::Sleep>>,
    _place: OwnedSemaphorePermit,
    _seat: Seat,
}

impl Watched {
    fn moved(&mut self) {
        self.idle.as_mut().reset(tokio::time::Instant::now() + IDLE);
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_ready() {
            self.moved();
        } else if self.idle.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        if polled.is_ready() {
            self.moved();
        }
        polled
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        if polled.is_ready() {
            self.moved();
        }
        polled
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_bounded_and_others_are_not_touched() {
        let rates = Rates::new(10);
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let taken = (0..100).filter(|_| rates.take(a)).count();
        assert!((20..=22).contains(&taken), "{taken}");
        assert!(rates.take(b));
    }

    #[test]
    fn one_address_takes_half_of_the_connections_at_most() {
        let open = Open::default();
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut taken: Vec<_> = (0..2 * CONNECTIONS_MAX)
            .filter_map(|_| Seat::take(&open, a))
            .collect();
        assert_eq!(taken.len(), CONNECTIONS_OF_ONE_MAX);
        assert!(Seat::take(&open, b).is_some());
        taken.pop();
        assert!(Seat::take(&open, a).is_some());
        drop(taken);
        assert!(open.lock().expect("whole").is_empty());
    }

    #[test]
    fn the_table_of_routes_says_what_is_needed() {
        assert_eq!(
            needed(&Method::GET, Some("/v1/users")),
            Some(RouteScope::Read)
        );
        assert_eq!(
            needed(&Method::HEAD, Some("/v1/users")),
            Some(RouteScope::Read)
        );
        assert_eq!(
            needed(&Method::POST, Some("/v1/users")),
            Some(RouteScope::Operate)
        );
        assert_eq!(needed(&Method::DELETE, Some("/v1/users")), None);
        assert!(
            reaches(Scope::Admin, RouteScope::Read) && !reaches(Scope::Read, RouteScope::Operate)
        );
        // A device's token takes messages in and shows nothing.
        assert_eq!(
            needed(&Method::POST, Some("/v1/messages")),
            Some(RouteScope::Ingest)
        );
        assert!(
            reaches(Scope::Ingest, RouteScope::Ingest) && !reaches(Scope::Ingest, RouteScope::Read)
        );
    }
}
