//! What this data plane tells its administrator.

use crate::admin::{ClusterView, EndpointView, Inspect};
use crate::live::{LiveCluster, LiveEndpoint};
use crate::shared::Shared;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio_util::sync::CancellationToken;
use weft_model::cluster::{Balancer, Discovery};
use weft_model::endpoint::Health;

/// The administrator's view of one data plane.
pub(crate) struct Inspector {
    pub(crate) shared: Arc<Shared>,
    /// Asks the data plane to drain and stay.
    pub(crate) drain: CancellationToken,
    /// Asks the data plane to drain and end.
    pub(crate) quit: CancellationToken,
}

impl Inspect for Inspector {
    fn ready(&self) -> Result<(), String> {
        if self.drain.is_cancelled() || self.quit.is_cancelled() {
            return Err("draining".into());
        }
        if !self.shared.configured.load(Ordering::Relaxed) {
            return Err("waiting for the first configuration from the control plane".into());
        }
        Ok(())
    }

    fn config_dump(&self) -> Value {
        let snapshot = self.shared.snapshot.load();
        json!({ "snapshot": snapshot.number, "resources": snapshot.resources() })
    }

    fn clusters(&self) -> Vec<ClusterView> {
        let snapshot = self.shared.snapshot.load();
        let mut clusters: Vec<ClusterView> = snapshot.clusters.values().map(|cluster| cluster_view(cluster)).collect();
        clusters.sort_by(|a, b| a.name.cmp(&b.name));
        clusters
    }

    fn drain(&self) {
        self.drain.cancel();
    }

    fn quit(&self) {
        self.quit.cancel();
    }

    fn reopen_logs(&self) {
        if let Some(log) = &self.shared.telemetry.access_log {
            log.reopen();
        }
    }

    fn server_info(&self) -> Value {
        let settings = &self.shared.settings;
        json!({
            "node": settings.node.id(),
            "control_plane": settings.control_plane,
            "workers": settings.workers,
            "snapshot": self.shared.snapshot.load().number,
        })
    }
}

fn cluster_view(cluster: &LiveCluster) -> ClusterView {
    let spec = &cluster.spec;
    ClusterView {
        name: spec.name.clone(),
        discovery: match spec.discovery {
            Discovery::Eds => "EDS",
            Discovery::Static(_) => "STATIC",
            Discovery::Dns { .. } => "STRICT_DNS",
            Discovery::Forward => "FORWARD",
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
        origin: format!("{} {}", spec.origin.place, spec.origin.object).trim().to_owned(),
        endpoints: cluster.endpoints.iter().map(|endpoint| endpoint_view(endpoint)).collect(),
    }
}

fn endpoint_view(endpoint: &LiveEndpoint) -> EndpointView {
    let workload = &endpoint.workload;
    EndpointView {
        address: endpoint.address,
        health: match endpoint.health {
            Health::Healthy if endpoint.experience.monitor.is_ejected() => "ejected",
            Health::Healthy => "healthy",
            Health::Draining => "draining",
            Health::Unhealthy => "unhealthy",
        }
        .into(),
        weight: endpoint.weight,
        workload: format!("{}/{}", workload.namespace, workload.name).trim_matches('/').to_owned(),
        active_requests: endpoint.experience.active.load(Ordering::Relaxed),
    }
}
