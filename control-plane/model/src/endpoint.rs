//! The members of a cluster.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Who answers for a cluster. Its name is the cluster's (or the cluster's `service_name`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    pub cluster: String,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub address: SocketAddr,
    pub health: Health,
    /// Relative share of the load, at least 1.
    pub weight: u32,
    pub workload: Workload,
}

/// As Kubernetes' EndpointSlice conditions say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Health {
    Healthy,
    /// Serving but terminating: in-flight work ends there, new work goes elsewhere.
    Draining,
    Unhealthy,
}

/// Whom an endpoint belongs to, for metrics. Empty fields are unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Workload {
    pub name: String,
    pub namespace: String,
    /// Istio's canonical `app` and `version`.
    pub app: String,
    pub version: String,
}
