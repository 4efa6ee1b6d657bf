//! `v1` Service: a name for a group of pods.

use super::{Labels, PortRef, Transport};
use crate::Place;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub kind: ServiceType,
    /// Which pods are its endpoints. Empty: endpoints are written by hand.
    pub selector: Labels,
    pub ports: Vec<ServicePort>,
    /// `clusterIP: None`: clients see the pods' own addresses.
    pub headless: bool,
    pub publish_not_ready_addresses: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceType {
    ClusterIp,
    NodePort,
    LoadBalancer,
    /// An alias of a DNS name outside.
    ExternalName(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    pub place: Place,
    /// Needed where there are several. `http`, `http2-api`, `grpc`, `tcp-x` tell the protocol, as in Istio.
    pub name: Option<String>,
    pub port: u16,
    /// Absent: the same as `port`.
    pub target_port: Option<PortRef>,
    pub transport: Transport,
    /// `http`, `kubernetes.io/h2c`, `kubernetes.io/ws`, …; comes before the name's hint.
    pub app_protocol: Option<String>,
}
