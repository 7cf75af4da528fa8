//! A road between nodes and a chain that is somebody else's, which can be cut: how a test takes such a chain away.

use crate::{E2eError, Result};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that are carried at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// A port of this machine in front of an RPC endpoint.
pub struct Relay {
    url: String,
    road: Arc<Road>,
}

struct Road {
    to: String,
    open: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

impl Road {
    fn connections(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Relay {
    /// In front of this endpoint; none if it is not plain http, whose connections cannot be carried under another name.
    ///
    /// # Errors
    /// [`E2eError::System`].
    pub fn start(url: &str) -> Result<Option<Self>> {
        let Some(rest) = url.strip_prefix("http://") else {
            return Ok(None);
        };
        let (place, path) = match rest.find(['/', '?']) {
            Some(end) => rest.split_at(end),
            None => (rest, ""),
        };
        let (user, host) = match place.rsplit_once('@') {
            Some((user, host)) => (format!("{user}@"), host),
            None => (String::new(), place),
        };
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
        let listener =
            TcpListener::bind("127.0.0.1:0").map_err(E2eError::system("listen on 127.0.0.1"))?;
        let here = listener
            .local_addr()
            .map_err(E2eError::system("listen on 127.0.0.1"))?;
        let road = Arc::new(Road {
            to: if has_port {
                host.into()
            } else {
                format!("{host}:80")
            },
            open: AtomicBool::new(true),
            connections: Mutex::default(),
        });
        let shared = Arc::clone(&road);
        // It ends with the program.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.open.load(Ordering::SeqCst) {
                    carry(&shared, stream);
                }
            }
        });
        Ok(Some(Self {
            url: format!("http://{user}{here}{path}"),
            road,
        }))
    }

    /// The endpoint as nodes are to be told.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Takes the chain away.
    pub fn cut(&self) {
        self.road.open.store(false, Ordering::SeqCst);
        for stream in self.road.connections().drain(..) {
            // One that has ended by itself is as good.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Gives it back.
    pub fn mend(&self) {
        self.road.open.store(true, Ordering::SeqCst);
    }
}

/// Carries bytes both ways until one side ends. A connection that cannot be made is one that breaks.
fn carry(road: &Arc<Road>, near: TcpStream) {
    let Ok(far) = TcpStream::connect(&road.to) else {
        return;
    };
    let ends = (near.try_clone(), far.try_clone());
    let (Ok(near_again), Ok(far_again)) = ends else {
        return;
    };
    if let (Ok(near), Ok(far)) = (near.try_clone(), far.try_clone()) {
        road.connections().extend([near, far]);
    }
    std::thread::spawn(move || pump(near, far));
    std::thread::spawn(move || pump(far_again, near_again));
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(n @ 1..) = from.read(&mut chunk) {
        if to.write_all(&chunk[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
