//! What is written to a Kubernetes cluster: objects that are applied, statuses, and what Gateway objects ask for.
//!
//! Reading is the sources' business. Of several replicas one writes, the one that holds the Lease (`election`).

mod apply;
mod election;
mod gateways;
mod merge;

pub use apply::{Applier, name};
pub use gateways::Template;
