//! What is known of a cluster at this moment, put down for its reader.

use crate::admin::{
    BreakerView, ClusterView, CountersView, EjectionView, EndpointView, HEALTHY, HappeningView, HealthChecksView,
    Moment, PriorityView,
};
use crate::live::{Checked, HealthCheckCounts, LiveCluster, LiveEndpoint};
use crate::telemetry::record::time::rfc3339_text;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use weft_model::breaker::{Priority, RetryBudget, RetryLimit, ShareOf};
use weft_model::cluster::{Balancer, Discovery};
use weft_model::endpoint::{Health, Locality};
use weft_policy::balance::Degree;
use weft_policy::trip::Condition;

/// The moment at which everything is looked at, on both clocks.
#[derive(Clone, Copy)]
pub(super) struct Now {
    instant: Instant,
    wall: SystemTime,
}

impl Now {
    pub(super) fn read() -> Now {
        Now { instant: Instant::now(), wall: SystemTime::now() }
    }

    fn back(&self, since: Instant) -> Moment {
        self.ago(self.instant.saturating_duration_since(since))
    }

    fn ago(&self, passed: Duration) -> Moment {
        moment(self.wall.checked_sub(passed), passed)
    }

    fn ahead(&self, until: Instant) -> Moment {
        let left = until.saturating_duration_since(self.instant);
        moment(self.wall.checked_add(left), left)
    }
}

/// What is beyond the calendar is told as its nearest end.
fn moment(time: Option<SystemTime>, away: Duration) -> Moment {
    Moment { time: rfc3339_text(time.unwrap_or(SystemTime::UNIX_EPOCH)), seconds: away.as_secs() }
}

pub(super) fn view(cluster: &LiveCluster, now: Now) -> ClusterView {
    let spec = &cluster.spec;
    let happenings = cluster.state.happenings().into_iter().map(|happening| HappeningView {
        at: now.ago(now.wall.duration_since(happening.at).unwrap_or_default()),
        endpoint: happening.endpoint,
        what: happening.what,
    });
    ClusterView {
        name: spec.name.clone(),
        service: joined(".", &[&spec.service.name, &spec.service.namespace]),
        host: spec.service.host.clone(),
        discovery: match spec.discovery {
            Discovery::Eds => "EDS",
            Discovery::Static(_) => "STATIC",
            Discovery::Dns { .. } => "STRICT_DNS",
            Discovery::Forward => "FORWARD",
            Discovery::OriginalDestination => "ORIGINAL_DST",
        }
        .into(),
        balancer: match spec.balancer {
            Balancer::RoundRobin => "ROUND_ROBIN",
            Balancer::LeastRequest { .. } => "LEAST_REQUEST",
            Balancer::Random => "RANDOM",
            Balancer::PeakEwma { .. } => "PEAK_EWMA",
            Balancer::RingHash { .. } => "RING_HASH",
            Balancer::Maglev { .. } => "MAGLEV",
        }
        .into(),
        origin: spec.origin.to_string(),
        default: priority_view(cluster, Priority::Default, now),
        high: priority_view(cluster, Priority::High, now),
        max_connections_per_endpoint: spec.breakers.max_connections_per_host,
        counters: counters_view(cluster),
        health_checks: health_checks_view(&cluster.state.counts.health_checks),
        was_called: cluster.state.was_called(),
        happenings: happenings.collect(),
        endpoints: cluster.endpoints.iter().map(|endpoint| endpoint_view(cluster, endpoint, now)).collect(),
    }
}

fn priority_view(cluster: &LiveCluster, priority: Priority, now: Now) -> PriorityView {
    let limits = cluster.breaker.limits().of(priority);
    let gauges = cluster.breaker.gauges(priority, now.instant);
    let (max_retries, retry_budget) = match &limits.retries {
        RetryLimit::Concurrent(limit) => (Some(*limit), None),
        RetryLimit::Budget(budget) => (None, Some(in_words(budget))),
    };
    PriorityView {
        max_connections: limits.max_connections,
        max_pending_requests: limits.max_pending_requests,
        max_requests: limits.max_requests,
        max_retries,
        retry_budget,
        connections: gauges.connections,
        pending_requests: gauges.pending,
        requests: gauges.active,
        retries: gauges.retries,
        remaining_cx: gauges.remaining_cx,
        remaining_pending: gauges.remaining_pending,
        remaining_rq: gauges.remaining_rq,
        remaining_retries: gauges.remaining_retries,
        cx_open: gauges.cx_open(),
        rq_pending_open: gauges.rq_pending_open(),
        rq_open: gauges.rq_open(),
        rq_retry_open: gauges.rq_retry_open(),
    }
}

fn in_words(RetryBudget { percent, of, min_concurrency }: &RetryBudget) -> String {
    let of = match of {
        ShareOf::FirstTries => "first tries active and pending".to_owned(),
        ShareOf::AllTries => "active and pending requests".to_owned(),
        ShareOf::BegunWithin(interval) => format!("requests begun within {interval:?}"),
    };
    format!("{percent} % of {of}, at least {min_concurrency}")
}

fn counters_view(cluster: &LiveCluster) -> CountersView {
    let (overflows, counts) = (cluster.breaker.overflows(), &cluster.state.counts);
    CountersView {
        upstream_cx_overflow: overflows.upstream_cx_overflow,
        upstream_rq_pending_overflow: overflows.upstream_rq_pending_overflow,
        upstream_rq_retry: read(&counts.upstream_rq_retry),
        upstream_rq_retry_success: read(&counts.upstream_rq_retry_success),
        upstream_rq_retry_overflow: overflows.upstream_rq_retry_overflow,
        upstream_rq_retry_limit_exceeded: read(&counts.upstream_rq_retry_limit_exceeded),
        upstream_rq_timeout: read(&counts.upstream_rq_timeout),
        upstream_rq_per_try_timeout: read(&counts.upstream_rq_per_try_timeout),
        upstream_rq_per_try_idle_timeout: read(&counts.upstream_rq_per_try_idle_timeout),
        outlier_detection_ejections_enforced_total: read(&counts.ejections_enforced_total),
        outlier_detection_ejections_overflow: read(&counts.ejections_overflow),
    }
}

fn health_checks_view(counts: &HealthCheckCounts) -> HealthChecksView {
    HealthChecksView {
        attempt: read(&counts.attempt),
        success: read(&counts.success),
        failure: read(&counts.failure),
        network_failure: read(&counts.network_failure),
        passive_failure: read(&counts.passive_failure),
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn endpoint_view(cluster: &LiveCluster, endpoint: &LiveEndpoint, now: Now) -> EndpointView {
    let (experience, workload) = (&endpoint.experience, &endpoint.workload);
    let Locality { region, zone, sub_zone } = &endpoint.locality;
    let ejection = experience.monitor.ejection().map(|ejection| EjectionView {
        cause: ejection.cause.name().to_owned(),
        why: ejection.cause.to_string(),
        since: now.back(ejection.since),
        returns_at: cluster.state.returns_at(cluster, &experience.monitor).map(|at| now.ahead(at)),
    });
    EndpointView {
        address: endpoint.address,
        health: match endpoint.health {
            Health::Healthy => "healthy",
            Health::Draining => "draining",
            Health::Unhealthy => "unhealthy",
        }
        .into(),
        health_flags: health_flags(endpoint, ejection.is_some()),
        active_health_check: match experience.checked() {
            Checked::Healthy => "healthy",
            Checked::Unhealthy => "unhealthy",
            Checked::Unknown | Checked::Awaited => "unknown",
        }
        .into(),
        weight: endpoint.weight,
        priority: endpoint.priority,
        locality: joined("/", &[region, zone, sub_zone]),
        workload: joined("/", &[&workload.namespace, &workload.name]),
        active_requests: experience.active.load(Ordering::Relaxed),
        connections: experience.connections.count(),
        ejections: experience.monitor.ejections(),
        ejection,
        breaker: endpoint.breaker.as_ref().map(|breaker| breaker_view(breaker.condition(now.instant), now)),
    }
}

/// Envoy's flags (`HOST_HEALTH_FLAG_ENUM_VALUES`), in its order.
fn health_flags(endpoint: &LiveEndpoint, is_ejected: bool) -> String {
    let checked = endpoint.experience.checked();
    let flags: String = [
        (checked == Checked::Unhealthy, "/failed_active_hc"),
        (is_ejected, "/failed_outlier_check"),
        (endpoint.health == Health::Unhealthy, "/failed_eds_health"),
        (endpoint.health == Health::Draining, "/eds_status_draining"),
    ]
    .into_iter()
    .filter_map(|(speaks_against, flag)| speaks_against.then_some(flag))
    .collect();
    match (flags.is_empty(), endpoint.degree()) {
        (false, _) => flags,
        (true, Degree::Unhealthy) if checked == Checked::Awaited => "/pending_active_hc".into(),
        (true, _) => HEALTHY.into(),
    }
}

fn breaker_view(condition: Condition, now: Now) -> BreakerView {
    let (state, until) = match condition {
        Condition::Closed => ("closed", None),
        Condition::Open { until } => ("open", Some(now.ahead(until))),
        Condition::HalfOpen => ("half-open", None),
    };
    BreakerView { state: state.into(), until }
}

/// Those that are not empty.
fn joined(separator: &str, parts: &[&str]) -> String {
    parts.iter().copied().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(separator)
}
