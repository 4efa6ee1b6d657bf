//! Retries as Istio has them: on by default, and a written policy changes only what it says
//! (`pilot/pkg/networking/core/route/retry/retry.go`).

use crate::kinds::Retries;
use std::collections::HashSet;
use std::time::Duration;
use weft_model::cluster::Discovery;
use weft_model::retry::{Backoff, RetryOn, RetryPolicy};
use weft_model::route::{Action, Backend, Target};
use weft_model::{Cluster, RouteTable};

/// What every route without a policy of its own gets. Its reasons are such that the request was not begun on, or that gRPC says so
/// (`retriable-status-codes` is without codes), so it holds for every method.
pub(crate) fn default_policy(is_consistent: bool) -> RetryPolicy {
    RetryPolicy {
        on: RetryOn::CONNECT_FAILURE
            | RetryOn::REFUSED_STREAM
            | RetryOn::UNAVAILABLE
            | RetryOn::CANCELLED
            | RetryOn::RETRIABLE_STATUS_CODES,
        num_retries: 2,
        // another host is none of the hash's
        avoid_previous_hosts: !is_consistent,
        host_selection_attempts: 5,
        ..RetryPolicy::default()
    }
}

/// What `retries` says. No attempts: a policy of no retry, so that the default does not come in its place.
pub(crate) fn policy(retries: &Retries, is_consistent: bool) -> RetryPolicy {
    if retries.attempts == 0 {
        return RetryPolicy { on: RetryOn::NONE, num_retries: 0, ..RetryPolicy::default() };
    }
    let default = default_policy(is_consistent);
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
/// no other host. `clusters` are those of the same data plane.
pub(crate) fn fill_in(tables: &mut [RouteTable], clusters: &[Cluster]) {
    let named = |wanted: fn(&Cluster) -> bool| -> HashSet<&str> {
        clusters.iter().filter(|cluster| wanted(cluster)).map(|cluster| cluster.name.as_str()).collect()
    };
    let consistent = named(|cluster| cluster.balancer.is_consistent());
    let passing_through = named(|cluster| cluster.discovery == Discovery::Forward);
    let hosts = tables.iter_mut().flat_map(|table| &mut table.virtual_hosts);
    for route in hosts.flat_map(|host| &mut host.routes) {
        let Action::Forward(forward) = &mut route.action else { continue };
        let lone = match forward.backends.as_slice() {
            [Backend { target: Target::Cluster(name), .. }] => name.as_str(),
            _ => "",
        };
        if forward.retry.is_none() && !passing_through.contains(lone) {
            forward.retry = Some(default_policy(consistent.contains(lone)));
        }
    }
}
