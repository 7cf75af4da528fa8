//! What others have signed, brought to the chain: every signature is checked here already, so that a wrong one costs no gas, and an
//! answer is given once the chain says that it is so.

mod agreements;
mod registrations;

use std::sync::Arc;
use std::time::Duration;

use diversity_chain::EvmSignature;
use diversity_chain::goal::Goal;
use diversity_client::hexed::WalletSignature;
use diversity_proto::{Address, Deployment, Digest, UserId};
use tokio::sync::watch;

use super::agreements::Book;
use super::directory::Directory;
use super::error::{RoomError, RoomResult};
use crate::node::chain::{Chain, ChainView, RelayError, Relayed};
use crate::node::shared::{Registered, Shared};

/// How long a call may take to be mined and taken in.
const WAIT: Duration = Duration::from_secs(60);

/// The room.
#[derive(Clone)]
pub struct Relay {
    deployment: Deployment,
    registered: Registered,
    line: Line,
    book: Book,
    directory: Directory,
}

/// The way to the chain and back.
#[derive(Clone)]
pub struct Line {
    /// Sends calls.
    pub chain: Arc<dyn Chain>,
    /// How the chain is, and up to where it is taken in.
    pub view: watch::Receiver<ChainView>,
}

impl Relay {
    /// Sees registrations, agreements and disputes, and sends calls to the contract.
    pub fn new(shared: &Shared, line: Line, book: Book, directory: Directory) -> Self {
        Self {
            deployment: shared.identity.deployment,
            registered: shared.registered.clone(),
            line,
            book,
            directory,
        }
    }
}

impl Line {
    /// How many entities stand registered of a user, by the contract.
    ///
    /// # Errors
    /// [`RoomError::Unavailable`], at once while the chain is known to be out of reach.
    pub async fn count(&self, user: UserId) -> RoomResult<u64> {
        let mut view = self.view.clone();
        let down = async {
            let seen = view.wait_for(|v| v.trouble.is_some()).await;
            let trouble = seen.ok().and_then(|v| v.trouble.clone());
            // Without any the node ends, and so does the question.
            match trouble {
                Some(trouble) => trouble,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            asked = self.chain.registered(user) => asked.map_err(not_mined),
            trouble = down => Err(RoomError::Unavailable(format!(
                "the contract cannot be asked what stands registered: {trouble}"
            ))),
            () = tokio::time::sleep(WAIT) => Err(RoomError::Late("the chain has not answered".into())),
        }
    }

    /// Has a call mined and waits until its events are taken in here.
    ///
    /// # Errors
    /// [`RoomError::Reverted`] if the contract refuses it, [`RoomError::Unavailable`], and [`RoomError::Late`] after 60 s: the
    /// call goes on, and the same again finds it.
    pub async fn mined(&self, call: Relayed) -> RoomResult<Digest> {
        let end = tokio::time::Instant::now() + WAIT;
        let late = || {
            let trouble = self.view.borrow().trouble.clone();
            let why = trouble.map_or_else(String::new, |t| format!(": {t}"));
            RoomError::Late(format!(
                "{} has not been mined within {} s{why}",
                call.label,
                WAIT.as_secs()
            ))
        };
        let mined = tokio::time::timeout_at(end, self.chain.relay(call.clone()))
            .await
            .map_err(|_| late())?;
        let mined = mined.map_err(not_mined)?;
        let mut view = self.view.clone();
        let taken = view.wait_for(|v| v.processed.is_some_and(|block| block >= mined.block));
        match tokio::time::timeout_at(end, taken).await {
            Ok(Ok(_)) => Ok(mined.tx),
            Ok(Err(_)) => Err(RoomError::stopping()),
            Err(_) => Err(late()),
        }
    }
}

fn not_mined(error: RelayError) -> RoomError {
    match error {
        // Without a name it is not the contract that speaks: no pool takes it, or no block holds it.
        RelayError::Reverted { name, words } if name.is_empty() => RoomError::Reverted(words),
        RelayError::Reverted { name, words } => RoomError::Reverted(format!("{name}: {words}")),
        RelayError::Pointless(reason) => RoomError::Reverted(reason),
        RelayError::Unavailable(reason) => RoomError::Unavailable(reason),
    }
}

/// A call to `MainContract`.
fn to_main(label: String, data: Vec<u8>, goal: Goal) -> Relayed {
    Relayed {
        label,
        data,
        to_cells: false,
        goal: Some(goal),
    }
}

/// Checks a wallet's signature, and gives it in the contract's form.
fn signed(
    signature: &WalletSignature,
    digest: &Digest,
    by: Address,
    who: &str,
) -> RoomResult<EvmSignature> {
    match signature.signer(digest) {
        Ok(signer) if signer == by => EvmSignature::from_rsv(&signature.0)
            .map_err(|e| RoomError::Signature(format!("{who}: {e}"))),
        Ok(signer) => Err(RoomError::Signature(format!(
            "{who}: signed by {signer}, and {by} should have signed"
        ))),
        Err(error) => Err(RoomError::Signature(format!("{who}: {error}"))),
    }
}

/// A mined registration that the registry does not show.
fn unseen() -> RoomError {
    RoomError::internal("the registration was mined, and its event is missing")
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
