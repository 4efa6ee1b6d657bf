//! What active health checks say of an endpoint: when it is healthy, and when it is asked again.
//!
//! One lost check is no illness and one good answer no cure, so both take several in a row. Two cases are different, as in Envoy:
//! an endpoint never asked before is believed its first good answer, so that a start is quick; and one that itself says that it
//! is not well is believed at once.

#[cfg(test)]
mod tests;

use crate::Dice;
use std::ops::RangeInclusive;
use std::time::Duration;
use weft_model::health_check::{HealthCheck, Probe};

/// How one check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckResult {
    Success,
    /// It did not connect, did not answer in time, or answered with a status that may pass; counted.
    Failure,
    /// It answered that it is not well; believed at once.
    Unwell,
}

/// Something that the balancer must learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Healthy,
    Unhealthy,
}

/// One endpoint under one health check. Not healthy before its first success.
#[derive(Clone, Debug, Default)]
pub struct Checker {
    is_healthy: bool,
    was_checked: bool,
    /// In a row, against the present state.
    against: u32,
}

impl CheckResult {
    /// Of an HTTP probe's answer. `expected` comes before `retriable`; other probes have no statuses.
    pub fn of_status(probe: &Probe, status: u16) -> CheckResult {
        let Probe::Http { expected, retriable, .. } = probe else { return CheckResult::Unwell };
        let within = |ranges: &[RangeInclusive<u16>]| ranges.iter().any(|range| range.contains(&status));
        match status {
            200 if expected.is_empty() => CheckResult::Success,
            _ if within(expected) => CheckResult::Success,
            _ if within(retriable) => CheckResult::Failure,
            _ => CheckResult::Unwell,
        }
    }
}

impl Checker {
    /// Of an endpoint that served before anybody asked: healthy until it is found not to be.
    pub fn trusted() -> Checker {
        Checker { is_healthy: true, ..Checker::default() }
    }

    pub fn is_healthy(&self) -> bool {
        self.is_healthy
    }

    /// Learns from one check. A threshold of 0 counts as 1.
    pub fn record(&mut self, check: &HealthCheck, result: CheckResult) -> Option<Change> {
        let is_first = !std::mem::replace(&mut self.was_checked, true);
        let is_against = (result == CheckResult::Success) != self.is_healthy;
        self.against = if is_against { self.against.saturating_add(1) } else { 0 };
        let is_enough = match result {
            CheckResult::Success => is_first || self.against >= check.healthy_threshold,
            CheckResult::Failure => self.against >= check.unhealthy_threshold,
            CheckResult::Unwell => true,
        };
        if !is_against || !is_enough {
            return None;
        }
        self.is_healthy = !self.is_healthy;
        self.against = 0;
        Some(if self.is_healthy { Change::Healthy } else { Change::Unhealthy })
    }
}

/// From the end of a check to the next: the interval for a cluster with or without traffic, and evenly one of
/// `0..interval_jitter` more.
pub fn next_delay(check: &HealthCheck, has_traffic: bool, dice: &mut Dice) -> Duration {
    let interval = if has_traffic { check.interval } else { check.no_traffic_interval };
    let jitter_ns = u64::try_from(check.interval_jitter.as_nanos()).unwrap_or(u64::MAX);
    interval.saturating_add(Duration::from_nanos(dice.below_u64(jitter_ns)))
}
