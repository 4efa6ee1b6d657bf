//! Routes: whether they attach to what they name, and whether what they send to is there.

use super::suggest::did_you_mean;
use crate::compile::attach::{self, Attaching, Attachment, Refusal};
use crate::compile::backend;
use crate::compile::gateway::{self, Attached};
use crate::compile::hostname::intersect;
use crate::compile::index::Index;
use crate::compile::rules::unsupported_backend_filter;
use crate::kinds::{BackendTarget, HttpFilterAction, HttpRule, ParentRef};
use crate::{Object, Problem};

pub(super) fn check(index: &Index, problems: &mut Vec<Problem>) {
    let attached = gateway::attachments(index);
    for route in index.attaching() {
        parents(index, &attached, &route, problems);
    }
    for (object, route) in index.layer4_routes() {
        for (at, rule) in route.rules.iter().enumerate() {
            for (number, backend) in rule.backend_refs.iter().enumerate() {
                let path = format!("spec.rules[{at}].backendRefs[{number}]");
                check_target(index, object, &path, &backend.target, problems);
            }
        }
    }
    for (object, route) in index.routes() {
        for (at, rule) in route.rules.iter().enumerate() {
            check_rule(index, object, at, rule, problems);
        }
    }
}

fn parents(index: &Index, attached: &Attached<'_>, route: &Attaching<'_>, problems: &mut Vec<Problem>) {
    let object = route.object;
    if route.parent_refs.is_empty() {
        let problem = Problem::warning(object.place.clone(), "spec.parentRefs", "the route attaches to nothing");
        problems.push(problem.hint("name a Gateway, or a Service for calls inside the mesh").of(&object.key));
    }
    // hosts of the listeners that it attaches to, by any parentRef
    let mut met: Vec<&str> = Vec::new();
    let mut only_services = !route.parent_refs.is_empty();
    for (at, reference) in route.parent_refs.iter().enumerate() {
        let attachment = attach::attachment(index, attached, route, reference);
        only_services &= matches!(attachment, Ok(Attachment::Mesh));
        match attachment {
            Ok(Attachment::Listeners(gateway, listeners)) => {
                met.extend(listeners.iter().map(|at| attach::listener_hostname(&gateway.listeners[*at])));
            }
            Ok(Attachment::Mesh) | Err(Refusal::Foreign) => {}
            Err(refusal) => {
                let path = format!("spec.parentRefs[{at}]");
                let mut problem = Problem::error(reference.place.clone(), path, refusal.to_string()).of(&object.key);
                problem.hint = hint_for_parent(index, object, reference, &refusal);
                problems.push(problem);
            }
        }
    }
    hostnames(route, &met, only_services, problems);
}

/// Host names that no listener takes, while others of the same route are taken.
fn hostnames(route: &Attaching<'_>, met: &[&str], only_services: bool, problems: &mut Vec<Problem>) {
    let object = route.object;
    for (at, hostname) in route.hostnames.iter().enumerate() {
        let path = format!("spec.hostnames[{at}]");
        if only_services {
            let what = "host names are ignored where the parent is a Service: the Service's own names are matched";
            let problem = Problem::warning(hostname.place.clone(), path, what);
            problems.push(problem.hint("leave it out").of(&object.key));
        } else if !met.is_empty() && !met.iter().any(|listener| intersect(listener, hostname.as_str()).is_some()) {
            let what = format!("no listener that the route attaches to takes {}", hostname.as_str());
            let problem = Problem::warning(hostname.place.clone(), path, what);
            let mut listeners: Vec<&str> = met.to_vec();
            listeners.sort_unstable();
            listeners.dedup();
            problems.push(problem.hint(format!("they take {}", listeners.join(", "))).of(&object.key));
        }
    }
}

fn hint_for_parent(index: &Index, object: &Object, reference: &ParentRef, refusal: &Refusal) -> Option<String> {
    let own = &object.key.namespace;
    match refusal {
        Refusal::NoParent { kind, namespace, name } => {
            let names: Vec<(&str, &str)> = match *kind {
                "Service" => index.services().map(|(found, _)| name_of(found)).collect(),
                "ListenerSet" => index.listener_sets().map(|(found, _)| name_of(found)).collect(),
                _ => index.gateways().map(|(found, _)| name_of(found)).collect(),
            };
            elsewhere(kind, namespace, name, &names)
        }
        Refusal::NoSection { section, sections: names, .. } | Refusal::NoServiceSection { section, names } => {
            did_you_mean(section, names.iter().map(String::as_str))
        }
        Refusal::NamespaceNotAllowed { .. } => {
            Some(format!("let the listener's allowedRoutes.namespaces be from: All, or a Selector that takes {own}"))
        }
        Refusal::HostnamesDoNotMeet { .. } => Some("change spec.hostnames, or the listener's hostname".to_owned()),
        Refusal::KindNotAllowed { kind } => {
            Some(format!("add kind {kind} to the listener of {} {}", reference.kind, reference.name))
        }
        _ => None,
    }
}

pub(super) fn name_of(object: &Object) -> (&str, &str) {
    (&object.key.namespace, &object.key.name)
}

/// The same name in another namespace, or a similar one in the same.
pub(super) fn elsewhere(kind: &str, namespace: &str, name: &str, names: &[(&str, &str)]) -> Option<String> {
    if let Some((other, _)) = names.iter().find(|(_, found)| *found == name) {
        return Some(format!("{kind} {name} is in namespace {other}: write namespace: {other}"));
    }
    let here = names.iter().filter(|(found, _)| *found == namespace).map(|(_, name)| *name);
    did_you_mean(name, here)
}

fn check_rule(index: &Index, object: &Object, at: usize, rule: &HttpRule, problems: &mut Vec<Problem>) {
    let path = format!("spec.rules[{at}]");
    for (number, backend) in rule.backend_refs.iter().enumerate() {
        let path = format!("{path}.backendRefs[{number}]");
        check_target(index, object, &path, &backend.target, problems);
        for (number, filter) in backend.filters.iter().enumerate() {
            let what = unsupported_backend_filter(filter);
            if !what.is_empty() {
                let path = format!("{path}.filters[{number}]");
                problems.push(Problem::error(filter.place.clone(), path, what).of(&object.key));
            }
        }
    }
    let mut answers = false;
    for (number, filter) in rule.filters.iter().enumerate() {
        let path = format!("{path}.filters[{number}]");
        match &filter.action {
            HttpFilterAction::Mirror(mirror) => {
                let path = format!("{path}.requestMirror.backendRef");
                check_target(index, object, &path, &mirror.target, problems);
            }
            HttpFilterAction::Extension(extension) => {
                answers = true;
                let what = format!("the filter {} {} is not known: requests get 500", extension.kind, extension.name);
                problems.push(Problem::error(filter.place.clone(), path, what).of(&object.key));
            }
            HttpFilterAction::Redirect(_) => answers = true,
            _ => {}
        }
    }
    if !answers {
        check_weights(object, &path, rule, problems);
    }
}

fn check_weights(object: &Object, path: &str, rule: &HttpRule, problems: &mut Vec<Problem>) {
    let problem = match rule.backend_refs.as_slice() {
        [] => Problem::error(rule.place.clone(), path, "the rule sends to nothing: its requests get 500")
            .hint("add backendRefs, or a RequestRedirect filter"),
        backends if backends.iter().all(|backend| backend.weight == 0) => {
            let path = format!("{path}.backendRefs");
            Problem::warning(rule.place.clone(), path, "every weight is 0: requests get 500")
                .hint("give one of them a weight")
        }
        _ => return,
    };
    problems.push(problem.of(&object.key));
}

fn check_target(index: &Index, object: &Object, path: &str, target: &BackendTarget, problems: &mut Vec<Problem>) {
    let Err(refusal) = backend::resolve(index, &object.key, target) else { return };
    let mut problem = Problem::error(target.place.clone(), path, refusal.to_string()).of(&object.key);
    problem.hint = match &refusal {
        backend::Refusal::NoService { namespace, name } => {
            let names: Vec<(&str, &str)> = index.services().map(|(found, _)| name_of(found)).collect();
            elsewhere("Service", namespace, name, &names)
        }
        backend::Refusal::NotGranted { from_kind, from_namespace, namespace, name } => Some(format!(
            "write a ReferenceGrant in namespace {namespace} from {from_kind} of {from_namespace} to Service {name}"
        )),
        backend::Refusal::NoPort { ports, .. } if ports.len() == 1 => Some(format!("write port: {}", ports[0])),
        _ => None,
    };
    problems.push(problem);
}
