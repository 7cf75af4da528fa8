//! A bearer token for endpoints that want one, from a file that may be replaced while the node runs: tokens of Besu end after
//! minutes.

use super::endpoint::EndpointError;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long what was read holds.
const READ_FOR: Duration = Duration::from_secs(10);
/// Longest token, bytes.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// The token of a file.
pub(super) struct Token {
    path: PathBuf,
    read: Mutex<(String, Option<Instant>)>,
}

impl Token {
    /// Reads it for the first time.
    pub fn open(path: &Path) -> Result<Self, EndpointError> {
        let token = read(path).map_err(|reason| EndpointError::Token { reason })?;
        Ok(Self {
            path: path.into(),
            read: Mutex::new((token, Some(Instant::now()))),
        })
    }

    /// The token as it stands in the file now. While the file is being replaced the one before serves.
    pub fn current(&self) -> String {
        let mut read_before = self.lock();
        if read_before.1.is_none_or(|at| at.elapsed() >= READ_FOR) {
            match read(&self.path) {
                Ok(token) => *read_before = (token, Some(Instant::now())),
                Err(reason) => tracing::warn!(reason, "chain.token.not_read"),
            }
        }
        read_before.0.clone()
    }

    /// An endpoint does not take it any more: the file is read before the next request.
    pub fn is_refused(&self) {
        self.lock().1 = None;
    }

    fn lock(&self) -> MutexGuard<'_, (String, Option<Instant>)> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    diversity_keys::private::open(path)
        .and_then(|file| {
            file.take(TOKEN_BYTES_MAX as u64 + 2)
                .read_to_string(&mut text)
        })
        .map_err(|e| e.to_string())?;
    let token = text.trim();
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
        return Err(format!("it holds no token of 1 to {TOKEN_BYTES_MAX} bytes"));
    }
    if !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("it holds more than one word, or characters that no token has".into());
    }
    Ok(token.into())
}
