//! Which rule of which HTTPRoute serves a request, found the slow way: written from the text of the Gateway API alone
//! (`Listener.hostname`, `HTTPRouteSpec.hostnames`, `HTTPRouteRule.matches`), sharing nothing with the code that it checks.
//!
//! The text leaves two things open, and this module takes Weft's side of them:
//! - regular expressions: they must fit the whole value, and a path matched by one comes after exact paths and before
//!   prefixes (as in Envoy Gateway), the longest expression first;
//! - `matching hostname`: the route's own, as it is written; a route without any has none, of no characters.

use regex::Regex;
use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::HashMap;

#[derive(Clone, Debug)]
pub(crate) struct Listener {
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) hostname: Option<String>,
    /// `allowedRoutes.namespaces.from: All`; else `Same`.
    pub(crate) all_namespaces: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The day of its creation.
    pub(crate) created: Option<u8>,
    pub(crate) parents: Vec<Parent>,
    pub(crate) hostnames: Vec<String>,
    pub(crate) rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
pub(crate) struct Parent {
    pub(crate) section: Option<String>,
    pub(crate) port: Option<u16>,
}

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) matches: Vec<Match>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Match {
    pub(crate) path: Option<Path>,
    pub(crate) method: Option<String>,
    pub(crate) headers: Vec<(String, Value)>,
    pub(crate) query: Vec<(String, Value)>,
}

#[derive(Clone, Debug)]
pub(crate) enum Path {
    Exact(String),
    Prefix(String),
    Regex(String),
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Exact(String),
    Regex(String),
}

#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    pub(crate) namespace: String,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) routes: Vec<Route>,
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) port: u16,
    /// Without the port.
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) method: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) query: Vec<(String, String)>,
}

/// The name of the rule that serves the request; `None` is 404.
pub(crate) fn serve<'g>(gateway: &'g Gateway, request: &Request) -> Option<&'g str> {
    let listener = listener_of(gateway, request)?;
    let mut best: Option<Candidate<'_>> = None;
    for route in gateway.routes.iter().filter(|route| is_attached(gateway, listener, route)) {
        let Some(hostname) = matching_hostname(route, &request.host) else { continue };
        for (index, rule) in route.rules.iter().enumerate() {
            let everything = [Match::default()];
            let matches = if rule.matches.is_empty() { &everything[..] } else { &rule.matches[..] };
            for entry in matches.iter().filter(|entry| fits(entry, request)) {
                let candidate = Candidate::new(route, index, rule, hostname, entry);
                if best.as_ref().is_none_or(|best| candidate.goes_before(best)) {
                    best = Some(candidate);
                }
            }
        }
    }
    best.map(|candidate| candidate.rule)
}

/// "the most specific match": an exact host name before a wildcard, a longer wildcard before a shorter, any before none.
/// With listener isolation, that listener alone serves the request, whether or not a route of it fits.
fn listener_of<'g>(gateway: &'g Gateway, request: &Request) -> Option<&'g Listener> {
    let mut best: Option<&Listener> = None;
    for listener in gateway.listeners.iter().filter(|listener| listener.port == request.port) {
        let fits = listener.hostname.as_ref().is_none_or(|hostname| host_fits(hostname, &request.host));
        let score = |listener: &Listener| match &listener.hostname {
            None => 0,
            Some(wildcard) if wildcard.starts_with('*') => wildcard.len(),
            Some(_) => usize::MAX,
        };
        if fits && best.is_none_or(|best| score(listener) > score(best)) {
            best = Some(listener);
        }
    }
    best
}

fn is_attached(gateway: &Gateway, listener: &Listener, route: &Route) -> bool {
    let refers = route.parents.iter().any(|parent| {
        parent.section.as_ref().is_none_or(|section| *section == listener.name)
            && parent.port.is_none_or(|port| port == listener.port)
    });
    let permitted = listener.all_namespaces || route.namespace == gateway.namespace;
    let intersects = match &listener.hostname {
        None => true,
        Some(_) if route.hostnames.is_empty() => true,
        Some(of_listener) => route.hostnames.iter().any(|of_route| names_intersect(of_listener, of_route)),
    };
    refers && permitted && intersects
}

/// Two names intersect when some host fits both: take the one with its `*` (if any) read as a label.
fn names_intersect(one: &str, other: &str) -> bool {
    let sample = |name: &str| name.replace('*', "some.label");
    host_fits(one, &sample(other)) || host_fits(other, &sample(one))
}

/// "interpreted as a suffix match": `*.example.com` fits `test.example.com` and `foo.test.example.com`, not `example.com`.
fn host_fits(hostname: &str, host: &str) -> bool {
    match hostname.strip_prefix("*.") {
        None => hostname == host,
        Some(parent) => host.strip_suffix(parent).is_some_and(|labels| labels.len() > 1 && labels.ends_with('.')),
    }
}

/// The route's host name of the highest precedence that fits; the outer `None` when the route has some and none fits.
fn matching_hostname<'r>(route: &'r Route, host: &str) -> Option<Option<&'r str>> {
    if route.hostnames.is_empty() {
        return Some(None);
    }
    let fitting = route.hostnames.iter().filter(|hostname| host_fits(hostname, host));
    fitting.max_by(|a, b| compare_hostnames(Some(a), Some(b))).map(|hostname| Some(hostname.as_str()))
}

/// Greater: takes precedence.
fn compare_hostnames(a: Option<&str>, b: Option<&str>) -> Ordering {
    let characters = |name: Option<&str>| name.map_or(0, |name| name.chars().count());
    let without_wildcard = |name: Option<&str>| characters(name.filter(|name| !name.starts_with('*')));
    without_wildcard(a).cmp(&without_wildcard(b)).then(characters(a).cmp(&characters(b)))
}

fn fits(entry: &Match, request: &Request) -> bool {
    let path = match &entry.path {
        None => true,
        Some(Path::Exact(path)) => *path == request.path,
        Some(Path::Prefix(prefix)) => {
            let elements = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
            let mut wanted = elements(prefix);
            if wanted.last().is_some_and(String::is_empty) {
                wanted.pop(); // "a trailing slash is ignored"
            }
            elements(&request.path).starts_with(&wanted)
        }
        Some(Path::Regex(expression)) => whole(expression, &request.path),
    };
    path && entry.method.as_ref().is_none_or(|method| *method == request.method)
        && entry.headers.iter().all(|(name, value)| {
            let lines: Vec<&str> = request
                .headers
                .iter()
                .filter(|(header, _)| header.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.as_str())
                .collect();
            !lines.is_empty() && value_fits(value, &lines.join(","))
        })
        && entry.query.iter().all(|(name, value)| {
            request.query.iter().find(|(parameter, _)| parameter == name).is_some_and(|(_, got)| value_fits(value, got))
        })
}

fn value_fits(value: &Value, got: &str) -> bool {
    match value {
        Value::Exact(text) => text == got,
        Value::Regex(expression) => whole(expression, got),
    }
}

fn whole(expression: &str, text: &str) -> bool {
    thread_local! {
        // the same few expressions come again and again
        static COMPILED: RefCell<HashMap<String, Regex>> = RefCell::default();
    }
    COMPILED.with_borrow_mut(|compiled| {
        let new = || Regex::new(&format!("^({expression})$")).expect("a generated expression");
        compiled.entry(expression.to_owned()).or_insert_with(new).is_match(text)
    })
}

/// A match that fits, with all that precedence looks at.
struct Candidate<'g> {
    rule: &'g str,
    hostname: Option<&'g str>,
    exact: bool,
    /// Weft's place for expressions, and how long they are.
    expression: Option<usize>,
    prefix: usize,
    method: bool,
    headers: usize,
    query: usize,
    created: Option<u8>,
    full_name: String,
    index: usize,
}

impl<'g> Candidate<'g> {
    fn new(route: &Route, index: usize, rule: &'g Rule, hostname: Option<&'g str>, entry: &Match) -> Self {
        Candidate {
            rule: &rule.name,
            hostname,
            exact: matches!(entry.path, Some(Path::Exact(_))),
            expression: if let Some(Path::Regex(expression)) = &entry.path { Some(expression.len()) } else { None },
            prefix: match &entry.path {
                Some(Path::Prefix(prefix)) => prefix.len(),
                None => "/".len(), // "If no path is specified, the default is a prefix path match on `/`"
                _ => 0,
            },
            method: entry.method.is_some(),
            headers: entry.headers.len(),
            query: entry.query.len(),
            created: route.created,
            full_name: format!("{}/{}", route.namespace, route.name),
            index,
        }
    }

    /// The list of `HTTPRouteRule.matches`, in its order.
    fn goes_before(&self, other: &Candidate<'_>) -> bool {
        let order = compare_hostnames(self.hostname, other.hostname)
            .then(self.exact.cmp(&other.exact))
            .then(self.expression.cmp(&other.expression))
            .then(self.prefix.cmp(&other.prefix))
            .then(self.method.cmp(&other.method))
            .then(self.headers.cmp(&other.headers))
            .then(self.query.cmp(&other.query))
            // the oldest; what has no timestamp is not in a cluster yet
            .then(other.created.unwrap_or(u8::MAX).cmp(&self.created.unwrap_or(u8::MAX)))
            .then(other.full_name.cmp(&self.full_name))
            .then(other.index.cmp(&self.index));
        order == Ordering::Greater
    }
}
