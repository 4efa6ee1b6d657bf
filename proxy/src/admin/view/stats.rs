//! Statistics of clusters under Envoy's names: dotted in `/stats`, with the label `envoy_cluster_name` for Prometheus.
//!
//! A proxy may know thousands of clusters and call few of them, so Prometheus gets those alone that were called or checked or have
//! something to say, and [`MAX_CLUSTERS`] at most; `weft_metrics_clusters_left_out` tells when there are more.

use super::{ClusterView, PriorityView};
use crate::telemetry::metrics::Kind::{self, Counter, Gauge};
use crate::telemetry::metrics::exposition::{head, label, line};

/// Clusters in one exposition, some 30 lines each.
const MAX_CLUSTERS: usize = 500;

/// One number of a cluster.
struct Stat {
    /// Envoy's, below `cluster.<name>.`.
    name: &'static str,
    help: &'static str,
    kind: Kind,
    read: fn(&ClusterView) -> u64,
}

const fn stat(kind: Kind, name: &'static str, read: fn(&ClusterView) -> u64, help: &'static str) -> Stat {
    Stat { name, help, kind, read }
}

static STATS: [Stat; 30] = [
    stat(Gauge, "membership_total", |c| c.endpoints.len() as u64, "Endpoints."),
    stat(Gauge, "membership_healthy", |c| count(c, |e| e.is_healthy()), "Endpoints that nothing speaks against."),
    stat(Gauge, "upstream_rq_active", |c| active(c, |e| e.active_requests), "Requests in flight."),
    stat(Gauge, "upstream_cx_active", |c| active(c, |e| e.connections), "Connections, open or being made."),
    stat(Gauge, "upstream_rq_pending_active", pending, "Requests that wait for a connection."),
    stat(Counter, "upstream_cx_overflow", |c| c.counters.upstream_cx_overflow, "Connections over a limit."),
    stat(
        Counter,
        "upstream_rq_pending_overflow",
        |c| c.counters.upstream_rq_pending_overflow,
        "Requests refused over a limit.",
    ),
    stat(Counter, "upstream_rq_retry", |c| c.counters.upstream_rq_retry, "Retries."),
    stat(Counter, "upstream_rq_retry_success", |c| c.counters.upstream_rq_retry_success, "Retries that helped."),
    stat(
        Counter,
        "upstream_rq_retry_overflow",
        |c| c.counters.upstream_rq_retry_overflow,
        "Retries over the budget or limit.",
    ),
    stat(
        Counter,
        "upstream_rq_retry_limit_exceeded",
        |c| c.counters.upstream_rq_retry_limit_exceeded,
        "Requests that failed after all of their tries.",
    ),
    stat(Counter, "upstream_rq_timeout", |c| c.counters.upstream_rq_timeout, "Requests that ran out of time."),
    stat(
        Counter,
        "upstream_rq_per_try_timeout",
        |c| c.counters.upstream_rq_per_try_timeout,
        "Tries that ran out of their time.",
    ),
    stat(
        Counter,
        "upstream_rq_per_try_idle_timeout",
        |c| c.counters.upstream_rq_per_try_idle_timeout,
        "Tries in which nothing moved for too long.",
    ),
    stat(Counter, "health_check.attempt", |c| c.health_checks.attempt, "Active health checks."),
    stat(Counter, "health_check.success", |c| c.health_checks.success, "Active health checks that were passed."),
    stat(Counter, "health_check.failure", |c| c.health_checks.failure, "Active health checks that were not passed."),
    stat(
        Counter,
        "health_check.network_failure",
        |c| c.health_checks.network_failure,
        "Active health checks without an answer.",
    ),
    stat(
        Counter,
        "health_check.passive_failure",
        |c| c.health_checks.passive_failure,
        "Endpoints that said in traffic that they are not well.",
    ),
    stat(
        Gauge,
        "outlier_detection.ejections_active",
        |c| count(c, |e| e.ejection.is_some()),
        "Endpoints that are ejected now.",
    ),
    stat(
        Counter,
        "outlier_detection.ejections_enforced_total",
        |c| c.counters.outlier_detection_ejections_enforced_total,
        "Ejections.",
    ),
    stat(
        Counter,
        "outlier_detection.ejections_overflow",
        |c| c.counters.outlier_detection_ejections_overflow,
        "Outliers not ejected, as too many are already.",
    ),
    stat(Gauge, "circuit_breakers.default.cx_open", |c| u64::from(c.default.cx_open), CX_OPEN),
    stat(Gauge, "circuit_breakers.default.rq_pending_open", |c| u64::from(c.default.rq_pending_open), PENDING_OPEN),
    stat(Gauge, "circuit_breakers.default.rq_open", |c| u64::from(c.default.rq_open), RQ_OPEN),
    stat(Gauge, "circuit_breakers.default.rq_retry_open", |c| u64::from(c.default.rq_retry_open), RETRY_OPEN),
    stat(Gauge, "circuit_breakers.high.cx_open", |c| u64::from(c.high.cx_open), CX_OPEN),
    stat(Gauge, "circuit_breakers.high.rq_pending_open", |c| u64::from(c.high.rq_pending_open), PENDING_OPEN),
    stat(Gauge, "circuit_breakers.high.rq_open", |c| u64::from(c.high.rq_open), RQ_OPEN),
    stat(Gauge, "circuit_breakers.high.rq_retry_open", |c| u64::from(c.high.rq_retry_open), RETRY_OPEN),
];

const CX_OPEN: &str = "1 when the next connection is over the limit.";
const PENDING_OPEN: &str = "1 when the next request that has to wait is refused.";
const RQ_OPEN: &str = "1 when the next request is refused.";
const RETRY_OPEN: &str = "1 when the next retry is refused.";

/// Of all clusters, as `/stats` shows them.
pub(in crate::admin) fn flat(clusters: &[ClusterView]) -> Vec<(String, String)> {
    let of = |cluster: &ClusterView| {
        STATS
            .each_ref()
            .map(|stat| (format!("cluster.{}.{}", cluster.name, stat.name), (stat.read)(cluster).to_string()))
    };
    clusters.iter().flat_map(of).collect()
}

/// In Prometheus' text format.
pub(in crate::admin) fn exposition(clusters: &[ClusterView]) -> String {
    let is_told =
        |cluster: &&ClusterView| cluster.was_called || cluster.health_checks.attempt > 0 || is_troubled(cluster);
    let mut told: Vec<&ClusterView> = clusters.iter().filter(is_told).collect();
    // Where not all find room, those with something to say do.
    told.sort_by_key(|cluster| !is_troubled(cluster));
    let left_out = told.split_off(told.len().min(MAX_CLUSTERS)).len();
    let labels: Vec<String> = told.iter().map(|cluster| name_label(&cluster.name)).collect();
    let mut out = String::new();
    for stat in STATS.iter().filter(|_| !told.is_empty()) {
        let name = format!("envoy_cluster_{}", stat.name.replace('.', "_"));
        head(&mut out, &name, stat.kind.name(), stat.help);
        for (cluster, labels) in told.iter().zip(&labels) {
            line(&mut out, &name, labels, (stat.read)(cluster));
        }
    }
    let name = "weft_metrics_clusters_left_out";
    head(&mut out, name, "gauge", "Clusters without statistics here, as there are too many.");
    line(&mut out, name, "", left_out as u64);
    out
}

/// A limit was met, an endpoint left out or not well, a try repeated.
fn is_troubled(cluster: &ClusterView) -> bool {
    cluster.counters != Default::default() || cluster.health_checks.failure > 0 || !cluster.happenings.is_empty()
}

fn name_label(name: &str) -> String {
    let mut labels = String::new();
    label(&mut labels, "envoy_cluster_name", name);
    labels
}

fn count(cluster: &ClusterView, is: fn(&super::EndpointView) -> bool) -> u64 {
    cluster.endpoints.iter().filter(|endpoint| is(endpoint)).count() as u64
}

fn active(cluster: &ClusterView, of: fn(&super::EndpointView) -> u32) -> u64 {
    cluster.endpoints.iter().map(|endpoint| u64::from(of(endpoint))).sum()
}

fn pending(cluster: &ClusterView) -> u64 {
    let of = |priority: &PriorityView| u64::from(priority.pending_requests);
    of(&cluster.default) + of(&cluster.high)
}
