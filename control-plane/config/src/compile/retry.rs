//! Retries as Istio has them: on by default, and a written policy changes only what it says
//! (`pilot/pkg/networking/core/route/retry/retry.go`).

use super::outbound::PASSTHROUGH;
use crate::kinds::Retries;
use std::time::Duration;
use weft_model::RouteTable;
use weft_model::retry::{Backoff, RetryOn, RetryPolicy};
use weft_model::route::{Action, Backend, Target};

/// What every route without a policy of its own gets. Its reasons are such that the request was not begun on, or that gRPC says so
/// (`retriable-status-codes` is without codes), so it holds for every method.
pub(crate) fn default_policy(is_hashed: bool) -> RetryPolicy {
    RetryPolicy {
        on: RetryOn::CONNECT_FAILURE
            | RetryOn::REFUSED_STREAM
            | RetryOn::UNAVAILABLE
            | RetryOn::CANCELLED
            | RetryOn::RETRIABLE_STATUS_CODES,
        num_retries: 2,
        // another host is none of the hash's
        avoid_previous_hosts: !is_hashed,
        host_selection_attempts: 5,
        ..RetryPolicy::default()
    }
}

/// What `retries` says. No attempts: a policy of no retry, so that the default does not come in its place.
pub(crate) fn policy(retries: &Retries, is_hashed: bool) -> RetryPolicy {
    if retries.attempts == 0 {
        return RetryPolicy { on: RetryOn::NONE, num_retries: 0, ..RetryPolicy::default() };
    }
    let default = default_policy(is_hashed);
    RetryPolicy {
        on: retries.on.unwrap_or(default.on),
        status_codes: retries.status_codes.clone(),
        num_retries: retries.attempts,
        per_try_timeout: retries.per_try_timeout,
        backoff: retries.backoff.map_or(default.backoff, backoff),
        avoid_previous_hosts: retries.ignore_previous_hosts.unwrap_or(default.avoid_previous_hosts),
        avoid_previous_priorities: retries.remote_localities.then_some(2),
        ..default
    }
}

/// Envoy's longest wait is ten times the first.
fn backoff(base: Duration) -> Backoff {
    Backoff { base, max: base.saturating_mul(10) }
}

/// Gives the default to every route that has no policy, but for what passes through to wherever the request says, which has
/// no other host. The routes have been told their hashes.
pub(crate) fn fill_in(table: &mut RouteTable) {
    for route in table.virtual_hosts.iter_mut().flat_map(|host| &mut host.routes) {
        let Action::Forward(forward) = &mut route.action else { continue };
        let passes_through =
            |backend: &Backend| matches!(&backend.target, Target::Cluster(name) if name == PASSTHROUGH);
        if forward.retry.is_none() && !forward.backends.iter().any(passes_through) {
            forward.retry = Some(default_policy(!forward.hash.is_empty()));
        }
    }
}
