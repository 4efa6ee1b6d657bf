//! What a data plane says about its traffic, seen through the doors that people use.

#![allow(clippy::unwrap_used, reason = "a helper of tests may fail as a test does")]

mod admin;
mod exposition;
mod identifiers;
mod log;
mod metrics;
mod otlp;
mod trace;
