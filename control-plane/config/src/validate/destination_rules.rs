//! DestinationRules: whether their host is a Service, and whether they are the ones that count.

use super::suggest::did_you_mean;
use crate::compile::hostname::covers;
use crate::compile::index::{CLUSTER_DOMAIN, Index, full_name};
use crate::compile::traffic::full_host;
use crate::kinds::{DestinationRule, Service};
use crate::{Object, Problem};
use std::collections::BTreeSet;

pub(super) fn check(index: &Index, problems: &mut Vec<Problem>) {
    for (object, rule) in index.destination_rules() {
        let host = full_host(&rule.host, &object.key.namespace);
        match services_of(index, &host).as_slice() {
            [] => problems.push(nobody(index, rule, &host).of(&object.key)),
            services => ports(object, rule, services, problems),
        }
        rivals(index, object, rule, &host, problems);
    }
}

/// The Services that a full host, perhaps a wildcard, stands for.
fn services_of<'i>(index: &'i Index, host: &str) -> Vec<&'i Service> {
    if host.starts_with('*') {
        let fitting = index.services().filter(|(service, _)| covers(host, &full_name(&service.key)));
        return fitting.map(|(_, service)| service).collect();
    }
    let parts = host.strip_suffix(CLUSTER_DOMAIN).and_then(|names| names.strip_suffix('.')?.split_once('.'));
    parts.and_then(|(name, namespace)| index.service(namespace, name)).map(|(_, service)| service).into_iter().collect()
}

fn nobody(index: &Index, rule: &DestinationRule, host: &str) -> Problem {
    let place = rule.host.place.clone();
    if !host.ends_with(CLUSTER_DOMAIN) {
        return Problem::warning(place, "spec.host", format!("{host} is no Service: the rule does nothing"));
    }
    let written = rule.host.split('.').next().unwrap_or_default();
    let namespace = host.split('.').nth(1).unwrap_or_default();
    let services = index.services().filter(|(service, _)| service.key.namespace == namespace);
    let names: Vec<&str> = services.map(|(service, _)| service.key.name.as_str()).collect();
    let mut problem = Problem::error(place, "spec.host", format!("there is no Service {host}"));
    problem.hint = did_you_mean(written, names);
    problem
}

/// Settings of a port that no Service of the host has.
fn ports(object: &Object, rule: &DestinationRule, services: &[&Service], problems: &mut Vec<Problem>) {
    let of_services = || services.iter().flat_map(|service| &service.ports).map(|port| port.port);
    let of_rule = std::iter::once(("spec.trafficPolicy".to_owned(), rule.traffic_policy.as_ref()));
    let of_subsets = rule.subsets.iter().enumerate().filter_map(|(at, subset)| {
        let policy = subset.traffic_policy.as_ref()?;
        Some((format!("spec.subsets[{at}].trafficPolicy"), policy))
    });
    let written = of_rule.chain(of_subsets).flat_map(|(path, policy)| {
        let ports = policy.ports.iter().enumerate();
        ports.map(move |(at, (number, policy))| (format!("{path}.portLevelSettings[{at}].port.number"), number, policy))
    });
    for (path, number, policy) in written {
        if of_services().any(|port| port == *number) {
            continue;
        }
        let place = policy.place.clone().unwrap_or_else(|| object.place.clone());
        let numbers: BTreeSet<u16> = of_services().collect();
        let numbers: Vec<String> = numbers.iter().map(u16::to_string).collect();
        let problem = Problem::warning(place, path, format!("{} has no port {number}", rule.host.value));
        problems.push(problem.hint(format!("it has {}", numbers.join(", "))).of(&object.key));
    }
}

/// Only one rule of a namespace counts for a host.
fn rivals(index: &Index, object: &Object, rule: &DestinationRule, host: &str, problems: &mut Vec<Problem>) {
    let Some((first, _)) = index.rules.of_namespace(&object.key.namespace, host) else { return };
    if first.key != object.key {
        let what =
            format!("{} at {} is for {} already: this rule does nothing", first.key, first.place, rule.host.value);
        let problem = Problem::error(rule.host.place.clone(), "spec.host", what);
        problems.push(problem.hint("write both in one DestinationRule").of(&object.key));
    }
}
