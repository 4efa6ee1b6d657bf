//! What this data plane tells its administrator.

mod clusters;

use crate::admin::{ClusterView, Inspect};
use crate::health_check;
use crate::shared::Shared;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio_util::sync::CancellationToken;

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
        if !self.shared.warm.load(Ordering::Relaxed) {
            let awaited = health_check::awaited(&self.shared.snapshot.load());
            return Err(format!("waiting for the first health check of {awaited} endpoints"));
        }
        Ok(())
    }

    fn config_dump(&self) -> Value {
        let snapshot = self.shared.snapshot.load();
        json!({ "snapshot": snapshot.number, "resources": snapshot.resources() })
    }

    fn clusters(&self) -> Vec<ClusterView> {
        let snapshot = self.shared.snapshot.load();
        let now = clusters::Now::read();
        let mut clusters: Vec<ClusterView> =
            snapshot.clusters.values().map(|cluster| clusters::view(cluster, now)).collect();
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
