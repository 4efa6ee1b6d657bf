//! The control plane's end: delta ADS.
//!
//! Every data plane opens one stream and is told, for as long as it lives, what it should hold. What would go
//! wrong without care: a route that arrives before its cluster answers 503; a cluster that goes before the routes that
//! name it does too; a slow proxy makes the control plane buffer the history of the world. So
//!
//! - a push is make-before-break: clusters and endpoints, then (when the new ones are known to be warm, or
//!   after [`Settings::patience`]) secrets, listeners and routes, and what is no longer wanted last of all;
//! - one response per kind is on its way at a time, and what is sent next is the difference between what the client holds and
//!   the *latest* [`ResourceSet`]: what came in between is skipped, and memory is bounded by what is held;
//! - a resource that was rejected is not sent again until it changes; all others go on.

mod session;
mod set;
mod status;
mod stream;
#[cfg(test)]
mod tests;

pub use set::{Encoded, ResourceSet, Versioned};
pub use status::{KindStatus, NackStatus, NodeStatus, Status};

use crate::MAX_MESSAGE_BYTES;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use weft_model::Node;

/// The tonic service of `envoy.service.discovery.v3.AggregatedDiscoveryService`.
pub type Service = AggregatedDiscoveryServiceServer<stream::Ads>;

/// A peer that does not answer a ping within as long again is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What each node should hold.
pub trait Catalog: Send + Sync + 'static {
    /// The node's resources now and from now on. Dropping the sender ends the node's stream; it will come again.
    fn subscribe(&self, node: &Node) -> watch::Receiver<Arc<ResourceSet>>;
}

#[derive(Clone, Debug)]
pub struct Settings {
    /// How long routes wait for their new clusters, and removals for the new routes. Default 1 s.
    pub patience: Duration,
    /// Ends all streams.
    pub shutdown: CancellationToken,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { patience: Duration::from_secs(1), shutdown: CancellationToken::new() }
    }
}

pub fn service(catalog: Arc<dyn Catalog>, status: Arc<Status>, settings: Settings) -> Service {
    AggregatedDiscoveryServiceServer::new(stream::Ads::new(catalog, status, settings))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// Serves on the listener until `settings.shutdown`, with the keep-alive that finds dead peers.
pub async fn serve(
    listener: TcpListener,
    catalog: Arc<dyn Catalog>,
    status: Arc<Status>,
    settings: Settings,
) -> Result<(), tonic::transport::Error> {
    let shutdown = settings.shutdown.clone();
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .tcp_nodelay(true)
        .add_service(service(catalog, status, settings))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), shutdown.cancelled_owned())
        .await
}
