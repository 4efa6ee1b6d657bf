//! Active health checks, seen through the requests that go to who passes them.

#![allow(clippy::unwrap_used, reason = "a helper of tests may fail as a test does")]

mod kit;
mod probes;
mod verdicts;
