//! The public Rust SDK of a DIVERSITY node: what the CLI, the sensor simulator and the tests are built on.
//!
//! - [`api`]: the JSON types of every HTTP route, and the table of routes itself; [`Api`] calls them.
//! - [`sign`]: what users sign (EIP-712); [`draft`]: an agreement on its way from terms to the chain.
//! - [`devnet`]: the file that describes a devnet.
//! - [`terms_json`]: terms as people read and write them; [`abi`]: results decoded by the names in the terms.
//! - [`csv`]: lines of trips and of recorded windows; [`hexed`]: how byte strings stand in JSON.
//!
//! Nothing here trusts a node: ids are computed from keys and terms, acknowledgements carry signatures, and a module is
//! checked against its hash.

pub mod abi;
pub mod api;
pub mod csv;
pub mod devnet;
pub mod draft;
mod error;
mod events;
pub mod hexed;
mod http;
pub mod sign;
pub mod terms_json;

pub use error::{ANSWER_BYTES_MAX, ApiError};
pub use events::Events;
pub use http::Api;
