//! Services as clusters: one per port, with the traffic policy of the DestinationRule that its callers obey, and its
//! EndpointSlices as endpoints.

use super::index::{Index, cluster_name, full_name};
use super::protocol::PortProtocol;
use super::traffic;
use crate::Object;
use crate::kinds::{EndpointSlice, PortRef, Service, ServicePort, ServiceType, SliceAddress, SliceEndpoint, Transport};
use std::net::{IpAddr, SocketAddr};
use weft_model::cluster::Discovery;
use weft_model::endpoint::{Health, Workload};
use weft_model::{Cluster, Endpoint, Endpoints, Origin, cluster};

/// For whom a cluster is made: what it looks like depends on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) sidecar: bool,
}

pub(crate) fn origin(object: &Object, inside: &str) -> Origin {
    let separator = if inside.is_empty() { "" } else { " " };
    Origin {
        place: format!("{}:{}", object.place.file, object.place.line),
        object: format!("{}{separator}{inside}", object.key),
    }
}

/// Which service a cluster stands for.
pub(crate) fn identity(object: &Object) -> cluster::Service {
    cluster::Service {
        host: full_name(&object.key),
        name: object.key.name.clone(),
        namespace: object.key.namespace.clone(),
    }
}

pub(crate) fn port_protocol(port: &ServicePort) -> PortProtocol {
    PortProtocol::of(port.app_protocol.as_deref(), port.name.as_deref())
}

/// The cluster of a Service's port, as that caller sees it.
pub(crate) fn cluster(
    index: &Index,
    object: &Object,
    service: &Service,
    port: &ServicePort,
    caller: Caller<'_>,
) -> Cluster {
    let protocol = port_protocol(port);
    let mut cluster = Cluster {
        discovery: match &service.kind {
            ServiceType::ExternalName(host) => Discovery::Dns { host: host.clone(), port: port.port },
            _ => Discovery::Eds,
        },
        protocol: protocol.upstream(caller.sidecar),
        service: identity(object),
        origin: origin(object, ""),
        ..Cluster::new(cluster_name(&object.key, port.port))
    };
    if let Some((rule_object, rule)) = index.rules.for_caller(&object.key, caller.namespace) {
        traffic::apply(rule, port.port, protocol, &mut cluster);
        cluster.origin = origin(rule_object, "");
    }
    cluster
}

/// An alias of a name outside, which has no EndpointSlices.
pub(crate) fn is_external(service: &Service) -> bool {
    matches!(service.kind, ServiceType::ExternalName(_))
}

/// The endpoints of a Service's port, in order of address.
pub(crate) fn endpoints(index: &Index, object: &Object, port: &ServicePort) -> Endpoints {
    let mut endpoints: Vec<Endpoint> =
        index.slices(&object.key).flat_map(|slice| of_slice(index, slice, port)).collect();
    endpoints.sort_by_key(|endpoint| (endpoint.address, health_order(endpoint.health)));
    // one address may be in two slices while the cluster moves it from one to the other
    endpoints.dedup_by_key(|endpoint| endpoint.address);
    Endpoints { cluster: cluster_name(&object.key, port.port), endpoints, ..Endpoints::default() }
}

fn health_order(health: Health) -> u8 {
    match health {
        Health::Healthy => 0,
        Health::Draining => 1,
        Health::Unhealthy => 2,
    }
}

fn of_slice(index: &Index, slice: &EndpointSlice, port: &ServicePort) -> Vec<Endpoint> {
    let Some(number) = slice_port(slice, port) else { return Vec::new() };
    let endpoint = |endpoint: &SliceEndpoint| {
        Some(Endpoint {
            health: health(endpoint),
            workload: workload(index, endpoint),
            ..Endpoint::at(SocketAddr::new(first_ip(endpoint)?, number))
        })
    };
    slice.endpoints.iter().filter_map(endpoint).collect()
}

/// The addresses of an endpoint mean the same one; consumers use the first.
pub(crate) fn first_ip(endpoint: &SliceEndpoint) -> Option<IpAddr> {
    match endpoint.addresses.first() {
        Some(SliceAddress::Ip(address)) => Some(*address),
        Some(SliceAddress::Name(_)) | None => None,
    }
}

/// The port of that name; a slice that says "every port" means the Service's target.
pub(crate) fn slice_port(slice: &EndpointSlice, port: &ServicePort) -> Option<u16> {
    let name = port.name.as_deref().unwrap_or_default();
    let of_name = slice.ports.iter().find(|of_slice| of_slice.name == name && of_slice.transport == Transport::Tcp)?;
    of_name.port.or(match &port.target_port {
        None => Some(port.port),
        Some(PortRef::Number(number)) => Some(*number),
        Some(PortRef::Name(_)) => None,
    })
}

fn health(endpoint: &SliceEndpoint) -> Health {
    let conditions = endpoint.conditions;
    match (conditions.ready, conditions.serving && conditions.terminating) {
        (true, _) => Health::Healthy,
        (false, true) => Health::Draining,
        (false, false) => Health::Unhealthy,
    }
}

/// Whose an endpoint is, from the Pod that it names.
fn workload(index: &Index, endpoint: &SliceEndpoint) -> Workload {
    let Some((namespace, name)) = &endpoint.pod else { return Workload::default() };
    let Some(pod) = index.pod(namespace, name) else {
        return Workload { namespace: namespace.clone(), ..Workload::default() };
    };
    let label = |names: [&str; 2]| names.iter().find_map(|name| pod.meta.labels.get(*name)).cloned();
    Workload {
        name: workload_name(pod),
        namespace: namespace.clone(),
        app: label(["app", "app.kubernetes.io/name"]).unwrap_or_default(),
        version: label(["version", "app.kubernetes.io/version"]).unwrap_or_default(),
    }
}

/// The name of what made the Pod: a ReplicaSet stands for its Deployment, whose name it has but for a hash. A Pod by itself is its own.
fn workload_name(pod: &Object) -> String {
    let owners = &pod.meta.owner_references;
    let Some(owner) = owners.iter().find(|owner| owner.controller).or(owners.first()) else {
        return pod.key.name.clone();
    };
    match owner.kind.as_str() {
        "ReplicaSet" => {
            owner.name.rsplit_once('-').map_or(owner.name.as_str(), |(deployment, _)| deployment).to_owned()
        }
        _ => owner.name.clone(),
    }
}
