//! What was cut, run, sealed and settled, as this node holds it. Nothing is believed because it is stored: results are checked
//! against what has settled before they are shown, and windows are cut again from signed frames.

mod counts;
mod disputes;
pub mod records;
mod results;
mod windows;

pub use disputes::DisputePlace;
pub use windows::HeldWindow;

use diversity_client::api::{CommitJson, ComputedJson, RevealJson};
use diversity_client::hexed::Bytes;
use diversity_proto::round::{Commit, Computed, Reveal};
use diversity_proto::{AgreementId, Digest, NodeId, SensorId};
use std::sync::Arc;

use super::agreements::{Agreement, Book};
use super::core::Core;
use super::error::RoomResult;
use crate::node::frames::Frames;
use crate::node::registry::Registry;
use crate::node::shared::{Registered, Shared};
use records::Records;

/// The room.
#[derive(Clone)]
pub struct Archive {
    book: Book,
    records: Records,
    registered: Registered,
    frames: Arc<Frames>,
    core: Core,
}

impl Archive {
    /// Sees records, registrations and frames; where frames are, it asks the core.
    pub fn new(shared: &Shared, book: Book, core: Core) -> Self {
        Self {
            records: book.records.clone(),
            registered: shared.registered.clone(),
            frames: Arc::clone(&shared.durable.frames),
            book,
            core,
        }
    }

    fn agreement(&self, a: &AgreementId) -> RoomResult<Agreement> {
        Ok(self.book.load(a)?.1)
    }
}

/// The label that a sensor was registered with; empty for one that is not.
fn label(registry: &Registry, sensor: &SensorId) -> String {
    registry
        .sensors
        .get(sensor)
        .map_or_else(String::new, |s| s.declaration.label.clone())
}

fn commit_json(node: NodeId, c: &Commit) -> CommitJson {
    CommitJson {
        node,
        commitment: c.commitment,
        opening: c.opening,
        signature: c.signature,
    }
}

fn reveal_json(node: NodeId, r: &Reveal) -> RevealJson {
    RevealJson {
        node,
        computed: computed_json(&r.computed),
        secret: Digest(r.blinding.secret),
        salt: Digest(r.blinding.salt),
        from: r.from,
        holes: r.holes.clone(),
        signature: r.signature,
    }
}

fn computed_json(c: &Computed) -> ComputedJson {
    ComputedJson {
        kind: c.kind,
        result: Bytes(c.result.clone()),
        detail_root: c.detail_root,
        state: c.state,
        trace: c.trace,
        window_hash: c.window_hash,
    }
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
