//! What all threads of one data plane share.

use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::telemetry::Telemetry;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use weft_xds::client::Demand;

/// Shared by the workers, the configurator and the admin server.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(crate) telemetry: Telemetry,
    /// Outbound listeners that are held because somebody goes there.
    pub(crate) demand: Arc<Demand>,
    /// A whole configuration is in service.
    pub(crate) configured: AtomicBool,
}
