//! What all threads of one data plane share.

use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::telemetry::Telemetry;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::Notify;
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
    /// Whose endpoints have been checked where that is asked for.
    pub(crate) warm: AtomicBool,
    /// Told when an endpoint's health is found out, and it was not known or another.
    pub(crate) checked: Notify,
}

impl Shared {
    /// With no configuration yet.
    pub(crate) fn new(settings: Settings, telemetry: Telemetry) -> Shared {
        let (configured, warm) = (false.into(), false.into());
        Shared {
            settings,
            snapshot: Arc::default(),
            telemetry,
            demand: Arc::default(),
            configured,
            warm,
            checked: Notify::new(),
        }
    }
}
