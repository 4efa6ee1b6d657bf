//! Envoy's text: `cluster::name::value` and `cluster::address::name::value`, one a line. Names that Envoy has mean the same.

use super::{ClusterView, EndpointView, PriorityView};
use std::fmt::{Display, Write};

pub(in crate::admin) fn of(clusters: &[ClusterView]) -> String {
    let mut out = String::new();
    for cluster in clusters {
        let mut lines = Lines { out: &mut out, under: &cluster.name };
        lines.cluster(cluster);
        for endpoint in &cluster.endpoints {
            let under = format!("{}::{}", cluster.name, endpoint.address);
            Lines { out: &mut out, under: &under }.endpoint(endpoint);
        }
    }
    out
}

/// Lines that begin alike.
struct Lines<'a> {
    out: &'a mut String,
    under: &'a str,
}

impl Lines<'_> {
    fn put(&mut self, name: &str, value: impl Display) {
        writeln!(self.out, "{}::{name}::{value}", self.under).expect("writing to a String cannot fail");
    }

    fn cluster(&mut self, cluster: &ClusterView) {
        self.put("discovery", &cluster.discovery);
        self.put("balancer", &cluster.balancer);
        if !cluster.origin.is_empty() {
            self.put("origin", &cluster.origin);
        }
        self.priority("default_priority", &cluster.default);
        self.priority("high_priority", &cluster.high);
        if let Some(limit) = cluster.max_connections_per_endpoint {
            self.put("max_connections_per_endpoint", limit);
        }
        for happening in &cluster.happenings {
            self.put("happening", format_args!("{} {}: {}", happening.at.time, happening.endpoint, happening.what));
        }
    }

    fn priority(&mut self, name: &str, view: &PriorityView) {
        let mut put = |what: &str, value: &dyn Display| self.put(&format!("{name}::{what}"), value);
        put("max_connections", &view.max_connections);
        put("max_pending_requests", &view.max_pending_requests);
        put("max_requests", &view.max_requests);
        if let Some(limit) = &view.max_retries {
            put("max_retries", limit);
        }
        if let Some(budget) = &view.retry_budget {
            put("retry_budget", budget);
        }
        put("cx_active", &view.connections);
        put("rq_pending_active", &view.pending_requests);
        put("rq_active", &view.requests);
        put("rq_retry_active", &view.retries);
        put("remaining_cx", &view.remaining_cx);
        put("remaining_pending", &view.remaining_pending);
        put("remaining_rq", &view.remaining_rq);
        put("remaining_retries", &view.remaining_retries);
    }

    fn endpoint(&mut self, endpoint: &EndpointView) {
        self.put("cx_active", endpoint.connections);
        self.put("rq_active", endpoint.active_requests);
        self.put("weight", endpoint.weight);
        self.put("priority", endpoint.priority);
        self.put("health_flags", &endpoint.health_flags);
        self.put("active_health_check", &endpoint.active_health_check);
        self.put("locality", &endpoint.locality);
        self.put("workload", &endpoint.workload);
        self.put("ejections", endpoint.ejections);
        if let Some(ejection) = &endpoint.ejection {
            self.put("ejected_since", &ejection.since.time);
            if let Some(returns) = &ejection.returns_at {
                self.put("ejected_until", &returns.time);
            }
            self.put("ejected_for", format_args!("{}: {}", ejection.cause, ejection.why));
        }
        if let Some(breaker) = &endpoint.breaker {
            self.put("breaker", &breaker.state);
            if let Some(until) = &breaker.until {
                self.put("breaker_open_until", &until.time);
            }
        }
    }
}
