//! The decisions of a data plane, pure: which route a request takes, what it is turned into, what a
//! browser of another origin may do, which endpoint answers.
//!
//! Nothing here awaits, reads a clock or rolls dice of its own: whoever asks hands in the request,
//! the loads and the [`Dice`]. So the live proxy, `weft check` and a property test run the very
//! same code. What is configured is compiled once ([`CompileError`] says what is wrong with it);
//! after that nothing can fail and the common path allocates nothing.

pub mod balance;
pub mod cors;
pub mod dice;
pub mod edits;
mod error;
pub mod pattern;
pub mod redirect;
pub mod rewrite;
pub mod route;
#[cfg(test)]
mod testing;

pub use dice::Dice;
pub use error::CompileError;
