//! Routes of every kind: what each of their parents says.

use super::{CONTROLLER_NAME, Condition, Conditions};
use crate::compile::attach::{self, Attaching, Parent, Refusal};
use crate::compile::backend;
use crate::compile::gateway::Attached;
use crate::compile::index::{Class, Index};
use crate::compile::rules::unsupported_backend_filter;
use crate::kinds::{BackendTarget, HttpFilterAction, HttpRule, ParentRef};
use crate::{Body, Object};
use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteStatus {
    /// Of the parents that are ours, in the order of `parentRefs`.
    pub parents: Vec<ParentStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentStatus {
    pub parent_ref: ParentReference,
    pub controller_name: &'static str,
    pub conditions: Vec<Condition>,
}

/// As its author wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentReference {
    pub group: String,
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

pub(super) fn route(index: &Index, attached: &Attached<'_>, route: &Attaching<'_>) -> RouteStatus {
    let ours = route.parent_refs.iter().filter(|reference| is_ours(index, route, reference));
    let parent = |reference: &ParentRef| ParentStatus {
        parent_ref: ParentReference {
            group: reference.group.clone(),
            kind: reference.kind.clone(),
            namespace: reference.namespace.clone(),
            name: reference.name.clone(),
            section_name: reference.section_name.clone(),
            port: reference.port,
        },
        controller_name: CONTROLLER_NAME,
        conditions: conditions(index, attached, route, reference),
    };
    RouteStatus { parents: ours.map(parent).collect() }
}

/// A parent that is not there is nobody's, and so is one of a class that nobody defines.
fn is_ours(index: &Index, route: &Attaching<'_>, reference: &ParentRef) -> bool {
    match attach::parent(index, route.object, reference) {
        Ok(Parent::Gateway(_, gateway)) => index.class(&gateway.class_name) == Class::Ours,
        Ok(Parent::Service(_)) => true,
        Err(Refusal::NoServicePort { .. } | Refusal::NoServiceSection { .. }) => true,
        Err(Refusal::NotAttached { refusal }) => refusal.is_ours(index),
        Err(_) => false,
    }
}

fn conditions(index: &Index, attached: &Attached<'_>, route: &Attaching<'_>, reference: &ParentRef) -> Vec<Condition> {
    let mut conditions = Conditions::of(route.object);
    let unsupported = unsupported(route.object);
    match attach::attachment(index, attached, route, reference) {
        Err(refusal) => conditions.add("Accepted", false, reason(&refusal), refusal.to_string()),
        Ok(_) => match unsupported {
            Unsupported::None => conditions.add("Accepted", true, "Accepted", ""),
            Unsupported::All(what) => conditions.add("Accepted", false, "UnsupportedValue", what),
            Unsupported::Some(what) => {
                conditions.add("Accepted", true, "Accepted", "");
                conditions.add("PartiallyInvalid", true, "UnsupportedValue", what);
            }
        },
    }
    let refused = targets(route.object).find_map(|target| backend::resolve(index, &route.object.key, target).err());
    match refused {
        None => conditions.add("ResolvedRefs", true, "ResolvedRefs", ""),
        Some(refusal) => {
            let reason = match refusal {
                backend::Refusal::UnknownKind { .. } => "InvalidKind",
                backend::Refusal::NotGranted { .. } => "RefNotPermitted",
                backend::Refusal::Untrusted { .. } => "UnsupportedProtocol",
                backend::Refusal::NoService { .. }
                | backend::Refusal::NoPortGiven { .. }
                | backend::Refusal::NoPort { .. } => "BackendNotFound",
            };
            conditions.add("ResolvedRefs", false, reason, refusal.to_string());
        }
    }
    conditions.list
}

fn reason(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::KindNotAllowed { .. } | Refusal::NamespaceNotAllowed { .. } | Refusal::WrongProtocol { .. } => {
            "NotAllowedByListeners"
        }
        Refusal::HostnamesDoNotMeet { .. } => "NoMatchingListenerHostname",
        Refusal::Displaced { .. } => "Conflicted",
        Refusal::NotInTheMesh { .. } => "UnsupportedValue",
        Refusal::NotAttached { .. }
        | Refusal::NoSection { .. }
        | Refusal::NoPort { .. }
        | Refusal::NoServicePort { .. }
        | Refusal::NoServiceSection { .. }
        | Refusal::UnknownKind { .. }
        | Refusal::NoParent { .. }
        | Refusal::Foreign => "NoMatchingParent",
    }
}

/// Rules that ask for what cannot be done.
enum Unsupported {
    None,
    Some(String),
    All(String),
}

fn unsupported(object: &Object) -> Unsupported {
    let (Body::HttpRoute(route) | Body::GrpcRoute(route)) = &object.body else { return Unsupported::None };
    let found: Vec<(usize, String)> =
        route.rules.iter().enumerate().filter_map(|(at, rule)| Some((at, unsupported_filter(rule)?))).collect();
    let Some((at, what)) = found.first() else { return Unsupported::None };
    let what = format!("rules[{at}]: {what}");
    if found.len() == route.rules.len() { Unsupported::All(what) } else { Unsupported::Some(what) }
}

fn unsupported_filter(rule: &HttpRule) -> Option<String> {
    let unknown = rule.filters.iter().find_map(|filter| match &filter.action {
        HttpFilterAction::Extension(extension) => {
            Some(format!("the filter {} {} is not known", extension.kind, extension.name))
        }
        _ => None,
    });
    let of_backends = rule.backend_refs.iter().flat_map(|backend| &backend.filters);
    let of_backend = of_backends.map(unsupported_backend_filter).find(|what| !what.is_empty());
    unknown.or(of_backend.map(str::to_owned))
}

/// Everything that a route sends or copies to.
fn targets(object: &Object) -> Box<dyn Iterator<Item = &BackendTarget> + '_> {
    match &object.body {
        Body::HttpRoute(route) | Body::GrpcRoute(route) => Box::new(route.rules.iter().flat_map(|rule| {
            let mirrors = rule.filters.iter().filter_map(|filter| match &filter.action {
                HttpFilterAction::Mirror(mirror) => Some(&mirror.target),
                _ => None,
            });
            rule.backend_refs.iter().map(|backend| &backend.target).chain(mirrors)
        })),
        Body::TlsRoute(route) | Body::TcpRoute(route) => {
            let backends = route.rules.iter().flat_map(|rule| &rule.backend_refs);
            Box::new(backends.map(|backend| &backend.target))
        }
        _ => Box::new(std::iter::empty()),
    }
}

/// The Services that a route sends to.
pub(super) fn services<'i>(index: &'i Index, object: &Object) -> Vec<&'i Object> {
    let found = targets(object).filter_map(|target| index.service_of(&object.key, target));
    found.collect()
}
