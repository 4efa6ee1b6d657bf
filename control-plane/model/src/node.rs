//! Who asks for configuration: one data plane and what it says of itself.

use crate::endpoint::Locality;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What a data plane is: it decides which listeners it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Beside one workload: inbound to it, outbound from it. Node id prefix `sidecar`.
    Sidecar,
    /// At the edge: serves one `Gateway` object. Node id prefix `router`.
    Gateway,
}

/// A data plane's identity on the wire. Its id is written as Istio's: `sidecar~127.0.1.2~order-0.default~default.svc.cluster.local`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Node {
    pub role: Role,
    /// The pod's address, where its listeners bind.
    pub address: IpAddr,
    /// The pod's name.
    pub pod: String,
    pub namespace: String,
    /// Istio's `WORKLOAD_NAME`: the Deployment's name, or for a gateway the `Gateway` object's name.
    pub workload: String,
    /// The pod's labels (`app`, `version`).
    pub labels: BTreeMap<String, String>,
    /// Where the workload's own program listens when that is not the pod's address (a sidecar
    /// without interception); ports are kept. `None`: the loopback address.
    pub app_address: Option<IpAddr>,
    /// The pod's connections are redirected to the sidecar (Istio's `INTERCEPTION_MODE`); without, the sidecar
    /// is an explicit proxy.
    pub interception: bool,
    /// Where it runs.
    pub locality: Locality,
}

impl Node {
    /// The node id that goes over the wire.
    pub fn id(&self) -> String {
        let role = match self.role {
            Role::Sidecar => "sidecar",
            Role::Gateway => "router",
        };
        let Node { address, pod, namespace, .. } = self;
        format!("{role}~{address}~{pod}.{namespace}~{namespace}.svc.cluster.local")
    }
}
