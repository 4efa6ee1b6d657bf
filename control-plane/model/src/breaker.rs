//! What a cluster may have in flight before more is refused, and when one endpoint is left alone for a while.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Which of a cluster's two sets of limits a request counts against (Envoy's `RoutingPriority`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Priority {
    #[default]
    Default,
    High,
}

/// The limits of one cluster. They hold for the whole process, over all of its workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CircuitBreakers {
    pub default: Thresholds,
    pub high: Thresholds,
    /// Connections to any one endpoint. `None`: unlimited.
    pub max_connections_per_host: Option<u32>,
    /// Opens for one endpoint that goes on failing. `None`: off.
    pub trip: Option<Trip>,
}

impl CircuitBreakers {
    pub fn of(&self, priority: Priority) -> &Thresholds {
        match priority {
            Priority::Default => &self.default,
            Priority::High => &self.high,
        }
    }
}

/// The default is Istio's (unlimited), but for retries, which always have a budget.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    pub max_connections: u32,
    /// Requests that wait for a connection.
    pub max_pending_requests: u32,
    /// Requests in flight, over HTTP/1.1 too.
    pub max_requests: u32,
    pub retries: RetryLimit,
}

impl Thresholds {
    /// What Envoy takes when nothing is said.
    pub const ENVOY: Thresholds = Thresholds {
        max_connections: 1024,
        max_pending_requests: 1024,
        max_requests: 1024,
        retries: RetryLimit::Concurrent(3),
    };
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds {
            max_connections: u32::MAX,
            max_pending_requests: u32::MAX,
            max_requests: u32::MAX,
            retries: RetryLimit::default(),
        }
    }
}

/// How many retries may be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum RetryLimit {
    Concurrent(u32),
    Budget(RetryBudget),
}

impl Default for RetryLimit {
    fn default() -> Self {
        RetryLimit::Budget(RetryBudget::default())
    }
}

/// How many retries there may be for so many requests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryBudget {
    /// Envoy's default is 20.
    pub percent: f64,
    pub of: ShareOf,
    /// So many retries are always allowed. Envoy's default is 3.
    pub min_concurrency: u32,
}

impl RetryBudget {
    /// What Envoy takes where a budget is written and says nothing.
    pub const ENVOY: RetryBudget = RetryBudget { percent: 20.0, of: ShareOf::AllTries, min_concurrency: 3 };
}

/// Envoy's, but that its share is what it seems to be.
impl Default for RetryBudget {
    fn default() -> Self {
        RetryBudget { of: ShareOf::FirstTries, ..RetryBudget::ENVOY }
    }
}

/// What a retry budget is a share of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShareOf {
    /// First tries that are active or pending: 20 % are a fifth more work, however long an outage lasts.
    FirstTries,
    /// All tries that are active or pending (Envoy's `retry_budget`). Retries beget retries: a lasting 20 % are a quarter more.
    AllTries,
    /// First tries that began within the interval (Gateway API, Istio's `budgetInterval`). The retries, and the least
    /// number of them, are those that began within it too.
    BegunWithin(Duration),
}

/// A breaker around one endpoint: it opens on failures, waits, and lets one request probe (Linkerd's failure accrual).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trip {
    pub on: TripOn,
    /// The first wait. Linkerd's default is 1 s.
    pub min_penalty: Duration,
    /// Waits double up to this. Linkerd's default is 60 s.
    pub max_penalty: Duration,
    /// A wait is longer by up to this share of itself. Linkerd's default is 0.5.
    pub jitter: f64,
}

/// What opens it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum TripOn {
    /// So many failures in a row. Linkerd's default is 7.
    Consecutive { failures: u32 },
    /// Less than this share of successes within the window, once it has so many requests. Linkerd's defaults are 0.8 in 10 s
    /// of at least 5.
    SuccessRate { threshold: f64, window: Duration, min_requests: u32 },
}
