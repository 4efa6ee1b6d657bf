//! The decisions of a data plane, pure: which route a request takes, what it is turned into, what a
//! browser of another origin may do, which endpoint answers, whether it may pass at all, how long it may
//! take, whether it is tried again, and which endpoint is left alone for a while.
//!
//! Nothing here awaits, reads a clock or rolls dice of its own: whoever asks hands in the request,
//! the loads, the time and the [`Dice`]. So the live proxy, `weft check` and a property test run the very
//! same code. What is configured is compiled once ([`CompileError`] says what is wrong with it);
//! after that nothing can fail and the common path allocates nothing.

pub mod balance;
pub mod breaker;
pub mod bucket;
pub mod cors;
pub mod deadline;
pub mod dice;
pub mod edits;
mod error;
pub mod fault;
pub mod health_check;
pub mod limit;
pub mod outlier;
pub mod pattern;
pub mod redirect;
pub mod retry;
pub mod rewrite;
pub mod route;
#[cfg(test)]
mod testing;
pub mod trip;
mod window;
pub mod x_envoy;

pub use dice::Dice;
pub use error::CompileError;
