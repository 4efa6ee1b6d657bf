//! RateLimitPolicies on the routes that they are attached to. Several of one target all count, in order of their names.
//!
//! A policy becomes buckets, as Envoy's are: `burst` tokens at most, and every fill brings so many that the steady rate is the one
//! written. Fills are as small and frequent as they can be, but no more frequent than every 50 ms, the least that Envoy takes, unless
//! the burst is smaller than what 50 ms bring. The interval is exact where a fill of at most twice that size makes
//! it whole nanoseconds; else it is rounded up to one: such a rate is under the written one by at most a part in 5 * 10^7.

use super::index::Index;
use crate::kinds::{GatewayListener, Limit, PolicyTarget, RateLimitPolicy};
use crate::{Key, Object};
use std::time::Duration;
use weft_model::rate_limit::{Bucket, RateLimit, TokenBucket};

const LEAST_INTERVAL: Duration = Duration::from_millis(50);

const GATEWAY: &str = "gateway.networking.k8s.io";

/// Of a Gateway's listener. One of a ListenerSet has those of the whole Gateway.
pub(crate) fn of_listener(index: &Index, gateway: &Key, listener: &GatewayListener) -> Vec<RateLimit> {
    let section = listener.set.is_none().then_some(listener.name.as_str());
    of_target(index, gateway, |target| target.is(GATEWAY, "Gateway") && section_is(target, section))
}

/// Of an HTTPRoute's or GRPCRoute's rule.
pub(crate) fn of_rule(index: &Index, route: &Key, rule: Option<&str>) -> Vec<RateLimit> {
    of_target(index, route, |target| target.is(GATEWAY, route.kind.as_str()) && section_is(target, rule))
}

/// Of what comes to a Service's pods.
pub(crate) fn of_service(index: &Index, service: &Key) -> Vec<RateLimit> {
    of_target(index, service, |target| target.is("", "Service") && target.section_name.is_none())
}

fn section_is(target: &PolicyTarget, name: Option<&str>) -> bool {
    target.section_name.is_none() || target.section_name.as_deref() == name
}

fn of_target(index: &Index, key: &Key, fits: impl Fn(&PolicyTarget) -> bool) -> Vec<RateLimit> {
    let policies = index.rate_limit_policies().filter(|(object, policy)| {
        let mut targets = policy.target_refs.iter();
        object.key.namespace == key.namespace && targets.any(|target| target.name == key.name && fits(target))
    });
    policies.map(|(object, policy)| rate_limit(object, policy)).collect()
}

fn rate_limit(object: &Object, policy: &RateLimitPolicy) -> RateLimit {
    let bucket = |limit: &Limit| Bucket {
        name: limit.name.clone(),
        key: limit.key.clone(),
        limit: token_bucket(limit.requests, limit.per, limit.burst),
        max_keys: limit.max_keys,
    };
    RateLimit {
        name: format!("{}/{}", object.key.namespace, object.key.name),
        mode: policy.mode,
        buckets: policy.limits.iter().map(bucket).collect(),
        answer: policy.answer.clone(),
    }
}

/// `requests` tokens per `per` (at least 1 ms), spread evenly; see the module.
fn token_bucket(requests: u32, per: Duration, burst: u32) -> TokenBucket {
    let (rate, per) = (u128::from(requests), per.as_nanos());
    // the fewest tokens that take the least interval to come
    let fewest = (LEAST_INTERVAL.as_nanos() * rate).div_ceil(per);
    let fewest = fewest.clamp(1, u128::from(burst));
    // a fill that takes whole nanoseconds is a multiple of this
    let step = rate / gcd(rate, per);
    let exact = fewest.next_multiple_of(step);
    let tokens = if exact <= (2 * fewest).min(u128::from(burst)) { exact } else { fewest };
    let interval = (per * tokens).div_ceil(rate);
    TokenBucket {
        max_tokens: burst,
        tokens_per_fill: u32::try_from(tokens).unwrap_or(burst),
        fill_interval: Duration::from_nanos(u64::try_from(interval).unwrap_or(u64::MAX)),
    }
}

fn gcd(one: u128, other: u128) -> u128 {
    if other == 0 { one } else { gcd(other, one % other) }
}

#[cfg(test)]
mod tests;
