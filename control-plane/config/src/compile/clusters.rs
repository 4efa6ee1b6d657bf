//! Services as clusters see them: who a Service is, what its ports speak, and its EndpointSlices as endpoints.

use super::index::{Index, full_name};
use super::locality;
use super::protocol::PortProtocol;
use crate::Object;
use crate::kinds::{
    EndpointSlice, Labels, PortRef, Service, ServicePort, ServiceType, SliceAddress, SliceEndpoint, Transport,
};
use std::net::{IpAddr, SocketAddr};
use weft_model::endpoint::{Health, Workload};
use weft_model::{Endpoint, Origin, cluster};

pub(crate) fn origin(object: &Object, inside: &str) -> Origin {
    let separator = if inside.is_empty() { "" } else { " " };
    Origin { place: object.place.without_column(), object: format!("{}{separator}{inside}", object.key) }
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

/// An alias of a name outside, which has no EndpointSlices.
pub(crate) fn is_external(service: &Service) -> bool {
    matches!(service.kind, ServiceType::ExternalName(_))
}

/// An endpoint, and what can be asked of whoever runs there.
pub(crate) struct Member<'i> {
    pub(crate) endpoint: Endpoint,
    /// Of its Pod, where that is known.
    pub(crate) labels: Option<&'i Labels>,
}

/// The endpoints of a Service's port, in order of address; with `wanted` only those whose Pods have these labels.
pub(crate) fn members<'i>(
    index: &'i Index,
    object: &Object,
    port: &ServicePort,
    wanted: Option<&Labels>,
) -> Vec<Member<'i>> {
    let all = index.slices(&object.key).flat_map(|slice| of_slice(index, slice, port));
    let mut members: Vec<Member<'i>> =
        all.filter(|member| wanted.is_none_or(|wanted| has_labels(member, wanted))).collect();
    members.sort_by_key(|member| (member.endpoint.address, health_order(member.endpoint.health)));
    // one address may be in two slices while the cluster moves it from one to the other
    members.dedup_by_key(|member| member.endpoint.address);
    members
}

fn has_labels(member: &Member<'_>, wanted: &Labels) -> bool {
    wanted.iter().all(|(name, value)| member.labels.and_then(|labels| labels.get(name)) == Some(value))
}

fn health_order(health: Health) -> u8 {
    match health {
        Health::Healthy => 0,
        Health::Draining => 1,
        Health::Unhealthy => 2,
    }
}

fn of_slice<'i>(index: &'i Index, slice: &'i EndpointSlice, port: &ServicePort) -> Vec<Member<'i>> {
    let Some(number) = slice_port(slice, port) else { return Vec::new() };
    let member = |endpoint: &'i SliceEndpoint| {
        let pod = endpoint.pod.as_ref().and_then(|(namespace, name)| index.pod(namespace, name));
        let endpoint = Endpoint {
            health: health(endpoint),
            locality: locality::of_endpoint(index, endpoint, pod),
            workload: workload(endpoint, pod),
            ..Endpoint::at(SocketAddr::new(first_ip(endpoint)?, number))
        };
        Some(Member { endpoint, labels: pod.map(|pod| &pod.meta.labels) })
    };
    slice.endpoints.iter().filter_map(member).collect()
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
fn workload(endpoint: &SliceEndpoint, pod: Option<&Object>) -> Workload {
    let Some((namespace, _)) = &endpoint.pod else { return Workload::default() };
    let Some(pod) = pod else {
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
