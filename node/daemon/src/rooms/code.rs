//! Modules by their SHA-256: kept if they can be run here.

use std::sync::Arc;

use diversity_client::api::CodeView;
use diversity_proto::Digest;
use diversity_proto::domain::sha256_raw;

use super::error::{RoomError, RoomResult, blocking};
use crate::node::activation::Waiting;
use crate::node::modules::ModuleStoreError;
use crate::node::shared::{Code, Shared};

/// The room.
#[derive(Clone)]
pub struct Shelf {
    code: Code,
    waiting: Arc<Waiting>,
}

impl Shelf {
    /// Keeps modules, and wakes agreements that wait for one.
    pub fn new(shared: &Shared) -> Self {
        Self {
            code: shared.code.clone(),
            waiting: Arc::clone(&shared.waiting),
        }
    }

    /// Keeps a module durably, after checking that it is the one that is named and that it can be run here. A repeat is fine.
    ///
    /// # Errors
    /// [`RoomError::Module`] for one that is another or cannot be run, [`RoomError::Unavailable`] if there is no place for it.
    pub async fn put(
        &self,
        sha256: Digest,
        module: impl AsRef<[u8]> + Send + 'static,
    ) -> RoomResult<CodeView> {
        let found = Digest(sha256_raw(module.as_ref()));
        if found != sha256 {
            return Err(RoomError::Module(format!(
                "the path names {sha256}, and the module is {found}"
            )));
        }
        let size = module.as_ref().len() as u64;
        let code = self.code.clone();
        // Compiling takes a core for a while.
        blocking(move || {
            code.runner
                .check(module.as_ref())
                .map_err(RoomError::Module)?;
            code.modules
                .put(module.as_ref())
                .map_err(|error| match error {
                    ModuleStoreError::Full { .. } => RoomError::Unavailable(error.to_string()),
                    _ => RoomError::internal(error),
                })
        })
        .await?;
        self.waiting.nudge();
        Ok(CodeView { sha256, size })
    }

    /// A module.
    ///
    /// # Errors
    /// [`RoomError::NotFound`].
    pub async fn get(&self, sha256: Digest) -> RoomResult<Vec<u8>> {
        let code = self.code.clone();
        let module =
            blocking(move || code.modules.get(&sha256).map_err(RoomError::internal)).await?;
        module.ok_or_else(|| {
            RoomError::not_found(
                format!("there is no module {sha256}"),
                "Upload it with PUT.",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::testkit::{BAD_MODULE, Kit, MODULE};

    #[tokio::test]
    async fn only_what_is_named_and_can_be_run_is_kept() {
        let kit = Kit::new();
        let shelf = Shelf::new(&kit.shared);
        let sha = |module: &[u8]| Digest(sha256_raw(module));
        let good = sha(MODULE);
        assert!(matches!(
            shelf.get(good).await,
            Err(RoomError::NotFound { .. })
        ));
        let view = shelf.put(good, MODULE).await.expect("kept");
        assert_eq!((view.sha256, view.size), (good, MODULE.len() as u64));
        assert_eq!(shelf.get(good).await.expect("there"), MODULE);
        for (sha256, module) in [(good, BAD_MODULE), (sha(BAD_MODULE), BAD_MODULE)] {
            let refused = shelf.put(sha256, module).await;
            assert!(matches!(refused, Err(RoomError::Module(_))), "{refused:?}");
        }
        assert!(shelf.get(sha(BAD_MODULE)).await.is_err());
    }
}
