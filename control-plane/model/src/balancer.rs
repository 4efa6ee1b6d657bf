//! How the endpoint of a request is chosen.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The rule of choice among the endpoints of a priority.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Balancer {
    RoundRobin,
    /// The least loaded of `choices` picked at random. With unequal weights in proportion to weight / (active + 1)^`bias`.
    LeastRequest {
        choices: u32,
        bias: f64,
    },
    Random,
    /// The lower of two picked at random by expected latency: a moving average that follows peaks at once and forgets within
    /// `decay`, times the requests in flight (Linkerd's default).
    PeakEwma {
        /// Of an endpoint that nothing is known of. Linkerd's default is 30 ms.
        default_rtt: Duration,
        /// Linkerd's default is 10 s.
        decay: Duration,
    },
    /// By the hash of what the route says, on a ring (ketama).
    RingHash {
        /// Envoy's defaults are 1024 and 8,388,608.
        minimum_size: u64,
        maximum_size: u64,
    },
    /// By the same hash, in a table whose size is a prime. Envoy's default is 65,537.
    Maglev {
        table_size: u64,
    },
}

impl Balancer {
    pub const LEAST_REQUEST: Balancer = Balancer::LeastRequest { choices: 2, bias: 1.0 };
    pub const PEAK_EWMA: Balancer =
        Balancer::PeakEwma { default_rtt: Duration::from_millis(30), decay: Duration::from_secs(10) };
    pub const RING_HASH: Balancer = Balancer::RingHash { minimum_size: 1024, maximum_size: 8_388_608 };
    pub const MAGLEV: Balancer = Balancer::Maglev { table_size: 65_537 };

    /// Whether it chooses by hash: then a retry does not look for another host.
    pub fn is_consistent(self) -> bool {
        matches!(self, Balancer::RingHash { .. } | Balancer::Maglev { .. })
    }
}

impl Default for Balancer {
    /// Istio's default: least request of two.
    fn default() -> Self {
        Balancer::LEAST_REQUEST
    }
}

/// What of balancing stands beside the rule of choice.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Balancing {
    /// With fewer healthy endpoints than this percentage, all of a priority's are used (panic). 0: never. Envoy's default is 50.
    pub panic_threshold: u32,
    /// Refuse in panic instead.
    pub fail_traffic_on_panic: bool,
    /// New endpoints get their share gradually. Not with hashes.
    pub slow_start: Option<SlowStart>,
    /// An endpoint takes at most this percentage of the average load; the rest overflows to the next by hash. At least 100;
    /// `None`: unbounded. Only with hashes.
    pub hash_balance_factor: Option<u32>,
    pub locality: LocalityRule,
}

impl Default for Balancing {
    fn default() -> Self {
        Balancing {
            panic_threshold: 50,
            fail_traffic_on_panic: false,
            slow_start: None,
            hash_balance_factor: None,
            locality: LocalityRule::default(),
        }
    }
}

/// A weight grows from `min_weight_percent` to the whole as (time / window)^(1 / aggression).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlowStart {
    pub window: Duration,
    /// Envoy's default is 10.
    pub min_weight_percent: f64,
    /// Envoy's default is 1.
    pub aggression: f64,
}

/// How endpoints of several localities share the load of a priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum LocalityRule {
    /// As if there were none.
    #[default]
    Ignore,
    /// First a locality in proportion to [`crate::Endpoints::locality_weights`] and its healthy part, then an endpoint of it.
    Weighted,
    /// As much as possible to this proxy's own zone.
    ZoneAware {
        /// Of requests. Envoy's default is 100.
        routing_enabled_percent: f64,
        /// With fewer endpoints than this all are used alike. Envoy's default is 6.
        min_cluster_size: u64,
    },
}

/// What of a request is hashed for a consistent choice. Hashes of several are combined in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HashPolicy {
    pub source: HashSource,
    /// When this one gave a hash, the rest are not looked at.
    pub terminal: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HashSource {
    /// Lower case.
    Header(String),
    /// With a `ttl` the cookie is made when it is absent (zero: for the session).
    Cookie {
        name: String,
        path: String,
        ttl: Option<Duration>,
    },
    SourceIp,
    QueryParameter(String),
}

/// A caller comes back to the endpoint that answered it first, as long as that is healthy (Gateway API `sessionPersistence`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Persistence {
    pub carrier: SessionCarrier,
    pub lifetimes: SessionLifetimes,
}

/// What the caller carries its session in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SessionCarrier {
    /// `ttl` `None`: for the browser's session.
    Cookie {
        name: String,
        path: String,
        ttl: Option<Duration>,
    },
    Header {
        name: String,
    },
}

/// How long a session lasts, whatever the caller keeps. `None`: for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionLifetimes {
    /// Since it began.
    pub absolute: Option<Duration>,
    /// Since its last answer.
    pub idle: Option<Duration>,
}

impl SessionLifetimes {
    pub fn is_unlimited(&self) -> bool {
        self.absolute.is_none() && self.idle.is_none()
    }
}
