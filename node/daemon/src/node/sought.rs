//! Whom this node looks for on the chain again: what it dropped while they were strangers ([`Registry::is_partial`]), and what
//! somebody needs of them now. One task asks the chain, range by range; the follower takes in what it finds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use diversity_chain::events::Located;
use diversity_chain::look_back::{Entity, look_back};
use diversity_chain::rpc::Rpc;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::node::chain::ChainView;
use crate::node::registry::Registry;
use crate::node::shared::{Registered, Shared};

/// Who are remembered as looked for; beyond it all are forgotten, and looked for again when they are needed again.
const REMEMBERED_MAX: usize = 100_000;
/// Pause after the chain could not be asked.
const TROUBLE: Duration = Duration::from_secs(2);
/// How long somebody who asks waits for an answer.
const WAIT: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Wanted,
    Asked,
    Looked,
}

/// Whom this node looks for.
#[derive(Debug)]
pub struct Sought {
    states: Mutex<BTreeMap<Entity, State>>,
    changes: watch::Sender<u64>,
}

impl Default for Sought {
    fn default() -> Self {
        Self {
            states: Mutex::default(),
            changes: watch::channel(0).0,
        }
    }
}

impl Sought {
    fn states(&self) -> MutexGuard<'_, BTreeMap<Entity, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    /// Has them looked for. Whether that is done for all: then who is not registered here is not registered.
    pub fn ask(&self, entities: impl IntoIterator<Item = Entity>) -> bool {
        let mut states = self.states();
        if states.len() > REMEMBERED_MAX {
            states.retain(|_, s| *s != State::Looked);
        }
        let (known, mut done) = (states.len(), true);
        for entity in entities {
            let state = states.entry(entity).or_insert(State::Wanted);
            done &= *state == State::Looked;
        }
        let new = states.len() > known;
        drop(states);
        if new {
            self.changed();
        }
        done
    }

    /// Something of them was dropped: what was found of them, or is being looked for, is nothing any more.
    pub fn dropped(&self, entities: &[Entity]) {
        if entities.is_empty() {
            return;
        }
        let mut states = self.states();
        for entity in entities {
            match states.get_mut(entity) {
                Some(state @ State::Asked) => *state = State::Wanted,
                Some(State::Looked) => drop(states.remove(entity)),
                Some(State::Wanted) | None => {}
            }
        }
    }

    /// What was found of them is taken in.
    pub fn looked(&self, entities: &BTreeSet<Entity>) {
        let mut states = self.states();
        for entity in entities {
            if let Some(state @ State::Asked) = states.get_mut(entity) {
                *state = State::Looked;
            }
        }
        drop(states);
        self.changed();
    }

    /// All who are wanted, as soon as somebody is.
    async fn next(&self) -> BTreeSet<Entity> {
        let mut changes = self.changes.subscribe();
        loop {
            changes.borrow_and_update();
            let wanted: BTreeSet<_> = {
                let mut states = self.states();
                let wanted = states.iter_mut().filter(|(_, s)| **s == State::Wanted);
                wanted
                    .map(|(entity, state)| {
                        *state = State::Asked;
                        *entity
                    })
                    .collect()
            };
            if !wanted.is_empty() {
                return wanted;
            }
            // The sender lives as long as this.
            let _ = changes.changed().await;
        }
    }

    /// Looks for those of them that are not here, if some may have been dropped; ends when that is done, or after 30 s. Whether it is
    /// done.
    pub async fn find(&self, registered: &Registered, entities: Vec<Entity>) -> bool {
        let missing = {
            let registry: &Registry = &registered.read();
            if !registry.is_partial() {
                return true;
            }
            registry.missing(entities)
        };
        let mut changes = self.changes.subscribe();
        let end = Instant::now() + WAIT;
        loop {
            changes.borrow_and_update();
            if self.ask(missing.iter().copied()) {
                return true;
            }
            match tokio::time::timeout_at(end, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return false,
            }
        }
    }
}

/// Who was looked for, and what the chain says of them, in its order.
pub struct Found {
    /// Who.
    pub entities: BTreeSet<Entity>,
    /// What.
    pub events: Vec<Located>,
}

/// Asks the chain, until nobody takes what it finds any more.
pub async fn seek(
    shared: Shared,
    rpc: Rpc,
    mut view: watch::Receiver<ChainView>,
    found: mpsc::Sender<Found>,
) {
    let deployment = shared.identity.deployment;
    loop {
        let entities = shared.sought.next().await;
        tracing::info!(entities = entities.len(), "registrations.sought");
        let events = loop {
            // What comes later is read by the follower.
            let read = match view.wait_for(|v| v.processed.is_some()).await {
                Ok(view) => view.processed.unwrap_or(0),
                Err(_) => return,
            };
            let from = shared.config.from_block;
            match look_back(&rpc, &deployment, &entities, from, read).await {
                Ok(events) => break events,
                Err(error) => {
                    tracing::debug!(%error, "registrations.not_found_yet");
                    tokio::time::sleep(TROUBLE).await;
                }
            }
        };
        if found.send(Found { entities, events }).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use diversity_proto::SensorId;

    fn sensor(n: u8) -> Entity {
        Entity::Sensor(SensorId([n; 20]))
    }

    #[tokio::test]
    async fn who_was_looked_for_is_not_looked_for_again_before_it_is_dropped_again() {
        let sought = Sought::default();
        assert!(!sought.ask([sensor(1), sensor(2)]));
        let wanted = sought.next().await;
        assert_eq!(wanted, BTreeSet::from([sensor(1), sensor(2)]));
        assert!(!sought.ask([sensor(1)]), "it is being looked for");
        // Dropped while it is looked for: what is found may lack it.
        sought.dropped(&[sensor(2), sensor(3)]);
        sought.looked(&wanted);
        assert!(sought.ask([sensor(1)]));
        assert!(!sought.ask([sensor(1), sensor(2)]));
        assert_eq!(sought.next().await, BTreeSet::from([sensor(2)]));
        sought.looked(&wanted);
        assert!(sought.ask([sensor(1), sensor(2)]));
        sought.dropped(&[sensor(1)]);
        assert!(!sought.ask([sensor(1)]), "it has to be looked for again");
    }
}
