//! Which of several matches goes first: the order that the Gateway API gives in the text of
//! `HTTPRouteSpec.hostnames` and `HTTPRouteRule.matches`, as a value that sorts.
//!
//! Where the text says "implementation-specific", Weft puts paths matched by a regular expression after exact paths and before
//! prefixes, the longest expression first, as Envoy Gateway does (`internal/gatewayapi/sort.go`: Exact >
//! RegularExpression > PathPrefix). Istio puts them last, where a catch-all `/` would hide them.

use super::hostname;
use crate::Object;
use std::cmp::Reverse;
use weft_model::route::{PathMatch, RouteMatch};

/// Sorts what goes first to the front.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// Characters in the route's matching host name.
    hostname: Reverse<(usize, usize)>,
    /// Exact, then expression, then prefix; then characters.
    path: Reverse<(u8, usize)>,
    method: Reverse<bool>,
    headers: Reverse<usize>,
    query: Reverse<usize>,
    age: Age,
    index: usize,
}

/// The order of routes among themselves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Age {
    /// What was never created in a cluster is younger than what was.
    uncreated: bool,
    created: Option<i64>,
    /// `{namespace}/{name}`, compared as one text.
    name: String,
}

impl Age {
    pub(crate) fn of(route: &Object) -> Self {
        let created = route.meta.creation_timestamp;
        Age { uncreated: created.is_none(), created, name: format!("{}/{}", route.key.namespace, route.key.name) }
    }
}

impl Rank {
    /// `matching_hostname` is the route's own that covers the domain, or `*`; `index` is the rule's place in the route.
    pub(crate) fn new(
        matching_hostname: &str,
        matches: &RouteMatch,
        path_length: usize,
        age: &Age,
        index: usize,
    ) -> Self {
        let class = match &matches.path {
            PathMatch::Exact(_) => 2,
            PathMatch::Regex(_) => 1,
            PathMatch::PathPrefix(_) | PathMatch::Prefix(_) | PathMatch::Any => 0,
        };
        // exact paths that both fit are the same path
        let characters = if class == 2 { 0 } else { path_length };
        Rank {
            hostname: Reverse(hostname::specificity(matching_hostname)),
            path: Reverse((class, characters)),
            method: Reverse(!matches.methods.is_empty()),
            headers: Reverse(matches.headers.len()),
            query: Reverse(matches.query.len()),
            age: age.clone(),
            index,
        }
    }
}
