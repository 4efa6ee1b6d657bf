//! Leaving out, for a while, an endpoint that answers badly. Nobody tells the proxy that a host is broken while its port is open;
//! what it did with the last requests does. The danger is the opposite mistake, ejecting so many that the rest breaks down: so
//! every ejection has to find room.
//!
//! A [`Monitor`] is what one host did, told by all workers without locks and kept across changes of configuration. A
//! [`Detector`] decides, one for a cluster and one at a time: on a [`Cause`] that a monitor reports, and at each interval. The rules and
//! numbers are those of Envoy's `outlier_detection.proto` and `outlier_detection_impl.cc`, with `error_codes` as Istio's
//! error matcher and `slow` and `keep_one_host` of our own.

mod detector;
mod judges;
mod monitor;
#[cfg(test)]
mod tests;

pub use detector::Detector;
pub use monitor::{Ejection, Monitor, Trips, Waiting};
use std::fmt;
use std::time::Duration;

/// How a request, or a TCP connection, ended at a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered, with this status.
    Status(u16),
    /// A connection was made; for TCP, where no status follows.
    Connected,
    ConnectFailed,
    /// The proxy waited for an answer in vain.
    LocalTimeout,
    /// The host broke off a request without an answer.
    Reset,
}

/// Where a failure came from: told apart with `split_external_local_origin_errors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// What the upstream answered.
    External,
    /// What the proxy met with on the way.
    Local,
}

/// Which detector took a host for an outlier, and the numbers that led to it. Rates are percentages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cause {
    Consecutive5xx {
        failures: u32,
    },
    ConsecutiveGatewayFailure {
        failures: u32,
    },
    ConsecutiveLocalOriginFailure {
        failures: u32,
    },
    SuccessRate {
        origin: Origin,
        rate: f64,
        /// mean - factor · deviation
        threshold: f64,
        mean: f64,
        /// The population standard deviation.
        deviation: f64,
        /// Of this host, within the interval.
        requests: u64,
        /// Whose rates were compared.
        hosts: usize,
    },
    FailurePercentage {
        origin: Origin,
        failed: f64,
        threshold: u32,
        requests: u64,
    },
    /// Mean times to answer.
    Slow {
        mean: Duration,
        /// Of all other hosts together.
        others: Duration,
        answered: u64,
        /// Requests without an answer: waiting still, or given up.
        unanswered: u64,
    },
}

impl Cause {
    /// As in Envoy's counters (`ejections_detected_<name>`).
    pub fn name(&self) -> &'static str {
        match self {
            Cause::Consecutive5xx { .. } => "consecutive_5xx",
            Cause::ConsecutiveGatewayFailure { .. } => "consecutive_gateway_failure",
            Cause::ConsecutiveLocalOriginFailure { .. } => "consecutive_local_origin_failure",
            Cause::SuccessRate { origin: Origin::External, .. } => "success_rate",
            Cause::SuccessRate { origin: Origin::Local, .. } => "local_origin_success_rate",
            Cause::FailurePercentage { origin: Origin::External, .. } => "failure_percentage",
            Cause::FailurePercentage { origin: Origin::Local, .. } => "local_origin_failure_percentage",
            Cause::Slow { .. } => "slow",
        }
    }
}

/// What was decided about a host: the index is its place in the hosts that were handed in. [`Display`](fmt::Display) says it in words, for a
/// reader who knows which host is meant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    pub host: usize,
    /// Of a host that returned: why it had been ejected.
    pub cause: Cause,
    pub decision: Decision,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// For `length`, and then until the next sweep. `number` counts the ejections of this host, from 1.
    Ejected { length: Duration, number: u32 },
    /// The roll for the enforcing percentage was lost; 0 only watches.
    NotEnforced { enforcing: u32 },
    /// So many of the hosts are ejected already that one more is over max_ejection_percent.
    Overflow { ejected: usize, of: usize, percent: u32 },
    /// No other host was left (`keep_one_host`).
    LastHost { of: usize },
    /// Takes requests again.
    Returned { after: Duration, by: ReturnedBy },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnedBy {
    /// The ejection was over.
    Time,
    /// It passed an active health check.
    HealthCheck,
    /// The policy was taken away.
    NoPolicy,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Consecutive5xx { failures } => write!(f, "{failures} failed requests in a row"),
            Cause::ConsecutiveGatewayFailure { failures } => {
                write!(f, "{failures} answers of 502, 503 or 504 in a row")
            }
            Cause::ConsecutiveLocalOriginFailure { failures } => {
                write!(f, "{failures} failed connects or timeouts in a row")
            }
            Cause::SuccessRate { origin, rate, threshold, mean, deviation, requests, hosts } => write!(
                f,
                "{rate:.1} % of its {requests} {} succeeded, under {threshold:.1} % \
                 (the mean of {hosts} hosts is {mean:.1} %, their standard deviation {deviation:.1})",
                of(*origin)
            ),
            Cause::FailurePercentage { origin, failed, threshold, requests } => {
                write!(f, "{failed:.1} % of its {requests} {} failed, the threshold is {threshold} %", of(*origin))
            }
            Cause::Slow { mean, others, answered, unanswered } => write!(
                f,
                "it took {mean:.1?} on average ({answered} answered, {unanswered} not), the other hosts {others:.1?}"
            ),
        }
    }
}

fn of(origin: Origin) -> &'static str {
    match origin {
        Origin::External => "requests",
        Origin::Local => "connects and waits",
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = &self.cause;
        match self.decision {
            Decision::Ejected { length, number } => write!(f, "ejected for {length:?} (ejection {number}): {cause}"),
            Decision::NotEnforced { enforcing } => {
                write!(f, "not ejected, as only {enforcing} % of the cases are enforced: {cause}")
            }
            Decision::Overflow { ejected, of, percent } => write!(
                f,
                "not ejected, as {ejected} of {of} hosts are and one more is over max_ejection_percent, {percent} %: {cause}"
            ),
            Decision::LastHost { of } => write!(f, "not ejected, as it is the last one left of {of}: {cause}"),
            Decision::Returned { after, by } => {
                let by = match by {
                    ReturnedBy::Time => "",
                    ReturnedBy::HealthCheck => ", as it passed a health check",
                    ReturnedBy::NoPolicy => ", as outlier detection was turned off",
                };
                write!(f, "returned after {after:.1?}{by}; it had been ejected for: {cause}")
            }
        }
    }
}
