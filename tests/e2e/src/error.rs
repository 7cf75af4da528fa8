//! Why a run ended early.

use std::path::PathBuf;

/// What can go wrong around the processes; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum E2eError {
    /// A program was not built.
    #[error("{} is not there: run `make build` first", path.display())]
    NotBuilt {
        /// Where it should be.
        path: PathBuf,
    },
    /// The system refused something.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program ended with an error.
    #[error("`{command}` ended with {status}: {said}")]
    Program {
        /// Its command line.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said on stderr, if that was read.
        said: String,
    },
    /// A program printed something else than it should.
    #[error("`{command}` printed what cannot be read ({reason})")]
    Output {
        /// Its command line.
        command: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A CSV file has a line that cannot be read.
    #[error("{} line {line}: {reason}", path.display())]
    Csv {
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Something that was awaited did not come.
    #[error("no {what} within {seconds} s ({last})")]
    Late {
        /// What was awaited.
        what: String,
        /// How long.
        seconds: u64,
        /// What was seen last.
        last: String,
    },
    /// What should be so is not.
    #[error("{0}")]
    NotSo(String),
    /// A node's API.
    #[error(transparent)]
    Api(#[from] diversity_client::ApiError),
    /// The devnet file.
    #[error(transparent)]
    Devnet(#[from] diversity_client::devnet::DevnetError),
    /// The chain.
    #[error("the chain: {0}")]
    Chain(String),
    /// A key.
    #[error(transparent)]
    Key(#[from] diversity_keys::KeyError),
    /// A signature.
    #[error(transparent)]
    Sign(#[from] diversity_client::sign::SignError),
}

/// Result of a step.
pub type Result<T = ()> = std::result::Result<T, E2eError>;

impl E2eError {
    /// The system refused `action`.
    pub fn system(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.into();
        move |source| Self::System { action, source }
    }
}

impl From<diversity_chain::rpc::RpcError> for E2eError {
    fn from(error: diversity_chain::rpc::RpcError) -> Self {
        Self::Chain(error.to_string())
    }
}

impl From<diversity_chain::rpc::EndpointError> for E2eError {
    fn from(error: diversity_chain::rpc::EndpointError) -> Self {
        Self::Chain(error.to_string())
    }
}
