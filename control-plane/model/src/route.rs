//! A route table: by host, then by the first route that matches in list order.
//!
//! Precedence (the Gateway API's, or Istio's list order) is settled by whoever makes the table, so
//! a data plane only walks the list, as Envoy does.

use crate::Origin;
use crate::balancer::{HashPolicy, Persistence};
use crate::breaker::Priority;
use crate::fault::Fault;
use crate::rate_limit::RateLimit;
use crate::retry::RetryPolicy;
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteTable {
    pub name: String,
    pub virtual_hosts: Vec<VirtualHost>,
}

/// Routes of a set of hosts. A request's host (lower case, its port ignored) is looked up exact
/// first, then by the longest wildcard, then `*`. A domain is in one virtual host only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VirtualHost {
    pub name: String,
    /// `shop.example`, `*.example` (any number of labels in front), `*`; lower case. A domain may
    /// carry a port, `order:8080`; then it fits only that port and comes before the one without.
    pub domains: Vec<String>,
    pub routes: Vec<Route>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// For metrics, logs and people: `default/orders/0` or the rule's own name.
    pub name: String,
    pub matches: RouteMatch,
    pub action: Action,
    /// On what is sent to the backend (before each backend's own edits).
    pub request_headers: HeaderEdits,
    /// On what is sent to the caller (after each backend's own edits), local answers included.
    pub response_headers: HeaderEdits,
    pub cors: Option<Cors>,
    pub fault: Option<Fault>,
    /// All of them must let a request through.
    pub rate_limits: Vec<RateLimit>,
    pub origin: Origin,
}

impl Route {
    /// Everything, with this done to it, under this name.
    pub fn all(name: impl Into<String>, action: Action) -> Self {
        Route {
            name: name.into(),
            matches: RouteMatch { path: PathMatch::Any, methods: Vec::new(), headers: Vec::new(), query: Vec::new() },
            action,
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            cors: None,
            fault: None,
            rate_limits: Vec::new(),
            origin: Origin::default(),
        }
    }
}

/// All parts must fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteMatch {
    pub path: PathMatch,
    /// Any of them, upper case; empty: every method.
    pub methods: Vec<String>,
    pub headers: Vec<HeaderMatch>,
    pub query: Vec<QueryMatch>,
}

/// The path is matched as it came, without the query.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PathMatch {
    /// Every path.
    Any,
    Exact(String),
    /// By path elements: `/orders` fits `/orders`, `/orders/` and `/orders/1`, not `/ordersx`.
    /// Written without a trailing slash (Envoy's `path_separated_prefix`).
    PathPrefix(String),
    /// By characters (Envoy's and Istio's `prefix`).
    Prefix(String),
    /// The whole path must fit the (RE2) expression.
    Regex(String),
}

/// How a header's or parameter's value is compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StringMatch {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(String),
    /// The whole value must fit.
    Regex(String),
    /// Any value, so long as it is there.
    Present,
}

/// Several lines of one header are joined by `,` before they are compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HeaderMatch {
    /// Lower case.
    pub name: String,
    pub value: StringMatch,
    /// Fits when `value` does not (an absent header does not fit `value`).
    pub invert: bool,
}

/// The first parameter of that name is compared, percent-decoded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct QueryMatch {
    pub name: String,
    pub value: StringMatch,
}

#[expect(clippy::large_enum_variant, reason = "most routes forward: a box would cost nearly all of them")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    Forward(Forward),
    Redirect(Redirect),
    Respond(Respond),
}

/// To a backend.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Forward {
    /// Chosen in proportion to weight. A backend of weight 0 is never chosen.
    pub backends: Vec<Backend>,
    pub rewrite: Rewrite,
    /// From the whole request to the whole response (Gateway API `timeouts.request`); past it 504 `UT`. `None`: none.
    pub request_timeout: Option<Duration>,
    /// One try, to the whole response (Gateway API `timeouts.backendRequest`); past it 504 `UT`. `None`: none.
    pub backend_timeout: Option<Duration>,
    /// A stream without a byte either way for so long is reset. `None`: the listener's own; zero: never.
    pub idle_timeout: Option<Duration>,
    /// The longest that a caller's `grpc-timeout` may ask for; zero: as long as it likes; `None`: it is not looked at.
    pub grpc_timeout_max: Option<Duration>,
    /// `None`: only what was provably not sent is offered to another endpoint.
    pub retry: Option<RetryPolicy>,
    /// Whose limits of the cluster count.
    pub priority: Priority,
    pub hash: Vec<HashPolicy>,
    pub persistence: Option<Persistence>,
    pub mirrors: Vec<Mirror>,
}

impl Forward {
    /// Whom requests and copies are sent to. A backend that redirects is sent nothing.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        let sent = self.backends.iter().filter(|backend| !backend.redirects());
        sent.map(|backend| &backend.target).chain(self.mirrors.iter().map(|mirror| &mirror.target))
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    pub target: Target,
    pub weight: u32,
    pub request_headers: HeaderEdits,
    pub response_headers: HeaderEdits,
    /// `None`, as for nearly all: as the route says.
    pub url: Option<Box<UrlChange>>,
}

impl Backend {
    /// Without anything of its own.
    pub fn new(target: Target, weight: u32) -> Self {
        Backend {
            target,
            weight,
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            url: None,
        }
    }

    /// Whether the caller is sent elsewhere, and nothing to the target.
    pub fn redirects(&self) -> bool {
        matches!(self.url.as_deref(), Some(UrlChange::Redirect(_)))
    }
}

/// What a backend does to the URL of the requests that it is chosen for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UrlChange {
    /// What it names comes before the route's own rewrite, part by part. Mirrors do not see it.
    Rewrite(Rewrite),
    /// The caller is sent elsewhere; the target is not asked.
    Redirect(Redirect),
}

impl UrlChange {
    /// `None` for a rewrite of nothing.
    pub fn rewrite(rewrite: Rewrite) -> Option<Box<UrlChange>> {
        (rewrite != Rewrite::default()).then(|| Box::new(UrlChange::Rewrite(rewrite)))
    }

    pub fn redirect(redirect: Redirect) -> Option<Box<UrlChange>> {
        Some(Box::new(UrlChange::Redirect(redirect)))
    }
}

/// What a backend reference came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Target {
    /// A [`crate::Cluster`] by name.
    Cluster(String),
    /// A reference that is wrong (missing, not permitted, of an unknown kind): its share of requests gets 500.
    /// On the wire: a cluster of this name that nobody serves, with `cluster_not_found_response_code` 500.
    Invalid { reason: String },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrite {
    pub host: Option<String>,
    pub path: Option<PathRewrite>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PathRewrite {
    /// The whole path; the query stays.
    Full(String),
    /// The prefix that matched (only with [`PathMatch::PathPrefix`]); the query stays.
    Prefix(String),
    /// Every fit of the expression in the path is replaced; `\1` names a group.
    Regex { pattern: String, substitution: String },
}

/// A copy whose answer is ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mirror {
    pub target: Target,
    pub share: Share,
}

/// A share of requests, in parts of a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Share(u32);

impl Share {
    pub const ALL: Share = Share(1_000_000);
    pub const NONE: Share = Share(0);

    /// `None` when the numerator is over the denominator or the denominator is 0.
    pub fn ratio(numerator: u32, denominator: u32) -> Option<Share> {
        let millionths = (u64::from(numerator) * 1_000_000).checked_div(u64::from(denominator))?;
        (millionths <= 1_000_000).then_some(Share(millionths as u32))
    }

    pub fn millionths(self) -> u32 {
        self.0
    }
}

/// Absent parts keep the request's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    /// Lower case, `http` or `https`.
    pub scheme: Option<String>,
    pub host: Option<String>,
    /// Absent: the well-known port of `scheme` when that is given, else the listener's.
    pub port: Option<u16>,
    pub path: Option<PathRewrite>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Respond {
    pub status: u16,
    pub body: String,
}

/// In the order remove, set, add. Names are lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderEdits {
    pub set: Vec<(String, String)>,
    pub add: Vec<(String, String)>,
    pub remove: Vec<String>,
}

impl HeaderEdits {
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

/// How the origin that a page came from is compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OriginMatch {
    /// `https://shop.example`, `https://*.shop.example`, `*`.
    Pattern(String),
    /// By characters: `https://shop.` fits `https://shop.example` and `https://shop.evil.example`.
    Prefix(String),
    /// The whole origin must fit the (RE2) expression.
    Regex(String),
}

impl OriginMatch {
    pub fn pattern(pattern: impl Into<String>) -> OriginMatch {
        OriginMatch::Pattern(pattern.into())
    }
}

/// What browsers of other origins may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cors {
    pub allow_origins: Vec<OriginMatch>,
    /// `*` alone means all: with credentials the requested method is echoed, as browsers demand.
    pub allow_methods: Vec<String>,
    /// `*` alone means all: with credentials the requested headers are echoed.
    pub allow_headers: Vec<String>,
    pub expose_headers: Vec<String>,
    pub allow_credentials: bool,
    pub max_age: Option<Duration>,
}
