//! `networking.istio.io` VirtualService: which request for a host goes where, first match first. `http` whole; `tls` and
//! `tcp` are typed, and the reader warns that they are not acted on yet.

mod read;
#[cfg(test)]
mod tests;

use super::{HeaderModifier, Labels, Scheme};
use crate::{At, Place};
use std::time::Duration;
use weft_model::fault::{Abort, Delay};
use weft_model::retry::RetryOn;
use weft_model::route::{OriginMatch, Share, StringMatch};

pub(crate) use read::read_virtual_service;

/// Stands in `gateways` for all sidecars.
pub const MESH: &str = "mesh";

#[derive(Clone, Debug, PartialEq)]
pub struct VirtualService {
    /// As written: a short name is a Service in the object's own namespace; may be `*` or begin with `*.`. Empty: others
    /// delegate to it, and it does nothing by itself.
    pub hosts: Vec<At<String>>,
    /// `mesh`, or gateways by `name` or `namespace/name`. Empty: `mesh`.
    pub gateways: Vec<At<String>>,
    /// The first that fits has the request.
    pub http: Vec<VirtualRoute>,
    pub tls: Vec<L4Route>,
    pub tcp: Vec<L4Route>,
    /// `.`, `*` or namespaces. Empty: every namespace.
    pub export_to: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct VirtualRoute {
    pub place: Place,
    pub name: Option<String>,
    /// Any of them. Empty: every request.
    pub matches: Vec<VirtualMatch>,
    pub action: VirtualAction,
    pub rewrite: Option<VirtualRewrite>,
    /// The whole request, retries included. `None` and zero: none.
    pub timeout: Option<Duration>,
    pub retries: Option<Retries>,
    pub fault: Option<VirtualFault>,
    pub mirrors: Vec<VirtualMirror>,
    pub cors: Option<VirtualCors>,
    pub headers: HeaderOperations,
}

#[derive(Clone, Debug, PartialEq)]
pub enum VirtualAction {
    /// In proportion to weight; at least one.
    Route(Vec<RouteDestination>),
    Redirect(VirtualRedirect),
    Respond(DirectResponse),
    /// What another VirtualService says, for what fits here too.
    Delegate(Delegate),
}

/// All parts must fit.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualMatch {
    pub place: Place,
    pub name: Option<String>,
    /// `Exact`, `Prefix` (by characters) or `Regex`.
    pub uri: Option<StringMatch>,
    pub ignore_uri_case: bool,
    pub scheme: Option<StringMatch>,
    pub method: Option<StringMatch>,
    pub authority: Option<StringMatch>,
    /// By lower-case name, sorted.
    pub headers: Vec<(String, StringMatch)>,
    /// None of these may fit.
    pub without_headers: Vec<(String, StringMatch)>,
    pub query_params: Vec<(String, StringMatch)>,
    pub port: Option<u16>,
    pub source_labels: Labels,
    pub source_namespace: Option<String>,
    /// As in [`VirtualService::gateways`], and some of those. Empty: all of those.
    pub gateways: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RouteDestination {
    pub destination: Destination,
    /// A lone destination has 1, whatever is written.
    pub weight: u32,
    pub headers: HeaderOperations,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub place: Place,
    /// As written: a short name is a Service in the object's own namespace.
    pub host: String,
    /// Of the host's DestinationRule.
    pub subset: Option<String>,
    /// May be left out where the Service has one port, or has the port that was asked for.
    pub port: Option<u16>,
}

/// What is absent keeps the request's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualRedirect {
    pub scheme: Option<Scheme>,
    pub host: Option<String>,
    pub port: RedirectPort,
    /// Replaces the whole path.
    pub path: Option<String>,
    /// 301 (the default), 302, 303, 307 or 308.
    pub status: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectPort {
    /// That of the scheme. Istio's default.
    FromProtocol,
    FromRequest,
    Number(u16),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectResponse {
    /// 200 to 599.
    pub status: u16,
    pub body: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegate {
    pub place: Place,
    /// `None`: the object's own.
    pub namespace: Option<String>,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualRewrite {
    pub authority: Option<String>,
    pub path: Option<UriRewrite>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UriRewrite {
    /// Replaces the prefix that was matched; otherwise the whole path.
    Matched(String),
    /// Every fit of the expression, which compiles, is replaced; `\1` names a group.
    Regex { pattern: String, substitution: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Tries after the first. 0, also when it is left out: none.
    pub attempts: u32,
    pub per_try_timeout: Option<Duration>,
    /// Before the first retry. Default 25 ms.
    pub backoff: Option<Duration>,
    /// `None`: Istio's default.
    pub on: Option<RetryOn>,
    /// The integers of `retryOn`.
    pub status_codes: Vec<u16>,
    pub remote_localities: bool,
    /// Default true, unless the destination is chosen by a hash.
    pub ignore_previous_hosts: Option<bool>,
}

/// A share that is left out is none: Istio's rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualFault {
    pub delay: Option<Delay>,
    pub abort: Option<Abort>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualMirror {
    pub destination: Destination,
    /// Default all.
    pub share: Share,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualCors {
    pub allow_origins: Vec<OriginMatch>,
    pub allow_methods: Vec<String>,
    pub allow_headers: Vec<String>,
    pub expose_headers: Vec<String>,
    pub allow_credentials: bool,
    pub max_age: Option<Duration>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderOperations {
    pub request: HeaderModifier,
    pub response: HeaderModifier,
}

/// A rule of `tls` or `tcp`.
#[derive(Clone, Debug, PartialEq)]
pub struct L4Route {
    pub place: Place,
    pub matches: Vec<L4Match>,
    pub destinations: Vec<RouteDestination>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L4Match {
    /// Only of `tls`.
    pub sni_hosts: Vec<String>,
    /// CIDR blocks.
    pub destination_subnets: Vec<String>,
    pub port: Option<u16>,
    pub source_labels: Labels,
    pub source_namespace: Option<String>,
    pub gateways: Vec<String>,
}
