//! `discovery.k8s.io/v1` EndpointSlice: the addresses behind a Service.

use super::Transport;
use crate::read::{Cursor, Fields, boolean, ip, one_of, port, subdomain, text, texts, transport};
use crate::{Meta, Place};
use std::collections::HashSet;
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

#[derive(Clone, Copy, PartialEq)]
enum AddressType {
    V4,
    V6,
    Name,
}

pub(crate) fn read_endpoint_slice(f: &mut Fields<'_>) -> Option<EndpointSlice> {
    let types = [("IPv4", AddressType::V4), ("IPv6", AddressType::V6), ("FQDN", AddressType::Name)];
    let kind = f.must("addressType", one_of(&types));
    let slice = EndpointSlice {
        endpoints: f.list("endpoints", 0..=1000, |at| endpoint(at, kind)),
        ports: f.list("ports", 0..=100, slice_port),
    };
    let mut names = HashSet::new();
    for port in slice.ports.iter().filter(|port| !names.insert(&port.name)) {
        f.wrong_at(&port.place, "ports", format!("two ports are named \"{}\"", port.name), "rename one of them");
    }
    Some(slice)
}

fn endpoint(at: &Cursor<'_>, kind: Option<AddressType>) -> Option<SliceEndpoint> {
    at.fields(|f| {
        f.skip(&["hints", "deprecatedTopology"]);
        // v1beta1 has no nodeName (before 1.20) and no zone, but this
        let topology = f.opt("topology", texts).unwrap_or_default();
        let of_topology = |name: &str| topology.get(name).cloned();
        SliceEndpoint {
            place: f.place(),
            addresses: f.list("addresses", 1..=100, |at| address(at, kind?)),
            conditions: f.opt("conditions", conditions).unwrap_or(Conditions::READY),
            hostname: f.opt("hostname", text),
            node_name: f.opt("nodeName", text).or_else(|| of_topology("kubernetes.io/hostname")),
            zone: f.opt("zone", text).or_else(|| of_topology("topology.kubernetes.io/zone")),
            pod: f.opt("targetRef", pod_reference).flatten(),
        }
    })
}

fn address(at: &Cursor<'_>, kind: AddressType) -> Option<SliceAddress> {
    if kind == AddressType::Name {
        return subdomain(at).map(SliceAddress::Name);
    }
    match (ip(at)?, kind) {
        (IpAddr::V4(_), AddressType::V6) => at.error("is an IPv4 address", "write addressType: IPv4"),
        (IpAddr::V6(_), AddressType::V4) => at.error("is an IPv6 address", "write addressType: IPv6"),
        (address, _) => Some(SliceAddress::Ip(address)),
    }
}

fn conditions(at: &Cursor<'_>) -> Option<Conditions> {
    at.fields(|f| {
        let ready = f.opt("ready", boolean).unwrap_or(true);
        Conditions {
            ready,
            serving: f.opt("serving", boolean).unwrap_or(ready),
            terminating: f.opt("terminating", boolean).unwrap_or_default(),
        }
    })
}

impl Conditions {
    /// When nothing is said.
    const READY: Conditions = Conditions { ready: true, serving: true, terminating: false };
}

/// Namespace and name of a Pod; nothing if it refers to something else.
fn pod_reference(at: &Cursor<'_>) -> Option<Option<(String, String)>> {
    at.fields(|f| {
        f.skip(&["apiVersion", "uid", "resourceVersion", "fieldPath"]);
        let kind = f.opt("kind", text);
        let name = f.opt("name", text);
        let namespace = f.opt("namespace", text).unwrap_or_else(|| "default".into());
        name.filter(|_| kind.as_deref() == Some("Pod")).map(|name| (namespace, name))
    })
}

fn slice_port(at: &Cursor<'_>) -> Option<SlicePort> {
    at.fields(|f| SlicePort {
        place: f.place(),
        name: f.opt("name", text).unwrap_or_default(),
        port: f.opt("port", port),
        transport: f.opt("protocol", transport).unwrap_or_default(),
        app_protocol: f.opt("appProtocol", text),
    })
}
