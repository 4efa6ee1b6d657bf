//! The data plane's end: it asks, holds what it was given, and keeps that when nobody answers.
//!
//! Whoever serves traffic by pushed configuration must not fall with the one that pushes. So what was last good stays: when
//! a resource is wrong (it is rejected by name, the others go live), when the stream breaks (the next one resumes
//! where this one ended, and nothing is sent twice), and when this process itself is restarted while the control plane is down
//! (a file remembers).
//!
//! Clusters and listeners are asked for by wildcard; endpoints, secrets and route tables by the names that
//! those refer to. What is no longer referred to is forgotten. A sidecar whose workload's connections are redirected to it asks for
//! outbound listeners as they are wanted ([`Demand`]), and for clusters by name too.

mod backoff;
mod demand;
mod disk;
mod held;
mod replica;
#[cfg(test)]
mod tests;

pub use demand::Demand;
pub use held::Held;

use crate::MAX_MESSAGE_BYTES;
use backoff::Backoff;
use disk::Disk;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use replica::{Replica, Saved};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use weft_model::{Kind, Node};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A control plane that does not answer a ping within as long again is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// What waits to be sent at most; it is one answer and three subscriptions per response.
const REQUESTS: usize = 16;

/// Whom the configuration is for.
pub trait Sink: Send {
    /// Called with everything that is held: first with what was on disk, then after each response, before it is acknowledged.
    /// Resources that did not change are the same `Arc`s as last time. Must be quick.
    ///
    /// An error names what cannot be obeyed, and means that nothing was applied: it is called again at once
    /// with the last good values of those (without those that have none), and they are rejected.
    fn apply(&mut self, held: &Held) -> Result<(), Vec<Nack>>;
}

/// One resource that cannot be obeyed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nack {
    pub kind: Kind,
    pub name: String,
    /// For the author of the configuration.
    pub reason: String,
}

/// One data plane's connection to its control plane.
#[derive(Debug)]
pub struct Client {
    control_plane: String,
    node: Node,
    state_file: Option<PathBuf>,
    ready: watch::Sender<bool>,
    demand: Arc<Demand>,
}

impl Client {
    /// `control_plane` is `host:port` or an `http://` URL. The state file is written whenever something changed; it
    /// holds private keys, and only its owner may read it.
    pub fn new(control_plane: impl Into<String>, node: Node, state_file: Option<PathBuf>) -> Self {
        let (ready, demand) = (watch::Sender::new(false), Arc::default());
        Client { control_plane: control_plane.into(), node, state_file, ready, demand }
    }

    /// Asks for what is wanted here, as far as its node is one that asks on demand.
    pub fn with_demand(self, demand: Arc<Demand>) -> Self {
        Client { demand, ..self }
    }

    /// Turns true once a whole configuration was applied: from disk, or when the control plane has said all that was asked for.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Runs until `shutdown`; the state is on disk when it returns.
    pub async fn run(self, mut sink: impl Sink, shutdown: CancellationToken) {
        let disk = self.state_file.clone().map(|path| Disk::new(path, &self.node));
        let mut replica = Replica::new(&self.node);
        if let Some(saved) = disk.as_ref().and_then(Disk::load) {
            let restored = replica.restore(saved, &mut sink);
            self.demand.restore(replica.wanted_before().into_iter());
            replica.demand(self.demand.wanted(), &mut sink);
            tracing::info!(resources = restored, "serving the last good configuration from disk");
            self.ready.send_if_modified(|ready| !std::mem::replace(ready, restored > 0 || *ready) && *ready);
        }
        let (saves, saved) = watch::channel(None);
        let writer = disk.map(|disk| tokio::spawn(disk.write_each(saved)));
        let () = shutdown
            .run_until_cancelled(self.stay_connected(&mut replica, &mut sink, &saves))
            .await
            .unwrap_or_default();
        drop(saves);
        if let Some(writer) = writer
            && let Err(error) = writer.await
        {
            tracing::error!("the state file's writer failed: {error}");
        }
    }

    async fn stay_connected(&self, replica: &mut Replica, sink: &mut impl Sink, saves: &watch::Sender<Option<Saved>>) {
        let mut backoff = Backoff::default();
        loop {
            let opened = tokio::time::Instant::now();
            let (heard, why) = self.converse(replica, sink, saves).await;
            self.demand.disconnected();
            if heard {
                backoff.succeeded(opened.elapsed());
            }
            let pause = backoff.next(fastrand::f64());
            tracing::warn!(control_plane = self.control_plane, "{why}; trying again in {} ms", pause.as_millis());
            tokio::time::sleep(pause).await;
        }
    }

    /// One stream: whether anything was heard over it, and why it ended.
    async fn converse(
        &self,
        replica: &mut Replica,
        sink: &mut impl Sink,
        saves: &watch::Sender<Option<Saved>>,
    ) -> (bool, String) {
        let mut heard = false;
        match self.exchange(replica, sink, saves, &mut heard).await {
            Ok(()) => (heard, "the control plane ended the stream".into()),
            Err(Failure::Address(error)) => (heard, format!("`{}` is no address: {error}", self.control_plane)),
            Err(Failure::Connect(error)) => (heard, format!("cannot connect: {}", with_causes(&error))),
            Err(Failure::Stream(status)) => (heard, format!("the stream broke: {}", status.message())),
        }
    }

    async fn exchange(
        &self,
        replica: &mut Replica,
        sink: &mut impl Sink,
        saves: &watch::Sender<Option<Saved>>,
        heard: &mut bool,
    ) -> Result<(), Failure> {
        let endpoint = endpoint(&self.control_plane).map_err(Failure::Address)?;
        let channel = endpoint.connect().await.map_err(Failure::Connect)?;
        let mut service = AggregatedDiscoveryServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let (requests, queue) = mpsc::channel(REQUESTS);
        replica.demand(self.demand.wanted(), sink);
        if !send(&requests, replica.open()).await {
            return Ok(());
        }
        let stream = service.delta_aggregated_resources(ReceiverStream::new(queue)).await;
        let mut responses = stream.map_err(Failure::Stream)?.into_inner();
        tracing::info!(control_plane = self.control_plane, "connected");
        loop {
            let answers = tokio::select! {
                response = responses.message() => {
                    let Some(response) = response.map_err(Failure::Stream)? else { break };
                    *heard = true;
                    replica.receive(response, sink)
                }
                () = self.demand.changed() => replica.demand(self.demand.wanted(), sink),
            };
            self.ready.send_if_modified(|ready| !std::mem::replace(ready, replica.is_complete() || *ready) && *ready);
            if let Some(names) = replica.spoken_of() {
                self.demand.answer(names);
            }
            saves.send_replace(Some(replica.saved()));
            if !send(&requests, answers).await {
                break;
            }
        }
        Ok(())
    }
}

/// Of a control plane: `host:port` or an `http://` URL.
pub(crate) fn endpoint(control_plane: &str) -> Result<Endpoint, tonic::transport::Error> {
    let has_scheme = control_plane.contains("://");
    let url = if has_scheme { control_plane.to_owned() } else { format!("http://{control_plane}") };
    let endpoint = Endpoint::from_shared(url)?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true))
}

enum Failure {
    Address(tonic::transport::Error),
    Connect(tonic::transport::Error),
    Stream(tonic::Status),
}

/// Whether the stream still takes requests.
async fn send(queue: &mpsc::Sender<DeltaDiscoveryRequest>, requests: Vec<DeltaDiscoveryRequest>) -> bool {
    for request in requests {
        if queue.send(request).await.is_err() {
            return false;
        }
    }
    true
}

/// tonic's own text says only "transport error".
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
