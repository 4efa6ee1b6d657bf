//! The administrator's door: what this data plane holds, how it does, and a few levers.
//!
//! Envoy's paths and words, as people and tools know them, on loopback only; and Prometheus' door
//! beside it, which shows numbers and readiness and nothing else. Both are bounded: a handful of
//! connections, small heads, no bodies, answers that do not wait for their reader's leisure.

mod routes;
mod server;
mod view;

pub(crate) use view::HEALTHY;
pub use view::{
    BreakerView, ClusterView, CountersView, EjectionView, EndpointView, HappeningView, HealthChecksView, Moment,
    PriorityView,
};

use crate::telemetry::metrics::Metrics;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What the data plane tells and does for its administrator. Called on the admin's own thread.
pub trait Inspect: Send + Sync + 'static {
    /// Whether traffic may come, or why not yet (no configuration, draining).
    fn ready(&self) -> Result<(), String>;

    /// Everything in service, as JSON; never a private key.
    fn config_dump(&self) -> serde_json::Value;

    fn clusters(&self) -> Vec<ClusterView>;

    /// Stop accepting and let what is open finish; the process stays.
    fn drain(&self);

    /// Drain, then end the process.
    fn quit(&self);

    /// Opens the access log anew, after somebody has moved its file away.
    fn reopen_logs(&self);

    /// Version, node, addresses: added to what the admin says itself under `/server_info`.
    fn server_info(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// Changes what the process logs (`info`, `weft_proxy=debug`); the answer is what is in force now.
    fn set_log_level(&self, _directive: &str) -> Result<String, String> {
        Err("this process does not let its log level be changed; start it with RUST_LOG".into())
    }
}

/// What both doors show.
pub struct Admin {
    pub inspect: Arc<dyn Inspect>,
    pub metrics: Arc<Metrics>,
}

impl Admin {
    /// Serves on a thread of its own until `shutdown`, so that a busy worker never makes the admin wait, nor the
    /// admin a worker. `admin`: everything, for callers on loopback. `scrape`: metrics and readiness, for all.
    pub fn spawn(
        self,
        admin: TcpListener,
        scrape: TcpListener,
        shutdown: CancellationToken,
    ) -> io::Result<std::thread::JoinHandle<()>> {
        server::spawn(self, admin, scrape, shutdown)
    }
}
