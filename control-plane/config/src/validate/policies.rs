//! Policies: whether what they are attached to is there, and whether they are the ones that count. And what Services say of
//! their callers in annotations.

use super::suggest::did_you_mean;
use crate::compile::accrual;
use crate::compile::authority;
use crate::compile::backend_policies;
use crate::compile::index::Index;
use crate::kinds::{BackendTlsPolicy, BackendTrafficPolicy, BackendTrust, PolicyTarget};
use crate::{Object, Problem};

pub(super) fn check(index: &Index, problems: &mut Vec<Problem>) {
    for (object, policy) in index.rate_limit_policies() {
        for (at, target) in policy.target_refs.iter().enumerate() {
            let expected = "write a Gateway, an HTTPRoute, a GRPCRoute or a Service";
            check_target(index, object, at, target, expected, problems);
        }
    }
    for (object, policy) in index.backend_policies() {
        for (at, target) in policy.target_refs.iter().enumerate() {
            check_target(index, object, at, target, "write a Service", problems);
        }
        rivals(index, object, policy, problems);
    }
    for (object, policy) in index.backend_tls_policies() {
        for (at, target) in policy.target_refs.iter().enumerate() {
            check_target(index, object, at, target, "write a Service", problems);
        }
        authorities(index, object, policy, problems);
    }
    for (object, _) in index.services() {
        for fault in accrual::read(&object.meta.annotations).faults {
            let path = format!("metadata.annotations[\"{}\"]", fault.annotation);
            let message = format!("{}: there is no breaker", fault.message);
            problems.push(Problem::warning(object.place.clone(), path, message).hint(fault.hint).of(&object.key));
        }
    }
}

/// Authorities that a BackendTLSPolicy names.
fn authorities(index: &Index, object: &Object, policy: &BackendTlsPolicy, problems: &mut Vec<Problem>) {
    let BackendTrust::Authorities(references) = &policy.trust else { return };
    for (at, reference) in references.iter().enumerate() {
        if let Err(refusal) = authority::resolve(index, &object.key, reference) {
            let path = format!("spec.validation.caCertificateRefs[{at}]");
            problems.push(Problem::error(reference.place.clone(), path, refusal.to_string()).of(&object.key));
        }
    }
}

/// What a target's name and section may be.
enum Found<'i> {
    /// An object of a kind that has no such policy.
    UnknownKind,
    NoObject {
        names: Vec<&'i str>,
    },
    /// With what it has of sections: `None` if it has none by nature.
    Object {
        sections: Option<Vec<&'i str>>,
    },
}

fn find<'i>(index: &'i Index, namespace: &str, target: &PolicyTarget, of: &crate::Body) -> Found<'i> {
    let of_ports = matches!(of, crate::Body::BackendTlsPolicy(_));
    let only_services = of_ports || matches!(of, crate::Body::BackendTrafficPolicy(_));
    let gateway_api = "gateway.networking.k8s.io";
    let mut names = Vec::new();
    let mut found = None;
    let mut meet = |object: &'i Object, sections: Option<Vec<&'i str>>| {
        if object.key.namespace == namespace {
            names.push(object.key.name.as_str());
            if object.key.name == target.name {
                found = Some(sections);
            }
        }
    };
    if target.is("", "Service") {
        index.services().for_each(|(object, service)| {
            let ports = service.ports.iter().filter_map(|port| port.name.as_deref());
            meet(object, of_ports.then(|| ports.collect()));
        });
    } else if target.is(gateway_api, "Gateway") && !only_services {
        index.gateways().for_each(|(object, gateway)| {
            let own = gateway.listeners.iter().filter(|listener| listener.set.is_none());
            meet(object, Some(own.map(|listener| listener.name.as_str()).collect()));
        });
    } else if (target.is(gateway_api, "HTTPRoute") || target.is(gateway_api, "GRPCRoute")) && !only_services {
        index.routes().filter(|(object, _)| object.key.kind.as_str() == target.kind).for_each(|(object, route)| {
            meet(object, Some(route.rules.iter().filter_map(|rule| rule.name.as_deref()).collect()));
        });
    } else {
        return Found::UnknownKind;
    }
    found.map_or(Found::NoObject { names }, |sections| Found::Object { sections })
}

fn check_target(
    index: &Index,
    object: &Object,
    at: usize,
    target: &PolicyTarget,
    expected: &str,
    problems: &mut Vec<Problem>,
) {
    let PolicyTarget { place, kind, name, section_name, .. } = target;
    let namespace = &object.key.namespace;
    let error = |message: String, hint: Option<String>| Problem {
        hint,
        ..Problem::error(place.clone(), format!("spec.targetRefs[{at}]"), message).of(&object.key)
    };
    let problem = match find(index, namespace, target, &object.body) {
        Found::UnknownKind => {
            let what = match target.group.as_str() {
                "" => format!("a target of kind {kind} in the core group is not known"),
                group => format!("a target of kind {kind} in {group} is not known"),
            };
            error(what, Some(expected.to_owned()))
        }
        Found::NoObject { names } => error(format!("there is no {kind} {namespace}/{name}"), did_you_mean(name, names)),
        Found::Object { sections } => match (section_name, sections) {
            (Some(_), None) => {
                error(format!("a {kind} has no sections to limit"), Some("leave sectionName out".to_owned()))
            }
            (Some(section), Some(sections)) if !sections.contains(&section.as_str()) => {
                error(format!("{kind} {name} has no section \"{section}\""), did_you_mean(section, sections))
            }
            _ => return,
        },
    };
    problems.push(problem);
}

/// Of several policies of one Service only the first that says something of a part counts.
fn rivals(index: &Index, object: &Object, policy: &BackendTrafficPolicy, problems: &mut Vec<Problem>) {
    for (at, target) in policy.target_refs.iter().enumerate() {
        let Some((service, _)) = index.service(&object.key.namespace, &target.name) else { continue };
        let of_service = backend_policies::of_service(index, &service.key);
        let mut earlier = of_service.into_iter().take_while(|(earlier, _)| earlier.key != object.key);
        let rival = earlier.find(|(_, earlier)| {
            earlier.retry_constraint.is_some() && policy.retry_constraint.is_some()
                || earlier.session_persistence.is_some() && policy.session_persistence.is_some()
        });
        if let Some((rival, _)) = rival {
            let what = format!("{} at {} is for Service {} already", rival.key, rival.place, target.name);
            let path = format!("spec.targetRefs[{at}]");
            let problem = Problem::error(target.place.clone(), path, what).of(&object.key);
            problems.push(problem.hint("write both in one policy"));
        }
    }
}
