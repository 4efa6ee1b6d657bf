//! DestinationRules: whether their host is a Service, and whether they are the ones that count.

use super::suggest::did_you_mean;
use crate::compile::hostname::covers;
use crate::compile::index::{CLUSTER_DOMAIN, Index, full_name};
use crate::compile::traffic::full_host;
use crate::kinds::DestinationRule;
use crate::{Object, Problem};

pub(super) fn check(index: &Index, problems: &mut Vec<Problem>) {
    for (object, rule) in index.destination_rules() {
        let host = full_host(&rule.host, &object.key.namespace);
        if host_is_there(index, object, rule, &host, problems) {
            ports(index, object, rule, &host, problems);
        }
        rivals(index, object, rule, &host, problems);
    }
}

fn host_is_there(
    index: &Index,
    object: &Object,
    rule: &DestinationRule,
    host: &str,
    problems: &mut Vec<Problem>,
) -> bool {
    if index.services().any(|(service, _)| covers(host, &full_name(&service.key))) {
        return true;
    }
    let place = rule.host.place.clone();
    let problem = if !host.ends_with(CLUSTER_DOMAIN) {
        Problem::warning(place, "spec.host", format!("{host} is no Service: the rule does nothing"))
    } else {
        let written = rule.host.split('.').next().unwrap_or_default();
        let namespace = host.split('.').nth(1).unwrap_or_default();
        let services = index.services().filter(|(service, _)| service.key.namespace == namespace);
        let names: Vec<&str> = services.map(|(service, _)| service.key.name.as_str()).collect();
        let mut problem = Problem::error(place, "spec.host", format!("there is no Service {host}"));
        problem.hint = did_you_mean(written, names);
        problem
    };
    problems.push(problem.of(&object.key));
    false
}

/// Settings of a port that no Service of the host has.
fn ports(index: &Index, object: &Object, rule: &DestinationRule, host: &str, problems: &mut Vec<Problem>) {
    let services = || index.services().filter(|(service, _)| covers(host, &full_name(&service.key)));
    for (at, (number, policy)) in rule.traffic_policy.ports.iter().enumerate() {
        if services().any(|(_, service)| service.ports.iter().any(|port| port.port == *number)) {
            continue;
        }
        let place = policy.place.clone().unwrap_or_else(|| object.place.clone());
        let path = format!("spec.trafficPolicy.portLevelSettings[{at}].port.number");
        let mut numbers: Vec<String> =
            services().flat_map(|(_, service)| &service.ports).map(|port| port.port.to_string()).collect();
        numbers.sort_unstable();
        numbers.dedup();
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
