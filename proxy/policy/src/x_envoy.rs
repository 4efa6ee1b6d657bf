//! What a caller may ask of the proxy for one request: the `x-envoy-*` request headers.
//!
//! They are for the first proxy that reads them. Sent on, they would ask every further one the same, and a request
//! retried three times at each of three hops is sent twenty-seven times; so they are taken off ([`strip`]). Most requests
//! have none, which one look at each header's name tells.

use http::{HeaderMap, HeaderName, HeaderValue};
use std::str::FromStr;

pub const MAX_RETRIES: HeaderName = HeaderName::from_static("x-envoy-max-retries");
pub const RETRY_ON: HeaderName = HeaderName::from_static("x-envoy-retry-on");
pub const RETRY_GRPC_ON: HeaderName = HeaderName::from_static("x-envoy-retry-grpc-on");
pub const RETRIABLE_HEADER_NAMES: HeaderName = HeaderName::from_static("x-envoy-retriable-header-names");
pub const RETRIABLE_STATUS_CODES: HeaderName = HeaderName::from_static("x-envoy-retriable-status-codes");
pub const UPSTREAM_RQ_TIMEOUT_MS: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-timeout-ms");
pub const UPSTREAM_RQ_PER_TRY_TIMEOUT_MS: HeaderName =
    HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms");
pub const HEDGE_ON_PER_TRY_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-hedge-on-per-try-timeout");
pub const UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE: HeaderName =
    HeaderName::from_static("x-envoy-upstream-rq-timeout-alt-response");

/// Not consumed: each proxy writes its own for the next one.
pub const EXPECTED_RQ_TIMEOUT_MS: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
/// On a response: refused by a limit, and to be tried again only if the policy says so.
pub const RATELIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");
/// On a response: refused by a proxy that is over its limits, never to be tried again.
pub const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");
/// On a response: the endpoint is not well, and to be taken out before its health checks find it.
pub const IMMEDIATE_HEALTH_CHECK_FAIL: HeaderName = HeaderName::from_static("x-envoy-immediate-health-check-fail");

/// What [`strip`] takes off a request.
pub const CONSUMED: [HeaderName; 9] = [
    MAX_RETRIES,
    RETRY_ON,
    RETRY_GRPC_ON,
    RETRIABLE_HEADER_NAMES,
    RETRIABLE_STATUS_CODES,
    UPSTREAM_RQ_TIMEOUT_MS,
    UPSTREAM_RQ_PER_TRY_TIMEOUT_MS,
    HEDGE_ON_PER_TRY_TIMEOUT,
    UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE,
];

const PREFIX: &str = "x-envoy-";

/// Takes the [`CONSUMED`] headers off. Nothing but the names is looked at where there is none.
pub fn strip(headers: &mut HeaderMap) {
    if is_asked(headers) {
        for name in &CONSUMED {
            headers.remove(name);
        }
    }
}

/// Whether any header is one of Envoy's, so that those that consult single ones may skip it.
pub(crate) fn is_asked(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with(PREFIX))
}

/// The items of a list, over all lines of the header. A line that is not ASCII has none.
pub(crate) fn items<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|item| !item.is_empty())
}

/// A decimal number in the first line of the header; `None` when it is absent, no number or too large.
pub(crate) fn number<N: FromStr>(headers: &HeaderMap, name: &HeaderName) -> Option<N> {
    parse(headers.get(name)?)
}

fn parse<N: FromStr>(value: &HeaderValue) -> Option<N> {
    value.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_overrides_are_consumed() {
        let mut headers = HeaderMap::new();
        for name in CONSUMED {
            headers.append(&name, HeaderValue::from_static("1"));
            headers.append(&name, HeaderValue::from_static("2"));
        }
        headers.insert(EXPECTED_RQ_TIMEOUT_MS, HeaderValue::from_static("7"));
        headers.insert("x-user", HeaderValue::from_static("me"));
        strip(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["x-envoy-expected-rq-timeout-ms", "x-user"]);
    }

    #[test]
    fn a_request_without_any_keeps_its_headers() {
        let mut headers = HeaderMap::new();
        headers.insert("x-envo", HeaderValue::from_static("1"));
        headers.insert("x-user", HeaderValue::from_static("me"));
        assert!(!is_asked(&headers));
        strip(&mut headers);
        assert_eq!(headers.len(), 2);
    }
}
