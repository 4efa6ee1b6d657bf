//! A cluster's members: `ClusterLoadAssignment`.
//!
//! Normal form: a weight of 0 comes back as 1. A workload's four names are written as Istio does, in `istio` metadata as
//! `workload: name;namespace;app;version;cluster`, so none may hold a `;`. Localities are flattened.

use super::parts::{self, At, Decoded, ISTIO, apart, each, refuse, required};
use eds::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::core::v3::{HealthStatus, Metadata};
use envoy_types::pb::envoy::config::endpoint::v3 as eds;
use envoy_types::pb::google::protobuf::Value;
use weft_model::endpoint::{Health, Workload};
use weft_model::{Endpoint, Endpoints};

pub(super) fn encode(endpoints: &Endpoints) -> eds::ClusterLoadAssignment {
    assignment(&endpoints.cluster, &endpoints.endpoints)
}

pub(super) fn assignment(cluster: &str, endpoints: &[Endpoint]) -> eds::ClusterLoadAssignment {
    let lb_endpoints: Vec<_> = endpoints.iter().map(encode_endpoint).collect();
    let locality = eds::LocalityLbEndpoints { lb_endpoints, ..Default::default() };
    eds::ClusterLoadAssignment {
        cluster_name: cluster.into(),
        endpoints: if endpoints.is_empty() { Vec::new() } else { vec![locality] },
        ..Default::default()
    }
}

fn encode_endpoint(endpoint: &Endpoint) -> eds::LbEndpoint {
    let health = match endpoint.health {
        Health::Healthy => HealthStatus::Healthy,
        Health::Draining => HealthStatus::Draining,
        Health::Unhealthy => HealthStatus::Unhealthy,
    };
    let host = eds::Endpoint { address: parts::address(endpoint.address), ..Default::default() };
    eds::LbEndpoint {
        health_status: health as i32,
        metadata: parts::metadata([(ISTIO, workload(&endpoint.workload))]),
        load_balancing_weight: parts::number(endpoint.weight.max(1)),
        host_identifier: Some(HostIdentifier::Endpoint(host)),
    }
}

fn workload(workload: &Workload) -> Vec<(&'static str, Value)> {
    if *workload == Workload::default() {
        return Vec::new();
    }
    let Workload { name, namespace, app, version } = workload;
    vec![("workload", parts::string(format!("{name};{namespace};{app};{version};")))]
}

pub(super) fn decode(assignment: eds::ClusterLoadAssignment) -> Decoded<Endpoints> {
    let cluster = assignment.cluster_name.clone();
    Ok(Endpoints { cluster, endpoints: read_assignment(assignment)?, locality_weights: Vec::new() })
}

pub(super) fn read_assignment(assignment: eds::ClusterLoadAssignment) -> Decoded<Vec<Endpoint>> {
    let localities = localities(assignment)?;
    Ok(each("endpoints", localities, |members| each("lb_endpoints", members, read_endpoint))?.concat())
}

/// The members of each locality.
pub(super) fn localities(assignment: eds::ClusterLoadAssignment) -> Decoded<Vec<Vec<eds::LbEndpoint>>> {
    apart!(assignment => eds::ClusterLoadAssignment {
        read: endpoints, policy;
        ignored: cluster_name;
        refused: named_endpoints
    });
    if policy.is_some_and(|policy| !policy.drop_overloads.is_empty()) {
        return refuse("policy.drop_overloads", "is not supported by this proxy");
    }
    each("endpoints", endpoints, |locality| {
        apart!(locality => eds::LocalityLbEndpoints {
            read: lb_endpoints;
            ignored: locality, metadata, load_balancing_weight, proximity;
            refused: priority, lb_config
        });
        Ok(lb_endpoints)
    })
}

fn read_endpoint(member: eds::LbEndpoint) -> Decoded<Endpoint> {
    let Some(HostIdentifier::Endpoint(host)) = member.host_identifier else {
        return refuse("host_identifier", "only an endpoint is supported");
    };
    Ok(Endpoint {
        address: read_host(host).at("endpoint")?,
        health: read_health(member.health_status)?,
        weight: member.load_balancing_weight.map_or(1, |weight| weight.value.max(1)),
        workload: read_workload(member.metadata.as_ref()),
        priority: 0,
        locality: Default::default(),
    })
}

fn read_host(host: eds::Endpoint) -> Decoded<std::net::SocketAddr> {
    apart!(host => eds::Endpoint {
        read: address;
        ignored: health_check_config, hostname, observability_name;
        refused: additional_addresses
    });
    parts::read_address("address", Some(required("address", address)?))
}

fn read_health(status: i32) -> Decoded<Health> {
    match HealthStatus::try_from(status) {
        Ok(HealthStatus::Unknown | HealthStatus::Healthy | HealthStatus::Degraded) => Ok(Health::Healthy),
        Ok(HealthStatus::Draining) => Ok(Health::Draining),
        Ok(HealthStatus::Unhealthy | HealthStatus::Timeout) => Ok(Health::Unhealthy),
        Err(_) => refuse("health_status", format!("{status} is no health status")),
    }
}

fn read_workload(metadata: Option<&Metadata>) -> Workload {
    let istio = metadata.and_then(|metadata| metadata.filter_metadata.get(ISTIO));
    let mut names = parts::text_at(istio, "workload").split(';').map(String::from);
    let mut next = || names.next().unwrap_or_default();
    Workload { name: next(), namespace: next(), app: next(), version: next() }
}
