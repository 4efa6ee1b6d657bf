//! Which of several matches goes first: the order that the Gateway API gives in the text of
//! `HTTPRouteSpec.hostnames` and `HTTPRouteRule.matches`, as a value that sorts.
//!
//! Where the text says "implementation-specific", Weft puts paths matched by a regular expression after exact paths and before
//! prefixes, the longest expression first, as Envoy Gateway does (`internal/gatewayapi/sort.go`: Exact >
//! RegularExpression > PathPrefix). Istio puts them last, where a catch-all `/` would hide them.

use super::hostname;
use crate::Object;
use std::cmp::Reverse;
use weft_model::route::RouteMatch;

/// Sorts what goes first to the front.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// Characters in the route's matching host name.
    hostname: Reverse<(usize, usize)>,
    path: Reverse<PathRank>,
    method: Reverse<bool>,
    headers: Reverse<usize>,
    query: Reverse<usize>,
    age: Age,
    index: usize,
}

/// Exact, then expression, then prefix or method; then characters (of a method's service first). Routes of HTTP and of gRPC never
/// meet under one host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PathRank {
    class: u8,
    characters: (usize, usize),
}

impl PathRank {
    /// Exact paths that both fit are the same path.
    pub(crate) const EXACT: PathRank = PathRank { class: 2, characters: (0, 0) };

    pub(crate) fn expression(characters: usize) -> Self {
        PathRank { class: 1, characters: (characters, 0) }
    }

    pub(crate) fn prefix(characters: usize) -> Self {
        PathRank { class: 0, characters: (characters, 0) }
    }

    pub(crate) fn method(service: usize, method: usize) -> Self {
        PathRank { class: 0, characters: (service, method) }
    }
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
    pub(crate) fn new(matching_hostname: &str, matches: &RouteMatch, path: PathRank, age: &Age, index: usize) -> Self {
        Rank {
            hostname: Reverse(hostname::specificity(matching_hostname)),
            path: Reverse(path),
            method: Reverse(!matches.methods.is_empty()),
            headers: Reverse(matches.headers.len()),
            query: Reverse(matches.query.len()),
            age: age.clone(),
            index,
        }
    }
}
