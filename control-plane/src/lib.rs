//! The control plane: what people write, live at every proxy, and nothing else.
//!
//! People save files at any moment, in any way, and make mistakes; proxies come and go. Between the two stands this
//! crate, which must be quick (a save is live in milliseconds), exact (a proxy hears of what concerns it, once) and
//! hard to upset (a mistake keeps its last good version, and everything else moves on).
//!
//! The way of a save, or of a `kubectl apply`: `sources` hears of it and reads the file or the object → `store` keeps of each object the last good
//! version → `pipeline` merges and compiles on one thread → `publish` gives each connected node what it means
//! to that node → `weft-xds` sends what changed. `ledger` says each mistake once, `monitoring` answers who asks,
//! `webhook` the API server before it stores an object.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use tokio_util::sync::CancellationToken;
//! use weft_control_plane::{ControlPlane, Settings};
//!
//! let settings = Settings {
//!     dirs: vec!["manifests".into()],
//!     kubernetes: None,
//!     xds: "127.0.0.1:15010".parse()?,
//!     monitoring: "127.0.0.1:15014".parse()?,
//! };
//! ControlPlane::new(settings).run(CancellationToken::new()).await
//! # }
//! ```
//!
//! Invariants: no proxy is answered before the first configuration is read, so that a restart never tells anyone
//! that there is nothing; and whoever starts a task or thread here waits for it.

pub mod cluster;
mod connections;
mod ledger;
mod metrics;
mod monitoring;
mod pipeline;
mod publish;
mod refusals;
mod removals;
mod sources;
mod store;
mod webhook;
mod xds;

pub use cluster::Writing;
pub use webhook::{Cluster, Webhook};

use crate::cluster::peers::Peers;
use crate::metrics::Metrics;
use crate::monitoring::Monitoring;
use crate::pipeline::{Live, Pipeline, Problems};
use crate::publish::Publisher;
use crate::refusals::Refusals;
use crate::removals::Removals;
pub use crate::sources::kubernetes::Kubernetes;

use crate::sources::Sources;
use anyhow::Context as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weft_xds::server::Status;

/// What a control plane is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Watched, with everything in them. They need not exist yet.
    pub dirs: Vec<PathBuf>,
    /// Watched beside them.
    pub kubernetes: Option<Kubernetes>,
    /// Where proxies ask (plain gRPC); Istio's port is 15010. Port 0: any that is free.
    pub xds: SocketAddr,
    /// Where `/ready`, `/metrics` and `/debug/…` are; Istio's port is 15014. Port 0: any that is free.
    pub monitoring: SocketAddr,
}

/// A control plane that does nothing yet.
pub struct ControlPlane {
    settings: Settings,
    webhook: Option<Webhook>,
    writing: Option<Writing>,
    push_delay: Duration,
}

impl ControlPlane {
    pub fn new(settings: Settings) -> Self {
        ControlPlane { settings, webhook: None, writing: None, push_delay: Duration::ZERO }
    }

    /// Answers the API server's admission webhooks too.
    pub fn with_webhook(self, webhook: Webhook) -> Self {
        ControlPlane { webhook: Some(webhook), ..self }
    }

    /// Holds what is compiled back for a random time of up to so long: to see that nothing depends on proxies hearing of it soon.
    pub fn with_push_delay(self, push_delay: Duration) -> Self {
        ControlPlane { push_delay, ..self }
    }

    /// Writes statuses to the cluster and runs gateways in it, while no other replica does.
    pub fn with_writing(self, writing: Writing) -> Self {
        ControlPlane { writing: Some(writing), ..self }
    }

    /// Takes its ports, without serving yet. Errors: an address cannot be listened on, a kubeconfig cannot be used.
    pub async fn bind(self) -> anyhow::Result<Bound> {
        let Settings { dirs, kubernetes, xds, monitoring } = self.settings;
        let cluster = match kubernetes {
            Some(kubernetes) => Some(kubernetes.client().await?),
            None => None,
        };
        let (xds, xds_addr) = listen(xds, "xDS").await?;
        let (monitoring, monitoring_addr) = listen(monitoring, "monitoring").await?;
        let webhook = match self.webhook {
            Some(webhook) => Some((listen(webhook.address, "webhooks").await?, webhook)),
            None => None,
        };
        Ok(Bound {
            dirs,
            cluster,
            xds,
            xds_addr,
            monitoring,
            monitoring_addr,
            webhook,
            writing: self.writing,
            push_delay: self.push_delay,
        })
    }

    /// Serves until `shutdown`; then streams are ended and tasks waited for. Errors: those of [`ControlPlane::bind`],
    /// or a part that cannot go on.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        self.bind().await?.run(shutdown).await
    }
}

/// Tokio's listeners set `SO_REUSEADDR`, so a restart does not wait for old connections.
async fn listen(address: SocketAddr, what: &str) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("{what}: cannot listen on {address}"))?;
    let address = listener.local_addr().with_context(|| format!("{what}: the listener has no address"))?;
    Ok((listener, address))
}

/// A control plane that has its ports.
pub struct Bound {
    dirs: Vec<PathBuf>,
    /// The API server and its name for people.
    cluster: Option<(kube::Client, String)>,
    xds: TcpListener,
    xds_addr: SocketAddr,
    monitoring: TcpListener,
    monitoring_addr: SocketAddr,
    webhook: Option<((TcpListener, SocketAddr), Webhook)>,
    writing: Option<Writing>,
    push_delay: Duration,
}

impl Bound {
    pub fn xds_addr(&self) -> SocketAddr {
        self.xds_addr
    }

    pub fn monitoring_addr(&self) -> SocketAddr {
        self.monitoring_addr
    }

    /// Where the webhooks answer, if they do.
    pub fn webhook_addr(&self) -> Option<SocketAddr> {
        self.webhook.as_ref().map(|((_, address), _)| *address)
    }

    /// As [`ControlPlane::run`].
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        // Cancelled by the caller, by the first part that ends, and when this future is dropped.
        let over = shutdown.child_token();
        let _over_when_dropped = over.clone().drop_guard();

        let metrics = Arc::new(Metrics::default());
        let problems = Arc::new(Problems::default());
        let publisher = Arc::new(Publisher::new(metrics.clone()));
        let status = Arc::new(Status::default());
        let refusals = Arc::new(Refusals::new(status.clone(), publisher.clone()));
        let live = Arc::new(Live::default());
        let (ready, is_ready) = watch::channel(false);

        let (sources, stop) = Sources::new(self.dirs, self.cluster.is_some()).context("the directories to watch")?;
        let cluster = self.cluster.map(|(client, name)| sources.cluster(client, name));
        let pipeline =
            Pipeline::new(sources, publisher.clone(), problems.clone(), live.clone(), metrics.clone(), ready)
                .with_push_delay(self.push_delay);
        let monitoring = Monitoring {
            ready: is_ready.clone(),
            status: status.clone(),
            problems,
            publisher: publisher.clone(),
            metrics,
            refusals: refusals.clone(),
        };
        tracing::info!(xds = %self.xds_addr, monitoring = %self.monitoring_addr, "control plane");

        let pipeline = async {
            let _stop_when_dropped = stop.clone().on_drop();
            let mut thread = tokio::task::spawn_blocking(move || pipeline.run());
            let ended = tokio::select! {
                ended = &mut thread => ended,
                () = over.cancelled() => {
                    stop.stop();
                    thread.await
                }
            };
            ended.context("the thread that reads and compiles the configuration ended")
        };
        let cluster = async {
            match cluster {
                Some(cluster) => cluster.run(over.clone()).await,
                None => over.cancelled().await,
            }
            Ok(())
        };
        let (written, streams, monitoring_port) = (live.clone(), status.clone(), self.monitoring_addr.port());
        let others = self.writing.as_ref().map(|Writing { client, namespace, identity, .. }| {
            let peers = Peers::new(client.clone(), namespace, identity.clone());
            (tokio::sync::Mutex::new(peers), self.xds_addr.port())
        });
        let removals = Removals { publisher: publisher.clone(), status: status.clone(), others };
        let xds = xds::serve(self.xds, is_ready, publisher, status, removals, over.clone());
        let monitoring = async {
            monitoring.run(self.monitoring, over.clone()).await;
            Ok(())
        };
        let refusals = async {
            refusals.run(over.clone()).await;
            Ok(())
        };
        let webhook = async {
            match self.webhook {
                Some(((listener, _), webhook)) => webhook::run(webhook, listener, live, over.clone()).await,
                None => {
                    over.cancelled().await;
                    Ok(())
                }
            }
        };
        let writing = async {
            match self.writing {
                Some(writing) => cluster::run(writing, written, streams, monitoring_port, over.clone()).await,
                None => over.cancelled().await,
            }
            Ok(())
        };
        let parts = tokio::join!(
            ends_all(&over, pipeline),
            ends_all(&over, cluster),
            ends_all(&over, xds),
            ends_all(&over, monitoring),
            ends_all(&over, refusals),
            ends_all(&over, webhook),
            ends_all(&over, writing)
        );
        parts.0.and(parts.1).and(parts.2).and(parts.3).and(parts.4).and(parts.5).and(parts.6)
    }
}

/// When one part ends the others have to: half a control plane would look alive and serve nobody.
async fn ends_all(over: &CancellationToken, part: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let result = part.await;
    over.cancel();
    result
}
