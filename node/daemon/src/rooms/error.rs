//! Why a room does not do what it was asked. Each kind says for itself what to do about it where that does not depend on the
//! transport; the transports (HTTP, later CoAP and MQTT) only give it their form.

use std::fmt::Display;

use diversity_proto::Digest;

use crate::node::cut::CutError;
use crate::node::registry::RegistryError;
use crate::node::shared::WriteError;

/// Result of a room.
pub type RoomResult<T> = Result<T, RoomError>;

/// Why a room does not do what it was asked; the text is the detail, for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoomError {
    /// What was asked makes no sense.
    #[error("{0}")]
    Malformed(String),
    /// There is no such thing here.
    #[error("{detail}")]
    NotFound {
        /// What is missing.
        detail: String,
        /// What to do.
        what_to_do: &'static str,
    },
    /// It stands registered with other content.
    #[error("{detail}")]
    Conflict {
        /// What stands.
        detail: String,
        /// What to do.
        what_to_do: &'static str,
    },
    /// Too much at once: the same again in a moment.
    #[error("{0}")]
    Busy(&'static str),
    /// Not now: the chain cannot be reached, or the node is ending.
    #[error("{0}")]
    Unavailable(String),
    /// The chain has not answered in time; what was asked goes on.
    #[error("{0}")]
    Late(String),
    /// A defect, or a damaged data directory.
    #[error("{0}")]
    Internal(String),
    /// A signature is not the one of who should have signed.
    #[error("{0}")]
    Signature(String),
    /// The contract refuses it.
    #[error("{0}")]
    Reverted(String),
    /// The terms break a rule.
    #[error("{0}")]
    Terms(String),
    /// `a` does not belong to the terms and nodes.
    #[error("{0}")]
    AgreementId(String),
    /// Somebody is not registered.
    #[error("{0}")]
    NotRegistered(String),
    /// The owner of a sensor does not agree.
    #[error("{0}")]
    NotGranted(String),
    /// A node of the terms has not accepted them.
    #[error("{0}")]
    NotAccepted(String),
    /// This node is no node of the agreement.
    #[error("{0}")]
    NotAMember(String),
    /// The module cannot be run.
    #[error("{0}")]
    Module(String),
    /// The module is not here.
    #[error("this node has not got the module {0}")]
    ModuleMissing(Digest),
}

impl RoomError {
    /// A defect, or a damaged data directory.
    pub fn internal(detail: impl Display) -> Self {
        Self::Internal(detail.to_string())
    }

    /// There is no such thing here.
    pub fn not_found(detail: String, what_to_do: &'static str) -> Self {
        Self::NotFound { detail, what_to_do }
    }

    /// It stands registered with other content.
    pub fn conflict(detail: String, what_to_do: &'static str) -> Self {
        Self::Conflict { detail, what_to_do }
    }

    /// The node ends.
    pub fn stopping() -> Self {
        Self::Unavailable("the node is shutting down".into())
    }
}

impl From<CutError> for RoomError {
    fn from(error: CutError) -> Self {
        Self::internal(error)
    }
}

impl From<RegistryError> for RoomError {
    fn from(error: RegistryError) -> Self {
        Self::internal(error)
    }
}

impl From<WriteError> for RoomError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Behind => Self::Busy("the store is behind"),
            WriteError::Store(error) => Self::internal(error),
            WriteError::Stopped => Self::stopping(),
        }
    }
}

/// Work that blocks (files, compilers, long checks), away from the threads that answer requests.
///
/// # Errors
/// Those of the work; a panic in it is [`RoomError::Internal`].
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> RoomResult<T> + Send + 'static,
) -> RoomResult<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(RoomError::internal)?
}
