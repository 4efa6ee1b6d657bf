//! The Gateway API's `retry` and `sessionPersistence` as the model's.

use crate::kinds::{HttpRetry, SessionKind, SessionPersistence};
use std::time::Duration;
use weft_model::balancer::{Persistence, SessionCarrier, SessionLifetimes};
use weft_model::retry::{Backoff, RetryOn, RetryPolicy};

/// Istio's number of retries, where the Gateway API leaves it open.
const ATTEMPTS: u32 = 2;

/// Istio's number of picks for a host that the request has not met.
const HOST_SELECTION_ATTEMPTS: u32 = 5;

/// A `retry` that is there at all also repeats what failed on its connection ("disconnect, reset, timeout, TCP failure", GEP-1731).
/// Its `backoff` is a minimum; waits grow on top of it as Envoy's do, from as much again.
pub(crate) fn retry(written: &HttpRetry) -> RetryPolicy {
    let mut on = RetryOn::CONNECT_FAILURE | RetryOn::REFUSED_STREAM | RetryOn::RESET;
    if !written.codes.is_empty() {
        on |= RetryOn::RETRIABLE_STATUS_CODES;
    }
    let least = written.backoff.filter(|backoff| !backoff.is_zero());
    let defaults = RetryPolicy::default();
    RetryPolicy {
        on,
        status_codes: written.codes.clone(),
        num_retries: written.attempts.unwrap_or(ATTEMPTS),
        min_wait: least.unwrap_or(defaults.min_wait),
        backoff: least.map_or(defaults.backoff, |least| Backoff { base: least, max: least * 10 }),
        avoid_previous_hosts: true,
        host_selection_attempts: HOST_SELECTION_ATTEMPTS,
        ..defaults
    }
}

/// `owner` tells sessions of different routes and policies apart where no name is written.
pub(crate) fn persistence(written: &SessionPersistence, owner: &str) -> Persistence {
    let name = written.session_name.clone().unwrap_or_else(|| format!("weft-session-{owner}"));
    let carrier = match written.kind {
        SessionKind::Header => SessionCarrier::Header { name },
        SessionKind::Cookie { permanent } => {
            let ttl = written.absolute_timeout.filter(|_| permanent);
            SessionCarrier::Cookie { name, path: "/".to_owned(), ttl }
        }
    };
    let limit = |timeout: Option<Duration>| timeout.filter(|timeout| !timeout.is_zero());
    let lifetimes = SessionLifetimes { absolute: limit(written.absolute_timeout), idle: limit(written.idle_timeout) };
    Persistence { carrier, lifetimes }
}
