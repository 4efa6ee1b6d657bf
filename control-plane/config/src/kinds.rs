//! The kinds that Weft reads, each as its standard defines it.
//!
//! Everything here is parsed and within its limits: hosts are hosts, durations are durations, a port is
//! never 0, an exclusive choice is an `enum`. What one object says of another (a backend's Service,
//! a parent's Gateway) is only a name here; [`crate::validate()`] looks it up.

mod authority_ref;
mod backend_tls_policy;
mod backend_traffic_policy;
mod common;
mod config_map;
mod deployment;
mod destination_rule;
mod endpoint_slice;
mod gateway;
mod gateway_class;
mod grpc_route;
mod http_route;
mod layer4_route;
mod listener_set;
mod namespace;
mod pod;
mod policy_target;
mod rate_limit_policy;
mod reference_grant;
mod secret;
mod service;
mod session_persistence;
#[cfg(test)]
mod tests;
mod virtual_service;

pub use authority_ref::*;
pub use backend_tls_policy::*;
pub use backend_traffic_policy::*;
pub use common::*;
pub use config_map::*;
pub use deployment::*;
pub use destination_rule::*;
pub use endpoint_slice::*;
pub use gateway::*;
pub use gateway_class::*;
pub use grpc_route::*;
pub use http_route::*;
pub use layer4_route::*;
pub use listener_set::*;
pub use namespace::*;
pub use pod::*;
pub use policy_target::*;
pub use rate_limit_policy::*;
pub use reference_grant::*;
pub use secret::*;
pub use service::*;
pub use session_persistence::*;
pub use virtual_service::*;
