//! Policies that no YAML of ours says yet, driven by xDS.

#![allow(clippy::unwrap_used, reason = "a helper of tests may fail as a test does")]

mod clients;
mod kit;
mod probes;
mod sessions;
mod verdicts;
