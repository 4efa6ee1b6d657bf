//! What a data plane says about its traffic, seen through the doors that people use.

mod admin;
mod exposition;
mod identifiers;
mod log;
mod metrics;
mod otlp;
mod trace;
