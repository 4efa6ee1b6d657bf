//! The policies of a route in normal form.

use super::*;
use weft_model::balancer::{HashPolicy, HashSource, Persistence, SessionCarrier, SessionLifetimes};
use weft_model::breaker::Priority;
use weft_model::fault::{Abort, AbortWith, Delay, Fault};
use weft_model::rate_limit::{Bucket, KeyPart, LimitAnswer, Mode, RateLimit, TokenBucket};
use weft_model::retry::{Backoff, RateLimitedBackoff, ResetFormat, ResetHeader, RetryOn, RetryPolicy};

/// What of a forward is neither its backends, rewrites nor simple limits.
pub(super) fn forwarding() -> impl Strategy<Value = Forward> {
    let limit = || of(prop_oneof![Just(Duration::ZERO), time()]);
    let priority = prop_oneof![Just(Priority::Default), Just(Priority::High)];
    (limit(), limit(), of(retry().boxed()), priority, vec(hash(), 0..3), of(persistence())).prop_map(
        |(idle_timeout, grpc_timeout_max, retry, priority, hash, persistence)| Forward {
            idle_timeout,
            grpc_timeout_max,
            retry,
            priority,
            hash,
            persistence,
            ..Forward::default()
        },
    )
}

fn retry() -> impl Strategy<Value = RetryPolicy> {
    let reasons = vec(proptest::sample::select(RetryOn::all_names().collect::<Vec<_>>()), 0..4).prop_map(|names| {
        names.into_iter().filter_map(RetryOn::named).fold(RetryOn::NONE, |reasons, reason| reasons | reason)
    });
    let backoff = (time(), time()).prop_map(|(one, other)| {
        let shortest = Duration::from_millis(1);
        Backoff { base: one.min(other).max(shortest), max: one.max(other).max(shortest) }
    });
    let format = prop_oneof![Just(ResetFormat::Seconds), Just(ResetFormat::UnixTimestamp)];
    let reset = ("[a-z-]{1,6}", format).prop_map(|(name, format)| ResetHeader { name, format });
    let rate_limited = (vec(reset, 1..3), time())
        .prop_map(|(reset_headers, max_interval)| RateLimitedBackoff { reset_headers, max_interval });
    let what = (reasons, vec(100..=599_u16, 0..3), vec(header(), 0..3), any::<u32>());
    let min_wait = prop_oneof![Just(Duration::ZERO), time()];
    let when = (of(time()), of(time()), backoff, of(rate_limited), min_wait);
    (what, when, any::<[bool; 3]>(), 1..=u32::MAX, of(1..=i32::MAX as u32)).prop_map(
        |((on, status_codes, headers, num_retries), when, flags, attempts, priorities)| RetryPolicy {
            on,
            status_codes,
            headers,
            num_retries,
            per_try_timeout: when.0,
            per_try_idle_timeout: when.1,
            backoff: when.2,
            rate_limited_backoff: when.3,
            min_wait: when.4,
            avoid_previous_hosts: flags[0],
            host_selection_attempts: attempts,
            avoid_previous_priorities: priorities,
            hedge_on_per_try_timeout: flags[1],
            idempotent_only: flags[2],
        },
    )
}

fn hash() -> impl Strategy<Value = HashPolicy> {
    let ttl = of(prop_oneof![Just(Duration::ZERO), time()]);
    let source = prop_oneof![
        "[a-z-]{1,6}".prop_map(HashSource::Header),
        (name(), text(), ttl).prop_map(|(name, path, ttl)| HashSource::Cookie { name, path, ttl }),
        Just(HashSource::SourceIp),
        name().prop_map(HashSource::QueryParameter),
    ];
    (source, any::<bool>()).prop_map(|(source, terminal)| HashPolicy { source, terminal })
}

fn persistence() -> impl Strategy<Value = Persistence> {
    let carrier = prop_oneof![
        (name(), text(), of(time())).prop_map(|(name, path, ttl)| SessionCarrier::Cookie { name, path, ttl }),
        name().prop_map(|name| SessionCarrier::Header { name }),
    ];
    let lifetimes = (of(time()), of(time())).prop_map(|(absolute, idle)| SessionLifetimes { absolute, idle });
    (carrier, lifetimes).prop_map(|(carrier, lifetimes)| Persistence { carrier, lifetimes })
}

pub(super) fn fault() -> impl Strategy<Value = Fault> {
    let delay = (time(), share()).prop_map(|(duration, share)| Delay { duration, share });
    let with = prop_oneof![(200..600_u16).prop_map(AbortWith::Http), any::<u8>().prop_map(AbortWith::Grpc)];
    let abort = (with, share()).prop_map(|(with, share)| Abort { with, share });
    (of(delay), of(abort), of(any::<u32>())).prop_map(|(delay, abort, max_active)| Fault { delay, abort, max_active })
}

pub(super) fn rate_limit() -> impl Strategy<Value = RateLimit> {
    let key = prop_oneof![
        Just(KeyPart::ClientIp),
        text().prop_map(KeyPart::Header),
        (text(), text()).prop_map(|(name, value)| KeyPart::HeaderIs { name, value }),
        Just(KeyPart::Path),
        text().prop_map(KeyPart::PathPrefix),
        Just(KeyPart::Method),
        Just(KeyPart::Caller),
    ];
    let limit = (1..=u32::MAX, any::<u32>(), time()).prop_map(|(max_tokens, tokens_per_fill, fill_interval)| {
        TokenBucket { max_tokens, tokens_per_fill, fill_interval }
    });
    let bucket = (text(), vec(key, 0..3), limit, any::<u32>()).prop_map(|(name, key, limit, max_keys)| Bucket {
        name,
        key,
        limit,
        max_keys,
    });
    let answer =
        (400..600_u16, text(), any::<bool>()).prop_map(|(status, body, headers)| LimitAnswer { status, body, headers });
    let mode = prop_oneof![Just(Mode::Enforce), Just(Mode::Shadow)];
    (text(), mode, vec(bucket, 0..3), answer).prop_map(|(name, mode, buckets, answer)| RateLimit {
        name,
        mode,
        buckets,
        answer,
    })
}
