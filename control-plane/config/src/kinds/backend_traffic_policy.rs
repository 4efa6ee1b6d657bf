//! `gateway.networking.x-k8s.io/v1alpha1` XBackendTrafficPolicy: how all callers of a Service behave. What its owner
//! says, whichever route leads there.

use super::{PolicyTarget, SessionPersistence, policy_targets, session_persistence};
use crate::Place;
use crate::read::{Cursor, Fields, gateway_duration, number};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendTrafficPolicy {
    /// Services; 1 to 16.
    pub target_refs: Vec<PolicyTarget>,
    pub retry_constraint: Option<RetryConstraint>,
    pub session_persistence: Option<SessionPersistence>,
}

/// So many of the requests within `interval` may be retries, and at the least so many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryConstraint {
    pub place: Place,
    /// Default 20.
    pub percent: u32,
    /// 1 s to 1 h; default 10 s.
    pub interval: Duration,
    /// Default 10 per 1 s.
    pub min_retry_rate: RequestRate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestRate {
    /// 1 to 1,000,000.
    pub count: u32,
    /// 1 s to 1 h.
    pub interval: Duration,
}

/// The Gateway API's `minRetryRate` where none is written.
const MIN_RETRY_RATE: RequestRate = RequestRate { count: 10, interval: Duration::from_secs(1) };

pub(crate) fn read_backend_traffic_policy(f: &mut Fields<'_>) -> Option<BackendTrafficPolicy> {
    f.must("spec", |at| {
        at.fields(|f| BackendTrafficPolicy {
            target_refs: policy_targets(f, false),
            retry_constraint: f.opt("retryConstraint", retry_constraint),
            session_persistence: f.opt("sessionPersistence", session_persistence),
        })
    })
}

fn retry_constraint(at: &Cursor<'_>) -> Option<RetryConstraint> {
    at.fields(|f| {
        let budget =
            f.opt("budget", |at| at.fields(|f| (f.opt("percent", number(0, 100)), f.opt("interval", up_to_an_hour))));
        let (percent, interval) = budget.unwrap_or_default();
        RetryConstraint {
            place: f.place(),
            percent: percent.unwrap_or(20),
            interval: interval.unwrap_or(Duration::from_secs(10)),
            min_retry_rate: f.opt("minRetryRate", request_rate).unwrap_or(MIN_RETRY_RATE),
        }
    })
}

fn request_rate(at: &Cursor<'_>) -> Option<RequestRate> {
    at.fields(|f| RequestRate {
        count: f.opt("count", number(1, 1_000_000)).unwrap_or(MIN_RETRY_RATE.count),
        interval: f.opt("interval", up_to_an_hour).unwrap_or(MIN_RETRY_RATE.interval),
    })
}

fn up_to_an_hour(at: &Cursor<'_>) -> Option<Duration> {
    let duration = gateway_duration(at)?;
    match (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&duration) {
        true => Some(duration),
        false => at.error(format!("{duration:?} is out of range"), "write a duration from 1s to 1h"),
    }
}
