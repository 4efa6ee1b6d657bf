//! Clusters as an administrator sees them: what they may have in flight and have, who is left out, why, and until when.
//!
//! Plain data, the same for `/clusters?format=json`, its text, the statistics and whoever reads the JSON again.

pub(super) mod stats;
pub(super) mod text;

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// One cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterView {
    pub name: String,
    /// Whose cluster it is: `order.shop`. Empty when unknown.
    pub service: String,
    /// The service's full name: `order.shop.svc.cluster.local`. Empty when unknown.
    pub host: String,
    /// `EDS`, `STATIC`, `STRICT_DNS`, `FORWARD`.
    pub discovery: String,
    /// `LEAST_REQUEST`, `ROUND_ROBIN`, `RANDOM`.
    pub balancer: String,
    /// Who wrote it: `policies/orders.yaml:42 DestinationRule shop/orders`. Empty when Weft made it.
    pub origin: String,
    /// Of requests of the usual priority.
    pub default: PriorityView,
    pub high: PriorityView,
    /// `None`: no limit.
    pub max_connections_per_endpoint: Option<u32>,
    pub counters: CountersView,
    pub health_checks: HealthChecksView,
    /// Requests have gone to it.
    pub was_called: bool,
    /// The newest last; so many as are remembered.
    pub happenings: Vec<HappeningView>,
    pub endpoints: Vec<EndpointView>,
}

/// The limits of one priority and what counts against them, over all workers. 4294967295 is no limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PriorityView {
    pub max_connections: u32,
    pub max_pending_requests: u32,
    pub max_requests: u32,
    /// `None`: there is a budget instead.
    pub max_retries: Option<u32>,
    /// `20 % of first tries active and pending, at least 3`.
    pub retry_budget: Option<String>,
    pub connections: u32,
    pub pending_requests: u32,
    pub requests: u32,
    pub retries: u32,
    pub remaining_cx: u32,
    pub remaining_pending: u32,
    pub remaining_rq: u32,
    /// Under a budget: as of now.
    pub remaining_retries: u64,
    /// The next one is refused, here and below.
    pub cx_open: bool,
    pub rq_pending_open: bool,
    pub rq_open: bool,
    pub rq_retry_open: bool,
}

/// Counters since the cluster began, named as Envoy's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountersView {
    pub upstream_cx_overflow: u64,
    /// Of pending requests and of requests.
    pub upstream_rq_pending_overflow: u64,
    pub upstream_rq_retry: u64,
    pub upstream_rq_retry_success: u64,
    pub upstream_rq_retry_overflow: u64,
    pub upstream_rq_retry_limit_exceeded: u64,
    pub upstream_rq_timeout: u64,
    pub upstream_rq_per_try_timeout: u64,
    /// Nothing moved for as long as a try may be quiet.
    pub upstream_rq_per_try_idle_timeout: u64,
    pub outlier_detection_ejections_enforced_total: u64,
    /// Found out, and not ejected, as too many are already.
    pub outlier_detection_ejections_overflow: u64,
}

/// Counters of active health checks since the cluster began, named as Envoy's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthChecksView {
    pub attempt: u64,
    pub success: u64,
    pub failure: u64,
    /// Of the failures those without an answer.
    pub network_failure: u64,
    /// Endpoints that said in traffic that they are not well.
    pub passive_failure: u64,
}

/// One endpoint of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointView {
    pub address: SocketAddr,
    /// What configuration says: `healthy`, `draining`, `unhealthy`.
    pub health: String,
    /// All that speaks against it, as Envoy writes it: `healthy`, `/failed_active_hc/failed_outlier_check`, …
    pub health_flags: String,
    /// What active health checks say: `healthy`, `unhealthy`, `unknown` (nobody asks, or nobody has yet).
    pub active_health_check: String,
    pub weight: u32,
    /// 0 is first.
    pub priority: u32,
    /// `region/zone/sub_zone`, as far as known.
    pub locality: String,
    /// Whom it belongs to: `default/order`.
    pub workload: String,
    /// Requests in flight.
    pub active_requests: u32,
    /// Open or being made.
    pub connections: u32,
    /// How often it was ejected, ever.
    pub ejections: u32,
    /// `None`: it is not ejected.
    pub ejection: Option<EjectionView>,
    /// `None`: its cluster has no breakers around endpoints.
    pub breaker: Option<BreakerView>,
}

impl EndpointView {
    /// Nothing speaks against it.
    pub fn is_healthy(&self) -> bool {
        self.health_flags == HEALTHY
    }
}

/// What [`EndpointView::health_flags`] says of one that nothing speaks against.
pub(crate) const HEALTHY: &str = "healthy";

/// Why an endpoint takes no requests for now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EjectionView {
    /// Which detector it was, by Envoy's name: `consecutive_5xx`.
    pub cause: String,
    /// The same in words, with the numbers: `5 failed requests in a row`.
    pub why: String,
    pub since: Moment,
    /// At the earliest: the first sweep after its time is over.
    pub returns_at: Option<Moment>,
}

/// How the breaker around one endpoint stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerView {
    /// `closed`, `open`, `half-open` (one request probes, or the next one will).
    pub state: String,
    /// Of one that is open.
    pub until: Option<Moment>,
}

/// Something that happened to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HappeningView {
    pub at: Moment,
    pub endpoint: String,
    /// What, why, with which numbers, for how long.
    pub what: String,
}

/// A time, and how far it is from when it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// RFC 3339, UTC.
    pub time: String,
    /// Ago, or to come.
    pub seconds: u64,
}
