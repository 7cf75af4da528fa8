//! The public Rust SDK of a DIVERSITY node: what the CLI, the sensor simulator and the tests are built on.
//!
//! - [`api`]: the JSON types of every HTTP route, and the table of routes itself.
//! - [`terms_json`]: terms as people read and write them; [`abi`]: results decoded by the names in the terms.
//! - [`hexed`]: how byte strings stand in JSON.

pub mod abi;
pub mod api;
pub mod hexed;
pub mod terms_json;
