//! The members of a cluster.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Who answers for a cluster. Its name is the cluster's (or the cluster's `service_name`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    pub cluster: String,
    pub endpoints: Vec<Endpoint>,
    /// Relative shares of localities, for clusters that are [`crate::balancer::LocalityRule::Weighted`]; a locality that is not here has none.
    pub locality_weights: Vec<(Locality, u32)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub address: SocketAddr,
    pub health: Health,
    /// Relative share of the load, at least 1.
    pub weight: u32,
    /// 0 is first; the next one is used as far as those before it are not healthy.
    pub priority: u32,
    pub locality: Locality,
    pub workload: Workload,
}

impl Endpoint {
    /// A healthy endpoint of weight 1, of whom nothing else is known.
    pub fn at(address: SocketAddr) -> Self {
        Endpoint {
            address,
            health: Health::Healthy,
            weight: 1,
            priority: 0,
            locality: Locality::default(),
            workload: Workload::default(),
        }
    }
}

/// Where an endpoint runs. Empty fields are unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Locality {
    pub region: String,
    pub zone: String,
    pub sub_zone: String,
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
