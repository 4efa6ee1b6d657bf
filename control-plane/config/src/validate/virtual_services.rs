//! VirtualServices: whether their gateways, destinations and delegates are there, and whether they have the hosts that they name.

use super::suggest::did_you_mean;
use crate::compile::affinity::Affinities;
use crate::compile::attach::{allows_namespace, is_http, listener_hostname};
use crate::compile::destination::{self, Refusal};
use crate::compile::hostname::intersect;
use crate::compile::index::Index;
use crate::compile::virtual_services::{
    self, Listening, Merged, MeshHosts, VirtualServices, find_delegate, gateway_named, meets,
};
use crate::kinds::{Delegate, Destination, Gateway, VirtualAction, VirtualRoute, VirtualService};
use crate::{At, Key, Object, Problem};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn check(index: &Index, problems: &mut Vec<Problem>) {
    let all = VirtualServices::new(index);
    // by namespace: what its own sidecars go by
    let mut of_mesh: BTreeMap<&str, MeshHosts<'_>> = BTreeMap::new();
    let mut delegates: BTreeSet<&Key> = BTreeSet::new();
    for (object, service) in index.virtual_services() {
        for (at, route) in service.http.iter().enumerate() {
            let path = format!("spec.http[{at}]");
            if let VirtualAction::Delegate(delegate) = &route.action {
                delegates.extend(check_delegate(index, object, &path, route, delegate, problems));
            }
            destinations(index, object, &path, route, problems);
        }
        for (at, gateway) in service.gateways.iter().enumerate() {
            check_gateway(index, (object, service), at, gateway, problems);
        }
    }
    for merged in all.iter().filter(|merged| merged.is_of_mesh()) {
        let namespace = merged.object.key.namespace.as_str();
        let hosts = of_mesh.entry(namespace).or_insert_with(|| all.of_mesh(namespace));
        rivals(merged, hosts, problems);
    }
    let idle = index.virtual_services().filter(|(_, service)| service.hosts.is_empty());
    for (object, _) in idle.filter(|(object, _)| !delegates.contains(&object.key)) {
        let what = "no VirtualService delegates to this one, which has no hosts: it does nothing";
        let problem = Problem::warning(object.place.clone(), "spec.hosts", what);
        problems.push(problem.hint("write hosts, or delegate to it").of(&object.key));
    }
}

/// Only one VirtualService has a host inside the mesh.
fn rivals(merged: &Merged<'_>, hosts: &MeshHosts<'_>, problems: &mut Vec<Problem>) {
    for (at, (host, written)) in merged.hosts.iter().zip(&merged.service.hosts).enumerate() {
        let Some(first) = hosts.named(host).filter(|first| first.object.key != merged.object.key) else { continue };
        let Object { key, place, .. } = first.object;
        let what = format!("{key} at {place} has {} inside the mesh already: this one is not asked", written.value);
        let problem = Problem::warning(written.place.clone(), format!("spec.hosts[{at}]"), what);
        problems.push(problem.hint("write both in one VirtualService").of(&merged.object.key));
    }
}

/// The delegate, if there is one.
fn check_delegate<'i>(
    index: &'i Index,
    object: &Object,
    path: &str,
    route: &VirtualRoute,
    delegate: &Delegate,
    problems: &mut Vec<Problem>,
) -> Option<&'i Key> {
    let (of_delegate, service) = match find_delegate(index, object, delegate) {
        Ok(found) => found,
        Err(refusal) => {
            let path = format!("{path}.delegate");
            let mut problem = Problem::error(delegate.place.clone(), path, refusal.to_string()).of(&object.key);
            problem.hint = match &refusal {
                virtual_services::Refusal::Missing { namespace, name } => {
                    let all = index.virtual_services().map(|(found, _)| found);
                    let here = all.filter(|found| found.key.namespace == *namespace);
                    did_you_mean(name, here.map(|found| found.key.name.as_str()))
                }
                virtual_services::Refusal::HasHosts { .. } => Some("remove its hosts and gateways".to_owned()),
                virtual_services::Refusal::NotExported { to, .. } => Some(format!("add {to} to its exportTo")),
            };
            problems.push(problem);
            return None;
        }
    };
    for (at, unmet) in service.http.iter().enumerate().filter(|(_, of_delegate)| !meets(route, of_delegate)) {
        let what = format!("has a match that is not within those of {} {path}: this route is left out", object.key);
        let problem = Problem::warning(unmet.place.clone(), format!("spec.http[{at}].match"), what);
        let hint = format!("narrow it to what {} hands on", route.place.without_column());
        problems.push(problem.hint(hint).of(&of_delegate.key));
    }
    Some(&of_delegate.key)
}

fn destinations(index: &Index, object: &Object, path: &str, route: &VirtualRoute, problems: &mut Vec<Problem>) {
    if let VirtualAction::Route(destinations) = &route.action {
        for (at, of_route) in destinations.iter().enumerate() {
            check_destination(
                index,
                object,
                &format!("{path}.route[{at}].destination"),
                &of_route.destination,
                problems,
            );
        }
    }
    for (at, mirror) in route.mirrors.iter().enumerate() {
        // read from either field
        let path = format!("{path}.mirrors[{at}].destination");
        check_destination(index, object, &path, &mirror.destination, problems);
    }
}

fn check_destination(index: &Index, object: &Object, path: &str, to: &Destination, problems: &mut Vec<Problem>) {
    let namespace = &object.key.namespace;
    // a port that is left out is the one that was asked for, which nobody knows here
    let port = destination::first_port(index, namespace, to);
    let affinities = Affinities::default();
    let listening = Listening { caller: namespace, gateway: None, port, is_tls: false, affinities: &affinities };
    let Err(refusal) = destination::check(index, namespace, to, &listening) else { return };
    let mut problem = Problem::error(to.place.clone(), path, refusal.to_string()).of(&object.key);
    problem.hint = match &refusal {
        Refusal::UnknownHost { host } => nearest_service(index, namespace, &to.host, host),
        Refusal::NoPort { ports, .. } if ports.len() == 1 => Some(format!("write port: {{number: {}}}", ports[0])),
        Refusal::NoPort { .. } => None,
        Refusal::NoRule { subset, .. } => Some(format!("write a DestinationRule with subset {subset}")),
        Refusal::NoSubset { subset, subsets, .. } => did_you_mean(subset, subsets.iter().map(String::as_str)),
    };
    problems.push(problem);
}

/// The same name in another namespace, or a similar one in the same.
fn nearest_service(index: &Index, namespace: &str, written: &str, host: &str) -> Option<String> {
    let name = written.split('.').next().unwrap_or_default();
    let wanted = virtual_services::service_of(host).map_or(namespace, |(namespace, _)| namespace);
    let keys: Vec<&Key> = index.services().map(|(object, _)| &object.key).collect();
    if let Some(other) = keys.iter().find(|key| key.name == name) {
        return Some(format!(
            "Service {name} is in namespace {0}: write {name}.{0}.svc.cluster.local",
            other.namespace
        ));
    }
    did_you_mean(name, keys.iter().filter(|key| key.namespace == wanted).map(|key| key.name.as_str()))
}

fn check_gateway(
    index: &Index,
    (object, service): (&Object, &VirtualService),
    at: usize,
    written: &At<String>,
    problems: &mut Vec<Problem>,
) {
    let Some((namespace, name)) = gateway_named(written, &object.key.namespace) else { return };
    let path = format!("spec.gateways[{at}]");
    let warning = |what| Problem::warning(written.place.clone(), path, what).of(&object.key);
    let Some((gateway_object, gateway)) = index.gateway(namespace, name) else {
        let gateways: Vec<&Key> = index.gateways().map(|(found, _)| &found.key).collect();
        let elsewhere = gateways.iter().find(|key| key.name == name);
        let hint = match elsewhere {
            Some(key) => format!("write {}/{name}", key.namespace),
            None => did_you_mean(name, gateways.iter().map(|key| key.name.as_str())).unwrap_or_else(|| {
                "Weft knows gateways of gateway.networking.k8s.io, and not those of networking.istio.io yet".to_owned()
            }),
        };
        problems.push(warning(format!("there is no Gateway {namespace}/{name}: nothing is routed there")).hint(hint));
        return;
    };
    let lets_in = |at: &usize| {
        let listener = &gateway.listeners[*at];
        listener.set.is_none()
            && is_http(listener)
            && allows_namespace(index, &gateway_object.key, listener, &object.key.namespace)
    };
    let open: Vec<usize> = (0..gateway.listeners.len()).filter(lets_in).collect();
    if open.is_empty() {
        let own = &object.key.namespace;
        let what = format!("no listener of Gateway {namespace}/{name} lets in routes of namespace {own}");
        let hint = format!("let allowedRoutes.namespaces be from: All, or a Selector that takes {own}");
        problems.push(warning(what).hint(hint));
    } else {
        hosts(object, service, (name, gateway), &open, problems);
    }
}

/// Hosts that no listener takes.
fn hosts(
    object: &Object,
    service: &VirtualService,
    (name, gateway): (&str, &Gateway),
    open: &[usize],
    problems: &mut Vec<Problem>,
) {
    if service.gateways.len() > 1 {
        return; // it may be meant for another of them
    }
    let hostnames: BTreeSet<&str> = open.iter().map(|at| listener_hostname(&gateway.listeners[*at])).collect();
    for (at, host) in service.hosts.iter().enumerate() {
        if host.contains('.') && !hostnames.iter().any(|listener| intersect(listener, host).is_some()) {
            let what = format!("no listener of Gateway {name} takes {}", host.value);
            let problem = Problem::warning(host.place.clone(), format!("spec.hosts[{at}]"), what);
            let listeners: Vec<&str> = hostnames.iter().copied().collect();
            problems.push(problem.hint(format!("they take {}", listeners.join(", "))).of(&object.key));
        }
    }
}
