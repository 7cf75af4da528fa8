//! The rooms of a node: what can be asked of it, whatever the transport. HTTP and the command line, and later CoAP, MQTT and the
//! dashboard, parse, call a room and present what it says; no rule and no record is known outside of the rooms.
//!
//! Values that rooms take and give are those of the public SDK ([`diversity_client::api`]), whose JSON HTTP speaks.

pub mod acceptance;
pub mod agreements;
pub mod archive;
pub mod code;
pub mod core;
pub mod declaration;
pub mod directory;
pub mod error;
pub mod intake;
pub mod relay;
pub mod standing;
#[cfg(test)]
pub(crate) mod testkit;

use std::sync::Arc;

use diversity_client::api::{PAGE_MAX, Page};
use diversity_client::hexed::Hexed;

use crate::node::shared::Shared;
use acceptance::Acceptance;
use agreements::Book;
use archive::{Archive, records::Records};
use code::Shelf;
use core::Core;
use declaration::Own;
use directory::Directory;
pub use error::{RoomError, RoomResult};
use intake::Intake;
use relay::{Line, Relay};
use standing::{Health, Standing};

/// Items on a page when the caller does not say.
pub const PAGE: usize = 100;

/// All rooms.
#[derive(Clone)]
pub struct Rooms {
    /// Frames to signed acknowledgements.
    pub intake: Intake,
    /// What was cut, run, sealed and settled.
    pub archive: Archive,
    /// What agreements wait for.
    pub standing: Standing,
    /// How the node itself is.
    pub health: Health,
    /// Whether to accept an agreement.
    pub acceptance: Acceptance,
    /// Who is registered.
    pub directory: Directory,
    /// What others signed, to the chain.
    pub relay: Relay,
    /// Modules.
    pub shelf: Shelf,
    /// What this node declares of itself.
    pub own: Own,
}

impl Rooms {
    /// Hands each room its views of the shared state.
    pub fn open(shared: &Shared, core: Core, line: Line) -> Self {
        let book = Book {
            deployment: shared.identity.deployment,
            registered: shared.registered.clone(),
            records: Records::new(shared.durable.store.clone()),
            sought: Arc::clone(&shared.sought),
        };
        let own = Own::new(shared);
        let archive = Archive::new(shared, book.clone(), core.clone());
        let directory = Directory::new(shared, core.clone());
        let standing = Standing::new(shared, line.view.clone(), book.clone(), core.clone());
        Self {
            intake: Intake::new(shared, core),
            health: Health::new(shared, standing.clone(), own.clone()),
            standing,
            acceptance: Acceptance::new(shared, book.clone()),
            relay: Relay::new(shared, line, book, directory.clone()),
            archive,
            directory,
            shelf: Shelf::new(shared),
            own,
        }
    }
}

/// A page of sorted items; the cursor of the next one is the id of the last item on it.
fn page<T, I: Hexed>(
    items: impl Iterator<Item = T>,
    id: impl Fn(&T) -> I,
    limit: Option<usize>,
) -> Page<T> {
    let limit = limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let mut out = Vec::new();
    for item in items {
        if out.len() == limit {
            return Page {
                next: out.last().map(|last| id(last).to_hex()),
                items: out,
            };
        }
        out.push(item);
    }
    Page {
        items: out,
        next: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use diversity_proto::UserId;

    #[test]
    fn a_page_ends_where_the_next_one_begins() {
        let ids: Vec<_> = (0..5).map(|i| UserId([i; 20])).collect();
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let rest = ids.iter().filter(|i| after.is_none_or(|a| **i > a));
            let page = page(rest.copied(), |i| *i, Some(2));
            seen.extend(page.items);
            match page.next {
                Some(cursor) => after = UserId::from_hex(&cursor),
                None => break,
            }
        }
        assert_eq!(seen, ids);
        assert_eq!(page(ids.iter(), |i| **i, Some(5)).next, None);
        assert_eq!(page(ids.iter(), |i| **i, Some(0)).items.len(), 1);
    }
}
