//! The tokens of the API.

use std::path::Path;

use diversity_keys::{os_random, password};
use zeroize::Zeroizing;

use super::KeyringError;
use super::files::{hex, write_private};

/// Bytes of an API token, before hexadecimal.
const TOKEN_BYTES: usize = 32;

/// What a caller of the API may do. Each scope includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Send messages, and hear up to where they are held.
    Ingest,
    /// See everything.
    Read,
    /// Have things relayed to the chain.
    Operate,
    /// Have this node accept agreements, and change what it holds.
    Admin,
}

impl Scope {
    /// All, weakest first.
    pub const ALL: [Self; 4] = [Self::Ingest, Self::Read, Self::Operate, Self::Admin];

    /// As in file names and problems.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

/// The tokens of the API, one for each scope, in `DATA_DIR/api-token-{ingest,read,operate,admin}`.
pub struct Tokens([Zeroizing<String>; 4]);

impl Tokens {
    /// Reads the tokens, and makes those that are missing.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn open(data_dir: &Path) -> Result<Self, KeyringError> {
        let token = |scope: Scope| -> Result<Zeroizing<String>, KeyringError> {
            let path = data_dir.join(format!("api-token-{}", scope.name()));
            if !path.exists() {
                write_private(&path, &hex(&os_random::<TOKEN_BYTES>()?))?;
            }
            let text = password::read_new(&path)?;
            if text.len() != 2 * TOKEN_BYTES || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(KeyringError::Token { path });
            }
            Ok(text)
        };
        Ok(Self([
            token(Scope::Ingest)?,
            token(Scope::Read)?,
            token(Scope::Operate)?,
            token(Scope::Admin)?,
        ]))
    }

    /// The scope of a token; nothing for an unknown one. Takes as long for every token of the right length.
    pub fn scope(&self, given: &str) -> Option<Scope> {
        let mut found = None;
        for (scope, token) in Scope::ALL.into_iter().zip(&self.0) {
            if same(token.as_bytes(), given.as_bytes()) {
                found = Some(scope);
            }
        }
        found
    }

    /// The token of a scope.
    pub fn token(&self, scope: Scope) -> &str {
        &self.0[scope as usize]
    }
}

fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0u8, |sum, (a, b)| sum | (a ^ b)) == 0
}
