//! A DestinationRule's words as a cluster's: each with what Istio means when it is left out (`cluster_traffic_policy.go`).
//!
//! Where nobody wrote `outlierDetection`, the cluster keeps what [`super::upstreams`] gave it; where somebody did, it is exactly
//! Istio's, its traps included (10 % of fewer than ten hosts is none).

use super::protocol::PortProtocol;
use super::traffic::Policy;
use crate::kinds::{
    self, ConnectionPool, ConsistentHash, H2Upgrade, HashAlgorithm, HashKey, LbPolicy, LoadBalancer, LocalityLb,
};
use std::time::Duration;
use weft_model::Cluster;
use weft_model::balancer::{Balancer, HashPolicy, HashSource, LocalityRule, SlowStart};
use weft_model::breaker::{RetryBudget, RetryLimit, ShareOf};
use weft_model::cluster::{Http2Keepalive, Keepalive, Protocol};
use weft_model::outlier::{Consecutive, OutlierDetection, SuccessRate};

/// gRPC's keep-alive timeout, for an `http2KeepAlive` without one.
const HTTP2_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Everything, for the cluster of a caller.
pub(crate) fn apply(policy: &Policy<'_>, protocol: PortProtocol, cluster: &mut Cluster) {
    if let Some(balancer) = policy.load_balancer {
        balance(balancer, cluster);
    }
    if let Some(pool) = policy.connection_pool {
        connections(pool, protocol, cluster);
        if pool.http.h2_upgrade_policy == H2Upgrade::Upgrade && protocol != PortProtocol::Tcp {
            cluster.protocol = Protocol::Http2;
        }
        if pool.http.use_client_protocol {
            cluster.protocol = Protocol::Downstream;
        }
    }
    if let Some(outlier) = policy.outlier_detection {
        cluster.outlier = Some(outlier_detection(outlier));
        cluster.balancing.panic_threshold = outlier.min_health_percent.unwrap_or(0);
    }
    if let Some(budget) = policy.retry_budget {
        let interval = budget.interval.filter(|interval| !interval.is_zero());
        budget_retries(
            RetryBudget {
                percent: budget.percent,
                of: interval.map_or(ShareOf::AllTries, ShareOf::BegunWithin),
                min_concurrency: budget.min_retry_concurrency,
            },
            cluster,
        );
    }
}

/// The part that holds inbound too: limits and times of connections.
pub(crate) fn connections(pool: &ConnectionPool, protocol: PortProtocol, cluster: &mut Cluster) {
    let ConnectionPool { tcp, http } = pool;
    if let Some(timeout) = tcp.connect_timeout {
        cluster.connect_timeout = timeout;
    }
    let idle = if protocol == PortProtocol::Tcp { tcp.idle_timeout } else { http.idle_timeout };
    if let Some(timeout) = idle {
        cluster.pool.idle_timeout = Some(timeout).filter(|timeout| !timeout.is_zero());
    }
    cluster.pool.max_requests_per_connection = http.max_requests_per_connection;
    cluster.pool.max_connection_duration = tcp.max_connection_duration;
    cluster.pool.max_concurrent_streams = http.max_concurrent_streams;
    cluster.pool.keepalive = tcp.keepalive.map(|keepalive| Keepalive {
        probes: keepalive.probes,
        time: keepalive.time,
        interval: keepalive.interval,
    });
    cluster.pool.http2_keepalive = http.http2_keepalive.and_then(|keepalive| {
        let timeout = keepalive.timeout.unwrap_or(HTTP2_KEEPALIVE_TIMEOUT);
        keepalive.interval.map(|interval| Http2Keepalive { interval, timeout })
    });
    let limits = &mut cluster.breakers.default;
    limits.max_connections = tcp.max_connections.unwrap_or(u32::MAX);
    limits.max_pending_requests = http.http1_max_pending_requests.unwrap_or(u32::MAX);
    limits.max_requests = http.http2_max_requests.unwrap_or(u32::MAX);
    if let Some(retries) = http.max_retries {
        limits.retries = RetryLimit::Concurrent(retries);
    }
}

/// Retries of whatever priority have the budget.
pub(crate) fn budget_retries(budget: RetryBudget, cluster: &mut Cluster) {
    cluster.breakers.default.retries = RetryLimit::Budget(budget);
    cluster.breakers.high.retries = RetryLimit::Budget(budget);
}

fn balance(balancer: &LoadBalancer, cluster: &mut Cluster) {
    cluster.balancer = match balancer.policy.as_ref() {
        Some(LbPolicy::RoundRobin) => Balancer::RoundRobin,
        Some(LbPolicy::Random) => Balancer::Random,
        Some(LbPolicy::ConsistentHash(ConsistentHash { algorithm, .. })) => match *algorithm {
            HashAlgorithm::Maglev { table_size } => Balancer::Maglev { table_size },
            HashAlgorithm::RingHash { minimum_ring_size } => {
                Balancer::RingHash { minimum_size: minimum_ring_size, maximum_size: 8_388_608 }
            }
        },
        // the reader has warned of PASSTHROUGH
        Some(LbPolicy::LeastRequest | LbPolicy::Passthrough) | None => Balancer::default(),
    };
    if matches!(cluster.balancer, Balancer::RoundRobin | Balancer::LeastRequest { .. }) {
        cluster.balancing.slow_start = balancer.warmup.map(|warmup| SlowStart {
            window: warmup.duration,
            min_weight_percent: warmup.minimum_percent,
            aggression: warmup.aggression,
        });
    }
    if locality(balancer).is_some_and(|locality| !locality.distribute.is_empty()) {
        cluster.balancing.locality = LocalityRule::Weighted;
    }
}

/// What is said of localities, unless it is turned off.
pub(crate) fn locality(balancer: &LoadBalancer) -> Option<&LocalityLb> {
    balancer.locality.as_ref().filter(|locality| locality.enabled != Some(false))
}

/// What of a request decides its endpoint.
pub(crate) fn hash(policy: &Policy<'_>) -> Option<HashPolicy> {
    let Some(LbPolicy::ConsistentHash(hash)) = policy.load_balancer.and_then(|balancer| balancer.policy.as_ref())
    else {
        return None;
    };
    let source = match &hash.key {
        HashKey::Header(name) => HashSource::Header(name.clone()),
        HashKey::Cookie { name, path, ttl } => {
            HashSource::Cookie { name: name.clone(), path: path.clone().unwrap_or_default(), ttl: *ttl }
        }
        HashKey::SourceIp => HashSource::SourceIp,
        HashKey::QueryParameter(name) => HashSource::QueryParameter(name.clone()),
    };
    Some(HashPolicy { source, terminal: false })
}

/// Istio's defaults are Envoy's, but success rates never eject, and a count of 0 turns its detector off.
fn outlier_detection(written: &kinds::OutlierDetection) -> OutlierDetection {
    let defaults = OutlierDetection::default();
    let counted = |count: u32| Consecutive { threshold: count, enforcing: if count > 0 { 100 } else { 0 } };
    OutlierDetection {
        consecutive_5xx: written.consecutive_5xx_errors.map_or(defaults.consecutive_5xx, counted),
        consecutive_gateway_failure: written
            .consecutive_gateway_errors
            .map_or(defaults.consecutive_gateway_failure, counted),
        consecutive_local_origin_failure: written
            .consecutive_local_origin_failures
            .filter(|failures| *failures > 0)
            .map_or(defaults.consecutive_local_origin_failure, counted),
        interval: written.interval.unwrap_or(defaults.interval),
        base_ejection_time: written.base_ejection_time.unwrap_or(defaults.base_ejection_time),
        // Envoy's maximum is at least the base
        max_ejection_time: defaults.max_ejection_time.max(written.base_ejection_time.unwrap_or_default()),
        max_ejection_percent: written
            .max_ejection_percent
            .filter(|percent| *percent > 0)
            .unwrap_or(defaults.max_ejection_percent),
        success_rate: SuccessRate { enforcing: 0, enforcing_local_origin: 0, ..defaults.success_rate },
        split_external_local_origin_errors: written.split_external_local_origin_errors,
        error_codes: written.http_error_codes.clone(),
        ..defaults
    }
}
