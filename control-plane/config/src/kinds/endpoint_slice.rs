//! `discovery.k8s.io/v1` EndpointSlice: the addresses behind a Service.

use super::Transport;
use crate::{Meta, Place};
use std::net::IpAddr;

/// The label that names the Service of a slice.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    pub endpoints: Vec<SliceEndpoint>,
    pub ports: Vec<SlicePort>,
}

impl EndpointSlice {
    /// The Service (in the slice's own namespace) that it belongs to.
    pub fn service(meta: &Meta) -> Option<&str> {
        meta.labels.get(SERVICE_NAME_LABEL).map(String::as_str)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    pub place: Place,
    /// Fungible; consumers use the first. Never empty.
    pub addresses: Vec<SliceAddress>,
    pub conditions: Conditions,
    pub hostname: Option<String>,
    pub node_name: Option<String>,
    pub zone: Option<String>,
    /// The Pod behind it: (namespace, name).
    pub pod: Option<(String, String)>,
}

/// By the slice's `addressType`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SliceAddress {
    Ip(IpAddr),
    /// `addressType: FQDN`.
    Name(String),
}

/// Absent conditions are filled in as Kubernetes says: ready true, serving as ready, terminating false.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    pub place: Place,
    /// The Service port's name; empty for an unnamed one.
    pub name: String,
    /// `None`: every port.
    pub port: Option<u16>,
    pub transport: Transport,
    pub app_protocol: Option<String>,
}
