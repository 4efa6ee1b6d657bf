//! A VirtualService that hands some of its requests on to another: Istio's rules for joining the two
//! (`pilot/pkg/model/virtualservice.go`, `mergeHTTPRoutes`).
//!
//! Of both matches all must fit. A match of the delegate that reaches beyond what the root hands on is in
//! conflict with it, and a route of the delegate with such a match is left out whole; checking tells its author. What else the
//! delegate's route does not say, the root's says for it.

use super::{Rule, gateway_named};
use crate::Object;
use crate::compile::index::Index;
use crate::kinds::{Delegate, HeaderOperations, MESH, VirtualAction, VirtualMatch, VirtualRoute, VirtualService};
use std::borrow::Cow;
use std::fmt;
use weft_model::route::StringMatch;

/// Why nothing can be delegated to what is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Missing { namespace: String, name: String },
    HasHosts { namespace: String, name: String },
    NotExported { namespace: String, name: String, to: String },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Missing { namespace, name } => write!(f, "there is no VirtualService {namespace}/{name}"),
            Refusal::HasHosts { namespace, name } => {
                write!(f, "VirtualService {namespace}/{name} has hosts, so nothing can be delegated to it")
            }
            Refusal::NotExported { namespace, name, to } => {
                write!(f, "VirtualService {namespace}/{name} is not exported to namespace {to}")
            }
        }
    }
}

pub(crate) fn find<'i>(
    index: &'i Index,
    root: &Object,
    delegate: &Delegate,
) -> Result<(&'i Object, &'i VirtualService), Refusal> {
    let to = &root.key.namespace;
    let namespace = delegate.namespace.as_ref().unwrap_or(to).clone();
    let name = delegate.name.clone();
    let Some((object, service)) = index.virtual_service(&namespace, &name) else {
        return Err(Refusal::Missing { namespace, name });
    };
    let exports = |to: &str| service.export_to.iter().any(|written| written == to);
    if !service.hosts.is_empty() {
        Err(Refusal::HasHosts { namespace, name })
    } else if service.export_to.is_empty() || exports("*") || exports(to) || exports(".") && namespace == *to {
        Ok((object, service))
    } else {
        Err(Refusal::NotExported { namespace, name, to: to.clone() })
    }
}

/// The entries of `http`, each delegate's in the place of the one that names it.
pub(super) fn rules<'i>(index: &'i Index, object: &'i Object, service: &'i VirtualService) -> Vec<Rule<'i>> {
    let mut rules = Vec::new();
    for (at, root) in service.http.iter().enumerate() {
        let VirtualAction::Delegate(delegate) = &root.action else {
            rules.push(Rule { object, at, route: Cow::Borrowed(root) });
            continue;
        };
        let Ok((delegate, routes)) = find(index, object, delegate) else { continue };
        for (at, route) in routes.http.iter().enumerate() {
            if let Some(matches) = meet(&root.matches, &object.key.namespace, &route.matches) {
                rules.push(Rule { object: delegate, at, route: Cow::Owned(join(root, route, matches)) });
            }
        }
    }
    rules
}

/// Whether a delegate's route gets any of what the root hands on.
pub(crate) fn meets(root: &VirtualRoute, route: &VirtualRoute) -> bool {
    meet(&root.matches, "", &route.matches).is_some()
}

fn join(root: &VirtualRoute, route: &VirtualRoute, matches: Vec<VirtualMatch>) -> VirtualRoute {
    let mut joined = route.clone();
    joined.matches = matches;
    joined.name = join_names(&root.name, &route.name);
    joined.rewrite = joined.rewrite.or_else(|| root.rewrite.clone());
    joined.timeout = joined.timeout.or(root.timeout);
    joined.retries = joined.retries.or_else(|| root.retries.clone());
    joined.fault = joined.fault.or(root.fault);
    joined.cors = joined.cors.or_else(|| root.cors.clone());
    if joined.mirrors.is_empty() {
        joined.mirrors = root.mirrors.clone();
    }
    if joined.headers == HeaderOperations::default() {
        joined.headers = root.headers.clone();
    }
    joined
}

fn join_names(root: &Option<String>, leaf: &Option<String>) -> Option<String> {
    match (root, leaf) {
        (Some(root), Some(leaf)) => Some(format!("{root}-{leaf}")),
        (root, leaf) => leaf.clone().or_else(|| root.clone()),
    }
}

/// Each match of the delegate joined with every one of the root that it meets; nothing if it meets none.
fn meet(roots: &[VirtualMatch], root_namespace: &str, leaves: &[VirtualMatch]) -> Option<Vec<VirtualMatch>> {
    if roots.is_empty() {
        return Some(leaves.to_vec());
    }
    let roots: Vec<VirtualMatch> = roots.iter().map(|root| in_full(root, root_namespace)).collect();
    if leaves.is_empty() {
        return Some(roots);
    }
    let mut joined = Vec::new();
    for leaf in leaves {
        let before = joined.len();
        joined.extend(roots.iter().filter(|root| !conflicts(root, leaf)).map(|root| join_matches(root, leaf)));
        if joined.len() == before {
            return None;
        }
    }
    Some(joined)
}

/// Gateways are named from the root's namespace, not from the delegate's.
fn in_full(root: &VirtualMatch, namespace: &str) -> VirtualMatch {
    let in_full = |written: &String| match gateway_named(written, namespace) {
        Some((namespace, name)) => format!("{namespace}/{name}"),
        None => MESH.to_owned(),
    };
    VirtualMatch { gateways: root.gateways.iter().map(in_full).collect(), ..root.clone() }
}

type Values = [(String, StringMatch)];

fn join_matches(root: &VirtualMatch, leaf: &VirtualMatch) -> VirtualMatch {
    let values = |root: &Values, leaf: &Values| {
        let missing = root.iter().filter(|(name, _)| find_value(leaf, name).is_none());
        leaf.iter().chain(missing).cloned().collect()
    };
    let mut source_labels = root.source_labels.clone();
    source_labels.extend(leaf.source_labels.clone());
    let of_uri = if leaf.uri.is_some() { leaf } else { root };
    VirtualMatch {
        place: leaf.place.clone(),
        name: join_names(&root.name, &leaf.name),
        uri: of_uri.uri.clone(),
        ignore_uri_case: of_uri.ignore_uri_case,
        scheme: leaf.scheme.clone().or_else(|| root.scheme.clone()),
        method: leaf.method.clone().or_else(|| root.method.clone()),
        authority: leaf.authority.clone().or_else(|| root.authority.clone()),
        headers: values(&root.headers, &leaf.headers),
        without_headers: values(&root.without_headers, &leaf.without_headers),
        query_params: values(&root.query_params, &leaf.query_params),
        port: leaf.port.or(root.port),
        source_labels,
        source_namespace: leaf.source_namespace.clone().or_else(|| root.source_namespace.clone()),
        gateways: if leaf.gateways.is_empty() { root.gateways.clone() } else { leaf.gateways.clone() },
    }
}

fn find_value<'v>(values: &'v Values, name: &str) -> Option<&'v StringMatch> {
    values.iter().find(|(of_value, _)| of_value == name).map(|(_, value)| value)
}

/// Whether the leaf fits requests that the root does not, as far as can be told from the text.
fn conflicts(root: &VirtualMatch, leaf: &VirtualMatch) -> bool {
    let parts = [
        (&root.uri, &leaf.uri),
        (&root.scheme, &leaf.scheme),
        (&root.method, &leaf.method),
        (&root.authority, &leaf.authority),
    ];
    let lists = [
        (&root.headers, &leaf.headers),
        (&root.without_headers, &leaf.without_headers),
        (&root.query_params, &leaf.query_params),
    ];
    let of_lists = lists
        .into_iter()
        .flat_map(|(root, leaf)| leaf.iter().filter_map(|(name, value)| Some((find_value(root, name)?, value))));
    let of_parts = parts.into_iter().filter_map(|(root, leaf)| Some((root.as_ref()?, leaf.as_ref()?)));
    let both_cases = root.uri.is_some() && leaf.uri.is_some() && root.ignore_uri_case != leaf.ignore_uri_case;
    let differ =
        |root: &Option<String>, leaf: &Option<String>| matches!((root, leaf), (Some(root), Some(leaf)) if root != leaf);
    let other_label =
        |(key, value): (&String, &String)| root.source_labels.get(key).is_some_and(|of_root| of_root != value);
    both_cases
        || of_parts.chain(of_lists).any(|(root, leaf)| !within(root, leaf))
        || matches!((root.port, leaf.port), (Some(root), Some(leaf)) if root != leaf)
        || differ(&root.source_namespace, &leaf.source_namespace)
        || leaf.source_labels.iter().any(other_label)
        || !root.gateways.is_empty() && leaf.gateways.iter().any(|gateway| !root.gateways.contains(gateway))
}

/// Whether all that fits `leaf` surely fits `root`; of expressions nothing can be said.
fn within(root: &StringMatch, leaf: &StringMatch) -> bool {
    match (root, leaf) {
        (StringMatch::Present, _) => true,
        (StringMatch::Exact(root), StringMatch::Exact(leaf)) => root == leaf,
        (StringMatch::Prefix(root), StringMatch::Exact(leaf) | StringMatch::Prefix(leaf)) => leaf.starts_with(root),
        _ => false,
    }
}
