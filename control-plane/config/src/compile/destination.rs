//! What a VirtualService's destination comes to: a Service's port, or a subset of it, or the reason why its share of
//! requests gets 500.

use super::index::{Index, cluster_name, subset_cluster_name};
use super::traffic::full_host;
use super::virtual_services::{Listening, service_of};
use crate::Object;
use crate::kinds::{Destination, Service};
use std::fmt;
use weft_model::route::Target;

/// Why a destination came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownHost { host: String },
    NoPort { host: String, port: u16, ports: Vec<u16> },
    NoRule { host: String, subset: String },
    NoSubset { host: String, subset: String, rule: String, subsets: Vec<String> },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::UnknownHost { host } => write!(f, "there is no Service {host}"),
            Refusal::NoPort { host, port, ports } => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                write!(f, "{host} has no port {port}; it has {}", ports.join(", "))
            }
            Refusal::NoRule { host, subset } => {
                write!(f, "{host} has no subset {subset}: no DestinationRule is for it")
            }
            Refusal::NoSubset { host, subset, rule, subsets } => {
                let subsets = if subsets.is_empty() { "none".to_owned() } else { subsets.join(", ") };
                write!(f, "{host} has no subset {subset}; {rule} has {subsets}")
            }
        }
    }
}

/// The Service's port that may be sent to.
fn resolve<'i>(
    index: &'i Index,
    namespace: &str,
    destination: &Destination,
    listening: &Listening<'_>,
) -> Result<(&'i Object, u16), Refusal> {
    let (object, service) = service(index, namespace, destination)?;
    let host = || destination.host.clone();
    let ports: Vec<u16> = super::outbound::tcp_ports(service).map(|port| port.port).collect();
    let port = match (destination.port, ports.as_slice()) {
        (Some(port), _) => port,
        (None, [lone]) => *lone,
        (None, _) => listening.port,
    };
    if !ports.contains(&port) {
        return Err(Refusal::NoPort { host: host(), port, ports });
    }
    if let Some(subset) = &destination.subset {
        let subset = subset.clone();
        let rule = index.rules.for_caller(&object.key, listening.caller);
        let (rule_object, rule) = rule.ok_or_else(|| Refusal::NoRule { host: host(), subset: subset.clone() })?;
        let subsets: Vec<String> = rule.subsets.iter().map(|subset| subset.name.clone()).collect();
        if !subsets.contains(&subset) {
            return Err(Refusal::NoSubset { host: host(), subset, rule: rule_object.key.to_string(), subsets });
        }
    }
    Ok((object, port))
}

fn service<'i>(
    index: &'i Index,
    namespace: &str,
    destination: &Destination,
) -> Result<(&'i Object, &'i Service), Refusal> {
    let full = full_host(&destination.host, namespace);
    let found = service_of(&full).and_then(|(namespace, name)| index.service(namespace, name));
    found.ok_or(Refusal::UnknownHost { host: full })
}

/// Whether requests that are met there can be sent on.
pub(crate) fn check(
    index: &Index,
    namespace: &str,
    destination: &Destination,
    listening: &Listening<'_>,
) -> Result<(), Refusal> {
    resolve(index, namespace, destination, listening).map(|_| ())
}

/// A port that the destination's Service has, or 80 when there is no such Service.
pub(crate) fn first_port(index: &Index, namespace: &str, destination: &Destination) -> u16 {
    let found = service(index, namespace, destination).ok();
    found.and_then(|(_, service)| super::outbound::tcp_ports(service).next()).map_or(80, |port| port.port)
}

pub(crate) fn target(index: &Index, namespace: &str, destination: &Destination, listening: &Listening<'_>) -> Target {
    match resolve(index, namespace, destination, listening) {
        Ok((object, port)) => Target::Cluster(match &destination.subset {
            Some(subset) => subset_cluster_name(&object.key, port, subset),
            None => cluster_name(&object.key, port),
        }),
        Err(refusal) => Target::Invalid { reason: refusal.to_string() },
    }
}
