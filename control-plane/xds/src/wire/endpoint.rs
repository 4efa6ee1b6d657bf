//! A cluster's members: `ClusterLoadAssignment`.
//!
//! Normal form: members stand in the order of their priority and locality; a weight of 0 comes back as 1; a locality of weight 0, or
//! without a member, has no weight of its own, and the others stand in their order. A workload's four names are written as Istio does, in
//! `istio` metadata as `workload: name;namespace;app;version;cluster`, so none may hold a `;`.
//!
//! A locality has one weight here, whatever the priority: other control planes that give it several are refused.

use super::numbers;
use super::parts::{self, At, Decoded, ISTIO, apart, each, refuse, required};
use eds::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::core::v3::{self as core, HealthStatus, Metadata};
use envoy_types::pb::envoy::config::endpoint::v3 as eds;
use envoy_types::pb::google::protobuf::Value;
use std::collections::BTreeMap;
use weft_model::endpoint::{Health, Locality, Workload};
use weft_model::{Endpoint, Endpoints};

/// In percent: how much healthier than it must be a priority counts. Our proxy knows no other.
const OVERPROVISIONING: u32 = 140;
/// Envoy's limit.
const LOWEST_PRIORITY: u32 = 128;

type Weights = BTreeMap<Locality, u32>;

/// One entry of a load assignment.
pub(super) struct Group {
    priority: u32,
    locality: Locality,
    weight: Option<u32>,
    pub(super) members: Vec<eds::LbEndpoint>,
}

pub(super) fn encode(endpoints: &Endpoints) -> eds::ClusterLoadAssignment {
    let weights = endpoints.locality_weights.iter().cloned().collect();
    assignment(&endpoints.cluster, &endpoints.endpoints, &weights)
}

pub(super) fn assignment(cluster: &str, endpoints: &[Endpoint], weights: &Weights) -> eds::ClusterLoadAssignment {
    let mut groups: BTreeMap<(u32, &Locality), Vec<eds::LbEndpoint>> = BTreeMap::new();
    for endpoint in endpoints {
        groups.entry((endpoint.priority, &endpoint.locality)).or_default().push(encode_endpoint(endpoint));
    }
    let group = |((priority, locality), lb_endpoints)| eds::LocalityLbEndpoints {
        priority,
        locality: encode_locality(locality),
        load_balancing_weight: weights.get(locality).filter(|weight| **weight > 0).copied().and_then(parts::number),
        lb_endpoints,
        ..Default::default()
    };
    eds::ClusterLoadAssignment {
        cluster_name: cluster.into(),
        endpoints: groups.into_iter().map(group).collect(),
        ..Default::default()
    }
}

/// `None` when nothing is known.
pub(super) fn encode_locality(locality: &Locality) -> Option<core::Locality> {
    let Locality { region, zone, sub_zone } = locality.clone();
    (*locality != Locality::default()).then_some(core::Locality { region, zone, sub_zone })
}

pub(super) fn read_locality(locality: Option<core::Locality>) -> Locality {
    let core::Locality { region, zone, sub_zone } = locality.unwrap_or_default();
    Locality { region, zone, sub_zone }
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
    let (endpoints, weights) = read_assignment(assignment)?;
    Ok(Endpoints { cluster, endpoints, locality_weights: weights.into_iter().collect() })
}

pub(super) fn read_assignment(assignment: eds::ClusterLoadAssignment) -> Decoded<(Vec<Endpoint>, Weights)> {
    let mut weights = Weights::new();
    let mut endpoints = Vec::new();
    for (i, group) in read_groups(assignment)?.into_iter().enumerate() {
        let Group { priority, locality, weight, members } = group;
        if members.is_empty() {
            continue;
        }
        let weight = weight.unwrap_or_default();
        if *weights.entry(locality.clone()).or_insert(weight) != weight {
            return refuse("load_balancing_weight", "differs from another of the same locality: one is supported")
                .at(format_args!("endpoints[{i}]"));
        }
        let members = each("lb_endpoints", members, read_endpoint).at(format_args!("endpoints[{i}]"))?;
        endpoints.extend(members.into_iter().map(|member| Endpoint { priority, locality: locality.clone(), ..member }));
    }
    weights.retain(|_, weight| *weight > 0);
    endpoints.sort_by(|one, other| (one.priority, &one.locality).cmp(&(other.priority, &other.locality)));
    Ok((endpoints, weights))
}

pub(super) fn read_groups(assignment: eds::ClusterLoadAssignment) -> Decoded<Vec<Group>> {
    apart!(assignment => eds::ClusterLoadAssignment {
        read: endpoints, policy;
        ignored: cluster_name;
        refused: named_endpoints
    });
    check_policy(policy.unwrap_or_default()).at("policy")?;
    each("endpoints", endpoints, |group| {
        apart!(group => eds::LocalityLbEndpoints {
            read: locality, lb_endpoints, load_balancing_weight, priority;
            ignored: metadata, proximity;
            refused: lb_config
        });
        if priority > LOWEST_PRIORITY {
            return refuse("priority", format!("{priority} is more than {LOWEST_PRIORITY}"));
        }
        let weight = load_balancing_weight.map(|weight| weight.value);
        Ok(Group { priority, locality: read_locality(locality), weight, members: lb_endpoints })
    })
}

fn check_policy(policy: eds::cluster_load_assignment::Policy) -> Decoded<()> {
    apart!(policy => eds::cluster_load_assignment::Policy {
        read: overprovisioning_factor;
        ignored: ;
        refused: drop_overloads, endpoint_stale_after, weighted_priority_health
    });
    match numbers::count(overprovisioning_factor, OVERPROVISIONING) {
        OVERPROVISIONING => Ok(()),
        other => refuse("overprovisioning_factor", format!("{other}: only {OVERPROVISIONING} is supported")),
    }
}

fn read_endpoint(member: eds::LbEndpoint) -> Decoded<Endpoint> {
    let Some(HostIdentifier::Endpoint(host)) = member.host_identifier else {
        return refuse("host_identifier", "only an endpoint is supported");
    };
    Ok(Endpoint {
        health: read_health(member.health_status)?,
        weight: member.load_balancing_weight.map_or(1, |weight| weight.value.max(1)),
        workload: read_workload(member.metadata.as_ref()),
        ..Endpoint::at(read_host(host).at("endpoint")?)
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
