//! `gateway.networking.k8s.io/v1` GRPCRoute: which call of which method goes where.
//!
//! A call is an HTTP/2 request of `/service/method`, so a GRPCRoute is read as the [`HttpRoute`] that means the same. What
//! gRPC has no use for (paths, parameters, redirects, rewrites, CORS, timeouts) it has no fields for.

use super::{
    BACKENDS, HttpBackendRef, HttpFilter, HttpFilterAction, HttpMatch, HttpPathMatch, HttpRoute, HttpRule, MATCHES,
    backend_ref, check_filters, check_names, filter, header_matches, parents, session_persistence,
};
use crate::read::{Cursor, Fields, expression, hostname, one_of, subdomain, text_ref};
use crate::tree::shorten;

/// Which methods; `None` is any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcMethod {
    /// With its package: `shop.v1.Orders`.
    pub service: Option<String>,
    pub method: Option<String>,
    /// Both are expressions, and compile.
    pub is_regex: bool,
}

impl GrpcMethod {
    const ANY: GrpcMethod = GrpcMethod { service: None, method: None, is_regex: false };
}

pub(crate) fn read_grpc_route(f: &mut Fields<'_>) -> Option<HttpRoute> {
    f.must("spec", |at| at.fields(spec))
}

fn spec(f: &mut Fields<'_>) -> HttpRoute {
    f.later("useDefaultGateways", |_| Some(()));
    let route = HttpRoute {
        parent_refs: parents(f),
        hostnames: f.list("hostnames", 0..=16, |at| hostname(at).map(|name| at.at(name))),
        rules: match f.get("rules") {
            Some(at) => at.items(1..=16, rule),
            None => vec![HttpRule { matches: vec![every_call(f)], ..HttpRule::empty(f.place()) }],
        },
    };
    check_names(f, route.rules.iter().map(|rule| (&rule.name, &rule.place)));
    route
}

fn rule(at: &Cursor<'_>) -> Option<HttpRule> {
    at.fields(|f| {
        let mut rule = HttpRule {
            name: f.opt("name", subdomain),
            matches: f.list("matches", MATCHES, one_match),
            filters: f.list("filters", 0..=16, grpc_filter),
            backend_refs: f.list("backendRefs", BACKENDS, grpc_backend),
            session_persistence: f.opt("sessionPersistence", session_persistence),
            ..HttpRule::empty(f.place())
        };
        if rule.matches.is_empty() {
            rule.matches.push(every_call(f));
        }
        check_filters(f, &rule.filters);
        rule
    })
}

fn every_call(f: &Fields<'_>) -> HttpMatch {
    HttpMatch { path: HttpPathMatch::Method(GrpcMethod::ANY), ..HttpMatch::everything(f.place()) }
}

fn one_match(at: &Cursor<'_>) -> Option<HttpMatch> {
    at.fields(|f| HttpMatch {
        path: HttpPathMatch::Method(f.opt("method", method).unwrap_or(GrpcMethod::ANY)),
        headers: header_matches(f),
        ..HttpMatch::everything(f.place())
    })
}

fn method(at: &Cursor<'_>) -> Option<GrpcMethod> {
    at.fields(|f| {
        let is_regex = f.opt("type", one_of(&[("Exact", false), ("RegularExpression", true)])).unwrap_or_default();
        let name = |at: &Cursor<'_>| if is_regex { expression(1024)(at) } else { identifier(at) };
        let method = GrpcMethod { service: f.opt("service", name), method: f.opt("method", name), is_regex };
        if !f.has("service") && !f.has("method") {
            f.cursor.error::<()>("names neither service nor method", "write one of them, or leave `method` out");
        }
        method
    })
}

/// `shop.v1.Orders`, `Place`.
fn identifier(at: &Cursor<'_>) -> Option<String> {
    let written = text_ref(at)?;
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    match written.len() <= 1024 && written.split('.').all(is_word) {
        true => Some(written.to_owned()),
        false => at.error(
            format!("\"{}\" is not a name of gRPC", shorten(written)),
            "write it as in the .proto file, a service with its package: shop.v1.Orders",
        ),
    }
}

fn grpc_backend(at: &Cursor<'_>) -> Option<HttpBackendRef> {
    let backend = backend_ref(at)?;
    backend.filters.iter().for_each(|filter| check_kind(at, filter));
    Some(backend)
}

fn grpc_filter(at: &Cursor<'_>) -> Option<HttpFilter> {
    filter(at).inspect(|filter| check_kind(at, filter))
}

fn check_kind(at: &Cursor<'_>, filter: &HttpFilter) {
    if let HttpFilterAction::Redirect(_) | HttpFilterAction::Rewrite(_) | HttpFilterAction::Cors(_) = filter.action {
        let hint = "write RequestHeaderModifier, ResponseHeaderModifier or RequestMirror, or an HTTPRoute";
        at.error::<()>("a GRPCRoute has no filter of this type", hint);
    }
}
