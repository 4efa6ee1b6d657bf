//! What a request must look like, in the model's words.
//!
//! What is known before any request comes is settled here: the gateway, the port, who calls, and the scheme, which is
//! the listener's. Only the caller's labels are left to whoever knows the caller.

use super::{Listening, gateway_named};
use crate::kinds::{UriRewrite, VirtualMatch};
use weft_model::route::{HeaderMatch, PathMatch, PathRewrite, QueryMatch, RouteMatch, StringMatch};

/// Whether requests at this place may fit at all.
pub(super) fn applies(entry: &VirtualMatch, namespace: &str, listening: &Listening<'_>) -> bool {
    let is_here = |written: &String| gateway_named(written, namespace) == listening.gateway;
    let scheme = if listening.is_tls { "https" } else { "http" };
    (entry.gateways.is_empty() || entry.gateways.iter().any(is_here))
        && entry.port.is_none_or(|port| port == listening.port)
        && entry.source_namespace.as_ref().is_none_or(|namespace| namespace == listening.caller)
        // only sidecars call for a workload that has labels
        && (entry.source_labels.is_empty() || listening.gateway.is_none())
        && entry.scheme.as_ref().is_none_or(|value| fits(value, scheme))
}

fn fits(value: &StringMatch, text: &str) -> bool {
    match value {
        StringMatch::Exact(exact) => text == exact,
        StringMatch::Prefix(prefix) => text.starts_with(prefix),
        StringMatch::Suffix(suffix) => text.ends_with(suffix),
        StringMatch::Contains(part) => text.contains(part),
        StringMatch::Regex(expression) => {
            regex::Regex::new(&format!("^(?:{expression})$")).is_ok_and(|expression| expression.is_match(text))
        }
        StringMatch::Present => true,
    }
}

/// What is left to be looked at in each request.
pub(super) fn compile(entry: &VirtualMatch) -> RouteMatch {
    let named =
        |name: &str, value: &StringMatch, invert| HeaderMatch { name: name.to_owned(), value: value.clone(), invert };
    let mut headers = Vec::new();
    let mut methods = Vec::new();
    match &entry.method {
        Some(StringMatch::Exact(method)) => methods.push(method.clone()),
        Some(other) => headers.push(named(":method", other, false)),
        None => {}
    }
    headers.extend(entry.authority.iter().map(|value| named(":authority", value, false)));
    headers.extend(entry.headers.iter().map(|(name, value)| named(name, value, false)));
    headers.extend(entry.without_headers.iter().map(|(name, value)| named(name, value, true)));
    let query = entry.query_params.iter().map(|(name, value)| QueryMatch { name: name.clone(), value: value.clone() });
    RouteMatch { path: path(entry), methods, headers, query: query.collect() }
}

fn path(entry: &VirtualMatch) -> PathMatch {
    match &entry.uri {
        None | Some(StringMatch::Present) => PathMatch::Any,
        Some(StringMatch::Exact(path)) if entry.ignore_uri_case => PathMatch::Regex(without_case(path)),
        Some(StringMatch::Exact(path)) => PathMatch::Exact(path.clone()),
        Some(StringMatch::Prefix(prefix)) if prefix == "/" => PathMatch::Any,
        Some(StringMatch::Prefix(prefix)) if entry.ignore_uri_case => {
            PathMatch::Regex(format!("{}.*", without_case(prefix)))
        }
        Some(StringMatch::Prefix(prefix)) => PathMatch::Prefix(prefix.clone()),
        Some(StringMatch::Regex(expression)) => PathMatch::Regex(expression.clone()),
        Some(StringMatch::Suffix(suffix)) => PathMatch::Regex(format!(".*{}", regex::escape(suffix))),
        Some(StringMatch::Contains(part)) => PathMatch::Regex(format!(".*{}.*", regex::escape(part))),
    }
}

fn without_case(text: &str) -> String {
    format!("(?i){}", regex::escape(text))
}

/// The rewrite of a path that was matched by `entry`.
pub(super) fn path_rewrite(rewrite: &UriRewrite, entry: Option<&VirtualMatch>) -> PathRewrite {
    let new = match rewrite {
        UriRewrite::Matched(new) => new,
        UriRewrite::Regex { pattern, substitution } => {
            return PathRewrite::Regex { pattern: pattern.clone(), substitution: substitution.clone() };
        }
    };
    match entry.and_then(|entry| Some((entry.uri.as_ref()?, entry.ignore_uri_case))) {
        Some((StringMatch::Prefix(prefix), true)) if prefix != "/" => PathRewrite::Regex {
            pattern: format!("^{}", without_case(prefix)),
            substitution: new.replace('\\', "\\\\"),
        },
        None | Some((StringMatch::Prefix(_), _)) => PathRewrite::Prefix(new.clone()),
        Some(_) => PathRewrite::Full(new.clone()),
    }
}
