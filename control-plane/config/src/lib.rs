//! The YAML people write, on its way to the model.
//!
//! People see their configuration as files and lines; a data plane sees routes and clusters. This
//! crate is the bridge, and it never loses the place: whatever is wrong, however deep, is said with
//! file, line, column, the field's path and what to write instead, and everything wrong is said at once.
//!
//! The way of a file: [`read()`] makes typed [`Object`]s of its documents, [`merge()`] joins files into a
//! [`World`], [`validate()`] checks what objects say of each other, [`compile`] turns the world
//! into what each data plane should do, and [`status`] says what became of each object of the Gateway API.
//!
//! Invariants: a bad document never hides its neighbours; reading costs time and memory in
//! proportion to the text (aliases cannot multiply it without bound) and never panics. This crate is
//! pure: no I/O, no clock, no randomness.

pub mod compile;
pub mod kinds;
mod merge;
mod object;
mod place;
mod problem;
mod read;
pub mod schema;
pub mod status;
mod tree;
pub mod validate;

pub use compile::listener_sets::gateways;
pub use merge::{World, merge};
pub use object::{Body, Key, KindName, Meta, Object, OwnerReference};
pub use place::{At, Place};
pub use problem::{Problem, Severity};
pub use read::{BadDocument, MAX_DOCUMENTS, MAX_FILE_BYTES, Parsed, read, read_object};
pub use validate::{validate, validate_next};
