//! The gRPC server that proxies connect to.

use crate::publish::Publisher;
use crate::removals::Removals;
use anyhow::Context as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use weft_xds::removal::EndpointRemoval;
use weft_xds::server::{Settings, Status};

/// A proxy that is silent for so long is asked whether it is there, by HTTP/2 ping.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// And is gone when it does not answer for so long.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Every stream ends with the shutdown; a peer that does not let go for so long is cut off.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Serves from the first configuration on. Before it, connections wait in the listener's queue: an answer would have
/// to say that there is nothing, and a proxy would believe it.
pub(crate) async fn serve(
    listener: TcpListener,
    mut ready: watch::Receiver<bool>,
    publisher: Arc<Publisher>,
    status: Arc<Status>,
    removals: Removals,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    tokio::select! {
        // The sender is gone when the pipeline has ended, and then the whole ends.
        is_ready = ready.wait_for(|ready| *ready) => if is_ready.is_err() { return Ok(()) },
        () = shutdown.cancelled() => return Ok(()),
    }
    let settings = Settings { shutdown: shutdown.clone(), ..Settings::default() };
    let service = weft_xds::server::service(publisher, status, settings);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .add_service(service)
        .add_service(EndpointRemoval::new(Arc::new(removals)))
        .serve_with_incoming_shutdown(incoming, shutdown.cancelled());
    tokio::pin!(server);
    tokio::select! {
        ended = &mut server => return ended.context("the xDS server"),
        () = shutdown.cancelled() => {}
    }
    match tokio::time::timeout(LAST_WORDS, server).await {
        Ok(ended) => ended.context("the xDS server"),
        Err(_) => Ok(()),
    }
}
