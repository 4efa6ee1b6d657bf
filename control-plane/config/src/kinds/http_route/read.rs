//! Reads an [`HttpRoute`]: the limits and exclusions are those of the Gateway API's own validation.

mod filters;
mod retry;

use super::*;
use crate::kinds::session_persistence;
use crate::read::{
    Cursor, Fields, METHODS, expression, gateway_duration, group, header_name, hostname, kind, label, number,
    object_name, one_of, path, port, sized, subdomain,
};
use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

pub(crate) use filters::{check as check_filters, filter};

/// How many a rule may have.
pub(crate) const MATCHES: RangeInclusive<usize> = 0..=64;
pub(crate) const BACKENDS: RangeInclusive<usize> = 0..=16;

const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

pub(crate) fn read_http_route(f: &mut Fields<'_>) -> Option<HttpRoute> {
    f.must("spec", |at| at.fields(spec))
}

fn spec(f: &mut Fields<'_>) -> HttpRoute {
    f.later("useDefaultGateways", |_| Some(()));
    let parent_refs = parents(f);
    let hostnames = f.list("hostnames", 0..=16, |at| hostname(at).map(|name| at.at(name)));
    let rules = match f.get("rules") {
        Some(at) => at.items(1..=16, rule),
        None => vec![HttpRule { matches: vec![HttpMatch::everything(f.place())], ..HttpRule::empty(f.place()) }],
    };
    check_rules(f, &rules);
    HttpRoute { parent_refs, hostnames, rules }
}

/// What a route of any kind attaches to.
pub(crate) fn parents(f: &mut Fields<'_>) -> Vec<ParentRef> {
    let parents = f.list("parentRefs", 0..=32, parent_ref);
    check_parents(f, &parents);
    parents
}

fn parent_ref(at: &Cursor<'_>) -> Option<ParentRef> {
    at.fields(|f| ParentRef {
        place: f.place(),
        group: f.opt("group", group).unwrap_or_else(|| GATEWAY_GROUP.into()),
        kind: f.opt("kind", kind).unwrap_or_else(|| "Gateway".into()),
        namespace: f.opt("namespace", label),
        name: f.need("name", object_name),
        section_name: f.opt("sectionName", subdomain),
        port: f.opt("port", port),
    })
}

/// The same parent twice needs different sections or ports.
fn check_parents(f: &Fields<'_>, parents: &[ParentRef]) {
    let mut seen = HashMap::new();
    for parent in parents {
        let ParentRef { place, group, kind, namespace, name, section_name, port } = parent;
        if let Some(first) = seen.insert((group, kind, namespace, name, section_name, port), place.words()) {
            let message = format!("{kind} {name} is already a parent {first}; a cluster refuses that");
            f.warn_at(place, "parentRefs", message, "remove one of the two, or name another sectionName or port");
        }
        if group == GATEWAY_GROUP && kind == "Service" {
            let message = format!("there is no Service in {GATEWAY_GROUP}");
            f.wrong_at(place, "parentRefs", message, "write group: \"\" beside kind: Service");
        }
    }
}

fn check_rules(f: &Fields<'_>, rules: &[HttpRule]) {
    const MOST_MATCHES: usize = 128;
    check_names(f, rules.iter().map(|rule| (&rule.name, &rule.place)));
    let matches: usize = rules.iter().map(|rule| rule.matches.len()).sum();
    if let (true, Some(last)) = (matches > MOST_MATCHES, rules.last()) {
        let message = format!("the rules have {matches} matches together; at most {MOST_MATCHES} are allowed");
        f.wrong_at(&last.place, "rules", message, "split the route into two of the same parents and hostnames");
    }
}

/// Each name of a rule once.
pub(crate) fn check_names<'r>(f: &Fields<'_>, rules: impl Iterator<Item = (&'r Option<String>, &'r Place)>) {
    let mut names = HashMap::new();
    for (name, place) in rules {
        let Some(name) = name else { continue };
        if let Some(first) = names.insert(name, place.words()) {
            let message = format!("a rule is already named {name} {first}");
            f.wrong_at(place, "rules", message, "rename it");
        }
    }
}

impl HttpRule {
    pub(crate) fn empty(place: Place) -> Self {
        HttpRule {
            place,
            name: None,
            matches: Vec::new(),
            filters: Vec::new(),
            backend_refs: Vec::new(),
            timeouts: HttpTimeouts::default(),
            retry: None,
            session_persistence: None,
        }
    }
}

impl HttpMatch {
    pub(crate) fn everything(place: Place) -> Self {
        HttpMatch {
            place,
            path: HttpPathMatch::Prefix("/".into()),
            headers: Vec::new(),
            query_params: Vec::new(),
            method: None,
        }
    }
}

fn rule(at: &Cursor<'_>) -> Option<HttpRule> {
    at.fields(|f| {
        let mut rule = HttpRule {
            place: f.place(),
            name: f.opt("name", subdomain),
            matches: f.list("matches", MATCHES, one_match),
            filters: f.list("filters", 0..=16, filter),
            backend_refs: f.list("backendRefs", BACKENDS, backend_ref),
            timeouts: f.opt("timeouts", timeouts).unwrap_or_default(),
            retry: f.opt("retry", retry::retry),
            session_persistence: f.opt("sessionPersistence", session_persistence),
        };
        if rule.matches.is_empty() {
            rule.matches.push(HttpMatch::everything(f.place()));
        }
        check_filters(f, &rule.filters);
        check_rule(f, &rule);
        rule
    })
}

/// What cannot stand together in a rule.
fn check_rule(f: &Fields<'_>, rule: &HttpRule) {
    let is_redirect = |filter: &&HttpFilter| matches!(filter.action, HttpFilterAction::Redirect(_));
    if let (Some(redirect), Some(_)) = (rule.filters.iter().find(is_redirect), rule.backend_refs.first()) {
        let message = "a rule that redirects has no backendRefs";
        f.wrong_at(&redirect.place, "filters", message, "remove the backendRefs, or put the redirect in its own rule");
    }
    let rewrites = rule.filters.iter().any(|filter| matches!(filter.action, HttpFilterAction::Rewrite(_)));
    let of_backends = || rule.backend_refs.iter().flat_map(|backend| &backend.filters);
    for redirect in of_backends().filter(is_redirect).filter(|_| rewrites) {
        let message = "a backend of a rule that has URLRewrite cannot redirect";
        f.wrong_at(&redirect.place, "filters", message, "put the URLRewrite in the filters of the other backends");
    }
    let one_prefix = matches!(rule.matches.as_slice(), [HttpMatch { path: HttpPathMatch::Prefix(_), .. }]);
    let replacing = rule.filters.iter().chain(of_backends()).filter(|filter| filters::replaces_prefix(filter));
    for filter in replacing.filter(|_| !one_prefix) {
        let message = "ReplacePrefixMatch needs exactly one match in its rule, and that of type PathPrefix";
        f.wrong_at(&filter.place, "filters", message, "give each prefix a rule of its own");
    }
}

fn one_match(at: &Cursor<'_>) -> Option<HttpMatch> {
    at.fields(|f| {
        let mut matches = HttpMatch {
            place: f.place(),
            path: f.opt("path", path_match).unwrap_or_else(|| HttpPathMatch::Prefix("/".into())),
            headers: header_matches(f),
            query_params: f.list("queryParams", 0..=16, query_match),
            method: f.opt("method", one_of(&METHODS.map(|method| (method, method.to_owned())))),
        };
        keep_first(f, "queryParams", &mut matches.query_params, |query| &query.name);
        matches
    })
}

pub(crate) fn header_matches(f: &mut Fields<'_>) -> Vec<HttpHeaderMatch> {
    let mut headers = f.list("headers", 0..=16, header_match);
    keep_first(f, "headers", &mut headers, |header| &header.name);
    headers
}

/// Of several entries of one name only the first counts, as the Gateway API says of header and parameter matches.
fn keep_first<T>(f: &Fields<'_>, field: &'static str, entries: &mut Vec<T>, name: fn(&T) -> &String) {
    let mut seen = HashSet::new();
    entries.retain(|entry| {
        let is_first = seen.insert(name(entry).clone());
        if !is_first {
            let message = format!("names {} twice; only the first counts", name(entry));
            f.warn_at(&f.place(), field, message, "write one entry; a RegularExpression can say several values");
        }
        is_first
    });
}

/// Each name once in a list.
fn check_once<'n>(f: &mut Fields<'_>, field: &'static str, names: impl Iterator<Item = &'n String>) {
    let mut seen = HashSet::new();
    for name in names.filter(|name| !seen.insert(*name)) {
        f.wrong(field, format!("names {name} twice"), "write each name once");
    }
}

#[derive(Clone, Copy)]
enum PathType {
    Exact,
    Prefix,
    Regex,
}

fn path_match(at: &Cursor<'_>) -> Option<HttpPathMatch> {
    at.fields(|f| {
        let types =
            [("Exact", PathType::Exact), ("PathPrefix", PathType::Prefix), ("RegularExpression", PathType::Regex)];
        match f.opt("type", one_of(&types)).unwrap_or(PathType::Prefix) {
            // the API server fills in "/", which is not what a type without a value is meant to say
            PathType::Exact => f.must("value", path).map(HttpPathMatch::Exact),
            PathType::Regex => f.must("value", expression(1024)).map(HttpPathMatch::Regex),
            PathType::Prefix if !f.has("value") => {
                f.skip(&["value"]);
                Some(HttpPathMatch::Prefix("/".into()))
            }
            PathType::Prefix => f.opt("value", path).map(HttpPathMatch::Prefix),
        }
    })?
}

fn header_match(at: &Cursor<'_>) -> Option<HttpHeaderMatch> {
    at.fields(|f| {
        let name = f.need("name", header_name);
        value_match(f, 4096).map(|value| HttpHeaderMatch { name, value })
    })?
}

fn query_match(at: &Cursor<'_>) -> Option<HttpQueryMatch> {
    at.fields(|f| {
        let name = f.need("name", sized(1, 256));
        value_match(f, 1024).map(|value| HttpQueryMatch { name, value })
    })?
}

fn value_match(f: &mut Fields<'_>, most: usize) -> Option<HttpValueMatch> {
    let is_regex = f.opt("type", one_of(&[("Exact", false), ("RegularExpression", true)])).unwrap_or_default();
    if is_regex {
        f.must("value", expression(most)).map(HttpValueMatch::Regex)
    } else {
        f.must("value", sized(1, most)).map(HttpValueMatch::Exact)
    }
}

pub(crate) fn backend_ref(at: &Cursor<'_>) -> Option<HttpBackendRef> {
    at.fields(|f| {
        let backend = HttpBackendRef {
            target: backend_target(f),
            weight: f.opt("weight", number(0, 1_000_000)).unwrap_or(1),
            filters: f.list("filters", 0..=16, filter),
        };
        check_filters(f, &backend.filters);
        backend
    })
}

/// The fields of a reference to a backend.
pub(crate) fn backend_target(f: &mut Fields<'_>) -> BackendTarget {
    let target = BackendTarget {
        place: f.place(),
        group: f.opt("group", group).unwrap_or_default(),
        kind: f.opt("kind", kind).unwrap_or_else(|| "Service".into()),
        namespace: f.opt("namespace", label),
        name: f.need("name", object_name),
        port: f.opt("port", port),
    };
    if target.group.is_empty() && target.kind == "Service" && !f.has("port") {
        f.missing::<()>("port", "write the Service's port");
    }
    target
}

fn timeouts(at: &Cursor<'_>) -> Option<HttpTimeouts> {
    at.fields(|f| {
        let timeouts = HttpTimeouts {
            request: f.opt("request", gateway_duration),
            backend_request: f.opt("backendRequest", gateway_duration),
        };
        if let (Some(request), Some(backend)) = (timeouts.request, timeouts.backend_request)
            && backend > request
            && !request.is_zero()
        {
            let message = format!("{backend:?} is longer than `request`, {request:?}");
            f.wrong("backendRequest", message, "write at most as much as request");
        }
        timeouts
    })
}
