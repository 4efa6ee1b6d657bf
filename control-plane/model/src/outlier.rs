//! When an endpoint that answers badly is left out for a while. Percentages are whole, 0 to 100.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Envoy's outlier detection, with what Istio and Weft add to it. [`Default`] is Envoy's default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutlierDetection {
    pub consecutive_5xx: Consecutive,
    /// 502, 503, 504.
    pub consecutive_gateway_failure: Consecutive,
    /// Counted only with `split_external_local_origin_errors`.
    pub consecutive_local_origin_failure: Consecutive,
    /// How often ejected hosts may return and rates are judged.
    pub interval: Duration,
    /// Times the number of ejections.
    pub base_ejection_time: Duration,
    pub max_ejection_time: Duration,
    pub max_ejection_time_jitter: Duration,
    pub max_ejection_percent: u32,
    /// The first ejection is allowed whatever the percentage.
    pub always_eject_one_host: bool,
    /// An ejection that would leave no host is not done, whatever the percentage. Weft's own.
    pub keep_one_host: bool,
    pub success_rate: SuccessRate,
    pub failure_percentage: FailurePercentage,
    /// Connect failures and timeouts are counted apart from what the upstream answered.
    pub split_external_local_origin_errors: bool,
    /// A host that passes an active health check returns at once.
    pub healthy_check_restores: bool,
    /// Statuses that count as failures instead of every 5xx (Istio's `outlierDetectionHttpErrorCodes`). Empty: every 5xx.
    pub error_codes: Vec<u16>,
    /// Ejects a host that is far slower than the others, or does not answer at all. Weft's own. `None`: off.
    pub slow: Option<Slow>,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        OutlierDetection {
            consecutive_5xx: Consecutive { threshold: 5, enforcing: 100 },
            consecutive_gateway_failure: Consecutive { threshold: 5, enforcing: 0 },
            consecutive_local_origin_failure: Consecutive { threshold: 5, enforcing: 100 },
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_time_jitter: Duration::ZERO,
            max_ejection_percent: 10,
            always_eject_one_host: false,
            keep_one_host: false,
            success_rate: SuccessRate::default(),
            failure_percentage: FailurePercentage::default(),
            split_external_local_origin_errors: false,
            healthy_check_restores: true,
            error_codes: Vec::new(),
            slow: None,
        }
    }
}

impl OutlierDetection {
    /// What holds where nobody wrote a policy: it works with two or three replicas too, and never ejects the last one.
    pub fn safe() -> Self {
        OutlierDetection {
            max_ejection_percent: 100,
            keep_one_host: true,
            success_rate: SuccessRate { enforcing: 0, enforcing_local_origin: 0, ..SuccessRate::default() },
            slow: Some(Slow::default()),
            ..OutlierDetection::default()
        }
    }
}

/// So many failures in a row eject, in `enforcing` percent of the cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consecutive {
    pub threshold: u32,
    /// 0 turns it off.
    pub enforcing: u32,
}

/// Ejects hosts whose success rate is under mean - `stdev_factor` / 1000 standard deviations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuccessRate {
    pub enforcing: u32,
    pub enforcing_local_origin: u32,
    pub minimum_hosts: u32,
    pub request_volume: u32,
    pub stdev_factor: u32,
}

impl Default for SuccessRate {
    fn default() -> Self {
        SuccessRate {
            enforcing: 100,
            enforcing_local_origin: 100,
            minimum_hosts: 5,
            request_volume: 100,
            stdev_factor: 1900,
        }
    }
}

/// Ejects hosts of which at least `threshold` percent of the requests failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailurePercentage {
    pub threshold: u32,
    pub enforcing: u32,
    pub enforcing_local_origin: u32,
    pub minimum_hosts: u32,
    pub request_volume: u32,
}

impl Default for FailurePercentage {
    fn default() -> Self {
        FailurePercentage {
            threshold: 85,
            enforcing: 0,
            enforcing_local_origin: 0,
            minimum_hosts: 5,
            request_volume: 50,
        }
    }
}

/// A host is slow when, within an interval, its mean time to answer (what it has not answered yet counts by its age) is over
/// `factor` times that of all other hosts together, and over `floor`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slow {
    pub factor: f64,
    pub floor: Duration,
    /// Answered and waiting requests of the host, at least. One that answered nothing is judged by fewer, when the others together
    /// had so many.
    pub request_volume: u32,
}

impl Default for Slow {
    fn default() -> Self {
        Slow { factor: 5.0, floor: Duration::from_secs(1), request_volume: 3 }
    }
}
