//! Retries and hedging.
//!
//! Two limits of one try share Envoy's one field `per_try_timeout`, and are kept apart like this:
//! - A backend timeout without a retry policy is a policy of no retries and no back-off that has nothing but a `per_try_timeout`. That is how it
//!   is read from other control planes too.
//! - Beside a retry policy, the backend timeout travels in our metadata, with the policy's own `per_try_timeout`. A
//!   stock Envoy is given the policy's, or else the backend's, which there ends when the response starts.
//!
//! The least wait before a retry travels there too; a stock Envoy waits by the back-off alone.
//!
//! Normal form: times of 0 are `None`, a back-off is at least 1 ms and no longer than its own longest one, `host_selection_attempts` are at least 1,
//! headers that tell when to come back are at least one.

use super::super::numbers::{count, read_status, read_time};
use super::super::parts::{self, At, Decoded, apart, each, refuse, required};
use super::super::{Any, DecodeError};
use super::matches;
use envoy_types::pb::envoy::config::route::v3 as rds;
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use envoy_types::pb::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use prost::Name;
use rds::retry_policy::{
    self, RateLimitedRetryBackOff, ResetHeader as WireHeader, ResetHeaderFormat, RetryBackOff, RetryHostPredicate,
    RetryPriority,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use weft_model::retry::{Backoff, RateLimitedBackoff, ResetFormat, ResetHeader, RetryOn, RetryPolicy};
use weft_model::route::{Forward, HeaderMatch};

const PREVIOUS_HOSTS: &str = "envoy.retry_host_predicates.previous_hosts";
const PREVIOUS_PRIORITIES: &str = "envoy.retry_priorities.previous_priorities";
/// Envoy raises shorter back-offs to it.
const SHORTEST_BACKOFF: Duration = Duration::from_millis(1);
/// Envoy's, when it is left out.
const DEFAULT_LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What Envoy's retry policy has no field for.
#[derive(PartialEq, Serialize, Deserialize)]
pub(super) struct Ours {
    idempotent_only: bool,
    backend_timeout: Option<Duration>,
    per_try_timeout: Option<Duration>,
    min_wait: Duration,
}

/// `None` when there is nothing that Envoy does not know.
pub(super) fn ours(forward: &Forward) -> Option<Ours> {
    let policy = forward.retry.as_ref()?;
    let ours = Ours {
        idempotent_only: policy.idempotent_only,
        backend_timeout: forward.backend_timeout,
        per_try_timeout: policy.per_try_timeout,
        min_wait: policy.min_wait,
    };
    (ours.idempotent_only || ours.backend_timeout.is_some() || !ours.min_wait.is_zero()).then_some(ours)
}

pub(super) fn encode(forward: &Forward) -> Option<rds::RetryPolicy> {
    let Some(policy) = &forward.retry else { return forward.backend_timeout.and_then(bare) };
    let predicate = RetryHostPredicate {
        name: PREVIOUS_HOSTS.into(),
        config_type: Some(retry_policy::retry_host_predicate::ConfigType::TypedConfig(parts::pack(
            &PreviousHostsPredicate {},
        ))),
    };
    Some(rds::RetryPolicy {
        retry_on: policy.on.names().collect::<Vec<_>>().join(","),
        num_retries: parts::number(policy.num_retries),
        per_try_timeout: time(policy.per_try_timeout.or(forward.backend_timeout)),
        per_try_idle_timeout: time(policy.per_try_idle_timeout),
        retry_priority: policy.avoid_previous_priorities.map(encode_priority),
        retry_host_predicate: policy.avoid_previous_hosts.then_some(predicate).into_iter().collect(),
        host_selection_retry_max_attempts: policy.host_selection_attempts.max(1).into(),
        retriable_status_codes: policy.status_codes.iter().copied().map(u32::from).collect(),
        retry_back_off: Some(encode_backoff(&policy.backoff)),
        rate_limited_retry_back_off: policy.rate_limited_backoff.as_ref().and_then(encode_rate_limited),
        retriable_headers: policy.headers.iter().map(matches::encode_header).collect(),
        ..Default::default()
    })
}

pub(super) fn encode_hedging(forward: &Forward) -> Option<rds::HedgePolicy> {
    let hedges = forward.retry.as_ref().is_some_and(|policy| policy.hedge_on_per_try_timeout);
    hedges.then(|| rds::HedgePolicy { hedge_on_per_try_timeout: true, ..Default::default() })
}

/// A limit of the one try that there is.
fn bare(timeout: Duration) -> Option<rds::RetryPolicy> {
    let per_try_timeout = Some(time(Some(timeout))?);
    Some(rds::RetryPolicy { num_retries: parts::number(0), per_try_timeout, ..Default::default() })
}

fn time(time: Option<Duration>) -> Option<envoy_types::pb::google::protobuf::Duration> {
    time.filter(|time| !time.is_zero()).map(parts::duration)
}

fn encode_priority(update_frequency: u32) -> RetryPriority {
    let config =
        PreviousPrioritiesConfig { update_frequency: i32::try_from(update_frequency.max(1)).unwrap_or(i32::MAX) };
    RetryPriority {
        name: PREVIOUS_PRIORITIES.into(),
        config_type: Some(retry_policy::retry_priority::ConfigType::TypedConfig(parts::pack(&config))),
    }
}

fn encode_backoff(backoff: &Backoff) -> RetryBackOff {
    let base = backoff.base.max(SHORTEST_BACKOFF);
    RetryBackOff {
        base_interval: Some(parts::duration(base)),
        max_interval: Some(parts::duration(backoff.max.max(base))),
    }
}

fn encode_rate_limited(backoff: &RateLimitedBackoff) -> Option<RateLimitedRetryBackOff> {
    let header = |header: &ResetHeader| {
        let format = match header.format {
            ResetFormat::Seconds => ResetHeaderFormat::Seconds,
            ResetFormat::UnixTimestamp => ResetHeaderFormat::UnixTimestamp,
        };
        WireHeader { name: header.name.clone(), format: format as i32 }
    };
    (!backoff.reset_headers.is_empty()).then(|| RateLimitedRetryBackOff {
        reset_headers: backoff.reset_headers.iter().map(header).collect(),
        max_interval: Some(parts::duration(backoff.max_interval)),
    })
}

/// The retry policy, and the backend timeout.
pub(super) fn decode(
    policy: Option<rds::RetryPolicy>,
    hedging: Option<rds::HedgePolicy>,
    ours: Option<Ours>,
) -> Decoded<(Option<RetryPolicy>, Option<Duration>)> {
    let hedges = hedging.map_or(Ok(false), read_hedging).at("hedge_policy")?;
    let Some(policy) = policy else { return Ok((None, None)) };
    let timeout = parts::read_limit("per_try_timeout", policy.per_try_timeout, None).at("retry_policy")?;
    if ours.is_none() && timeout.and_then(bare).is_some_and(|bare| bare == policy) {
        return Ok((None, timeout));
    }
    let policy = decode_policy(policy).at("retry_policy")?;
    let ours = ours.unwrap_or(Ours {
        idempotent_only: false,
        backend_timeout: None,
        per_try_timeout: timeout,
        min_wait: Duration::ZERO,
    });
    let some = |time: Option<Duration>| time.filter(|time| !time.is_zero());
    let policy = RetryPolicy {
        per_try_timeout: some(ours.per_try_timeout),
        hedge_on_per_try_timeout: hedges,
        idempotent_only: ours.idempotent_only,
        min_wait: ours.min_wait,
        ..policy
    };
    Ok((Some(policy), some(ours.backend_timeout)))
}

fn read_hedging(policy: rds::HedgePolicy) -> Decoded<bool> {
    apart!(policy => rds::HedgePolicy {
        read: initial_requests, hedge_on_per_try_timeout;
        ignored: ;
        refused: additional_request_chance
    });
    if count(initial_requests, 1) != 1 {
        return refuse("initial_requests", "only 1 is supported by this proxy");
    }
    Ok(hedge_on_per_try_timeout)
}

/// All but the per-try timeout, hedging, and what is ours.
fn decode_policy(policy: rds::RetryPolicy) -> Decoded<RetryPolicy> {
    apart!(policy => rds::RetryPolicy {
        read: retry_on, num_retries, per_try_idle_timeout, retry_priority, retry_host_predicate,
            host_selection_retry_max_attempts, retriable_status_codes, retry_back_off, rate_limited_retry_back_off,
            retriable_headers;
        ignored: per_try_timeout;
        refused: retry_options_predicates, retriable_request_headers, refresh_cluster_on_retry
    });
    let default = RetryPolicy::default();
    Ok(RetryPolicy {
        on: read_reasons(&retry_on)?,
        status_codes: each("retriable_status_codes", retriable_status_codes, |code| read_status("", code))?,
        headers: each("retriable_headers", retriable_headers, read_header)?,
        num_retries: count(num_retries, default.num_retries),
        per_try_idle_timeout: parts::read_limit("per_try_idle_timeout", per_try_idle_timeout, None)?,
        backoff: retry_back_off.map_or(Ok(default.backoff), read_backoff).at("retry_back_off")?,
        rate_limited_backoff: rate_limited_retry_back_off
            .map(read_rate_limited)
            .transpose()
            .at("rate_limited_retry_back_off")?,
        avoid_previous_hosts: !each("retry_host_predicate", retry_host_predicate, check_predicate)?.is_empty(),
        host_selection_attempts: u32::try_from(host_selection_retry_max_attempts).map(|most| most.max(1)).or_else(
            |_| refuse("host_selection_retry_max_attempts", format!("{host_selection_retry_max_attempts} is no count")),
        )?,
        avoid_previous_priorities: retry_priority.map(read_priority).transpose().at("retry_priority")?,
        ..default
    })
}

fn read_reasons(names: &str) -> Decoded<RetryOn> {
    let mut reasons = RetryOn::NONE;
    for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let Some(reason) = RetryOn::named(name) else {
            return refuse("retry_on", format!("`{name}` is no reason for a retry that this proxy knows"));
        };
        reasons |= reason;
    }
    Ok(reasons)
}

/// Any one header asks for a retry, so what takes two matches to say cannot be said.
fn read_header(header: rds::HeaderMatcher) -> Decoded<HeaderMatch> {
    let mut matches = matches::decode_header(header)?;
    match (matches.pop(), matches.is_empty()) {
        (Some(only), true) => Ok(only),
        _ => refuse("invert_match", "is supported only with treat_missing_header_as_empty here"),
    }
}

fn read_backoff(backoff: RetryBackOff) -> Decoded<Backoff> {
    let base = required("base_interval", backoff.base_interval)?;
    let base = read_time("base_interval", Some(base), SHORTEST_BACKOFF)?.max(SHORTEST_BACKOFF);
    let max = read_time("max_interval", backoff.max_interval, base.saturating_mul(10).min(parts::LONGEST))?;
    let max = max.max(SHORTEST_BACKOFF);
    if max < base {
        return refuse("max_interval", "is less than base_interval");
    }
    Ok(Backoff { base, max })
}

fn read_rate_limited(backoff: RateLimitedRetryBackOff) -> Decoded<RateLimitedBackoff> {
    if backoff.reset_headers.is_empty() {
        return refuse("reset_headers", "is empty");
    }
    let header = |header: WireHeader| {
        let format = match ResetHeaderFormat::try_from(header.format) {
            Ok(ResetHeaderFormat::Seconds) => ResetFormat::Seconds,
            Ok(ResetHeaderFormat::UnixTimestamp) => ResetFormat::UnixTimestamp,
            Err(_) => return refuse("format", format!("{} is no format", header.format)),
        };
        Ok(ResetHeader { name: header.name.to_ascii_lowercase(), format })
    };
    Ok(RateLimitedBackoff {
        reset_headers: each("reset_headers", backoff.reset_headers, header)?,
        max_interval: read_time("max_interval", backoff.max_interval, DEFAULT_LONGEST_WAIT)?,
    })
}

fn check_predicate(predicate: RetryHostPredicate) -> Decoded<()> {
    let known = match &predicate.config_type {
        Some(retry_policy::retry_host_predicate::ConfigType::TypedConfig(config)) => {
            config.type_url == PreviousHostsPredicate::type_url()
        }
        None => predicate.name == PREVIOUS_HOSTS,
    };
    if known { Ok(()) } else { refuse("", format!("only {PREVIOUS_HOSTS} is supported by this proxy")) }
}

fn read_priority(priority: RetryPriority) -> Decoded<u32> {
    let config: Option<Any> = priority.config_type.map(|config| match config {
        retry_policy::retry_priority::ConfigType::TypedConfig(config) => config,
    });
    let config: PreviousPrioritiesConfig = parts::unpack(&required("typed_config", config)?).at("typed_config")?;
    u32::try_from(config.update_frequency).ok().filter(|tries| *tries > 0).ok_or_else(|| {
        DecodeError::new("typed_config.update_frequency", format!("{} is no count", config.update_frequency))
    })
}
