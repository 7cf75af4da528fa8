//! What was dropped of strangers, and is looked for on the chain again because an agreement needs it ([`crate::node::sought`]).

use diversity_proto::AgreementId;
use tokio::sync::oneshot;

use super::{Follow, FollowError};
use crate::node::driver::Command;
use crate::node::registry::{self, Applied};
use crate::node::sought::Found;

impl Follow {
    /// Hands the core what was applied, and waits until it is durable.
    pub(super) async fn make_durable(&self, applied: &mut Applied) -> Result<(), FollowError> {
        let (done, durable) = oneshot::channel();
        let inputs = std::mem::take(&mut applied.inputs);
        let ops = std::mem::take(&mut applied.ops);
        self.command(Command::Chain { inputs, ops, done }).await?;
        durable.await.map_err(|_| FollowError::Stopped)?;
        self.shared.registered.write().written();
        Ok(())
    }

    /// Takes in what was dropped and was found again. It is the newest of strangers now.
    pub(super) async fn found(&mut self, found: Found) -> Result<(), FollowError> {
        let mut applied = Applied::default();
        {
            let mut registry = self.shared.registered.write();
            for event in &found.events {
                registry.apply(event, &mut applied);
            }
        }
        let (sought, events) = (found.entities.len(), found.events.len());
        tracing::info!(sought, events, "registrations.found");
        self.make_durable(&mut applied).await?;
        self.changed_nodes(&applied).await?;
        self.announce(&applied);
        // Who was looked for first, so that whoever had to make room is looked for again.
        self.shared.sought.looked(&found.entities);
        self.shared.sought.dropped(&applied.dropped);
        self.activate_all().await
    }

    /// Whether all that the chain says of the parties of an agreement that this node has accepted is here; if not, it waits for that.
    /// What was dropped while they were strangers is looked for first, the contradictions of their sensors too, which all nodes have to
    /// count alike. For agreements that only name this node, which anybody can make, nothing is looked for.
    pub(super) fn parties_are_here(&self, a: &AgreementId) -> Result<bool, FollowError> {
        let partial = {
            let registry = self.shared.registered.read();
            let kept = registry.agreements.get(a).is_some_and(|r| r.kept);
            kept && registry.is_partial()
        };
        if !partial {
            return Ok(true);
        }
        let terms = registry::terms(&self.shared.durable.store, a)?;
        let parties = terms.iter().flat_map(registry::parties);
        let here = self.shared.sought.ask(parties);
        if !here {
            let reason = "others have registered so much that this node dropped what it held of strangers: it is looking on the chain for the parties of this agreement";
            self.shared.waiting.set(*a, reason.into());
        }
        Ok(here)
    }
}
