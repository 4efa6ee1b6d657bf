//! Clusters as an administrator sees them.

use serde::Serialize;
use std::fmt::Write;
use std::net::SocketAddr;

/// One cluster.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterView {
    pub name: String,
    /// `EDS`, `STATIC`, `STRICT_DNS`, `FORWARD`.
    pub discovery: String,
    /// `LEAST_REQUEST`, `ROUND_ROBIN`, `RANDOM`.
    pub balancer: String,
    /// Who wrote it: `policies/orders.yaml:42 DestinationRule shop/orders`. Empty when Weft made it.
    pub origin: String,
    pub endpoints: Vec<EndpointView>,
}

/// One endpoint of a cluster.
#[derive(Clone, Debug, Serialize)]
pub struct EndpointView {
    pub address: SocketAddr,
    /// `healthy`, `ejected` (it would be healthy, but is an outlier), `draining`, `unhealthy`.
    pub health: String,
    pub weight: u32,
    /// Whom it belongs to: `default/order`.
    pub workload: String,
    /// Requests in flight.
    pub active_requests: u32,
}

/// Envoy's text: `cluster::address::name::value`, one a line.
pub(super) fn text(clusters: &[ClusterView]) -> String {
    let mut out = String::new();
    for ClusterView { name, discovery, balancer, origin, endpoints } in clusters {
        line(&mut out, format_args!("{name}::discovery::{discovery}"));
        line(&mut out, format_args!("{name}::balancer::{balancer}"));
        if !origin.is_empty() {
            line(&mut out, format_args!("{name}::origin::{origin}"));
        }
        for EndpointView { address, health, weight, workload, active_requests } in endpoints {
            line(&mut out, format_args!("{name}::{address}::health_flags::{health}"));
            line(&mut out, format_args!("{name}::{address}::weight::{weight}"));
            line(&mut out, format_args!("{name}::{address}::workload::{workload}"));
            line(&mut out, format_args!("{name}::{address}::rq_active::{active_requests}"));
        }
    }
    out
}

/// Envoy's statistics of clusters.
pub(super) fn stats(clusters: &[ClusterView]) -> Vec<(String, String)> {
    let of = |cluster: &ClusterView| {
        let healthy = cluster.endpoints.iter().filter(|endpoint| endpoint.health == "healthy").count();
        let active: u32 = cluster.endpoints.iter().map(|endpoint| endpoint.active_requests).sum();
        let name = &cluster.name;
        [
            (format!("cluster.{name}.membership_total"), cluster.endpoints.len().to_string()),
            (format!("cluster.{name}.membership_healthy"), healthy.to_string()),
            (format!("cluster.{name}.upstream_rq_active"), active.to_string()),
        ]
    };
    clusters.iter().flat_map(of).collect()
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("writing to a String cannot fail");
}
