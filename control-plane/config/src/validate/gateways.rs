//! Gateways and ListenerSets: their class or parent, listeners that cannot be together, certificates.

use super::routes::{elsewhere, name_of};
use super::suggest::did_you_mean;
use crate::compile::attach::{carried, terminates};
use crate::compile::authority;
use crate::compile::certificate;
use crate::compile::frontend;
use crate::compile::gateway::{by_port, is_served};
use crate::compile::index::{BUILT_IN_CLASS, Class, Index};
use crate::compile::listener_sets::{self, Refusal};
use crate::kinds::{
    CertificateRef, FrontendValidation, Gateway, GatewayListener, ListenerProtocol, ListenerSet, TlsMode,
};
use crate::{Key, KindName, Object, Problem};

pub(super) fn check(index: &Index, problems: &mut Vec<Problem>) {
    for (object, gateway) in index.gateways() {
        if class(index, object, gateway, problems) {
            listeners(index, object, gateway, problems);
            if let Some(reference) = &gateway.client_certificate {
                let path = "spec.tls.backend.clientCertificateRef".to_owned();
                certificate_ref(index, &object.key, path, reference, problems);
            }
            callers(index, object, gateway, problems);
        }
    }
    for (object, set) in index.listener_sets() {
        parent(index, object, set, problems);
    }
}

/// Whether a ListenerSet's listeners are anybody's.
fn parent(index: &Index, object: &Object, set: &ListenerSet, problems: &mut Vec<Problem>) {
    let own = &object.key.namespace;
    let Err(refusal) = listener_sets::parent(index, object, set) else { return };
    let place = set.parent.place.clone();
    let mut problem = match &refusal {
        Refusal::Foreign => Problem::warning(place, "spec.parentRef", refusal.to_string()),
        _ => Problem::error(place, "spec.parentRef", format!("{refusal}: these listeners are not served")),
    };
    problem.hint = match &refusal {
        Refusal::NoGateway { namespace, name } => {
            let names: Vec<(&str, &str)> = index.gateways().map(|(found, _)| name_of(found)).collect();
            elsewhere("Gateway", namespace, name, &names)
        }
        Refusal::NotAllowed { gateway, .. } => {
            let same = if gateway.namespace == *own { "Same or All" } else { "All" };
            Some(format!("let its allowedListeners.namespaces be from: {same}, or a Selector that takes {own}"))
        }
        Refusal::UnknownKind { .. } | Refusal::Foreign => None,
    };
    problems.push(problem.of(&object.key));
}

/// Where a Gateway's listener is written: the object, and the path in it.
fn written<'g>(gateway: &'g Key, listeners: &'g [GatewayListener], at: usize) -> (&'g Key, String) {
    let before = listeners[..at].iter().rev().take_while(|other| other.set == listeners[at].set);
    (listeners[at].owner(gateway), format!("spec.listeners[{}]", before.count()))
}

/// What `spec.tls.frontend` asks callers for: whom to believe, and whether anybody is asked at all.
fn callers(index: &Index, object: &Object, gateway: &Gateway, problems: &mut Vec<Problem>) {
    if let Some(validation) = &gateway.frontend.default {
        authorities(index, object, "spec.tls.frontend.default", validation, problems);
    }
    for (at, of) in gateway.frontend.per_port.iter().enumerate() {
        let path = format!("spec.tls.frontend.perPort[{at}]");
        let is_https =
            |listener: &GatewayListener| listener.port == of.port && listener.protocol == ListenerProtocol::Https;
        if !gateway.listeners.iter().any(is_https) {
            let what = format!("no HTTPS listener has port {}: this is for nobody", of.port);
            problems.push(Problem::warning(of.place.clone(), format!("{path}.port"), what).of(&object.key));
        }
        if let Some(validation) = &of.validation {
            authorities(index, object, &format!("{path}.tls"), validation, problems);
        }
    }
    for (at, listener) in gateway.listeners.iter().enumerate() {
        let is_asked = gateway.frontend.of_port(listener.port).is_some();
        if is_asked && terminates(listener) && frontend::of_listener(gateway, listener).is_none() {
            let what = "spec.tls.frontend is for HTTPS: callers of this TLS listener are not asked for certificates";
            let (key, path) = written(&object.key, &gateway.listeners, at);
            problems.push(Problem::warning(listener.place.clone(), format!("{path}.protocol"), what).of(key));
        }
    }
}

fn authorities(
    index: &Index,
    object: &Object,
    path: &str,
    validation: &FrontendValidation,
    problems: &mut Vec<Problem>,
) {
    for (at, reference) in validation.authorities.iter().enumerate() {
        let Err(refusal) = authority::resolve(index, &object.key, reference) else { continue };
        let path = format!("{path}.validation.caCertificateRefs[{at}]");
        let mut problem = Problem::error(reference.place.clone(), path, refusal.to_string()).of(&object.key);
        if let authority::Refusal::NotGranted { from_kind, from_namespace, kind, namespace, name } = &refusal {
            problem.hint = Some(format!(
                "write a ReferenceGrant in namespace {namespace} from {from_kind} of {from_namespace} to {kind} {name}"
            ));
        }
        problems.push(problem);
    }
}

/// Whether the Gateway is ours to check any further.
fn class(index: &Index, object: &Object, gateway: &Gateway, problems: &mut Vec<Problem>) -> bool {
    let name = &gateway.class_name;
    let place = gateway.class_place.clone();
    let path = "spec.gatewayClassName";
    match index.class(name) {
        Class::Ours => true,
        Class::Theirs(controller) => {
            let what = format!("GatewayClass {name} is of controller {controller}: Weft does not serve this Gateway");
            problems.push(Problem::warning(place, path, what).of(&object.key));
            false
        }
        Class::Unknown => {
            let classes = index.class_names();
            let names = classes.iter().copied().chain([BUILT_IN_CLASS]);
            let hint = did_you_mean(name, names).unwrap_or_else(|| format!("write {BUILT_IN_CLASS}"));
            let what = format!("there is no GatewayClass {name}: nobody serves this Gateway");
            problems.push(Problem::error(place, path, what).hint(hint).of(&object.key));
            true
        }
    }
}

fn listeners(index: &Index, object: &Object, gateway: &Gateway, problems: &mut Vec<Problem>) {
    let served = by_port(gateway);
    for (at, listener) in gateway.listeners.iter().enumerate() {
        let (key, path) = written(&object.key, &gateway.listeners, at);
        let protocol = listener.protocol.as_str();
        if !is_served(listener) {
            let what = format!("protocol {protocol} is not served yet");
            let problem = Problem::warning(listener.place.clone(), format!("{path}.protocol"), what);
            problems.push(problem.hint("HTTP, HTTPS, TLS and TCP are").of(key));
        } else if !served[&listener.port].iter().any(|(own, _)| *own == at) {
            problems.push(conflict(listener, path, served[&listener.port][0].1).of(key));
        } else {
            kinds(key, &path, listener, problems);
            certificates(index, key, &path, listener, problems);
        }
    }
}

fn conflict(listener: &GatewayListener, path: String, first: &GatewayListener) -> Problem {
    let GatewayListener { port, protocol, place, .. } = listener;
    let (what, hint) = match first.protocol == *protocol || listener.tls.is_some() && first.tls.is_some() {
        true => (format!("port {port} has a listener of the same hostname already"), "give it another hostname"),
        false => {
            let (protocol, name) = (first.protocol.as_str(), &first.name);
            (
                format!("port {port} has protocol {protocol} already (listener \"{name}\")"),
                "give each protocol a port of its own",
            )
        }
    };
    Problem::error(place.clone(), path, format!("{what}: this listener is not served")).hint(hint)
}

fn kinds(key: &Key, path: &str, listener: &GatewayListener, problems: &mut Vec<Problem>) {
    for (at, kind) in listener.allowed_routes.kinds.iter().enumerate() {
        let is_gateways = kind.group == "gateway.networking.k8s.io";
        if !(is_gateways && carried(listener).iter().any(|carried| carried.as_str() == kind.kind)) {
            let what = format!("a listener of protocol {} carries no {}", listener.protocol.as_str(), kind.kind);
            let path = format!("{path}.allowedRoutes.kinds[{at}]");
            let names: Vec<&str> = carried(listener).iter().map(KindName::as_str).collect();
            let hint = format!("it carries {}", names.join(" and "));
            problems.push(Problem::error(kind.place.clone(), path, what).hint(hint).of(key));
        }
    }
}

fn certificates(index: &Index, key: &Key, path: &str, listener: &GatewayListener, problems: &mut Vec<Problem>) {
    let Some(tls) = &listener.tls else { return };
    if tls.mode == TlsMode::Passthrough {
        return;
    }
    if tls.certificate_refs.is_empty() {
        let what = "there is no certificate to show: this listener is not served";
        let problem = Problem::error(tls.place.clone(), format!("{path}.tls.certificateRefs"), what);
        problems.push(problem.hint("name a Secret of type kubernetes.io/tls").of(key));
    }
    for (at, reference) in tls.certificate_refs.iter().enumerate() {
        certificate_ref(index, key, format!("{path}.tls.certificateRefs[{at}]"), reference, problems);
    }
}

fn certificate_ref(index: &Index, key: &Key, path: String, reference: &CertificateRef, problems: &mut Vec<Problem>) {
    let Err(refusal) = certificate::resolve(index, key, reference) else { return };
    let mut problem = Problem::error(reference.place.clone(), path, refusal.to_string()).of(key);
    problem.hint = match &refusal {
        certificate::Refusal::NoSecret { namespace, name } => did_you_mean(name, index.secret_names(namespace)),
        certificate::Refusal::NotGranted { from_kind, from_namespace, namespace, name } => Some(format!(
            "write a ReferenceGrant in namespace {namespace} from {from_kind} of {from_namespace} to Secret {name}"
        )),
        _ => None,
    };
    problems.push(problem);
}
