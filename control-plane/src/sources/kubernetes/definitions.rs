//! When the server's kinds change.
//!
//! Whoever installs Weft before Istio's or the Gateway API's definitions should not have to restart it. Definitions are watched by
//! their metadata, and what they mean is asked of the server's discovery; who may not read them looks again by the clock.

use super::backoff::Patience;
use futures_util::StreamExt as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use std::time::Duration;
use tokio::sync::watch;

/// How often a kind that is not there is asked for without a reason.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Tells that something about the definitions has changed.
pub(super) struct Definitions {
    client: Client,
    changes: watch::Sender<u64>,
}

/// Waits for it.
pub(super) struct Changed(watch::Receiver<u64>);

impl Definitions {
    pub(super) fn new(client: Client) -> Definitions {
        Definitions { client, changes: watch::Sender::new(0) }
    }

    pub(super) fn changed(&self) -> Changed {
        Changed(self.changes.subscribe())
    }

    /// Never ends.
    pub(super) async fn run(&self) {
        let api = Api::<PartialObjectMeta<CustomResourceDefinition>>::all(self.client.clone());
        let mut events = watcher(api, watcher::Config::default()).backoff(Patience::default()).boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(_) => self.changes.send_modify(|count| *count += 1),
                Err(error) => tracing::debug!(%error, "custom resource definitions"),
            }
        }
    }
}

impl Changed {
    /// At the next change, or when it is time to look anyway.
    pub(super) async fn wait(&mut self) {
        // An error means that nobody watches, and the clock is left.
        let changed = async {
            if self.0.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let _ = tokio::time::timeout(LOOK_EVERY, changed).await;
    }
}
