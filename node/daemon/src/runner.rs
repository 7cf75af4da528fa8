//! Who runs `f`. The daemon knows only this trait, so that the tests' lying node is a separate program around the same
//! daemon, and the shipped one cannot lie.

use diversity_proto::Digest;
use diversity_proto::round::OutputKind;

/// What `f` gave for one input (wire-format §5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOutput {
    /// Null, value, trap or abstain.
    pub kind: OutputKind,
    /// Packed result; for abstain one byte of reason.
    pub result: Vec<u8>,
    /// Packed detail, one per sensor or none.
    pub detail: Vec<Vec<u8>>,
    /// `carry'`; ignored for trap and abstain.
    pub carry: Vec<u8>,
    /// What the guest folded over what it processed.
    pub trace: Digest,
}

/// Why there was no execution at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunFailure {
    /// The module was never added, or others have displaced it: add it and run again.
    #[error("the module is not loaded")]
    NotLoaded,
    /// The host could not run it; the node abstains (R8).
    #[error("{0}")]
    Host(String),
}

/// Runs modules under limits.
pub trait Runner: Send + Sync + 'static {
    /// Checks that a module can be run here (imports, exports, memory); otherwise why not, in words.
    ///
    /// # Errors
    /// The reason.
    fn check(&self, module: &[u8]) -> Result<(), String>;

    /// Makes a module ready to run under its SHA-256. A repeat is fine.
    ///
    /// # Errors
    /// The reason.
    fn add(&self, module: &[u8]) -> Result<(), String>;

    /// Runs a module that was added. What happens in an execution is a kind of output, never an error.
    ///
    /// # Errors
    /// [`RunFailure`].
    fn run(&self, module: &Digest, input: &[u8]) -> Result<RunOutput, RunFailure>;
}

impl Runner for diversity_exec::Executor {
    fn check(&self, module: &[u8]) -> Result<(), String> {
        diversity_exec::Executor::check(self, module)
            .map(drop)
            .map_err(|e| e.to_string())
    }

    fn add(&self, module: &[u8]) -> Result<(), String> {
        diversity_exec::Executor::add(self, module)
            .map(drop)
            .map_err(|e| e.to_string())
    }

    fn run(&self, module: &Digest, input: &[u8]) -> Result<RunOutput, RunFailure> {
        use diversity_exec::{Kind, RunError};
        let output =
            diversity_exec::Executor::run(self, &module.0, input).map_err(|error| match error {
                RunError::Unknown(_) => RunFailure::NotLoaded,
                other => RunFailure::Host(other.to_string()),
            })?;
        Ok(RunOutput {
            kind: match output.kind {
                Kind::Null => OutputKind::Null,
                Kind::Value => OutputKind::Value,
                Kind::Trap => OutputKind::Trap,
                Kind::Abstain(_) => OutputKind::Abstain,
            },
            result: output.result,
            detail: output.detail,
            carry: output.carry,
            trace: Digest(output.trace),
        })
    }
}
