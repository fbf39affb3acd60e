//! JSON (RFC 8259) as the gateway passes it on: checked once while it arrives, then read and edited in the bytes that
//! came. Nothing here builds a tree or turns a number into another text.
//!
//! [`validate`] is the gate: what it has accepted is one value with valid UTF-8, bounded depth and unique keys.
//! [`scan`] finds values in such bytes by a [`path`], [`edit`] copies them with members left out or renamed, and
//! [`write`] makes strings.

pub mod edit;
pub mod path;
#[cfg(test)]
mod samples;
pub mod scan;
mod swar;
pub mod validate;
pub mod write;

pub use edit::{Edit, Filter};
pub use path::{Path, Step};
pub use scan::{Shape, elements, find, find_all, members, scalar_text, shape, trim, unescape};
pub use validate::{Fault, Validator};
pub use write::{push_string, push_string_content};
