//! `gateway.networking.k8s.io/v1` HTTPRoute: which request goes where, and what happens to it on its way.
//! The whole standard channel of v1.5, and of the experimental one what rules say of retries and sessions.

mod read;
#[cfg(test)]
mod tests;

use super::{GrpcMethod, Hostname, SessionPersistence};
use crate::{At, Place};
use std::time::Duration;
use weft_model::route::Share;

pub(crate) use read::{
    BACKENDS, MATCHES, backend_ref, backend_target, check_filters, check_names, filter, header_matches, parents,
    read_http_route,
};

#[derive(Clone, Debug, PartialEq)]
pub struct HttpRoute {
    pub parent_refs: Vec<ParentRef>,
    /// Empty: whatever the parent's listener takes.
    pub hostnames: Vec<At<Hostname>>,
    /// 1 to 16; written without any, there is one that matches everything.
    pub rules: Vec<HttpRule>,
}

/// What a route attaches to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentRef {
    pub place: Place,
    /// Default `gateway.networking.k8s.io`; empty is the core group (with kind `Service`: the mesh).
    pub group: String,
    /// Default `Gateway`.
    pub kind: String,
    /// `None`: the route's own.
    pub namespace: Option<String>,
    pub name: String,
    /// A listener's name (of a Service: a port's name). `None`: all.
    pub section_name: Option<String>,
    pub port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HttpRule {
    pub place: Place,
    pub name: Option<String>,
    /// Any of them; never empty (written without any: every path).
    pub matches: Vec<HttpMatch>,
    pub filters: Vec<HttpFilter>,
    /// In proportion to weight.
    pub backend_refs: Vec<HttpBackendRef>,
    pub timeouts: HttpTimeouts,
    pub retry: Option<HttpRetry>,
    pub session_persistence: Option<SessionPersistence>,
}

/// Besides answers of these statuses, failures of the connection are retried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRetry {
    /// 400 to 599.
    pub codes: Vec<u16>,
    /// After the first try; 0: none. `None`: 2, as in Istio.
    pub attempts: Option<u32>,
    /// The least wait before each. `None`: the data plane's own back-off.
    pub backoff: Option<Duration>,
}

/// `None`: the data plane's own default; `Some(ZERO)`: explicitly none at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpTimeouts {
    /// The whole request, retries included.
    pub request: Option<Duration>,
    /// One try; at most `request`.
    pub backend_request: Option<Duration>,
}

/// All parts must fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpMatch {
    pub place: Place,
    /// Written without one: prefix `/`.
    pub path: HttpPathMatch,
    /// Each name once, in the order written.
    pub headers: Vec<HttpHeaderMatch>,
    pub query_params: Vec<HttpQueryMatch>,
    /// Upper case.
    pub method: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpPathMatch {
    Exact(String),
    /// By path elements, as written (perhaps with a trailing slash, which means nothing).
    Prefix(String),
    /// Compiles.
    Regex(String),
    /// Of a GRPCRoute.
    Method(GrpcMethod),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpValueMatch {
    Exact(String),
    /// Compiles.
    Regex(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpHeaderMatch {
    /// Lower case.
    pub name: String,
    pub value: HttpValueMatch,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpQueryMatch {
    pub name: String,
    pub value: HttpValueMatch,
}

/// A reference to something that serves requests: a Service unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendTarget {
    pub place: Place,
    /// Empty: Kubernetes' core group.
    pub group: String,
    /// Default `Service`.
    pub kind: String,
    /// `None`: the route's own. Another one needs a ReferenceGrant there.
    pub namespace: Option<String>,
    pub name: String,
    /// Always there for a Service.
    pub port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HttpBackendRef {
    pub target: BackendTarget,
    /// 0 to 1,000,000; default 1. 0: no request.
    pub weight: u32,
    /// On what goes to (and comes from) this backend only. Where the rule has a `Rewrite` too, what this one names comes first.
    pub filters: Vec<HttpFilter>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HttpFilter {
    pub place: Place,
    pub action: HttpFilterAction,
}

/// Each but `Mirror` and `Extension` at most once in a list.
#[derive(Clone, Debug, PartialEq)]
pub enum HttpFilterAction {
    RequestHeaders(HeaderModifier),
    ResponseHeaders(HeaderModifier),
    /// In a rule never beside backends. In a backend: for the requests that would go there.
    Redirect(HttpRedirect),
    Rewrite(HttpRewrite),
    Mirror(HttpMirror),
    Cors(HttpCors),
    /// An implementation's own filter.
    Extension(ExtensionRef),
}

/// Names are lower case, each once in its list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderModifier {
    pub set: Vec<(String, String)>,
    pub add: Vec<(String, String)>,
    pub remove: Vec<String>,
}

/// What is absent keeps the request's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRedirect {
    pub scheme: Option<Scheme>,
    pub hostname: Option<Hostname>,
    pub port: Option<u16>,
    pub path: Option<PathModifier>,
    /// 301, 302 (the default), 303, 307 or 308.
    pub status: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRewrite {
    pub hostname: Option<Hostname>,
    pub path: Option<PathModifier>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathModifier {
    /// `ReplaceFullPath`.
    Full(String),
    /// `ReplacePrefixMatch`: only in a rule whose only match is a prefix.
    Prefix(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpMirror {
    pub target: BackendTarget,
    /// `percent` or `fraction`; default all.
    pub share: Share,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCors {
    /// `https://shop.example`, `https://*.shop.example`, or `*` alone.
    pub allow_origins: Vec<String>,
    /// Upper case, or `*` alone.
    pub allow_methods: Vec<String>,
    /// Lower case, or `*` alone.
    pub allow_headers: Vec<String>,
    /// Lower case, or `*` alone.
    pub expose_headers: Vec<String>,
    pub allow_credentials: bool,
    /// Default 5 s.
    pub max_age: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtensionRef {
    pub group: String,
    pub kind: String,
    pub name: String,
}
