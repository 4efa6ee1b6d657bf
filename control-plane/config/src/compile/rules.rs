//! HTTPRoute rules as routes of the model: one per entry of `matches`, as each may have its own place among the routes of others.

use super::backend;
use super::clusters::origin;
use super::index::Index;
use super::precedence::{Age, PathRank, Rank};
use super::rate_limits;
use super::resilience::{self, persistence};
use crate::kinds::{
    GrpcMethod, HeaderModifier, HttpBackendRef, HttpCors, HttpFilter, HttpFilterAction, HttpMatch, HttpPathMatch,
    HttpRedirect, HttpRewrite, HttpRoute, HttpRule, HttpValueMatch, PathModifier, Scheme,
};
use crate::{Key, Object};
use weft_model::route::{
    Action, Backend, Cors, Forward, HeaderEdits, HeaderMatch, Mirror, OriginMatch, PathMatch, PathRewrite, QueryMatch,
    Redirect, Respond, Rewrite, Route, RouteMatch, StringMatch, Target, UrlChange,
};

/// The routes of one HTTPRoute, with what their order depends on.
#[derive(Debug)]
pub(crate) struct Compiled {
    age: Age,
    /// In the order in which they are written.
    routes: Vec<CompiledMatch>,
}

#[derive(Debug)]
struct CompiledMatch {
    route: Route,
    path: PathRank,
}

impl Compiled {
    pub(crate) fn new(index: &Index, object: &Object, route: &HttpRoute) -> Self {
        let mut routes = Vec::new();
        for (at, rule) in route.rules.iter().enumerate() {
            let template = compile_rule(index, object, at, rule);
            for entry in &rule.matches {
                let (matches, path) = compile_match(entry);
                routes.push(CompiledMatch { route: Route { matches, ..template.clone() }, path });
            }
        }
        Compiled { age: Age::of(object), routes }
    }

    /// The clusters that it sends or copies to.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &str> {
        self.routes.iter().flat_map(|entry| super::route_targets(&entry.route))
    }

    /// The routes with their rank where `hostname` is the HTTPRoute's own host name that fits, or `*`.
    pub(crate) fn ranked(&self, hostname: &str) -> impl Iterator<Item = (Rank, &Route)> {
        self.routes.iter().enumerate().map(move |(at, entry)| {
            (Rank::new(hostname, &entry.route.matches, entry.path, &self.age, at), &entry.route)
        })
    }
}

/// All of a rule but its matches.
fn compile_rule(index: &Index, object: &Object, at: usize, rule: &HttpRule) -> Route {
    let key = &object.key;
    let mut origin = origin(object, &format!("rules[{at}]"));
    origin.place = rule.place.without_column();
    let name = rule.name.clone().unwrap_or_else(|| format!("{}/{}/{at}", key.namespace, key.name));
    let mut route = Route { origin, ..Route::all(name, action(index, key, rule)) };
    route.rate_limits = rate_limits::of_rule(index, key, rule.name.as_deref());
    if let Action::Forward(forward) = &mut route.action {
        let session = |written| persistence(written, &format!("{}-{}-{at}", key.namespace, key.name));
        forward.persistence = rule.session_persistence.as_ref().map(session);
    }
    for filter in &rule.filters {
        match &filter.action {
            HttpFilterAction::RequestHeaders(modifier) => route.request_headers = edits(modifier),
            HttpFilterAction::ResponseHeaders(modifier) => route.response_headers = edits(modifier),
            HttpFilterAction::Cors(cors) => route.cors = Some(compile_cors(cors)),
            // these are the action
            HttpFilterAction::Redirect(_)
            | HttpFilterAction::Rewrite(_)
            | HttpFilterAction::Mirror(_)
            | HttpFilterAction::Extension(_) => {}
        }
    }
    route
}

fn action(index: &Index, route: &Key, rule: &HttpRule) -> Action {
    // a filter that is not there must not be skipped: "requests MUST receive a HTTP error response"
    let unknown = rule.filters.iter().find_map(|filter| match &filter.action {
        HttpFilterAction::Extension(extension) => Some(extension),
        _ => None,
    });
    if let Some(extension) = unknown {
        let body = format!("the filter {} {} of this route is not known\n", extension.kind, extension.name);
        return Action::Respond(Respond { status: 500, body });
    }
    let redirect = rule.filters.iter().find_map(|filter| match &filter.action {
        HttpFilterAction::Redirect(redirect) => Some(redirect),
        _ => None,
    });
    match redirect {
        Some(redirect) => Action::Redirect(compile_redirect(redirect)),
        None => Action::Forward(forward(index, route, rule)),
    }
}

fn forward(index: &Index, route: &Key, rule: &HttpRule) -> Forward {
    let mut forward = Forward {
        backends: rule.backend_refs.iter().map(|backend| compile_backend(index, route, backend)).collect(),
        request_timeout: rule.timeouts.request.filter(|timeout| !timeout.is_zero()),
        backend_timeout: rule.timeouts.backend_request.filter(|timeout| !timeout.is_zero()),
        retry: rule.retry.as_ref().map(resilience::retry),
        ..Forward::default()
    };
    if forward.backends.iter().all(|backend| backend.weight == 0) {
        let reason = match forward.backends.is_empty() {
            true => "the rule has no backendRefs",
            false => "every backendRef of the rule has weight 0",
        };
        forward.backends.push(invalid(reason));
    }
    for filter in &rule.filters {
        match &filter.action {
            HttpFilterAction::Rewrite(rewrite) => forward.rewrite = compile_rewrite(rewrite),
            HttpFilterAction::Mirror(mirror) => forward
                .mirrors
                .push(Mirror { target: backend::target(index, route, &mirror.target), share: mirror.share }),
            _ => {}
        }
    }
    forward
}

fn invalid(reason: &str) -> Backend {
    Backend::new(Target::Invalid { reason: reason.to_owned() }, 1)
}

fn compile_backend(index: &Index, route: &Key, reference: &HttpBackendRef) -> Backend {
    let mut backend = Backend::new(backend::target(index, route, &reference.target), reference.weight);
    for filter in &reference.filters {
        match &filter.action {
            HttpFilterAction::RequestHeaders(modifier) => backend.request_headers = edits(modifier),
            HttpFilterAction::ResponseHeaders(modifier) => backend.response_headers = edits(modifier),
            HttpFilterAction::Rewrite(rewrite) => backend.url = UrlChange::rewrite(compile_rewrite(rewrite)),
            HttpFilterAction::Redirect(redirect) => backend.url = UrlChange::redirect(compile_redirect(redirect)),
            HttpFilterAction::Mirror(_) | HttpFilterAction::Cors(_) | HttpFilterAction::Extension(_) => {
                backend.target = Target::Invalid { reason: unsupported_backend_filter(filter).to_owned() };
            }
        }
    }
    // "500 status codes MUST be returned for requests that would have otherwise been routed to an invalid backend"
    if matches!(backend.target, Target::Invalid { .. }) {
        backend.url = None;
    }
    backend
}

/// A filter of a backendRef that cannot be obeyed must not be skipped either.
pub(crate) fn unsupported_backend_filter(filter: &HttpFilter) -> &'static str {
    match &filter.action {
        HttpFilterAction::RequestHeaders(_)
        | HttpFilterAction::ResponseHeaders(_)
        | HttpFilterAction::Redirect(_)
        | HttpFilterAction::Rewrite(_) => "",
        HttpFilterAction::Mirror(_) => "a backendRef cannot mirror yet; put RequestMirror in the rule's filters",
        HttpFilterAction::Cors(_) => "a backendRef cannot have CORS yet; put CORS in the rule's filters",
        HttpFilterAction::Extension(_) => "the filter of a backendRef is not known",
    }
}

fn compile_match(entry: &HttpMatch) -> (RouteMatch, PathRank) {
    let (path, rank) = match &entry.path {
        HttpPathMatch::Exact(path) => (PathMatch::Exact(path.clone()), PathRank::EXACT),
        HttpPathMatch::Regex(expression) => {
            (PathMatch::Regex(expression.clone()), PathRank::expression(expression.len()))
        }
        // every path begins with `/`; Envoy's words for elements cannot say it
        HttpPathMatch::Prefix(prefix) => match prefix.trim_end_matches('/') {
            "" => (PathMatch::Any, PathRank::prefix(prefix.len())),
            elements => (PathMatch::PathPrefix(elements.to_owned()), PathRank::prefix(prefix.len())),
        },
        HttpPathMatch::Method(method) => {
            let length = |name: &Option<String>| name.as_ref().map_or(0, String::len);
            (path_of(method), PathRank::method(length(&method.service), length(&method.method)))
        }
    };
    let headers = entry.headers.iter().map(|header| HeaderMatch {
        name: header.name.clone(),
        value: value(&header.value),
        invert: false,
    });
    let query = entry
        .query_params
        .iter()
        .map(|parameter| QueryMatch { name: parameter.name.clone(), value: value(&parameter.value) });
    let matches = RouteMatch {
        path,
        methods: entry.method.iter().cloned().collect(),
        headers: headers.collect(),
        query: query.collect(),
    };
    (matches, rank)
}

/// The path by which gRPC calls a method: `/service/method`.
fn path_of(method: &GrpcMethod) -> PathMatch {
    const ANY: &str = "[^/]+";
    match (&method.service, &method.method, method.is_regex) {
        (None, None, _) => PathMatch::Any,
        (Some(service), Some(method), false) => PathMatch::Exact(format!("/{service}/{method}")),
        (Some(service), None, false) => PathMatch::PathPrefix(format!("/{service}")),
        (None, Some(method), false) => PathMatch::Regex(format!("/{ANY}/{method}")),
        (service, method, true) => {
            let part = |name: &Option<String>| name.as_ref().map_or(ANY.to_owned(), |name| format!("(?:{name})"));
            PathMatch::Regex(format!("/{}/{}", part(service), part(method)))
        }
    }
}

fn value(value: &HttpValueMatch) -> StringMatch {
    match value {
        HttpValueMatch::Exact(text) => StringMatch::Exact(text.clone()),
        HttpValueMatch::Regex(expression) => StringMatch::Regex(expression.clone()),
    }
}

fn edits(modifier: &HeaderModifier) -> HeaderEdits {
    HeaderEdits { set: modifier.set.clone(), add: modifier.add.clone(), remove: modifier.remove.clone() }
}

fn path_rewrite(path: &PathModifier) -> PathRewrite {
    match path {
        PathModifier::Full(path) => PathRewrite::Full(path.clone()),
        PathModifier::Prefix(prefix) => PathRewrite::Prefix(prefix.clone()),
    }
}

fn compile_rewrite(rewrite: &HttpRewrite) -> Rewrite {
    Rewrite {
        host: rewrite.hostname.as_ref().map(|hostname| hostname.as_str().to_owned()),
        path: rewrite.path.as_ref().map(path_rewrite),
    }
}

fn compile_redirect(redirect: &HttpRedirect) -> Redirect {
    let scheme = redirect.scheme.map(|scheme| match scheme {
        Scheme::Http => "http".to_owned(),
        Scheme::Https => "https".to_owned(),
    });
    Redirect {
        scheme,
        host: redirect.hostname.as_ref().map(|hostname| hostname.as_str().to_owned()),
        port: redirect.port,
        path: redirect.path.as_ref().map(path_rewrite),
        status: redirect.status,
    }
}

fn compile_cors(cors: &HttpCors) -> Cors {
    Cors {
        allow_origins: cors.allow_origins.iter().map(OriginMatch::pattern).collect(),
        allow_methods: cors.allow_methods.clone(),
        allow_headers: cors.allow_headers.clone(),
        expose_headers: cors.expose_headers.clone(),
        allow_credentials: cors.allow_credentials,
        max_age: Some(cors.max_age),
    }
}
